//! DYN start_child and terminate: children come and go.

use std::time::Duration;

use perennial_core::{ExitReason, Restart, Shutdown};
use perennial_supervision::{
    CallError, ChildStatus, Counts, DynamicSupervisor, DynamicSupervisorSpec, LifecycleEvent,
    RequestError, Root, SupervisorSpec,
};

use crate::{
    harness::proves,
    probe::{Cleanup, Log, Message, Probe, SOON, Start, root, until},
};

/// A dynamic supervisor for at most so many children.
pub(crate) async fn start(max_children: usize) -> (Root, DynamicSupervisor) {
    start_with(DynamicSupervisorSpec::new("dyn", max_children)).await
}

pub(crate) async fn start_with(spec: DynamicSupervisorSpec) -> (Root, DynamicSupervisor) {
    let (child, dynamic) = DynamicSupervisor::child_spec(spec);
    (root(SupervisorSpec::new("top").child(child)).await, dynamic)
}

proves!(it_starts_with_nothing, ["DYN-001"]);
async fn it_starts_with_nothing() {
    let (_root, dynamic) = start(9).await;
    assert_eq!(dynamic.which_children().unwrap(), []);
    assert_eq!(dynamic.count_children().unwrap(), Counts::default());
    let zero = Counts { specs: 0, active: 0, supervisors: 0, workers: 0 };
    assert_eq!(dynamic.count_children().unwrap(), zero);
}

proves!(ids_may_repeat, ["DYN-012"]);
async fn ids_may_repeat() {
    let (_root, dynamic) = start(9).await;
    let (spec, _) = Probe::new("x", &Log::default());
    for many in 1..=3 {
        dynamic.start_child(spec.clone()).await.unwrap();
        assert_eq!(dynamic.count_children().unwrap().active, many);
    }
    let (spec, probe) = Probe::new("x", &Log::default());
    dynamic.start_child(spec).await.unwrap();
    assert_eq!(probe.ping().await, Ok(1));
}

proves!(a_start_that_fails_or_panics_adds_nothing, ["DYN-017", "DYN-020"]);
async fn a_start_that_fails_or_panics_adds_nothing() {
    let (root, dynamic) = start(9).await;
    let log = Log::default();
    for (how, reason) in
        [(Start::Fails, "error: start fails"), (Start::Panics, "panic: start panics")]
    {
        let (spec, probe) = Probe::new("x", &log);
        probe.script(&[how]);
        let refused = dynamic.start_child(spec).await.unwrap_err();
        let RequestError::StartFailed(error) = refused else { panic!("{refused}") };
        assert!(error.reason.to_string().starts_with(reason), "{error}");
        tokio::time::advance(SOON).await;
        assert_eq!(dynamic.which_children().unwrap(), []);
        assert!(log.take().is_empty(), "no retry");
        assert_eq!(probe.ping().await, Err(CallError::NoProc));
    }
    assert_eq!(root.tree().nodes()[1].incarnation, 1, "the supervisor survives");
}

proves!(no_more_children_than_allowed, ["DYN-021"]);
async fn no_more_children_than_allowed() {
    for max in [0, 1, 3] {
        let (_root, dynamic) = start(max).await;
        let spec = || Probe::new("x", &Log::default()).0;
        for _ in 0..max {
            dynamic.start_child(spec()).await.unwrap();
        }
        let refused = dynamic.start_child(spec()).await.unwrap_err();
        assert_eq!(refused, RequestError::MaxChildren(max));
        assert_eq!(dynamic.count_children().unwrap().active, max);
    }
}

proves!(a_terminated_child_is_gone, ["DYN-035", "DYN-036", "DYN-038"]);
async fn a_terminated_child_is_gone() {
    let (root, dynamic) = start(9).await;
    let log = Log::default();
    let one_second = Shutdown::Timeout(Duration::from_secs(1));
    for (cleanup, shutdown, secs, lines, reason) in [
        (Cleanup::Works, one_second, 0, &["x cleaned", "x dropped"][..], ExitReason::Shutdown),
        (Cleanup::Hangs, one_second, 1, &["x cleaned", "x dropped"], ExitReason::Killed),
        (Cleanup::Works, Shutdown::BrutalKill, 0, &["x dropped"], ExitReason::Killed),
    ] {
        let (spec, probe) = Probe::with_cleanup("x", &log, cleanup);
        let child = dynamic.start_child(spec.shutdown(shutdown)).await.unwrap();
        log.take();
        let begun = root.tree().clock().now();
        assert!(dynamic.terminate_child(&child).await.is_ok());
        assert_eq!(root.tree().clock().now().since(begun), Duration::from_secs(secs));
        assert_eq!(log.take(), lines, "{cleanup:?} {shutdown:?}");
        assert_eq!(child.first_exit().await, reason);
        assert_eq!(probe.ping().await, Err(CallError::NoProc));
        assert_eq!(dynamic.which_children().unwrap(), []);
        let again = dynamic.terminate_child(&child).await.unwrap_err();
        assert_eq!(again, RequestError::NotFound("x".into()));
    }
    let (spec, probe) = Probe::new("x", &log);
    let dead = dynamic.start_child(spec.restart(Restart::Temporary)).await.unwrap();
    probe.end(|| Message::StopSelf).await;
    assert_eq!(probe.settled().await, Err(CallError::NoProc));
    let refused = dynamic.terminate_child(&dead).await.unwrap_err();
    assert_eq!(refused, RequestError::NotFound("x".into()), "it had ended by itself");
}

proves!(a_child_between_attempts_can_be_terminated, ["DYN-032", "DYN-037"]);
async fn a_child_between_attempts_can_be_terminated() {
    let (_root, dynamic) = start(9).await;
    let log = Log::default();
    let (spec, probe) = Probe::new("x", &log);
    let child = dynamic.start_child(spec.restart_delay(SOON)).await.unwrap();
    probe.end(|| Message::Panic).await;
    until(|| dynamic.which_children().unwrap()[0].status == ChildStatus::Restarting).await;
    assert!(dynamic.terminate_child(&child).await.is_ok());
    assert_eq!(dynamic.which_children().unwrap(), []);
    log.take();
    tokio::time::advance(2 * SOON).await;
    let again = dynamic.terminate_child(&child).await.unwrap_err();
    assert_eq!(again, RequestError::NotFound("x".into()));
    assert!(log.take().is_empty(), "nothing came back");
    assert_eq!(dynamic.which_children().unwrap(), []);
}

proves!(a_shutdown_asks_all_at_once_and_each_has_its_own_time, ["DYN-039", "DYN-040", "DYN-043"]);
async fn a_shutdown_asks_all_at_once_and_each_has_its_own_time() {
    let (root, dynamic) = start(9).await;
    let log = Log::default();
    let timeout = |secs| Shutdown::Timeout(Duration::from_secs(secs));
    let children = [
        ("one", Cleanup::Hangs, timeout(1), "killed"),
        ("two", Cleanup::Hangs, timeout(2), "killed"),
        ("three", Cleanup::Hangs, timeout(3), "killed"),
        ("quick", Cleanup::Works, timeout(9), "shutdown"),
        ("patient", Cleanup::Works, Shutdown::Infinity, "shutdown"),
        ("brutal", Cleanup::Works, Shutdown::BrutalKill, "killed"),
    ];
    for (name, cleanup, shutdown, _) in children {
        let (spec, _) = Probe::with_cleanup(name, &log, cleanup);
        dynamic.start_child(spec.shutdown(shutdown)).await.unwrap();
    }
    let mut lifecycle = root.tree().lifecycle();
    let begun = root.tree().clock().now();
    let report = root.shutdown().await;
    assert_eq!(report.took, Duration::from_secs(3), "the largest single one");
    let mut ended = Vec::new();
    while ended.len() < children.len() {
        let event = lifecycle.next().await.unwrap();
        if let LifecycleEvent::Exited { reason, .. } = event.event {
            let name = event.path.rsplit('/').next().unwrap().to_owned();
            ended.push((name, reason.name(), event.at.since(begun)));
        }
    }
    for (name, _, shutdown, reason) in children {
        let took = if let (Shutdown::Timeout(time), "killed") = (shutdown, reason) {
            time
        } else {
            Duration::ZERO
        };
        assert!(ended.contains(&(name.to_owned(), reason, took)), "{name}: {ended:?}");
    }
    assert!(!log.take().iter().any(|line| line == "brutal cleaned"));
}

proves!(a_shutdown_does_not_wait_for_restarts, ["DYN-046"]);
async fn a_shutdown_does_not_wait_for_restarts() {
    let (root, dynamic) = start(9).await;
    let (spec, probe) = Probe::new("x", &Log::default());
    dynamic.start_child(spec.restart_delay(SOON)).await.unwrap();
    probe.end(|| Message::Panic).await;
    until(|| dynamic.which_children().unwrap()[0].status == ChildStatus::Restarting).await;
    assert_eq!(root.shutdown().await.took, Duration::ZERO);
    assert_eq!(probe.ping().await, Err(CallError::NoProc));
}
