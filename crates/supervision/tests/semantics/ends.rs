//! Starts and ends as the tree and the events show them, and what is left afterwards.

use std::time::Duration;

use perennial_core::{ExitReason, Shutdown, tree::NodeState};
use perennial_supervision::{
    CallError, ChildSpec, Clock, LifecycleEvent, Options, RequestError, Root, Supervisor,
    SupervisorSpec, TaskSupervisor, TaskSupervisorSpec,
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

use crate::probe::{Log, Message, Probe, SOON, Start, root};

/// A thread that does not return before its tree is gone.
fn stubborn(id: &str) -> (ChildSpec, std::sync::mpsc::Sender<()>) {
    let (let_go, hold) = std::sync::mpsc::channel::<()>();
    let hold = std::sync::Mutex::new(hold);
    let spec = ChildSpec::thread(id, move |_stop| {
        hold.lock().unwrap().recv().unwrap_or(());
        Ok::<(), String>(())
    });
    (spec, let_go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_start_is_told_before_the_end() {
    let (child, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 9));
    let root = root(SupervisorSpec::new("top").child(child)).await;
    let mut lifecycle = root.tree().lifecycle();
    for _ in 0..500 {
        tasks.start_child("brief", async {}).await.unwrap().exit().await;
        let path = "/top/tasks/brief";
        let mut told = Vec::new();
        while told.len() < 2 {
            let event = lifecycle.next().await.unwrap();
            assert!(event.path.starts_with(path), "{event:?}");
            told.push(event.event);
        }
        assert_eq!(told[0], LifecycleEvent::Started { incarnation: 1, requested: true });
        assert!(matches!(told[1], LifecycleEvent::Exited { incarnation: 1, .. }), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_did_not_start_did_not_exit() {
    let log = Log::default();
    let (leaf, probe) = Probe::new("leaf", &log);
    probe.script(&[Start::Fails]);
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(leaf));
    let root = root(SupervisorSpec::new("top")).await;
    let mut lifecycle = root.tree().lifecycle();
    let refused = root.supervisor().start_child(inner).await.unwrap_err();
    assert_eq!(refused.to_string(), "child `inner/leaf` did not start: error: start fails");
    root.shutdown().await;
    let mut told = Vec::new();
    while told.len() < 4 {
        let event = lifecycle.next().await.unwrap();
        told.push(format!("{} {:?}", event.path, event.event));
    }
    let failed = "StartFailed { reason: Error(\"start fails\") }";
    assert_eq!(told[0], format!("/top/inner/leaf {failed}"));
    let above = "child `leaf` did not start: error: start fails";
    assert!(told[1].starts_with("/top/inner StartError { reason: Error"), "{}", told[1]);
    assert_eq!(told[2], format!("/top/inner StartFailed {{ reason: ShutdownWith({above:?}) }}"));
    assert_eq!(told[3], "/top Exited { incarnation: 1, reason: Shutdown }");
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_whose_time_to_start_is_up_leaves_nothing() {
    let log = Log::default();
    let (a, first) = Probe::new("a", &log);
    let (b, second) = Probe::new("b", &log);
    second.script(&[Start::Hangs]);
    let inner = SupervisorSpec::new("inner").child(a).child(b);
    let (inner, _) = Supervisor::child_spec(inner);
    let inner = inner.start_within(Duration::from_secs(2));
    let root = root(SupervisorSpec::new("top")).await;
    let refused = root.supervisor().start_child(inner.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("timeout"), "{refused}");
    assert_eq!(log.take(), ["a started", "a cleaned", "a dropped"]);
    assert_eq!(first.ping().await, Err(CallError::NoProc));
    root.supervisor().start_child(inner).await.unwrap();
    assert_eq!(log.take(), ["a started", "b started"]);
}

#[tokio::test(start_paused = true)]
async fn a_tree_whose_starter_leaves_is_taken_down() {
    let log = Log::default();
    let (a, probe) = Probe::new("a", &log);
    let (b, other) = Probe::new("b", &log);
    other.script(&[Start::Hangs]);
    let spec = SupervisorSpec::new("top").child(a).child(b);
    let starting = Root::start(spec, Clock::start(), Options::default());
    assert!(tokio::time::timeout(Duration::from_secs(1), starting).await.is_err());
    let gone = loop {
        match probe.ping().await {
            Ok(_) | Err(CallError::Exited(_)) => tokio::task::yield_now().await,
            Err(other) => break other,
        }
    };
    assert_eq!(gone, CallError::NoProc);
    assert_eq!(log.take(), ["a started", "a cleaned", "a dropped"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_killed_is_waited_for_once() {
    let (thread, let_go) = stubborn("stubborn");
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(thread));
    let (middle, _) = Supervisor::child_spec(SupervisorSpec::new("middle").child(inner));
    let root = root(SupervisorSpec::new("top").child(middle)).await;
    let report = root.shutdown().await;
    // Five seconds to stop, five to die, whatever the depth.
    assert_eq!(report.took, Duration::from_secs(10));
    assert_eq!(report.unkillable, ["/top/middle/inner/stubborn"]);
    drop(let_go);
}

#[tokio::test(start_paused = true)]
async fn what_outlives_a_killed_supervisor_is_reported() {
    let (thread, let_go) = stubborn("stubborn");
    let inner = SupervisorSpec::new("inner").child(thread.shutdown(Shutdown::BrutalKill));
    let (inner, _) = Supervisor::child_spec(inner);
    let inner = inner.restart(perennial_core::Restart::Transient);
    let root = root(SupervisorSpec::new("top").intensity(0, SOON).child(inner)).await;
    let mut lifecycle = root.tree().lifecycle();
    root.tree().kill("/top/inner").unwrap().exit().await;
    let first = lifecycle.next().await.unwrap();
    assert_eq!(first.event, LifecycleEvent::Unkillable);
    assert_eq!(first.path, "/top/inner/stubborn");
    assert_eq!(root.ended().await, ExitReason::Shutdown);
    let nodes = root.tree().nodes();
    assert_eq!(nodes[2].state, NodeState::Unkillable);
    assert_eq!(root.shutdown().await.unkillable, ["/top/inner/stubborn"]);
    drop(let_go);
}

#[tokio::test(start_paused = true)]
async fn a_finished_tree_shows_nothing_that_starts_waits_or_stops() {
    let log = Log::default();
    let (a, waits) = Probe::new("a", &log);
    let (b, starts) = Probe::new("b", &log);
    let inner = SupervisorSpec::new("inner").child(b);
    let (inner, _) = Supervisor::child_spec(inner);
    let inner = inner.shutdown(Shutdown::Timeout(Duration::from_secs(1)));
    let spec = SupervisorSpec::new("top").child(a.restart_delay(SOON)).child(inner);
    let root = root(spec).await;
    waits.end(|| Message::Panic).await;
    starts.script(&[Start::Hangs]);
    starts.end(|| Message::Panic).await;
    while root.tree().nodes()[3].state != NodeState::Starting {
        tokio::task::yield_now().await;
    }
    assert_eq!(root.tree().nodes()[1].state, NodeState::BackingOff);
    root.shutdown().await;
    for node in root.tree().nodes() {
        assert_eq!(node.state, NodeState::Stopped, "{}", node.path);
    }
}

#[tokio::test(start_paused = true)]
async fn a_root_that_gave_up_shows_it() {
    let (a, probe) = Probe::new("a", &Log::default());
    let root = root(SupervisorSpec::new("top").intensity(0, SOON).child(a)).await;
    probe.end(|| Message::Panic).await;
    root.ended().await;
    assert_eq!(root.tree().nodes()[0].state, NodeState::GaveUp);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_is_always_due_lets_others_have_a_turn() {
    let (a, probe) = Probe::new("a", &Log::default());
    probe.script(&[Start::Works]);
    probe.script(&[Start::Fails; 10_000]);
    let a = a.restart_delay(Duration::ZERO);
    let root = root(SupervisorSpec::new("top").intensity(9_000, SOON).child(a)).await;
    probe.end(|| Message::Panic).await;
    while root.tree().nodes()[1].incarnation < 10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(root.supervisor().terminate_child("a").await, Ok(()));
    assert_eq!(root.tree().nodes()[1].state, NodeState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_delay_without_end_is_no_overflow() {
    let (a, probe) = Probe::new("a", &Log::default());
    let root = root(SupervisorSpec::new("top").child(a.restart_delay(Duration::MAX))).await;
    tokio::time::advance(SOON).await;
    probe.end(|| Message::Panic).await;
    while root.tree().nodes()[1].state != NodeState::BackingOff {
        tokio::task::yield_now().await;
    }
    assert_eq!(root.supervisor().terminate_child("a").await, Ok(()));
    root.shutdown().await;
}

struct Asker;

impl Actor for Asker {
    type Msg = ();
    type State = ();
    type Arguments = (std::sync::Arc<std::sync::OnceLock<Supervisor>>, Log);

    async fn pre_start(
        &self,
        _: ActorRef<()>,
        (top, log): Self::Arguments,
    ) -> Result<(), ActorProcessingErr> {
        let answer = top.get().unwrap().terminate_child("x").await.unwrap_err();
        log.add(format!("{answer:?}"));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_may_ask_any_supervisor_but_those_that_wait_for_its_start() {
    let slot = std::sync::Arc::new(std::sync::OnceLock::new());
    let log = Log::default();
    let (asked, lines) = (slot.clone(), log.clone());
    let (leaf, _) = ChildSpec::actor("leaf", move || (Asker, (asked.clone(), lines.clone())));
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(leaf));
    let (middle, handle) = Supervisor::child_spec(SupervisorSpec::new("middle").child(inner));
    slot.set(handle).unwrap();
    let root = root(SupervisorSpec::new("top").child(middle)).await;
    assert_eq!(log.take(), [format!("{:?}", RequestError::CallingSelf)], "middle waits for inner");
    root.tree().kill("/top/middle/inner/leaf").unwrap().exit().await;
    let lines = loop {
        let lines = log.take();
        if !lines.is_empty() {
            break lines;
        }
        tokio::task::yield_now().await;
    };
    let unknown = RequestError::NotFound("x".into());
    assert_eq!(lines, [format!("{unknown:?}")], "middle is free while inner restarts it");
}

/// Figures are printed; what is checked is that nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_tasks_start_and_stop_and_leave_nothing() {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let clock = Clock::start();
    for many in [1_000_u32, 10_000] {
        let (child, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10_000));
        let root = root(SupervisorSpec::new("top").child(child)).await;
        let begun = clock.now();
        for place in 0..many {
            tasks.start_child(format!("task{place}"), std::future::pending()).await.unwrap();
        }
        let started = clock.now();
        assert_eq!(tasks.children().len(), many as usize);
        root.shutdown().await;
        let (starts, stops) = (started.since(begun), clock.now().since(started));
        println!("{many} tasks: started in {starts:?}, stopped in {stops:?}");
        while alive() > before {
            tokio::task::yield_now().await;
        }
    }
}
