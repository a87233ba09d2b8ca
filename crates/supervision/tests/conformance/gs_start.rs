//! Starts of a server, and what its init can answer.

use std::{future::pending as for_ever, pin::pin};

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    CallError, Clock, DynamicSupervisor, DynamicSupervisorSpec, Ignore, LifecycleEvent, Monitor,
    Name, Next, Options, RequestError, Root, StartError, StartFault, SupervisorSpec,
    pass_to_starter,
};
use tokio::sync::oneshot;

use crate::{
    gs_server::{SHORT, Say, Talk, Talker, pending, settle},
    harness::proves,
    probe::{SOON, root},
};

fn fault(refused: RequestError) -> StartFault {
    let RequestError::StartFailed(StartError { reason, .. }) = refused else { panic!("{refused}") };
    reason
}

/// Starts `talk` anew, whose next init is scripted, in each of the ways there are.
async fn start_fails(name: &str, script: impl Fn(&Talk)) -> Vec<StartFault> {
    let mut faults = Vec::new();
    // Declared.
    let (spec, talk) = Talk::new(name);
    script(&talk);
    let declared = SupervisorSpec::new("top").child(spec);
    let error = Root::start(declared, Clock::start(), Options::default()).await.unwrap_err();
    faults.push(error.root_cause().clone());
    none_remains(&talk).await;
    // By request.
    let (dynamic, starts) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("some", 10));
    let root = root(SupervisorSpec::new("top").child(dynamic)).await;
    let (spec, talk) = Talk::new(name);
    script(&talk);
    faults.push(fault(root.supervisor().start_child(spec).await.unwrap_err()));
    none_remains(&talk).await;
    // On demand.
    let (spec, talk) = Talk::new(name);
    script(&talk);
    faults.push(fault(starts.start_child(spec).await.unwrap_err()));
    none_remains(&talk).await;
    assert_eq!(starts.count_children().unwrap().active, 0);
    assert_eq!(root.supervisor().count_children().unwrap().active, 1);
    assert!(root.tree().kill(&format!("/top/{name}")).is_err(), "nothing runs there");
    faults
}

async fn none_remains(talk: &Talk) {
    assert_eq!(talk.address.whereis(), None);
    assert_eq!(talk.ping().await, Err(CallError::NoProc));
    let did = talk.did();
    assert!(!did.iter().any(|line| line.starts_with("terminate")), "{did:?}");
}

proves!(a_start_returns_when_the_init_is_done, ["GS-001"]);
async fn a_start_returns_when_the_init_is_done() {
    let root = root(SupervisorSpec::new("top")).await;
    let (spec, talk) = Talk::new("a");
    let (go, gate) = oneshot::channel::<()>();
    let log = talk.log.clone();
    talk.begin(async move {
        log.add("init begins");
        gate.await?;
        log.add("init ends");
        Ok(Next::Continue)
    });
    let mut start = pin!(root.supervisor().start_child(spec));
    pending(start.as_mut()).await;
    settle().await;
    assert_eq!(talk.did(), ["init begins"]);
    pending(start.as_mut()).await;
    go.send(()).unwrap();
    start.await.unwrap();
    assert_eq!(talk.did(), ["init ends", "started"]);
    let server = talk.address.whereis().unwrap();
    assert!(server.is_alive());
    let (own, at) = oneshot::channel();
    talk.say(Talker::act(move |_, cx| {
        own.send(cx.process().clone()).unwrap();
        Ok(Next::Continue)
    }));
    assert_eq!(at.await.unwrap(), server, "what the address tells is what was started");
}

proves!(an_init_that_stops_is_the_reason_of_the_start, ["GS-003", "GS-006"]);
async fn an_init_that_stops_is_the_reason_of_the_start() {
    for reason in [
        ExitReason::Normal,
        ExitReason::Shutdown,
        ExitReason::ShutdownWith("detail".into()),
        ExitReason::Killed,
        ExitReason::Error("why".into()),
    ] {
        // By its answer, and by an explicit exit.
        let stops = |talk: &Talk| {
            let reason = reason.clone();
            talk.begin(async { Ok(Next::Stop(reason)) });
        };
        let exits = |talk: &Talk| {
            let reason = reason.clone();
            talk.begin(async { Err(reason.into()) });
        };
        let expected = vec![StartFault::Failed(reason.clone()); 3];
        assert_eq!(start_fails("a", stops).await, expected);
        assert_eq!(start_fails("a", exits).await, expected);
    }
}

proves!(an_init_that_ignores_is_no_failure_and_leaves_no_server, ["GS-004"]);
async fn an_init_that_ignores_is_no_failure_and_leaves_no_server() {
    let (dynamic, starts) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("some", 10));
    let root = root(SupervisorSpec::new("top").child(dynamic)).await;
    let mut lifecycle = root.tree().lifecycle();
    let (spec, talk) = Talk::new("a");
    talk.begin(async { Err(Ignore.into()) });
    let ignored = root.supervisor().start_child(spec).await.unwrap();
    assert_eq!(ignored.process, None);
    none_remains(&talk).await;
    let (spec, talk) = Talk::new("a");
    talk.begin(async { Err(Ignore.into()) });
    assert_eq!(starts.start_child(spec).await.unwrap_err(), RequestError::Ignore);
    none_remains(&talk).await;
    assert_eq!(root.supervisor().count_children().unwrap().active, 1);
    assert_eq!(starts.count_children().unwrap().active, 0);
    root.shutdown().await;
    drop((root, starts));
    while let Some(event) = lifecycle.next().await {
        let failed = matches!(event.event, LifecycleEvent::StartFailed { .. });
        assert!(!failed && !event.path.ends_with("/a"), "{event:?}");
    }
}

proves!(a_panic_in_init_fails_the_start_and_never_hangs, ["GS-005"]);
async fn a_panic_in_init_fails_the_start_and_never_hangs() {
    let panics = |talk: &Talk| {
        talk.begin(async { panic!("no init") });
    };
    for fault in start_fails("a", panics).await {
        let StartFault::Failed(ExitReason::Panic { message, location }) = fault else {
            panic!("{fault}")
        };
        assert_eq!(&*message, "no init");
        assert!(location.unwrap().contains("gs_start.rs"));
    }
    // As a start_monitor: somebody watches the server that is being started.
    let (spec, talk) = Talk::new("a");
    let (watch, watched) = oneshot::channel::<Monitor>();
    let address = talk.address.clone();
    talk.begin(async move {
        watch.send(address.monitor()).unwrap();
        panic!("no init either")
    });
    let root = root(SupervisorSpec::new("top")).await;
    let failed = fault(root.supervisor().start_child(spec).await.unwrap_err());
    let down = watched.await.unwrap().down().await;
    assert_eq!(failed, StartFault::Failed(down));
}

/// Says when it is dropped.
struct Dropped(Talk);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.log.add("init dropped");
    }
}

proves!(an_init_that_takes_too_long_is_killed, ["GS-008"]);
async fn an_init_that_takes_too_long_is_killed() {
    let root = root(SupervisorSpec::new("top")).await;
    let (spec, talk) = Talk::new("a");
    let own = Dropped(talk.clone());
    talk.begin(async move {
        let _own = own;
        for_ever::<()>().await;
        Ok(Next::Continue)
    });
    let before = root.tree().clock().now();
    let mut start = pin!(root.supervisor().start_child(spec.start_within(SHORT)));
    pending(start.as_mut()).await;
    settle().await;
    // A caller that was quick is told.
    let mut early = pin!(talk.address.call(Say::Ping, SOON));
    pending(early.as_mut()).await;
    assert_eq!(fault(start.await.unwrap_err()), StartFault::Failed(ExitReason::Timeout));
    assert_eq!(root.tree().clock().now().since(before), SHORT);
    assert_eq!(talk.did(), ["init dropped"]);
    assert_eq!(early.await, Err(CallError::Exited(ExitReason::Killed)));
    none_remains(&talk).await;
}

proves!(when_a_start_has_failed_the_process_is_gone_already, ["GS-009"]);
async fn when_a_start_has_failed_the_process_is_gone_already() {
    let root = root(SupervisorSpec::new("top")).await;
    let (spec, talk) = Talk::new("a");
    let mut lifecycle = root.tree().lifecycle();
    for round in 0..100 {
        match round % 3 {
            0 => talk.begin(async { Err("no".into()) }),
            1 => talk.begin(async { panic!("no") }),
            _ => talk.begin(for_ever()),
        }
        let address = talk.address.clone();
        let spec = spec.clone().start_within(SHORT);
        let refused = root.supervisor().start_child(spec).await.unwrap_err();
        assert!(matches!(fault(refused), StartFault::Failed(_)), "never a conflict");
        assert_eq!(address.whereis(), None, "gone at that very moment");
        assert_eq!(talk.address.monitor().down().await, ExitReason::NoProc);
    }
    root.supervisor().start_child(spec.restart(Restart::Temporary)).await.unwrap();
    assert_eq!(talk.ping().await, Ok(1));
    root.shutdown().await;
    drop(root);
    let mut exits = 0;
    while let Some(event) = lifecycle.next().await {
        if event.path == "/top/a" && matches!(event.event, LifecycleEvent::Exited { .. }) {
            exits += 1;
        }
    }
    assert_eq!(exits, 1, "only the one that had started");
}

proves!(what_is_sent_during_init_is_kept, ["GS-013"]);
async fn what_is_sent_during_init_is_kept() {
    let root = root(SupervisorSpec::new("top")).await;
    let (spec, talk) = Talk::new("a");
    let (go, gate) = oneshot::channel::<()>();
    talk.begin(async {
        gate.await?;
        Ok(Next::Continue)
    });
    let mut start = pin!(root.supervisor().start_child(spec));
    pending(start.as_mut()).await;
    settle().await;
    talk.say(Say::Work("early"));
    let mut call = pin!(talk.address.call(Say::Ping, SOON));
    pending(call.as_mut()).await;
    talk.say(Say::Work("later"));
    settle().await;
    assert!(talk.did().is_empty());
    go.send(()).unwrap();
    start.await.unwrap();
    assert_eq!(call.await, Ok(1));
    settle().await;
    assert_eq!(talk.did(), ["started", "early", "later"]);
}

fn work(what: &'static str) -> Next<Say> {
    Next::Continuation(Say::Work(what))
}

proves!(a_continuation_runs_before_everything_that_waits, ["GS-014"]);
async fn a_continuation_runs_before_everything_that_waits() {
    let root = root(SupervisorSpec::new("top")).await;
    let (spec, talk) = Talk::new("a");
    let (go, gate) = oneshot::channel::<()>();
    talk.begin(async {
        gate.await?;
        Ok(work("continuation of init"))
    });
    let mut start = pin!(root.supervisor().start_child(spec));
    pending(start.as_mut()).await;
    settle().await;
    talk.say(Say::Work("queued during init"));
    talk.say(Talker::act(|talker, _| {
        talker.answers.push(work("continuation of an exit"));
        talker.answers.push(work("continuation of a timeout"));
        Ok(work("continuation of a handler"))
    }));
    talk.say(Say::Work("queued behind the handler"));
    go.send(()).unwrap();
    start.await.unwrap();
    settle().await;
    let lines = [
        "started",
        "continuation of init",
        "queued during init",
        "continuation of a handler",
        "queued behind the handler",
    ];
    assert_eq!(talk.did(), lines);
    talk.say(Talker::act(|_, _| Ok(Next::Timeout(SHORT))));
    settle().await;
    tokio::time::advance(SHORT).await;
    settle().await;
    assert_eq!(talk.did(), ["timeout", "continuation of a timeout"]);
    let (other, gone) = Talk::new("b");
    root.supervisor().start_child(other.restart(Restart::Temporary)).await.unwrap();
    let process = gone.address.whereis().unwrap();
    talk.say(Talker::act(move |_, cx| {
        cx.monitor(&process);
        Ok(Next::Continue)
    }));
    settle().await;
    gone.end(Say::Stop(ExitReason::Normal)).await;
    settle().await;
    assert_eq!(talk.did(), ["exit of /top/b: normal", "continuation of an exit"]);
}

proves!(what_was_started_comes_with_a_monitor_of_its_end, ["GS-011"]);
async fn what_was_started_comes_with_a_monitor_of_its_end() {
    let root = root(SupervisorSpec::new("top")).await;
    for at_once in [false, true] {
        let (spec, talk) = Talk::new("a");
        let own = talk.address.clone();
        talk.begin(async move {
            pass_to_starter(own.monitor());
            let stop = Next::Continuation(Say::Stop(ExitReason::Timeout));
            Ok(if at_once { stop } else { Next::Continue })
        });
        let started =
            root.supervisor().start_child(spec.restart(Restart::Temporary)).await.unwrap();
        let mut monitor = started.extra.unwrap().downcast_ref::<Monitor>().unwrap().clone();
        let server = started.process.unwrap();
        if at_once {
            // Gone before anybody could have watched it by other means.
            settle().await;
            assert_eq!(server.monitor().down().await, ExitReason::NoProc);
        } else {
            assert_eq!(talk.address.whereis(), Some(server));
            let mut down = Box::pin(monitor.down());
            pending(down.as_mut()).await;
            talk.say(Say::Stop(ExitReason::Timeout));
        }
        assert_eq!(monitor.down().await, ExitReason::Timeout);
    }
}

proves!(a_name_is_held_from_before_the_init_and_by_one_only, ["GS-010", "GS-012"]);
async fn a_name_is_held_from_before_the_init_and_by_one_only() {
    let (dynamic, starts) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("some", 10));
    let root = root(SupervisorSpec::new("top").child(dynamic)).await;
    let name = Name::from("the one");
    let (spec, talk) = Talk::new("a");
    let (go, gate) = oneshot::channel::<()>();
    let (own, names, named) = (talk.clone(), root.names().clone(), name.clone());
    talk.begin(async move {
        let at_name = names.address::<Say>(&named).ok_or("not named")?;
        at_name.cast(Say::Work("from its own init"))?;
        own.log.add(format!("is itself: {}", names.whereis(&named) == own.address.whereis()));
        gate.await?;
        Ok(Next::Continue)
    });
    let mut start = pin!(root.supervisor().start_child(spec.name(name.clone())));
    pending(start.as_mut()).await;
    settle().await;
    assert_eq!(talk.did(), ["is itself: true"]);
    let at_name = root.names().address::<Say>(&name).unwrap();
    at_name.cast(Say::Work("from somebody else")).unwrap();
    // The supervisor is busy starting it; another one finds the name taken already.
    let mut refusals = Vec::new();
    let (other, stranger) = Talk::new("b");
    refusals.push(starts.start_child(other.name(name.clone())).await.unwrap_err());
    go.send(()).unwrap();
    let holder = start.await.unwrap().process.unwrap();
    settle().await;
    assert_eq!(talk.did(), ["started", "from its own init", "from somebody else"]);
    // In every kind of start, linked to somebody or watched or neither.
    let (other, _) = Talk::new("b");
    refusals.push(root.supervisor().start_child(other.name("the one")).await.unwrap_err());
    let (other, _) = Talk::new("b");
    let linked = other.name("the one").linked_to(holder.clone());
    refusals.push(starts.start_child(linked).await.unwrap_err());
    let (other, watched) = Talk::new("b");
    watched.begin(async { Err("its init ran".into()) });
    refusals.push(starts.start_child(other.name("the one")).await.unwrap_err());
    assert_eq!(watched.address.monitor().down().await, ExitReason::NoProc);
    assert_eq!(refusals, vec![RequestError::AlreadyStarted(holder.clone()); 4]);
    none_remains(&stranger).await;
    assert_eq!(root.names().whereis(&name), Some(holder));
    assert_eq!(talk.ping().await, Ok(1), "the holder is none the worse");
}

proves!(continuations_chain_and_may_stop_the_server, ["GS-015"]);
async fn continuations_chain_and_may_stop_the_server() {
    let (spec, talk) = Talk::new("a");
    let log = talk.log.clone();
    talk.begin(async move {
        let third = Next::Continuation(Say::Stop(ExitReason::ShutdownWith("third".into())));
        let second = Talker::act(move |talker, _| {
            talker.log.add("second");
            Ok(third)
        });
        let first = Talker::act(move |_, _| {
            log.add("first");
            Ok(Next::Continuation(second))
        });
        Ok(Next::Continuation(first))
    });
    let root = root(SupervisorSpec::new("top")).await;
    let mut lifecycle = root.tree().lifecycle();
    root.supervisor().start_child(spec.restart(Restart::Temporary)).await.unwrap();
    // Queued behind the chain, and so never handled.
    drop(talk.address.cast(Say::Work("queued")));
    let exited = loop {
        if let LifecycleEvent::Exited { reason, .. } = lifecycle.next().await.unwrap().event {
            break reason;
        }
    };
    assert_eq!(exited, ExitReason::ShutdownWith("third".into()));
    let lines = ["started", "first", "second", "terminate: shutdown_with after 0", "dropped"];
    assert_eq!(talk.did(), lines);
}
