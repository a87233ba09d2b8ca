use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial_core::child::AfterExit;
use perennial_supervision::{
    CallError, CastError, ExitReason, LifecycleEvent, Reply, RequestError, Restart, Shutdown,
};
use tokio::sync::oneshot;

use super::lamp::{Begin, Finish, Say, error, lamps, patient};
use crate::{gs_server::settle, probe::SOON};

#[tokio::test(start_paused = true)]
async fn each_end_but_a_kill_cleans_up_and_the_next_is_at_the_same_address() {
    let (root, lamps, wire) = lamps(patient()).await;
    let lamp = lamps.start_child("a", wire.clone()).await.unwrap();
    for (number, (say, shown)) in (1..).zip([
        (Say::Fail(error("x")), "error: x"),
        (Say::Fail(ExitReason::Shutdown), "shutdown"),
        (Say::Stop(ExitReason::Normal), "normal"),
        (Say::Panic, "panic: out"),
    ]) {
        assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(number));
        let before = lamp.whereis().unwrap();
        lamp.cast(say).unwrap();
        let reason = before.monitor().down().await;
        assert!(reason.to_string().starts_with(shown), "{reason}");
        settle().await;
        assert_ne!(lamp.whereis().unwrap(), before);
        let did: Vec<_> = wire.did().into_iter().filter(|it| !it.ends_with("started")).collect();
        assert!(did[0].starts_with(&format!("terminate {shown}")), "{did:?}");
        assert_eq!(did[1], "dropped");
    }
    wire.did();
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_that_fails_is_the_reason() {
    let (root, lamps, wire) = lamps(patient()).await;
    let lamp = lamps.start_child("a", wire.clone()).await.unwrap();
    for (finish, shown) in [(Finish::Fail, "error: dark"), (Finish::Panic, "panic: dark")] {
        wire.finish(finish);
        let process = lamp.whereis().unwrap();
        lamp.cast(Say::Stop(ExitReason::Normal)).unwrap();
        let reason = process.monitor().down().await;
        assert!(reason.to_string().starts_with(shown), "{reason}");
        assert!(lamp.call(Say::Ask, SOON).await.is_ok());
    }
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_the_end_is_told_before_the_next_init() {
    let (root, lamps, wire) = lamps(patient()).await;
    let lamp = lamps.start_child("a", wire.clone()).await.unwrap();
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
        .filter(|event| event.path == "/top/lamps/a")
        .map(|event| match event.event {
            LifecycleEvent::Exited { incarnation, .. } => format!("exited {incarnation}"),
            LifecycleEvent::Undelivered { count } => format!("undelivered {count}"),
            LifecycleEvent::Started { incarnation, requested } => {
                format!("started {incarnation} {requested}")
            }
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["exited 1", "undelivered 2", "started 2 false"]);
    assert!(!wire.did().contains(&"lost".to_owned()));
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_handles_what_came_before_it_and_needs_no_room() {
    use perennial_supervision::Mailbox;
    let (root, lamps, wire) = lamps(patient().mailbox(Mailbox::new(2))).await;
    let lamp = lamps.start_child("a", wire.clone()).await.unwrap();
    let (go, gate) = oneshot::channel();
    lamp.cast(Say::Hold(gate)).unwrap();
    settle().await;
    lamp.cast(Say::Note("before")).unwrap();
    lamp.cast(Say::Note("too")).unwrap();
    let stopping = tokio::spawn({
        let lamp = lamp.clone();
        async move { lamp.stop(error("enough"), SOON).await }
    });
    settle().await;
    assert_eq!(lamp.cast(Say::Note("full")), Err(CastError::Full));
    go.send(()).unwrap();
    assert_eq!(stopping.await.unwrap(), Ok(()));
    assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(2));
    assert_eq!(
        wire.did(),
        ["a 1 started", "before", "too", "terminate error: enough", "dropped", "a 2 started"]
    );
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_behind_a_stop_is_not_handled() {
    let (root, lamps, wire) = lamps(patient()).await;
    let lamp = lamps.start_child("a", wire.clone()).await.unwrap();
    let (go, gate) = oneshot::channel();
    lamp.cast(Say::Hold(gate)).unwrap();
    settle().await;
    let stopping = tokio::spawn({
        let lamp = lamp.clone();
        async move { lamp.stop(ExitReason::Normal, SOON).await }
    });
    settle().await;
    lamp.cast(Say::Note("behind")).unwrap();
    go.send(()).unwrap();
    assert_eq!(stopping.await.unwrap(), Ok(()));
    settle().await;
    assert!(!wire.did().contains(&"behind".to_owned()));
    let node = root.tree().nodes().into_iter().find(|it| it.path == "/top/lamps/a").unwrap();
    assert_eq!(node.undelivered, 1);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_skips_the_cleanup_and_the_caller_learns_of_it() {
    let (root, lamps, wire) = lamps(patient()).await;
    let lamp = lamps.start_child("a", wire.clone()).await.unwrap();
    let (_go, gate) = oneshot::channel();
    lamp.cast(Say::Hold(gate)).unwrap();
    let asked = tokio::spawn({
        let lamp = lamp.clone();
        async move { lamp.call(Say::Ask, SOON).await }
    });
    settle().await;
    let victim = root.tree().kill("/top/lamps/a").unwrap();
    assert_eq!(victim.exit().await, ExitReason::Killed);
    assert_eq!(asked.await.unwrap(), Err(CallError::Exited(ExitReason::Killed)));
    assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(2));
    assert_eq!(wire.did(), ["a 1 started", "dropped", "a 2 started"]);
    // A late kill of the first is nothing to the second.
    settle().await;
    assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(2));
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_kept_elsewhere_leaves_the_caller_to_the_end() {
    let (root, lamps, wire) = lamps(patient()).await;
    let lamp = lamps.start_child("a", wire).await.unwrap();
    let kept = Arc::default();
    let asked = tokio::spawn({
        let (lamp, kept) = (lamp.clone(), Arc::clone(&kept));
        async move { lamp.call(|reply| Say::Keep(reply, kept), SOON).await }
    });
    settle().await;
    assert!(!asked.is_finished());
    lamp.cast(Say::Fail(error("x"))).unwrap();
    assert_eq!(asked.await.unwrap(), Err(CallError::Exited(error("x"))));
    // A port that is dropped without an answer leaves the caller to its deadline.
    let dropped = tokio::spawn({
        let (lamp, kept) = (lamp.clone(), Arc::clone(&kept));
        async move { lamp.call(|reply| Say::Keep(reply, kept), SOON).await }
    });
    settle().await;
    kept.lock().unwrap().clear();
    assert_eq!(dropped.await.unwrap(), Err(CallError::Timeout));
    root.shutdown().await;
}

/// Whoever has the port keeps it for ever: handled, being handled and waiting, the request ends with the server.
#[tokio::test(start_paused = true)]
async fn a_port_that_is_never_used_leaves_no_caller_behind_the_end() {
    let (root, lamps, wire) = lamps(patient()).await;
    let lamp = lamps.start_child("a", wire).await.unwrap();
    let kept: Arc<Mutex<Vec<_>>> = Arc::default();
    let (_go, gate) = oneshot::channel();
    let says = [Say::Note("handled"), Say::Hold(gate), Say::Note("waits")];
    let asked = says.map(|say| {
        let (lamp, kept) = (lamp.clone(), Arc::clone(&kept));
        tokio::spawn(async move {
            let ask = |reply: Reply<u32>| {
                kept.lock().unwrap().push(reply);
                say
            };
            lamp.call(ask, Duration::MAX).await
        })
    });
    settle().await;
    assert!(asked.iter().all(|asked| !asked.is_finished()));
    let killed = tokio::time::Instant::now();
    let victim = root.tree().kill("/top/lamps/a").unwrap();
    assert_eq!(victim.exit().await, ExitReason::Killed);
    for asked in asked {
        let told = tokio::time::timeout(SOON, asked).await.unwrap();
        assert_eq!(told.unwrap(), Err(CallError::Exited(ExitReason::Killed)));
    }
    assert_eq!(killed.elapsed(), Duration::ZERO, "not by a deadline");
    assert!(kept.lock().unwrap().drain(..).all(|reply| !reply.is_awaited()));
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_leaves_the_caller_to_the_end() {
    let (root, lamps, wire) = lamps(patient()).await;
    let lamp = lamps.start_child("a", wire).await.unwrap();
    let late = lamp.call(Say::Forget, SOON).await;
    assert_eq!(late, Err(CallError::Timeout), "a drop is no answer");
    let asked = tokio::spawn({
        let lamp = lamp.clone();
        async move { lamp.call(Say::Forget, Duration::MAX).await }
    });
    settle().await;
    assert!(!asked.is_finished());
    assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(1), "it lives");
    lamp.cast(Say::Fail(error("x"))).unwrap();
    let told = tokio::time::timeout(SOON, asked).await.unwrap();
    assert_eq!(told.unwrap(), Err(CallError::Exited(error("x"))));
    root.shutdown().await;
}

/// An answer that comes from elsewhere once the server has let go of the request, before its end.
#[tokio::test(start_paused = true)]
async fn an_answer_from_elsewhere_is_heard_at_once() {
    let (root, lamps, wire) = lamps(patient()).await;
    let lamp = lamps.start_child("a", wire).await.unwrap();
    let kept: Arc<Mutex<Vec<Reply<u32>>>> = Arc::default();
    let asked = tokio::spawn({
        let (lamp, kept) = (lamp.clone(), Arc::clone(&kept));
        async move { lamp.call(|reply| Say::Keep(reply, kept), Duration::MAX).await }
    });
    settle().await;
    let reply = kept.lock().unwrap().pop().unwrap();
    assert!(reply.is_awaited());
    reply.send(7);
    let told = tokio::time::timeout(SOON, asked).await.unwrap();
    assert_eq!(told.unwrap(), Ok(7));
    assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(1), "it lives");
    root.shutdown().await;
}

/// Every policy and every reason.
#[tokio::test(start_paused = true)]
async fn policies_are_those_of_any_child() {
    let reasons = [
        ExitReason::Normal,
        ExitReason::Shutdown,
        ExitReason::ShutdownWith("done".into()),
        ExitReason::Killed,
        error("x"),
        ExitReason::Timeout,
        ExitReason::NoProc,
    ];
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        let (root, lamps, wire) = lamps(patient().child_restart(restart)).await;
        for reason in &reasons {
            let lamp = lamps.start_child("a", wire.clone()).await.unwrap();
            lamp.cast(Say::Stop(reason.clone())).unwrap();
            settle().await;
            if restart.after(reason).then == AfterExit::Restart {
                assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(2), "{restart} {reason}");
                lamps.terminate_child("a").await.unwrap();
            } else {
                assert_eq!(lamp.call(Say::Ask, SOON).await, Err(CallError::NoProc));
                let gone = lamps.terminate_child("a").await;
                assert!(matches!(gone, Err(RequestError::NotFound(_))), "{restart} {reason}");
            }
        }
        root.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_hangs_is_killed_when_its_time_is_up() {
    let time = Duration::from_secs(2);
    let (root, lamps, wire) = lamps(patient().child_shutdown(Shutdown::Timeout(time))).await;
    let mut events = root.tree().lifecycle();
    lamps.start_child("a", wire.clone()).await.unwrap();
    wire.finish(Finish::Hang);
    let begun = tokio::time::Instant::now();
    lamps.terminate_child("a").await.unwrap();
    assert_eq!(begun.elapsed(), time);
    assert_eq!(wire.did(), ["a 1 started", "terminate shutdown", "dropped"]);
    let told = std::iter::from_fn(|| events.try_next()).any(|event| {
        matches!(event.event, LifecycleEvent::ShutdownError { reason: ExitReason::Killed, .. })
    });
    assert!(told);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn brutal_kills_ask_nobody() {
    let (root, lamps, wire) = lamps(patient().child_shutdown(Shutdown::BrutalKill)).await;
    lamps.start_child("a", wire.clone()).await.unwrap();
    lamps.start_child("b", wire.clone()).await.unwrap();
    lamps.terminate_child("a").await.unwrap();
    root.shutdown().await;
    assert_eq!(wire.did(), ["a 1 started", "b 1 started", "dropped", "dropped"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_terminated_while_it_restarts_does_not_come_back() {
    let (root, lamps, wire) = lamps(patient().start_within(SOON * 2)).await;
    let lamp = lamps.start_child("a", wire.clone()).await.unwrap();
    let (go, gate) = oneshot::channel();
    wire.begin(Begin::Wait(gate));
    lamp.cast(Say::Panic).unwrap();
    settle().await;
    let terminated = tokio::spawn({
        let lamps = lamps.clone();
        async move { lamps.terminate_child("a").await }
    });
    settle().await;
    go.send(()).unwrap();
    terminated.await.unwrap().unwrap();
    let did = wire.did();
    assert_eq!(did[2..], ["dropped", "a 2 started", "terminate shutdown", "dropped"]);
    assert_eq!(lamp.call(Say::Ask, SOON).await, Err(CallError::NoProc));
    root.shutdown().await;
}
