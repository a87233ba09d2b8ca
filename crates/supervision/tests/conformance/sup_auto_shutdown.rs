//! SUP auto_shutdown: whose end stops the supervisor, and whose does not.

use std::time::Duration;

use perennial_core::{AutoShutdown, ExitReason, Restart, Strategy};
use perennial_supervision::{
    CallError, ChildStatus, Lifecycle, LifecycleEvent, RequestError, Root, Supervisor,
    SupervisorSpec,
};

use crate::{
    harness::proves,
    made,
    probe::{Log, Message, Probe, SOON, World, ids, root, status},
};

use AutoShutdown::{AllSignificant, AnySignificant, Never};
use Restart::{Permanent, Temporary, Transient};

const MODES: [AutoShutdown; 3] = [Never, AnySignificant, AllSignificant];

/// Ways of a child to end by itself; none means that it is killed from outside.
type Way = (&'static str, Option<fn() -> Message>);

const CALM: [Way; 3] = [
    ("normal", Some(|| Message::StopSelf)),
    ("shutdown", Some(|| Message::Exit(ExitReason::Shutdown))),
    ("shutdown_with", Some(|| Message::Exit(ExitReason::ShutdownWith("x".into())))),
];
const ABNORMAL: [Way; 3] =
    [("panic", Some(|| Message::Panic)), ("error", Some(|| Message::Fail)), ("killed", None)];

/// A supervisor `top` with the children `a`, `b`, `c`; those that are significant are told so.
async fn start(mode: AutoShutdown, strategy: Strategy, children: &[(Restart, bool)]) -> World {
    let log = Log::default();
    let mut spec =
        SupervisorSpec::new("top").auto_shutdown(mode).strategy(strategy).intensity(99, SOON);
    let mut probes = Vec::new();
    for (name, (restart, significant)) in ["a", "b", "c"].iter().zip(children) {
        let (child, probe) = Probe::new(name, &log);
        spec = spec.child(child.restart(*restart).significant(*significant));
        probes.push(probe);
    }
    World { root: root(spec).await, log, probes }
}

/// Ends a probe, and waits until its supervisor has handled that.
async fn end(world: &World, probe: &Probe, (name, message): Way) {
    let ended = match message {
        Some(message) => probe.end(message).await,
        None => world.root.tree().kill(&format!("/top/{}", probe.name)).unwrap().exit().await,
    };
    assert_eq!(ended.name(), name);
    handled(world.top()).await;
}

/// Requests are served behind the exits that came before them.
async fn handled(supervisor: &Supervisor) {
    drop(supervisor.terminate_child("nobody").await);
}

async fn stays(world: &World, why: &str) {
    let refused = world.top().terminate_child("nobody").await.unwrap_err();
    assert_eq!(refused, RequestError::NotFound("nobody".into()), "{why}");
    assert_eq!(world.node("/top").incarnation, 1);
}

async fn shuts_down(root: &Root, why: &str) {
    let ended = tokio::time::timeout(SOON, root.ended()).await;
    assert_eq!(ended, Ok(ExitReason::Shutdown), "{why}");
}

proves!(without_it_no_exit_stops_the_supervisor, ["SUP-209"]);
async fn without_it_no_exit_stops_the_supervisor() {
    for way in CALM.iter().chain(&ABNORMAL) {
        for restart in [Permanent, Transient, Temporary] {
            let world = start(Never, Strategy::OneForOne, &[(restart, false)]).await;
            end(&world, &world.probes[0], *way).await;
            stays(&world, way.0).await;
        }
        let children = [(Transient, false), (Temporary, false), (Temporary, false)];
        let world = start(Never, Strategy::OneForOne, &children).await;
        for probe in world.probes.iter().rev() {
            end(&world, probe, *way).await;
            stays(&world, way.0).await;
        }
    }
}

proves!(ends_of_temporary_children_that_are_not_significant_trigger_nothing, ["SUP-210"]);
async fn ends_of_temporary_children_that_are_not_significant_trigger_nothing() {
    for mode in MODES {
        for significant in [false, mode != Never] {
            let children = [(Transient, significant), (Temporary, false)];
            for way in CALM.iter().chain(&ABNORMAL) {
                let world = start(mode, Strategy::OneForOne, &children).await;
                end(&world, &world.probes[1], *way).await;
                stays(&world, way.0).await;
                assert_eq!(ids(world.top()), ["a"], "{mode:?} {}", way.0);
                assert_eq!(world.probes[0].ping().await, Ok(1));
            }
            let world = start(mode, Strategy::OneForOne, &children).await;
            world.top().terminate_child("b").await.unwrap();
            stays(&world, "terminated").await;
            assert_eq!(world.probes[0].ping().await, Ok(1));
        }
    }
}

proves!(ends_of_transient_children_that_are_not_significant_trigger_nothing, ["SUP-211"]);
async fn ends_of_transient_children_that_are_not_significant_trigger_nothing() {
    for mode in MODES {
        for significant in [false, mode != Never] {
            let children = [(Transient, significant), (Transient, false)];
            for way in CALM {
                let world = start(mode, Strategy::OneForOne, &children).await;
                end(&world, &world.probes[1], way).await;
                stays(&world, way.0).await;
                assert_eq!(status(world.top(), "b"), ChildStatus::Stopped);
                assert_eq!(world.probes[0].ping().await, Ok(1));
            }
            for way in ABNORMAL {
                let world = start(mode, Strategy::OneForOne, &children).await;
                end(&world, &world.probes[1], way).await;
                stays(&world, way.0).await;
                assert_eq!(world.probes[1].answers().await, 1, "it is restarted");
                assert_eq!(world.incarnation("b"), 2);
            }
            let world = start(mode, Strategy::OneForOne, &children).await;
            world.top().terminate_child("b").await.unwrap();
            stays(&world, "terminated").await;
        }
    }
}

proves!(the_calm_end_of_a_significant_transient_child_stops_the_rest_in_reverse, ["SUP-212"]);
async fn the_calm_end_of_a_significant_transient_child_stops_the_rest_in_reverse() {
    for way in CALM {
        let children = [(Permanent, false), (Transient, true), (Permanent, false)];
        let world = start(AnySignificant, Strategy::OneForOne, &children).await;
        world.log.take();
        end(&world, &world.probes[1], way).await;
        shuts_down(&world.root, way.0).await;
        let lines = ["b cleaned", "b dropped", "c cleaned", "c dropped", "a cleaned", "a dropped"];
        assert_eq!(world.log.take(), lines, "{}", way.0);
        for probe in &world.probes {
            assert_eq!(probe.ping().await, Err(CallError::NoProc));
        }
    }
}

proves!(a_significant_transient_child_that_fails_is_restarted, ["SUP-213"]);
async fn a_significant_transient_child_that_fails_is_restarted() {
    for way in ABNORMAL {
        let children = [(Permanent, false), (Transient, true), (Permanent, false)];
        let world = start(AnySignificant, Strategy::OneForOne, &children).await;
        end(&world, &world.probes[1], way).await;
        assert_eq!(world.probes[1].answers().await, 1, "{}", way.0);
        stays(&world, way.0).await;
        assert_eq!(world.incarnation("b"), 2);
        assert_eq!((world.probes[0].ping().await, world.probes[2].ping().await), (Ok(1), Ok(1)));
    }
}

proves!(every_own_end_of_a_significant_temporary_child_stops_the_supervisor, ["SUP-214"]);
async fn every_own_end_of_a_significant_temporary_child_stops_the_supervisor() {
    for way in CALM.iter().chain(&ABNORMAL) {
        let children = [(Permanent, false), (Temporary, true), (Permanent, false)];
        let world = start(AnySignificant, Strategy::OneForOne, &children).await;
        end(&world, &world.probes[1], *way).await;
        shuts_down(&world.root, way.0).await;
        assert_eq!(world.probes[0].ping().await, Err(CallError::NoProc));
    }
}

proves!(terminating_a_significant_child_triggers_nothing, ["SUP-215"]);
async fn terminating_a_significant_child_triggers_nothing() {
    for mode in [AnySignificant, AllSignificant] {
        for restart in [Transient, Temporary] {
            let children = [(Permanent, false), (restart, true)];
            let world = start(mode, Strategy::OneForOne, &children).await;
            world.top().terminate_child("b").await.unwrap();
            stays(&world, "terminated").await;
            assert_eq!(world.probes[0].ping().await, Ok(1), "{mode:?} {restart:?}");
            assert_eq!(world.probes[1].ping().await, Err(CallError::NoProc));
        }
    }
}

proves!(the_last_significant_child_stops_the_supervisor, ["SUP-216"]);
async fn the_last_significant_child_stops_the_supervisor() {
    for first in [0, 1] {
        let children = [(Transient, true), (Temporary, true), (Permanent, false)];
        let world = start(AllSignificant, Strategy::OneForOne, &children).await;
        end(&world, &world.probes[first], CALM[0]).await;
        stays(&world, "the other runs").await;
        assert_eq!(world.probes[1 - first].ping().await, Ok(1));
        assert_eq!(world.probes[2].ping().await, Ok(1));
        end(&world, &world.probes[1 - first], CALM[0]).await;
        shuts_down(&world.root, "though `c` runs").await;
        assert_eq!(world.probes[2].ping().await, Err(CallError::NoProc));
    }
}

proves!(a_terminated_significant_child_does_not_count_as_running, ["SUP-217"]);
async fn a_terminated_significant_child_does_not_count_as_running() {
    for restart in [Transient, Temporary] {
        let children = [(restart, true), (Transient, true), (Permanent, false)];
        let world = start(AllSignificant, Strategy::OneForOne, &children).await;
        world.top().terminate_child("a").await.unwrap();
        stays(&world, "terminated").await;
        end(&world, &world.probes[1], CALM[0]).await;
        shuts_down(&world.root, "`b` was the last that ran").await;
    }
}

proves!(a_significant_child_between_two_lives_counts_as_running, ["SUP-218"]);
async fn a_significant_child_between_two_lives_counts_as_running() {
    let log = Log::default();
    let (a, first) = Probe::new("a", &log);
    let (b, second) = Probe::new("b", &log);
    let delay = Duration::from_secs(10);
    let spec = SupervisorSpec::new("top")
        .auto_shutdown(AllSignificant)
        .child(a.restart(Transient).significant(true).restart_delay(delay))
        .child(b.restart(Transient).significant(true));
    let world = World { root: root(spec).await, log, probes: Vec::new() };
    end(&world, &first, ABNORMAL[0]).await;
    assert_eq!(status(world.top(), "a"), ChildStatus::Restarting);
    end(&world, &second, CALM[0]).await;
    stays(&world, "`a` will come back").await;
    assert_eq!(first.answers().await, 1);
    end(&world, &first, CALM[0]).await;
    shuts_down(&world.root, "nobody is left").await;
}

proves!(a_significant_child_that_its_group_takes_along_triggers_nothing, ["SUP-219"]);
async fn a_significant_child_that_its_group_takes_along_triggers_nothing() {
    for mode in [AnySignificant, AllSignificant] {
        for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
            let children = [(Permanent, false), (Temporary, true), (Transient, true)];
            let world = start(mode, strategy, &children).await;
            end(&world, &world.probes[0], ABNORMAL[0]).await;
            assert_eq!(world.probes[0].answers().await, 1);
            stays(&world, "a bystander").await;
            assert_eq!(ids(world.top()), ["a", "c"], "{mode:?} {strategy:?}");
            assert_eq!((world.incarnation("c"), world.probes[2].ping().await), (2, Ok(1)));

            // Nor when nothing significant is left.
            let children = [(Permanent, false), (Temporary, true), (Permanent, false)];
            let world = start(mode, strategy, &children).await;
            end(&world, &world.probes[0], ABNORMAL[2]).await;
            assert_eq!(world.probes[0].answers().await, 1);
            stays(&world, "a bystander").await;
            assert_eq!(ids(world.top()), ["a", "c"]);
        }
    }
}

/// `/top` with the child `other` and, in `/top/sub`, the significant `leaf`.
async fn chain(sub: impl FnOnce(SupervisorSpec) -> SupervisorSpec, significant: bool) -> World {
    let log = Log::default();
    let (leaf, end) = Probe::new("leaf", &log);
    let (other, stays) = Probe::new("other", &log);
    let spec = SupervisorSpec::new("sub").auto_shutdown(AnySignificant);
    let spec = sub(spec).child(leaf.restart(Transient).significant(true));
    let (sub, _) = Supervisor::child_spec(spec);
    let spec = SupervisorSpec::new("top")
        .auto_shutdown(AnySignificant)
        .intensity(1, SOON)
        .child(other)
        .child(sub.significant(significant));
    World { root: root(spec).await, log, probes: vec![end, stays] }
}

proves!(an_auto_shutdown_goes_up_through_significant_supervisors, ["SUP-220"]);
async fn an_auto_shutdown_goes_up_through_significant_supervisors() {
    for significant in [true, false] {
        let world = chain(|sub| sub.restart(Transient), significant).await;
        let mut lifecycle = world.root.tree().lifecycle();
        world.probes[0].end(|| Message::StopSelf).await;
        let told = made::until_exit(&mut lifecycle, "/top/sub").await;
        assert_eq!(made::exits(&told).last(), Some(&("/top/sub", ExitReason::Shutdown)));
        if significant {
            shuts_down(&world.root, "the chain").await;
            assert_eq!(world.probes[1].ping().await, Err(CallError::NoProc));
        } else {
            stays(&world, "it is not significant").await;
            assert_eq!(status(world.top(), "sub"), ChildStatus::Stopped);
            assert_eq!(world.probes[1].ping().await, Ok(1));
        }
    }
}

proves!(a_permanent_supervisor_that_shut_itself_down_is_restarted_and_counted, ["SUP-221"]);
async fn a_permanent_supervisor_that_shut_itself_down_is_restarted_and_counted() {
    let world = chain(|sub| sub.restart(Permanent), false).await;
    world.probes[0].end(|| Message::StopSelf).await;
    assert_eq!(world.probes[0].answers().await, 1, "with its child");
    assert_eq!((world.incarnation("sub"), world.counted()), (2, 1));
    stays(&world, "one is tolerated").await;
    let mut lifecycle = world.root.tree().lifecycle();
    world.probes[0].end(|| Message::StopSelf).await;
    shuts_down(&world.root, "two are not").await;
    let told = made::until_exit(&mut lifecycle, "/top").await;
    let gave_up = |told: Lifecycle| {
        let LifecycleEvent::GaveUp { offender } = told.event else { return None };
        Some(offender.id.to_string())
    };
    let offenders: Vec<_> = told.into_iter().filter_map(gave_up).collect();
    assert_eq!(offenders, ["sub"]);
}
