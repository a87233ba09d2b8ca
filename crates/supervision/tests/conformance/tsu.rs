//! Task supervisors.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::{
    fixture::idle,
    harness::proves,
    probe::{Log, SOON, root, until},
    tsk_world::{Dropped, Watch, World, panicked},
};
use perennial_core::{ExitReason, Restart, Shutdown};
use perennial_supervision::{
    Registry, RegistrySpec, RequestError, SupervisorSpec, Task, TaskError, TaskSpec,
    TaskSupervisor, TaskSupervisorSpec, Unique,
};

proves!(a_task_supervisor_starts_empty, ["TSU-001", "TSU-002"]);
async fn a_task_supervisor_starts_empty() {
    let (registry, names) =
        Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("names")).unwrap();
    let task_supervisor = |id: &str| TaskSupervisor::child_spec(TaskSupervisorSpec::new(id, 5));
    let (plain, by_handle) = task_supervisor("plain");
    let (named, _) = task_supervisor("named");
    let (keyed, _) = task_supervisor("keyed");
    let top = SupervisorSpec::new("top")
        .child(registry)
        .child(plain)
        .child(named.name("workers"))
        .child(keyed.via(&names, "workers".to_owned(), ()));
    let root = root(top).await;
    // They coexist, and each is found in its own way.
    let by_name: TaskSupervisor = root.names().handle("workers").unwrap();
    let by_key: TaskSupervisor = names.handle("workers").unwrap().unwrap();
    for (tasks, id) in [(by_handle, "plain"), (by_name, "named"), (by_key, "keyed")] {
        assert_eq!(tasks.children(), Vec::<String>::new());
        let task = tasks.start_child("a", std::future::pending()).await.unwrap();
        assert_eq!(task.process().path(), format!("/top/{id}/a"));
        assert_eq!(tasks.children(), ["a"]);
    }
    root.shutdown().await;
}

proves!(what_is_not_linked_does_not_harm, ["TSU-004", "TSU-005"]);
async fn what_is_not_linked_does_not_harm() {
    let World { tasks, plain, root, .. } = World::start().await;
    let starts = tasks.clone();
    plain
        .does(async move {
            let mut good = starts.async_nolink("good", async { 1 }).await.unwrap();
            assert_eq!(good.join(SOON).await, Ok(1));
            let process = good.reference().unwrap().clone();
            assert_eq!(process.exit().await, ExitReason::Normal, "and then it ends normally");
            let fails = || async { panic!("oh") };
            let mut bad: Task<u32> = starts.async_nolink("bad", fails()).await.unwrap();
            let Err(TaskError::Exited(reason)) = bad.join(SOON).await else { panic!("a value") };
            assert!(panicked(&reason, "oh"));
            let mut bad: Task<u32> = starts.async_nolink("bad", fails()).await.unwrap();
            let Ok(Some(Err(reason))) = bad.yield_within(SOON).await else { panic!("a value") };
            assert!(panicked(&reason, "oh"));
        })
        .await;
    plain.settles().await;
    assert_eq!(plain.log.take(), Vec::<String>::new());
    root.shutdown().await;
}

proves!(stopping_the_supervisor_stops_its_tasks, ["TSU-009", "TSU-010"]);
async fn stopping_the_supervisor_stops_its_tasks() {
    let World { tasks, traps, root, .. } = World::start().await;
    let log = Log::default();
    let (note, starts) = (log.clone(), tasks.clone());
    let brutal = || TaskSpec::new("brutal").shutdown(Shutdown::BrutalKill);
    let mut all = traps
        .does(async move {
            let work = |name| {
                let dropped = Dropped(note.clone(), name);
                async move {
                    let _dropped = dropped;
                    std::future::pending::<()>().await
                }
            };
            let asked = starts.async_nolink("asked", work("asked")).await.unwrap();
            let linked = starts.async_linked(brutal(), work("linked")).await.unwrap();
            let free = starts.async_nolink(brutal(), work("free")).await.unwrap();
            let fired = starts.start_child(brutal(), work("fired")).await.unwrap();
            let monitored = [
                asked.reference().unwrap().process().monitor(),
                linked.reference().unwrap().process().monitor(),
                free.reference().unwrap().process().monitor(),
                fired.process().monitor(),
            ];
            std::mem::forget((asked, linked, free));
            monitored
        })
        .await;
    root.supervisor().terminate_child("tasks").await.unwrap();
    let mut reasons = Vec::new();
    for monitor in &mut all {
        reasons.push(monitor.down().await);
    }
    let killed = ExitReason::Killed;
    assert_eq!(reasons, [ExitReason::Shutdown, killed.clone(), killed.clone(), killed]);
    let mut dropped = log.take();
    dropped.sort();
    assert_eq!(dropped, ["asked", "fired", "free", "linked"]);
    root.shutdown().await;
}

proves!(too_many_tasks_are_refused, ["TSU-011"]);
async fn too_many_tasks_are_refused() {
    let World { tasks, plain, root, .. } = World::with(1).await;
    tasks.start_child("one", std::future::pending()).await.unwrap();
    let refused = plain
        .does(async move {
            [
                tasks.async_linked("two", async {}).await.map(|_| ()).unwrap_err(),
                tasks.async_nolink("two", async {}).await.map(|_| ()).unwrap_err(),
                tasks.start_child("two", async {}).await.map(|_| ()).unwrap_err(),
            ]
        })
        .await;
    for refused in refused {
        assert_eq!(refused, RequestError::MaxChildren(1));
        assert_eq!(refused.to_string(), "no more than 1 children are allowed");
    }
    plain.settles().await;
    root.shutdown().await;
}

proves!(a_fired_task_is_the_supervisors_alone, ["TSU-012", "TSU-013", "TSU-021"]);
async fn a_fired_task_is_the_supervisors_alone() {
    let World { tasks, plain, root, .. } = World::start().await;
    let starts = tasks.clone();
    let ran = Arc::new(AtomicU32::new(0));
    let count = ran.clone();
    plain
        .does(async move {
            starts.start_child("free", std::future::pending()).await.unwrap();
            // Far more than the intensity that it would tolerate: temporary ones do not count.
            for _ in 0..20 {
                let count = count.clone();
                let fails = async move {
                    count.fetch_add(1, Ordering::SeqCst);
                    panic!("again")
                };
                starts.start_child("bad", fails).await.unwrap().exit().await;
            }
        })
        .await;
    assert_eq!(ran.load(Ordering::SeqCst), 20, "none is run again");
    plain.settles().await;
    plain.ends(ExitReason::Panic { message: "".into(), location: None }).await;
    idle().await;
    assert_eq!(tasks.children(), ["free"], "whoever asked for it has ended");
    // Stopped with its supervisor.
    let mut end = tasks.find("free").unwrap().process().monitor();
    root.shutdown().await;
    assert_eq!(end.down().await, ExitReason::Shutdown);
}

proves!(a_task_may_be_run_again, ["TSU-014", "TSU-015", "TSU-017"]);
async fn a_task_may_be_run_again() {
    let World { tasks, root, .. } = World::start().await;
    for (restart, fails, expected) in [
        (Restart::Permanent, true, 2),
        (Restart::Permanent, false, 2),
        (Restart::Transient, true, 2),
        (Restart::Transient, false, 1),
        (Restart::Temporary, true, 1),
    ] {
        let runs = Arc::new(AtomicU32::new(0));
        let count = runs.clone();
        let work = move || {
            let run = count.fetch_add(1, Ordering::SeqCst);
            async move {
                if run > 0 {
                    std::future::pending().await
                }
                assert!(!fails, "the first time");
            }
        };
        let task = tasks.start_restarting("again", restart, work).await.unwrap();
        task.exit().await;
        idle().await;
        assert_eq!(runs.load(Ordering::SeqCst), expected, "{restart:?} {fails}");
        let listed = tasks.children();
        assert_eq!(listed.len(), usize::from(expected == 2));
        if expected == 2 {
            let running = tasks.find("again").unwrap();
            tasks.terminate_child(&running).await.unwrap();
        }
        tokio::time::advance(Duration::from_secs(6)).await;
    }
    // What has an owner is never run again.
    let mut bad: Task<u32> = tasks.async_nolink("bad", async { panic!("oh") }).await.unwrap();
    bad.join(SOON).await.unwrap_err();
    idle().await;
    let temporary = tasks.async_nolink("b", std::future::pending::<()>()).await.unwrap();
    let node = root.tree().nodes().into_iter().find(|node| node.path == "/top/tasks/b").unwrap();
    assert_eq!(node.restart, Restart::Temporary);
    drop(temporary);
    root.shutdown().await;
    // One that is being restarted is not listed as running.
    let World { tasks, root, .. } = World::start().await;
    let spec = TaskSpec::new("later").restart_delay(SOON);
    let work = || async { panic!("each time") };
    let task = tasks.start_restarting(spec, Restart::Permanent, work).await.unwrap();
    task.exit().await;
    until(|| tasks.children().is_empty()).await;
    assert!(root.tree().nodes().iter().any(|node| node.path == "/top/tasks/later"), "to come back");
    tokio::time::advance(SOON).await;
    let twice = || root.tree().nodes().iter().any(|node| node.incarnation == 2);
    until(twice).await;
    root.shutdown().await;
}

proves!(a_task_is_stopped_at_once, ["TSU-016", "TSU-022"]);
async fn a_task_is_stopped_at_once() {
    let World { tasks, root, .. } = World::start().await;
    let begun = Watch::start();
    let log = Log::default();
    let dropped = Dropped(log.clone(), "dropped");
    let work = async move {
        let _dropped = dropped;
        tokio::time::sleep(Duration::from_secs(3_600)).await; // on a paused clock
    };
    let task = tasks.start_child("hour", work).await.unwrap();
    idle().await;
    assert_eq!(tasks.terminate_child(&task).await, Ok(()));
    assert_eq!(begun.elapsed(), Duration::ZERO, "not when it would have finished");
    assert_eq!(log.take(), ["dropped"]);
    assert_eq!(tasks.children(), Vec::<String>::new());
    let again = tasks.terminate_child(&task).await;
    assert_eq!(again, Err(RequestError::NotFound("hour".into())));
    root.shutdown().await;
}
