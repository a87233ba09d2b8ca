//! Streams of tasks: a function over many elements, so many of them at a time.
//!
//! The consumer owns the source and pulls it; the tasks run beside it. In the tree a stream is one node
//! below its task supervisor, which counts the time, and which ends when nothing of the stream is left.
//! Starting an element asks nobody: it takes a place among those of the task supervisor and goes.

mod board;
mod cell;
mod engine;
mod keeper;
mod options;
mod order;
mod pool;
#[cfg(test)]
#[cfg(perennial_shuttle)]
mod races;
mod shared;

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{Stream, stream};
use perennial_core::ExitReason;

pub use self::options::{OnItemTimeout, StreamError, StreamOptions, StreamSpecError};
use self::{
    board::{Closing, Finished},
    engine::{Batch, Crew, Engine, Launch},
    order::Order,
    shared::{Consumer, Rules, Shared},
};
use crate::{
    RequestError, TaskSupervisor,
    process::{callers_from_here, current_process},
};

/// Results that may wait for an earlier one, in order; OTP knows no limit.
const AHEAD_MAX: usize = 1024;

type Starting = Pin<Box<dyn Future<Output = Result<(), RequestError>> + Send>>;
type Begin<I> = Box<dyn FnOnce() -> (Arc<dyn Launch<I>>, Starting, usize) + Send>;

/// The results of a function over many elements, worked on by tasks.
///
/// Nothing runs until it is polled (STR-024), and from then on it belongs to whoever polled it first
/// (STR-021): its consumer. Elements are taken from the source only while they can be worked on, or are
/// soon to be wanted (STR-005).
///
/// | what happens | linked, and the consumer does not trap exits | otherwise |
/// |---|---|---|
/// | a task fails | the consumer ends with its reason, all other tasks are killed | its place is [`StreamError::Exit`] |
/// | an element takes too long | as [`StreamOptions::on_timeout`] says | the same |
/// | the consumer drops the stream | all tasks are killed | the same |
/// | the consumer ends | its tasks end with its reason | they run to their end where they are not linked |
/// | the task supervisor stops | the tasks are stopped, and the consumer with them | each place is [`StreamError::Exit`] |
///
/// Code that is no process has no links: for it a linked stream is as one that is not.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// use futures_util::StreamExt;
///
/// let mut lengths = tasks.async_stream(["a", "bc"], |word| async move { word.len() }, StreamOptions::new())?;
/// // Nothing has begun yet; it does with the first poll.
/// assert_eq!(lengths.next().await, Some(Ok(1)));
/// assert_eq!(lengths.next().await, Some(Ok(2)));
/// assert_eq!(lengths.next().await, None);
/// # root.shutdown().await; Ok(()) }
/// ```
///
/// # Cancel safety
///
/// Dropping it kills its tasks: each at once, or, while it runs at that moment, at its next await.
/// Dropping a future that waits for its next result loses nothing.
pub struct TaskStream<S: Stream, T> {
    /// Until it is exhausted, or nobody wants it any more.
    source: Option<Pin<Box<S>>>,
    copy: Option<Copy<S::Item>>,
    shared: Arc<Shared<S::Item, T>>,
    stage: Stage<S::Item>,
    order: Order<Found<S::Item, T>>,
    batch: Batch<S::Item>,
    /// Results that are being put in order; empty in between.
    found: VecDeque<Finished<S::Item, T>>,
    width: usize,
    /// Elements taken from the source.
    taken: u64,
    /// Of those, elements whose results have been seen here.
    seen: u64,
    /// Elements that were killed and have not ended.
    dying: usize,
}

type Copy<I> = fn(&I) -> I;
type Found<I, T> = Result<T, (Option<I>, ExitReason)>;

enum Stage<I> {
    Idle(Option<Begin<I>>),
    Starting(Arc<dyn Launch<I>>, Starting),
    Running(Arc<dyn Launch<I>>),
    /// The failure of a linked task reaches the consumer first, if it can.
    Failing(StreamError<I>),
    Over,
}

impl TaskSupervisor {
    /// Calls `work` with each of `items`, in tasks, and hands out the results (STR-001). The tasks are
    /// linked to the consumer.
    ///
    /// ```
    /// # use perennial_supervision::{Clock, Options, Root, SupervisorSpec};
    /// use futures_util::StreamExt;
    /// use perennial_supervision::{StreamOptions, TaskSupervisor, TaskSupervisorSpec};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let options = StreamOptions::new().max_concurrency(4);
    /// let lengths = tasks.async_stream(["a", "bc"], |word| async move { word.len() }, options)?;
    /// let lengths: Vec<_> = lengths.collect().await;
    /// assert_eq!(lengths, [Ok(1), Ok(2)]);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When `options` are refused; nothing is taken from `items` then (STR-019).
    pub fn async_stream<L, T, F, W>(
        &self,
        items: L,
        work: F,
        options: StreamOptions,
    ) -> Result<TaskStream<stream::Iter<L::IntoIter>, T>, StreamSpecError>
    where
        L: IntoIterator,
        L::Item: Send + 'static,
        T: Send + 'static,
        F: Fn(L::Item) -> W + Send + Sync + 'static,
        W: Future<Output = T> + Send + 'static,
    {
        self.async_stream_from(stream::iter(items), work, options.linked(true))
    }

    /// As [`async_stream`](Self::async_stream), and the tasks are not linked to the consumer.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// use futures_util::StreamExt;
    ///
    /// let check = |number: u32| async move { assert!(number != 2, "two"); number };
    /// let found = tasks.async_stream_nolink([1, 2, 3], check, StreamOptions::new())?;
    /// let good: Vec<u32> = found.filter_map(|found| async { found.ok() }).collect().await;
    /// assert_eq!(good, [1, 3]); // the failure of one touches nobody
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`async_stream`](Self::async_stream).
    pub fn async_stream_nolink<L, T, F, W>(
        &self,
        items: L,
        work: F,
        options: StreamOptions,
    ) -> Result<TaskStream<stream::Iter<L::IntoIter>, T>, StreamSpecError>
    where
        L: IntoIterator,
        L::Item: Send + 'static,
        T: Send + 'static,
        F: Fn(L::Item) -> W + Send + Sync + 'static,
        W: Future<Output = T> + Send + 'static,
    {
        self.async_stream_from(stream::iter(items), work, options.linked(false))
    }

    /// As [`async_stream`](Self::async_stream), for elements that come one by one; whether it is linked
    /// say the options.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// use futures_util::{StreamExt, stream};
    ///
    /// // A source without an end: an element is taken when it can be worked on.
    /// let numbers = stream::iter(1..);
    /// let squares = tasks.async_stream_from(numbers, |it: u32| async move { it * it }, StreamOptions::new())?;
    /// assert_eq!(squares.take(3).collect::<Vec<_>>().await, [Ok(1), Ok(4), Ok(9)]);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`async_stream`](Self::async_stream).
    pub fn async_stream_from<S, T, F, W>(
        &self,
        source: S,
        work: F,
        options: StreamOptions,
    ) -> Result<TaskStream<S, T>, StreamSpecError>
    where
        S: Stream,
        S::Item: Send + 'static,
        T: Send + 'static,
        F: Fn(S::Item) -> W + Send + Sync + 'static,
        W: Future<Output = T> + Send + 'static,
    {
        options.check()?;
        let rules = Rules {
            timeout: options.timeout,
            on_timeout: options.on_timeout,
            linked: options.linked,
            label: options.label.clone(),
        };
        let shared = Arc::new(Shared::new(rules, self.places.clone()));
        let order = Order::new(options.ordered);
        let (supervisor, places, own) =
            (self.supervisor.clone(), self.places.clone(), shared.clone());
        let begin = move || {
            let workers = tokio::runtime::Handle::current().metrics().num_workers();
            let width = options.max_concurrency.unwrap_or(workers);
            let crew = Crew { max: width, workers, pooled: options.pooled };
            let engine = Engine::new(own.clone(), work, crew);
            let starting: Starting = Box::pin(async move {
                let spec = keeper::child_spec(&own, &options, places.place()?);
                supervisor.start_child(spec).await.map(drop)
            });
            let engine: Arc<dyn Launch<S::Item>> = engine;
            (engine, starting, width)
        };
        Ok(TaskStream {
            source: Some(Box::pin(source)),
            copy: None,
            shared,
            stage: Stage::Idle(Some(Box::new(begin))),
            order,
            batch: Vec::new(),
            found: VecDeque::new(),
            width: 0,
            taken: 0,
            seen: 0,
            dying: 0,
        })
    }
}

impl<S: Stream, T> TaskStream<S, T> {
    /// Hands the element back with its failure, in [`StreamError::Exit`] (STR-010).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// use futures_util::StreamExt;
    ///
    /// let check = |number: u32| async move { assert!(number != 2, "two") };
    /// let found = tasks.async_stream_nolink([1, 2], check, StreamOptions::new())?.zip_input_on_exit();
    /// let found: Vec<_> = found.collect().await;
    /// assert!(matches!(&found[1], Err(StreamError::Exit { input: Some(2), .. })));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn zip_input_on_exit(mut self) -> Self
    where
        S::Item: Clone,
    {
        self.copy = Some(S::Item::clone);
        self
    }

    /// Looks at what happened, and takes as many elements as can be worked on.
    fn go_on(&mut self, cx: &mut Context<'_>) -> Result<(), StreamError<S::Item>> {
        loop {
            let closing = self.look(cx);
            match closing {
                Some(Closing::Overdue) => return Err(StreamError::Timeout),
                Some(Closing::Failed(reason)) => return Err(StreamError::Failed(reason)),
                Some(Closing::Stopped(reason))
                    if self.seen == self.taken && self.order.span() == 0 =>
                {
                    return Err(StreamError::Refused(RequestError::Ended(reason)));
                }
                Some(Closing::Stopped(_)) => return Ok(()),
                Some(Closing::Left(_)) | None => (),
            }
            self.pull(cx);
            if self.batch.is_empty() {
                return Ok(());
            }
            let taken = self.batch.len();
            let waits = self.order.ready() == 0;
            let Stage::Running(engine) = &self.stage else { return Ok(()) };
            let begun =
                engine.clone().launch(&mut self.batch, waits).map_err(StreamError::Refused)?;
            // The others went with the stream, which was closed after the look: nothing comes of them.
            self.taken -= (taken - begun) as u64;
            if begun == taken && !self.shared.has_news(1) {
                return Ok(());
            }
        }
    }

    /// Takes over what the tasks have done.
    fn look(&mut self, cx: &Context<'_>) -> Option<Closing> {
        let mut board = self.shared.board();
        self.shared.no_news(&board);
        let known = board.consumer.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
        if !known {
            board.consumer = Some(cx.waker().clone());
        }
        self.dying = board.dying();
        std::mem::swap(&mut board.results, &mut self.found);
        let closing = board.closing.clone();
        drop(board);
        for finished in self.found.drain(..) {
            self.seen += 1;
            self.order.put(finished.index, finished.result);
        }
        closing
    }

    /// Takes elements from the source while there is room for them.
    fn pull(&mut self, cx: &mut Context<'_>) {
        while self.has_room() {
            let Some(source) = &mut self.source else { return };
            // Should it fail, the tasks are stopped, and its failure is the consumer's (STR-013).
            let polled = catch_unwind(AssertUnwindSafe(|| source.as_mut().poll_next(cx)));
            match polled {
                Ok(Poll::Ready(Some(item))) => {
                    let copy = self.copy.map(|copy| copy(&item));
                    self.batch.push((self.taken, item, copy));
                    self.taken += 1;
                }
                Ok(Poll::Ready(None)) => self.source = None,
                Ok(Poll::Pending) => return,
                Err(panic) => {
                    self.end();
                    resume_unwind(panic);
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        let running = usize::try_from(self.taken - self.seen).unwrap_or(usize::MAX);
        let ahead = running + self.order.span();
        running + self.dying < self.width
            && self.order.ready() < self.width
            && ahead < AHEAD_MAX.max(self.width)
    }

    /// Nobody wants any more of it.
    fn end(&mut self) {
        let was_running = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Idle(_) | Stage::Over => false,
            Stage::Starting(..) | Stage::Running(_) | Stage::Failing(_) => true,
        };
        if was_running {
            // Where the consumer itself is ending, what is linked to it ends with its reason, and what
            // is not is left to its supervisor (STR-015).
            let consumer = self.shared.consumer().and_then(|it| it.ended().control());
            let reason = consumer.and_then(|control| control.ending());
            match (reason, self.shared.rules.linked) {
                (Some(_), false) => self.shared.detach(),
                (Some(reason), true) => {
                    self.shared.close(Closing::Left(reason.clone()), &reason);
                }
                (None, _) => {
                    let left = Closing::Left(ExitReason::Normal);
                    self.shared.close(left, &ExitReason::Killed);
                }
            }
        }
        self.source = None;
        self.batch.clear();
        self.order.clear();
    }

    fn poll_running(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<T, StreamError<S::Item>>>> {
        // Several at once are cheaper, as long as there is something to hand out and others run.
        let least = (self.width / 2).max(1);
        let looks = self.order.ready() == 0 || self.shared.has_news(least);
        if let Err(failure) = if looks { self.go_on(cx) } else { Ok(()) } {
            let severed = matches!(failure, StreamError::Failed(_));
            self.end();
            if !severed {
                return Poll::Ready(Some(Err(failure)));
            }
            // A consumer that can be interrupted is not told: it ends here.
            self.stage = Stage::Failing(failure);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(found) = self.order.take() {
            let found = found.map_err(|(input, reason)| StreamError::Exit { input, reason });
            return Poll::Ready(Some(found));
        }
        if self.source.is_none() && self.seen == self.taken {
            self.end();
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

impl<S: Stream, T> Stream for TaskStream<S, T> {
    type Item = Result<T, StreamError<S::Item>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match &mut this.stage {
                Stage::Idle(begin) => {
                    let Some(begin) = begin.take() else { return Poll::Ready(None) };
                    let (process, callers) = (current_process(), callers_from_here());
                    this.shared.belongs_to(Consumer { process, callers });
                    let (engine, starting, width) = begin();
                    this.width = width;
                    this.stage = Stage::Starting(engine, starting);
                }
                Stage::Starting(engine, starting) => {
                    let engine = engine.clone();
                    match ready!(starting.as_mut().poll(cx)) {
                        Ok(()) => this.stage = Stage::Running(engine),
                        Err(refusal) => {
                            this.end();
                            return Poll::Ready(Some(Err(StreamError::Refused(refusal))));
                        }
                    }
                }
                Stage::Running(_) => return this.poll_running(cx),
                Stage::Failing(_) => {
                    return match std::mem::replace(&mut this.stage, Stage::Over) {
                        Stage::Failing(failure) => Poll::Ready(Some(Err(failure))),
                        Stage::Idle(_) | Stage::Starting(..) | Stage::Running(_) | Stage::Over => {
                            Poll::Ready(None)
                        }
                    };
                }
                Stage::Over => return Poll::Ready(None),
            }
        }
    }
}

/// Nothing in it is pinned: the source has its box.
impl<S: Stream, T> Unpin for TaskStream<S, T> {}

impl<S: Stream, T> Drop for TaskStream<S, T> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<S: Stream, T> fmt::Debug for TaskStream<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskStream")
            .field("taken", &self.taken)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
