//! Starts, and what a supervisor knows of those it started.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Mutex, time::Duration};

use futures_util::FutureExt;
use perennial_core::tree::NodeState;
use perennial_supervision::{
    ChildSpec, LifecycleEvent, Supervisor, SupervisorSpec, ractor::registry,
};
use tokio::sync::oneshot;

use super::plain::*;
use crate::probe::*;

fn panics() -> Begin {
    Box::new(|| panic!("before there is a future"))
}

/// Never starts; the receiver hears when it is given up.
fn hangs() -> (Begin, oneshot::Receiver<()>) {
    let (held, dropped) = oneshot::channel::<()>();
    let begin = move || -> Later {
        Box::pin(async move {
            let _held = held;
            std::future::pending().await
        })
    };
    (Box::new(begin), dropped)
}

/// A child that begins like this, once.
fn odd(begin: Begin) -> ChildSpec {
    let begin = Mutex::new(Some(begin));
    ChildSpec::actor("odd", move || (Odd, begin.lock().unwrap().take().unwrap())).0
}

#[tokio::test(start_paused = true)]
async fn trap_14_a_start_is_outside_the_tree() {
    let ((watcher, ended), _) = watcher().await;
    let start = AssertUnwindSafe(under(&watcher, Odd, panics())).catch_unwind().await;
    assert!(start.is_err(), "the panic is the caller's");
    let (open, closed) = gate();
    let mut start = pin!(under(&watcher, Odd, Box::new(move || closed) as Begin));
    assert!(is_pending(start.as_mut()).await);
    watcher.stop(None);
    ended.await.unwrap();
    settle().await;
    assert!(is_pending(start.as_mut()).await, "its supervisor is gone, and it starts");
    open.send(()).unwrap();
    let refused = start.await.unwrap_err().to_string();
    assert!(refused.contains("Supervisor is shutting down"), "{refused}");

    let (inner, handle) = Supervisor::child_spec(SupervisorSpec::new("inner"));
    let root = root(SupervisorSpec::new("top").child(inner)).await;
    let refused = handle.start_child(odd(panics())).await.unwrap_err().to_string();
    assert!(refused.contains("panic: before there is a future"), "{refused}");
    let (begin, dropped) = hangs();
    let mut start = pin!(handle.start_child(odd(begin)));
    assert!(is_pending(start.as_mut()).await);
    settle().await;
    root.tree().kill("/top/inner").unwrap().exit().await;
    assert!(at_once(dropped).await.is_err(), "it went with its supervisor");
    assert!(at_once(start).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn trap_15_who_waits_for_a_start_obeys_nobody() {
    let ((watcher, _ended), _) = watcher().await;
    let (begin, _dropped) = hangs();
    let me = watcher.clone();
    let start = async move { drop(under(&me, Odd, begin).await) };
    watcher.cast(Order::Await(Box::pin(start))).unwrap();
    settle().await;
    assert!(watcher.stop_and_wait(None, Some(SOON)).await.is_err());
    watcher.kill();

    let root = root(SupervisorSpec::new("top")).await;
    let within = Duration::from_secs(2);
    let (begin, dropped) = hangs();
    let mut start = pin!(root.supervisor().start_child(odd(begin).start_within(within)));
    assert!(is_pending(start.as_mut()).await);
    settle().await;
    let report = root.shutdown().await;
    assert_eq!(report.took, within, "a start has a bound");
    assert!(dropped.await.is_err());
    assert!(start.await.unwrap_err().to_string().contains("timeout"));
}

#[tokio::test(start_paused = true)]
async fn trap_16_ends_overtake_what_was_asked_before() {
    let ((watcher, _), told) = watcher().await;
    let (actor, ended) = bare(&watcher, "a", &Log::default()).await;
    let (open, closed) = gate();
    watcher.cast(Order::Await(closed)).unwrap();
    settle().await;
    watcher.cast(Order::Note("asked")).unwrap();
    actor.stop(None);
    ended.await.unwrap();
    open.send(()).unwrap();
    settle().await;
    assert_eq!(told.take(), ["terminated with a state: -", "asked"]);

    let world = World::start(|top| top).await;
    let (open, closed) = gate();
    let mut start = pin!(world.top().start_child(odd(Box::new(move || closed))));
    assert!(is_pending(start.as_mut()).await);
    settle().await;
    let mut asked = pin!(world.top().terminate_child("b"));
    assert!(is_pending(asked.as_mut()).await);
    let mut lifecycle = world.root.tree().lifecycle();
    world.probes[0].end(|| Message::Panic).await;
    open.send(()).unwrap();
    start.await.unwrap();
    asked.await.unwrap();
    world.probes[0].answers().await;
    let mut order = Vec::new();
    while order.len() < 2 {
        let event = lifecycle.next().await.unwrap();
        match (event.path.as_str(), &event.event) {
            ("/top/b", LifecycleEvent::Exited { .. }) => order.push("b stopped"),
            ("/top/a", LifecycleEvent::Started { .. }) => order.push("a restarted"),
            _ => (),
        }
    }
    assert_eq!(order, ["b stopped", "a restarted"], "as they came");
}

#[tokio::test(start_paused = true)]
async fn trap_17_news_of_an_earlier_life_has_its_name() {
    let log = Log::default();
    let shell = || Shell::new("a", &log, Cleanup::Works);
    let (earlier, ended) = alone(Some("trap 17"), shell(), ()).await.unwrap();
    earlier.stop(None);
    ended.await.unwrap();
    let (later, _) = alone(Some("trap 17"), shell(), ()).await.unwrap();
    // What an event of the earlier one carries names the later one.
    let name = earlier.get_cell().get_name().unwrap();
    #[expect(clippy::disallowed_methods, reason = "plain ractor is the subject")]
    let named = registry::where_is(name).unwrap();
    assert_eq!(named.get_id(), later.get_id());
    assert_ne!(named.get_id(), earlier.get_id());
    later.stop(None);

    // A life that was given up ends after its successor has started.
    let (let_go, hold) = std::sync::mpsc::channel::<()>();
    let hold = Mutex::new(Some(hold));
    let stubborn = ChildSpec::thread("stubborn", move |stop| {
        let hold = hold.lock().unwrap().take();
        let (wake, woken) = std::sync::mpsc::channel();
        stop.on_stop(move || wake.send(()).unwrap_or(()));
        match hold {
            Some(hold) => hold.recv().unwrap_or(()),
            None => woken.recv().unwrap_or(()),
        }
        Ok::<(), String>(())
    });
    let stubborn = stubborn.name("stubborn");
    let name = stubborn.get_name().cloned().unwrap();
    let root = root(SupervisorSpec::new("top").child(stubborn)).await;
    let top = root.supervisor();
    let earlier = root.names().whereis(&name).unwrap();
    top.terminate_child("stubborn").await.unwrap();
    assert!(earlier.is_alive(), "it was given up");
    drop(let_go);
    until(|| !earlier.is_alive()).await;
    top.restart_child("stubborn").await.unwrap();
    settle().await;
    let later = root.names().whereis(&name).unwrap();
    assert_ne!(later, earlier);
    assert!(later.is_alive());
    let node = root.tree().nodes().into_iter().find(|node| node.path == "/top/stubborn").unwrap();
    assert_eq!((node.incarnation, node.state), (2, NodeState::Running));
}

#[tokio::test(start_paused = true)]
async fn trap_18_the_children_are_a_heap_of_whatever_is_linked() {
    let ((watcher, _), _) = watcher().await;
    let log = Log::default();
    let mut started = Vec::new();
    for _ in 0..32 {
        started.push(bare(&watcher, "a", &log).await.0.get_id());
    }
    let listed = || watcher.get_children().iter().map(|it| it.get_id()).collect::<Vec<_>>();
    assert_ne!(listed(), started, "in no order");
    let foreign = Shell::new("foreign", &log, Cleanup::Works);
    let (foreign, _) = alone(None, foreign, ()).await.unwrap();
    foreign.get_cell().link(watcher.get_cell());
    assert_eq!(listed().len(), 33);

    let mut top = SupervisorSpec::new("top");
    let names: Vec<String> = (0..32).map(|place| format!("child{place}")).collect();
    let mut probes = Vec::new();
    for name in &names {
        let (spec, probe) = Probe::new(name, &log);
        probes.push(probe);
        top = top.child(spec);
    }
    let root = root(top).await;
    let listed = || {
        root.supervisor().which_children().unwrap().into_iter().map(|child| child.name().to_owned())
    };
    let mut backwards = names.clone();
    backwards.reverse();
    assert!(listed().eq(names.clone()) || listed().eq(backwards));
    // A child may have ractor actors of its own below it: they are its matter.
    let (linked, cell) = (Log::default(), foreign.get_cell());
    let lines = linked.clone();
    let adopt = Message::Act(Box::new(move |me| {
        cell.link(me.get_cell());
        lines.add("linked");
    }));
    probes[0].address.cast(adopt).unwrap();
    settle().await;
    assert_eq!(linked.take(), ["linked"]);
    assert_eq!(listed().count(), 32);
}
