//! SUP failed restarts: what happens between two attempts.

use std::time::Duration;

use perennial_core::ExitReason;
use perennial_supervision::{CallError, ChildStatus, RequestError, Root, SupervisorSpec};

use crate::{
    harness::proves,
    probe::{Log, Message, Probe, SOON, Start, World, ids, root, status, until},
};

/// A permanent child between two lives, waiting ten seconds for the next.
async fn between_attempts(log: &Log) -> (Root, Probe) {
    let (a, probe) = Probe::new("a", log);
    let spec = SupervisorSpec::new("top").child(a.restart_delay(Duration::from_secs(10)));
    let root = root(spec).await;
    probe.end(|| Message::Panic).await;
    until(|| status(root.supervisor(), "a") == ChildStatus::Restarting).await;
    (root, probe)
}

proves!(
    a_restart_that_fails_is_retried_at_once_and_every_try_counts,
    ["SUP-103", "SUP-104", "SUP-105", "SUP-116"]
);
async fn a_restart_that_fails_is_retried_at_once_and_every_try_counts() {
    let world = World::start(|spec| spec.intensity(4, SOON)).await;
    let clock = world.root.tree().clock();
    let before = clock.now();
    world.probes[0].script(&[Start::Fails, Start::Panics, Start::Fails]);
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.probes[0].answers().await, 1, "one crash and three failures are four");
    assert_eq!(world.counted(), 4);
    assert_eq!(world.incarnation("a"), 5);
    assert_eq!(world.probes[1].ping().await, Ok(1));
    assert_eq!(clock.now().since(before), Duration::ZERO);

    tokio::time::advance(2 * SOON).await;
    world.log.take();
    world.probes[0].script(&[Start::Fails; 100]);
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.root.ended().await, ExitReason::Shutdown, "the fifth in a row gives up");
    let lines = world.log.take();
    let rest: Vec<&String> = lines.iter().filter(|line| line.ends_with("cleaned")).collect();
    assert_eq!(rest, ["a cleaned", "c cleaned", "b cleaned"]);
    assert_eq!(world.probes[1].settled().await, Err(CallError::NoProc));
}

proves!(an_endless_retry_lets_others_have_a_turn, ["SUP-106", "SUP-112"]);
async fn an_endless_retry_lets_others_have_a_turn() {
    for obeys_shutdown in [false, true] {
        let world = World::start(|spec| spec.intensity(u32::MAX, SOON)).await;
        let top = world.top();
        world.probes[0].script(&[Start::Fails; 100_000]);
        world.probes[0].end(|| Message::Panic).await;
        until(|| world.incarnation("a") > 9).await;
        assert_eq!(top.count_children().unwrap().specs, 3);
        let unknown = top.terminate_child("nobody").await.unwrap_err();
        assert!(matches!(unknown, RequestError::NotFound(_)), "{unknown:?}");
        assert_eq!(status(top, "a"), ChildStatus::Restarting);
        if obeys_shutdown {
            let report = world.root.shutdown().await;
            assert_eq!((report.reason, report.took), (ExitReason::Shutdown, Duration::ZERO));
        } else {
            top.terminate_child("a").await.unwrap();
            assert_eq!(status(top, "a"), ChildStatus::Stopped);
            assert_eq!(world.probes[0].settled().await, Err(CallError::NoProc));
        }
    }
}

proves!(
    a_child_between_attempts_is_listed_and_cannot_be_touched,
    ["SUP-107", "SUP-108", "SUP-109"]
);
async fn a_child_between_attempts_is_listed_and_cannot_be_touched() {
    let log = Log::default();
    let (root, probe) = between_attempts(&log).await;
    let top = root.supervisor();
    let counts = top.count_children().unwrap();
    assert_eq!((counts.specs, counts.active), (1, 0));
    let again = top.start_child(Probe::new("a", &log).0).await.unwrap_err();
    assert!(matches!(again, RequestError::AlreadyPresent(_)), "{again:?}");
    let restarted = top.restart_child("a").await.unwrap_err();
    assert!(matches!(restarted, RequestError::Restarting(_)), "{restarted:?}");
    assert_eq!(status(top, "a"), ChildStatus::Restarting);
    assert_eq!(probe.answers().await, 1, "the restart comes all the same");
}

proves!(terminating_a_child_between_attempts_cancels_its_restart_for_good, ["SUP-111"]);
async fn terminating_a_child_between_attempts_cancels_its_restart_for_good() {
    let log = Log::default();
    let (root, probe) = between_attempts(&log).await;
    root.supervisor().terminate_child("a").await.unwrap();
    assert_eq!(probe.ping().await, Err(CallError::NoProc));
    tokio::time::advance(SOON).await;
    assert_eq!(probe.ping().await, Err(CallError::NoProc));
    assert_eq!(log.take(), ["a started", "a cleaned", "a dropped"]);
    assert_eq!(status(root.supervisor(), "a"), ChildStatus::Stopped);
    root.supervisor().restart_child("a").await.unwrap();
    assert_eq!(probe.ping().await, Ok(1));
}

proves!(a_retry_that_comes_too_late_does_nothing, ["SUP-115"]);
async fn a_retry_that_comes_too_late_does_nothing() {
    for meanwhile in ["stopped", "deleted", "started"] {
        let log = Log::default();
        let (root, probe) = between_attempts(&log).await;
        let top = root.supervisor();
        top.terminate_child("a").await.unwrap();
        match meanwhile {
            "deleted" => assert!(top.delete_child("a").await.is_ok()),
            "started" => assert!(top.restart_child("a").await.is_ok()),
            _ => (),
        }
        log.take();
        tokio::time::advance(SOON).await;
        // Behind whatever became due, and behind what that sent.
        top.terminate_child("nobody").await.unwrap_err();
        top.terminate_child("nobody").await.unwrap_err();
        assert!(log.take().is_empty(), "{meanwhile}");
        match meanwhile {
            "deleted" => assert!(ids(top).is_empty()),
            "started" => assert_eq!(probe.ping().await, Ok(1)),
            _ => assert_eq!(status(top, "a"), ChildStatus::Stopped),
        }
        let counted = root.tree().nodes()[0].intensity.unwrap().in_window;
        assert_eq!(counted, 0, "{meanwhile}");
    }
}

proves!(a_retry_of_an_earlier_wait_is_not_taken_for_that_of_a_later_one, ["SUP-115"]);
async fn a_retry_of_an_earlier_wait_is_not_taken_for_that_of_a_later_one() {
    let log = Log::default();
    let (root, probe) = between_attempts(&log).await;
    let top = root.supervisor();
    top.terminate_child("a").await.unwrap();
    assert!(top.restart_child("a").await.is_ok());
    tokio::time::advance(Duration::from_secs(5)).await;
    probe.end(|| Message::Panic).await;
    until(|| status(top, "a") == ChildStatus::Restarting).await;
    log.take();
    // The first wait would be over by now.
    tokio::time::advance(Duration::from_secs(6)).await;
    top.terminate_child("nobody").await.unwrap_err();
    top.terminate_child("nobody").await.unwrap_err();
    assert_eq!(status(top, "a"), ChildStatus::Restarting);
    assert!(log.take().is_empty());
    assert_eq!(probe.answers().await, 1);
}

proves!(a_child_whose_retry_is_queued_is_not_deleted, ["SUP-110"]);
async fn a_child_whose_retry_is_queued_is_not_deleted() {
    let world = World::start(|spec| spec.intensity(u32::MAX, SOON)).await;
    world.probes[0].script(&[Start::Fails; 100_000]);
    world.probes[0].end(|| Message::Panic).await;
    until(|| world.incarnation("a") > 9).await;
    let refused = world.top().delete_child("a").await.unwrap_err();
    assert_eq!(refused, RequestError::Restarting("a".into()));
    world.probes[0].forget_script();
    assert_eq!(world.probes[0].answers().await, 1, "the restart comes all the same");
}

proves!(a_restart_is_immediate_unless_a_delay_is_asked_for_and_then_can_be_cancelled, ["SUP-120"]);
async fn a_restart_is_immediate_unless_a_delay_is_asked_for_and_then_can_be_cancelled() {
    let world = World::start(|spec| spec).await;
    let before = world.root.tree().clock().now();
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.probes[0].answers().await, 1);
    assert_eq!(world.root.tree().clock().now(), before, "no time has passed");

    for cancelled_by in ["terminate_child", "delete_child", "shutdown"] {
        let log = Log::default();
        let (root, probe) = between_attempts(&log).await;
        log.take();
        let before = root.tree().clock().now();
        match cancelled_by {
            "terminate_child" => root.supervisor().terminate_child("a").await.unwrap(),
            "delete_child" => root.supervisor().delete_child("a").await.unwrap(),
            _ => drop(root.shutdown().await),
        }
        assert_eq!(root.tree().clock().now(), before, "{cancelled_by} does not wait for it");
        assert_eq!(probe.ping().await, Err(CallError::NoProc), "{cancelled_by}");
        tokio::time::advance(SOON).await;
        // Behind whatever became due.
        drop(root.supervisor().terminate_child("nobody").await);
        drop(root.supervisor().terminate_child("nobody").await);
        assert!(log.take().is_empty(), "{cancelled_by}: nothing came back");
        let listed = usize::from(cancelled_by == "terminate_child");
        assert_eq!(ids(root.supervisor()).len(), listed, "{cancelled_by}");
    }
}
