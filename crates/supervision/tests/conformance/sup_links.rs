//! SUP links: whose end a supervisor follows, and whose it does not.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use perennial_core::{ExitReason, Restart, Shutdown};
use perennial_supervision::{
    ChildSpec, LifecycleEvent, ProcessRef, Root, StopError, Supervisor, SupervisorSpec,
    ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent},
};

use crate::{
    fixture::{Answer, idle, reports, told},
    harness::proves,
    probe::{Cleanup, Log, Message, Probe, SOON, root, until},
};

/// A way a probe ends, by the name of the reason.
type Way = (&'static str, fn() -> Message);

const WAYS: [Way; 6] = [
    ("normal", || Message::StopSelf),
    ("shutdown", || Message::Exit(ExitReason::Shutdown)),
    ("shutdown_with", || Message::Exit(ExitReason::ShutdownWith("x".into()))),
    ("error", || Message::Fail),
    ("panic", || Message::Panic),
    ("killed", || Message::Exit(ExitReason::Killed)),
];

/// A temporary child of the root, and its process.
async fn start_temporary(root: &Root, spec: ChildSpec) -> ProcessRef {
    let spec = spec.restart(Restart::Temporary);
    root.supervisor().start_child(spec).await.unwrap().process.unwrap()
}

/// A supervisor of `x` and `y`.
fn pair(id: &str, log: &Log) -> (ChildSpec, Supervisor, [Probe; 2]) {
    let (x, first) = Probe::new("x", log);
    let (y, second) = Probe::new("y", log);
    let (spec, handle) = Supervisor::child_spec(SupervisorSpec::new(id).child(x).child(y));
    (spec, handle, [first, second])
}

const ENDS: [&str; 4] = ["y cleaned", "y dropped", "x cleaned", "x dropped"];

proves!(a_supervisor_ends_with_its_starter_and_for_its_reason, ["SUP-023"]);
async fn a_supervisor_ends_with_its_starter_and_for_its_reason() {
    for (name, how) in WAYS {
        let (log, other) = (Log::default(), Log::default());
        let root = root(SupervisorSpec::new("top")).await;
        let (starter, probe) = Probe::new("starter", &other);
        let starter = start_temporary(&root, starter).await;
        let (bound, handle, _) = pair("bound", &log);
        let bound = start_temporary(&root, bound.linked_to(starter.clone())).await;
        let mut down = bound.monitor();
        log.take();
        let reason = probe.end(how).await;
        assert_eq!(reason.name(), name);
        assert_eq!(down.down().await, reason, "it ends for the same reason");
        assert_eq!(log.take(), ENDS, "{name}");
        assert_eq!(handle.stop(SOON).await, Err(StopError::NoProc));

        let (late, ..) = pair("late", &log);
        let late = start_temporary(&root, late.linked_to(starter)).await;
        until(|| !late.is_alive()).await;
        assert_eq!(late.exit_reason(), Some(reason), "as one whose starter is dead already");
    }
}

proves!(the_ends_of_strangers_are_none_of_its_business, ["SUP-035", "SUP-150"]);
async fn the_ends_of_strangers_are_none_of_its_business() {
    for (name, how) in WAYS {
        let (log, other) = (Log::default(), Log::default());
        let root = root(SupervisorSpec::new("top")).await;
        let (inner, handle, probes) = pair("inner", &log);
        let inner = start_temporary(&root, inner.restart(Restart::Temporary)).await;
        // One that is linked to it, one that it has nothing to do with, and one that it watches.
        let (linked, first) = Probe::new("linked", &other);
        let (stranger, second) = Probe::new("stranger", &other);
        start_temporary(&root, linked.linked_to(inner.clone())).await;
        let watched = start_temporary(&root, stranger).await;
        let (down, told_of) = (watched.clone(), other.clone());
        let watcher = ChildSpec::task("watcher", move || {
            let (mut monitor, log) = (down.monitor(), told_of.clone());
            async move {
                log.add(format!("down {}", monitor.down().await.name()));
                std::future::pending::<Result<(), String>>().await
            }
        })
        .restart(perennial_core::Restart::Permanent);
        handle.start_child(watcher).await.unwrap();
        idle().await;
        log.take();
        let mut lifecycle = root.tree().lifecycle();
        for stranger in [&first, &second] {
            assert_eq!(stranger.end(how).await.name(), name);
        }
        idle().await;
        handle.get_child_spec("x").await.unwrap();
        assert!(other.take().contains(&format!("down {name}")));
        assert!(inner.is_alive(), "{name}");
        assert!(log.take().is_empty(), "nobody was stopped or restarted");
        let about_it =
            told(&mut lifecycle).into_iter().filter(|it| it.path.starts_with("/top/inner"));
        assert_eq!(about_it.count(), 0, "{name}: dropped silently");
        for probe in &probes {
            assert_eq!(probe.ping().await, Ok(1));
        }
    }
    // Who may: its parent, its stop, a kill.
    for how in ["parent", "stop", "kill"] {
        let log = Log::default();
        let root = root(SupervisorSpec::new("top")).await;
        let (inner, handle, _) = pair("inner", &log);
        let inner = start_temporary(&root, inner).await;
        match how {
            "parent" => root.supervisor().terminate_child("inner").await.unwrap(),
            "stop" => handle.stop(SOON).await.unwrap(),
            _ => drop(root.tree().kill("/top/inner").unwrap().exit().await),
        }
        assert!(!inner.is_alive(), "{how}");
    }
}

proves!(nothing_below_a_killed_supervisor_is_orphaned, ["SUP-148"]);
async fn nothing_below_a_killed_supervisor_is_orphaned() {
    let log = Log::default();
    let (x, _) = Probe::new("x", &log);
    let (stuck, _) = Probe::with_cleanup("stuck", &log, Cleanup::Hangs);
    let (brutal, _) = Probe::new("brutal", &log);
    let (z, _) = Probe::new("z", &log);
    let (deep, _) = Supervisor::child_spec(SupervisorSpec::new("deep").child(z));
    let spec = SupervisorSpec::new("inner").child(x).child(stuck).child(deep);
    let spec = spec.child(brutal.shutdown(Shutdown::BrutalKill));
    let (inner, handle) = Supervisor::child_spec(spec);
    let root = root(SupervisorSpec::new("top")).await;
    let inner = start_temporary(&root, inner).await;
    let mut all: Vec<ProcessRef> =
        handle.which_children().unwrap().into_iter().filter_map(|child| child.process).collect();
    let tree = root.tree().clone();
    assert_eq!(all.len(), 4);
    all.push(inner.clone());
    log.take();
    let mut lifecycle = tree.lifecycle();
    assert_eq!(tree.kill("/top/inner").unwrap().exit().await, ExitReason::Killed);
    assert!(all.iter().all(|process| !process.is_alive()), "none survives its end");
    let mut lines = log.take();
    lines.sort();
    assert_eq!(
        lines,
        [
            "brutal dropped",
            "stuck cleaned",
            "stuck dropped",
            "x cleaned",
            "x dropped",
            "z cleaned",
            "z dropped"
        ],
        "those that can clean up do"
    );
    let told = told(&mut lifecycle);
    let ended = |path: &str| {
        told.iter().filter(|it| it.path == path).find_map(|it| {
            let LifecycleEvent::Exited { reason, .. } = &it.event else { return None };
            Some(reason.name())
        })
    };
    for path in ["/top/inner/x", "/top/inner/deep", "/top/inner"] {
        assert_eq!(ended(path), Some("killed"), "{path} is told");
    }
    assert_eq!(ended("/top/inner/deep/z"), Some("shutdown"), "its supervisor stops in good order");
}

// Below a supervisor that died, each gets its own time, up to the kill deadline.
proves!(a_supervisor_whose_parent_dies_stops_in_good_order, ["SUP-149"]);
async fn a_supervisor_whose_parent_dies_stops_in_good_order() {
    for how in ["crash", "kill"] {
        let log = Log::default();
        let (x, _) = Probe::new("x", &log);
        let (y, _) = Probe::with_cleanup("y", &log, Cleanup::Hangs);
        let (z, _) = Probe::new("z", &log);
        let two = Duration::from_secs(2);
        let spec = SupervisorSpec::new("inner").child(x);
        let spec = spec.child(y.shutdown(Shutdown::Timeout(two)));
        let (inner, handle) = Supervisor::child_spec(spec.child(z));
        let (parent, above) = Supervisor::child_spec(SupervisorSpec::new("parent").child(inner));
        let root = root(SupervisorSpec::new("top")).await;
        let parent = start_temporary(&root, parent).await;
        let inner = above.which_child("inner").unwrap().process.unwrap();
        let mut down = inner.monitor();
        log.take();
        let begun = root.tree().clock().now();
        let hit = match how {
            "crash" => root.tree().crash("/top/parent").unwrap(),
            _ => root.tree().kill("/top/parent").unwrap(),
        };
        let reason = hit.exit().await;
        assert_eq!(reason.name(), if how == "crash" { "panic" } else { "killed" });
        assert!(!parent.is_alive());
        assert_eq!(down.down().await, reason, "with the reason of its parent");
        assert_eq!(root.tree().clock().now().since(begun), two, "y is given its time");
        assert_eq!(
            log.take(),
            ["z cleaned", "z dropped", "y cleaned", "y dropped", "x cleaned", "x dropped"]
        );
        assert!(handle.which_children().unwrap_or_default().is_empty());
    }
}

/// An actor that gives itself another supervisor, as far as it can.
struct Deserter(Log);

impl Actor for Deserter {
    type Msg = ActorCell;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<ActorCell>, (): ()) -> Answer {
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<ActorCell>,
        other: ActorCell,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let Some(supervisor) = me.try_get_supervisor() {
            me.unlink(supervisor);
        }
        me.link(other);
        self.0.add("detached");
        Ok(())
    }
}

/// An actor that shows its cell.
struct Asylum(Arc<OnceLock<ActorCell>>);

impl Actor for Asylum {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<()>, (): ()) -> Answer {
        self.0.set(me.get_cell()).unwrap();
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        _: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

proves!(a_child_that_detached_itself_is_stopped_like_any_other, ["SUP-153"]);
async fn a_child_that_detached_itself_is_stopped_like_any_other() {
    for how in ["terminate_child", "shutdown"] {
        let log = Log::default();
        let cell: Arc<OnceLock<ActorCell>> = Arc::default();
        let (shown, own) = (cell.clone(), log.clone());
        let (asylum, _) = ChildSpec::actor("asylum", move || (Asylum(shown.clone()), ()));
        let (deserter, address) = ChildSpec::actor("deserter", move || (Deserter(own.clone()), ()));
        let spec = SupervisorSpec::new("top").child(asylum);
        let root = root(spec.child(deserter.shutdown(Shutdown::Infinity))).await;
        let process = root.supervisor().which_child("deserter").unwrap().process.unwrap();
        address.cast(cell.get().unwrap().clone()).unwrap();
        idle().await;
        assert_eq!(log.take(), ["detached"]);
        let mut lifecycle = root.tree().lifecycle();
        let begun = root.tree().clock().now();
        match how {
            "terminate_child" => root.supervisor().terminate_child("deserter").await.unwrap(),
            _ => drop(root.shutdown().await),
        }
        assert_eq!(root.tree().clock().now(), begun, "{how} does not hang");
        assert_eq!(process.exit_reason(), Some(ExitReason::Shutdown));
        assert!(reports(&mut lifecycle).is_empty());
    }
}
