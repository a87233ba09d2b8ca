//! SUP intensity: how many restarts are too many, and what giving up means.

use std::time::Duration;

use perennial_core::{ExitReason, Restart, Shutdown};
use perennial_supervision::{CallError, LifecycleEvent, Supervisor, SupervisorSpec};

use crate::{
    harness::proves,
    probe::{Cleanup, Log, Message, Probe, SOON, Start, World, ids, root, until},
};

async fn crash(probe: &Probe) {
    probe.end(|| Message::Panic).await;
    assert_eq!(probe.answers().await, 1);
}

proves!(the_restart_beyond_the_limit_ends_the_supervisor, ["SUP-121", "SUP-129"]);
async fn the_restart_beyond_the_limit_ends_the_supervisor() {
    let world = World::start(|spec| spec.intensity(3, Duration::from_secs(5))).await;
    for _ in 0..3 {
        crash(&world.probes[1]).await;
    }
    world.probes[1].end(|| Message::Panic).await;
    assert_eq!(world.root.ended().await, ExitReason::Shutdown);
    for probe in &world.probes {
        assert_eq!(probe.settled().await, Err(CallError::NoProc));
    }
}

proves!(an_intensity_of_zero_means_none, ["SUP-122"]);
async fn an_intensity_of_zero_means_none() {
    let world = World::start(|spec| spec.intensity(0, SOON)).await;
    world.log.take();
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.root.ended().await, ExitReason::Shutdown);
    assert!(!world.log.take().iter().any(|line| line == "a started"));
    assert_eq!(world.probes[0].settled().await, Err(CallError::NoProc));
}

proves!(restarts_outside_the_window_are_forgotten, ["SUP-123"]);
async fn restarts_outside_the_window_are_forgotten() {
    let world = World::start(|spec| spec.intensity(1, Duration::from_secs(5))).await;
    for _ in 0..9 {
        crash(&world.probes[0]).await;
        tokio::time::advance(Duration::from_millis(5_001)).await;
    }
    assert_eq!((world.incarnation("a"), world.counted()), (10, 0));
}

proves!(the_window_slides_and_includes_its_boundary, ["SUP-124"]);
async fn the_window_slides_and_includes_its_boundary() {
    for (last, gives_up) in [(5_000, true), (5_001, false)] {
        let world = World::start(|spec| spec.intensity(2, Duration::from_secs(5))).await;
        crash(&world.probes[0]).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        crash(&world.probes[0]).await;
        tokio::time::advance(Duration::from_millis(last - 1_000)).await;
        world.probes[0].end(|| Message::Panic).await;
        if gives_up {
            assert_eq!(world.root.ended().await, ExitReason::Shutdown);
            continue;
        }
        assert_eq!(world.probes[0].answers().await, 1, "only the first one is forgotten");
        assert_eq!(world.counted(), 2);
        // The second one is five seconds old: no bucket began anew.
        tokio::time::advance(Duration::from_millis(999)).await;
        world.probes[0].end(|| Message::Panic).await;
        assert_eq!(world.root.ended().await, ExitReason::Shutdown);
    }
}

proves!(all_children_share_one_count, ["SUP-125"]);
async fn all_children_share_one_count() {
    let world = World::start(|spec| spec.intensity(3, SOON)).await;
    for probe in &world.probes {
        crash(probe).await;
    }
    assert_eq!(world.counted(), 3);
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.root.ended().await, ExitReason::Shutdown);
}

proves!(only_automatic_restarts_count, ["SUP-126"]);
async fn only_automatic_restarts_count() {
    let restarts = [Restart::Permanent, Restart::Transient, Restart::Temporary];
    let world = World::start_with(&restarts, |spec| spec.intensity(1, SOON)).await.unwrap();
    let top = world.top();
    let (fails, probe) = Probe::new("fails", &world.log);
    probe.script(&[Start::Fails]);
    top.start_child(fails).await.unwrap_err();
    top.terminate_child("a").await.unwrap();
    world.probes[0].script(&[Start::Fails]);
    top.restart_child("a").await.unwrap_err();
    top.restart_child("a").await.unwrap();
    world.probes[1].end(|| Message::StopSelf).await;
    world.probes[2].end(|| Message::Panic).await;
    assert_eq!(world.probes[1].settled().await, Err(CallError::NoProc));
    assert_eq!(world.probes[2].settled().await, Err(CallError::NoProc));
    assert_eq!(world.counted(), 0);
    crash(&world.probes[0]).await;
    assert_eq!(world.counted(), 1, "the first that counts");
}

proves!(the_history_of_a_deleted_child_stays, ["SUP-127"]);
async fn the_history_of_a_deleted_child_stays() {
    let world = World::start(|spec| spec.intensity(1, SOON)).await;
    crash(&world.probes[0]).await;
    world.top().terminate_child("a").await.unwrap();
    world.top().delete_child("a").await.unwrap();
    let (again, probe) = Probe::new("a", &world.log);
    world.top().start_child(again).await.unwrap();
    assert_eq!(world.counted(), 1);
    probe.end(|| Message::Panic).await;
    assert_eq!(world.root.ended().await, ExitReason::Shutdown);
}

proves!(giving_up_stops_the_rest_in_order_as_each_wishes, ["SUP-128"]);
async fn giving_up_stops_the_rest_in_order_as_each_wishes() {
    let log = Log::default();
    let (a, _) = Probe::new("a", &log);
    let (b, _) = Probe::with_cleanup("b", &log, Cleanup::Hangs);
    let (c, bad) = Probe::new("c", &log);
    let (d, _) = Probe::new("d", &log);
    let spec = SupervisorSpec::new("top")
        .intensity(0, SOON)
        .child(a)
        .child(b.shutdown(Shutdown::Timeout(Duration::from_secs(2))))
        .child(c)
        .child(d.shutdown(Shutdown::BrutalKill));
    let root = root(spec).await;
    log.take();
    let before = root.tree().clock().now();
    bad.end(|| Message::Panic).await;
    root.ended().await;
    assert_eq!(
        log.take()[2..],
        ["d dropped", "b cleaned", "b dropped", "a cleaned", "a dropped"],
        "d is killed, b is given its time"
    );
    assert_eq!(root.tree().clock().now().since(before), Duration::from_secs(2));
}

proves!(who_gave_up_is_restarted_by_its_own_policy, ["SUP-130", "SUP-132"]);
async fn who_gave_up_is_restarted_by_its_own_policy() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        let (leaf, probe) = Probe::new("leaf", &Log::default());
        let inner = SupervisorSpec::new("inner").intensity(1, SOON).restart(restart).child(leaf);
        let (inner, _) = Supervisor::child_spec(inner);
        let root = root(SupervisorSpec::new("top").child(inner)).await;
        let mut lifecycle = root.tree().lifecycle();
        crash(&probe).await;
        probe.end(|| Message::Panic).await;
        loop {
            let event = lifecycle.next().await.unwrap();
            if let LifecycleEvent::Exited { reason, .. } = event.event
                && event.path == "/top/inner"
            {
                assert_eq!(reason, ExitReason::Shutdown);
                break;
            }
        }
        match restart {
            Restart::Permanent => {
                assert_eq!(probe.answers().await, 1);
                let inner = || root.tree().nodes()[1].clone();
                assert_eq!(inner().incarnation, 2);
                assert_eq!(inner().intensity.unwrap().in_window, 0, "it begins anew");
                crash(&probe).await;
                assert_eq!(inner().incarnation, 2);
            }
            Restart::Transient => {
                assert_eq!(probe.settled().await, Err(CallError::NoProc));
                assert_eq!(ids(root.supervisor()), ["inner"]);
                assert_eq!(root.supervisor().count_children().unwrap().active, 0);
            }
            Restart::Temporary => {
                until(|| ids(root.supervisor()).is_empty()).await;
                assert_eq!(probe.settled().await, Err(CallError::NoProc));
            }
        }
    }
}
