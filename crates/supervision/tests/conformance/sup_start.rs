//! SUP start: synchronous, sequential, all or nothing.

use std::time::Duration;

use perennial_core::{ExitReason, Restart, Shutdown};
use perennial_supervision::{
    CallError, ChildSpec, ChildStatus, Clock, Options, RequestError, Root, StartFault, Supervisor,
    SupervisorSpec,
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

use crate::{
    harness::proves,
    probe::{Cleanup, Log, Message, Probe, SOON, Start, World, root},
};

proves!(a_start_returns_when_every_child_runs, ["SUP-001"]);
async fn a_start_returns_when_every_child_runs() {
    let world = World::start(|spec| spec).await;
    assert_eq!(world.log.take(), ["a started", "b started", "c started"]);
    let counts = world.root.supervisor().count_children().unwrap();
    assert_eq!((counts.specs, counts.active), (3, 3));
    let children = world.root.supervisor().which_children().unwrap();
    assert!(children.iter().all(|child| child.status == ChildStatus::Running), "{children:?}");
    for probe in &world.probes {
        assert_eq!(probe.ping().await, Ok(1));
    }
}

proves!(a_supervisor_without_children_lives_and_stops_at_once, ["SUP-003", "SUP-159"]);
async fn a_supervisor_without_children_lives_and_stops_at_once() {
    let root = root(SupervisorSpec::new("empty")).await;
    tokio::time::advance(SOON).await;
    let (spec, probe) = Probe::new("a", &Log::default());
    root.supervisor().start_child(spec).await.unwrap();
    assert_eq!(probe.ping().await, Ok(1), "it is alive");
    root.supervisor().terminate_child("a").await.unwrap();
    root.supervisor().delete_child("a").await.unwrap();
    let report = root.shutdown().await;
    assert_eq!((report.reason, report.took), (ExitReason::Shutdown, Duration::ZERO));
}

proves!(a_supervisor_without_children_ends_for_the_reason_it_is_given, ["SUP-159"]);
async fn a_supervisor_without_children_ends_for_the_reason_it_is_given() {
    let root = root(SupervisorSpec::new("top")).await;
    let start = async |spec: ChildSpec| {
        let spec = spec.restart(Restart::Temporary);
        root.supervisor().start_child(spec).await.unwrap().process.unwrap()
    };
    for reason in [
        ExitReason::Normal,
        ExitReason::ShutdownWith("detail".into()),
        ExitReason::Error("text".into()),
    ] {
        let (starter, probe) = Probe::new("starter", &Log::default());
        let starter = start(starter).await;
        let (empty, _) = Supervisor::child_spec(SupervisorSpec::new("empty"));
        let empty = start(empty.linked_to(starter)).await;
        let mut down = empty.monitor();
        let before = root.tree().clock().now();
        let given = reason.clone();
        assert_eq!(probe.end(|| Message::Exit(given)).await, reason);
        assert_eq!(down.down().await, reason);
        assert_eq!(root.tree().clock().now(), before, "at once");
    }
}

proves!(a_failed_start_is_not_retried_and_counts_nothing, ["SUP-009"]);
async fn a_failed_start_is_not_retried_and_counts_nothing() {
    let log = Log::default();
    let root = root(SupervisorSpec::new("top").intensity(1, SOON)).await;
    for how in [Start::Fails, Start::Panics, Start::Hangs] {
        let (a, first) = Probe::new("a", &log);
        let (b, second) = Probe::new("b", &log);
        second.script(&[how]);
        let (inner, handle) =
            Supervisor::child_spec(SupervisorSpec::new("inner").child(a).child(b));
        let refused = root.supervisor().start_child(inner).await.unwrap_err();
        assert!(matches!(refused, RequestError::StartFailed(_)), "{refused:?}");
        tokio::time::advance(SOON).await;
        assert_eq!(log.take(), ["a started", "a cleaned", "a dropped"], "{how:?}");
        let gone = (first.ping().await, second.ping().await);
        assert_eq!(gone, (Err(CallError::NoProc), Err(CallError::NoProc)), "{how:?}");
        let inner = handle.terminate_child("a").await;
        assert_eq!(inner.unwrap_err(), RequestError::NoProc, "the supervisor does not survive");
    }
    let (spec, probe) = Probe::new("c", &log);
    root.supervisor().start_child(spec).await.unwrap();
    probe.end(|| Message::Panic).await;
    assert_eq!(probe.answers().await, 1, "the first restart that counts");
    assert_eq!(root.tree().nodes()[0].intensity.unwrap().in_window, 1);
}

proves!(a_rollback_keeps_to_the_shutdown_of_each_child, ["SUP-010"]);
async fn a_rollback_keeps_to_the_shutdown_of_each_child() {
    let log = Log::default();
    let (a, _) = Probe::new("a", &log);
    let (b, _) = Probe::with_cleanup("b", &log, Cleanup::Hangs);
    let (c, _) = Probe::new("c", &log);
    let (d, last) = Probe::new("d", &log);
    last.script(&[Start::Fails]);
    let spec = SupervisorSpec::new("top")
        .child(a)
        .child(b.shutdown(Shutdown::Timeout(Duration::from_secs(2))))
        .child(c.shutdown(Shutdown::BrutalKill))
        .child(d);
    let clock = Clock::start();
    Root::start(spec, clock, Options::default()).await.unwrap_err();
    assert_eq!(
        log.take()[3..],
        ["c dropped", "b cleaned", "b dropped", "a cleaned", "a dropped"],
        "c is killed, b is given its time, a cleans up"
    );
    assert_eq!(clock.now().elapsed(), Duration::from_secs(2));
}

struct Idle;

impl Actor for Idle {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

proves!(a_panic_in_a_factory_or_init_is_a_start_error, ["SUP-012"]);
async fn a_panic_in_a_factory_or_init_is_a_start_error() {
    let world = World::start(|spec| spec).await;
    let (in_init, probe) = Probe::new("init", &world.log);
    probe.script(&[Start::Panics]);
    let (in_factory, _) =
        ChildSpec::actor("factory", || -> (Idle, ()) { panic!("factory panics") });
    for (spec, text) in [(in_init, "start panics"), (in_factory, "factory panics")] {
        let id = spec.id().to_string();
        let refused = world.root.supervisor().start_child(spec).await.unwrap_err();
        let RequestError::StartFailed(error) = refused else { panic!("{refused}") };
        assert_eq!(error.child.as_str(), id);
        let StartFault::Failed(ExitReason::Panic { message, .. }) = &error.reason else {
            panic!("{error}")
        };
        assert_eq!(&**message, text);
    }
    assert_eq!(world.node("/top").incarnation, 1);
    for probe in &world.probes {
        assert_eq!(probe.ping().await, Ok(1));
    }
}
