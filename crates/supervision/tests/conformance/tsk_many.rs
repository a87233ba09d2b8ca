//! Tasks: several at once, polls, and ends that their owners ask for.

use std::{num::NonZero, time::Duration};

use perennial_core::{ExitReason, Shutdown};
use perennial_supervision::{OnTimeout, Task, TaskError, TaskSupervisor, await_many, yield_many};
use tokio::sync::oneshot;

use crate::{
    fixture::idle,
    harness::proves,
    probe::{Log, SOON},
    tsk_world::{Dropped, Watch, World, panicked},
};

const SHORT: Duration = Duration::from_millis(50);

/// A task that makes `value` after `wait`.
async fn after(tasks: &TaskSupervisor, value: u32, wait: Duration) -> Task<u32> {
    let work = async move {
        tokio::time::sleep(wait).await; // on a paused clock
        value
    };
    tasks.async_nolink(value.to_string(), work).await.unwrap()
}

async fn fails(tasks: &TaskSupervisor, wait: Duration) -> Task<u32> {
    let work = async move {
        tokio::time::sleep(wait).await; // on a paused clock
        panic!("failed")
    };
    tasks.async_nolink("fails", work).await.unwrap()
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

proves!(many_values_come_in_the_order_of_their_tasks, ["TSK-020", "TSK-021"]);
async fn many_values_come_in_the_order_of_their_tasks() {
    let World { tasks, traps, root, .. } = World::start().await;
    traps
        .does(async move {
            let mut all = Vec::new();
            for (value, wait) in [(1, 30), (2, 10), (3, 20), (4, 0)] {
                all.push(after(&tasks, value, ms(wait)).await);
            }
            assert_eq!(await_many(all, SOON).await, Ok(vec![1, 2, 3, 4]));
            let begun = Watch::start();
            assert_eq!(await_many(Vec::<Task<u32>>::new(), SOON).await, Ok(Vec::new()));
            assert_eq!(await_many(Vec::<Task<u32>>::new(), Duration::ZERO).await, Ok(Vec::new()));
            assert_eq!(begun.elapsed(), Duration::ZERO, "at once");
        })
        .await;
    root.shutdown().await;
}

proves!(others_messages_are_left_alone, ["TSK-022", "TSK-023"]);
async fn others_messages_are_left_alone() {
    let World { tasks, traps, root, .. } = World::start().await;
    let (log, address, starts) = (traps.log.clone(), traps.address.clone(), tasks.clone());
    traps
        .does(async move {
            // What waits in the mailbox meanwhile, notices of other tasks among it.
            let note = |line: &str| crate::tsk_world::Job::Note(line.to_owned());
            address.cast(note("before")).unwrap();
            let told = address.clone();
            let tell = |notice| {
                crate::tsk_world::Job::Note(format!(
                    "{}",
                    matches!(
                        notice,
                        perennial_supervision::TaskNotice::<u32>::Value { value: 9, .. }
                    )
                ))
            };
            let other = starts.async_telling("other", told, tell, async { 9 }).await.unwrap();
            other.exit().await;
            let all = vec![after(&starts, 1, ms(5)).await, after(&starts, 2, ms(1)).await];
            assert_eq!(await_many(all, SOON).await, Ok(vec![1, 2]));
            address.cast(note("after")).unwrap();
        })
        .await;
    traps.settles().await;
    let mut lines = log.take();
    lines.retain(|line| !line.starts_with("exit of"));
    assert_eq!(lines, ["before", "true", "false", "after"], "each of them once, in order");
    root.shutdown().await;
}

proves!(one_deadline_holds_for_many, ["TSK-024", "TSK-025"]);
async fn one_deadline_holds_for_many() {
    let World { tasks, traps, root, .. } = World::start().await;
    let log = traps.log.clone();
    traps
        .does(async move {
            let begun = Watch::start();
            let all = vec![after(&tasks, 1, ms(40)).await, after(&tasks, 2, ms(90)).await];
            assert_eq!(await_many(all, ms(60)).await, Err(TaskError::Timeout));
            assert_eq!(begun.elapsed(), ms(60));
            // As soon as any fails, in whichever way; slower ones are not waited for.
            let begun = Watch::start();
            let all = vec![after(&tasks, 3, ms(900)).await, fails(&tasks, ms(20)).await];
            let Err(TaskError::Exited(reason)) = await_many(all, SOON).await else {
                panic!("it has values")
            };
            assert!(panicked(&reason, "failed"), "{reason}");
            assert_eq!(begun.elapsed(), ms(20));
            let stopped = tasks.async_nolink("stopped", std::future::pending::<u32>());
            let stopped = stopped.await.unwrap();
            let reference = stopped.reference().unwrap().clone();
            tasks.terminate_child(&reference).await.unwrap();
            let all = vec![after(&tasks, 4, ms(900)).await, stopped];
            let told = await_many(all, SOON).await;
            assert_eq!(told, Err(TaskError::Exited(ExitReason::Shutdown)));
            assert_eq!(begun.elapsed(), ms(20));
            // One without a value: what would have sent it is gone.
            let mut none = after(&tasks, 5, ms(0)).await;
            assert_eq!(none.join(SOON).await, Ok(5));
        })
        .await;
    traps.settles().await;
    assert_eq!(log.take(), Vec::<String>::new(), "of the late ones nothing arrives");
    root.shutdown().await;
}

proves!(a_poll_may_be_repeated, ["TSK-026", "TSK-027", "TSK-028"]);
async fn a_poll_may_be_repeated() {
    let World { tasks, traps, root, .. } = World::start().await;
    traps
        .does(async move {
            let mut task = after(&tasks, 1, ms(100)).await;
            let begun = Watch::start();
            assert_eq!(task.yield_within(Duration::ZERO).await, Ok(None));
            assert_eq!(begun.elapsed(), Duration::ZERO, "a poll");
            assert_eq!(task.yield_within(ms(60)).await, Ok(None));
            assert_eq!(begun.elapsed(), ms(60));
            assert_eq!(task.yield_within(SOON).await, Ok(Some(Ok(1))));
            assert_eq!(begun.elapsed(), ms(100));
            let mut task = fails(&tasks, ms(1)).await;
            let Ok(Some(Err(reason))) = task.yield_within(SOON).await else { panic!("a value") };
            assert!(panicked(&reason, "failed"), "{reason}");
            // Both the value and the end are there: the value wins, and the end is gone with it.
            let mut task = after(&tasks, 2, ms(0)).await;
            task.reference().unwrap().exit().await;
            assert_eq!(task.yield_within(SOON).await, Ok(Some(Ok(2))));
            assert_eq!(task.yield_within(SHORT).await, Ok(None));
        })
        .await;
    root.shutdown().await;
}

proves!(many_polls_at_once, ["TSK-029", "TSK-030", "TSK-031"]);
async fn many_polls_at_once() {
    let World { tasks, traps, root, .. } = World::start().await;
    traps
        .does(async move {
            let ignore = OnTimeout::Nothing;
            let mut all = [
                after(&tasks, 1, ms(10)).await,
                fails(&tasks, ms(5)).await,
                after(&tasks, 3, ms(500)).await,
            ];
            let found = yield_many(&mut all, ms(100), None, ignore).await.unwrap();
            assert_eq!(found[0], Some(Ok(1)));
            assert!(matches!(&found[1], Some(Err(reason)) if panicked(reason, "failed")));
            assert_eq!(found[2], None);
            let found = yield_many(&mut all[2..], SOON, None, ignore).await.unwrap();
            assert_eq!(found, [Some(Ok(3))], "asked again");
            // So many are enough; the others are left as they are.
            let begun = Watch::start();
            let mut all = [
                after(&tasks, 4, ms(300)).await,
                after(&tasks, 5, ms(10)).await,
                after(&tasks, 6, ms(20)).await,
            ];
            let two = NonZero::new(2);
            let found = yield_many(&mut all, SOON, two, OnTimeout::KillTask).await.unwrap();
            assert_eq!(found, [None, Some(Ok(5)), Some(Ok(6))]);
            assert_eq!(begun.elapsed(), ms(20));
            assert!(all[0].reference().unwrap().is_alive());
            assert_eq!(all[0].join(SOON).await, Ok(4));
            // More than there are.
            let mut all = [after(&tasks, 7, ms(30)).await, after(&tasks, 8, ms(10)).await];
            let found = yield_many(&mut all, Duration::MAX, NonZero::new(9), ignore).await.unwrap();
            assert_eq!(found, [Some(Ok(7)), Some(Ok(8))]);
        })
        .await;
    root.shutdown().await;
}

proves!(late_tasks_are_killed_or_left, ["TSK-032", "TSK-033"]);
async fn late_tasks_are_killed_or_left() {
    for on_timeout in [OnTimeout::KillTask, OnTimeout::Ignore] {
        let World { tasks, plain, root, .. } = World::start().await;
        let log = Log::default();
        let (note, starts) = (log.clone(), tasks.clone());
        let (go, gate) = oneshot::channel::<()>();
        let late = plain
            .does(async move {
                let dropped = Dropped(note.clone(), "dropped");
                let work = async move {
                    let _dropped = dropped;
                    gate.await.unwrap();
                    note.add("finished");
                    panic!("nobody hears it")
                };
                let late: Task<u32> = starts.async_linked("late", work).await.unwrap();
                let mut all = [after(&starts, 1, ms(1)).await, late];
                let found = yield_many(&mut all, SHORT, None, on_timeout).await.unwrap();
                assert_eq!(found, [Some(Ok(1)), None]);
                let late = all[1].reference().unwrap().clone();
                if on_timeout == OnTimeout::KillTask {
                    assert_eq!(late.exit_reason(), Some(ExitReason::Killed), "on return");
                }
                late
            })
            .await;
        if on_timeout == OnTimeout::Ignore {
            assert!(late.is_alive());
            assert_eq!(log.take(), Vec::<String>::new());
            go.send(()).unwrap();
            assert!(panicked(&late.exit().await, "nobody hears it"));
            assert_eq!(log.take(), ["finished", "dropped"]);
        }
        idle().await;
        plain.settles().await;
        root.shutdown().await;
    }
}

/// A task that is asked to stop; it is what `work` says.
async fn stopped<F>(
    world: &World,
    how: Shutdown,
    work: impl FnOnce(oneshot::Sender<()>) -> F + Send + 'static,
) -> Option<Result<u32, ExitReason>>
where
    F: Future<Output = u32> + Send + 'static,
{
    let tasks = world.tasks.clone();
    let found = world
        .plain
        .does(async move {
            let (began, begins) = oneshot::channel();
            let mut task = tasks.async_linked("a", work(began)).await.unwrap();
            let _ = begins.await;
            let found = task.shutdown(how).await.unwrap();
            let again = task.shutdown(how).await;
            assert_eq!(again, Ok(Some(Err(ExitReason::NoProc))), "handled");
            assert!(!task.reference().unwrap().is_alive());
            found
        })
        .await;
    // It was unlinked first: the owner lives, and nothing of the task is in its mailbox.
    world.plain.settles().await;
    assert_eq!(world.plain.log.take(), Vec::<String>::new());
    found
}

proves!(
    an_owner_ends_its_task,
    ["TSK-034", "TSK-035", "TSK-036", "TSK-037", "TSK-038", "TSK-039", "TSK-040", "TSK-041"],
    because = "one table of how it is asked and what it was at"
);
async fn an_owner_ends_its_task() {
    let world = World::start().await;
    let within = Shutdown::Timeout(ms(100));
    for how in [within, Shutdown::BrutalKill, Shutdown::Infinity] {
        // Because of the request.
        let hangs = |began: oneshot::Sender<()>| async move {
            began.send(()).unwrap();
            std::future::pending().await
        };
        assert_eq!(stopped(&world, how, hangs).await, None, "{how:?}");
        // A value that is there, or that comes with the end.
        let ready = |_| async { 7 };
        assert_eq!(stopped(&world, how, ready).await, Some(Ok(7)), "{how:?}");
        // It ended for another reason, before.
        let tasks = world.tasks.clone();
        let others = world
            .traps
            .does(async move {
                let mut fails = fails(&tasks, Duration::ZERO).await;
                fails.reference().unwrap().exit().await;
                let mut stopped =
                    tasks.async_nolink("b", std::future::pending::<u32>()).await.unwrap();
                let reference = stopped.reference().unwrap().clone();
                tasks.terminate_child(&reference).await.unwrap();
                [fails.shutdown(how).await.unwrap(), stopped.shutdown(how).await.unwrap()]
            })
            .await;
        let [Some(Err(failed)), of_shutdown] = others else { panic!("{others:?}") };
        assert!(panicked(&failed, "failed"), "{how:?}: {failed}");
        // A brutal kill says so when it found another end; the others asked for this one.
        let expected = (how == Shutdown::BrutalKill).then_some(Err(ExitReason::Shutdown));
        assert_eq!(of_shutdown, expected, "{how:?}");
        // By somebody else's kill.
        let (tasks, tree) = (world.tasks.clone(), world.root.tree().clone());
        let killed = world
            .traps
            .does(async move {
                let mut task =
                    tasks.async_nolink("c", std::future::pending::<u32>()).await.unwrap();
                tree.kill("/top/tasks/c").unwrap().exit().await;
                task.shutdown(how).await.unwrap()
            })
            .await;
        let expected = (how != Shutdown::BrutalKill).then_some(Err(ExitReason::Killed));
        assert_eq!(killed, expected, "{how:?}");
    }
    world.root.shutdown().await;
}

proves!(one_that_does_not_stop_in_time_is_killed, real_time, ["TSK-037"]);
async fn one_that_does_not_stop_in_time_is_killed() {
    let World { tasks, traps, root, .. } = World::start().await;
    let found = traps
        .does(async move {
            let (began, begins) = std::sync::mpsc::channel();
            let (go, gate) = std::sync::mpsc::channel::<()>();
            // It does not yield until the test lets it, so that no stop reaches it in its time.
            let work = async move {
                began.send(()).unwrap();
                gate.recv_timeout(SOON).unwrap();
                std::future::pending::<u32>().await
            };
            let mut task = tasks.async_nolink("a", work).await.unwrap();
            begins.recv().unwrap();
            let mut stop = Box::pin(task.shutdown(Shutdown::Timeout(ms(20))));
            let early = tokio::time::timeout(ms(60), &mut stop).await;
            assert!(early.is_err(), "it is being killed, and has not ended");
            go.send(()).unwrap();
            stop.await.unwrap()
        })
        .await;
    assert_eq!(found, Some(Err(ExitReason::Killed)));
    root.shutdown().await;
}

proves!(an_owner_leaves_a_task_to_itself, ["TSK-043"]);
async fn an_owner_leaves_a_task_to_itself() {
    let World { tasks, plain, root, .. } = World::start().await;
    let (go, gate) = oneshot::channel::<()>();
    let starts = tasks.clone();
    plain
        .does(async move {
            let work = async move {
                gate.await.unwrap();
                panic!("later")
            };
            let mut late: Task<u32> = starts.async_linked("late", work).await.unwrap();
            assert_eq!(late.ignore().await, Ok(None));
            assert_eq!(late.yield_within(SHORT).await, Ok(None));
            let mut there = starts.async_linked("there", async { 1 }).await.unwrap();
            there.reference().unwrap().exit().await;
            assert_eq!(there.ignore().await, Ok(Some(Ok(1))), "on time");
            let mut failed = fails(&starts, Duration::ZERO).await;
            failed.reference().unwrap().exit().await;
            let Ok(Some(Err(reason))) = failed.ignore().await else { panic!("a value") };
            assert!(panicked(&reason, "failed"), "{reason}");
        })
        .await;
    let late = tasks.find("late").unwrap();
    go.send(()).unwrap();
    assert!(panicked(&late.exit().await, "later"), "it ran on");
    idle().await;
    plain.settles().await;
    assert_eq!(plain.log.take(), Vec::<String>::new());
    root.shutdown().await;
}
