//! What an actor has to do and what it is at: written by itself and by those who send to it, read by
//! anybody. Nobody waits for it, so that it tells of one that hangs as well.
//!
//! A call to one that has nothing to do costs one look at the coarse clock, when its callback begins. The
//! instant at which a message came is noted only where messages have to wait, and not for each of them
//! (see [`marks`]).

mod marks;

use std::{sync::PoisonError, time::Duration};

use perennial_core::{Overflow, tree};
use tokio::sync::{Semaphore, SemaphorePermit};

use self::marks::Marks;
use crate::{
    Clock, Mailbox,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// The present load of one incarnation. Numbers may be moments apart from each other.
#[derive(Debug)]
pub(crate) struct Load {
    clock: Clock,
    bound: Mailbox,
    /// Whether one at a time changes how many wait, as behind the lock of a queue.
    locked: bool,
    /// Where senders wait for room in turn: what is free of it, for a mailbox that lets them wait.
    room: Option<Box<Semaphore>>,
    /// Messages that found it full: what the bound's policy says became of them.
    overflowed: AtomicU64,
    /// Messages that wait.
    depth: AtomicU64,
    /// Messages that were taken. Written by the actor alone, as all below but for the marks.
    taken: AtomicU64,
    /// The [`Stamp`] at which the callback in progress began; none while it waits for messages.
    begun: AtomicU64,
    /// The stamp since which it has not been without work.
    working: AtomicU64,
    /// The address of the callback's name: that it changed is seen without a lock.
    named: AtomicUsize,
    /// The number of the message from which on the next mark is due; 0 voids those there are.
    mark_due: AtomicU64,
    rare: Mutex<Rare>,
}

/// What is written now and then only.
#[derive(Debug, Default)]
struct Rare {
    callback: &'static str,
    marks: Marks,
}

/// An instant of [`Clock::coarse`]; 0 is none.
type Stamp = u64;

/// What was seen of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) depth: u64,
    pub(crate) taken: u64,
    /// The callback in progress, and for how long.
    pub(crate) current: Option<(&'static str, Duration)>,
    /// How long it has not been without work.
    pub(crate) working: Option<Duration>,
    /// How long the first message waits, where that is known.
    pub(crate) oldest: Option<Duration>,
    pub(crate) mailbox: tree::Mailbox,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may wait.
    Taken,
    /// It may wait, and the oldest one must go.
    InsteadOfOldest,
    /// Its sender is told.
    Refused,
    /// Nobody is told.
    Dropped,
}

/// Room for one message, which was waited for.
pub(crate) type Place<'a> = SemaphorePermit<'a>;

impl Load {
    pub(crate) fn new(clock: Clock, bound: Mailbox) -> Self {
        let waits = bound.overflow == Overflow::Wait;
        let room = waits.then(|| Box::new(Semaphore::new(bound.capacity as usize)));
        Self {
            clock,
            bound,
            locked: false,
            room,
            overflowed: AtomicU64::new(0),
            depth: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            working: AtomicU64::new(0),
            named: AtomicUsize::new(0),
            mark_due: AtomicU64::new(0),
            rare: Mutex::default(),
        }
    }

    /// Messages are admitted and taken behind a lock.
    pub(crate) fn behind_a_lock(self) -> Self {
        Self { locked: true, ..self }
    }

    /// Changes how many wait; answers how many did before.
    fn change(&self, change: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        if !self.locked {
            return self.depth.fetch_update(Relaxed, Relaxed, change).ok();
        }
        let before = self.depth();
        self.depth.store(change(before)?, Relaxed);
        Some(before)
    }

    pub(crate) fn depth(&self) -> u64 {
        self.depth.load(Relaxed)
    }

    /// Where senders wait for room, if they do.
    pub(crate) fn room(&self) -> Option<&Semaphore> {
        self.room.as_deref()
    }

    /// Nothing is taken any more: nobody waits for room.
    pub(crate) fn close(&self) {
        if let Some(room) = &self.room {
            room.close();
        }
    }

    /// Whether one more message may wait, for which there is a `place` already or not; if so it counts
    /// from here on.
    pub(crate) fn admit(&self, place: Option<Place<'_>>) -> Admission {
        if let Some(room) = &self.room {
            // Whoever waits for room goes first: there is none to be had while somebody does.
            match place.map_or_else(|| room.try_acquire(), Ok) {
                Ok(place) => place.forget(),
                Err(_) => return self.overflow(),
            }
        }
        let capacity = u64::from(self.bound.capacity);
        let Some(before) = self.change(|depth| (depth < capacity).then_some(depth + 1)) else {
            return self.overflow();
        };
        if before == 0 && self.begun.load(Relaxed) == 0 {
            // It is taken at once. What was noted is of messages that are gone.
            self.mark_due.store(0, Relaxed);
        } else {
            self.note(before);
        }
        Admission::Taken
    }

    fn overflow(&self) -> Admission {
        self.overflowed.fetch_add(1, Relaxed);
        match self.bound.overflow {
            Overflow::Reject | Overflow::Wait => Admission::Refused,
            Overflow::DropNewest => Admission::Dropped,
            Overflow::DropOldest => {
                self.note(u64::from(self.bound.capacity) - 1);
                Admission::InsteadOfOldest
            }
        }
    }

    /// One that was admitted was not sent after all.
    pub(crate) fn withdrawn(&self) {
        // Only what was admitted is withdrawn.
        self.change(|depth| depth.checked_sub(1));
    }

    /// Messages that left, taken or dropped for another: the number of the last of them.
    fn left(&self) -> u64 {
        let dropped = match self.bound.overflow {
            Overflow::DropOldest => self.overflowed.load(Relaxed),
            Overflow::Reject | Overflow::Wait | Overflow::DropNewest => 0,
        };
        self.taken.load(Relaxed) + dropped
    }

    /// Notes when the message came that found `before` others waiting, if that is due.
    fn note(&self, before: u64) {
        let number = self.left() + before + 1;
        let due = self.mark_due.load(Relaxed);
        let is_first = before == 0 || due == 0;
        if is_first || number >= due {
            let now = self.stamp();
            let marks = &mut self.rare().marks;
            if is_first {
                marks.clear();
            }
            marks.add(number, now);
            self.mark_due.store(number + marks::stride(before), Relaxed);
        }
    }

    /// A message left. Messages an actor sends itself past its address do not count.
    pub(crate) fn taken(&self) {
        if self.change(|depth| depth.checked_sub(1)).is_some() {
            self.taken.store(self.taken.load(Relaxed) + 1, Relaxed);
            if let Some(room) = &self.room {
                room.add_permits(1);
            }
        }
    }

    /// The callback of this name begins.
    pub(crate) fn begin(&self, callback: &'static str) {
        let now = self.stamp();
        if self.working.load(Relaxed) == 0 {
            self.working.store(now, Relaxed);
        }
        let name = callback.as_ptr().addr();
        if self.named.load(Relaxed) != name {
            self.rare().callback = callback;
            self.named.store(name, Relaxed);
        }
        self.begun.store(now, Relaxed);
    }

    /// It has returned.
    pub(crate) fn end(&self) {
        self.begun.store(0, Relaxed);
        if self.depth() == 0 {
            self.working.store(0, Relaxed);
        }
    }

    pub(crate) fn look(&self) -> Seen {
        let now = self.stamp();
        let since =
            |stamp: Stamp| (stamp != 0).then(|| Duration::from_nanos(now.saturating_sub(stamp)));
        let (depth, taken, left) = (self.depth(), self.taken.load(Relaxed), self.left());
        let is_marked = depth > 0 && self.mark_due.load(Relaxed) != 0;
        let rare = self.rare();
        let came = if is_marked { rare.marks.came(left + 1, (left + depth, now)) } else { None };
        Seen {
            depth,
            taken,
            current: since(self.begun.load(Relaxed)).map(|running| (rare.callback, running)),
            working: since(self.working.load(Relaxed)),
            oldest: came.and_then(since),
            mailbox: self.mailbox(),
        }
    }

    fn mailbox(&self) -> tree::Mailbox {
        let (capacity, policy) = (u64::from(self.bound.capacity), self.bound.overflow);
        let overflowed = self.overflowed.load(Relaxed);
        let (rejected, dropped) = match policy {
            Overflow::Reject | Overflow::Wait => (overflowed, 0),
            Overflow::DropOldest | Overflow::DropNewest => (0, overflowed),
        };
        tree::Mailbox { capacity, policy, rejected, dropped }
    }

    fn stamp(&self) -> Stamp {
        self.clock.coarse()
    }

    fn rare(&self) -> MutexGuard<'_, Rare> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    fn seconds(time: Option<Duration>) -> Option<u64> {
        time.map(|time| time.as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_shows_what_it_is_at_and_how_long_the_first_message_waits() {
        let load = Load::new(Clock::start(), Mailbox::default());
        assert_eq!(load.admit(None), Admission::Taken);
        load.taken();
        load.begin("flush");
        pass(3).await;
        assert_eq!(load.admit(None), Admission::Taken);
        pass(4).await;
        assert_eq!(load.admit(None), Admission::Taken);
        let seen = load.look();
        assert_eq!(seen.current, Some(("flush", Duration::from_secs(7))));
        assert_eq!((seen.depth, seen.taken, seconds(seen.oldest)), (2, 1, Some(4)));
        assert_eq!(seconds(seen.working), Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_rests_shows_nothing_of_what_is_over() {
        let load = Load::new(Clock::start(), Mailbox::default());
        for _ in 0..3 {
            assert_eq!(load.admit(None), Admission::Taken);
            load.taken();
            load.begin("flush");
            assert_eq!(load.admit(None), Admission::Taken);
            pass(60).await;
            load.end();
            load.taken();
            load.begin("look");
            load.end();
        }
        let mailbox = load.look().mailbox;
        let resting =
            Seen { depth: 0, taken: 6, current: None, working: None, oldest: None, mailbox };
        assert_eq!(load.look(), resting);
        assert_eq!(load.admit(None), Admission::Taken);
        assert_eq!(load.look(), Seen { depth: 1, ..resting });
    }

    #[tokio::test(start_paused = true)]
    async fn work_without_a_pause_counts_from_its_first_message() {
        let load = Load::new(Clock::start(), Mailbox::default());
        assert_eq!(load.admit(None), Admission::Taken);
        for _ in 0..5 {
            load.taken();
            load.begin("item");
            assert_eq!(load.admit(None), Admission::Taken);
            pass(2).await;
            load.end();
        }
        assert_eq!(seconds(load.look().working), Some(10));
        assert_eq!(load.look().current, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_age_of_the_first_in_a_long_queue_is_right_to_an_eighth() {
        let load = Load::new(Clock::start(), Mailbox::default());
        assert_eq!(load.admit(None), Admission::Taken);
        load.taken();
        load.begin("item");
        for _ in 0..1_000 {
            assert_eq!(load.admit(None), Admission::Taken);
            pass(1).await;
        }
        for taken in 1..1_000_u64 {
            load.end();
            load.taken();
            load.begin("item");
            // Message `taken + 1` came at second `taken`, and it is second 1 000 now.
            let (age, true_age) = (load.look().oldest.unwrap().as_secs(), 1_000 - taken);
            assert!(age.abs_diff(true_age) <= 1_000 / 8, "{age} instead of {true_age}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_oldest_goes_the_age_is_that_of_what_is_left() {
        let mailbox = Mailbox::new(4).overflow(Overflow::DropOldest);
        let load = Load::new(Clock::start(), mailbox);
        load.begin("item");
        for second in 0..1_000_u64 {
            let full = second >= 4;
            let admission = if full { Admission::InsteadOfOldest } else { Admission::Taken };
            assert_eq!(load.admit(None), admission);
            pass(1).await;
        }
        let seen = load.look();
        assert_eq!((seen.depth, seen.mailbox.dropped, seen.taken), (4, 996, 0));
        // The last four came in the last four seconds; marks are eight messages apart.
        assert!(seconds(seen.oldest).unwrap() <= 12, "{:?}", seen.oldest);
    }

    #[test]
    fn a_full_mailbox_admits_nothing() {
        let load = Load::new(Clock::start(), Mailbox::new(3));
        for _ in 0..3 {
            assert_eq!(load.admit(None), Admission::Taken);
        }
        assert_eq!(load.admit(None), Admission::Refused);
        load.taken();
        assert_eq!(load.admit(None), Admission::Taken);
    }
}
