//! Kills, drops and ends of streams against each other, under the checker of schedules (see `races`).

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Waker},
};

use futures_util::StreamExt;
use perennial_core::ExitReason;
use shuttle::{
    future::{block_on, spawn, yield_now},
    thread,
};
use tokio::sync::oneshot;

use super::cell::{Cell, Kill};
use crate::{
    Clock, Options, ProcessRef, RequestError, Root, StreamOptions, SupervisorSpec, TaskRef,
    TaskSupervisor, TaskSupervisorSpec, current_process,
    races::{check, check_all},
};

struct Mark(Arc<AtomicUsize>);

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// What is killed is dropped once, and is gone when the kill says so; whoever polls it is woken.
#[test]
fn a_kill_against_a_poll_drops_the_work_once() {
    let tried = check_all(|| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let cell = Arc::new(Cell::new());
        let mut mark = Some(Mark(dropped.clone()));
        let own = cell.clone();
        let make = |mark: Mark| async move {
            let _mark = mark;
            std::future::pending::<()>().await;
        };
        let polls =
            thread::spawn(move || block_on(poll_fn(|cx| own.poll(7, mark.take(), &make, cx))));
        if cell.kill(7) {
            assert_eq!(dropped.load(SeqCst), 1, "nothing of it is left");
        }
        assert_eq!(polls.join().unwrap(), None);
        assert_eq!(dropped.load(SeqCst), 1);
        // What comes late is nothing to the next one.
        let next = Some(Mark(dropped.clone()));
        assert!(cell.poll(8, next, &make, &mut Context::from_waker(Waker::noop())).is_pending());
        assert!(cell.kill(7));
        assert_eq!(dropped.load(SeqCst), 1);
    });
    println!("{tried} schedules");
}

const PLACES: usize = 3;

struct World {
    root: Root,
    tasks: TaskSupervisor,
    /// A task that waits for its end.
    first: TaskRef,
    /// Elements that were begun, and those that were dropped.
    made: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

impl World {
    async fn start() -> Arc<Self> {
        let (spec, tasks) =
            TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", PLACES + 1));
        let spec = SupervisorSpec::new("top").child(spec);
        let root = Root::start(spec, Clock::start(), Options::default()).await.unwrap();
        let first = tasks.start_child("first", std::future::pending()).await.unwrap();
        Arc::new(Self { root, tasks, first, made: Arc::default(), dropped: Arc::default() })
    }

    /// The work on one element: it waits once, and one of them for ever.
    fn element(
        &self,
    ) -> impl Fn(u32) -> std::pin::Pin<Box<dyn Future<Output = u32> + Send>> + use<> {
        let (made, dropped) = (self.made.clone(), self.dropped.clone());
        move |number| {
            made.fetch_add(1, SeqCst);
            let mark = Mark(dropped.clone());
            Box::pin(async move {
                let _mark = mark;
                yield_now().await;
                if number == 1 {
                    // As whoever is linked to it does.
                    let own = current_process().unwrap();
                    if let Some(control) = own.ended().control() {
                        control.kill();
                    }
                    std::future::pending::<()>().await;
                }
                number
            })
        }
    }

    /// The node of the stream. A dump would read details on a thread of its own.
    fn stream(&self) -> Option<ProcessRef> {
        let tasks = self.root.supervisor().which_child("tasks").unwrap();
        let all = tasks.which_children().into_iter();
        all.filter(|it| it.name() != "first").find_map(|stream| stream.process)
    }

    /// All places are free again: so many tasks can be started, and no more.
    async fn rests(&self) {
        self.tasks.terminate_child(&self.first).await.unwrap();
        for _ in 0..=PLACES {
            // The stream is on its way out, for a while; for ever where a place was lost.
            while self.tasks.start_child("idle", std::future::pending()).await.is_err() {
                yield_now().await;
            }
        }
        let more = self.tasks.start_child("idle", std::future::pending()).await;
        assert_eq!(
            more.unwrap_err(),
            RequestError::MaxChildren(PLACES + 1),
            "a place is there twice"
        );
        self.root.shutdown().await;
        assert_eq!(self.made.load(SeqCst), self.dropped.load(SeqCst), "work is left");
    }
}

fn options() -> StreamOptions {
    StreamOptions::new().max_concurrency(2).timeout(None)
}

/// An element that is killed, and a consumer that is dropped at any of its awaits.
#[test]
fn places_of_a_stream_whose_consumer_leaves_are_given_back() {
    check(|| {
        block_on(async {
            let world = World::start().await;
            let own = world.clone();
            let (leave, leaves) = oneshot::channel::<()>();
            let consumer = spawn(async move {
                let items = [0, 1, 2];
                let stream = own.tasks.async_stream_nolink(items, own.element(), options());
                let results = stream.unwrap().map(|it| it.is_ok()).collect::<Vec<bool>>();
                tokio::select! {
                    biased;
                    _ = leaves => None,
                    results = results => Some(results),
                }
            });
            yield_now().await;
            drop(leave);
            if let Some(results) = consumer.await.unwrap() {
                assert_eq!(results, [true, false, true]);
            }
            world.rests().await;
        });
    });
}

/// The node of a stream that is killed while elements begin and end: the consumer hears of it.
#[test]
fn places_of_a_stream_that_is_killed_are_given_back() {
    check(|| {
        block_on(async {
            let world = World::start().await;
            let over = Arc::new(AtomicBool::new(false));
            let (own, told) = (world.clone(), over.clone());
            let consumer = spawn(async move {
                let items = [0, 2, 1, 3];
                let stream = own.tasks.async_stream_nolink(items, own.element(), options());
                let results: Vec<_> = stream.unwrap().collect().await;
                told.store(true, SeqCst);
                results.len()
            });
            let own = world.clone();
            let kills = spawn(async move {
                if let Some(stream) = own.stream() {
                    if let Some(control) = stream.ended().control() {
                        control.kill();
                    }
                    let ended = stream.monitor().down().await;
                    let early = [ExitReason::Normal, ExitReason::NoProc].contains(&ended);
                    assert!(early || ended == ExitReason::Killed, "{ended}");
                }
            });
            kills.await.unwrap();
            assert!(consumer.await.unwrap() <= 5);
            assert!(over.load(SeqCst));
            world.rests().await;
        });
    });
}
