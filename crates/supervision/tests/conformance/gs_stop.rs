//! How a server is ended from outside, and looked into.

use std::{pin::pin, time::Duration};

use perennial_core::{ExitReason, Restart, Shutdown};
use perennial_supervision::{
    Address, CallError, ChildSpec, DebugError, DebugStatus, Debugger, GenServer, Init, Next,
    ProcessInfo, ProcessStatus, Reply, ServerCx, StopError, Supervisor, SupervisorSpec,
    actor::ActorError,
};
use tokio::sync::oneshot;

use crate::{
    gs_server::{SHORT, Say, Talk, Talker, alone, alone_with, pending, settle},
    harness::proves,
    probe::{Cleanup, Log, SOON, root},
};

/// Holds the handler until the sender is used.
fn gate() -> (oneshot::Sender<()>, Say) {
    let (go, gate) = oneshot::channel::<()>();
    let wait = async {
        gate.await?;
        Ok(Next::Continue)
    };
    (go, Say::Await(Box::pin(wait)))
}

proves!(a_shutdown_comes_behind_what_was_queued_and_before_what_comes_later, ["GS-038", "GS-041"]);
async fn a_shutdown_comes_behind_what_was_queued_and_before_what_comes_later() {
    let (root, talk) = alone().await;
    let mut monitor = talk.address.monitor();
    let (go, wait) = gate();
    talk.say(wait);
    talk.say(Say::Work("queued before"));
    let mut counted = pin!(talk.address.call(Say::Ping, SOON));
    pending(counted.as_mut()).await;
    let mut stop = pin!(root.supervisor().terminate_child("a"));
    pending(stop.as_mut()).await;
    settle().await;
    talk.say(Say::Work("later"));
    let mut late = pin!(talk.address.call(Say::Ping, SOON));
    pending(late.as_mut()).await;
    assert!(talk.did().is_empty());
    go.send(()).unwrap();
    stop.await.unwrap();
    assert_eq!(counted.await, Ok(1));
    assert_eq!(late.await, Err(CallError::Exited(ExitReason::Shutdown)));
    assert_eq!(talk.did(), ["queued before", "terminate: shutdown after 1", "dropped"]);
    assert_eq!(monitor.down().await, ExitReason::Shutdown);
}

/// Does not trap exits.
struct Loose(Log);

enum Told {
    Note(&'static str),
    Hang(oneshot::Sender<()>),
}

impl Drop for Loose {
    fn drop(&mut self) {
        self.0.add("dropped");
    }
}

impl GenServer for Loose {
    type Arguments = Log;
    type Message = Told;
    const TRAPS_EXITS: bool = false;

    async fn init(log: Log, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        Ok(Init::new(Self(log)))
    }

    async fn handle(
        &mut self,
        message: Told,
        _: &mut ServerCx<Self>,
    ) -> Result<Next<Told>, ActorError> {
        match message {
            Told::Note(line) => self.0.add(line),
            Told::Hang(begun) => {
                drop(begun);
                std::future::pending().await
            }
        }
        Ok(Next::Continue)
    }

    async fn terminate(
        &mut self,
        reason: &ExitReason,
        _: &mut ServerCx<Self>,
    ) -> Result<(), ActorError> {
        self.0.add(format!("terminate: {reason}"));
        Ok(())
    }
}

fn loose(log: &Log) -> (ChildSpec, Address<Told>) {
    let log = log.clone();
    let (spec, address) = ChildSpec::server::<Loose>("a", move || log.clone());
    (spec.restart(Restart::Temporary).shutdown(Shutdown::Infinity), address)
}

proves!(what_does_not_trap_exits_ends_at_once_without_cleanup, ["GS-039"]);
async fn what_does_not_trap_exits_ends_at_once_without_cleanup() {
    let log = Log::default();
    for inside in [false, true] {
        let (spec, address) = loose(&log);
        let root = root(SupervisorSpec::new("top").child(spec)).await;
        let mut monitor = address.monitor();
        if inside {
            let (begun, waits) = oneshot::channel();
            address.cast(Told::Hang(begun)).unwrap();
            waits.await.unwrap_err();
        } else {
            settle().await;
        }
        // Its mailbox is not emptied first.
        address.cast(Told::Note("queued")).unwrap();
        let before = root.tree().clock().now();
        root.supervisor().terminate_child("a").await.unwrap();
        assert_eq!(monitor.down().await, ExitReason::Shutdown);
        assert_eq!(root.tree().clock().now(), before);
        let mut did = log.take();
        did.retain(|line| inside || line != "queued");
        assert_eq!(did, ["dropped"], "inside: {inside}");
    }
    // Asked to stop by anybody else it cleans up all the same, as in OTP.
    let (spec, address) = loose(&log);
    let _root = root(SupervisorSpec::new("top").child(spec)).await;
    address.cast(Told::Note("queued")).unwrap();
    assert_eq!(address.stop(ExitReason::Normal, SOON).await, Ok(()));
    assert_eq!(log.take(), ["queued", "terminate: normal", "dropped"]);
}

proves!(a_normal_end_of_the_owner_ends_only_what_traps_exits, ["GS-045"]);
async fn a_normal_end_of_the_owner_ends_only_what_traps_exits() {
    for reason in [ExitReason::Normal, ExitReason::Shutdown, ExitReason::Error("x".into())] {
        let (_root, owner) = alone().await;
        let process = owner.address.whereis().unwrap();
        let (traps, talk) = Talk::new("traps");
        let log = Log::default();
        let (spec, address) = loose(&log);
        let top = SupervisorSpec::new("owned")
            .child(traps.restart(Restart::Temporary).linked_to(process.clone()))
            .child(spec.linked_to(process));
        let _owned = root(top).await;
        talk.did();
        let (mut one, mut other) = (talk.address.monitor(), address.monitor());
        owner.end(Say::Stop(reason.clone())).await;
        assert_eq!(one.down().await, reason);
        let cleaned = format!("terminate: {} after 0", reason.name());
        assert_eq!(talk.did(), [cleaned, "dropped".into()]);
        settle().await;
        if reason == ExitReason::Normal {
            address.cast(Told::Note("lives")).unwrap();
            settle().await;
            assert_eq!(log.take(), ["lives"]);
            assert!(address.whereis().is_some());
        } else {
            assert_eq!(other.down().await, reason);
            assert_eq!(log.take(), ["dropped"]);
        }
    }
}

proves!(a_kill_runs_no_cleanup, ["GS-040"]);
async fn a_kill_runs_no_cleanup() {
    for how in ["idle", "in a handler", "in its cleanup", "brutal"] {
        let cleanup = if how == "in its cleanup" { Cleanup::Hangs } else { Cleanup::Works };
        let (spec, talk) = Talk::with_cleanup("a", cleanup);
        let spec = spec.restart(Restart::Temporary);
        let spec = if how == "brutal" { spec.shutdown(Shutdown::BrutalKill) } else { spec };
        let root = root(SupervisorSpec::new("top").child(spec)).await;
        talk.did();
        let mut monitor = talk.address.monitor();
        match how {
            "in a handler" => talk.say(Talker::hang()),
            "in its cleanup" => talk.say(Say::Stop(ExitReason::Normal)),
            _ => (),
        }
        settle().await;
        let mut expected = vec!["dropped".to_owned()];
        if how == "in its cleanup" {
            expected.insert(0, "terminate: normal after 0".into());
        }
        if how == "brutal" {
            root.supervisor().terminate_child("a").await.unwrap();
        } else {
            root.tree().kill("/top/a").unwrap();
        }
        assert_eq!(monitor.down().await, ExitReason::Killed, "{how}");
        assert_eq!(talk.did(), expected, "{how}");
    }
}

proves!(a_stop_waits_for_the_end_and_tells_how_it_came, ["GS-049", "GS-050", "GS-052"]);
async fn a_stop_waits_for_the_end_and_tells_how_it_came() {
    for reason in [
        ExitReason::Normal,
        ExitReason::Shutdown,
        ExitReason::ShutdownWith("why".into()),
        ExitReason::Error("because".into()),
    ] {
        let (_root, talk) = alone().await;
        let mut monitor = talk.address.monitor();
        talk.say(Say::Work("queued"));
        assert_eq!(talk.address.stop(reason.clone(), SOON).await, Ok(()));
        let cleaned = format!("terminate: {} after 0", reason.name());
        assert_eq!(talk.did(), ["queued".into(), cleaned, "dropped".into()]);
        assert_eq!(monitor.down().await, reason);
        let again = talk.address.stop(reason, SOON).await;
        assert_eq!(again, Err(StopError::NoProc), "it is dead");
    }
    let (_spec, unknown) = Talk::new("unknown");
    let nobody = unknown.address.stop(ExitReason::Normal, SOON).await;
    assert_eq!(nobody, Err(StopError::NoProc));

    // Two at once: the first gives the reason, both wait for the end.
    let (_root, talk) = alone().await;
    let (go, wait) = gate();
    talk.say(wait);
    let mut first = pin!(talk.address.stop(ExitReason::Normal, SOON));
    let mut second = pin!(talk.address.stop(ExitReason::Normal, SOON));
    let mut other = pin!(talk.address.stop(ExitReason::Shutdown, SOON));
    for stop in [first.as_mut(), second.as_mut(), other.as_mut()] {
        pending(stop).await;
    }
    settle().await;
    for stop in [first.as_mut(), second.as_mut(), other.as_mut()] {
        pending(stop).await;
    }
    go.send(()).unwrap();
    assert_eq!(first.await, Ok(()));
    assert_eq!(talk.did(), ["terminate: normal after 0", "dropped"]);
    assert_eq!(second.await, Ok(()));
    assert_eq!(other.await, Err(StopError::Exited(ExitReason::Normal)));

    // Its cleanup fails, or a message before the stop ends it.
    let (_root, talk) = alone_with(Cleanup::Fails).await;
    let failed = StopError::Exited(ExitReason::Error("cleanup fails".into()));
    assert_eq!(talk.address.stop(ExitReason::Normal, SOON).await, Err(failed));
    let (_root, talk) = alone().await;
    talk.say(Say::Fail(ExitReason::Timeout));
    let overtaken = talk.address.stop(ExitReason::Normal, SOON).await;
    assert_eq!(overtaken, Err(StopError::Exited(ExitReason::Timeout)));
}

proves!(a_stop_that_cannot_be_waited_for_says_so, ["GS-051", "GS-053", "GS-054"]);
async fn a_stop_that_cannot_be_waited_for_says_so() {
    let (root, talk) = alone_with(Cleanup::Hangs).await;
    let before = root.tree().clock().now();
    let late = talk.address.stop(ExitReason::Normal, SHORT).await;
    assert_eq!(late, Err(StopError::Timeout));
    assert_eq!(root.tree().clock().now().since(before), SHORT);
    assert_eq!(talk.did(), ["terminate: normal after 0"]);
    assert!(talk.address.whereis().unwrap().is_alive(), "still busy stopping");
    let mut again = pin!(talk.address.stop(ExitReason::Normal, SOON));
    pending(again.as_mut()).await;
    root.tree().kill("/top/a").unwrap();
    assert_eq!(again.await, Err(StopError::Exited(ExitReason::Killed)));

    let (_root, talk) = alone().await;
    let own = talk.address.clone();
    let itself = |reply: Reply<Result<(), StopError>>| {
        Say::Await(Box::pin(async move {
            reply.send(own.stop(ExitReason::Normal, SOON).await);
            Ok(Next::Continue)
        }))
    };
    let answer = talk.address.call(itself, SOON).await;
    assert_eq!(answer, Ok(Err(StopError::CallingSelf)));
    assert_eq!(talk.ping().await, Ok(1), "nothing was asked");

    // The one duration that is no deadline.
    let refused = talk.address.stop(ExitReason::Normal, Duration::ZERO).await;
    assert_eq!(refused, Err(StopError::ZeroDeadline));
    settle().await;
    assert_eq!(talk.ping().await, Ok(2), "it stays alive");
    assert!(talk.did().is_empty());
    assert_eq!(talk.address.stop(ExitReason::Normal, Duration::MAX).await, Ok(()));
}

proves!(a_server_is_looked_into_and_changed_while_it_is_suspended, ["GS-057", "OBS-010"]);
async fn a_server_is_looked_into_and_changed_while_it_is_suspended() {
    let (child, talk) = Talk::new("a");
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(child));
    let root = root(SupervisorSpec::new("top").child(inner)).await;
    let debugger = Debugger::<Talker>::of(&talk.address);
    talk.ping().await.unwrap();
    talk.say(Say::Work("seen"));
    talk.did();
    assert_eq!(debugger.state(|talker| talker.pings, SOON).await, Ok(1));
    assert_eq!(talk.did(), ["seen"], "it comes behind what was sent before");
    let before = talk.address.whereis();
    let running = DebugStatus {
        path: "/top/inner/a".into(),
        parent: Some("/top/inner".into()),
        label: None,
        state: "pings: 1, secret: ***".into(),
        suspended: false,
        mailbox_depth: 0,
        events: vec!["message".into(), "work seen".into()],
        linked: Vec::new(),
    };
    assert_eq!(debugger.status(SOON).await, Ok(running.clone()), "without stopping it");

    debugger.suspend(SOON).await.unwrap();
    talk.say(Say::Work("first"));
    let mut waits = pin!(talk.address.call(Say::Ping, SOON));
    pending(waits.as_mut()).await;
    settle().await;
    assert!(talk.did().is_empty());
    let suspended = DebugStatus { suspended: true, mailbox_depth: 2, ..running };
    assert_eq!(debugger.status(SOON).await, Ok(suspended));
    assert_eq!(debugger.state(|talker| talker.pings, SOON).await, Ok(1));

    // A function that fails, in both ways, leaves the state as it is.
    let fails = debugger.replace_state(|_| Err("will not".into()), SOON).await;
    assert_eq!(fails, Err(DebugError::Failed(ExitReason::Error("will not".into()))));
    let panics = debugger.replace_state(|_| panic!("cannot"), SOON).await;
    assert!(matches!(panics, Err(DebugError::Failed(ExitReason::Panic { .. }))), "{panics:?}");
    let blind: Result<u64, _> = debugger.state(|_| panic!("cannot look"), SOON).await;
    assert!(matches!(blind, Err(DebugError::Failed(ExitReason::Panic { .. }))), "{blind:?}");
    assert_eq!(debugger.state(|talker| talker.pings, SOON).await, Ok(1));
    assert!(talk.did().is_empty(), "nothing was dropped");

    debugger.replace_state(|talker| Ok(talker.with_pings(40)), SOON).await.unwrap();
    assert_eq!(debugger.state(|talker| talker.pings, SOON).await, Ok(40));
    assert_eq!(talk.did(), ["dropped"], "the old state");
    pending(waits.as_mut()).await;
    debugger.resume(SOON).await.unwrap();
    talk.say(Say::Work("second"));
    assert_eq!(waits.await, Ok(41), "with the new state");
    settle().await;
    assert_eq!(talk.did(), ["first", "second"], "in order");
    debugger.replace_state(|talker| Ok(talker.with_pings(7)), SOON).await.unwrap();
    assert_eq!(talk.ping().await, Ok(8), "not suspended it works too");
    assert_eq!(talk.address.whereis(), before);
    root.shutdown().await;
    let gone = Err(DebugError::Call(CallError::NoProc));
    assert_eq!(debugger.suspend(SOON).await, gone);
}

proves!(a_server_is_seen_without_its_cooperation, ["OBS-009"]);
async fn a_server_is_seen_without_its_cooperation() {
    let (neighbour, other) = Talk::new("b");
    let root = root(SupervisorSpec::new("top").child(neighbour)).await;
    let (spec, talk) = Talk::with_cleanup("a", Cleanup::Hangs);
    assert_eq!(talk.address.info(), None);
    let (go, begin) = oneshot::channel::<()>();
    talk.begin(async {
        begin.await?;
        Ok(Next::Continue)
    });
    let spec = spec.restart(Restart::Temporary);
    let mut start = pin!(root.supervisor().start_child(spec));
    pending(start.as_mut()).await;
    settle().await;
    let process = talk.address.whereis().unwrap();
    assert_eq!(process.path(), "/top/a");
    let starting = ProcessInfo {
        process,
        status: ProcessStatus::Starting,
        mailbox_depth: 0,
        watches: Vec::new(),
    };
    assert_eq!(talk.address.info(), Some(starting.clone()));
    go.send(()).unwrap();
    start.await.unwrap();
    // It watches, and then hangs with messages before it.
    let neighbour = other.address.whereis().unwrap();
    let (linked, monitored) = (neighbour.clone(), neighbour.clone());
    talk.say(Talker::act(move |_, cx| {
        cx.link(&linked);
        let given_up = cx.monitor(&monitored);
        cx.monitor(&monitored);
        cx.demonitor(given_up);
        Ok(Next::Continue)
    }));
    settle().await;
    let (go, wait) = gate();
    talk.say(wait);
    settle().await;
    talk.say(Say::Work("waits"));
    talk.say(Say::Work("waits too"));
    let hanging = ProcessInfo {
        status: ProcessStatus::Running,
        mailbox_depth: 2,
        watches: vec![neighbour.clone(), neighbour],
        ..starting
    };
    assert_eq!(talk.address.info(), Some(hanging.clone()));
    go.send(()).unwrap();
    Debugger::<Talker>::of(&talk.address).suspend(SOON).await.unwrap();
    talk.say(Say::Work("waits again"));
    let suspended = ProcessInfo { status: ProcessStatus::Suspended, mailbox_depth: 1, ..hanging };
    assert_eq!(talk.address.info(), Some(suspended.clone()));
    other.end(Say::Stop(ExitReason::Normal)).await;
    settle().await;
    Debugger::<Talker>::of(&talk.address).resume(SOON).await.unwrap();
    settle().await;
    let running = ProcessInfo {
        status: ProcessStatus::Running,
        mailbox_depth: 0,
        watches: Vec::new(),
        ..suspended
    };
    assert_eq!(talk.address.info(), Some(running.clone()));
    talk.say(Say::Stop(ExitReason::Normal));
    settle().await;
    let stopping = ProcessInfo { status: ProcessStatus::Stopping, ..running };
    assert_eq!(talk.address.info(), Some(stopping));
    root.tree().kill("/top/a").unwrap().exit().await;
    assert_eq!(talk.address.info(), None);
}
