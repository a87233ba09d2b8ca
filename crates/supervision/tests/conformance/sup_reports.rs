//! SUP reports: what a supervisor tells, and of what it is silent.

use perennial_core::{ChildType, ExitReason, Restart, Shutdown};
use perennial_supervision::{
    Lifecycle, LifecycleEvent, LifecycleStream, Offender, Supervisor, SupervisorSpec,
};
use tracing::Level;

use crate::{
    harness::proves,
    made,
    probe::{Log, Message, Probe, SOON, Start, World, root, until},
    traces::Traces,
};

/// The reports among what was told until the supervisor had handled everything: none is left.
async fn reports(world: &World, of: &mut LifecycleStream) -> Vec<Lifecycle> {
    let (mark, _) = Probe::new("mark", &world.log);
    world.top().start_child(mark.restart(Restart::Temporary)).await.unwrap();
    world.top().terminate_child("mark").await.unwrap();
    let mut told = made::until_exit(of, "/top/mark").await;
    told.retain(|told| {
        !matches!(
            told.event,
            LifecycleEvent::Started { .. }
                | LifecycleEvent::Exited { .. }
                | LifecycleEvent::StartFailed { .. }
        )
    });
    told
}

proves!(an_unexpected_end_is_reported_once_with_all_that_is_known, ["SUP-224"]);
async fn an_unexpected_end_is_reported_once_with_all_that_is_known() {
    let log = Log::default();
    let (a, worker) = Probe::new("a", &log);
    let shutdown = Shutdown::Timeout(SOON);
    let a = a.restart(Restart::Transient).shutdown(shutdown).significant(true);
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner"));
    let any = perennial_core::AutoShutdown::AllSignificant;
    let root = root(SupervisorSpec::new("top").auto_shutdown(any).child(a).child(inner)).await;
    let world = World { root, log, probes: Vec::new() };
    let process = |id: &str| world.top().which_child(id).unwrap().process;

    let mut lifecycle = world.root.tree().lifecycle();
    let ran = process("a");
    let reason = worker.end(|| Message::Fail).await;
    assert_eq!(reason, ExitReason::Error("asked to fail".into()));
    worker.answers().await;
    let offender = Offender {
        id: "a".into(),
        process: ran,
        restart: Restart::Transient,
        shutdown,
        significant: true,
        child_type: ChildType::Worker,
    };
    let told = reports(&world, &mut lifecycle).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].path, "/top");
    let expected = LifecycleEvent::ChildTerminated { reason, offender: Box::new(offender) };
    assert_eq!(told[0].event, expected);

    let ran = process("inner");
    let victim = world.root.tree().kill("/top/inner").unwrap();
    let reason = victim.exit().await;
    until(|| world.root.tree().is_succeeded("/top/inner", &victim)).await;
    let offender = Offender {
        id: "inner".into(),
        process: ran,
        restart: Restart::Permanent,
        shutdown: Shutdown::Infinity,
        significant: false,
        child_type: ChildType::Supervisor,
    };
    let told = reports(&world, &mut lifecycle).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].path, "/top");
    let expected = LifecycleEvent::ChildTerminated { reason, offender: Box::new(offender) };
    assert_eq!(told[0].event, expected);
}

proves!(a_calm_end_is_reported_of_permanent_children_only, ["SUP-225"]);
async fn a_calm_end_is_reported_of_permanent_children_only() {
    type Way = (fn() -> Message, &'static str);
    let calm: [Way; 3] = [
        (|| Message::StopSelf, "normal"),
        (|| Message::Exit(ExitReason::Shutdown), "shutdown"),
        (|| Message::Exit(ExitReason::ShutdownWith("x".into())), "shutdown_with"),
    ];
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for (message, name) in calm {
            let world = World::start_with(&[restart], |spec| spec).await.unwrap();
            let mut lifecycle = world.root.tree().lifecycle();
            assert_eq!(world.probes[0].end(message).await.name(), name);
            let told = reports(&world, &mut lifecycle).await;
            if restart == Restart::Permanent {
                assert_eq!(told.len(), 1, "{told:?}");
                let LifecycleEvent::ChildTerminated { reason, .. } = &told[0].event else {
                    panic!("{told:?}")
                };
                assert_eq!(reason.name(), name);
            } else {
                assert_eq!(told, [], "{restart:?} {name}");
            }
        }
    }
}

proves!(each_automatic_start_that_fails_is_reported, ["SUP-226"]);
async fn each_automatic_start_that_fails_is_reported() {
    let world = World::start(|spec| spec.intensity(9, SOON)).await;
    let mut lifecycle = world.root.tree().lifecycle();
    world.probes[0].script(&[Start::Fails, Start::Panics, Start::Fails]);
    world.probes[0].end(|| Message::Panic).await;
    world.probes[0].answers().await;
    let told = reports(&world, &mut lifecycle).await;
    let errors = |told: &[Lifecycle]| -> Vec<String> {
        let error = |told: &Lifecycle| {
            let LifecycleEvent::StartError { reason, offender } = &told.event else {
                return None;
            };
            Some(format!("{} {} {}", told.path, offender.id, reason.name()))
        };
        told.iter().filter_map(error).collect()
    };
    assert_eq!(errors(&told), ["/top a error", "/top a panic", "/top a error"]);

    // What was asked for is answered, and not reported.
    world.top().terminate_child("a").await.unwrap();
    world.probes[0].script(&[Start::Fails]);
    world.top().restart_child("a").await.unwrap_err();
    let (spec, probe) = Probe::new("x", &world.log);
    probe.script(&[Start::Fails]);
    world.top().start_child(spec).await.unwrap_err();
    assert_eq!(reports(&world, &mut lifecycle).await, []);

    // The children a supervisor starts with are started automatically.
    let (leaf, probe) = Probe::new("leaf", &world.log);
    probe.script(&[Start::Fails]);
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(leaf));
    world.top().start_child(inner).await.unwrap_err();
    let told = reports(&world, &mut lifecycle).await;
    assert_eq!(errors(&told), ["/top/inner leaf error"]);
}

proves!(giving_up_is_reported_after_the_end_that_was_one_too_many, ["SUP-227"]);
async fn giving_up_is_reported_after_the_end_that_was_one_too_many() {
    let (traces, _guard) = Traces::collect();
    let world = World::start(|spec| spec.intensity(1, SOON)).await;
    let mut lifecycle = world.root.tree().lifecycle();
    world.probes[0].end(|| Message::Panic).await;
    world.probes[0].answers().await;
    world.probes[1].end(|| Message::Panic).await;
    world.root.ended().await;
    let told = made::until_exit(&mut lifecycle, "/top").await;
    let reports: Vec<String> = told
        .iter()
        .filter_map(|told| {
            if let LifecycleEvent::ChildTerminated { offender, .. } = &told.event {
                Some(format!("{} child_terminated {}", told.path, offender.id))
            } else if let LifecycleEvent::GaveUp { offender } = &told.event {
                Some(format!("{} gave_up {}", told.path, offender.id))
            } else {
                None
            }
        })
        .collect();
    let expected = ["/top child_terminated a", "/top child_terminated b", "/top gave_up b"];
    assert_eq!(reports, expected);
    let traced = traces.take("shutdown");
    assert_eq!(traced.len(), 1, "{traced:?}");
    assert!(traced[0].1.contains("reached_max_restart_intensity"), "{traced:?}");
    assert!(traced[0].1.contains("offender=/top/b"), "{traced:?}");
}

proves!(starts_are_traced_and_lower_when_they_were_asked_for, ["SUP-229"]);
async fn starts_are_traced_and_lower_when_they_were_asked_for() {
    let (traces, _guard) = Traces::collect();
    let world = World::start(|spec| spec).await;
    let starts = |of: &str| -> Vec<Level> {
        let path = format!(" path={of} ");
        let traced = traces.take("progress").into_iter();
        traced.filter(|(_, text)| text.contains(&path)).map(|(level, _)| level).collect()
    };
    assert_eq!(starts("/top/a"), [Level::DEBUG]);
    world.probes[1].end(|| Message::Panic).await;
    world.probes[1].answers().await;
    assert_eq!(starts("/top/b"), [Level::DEBUG], "a restart");
    world.top().terminate_child("a").await.unwrap();
    world.top().restart_child("a").await.unwrap();
    assert_eq!(starts("/top/a"), [Level::TRACE]);
    let (x, probe) = Probe::new("x", &world.log);
    world.top().start_child(x).await.unwrap();
    assert_eq!(starts("/top/x"), [Level::TRACE]);
    assert!(Level::TRACE > Level::DEBUG, "higher is more verbose");

    let mut lifecycle = world.root.tree().lifecycle();
    probe.end(|| Message::Panic).await;
    probe.answers().await;
    world.top().terminate_child("a").await.unwrap();
    world.top().restart_child("a").await.unwrap();
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = lifecycle.next().await.unwrap();
        if let LifecycleEvent::Started { incarnation, requested } = event.event {
            told.push((event.path, incarnation, requested));
        }
    }
    assert_eq!(told, [("/top/x".to_owned(), 2, false), ("/top/a".to_owned(), 3, true)]);
}
