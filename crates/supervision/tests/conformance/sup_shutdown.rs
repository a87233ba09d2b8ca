//! SUP shutdown: who is asked, how long is waited, and what is left.

use std::time::Duration;

use perennial_core::{ExitReason, Restart, Shutdown, tree::NodeState};
use perennial_supervision::{
    CallError, ChildSpec, Clock, LifecycleEvent, LifecycleStream, Options, Root, Supervisor,
    SupervisorSpec,
};

use crate::{
    harness::proves,
    probe::{Cleanup, Log, Message, Probe, World, root},
};

async fn next(lifecycle: &mut LifecycleStream) -> LifecycleEvent {
    lifecycle.next().await.unwrap().event
}

proves!(a_tree_stops_in_reverse_order_depth_first_and_leaves_nothing, ["SUP-136", "SUP-146"]);
async fn a_tree_stops_in_reverse_order_depth_first_and_leaves_nothing() {
    let log = Log::default();
    let (a, first) = Probe::new("a", &log);
    let (b, _) = Probe::new("b", &log);
    let (c, _) = Probe::new("c", &log);
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(b));
    let root = root(SupervisorSpec::new("top").child(a).child(inner).child(c)).await;
    log.take();
    let report = root.shutdown().await;
    assert_eq!(report.reason, ExitReason::Shutdown);
    assert!(report.unkillable.is_empty());
    assert_eq!(
        log.take(),
        ["c cleaned", "c dropped", "b cleaned", "b dropped", "a cleaned", "a dropped"]
    );
    assert_eq!(first.ping().await, Err(CallError::NoProc));
}

proves!(each_child_is_asked_after_the_one_before_it_is_gone, ["SUP-137"]);
async fn each_child_is_asked_after_the_one_before_it_is_gone() {
    let log = Log::default();
    let mut spec = SupervisorSpec::new("top");
    for (name, secs) in [("a", 3), ("b", 2), ("c", 1)] {
        let (child, _) = Probe::with_cleanup(name, &log, Cleanup::Hangs);
        spec = spec.child(child.shutdown(Shutdown::Timeout(Duration::from_secs(secs))));
    }
    let root = root(spec).await;
    log.take();
    let report = root.shutdown().await;
    assert_eq!(report.took, Duration::from_secs(6), "the sum of their timeouts");
    assert_eq!(
        log.take(),
        ["c cleaned", "c dropped", "b cleaned", "b dropped", "a cleaned", "a dropped"]
    );
}

proves!(nothing_below_a_supervisor_survives_its_announced_end, ["SUP-138"]);
async fn nothing_below_a_supervisor_survives_its_announced_end() {
    for how in ["crash", "kill", "stop"] {
        let log = Log::default();
        let (a, probe) = Probe::new("a", &log);
        let (deep, _) = Supervisor::child_spec(SupervisorSpec::new("deep").child(a));
        let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(deep));
        let inner = inner.restart(Restart::Temporary);
        let root = root(SupervisorSpec::new("top").child(inner)).await;
        let tree = root.tree();
        match how {
            "crash" => drop(tree.crash("/top/inner").unwrap().exit().await),
            "kill" => drop(tree.kill("/top/inner").unwrap().exit().await),
            _ => drop(root.shutdown().await),
        }
        assert_eq!(log.take().last().map(String::as_str), Some("a dropped"), "{how}");
        assert_eq!(probe.settled().await, Err(CallError::NoProc));
    }
}

proves!(a_child_that_stops_in_time_is_not_killed, ["SUP-139"]);
async fn a_child_that_stops_in_time_is_not_killed() {
    let world = World::start(|spec| spec).await;
    let mut lifecycle = world.root.tree().lifecycle();
    world.log.take();
    world.top().terminate_child("a").await.unwrap();
    assert_eq!(world.log.take(), ["a cleaned", "a dropped"]);
    let exited = LifecycleEvent::Exited { incarnation: 1, reason: ExitReason::Shutdown };
    assert_eq!(next(&mut lifecycle).await, exited);
}

proves!(a_child_that_does_not_stop_in_time_is_killed, ["SUP-140"]);
async fn a_child_that_does_not_stop_in_time_is_killed() {
    let world = World::start_with(&[Restart::Permanent; 2], |spec| spec).await.unwrap();
    let clock = world.root.tree().clock();
    let mut lifecycle = world.root.tree().lifecycle();
    world.log.take();
    world.probes[0].address.cast(Message::Hang).unwrap();
    let begun = clock.now();
    world.top().terminate_child("a").await.unwrap();
    assert_eq!(clock.now().since(begun), Duration::from_secs(5));
    assert_eq!(world.log.take(), ["a dropped"]);
    let killed = LifecycleEvent::Exited { incarnation: 1, reason: ExitReason::Killed };
    assert_eq!(next(&mut lifecycle).await, killed);
    assert_eq!(world.probes[1].ping().await, Ok(1));
    assert!(world.top().restart_child("a").await.is_ok(), "the supervisor goes on");
}

// What code that does not yield changes about the row (A1). Real time: a paused clock does not see it.
proves!(what_cannot_be_killed_is_reported_and_no_longer_waited_for, real_time, ["SUP-140"]);
async fn what_cannot_be_killed_is_reported_and_no_longer_waited_for() {
    let (let_go, hold) = std::sync::mpsc::channel::<()>();
    let hold = std::sync::Mutex::new(hold);
    let stubborn = ChildSpec::thread("stubborn", move |_stop| {
        hold.lock().unwrap().recv().unwrap_or(());
        Ok::<(), String>(())
    })
    .shutdown(Shutdown::Timeout(Duration::from_millis(10)));
    let options = Options { kill_deadline: Duration::from_millis(10), ..Options::default() };
    let (a, probe) = Probe::new("a", &Log::default());
    let spec = SupervisorSpec::new("top").child(stubborn).child(a);
    let root = Root::start(spec, Clock::start(), options).await.unwrap();
    root.supervisor().terminate_child("stubborn").await.unwrap();
    assert_eq!(root.tree().nodes()[1].state, NodeState::Unkillable);
    assert_eq!(probe.ping().await, Ok(1), "the supervisor goes on");
    assert_eq!(root.shutdown().await.unkillable, ["/top/stubborn"]);
    drop(let_go);
}

proves!(a_brutal_kill_runs_no_cleanup, ["SUP-142"]);
async fn a_brutal_kill_runs_no_cleanup() {
    for busy in [false, true] {
        let log = Log::default();
        let (a, probe) = Probe::new("a", &log);
        let root = root(SupervisorSpec::new("top").child(a.shutdown(Shutdown::BrutalKill))).await;
        let clock = root.tree().clock();
        let mut lifecycle = root.tree().lifecycle();
        if busy {
            probe.address.cast(Message::Hang).unwrap();
        }
        let begun = clock.now();
        root.supervisor().terminate_child("a").await.unwrap();
        assert_eq!(clock.now().since(begun), Duration::ZERO);
        assert_eq!(log.take(), ["a started", "a dropped"], "busy: {busy}");
        let killed = LifecycleEvent::Exited { incarnation: 1, reason: ExitReason::Killed };
        assert_eq!(next(&mut lifecycle).await, killed);
    }
}

proves!(a_shutdown_of_zero_is_asked_and_enforced, ["SUP-143"]);
async fn a_shutdown_of_zero_is_asked_and_enforced() {
    for cleanup in [Cleanup::Works, Cleanup::Hangs] {
        let log = Log::default();
        let (a, probe) = Probe::with_cleanup("a", &log, cleanup);
        let spec = a.shutdown(Shutdown::Timeout(Duration::ZERO));
        let root = root(SupervisorSpec::new("top").child(spec)).await;
        let clock = root.tree().clock();
        let begun = clock.now();
        root.supervisor().terminate_child("a").await.unwrap();
        // Timers of tokio are a millisecond coarse.
        assert!(clock.now().since(begun) <= Duration::from_millis(1));
        assert_eq!(log.take().last().map(String::as_str), Some("a dropped"));
        assert_eq!(probe.ping().await, Err(CallError::NoProc));
        let reason = root.tree().nodes()[1].last_exit.as_ref().unwrap().reason.clone();
        assert!(["shutdown", "killed"].contains(&reason.as_str()), "{reason}");
    }
}

proves!(a_kill_is_an_error_of_the_shutdown_unless_it_was_wanted, ["SUP-157"]);
async fn a_kill_is_an_error_of_the_shutdown_unless_it_was_wanted() {
    let log = Log::default();
    let (a, _) = Probe::with_cleanup("a", &log, Cleanup::Hangs);
    let (b, _) = Probe::with_cleanup("b", &log, Cleanup::Hangs);
    let spec = SupervisorSpec::new("top").child(a).child(b.shutdown(Shutdown::BrutalKill));
    let root = root(spec).await;
    let mut lifecycle = root.tree().lifecycle();
    root.shutdown().await;
    let mut told = Vec::new();
    while told.len() < 4 {
        let event = lifecycle.next().await.unwrap();
        if let LifecycleEvent::ShutdownError { reason, offender } = event.event {
            assert_eq!(reason, ExitReason::Killed);
            told.push((event.path, format!("shutdown_error {}", offender.id)));
        } else {
            told.push((event.path, format!("{:?}", event.event)));
        }
    }
    let exited = |reason| format!("{:?}", LifecycleEvent::Exited { incarnation: 1, reason });
    let (killed, shutdown) = (|| exited(ExitReason::Killed), exited(ExitReason::Shutdown));
    assert_eq!(
        told,
        [
            ("/top/b".to_owned(), killed()),
            ("/top/a".to_owned(), killed()),
            ("/top".to_owned(), "shutdown_error a".to_owned()),
            ("/top".to_owned(), shutdown),
        ]
    );
}
