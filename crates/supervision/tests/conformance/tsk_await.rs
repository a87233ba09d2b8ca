//! Tasks: what their owners await, and what their ends do to each other.

use std::{pin::pin, time::Duration};

use perennial_core::{ExitReason, Shutdown};
use perennial_supervision::{
    ChildSpec, LifecycleEvent, Task, TaskError, TaskNotice, TaskSpec, await_many, callers,
    current_process,
};
use tokio::sync::oneshot;

use crate::{
    fixture::{idle, told},
    gs_server::pending,
    harness::proves,
    probe::{Log, SOON, until},
    tsk_world::{Dropped, Job, Watch, World, panicked},
};

const SHORT: Duration = Duration::from_millis(50);

proves!(a_task_runs_in_its_own_process, ["TSK-001", "TSK-002", "TSU-003"]);
async fn a_task_runs_in_its_own_process() {
    let World { tasks, plain, root, .. } = World::start().await;
    let listed = tasks.clone();
    let (task, owner) = plain
        .does(async move {
            let own = current_process().unwrap();
            let work = async move { current_process().unwrap() };
            let mut task = tasks.async_linked("a", work).await.unwrap();
            (task.join(SOON).await.unwrap(), own)
        })
        .await;
    assert_eq!((task.path(), owner.path()), ("/top/tasks/a", "/top/plain"));
    // Listed while it runs; linked to and watched by its owner.
    let tasks = listed.clone();
    plain.starts(async move {
        let work = std::future::pending::<()>();
        let mut task = tasks.async_linked("b", work).await.unwrap();
        let _ = task.join(Duration::MAX).await;
    });
    until(|| listed.children() == ["b"]).await;
    let (task, mut owner) = (listed.find("b").unwrap(), plain.monitor());
    root.tree().kill("/top/tasks/b").unwrap();
    assert_eq!(task.exit().await, ExitReason::Killed);
    assert_eq!(owner.down().await, ExitReason::Killed, "linked");
    root.shutdown().await;
}

proves!(an_owner_may_be_told_instead, ["TSK-003"]);
async fn an_owner_may_be_told_instead() {
    let World { tasks, traps, root, .. } = World::start().await;
    let say = |notice: TaskNotice<u32>| {
        Job::Note(match notice {
            TaskNotice::Value { task, value } => format!("{} made {value}", task.path()),
            TaskNotice::Down { task, reason } => {
                format!("{} is down: {}", task.path(), reason.name())
            }
        })
    };
    let (address, starts) = (traps.address.clone(), tasks.clone());
    let good = traps.does(async move {
        starts.async_telling("good", address, say, async { 7 }).await.unwrap()
    });
    good.await.exit().await;
    traps.settles().await;
    let mut lines = traps.log.take();
    lines.retain(|line| !line.starts_with("exit of"));
    assert_eq!(
        lines,
        ["/top/tasks/good made 7", "/top/tasks/good is down: normal"],
        "in this order"
    );
    let (address, starts) = (traps.address.clone(), tasks.clone());
    let bad = traps.does(async move {
        starts.async_telling("bad", address, say, async { panic!("no value") }).await.unwrap()
    });
    bad.await.exit().await;
    traps.settles().await;
    let mut lines = traps.log.take();
    lines.sort();
    assert_eq!(lines, ["/top/tasks/bad is down: panic", "exit of /top/tasks/bad: panic"]);
    root.shutdown().await;
}

proves!(an_await_fails_as_the_task_did, ["TSK-004", "TSK-019", "TSU-020", "TSK-005"]);
async fn an_await_fails_as_the_task_did() {
    let World { tasks, traps, root, .. } = World::start().await;
    let log = traps.log.clone();
    traps
        .does(async move {
            let mut fails = tasks.async_linked("a", async { panic!("oh") }).await.unwrap();
            let Err(TaskError::Exited(reason)): Result<(), _> = fails.join(SOON).await else {
                panic!("it has a value")
            };
            assert!(panicked(&reason, "oh"), "{reason}");
            let hangs = std::future::pending::<()>();
            let mut stopped = tasks.async_linked("b", hangs).await.unwrap();
            tasks.terminate_child(&stopped.reference().unwrap().clone()).await.unwrap();
            let begun = Watch::start();
            let told = stopped.join(SOON).await;
            assert_eq!(told, Err(TaskError::Exited(ExitReason::Shutdown)));
            assert_eq!(begun.elapsed(), Duration::ZERO, "and not at its deadline");
        })
        .await;
    traps.settles().await;
    assert_eq!(
        log.take(),
        ["exit of /top/tasks/a: panic", "exit of /top/tasks/b: shutdown"],
        "told as data, it lives on"
    );
    // One that ends normally, and has no value: it was dropped as its supervisor asked.
    let World { tasks, traps, .. } = World::start().await;
    traps
        .does(async move {
            let (sender, gone) = oneshot::channel::<()>();
            drop(sender);
            let work = async move {
                gone.await.unwrap_err();
            };
            let mut none = tasks.async_nolink("c", work).await.unwrap();
            none.reference().unwrap().exit().await;
            assert_eq!(none.join(SOON).await, Ok(()), "a value and then the end");
            let again = tokio::time::timeout(SHORT, none.join(SOON)).await;
            assert!(again.is_err(), "consumed");
        })
        .await;
    root.shutdown().await;
}

proves!(an_await_has_a_deadline, ["TSK-006", "TSK-007", "TSK-010", "TSU-019"]);
async fn an_await_has_a_deadline() {
    let World { tasks, traps, root, .. } = World::start().await;
    let (finish, finished) = oneshot::channel::<()>();
    let (log, late) = (traps.log.clone(), tasks.clone());
    traps
        .does(async move {
            let begun = Watch::start();
            let work = async move { finished.await.is_ok() };
            let mut slow = tasks.async_linked("slow", work).await.unwrap();
            assert_eq!(slow.value().await, Err(TaskError::Timeout));
            assert_eq!(begun.elapsed(), Duration::from_secs(5), "by default");
            assert_eq!(tasks.children(), ["slow"], "it runs on");
            finish.send(()).unwrap();
            let task = slow.reference().unwrap().clone();
            assert_eq!(task.exit().await, ExitReason::Normal);
            assert_eq!(slow.join(SHORT).await, Err(TaskError::Timeout), "nothing comes late");
            let mut quick = tasks.async_linked("quick", async { 1 }).await.unwrap();
            assert_eq!(quick.join(SOON).await, Ok(1));
            let begun = Watch::start();
            assert_eq!(quick.join(SHORT).await, Err(TaskError::Timeout), "given once");
            assert_eq!(begun.elapsed(), SHORT);
        })
        .await;
    traps.settles().await;
    let told: Vec<_> = log.take();
    // One that traps exits hears of those that it is linked to, as of any.
    assert!(told.iter().all(|line| line.starts_with("exit of")), "no value: {told:?}");
    assert_eq!(late.children(), Vec::<String>::new());
    root.shutdown().await;
}

proves!(an_owner_that_fails_on_a_deadline_takes_its_task_along, ["TSK-008"]);
async fn an_owner_that_fails_on_a_deadline_takes_its_task_along() {
    let World { tasks, plain, root, .. } = World::start().await;
    let starts = tasks.clone();
    plain.starts(async move {
        let hangs = std::future::pending::<()>;
        let mut linked = starts.async_linked("linked", hangs()).await.unwrap();
        let _free = starts.async_nolink("free", hangs()).await.unwrap();
        linked.join(SHORT).await.unwrap();
    });
    until(|| tasks.children().len() == 2).await;
    let linked = tasks.find("linked").unwrap();
    let reason = linked.exit().await;
    assert!(matches!(reason, ExitReason::Panic { .. }), "{reason}");
    idle().await;
    assert_eq!(tasks.children(), ["free"], "what is not linked runs on");
    root.shutdown().await;
}

proves!(only_the_owner_waits_for_a_task, ["TSK-009"]);
async fn only_the_owner_waits_for_a_task() {
    let World { tasks, plain, traps, root } = World::start().await;
    let made = async move {
        let other = tasks.async_nolink("b", async { 2 }).await.unwrap();
        (tasks.async_nolink("a", async { 1 }).await.unwrap(), other)
    };
    let (mut task, other) = plain.does(made).await;
    // Neither code that is no process nor another one.
    assert_eq!(task.join(SOON).await, Err(TaskError::NotOwner));
    let mut task = traps
        .does(async move {
            let none = TaskError::NotOwner;
            assert_eq!(task.join(SOON).await, Err(none.clone()));
            assert_eq!(task.yield_within(SOON).await, Err(none.clone()));
            assert_eq!(task.shutdown(Shutdown::BrutalKill).await, Err(none.clone()));
            assert_eq!(task.ignore().await, Err(none.clone()));
            let many = &mut [task];
            let none_of = perennial_supervision::yield_many(many, SOON, None, Default::default());
            assert_eq!(none_of.await, Err(none.clone()));
            assert_eq!(await_many(vec![other], SOON).await, Err(none));
            let [task] = many;
            std::mem::replace(task, Task::completed(0))
        })
        .await;
    assert_eq!(plain.does(async move { task.join(SOON).await }).await, Ok(1), "nothing was taken");
    let mut own = Task::completed(3);
    assert_eq!(own.join(SOON).await, Ok(3), "what nobody in a tree asked for");
    root.shutdown().await;
}

proves!(a_value_that_is_there_needs_no_process, ["TSK-011", "TSK-012", "TSK-042"]);
async fn a_value_that_is_there_needs_no_process() {
    let mut task = Task::completed("value");
    assert!(task.reference().is_none());
    assert_eq!(task.join(Duration::ZERO).await, Ok("value"));
    let mut task = Task::completed("value");
    assert_eq!(task.ignore().await, Ok(Some(Ok("value"))));
    let mut task = Task::completed("value");
    assert_eq!(task.shutdown(Shutdown::BrutalKill).await, Ok(Some(Ok("value"))));
    assert_eq!(
        task.shutdown(Shutdown::Timeout(SOON)).await,
        Ok(None),
        "looked for, not waited for"
    );
    let all = vec![Task::completed(1), Task::completed(2)];
    assert_eq!(await_many(all, Duration::ZERO).await, Ok(vec![1, 2]));
}

proves!(a_task_knows_who_asked_for_it, ["TSK-014", "TSU-018"]);
async fn a_task_knows_who_asked_for_it() {
    let World { tasks, plain, root, .. } = World::start().await;
    let chains = plain
        .does(async move {
            let inner = tasks.clone();
            let work = async move {
                let chain = || (callers(), current_process().unwrap());
                let mut deeper = inner.async_nolink("inner", async move { chain() }).await.unwrap();
                [chain(), deeper.join(SOON).await.unwrap()]
            };
            let mut task = tasks.async_linked("outer", work).await.unwrap();
            let (seen, sees) = oneshot::channel();
            let fire = async move { drop(seen.send((callers(), current_process().unwrap()))) };
            tasks.start_child("fired", fire).await.unwrap();
            (task.join(SOON).await.unwrap(), sees.await.unwrap())
        })
        .await;
    let ([outer, inner], fired) = chains;
    let plain = plain.process();
    assert_eq!(outer.0, std::slice::from_ref(&plain), "its starter first");
    assert_eq!(inner.0, [outer.1.clone(), plain.clone()], "then the starter's own");
    assert_eq!(fired.0, [plain]);
    let above: Vec<_> = inner.1.ancestors().collect();
    assert_eq!(above, ["/top/tasks", "/top"], "supervised by others than those who asked");
    root.shutdown().await;
}

proves!(the_end_of_an_owner_ends_what_is_linked, ["TSK-016", "TSK-017", "TSU-006", "TSU-007"]);
async fn the_end_of_an_owner_ends_what_is_linked() {
    let other = ExitReason::Error("broken".into());
    for reason in [other, ExitReason::Shutdown, ExitReason::Normal] {
        let World { tasks, plain, root, .. } = World::start().await;
        let (go, gate) = oneshot::channel::<()>();
        let log = Log::default();
        let (starts, note) = (tasks.clone(), log.clone());
        plain
            .does(async move {
                let dropped = Dropped(note.clone(), "dropped");
                let work = async move {
                    let _dropped = dropped;
                    gate.await.unwrap();
                    note.add("finished");
                };
                drop(starts.async_linked("linked", work).await.unwrap());
                drop(starts.async_nolink("free", std::future::pending::<()>()).await.unwrap());
            })
            .await;
        let linked = tasks.find("linked").unwrap();
        plain.ends(reason.clone()).await;
        if reason == ExitReason::Normal {
            idle().await;
            assert!(linked.is_alive(), "a normal end is nothing to it");
            go.send(()).unwrap();
            assert_eq!(linked.exit().await, ExitReason::Normal);
            assert_eq!(log.take(), ["finished", "dropped"], "its value is not wanted any more");
        } else {
            assert_eq!(linked.exit().await, reason, "the same reason");
            assert_eq!(log.take(), ["dropped"]);
        }
        idle().await;
        assert_eq!(tasks.children(), ["free"], "the supervisor and other tasks stay");
        root.shutdown().await;
    }
}

proves!(the_end_of_a_task_ends_its_owner, ["TSK-018"]);
async fn the_end_of_a_task_ends_its_owner() {
    let World { tasks, plain, root, .. } = World::start().await;
    let (starts, mut end) = (tasks.clone(), plain.monitor());
    plain.starts(async move {
        let mut good = starts.async_linked("good", async { 1 }).await.unwrap();
        good.join(SOON).await.unwrap();
        let bad = starts.async_linked("bad", async { panic!("in the task") }).await.unwrap();
        let _: Task<()> = bad;
        std::future::pending().await
    });
    let reason = end.down().await;
    assert!(panicked(&reason, "in the task"), "{reason}");
    assert!(tasks.find("bad").is_none());
    root.shutdown().await;
}

proves!(a_task_owns_tasks_too, ["TSU-008"]);
async fn a_task_owns_tasks_too() {
    // An owner that ends before its task has its work: the task never does it, and ends in silence.
    let World { tasks, plain, root, .. } = World::start().await;
    let mut lifecycle = root.tree().lifecycle();
    let log = Log::default();
    let (note, starts) = (log.clone(), tasks.clone());
    let (asked, asks) = oneshot::channel::<()>();
    plain.starts(async move {
        let work = async move { note.add("worked") };
        let mut request = pin!(starts.start_link("late", work));
        // Asked for, and not answered.
        pending(request.as_mut()).await;
        asked.send(()).unwrap();
        panic!("before it begins");
    });
    asks.await.unwrap();
    while told_exit(&mut lifecycle, "/top/tasks/late").is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(log.take(), Vec::<String>::new());
    root.shutdown().await;
}

/// Why the node at `path` ended, if that was told; it must be a shutdown.
fn told_exit(lifecycle: &mut perennial_supervision::LifecycleStream, path: &str) -> Option<()> {
    told(lifecycle).into_iter().find_map(|told| {
        let LifecycleEvent::Exited { reason, .. } = &told.event else {
            let silent = !matches!(told.event, LifecycleEvent::Crashed(_)) || told.path != path;
            assert!(silent, "{told:?}");
            return None;
        };
        if told.path != path {
            return None;
        }
        assert!(matches!(reason, ExitReason::ShutdownWith(_)), "{reason}");
        Some(())
    })
}

proves!(a_task_may_be_started_for_what_it_does, ["TSK-044"]);
async fn a_task_may_be_started_for_what_it_does() {
    let World { tasks, plain, root, .. } = World::start().await;
    let starts = tasks.clone();
    plain
        .does(async move {
            let hangs = std::future::pending::<()>;
            starts.start_child("free", hangs()).await.unwrap();
            starts.start_link("linked", hangs()).await.unwrap();
        })
        .await;
    let linked = tasks.find("linked").unwrap();
    plain.ends(ExitReason::Panic { message: "".into(), location: None }).await;
    assert!(panicked(&linked.exit().await, "the owner fails"));
    idle().await;
    assert_eq!(tasks.children(), ["free"]);
    root.shutdown().await;
}

proves!(a_task_as_a_child_is_temporary, ["TSK-045"]);
async fn a_task_as_a_child_is_temporary() {
    use perennial_core::Restart;
    use perennial_supervision::SupervisorSpec;
    let log = Log::default();
    let note = log.clone();
    let task = ChildSpec::task("task", move || {
        let note = note.clone();
        async move {
            note.add("begun");
            std::future::pending::<Result<(), String>>().await
        }
    });
    let cooperative = ChildSpec::cooperative_task("winds_up", |stop| async move {
        stop.stopped().await;
        Ok::<(), String>(())
    });
    assert_eq!(task.get_restart(), Restart::Temporary);
    assert_eq!(cooperative.get_restart(), Restart::Temporary);
    // The next child is started although neither has finished.
    let (next, probe) = crate::probe::Probe::new("next", &log);
    let top = SupervisorSpec::new("top").child(task).child(cooperative).child(next);
    let root = crate::probe::root(top).await;
    assert_eq!(probe.ping().await, Ok(1));
    root.tree().crash("/top/task").unwrap().exit().await;
    until(|| root.supervisor().which_child("task").is_err()).await;
    root.shutdown().await;
}

proves!(a_task_that_crashes_reports_once, ["TSK-046", "TSK-047"]);
async fn a_task_that_crashes_reports_once() {
    let World { tasks, traps, root, .. } = World::start().await;
    let mut lifecycle = root.tree().lifecycle();
    let starts = tasks.clone();
    let owner = traps.process();
    traps
        .does(async move {
            let spec = TaskSpec::new("bad").label("the bad one");
            let fails = async { panic!("oh") };
            let bad: Task<()> = starts.async_nolink(spec, fails).await.unwrap();
            bad.reference().unwrap().exit().await;
            let good = starts.async_nolink("good", async {}).await.unwrap();
            good.reference().unwrap().exit().await;
            let stopped = starts.start_child("stopped", std::future::pending()).await.unwrap();
            starts.terminate_child(&stopped).await.unwrap();
        })
        .await;
    for reason in [ExitReason::Normal, ExitReason::Shutdown, ExitReason::ShutdownWith("x".into())] {
        let id = reason.name();
        let silent = ChildSpec::task(id, move || std::future::ready(Err::<(), _>(reason.clone())));
        root.supervisor().start_child(silent).await.unwrap();
        until(|| root.supervisor().which_child(id).is_err()).await;
    }
    let reports: Vec<_> = told(&mut lifecycle)
        .into_iter()
        .filter_map(|told| {
            let LifecycleEvent::Crashed(report) = told.event else { return None };
            Some(report)
        })
        .collect();
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!(report.path, "/top/tasks/bad");
    assert_eq!(report.label.as_deref(), Some("the bad one"));
    assert_eq!(report.callers, [owner.to_string()], "who started it");
    assert_eq!(report.ancestors, ["/top/tasks", "/top"]);
    assert!(panicked(&report.reason, "oh"));
    let ExitReason::Panic { location: Some(place), .. } = &report.reason else { panic!() };
    assert!(place.contains("tsk_await.rs"), "the place says which function: {place}");
    root.shutdown().await;
}
