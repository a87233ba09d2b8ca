//! SUP names: who has a name, from when, and until when.

use std::sync::{Arc, Mutex};

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    ChildSpec, LifecycleEvent, Name, Names, RequestError, Root, Supervisor, SupervisorSpec,
};

use crate::{
    fixture::{Gate, child, start_error, told},
    harness::proves,
    probe::{Log, Message, Probe, SOON, Start, root, until},
};

fn name() -> Name {
    "the name".into()
}

/// A supervisor of one probe under the name.
fn named(id: &str, log: &Log) -> (ChildSpec, Supervisor, Probe) {
    let (child, probe) = Probe::new(&format!("child of {id}"), log);
    let (spec, handle) = Supervisor::child_spec(SupervisorSpec::new(id).child(child));
    (spec.name(name()), handle, probe)
}

proves!(a_name_that_is_taken_starts_no_second_supervisor, ["SUP-020"]);
async fn a_name_that_is_taken_starts_no_second_supervisor() {
    let log = Log::default();
    let (first, _, probe) = named("first", &log);
    let root = root(SupervisorSpec::new("top").child(first)).await;
    let existing = root.names().whereis(name()).unwrap();
    assert_eq!(existing.path(), "/top/first");
    log.take();
    let (second, _, _) = named("second", &log);
    let refused = root.supervisor().start_child(second).await.unwrap_err();
    assert_eq!(refused, RequestError::AlreadyStarted(existing.clone()));
    assert!(log.take().is_empty(), "no child of the second was started");
    assert_eq!(root.names().whereis(name()), Some(existing.clone()));
    assert!(existing.is_alive());
    assert_eq!(probe.ping().await, Ok(1));
    assert_eq!(root.tree().nodes()[1].incarnation, 1);
}

proves!(a_name_is_free_once_its_supervisor_is_seen_to_be_gone, ["SUP-021"]);
async fn a_name_is_free_once_its_supervisor_is_seen_to_be_gone() {
    for how in ["terminate", "stop"] {
        let log = Log::default();
        let root = root(SupervisorSpec::new("top")).await;
        for life in 0..3 {
            let (spec, handle, probe) = named(&format!("life {life}"), &log);
            let spec = spec.restart(Restart::Temporary);
            let start = root.supervisor().start_child(spec).await.unwrap();
            assert_eq!(root.names().whereis(name()), start.process);
            assert_eq!(probe.ping().await, Ok(1));
            match how {
                "stop" => handle.stop(SOON).await.unwrap(),
                _ => root.supervisor().terminate_child(format!("life {life}")).await.unwrap(),
            }
            assert_eq!(root.names().whereis(name()), None);
        }
    }
}

// Real time: with several threads a name that is freed behind the announcement is seen to be taken.
proves!(a_name_is_free_once_its_process_is_seen_to_be_gone, real_time, ["SUP-021"]);
async fn a_name_is_free_once_its_process_is_seen_to_be_gone() {
    let log = Log::default();
    let root = root(SupervisorSpec::new("top")).await;
    for life in 0..200 {
        let (spec, handle, _) = named(&format!("life {life}"), &log);
        root.supervisor().start_child(spec.restart(Restart::Temporary)).await.unwrap();
        handle.stop(SOON).await.unwrap();
    }
}

proves!(a_failed_start_has_freed_its_name_when_it_is_told, ["SUP-022"]);
async fn a_failed_start_has_freed_its_name_when_it_is_told() {
    let log = Log::default();
    let root = root(SupervisorSpec::new("top")).await;
    let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
    // What an init sees of its own name.
    let look = |names: Names| {
        let seen = seen.clone();
        move || {
            seen.lock().unwrap().push(names.whereis(name()).is_some());
            async { Err("fails".into()) }
        }
    };
    let worker = child("worker", look(root.names().clone())).name(name());
    let below = child("below", look(root.names().clone()));
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(below));
    let errs = Supervisor::child_spec_with_init("errs", || Err("errs".into())).0;
    let hangs = Probe::new("hangs", &log);
    hangs.1.script(&[Start::Hangs]);
    let panics = Probe::new("panics", &log);
    panics.1.script(&[Start::Panics]);
    let held = Gate::new();
    let (late, _) = Supervisor::child_spec(SupervisorSpec::new("late").child(held.child("held")));
    for spec in [
        worker,
        inner.name(name()),
        errs.name(name()),
        hangs.0.name(name()),
        panics.0.name(name()),
        late.start_within(SOON).name(name()),
    ] {
        let id = spec.id().to_string();
        start_error(root.supervisor().start_child(spec).await.unwrap_err());
        assert_eq!(root.names().whereis(name()), None, "{id}");
        let (next, probe) = Probe::new("next", &log);
        root.supervisor().start_child(next.name(name())).await.unwrap();
        assert_eq!(probe.ping().await, Ok(1), "{id}");
        root.supervisor().terminate_child("next").await.unwrap();
        root.supervisor().delete_child("next").await.unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), [true, true], "they had it");
}

proves!(a_child_with_a_name_can_be_crashed_many_times, ["SUP-076"]);
async fn a_child_with_a_name_can_be_crashed_many_times() {
    let log = Log::default();
    let (a, probe) = Probe::new("a", &log);
    let (below, inner) = Probe::new("b", &log);
    let (sub, _) = Supervisor::child_spec(SupervisorSpec::new("sub").child(below));
    let spec = SupervisorSpec::new("top").intensity(1000, SOON);
    let root = root(spec.child(a.name(name())).child(sub.name("sub"))).await;
    let mut lifecycle = root.tree().lifecycle();
    let ends: [fn() -> Message; 3] = [|| Message::Panic, || Message::Fail, || Message::StopSelf];
    for life in 1..=50 {
        let before = root.names().whereis(name()).unwrap();
        probe.end(ends[life % 3]).await;
        probe.answers().await;
        let after = root.names().whereis(name()).unwrap();
        assert_ne!(before, after);
        root.tree().kill("/top/sub").unwrap().exit().await;
        inner.answers().await;
        assert_eq!(root.names().whereis("sub").unwrap().path(), "/top/sub");
        for event in told(&mut lifecycle) {
            assert!(!matches!(event.event, LifecycleEvent::StartFailed { .. }), "{event:?}");
        }
    }
    assert_eq!(root.tree().nodes()[1].incarnation, 51);
}

proves!(a_name_of_somebody_else_is_answered_and_nobody_adopted, ["SUP-183"]);
async fn a_name_of_somebody_else_is_answered_and_nobody_adopted() {
    let log = Log::default();
    let (outsider, other) = Probe::new("outsider", &log);
    let (elsewhere, _) =
        Supervisor::child_spec(SupervisorSpec::new("elsewhere").child(outsider.name(name())));
    let (inner, handle) = Supervisor::child_spec(SupervisorSpec::new("inner"));
    let root: Root = root(SupervisorSpec::new("top").child(elsewhere).child(inner)).await;
    let holder = root.names().whereis(name()).unwrap();
    log.take();
    let (own, _) = Probe::new("own", &log);
    let refused = handle.start_child(own.clone().name(name())).await.unwrap_err();
    assert_eq!(refused, RequestError::AlreadyStarted(holder.clone()));
    assert!(handle.which_children().unwrap().is_empty(), "not adopted, and nothing is kept");
    assert!(log.take().is_empty());
    handle.stop(SOON).await.unwrap();
    until(|| handle.which_child("x").is_err_and(|why| why != RequestError::NoProc)).await;
    assert!(holder.is_alive(), "the end of the supervisor is none of its business");
    assert_eq!(other.ping().await, Ok(1));
    other.end(|| Message::Exit(ExitReason::Killed)).await;
    assert_eq!(other.answers().await, 1, "its own supervisor brings it back");
}
