//! What the consumer, the tasks and the keeper of one stream share.

use std::{
    sync::{Arc, OnceLock, PoisonError, Weak},
    task::Waker,
    time::Duration,
};

use perennial_core::{ExitReason, Uptime};

use super::{
    OnItemTimeout,
    board::{Board, Body, Closing, Ticket, Victim},
    cell::Kill,
};
use crate::{
    ProcessRef, RequestError,
    context::Context,
    node::Node,
    panics::call_quietly,
    sync::{
        Mutex, MutexGuard, Notify,
        atomic::{AtomicUsize, Ordering},
    },
    task_supervisor::Places,
};

/// What does not change while it runs.
pub(super) struct Rules {
    pub(super) timeout: Option<Duration>,
    pub(super) on_timeout: OnItemTimeout,
    pub(super) linked: bool,
    pub(super) label: Option<Arc<str>>,
}

/// Where a stream is at home: its node in the tree.
pub(super) struct Home {
    pub(super) context: Context,
    pub(super) process: ProcessRef,
    pub(super) node: Weak<Node>,
}

/// Who reads a stream.
#[derive(Clone, Default)]
pub(super) struct Consumer {
    /// None for what is no process.
    pub(super) process: Option<ProcessRef>,
    pub(super) callers: Arc<[ProcessRef]>,
}

pub(super) struct Shared<I, T> {
    board: Mutex<Board<I, T>>,
    /// How often something happened that the consumer has not looked at. Changed under the lock of the board.
    news: AtomicUsize,
    /// Something for the keeper to look at.
    pub(super) attention: Notify,
    /// Set when the node has started.
    home: OnceLock<Home>,
    /// Set at the first poll.
    consumer: OnceLock<Consumer>,
    pub(super) rules: Rules,
    places: Arc<Places>,
}

/// What the keeper does next.
pub(super) enum Watch {
    /// It looks again after this time, or when something calls for attention.
    For(Option<Duration>),
    /// Nothing of the stream is left.
    Over(ExitReason),
}

/// What somebody told the node of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// By whoever supervises it.
    Stop(ExitReason),
    /// A kill: all of it, and nothing is given up here.
    Kill,
    /// Something ended that it is linked to.
    Sever(ExitReason),
}

impl<I, T> Shared<I, T> {
    pub(super) fn new(rules: Rules, places: Arc<Places>) -> Self {
        Self {
            board: Mutex::new(Board::new()),
            news: AtomicUsize::new(0),
            attention: Notify::new(),
            home: OnceLock::new(),
            consumer: OnceLock::new(),
            rules,
            places,
        }
    }

    pub(super) fn board(&self) -> MutexGuard<'_, Board<I, T>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settle_in(&self, home: Home) {
        // A node is started once.
        let _ = self.home.set(home);
    }

    pub(super) fn home(&self) -> Option<&Home> {
        self.home.get()
    }

    pub(super) fn belongs_to(&self, consumer: Consumer) {
        // The first that looks.
        let _ = self.consumer.set(consumer);
    }

    pub(super) fn consumer(&self) -> Option<&ProcessRef> {
        self.consumer.get()?.process.as_ref()
    }

    pub(super) fn callers(&self) -> Arc<[ProcessRef]> {
        self.consumer.get().map(|consumer| consumer.callers.clone()).unwrap_or_default()
    }

    pub(super) fn now(&self) -> Uptime {
        self.home().map_or(Uptime::ZERO, |home| home.context.clock().now())
    }

    /// Takes places for up to `wanted` elements beside those that are alive, and answers how many; the
    /// first is in the place of the stream itself. Under the lock of the board, which counts them.
    pub(super) fn take_places(&self, alive: usize, wanted: usize) -> usize {
        let own = usize::from(alive == 0).min(wanted);
        own + self.places.take_some(wanted - own)
    }

    pub(super) fn refusal(&self) -> RequestError {
        self.places.refusal()
    }

    /// So many elements run no more, of `alive` that did.
    fn give_places(&self, ended: usize, alive: usize) {
        self.places.give(ended.min(alive.saturating_sub(1)));
    }

    /// Whether at least so much has happened since the consumer looked.
    pub(super) fn has_news(&self, least: usize) -> bool {
        self.news.load(Ordering::Acquire) >= least
    }

    /// Looked at from here on.
    pub(super) fn no_news(&self, _: &MutexGuard<'_, Board<I, T>>) {
        self.news.store(0, Ordering::Release);
    }

    /// Something happened.
    fn add_news(&self, _: &MutexGuard<'_, Board<I, T>>) {
        let known = self.news.load(Ordering::Relaxed);
        self.news.store(known.wrapping_add(1), Ordering::Release);
    }

    /// An element is done by itself; `kill` is where it was reached, for the next one. Answers what `next`
    /// finds on the board, under the same lock.
    pub(super) fn settle<N>(
        &self,
        ticket: Ticket,
        process: Option<&mut ProcessRef>,
        result: Result<T, ExitReason>,
        kill: &mut Option<Arc<dyn Kill>>,
        next: impl FnOnce(&mut Board<I, T>, &mut Option<Arc<dyn Kill>>) -> N,
    ) -> N {
        let failure = result.as_ref().err().cloned();
        let mut board = self.board();
        let alive = board.alive();
        let awaited = board.settle(ticket, result, kill);
        let gone = if awaited { None } else { board.ended(ticket.index) };
        let left = alive - board.alive();
        let next = next(&mut board, kill);
        let reason = match (&failure, gone) {
            (_, Some((_, reason))) => reason,
            (Some(reason), None) => reason.clone(),
            (None, None) => ExitReason::Normal,
        };
        self.tell(board, left, alive);
        if let Some(process) = process
            && !process.is_unseen()
        {
            process.ended().announce(&reason);
        }
        if let Some(reason) = failure.filter(|_| awaited) {
            self.sever_consumer(&reason);
        }
        next
    }

    /// One that was killed has really ended.
    pub(super) fn ended(&self, index: u64) {
        let mut board = self.board();
        let alive = board.alive();
        let gone = board.ended(index);
        let left = alive - board.alive();
        self.tell(board, left, alive);
        if let Some((Some(process), reason)) = gone {
            process.ended().announce(&reason);
        }
    }

    /// Lets go of the board and tells whom it concerns that `left` of `alive` elements run no more.
    fn tell(&self, mut board: MutexGuard<'_, Board<I, T>>, left: usize, alive: usize) {
        self.give_places(left, alive);
        let waits_for_the_last = board.closing.is_some() && board.alive() == 0;
        let consumer = board.consumer.take();
        self.add_news(&board);
        drop(board);
        if waits_for_the_last {
            self.attention.notify_one();
        }
        if let Some(consumer) = consumer {
            consumer.wake();
        }
    }

    /// Whether the failure of a task is one of the consumer: the one that is linked and does not trap
    /// exits.
    fn falls_with_it(&self) -> Option<&ProcessRef> {
        let consumer = self.consumer().filter(|_| self.rules.linked)?;
        let control = consumer.ended().control()?;
        (!control.traps_exits()).then_some(consumer)
    }

    /// A task failed: what is linked to it and does not trap exits ends as well (STR-006).
    fn sever_consumer(&self, reason: &ExitReason) {
        let Some(consumer) = self.falls_with_it() else { return };
        let Some(home) = self.home() else { return };
        if self.close(Closing::Failed(reason.clone()), &ExitReason::Killed) {
            consumer.sever(&home.process, reason);
        }
    }

    /// Ends the stream and all of its tasks, with `reason`. Answers whether it had not ended before.
    pub(super) fn close(&self, closing: Closing, reason: &ExitReason) -> bool {
        let mut board = self.board();
        let first = board.closing.is_none();
        if first {
            board.closing = Some(closing);
        }
        let resting = board.pool.dismiss();
        let victims = self.take_out(board, |board| board.all(reason, self.now()));
        resting.into_iter().for_each(Waker::wake);
        // The keeper itself closes again each time it looks, and is to wait in between.
        if first || !victims.is_empty() {
            self.attention.notify_one();
        }
        self.kill(victims);
        first
    }

    /// The consumer wants no more: those that run are left to their end.
    pub(super) fn detach(&self) {
        let mut board = self.board();
        board.detached = true;
        board.closing.get_or_insert(Closing::Left(ExitReason::Normal));
        let results = std::mem::take(&mut board.results);
        let resting = board.pool.dismiss();
        drop(board);
        resting.into_iter().for_each(Waker::wake);
        call_quietly("the drop of results", || drop(results));
        self.attention.notify_one();
    }

    /// Kills one task because something ended that it is linked to.
    pub(super) fn end_one(&self, index: u64, reason: &ExitReason) {
        let victims = self.take_out(self.board(), |board| board.one(index, reason, self.now()));
        if !victims.is_empty() {
            self.kill(victims);
            self.sever_consumer(reason);
        }
    }

    /// Takes out whom `choose` chooses. What nobody has begun is over by that.
    fn take_out(
        &self,
        mut board: MutexGuard<'_, Board<I, T>>,
        choose: impl FnOnce(&mut Board<I, T>) -> Vec<Victim<I>>,
    ) -> Vec<Victim<I>> {
        let alive = board.alive();
        let victims = choose(&mut board);
        self.give_places(alive - board.alive(), alive);
        victims
    }

    /// Kills what was taken out, outside of the lock: what is dropped with it is the user's.
    fn kill(&self, victims: Vec<Victim<I>>) {
        for Victim { index, body } in victims {
            match body {
                Some(Body::Runs(task, _)) if task.kill(index) => self.ended(index),
                // It is being polled, and ends with that.
                Some(Body::Runs(..)) | None => (),
                Some(Body::Waits(input)) => {
                    call_quietly("the drop of an element", || drop(input));
                }
            }
        }
        self.wake_consumer();
    }

    fn wake_consumer(&self) {
        let mut board = self.board();
        let consumer: Option<Waker> = board.consumer.take();
        self.add_news(&board);
        drop(board);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
    }

    /// What the keeper has to do now.
    pub(super) fn watch(&self, order: Option<&Order>) -> Watch {
        let Some(home) = self.home() else { return Watch::Over(ExitReason::NoProc) };
        match order {
            Some(Order::Kill) => self.stop(&ExitReason::Killed),
            Some(Order::Stop(reason) | Order::Sever(reason)) => self.stop(reason),
            None => (),
        }
        let now = self.now();
        if let Some(timeout) = self.rules.timeout {
            let victims = self.take_out(self.board(), |board| board.overdue(now, timeout));
            let late = !victims.is_empty();
            self.kill(victims);
            if late && self.rules.on_timeout == OnItemTimeout::Exit {
                self.close(Closing::Overdue, &ExitReason::Killed);
            }
        }
        let kill_deadline = home.context.kill_deadline();
        let mut board = self.board();
        if order != Some(&Order::Kill) {
            let alive = board.alive();
            let given_up = board.give_up(now, kill_deadline);
            if given_up > 0 {
                tracing::error!(
                    path = home.process.path(),
                    given_up,
                    "tasks did not end when killed"
                );
                self.tell(board, given_up, alive);
                board = self.board();
            }
        }
        match &board.closing {
            Some(closing) if board.alive() == 0 => Watch::Over(closing.node_ends_with()),
            Some(_) | None => {
                let next = board.next_deadline(now, self.rules.timeout, kill_deadline);
                board.unwatched = next.is_none();
                Watch::For(next)
            }
        }
    }

    /// Ends all tasks on behalf of somebody else, and with them whoever is linked.
    fn stop(&self, reason: &ExitReason) {
        if self.close(Closing::Stopped(reason.clone()), reason)
            && let (Some(consumer), Some(home)) = (self.falls_with_it(), self.home())
        {
            consumer.sever(&home.process, reason);
        }
    }
}

impl Closing {
    /// Why the node of the stream ends.
    fn node_ends_with(&self) -> ExitReason {
        match self {
            Self::Left(reason) | Self::Stopped(reason) => reason.clone(),
            Self::Overdue | Self::Failed(_) => ExitReason::Normal,
        }
    }
}
