//! SUP requests: what a start hands over, and who waits for a restart.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use futures_util::FutureExt;
use perennial_core::{Restart, Shutdown, Strategy};
use perennial_supervision::{
    CallError, ChildSpec, ChildStatus, DynamicSupervisor, DynamicSupervisorSpec, Extra,
    SupervisorSpec, TemplateSupervisor, TemplateSupervisorSpec, pass_to_starter,
};

use crate::{
    fixture::{Gate, child, idle},
    harness::proves,
    probe::{Log, Message, Probe, World, root, status, until},
};

/// A child that hands over which of its starts it is.
fn generous(id: &str) -> ChildSpec {
    let starts = Arc::new(AtomicU32::new(0));
    child(id, move || {
        let nth = starts.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            pass_to_starter(format!("start {nth}"));
            Ok(())
        }
    })
}

fn text(extra: Option<&Extra>) -> &str {
    extra.unwrap().downcast_ref::<String>().unwrap()
}

proves!(what_an_init_hands_over_goes_to_who_asked_for_the_start, ["SUP-019"]);
async fn what_an_init_hands_over_goes_to_who_asked_for_the_start() {
    let spec = SupervisorSpec::new("top").strategy(Strategy::OneForAll).child(generous("declared"));
    let root = root(spec).await;
    let top = root.supervisor();
    let start = top.start_child(generous("x")).await.unwrap();
    assert_eq!(text(start.extra.as_ref()), "start 1");
    assert!(start.process.unwrap().is_alive());
    // The automatic restart of both goes as if there were none.
    let died = top.which_child("x").unwrap().process;
    root.tree().crash("/top/declared").unwrap().exit().await;
    until(|| top.which_child("x").is_ok_and(|it| it.process.is_some() && it.process != died)).await;
    assert_eq!(top.count_children().unwrap().active, 2);
    for (id, nth) in [("x", "start 3"), ("declared", "start 3")] {
        top.terminate_child(id).await.unwrap();
        let start = top.restart_child(id).await.unwrap();
        assert_eq!(text(start.extra.as_ref()), nth);
    }
    let silent = top.start_child(child("silent", || async { Ok(()) })).await.unwrap();
    assert!(silent.extra.is_none());

    let (spec, dynamic) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("dyn", 9));
    top.start_child(spec).await.unwrap();
    assert_eq!(text(dynamic.start_child(generous("x")).await.unwrap().extra()), "start 1");
    let (spec, template) =
        TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("template", generous));
    top.start_child(spec).await.unwrap();
    assert_eq!(text(template.start_child("x").await.unwrap().unwrap().extra()), "start 1");
}

proves!(a_restart_is_over_before_anything_else_is_served, ["SUP-101"]);
async fn a_restart_is_over_before_anything_else_is_served() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let (log, gate) = (Log::default(), Gate::new());
        let (a, probe) = Probe::new("a", &log);
        let spec =
            SupervisorSpec::new("top").strategy(strategy).child(gate.child("gated")).child(a);
        gate.open();
        let root = root(spec).await;
        let top = root.supervisor();
        assert_eq!(probe.ping().await, Ok(1));
        log.take();
        root.tree().crash("/top/gated").unwrap().exit().await;
        idle().await;
        let (more, _) = Probe::new("more", &log);
        let mut start = pin!(top.start_child(more));
        let mut terminate = pin!(top.terminate_child("a"));
        let mut missing = pin!(top.get_child_spec("nobody"));
        for _ in 0..9 {
            assert!(start.as_mut().now_or_never().is_none());
            assert!(terminate.as_mut().now_or_never().is_none());
            assert!(missing.as_mut().now_or_never().is_none());
            idle().await;
        }
        gate.open();
        start.await.unwrap();
        terminate.await.unwrap();
        assert!(missing.await.is_err());
        let lines = log.take();
        let end = ["more started", "a cleaned", "a dropped"];
        if strategy == Strategy::OneForOne {
            assert_eq!(lines, end);
        } else {
            let group = ["a cleaned", "a dropped", "a started"];
            assert_eq!(lines, [group, end].concat(), "{strategy:?}: the whole step");
        }
    }

    let gate = Gate::new();
    let (spec, dynamic) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("dyn", 9));
    let root = root(SupervisorSpec::new("top").child(spec)).await;
    gate.open();
    dynamic.start_child(gate.child("gated")).await.unwrap();
    root.tree().crash("/top/dyn/gated").unwrap().exit().await;
    idle().await;
    let mut start = pin!(dynamic.start_child(child("more", || async { Ok(()) })));
    for _ in 0..9 {
        assert!(start.as_mut().now_or_never().is_none());
        idle().await;
    }
    gate.open();
    start.await.unwrap();
    assert_eq!(dynamic.count_children().unwrap().active, 2);
}

proves!(a_stopped_child_is_started_from_its_specification, ["SUP-194"]);
async fn a_stopped_child_is_started_from_its_specification() {
    let world = World::start_with(&[Restart::Permanent, Restart::Transient], |spec| spec);
    let world = world.await.unwrap();
    let top = world.top();
    let (c, third) = Probe::new("c", &world.log);
    top.start_child(c.shutdown(Shutdown::BrutalKill).name("c")).await.unwrap();
    top.terminate_child("a").await.unwrap();
    world.probes[1].end(|| Message::StopSelf).await;
    assert_eq!(world.probes[1].settled().await, Err(CallError::NoProc));
    top.terminate_child("c").await.unwrap();
    world.log.take();
    for (id, probe) in [("a", &world.probes[0]), ("b", &world.probes[1]), ("c", &third)] {
        let start = top.restart_child(id).await.unwrap();
        assert_eq!(world.log.take(), [format!("{id} started")]);
        let process = start.process.unwrap();
        assert!(process.is_alive());
        assert_eq!(top.which_child(id).unwrap().process, Some(process));
        assert_eq!((status(top, id), probe.ping().await), (ChildStatus::Running, Ok(1)));
    }
    let spec = top.get_child_spec("c").await.unwrap();
    assert_eq!(spec.get_shutdown(), Shutdown::BrutalKill, "as it was specified");
    assert_eq!(world.root.names().whereis("c"), top.which_child("c").unwrap().process);
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.probes[0].answers().await, 1, "and it is supervised again");
}
