//! How something is stopped and killed, and when its end is told.

use std::{
    pin::pin,
    sync::{Mutex, mpsc},
    time::Duration,
};

use perennial_core::{ExitReason, Restart, Shutdown};
use perennial_supervision::{
    CallError, ChildSpec, Clock, Options, Root, SupervisorSpec,
    ractor::{Actor, ActorProcessingErr, ActorRef, ActorStatus},
};
use tokio::sync::oneshot;

use super::plain::*;
use crate::probe::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn trap_08_a_stop_overtakes_the_mailbox() {
    let ((watcher, _), _) = watcher().await;
    let log = Log::default();
    let (actor, ended) = bare(&watcher, "a", &log).await;
    actor.cast(Message::Work("1")).unwrap();
    actor.cast(Message::Work("2")).unwrap();
    actor.stop(None);
    ended.await.unwrap();
    assert_eq!(log.take(), ["a started", "a cleaned", "a dropped"]);

    let world = World::start_with(&[Restart::Permanent], |spec| spec).await.unwrap();
    let (open, closed) = gate();
    world.probes[0].address.cast(Message::Await(closed)).unwrap();
    world.probes[0].address.cast(Message::Work("1")).unwrap();
    world.probes[0].address.cast(Message::Work("2")).unwrap();
    let mut stopped = pin!(world.root.shutdown());
    assert!(is_pending(stopped.as_mut()).await);
    settle().await;
    open.send(()).unwrap();
    stopped.await;
    let in_order = ["a started", "a worked 1", "a worked 2", "a cleaned", "a dropped"];
    assert_eq!(world.log.take(), in_order);
}

#[tokio::test(start_paused = true)]
async fn trap_09_a_stop_waits_for_the_handler_however_long() {
    let ((watcher, _), _) = watcher().await;
    let (actor, _ended) = bare(&watcher, "a", &Log::default()).await;
    tell(&actor, Message::Hang).await;
    assert!(actor.stop_and_wait(None, Some(SECOND)).await.is_err());
    settle().await;
    assert_eq!(actor.get_status(), ActorStatus::Running);
    actor.kill();

    let world = World::start_with(&[], |spec| spec).await.unwrap();
    let (spec, probe) = Probe::new("a", &world.log);
    world.top().start_child(spec.shutdown(Shutdown::Timeout(SECOND))).await.unwrap();
    probe.address.cast(Message::Hang).unwrap();
    settle().await;
    let report = world.root.shutdown().await;
    assert_eq!(report.took, SECOND, "then it is killed");
    assert_eq!(report.unkillable, [""; 0]);
    assert_eq!(world.log.take(), ["a started", "a dropped"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_10_what_does_not_yield_cannot_be_killed() {
    let block = || {
        let (open, closed) = mpsc::channel::<()>();
        let (inside, is_inside) = oneshot::channel();
        let block = Message::Act(Box::new(move |_| {
            inside.send(()).unwrap();
            closed.recv().unwrap_or(());
        }));
        (open, is_inside, block)
    };
    let ((watcher, _), _) = watcher().await;
    let (actor, ended) = bare(&watcher, "a", &Log::default()).await;
    let (open, is_inside, message) = block();
    actor.cast(message).unwrap();
    is_inside.await.unwrap();
    // In real time: the handler holds its thread.
    let bound = Duration::from_millis(50);
    let killed = tokio::time::timeout(bound, actor.kill_and_wait(None)).await;
    assert!(killed.is_err(), "without a bound of its own it waits for ever");
    drop(open);
    ended.await.unwrap();

    let (spec, probe) = Probe::new("a", &Log::default());
    let top = SupervisorSpec::new("top").child(spec.shutdown(Shutdown::BrutalKill));
    let options = Options { kill_deadline: bound, ..Options::default() };
    let root = Root::start(top, Clock::start(), options).await.unwrap();
    let (open, is_inside, message) = block();
    probe.address.cast(message).unwrap();
    is_inside.await.unwrap();
    assert_eq!(root.shutdown().await.unkillable, ["/top/a"]);
    drop(open);

    // Code that blocks has a kind of its own, which is told that it must return.
    let (returned, has_returned) = mpsc::channel();
    let thread = ChildSpec::thread("blocks", move |stop| {
        let (wake, woken) = mpsc::channel();
        stop.on_stop(move || wake.send(()).unwrap_or(()));
        woken.recv()?;
        returned.send(())?;
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    });
    let root = self::root(SupervisorSpec::new("top").child(thread)).await;
    assert_eq!(root.shutdown().await.unkillable, [""; 0]);
    assert_eq!(has_returned.try_recv(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn trap_11_who_stops_it_second_does_not_wait() {
    let ((watcher, _), _) = watcher().await;
    let (actor, _ended) = bare(&watcher, "a", &Log::default()).await;
    let (open, closed) = gate();
    tell(&actor, Message::Await(closed)).await;
    let mut first = pin!(actor.stop_and_wait(None, None));
    assert!(is_pending(first.as_mut()).await);
    assert!(at_once(actor.stop_and_wait(None, None)).await.is_err());
    assert_eq!(actor.get_status(), ActorStatus::Running, "it has not even begun to stop");
    open.send(()).unwrap();
    first.await.unwrap();

    let world = World::start_with(&[Restart::Temporary], |spec| spec).await.unwrap();
    let probe = &world.probes[0];
    let process = probe.address.whereis().unwrap();
    let (open, closed) = gate();
    probe.address.cast(Message::Await(closed)).unwrap();
    settle().await;
    let mut first = pin!(probe.address.stop(ExitReason::Normal, SOON));
    let mut second = pin!(probe.address.stop(ExitReason::Normal, SOON));
    assert!(is_pending(first.as_mut()).await);
    assert!(is_pending(second.as_mut()).await);
    settle().await;
    assert!(is_pending(second.as_mut()).await && process.is_alive());
    open.send(()).unwrap();
    assert_eq!(first.await, Ok(()));
    assert_eq!(second.await, Ok(()));
    assert!(!process.is_alive());
}

/// Panics when it is told anything. Its state takes its time to go.
struct Fragile;

struct Slow {
    going: Option<oneshot::Sender<()>>,
    gate: mpsc::Receiver<()>,
}

impl Drop for Slow {
    fn drop(&mut self) {
        if let Some(going) = self.going.take() {
            going.send(()).unwrap_or(());
        }
        self.gate.recv().unwrap_or(());
    }
}

impl Actor for Fragile {
    type Msg = ();
    type State = Slow;
    type Arguments = Slow;

    async fn pre_start(&self, _: ActorRef<()>, slow: Slow) -> Result<Slow, ActorProcessingErr> {
        Ok(slow)
    }

    async fn handle(
        &self,
        _: ActorRef<()>,
        (): (),
        _: &mut Slow,
    ) -> Result<(), ActorProcessingErr> {
        panic!("told something")
    }
}

fn slow() -> (Slow, oneshot::Receiver<()>, mpsc::Sender<()>) {
    let ((going, is_going), (open, gate)) = (oneshot::channel(), mpsc::channel());
    (Slow { going: Some(going), gate }, is_going, open)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_12_an_end_is_told_before_it_is_over() {
    let (state, is_going, open) = slow();
    let (actor, ended) = alone(None, Fragile, state).await.unwrap();
    actor.cast(()).unwrap();
    is_going.await.unwrap();
    assert_eq!(actor.get_status(), ActorStatus::Stopped, "its state has not gone");
    drop(open);
    ended.await.unwrap();

    let (state, is_going, open) = slow();
    let state = Mutex::new(Some(state));
    let (spec, address) =
        ChildSpec::actor("a", move || (Fragile, state.lock().unwrap().take().unwrap()));
    let top = SupervisorSpec::new("top").child(spec.restart(Restart::Temporary));
    let _root = root(top).await;
    let (process, mut monitor) = (address.whereis().unwrap(), address.monitor());
    address.cast(()).unwrap();
    is_going.await.unwrap();
    assert!(process.is_alive(), "what it held is not free");
    drop(open);
    assert_eq!(monitor.down().await.name(), "panic");
}

#[tokio::test(start_paused = true)]
async fn trap_13_the_last_state_lives_on_with_the_supervisor() {
    let ((watcher, _), _) = watcher().await;
    let log = Log::default();
    let (actor, ended) = bare(&watcher, "a", &log).await;
    let (open, closed) = gate();
    watcher.cast(Order::Await(closed)).unwrap();
    let mut call = pin!(actor.call(Message::Keep, None));
    assert!(is_pending(call.as_mut()).await);
    settle().await;
    actor.stop(None);
    ended.await.unwrap();
    settle().await;
    assert_eq!(log.take(), ["a started", "a cleaned"], "its state waits for a busy supervisor");
    assert!(is_pending(call.as_mut()).await, "and so does whoever waits for a reply");
    open.send(()).unwrap();
    assert!(call.await.is_ok());
    assert_eq!(log.take(), ["a dropped"]);

    let world = World::start_with(&[Restart::Permanent], |spec| spec).await.unwrap();
    let (busy, hangs) = Probe::new("busy", &world.log);
    hangs.script(&[Start::Hangs]);
    let mut start = pin!(world.top().start_child(busy));
    assert!(is_pending(start.as_mut()).await);
    settle().await;
    let reason = at_once(world.probes[0].end(|| Message::StopSelf)).await;
    assert_eq!(reason, ExitReason::Normal);
    assert_eq!(world.log.take(), ["a started", "a cleaned", "a dropped"]);
    assert!(is_pending(start.as_mut()).await, "the supervisor is still busy");
    let waits = at_once(world.probes[0].address.send_request(Message::Ping).wait(SOON)).await;
    assert_eq!(waits, Err(CallError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn trap_13_nor_does_what_is_killed_leave_its_state_to_whoever_it_is_linked_to() {
    let ((watcher, _), _) = watcher().await;
    let (open, closed) = gate();
    watcher.cast(Order::Await(closed)).unwrap();
    let world = World::start_with(&[Restart::Temporary], |spec| spec).await.unwrap();
    let probe = &world.probes[0];
    let above = watcher.get_cell();
    let link = move |me: &ActorRef<Message>| me.get_cell().link(above);
    probe.address.cast(Message::Act(Box::new(link))).unwrap();
    assert_eq!(probe.ping().await, Ok(1));
    let victim = world.root.tree().kill("/top/a").unwrap();
    settle().await;
    assert_eq!(at_once(victim.exit()).await, ExitReason::Killed);
    assert_eq!(world.log.take(), ["a started", "a dropped"], "while the watcher is busy");
    drop(open);
}

#[tokio::test(start_paused = true)]
async fn trap_19_children_are_stopped_all_at_once_with_one_timeout() {
    let ((watcher, _), _) = watcher().await;
    let log = Log::default();
    let (first, _) = bare_with(&watcher, "a", &log, Cleanup::Hangs).await;
    let (second, _) = bare_with(&watcher, "b", &log, Cleanup::Hangs).await;
    settle().await;
    let clock = Clock::start();
    let begun = clock.now();
    watcher.stop_children_and_wait(None, Some(SECOND)).await;
    assert_eq!(clock.now().since(begun), SECOND, "for both together");
    assert_eq!(first.get_status(), ActorStatus::Stopping, "that it did not help is not told");
    assert_eq!(second.get_status(), ActorStatus::Stopping);
    first.kill();
    second.kill();

    let mut top = SupervisorSpec::new("top");
    for (name, within) in [("a", SECOND), ("b", 2 * SECOND)] {
        let (spec, _) = Probe::with_cleanup(name, &log, Cleanup::Hangs);
        top = top.child(spec.shutdown(Shutdown::Timeout(within)));
    }
    let root = root(top).await;
    log.take();
    let report = root.shutdown().await;
    assert_eq!(report.took, 3 * SECOND, "each has its own time");
    assert_eq!(log.take(), ["b cleaned", "b dropped", "a cleaned", "a dropped"]);
}
