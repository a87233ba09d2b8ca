//! DYN restarts: who comes back, and what that does to places and siblings.

use std::time::Duration;

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    CallError, ChildStatus, DynamicSupervisorSpec, LifecycleEvent, RequestError,
};

use crate::{
    dyn_children::{start, start_with},
    harness::proves,
    probe::{Log, Message, Probe, SOON, Start, until},
};

proves!(every_policy_meets_every_reason, ["DYN-025", "DYN-026", "DYN-027"]);
async fn every_policy_meets_every_reason() {
    type Way = (&'static str, Option<fn() -> Message>, bool);
    let ways: [Way; 6] = [
        ("normal", Some(|| Message::StopSelf), false),
        ("shutdown", Some(|| Message::Exit(ExitReason::Shutdown)), false),
        ("shutdown_with", Some(|| Message::Exit(ExitReason::ShutdownWith("x".into()))), false),
        ("panic", Some(|| Message::Panic), true),
        ("error", Some(|| Message::Fail), true),
        ("killed", None, true),
    ];
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for (name, message, abnormal) in ways {
            let (root, dynamic) = start(9).await;
            let (spec, probe) = Probe::new("x", &Log::default());
            let child = dynamic.start_child(spec.restart(restart)).await.unwrap();
            match message {
                Some(message) => drop(probe.end(message).await),
                None => drop(root.tree().kill("/top/dyn/x").unwrap().exit().await),
            }
            assert_eq!(child.first_exit().await.name(), name);
            let comes_back = match restart {
                Restart::Permanent => true,
                Restart::Transient => abnormal,
                Restart::Temporary => false,
            };
            if comes_back {
                assert_eq!(probe.answers().await, 1, "{restart:?} {name}");
                assert_eq!(dynamic.count_children().unwrap().active, 1);
            } else {
                let gone = probe.settled().await;
                assert_eq!(gone, Err(CallError::NoProc), "{restart:?} {name}");
                assert_eq!(dynamic.which_children().unwrap(), []);
            }
        }
    }
}

proves!(a_restarting_child_holds_its_one_place, ["DYN-022", "DYN-023", "DYN-024"]);
async fn a_restarting_child_holds_its_one_place() {
    let (root, dynamic) = start(2).await;
    let log = Log::default();
    let (spec, probe) = Probe::new("x", &log);
    let child = dynamic.start_child(spec.restart_delay(Duration::from_secs(10))).await.unwrap();
    dynamic.start_child(Probe::new("y", &log).0).await.unwrap();
    let full = async || {
        let refused = dynamic.start_child(Probe::new("z", &log).0).await.unwrap_err();
        assert_eq!(refused, RequestError::MaxChildren(2));
    };
    full().await;
    // A restart that fails, and waits for the next.
    probe.script(&[Start::Fails]);
    probe.end(|| Message::Panic).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    until(|| root.tree().nodes()[2].incarnation == 2).await;
    until(|| dynamic.which_children().unwrap()[0].status == ChildStatus::Restarting).await;
    full().await;
    assert_eq!(probe.answers().await, 1, "the restart needs no place");
    full().await;
    assert_eq!(dynamic.count_children().unwrap().active, 2);
    assert_eq!(root.tree().nodes()[1].incarnation, 1, "the supervisor lives on");
    dynamic.terminate_child(&child).await.unwrap();
    dynamic.start_child(Probe::new("z", &log).0).await.unwrap();
    full().await;
}

proves!(a_failed_restart_is_retried_until_it_works, ["DYN-030"]);
async fn a_failed_restart_is_retried_until_it_works() {
    let spec = DynamicSupervisorSpec::new("dyn", 9).intensity(4, SOON);
    let (root, dynamic) = start_with(spec).await;
    let (spec, probe) = Probe::new("x", &Log::default());
    dynamic.start_child(spec).await.unwrap();
    probe.script(&[Start::Fails, Start::Panics, Start::Fails]);
    probe.end(|| Message::Panic).await;
    assert_eq!(probe.answers().await, 1);
    assert_eq!(dynamic.count_children().unwrap().active, 1);
    assert_eq!(root.tree().nodes()[1].intensity.unwrap().in_window, 4);

    // Between two attempts others have their turn.
    let spec = DynamicSupervisorSpec::new("dyn", 9).intensity(100_000, SOON);
    let (root, dynamic) = start_with(spec).await;
    let (spec, probe) = Probe::new("x", &Log::default());
    let child = dynamic.start_child(spec).await.unwrap();
    probe.script(&[Start::Fails; 99_000]);
    probe.end(|| Message::Panic).await;
    until(|| root.tree().nodes()[2].incarnation > 9).await;
    dynamic.terminate_child(&child).await.unwrap();
    assert_eq!(root.tree().nodes()[1].incarnation, 1);
}

proves!(too_many_restarts_end_the_supervisor_with_shutdown, ["DYN-031"]);
async fn too_many_restarts_end_the_supervisor_with_shutdown() {
    for failing_retries in [false, true] {
        let spec = DynamicSupervisorSpec::new("dyn", 9).intensity(2, SOON);
        let (root, dynamic) = start_with(spec).await;
        let mut lifecycle = root.tree().lifecycle();
        let (spec, probe) = Probe::new("x", &Log::default());
        dynamic.start_child(spec).await.unwrap();
        if failing_retries {
            probe.script(&[Start::Fails; 9]);
        } else {
            for _ in 0..2 {
                probe.end(|| Message::Panic).await;
                assert_eq!(probe.answers().await, 1);
            }
        }
        probe.end(|| Message::Panic).await;
        let reason = loop {
            let event = lifecycle.next().await.unwrap();
            if let LifecycleEvent::Exited { reason, .. } = event.event
                && event.path == "/top/dyn"
            {
                break reason;
            }
        };
        assert_eq!(reason, ExitReason::Shutdown);
    }
}

proves!(a_restart_leaves_the_siblings_alone, ["DYN-033"]);
async fn a_restart_leaves_the_siblings_alone() {
    let (root, dynamic) = start(9).await;
    let log = Log::default();
    let mut probes = Vec::new();
    for name in ["x", "y", "z"] {
        let (spec, probe) = Probe::new(name, &log);
        dynamic.start_child(spec).await.unwrap();
        assert_eq!(probe.ping().await, Ok(1));
        probes.push(probe);
    }
    log.take();
    probes[1].end(|| Message::Panic).await;
    assert_eq!(probes[1].answers().await, 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!((probes[0].ping().await, probes[2].ping().await), (Ok(2), Ok(2)));
    let lives: Vec<u64> = root.tree().nodes()[2..].iter().map(|node| node.incarnation).collect();
    assert_eq!(lives, [1, 2, 1]);
    assert_eq!(log.take(), ["y cleaned", "y dropped", "y started"]);
}
