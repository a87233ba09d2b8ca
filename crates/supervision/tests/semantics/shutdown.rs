//! Semantics 3, 4, 16, 17: the shutdown protocol.

use std::time::Duration;

use perennial_core::{ExitReason, Restart, Shutdown};
use perennial_supervision::{
    CallError, ChildSpec, Clock, LifecycleEvent, Options, Root, StopToken, Supervisor,
    SupervisorSpec,
};

use crate::probe::{Cleanup, Log, Message, Probe, World, root};

#[tokio::test(start_paused = true)]
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

#[tokio::test(start_paused = true)]
async fn what_was_queued_before_a_graceful_stop_is_handled() {
    let world = World::start_with(&[Restart::Permanent], |spec| spec).await.unwrap();
    world.log.take();
    for what in ["1", "2", "3"] {
        world.probes[0].address.cast(Message::Work(what)).unwrap();
    }
    world.root.supervisor().terminate_child("a").await.unwrap();
    assert_eq!(
        world.log.take(),
        ["a worked 1", "a worked 2", "a worked 3", "a cleaned", "a dropped"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_stop_in_time_is_killed_and_reported() {
    let log = Log::default();
    let (a, probe) = Probe::new("a", &log);
    let root = root(SupervisorSpec::new("top").child(a)).await;
    let mut lifecycle = root.tree().lifecycle();
    probe.address.cast(Message::Hang).unwrap();
    let begun = root.tree().clock().now();
    root.supervisor().terminate_child("a").await.unwrap();
    assert_eq!(root.tree().clock().now().since(begun), Duration::from_secs(5));
    assert_eq!(log.take(), ["a started", "a dropped"], "a kill skips the cleanup");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.push(lifecycle.next().await.unwrap().event);
    }
    assert_eq!(seen[0], LifecycleEvent::Exited { incarnation: 1, reason: ExitReason::Killed });
    assert_eq!(seen[1], LifecycleEvent::ShutdownError { reason: ExitReason::Killed });
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_that_hangs_is_cut_and_one_that_fails_becomes_the_reason() {
    let log = Log::default();
    let (a, _) = Probe::with_cleanup("a", &log, Cleanup::Hangs);
    let (b, probe) = Probe::with_cleanup("b", &log, Cleanup::Fails);
    let root = root(SupervisorSpec::new("top").child(a).child(b)).await;
    let reason = probe.end(|| Message::StopSelf).await;
    assert_eq!(reason, ExitReason::Error("cleanup fails".into()));
    let report = root.shutdown().await;
    assert_eq!(report.took, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_brutal_kill_is_silent_and_runs_no_cleanup() {
    let log = Log::default();
    let (a, _) = Probe::new("a", &log);
    let root = root(SupervisorSpec::new("top").child(a.shutdown(Shutdown::BrutalKill))).await;
    let mut lifecycle = root.tree().lifecycle();
    root.supervisor().terminate_child("a").await.unwrap();
    assert_eq!(log.take(), ["a started", "a dropped"]);
    root.supervisor().restart_child("a").await.unwrap();
    let events = [lifecycle.next().await.unwrap().event, lifecycle.next().await.unwrap().event];
    assert_eq!(
        events,
        [
            LifecycleEvent::Exited { incarnation: 1, reason: ExitReason::Killed },
            LifecycleEvent::Started { incarnation: 2 },
        ]
    );
}

/// Real time: a thread that blocks cannot be seen by a paused clock.
#[tokio::test]
async fn what_cannot_be_killed_is_reported_and_no_longer_waited_for() {
    let (let_go, hold) = std::sync::mpsc::channel::<()>();
    let hold = std::sync::Mutex::new(hold);
    let stubborn = ChildSpec::thread("stubborn", move |_stop| {
        hold.lock().unwrap().recv().unwrap_or(());
        Ok::<(), String>(())
    })
    .shutdown(Shutdown::Timeout(Duration::from_millis(10)));
    let options = Options { kill_deadline: Duration::from_millis(10), ..Options::default() };
    let spec = SupervisorSpec::new("top").child(stubborn);
    let root = Root::start(spec, Clock::start(), options).await.unwrap();
    let report = root.shutdown().await;
    assert_eq!(report.unkillable, ["/top/stubborn"]);
    drop(let_go);
}

#[tokio::test]
async fn a_thread_is_woken_by_its_token_and_awaited() {
    let log = Log::default();
    let lines = log.clone();
    let worker = ChildSpec::thread("worker", move |stop: StopToken| {
        let (wake, woken) = std::sync::mpsc::channel();
        stop.on_stop(move || wake.send(()).unwrap_or(()));
        woken.recv()?;
        lines.add("wound up");
        Ok::<(), std::sync::mpsc::RecvError>(())
    });
    let root = root(SupervisorSpec::new("top").child(worker)).await;
    root.shutdown().await;
    assert_eq!(log.take(), ["wound up"]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_root_stops_its_tree() {
    let world = World::start(|spec| spec).await;
    let probe = world.probes[0].clone();
    drop(world.root);
    let gone = loop {
        match probe.ping().await {
            Ok(_) | Err(CallError::Exited(_)) => tokio::task::yield_now().await,
            Err(other) => break other,
        }
    };
    assert_eq!(gone, CallError::NoProc);
}
