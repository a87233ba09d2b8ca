//! GS call: what a caller gets, and when.

use std::time::Duration;

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{CallError, ChildSpec, SupervisorSpec};

use crate::{
    harness::proves,
    probe::{Log, Message, Probe, SOON, World, root},
};

proves!(a_call_returns_the_reply, ["GS-017"]);
async fn a_call_returns_the_reply() {
    let world = World::start(|spec| spec).await;
    assert_eq!(world.probes[0].ping().await, Ok(1));
    assert_eq!(world.probes[0].ping().await, Ok(2));
    assert_eq!(world.probes[1].ping().await, Ok(1));
}

proves!(a_call_to_nobody_fails_at_once, ["GS-018"]);
async fn a_call_to_nobody_fails_at_once() {
    let world = World::start_with(&[Restart::Temporary; 2], |spec| spec).await.unwrap();
    let clock = world.root.tree().clock();
    let before = clock.now();
    let (spec, never_started): (ChildSpec, Probe) = Probe::new("x", &Log::default());
    assert_eq!(never_started.ping().await, Err(CallError::NoProc));
    drop(spec);
    world.top().terminate_child("a").await.unwrap();
    assert_eq!(world.probes[0].ping().await, Err(CallError::NoProc));
    world.probes[1].end(|| Message::Panic).await;
    assert_eq!(world.probes[1].settled().await, Err(CallError::NoProc));
    assert_eq!(clock.now().since(before), Duration::ZERO);
}

proves!(a_pending_call_fails_at_once_with_the_reason, ["GS-021", "GS-022", "GS-023"]);
async fn a_pending_call_fails_at_once_with_the_reason() {
    let (child, probe) = Probe::new("a", &Log::default());
    let spec = SupervisorSpec::new("top").intensity(99, SOON).child(child);
    let root = root(spec).await;
    let clock = root.tree().clock();
    let before = clock.now();
    // Each end meets a call that the server keeps without an answer.
    assert_eq!(probe.end(|| Message::StopSelf).await, ExitReason::Normal);
    for reason in [
        ExitReason::Shutdown,
        ExitReason::ShutdownWith("detail".into()),
        ExitReason::Error("text".into()),
    ] {
        probe.answers().await;
        let told = reason.clone();
        assert_eq!(probe.end(move || Message::Exit(told)).await, reason);
    }
    probe.answers().await;
    let panic = probe.end(|| Message::Panic).await;
    assert!(matches!(&panic, ExitReason::Panic { message, .. } if **message == *"asked to panic"));
    probe.answers().await;
    let waits = probe.address.call(Message::Keep, SOON);
    let kill = async {
        tokio::task::yield_now().await;
        root.tree().kill("/top/a").unwrap().exit().await
    };
    let (caught, killed) = tokio::join!(waits, kill);
    assert_eq!((caught, killed), (Err(CallError::Exited(ExitReason::Killed)), ExitReason::Killed));
    assert_eq!(clock.now().since(before), Duration::ZERO, "nobody waited for a timeout");
}

proves!(a_server_that_calls_itself_is_told_so_at_once, ["GS-024"]);
async fn a_server_that_calls_itself_is_told_so_at_once() {
    let world = World::start(|spec| spec).await;
    let probe = &world.probes[0];
    let clock = world.root.tree().clock();
    let before = clock.now();
    let asked = probe.address.clone();
    let answer = probe.address.call(|reply| Message::CallSelf(asked, reply), SOON).await;
    assert_eq!(answer, Ok(Err(CallError::CallingSelf)));
    assert_eq!(clock.now().since(before), Duration::ZERO);
    assert_eq!((probe.ping().await, world.incarnation("a")), (Ok(1), 1));
}
