//! SUP ignore: children whose init answers that they need not run.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use perennial_core::{ExitReason, Restart, Strategy};
use perennial_supervision::{ChildSpec, ChildStatus, Ignore, LifecycleEvent, SupervisorSpec};

use crate::{
    fixture::{child, idle, ignores, told},
    harness::proves,
    probe::{Log, Message, Probe, ids, root, status},
};

proves!(a_child_that_need_not_run_is_kept_without_a_process, ["SUP-014"]);
async fn a_child_that_need_not_run_is_kept_without_a_process() {
    for restart in [Restart::Permanent, Restart::Transient] {
        let (a, probe) = Probe::new("a", &Log::default());
        let spec = SupervisorSpec::new("top").child(ignores("x").restart(restart)).child(a);
        let root = root(spec).await;
        assert_eq!(probe.ping().await, Ok(1), "the start goes on");
        let top = root.supervisor();
        assert_eq!(ids(top), ["a", "x"]);
        let counts = top.count_children().unwrap();
        assert_eq!((counts.specs, counts.active), (2, 1), "{restart:?}");
        let start = top.start_child(ignores("y").restart(restart)).await.unwrap();
        assert_eq!(start.process, None);
        for id in ["x", "y"] {
            let child = top.which_child(id).unwrap();
            assert_eq!((child.status, child.process), (ChildStatus::Stopped, None));
        }
        let counts = top.count_children().unwrap();
        assert_eq!((counts.specs, counts.active), (3, 1), "{restart:?}");
    }
}

proves!(a_temporary_child_that_need_not_run_is_dropped, ["SUP-015", "SUP-016"]);
async fn a_temporary_child_that_need_not_run_is_dropped() {
    let temporary = |id| ignores(id).restart(Restart::Temporary);
    let (a, probe) = Probe::new("a", &Log::default());
    let root = root(SupervisorSpec::new("top").child(temporary("x")).child(a)).await;
    let top = root.supervisor();
    assert_eq!((ids(top), probe.ping().await), (vec!["a".to_owned()], Ok(1)));
    for _ in 0..2 {
        let start = top.start_child(temporary("x")).await.unwrap();
        assert_eq!(start.process, None);
        assert_eq!(ids(top), ["a"]);
        let counts = top.count_children().unwrap();
        assert_eq!((counts.specs, counts.active), (1, 1));
        assert!(top.get_child_spec("x").await.is_err());
    }
}

/// A child whose init says that it was called, and answers ignore while it is told to.
fn sleeper(log: &Log) -> (ChildSpec, Arc<AtomicBool>) {
    let asleep = Arc::new(AtomicBool::new(true));
    let (log, told) = (log.clone(), asleep.clone());
    let spec = child("sleeper", move || {
        log.add("sleeper asked");
        let asleep = told.load(Ordering::SeqCst);
        async move { if asleep { Err(Ignore.into()) } else { Ok(()) } }
    });
    (spec, asleep)
}

proves!(a_restart_of_the_group_asks_again_who_did_not_run, ["SUP-090"]);
async fn a_restart_of_the_group_asks_again_who_did_not_run() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let log = Log::default();
        let (a, probe) = Probe::new("a", &log);
        let (sleeper, asleep) = sleeper(&log);
        let spec = SupervisorSpec::new("top").strategy(strategy).child(a).child(sleeper);
        let root = root(spec).await;
        let top = root.supervisor();
        assert_eq!(log.take(), ["a started", "sleeper asked"]);
        for wakes in [false, true] {
            asleep.store(!wakes, Ordering::SeqCst);
            probe.end(|| Message::Panic).await;
            assert_eq!(probe.answers().await, 1);
            idle().await;
            assert_eq!(log.take(), ["a cleaned", "a dropped", "a started", "sleeper asked"]);
            let expected = if wakes { ChildStatus::Running } else { ChildStatus::Stopped };
            assert_eq!(status(top, "sleeper"), expected, "{strategy:?}");
        }
    }
}

/// A child whose first init works, and later ones answer ignore. Its name in the log is its id.
fn once(id: &'static str, log: &Log) -> ChildSpec {
    let (log, ran) = (log.clone(), Arc::new(AtomicBool::new(false)));
    child(id, move || {
        log.add(format!("{id} asked"));
        let ran = ran.swap(true, Ordering::SeqCst);
        async move { if ran { Err(Ignore.into()) } else { Ok(()) } }
    })
}

proves!(a_restart_that_need_not_run_leaves_the_child_listed, ["SUP-117"]);
async fn a_restart_that_need_not_run_leaves_the_child_listed() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let log = Log::default();
        let (a, probe) = Probe::new("a", &log);
        let spec = SupervisorSpec::new("top").strategy(strategy);
        let spec = spec.child(once("first", &log)).child(once("second", &log)).child(a);
        let root = root(spec).await;
        let top = root.supervisor();
        assert_eq!(probe.ping().await, Ok(1));
        log.take();
        let mut lifecycle = root.tree().lifecycle();
        root.tree().crash("/top/first").unwrap().exit().await;
        idle().await;
        let lines = log.take();
        assert_eq!(status(top, "first"), ChildStatus::Stopped);
        assert_eq!(top.which_child("first").unwrap().process, None);
        let asked: Vec<&String> = lines.iter().filter(|line| line.ends_with("asked")).collect();
        if strategy == Strategy::OneForOne {
            assert_eq!(asked, ["first asked"]);
            assert_eq!(status(top, "second"), ChildStatus::Running);
        } else {
            assert_eq!(asked, ["first asked", "second asked"]);
            assert_eq!(status(top, "second"), ChildStatus::Stopped);
            assert_eq!(lines.last().map(String::as_str), Some("a started"), "the rest of it runs");
        }
        assert_eq!(ids(top), ["a", "first", "second"]);
        assert_eq!(root.tree().nodes()[0].intensity.unwrap().in_window, 1, "the crash only");
        for event in told(&mut lifecycle) {
            use LifecycleEvent::{GaveUp, StartError, StartFailed};
            let error =
                matches!(event.event, StartFailed { .. } | StartError { .. } | GaveUp { .. });
            assert!(!error, "{strategy:?}: {event:?}");
        }
        assert!(root.tree().nodes().iter().skip(1).all(|node| {
            let reason = node.last_exit.as_ref().map(|exit| exit.reason.as_str());
            matches!(reason, None | Some("panic" | "shutdown"))
        }));
    }
}

proves!(a_restart_by_hand_that_need_not_run_has_no_process, ["SUP-197"]);
async fn a_restart_by_hand_that_need_not_run_has_no_process() {
    for restart in [Restart::Permanent, Restart::Transient] {
        let log = Log::default();
        let spec = SupervisorSpec::new("top").child(once("x", &log).restart(restart));
        let root = root(spec).await;
        let top = root.supervisor();
        top.terminate_child("x").await.unwrap();
        for _ in 0..2 {
            log.take();
            let start = top.restart_child("x").await.unwrap();
            assert_eq!((start.process, start.extra.is_none()), (None, true));
            assert_eq!(log.take(), ["x asked"]);
            assert_eq!(status(top, "x"), ChildStatus::Stopped);
        }
        assert_eq!(root.shutdown().await.reason, ExitReason::Shutdown);
    }
}
