//! Semantics 23: dynamic supervisors.

use std::time::Duration;

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    CallError, ChildStatus, DynamicSupervisor, DynamicSupervisorSpec, RequestError, Root,
    SupervisorSpec,
};

use crate::probe::{Cleanup, Log, Message, Probe, SOON, Start, root};

async fn start(spec: DynamicSupervisorSpec) -> (Root, DynamicSupervisor) {
    let (child, supervisor) = DynamicSupervisor::child_spec(spec);
    (root(SupervisorSpec::new("top").child(child)).await, supervisor)
}

#[tokio::test(start_paused = true)]
async fn children_come_and_go_and_ids_may_repeat() {
    let (root, dynamic) = start(DynamicSupervisorSpec::new("dyn", 10)).await;
    let log = Log::default();
    let (spec, first) = Probe::new("x", &log);
    let child = dynamic.start_child(spec).await.unwrap();
    let (spec, second) = Probe::new("x", &log);
    dynamic.start_child(spec).await.unwrap();
    assert_eq!((first.ping().await, second.ping().await), (Ok(1), Ok(1)));
    let paths: Vec<String> = root.tree().nodes().into_iter().map(|node| node.path).collect();
    assert_eq!(paths, ["/top", "/top/dyn", "/top/dyn/x", "/top/dyn/x~2"]);

    assert_eq!(dynamic.terminate_child(&child).await, Ok(()));
    assert_eq!(first.ping().await, Err(CallError::NoProc));
    let unknown = dynamic.terminate_child(&child).await;
    assert_eq!(unknown, Err(RequestError::NotFound("x".into())));
    assert_eq!(second.ping().await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_restarting_child_holds_its_place_and_a_restart_needs_none() {
    let (_root, dynamic) = start(DynamicSupervisorSpec::new("dyn", 1)).await;
    let log = Log::default();
    let (spec, probe) = Probe::new("x", &log);
    dynamic.start_child(spec.restart_delay(Duration::from_secs(9))).await.unwrap();
    let other = || Probe::new("y", &log).0;
    assert_eq!(dynamic.start_child(other()).await.unwrap_err(), RequestError::MaxChildren(1));
    probe.end(|| Message::Panic).await;
    while dynamic.which_children()[0].status != ChildStatus::Restarting {
        tokio::task::yield_now().await;
    }
    assert_eq!(dynamic.start_child(other()).await.unwrap_err(), RequestError::MaxChildren(1));
    assert_eq!(probe.answers().await, 1);
    assert_eq!(dynamic.count_children().active, 1);
}

#[tokio::test(start_paused = true)]
async fn ended_transient_and_temporary_children_are_forgotten() {
    let (_root, dynamic) = start(DynamicSupervisorSpec::new("dyn", 10)).await;
    let log = Log::default();
    for (restart, message) in [
        (Restart::Transient, (|| Message::StopSelf) as fn() -> Message),
        (Restart::Temporary, || Message::Panic),
    ] {
        let (spec, probe) = Probe::new("x", &log);
        dynamic.start_child(spec.restart(restart)).await.unwrap();
        probe.end(message).await;
        while !dynamic.which_children().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(probe.ping().await, Err(CallError::NoProc));
    }
}

#[tokio::test(start_paused = true)]
async fn failing_retries_count_and_the_supervisor_gives_up_with_shutdown() {
    let (child, dynamic) =
        DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("dyn", 10).intensity(2, SOON));
    let root = root(SupervisorSpec::new("top").intensity(0, SOON).child(child)).await;
    let (spec, probe) = Probe::new("x", &Log::default());
    dynamic.start_child(spec).await.unwrap();
    probe.script(&[Start::Fails, Start::Fails, Start::Fails]);
    probe.end(|| Message::Panic).await;
    assert_eq!(root.ended().await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn a_child_beyond_its_own_budget_is_dropped_and_its_siblings_live_on() {
    let spec = DynamicSupervisorSpec::new("dyn", 10).intensity(0, SOON).child_budget(1, SOON);
    let (_root, dynamic) = start(spec).await;
    let log = Log::default();
    let (spec, bad) = Probe::new("bad", &log);
    dynamic.start_child(spec).await.unwrap();
    let (spec, good) = Probe::new("good", &log);
    dynamic.start_child(spec).await.unwrap();
    bad.end(|| Message::Panic).await;
    bad.answers().await;
    bad.end(|| Message::Panic).await;
    while dynamic.which_children().len() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(good.ping().await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_asks_all_at_once_and_takes_as_long_as_the_slowest() {
    let (root, dynamic) = start(DynamicSupervisorSpec::new("dyn", 10)).await;
    let log = Log::default();
    for place in 0..5 {
        let (spec, _) = Probe::with_cleanup(&format!("x{place}"), &log, Cleanup::Hangs);
        dynamic.start_child(spec).await.unwrap();
    }
    let report = root.shutdown().await;
    assert_eq!(report.took, Duration::from_secs(5));
}
