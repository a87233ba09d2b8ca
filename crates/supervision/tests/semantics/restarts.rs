//! Semantics 2, 5–7, 12, 13: who restarts, how often, and when the supervisor gives up.

use std::time::Duration;

use perennial_core::{
    ExitReason, Restart,
    tree::{NodeState, Restarts},
};
use perennial_supervision::{CallError, LifecycleEvent, Supervisor, SupervisorSpec};

use crate::probe::{Log, Message, Probe, SOON, Start, World, root};

#[tokio::test(start_paused = true)]
async fn every_policy_meets_every_reason() {
    type Way = (&'static str, fn() -> Message, bool);
    let reasons: [Way; 6] = [
        ("normal", || Message::StopSelf, false),
        ("shutdown", || Message::Exit(ExitReason::Shutdown), false),
        ("shutdown_with", || Message::Exit(ExitReason::ShutdownWith("x".into())), false),
        ("killed", || Message::Exit(ExitReason::Killed), true),
        ("panic", || Message::Panic, true),
        ("error", || Message::Fail, true),
    ];
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for (name, message, abnormal) in reasons {
            let world = World::start_with(&[restart], |spec| spec).await.unwrap();
            let ended = world.probes[0].end(message).await;
            assert_eq!(ended.name(), name);
            let comes_back = match restart {
                Restart::Permanent => true,
                Restart::Transient => abnormal,
                Restart::Temporary => false,
            };
            if comes_back {
                assert_eq!(world.probes[0].answers().await, 1, "{restart:?} {name}");
                assert_eq!(world.node("/top/a").restarts, Restarts { total: 1, in_window: 1 });
            } else {
                let gone = loop {
                    match world.probes[0].ping().await {
                        Err(CallError::Exited(_)) => (),
                        other => break other,
                    }
                };
                assert_eq!(gone, Err(CallError::NoProc), "{restart:?} {name}");
                let specified = usize::from(restart != Restart::Temporary);
                assert_eq!(world.root.supervisor().which_children().len(), specified);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replacement_starts_only_after_the_old_state_is_dropped() {
    let world = World::start_with(&[Restart::Permanent], |spec| spec).await.unwrap();
    world.probes[0].end(|| Message::Panic).await;
    world.probes[0].answers().await;
    assert_eq!(world.log.take(), ["a started", "a cleaned", "a dropped", "a started"]);
}

#[tokio::test(start_paused = true)]
async fn the_fourth_restart_in_five_seconds_ends_the_supervisor_in_order_with_shutdown() {
    let world = World::start(|spec| spec).await;
    for _ in 0..3 {
        world.probes[1].end(|| Message::Panic).await;
        world.probes[1].answers().await;
    }
    world.log.take();
    world.probes[1].end(|| Message::Panic).await;
    assert_eq!(world.root.ended().await, ExitReason::Shutdown);
    let lines = world.log.take();
    let cleaned: Vec<&String> = lines.iter().filter(|line| line.ends_with("cleaned")).collect();
    assert_eq!(cleaned, ["b cleaned", "c cleaned", "a cleaned"], "reverse order after the crash");
    assert_eq!(world.probes[0].ping().await, Err(CallError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn restarts_outside_the_window_are_forgotten() {
    let world = World::start(|spec| spec.intensity(1, Duration::from_secs(5))).await;
    for _ in 0..4 {
        world.probes[0].end(|| Message::Panic).await;
        world.probes[0].answers().await;
        tokio::time::advance(Duration::from_millis(5_001)).await;
    }
    assert_eq!(world.node("/top/a").restarts, Restarts { total: 4, in_window: 0 });
}

#[tokio::test(start_paused = true)]
async fn an_intensity_of_zero_means_none() {
    let world = World::start(|spec| spec.intensity(0, SOON)).await;
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.root.ended().await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_fails_is_retried_and_every_try_counts() {
    let world = World::start(|spec| spec.intensity(5, SOON)).await;
    world.probes[0].script(&[Start::Fails, Start::Panics, Start::Fails]);
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.probes[0].answers().await, 1);
    assert_eq!(world.node("/top").intensity.unwrap().in_window, 4);

    world.probes[0].script(&[Start::Fails; 9]);
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.root.ended().await, ExitReason::Shutdown, "the sixth gives up");
}

#[tokio::test(start_paused = true)]
async fn terminating_a_child_that_waits_for_its_restart_cancels_it_for_good() {
    let log = Log::default();
    let (a, probe) = Probe::new("a", &log);
    let spec = SupervisorSpec::new("top").child(a.restart_delay(Duration::from_secs(10)));
    let root = root(spec).await;
    probe.end(|| Message::Panic).await;
    while root.tree().nodes()[1].state != NodeState::BackingOff {
        tokio::task::yield_now().await;
    }
    assert_eq!(root.supervisor().terminate_child("a").await, Ok(()));
    assert_eq!(probe.ping().await, Err(CallError::NoProc));
    tokio::time::advance(SOON).await;
    assert_eq!(probe.ping().await, Err(CallError::NoProc));
    assert_eq!(log.take(), ["a started", "a cleaned", "a dropped"]);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_restart_comes_after_its_delay_and_callers_wait_for_it() {
    let (a, probe) = Probe::new("a", &Log::default());
    let spec = SupervisorSpec::new("top").child(a.restart_delay(Duration::from_secs(10)));
    let root = root(spec).await;
    probe.end(|| Message::Panic).await;
    let before = root.tree().clock().now();
    assert_eq!(probe.answers().await, 1);
    assert_eq!(root.tree().clock().now().since(before), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_transient_supervisor_that_gave_up_stays_down_and_a_permanent_one_comes_back() {
    for (restart, comes_back) in [(Restart::Transient, false), (Restart::Permanent, true)] {
        let (leaf, probe) = Probe::new("leaf", &Log::default());
        let inner = SupervisorSpec::new("inner").intensity(0, SOON).restart(restart).child(leaf);
        let (inner, _) = Supervisor::child_spec(inner);
        let root = root(SupervisorSpec::new("top").child(inner)).await;
        let mut lifecycle = root.tree().lifecycle();
        probe.end(|| Message::Panic).await;
        loop {
            let event = lifecycle.next().await.unwrap();
            if event.path == "/top/inner" && matches!(event.event, LifecycleEvent::Exited { .. }) {
                break;
            }
        }
        if comes_back {
            assert_eq!(probe.answers().await, 1);
        } else {
            while root.tree().nodes()[1].state != NodeState::GaveUp {
                tokio::task::yield_now().await;
            }
            let gone = loop {
                match probe.ping().await {
                    Err(CallError::Exited(_)) => (),
                    other => break other,
                }
            };
            assert_eq!(gone, Err(CallError::NoProc));
        }
    }
}
