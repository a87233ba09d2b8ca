//! Streams of tasks: how they end, and that nothing of them is left then.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::{FutureExt, Stream, StreamExt, stream};
use perennial_core::{ExitReason, Shutdown};
use perennial_supervision::{OnItemTimeout, RequestError, StreamError, StreamOptions};

use crate::{
    fixture::idle,
    harness::proves,
    probe::{Log, until},
    str_world::{Counted, Result, exit, is_panic, ms, nothing_is_left, tells, waits, ways},
    tsk_world::{Dropped, World},
};

proves!(whoever_stops_early_leaves_nothing, ["STR-011", "STR-012"]);
async fn whoever_stops_early_leaves_nothing() {
    for options in ways(4) {
        for (linked, traps) in [(true, true), (false, true), (true, false), (false, false)] {
            let world = World::with(4).await;
            let (tasks, log) = (world.tasks.clone(), Log::default());
            let owner = if traps { &world.traps } else { &world.plain };
            let (options, starts) = (options.clone().linked(linked), tasks.clone());
            owner
                .does(async move {
                    let source = stream::iter([10, 19, 20, 29, 39, 49]);
                    let stream = starts.async_stream_from(source, tells(&log), options).unwrap();
                    let some: Vec<Result<u64>> = stream.take(1).collect().await;
                    // The stream was dropped by that.
                    assert_eq!(some, [Ok(10)]);
                    assert_eq!(log.take(), ["over"; 4], "before the call returned");
                    let mut failing =
                        starts.async_stream([10, 17], tells(&log), StreamOptions::new()).unwrap();
                    assert_eq!(failing.next().await, Some(Ok(10)));
                    drop(failing);
                })
                .await;
            nothing_is_left(&tasks, 4).await;
            waits(100).await;
            owner.settles().await;
            assert_eq!(owner.log.take(), Vec::<String>::new(), "no message");
            let depth = owner.address.info().unwrap().mailbox_depth;
            assert_eq!(depth, 0);
            // And no link.
            owner.ends(ExitReason::Killed).await;
            world.root.shutdown().await;
        }
    }
}

proves!(a_source_that_fails_stops_the_tasks, ["STR-013"]);
async fn a_source_that_fails_stops_the_tasks() {
    for options in ways(4) {
        for linked in [true, false] {
            let World { tasks, traps, root, .. } = World::start().await;
            let (log, options) = (Log::default(), options.clone().linked(linked));
            let source = (0..).map(|number| match number {
                0 => 10,
                3 => panic!("the source fails"),
                _ => 9,
            });
            let items = stream::iter(source);
            let stream = tasks.async_stream_from(items, tells(&log), options).unwrap();
            let (mut end, note) = (traps.monitor(), log.clone());
            traps.starts(async move {
                let stream = std::pin::pin!(stream);
                let failed = AssertUnwindSafe(stream.for_each(|_| std::future::ready(())));
                let panic = failed.catch_unwind().await.unwrap_err();
                note.add("failed");
                std::panic::resume_unwind(panic);
            });
            assert!(is_panic(&end.down().await, "the source fails"), "it propagates");
            assert_eq!(log.take(), ["failed"], "none had begun: all were pulled at once");
            nothing_is_left(&tasks, 100).await;
            root.shutdown().await;
        }
    }
    // With tasks that run already.
    for options in ways(2) {
        let World { tasks, traps, root, .. } = World::start().await;
        let log = Log::default();
        let items = stream::iter([10, 9, 1]).map(|number| match number {
            1 => panic!("the source fails"),
            number => number,
        });
        let stream = tasks.async_stream_from(items, tells(&log), options).unwrap();
        let (mut end, note) = (traps.monitor(), log.clone());
        traps.starts(async move {
            let stream = std::pin::pin!(stream);
            let failed = AssertUnwindSafe(stream.for_each(|_| std::future::ready(())));
            let panic = failed.catch_unwind().await.unwrap_err();
            note.add("failed");
            std::panic::resume_unwind(panic);
        });
        assert!(is_panic(&end.down().await, "the source fails"));
        assert_eq!(log.take(), ["over", "over", "failed"], "stopped before it propagates");
        nothing_is_left(&tasks, 100).await;
        root.shutdown().await;
    }
}

proves!(a_consumer_that_fails_stops_the_tasks, ["STR-014"]);
async fn a_consumer_that_fails_stops_the_tasks() {
    for options in ways(3) {
        for linked in [true, false] {
            let World { tasks, traps, root, .. } = World::start().await;
            let (log, options) = (Log::default(), options.clone().linked(linked));
            let items = stream::iter([10, 9, 19, 29]);
            let stream = tasks.async_stream_from(items, tells(&log), options).unwrap();
            let mut end = traps.monitor();
            traps.starts(stream.for_each(|_| async { panic!("the callback fails") }));
            assert!(is_panic(&end.down().await, "the callback fails"));
            let over = log.take();
            assert!(over.len() >= 3 && over.iter().all(|line| line == "over"), "{over:?}");
            nothing_is_left(&tasks, 100).await;
            root.shutdown().await;
        }
    }
}

/// Ends the consumer of a stream in the middle of it.
async fn bereaved(options: StreamOptions, killed: bool) -> (Vec<String>, ExitReason, ExitReason) {
    let World { tasks, plain, root, .. } = World::start().await;
    let (log, failing) = (Log::default(), tasks.clone());
    let items = stream::iter([10, 50, 60, 70]);
    let note = log.clone();
    let work = move |millis| {
        let (note, over) = (note.clone(), Dropped(note.clone(), "over"));
        async move {
            let _over = over;
            note.add("begun");
            waits(millis).await;
            note.add("done");
        }
    };
    let mut stream = tasks.async_stream_from(items, work, options).unwrap();
    let mut end = plain.monitor();
    plain.starts(async move {
        stream.next().await;
        if !killed {
            let fails = async { panic!("the owner falls") };
            failing.async_linked("fails", fails).await.map(drop).unwrap();
        }
        std::future::pending::<()>().await;
        drop(stream);
    });
    until(|| tasks.find("stream").is_some()).await;
    let node = tasks.find("stream").unwrap();
    until(|| tasks.children() == ["stream"] && log.len() >= 2).await;
    if killed {
        waits(20).await;
        root.tree().kill("/top/plain").unwrap();
    }
    let owner = end.down().await;
    let stream = node.exit().await;
    root.shutdown().await;
    (log.take(), owner, stream)
}

proves!(a_consumer_that_dies_takes_what_is_linked_with_it, ["STR-015"]);
async fn a_consumer_that_dies_takes_what_is_linked_with_it() {
    for options in ways(2) {
        for killed in [true, false] {
            let (log, owner, stream) = bereaved(options.clone().linked(true), killed).await;
            assert_eq!(stream, owner, "with its reason");
            if killed {
                assert_eq!(owner, ExitReason::Killed);
            } else {
                assert!(is_panic(&owner, "the owner falls"), "{owner}");
            }
            let count = |what: &str| log.iter().filter(|line| *line == what).count();
            assert_eq!((count("done"), count("over")), (1, 3), "{log:?}");
            // What is not linked runs to its end, and nothing follows it.
            let (log, owner, stream) = bereaved(options.clone().linked(false), killed).await;
            assert!(owner.is_abnormal());
            assert_eq!(stream, ExitReason::Normal);
            let count = |what: &str| log.iter().filter(|line| *line == what).count();
            assert_eq!((count("begun"), count("done"), count("over")), (3, 3, 3), "{log:?}");
        }
    }
}

proves!(everything_is_cleaned_up_once, ["STR-016"]);
async fn everything_is_cleaned_up_once() {
    /// A stage behind the stream, with a cleanup of its own.
    struct Stage<S> {
        stream: S,
        _over: Dropped,
    }

    impl<S: Stream + Unpin> Stream for Stage<S> {
        type Item = S::Item;
        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
            self.stream.poll_next_unpin(cx)
        }
    }

    for options in ways(2) {
        for (items, wanted, results) in [
            (vec![10, 20], 9, 2),
            (vec![10, 20, 30, 39], 2, 2),
            (vec![10, 17, 20], 9, 3),
            (vec![], 9, 0),
        ] {
            let World { tasks, traps, root, .. } = World::start().await;
            let (log, options) = (Log::default(), options.clone());
            let (source, _) = Counted::new(items.into_iter(), &log);
            let (note, inner) = (log.clone(), Dropped(log.clone(), "stage"));
            traps
                .does(async move {
                    let stream =
                        tasks.async_stream(source, crate::str_world::works, options).unwrap();
                    let stage = Stage { stream, _over: inner };
                    let all: Vec<_> = stage.take(wanted).collect().await;
                    assert_eq!(all.len(), results);
                    note.add("returned");
                })
                .await;
            let mut lines = log.take();
            assert_eq!(lines.pop().as_deref(), Some("returned"));
            lines.sort();
            assert_eq!(lines, ["source", "stage"]);
            root.shutdown().await;
        }
    }
}

proves!(where_no_place_is_left_the_stream_fails, ["STR-020"]);
async fn where_no_place_is_left_the_stream_fails() {
    for options in ways(4) {
        for linked in [true, false] {
            let World { tasks, traps, root, .. } = World::with(3).await;
            let (starts, listed) = (tasks.clone(), tasks.clone());
            let options = options.clone().linked(linked);
            let log = Log::default();
            traps
                .does(async move {
                    let full = || -> Option<Result<u64>> {
                        Some(Err(StreamError::Refused(RequestError::MaxChildren(3))))
                    };
                    // With the fourth element.
                    let items = || stream::iter([9, 19, 29, 39, 49]);
                    let mut stream =
                        starts.async_stream_from(items(), tells(&log), options.clone()).unwrap();
                    assert_eq!(stream.next().await, full());
                    assert!(log.take().iter().all(|line| line == "over"));
                    assert_eq!(stream.next().await, None);
                    let text = full().unwrap().unwrap_err().to_string();
                    let expected =
                        "the stream cannot start its tasks: no more than 3 children are allowed";
                    assert_eq!(text, expected);
                    until(|| starts.children().is_empty()).await;
                    // Beside other tasks: an element takes a place as they do.
                    let other = starts.start_child("other", std::future::pending()).await.unwrap();
                    let mut stream = starts
                        .async_stream_from(items(), tells(&log), options.clone().max_concurrency(2))
                        .unwrap();
                    assert!(tokio::time::timeout(ms(10), stream.next()).await.is_err());
                    let refused = starts.start_child("third", async {}).await.unwrap_err();
                    assert_eq!(refused, RequestError::MaxChildren(3));
                    drop(stream);
                    starts.terminate_child(&other).await.unwrap();
                    // At once, where there is none at all.
                    until(|| starts.children().is_empty()).await;
                    let mut all = Vec::new();
                    for id in ["a", "b", "c"] {
                        all.push(starts.start_child(id, std::future::pending()).await.unwrap());
                    }
                    let mut stream =
                        starts.async_stream_from(items(), tells(&log), options).unwrap();
                    assert_eq!(stream.next().await, full());
                    for task in all {
                        starts.terminate_child(&task).await.unwrap();
                    }
                })
                .await;
            nothing_is_left(&listed, 3).await;
            root.shutdown().await;
        }
    }
}

/// A stream that is stopped by its supervisor.
async fn stopped(options: StreamOptions) -> (Vec<Result<u64>>, ExitReason, Vec<String>) {
    let World { tasks, traps, root, .. } = World::start().await;
    let log = Log::default();
    let stream = tasks.async_stream([10, 9, 19, 29, 39], tells(&log), options).unwrap();
    let (sender, all) = tokio::sync::oneshot::channel();
    traps.starts(async move { drop(sender.send(stream.collect::<Vec<_>>().await)) });
    until(|| tasks.find("stream").is_some()).await;
    let node = tasks.find("stream").unwrap();
    waits(20).await;
    tasks.terminate_child(&node).await.unwrap();
    assert_eq!(log.take(), ["over"; 4], "before it is said to be stopped");
    let all = all.await.unwrap();
    traps.settles().await;
    let told = traps.log.take();
    nothing_is_left(&tasks, 100).await;
    root.shutdown().await;
    (all, node.exit_reason().unwrap(), told)
}

// A stream is a task of its supervisor, and is stopped as one.
proves!(a_supervisor_stops_its_streams, ["TSU-009", "TSU-010", "TSU-016"]);
async fn a_supervisor_stops_its_streams() {
    for options in ways(3) {
        for (how, reason) in [
            (Shutdown::Timeout(ms(100)), ExitReason::Shutdown),
            (Shutdown::Infinity, ExitReason::Shutdown),
            (Shutdown::BrutalKill, ExitReason::Killed),
        ] {
            let (all, ended, told) = stopped(options.clone().shutdown(how)).await;
            assert_eq!(all[0], Ok(10));
            let stopped = || exit(reason.clone());
            assert_eq!(all[1..4], [stopped(), stopped(), stopped()], "{how:?}");
            let over = StreamError::Refused(RequestError::Ended(reason.clone()));
            assert_eq!(all[4..], [Err(over)]);
            assert_eq!(ended, reason);
            assert_eq!(told, Vec::<String>::new());
        }
    }
}

proves!(one_that_does_not_yield_does_not_hold_the_others, real_time, ["STR-008"]);
async fn one_that_does_not_yield_does_not_hold_the_others() {
    for options in ways(2) {
        let World { tasks, traps, root, .. } = World::start().await;
        let options = options.timeout(ms(20));
        let options = options.on_timeout(OnItemTimeout::KillTask);
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(std::sync::Mutex::new(gate));
        let ran = Arc::new(AtomicU64::new(0));
        let seen = ran.clone();
        let work = move |number: u64| {
            let (gate, ran) = (gate.clone(), ran.clone());
            async move {
                if number == 0 {
                    gate.lock().unwrap().recv().unwrap();
                    std::future::pending::<()>().await;
                }
                ran.fetch_add(1, Ordering::SeqCst);
                number
            }
        };
        let mut stream = tasks.async_stream(0..20, work, options).unwrap();
        let all = traps
            .does(async move {
                let first: Option<Result<u64>> = stream.next().await;
                assert_eq!(first, Some(exit(ExitReason::Timeout)), "while it does not yield");
                let rest: Vec<Result<u64>> = stream.by_ref().take(9).collect().await;
                go.send(()).unwrap();
                rest.into_iter().chain(stream.collect::<Vec<_>>().await).collect::<Vec<_>>()
            })
            .await;
        assert_eq!(all, (1..20).map(Ok).collect::<Vec<_>>());
        assert_eq!(seen.load(Ordering::SeqCst), 19);
        nothing_is_left(&tasks, 100).await;
        idle().await;
        root.shutdown().await;
    }
}
