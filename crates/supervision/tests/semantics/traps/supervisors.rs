//! What the end of a supervisor means for those below it.

use std::{pin::pin, sync::mpsc, time::Duration};

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{RequestError, Supervisor, SupervisorSpec, ractor::ActorStatus};

use super::plain::*;
use crate::probe::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_04_the_end_of_a_parent_kills_its_children() {
    let ((watcher, ended), _) = watcher().await;
    let log = Log::default();
    let (_, first) = bare(&watcher, "a", &log).await;
    let (second, second_ended) = bare(&watcher, "b", &log).await;
    let (open, closed) = mpsc::channel::<()>();
    let (inside, is_inside) = tokio::sync::oneshot::channel();
    let busy = Message::Act(Box::new(move |_| {
        inside.send(()).unwrap();
        closed.recv().unwrap_or(());
    }));
    // Whom its start has woken may have been put aside for the thread that is held next, and has to
    // have run: the watcher.
    second.call(Message::Ping, None).await.unwrap();
    let (turn, had_its_turn) = tokio::sync::oneshot::channel();
    let take_turn = Box::pin(async move { turn.send(()).unwrap() });
    watcher.cast(Order::Await(take_turn)).unwrap();
    had_its_turn.await.unwrap();
    second.cast(busy).unwrap();
    is_inside.await.unwrap();
    watcher.stop_and_wait(None, None).await.unwrap();
    ended.await.unwrap();
    assert_eq!(second.get_status(), ActorStatus::Running, "it is not waited for");
    drop(open);
    first.await.unwrap();
    second_ended.await.unwrap();
    let lines = log.take();
    assert!(!lines.iter().any(|line| line.ends_with("cleaned")), "{lines:?}");

    let world = World::start(|top| top).await;
    world.log.take();
    let (open, closed) = mpsc::channel::<()>();
    let busy = Message::Act(Box::new(move |_| closed.recv().unwrap_or(())));
    world.probes[1].address.cast(busy).unwrap();
    let (report, ()) = tokio::join!(world.root.shutdown(), async { drop(open) });
    assert_eq!(report.unkillable, [""; 0]);
    let in_reverse = ["c cleaned", "c dropped", "b cleaned", "b dropped", "a cleaned", "a dropped"];
    assert_eq!(world.log.take(), in_reverse);
}

#[tokio::test(start_paused = true)]
async fn trap_05_who_stops_already_is_orphaned() {
    let ((watcher, ended), _) = watcher().await;
    let log = Log::default();
    let (orphan, _hangs) = bare_with(&watcher, "a", &log, Cleanup::Hangs).await;
    orphan.stop(None);
    settle().await;
    watcher.stop(None);
    ended.await.unwrap();
    settle().await;
    assert_eq!(orphan.get_status(), ActorStatus::Stopping, "it hangs, and is not killed");
    assert!(orphan.try_get_supervisor().is_none(), "nobody knows of it");
    orphan.kill();

    let (spec, probe) = Probe::with_cleanup("a", &log, Cleanup::Hangs);
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(spec));
    let root = root(SupervisorSpec::new("top").child(inner.restart(Restart::Transient))).await;
    let child = probe.address.whereis().unwrap();
    probe.address.cast(Message::StopSelf).unwrap();
    settle().await;
    assert!(child.is_alive(), "it hangs in its cleanup");
    root.tree().kill("/top/inner").unwrap().exit().await;
    assert!(!child.is_alive(), "nothing outlives its supervisor");
}

#[tokio::test(start_paused = true)]
async fn trap_06_giving_up_is_a_failure() {
    let ((above, _), told) = watcher().await;
    let (log, inner_log) = (Log::default(), Log::default());
    let (inner, ended) = under(&above, Watcher, inner_log.clone()).await.unwrap();
    let (_, child_ended) = bare(&inner, "a", &log).await;
    inner.cast(Order::Fail).unwrap();
    ended.await.unwrap();
    child_ended.await.unwrap();
    settle().await;
    assert_eq!(told.take(), ["failed: gives up"]);
    assert_eq!(inner_log.take(), [""; 0], "its own cleanup is skipped");
    assert_eq!(log.take(), ["a started", "a dropped"]);

    let ((a, _), (b, fails)) = (Probe::new("a", &log), Probe::new("b", &log));
    let inner = SupervisorSpec::new("inner").intensity(0, SOON).child(a).child(b);
    let (inner, _) = Supervisor::child_spec(inner);
    let root = root(SupervisorSpec::new("top").child(inner.restart(Restart::Transient))).await;
    let mut monitor = root.supervisor().which_child("inner").unwrap().process.unwrap().monitor();
    log.take();
    fails.end(|| Message::Panic).await;
    assert_eq!(monitor.down().await, ExitReason::Shutdown, "in good order");
    assert_eq!(log.take(), ["b cleaned", "b dropped", "a cleaned", "a dropped"]);
}

#[tokio::test(start_paused = true)]
async fn trap_07_a_killed_supervisor_runs_nothing() {
    let ((watcher, ended), told) = watcher().await;
    let log = Log::default();
    let (_, child_ended) = bare(&watcher, "a", &log).await;
    watcher.kill();
    ended.await.unwrap();
    child_ended.await.unwrap();
    assert_eq!(told.take(), [""; 0]);
    assert_eq!(log.take(), ["a started", "a dropped"]);

    let (a, child) = Probe::new("a", &log);
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(a));
    let root = root(SupervisorSpec::new("top").child(inner.restart(Restart::Temporary))).await;
    log.take();
    let mut end = child.address.monitor();
    assert_eq!(root.tree().kill("/top/inner").unwrap().exit().await, ExitReason::Killed);
    assert_eq!(at_once(end.down()).await, ExitReason::Killed, "its children have ended before it");
    assert_eq!(log.take(), ["a cleaned", "a dropped"], "and have cleaned up");
}

#[tokio::test(start_paused = true)]
async fn trap_24_a_child_that_is_done_ends_its_parent() {
    let log = Log::default();
    let parent = Shell::new("parent", &log, Cleanup::Works);
    let (parent, ended) = alone(None, parent, ()).await.unwrap();
    let (child, _) = bare(&parent, "a", &log).await;
    child.stop(None);
    ended.await.unwrap();

    let world = World::start_with(&[Restart::Temporary; 2], |spec| spec).await.unwrap();
    assert_eq!(world.probes[0].end(|| Message::StopSelf).await, ExitReason::Normal);
    settle().await;
    assert_eq!(ids(world.top()), ["b"]);
    assert_eq!(world.probes[1].ping().await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn trap_26_a_supervisor_that_is_drained_adopts_nobody() {
    let ((watcher, ended), told) = watcher().await;
    let (open, closed) = gate();
    watcher.cast(Order::Await(closed)).unwrap();
    let (me, log) = (watcher.clone(), Log::default());
    let (child, lines) = (Shell::new("late", &log, Cleanup::Works), told.clone());
    let start = async move {
        lines.add(under(&me, child, ()).await.unwrap_err().to_string());
    };
    watcher.cast(Order::Await(Box::pin(start))).unwrap();
    watcher.drain().unwrap();
    open.send(()).unwrap();
    ended.await.unwrap();
    let lines = told.take();
    assert!(lines[0].contains("Supervisor is shutting down"), "{lines:?}");
    assert_eq!(log.take(), ["late started", "late dropped"], "it ran, and nobody had it");

    let world = World::start_with(&[Restart::Permanent], |spec| spec).await.unwrap();
    let (late, _) = Probe::new("late", &world.log);
    let (slow, begins) = Probe::new("slow", &world.log);
    begins.script(&[Start::Hangs]);
    world.log.take();
    let slow = slow.start_within(Duration::from_secs(1));
    let mut under_way = pin!(world.top().start_child(slow));
    assert!(is_pending(under_way.as_mut()).await);
    settle().await;
    let mut asked = pin!(world.top().start_child(late));
    assert!(is_pending(asked.as_mut()).await);
    let mut stopped = pin!(world.root.shutdown());
    assert!(is_pending(stopped.as_mut()).await);
    assert_eq!(stopped.await.reason, ExitReason::Shutdown);
    assert!(under_way.await.is_err());
    assert_eq!(asked.await.unwrap_err(), RequestError::Ended(ExitReason::Shutdown));
    assert_eq!(world.log.take(), ["a cleaned", "a dropped"], "who is not adopted does not run");
}

/// A runtime of its own, which the test ends.
fn executor() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

#[test]
fn trap_29_the_end_of_a_task_or_of_the_executor_cleans_nothing_up() {
    let log = Log::default();
    let executor_of_ractor = executor();
    executor_of_ractor.block_on(async {
        let ((watcher, _), told) = watcher().await;
        let (_, task) = bare(&watcher, "a", &log).await;
        settle().await;
        task.abort();
        settle().await;
        assert_eq!(told.take(), ["terminated without a state: actor_task_cancelled"]);
        drop(bare(&watcher, "b", &log).await);
        settle().await;
    });
    drop(executor_of_ractor);
    assert_eq!(log.take(), ["a started", "a dropped", "b started", "b dropped"]);

    let executor_of_ours = executor();
    let world = executor_of_ours.block_on(World::start(|top| top));
    world.log.take();
    // Explicit, and awaited.
    executor_of_ours.block_on(world.root.shutdown());
    drop(executor_of_ours);
    assert_eq!(world.log.take().len(), 6, "all have cleaned up");

    // Where the host forgets it, those who wait are told at least.
    let executor_of_ours = executor();
    let (world, mut monitor) = executor_of_ours.block_on(async {
        let world = World::start(|top| top).await;
        let monitor = world.probes[0].address.monitor();
        (world, monitor)
    });
    drop(executor_of_ours);
    assert_eq!(executor().block_on(monitor.down()), ExitReason::Killed);
    drop(world);
}
