//! Bounded mailboxes: what each policy does with one message more, and what becomes of messages that
//! nobody handles.

use std::{pin::pin, sync::Arc, time::Duration};

use perennial_core::{
    ExitReason, Restart,
    supervisor::SpecError,
    tree::{Mailbox as Shown, TreeNode},
};
use perennial_supervision::{
    CallError, CastError, ChildSpec, Debugger, Lifecycle, LifecycleEvent, LifecycleStream, Mailbox,
    Next, Overflow, Root, SendError, StartError, StartFault, SupervisorSpec,
};
use tokio::sync::oneshot;

use crate::{
    gs_server::{Say, Talk, Talker, pending, settle},
    probe::{Log, Message, Probe, SOON, root},
};

const POLICIES: [Overflow; 4] =
    [Overflow::Reject, Overflow::Wait, Overflow::DropOldest, Overflow::DropNewest];

fn node(root: &Root) -> TreeNode {
    node_at(root, "/top/a")
}

fn node_at(root: &Root, path: &str) -> TreeNode {
    root.tree().nodes().into_iter().find(|node| node.path == path).unwrap()
}

fn all(events: &mut LifecycleStream) -> Vec<Lifecycle> {
    std::iter::from_fn(|| events.try_next()).collect()
}

/// A server with a mailbox for three, whose handler holds until the sender is used.
async fn held(policy: Overflow) -> (Root, Talk, oneshot::Sender<()>) {
    let (spec, talk) = Talk::new("a");
    let spec = spec.mailbox(Mailbox::new(3).overflow(policy));
    let root = root(SupervisorSpec::new("top").child(spec)).await;
    let go = hold(&talk).await;
    assert_eq!(talk.did(), ["started"]);
    (root, talk, go)
}

async fn hold(talk: &Talk) -> oneshot::Sender<()> {
    let (go, gate) = oneshot::channel::<()>();
    talk.say(Say::Await(Box::pin(async {
        gate.await?;
        Ok(Next::Continue)
    })));
    settle().await;
    go
}

#[tokio::test(start_paused = true)]
async fn one_message_more_is_refused_or_dropped_or_drops_the_oldest() {
    for policy in POLICIES {
        let (root, talk, go) = held(policy).await;
        let casts: Vec<_> = ["1", "2", "3", "4", "5"]
            .into_iter()
            .map(|what| talk.address.cast(Say::Work(what)))
            .collect();
        let (told, handled, rejected, dropped) = match policy {
            Overflow::Reject | Overflow::Wait => (Err(CastError::Full), ["1", "2", "3"], 2, 0),
            Overflow::DropNewest => (Ok(()), ["1", "2", "3"], 0, 2),
            Overflow::DropOldest => (Ok(()), ["3", "4", "5"], 0, 2),
        };
        assert_eq!(casts, [Ok(()), Ok(()), Ok(()), told.clone(), told], "{policy}");
        let shown = node(&root);
        assert_eq!(shown.mailbox, Some(Shown { capacity: 3, policy, rejected, dropped }));
        assert_eq!(shown.mailbox_depth, Some(3), "{policy}");
        go.send(()).unwrap();
        settle().await;
        assert_eq!(talk.did(), handled, "{policy}");
        let shown = node(&root);
        assert_eq!((shown.mailbox_depth, shown.handled), (Some(0), Some(4)), "{policy}");
        // There is room again, and as much as before.
        let _go = hold(&talk).await;
        let taken = (0..3).filter(|_| talk.address.cast(Say::Work("again")).is_ok()).count();
        assert_eq!((taken, node(&root).mailbox_depth), (3, Some(3)), "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_library_actor_has_the_same_bounds() {
    for policy in [Overflow::Reject, Overflow::Wait, Overflow::DropNewest] {
        let log = Log::default();
        let (spec, probe) = Probe::new("a", &log);
        let spec = spec.mailbox(Mailbox::new(2).overflow(policy));
        let root = root(SupervisorSpec::new("top").child(spec)).await;
        let (go, gate) = oneshot::channel::<()>();
        let hold = Message::Await(Box::pin(async { gate.await.unwrap() }));
        probe.address.cast(hold).unwrap();
        settle().await;
        log.take();
        let casts = [(); 3].map(|()| probe.address.cast(Message::Work("x")));
        let is_told = policy != Overflow::DropNewest;
        let told = if is_told { Err(CastError::Full) } else { Ok(()) };
        assert_eq!(casts, [Ok(()), Ok(()), told], "{policy}");
        let (rejected, dropped) = (u64::from(is_told), u64::from(!is_told));
        assert_eq!(node(&root).mailbox, Some(Shown { capacity: 2, policy, rejected, dropped }));
        let mut call = pin!(probe.address.call(Message::Ping, SOON));
        if policy == Overflow::Wait {
            pending(call.as_mut()).await;
            go.send(()).unwrap();
            assert_eq!(call.await, Ok(1));
        } else {
            assert_eq!(call.await, Err(CallError::Full), "{policy}");
            go.send(()).unwrap();
            settle().await;
        }
        assert_eq!(log.take(), ["a worked x", "a worked x"], "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_may_wait_for_room_gets_in_in_turn() {
    let (root, talk, first) = held(Overflow::Wait).await;
    // Each of them makes room for one when the one before is done.
    let mut gates = vec![first];
    for _ in 0..3 {
        let (go, gate) = oneshot::channel::<()>();
        let message = Say::Await(Box::pin(async {
            gate.await?;
            Ok(Next::Continue)
        }));
        assert_eq!(talk.address.send(message, SOON).await, Ok(()));
        gates.push(go);
    }
    let mut gates = gates.into_iter();
    let mut fourth = pin!(talk.address.send(Say::Work("4"), SOON));
    let mut gives_up = Box::pin(talk.address.send(Say::Work("gives up"), SOON));
    let mut call = pin!(talk.address.call(Say::Ping, SOON));
    let mut sixth = pin!(talk.address.send(Say::Work("6"), SOON));
    pending(fourth.as_mut()).await;
    pending(gives_up.as_mut()).await;
    pending(call.as_mut()).await;
    pending(sixth.as_mut()).await;
    // Nobody overtakes them.
    assert_eq!(talk.address.cast(Say::Work("cast")), Err(CastError::Full));
    gates.next().unwrap().send(()).unwrap();
    settle().await;
    pending(call.as_mut()).await;
    pending(sixth.as_mut()).await;
    assert_eq!(fourth.await, Ok(()));
    // One that gives up leaves its turn to the next, before it came and after.
    gates.next().unwrap().send(()).unwrap();
    settle().await;
    drop(gives_up);
    pending(sixth.as_mut()).await;
    pending(call.as_mut()).await;
    assert_eq!(node(&root).mailbox_depth, Some(3), "the call is in");
    gates.next().unwrap().send(()).unwrap();
    settle().await;
    assert_eq!(sixth.await, Ok(()));
    gates.next().unwrap().send(()).unwrap();
    assert_eq!(call.await, Ok(1));
    settle().await;
    assert_eq!(talk.did(), ["4", "6"]);
    let shown = node(&root).mailbox.unwrap();
    assert_eq!((shown.rejected, shown.dropped), (1, 0), "only the cast was refused");
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_room_is_bounded_and_ends_with_its_target() {
    let (root, talk, _go) = held(Overflow::Wait).await;
    while talk.address.cast(Say::Work("x")).is_ok() {}
    let clock = root.tree().clock();
    let (before, within) = (clock.now(), Duration::from_secs(3));
    assert_eq!(talk.address.send(Say::Work("y"), within).await, Err(SendError::Timeout));
    assert_eq!(clock.now().since(before), within);
    assert_eq!(talk.address.call(Say::Ping, within).await, Err(CallError::Timeout));
    assert_eq!(clock.now().since(before), 2 * within);
    let mut send = pin!(talk.address.send(Say::Work("y"), SOON));
    let mut call = pin!(talk.address.call(Say::Ping, SOON));
    pending(send.as_mut()).await;
    pending(call.as_mut()).await;
    root.tree().kill("/top/a").unwrap();
    assert_eq!(send.await, Err(SendError::Exited(ExitReason::Killed)));
    assert_eq!(call.await, Err(CallError::Exited(ExitReason::Killed)));
    root.shutdown().await;
    assert_eq!(talk.address.send(Say::Work("y"), SOON).await, Err(SendError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_that_lets_nobody_wait_refuses_at_once() {
    let (root, talk, _go) = held(Overflow::Reject).await;
    while talk.address.cast(Say::Work("x")).is_ok() {}
    let before = root.tree().clock().now();
    assert_eq!(talk.address.send(Say::Work("y"), SOON).await, Err(SendError::Full));
    assert_eq!(talk.address.call(Say::Ping, SOON).await, Err(CallError::Full));
    assert_eq!(root.tree().clock().now(), before);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_room_in_its_own_mailbox() {
    let (spec, talk) = Talk::new("a");
    let spec = spec.mailbox(Mailbox::new(1).overflow(Overflow::Wait));
    let _root = root(SupervisorSpec::new("top").child(spec)).await;
    let own = talk.address.clone();
    let (tell, told) = oneshot::channel();
    talk.say(Say::Await(Box::pin(async move {
        let sent =
            [own.send(Say::Work("first"), SOON).await, own.send(Say::Work("second"), SOON).await];
        tell.send(sent).map_err(|_| "nobody asks")?;
        Ok(Next::Continue)
    })));
    assert_eq!(told.await.unwrap(), [Ok(()), Err(SendError::CallingSelf)]);
}

/// What must be heard passes, and keeps its place: a stop comes behind what was sent before it (GS-041).
#[tokio::test(start_paused = true)]
async fn no_policy_refuses_or_drops_what_is_no_message() {
    for policy in POLICIES {
        let (root, talk, go) = held(policy).await;
        let debugger = Debugger::<Talker>::of(&talk.address);
        let (other_spec, other) = Talk::new("b");
        root.supervisor().start_child(other_spec.restart(Restart::Temporary)).await.unwrap();
        let watched = other.address.clone();
        go.send(()).unwrap();
        talk.say(Talker::act(move |_, cx| {
            cx.monitor(&watched.whereis().ok_or("gone")?);
            Ok(Next::Continue)
        }));
        settle().await;
        debugger.suspend(SOON).await.unwrap();
        for what in ["1", "2", "3"] {
            talk.say(Say::Work(what));
        }
        assert_eq!(other.end(Say::Stop(ExitReason::Normal)).await, ExitReason::Normal);
        settle().await;
        // Passed over or not, the oldest message is the one that goes.
        for what in ["4", "5"] {
            let more = talk.address.cast(Say::Work(what));
            assert_eq!(more.is_ok(), policy != Overflow::Reject && policy != Overflow::Wait);
        }
        assert_eq!(debugger.status(SOON).await.unwrap().mailbox_depth, 3, "{policy}");
        debugger.resume(SOON).await.unwrap();
        settle().await;
        let mut did = vec!["1", "2", "3", "exit of /top/b: normal"];
        if policy == Overflow::DropOldest {
            did = vec!["3", "exit of /top/b: normal", "4", "5"];
        }
        assert_eq!(talk.did(), did, "{policy}");
        let go = hold(&talk).await;
        while talk.address.cast(Say::Work("before")).is_ok() && node(&root).mailbox_depth < Some(3)
        {
        }
        let mut stop = pin!(root.supervisor().terminate_child("a"));
        pending(stop.as_mut()).await;
        settle().await;
        go.send(()).unwrap();
        assert_eq!(stop.await, Ok(()), "{policy}");
        let end = ["before", "before", "before", "terminate: shutdown after 0", "dropped"];
        assert_eq!(talk.did(), end, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_goes_for_another_may_panic_in_its_drop() {
    struct Bomb(Arc<()>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped, {} left", Arc::strong_count(&self.0));
        }
    }
    let (_root, talk, go) = held(Overflow::DropOldest).await;
    let bomb = Bomb(Arc::default());
    talk.say(Talker::act(move |_, _| {
        let _kept = &bomb;
        Ok(Next::Continue)
    }));
    for what in ["1", "2", "3"] {
        talk.say(Say::Work(what));
    }
    go.send(()).unwrap();
    settle().await;
    assert_eq!(talk.did(), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_that_cannot_be_is_refused_before_anything_starts() {
    let log = Log::default();
    let empty = Mailbox::new(0);
    let oldest = Mailbox::new(3).overflow(Overflow::DropOldest);
    let task = ChildSpec::task("a", || async { Ok::<_, ExitReason>(()) });
    let policy = SpecError::MailboxPolicy { id: "a".into(), policy: Overflow::DropOldest };
    for (spec, error) in [
        (Talk::new("a").0.mailbox(empty), SpecError::ZeroMailbox("a".into())),
        (Probe::new("a", &log).0.mailbox(empty), SpecError::ZeroMailbox("a".into())),
        (Probe::new("a", &log).0.mailbox(oldest), policy),
        (task.mailbox(Mailbox::default()), SpecError::NoMailbox("a".into())),
    ] {
        let all = std::slice::from_ref(&spec);
        assert_eq!(ChildSpec::check_all(all, None), Err(error.clone()));
        let refused = Root::start(
            SupervisorSpec::new("top").child(spec),
            perennial_supervision::Clock::start(),
            perennial_supervision::Options::default(),
        );
        let refused: StartError = refused.await.err().unwrap();
        assert_eq!(refused.reason, StartFault::Invalid(error));
    }
    assert!(log.take().is_empty());
}

/// SUP-074, and what it says nothing of: nobody loses a message without a trace.
#[tokio::test(start_paused = true)]
async fn what_waited_for_a_life_that_ended_is_counted_and_told_before_the_next() {
    let log = Log::default();
    let (actor, probe) = Probe::new("a", &log);
    let (server, talk) = Talk::new("b");
    let spec = SupervisorSpec::new("top").child(actor).child(server);
    let root = root(spec).await;
    let mut events = root.tree().lifecycle();
    probe.address.cast(Message::Panic).unwrap();
    talk.say(Say::Panic);
    for _ in 0..3 {
        probe.address.cast(Message::Work("lost")).unwrap();
        talk.say(Say::Work("lost"));
    }
    let call = talk.address.call(Say::Ping, SOON);
    assert!(matches!(call.await, Err(CallError::Exited(ExitReason::Panic { .. }))));
    settle().await;
    let told = all(&mut events);
    for (path, lost) in [("/top/a", 3), ("/top/b", 4)] {
        let told: Vec<_> = told.iter().filter(|event| event.path == path).collect();
        let place = |is: fn(&LifecycleEvent) -> bool| {
            told.iter().position(|it| is(&it.event)).unwrap_or_else(|| panic!("{path}: {told:?}"))
        };
        let undelivered = place(|event| matches!(event, LifecycleEvent::Undelivered { .. }));
        let exited = place(|event| matches!(event, LifecycleEvent::Exited { .. }));
        let started = place(|event| matches!(event, LifecycleEvent::Started { .. }));
        assert!(exited < undelivered && undelivered < started, "{told:?}");
        assert_eq!(told[undelivered].event, LifecycleEvent::Undelivered { count: lost });
        assert_eq!(told[undelivered].process, told[exited].process, "the one that ended");
        let node = node_at(&root, path);
        assert_eq!((node.undelivered, node.mailbox_depth), (lost, Some(0)), "{path}");
    }
    assert!(!log.take().contains(&"a worked lost".to_owned()));
    assert!(!talk.did().contains(&"lost".to_owned()));
    // It counts on; one that ends with nothing in its mailbox says nothing.
    for left in [0, 2] {
        talk.say(Say::Panic);
        for _ in 0..left {
            talk.say(Say::Work("lost"));
        }
        settle().await;
        let told = all(&mut events);
        let lost = told.iter().find(|it| matches!(it.event, LifecycleEvent::Undelivered { .. }));
        assert_eq!(lost.is_some(), left > 0);
        assert_eq!(node_at(&root, "/top/b").undelivered, 4 + left);
    }
}

/// A child is the same one when another specification takes the place of its own (SUP-235).
#[tokio::test(start_paused = true)]
async fn what_was_not_delivered_is_counted_on_under_another_specification() {
    let (old, talk) = Talk::new("a");
    let root = root(SupervisorSpec::new("top").child(old)).await;
    let loses = |talk: &Talk, lost: usize| {
        talk.say(Say::Panic);
        (0..lost).for_each(|_| talk.say(Say::Work("lost")));
    };
    loses(&talk, 2);
    settle().await;
    assert_eq!(node(&root).undelivered, 2);
    let (new, next) = Talk::new("a");
    root.supervisor().reconfigure(SupervisorSpec::new("top").child(new)).await.unwrap();
    assert_eq!(node(&root).undelivered, 2, "the new one waits for the next start");
    loses(&talk, 3);
    settle().await;
    assert_eq!(next.ping().await, Ok(1), "it has begun");
    assert_eq!((node(&root).incarnation, node(&root).undelivered), (3, 2 + 3));
    loses(&next, 1);
    settle().await;
    assert_eq!((node(&root).incarnation, node(&root).undelivered), (4, 2 + 3 + 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_to_an_init_that_failed_is_told_as_well() {
    let root = root(SupervisorSpec::new("top")).await;
    let mut events = root.tree().lifecycle();
    let (spec, talk) = Talk::new("a");
    let (go, gate) = oneshot::channel::<()>();
    talk.begin(async {
        gate.await?;
        Err("no".into())
    });
    let mut start = pin!(root.supervisor().start_child(spec));
    pending(start.as_mut()).await;
    settle().await;
    talk.say(Say::Work("early"));
    talk.say(Say::Work("early"));
    go.send(()).unwrap();
    start.await.unwrap_err();
    let told: Vec<_> = all(&mut events).into_iter().map(|it| it.event).collect();
    assert_eq!(told[0], LifecycleEvent::Undelivered { count: 2 }, "{told:?}");
    assert!(matches!(told[1], LifecycleEvent::StartFailed { .. }), "{told:?}");
}
