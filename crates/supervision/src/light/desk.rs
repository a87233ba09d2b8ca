//! What a light server holds under its one lock, and what follows from each event.
//!
//! Pure: no clock, nobody is woken, nothing of the user's is called or dropped here. Every race of those who
//! send, stop, kill, terminate and of the server itself is an order of these operations.

use std::{collections::VecDeque, time::Duration};

use perennial_core::{ExitReason, Overflow, Uptime};

use super::cell::Known;
use crate::{Mailbox, address::Refused};

/// Where a light server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The init of an incarnation runs.
    Starting,
    Running,
    /// Its cleanup runs.
    Ending,
    /// No incarnation: the last one ended, and whether another comes is settled or about to be.
    Between {
        /// What its policy says.
        comes_back: bool,
    },
    /// Nothing will come any more.
    Over,
}

impl Phase {
    /// Whether there is an incarnation.
    pub(super) fn is_up(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Ending => true,
            Self::Between { .. } | Self::Over => false,
        }
    }
}

/// An instant of [`Clock::coarse`](crate::Clock); 0 is none.
pub(super) type Stamp = u64;

pub(super) struct Desk<M> {
    phase: Phase,
    /// Nothing follows the present incarnation.
    doomed: bool,
    /// The end of the present incarnation has been told to whom it concerns before its callers.
    told: bool,
    /// Its task waits for something to do, and nobody has woken it since.
    parked: bool,
    /// The number of the present incarnation, or of the last one.
    incarnation: u32,
    /// The present incarnation is to end, with cleanup.
    stop: Option<Box<Stop>>,
    queue: VecDeque<Letter<M>>,
    /// Messages of this incarnation that left the queue, handled or dropped for another.
    left: u64,
    /// Of those, dropped.
    displaced: u32,
    /// Messages that found it full and did not get in.
    refused: u32,
    undelivered: u32,
    /// When the present incarnation, or the last one, began to run.
    started: Started,
    /// When the callback in progress began, and since when it has not been without work.
    begun: Stamp,
    working: Stamp,
    /// Its init answered that it need not run.
    ignored: bool,
    past: Option<Box<Past>>,
    known: Option<Box<Known>>,
}

/// A moment in nanoseconds of uptime and one more, half as large as an optional [`Uptime`].
#[derive(Clone, Copy)]
struct Started(u64);

impl Started {
    const NEVER: Self = Self(0);

    fn at(moment: Uptime) -> Self {
        Self(u64::try_from(moment.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1))
    }

    fn get(self) -> Option<Uptime> {
        self.0.checked_sub(1).map(|nanos| Uptime::new(Duration::from_nanos(nanos)))
    }
}

struct Letter<M> {
    at: Stamp,
    message: M,
}

struct Stop {
    reason: ExitReason,
    /// Behind so many messages of the incarnation.
    behind: u64,
}

/// How the last incarnation ended.
#[derive(Clone)]
pub(super) struct Past {
    pub(super) incarnation: u32,
    pub(super) reason: ExitReason,
    pub(super) lived: Duration,
    pub(super) ended: Uptime,
}

/// What became of a message.
#[must_use]
pub(super) enum Posted<M> {
    /// It waits in the mailbox.
    Taken { wake: bool, displaced: Option<M> },
    /// It does not.
    Refused(Refused, M),
}

/// What the server is to do.
#[must_use]
pub(super) enum Todo<M> {
    Handle(M),
    /// End for this reason, with cleanup.
    Stop(ExitReason),
    /// Wait until it is woken.
    Nothing,
}

/// What is left of an incarnation.
#[must_use]
pub(super) struct Remains<M> {
    pub(super) messages: Vec<M>,
    pub(super) known: Option<Box<Known>>,
    /// It was asked to end for good.
    pub(super) doomed: bool,
    pub(super) lived: Duration,
}

/// What can be seen of it.
pub(super) struct Look {
    pub(super) phase: Phase,
    pub(super) doomed: bool,
    pub(super) stopping: bool,
    pub(super) incarnation: u32,
    pub(super) restarts: u32,
    pub(super) depth: u64,
    pub(super) handled: u64,
    pub(super) displaced: u64,
    pub(super) refused: u64,
    pub(super) undelivered: u64,
    pub(super) started: Option<Uptime>,
    pub(super) oldest: Stamp,
    pub(super) begun: Stamp,
    pub(super) working: Stamp,
    pub(super) callback: &'static str,
    pub(super) past: Option<Past>,
}

impl<M> Desk<M> {
    /// The first incarnation, which starts.
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Starting,
            doomed: false,
            told: false,
            parked: false,
            incarnation: 1,
            stop: None,
            queue: VecDeque::new(),
            left: 0,
            displaced: 0,
            refused: 0,
            undelivered: 0,
            started: Started::NEVER,
            begun: 0,
            working: 0,
            ignored: false,
            past: None,
            known: None,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn incarnation(&self) -> u32 {
        self.incarnation
    }

    pub(super) fn is_doomed(&self) -> bool {
        self.doomed
    }

    /// Whether `incarnation` is there.
    pub(super) fn is_up(&self, incarnation: u32) -> bool {
        self.phase.is_up() && self.incarnation == incarnation
    }

    /// The incarnation that is there, none when nothing comes; not known yet while one is coming, or while it
    /// is not settled whether one is.
    pub(super) fn there(&self) -> Option<Option<u32>> {
        match self.phase {
            Phase::Starting | Phase::Running | Phase::Ending => Some(Some(self.incarnation)),
            Phase::Between { .. } if self.is_untold() => None,
            Phase::Between { comes_back: true } if !self.doomed => None,
            Phase::Between { .. } | Phase::Over => Some(None),
        }
    }

    fn is_untold(&self) -> bool {
        matches!(self.phase, Phase::Between { .. }) && !self.told
    }

    /// Everything has been done about the end that callers may rely on.
    pub(super) fn told(&mut self) {
        self.told = true;
    }

    /// Why `incarnation` ended, when it has and that may be told.
    pub(super) fn end_of(&self, incarnation: u32) -> Option<ExitReason> {
        if self.is_up(incarnation) || (self.incarnation == incarnation && self.is_untold()) {
            return None;
        }
        let past = self.past.as_ref().filter(|past| past.incarnation >= incarnation);
        Some(past.map_or(ExitReason::NoProc, |past| past.reason.clone()))
    }

    /// Why the last incarnation ended.
    pub(super) fn last_end(&self) -> Option<&ExitReason> {
        self.past.as_ref().map(|past| &past.reason)
    }

    pub(super) fn known(&mut self) -> &mut Option<Box<Known>> {
        &mut self.known
    }

    /// Puts `message` last, into the mailbox of `to` or of whichever incarnation is there.
    pub(super) fn post(
        &mut self,
        bound: Mailbox,
        to: Option<u32>,
        message: M,
        at: Stamp,
    ) -> Posted<M> {
        if !self.phase.is_up() || to.is_some_and(|to| to != self.incarnation) {
            return Posted::Refused(Refused::NoProc, message);
        }
        let mut displaced = None;
        if self.queue.len() >= bound.capacity as usize {
            match bound.overflow {
                Overflow::Reject | Overflow::Wait => {
                    self.refused = self.refused.saturating_add(1);
                    return Posted::Refused(Refused::Full, message);
                }
                Overflow::DropNewest => {
                    self.refused = self.refused.saturating_add(1);
                    return Posted::Refused(Refused::Dropped, message);
                }
                Overflow::DropOldest => {
                    displaced = self.queue.pop_front().map(|letter| letter.message);
                    self.left += 1;
                    self.displaced = self.displaced.saturating_add(1);
                }
            }
        }
        self.queue.push_back(Letter { at, message });
        let wake = std::mem::take(&mut self.parked);
        Posted::Taken { wake, displaced }
    }

    /// A message for which there is no room where senders wait for that.
    pub(super) fn refuse(&mut self) -> Refused {
        if !self.phase.is_up() {
            return Refused::NoProc;
        }
        self.refused = self.refused.saturating_add(1);
        Refused::Full
    }

    /// What the server is to do next.
    pub(super) fn next(&mut self, now: impl FnOnce() -> Stamp) -> Todo<M> {
        if let Some(stop) = self.stop.take_if(|stop| self.left >= stop.behind) {
            self.ending(now());
            return Todo::Stop(stop.reason);
        }
        let Some(letter) = self.queue.pop_front() else {
            (self.begun, self.working) = (0, 0);
            self.parked = true;
            return Todo::Nothing;
        };
        let now = now();
        self.left += 1;
        self.begun = now;
        if self.working == 0 {
            self.working = now;
        }
        Todo::Handle(letter.message)
    }

    /// The init of the present incarnation is done.
    pub(super) fn started(&mut self, now: Uptime) {
        self.phase = Phase::Running;
        self.started = Started::at(now);
        self.begun = 0;
    }

    /// It ends by itself: the cleanup begins.
    pub(super) fn ending(&mut self, now: Stamp) {
        self.phase = Phase::Ending;
        self.begun = now;
    }

    /// Asks `incarnation` to end with cleanup, behind what waits; the first reason counts. Answers
    /// whether it is to be woken.
    pub(super) fn ask(&mut self, incarnation: Option<u32>, reason: &ExitReason) -> bool {
        if !self.phase.is_up() || incarnation.is_some_and(|it| it != self.incarnation) {
            return false;
        }
        if self.stop.is_none() && self.phase != Phase::Ending {
            let behind = self.left + self.queue.len() as u64;
            self.stop = Some(Box::new(Stop { reason: reason.clone(), behind }));
        }
        self.parked = false;
        true
    }

    /// Nothing is to follow the present incarnation. Answers whether that was new.
    pub(super) fn doom(&mut self) -> bool {
        self.parked = false;
        !std::mem::replace(&mut self.doomed, true)
    }

    /// The present incarnation ended. What waited is handed back: it goes to nobody.
    pub(super) fn end(&mut self, reason: &ExitReason, now: Uptime, comes_back: bool) -> Remains<M> {
        let lived = match self.phase {
            Phase::Starting => Duration::ZERO,
            Phase::Running | Phase::Ending | Phase::Between { .. } | Phase::Over => {
                self.started.get().map_or(Duration::ZERO, |then| now.since(then))
            }
        };
        let past =
            Past { incarnation: self.incarnation, reason: reason.clone(), lived, ended: now };
        match &mut self.past {
            Some(last) => **last = past,
            None => self.past = Some(Box::new(past)),
        }
        self.phase = Phase::Between { comes_back: comes_back && !self.doomed };
        self.told = false;
        self.stop = None;
        self.parked = false;
        (self.begun, self.working) = (0, 0);
        let waiting = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        self.undelivered = self.undelivered.saturating_add(waiting);
        let messages = std::mem::take(&mut self.queue);
        Remains {
            messages: messages.into_iter().map(|letter| letter.message).collect(),
            known: self.known.take(),
            doomed: self.doomed,
            lived,
        }
    }

    /// The present incarnation's init answered that it need not run.
    pub(super) fn ignored(&mut self) {
        self.ignored = true;
    }

    /// Whether an incarnation ever ran.
    pub(super) fn has_run(&self) -> bool {
        self.started.get().is_some()
    }

    pub(super) fn is_ignored(&self) -> bool {
        self.ignored
    }

    /// Another incarnation begins, unless nothing is to follow. Only between two.
    pub(super) fn begin_again(&mut self) -> bool {
        if self.doomed || !matches!(self.phase, Phase::Between { .. }) {
            return false;
        }
        self.phase = Phase::Starting;
        self.incarnation += 1;
        (self.left, self.displaced, self.refused) = (0, 0, 0);
        true
    }

    /// Nothing will come any more. Only between two incarnations.
    pub(super) fn over(&mut self) {
        self.phase = Phase::Over;
        self.doomed = true;
    }

    /// What can be seen while it handles a message of the kind `handles`, or did last.
    pub(super) fn look(&self, handles: &'static str) -> Look {
        Look {
            phase: self.phase,
            doomed: self.doomed,
            stopping: self.stop.is_some() || self.phase == Phase::Ending,
            incarnation: self.incarnation,
            restarts: self.incarnation - 1,
            depth: self.queue.len() as u64,
            handled: self.left.saturating_sub(u64::from(self.displaced)),
            displaced: u64::from(self.displaced),
            refused: u64::from(self.refused),
            undelivered: u64::from(self.undelivered),
            started: self.started.get(),
            oldest: self.queue.front().map_or(0, |letter| letter.at),
            begun: self.begun,
            working: self.working,
            callback: match self.phase {
                Phase::Starting => "init",
                Phase::Ending => "terminate",
                Phase::Running | Phase::Between { .. } | Phase::Over => handles,
            },
            past: self.past.as_deref().cloned(),
        }
    }
}

#[cfg(test)]
mod tests;
