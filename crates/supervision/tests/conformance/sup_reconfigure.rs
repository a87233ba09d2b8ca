//! SUP reconfiguration: what a running supervisor takes on, and when.

use std::time::Duration;

use perennial_core::{AutoShutdown, ExitReason, Restart};
use perennial_supervision::{
    CallError, ChildSpec, ChildStatus, RequestError, SpecError, SupervisorSpec,
};

use crate::{
    harness::proves,
    made,
    probe::{Log, Message, Probe, SOON, World, ids, root, status, until},
    sup_template,
};

use AutoShutdown::{AllSignificant, AnySignificant, Never};

/// Three transient children, significant if so told.
async fn start(mode: AutoShutdown, significant: bool) -> World {
    let log = Log::default();
    let mut spec = SupervisorSpec::new("top").auto_shutdown(mode);
    let mut probes = Vec::new();
    for name in ["a", "b", "c"] {
        let (child, probe) = Probe::new(name, &log);
        spec = spec.child(child.restart(Restart::Transient).significant(significant));
        probes.push(probe);
    }
    World { root: root(spec).await, log, probes }
}

async fn change(world: &World, mode: AutoShutdown) {
    let spec = SupervisorSpec::new("top").auto_shutdown(mode);
    world.top().reconfigure(spec).await.unwrap();
}

async fn end(world: &World, nth: usize) {
    world.probes[nth].end(|| Message::StopSelf).await;
    drop(world.top().terminate_child("nobody").await);
}

async fn stays(world: &World) {
    let refused = world.top().terminate_child("nobody").await.unwrap_err();
    assert_eq!(refused, RequestError::NotFound("nobody".into()));
}

async fn shuts_down(world: &World) {
    let ended = tokio::time::timeout(SOON, world.root.ended()).await;
    assert_eq!(ended, Ok(ExitReason::Shutdown));
}

fn significant(id: &str) -> ChildSpec {
    made::child(id, || Ok(())).restart(Restart::Transient).significant(true)
}

proves!(a_new_mode_of_auto_shutdown_is_for_later_exits, ["SUP-222"]);
async fn a_new_mode_of_auto_shutdown_is_for_later_exits() {
    // From `never`: nobody was significant, new children may be.
    for mode in [AnySignificant, AllSignificant] {
        let world = start(Never, false).await;
        let refused = world.top().start_child(significant("d")).await.unwrap_err();
        let never = SpecError::SignificantNeverShutsDown("d".into());
        assert_eq!(refused, RequestError::Invalid(never));
        end(&world, 0).await;
        change(&world, mode).await;
        end(&world, 1).await;
        stays(&world).await;
        world.top().start_child(significant("d")).await.unwrap();
        let (e, last) = Probe::new("e", &world.log);
        let e = e.restart(Restart::Transient).significant(true);
        world.top().start_child(e).await.unwrap();
        stays(&world).await;
        last.end(|| Message::StopSelf).await;
        if mode == AllSignificant {
            stays(&world).await;
            assert_eq!(world.probes[2].ping().await, Ok(1), "`d` runs");
        } else {
            shuts_down(&world).await;
        }
    }
    // To `never`: who is significant stays and matters no more, and no other comes.
    for mode in [AnySignificant, AllSignificant] {
        let world = start(mode, true).await;
        change(&world, Never).await;
        assert!(world.top().get_child_spec("a").await.unwrap().is_significant());
        assert_eq!(ids(world.top()), ["a", "b", "c"]);
        assert_eq!(world.probes[0].ping().await, Ok(1));
        let refused = world.top().start_child(significant("d")).await.unwrap_err();
        let never = SpecError::SignificantNeverShutsDown("d".into());
        assert_eq!(refused, RequestError::Invalid(never));
        for nth in 0..3 {
            end(&world, nth).await;
            stays(&world).await;
        }
    }
    // From any to all.
    let world = start(AnySignificant, true).await;
    change(&world, AllSignificant).await;
    for nth in 0..2 {
        end(&world, nth).await;
        stays(&world).await;
    }
    end(&world, 2).await;
    shuts_down(&world).await;
    // From all to any: what had ended before does not count.
    let world = start(AllSignificant, true).await;
    end(&world, 0).await;
    change(&world, AnySignificant).await;
    stays(&world).await;
    assert_eq!(world.probes[1].ping().await, Ok(1));
    end(&world, 1).await;
    shuts_down(&world).await;
}

proves!(whether_a_child_is_significant_can_change_for_its_next_exit, ["SUP-223"]);
async fn whether_a_child_is_significant_can_change_for_its_next_exit() {
    let with = |mode, child| SupervisorSpec::new("top").auto_shutdown(mode).child(child);
    let world = start(Never, false).await;
    let own = world.top().get_child_spec("a").await.unwrap();
    let spec = with(Never, own.significant(true));
    let refused = world.top().reconfigure(spec).await.unwrap_err();
    let never = SpecError::SignificantNeverShutsDown("a".into());
    assert_eq!(refused, RequestError::Invalid(never));
    assert!(!world.top().get_child_spec("a").await.unwrap().is_significant());

    for mode in [AnySignificant, AllSignificant] {
        let world = start(mode, false).await;
        let own = world.top().get_child_spec("a").await.unwrap();
        world.top().reconfigure(with(mode, own.significant(true))).await.unwrap();
        stays(&world).await;
        assert_eq!((world.probes[0].ping().await, world.incarnation("a")), (Ok(1), 1));
        end(&world, 0).await;
        shuts_down(&world).await;

        let world = start(mode, true).await;
        let own = world.top().get_child_spec("a").await.unwrap();
        world.top().reconfigure(with(mode, own.significant(false))).await.unwrap();
        end(&world, 0).await;
        stays(&world).await;
        assert_eq!(world.probes[1].ping().await, Ok(1), "{mode:?}");
    }
}

proves!(new_flags_are_for_later_restarts, ["SUP-234"]);
async fn new_flags_are_for_later_restarts() {
    let ten = Duration::from_secs(10);
    let crash = async |world: &World| {
        world.probes[0].end(|| Message::Panic).await;
        world.probes[0].settled().await
    };
    // More, and for longer.
    let world = World::start(|spec| spec.intensity(0, Duration::from_secs(1))).await;
    world.top().reconfigure(SupervisorSpec::new("top").intensity(2, ten)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(crash(&world).await, Ok(1));
        tokio::time::advance(Duration::from_secs(3)).await;
    }
    tokio::time::advance(ten).await;
    for _ in 0..2 {
        assert_eq!(crash(&world).await, Ok(1));
        tokio::time::advance(Duration::from_secs(3)).await;
    }
    assert_eq!(crash(&world).await, Err(CallError::NoProc), "the third in ten seconds");
    assert_eq!(world.root.ended().await, ExitReason::Shutdown);
    // Less; what was restarted before is past.
    let world = World::start(|spec| spec.intensity(9, SOON)).await;
    for _ in 0..5 {
        assert_eq!(crash(&world).await, Ok(1));
    }
    world.top().reconfigure(SupervisorSpec::new("top").intensity(1, SOON)).await.unwrap();
    stays(&world).await;
    assert_eq!(world.probes[1].ping().await, Ok(1), "no restart, no end");
    assert_eq!(crash(&world).await, Err(CallError::NoProc), "those before are remembered");
}

proves!(new_specifications_wait_for_the_next_start, ["SUP-235"]);
async fn new_specifications_wait_for_the_next_start() {
    let world = World::start(|spec| spec).await;
    let top = world.top();
    let running = top.which_child("a").unwrap().process;
    let (a, new) = Probe::new("a", &world.log);
    let (d, added) = Probe::new("d", &world.log);
    world.log.take();
    let spec = SupervisorSpec::new("top").child(a.restart(Restart::Transient)).child(d);
    top.reconfigure(spec).await.unwrap();

    assert!(world.log.take().is_empty(), "nothing started, nothing stopped");
    assert_eq!(top.which_child("a").unwrap().process, running);
    assert_eq!(world.probes[0].ping().await, Ok(1));
    assert_eq!(new.ping().await, Err(CallError::NoProc), "not yet");
    assert_eq!(ids(top), ["a", "b", "c", "d"], "those that are not named stay");
    assert_eq!((world.probes[1].ping().await, world.probes[2].ping().await), (Ok(1), Ok(1)));
    assert_eq!((world.incarnation("b"), world.incarnation("c")), (1, 1));
    assert_eq!(status(top, "d"), ChildStatus::Stopped);
    assert_eq!(added.ping().await, Err(CallError::NoProc));
    assert_eq!(top.get_child_spec("a").await.unwrap().get_restart(), Restart::Transient);

    top.restart_child("d").await.unwrap();
    assert_eq!(added.ping().await, Ok(1));
    // The next start is of the new specification, and so are those after it.
    world.probes[0].end(|| Message::Panic).await;
    until(|| world.incarnation("a") == 2).await;
    assert_eq!(new.answers().await, 1);
    assert_eq!(world.probes[0].ping().await, Err(CallError::NoProc));
    new.end(|| Message::Panic).await;
    assert_eq!(new.settled().await, Ok(1));
    new.end(|| Message::StopSelf).await;
    assert_eq!(new.settled().await, Err(CallError::NoProc), "it is transient");
    assert_eq!(world.incarnation("a"), 3);
    assert_eq!(status(top, "a"), ChildStatus::Stopped);
}

proves!(a_refused_reconfiguration_changes_nothing, ["SUP-236"]);
async fn a_refused_reconfiguration_changes_nothing() {
    let world = World::start(|spec| spec.intensity(1, SOON)).await;
    let top = world.top();
    let before = format!("{:?}", top.get_child_spec("a").await.unwrap());
    let child = |id: &str| made::child(id, || Ok(()));
    let good = || SupervisorSpec::new("top").intensity(9, SOON).child(child("d"));
    let temporary = child("a").restart(Restart::Temporary);
    let significant = child("e").significant(true);
    for (spec, error) in [
        (good().child(temporary.clone()).intensity(9, Duration::ZERO), SpecError::ZeroPeriod),
        (good().child(temporary.clone()).child(child("")), SpecError::MissingId),
        (good().child(temporary).child(child("d")), SpecError::DuplicateChild("d".into())),
        (
            good().auto_shutdown(AnySignificant).child(significant),
            SpecError::SignificantPermanent("e".into()),
        ),
    ] {
        assert_eq!(top.reconfigure(spec).await.unwrap_err(), RequestError::Invalid(error));
        assert_eq!(ids(top), ["a", "b", "c"]);
        assert_eq!(format!("{:?}", top.get_child_spec("a").await.unwrap()), before);
    }
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.probes[0].settled().await, Ok(1), "it is still permanent");
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.root.ended().await, ExitReason::Shutdown, "the old intensity is in force");
}

proves!(a_template_can_be_replaced, ["SUP-237"]);
async fn a_template_can_be_replaced() {
    let log = Log::default();
    let template = |name: &'static str, log: &Log| {
        let log = log.clone();
        move |argument: u32| {
            let log = log.clone();
            made::child(name, move || {
                log.add(format!("{name} {argument}"));
                Ok(())
            })
        }
    };
    let (root, supervisor) = sup_template::start_with(|spec| spec, template("old", &log)).await;
    let first = supervisor.start_child(1).await.unwrap().unwrap();
    supervisor.clone().set_template(template("new", &log));
    assert_eq!(first.now().as_ref(), Some(first.process()), "what runs is left alone");
    assert_eq!(supervisor.count_children().unwrap().specs, 1, "it is not a second one");
    let second = supervisor.start_child(2).await.unwrap().unwrap();
    assert_eq!(log.take(), ["old 1", "new 2"]);
    assert_eq!((first.id().as_str(), second.id().as_str()), ("old", "new"));
    let counts = supervisor.count_children().unwrap();
    assert_eq!((counts.specs, counts.active), (1, 2));
    assert_eq!(root.tree().nodes()[1].incarnation, 1);
}
