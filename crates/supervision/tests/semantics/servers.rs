//! What servers promise beyond the catalogue.

use std::{pin::pin, sync::Arc};

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    CallError, ChildSpec, DebugError, Debugger, GenServer, Init, MAILBOX_MAX, Next, ServerCx,
    SupervisorSpec, actor::ActorError,
};
use tokio::sync::oneshot;

use crate::{gs_server::*, probe::*};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_answered_while_the_server_dies_again_and_again() {
    let (spec, talk) = Talk::new("a");
    let top = SupervisorSpec::new("top").intensity(100_000, SOON).child(spec);
    let root = root(top).await;
    let callers = (0..8_u64).map(|caller| {
        let talk = talk.clone();
        async move {
            let mut answered = 0;
            for round in 0..300 {
                match (caller + round) % 40 {
                    0 => drop(talk.address.cast(Say::Fail(ExitReason::Normal))),
                    1 => drop(talk.address.stop(ExitReason::Shutdown, SOON).await),
                    _ => (),
                }
                match talk.ping().await {
                    Ok(_) => answered += 1,
                    Err(CallError::Exited(_)) => tokio::task::yield_now().await,
                    Err(other) => panic!("{other}"),
                }
            }
            answered
        }
    });
    let answered: Vec<u32> = futures_util::future::join_all(callers).await;
    assert!(answered.iter().all(|answered| *answered > 0), "{answered:?}");
    while talk.ping().await.is_err() {}
    root.tree().kill("/top/a").unwrap().exit().await;
    while talk.ping().await.is_err() {}
    let did = talk.did();
    let count = |did: &[String], what: &str| did.iter().filter(|line| line.contains(what)).count();
    assert_eq!(count(&did, "started"), count(&did, "dropped") + 1, "one lives");
    assert_eq!(count(&did, "terminate"), count(&did, "dropped") - 1, "all but the killed one");

    // Killed and crashed from outside, at any moment of their lives.
    let callers = (0..4).map(|_| async {
        for _ in 0..300 {
            let answer = talk.ping().await;
            assert!(matches!(answer, Ok(_) | Err(CallError::Exited(_))), "{answer:?}");
            tokio::task::yield_now().await;
        }
    });
    let killer = async {
        for round in 0..200 {
            let tree = root.tree();
            while round % 2 == 1 && talk.ping().await.is_err() {}
            let hit = if round % 2 == 0 { tree.kill("/top/a") } else { tree.crash("/top/a") };
            // It may be between two lives.
            if let Ok(victim) = hit {
                victim.exit().await;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(futures_util::future::join_all(callers), killer);
    root.shutdown().await;
    assert_eq!(talk.ping().await, Err(CallError::NoProc));
    let did = talk.did();
    assert_eq!(count(&did, "started") + 1, count(&did, "dropped"), "none lives");
    assert!(count(&did, "terminate: panic") > 0, "a crash is cleaned up after");
}

#[tokio::test(start_paused = true)]
async fn without_traps_a_linked_process_takes_the_server_along_unless_it_ends_normally() {
    for reason in reasons() {
        let (a, address) = ChildSpec::server::<Bare<false>>("a", || ());
        let (b, other) = Talk::new("b");
        let top = SupervisorSpec::new("top")
            .child(a.restart(Restart::Temporary))
            .child(b.restart(Restart::Temporary));
        let _root = root(top).await;
        let linked = other.address.clone();
        address.call(|reply| Told::Link(linked, reply), SOON).await.unwrap();
        let mut monitor = address.monitor();
        other.end(Say::Stop(reason.clone())).await;
        settle().await;
        if reason == ExitReason::Normal {
            assert!(address.whereis().is_some());
        } else {
            assert_eq!(monitor.down().await, reason);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_lets_others_run() {
    let (root, talk) = alone().await;
    // It feeds itself without an await, for ever.
    fn again(_: &mut Talker, cx: &mut ServerCx<Talker>) -> crate::gs_server::Answer {
        cx.address().cast(Talker::act(again))?;
        Ok(Next::Continue)
    }
    talk.say(Talker::act(again));
    let held = Arc::new(());
    let kept = held.clone();
    talk.say(Talker::act(move |_, _| {
        let _kept = &kept;
        Ok(Next::Continue)
    }));
    assert_eq!(talk.ping().await, Ok(1));
    assert_eq!(Arc::strong_count(&held), 1);
    let mut monitor = talk.address.monitor();
    root.tree().kill("/top/a").unwrap();
    assert_eq!(monitor.down().await, ExitReason::Killed);
    assert_eq!(talk.ping().await, Err(CallError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_init_comes_after_it() {
    let root = root(SupervisorSpec::new("top")).await;
    let (spec, talk) = Talk::new("a");
    let (go, gate) = oneshot::channel::<()>();
    talk.begin(async {
        gate.await?;
        Ok(Next::Continue)
    });
    let mut start = pin!(root.supervisor().start_child(spec.restart(Restart::Temporary)));
    pending(start.as_mut()).await;
    settle().await;
    talk.say(Say::Work("queued"));
    let mut stop = pin!(talk.address.stop(ExitReason::Normal, SOON));
    pending(stop.as_mut()).await;
    settle().await;
    assert!(talk.did().is_empty());
    go.send(()).unwrap();
    start.await.unwrap();
    assert_eq!(stop.await, Ok(()));
    assert_eq!(talk.did(), ["started", "queued", "terminate: normal after 0", "dropped"]);
}

#[tokio::test(start_paused = true)]
async fn a_library_actor_is_stopped_and_watched_alike() {
    let log = Log::default();
    let (spec, probe) = Probe::new("a", &log);
    let root = root(SupervisorSpec::new("top").child(spec.restart(Restart::Temporary))).await;
    let process = probe.address.whereis().unwrap();
    assert_eq!(process.path(), "/top/a");
    let mut monitor = probe.address.monitor();
    assert_eq!(probe.address.send_request(Message::Ping).wait(SOON).await, Ok(1));
    assert_eq!(probe.address.stop(ExitReason::Normal, SOON).await, Ok(()));
    assert_eq!(log.take(), ["a started", "a cleaned", "a dropped"]);
    assert_eq!(monitor.down().await, ExitReason::Normal);
    assert_eq!(probe.address.whereis(), None);
    drop(root);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_server_can_be_stopped_and_resumed_however_full_it_is() {
    let (root, talk) = alone().await;
    let debugger = Debugger::<Talker>::of(&talk.address);
    debugger.suspend(SOON).await.unwrap();
    while talk.address.cast(Say::Work("x")).is_ok() {}
    settle().await;
    assert_eq!(talk.ping().await, Err(CallError::Full));
    debugger.resume(SOON).await.unwrap();
    while talk.ping().await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(talk.did(), vec!["x"; usize::try_from(MAILBOX_MAX).unwrap()]);
    debugger.suspend(SOON).await.unwrap();
    let held = Arc::new(());
    let kept = held.clone();
    talk.say(Talker::act(move |_, _| {
        drop(kept);
        Ok(Next::Continue)
    }));
    settle().await;
    root.supervisor().terminate_child("a").await.unwrap();
    assert_eq!(talk.did(), ["terminate: shutdown after 1", "dropped"]);
    assert_eq!(Arc::strong_count(&held), 1, "what was put aside is dropped");
}

#[tokio::test(start_paused = true)]
async fn a_debugger_of_something_else_is_told_so() {
    struct Other;
    impl GenServer for Other {
        type Arguments = ();
        type Message = Message;
        async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
            Ok(Init::new(Self))
        }
        async fn handle(
            &mut self,
            _: Message,
            _: &mut ServerCx<Self>,
        ) -> Result<Next<Message>, ActorError> {
            Ok(Next::Continue)
        }
    }
    let (spec, probe) = Probe::new("a", &Log::default());
    let _root = root(SupervisorSpec::new("top").child(spec)).await;
    let debugger = Debugger::<Other>::of(&probe.address);
    assert_eq!(debugger.resume(SOON).await, Err(DebugError::Stranger));
}
