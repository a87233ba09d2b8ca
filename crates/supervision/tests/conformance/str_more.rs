//! Streams of tasks: whose they are, and what can be made of them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{StreamExt, stream};
use perennial_core::ExitReason;
use perennial_supervision::{StreamSpecError, TaskNotice, callers, current_process};

use crate::{
    fixture::idle,
    harness::proves,
    probe::{Log, SOON, until},
    str_world::{
        Counted, Result, is_panic, ms, nothing_is_left, panicked, tells, waits, ways, works,
    },
    tsk_world::{Job, World},
};

proves!(two_streams_step_by_step, ["STR-017"]);
async fn two_streams_step_by_step() {
    for options in ways(2) {
        let World { tasks, traps, root, .. } = World::start().await;
        let log = Log::default();
        traps
            .does(async move {
                let left = || tasks.async_stream([40, 10, 20], works, options.clone()).unwrap();
                // On success, though the first is the slowest.
                let right = tasks.async_stream([1, 2, 3], works, options.clone()).unwrap();
                let both: Vec<(Result<u64>, Result<u64>)> = left().zip(right).collect().await;
                let expected = [(Ok(40), Ok(1)), (Ok(10), Ok(2)), (Ok(20), Ok(3))];
                assert_eq!(both, expected);
                // On failure, and while one of them goes on without an end.
                let right =
                    tasks.async_stream([7, 2, 19, 29], tells(&log), options.clone()).unwrap();
                let both: Vec<(Result<u64>, Result<u64>)> =
                    left().zip(right).take(2).collect().await;
                assert!(panicked(&both[0].1, "seven"));
                assert_eq!((&both[0].0, &both[1]), (&Ok(40), &(Ok(10), Ok(2))));
                let over = log.take();
                assert!(over.len() >= 3 && over.iter().all(|line| line == "over"), "{over:?}");
                until(|| tasks.children().is_empty()).await;
            })
            .await;
        root.shutdown().await;
    }
}

proves!(sources_may_be_composed, ["STR-018"]);
async fn sources_may_be_composed() {
    for options in ways(2) {
        let World { tasks, traps, root, .. } = World::start().await;
        traps
            .does(async move {
                // One that stops early by itself: on success, on failure, with the slowest first.
                let (log, endless) = (Log::default(), [40, 17].into_iter().chain(1..));
                let (source, taken) = Counted::new(endless, &log);
                let stream = tasks.async_stream(source.take(4), works, options.clone()).unwrap();
                let all: Vec<Result<u64>> = stream.collect().await;
                assert!(panicked(&all[1], "seven"));
                assert_eq!((&all[0], &all[2..]), (&Ok(40), &[Ok(1), Ok(2)][..]));
                assert_eq!(taken.load(Ordering::SeqCst), 4);
                assert_eq!(log.take(), ["source"]);
                // Others in a row, and nested ones.
                let source = [3, 1].into_iter().chain([2].repeat(2)).flat_map(|it| [it, it + 1]);
                let stream = tasks.async_stream(source, works, options.clone()).unwrap();
                let all: Vec<Result<u64>> = stream.collect().await;
                assert_eq!(all, [3, 4, 1, 2, 2, 3, 2, 3].map(Ok));
                // A stream of tasks is a source as any other.
                let first = tasks.async_stream([4, 2], works, options.clone()).unwrap();
                let numbers = first.filter_map(|it| std::future::ready(it.ok()));
                let numbers = numbers.chain(stream::iter([6]));
                let second = tasks.async_stream_from(numbers, works, options).unwrap();
                let all: Vec<Result<u64>> = second.collect().await;
                assert_eq!(all, [4, 2, 6].map(Ok));
                until(|| tasks.children().is_empty()).await;
            })
            .await;
        root.shutdown().await;
    }
}

proves!(bad_options_are_refused_before_anything_runs, ["STR-019"]);
async fn bad_options_are_refused_before_anything_runs() {
    for options in ways(0) {
        let World { tasks, root, .. } = World::start().await;
        let (source, taken) = Counted::new(0..9, &Log::default());
        let refused = tasks.async_stream(source, waits, options).map(drop).unwrap_err();
        assert_eq!(refused, StreamSpecError::NoConcurrency);
        assert_eq!(refused.to_string(), "max_concurrency must be at least 1");
        assert_eq!(taken.load(Ordering::SeqCst), 0);
        idle().await;
        assert_eq!(tasks.children(), Vec::<String>::new());
        root.shutdown().await;
    }
}

proves!(a_stream_belongs_to_whoever_reads_it, ["STR-021"]);
async fn a_stream_belongs_to_whoever_reads_it() {
    for options in ways(2) {
        let World { tasks, traps, plain, root } = World::start().await;
        let (log, made) = (Log::default(), tasks.clone());
        let work = tells(&log);
        let mut stream = traps
            .does(async move { made.async_stream([10, 50, 9, 19], work, options).unwrap() })
            .await;
        let (told, tell) = tokio::sync::oneshot::channel();
        plain.starts(async move {
            drop(told.send(stream.next().await));
            std::future::pending::<()>().await;
            drop(stream);
        });
        assert_eq!(tell.await.unwrap(), Some(Ok(10)));
        // Whoever made it is nothing to it; whoever reads it is.
        traps.ends(ExitReason::Panic { message: "".into(), location: None }).await;
        idle().await;
        assert_eq!(log.take(), ["over"]);
        let node = tasks.find("stream").unwrap();
        root.tree().kill("/top/plain").unwrap();
        assert_eq!(node.exit().await, ExitReason::Killed);
        assert_eq!(log.take(), ["over"; 2]);
        root.shutdown().await;
    }
}

proves!(tasks_know_who_asked_for_them, ["STR-022"]);
async fn tasks_know_who_asked_for_them() {
    for options in ways(2) {
        for linked in [true, false] {
            let World { tasks, traps, root, .. } = World::start().await;
            let options = options.clone().linked(linked);
            let starts = tasks.clone();
            traps
                .does(async move {
                    let owner = current_process().unwrap();
                    let streams = starts.clone();
                    let consumer = async move {
                        let work = |_| async { (current_process().unwrap(), callers()) };
                        let items = stream::iter([1_u64, 2]);
                        let stream = streams.async_stream_from(items, work, options).unwrap();
                        let all: Vec<Result<_>> = stream.collect().await;
                        (current_process().unwrap(), all)
                    };
                    let mut consumer = starts.async_linked("consumer", consumer).await.unwrap();
                    let (process, all) = consumer.join(SOON).await.unwrap();
                    for result in all {
                        let (item, callers) = result.unwrap();
                        assert_eq!(callers, [process.clone(), owner.clone()]);
                        assert_eq!(item.path(), "/top/tasks/stream");
                        assert!(item != process);
                    }
                })
                .await;
            root.shutdown().await;
        }
    }
}

proves!(what_others_send_is_nothing_to_a_stream, ["STR-023"]);
async fn what_others_send_is_nothing_to_a_stream() {
    for options in ways(2) {
        for linked in [true, false] {
            let World { tasks, traps, root, .. } = World::start().await;
            let (address, options) = (traps.address.clone(), options.clone().linked(linked));
            traps
                .does(async move {
                    let items = stream::iter([10, 20, 30]);
                    let mut stream = tasks.async_stream_from(items, waits, options).unwrap();
                    assert_eq!(stream.next().await, Some(Ok(10)));
                    // A notice of an end, as of one of its tasks; and ends of others that are linked.
                    let process = tasks.find("stream").unwrap().process().clone();
                    let forged =
                        TaskNotice::<u64>::Down { task: process, reason: ExitReason::Killed };
                    address
                        .cast(Job::Note(format!("{}", matches!(forged, TaskNotice::Down { .. }))))
                        .unwrap();
                    let fails = async { panic!("another") };
                    let other = tasks.start_link("other", fails).await.unwrap();
                    assert!(is_panic(&other.exit().await, "another"));
                    let rest: Vec<Result<u64>> = stream.collect().await;
                    assert_eq!(rest, [Ok(20), Ok(30)]);
                })
                .await;
            traps.settles().await;
            assert_eq!(traps.log.take(), ["true", "exit of /top/tasks/other: panic"]);
            root.shutdown().await;
        }
    }
}

proves!(nothing_runs_until_it_is_wanted, ["STR-024"]);
async fn nothing_runs_until_it_is_wanted() {
    for options in ways(2) {
        let World { tasks, traps, root, .. } = World::start().await;
        let log = Log::default();
        let (source, taken) = Counted::new([10, 20].into_iter(), &log);
        let calls = Arc::<AtomicUsize>::default();
        let count = calls.clone();
        let work = move |millis| {
            count.fetch_add(1, Ordering::SeqCst);
            waits(millis)
        };
        let (other, _) = Counted::new([10].into_iter(), &log);
        let unwanted = tasks.async_stream(other, work.clone(), options.clone()).unwrap();
        let stream = tasks.async_stream(source, work, options).unwrap();
        let next = stream.into_future();
        waits(1000).await;
        idle().await;
        assert_eq!((taken.load(Ordering::SeqCst), calls.load(Ordering::SeqCst)), (0, 0));
        assert_eq!(tasks.children(), Vec::<String>::new());
        drop(unwanted);
        assert_eq!(log.take(), ["source"]);
        let (first, rest) = traps.does(next).await;
        assert_eq!(first, Some(Ok(10)));
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        drop(rest);
        nothing_is_left(&tasks, 100).await;
        root.shutdown().await;
    }
}

// Code that is no process has no links.
proves!(code_that_is_no_process_reads_streams_too, ["STR-006"]);
async fn code_that_is_no_process_reads_streams_too() {
    for options in ways(2) {
        let World { tasks, root, .. } = World::start().await;
        let options = options.timeout(ms(50)).id("mine");
        let stream = tasks.async_stream([10, 17, 20], works, options.clone()).unwrap();
        let all: Vec<Result<u64>> = stream.collect().await;
        assert!(panicked(&all[1], "seven"));
        assert_eq!((&all[0], &all[2]), (&Ok(10), &Ok(20)));
        // What its node tells in the tree.
        until(|| tasks.children().is_empty()).await;
        let mut stream = tasks.async_stream([10, 17, 9], works, options).unwrap();
        assert_eq!(stream.next().await, Some(Ok(10)));
        assert!(panicked(&stream.next().await.unwrap(), "seven"));
        let nodes = root.tree().nodes();
        let node = nodes.iter().find(|node| node.path == "/top/tasks/mine").unwrap();
        let expected = serde_json::json!({
            "running": 1, "started": 3, "done": 1, "failed": 1, "unkillable": 0,
        });
        assert_eq!(node.detail, expected);
        drop(stream);
        root.shutdown().await;
    }
}
