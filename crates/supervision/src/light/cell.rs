//! One light server as everybody reaches it, over all its incarnations: the lock, and who is woken.

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock, PoisonError, Weak},
    task::Waker,
    time::Duration,
};

use perennial_core::{ChildId, ExitReason, Overflow, Uptime};
use tokio::sync::Semaphore;

use super::{
    desk::{Desk, Look, Phase, Posted, Remains, Stamp, Todo},
    home::Home,
    picture::mailbox,
};
use crate::{
    Mailbox, ProcessRef, ProcessStatus,
    address::{Held, Incarnation, Post, Refused},
    child::StartCx,
    life::Control,
    load::{Place, Seen},
    panics::{call_quietly, guard_blocking},
    sync::{
        Mutex, MutexGuard, Notify,
        atomic::{
            AtomicU32,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

/// No incarnation has this number.
const NONE: u32 = 0;

/// What waits in a mailbox. The message goes first: it may have the port of what is held.
pub(crate) struct Parcel<M> {
    pub(super) message: M,
    /// Of a call, until it was handled.
    pub(super) held: Held,
}

pub(crate) struct Cell<M> {
    id: ChildId,
    /// Its place in the order in which the children of its supervisor were started.
    order: u64,
    home: Arc<Home<M>>,
    desk: Mutex<Desk<Parcel<M>>>,
    /// Of its task; set when that is polled first.
    task: OnceLock<Waker>,
    /// Told of every start and end.
    changed: Notify,
    /// What is free of its mailbox, where senders wait for that.
    room: Option<Box<Semaphore>>,
    /// The kind of what it handles, by its number with its home: no lock is taken where another follows.
    kind: AtomicU32,
    /// The incarnation that is to be dropped at its next await.
    killed: AtomicU32,
    /// The incarnation that is to panic.
    #[cfg(feature = "testing")]
    crashed: AtomicU32,
}

/// An incarnation that somebody has met: made when it is asked for, for most never are.
pub(super) struct Known {
    pub(super) process: ProcessRef,
    /// How those reach it that are linked to it.
    control: Arc<dyn Control>,
}

impl<M> Cell<M> {
    pub(super) fn id(&self) -> &ChildId {
        &self.id
    }

    pub(super) fn order(&self) -> u64 {
        self.order
    }

    pub(super) fn home(&self) -> &Arc<Home<M>> {
        &self.home
    }

    pub(super) fn desk(&self) -> MutexGuard<'_, Desk<Parcel<M>>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn path(&self) -> Arc<str> {
        self.home.path_of(&self.id)
    }

    fn bound(&self) -> Mailbox {
        self.home.spec().mailbox
    }

    fn stamp(&self) -> Stamp {
        self.home.context().clock().coarse()
    }

    fn wake(&self) {
        // One that has not been polled yet looks before it waits.
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

/// What its own task does.
impl<M: Send + 'static> Cell<M> {
    pub(super) fn new(id: ChildId, order: u64, home: Arc<Home<M>>) -> Arc<Self> {
        let Mailbox { capacity, overflow } = home.spec().mailbox;
        let waits = overflow == Overflow::Wait;
        Arc::new(Self {
            id,
            order,
            desk: Mutex::new(Desk::new()),
            task: OnceLock::new(),
            changed: Notify::new(),
            room: waits.then(|| Box::new(Semaphore::new(capacity as usize))),
            kind: AtomicU32::new(0),
            killed: AtomicU32::new(NONE),
            #[cfg(feature = "testing")]
            crashed: AtomicU32::new(NONE),
            home,
        })
    }

    /// That of one incarnation, `cx.process`, which is supervised as any child.
    pub(crate) fn alone(cx: &StartCx) -> Arc<Self> {
        let cell = Self::new(cx.node.spec().id.clone(), 0, Home::alone(cx));
        let control: Arc<dyn Control> =
            Arc::new(One { cell: Arc::downgrade(&cell), incarnation: 1 });
        let known = Known { process: cx.process.clone(), control };
        *cell.desk().known() = Some(Box::new(known));
        cell
    }

    /// How the only incarnation is controlled.
    pub(crate) fn control(self: &Arc<Self>) -> Arc<dyn Control> {
        self.met(&mut self.desk()).control.clone()
    }

    /// The only incarnation, as its address reaches it.
    pub(crate) fn reached(self: &Arc<Self>) -> Incarnation<M> {
        let process = self.met(&mut self.desk()).process.clone();
        Incarnation::new(Arc::new(Reached { cell: self.clone(), incarnation: 1, process }))
    }

    /// The only incarnation ended; what waited goes to the caller, who drops it.
    pub(crate) fn close(&self, reason: &ExitReason) -> Vec<Parcel<M>> {
        let remains = self.end(reason, self.home.context().clock().now(), false);
        self.over();
        remains.messages
    }

    /// Whose task it is. A task keeps its waker for life.
    pub(super) fn attend(&self, waker: &Waker) {
        self.task.get_or_init(|| waker.clone());
    }

    pub(super) fn is_killed(&self, incarnation: u32) -> bool {
        self.killed.load(Acquire) == incarnation
    }

    #[cfg(feature = "testing")]
    pub(super) fn is_crashed(&self, incarnation: u32) -> bool {
        self.crashed.load(Acquire) == incarnation
    }

    /// What the server is to do next.
    pub(super) fn next(&self) -> Todo<Parcel<M>> {
        let todo = self.desk().next(|| self.stamp());
        if let (Some(room), Todo::Handle(_)) = (&self.room, &todo) {
            room.add_permits(1);
        }
        todo
    }

    /// It handles a message of this kind from here on.
    pub(super) fn handles(&self, kind: &'static str) {
        self.kind.store(self.home.kinds().number(kind), Relaxed);
    }

    pub(super) fn started(&self) {
        let now = self.home.context().clock().now();
        self.desk().started(now);
        self.changed.notify_waiters();
    }

    pub(super) fn ending(&self) {
        let now = self.stamp();
        self.desk().ending(now);
    }

    /// The present incarnation ended; whoever is called with what remains of it has yet to be told.
    pub(super) fn end(
        &self,
        reason: &ExitReason,
        now: Uptime,
        comes_back: bool,
    ) -> Remains<Parcel<M>> {
        let remains = self.desk().end(reason, now, comes_back);
        if let Some(room) = &self.room {
            room.add_permits(remains.messages.len());
        }
        remains
    }

    /// The end of the present incarnation has been announced: its callers are told as well.
    pub(super) fn told(&self) {
        self.desk().told();
        self.changed.notify_waiters();
    }

    pub(super) fn begin_again(&self) -> bool {
        self.desk().begin_again()
    }

    pub(super) fn over(&self) {
        self.desk().over();
        if let Some(room) = &self.room {
            room.close();
        }
        self.changed.notify_waiters();
    }
}

/// What others do.
impl<M: Send + 'static> Cell<M> {
    /// Puts a message into the mailbox of `to`, or of whichever incarnation is there: in its `place`, where
    /// that was waited for. What is refused is dropped.
    pub(super) fn post(
        &self,
        to: Option<u32>,
        message: M,
        place: Option<Place<'_>>,
    ) -> Result<(), Refused> {
        let put = self.put(to, Parcel { message, held: Held::nothing() }, place);
        put.map(|_| ()).map_err(|(why, _)| why)
    }

    /// As [`post`](Self::post); answers to which incarnation it was sent, and hands back what is refused.
    pub(super) fn put(
        &self,
        to: Option<u32>,
        parcel: Parcel<M>,
        place: Option<Place<'_>>,
    ) -> Result<u32, (Refused, Parcel<M>)> {
        let place = match &self.room {
            // Whoever waits for room goes first: there is none to be had while somebody does.
            Some(room) => match place.map_or_else(|| room.try_acquire(), Ok) {
                Ok(place) => Some(place),
                Err(_) => return Err((self.desk().refuse(), parcel)),
            },
            None => None,
        };
        let now = self.stamp();
        let mut desk = self.desk();
        let posted = desk.post(self.bound(), to, parcel, now);
        let incarnation = desk.incarnation();
        drop(desk);
        match posted {
            Posted::Taken { wake, displaced } => {
                if let Some(place) = place {
                    place.forget();
                }
                if wake {
                    self.wake();
                }
                if let Some(displaced) = displaced {
                    call_quietly("the drop of a message", move || drop(displaced));
                }
                Ok(incarnation)
            }
            Posted::Refused(why, parcel) => Err((why, parcel)),
        }
    }

    pub(super) fn room(&self) -> Option<&Semaphore> {
        self.room.as_deref()
    }

    /// Asks for the end of `incarnation`, or of whichever is there.
    pub(super) fn ask(&self, incarnation: Option<u32>, reason: &ExitReason) {
        let is_up = self.desk().ask(incarnation, reason);
        if is_up {
            self.wake();
        }
    }

    /// Asks for its end for good.
    pub(super) fn doom(&self, reason: &ExitReason) {
        let mut desk = self.desk();
        desk.doom();
        desk.ask(None, reason);
        drop(desk);
        self.wake();
    }

    /// Ends it for good, without cleanup.
    pub(super) fn kill_for_good(&self) {
        let mut desk = self.desk();
        desk.doom();
        self.killed.store(desk.incarnation(), Release);
        drop(desk);
        self.wake();
    }

    /// What can be seen of it, and who has been met.
    pub(super) fn look(&self) -> (Look, Option<ProcessRef>) {
        let handles = self.home.kinds().name(self.kind.load(Relaxed));
        let mut desk = self.desk();
        let process = desk.known().as_ref().map(|known| known.process.clone());
        (desk.look(handles), process)
    }

    /// What it has to do and is at; behind its end, what was not delivered.
    fn seen(&self) -> Seen {
        let ((look, _), now) = (self.look(), self.stamp());
        let since =
            |then: Stamp| (then != 0).then(|| Duration::from_nanos(now.saturating_sub(then)));
        Seen {
            depth: if look.phase.is_up() { look.depth } else { look.undelivered },
            taken: look.handled,
            current: since(look.begun).map(|running| (look.callback, running)),
            working: since(look.working),
            oldest: since(look.oldest),
            mailbox: mailbox(self.bound(), &look),
        }
    }

    fn kill(&self, incarnation: u32) {
        let desk = self.desk();
        if desk.is_up(incarnation) {
            self.killed.store(incarnation, Release);
        }
        drop(desk);
        self.wake();
    }

    /// Waits until `look` finds what it looks for.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost.
    pub(super) async fn until<T>(
        &self,
        mut look: impl FnMut(&mut Desk<Parcel<M>>) -> Option<T>,
    ) -> T {
        loop {
            // Made before the look: a change after it is not missed.
            let changed = self.changed.notified();
            if let Some(found) = look(&mut self.desk()) {
                return found;
            }
            changed.await;
        }
    }

    /// The present incarnation in the hands of others, if there is one now.
    pub(crate) fn process(self: &Arc<Self>) -> Option<ProcessRef> {
        let mut desk = self.desk();
        desk.phase().is_up().then(|| self.met(&mut desk).process.clone())
    }

    /// As [`process`](Self::process), for its own code: one whose end was noted meanwhile, by whoever gave it
    /// up, is another one that has ended.
    pub(super) fn own_process(self: &Arc<Self>, incarnation: u32) -> ProcessRef {
        let mut desk = self.desk();
        if desk.is_up(incarnation) {
            return self.met(&mut desk).process.clone();
        }
        drop(desk);
        let process = ProcessRef::new(self.path(), self.home.context().next_pid());
        process.ended().announce(&ExitReason::Killed);
        process
    }

    fn met<'a>(self: &Arc<Self>, desk: &'a mut Desk<Parcel<M>>) -> &'a Known {
        let incarnation = desk.incarnation();
        desk.known().get_or_insert_with(|| {
            let process = ProcessRef::new(self.path(), self.home.context().next_pid());
            let one = One { cell: Arc::downgrade(self), incarnation };
            let control: Arc<dyn Control> = Arc::new(one);
            process.ended().drive();
            process.ended().reached_by(&control);
            Box::new(Known { process, control })
        })
    }

    fn met_now(self: &Arc<Self>) -> Option<(u32, ProcessRef)> {
        let mut desk = self.desk();
        if !desk.phase().is_up() {
            return None;
        }
        Some((desk.incarnation(), self.met(&mut desk).process.clone()))
    }

    fn reaching(self: &Arc<Self>, (incarnation, process): (u32, ProcessRef)) -> Incarnation<M> {
        Incarnation::new(Arc::new(Reached { cell: self.clone(), incarnation, process }))
    }

    /// The present incarnation as an address reaches any.
    pub(crate) fn now(self: &Arc<Self>) -> Option<Incarnation<M>> {
        self.met_now().map(|met| self.reaching(met))
    }

    /// As [`now`](Self::now); waits while one is coming. The caller brings the deadline.
    pub(crate) async fn current(self: &Arc<Self>) -> Option<Incarnation<M>> {
        self.present().await.map(|met| self.reaching(met))
    }

    /// Number and process of the present incarnation, as [`current`](Self::current).
    pub(super) async fn present(self: &Arc<Self>) -> Option<(u32, ProcessRef)> {
        loop {
            self.until(|desk| desk.there()).await?;
            if let Some(met) = self.met_now() {
                return Some(met);
            }
        }
    }

    #[cfg(feature = "testing")]
    pub(super) fn life(self: &Arc<Self>) -> Option<crate::life::Life> {
        let mut desk = self.desk();
        match desk.phase() {
            Phase::Running | Phase::Ending => (),
            Phase::Starting | Phase::Between { .. } | Phase::Over => return None,
        }
        let Known { process, control } = self.met(&mut desk);
        Some(crate::life::Life { process: process.clone(), control: control.clone() })
    }
}

/// One incarnation as those reach it that are linked to it. Holds nothing of it.
struct One<M> {
    cell: Weak<Cell<M>>,
    incarnation: u32,
}

impl<M: Send + 'static> Control for One<M> {
    fn stop(&self, reason: &ExitReason) {
        if let Some(cell) = self.cell.upgrade() {
            cell.ask(Some(self.incarnation), reason);
        }
    }

    fn kill(&self) {
        if let Some(cell) = self.cell.upgrade() {
            cell.kill(self.incarnation);
        }
    }

    fn ending(&self) -> Option<ExitReason> {
        let cell = self.cell.upgrade()?;
        cell.is_killed(self.incarnation).then_some(ExitReason::Killed)
    }

    fn load(&self) -> Option<Seen> {
        Some(self.cell.upgrade()?.seen())
    }

    #[cfg(feature = "testing")]
    fn crash(&self) {
        if let Some(cell) = self.cell.upgrade() {
            cell.crashed.store(self.incarnation, Release);
            cell.wake();
        }
    }
}

/// One incarnation as an address reaches it.
struct Reached<M> {
    cell: Arc<Cell<M>>,
    incarnation: u32,
    process: ProcessRef,
}

impl<M: Send + 'static> Post<M> for Reached<M> {
    fn process(&self) -> &ProcessRef {
        &self.process
    }

    fn post(&self, message: M, place: Option<Place<'_>>) -> Result<(), Refused> {
        self.cell.post(Some(self.incarnation), message, place)
    }

    fn room(&self) -> Option<&Semaphore> {
        self.cell.room()
    }

    fn terminate(&self, reason: &ExitReason) {
        self.cell.ask(Some(self.incarnation), reason);
    }

    fn look(&self) -> (ProcessStatus, u64, Vec<ProcessRef>) {
        let (look, _) = self.cell.look();
        let status = match look.phase {
            Phase::Starting => ProcessStatus::Starting,
            Phase::Running => ProcessStatus::Running,
            Phase::Ending | Phase::Between { .. } | Phase::Over => ProcessStatus::Stopping,
        };
        (status, look.depth, Vec::new())
    }

    fn inspect(&self, _: Box<dyn Any + Send>) -> Result<(), Refused> {
        Err(Refused::Stranger)
    }
}

impl<M> fmt::Debug for Cell<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Whose code runs, as those see it who may need no more than that.
pub(crate) trait Somebody: Send + Sync {
    /// The incarnation, while there is one.
    fn process(self: Arc<Self>) -> Option<ProcessRef>;
    /// Whether `process` is its present incarnation.
    fn is(&self, process: &ProcessRef) -> bool;
    /// Where it is, which nobody else is.
    fn place(&self) -> usize;
}

impl<M: Send + 'static> Somebody for Cell<M> {
    fn process(self: Arc<Self>) -> Option<ProcessRef> {
        Cell::process(&self)
    }

    fn is(&self, process: &ProcessRef) -> bool {
        self.desk().known().as_ref().is_some_and(|known| known.process == *process)
    }

    fn place(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl Known {
    /// The end of the incarnation is announced: to whoever watches it and is linked to it.
    pub(super) fn announce(self, reason: &ExitReason) {
        let Self { process, control } = self;
        let _ = guard_blocking(|| process.ended().announce(reason));
        drop(control);
    }
}
