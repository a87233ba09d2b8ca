//! SUP values that cannot be written: each file of `compile_fail` is a program that the compiler must
//! refuse, and the text beside it is what it says.

use std::time::Duration;

use perennial_core::{AutoShutdown, Shutdown, Strategy};
use perennial_supervision::{
    Clock, Options, RequestError, Root, SpecError, StartFault, Supervisor, SupervisorSpec,
};

use crate::{
    fixture::start_error,
    harness::proves,
    probe::{Log, Probe, World, root},
};

proves!(
    what_cannot_be_written,
    real_time,
    [
        "SUP-005", "SUP-025", "SUP-026", "SUP-029", "SUP-041", "SUP-046", "SUP-054", "SUP-192",
        "SUP-202", "SUP-032", "SUP-164", "SUP-167", "SUP-176", "SUP-231", "SUP-237", "DYN-003",
        "DYN-004", "REG-002", "REG-026", "REG-029", "PAR-005", "APP-031", "STR-019"
    ],
    because = "one run of the compiler for all of them, and each has a program of its own"
);
async fn what_cannot_be_written() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/conformance/compile_fail/*.rs");
}

// What configuration can still bring.
proves!(no_text_names_another_strategy_or_mode, ["SUP-025", "SUP-029"]);
async fn no_text_names_another_strategy_or_mode() {
    for text in ["\"one_for_two\"", "\"\"", "1", "null"] {
        assert!(serde_json::from_str::<Strategy>(text).is_err(), "{text}");
        assert!(serde_json::from_str::<AutoShutdown>(text).is_err(), "{text}");
    }
    let known = serde_json::from_str::<Strategy>("\"one_for_all\"").unwrap();
    assert_eq!(known, Strategy::OneForAll);
    let known = serde_json::from_str::<AutoShutdown>("\"any_significant\"").unwrap();
    assert_eq!(known, AutoShutdown::AnySignificant);
}

proves!(no_text_names_a_negative_limit_or_time, ["SUP-026", "SUP-046"]);
async fn no_text_names_a_negative_limit_or_time() {
    // The numbers are of types without a sign, whatever they are read from.
    assert!("-1".parse::<u32>().is_err());
    assert!(Duration::try_from_secs_f64(-0.001).is_err());
    let world = World::start(|spec| spec.intensity(0, Duration::MAX)).await;
    let (least, probe) = Probe::new("least", &world.log);
    let spec = least.shutdown(Shutdown::Timeout(Duration::ZERO));
    world.top().start_child(spec).await.unwrap();
    assert_eq!(probe.ping().await, Ok(1), "the least there is");
}

proves!(an_empty_id_is_no_id, ["SUP-041"]);
async fn an_empty_id_is_no_id() {
    let log = Log::default();
    let unnamed = || Probe::new("", &log).0;
    let top = root(SupervisorSpec::new("top")).await;
    let refused = top.supervisor().start_child(unnamed()).await.unwrap_err();
    assert_eq!(refused, RequestError::Invalid(SpecError::MissingId));
    for spec in [SupervisorSpec::new("other").child(unnamed()), SupervisorSpec::new("")] {
        let refused = Root::start(spec, Clock::start(), Options::default()).await.unwrap_err();
        assert_eq!(refused.reason, StartFault::Invalid(SpecError::MissingId));
    }
    assert!(log.take().is_empty());
}

proves!(an_init_that_answers_what_no_supervisor_can_be_starts_nothing, ["SUP-005"]);
async fn an_init_that_answers_what_no_supervisor_can_be_starts_nothing() {
    let log = Log::default();
    let top = root(SupervisorSpec::new("top")).await;
    for (broken, error) in [("flags", SpecError::ZeroPeriod), ("specs", SpecError::MissingId)] {
        let log = log.clone();
        let (inner, handle) = Supervisor::child_spec_with_init("inner", move || {
            let spec = SupervisorSpec::new("inner").child(Probe::new("a", &log).0);
            Ok(match broken {
                "flags" => spec.intensity(3, Duration::ZERO),
                _ => spec.child(Probe::new("", &log).0),
            })
        });
        let refused = top.supervisor().start_child(inner).await.unwrap_err();
        assert_eq!(start_error(refused).reason, StartFault::Invalid(error));
        assert_eq!(handle.get_child_spec("a").await.unwrap_err(), RequestError::NoProc);
    }
    assert!(log.take().is_empty(), "nothing was started");
}
