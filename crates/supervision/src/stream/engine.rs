//! The tasks of a stream: one for each element, or as many as may run at a time for all of them.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use perennial_core::ExitReason;

use super::{
    board::{Body, Ticket},
    cell::{Cell, Kill},
    pool::Called,
    shared::{Home, Shared},
};
use crate::{
    CrashReport, LifecycleEvent, ProcessRef,
    gen_server::ancestors_of,
    life::Control,
    panics::call_quietly,
    process::{CALLERS, CURRENT},
};

/// Elements that one pooled task may do before it lets others run.
const TURN: usize = 64;

/// Pooled tasks that are woken for a batch; one that has to wait wakes the next. More would find that
/// the first have done the work of small elements already.
const AT_ONCE: usize = 2;

/// Elements that are to be started: index, element, and a copy for the consumer.
pub(super) type Batch<I> = Vec<(u64, I, Option<I>)>;

/// Starts elements, whatever makes their futures.
pub(super) trait Launch<I>: Send + Sync {
    /// Starts `batch` and leaves it empty.
    ///
    /// # Errors
    ///
    /// When there is no place for one of them: those before it run, those behind are dropped.
    fn launch(self: Arc<Self>, batch: &mut Batch<I>) -> Result<(), crate::RequestError>;
}

/// How the elements of one stream are worked on.
pub(super) struct Engine<I, T, F, W: Future> {
    pub(super) shared: Arc<Shared<I, T>>,
    make: F,
    bench: Mutex<Bench<I, T, W>>,
    /// How many tasks there may be; none where each element has one of its own.
    pool: Option<usize>,
}

/// What is used again and again.
struct Bench<I, T, W: Future> {
    /// Of elements that are done, the oldest first.
    spare: VecDeque<Seat<I, T, W>>,
    /// Empty between two batches.
    runs: Vec<(Seat<I, T, W>, Ticket)>,
}

/// Where one element at a time is worked on.
struct Seat<I, T, W: Future> {
    cell: Arc<Cell<I, W>>,
    control: Arc<ItemControl<I, T>>,
    process: ProcessRef,
}

impl<I, T, F, W> Engine<I, T, F, W>
where
    I: Send + 'static,
    T: Send + 'static,
    F: Fn(I) -> W + Send + Sync + 'static,
    W: Future<Output = T> + Send + 'static,
{
    /// With `pool` there are no more than so many tasks, each for many elements.
    pub(super) fn new(shared: Arc<Shared<I, T>>, make: F, pool: Option<usize>) -> Arc<Self> {
        let bench = Mutex::new(Bench { spare: VecDeque::new(), runs: Vec::new() });
        Arc::new(Self { shared, make, bench, pool })
    }

    fn bench(&self) -> MutexGuard<'_, Bench<I, T, W>> {
        self.bench.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_each(self: &Arc<Self>, batch: &mut Batch<I>) -> Result<(), crate::RequestError> {
        let Some(home) = self.shared.home() else { return Ok(()) };
        let now = self.shared.now();
        // Little is done under the locks: the tasks need them as well.
        let (mut runs, mut spare) = {
            let mut bench = self.bench();
            let runs = std::mem::take(&mut bench.runs);
            let used = bench.spare.len().min(batch.len());
            (runs, bench.spare.drain(..used).collect::<Vec<_>>().into_iter())
        };
        let mut entries = Vec::with_capacity(batch.len());
        for (index, input, copy) in batch.drain(..) {
            let seat = self.seat(home, spare.next(), index);
            seat.cell.put(index, input);
            let body = Body::Runs(seat.cell.clone(), Some(seat.process.clone()));
            entries.push((seat, index, copy, body));
        }
        let (mut outcome, mut unused) = (Ok(()), Vec::new());
        {
            let mut board = self.shared.board();
            for (seat, index, copy, body) in entries {
                if outcome.is_ok() && board.closing.is_none() {
                    outcome = self.shared.take_place(board.alive());
                }
                if outcome.is_ok() && board.closing.is_none() {
                    runs.push((seat, board.begin(index, now, copy, body)));
                } else {
                    unused.push((seat, copy, body));
                }
            }
            self.look_again(&mut board.unwatched);
        }
        // What is in them is the user's, and goes outside of the lock.
        call_quietly("the drop of elements", || drop(unused));
        let callers = self.shared.callers();
        for (seat, ticket) in runs.drain(..) {
            let process = seat.process.clone();
            let run = Run { engine: self.clone(), seat: Some(seat), ticket };
            spawn(CURRENT.scope(process, CALLERS.scope(callers.clone(), run.go())));
        }
        self.bench().runs = runs;
        outcome
    }

    /// Where an element is worked on. A process that nobody has kept can be another one.
    fn seat(&self, home: &Home, used: Option<Seat<I, T, W>>, index: u64) -> Seat<I, T, W> {
        let pid = home.context.next_pid();
        let cell = match used {
            Some(mut seat) => {
                if seat.process.renew(pid) {
                    seat.control.index.store(index, Ordering::Release);
                    return seat;
                }
                seat.cell
            }
            None => Arc::new(Cell::new()),
        };
        let index = AtomicU64::new(index);
        let control = Arc::new(ItemControl { shared: self.shared.clone(), index });
        let (process, reached) = (home.process.sibling(pid), control.clone());
        let reached: Arc<dyn Control> = reached;
        process.ended().reached_by(&reached);
        Seat { cell, control, process }
    }

    /// The keeper counts the time of those that have begun.
    fn look_again(&self, unwatched: &mut bool) {
        if *unwatched && self.shared.rules.timeout.is_some() {
            *unwatched = false;
            self.shared.attention.notify_one();
        }
    }

    fn put_in_line(
        self: &Arc<Self>,
        pool: usize,
        batch: &mut Batch<I>,
    ) -> Result<(), crate::RequestError> {
        let now = self.shared.now();
        let mut outcome = Ok(());
        let mut new = 0;
        let mut items = batch.drain(..);
        let called = {
            let mut board = self.shared.board();
            while board.closing.is_none() && items.len() > 0 {
                outcome = self.shared.take_place(board.alive());
                if outcome.is_err() {
                    break;
                }
                if let Some((index, input, copy)) = items.next() {
                    board.begin(index, now, copy, Body::Waits(input));
                    new += 1;
                }
            }
            self.look_again(&mut board.unwatched);
            board.pool.call(new.min(AT_ONCE), pool)
        };
        // What is left of them is the user's, and goes outside of the lock.
        call_quietly("the drop of elements", || drop(items));
        self.answer(called);
        outcome
    }

    fn answer(self: &Arc<Self>, called: Called) {
        called.idle.into_iter().for_each(Waker::wake);
        called.new.for_each(|number| self.start_puller(number));
    }

    fn start_puller(self: &Arc<Self>, number: usize) {
        let Some(home) = self.shared.home() else { return };
        let process = home.process.sibling(home.context.next_pid());
        let index = AtomicU64::new(NONE);
        let control = Arc::new(ItemControl { shared: self.shared.clone(), index });
        let reached: Arc<dyn Control> = control.clone();
        process.ended().reached_by(&reached);
        let puller = Puller {
            engine: self.clone(),
            number,
            cell: Arc::new(Cell::new()),
            control,
            process: process.clone(),
            current: None,
        };
        let work = CALLERS.scope(self.shared.callers(), puller.go());
        spawn(CURRENT.scope(process, work));
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

impl<I, T, F, W> Launch<I> for Engine<I, T, F, W>
where
    I: Send + 'static,
    T: Send + 'static,
    F: Fn(I) -> W + Send + Sync + 'static,
    W: Future<Output = T> + Send + 'static,
{
    fn launch(self: Arc<Self>, batch: &mut Batch<I>) -> Result<(), crate::RequestError> {
        match self.pool {
            Some(pool) => self.put_in_line(pool, batch),
            None => self.start_each(batch),
        }
    }
}

/// The task of one element.
struct Run<I: Send + 'static, T: Send + 'static, F, W>
where
    F: Fn(I) -> W + Send + Sync + 'static,
    W: Future<Output = T> + Send + 'static,
{
    engine: Arc<Engine<I, T, F, W>>,
    /// Until the element is done.
    seat: Option<Seat<I, T, W>>,
    ticket: Ticket,
}

impl<I, T, F, W> Run<I, T, F, W>
where
    I: Send + 'static,
    T: Send + 'static,
    F: Fn(I) -> W + Send + Sync + 'static,
    W: Future<Output = T> + Send + 'static,
{
    async fn go(mut self) {
        let (index, engine, seat) = (self.ticket.index, &self.engine, &self.seat);
        let result = poll_fn(|cx| match seat {
            Some(seat) => seat.cell.poll(index, &engine.make, cx),
            None => Poll::Ready(None),
        })
        .await;
        let Some(seat) = self.seat.take() else { return };
        let engine = &self.engine;
        match result {
            Some(result) => {
                if let Err(reason) = &result {
                    engine.report(&seat.process, reason);
                }
                // Nobody else has the cell once the element is settled.
                engine.shared.settle(self.ticket, Some(&seat.process), result);
                engine.bench().spare.push_back(seat);
            }
            None => engine.shared.ended(index),
        }
    }
}

impl<I: Send + 'static, T: Send + 'static, F, W> Drop for Run<I, T, F, W>
where
    F: Fn(I) -> W + Send + Sync + 'static,
    W: Future<Output = T> + Send + 'static,
{
    /// With the executor: nothing of it runs any more.
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            seat.cell.kill(self.ticket.index);
            let killed = Err(ExitReason::Killed);
            self.engine.shared.settle(self.ticket, Some(&seat.process), killed);
        }
    }
}

/// No element.
const NONE: u64 = u64::MAX;

/// One task for many elements.
struct Puller<I, T, F, W: Future> {
    engine: Arc<Engine<I, T, F, W>>,
    number: usize,
    cell: Arc<Cell<I, W>>,
    control: Arc<ItemControl<I, T>>,
    process: ProcessRef,
    current: Option<Ticket>,
}

impl<I, T, F, W> Puller<I, T, F, W>
where
    I: Send + 'static,
    T: Send + 'static,
    F: Fn(I) -> W + Send + Sync + 'static,
    W: Future<Output = T> + Send + 'static,
{
    async fn go(mut self) {
        poll_fn(|cx| self.work(cx)).await;
        self.process.ended().announce(&ExitReason::Normal);
    }

    /// Works until nothing is left (ready), or it has to wait.
    fn work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let engine = self.engine.clone();
        for _ in 0..TURN {
            let ticket = match self.current {
                Some(ticket) => ticket,
                None => match self.next(cx) {
                    Poll::Ready(Some(ticket)) => ticket,
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                },
            };
            match self.cell.poll(ticket.index, &engine.make, cx) {
                Poll::Pending => {
                    // Others may do what waits meanwhile.
                    let called = {
                        let mut board = engine.shared.board();
                        let wanted = usize::from(board.in_line());
                        board.pool.call(wanted, engine.pool.unwrap_or(0))
                    };
                    engine.answer(called);
                    return Poll::Pending;
                }
                Poll::Ready(Some(result)) => {
                    if let Err(reason) = &result {
                        engine.report(&self.process, reason);
                    }
                    self.rest();
                    engine.shared.settle(ticket, None, result);
                }
                Poll::Ready(None) => {
                    self.rest();
                    engine.shared.ended(ticket.index);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn rest(&mut self) {
        self.current = None;
        self.control.index.store(NONE, Ordering::Release);
    }

    /// The next element; none when there will be no more.
    fn next(&mut self, cx: &Context<'_>) -> Poll<Option<Ticket>> {
        let engine = &self.engine;
        let mut board = engine.shared.board();
        let cell = &self.cell;
        let next = board.next_in_line(|index, input| {
            cell.put(index, input);
            Body::Runs(cell.clone(), None)
        });
        if let Some(ticket) = next {
            self.control.index.store(ticket.index, Ordering::Release);
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

impl<I, T, F, W: Future> Drop for Puller<I, T, F, W> {
    /// With the executor: nothing of it runs any more.
    fn drop(&mut self) {
        if let Some(ticket) = self.current.take() {
            self.engine.shared.settle(ticket, None, Err(ExitReason::Killed));
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
        self.stop(&ExitReason::Killed);
    }
}

/// The tasks of streams: bounded, counted by the node of their stream, and gone before it ends.
#[expect(clippy::disallowed_methods, reason = "each is an element of a stream, which owns it")]
fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    // It tells by itself what became of it; no panic of the user's code gets here.
    drop(tokio::spawn(work));
}
