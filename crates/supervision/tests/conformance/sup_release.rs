//! SUP release: what is let go of, and when; and whose end it was.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use perennial_core::{ExitReason, Restart, Shutdown, Strategy, tree::NodeState};
use perennial_supervision::{
    ChildSpec, ChildStatus, Clock, DynamicSupervisor, DynamicSupervisorSpec, Names, Options,
    ProcessRef, Root, Supervisor, SupervisorSpec, TemplateSupervisor, TemplateSupervisorSpec,
    ractor::{Actor, ActorProcessingErr, ActorRef},
};
use tokio::sync::{Mutex as Lock, OwnedMutexGuard};

use crate::{
    fixture::{child, idle, reports},
    harness::proves,
    probe::{root, until},
};

struct Idle;

impl Actor for Idle {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// Children of all kinds whose way to start holds `held`.
fn holders(held: &Arc<()>) -> Vec<ChildSpec> {
    let hold = || held.clone();
    let (one, two, three, four) = (hold(), hold(), hold(), hold());
    let forever = std::future::pending::<Result<(), String>>;
    let inside = ChildSpec::task("inside", move || {
        let _held = &four;
        forever()
    })
    .restart(perennial_core::Restart::Permanent);
    vec![
        ChildSpec::actor("actor", move || {
            let _held = &one;
            (Idle, ())
        })
        .0,
        ChildSpec::task("task", move || {
            let _held = &two;
            forever()
        })
        .restart(perennial_core::Restart::Permanent),
        ChildSpec::cooperative_task("cooperative", move |stop| {
            let _held = &three;
            async move {
                stop.stopped().await;
                Ok::<(), String>(())
            }
        })
        .restart(perennial_core::Restart::Permanent),
        Supervisor::child_spec(
            SupervisorSpec::new("inner").child(inside.restart(Restart::Temporary)),
        )
        .0,
    ]
}

proves!(what_starts_a_temporary_child_is_dropped_once_it_runs, ["SUP-073"]);
async fn what_starts_a_temporary_child_is_dropped_once_it_runs() {
    let held = Arc::new(());
    let count = || Arc::strong_count(&held) - 1;
    let temporary = |spec: ChildSpec| spec.restart(Restart::Temporary);

    let top = root(SupervisorSpec::new("top")).await;
    let (spec, dynamic) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("dyn", 9));
    top.supervisor().start_child(spec).await.unwrap();
    let (spec, template) =
        TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("template", |spec| spec));
    top.supervisor().start_child(spec).await.unwrap();
    for nth in 0..4 {
        let spec = temporary(holders(&held).remove(nth));
        assert_eq!(count(), 1);
        dynamic.start_child(spec.clone()).await.unwrap();
        template.start_child(spec.clone()).await.unwrap();
        let start = top.supervisor().start_child(spec).await.unwrap();
        assert!(start.process.unwrap().is_alive());
        assert_eq!(count(), 0, "{nth}");
    }
    top.shutdown().await;

    // Declared ones as well, where nothing above could start their supervisor again.
    let mut spec = SupervisorSpec::new("top");
    for child in holders(&held) {
        spec = spec.child(temporary(child));
    }
    assert_eq!(count(), 4);
    let top = root(spec).await;
    assert_eq!(top.supervisor().count_children().unwrap().active, 4);
    assert_eq!(count(), 0);

    let kept = holders(&held).remove(0);
    top.supervisor().terminate_child("actor").await.unwrap();
    drop(top.supervisor().start_child(kept).await.unwrap());
    assert_eq!(count(), 1, "another kind of child is started again with it");
}

enum End {
    Panic,
    Fail,
    Stop,
}

/// An actor that owns a lock while it lives, and writes down what it finds at its start.
struct Owner {
    lock: Arc<Lock<()>>,
    names: Arc<OnceLock<Names>>,
    before: Arc<Mutex<Option<ProcessRef>>>,
    found: Arc<Mutex<Vec<String>>>,
}

impl Actor for Owner {
    type Msg = End;
    type State = OwnedMutexGuard<()>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<End>,
        (): (),
    ) -> Result<OwnedMutexGuard<()>, ActorProcessingErr> {
        let before = self.before.lock().unwrap().clone();
        let alive = before.as_ref().is_some_and(ProcessRef::is_alive);
        let named = self.names.get().and_then(|names| names.whereis("owner"));
        let lock = self.lock.clone().try_lock_owned();
        self.found.lock().unwrap().push(format!(
            "alive: {alive}, named: {}, locked: {}",
            named.is_some() && named == before,
            lock.is_err()
        ));
        Ok(lock?)
    }

    async fn handle(
        &self,
        me: ActorRef<End>,
        end: End,
        _: &mut OwnedMutexGuard<()>,
    ) -> Result<(), ActorProcessingErr> {
        match end {
            End::Panic => panic!("asked to"),
            End::Fail => Err("asked to".into()),
            End::Stop => {
                me.stop(None);
                Ok(())
            }
        }
    }
}

const FREE: &str = "alive: false, named: false, locked: false";

proves!(the_dead_have_let_go_of_everything_before_the_next_init, ["SUP-077"]);
async fn the_dead_have_let_go_of_everything_before_the_next_init() {
    let owner = Owner {
        lock: Arc::default(),
        names: Arc::default(),
        before: Arc::default(),
        found: Arc::default(),
    };
    let Owner { lock, names, before, found } = &owner;
    let (one, two, three, four) = (lock.clone(), names.clone(), before.clone(), found.clone());
    let (spec, address) = ChildSpec::actor("owner", move || {
        let (lock, names) = (one.clone(), two.clone());
        (Owner { lock, names, before: three.clone(), found: four.clone() }, ())
    });
    // A task takes its lock as soon as it runs.
    let task_lock: Arc<Lock<()>> = Arc::default();
    let (own, seen) = (task_lock.clone(), found.clone());
    let task = ChildSpec::task("task", move || {
        let lock = own.clone().try_lock_owned();
        seen.lock().unwrap().push(format!("task locked: {}", lock.is_err()));
        async move {
            let _held = lock?;
            std::future::pending::<Result<(), tokio::sync::TryLockError>>().await
        }
    })
    .restart(perennial_core::Restart::Permanent);
    let spec = SupervisorSpec::new("top")
        .strategy(Strategy::OneForAll)
        .intensity(1000, Duration::from_secs(1))
        .child(spec.name("owner"))
        .child(task);
    let root = root(spec).await;
    assert!(names.set(root.names().clone()).is_ok());
    found.lock().unwrap().clear();
    for how in ["panic", "fail", "stop", "kill", "crash", "kill the task", "crash the task"] {
        let process = root.supervisor().which_child("owner").unwrap().process.unwrap();
        *before.lock().unwrap() = Some(process.clone());
        let tree = root.tree();
        match how {
            "panic" => address.cast(End::Panic).unwrap(),
            "fail" => address.cast(End::Fail).unwrap(),
            "stop" => address.cast(End::Stop).unwrap(),
            "kill" => drop(tree.kill("/top/owner").unwrap()),
            "crash" => drop(tree.crash("/top/owner").unwrap()),
            "kill the task" => drop(tree.kill("/top/task").unwrap()),
            _ => drop(tree.crash("/top/task").unwrap()),
        }
        until(|| found.lock().unwrap().len() == 2).await;
        let found = std::mem::take(&mut *found.lock().unwrap());
        assert_eq!(found, [FREE, "task locked: false"], "{how}");
        until(|| root.supervisor().count_children().unwrap().active == 2).await;
    }
}

// Real time: a thread that does not come to an end when it is killed, and does so later.
proves!(the_late_end_of_an_old_incarnation_is_not_that_of_the_new_one, real_time, ["SUP-078"]);
async fn the_late_end_of_an_old_incarnation_is_not_that_of_the_new_one() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let (let_go, hold) = mpsc::channel::<()>();
        let (hold, ran) = (Mutex::new(hold), Arc::new(AtomicBool::new(false)));
        let runs = ran.clone();
        let stubborn = ChildSpec::thread("stubborn", move |stop| {
            if ran.swap(true, Ordering::SeqCst) {
                let (wake, woken) = mpsc::channel::<()>();
                stop.on_stop(move || drop(wake));
                woken.recv().unwrap_or(());
            } else {
                hold.lock().unwrap().recv().unwrap_or(());
            }
            Ok::<(), String>(())
        });
        let options = Options { kill_deadline: Duration::from_millis(10), ..Options::default() };
        let spec = SupervisorSpec::new("top").strategy(strategy);
        let spec = spec.child(stubborn.shutdown(Shutdown::BrutalKill));
        let spec = spec.child(child("other", || async { Ok(()) }));
        let root = Root::start(spec, Clock::start(), options).await.unwrap();
        let top = root.supervisor();
        let old = top.which_child("stubborn").unwrap().process.unwrap();
        let other = top.which_child("other").unwrap();
        until(|| runs.load(Ordering::SeqCst)).await;
        top.terminate_child("stubborn").await.unwrap();
        assert_eq!(root.tree().nodes()[1].state, NodeState::Unkillable);
        let new = top.restart_child("stubborn").await.unwrap().process.unwrap();
        assert!(old.is_alive(), "it has not ended");
        let mut lifecycle = root.tree().lifecycle();
        let mut monitor = old.monitor();
        drop(let_go);
        assert_eq!(monitor.down().await, ExitReason::Killed);
        // Behind the news of that end.
        top.get_child_spec("stubborn").await.unwrap();
        idle().await;
        let line = top.which_child("stubborn").unwrap();
        assert_eq!((line.status, line.process), (ChildStatus::Running, Some(new.clone())));
        assert!(new.is_alive());
        assert_eq!(top.which_child("other").unwrap(), other, "{strategy:?}");
        assert!(reports(&mut lifecycle).is_empty());
        assert_eq!(root.tree().nodes()[1].incarnation, 2);
        assert_eq!(root.tree().nodes()[0].intensity.unwrap().in_window, 0);
        root.shutdown().await;
    }
}
