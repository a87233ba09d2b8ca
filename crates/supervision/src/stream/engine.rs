//! The tasks of a stream. No more run than there may be elements at a time; each does one after the other.
//!
//! An element is a process of its own all the same: its links, its end and its kill concern no other.
//! Starting a task of the executor for each would cost more than the rest together.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use perennial_core::ExitReason;

use super::{
    board::{Board, Body, Ticket},
    cell::{Cell, Kill},
    pool::Called,
    shared::{Home, Shared},
};
use crate::{
    CrashReport, LifecycleEvent, ProcessRef, RequestError,
    gen_server::ancestors_of,
    life::Control,
    panics::call_quietly,
    process::{CALLERS, CURRENT, Here},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Elements that one task may do before it lets others run.
const TURN: usize = 16;

/// A turn that takes less, and in which nothing waits, is brief: another worker of the executor would come
/// too late to share it. Should the next turn not be brief, another one is called as soon as that is seen:
/// those in line behind an element that blocks its worker wait for it until then.
const BRIEF: Duration = Duration::from_micros(20);

/// Behind so many elements of a turn a task looks how long it took; a clock costs as much as an element.
const LOOKS: [usize; 3] = [1, 4, TURN];

/// Elements that are to be started: index, element, and a copy for the consumer.
pub(super) type Batch<I> = Vec<(u64, I, Option<I>)>;

/// Starts elements, whatever makes their futures.
pub(super) trait Launch<I>: Send + Sync {
    /// Starts `batch` and leaves it empty; answers how many it started. Those behind them are dropped: the
    /// stream was closed meanwhile.
    ///
    /// Whoever `waits` leaves its worker to others at once; otherwise it goes on there.
    ///
    /// # Errors
    ///
    /// When there is no place for one of them: those before it run, those behind are dropped.
    fn launch(self: Arc<Self>, batch: &mut Batch<I>, waits: bool) -> Result<usize, RequestError>;
}

/// How many tasks there are, and what they are.
#[derive(Clone, Copy)]
pub(super) struct Crew {
    /// As many as elements may run at a time.
    pub(super) max: usize,
    /// Workers of the executor. So many are woken for a batch; one that has to wait wakes the next. More
    /// would find that the first have done the work of small elements already; behind a brief turn it is
    /// one, on the consumer's own worker.
    pub(super) workers: usize,
    /// Whether all elements of one task share its process.
    pub(super) pooled: bool,
}

impl Crew {
    /// How many tasks are woken for a batch of `new` elements. One that is alone begins when whoever launches
    /// leaves its worker, which it does at once only where it `waits`.
    fn wanted(self, new: usize, waits: bool, is_brief: bool) -> usize {
        let most = if waits && is_brief { 1 } else { self.workers };
        new.min(most)
    }
}

/// How the elements of one stream are worked on.
pub(super) struct Engine<I, T, F> {
    shared: Arc<Shared<I, T>>,
    make: F,
    crew: Crew,
    guess: Guess,
}

/// Whether the last turn was brief: a guess at the next.
#[derive(Default)]
struct Guess(AtomicBool);

impl Guess {
    fn is_brief(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// A turn was brief so far, or is not. Answers whether it is the first that is not.
    fn turn_is(&self, brief: bool) -> bool {
        // Mostly it is as the one before, and the line of memory stays where it is.
        let changed = self.is_brief() != brief;
        if changed {
            self.0.store(brief, Ordering::Relaxed);
        }
        changed && !brief
    }
}

impl<I, T, F, W> Engine<I, T, F>
where
    I: Send + 'static,
    T: Send + 'static,
    F: Fn(I) -> W + Send + Sync + 'static,
    W: Future<Output = T> + Send + 'static,
{
    pub(super) fn new(shared: Arc<Shared<I, T>>, make: F, crew: Crew) -> Arc<Self> {
        Arc::new(Self { shared, make, crew, guess: Guess::default() })
    }

    fn answer(self: &Arc<Self>, called: Called) {
        called.idle.into_iter().for_each(Waker::wake);
        let Some(home) = self.shared.home() else { return };
        for number in called.new {
            let seat = Seat::new(&self.shared, home, NONE);
            let cell = Arc::new(Cell::new());
            let pooled = self.crew.pooled.then(|| Here::Process(seat.process.clone()));
            let task = Task {
                engine: self.clone(),
                number,
                cell,
                kill: None,
                seat,
                spent: false,
                current: None,
                input: None,
            };
            let callers = self.shared.callers();
            match pooled {
                // One process for all it does; otherwise each element has its own.
                Some(here) => spawn(CALLERS.scope(callers, CURRENT.scope(here, task.go()))),
                None => spawn(CALLERS.scope(callers, task.go())),
            }
        }
    }

    /// The one report of an element that failed by itself (TSK-046).
    fn report(&self, process: &ProcessRef, reason: &ExitReason) {
        let Some(home) = self.shared.home().filter(|home| home.context.is_heard()) else { return };
        let Some(node) = home.node.upgrade() else { return };
        let path = process.path().to_owned();
        let report = CrashReport {
            kind: node.spec().kind,
            ancestors: ancestors_of(&path),
            callers: self.shared.callers().iter().map(ToString::to_string).collect(),
            path,
            process: process.to_string(),
            label: self.shared.rules.label.as_deref().map(str::to_owned),
            reason: reason.clone(),
            last_message: None,
            state: String::new(),
            mailbox_depth: 0,
            linked: Vec::new(),
        };
        home.context.tell(&node, Some(process), LifecycleEvent::Crashed(Box::new(report)));
    }
}

impl<I, T, F, W> Launch<I> for Engine<I, T, F>
where
    I: Send + 'static,
    T: Send + 'static,
    F: Fn(I) -> W + Send + Sync + 'static,
    W: Future<Output = T> + Send + 'static,
{
    fn launch(self: Arc<Self>, batch: &mut Batch<I>, waits: bool) -> Result<usize, RequestError> {
        let now = self.shared.now();
        let mut items = batch.drain(..);
        let (called, new, missing) = {
            let mut board = self.shared.board();
            let wanted = if board.closing.is_none() { items.len() } else { 0 };
            let new = self.shared.take_places(board.alive(), wanted);
            for (index, input, copy) in items.by_ref().take(new) {
                board.begin(index, now, copy, input);
            }
            // The keeper counts the time of those that have begun.
            if board.unwatched && self.shared.rules.timeout.is_some() {
                board.unwatched = false;
                self.shared.attention.notify_one();
            }
            let called = self.crew.wanted(new, waits, self.guess.is_brief());
            (board.pool.call(called, self.crew.max), new, wanted - new)
        };
        // What is left of them is the user's, and goes outside of the lock.
        call_quietly("the drop of elements", || drop(items));
        self.answer(called);
        if missing > 0 { Err(self.shared.refusal()) } else { Ok(new) }
    }
}

/// No element.
const NONE: u64 = u64::MAX;

/// What an element is for others.
struct Seat<I, T> {
    process: ProcessRef,
    control: Arc<ItemControl<I, T>>,
}

impl<I: Send + 'static, T: Send + 'static> Seat<I, T> {
    fn new(shared: &Arc<Shared<I, T>>, home: &Home, index: u64) -> Self {
        let process = home.process.sibling(home.context.next_pid());
        let index = AtomicU64::new(index);
        let control = Arc::new(ItemControl { shared: shared.clone(), index });
        let reached: Arc<dyn Control> = control.clone();
        process.ended().reached_by(&reached);
        Self { process, control }
    }
}

/// One task of the executor, for one element after the other.
struct Task<I, T, F, W: Future> {
    engine: Arc<Engine<I, T, F>>,
    number: usize,
    cell: Arc<Cell<W>>,
    /// The cell, while it is not on the board.
    kill: Option<Arc<dyn Kill>>,
    seat: Seat<I, T>,
    /// The process of the seat was an element that is done.
    spent: bool,
    current: Option<Ticket>,
    /// Of the current one, until its first poll.
    input: Option<I>,
}

impl<I, T, F, W> Task<I, T, F, W>
where
    I: Send + 'static,
    T: Send + 'static,
    F: Fn(I) -> W + Send + Sync + 'static,
    W: Future<Output = T> + Send + 'static,
{
    async fn go(mut self) {
        poll_fn(|cx| self.work(cx)).await;
        self.seat.process.ended().announce(&ExitReason::Normal);
    }

    /// Works until nothing is left (ready), or it has to wait.
    fn work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // With one worker there is nobody to be woken; and what waited before is not brief.
        let counts = self.engine.crew.workers > 1 && self.current.is_none();
        let since = counts.then(|| self.engine.shared.now());
        for done in 1..=TURN {
            let ticket = match self.current {
                Some(ticket) => ticket,
                None => match self.next(cx) {
                    Poll::Ready(Some(ticket)) => ticket,
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                },
            };
            let (engine, cell, input) = (&self.engine, &self.cell, self.input.take());
            let poll = || cell.poll(ticket.index, input, &engine.make, cx);
            let polled = if engine.crew.pooled {
                poll()
            } else {
                CURRENT.sync_scope(Here::Process(self.seat.process.clone()), poll)
            };
            if let Some(since) = since
                && (polled.is_pending() || LOOKS.contains(&done))
            {
                let brief = polled.is_ready() && engine.shared.now().since(since) < BRIEF;
                if engine.guess.turn_is(brief) {
                    self.call_another();
                }
            }
            match polled {
                Poll::Pending => {
                    self.call_another();
                    return Poll::Pending;
                }
                Poll::Ready(Some(result)) => {
                    if let Err(reason) = &result {
                        engine.report(&self.seat.process, reason);
                    }
                    self.settle(ticket, result, done < TURN);
                }
                Poll::Ready(None) => {
                    self.rest();
                    self.engine.shared.ended(ticket.index);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Others may do what is in line, as this one has to wait.
    fn call_another(&self) {
        let called = {
            let mut board = self.engine.shared.board();
            if !board.in_line() {
                return;
            }
            board.pool.call(1, self.engine.crew.max)
        };
        self.engine.answer(called);
    }

    /// The current one is done. In a pool, whose tasks stay the process that they are, the next one is taken
    /// at once, while the board is locked, if there is time for `more`.
    fn settle(&mut self, ticket: Ticket, result: Result<T, ExitReason>, more: bool) {
        self.rest();
        let pooled = self.engine.crew.pooled;
        let more = more && pooled && result.is_ok();
        let (cell, control, input) = (&self.cell, &self.seat.control, &mut self.input);
        let own = (!pooled).then_some(&mut self.seat.process);
        self.current =
            self.engine.shared.settle(ticket, own, result, &mut self.kill, |board, kill| {
                if more { take(board, cell, kill, control, None, input) } else { None }
            });
    }

    fn rest(&mut self) {
        self.current = None;
        self.spent = !self.engine.crew.pooled;
        self.seat.control.index.store(NONE, Ordering::Release);
    }

    /// The next element; none when there will be no more.
    fn next(&mut self, cx: &Context<'_>) -> Poll<Option<Ticket>> {
        let shared = &self.engine.shared;
        if let (true, Some(home)) = (self.spent, shared.home()) {
            // One that nobody has kept can be the next one.
            if !self.seat.process.renew(home.context.next_pid()) {
                self.seat = Seat::new(shared, home, NONE);
            }
            self.spent = false;
        }
        let process = (!self.engine.crew.pooled).then(|| self.seat.process.clone());
        let (control, input) = (&self.seat.control, &mut self.input);
        let mut board = shared.board();
        let next = take(&mut board, &self.cell, &mut self.kill, control, process, input);
        if let Some(ticket) = next {
            self.current = Some(ticket);
            return Poll::Ready(Some(ticket));
        }
        if board.closing.is_some() {
            return Poll::Ready(None);
        }
        // Before anything can get in line: whoever puts it there wakes.
        board.pool.rest(self.number, cx.waker());
        Poll::Pending
    }
}

/// Takes the next element of the `board`, which is reached by `kill` from here on: the `cell`.
fn take<I, T, W: Future + Send + 'static>(
    board: &mut Board<I, T>,
    cell: &Arc<Cell<W>>,
    kill: &mut Option<Arc<dyn Kill>>,
    control: &ItemControl<I, T>,
    process: Option<ProcessRef>,
    place: &mut Option<I>,
) -> Option<Ticket> {
    let ticket = board.next_in_line(|_, input| {
        *place = Some(input);
        Body::Runs(kill.take().unwrap_or_else(|| cell.clone()), process)
    })?;
    control.index.store(ticket.index, Ordering::Release);
    Some(ticket)
}

impl<I, T, F, W: Future> Drop for Task<I, T, F, W> {
    /// With the executor: nothing of it runs any more.
    fn drop(&mut self) {
        if let Some(ticket) = self.current.take() {
            let input = self.input.take();
            call_quietly("the drop of an element", || drop(input));
            self.cell.clear();
            let (process, killed) = (Some(&mut self.seat.process), Err(ExitReason::Killed));
            self.engine.shared.settle(ticket, process, killed, &mut None, |_, _| ());
        }
    }
}

/// How those reach an element that it is linked to.
struct ItemControl<I, T> {
    shared: Arc<Shared<I, T>>,
    index: AtomicU64,
}

impl<I: Send + 'static, T: Send + 'static> Control for ItemControl<I, T> {
    fn stop(&self, reason: &ExitReason) {
        let index = self.index.load(Ordering::Acquire);
        if index != NONE {
            self.shared.end_one(index, reason);
        }
    }

    fn kill(&self) {
        self.stop(&ExitReason::Killed);
    }

    #[cfg(feature = "testing")]
    fn crash(&self) {
        self.kill();
    }
}

/// The tasks of streams: bounded, counted by the node of their stream, and gone before it ends.
#[expect(clippy::disallowed_methods, reason = "they do the elements of a stream, which owns them")]
fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    // It tells by itself what became of it; no panic of the user's code gets here.
    drop(crate::sync::spawn(work));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_does_what_is_brief_and_all_workers_what_is_not() {
        let crew = Crew { max: 8, workers: 2, pooled: false };
        assert_eq!(crew.wanted(8, true, true), 1);
        assert_eq!(crew.wanted(8, true, false), 2, "others share the work");
        assert_eq!(crew.wanted(8, false, true), 2, "the consumer goes on, and elements beside it");
        assert_eq!(crew.wanted(1, true, false), 1);
        assert_eq!(crew.wanted(0, true, false), 0);
    }

    #[test]
    fn another_one_is_called_once_where_a_turn_turns_out_not_to_be_brief() {
        let guess = Guess::default();
        let turns = [false, true, true, false, false, true, false];
        let called = turns.map(|brief| {
            let called = guess.turn_is(brief);
            assert_eq!(guess.is_brief(), brief);
            called
        });
        assert_eq!(called, [false, false, false, true, false, false, true]);
    }
}
