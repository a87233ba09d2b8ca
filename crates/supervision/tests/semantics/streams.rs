//! Elements of streams as processes: who they are, how each ends, and what is told of that.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use perennial_core::ExitReason;
use perennial_supervision::{
    LifecycleEvent, OnItemTimeout, ProcessRef, Registry, RegistrySpec, Root, StreamError,
    StreamOptions, SupervisorSpec, TaskSupervisor, TaskSupervisorSpec, Unique, current_process,
};

use crate::probe::{SOON, root};

type Results<T> = Vec<Result<T, StreamError<u64>>>;

async fn start() -> (Root, TaskSupervisor) {
    let (child, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 9));
    (root(SupervisorSpec::new("top").child(child)).await, tasks)
}

fn one_by_one() -> StreamOptions {
    StreamOptions::new().max_concurrency(1)
}

/// Those who were met.
#[derive(Clone, Default)]
struct Met(Arc<Mutex<Vec<ProcessRef>>>);

impl Met {
    fn meets(&self) {
        self.0.lock().unwrap().push(current_process().unwrap());
    }

    fn all(&self) -> Vec<ProcessRef> {
        self.0.lock().unwrap().clone()
    }
}

async fn end(of: &ProcessRef) -> ExitReason {
    tokio::time::timeout(SOON, of.monitor().down()).await.unwrap();
    of.exit_reason().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_element_that_somebody_knows_is_never_another_one() {
    let (root, tasks) = start().await;
    let met = Met::default();
    let meets = met.clone();
    let work = move |number: u64| {
        meets.meets();
        let meets = meets.clone();
        async move {
            meets.meets();
            number
        }
    };
    let stream = tasks.async_stream_nolink(0..5, work, one_by_one()).unwrap();
    let results: Results<u64> = stream.collect().await;
    assert_eq!(results, (0..5).map(Ok).collect::<Vec<_>>());
    let met = met.all();
    for (place, pair) in met.chunks(2).enumerate() {
        assert_eq!(pair[0], pair[1], "who makes its future");
        assert!(!met[..2 * place].contains(&pair[0]), "it is one of those before");
        assert_eq!(end(&pair[0]).await, ExitReason::Normal);
    }
    assert_eq!(met.len(), 10);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_watches_an_element_hears_of_its_kill() {
    let (root, tasks) = start().await;
    let met = Met::default();
    let meets = met.clone();
    let work = move |number: u64| {
        let meets = meets.clone();
        async move {
            meets.meets();
            if number == 1 {
                std::future::pending::<()>().await;
            }
            number
        }
    };
    let options = one_by_one().timeout(Duration::from_secs(1)).on_timeout(OnItemTimeout::KillTask);
    let stream = tasks.async_stream_nolink(0..3, work, options).unwrap();
    let results: Results<u64> = stream.collect().await;
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    let mut ends = Vec::new();
    for one in met.all() {
        // At once: it has ended, and was not given up when its time to end was over.
        let ended = tokio::time::timeout(Duration::from_millis(1), one.monitor().down()).await;
        assert!(ended.is_ok(), "{one}");
        ends.push(one.exit_reason().unwrap());
    }
    assert_eq!(ends, [ExitReason::Normal, ExitReason::Timeout, ExitReason::Normal]);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_pooled_task_is_one_process_that_ends_with_its_stream() {
    let (root, tasks) = start().await;
    let met = Met::default();
    let meets = met.clone();
    let work = move |number: u64| {
        meets.meets();
        async move { number }
    };
    let mut stream = tasks.async_stream_nolink(0..3, work, one_by_one().pooled()).unwrap();
    assert_eq!(stream.next().await, Some(Ok(0)));
    let first = met.all()[0].clone();
    assert!(first.is_alive());
    let rest: Results<u64> = stream.collect().await;
    assert_eq!(rest, [Ok(1), Ok(2)]);
    assert_eq!(met.all(), [first.clone(), first.clone(), first.clone()]);
    assert_eq!(end(&first).await, ExitReason::Normal);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_element_that_crashes_is_reported_once() {
    for options in [one_by_one(), one_by_one().pooled()] {
        let (root, tasks) = start().await;
        let mut told = root.tree().lifecycle();
        let work = |number: u64| async move {
            assert!(number != 1, "one");
            number
        };
        let options = options.id("stream").label("adds");
        let stream = tasks.async_stream_nolink(0..3, work, options).unwrap();
        let results: Results<u64> = stream.collect().await;
        assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        root.shutdown().await;
        let reports: Vec<_> = std::iter::from_fn(|| told.try_next())
            .filter_map(|told| {
                let LifecycleEvent::Crashed(report) = told.event else { return None };
                Some(report)
            })
            .collect();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert_eq!(reports[0].path, "/top/tasks/stream");
        assert_eq!(reports[0].label.as_deref(), Some("adds"));
        assert!(
            matches!(&reports[0].reason, ExitReason::Panic { message, .. } if **message == *"one")
        );
    }
}

/// What an element is linked to ends that element, and no other.
#[tokio::test(start_paused = true)]
async fn what_ends_an_element_from_outside_ends_no_other() {
    let (names, registry) =
        Registry::<u64, (), Unique>::child_spec(RegistrySpec::unique("names")).unwrap();
    let (child, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 9));
    let root = root(SupervisorSpec::new("top").child(names).child(child)).await;
    let tree = root.tree();
    let (tree, registers) = (tree.clone(), registry.clone());
    let work = move |number: u64| {
        let (tree, registry) = (tree.clone(), registers.clone());
        async move {
            if number == 1 {
                registry.register(number, ()).unwrap();
                tree.kill("/top/names/0").or_else(|_| tree.kill("/top/names")).unwrap();
                std::future::pending::<()>().await;
            }
            number
        }
    };
    let options = StreamOptions::new().max_concurrency(2).timeout(SOON);
    let stream = tasks.async_stream_nolink(0..4, work, options).unwrap();
    let results: Results<u64> = stream.collect().await;
    let ends: Vec<_> = results.into_iter().map(|it| it.map_err(|it| it.exit_reason())).collect();
    assert_eq!(ends, [Ok(0), Err(ExitReason::Killed), Ok(2), Ok(3)]);
    root.shutdown().await;
}

/// The executor goes while elements are at work, and whoever consumes them stays.
#[test]
fn elements_whose_executor_goes_are_killed_and_leave_nothing_behind() {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let held = Arc::new(());
    let (stream, met, _root) = executor.block_on(async {
        let (root, tasks) = start().await;
        let (met, kept) = (Met::default(), held.clone());
        let meets = met.clone();
        let work = move |number: u64| {
            let (meets, kept) = (meets.clone(), kept.clone());
            async move {
                meets.meets();
                std::future::pending::<()>().await;
                drop(kept);
                number
            }
        };
        let options = StreamOptions::new().max_concurrency(2);
        let mut stream = Box::pin(tasks.async_stream_nolink(0..3, work, options).unwrap());
        while met.all().len() < 2 {
            assert!(futures_util::poll!(stream.next()).is_pending());
            tokio::task::yield_now().await;
        }
        (stream, met, root)
    });
    assert!(Arc::strong_count(&held) > 3, "two are at work");
    drop(executor);
    assert_eq!(Arc::strong_count(&held), 2, "the stream has its function, and no element is left");
    let ends: Vec<_> = met.all().iter().map(ProcessRef::exit_reason).collect();
    assert_eq!(ends, [Some(ExitReason::Killed), Some(ExitReason::Killed)]);
    drop(stream);
    assert_eq!(Arc::strong_count(&held), 1);
}
