//! Streams of tasks: what comes out of them.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::StreamExt;
use perennial_core::ExitReason;
use perennial_supervision::{Clock, OnItemTimeout, StreamError, StreamOptions};
use tokio::sync::Semaphore;

use crate::{
    fixture::idle,
    harness::proves,
    probe::{Log, until},
    str_world::{
        Counted, Gauge, Result, exit, is_panic, ms, nothing_is_left, panicked, tells, waits, ways,
        works,
    },
    tsk_world::World,
};

proves!(a_function_over_many_elements_in_their_order, ["STR-001", "STR-002"]);
async fn a_function_over_many_elements_in_their_order() {
    for options in ways(4) {
        let World { tasks, traps, root, .. } = World::start().await;
        traps
            .does(async move {
                let clock = Clock::start();
                let stream = tasks.async_stream([40, 10, 30, 20], waits, options).unwrap();
                let all: Vec<Result<u64>> = stream.collect().await;
                assert_eq!(all, [Ok(40), Ok(10), Ok(30), Ok(20)], "the first is the slowest");
                assert_eq!(clock.now().elapsed(), ms(40), "at the same time");
            })
            .await;
        root.shutdown().await;
    }
}

proves!(no_more_than_so_many_at_a_time, ["STR-003"]);
async fn no_more_than_so_many_at_a_time() {
    for (width, elements) in [(1, 5), (2, 5), (5, 5), (8, 5), (3, 0), (3, 1)] {
        for options in ways(width) {
            for options in [options.clone(), options.ordered(false)] {
                let World { tasks, traps, root, .. } = World::start().await;
                let gauge = Gauge::default();
                let seen = gauge.clone();
                let work = move |_: u64| {
                    let gauge = gauge.clone();
                    async move {
                        let _inside = gauge.enter();
                        waits(5).await
                    }
                };
                let clock = Clock::start();
                let stream = tasks.async_stream(0..elements, work, options).unwrap();
                let all: Vec<Result<u64>> = traps.does(stream.collect()).await;
                let elements = usize::try_from(elements).unwrap();
                assert_eq!(all.len(), elements);
                assert_eq!(seen.peak(), width.min(elements), "{width} of {elements}");
                let rounds = elements.div_ceil(width);
                assert_eq!(
                    clock.now().elapsed(),
                    ms(5) * u32::try_from(rounds).unwrap(),
                    "none rests"
                );
                root.shutdown().await;
            }
        }
    }
}

proves!(as_many_as_there_are_workers_unless_told, real_time, ["STR-003"]);
async fn as_many_as_there_are_workers_unless_told() {
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    assert!(workers > 1);
    for options in [StreamOptions::new(), StreamOptions::new().pooled()] {
        let World { tasks, traps, root, .. } = World::start().await;
        let (gauge, gate) = (Gauge::default(), std::sync::Arc::new(Semaphore::new(0)));
        let (seen, opens) = (gauge.clone(), gate.clone());
        let work = move |_: usize| {
            let (gauge, gate) = (gauge.clone(), gate.clone());
            async move {
                let _inside = gauge.enter();
                drop(gate.acquire().await.unwrap());
            }
        };
        let stream = tasks.async_stream(0..workers * 3, work, options).unwrap();
        traps.starts(stream.for_each(|_| std::future::ready(())));
        until(|| seen.now() == workers).await;
        opens.add_permits(workers * 3);
        traps.settles().await;
        assert_eq!(seen.peak(), workers);
        root.shutdown().await;
    }
}

proves!(results_may_come_as_they_are_done, ["STR-004"]);
async fn results_may_come_as_they_are_done() {
    for (width, expected) in [(3, [10, 20, 30]), (1, [30, 10, 20])] {
        for options in ways(width) {
            let World { tasks, traps, root, .. } = World::start().await;
            let stream = tasks.async_stream([30, 10, 20], waits, options.ordered(false)).unwrap();
            let all: Vec<Result<u64>> = traps.does(stream.collect()).await;
            assert_eq!(all, expected.map(Ok), "{width}");
            root.shutdown().await;
        }
    }
}

proves!(elements_are_taken_when_they_are_needed, ["STR-005"]);
async fn elements_are_taken_when_they_are_needed() {
    for options in ways(3) {
        let World { tasks, traps, root, .. } = World::start().await;
        let log = Log::default();
        let (source, taken) =
            Counted::new([40, 20, 60].into_iter().chain(std::iter::repeat(80)), &log);
        let taken = move || taken.load(Ordering::SeqCst);
        traps
            .does(async move {
                let mut stream = tasks.async_stream(source, waits, options).unwrap();
                assert_eq!(taken(), 0);
                let early = tokio::time::timeout(ms(10), stream.next()).await;
                assert!(early.is_err());
                assert_eq!(taken(), 3, "none has finished");
                // The second has, though the first is still awaited.
                let early = tokio::time::timeout(ms(20), stream.next()).await;
                assert!(early.is_err());
                assert_eq!(taken(), 4);
                assert_eq!(stream.next().await, Some(Ok(40)));
                assert_eq!(taken(), 5);
                // While nobody asks, nothing is taken.
                waits(1000).await;
                assert_eq!(taken(), 5);
                // Of a source without an end.
                let some: Vec<Result<u64>> = stream.take(3).collect().await;
                assert_eq!(some, [Ok(20), Ok(60), Ok(80)]);
                assert!(taken() <= 4 + 3 + 1 + 3, "{}", taken());
            })
            .await;
        root.shutdown().await;
    }
}

proves!(a_failure_is_told_in_place_or_fails_the_consumer, ["STR-006"]);
async fn a_failure_is_told_in_place_or_fails_the_consumer() {
    for options in ways(4) {
        for (linked, traps) in [(true, true), (false, true), (false, false), (true, false)] {
            let world = World::start().await;
            let (tasks, log) = (world.tasks.clone(), Log::default());
            let owner = if traps { world.traps.clone() } else { world.plain.clone() };
            let options = options.clone().linked(linked);
            let source = futures_util::stream::iter([10, 17, 30, 39]);
            let stream = tasks.async_stream_from(source, tells(&log), options).unwrap();
            if linked && !traps {
                let (mut end, note) = (owner.monitor(), log.clone());
                owner.starts(async move {
                    let mut stream = stream;
                    while let Some(result) = stream.next().await {
                        note.add(format!("{result:?}"));
                    }
                    note.add("the consumer lives on");
                });
                assert!(is_panic(&end.down().await, "seven"));
                nothing_is_left(&tasks, 100).await;
                let mut lines = log.take();
                lines.retain(|line| line != "over");
                assert_eq!(lines, ["Ok(10)"]);
            } else {
                let told = owner
                    .does(async move {
                        let all: Vec<Result<u64>> = stream.take(3).collect().await;
                        all
                    })
                    .await;
                assert_eq!((&told[0], &told[2]), (&Ok(10), &Ok(30)));
                assert!(panicked(&told[1], "seven"), "{:?}", told[1]);
                assert_eq!(log.take(), ["over"; 4]);
                owner.settles().await;
                assert_eq!(owner.log.take(), Vec::<String>::new(), "in place, and nowhere else");
            }
            world.root.shutdown().await;
        }
    }
}

proves!(whoever_takes_too_long_fails_the_stream, ["STR-007"]);
async fn whoever_takes_too_long_fails_the_stream() {
    let five = Duration::from_secs(5);
    for options in ways(3) {
        for (options, limit) in [(options.clone(), five), (options.timeout(ms(70)), ms(70))] {
            for linked in [true, false] {
                let World { tasks, plain, root, .. } = World::start().await;
                let (log, listed) = (Log::default(), tasks.clone());
                let over = log.clone();
                let options = options.clone().linked(linked);
                let mut end = plain.monitor();
                plain.starts(async move {
                    let clock = Clock::start();
                    let source = futures_util::stream::iter([10, 9, 39, 20]);
                    let mut stream = tasks.async_stream_from(source, tells(&log), options).unwrap();
                    assert_eq!(stream.next().await, Some(Ok(10)));
                    assert_eq!(stream.next().await, Some(Err(StreamError::Timeout)));
                    assert_eq!(clock.now().elapsed(), limit);
                    assert_eq!(log.take(), ["over"; 4], "all are stopped");
                    assert_eq!(stream.next().await, None);
                    panic!("{}", StreamError::<u64>::Timeout);
                });
                let reason = end.down().await;
                assert!(is_panic(&reason, "an element was not done in time"), "{reason}");
                nothing_is_left(&listed, 100).await;
                assert_eq!(over.take(), Vec::<String>::new());
                root.shutdown().await;
            }
        }
    }
}

proves!(whoever_takes_too_long_may_be_killed_alone, ["STR-008"]);
async fn whoever_takes_too_long_may_be_killed_alone() {
    for options in ways(4) {
        for ordered in [true, false] {
            let World { tasks, plain, root, .. } = World::start().await;
            let options = options.clone().ordered(ordered).timeout(ms(50));
            let options = options.on_timeout(OnItemTimeout::KillTask);
            let starts = tasks.clone();
            plain
                .does(async move {
                    let log = Log::default();
                    let items = [20, 49, 30, 10, 40, 59];
                    let stream = starts.async_stream(items, tells(&log), options).unwrap();
                    let mut all: Vec<Result<u64>> = stream.collect().await;
                    let late = || exit(ExitReason::Timeout);
                    let expected = if ordered {
                        [Ok(20), late(), Ok(30), Ok(10), Ok(40), late()]
                    } else {
                        // 40 begins when 10 is done.
                        let expected = [Ok(10), Ok(20), Ok(30), Ok(40), late(), late()];
                        all[3..5].sort_by_key(Result::is_err);
                        expected
                    };
                    assert_eq!(all, expected);
                    assert_eq!(log.take(), ["over"; 6]);
                })
                .await;
            nothing_is_left(&tasks, 100).await;
            root.shutdown().await;
        }
    }
}

proves!(without_a_limit_one_may_take_for_ever, ["STR-009"]);
async fn without_a_limit_one_may_take_for_ever() {
    const YEAR: u64 = 31_557_600_000;
    for options in ways(2) {
        let World { tasks, traps, root, .. } = World::start().await;
        let stream = tasks.async_stream([YEAR, 10], waits, options.timeout(None)).unwrap();
        let all: Vec<Result<u64>> = traps.does(stream.collect()).await;
        assert_eq!(all, [Ok(YEAR), Ok(10)]);
        root.shutdown().await;
    }
}

proves!(failures_may_come_with_their_elements, ["STR-010"]);
async fn failures_may_come_with_their_elements() {
    for options in ways(4) {
        let World { tasks, traps, root, .. } = World::start().await;
        let options = options.timeout(ms(50)).on_timeout(OnItemTimeout::KillTask);
        let stream = tasks.async_stream([10, 17, 49, 20], works, options.clone()).unwrap();
        let all: Vec<Result<u64>> = traps.does(stream.zip_input_on_exit().collect()).await;
        assert_eq!((&all[0], &all[3]), (&Ok(10), &Ok(20)), "successes are unchanged");
        let Err(StreamError::Exit { input: Some(17), reason }) = &all[1] else {
            panic!("{:?}", all[1])
        };
        assert!(is_panic(reason, "seven"));
        let late = StreamError::Exit { input: Some(49), reason: ExitReason::Timeout };
        assert_eq!(all[2], Err(late));
        // Also where one failure is enough.
        let stream = tasks.async_stream([10, 27, 30, 39], works, options).unwrap();
        let first = stream.zip_input_on_exit().filter(|it| std::future::ready(it.is_err()));
        let first: Vec<Result<u64>> = traps.does(first.take(1).collect()).await;
        assert!(matches!(first[..], [Err(StreamError::Exit { input: Some(27), .. })]));
        nothing_is_left(&tasks, 100).await;
        idle().await;
        root.shutdown().await;
    }
}
