//! Which elements are being worked on, and what became of the others: decisions only.

use std::{collections::VecDeque, sync::Arc, task::Waker, time::Duration};

use perennial_core::{ExitReason, Uptime};

use super::{cell::Kill, pool::Pool};
use crate::ProcessRef;

/// One element that is being worked on, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) index: u64,
    slot: usize,
}

/// What became of one element.
pub(super) struct Finished<I, T> {
    pub(super) index: u64,
    pub(super) result: Result<T, (Option<I>, ExitReason)>,
}

/// Where an element is worked on.
pub(super) enum Body<I> {
    /// Nobody has begun.
    Waits(I),
    Runs(Arc<dyn Kill>, Option<ProcessRef>),
}

struct Entry<I> {
    index: u64,
    since: Uptime,
    /// For the consumer, should it fail.
    copy: Option<I>,
    /// None while it is being taken.
    body: Option<Body<I>>,
}

/// One that was killed and has not ended.
struct Dying {
    index: u64,
    process: Option<ProcessRef>,
    reason: ExitReason,
    since: Uptime,
}

/// Somebody to be killed, outside of the lock.
pub(super) struct Victim<I> {
    pub(super) index: u64,
    pub(super) body: Option<Body<I>>,
}

/// How a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// The consumer wants no more, or has got all: the node ends with this reason.
    Left(ExitReason),
    /// An element took too long.
    Overdue,
    /// A linked task failed, and the consumer with it.
    Failed(ExitReason),
    /// The stream was stopped or killed from outside.
    Stopped(ExitReason),
}

/// How many elements there were, for the dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) started: u64,
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) unkillable: u64,
}

/// What the stream, its tasks and its keeper share, under one lock.
pub(super) struct Board<I, T> {
    entries: Vec<Option<Entry<I>>>,
    free: Vec<usize>,
    /// Entries that nobody has begun, oldest first.
    queue: VecDeque<Ticket>,
    dying: Vec<Dying>,
    pub(super) pool: Pool,
    pub(super) results: VecDeque<Finished<I, T>>,
    pub(super) consumer: Option<Waker>,
    pub(super) closing: Option<Closing>,
    /// The consumer does not look any more: nobody counts the time, and results are dropped.
    pub(super) detached: bool,
    /// The keeper waits for no deadline.
    pub(super) unwatched: bool,
    pub(super) tally: Tally,
    running: usize,
}

impl<I, T> Board<I, T> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            queue: VecDeque::new(),
            dying: Vec::new(),
            pool: Pool::default(),
            results: VecDeque::new(),
            consumer: None,
            closing: None,
            detached: false,
            unwatched: true,
            tally: Tally::default(),
            running: 0,
        }
    }

    /// Takes an element in, for somebody to begin.
    pub(super) fn begin(&mut self, index: u64, since: Uptime, copy: Option<I>, input: I) -> Ticket {
        let entry = Some(Entry { index, since, copy, body: Some(Body::Waits(input)) });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        let ticket = Ticket { index, slot };
        self.queue.push_back(ticket);
        self.running += 1;
        self.tally.started += 1;
        ticket
    }

    /// The next element that nobody has begun: from here on `body` works on it.
    pub(super) fn next_in_line(&mut self, body: impl FnOnce(u64, I) -> Body<I>) -> Option<Ticket> {
        while let Some(ticket) = self.queue.pop_front() {
            let Some(entry) = self.entry(ticket) else { continue };
            if let Some(Body::Waits(input)) = entry.body.take() {
                entry.body = Some(body(ticket.index, input));
                return Some(ticket);
            }
        }
        None
    }

    pub(super) fn in_line(&self) -> bool {
        !self.queue.is_empty()
    }

    /// An element is done; whoever worked on it gets `kill` back. Answers whether that was awaited: one that
    /// was killed is not.
    pub(super) fn settle(
        &mut self,
        ticket: Ticket,
        result: Result<T, ExitReason>,
        kill: &mut Option<Arc<dyn Kill>>,
    ) -> bool {
        let Some(entry) = self.remove(ticket) else { return false };
        if let Some(Body::Runs(own, _)) = entry.body {
            *kill = Some(own);
        }
        match &result {
            Ok(_) => self.tally.done += 1,
            Err(_) => self.tally.failed += 1,
        }
        let result = result.map_err(|reason| (entry.copy, reason));
        self.finish(ticket.index, result);
        true
    }

    /// Takes out those that took too long, which have failed by that.
    pub(super) fn overdue(&mut self, now: Uptime, timeout: Duration) -> Vec<Victim<I>> {
        if self.detached {
            return Vec::new();
        }
        let late = |entry: &Entry<I>| now.since(entry.since) >= timeout;
        self.take_out(late, &ExitReason::Timeout, now)
    }

    /// Takes out all, which have failed by that.
    pub(super) fn all(&mut self, reason: &ExitReason, now: Uptime) -> Vec<Victim<I>> {
        self.queue.clear();
        self.take_out(|_| true, reason, now)
    }

    /// Takes out the one of this index.
    pub(super) fn one(&mut self, index: u64, reason: &ExitReason, now: Uptime) -> Vec<Victim<I>> {
        self.take_out(|entry| entry.index == index, reason, now)
    }

    fn take_out(
        &mut self,
        is_it: impl Fn(&Entry<I>) -> bool,
        reason: &ExitReason,
        now: Uptime,
    ) -> Vec<Victim<I>> {
        let mut victims = Vec::new();
        for slot in 0..self.entries.len() {
            let Some(entry) = self.entries[slot].as_ref().filter(|entry| is_it(entry)) else {
                continue;
            };
            let ticket = Ticket { index: entry.index, slot };
            let Some(entry) = self.remove(ticket) else { continue };
            self.tally.failed += 1;
            if let Some(Body::Runs(_, process)) = &entry.body {
                let (process, reason) = (process.clone(), reason.clone());
                self.dying.push(Dying { index: entry.index, process, reason, since: now });
            }
            self.finish(entry.index, Err((entry.copy, reason.clone())));
            victims.push(Victim { index: entry.index, body: entry.body });
        }
        victims
    }

    /// One that was killed has really ended. Answers the process that it was, and why it ended.
    pub(super) fn ended(&mut self, index: u64) -> Option<(Option<ProcessRef>, ExitReason)> {
        let place = self.dying.iter().position(|it| it.index == index)?;
        let Dying { process, reason, .. } = self.dying.swap_remove(place);
        Some((process, reason))
    }

    /// Gives up those that were killed longer ago than `within`.
    pub(super) fn give_up(&mut self, now: Uptime, within: Duration) -> usize {
        let before = self.dying.len();
        self.dying.retain(|it| now.since(it.since) < within);
        let gone = before - self.dying.len();
        self.tally.unkillable += gone as u64;
        gone
    }

    /// When something is to be looked at next, from `now` on.
    pub(super) fn next_deadline(
        &self,
        now: Uptime,
        timeout: Option<Duration>,
        kill_deadline: Duration,
    ) -> Option<Duration> {
        let left = |since: Uptime, time: Duration| time.saturating_sub(now.since(since));
        let timeout = timeout.filter(|_| !self.detached);
        let late = timeout.and_then(|timeout| {
            let entries = self.entries.iter().flatten();
            entries.map(|entry| left(entry.since, timeout)).min()
        });
        let dying = self.dying.iter().map(|it| left(it.since, kill_deadline)).min();
        late.into_iter().chain(dying).min()
    }

    /// Elements that are worked on; those that were killed and have not ended too.
    pub(super) fn alive(&self) -> usize {
        self.running + self.dying.len()
    }

    pub(super) fn dying(&self) -> usize {
        self.dying.len()
    }

    fn entry(&mut self, ticket: Ticket) -> Option<&mut Entry<I>> {
        self.entries.get_mut(ticket.slot)?.as_mut().filter(|entry| entry.index == ticket.index)
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Entry<I>> {
        self.entry(ticket)?;
        self.free.push(ticket.slot);
        self.running -= 1;
        self.entries[ticket.slot].take()
    }

    fn finish(&mut self, index: u64, result: Result<T, (Option<I>, ExitReason)>) {
        if !self.detached {
            self.results.push_back(Finished { index, result });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Target;

    impl Kill for Target {
        fn kill(&self, _: u64) -> bool {
            true
        }
    }

    fn at(seconds: u64) -> Uptime {
        Uptime::new(Duration::from_secs(seconds))
    }

    fn runs<I>() -> Body<I> {
        Body::Runs(Arc::new(Target), None)
    }

    /// One that somebody has begun.
    fn begun(board: &mut Board<u32, u32>, index: u64, since: Uptime, copy: Option<u32>) -> Ticket {
        let ticket = board.begin(index, since, copy, 0);
        assert!(board.next_in_line(|_, _| runs()) == Some(ticket));
        ticket
    }

    fn indices<I>(victims: &[Victim<I>]) -> Vec<u64> {
        victims.iter().map(|it| it.index).collect()
    }

    const FIVE: Duration = Duration::from_secs(5);

    #[test]
    fn those_that_are_late_are_taken_out_and_end_once() {
        let mut board = Board::<u32, u32>::new();
        let first = begun(&mut board, 0, at(0), Some(70));
        let second = begun(&mut board, 1, at(2), None);
        assert_eq!(board.next_deadline(at(3), Some(FIVE), FIVE), Some(Duration::from_secs(2)));
        assert_eq!(board.next_deadline(at(3), None, FIVE), None);
        assert_eq!(indices(&board.overdue(at(4), FIVE)), Vec::<u64>::new());
        assert_eq!(indices(&board.overdue(at(5), FIVE)), [0]);
        assert_eq!((board.alive(), board.dying()), (2, 1), "it has not ended");
        assert!(!board.settle(first, Ok(1), &mut None), "too late");
        assert!(board.ended(0).is_some());
        assert!(board.ended(0).is_none());
        assert!(board.settle(second, Ok(2), &mut None));
        assert_eq!(board.alive(), 0);
        let found: Vec<_> = board.results.drain(..).map(|it| (it.index, it.result)).collect();
        assert_eq!(found, [(0, Err((Some(70), ExitReason::Timeout))), (1, Ok(2))]);
        let Tally { started, done, failed, unkillable } = board.tally;
        assert_eq!((started, done, failed, unkillable), (2, 1, 1, 0));
    }

    #[test]
    fn a_slot_that_is_used_again_knows_its_tickets() {
        let mut board = Board::<u32, u32>::new();
        let first = begun(&mut board, 0, at(0), None);
        assert_eq!(indices(&board.one(0, &ExitReason::Killed, at(0))), [0]);
        begun(&mut board, 1, at(0), None);
        assert!(!board.settle(first, Ok(1), &mut None), "of the one before");
        assert_eq!(board.results.len(), 1);
    }

    #[test]
    fn what_nobody_has_begun_can_be_killed_as_well() {
        let mut board = Board::<u32, u32>::new();
        board.begin(0, at(0), None, 10);
        board.begin(1, at(0), None, 11);
        board.begin(2, at(0), None, 12);
        drop(board.one(1, &ExitReason::Killed, at(0)));
        let mut taken = Vec::new();
        while board.in_line() {
            let next = board.next_in_line(|index, input| {
                taken.push((index, input));
                runs()
            });
            assert!(next.is_some());
        }
        assert_eq!(taken, [(0, 10), (2, 12)]);
        assert_eq!(board.dying(), 0, "nothing of it ran");
        assert_eq!(indices(&board.all(&ExitReason::Shutdown, at(1))), [0, 2]);
        assert_eq!((board.alive(), board.dying()), (2, 2));
        assert_eq!(board.give_up(at(5), FIVE), 0);
        assert_eq!(board.next_deadline(at(5), None, FIVE), Some(Duration::from_secs(1)));
        assert_eq!(board.give_up(at(6), FIVE), 2);
        assert_eq!((board.alive(), board.tally.unkillable), (0, 2));
    }

    #[test]
    fn whoever_is_detached_counts_no_time_and_keeps_nothing() {
        let mut board = Board::<u32, u32>::new();
        let first = begun(&mut board, 0, at(0), None);
        board.detached = true;
        assert_eq!(board.next_deadline(at(9), Some(FIVE), FIVE), None);
        assert_eq!(indices(&board.overdue(at(9), FIVE)), Vec::<u64>::new());
        assert!(board.settle(first, Ok(1), &mut None));
        assert!(board.results.is_empty());
    }
}
