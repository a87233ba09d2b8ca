//! One light server below a supervisor as any other child.

use std::time::Duration;

use perennial_supervision::{
    Address, CallError, CastError, ChildSpec, ExitReason, LifecycleEvent, Mailbox, Overflow, Root,
    SendError, Shutdown, Strategy, SupervisorSpec,
};
use tokio::sync::oneshot;

use super::lamp::{Begin, Finish, Lamp, Say, Wire, error, fall};
use crate::{
    gs_server::settle,
    probe::{SOON, root},
};

async fn lamp(adapt: impl FnOnce(ChildSpec) -> ChildSpec) -> (Root, Address<Say>, Wire) {
    let wire = Wire::default();
    let (spec, lamp) = ChildSpec::light::<Lamp>("lamp", wire.clone());
    let spec = SupervisorSpec::new("top").intensity(100, SOON).child(adapt(spec));
    (root(spec).await, lamp, wire)
}

#[tokio::test(start_paused = true)]
async fn its_supervisor_restarts_it_behind_the_same_address() {
    let (root, lamp, wire) = lamp(|spec| spec).await;
    for (say, shown) in [
        (Say::Fail(error("x")), "terminate error: x"),
        (Say::Stop(ExitReason::Normal), "terminate normal"),
        (Say::Panic, "terminate panic: out"),
    ] {
        let before = lamp.whereis().unwrap();
        let mut watch = lamp.monitor();
        lamp.cast(say).unwrap();
        watch.down().await;
        settle().await;
        assert_ne!(lamp.whereis().unwrap(), before);
        assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(1));
        let did: Vec<_> = wire.did().into_iter().filter(|it| !it.ends_with("started")).collect();
        assert!(did[0].starts_with(shown), "{did:?}");
        assert_eq!(did[1..], ["dropped"]);
    }
    let (own, current) = lamp.call(Say::Who, SOON).await.unwrap();
    assert_eq!((Some(own.clone()), current), (lamp.whereis(), Some(own.clone())));
    assert_eq!(own.path(), "/top/lamp");
    assert_eq!(lamp.call(Say::CallSelf, SOON).await.unwrap(), "Err(CallingSelf)");
    root.shutdown().await;
    assert_eq!(lamp.cast(Say::Note("late")), Err(CastError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_during_its_init_is_kept_and_a_failed_init_leaves_nothing() {
    let wire = Wire::default();
    let (go, gate) = oneshot::channel();
    wire.begin(Begin::Wait(gate));
    let (spec, lamp) = ChildSpec::light::<Lamp>("lamp", wire.clone());
    let started = tokio::spawn(root(SupervisorSpec::new("top")));
    let root = started.await.unwrap();
    let supervisor = root.supervisor().clone();
    let starting = tokio::spawn(async move { supervisor.start_child(spec).await });
    settle().await;
    lamp.cast(Say::Note("early")).unwrap();
    go.send(()).unwrap();
    starting.await.unwrap().unwrap();
    assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(1));
    assert_eq!(wire.did(), ["lamp 1 started", "early"]);
    for (begin, shown) in
        [(Begin::Fail, "no light"), (Begin::Panic, "no light"), (Begin::Hang, "timeout")]
    {
        wire.begin(begin);
        let (spec, other) = ChildSpec::light::<Lamp>("other", wire.clone());
        let spec = spec.start_within(Duration::from_secs(100));
        let failed = root.supervisor().start_child(spec).await.unwrap_err();
        assert!(failed.to_string().contains(shown), "{failed}");
        assert_eq!(other.cast(Say::Note("nobody")), Err(CastError::NoProc));
        assert_eq!(wire.did(), Vec::<String>::new());
    }
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_its_end_is_told_before_the_next() {
    let (root, lamp, wire) = lamp(|spec| spec).await;
    let mut events = root.tree().lifecycle();
    let (go, gate) = oneshot::channel();
    lamp.cast(Say::Hold(gate)).unwrap();
    lamp.cast(Say::Panic).unwrap();
    lamp.cast(Say::Note("lost")).unwrap();
    let asked = tokio::spawn({
        let lamp = lamp.clone();
        async move { lamp.call(Say::Ask, SOON).await }
    });
    settle().await;
    go.send(()).unwrap();
    let answer = asked.await.unwrap();
    assert!(matches!(answer, Err(CallError::Exited(ExitReason::Panic { .. }))), "{answer:?}");
    settle().await;
    let told: Vec<_> = std::iter::from_fn(|| events.try_next())
        .filter(|event| event.path == "/top/lamp")
        .filter_map(|event| match event.event {
            LifecycleEvent::Exited { incarnation, .. } => Some(format!("exited {incarnation}")),
            LifecycleEvent::Undelivered { count } => Some(format!("undelivered {count}")),
            LifecycleEvent::Started { incarnation, .. } => Some(format!("started {incarnation}")),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["exited 1", "undelivered 2", "started 2"]);
    assert!(!wire.did().contains(&"lost".to_owned()));
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_killed_stopped_and_shown_as_any_child() {
    let time = Duration::from_secs(2);
    let (root, lamp, wire) = lamp(|spec| spec.shutdown(Shutdown::Timeout(time))).await;
    let (_go, gate) = oneshot::channel();
    lamp.cast(Say::Hold(gate)).unwrap();
    settle().await;
    lamp.cast(Say::Note("waits")).unwrap();
    tokio::time::advance(Duration::from_secs(3)).await;
    let node = root.tree().nodes().into_iter().find(|it| it.path == "/top/lamp").unwrap();
    assert_eq!((node.mailbox_depth, node.mailbox_oldest_ms), (Some(1), Some(3_000)));
    assert_eq!(node.current.unwrap().message, "hold");
    assert_eq!(root.tree().kill("/top/lamp").unwrap().exit().await, ExitReason::Killed);
    assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(1));
    assert_eq!(wire.did(), ["lamp 1 started", "dropped", "lamp 1 started"]);
    fall(&lamp).await;
    assert!(root.tree().crash("/top/lamp").is_ok());
    settle().await;
    assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(1));
    assert_eq!(lamp.stop(error("asked"), SOON).await, Ok(()));
    settle().await;
    wire.finish(Finish::Hang);
    let begun = tokio::time::Instant::now();
    root.shutdown().await;
    assert_eq!(begun.elapsed(), time);
}

#[tokio::test(start_paused = true)]
async fn it_takes_part_in_strategies_and_has_each_mailbox() {
    for policy in [Overflow::Reject, Overflow::Wait, Overflow::DropOldest, Overflow::DropNewest] {
        let wires = [(); 2].map(|()| Wire::default());
        let (a, first) = ChildSpec::light::<Lamp>("a", wires[0].clone());
        let (b, second) = ChildSpec::light::<Lamp>("b", wires[1].clone());
        let a = a.mailbox(Mailbox::new(2).overflow(policy));
        let spec = SupervisorSpec::new("top").strategy(Strategy::OneForAll).intensity(9, SOON);
        let root = root(spec.child(a).child(b)).await;
        let (_go, gate) = oneshot::channel();
        first.cast(Say::Hold(gate)).unwrap();
        settle().await;
        let casts = ["1", "2", "3"].map(|what| first.cast(Say::Note(what)));
        let told = match policy {
            Overflow::Reject | Overflow::Wait => Err(CastError::Full),
            Overflow::DropOldest | Overflow::DropNewest => Ok(()),
        };
        assert_eq!(casts, [Ok(()), Ok(()), told], "{policy}");
        let waits = tokio::spawn({
            let first = first.clone();
            async move { first.send(Say::Note("4"), SOON).await }
        });
        settle().await;
        assert_eq!(waits.is_finished(), policy != Overflow::Wait, "{policy}");
        root.tree().kill("/top/a").unwrap().exit().await;
        let sent = waits.await.unwrap();
        if policy == Overflow::Wait {
            assert_eq!(sent, Err(SendError::Exited(ExitReason::Killed)));
        }
        assert_eq!(second.call(Say::Ask, SOON).await, Ok(1));
        assert_eq!(wires[1].did(), ["b 1 started", "terminate shutdown", "dropped", "b 1 started"]);
        root.shutdown().await;
    }
}
