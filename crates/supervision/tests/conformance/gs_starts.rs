//! GS start: what a starter learns, and what is left of a start that failed.

use std::time::Duration;

use perennial_core::ExitReason;
use perennial_supervision::{
    CallError, Clock, DynamicSupervisor, DynamicSupervisorSpec, Options, RequestError, Root,
    StartError, StartFault, SupervisorSpec,
};

use crate::{
    harness::proves,
    probe::{Log, Probe, SOON, Start, World, root},
};

/// Starts a probe that starts like `how`, in every way there is; each has to fail.
async fn failures(how: Start) -> Vec<(StartError, Probe)> {
    let log = Log::default();
    let (child, dynamic) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("dyn", 9));
    let root = root(SupervisorSpec::new("top").child(child)).await;
    let start_failed = |refused| {
        let RequestError::StartFailed(error) = refused else { panic!("{refused}") };
        error
    };
    let probe = || {
        let (spec, probe) = Probe::new("x", &log);
        probe.script(&[how]);
        (spec.start_within(Duration::from_secs(2)), probe)
    };
    let mut failures = Vec::new();
    let (spec, declared) = probe();
    let spec = SupervisorSpec::new("other").child(spec);
    let refused = Root::start(spec, Clock::start(), Options::default()).await;
    failures.push((refused.unwrap_err(), declared));
    let (spec, added) = probe();
    let refused = root.supervisor().start_child(spec).await;
    failures.push((start_failed(refused.unwrap_err()), added));
    let (spec, dynamically) = probe();
    let refused = dynamic.start_child(spec).await;
    failures.push((start_failed(refused.unwrap_err()), dynamically));
    assert!(log.take().is_empty(), "no server remains");
    failures
}

proves!(an_error_of_the_init_is_the_reason_and_nothing_remains, ["GS-003"]);
async fn an_error_of_the_init_is_the_reason_and_nothing_remains() {
    for (error, probe) in failures(Start::Fails).await {
        assert_eq!(*error.root_cause(), ExitReason::Error("start fails".into()).into());
        assert_eq!(probe.ping().await, Err(CallError::NoProc));
    }
}

proves!(a_panic_of_the_init_is_told_in_every_kind_of_start, ["GS-005"]);
async fn a_panic_of_the_init_is_told_in_every_kind_of_start() {
    for (error, probe) in failures(Start::Panics).await {
        let StartFault::Failed(ExitReason::Panic { message, location }) = error.root_cause() else {
            panic!("{error}")
        };
        assert_eq!(&**message, "start panics");
        assert!(location.as_ref().is_some_and(|place| place.contains("probe")), "{location:?}");
        assert_eq!(probe.ping().await, Err(CallError::NoProc));
    }
}

proves!(a_start_takes_no_longer_than_its_limit, ["GS-008"]);
async fn a_start_takes_no_longer_than_its_limit() {
    let clock = Clock::start();
    let before = clock.now();
    for (error, probe) in failures(Start::Hangs).await {
        assert_eq!(*error.root_cause(), ExitReason::Timeout.into());
        assert_eq!(probe.ping().await, Err(CallError::NoProc));
    }
    assert_eq!(clock.now().since(before), Duration::from_secs(3 * 2));
}

proves!(a_start_returns_after_the_init, ["GS-001"]);
async fn a_start_returns_after_the_init() {
    let world = World::start(|spec| spec).await;
    let (spec, probe) = Probe::new("d", &world.log);
    world.log.take();
    assert!(world.top().start_child(spec.start_within(SOON)).await.is_ok());
    assert_eq!(world.log.take(), ["d started"]);
    assert_eq!(probe.ping().await, Ok(1), "its address reaches it");
}
