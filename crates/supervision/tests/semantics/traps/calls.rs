//! Calls, names, links and watches.

use std::{pin::pin, time::Duration};

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    CallError, Clock, Name, RequestError,
    ractor::{ActorStatus, registry, rpc::CallResult},
};

use super::plain::*;
use crate::probe::*;

#[tokio::test(start_paused = true)]
async fn trap_20_links_exist_in_the_tree_only() {
    let log = Log::default();
    let alone_with = |name| alone(None, Shell::new(name, &log, Cleanup::Works), ());
    let (owner, ended) = alone_with("owner").await.unwrap();
    let (bound, _bound) = alone_with("bound").await.unwrap();
    owner.get_cell().link(bound.get_cell());
    owner.stop(None);
    ended.await.unwrap();
    settle().await;
    assert_eq!(bound.get_status(), ActorStatus::Stopped, "a normal end went through the link");
    let (late, _late) = alone_with("late").await.unwrap();
    late.get_cell().link(owner.get_cell());
    settle().await;
    assert_eq!(late.get_status(), ActorStatus::Running, "a link to the dead does nothing");
    assert!(late.try_get_supervisor().is_none());
    late.stop(None);

    let world = World::start_with(&[Restart::Temporary; 2], |spec| spec).await.unwrap();
    let owner = world.probes[0].address.whereis().unwrap();
    let (spec, bound) = Probe::new("bound", &world.log);
    let spec = spec.restart(Restart::Temporary).linked_to(owner);
    world.top().start_child(spec.clone()).await.unwrap();
    let mut monitor = bound.address.monitor();
    let failure = ExitReason::Error("asked to fail".into());
    assert_eq!(world.probes[0].end(|| Message::Fail).await, failure);
    assert_eq!(monitor.down().await, failure, "with the reason of its owner");
    let (spec, late) = Probe::new("late", &world.log);
    let dead = world.probes[1].address.whereis().unwrap();
    world.probes[1].end(|| Message::StopSelf).await;
    let spec = spec.restart(Restart::Temporary).linked_to(dead);
    world.log.take();
    world.top().start_child(spec).await.unwrap();
    until(|| late.address.whereis().is_none()).await;
    assert_eq!(world.log.take(), ["late started", "late cleaned", "late dropped"]);
}

/// ractor's monitors are a feature that is off here: what is shown is that without it one supervisor
/// is told and nobody else, and that a watch on the dead is never answered.
#[tokio::test(start_paused = true)]
async fn trap_21_one_watches_and_nobody_watches_the_dead() {
    let ((first, _), told_first) = watcher().await;
    let ((second, _), told_second) = watcher().await;
    let (actor, ended) = bare(&first, "a", &Log::default()).await;
    actor.get_cell().link(second.get_cell());
    actor.stop(None);
    ended.await.unwrap();
    actor.get_cell().link(first.get_cell());
    settle().await;
    assert_eq!(told_first.take(), [""; 0]);
    assert_eq!(told_second.take().len(), 1);

    let world = World::start_with(&[Restart::Temporary], |spec| spec).await.unwrap();
    let process = world.probes[0].address.whereis().unwrap();
    let (mut first, mut second) = (process.monitor(), process.monitor());
    drop(process.monitor());
    world.probes[0].end(|| Message::Fail).await;
    let failure = ExitReason::Error("asked to fail".into());
    assert_eq!(at_once(first.down()).await, failure);
    assert_eq!(at_once(second.down()).await, failure);
    assert_eq!(at_once(process.monitor().down()).await, ExitReason::NoProc);
    assert_eq!(at_once(world.probes[0].address.monitor().down()).await, ExitReason::NoProc);
}

#[tokio::test(start_paused = true)]
async fn trap_22_a_name_is_free_before_its_holder_is_gone() {
    let log = Log::default();
    let shell = |cleanup| Shell::new("a", &log, cleanup);
    let (old, _old) = alone(Some("trap 22"), shell(Cleanup::Hangs), ()).await.unwrap();
    old.stop(None);
    settle().await;
    #[expect(clippy::disallowed_methods, reason = "plain ractor is the subject")]
    let holder = registry::where_is("trap 22");
    assert!(holder.is_none());
    let (new, _new) = alone(Some("trap 22"), shell(Cleanup::Works), ()).await.unwrap();
    assert_eq!(old.get_status(), ActorStatus::Stopping, "both are there");
    let refused = alone(Some("trap 22"), shell(Cleanup::Works), ()).await.unwrap_err();
    assert!(refused.to_string().contains("trap 22"), "who has it is not told: {refused}");
    old.kill();
    new.stop(None);

    let world = World::start_with(&[], |spec| spec).await.unwrap();
    let (spec, probe) = Probe::with_cleanup("old", &world.log, Cleanup::Hangs);
    let spec = spec.restart(Restart::Temporary).name("trap 22");
    world.top().start_child(spec).await.unwrap();
    let old = probe.address.whereis().unwrap();
    probe.address.cast(Message::StopSelf).unwrap();
    settle().await;
    let name = Name::from("trap 22");
    assert_eq!(world.root.names().whereis(&name), Some(old.clone()), "until its real end");
    let (spec, _) = Probe::new("new", &world.log);
    let spec = spec.name("trap 22");
    let refused = world.top().start_child(spec.clone()).await.unwrap_err();
    assert_eq!(refused, RequestError::AlreadyStarted(old.clone()));
    world.root.tree().kill("/top/old").unwrap().exit().await;
    assert_eq!(world.root.names().whereis(&name), None);
    world.top().start_child(spec).await.unwrap();
    assert!(world.root.names().whereis(&name).is_some_and(|new| new != old));
}

#[tokio::test(start_paused = true)]
async fn trap_23_a_call_knows_no_reason_no_self_and_no_end() {
    let ((watcher, _), _) = watcher().await;
    let log = Log::default();
    let (actor, ended) = bare(&watcher, "a", &log).await;
    let mut call = pin!(actor.call(Message::Keep, None));
    assert!(is_pending(call.as_mut()).await);
    actor.cast(Message::Panic).unwrap();
    ended.await.unwrap();
    assert!(matches!(call.await, Ok(CallResult::SenderError)), "the reason is not told");
    let (actor, _ended) = bare(&watcher, "b", &log).await;
    let (me, answers) = (actor.clone(), log.clone());
    log.take();
    let ask = async move {
        let answer = me.call(Message::Ping, Some(SOON)).await;
        answers.add(format!("timed out: {}", matches!(answer, Ok(CallResult::Timeout))));
    };
    tell(&actor, Message::Await(Box::pin(ask))).await;
    tokio::time::advance(SOON).await;
    settle().await;
    assert_eq!(log.take(), ["timed out: true"], "one that asks itself waits");
    tell(&actor, Message::Hang).await;
    let unbounded = tokio::time::timeout(1000 * SOON, actor.call(Message::Ping, None)).await;
    assert!(unbounded.is_err(), "and without a bound for ever");
    actor.kill();

    let world = World::start_with(&[Restart::Permanent], |spec| spec).await.unwrap();
    let probe = &world.probes[0];
    let failure = ExitReason::Error("asked to fail".into());
    assert_eq!(probe.end(|| Message::Fail).await, failure);
    probe.answers().await;
    let address = probe.address.clone();
    let own = probe.address.call(|reply| Message::CallSelf(address, reply), SOON);
    assert_eq!(at_once(own).await, Ok(Err(CallError::CallingSelf)));
    probe.address.cast(Message::Hang).unwrap();
    let clock = Clock::start();
    let begun = clock.now();
    assert_eq!(probe.address.ask(Message::Ping).await, Err(CallError::Timeout));
    assert_eq!(clock.now().since(begun), Duration::from_secs(5));
}
