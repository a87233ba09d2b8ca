//! Calls, casts, requests and watches of a server.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    CALL_WITHIN, CallError, CastError, Expired, MAILBOX_MAX, Name, Next, Reply, RequestSet,
    SupervisorSpec,
};
use tokio::sync::oneshot;

use crate::{
    gs_server::{SHORT, Say, Talk, Talker, alone, alone_with, pending, settle},
    harness::proves,
    probe::{Cleanup, SOON, root},
};

proves!(a_call_returns_the_reply_or_times_out_after_five_seconds, ["GS-017", "GS-019"]);
async fn a_call_returns_the_reply_or_times_out_after_five_seconds() {
    let (root, talk) = alone().await;
    assert_eq!(talk.address.call(Say::Ping, SOON).await, Ok(1));
    assert_eq!(talk.address.ask(Say::Ping).await, Ok(2));
    assert_eq!(CALL_WITHIN, Duration::from_millis(5000));
    let clock = root.tree().clock();
    for within in [CALL_WITHIN, SHORT] {
        let before = clock.now();
        let answer = if within == CALL_WITHIN {
            talk.address.ask(Say::Keep).await
        } else {
            talk.address.call(Say::Keep, within).await
        };
        assert_eq!(answer, Err(CallError::Timeout));
        assert_eq!(clock.now().since(before), within);
    }
    assert_eq!(talk.ping().await, Ok(3), "the server is none the worse");
}

proves!(what_is_not_there_is_told_at_once_and_can_be_cast_to, ["GS-018", "GS-032", "GS-060"]);
async fn what_is_not_there_is_told_at_once_and_can_be_cast_to() {
    let (spec, unknown) = Talk::new("unknown");
    let (root, dead) = alone().await;
    let clock = root.tree().clock();
    let live = dead.address.whereis().unwrap();
    assert!(live.is_alive());
    assert_eq!(live.path(), "/top/a");
    dead.end(Say::Stop(ExitReason::Normal)).await;
    settle().await;
    assert!(!live.is_alive());
    let before = clock.now();
    for talk in [&unknown, &dead] {
        assert_eq!(talk.address.whereis(), None);
        assert_eq!(talk.ping().await, Err(CallError::NoProc));
        assert_eq!(talk.address.send_request(Say::Ping).wait(SOON).await, Err(CallError::NoProc));
        assert_eq!(talk.address.cast(Say::Work("lost")), Err(CastError::NoProc), "and no panic");
        assert_eq!(talk.address.monitor().down().await, ExitReason::NoProc);
    }
    assert_eq!(live.monitor().down().await, ExitReason::NoProc);
    drop(spec);
    assert_eq!(unknown.ping().await, Err(CallError::NoProc));
    assert_eq!(clock.now(), before, "no time passed");
}

proves!(a_cast_to_a_full_mailbox_neither_blocks_nor_harms, ["GS-032"]);
async fn a_cast_to_a_full_mailbox_neither_blocks_nor_harms() {
    let (root, talk) = alone().await;
    let (go, gate) = oneshot::channel::<()>();
    talk.say(Say::Await(Box::pin(async {
        gate.await?;
        Ok(Next::Continue)
    })));
    settle().await;
    for _ in 0..MAILBOX_MAX {
        talk.say(Say::Work("x"));
    }
    assert_eq!(talk.address.cast(Say::Work("x")), Err(CastError::Full));
    assert_eq!(talk.ping().await, Err(CallError::Full));
    assert_eq!(root.tree().nodes()[1].mailbox_depth, Some(MAILBOX_MAX));
    go.send(()).unwrap();
    while root.tree().nodes()[1].mailbox_depth != Some(0) {
        tokio::task::yield_now().await;
    }
    assert_eq!(talk.ping().await, Ok(1));
    assert_eq!(talk.did().len(), usize::try_from(MAILBOX_MAX).unwrap());
}

proves!(after_a_call_nothing_of_it_remains, ["GS-020", "GS-027"]);
async fn after_a_call_nothing_of_it_remains() {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (_root, talk) = alone().await;
    let before = alive();
    let (hand, mut handed) = tokio::sync::mpsc::unbounded_channel::<Reply<u64>>();
    let keeping = |hand: tokio::sync::mpsc::UnboundedSender<Reply<u64>>| {
        move |reply| {
            Talker::act(move |_, _| {
                hand.send(reply).unwrap();
                Ok(Next::Continue)
            })
        }
    };
    // Two late replies: their callers have asked again meanwhile and get only what they asked for.
    let late = talk.address.call(keeping(hand.clone()), SHORT).await;
    assert_eq!(late, Err(CallError::Timeout));
    let first = handed.recv().await.unwrap();
    assert!(!first.is_awaited(), "the server sees that nobody waits");
    let mut second = Box::pin(talk.address.call(keeping(hand.clone()), SHORT));
    pending(second.as_mut()).await;
    let answering = handed.recv().await.unwrap();
    assert!(answering.is_awaited());
    first.send(666);
    pending(second.as_mut()).await;
    answering.send(7);
    assert_eq!(second.await, Ok(7));
    // A caller that is dropped, and one whose server ends.
    {
        let dropped = pin!(talk.address.call(keeping(hand), SOON));
        pending(dropped).await;
    }
    let abandoned = handed.recv().await.unwrap();
    assert!(!abandoned.is_awaited());
    abandoned.send(8);
    assert_eq!(talk.ping().await, Ok(1));
    assert_eq!(alive(), before, "a call needs no helper that could outlive it");
    let (ended, reason) = tokio::join!(talk.address.call(Say::Keep, SOON), async {
        settle().await;
        talk.end(Say::Stop(ExitReason::Shutdown)).await
    });
    assert_eq!(ended, Err(CallError::Exited(reason)));
    settle().await;
    assert!(alive() < before);
}

proves!(
    pending_calls_fail_with_the_servers_reason_the_moment_it_ends,
    ["GS-021", "GS-022", "GS-023"]
);
async fn pending_calls_fail_with_the_servers_reason_the_moment_it_ends() {
    let detail = ExitReason::ShutdownWith("detail".into());
    let error = ExitReason::Error("because".into());
    for reason in [ExitReason::Normal, ExitReason::Shutdown, detail, ExitReason::Killed, error] {
        for how in [Say::Stop as fn(ExitReason) -> Say, Say::Fail] {
            let (root, talk) = alone().await;
            let before = root.tree().clock().now();
            // Deferred twice in the state, and once in the mailbox.
            let mut first = pin!(talk.address.call(Say::Keep, SOON));
            let mut second = pin!(talk.address.call(Say::Keep, SOON));
            pending(first.as_mut()).await;
            pending(second.as_mut()).await;
            talk.say(how(reason.clone()));
            let mut queued = pin!(talk.address.call(Say::Ping, SOON));
            pending(queued.as_mut()).await;
            let failed = Err(CallError::Exited(reason.clone()));
            assert_eq!(first.await, failed);
            assert_eq!(second.await, failed);
            assert_eq!(queued.await, failed);
            assert_eq!(root.tree().clock().now(), before, "not later");
        }
    }
    let (_root, talk) = alone().await;
    let mut kept = pin!(talk.address.call(Say::Keep, SOON));
    pending(kept.as_mut()).await;
    talk.say(Say::Panic);
    let Err(CallError::Exited(ExitReason::Panic { message, location })) = kept.await else {
        panic!("a panic is told as one")
    };
    assert_eq!(&*message, "asked to panic");
    assert!(location.unwrap().contains("server.rs"));
    // A real kill, in the middle of a handler.
    let (root, talk) = alone().await;
    let mut kept = pin!(talk.address.call(Say::Keep, SOON));
    pending(kept.as_mut()).await;
    talk.say(Talker::hang());
    settle().await;
    root.tree().kill("/top/a").unwrap();
    assert_eq!(kept.await, Err(CallError::Exited(ExitReason::Killed)));
}

proves!(a_server_that_calls_itself_is_told_so, ["GS-024"]);
async fn a_server_that_calls_itself_is_told_so() {
    let (root, talk) = alone().await;
    let before = root.tree().clock().now();
    let own = talk.clone();
    let ask = |reply: Reply<[Result<u64, CallError>; 3]>| {
        Say::Await(Box::pin(async move {
            let later = own.address.send_request(Say::Ping);
            let mut set = RequestSet::new(SOON);
            set.insert("own", own.address.send_request(Say::Ping));
            let of_set = set.next().await.unwrap().unwrap().1;
            reply.send([own.ping().await, later.wait(SOON).await, of_set]);
            Ok(Next::Continue)
        }))
    };
    let answers = talk.address.call(ask, SOON).await.unwrap();
    assert_eq!(answers, [const { Err(CallError::CallingSelf) }; 3]);
    assert_eq!(root.tree().clock().now(), before, "immediately");
    assert_eq!(talk.ping().await, Ok(3), "it goes on");
}

proves!(a_reply_can_be_sent_later_from_anywhere_and_before_a_stop, ["GS-025", "GS-026"]);
async fn a_reply_can_be_sent_later_from_anywhere_and_before_a_stop() {
    let (_root, talk) = alone().await;
    let (hand, handed) = oneshot::channel::<Reply<u64>>();
    let defer = |reply| {
        Talker::act(move |_, _| {
            hand.send(reply).unwrap();
            Ok(Next::Continue)
        })
    };
    let mut deferred = pin!(talk.address.call(defer, SOON));
    pending(deferred.as_mut()).await;
    assert_eq!(talk.ping().await, Ok(1), "the handler returned without a reply");
    let reply = handed.await.unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| reply.send(42));
    });
    assert_eq!(deferred.await, Ok(42));

    // Its cleanup never ends, and yet the caller has its reply.
    let (root, talk) = alone_with(Cleanup::Hangs).await;
    let last = |reply: Reply<&'static str>| {
        Talker::act(move |_, _| {
            reply.send("done");
            Ok(Next::Stop(ExitReason::Normal))
        })
    };
    assert_eq!(talk.address.call(last, SOON).await, Ok("done"));
    settle().await;
    assert_eq!(talk.did(), ["terminate: normal after 0"]);
    assert!(talk.address.whereis().unwrap().is_alive());
    root.tree().kill("/top/a").unwrap();
}

/// Counts how often a future is polled.
struct Counted<F>(F, Arc<AtomicUsize>);

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.0).poll(cx)
    }
}

proves!(a_call_costs_the_same_however_much_waits_for_the_caller, ["GS-028"]);
async fn a_call_costs_the_same_however_much_waits_for_the_caller() {
    let mut costs = Vec::new();
    for waiting in [0, MAILBOX_MAX - 1] {
        let (a, caller) = Talk::new("caller");
        let (b, callee) = Talk::new("callee");
        let _root = root(SupervisorSpec::new("top").child(a).child(b)).await;
        let (go, gate) = oneshot::channel::<()>();
        let polls = Arc::new(AtomicUsize::new(0));
        let counter = polls.clone();
        let ask = move |reply: Reply<Result<u64, CallError>>| {
            Say::Await(Box::pin(async move {
                gate.await?;
                let call = Box::pin(callee.address.call(Say::Ping, SOON));
                reply.send(Counted(call, counter).await);
                Ok(Next::Continue)
            }))
        };
        let mut asking = pin!(caller.address.call(ask, SOON));
        pending(asking.as_mut()).await;
        for _ in 0..waiting {
            caller.say(Say::Work("x"));
        }
        go.send(()).unwrap();
        assert_eq!(asking.await, Ok(Ok(1)));
        costs.push(polls.load(Ordering::SeqCst));
    }
    assert_eq!(costs[0], costs[1], "polls of the call with an empty and with a full mailbox");
}

proves!(a_request_is_awaited_polled_or_abandoned, ["GS-029"]);
async fn a_request_is_awaited_polled_or_abandoned() {
    let (root, talk) = alone().await;
    let awaited = talk.address.send_request(Say::Ping);
    let polled = talk.address.send_request(Say::Ping);
    let abandoned = talk.address.send_request(Say::Ping);
    let polled = polled.poll().unwrap_err();
    drop(abandoned);
    settle().await;
    assert_eq!(polled.poll().unwrap(), Ok(2));
    assert_eq!(awaited.wait(SOON).await, Ok(1), "answered long before it is awaited");
    assert_eq!(talk.ping().await, Ok(4), "the abandoned one was handled");

    let kept = talk.address.send_request(Say::Keep);
    settle().await;
    let kept = kept.poll().unwrap_err();
    let before = root.tree().clock().now();
    assert_eq!(kept.wait(SHORT).await, Err(CallError::Timeout));
    assert_eq!(root.tree().clock().now().since(before), SHORT);
    // One whose right to be answered was dropped waits as any other.
    let unanswered = talk.address.send_request(|reply: Reply<u64>| {
        Talker::act(|_, _| {
            drop(reply);
            Ok(Next::Continue)
        })
    });
    settle().await;
    let unanswered = unanswered.poll().unwrap_err().poll().unwrap_err();
    assert_eq!(unanswered.wait(SHORT).await, Err(CallError::Timeout));
    let caught = talk.address.send_request(Say::Keep);
    talk.end(Say::Stop(ExitReason::Shutdown)).await;
    assert_eq!(caught.poll().unwrap(), Err(CallError::Exited(ExitReason::Shutdown)));
}

proves!(a_set_of_requests_is_awaited_one_answer_at_a_time_under_one_deadline, ["GS-030"]);
async fn a_set_of_requests_is_awaited_one_answer_at_a_time_under_one_deadline() {
    let names = ["quick", "dying", "slow", "silent"];
    let mut spec = SupervisorSpec::new("top");
    let mut talks = Vec::new();
    for name in names {
        let (child, talk) = Talk::new(name);
        spec = spec.child(child.restart(Restart::Temporary));
        talks.push(talk);
    }
    let root = root(spec).await;
    let [quick, dying, slow, silent] = talks.try_into().ok().unwrap();
    let slowly = |reply: Reply<u64>| {
        Say::Await(Box::pin(async move {
            tokio::time::timeout(SHORT, std::future::pending::<()>()).await.unwrap_err();
            reply.send(99);
            Ok(Next::Continue)
        }))
    };
    let mut set = RequestSet::new(SHORT * 2);
    assert_eq!(set.next().await, Ok(None));
    set.insert("silent", silent.address.send_request(Say::Keep));
    set.insert("silent too", silent.address.send_request(Say::Keep));
    set.insert("slow", slow.address.send_request(slowly));
    set.insert("dying", dying.address.send_request(Say::Keep));
    set.insert("quick", quick.address.send_request(Say::Ping));
    let before = root.tree().clock().now();
    assert_eq!(
        set.next().await,
        Ok(Some(("quick", Ok(1)))),
        "the first answer, not the first sent"
    );
    let gone = dying.end(Say::Fail(ExitReason::Error("gone".into()))).await;
    assert_eq!(set.next().await, Ok(Some(("dying", Err(CallError::Exited(gone))))));
    assert_eq!(set.next().await, Ok(Some(("slow", Ok(99)))));
    assert_eq!(root.tree().clock().now().since(before), SHORT);
    assert_eq!(set.len(), 2);
    assert_eq!(set.next().await, Err(Expired(vec!["silent", "silent too"])));
    assert_eq!(root.tree().clock().now().since(before), SHORT * 2, "one deadline for all");
    assert!(set.is_empty());
    assert_eq!(set.next().await, Ok(None));
    let awaited = |reply: Reply<Vec<bool>>| {
        Talker::act(move |talker, _| {
            reply.send(talker.kept.iter().map(Reply::is_awaited).collect());
            Ok(Next::Continue)
        })
    };
    let answer = silent.address.call(awaited, SOON).await.unwrap();
    assert_eq!(answer, [false, false], "the rest is abandoned");
}

proves!(what_one_sender_sends_is_handled_in_that_order, ["GS-033"]);
async fn what_one_sender_sends_is_handled_in_that_order() {
    let (_root, talk) = alone().await;
    let mut expected = Vec::new();
    let mut requests = Vec::new();
    for round in 0..50_u64 {
        let note = |line: String| {
            move |reply: Reply<()>| {
                Talker::act(move |talker, _| {
                    talker.log.add(line);
                    reply.send(());
                    Ok(Next::Continue)
                })
            }
        };
        talk.say(Say::Work("cast"));
        requests.push(talk.address.send_request(note(format!("request {round}"))));
        talk.say(Say::Work("message"));
        talk.address.call(note(format!("call {round}")), SOON).await.unwrap();
        let lines = ["cast".into(), format!("request {round}"), "message".into()];
        expected.extend(lines);
        expected.push(format!("call {round}"));
    }
    assert_eq!(talk.did(), expected);
    for request in requests {
        assert_eq!(request.poll().unwrap(), Ok(()));
    }
}

proves!(each_monitor_is_independent, ["GS-061"]);
async fn each_monitor_is_independent() {
    let (a, watcher) = Talk::new("watcher");
    let (b, watched) = Talk::new("watched");
    let b = b.restart(Restart::Temporary);
    let _root = root(SupervisorSpec::new("top").child(a).child(b)).await;
    let process = watched.address.whereis().unwrap();
    // By handle: three, of which one is given up.
    let mut monitors = [process.monitor(), watched.address.monitor(), process.monitor()];
    drop(process.monitor());
    // By a server: four, of which one is given up before the end, and one when the first exit is
    // handled: its notification waits in the mailbox by then.
    let target = process.clone();
    let watch = |reply: Reply<()>| {
        Talker::act(move |talker, cx| {
            let watches: Vec<_> = (0..4).map(|_| cx.monitor(&target)).collect();
            cx.demonitor(watches[0]);
            talker.flush = watches[2..].to_vec();
            reply.send(());
            Ok(Next::Continue)
        })
    };
    watcher.address.call(watch, SOON).await.unwrap();
    watcher.did();
    watched.end(Say::Stop(ExitReason::Shutdown)).await;
    settle().await;
    for monitor in &mut monitors {
        assert_eq!(monitor.down().await, ExitReason::Shutdown);
    }
    assert_eq!(watcher.ping().await, Ok(1));
    assert_eq!(watcher.did(), ["exit of /top/watched: shutdown"; 2]);
}

proves!(a_name_gives_the_live_server_and_is_free_when_its_death_is_told, ["GS-062", "GS-063"]);
async fn a_name_gives_the_live_server_and_is_free_when_its_death_is_told() {
    let root = root(SupervisorSpec::new("top")).await;
    let name = Name::from("the one");
    assert_eq!(root.names().whereis(&name), None);
    for reason in [ExitReason::Normal, ExitReason::Shutdown, ExitReason::Error("x".into())] {
        let (spec, talk) = Talk::new("a");
        let spec = spec.restart(Restart::Temporary).name(name.clone());
        let server = root.supervisor().start_child(spec).await.unwrap().process.unwrap();
        assert_eq!(talk.address.whereis(), Some(server.clone()));
        assert_eq!(root.names().whereis(&name), Some(server.clone()));
        assert!(server.is_alive());
        // A monitor, and a server that watches it; both look at the name when they are told.
        let (watcher, watching) = Talk::new("watcher");
        let watcher = watcher.restart(Restart::Temporary);
        root.supervisor().start_child(watcher).await.unwrap();
        let (names, named, target) = (root.names().clone(), name.clone(), server.clone());
        watching.say(Talker::act(move |talker, cx| {
            cx.monitor(&target);
            talker.on_exit = Some(Box::new(move || format!("{:?}", names.whereis(&named))));
            Ok(Next::Continue)
        }));
        settle().await;
        watching.did();
        let mut monitor = server.monitor();
        talk.say(Say::Stop(reason.clone()));
        assert_eq!(monitor.down().await, reason);
        assert_eq!(root.names().whereis(&name), None);
        assert_eq!(talk.address.whereis(), None);
        let (next, _) = Talk::new("next");
        let next = next.restart(Restart::Temporary).name(name.clone());
        let next = root.supervisor().start_child(next).await.unwrap().process.unwrap();
        assert_ne!(next, server);
        assert_eq!(root.names().whereis(&name), Some(next), "never the dead one");
        settle().await;
        let did = watching.did();
        assert_eq!(did.len(), 2, "{did:?}");
        assert!(!did[1].contains(&format!("{server:?}")), "{did:?}");
        for id in ["next", "watcher"] {
            root.supervisor().terminate_child(id).await.unwrap();
        }
    }
}
