//! SUP flags and child specifications: what is assumed, what is refused, and what can be read back.

use std::time::Duration;

use perennial_core::{AutoShutdown, ChildType, ExitReason, Restart, Shutdown, Strategy};
use perennial_supervision::{
    CallError, ChildSpec, Clock, Options, RequestError, Root, SpecError, StartError, StartFault,
    Supervisor, SupervisorSpec, TemplateSupervisor, TemplateSupervisorSpec,
};

use crate::{
    fixture::{idle, start_error},
    harness::proves,
    probe::{Log, Message, Probe, SOON, World, ids, root},
};

async fn refused(spec: SupervisorSpec) -> StartFault {
    let refused: StartError =
        Root::start(spec, Clock::start(), Options::default()).await.unwrap_err();
    assert_eq!(refused.child.as_str(), "top");
    refused.reason
}

proves!(a_supervisor_is_one_for_one_three_in_five_seconds_and_never_shuts_down, ["SUP-024"]);
async fn a_supervisor_is_one_for_one_three_in_five_seconds_and_never_shuts_down() {
    let world = World::start(|spec| spec).await;
    for crash in 1..=3 {
        world.probes[1].end(|| Message::Panic).await;
        world.probes[1].answers().await;
        assert_eq!(world.counted(), crash);
    }
    assert_eq!((world.incarnation("a"), world.incarnation("c")), (1, 1), "one for one");
    tokio::time::advance(Duration::from_secs(5)).await;
    world.probes[1].end(|| Message::Panic).await;
    assert_eq!(world.root.ended().await, ExitReason::Shutdown, "the fourth within five seconds");

    let world = World::start(|spec| spec).await;
    for _ in 0..9 {
        tokio::time::advance(Duration::from_millis(2501)).await;
        world.probes[1].end(|| Message::Panic).await;
        world.probes[1].answers().await;
    }
    assert_eq!(world.node("/top").incarnation, 1, "two in five seconds are tolerated for ever");
    let significant = Probe::new("d", &world.log).0.restart(Restart::Temporary).significant(true);
    let never = world.top().start_child(significant).await.unwrap_err();
    assert_eq!(never, RequestError::Invalid(SpecError::SignificantNeverShutsDown("d".into())));
}

proves!(a_period_of_zero_is_refused_before_anything_starts, ["SUP-027"]);
async fn a_period_of_zero_is_refused_before_anything_starts() {
    let log = Log::default();
    let spec =
        || SupervisorSpec::new("top").intensity(3, Duration::ZERO).child(Probe::new("a", &log).0);
    assert_eq!(refused(spec()).await, StartFault::Invalid(SpecError::ZeroPeriod));
    let top = root(SupervisorSpec::new("above")).await;
    let (inner, _) = Supervisor::child_spec(spec());
    let inner = start_error(top.supervisor().start_child(inner).await.unwrap_err());
    assert_eq!(inner.reason, StartFault::Invalid(SpecError::ZeroPeriod));
    assert!(log.take().is_empty());
}

proves!(the_first_fault_of_any_child_is_found_before_the_first_start, ["SUP-030", "SUP-031"]);
async fn the_first_fault_of_any_child_is_found_before_the_first_start() {
    let made = Log::default();
    let child = |id: &str| {
        let made = made.clone();
        ChildSpec::task(id, move || {
            made.add("made");
            std::future::pending::<Result<(), String>>()
        })
        .restart(perennial_core::Restart::Permanent)
    };
    let good = || SupervisorSpec::new("top").child(child("a")).child(child("b"));
    for (last, error) in [
        (child("a"), SpecError::DuplicateChild("a".into())),
        (child("b"), SpecError::DuplicateChild("b".into())),
        (child(""), SpecError::MissingId),
        (child("c").restart_budget(1, Duration::ZERO), SpecError::ZeroPeriod),
        (
            child("c").restart(Restart::Transient).significant(true),
            SpecError::SignificantNeverShutsDown("c".into()),
        ),
    ] {
        assert_eq!(refused(good().child(last)).await, StartFault::Invalid(error));
        idle().await;
        assert!(made.take().is_empty(), "no factory was called");
    }
}

proves!(a_child_is_not_significant_unless_it_says_so, ["SUP-040"]);
async fn a_child_is_not_significant_unless_it_says_so() {
    for mode in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        for restart in [Restart::Transient, Restart::Temporary] {
            let start = |spec: SupervisorSpec| spec.auto_shutdown(mode);
            let world = World::start_with(&[restart; 2], start).await.unwrap();
            assert!(!Probe::new("x", &world.log).0.is_significant());
            for probe in &world.probes {
                probe.end(|| Message::StopSelf).await;
                assert_eq!(probe.settled().await, Err(CallError::NoProc));
            }
            idle().await;
            let (more, probe) = Probe::new("more", &world.log);
            world.top().start_child(more).await.unwrap();
            assert_eq!(probe.ping().await, Ok(1), "the supervisor stays");
        }
    }
}

proves!(a_specification_can_be_read_back, ["SUP-043", "SUP-044"]);
async fn a_specification_can_be_read_back() {
    let plain = ChildSpec::task("plain", std::future::pending::<Result<(), String>>)
        .restart(perennial_core::Restart::Permanent);
    let full = Probe::new("full", &Log::default())
        .0
        .restart(Restart::Transient)
        .shutdown(Shutdown::BrutalKill)
        .significant(true)
        .name("a name");
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner"));
    let spec = SupervisorSpec::new("top")
        .auto_shutdown(AutoShutdown::AnySignificant)
        .child(plain)
        .child(full)
        .child(inner);
    let top = root(spec).await;
    let get = async |id: &str| top.supervisor().get_child_spec(id).await;
    let five = Shutdown::Timeout(Duration::from_secs(5));
    for (id, restart, shutdown, kind, significant, name) in [
        ("plain", Restart::Permanent, five, ChildType::Worker, false, None),
        ("full", Restart::Transient, Shutdown::BrutalKill, ChildType::Worker, true, Some("a name")),
        ("inner", Restart::Permanent, Shutdown::Infinity, ChildType::Supervisor, false, None),
    ] {
        let spec = get(id).await.unwrap();
        assert_eq!(spec.id().as_str(), id);
        assert_eq!((spec.get_restart(), spec.get_shutdown()), (restart, shutdown), "{id}");
        assert_eq!((spec.get_type(), spec.is_significant()), (kind, significant), "{id}");
        assert_eq!(spec.get_name().map(|name| name.as_str().to_owned()), name.map(str::to_owned));
    }
    // How to start it is part of it.
    let elsewhere = root(SupervisorSpec::new("elsewhere")).await;
    let start = elsewhere.supervisor().start_child(get("plain").await.unwrap()).await.unwrap();
    assert!(start.process.is_some());
    assert_eq!(get("nobody").await.unwrap_err(), RequestError::NotFound("nobody".into()));
}

proves!(a_list_of_specifications_is_checked_without_effects, ["SUP-049", "SUP-050"]);
async fn a_list_of_specifications_is_checked_without_effects() {
    let log = Log::default();
    let spec = |id: &str| Probe::new(id, &log).0;
    let check = |specs: &[ChildSpec]| ChildSpec::check_all(specs, None);
    assert_eq!(check(&[]), Ok(()));
    assert_eq!(check(&[spec("a"), spec("b"), spec("c")]), Ok(()));
    let twice = [spec("a"), spec("b"), spec("b"), spec("")];
    assert_eq!(check(&twice), Err(SpecError::DuplicateChild("b".into())));
    let bad = [spec("a"), spec("x").restart_budget(1, Duration::ZERO), spec(""), spec("a")];
    assert_eq!(check(&bad), Err(SpecError::ZeroPeriod), "the first bad one");
    assert_eq!(check(&[spec(""), spec("")]), Err(SpecError::MissingId));

    let modes = [AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];
    for mode in modes {
        for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
            for significant in [false, true] {
                let one = [spec("a").restart(restart).significant(significant)];
                let checked = ChildSpec::check_all(&one, Some(mode));
                let expected = match (mode, restart, significant) {
                    (AutoShutdown::Never, _, true) => {
                        Err(SpecError::SignificantNeverShutsDown("a".into()))
                    }
                    (_, Restart::Permanent, true) => {
                        Err(SpecError::SignificantPermanent("a".into()))
                    }
                    _ => Ok(()),
                };
                assert_eq!(checked, expected, "{mode:?} {restart:?} {significant}");
                assert_eq!(check(&one), Ok(()), "without a mode nothing is said about it");
            }
        }
    }
    idle().await;
    assert!(log.take().is_empty());
}

proves!(who_cannot_be_significant_is_refused_wherever_it_starts, ["SUP-051", "SUP-052"]);
async fn who_cannot_be_significant_is_refused_wherever_it_starts() {
    let log = Log::default();
    let significant = || Probe::new("s", &log).0.significant(true);
    let permanent = || SpecError::SignificantPermanent("s".into());
    let never = || SpecError::SignificantNeverShutsDown("s".into());
    use AutoShutdown::{AllSignificant, AnySignificant, Never};
    for (mode, child, error) in [
        (AnySignificant, significant(), permanent()),
        (AllSignificant, significant().restart(Restart::Permanent), permanent()),
        (Never, significant().restart(Restart::Transient), never()),
        (Never, significant().restart(Restart::Temporary), never()),
    ] {
        let spec = || SupervisorSpec::new("top").auto_shutdown(mode);
        let at_start = refused(spec().child(child.clone())).await;
        assert_eq!(at_start, StartFault::Invalid(error.clone()));
        let top = root(spec()).await;
        let later = top.supervisor().start_child(child).await.unwrap_err();
        assert_eq!(later, RequestError::Invalid(error));
        assert!(top.supervisor().which_children().unwrap().is_empty());
    }
    assert!(log.take().is_empty());
    let top = root(SupervisorSpec::new("top").auto_shutdown(AnySignificant)).await;
    top.supervisor().start_child(significant().restart(Restart::Transient)).await.unwrap();
}

/// A kind of child that says itself how it wants to be supervised.
struct Clerk;

impl Clerk {
    fn child_spec(log: &Log) -> ChildSpec {
        let spec = Probe::new("clerk", log).0;
        spec.restart(Restart::Transient).shutdown(Shutdown::Timeout(Duration::from_secs(9)))
    }
}

proves!(where_a_child_is_listed_single_fields_are_overridden, ["SUP-053"]);
async fn where_a_child_is_listed_single_fields_are_overridden() {
    let log = Log::default();
    let told = |spec: &ChildSpec| {
        let (restart, shutdown) = (spec.get_restart(), spec.get_shutdown());
        (spec.id().to_string(), restart, shutdown, spec.get_type(), spec.is_significant())
    };
    let published = told(&Clerk::child_spec(&log));
    let nine = Shutdown::Timeout(Duration::from_secs(9));
    assert_eq!(published, ("clerk".to_owned(), Restart::Transient, nine, ChildType::Worker, false));
    let (id, restart, shutdown, kind, significant) = published;
    let listed = [
        (
            Clerk::child_spec(&log).restart(Restart::Temporary),
            (id.clone(), Restart::Temporary, shutdown, kind, significant),
        ),
        (
            Clerk::child_spec(&log).shutdown(Shutdown::Infinity),
            (id.clone(), restart, Shutdown::Infinity, kind, significant),
        ),
        (Clerk::child_spec(&log).significant(true), (id.clone(), restart, shutdown, kind, true)),
        (
            Clerk::child_spec(&log).with_id("other"),
            ("other".to_owned(), restart, shutdown, kind, significant),
        ),
    ];
    for (spec, expected) in listed {
        assert_eq!(told(&spec), expected);
        let auto = AutoShutdown::AnySignificant;
        let top = root(SupervisorSpec::new("top").auto_shutdown(auto).child(spec)).await;
        let kept = top.supervisor().get_child_spec(expected.0.as_str()).await.unwrap();
        assert_eq!(told(&kept), expected);
        top.shutdown().await;
        let lines = log.take();
        assert_eq!(
            lines,
            ["clerk started", "clerk cleaned", "clerk dropped"],
            "its start is its own"
        );
    }
}

proves!(a_broken_specification_changes_nothing, ["SUP-182"]);
async fn a_broken_specification_changes_nothing() {
    let world = World::start(|spec| spec).await;
    world.log.take();
    let child = |id: &str| Probe::new(id, &world.log).0;
    for (spec, error) in [
        (child(""), SpecError::MissingId),
        (child("d").restart_budget(3, Duration::ZERO), SpecError::ZeroPeriod),
        (
            child("d").restart(Restart::Temporary).significant(true),
            SpecError::SignificantNeverShutsDown("d".into()),
        ),
    ] {
        let refused = world.top().start_child(spec).await.unwrap_err();
        assert_eq!(refused, RequestError::Invalid(error));
    }
    idle().await;
    assert!(world.log.take().is_empty());
    assert_eq!(ids(world.top()), ["a", "b", "c"]);
    for probe in &world.probes {
        assert_eq!(probe.ping().await, Ok(1));
    }
    world.top().start_child(child("d")).await.unwrap();
}

proves!(no_strategy_is_assumed_for_what_a_flag_says, ["SUP-024"]);
async fn no_strategy_is_assumed_for_what_a_flag_says() {
    let declared = SupervisorSpec::new("top").declared();
    assert_eq!(declared[0].strategy, Some(Strategy::OneForOne));
    let intensity = declared[0].intensity.as_ref().unwrap();
    assert_eq!((intensity.max, intensity.window_ms), (3, 5_000));
    let template = |_: ()| Probe::new("x", &Log::default()).0;
    let (spec, handle) = TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("t", template));
    let top = root(SupervisorSpec::new("top").child(spec)).await;
    let intensity = top.tree().nodes()[1].intensity.unwrap();
    assert_eq!((intensity.max, intensity.window_ms), (3, 5_000), "and so is every kind");
    assert!(handle.start_child(()).await.is_ok());
    tokio::time::advance(SOON).await;
}
