//! The mailbox of a server: one queue for all that can be sent to it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use perennial_core::ExitReason;
use tokio::sync::Notify;

use super::{GenServer, TimerRef, context::Watched, debugger::Inspection};
use crate::{Clock, ProcessRef, address::Refused, load::Load, panics::call_quietly};

/// Requests of debuggers that may wait. They have a limit of their own: a server whose mailbox is
/// full because it is suspended must still hear that it may go on.
const INSPECTIONS_MAX: usize = 64;

/// What can wait in a mailbox.
pub(crate) enum Letter<S: GenServer> {
    Message(S::Message),
    /// A watched process ended. No more than were watched.
    Exit(Watched),
    /// A process that somebody linked to it ended. No more than were linked.
    Severed(ProcessRef, ExitReason),
    /// A timer of its own is due. No more than are set.
    Timer(TimerRef),
    /// End with cleanup. At most one.
    Stop,
    Inspect(Inspection<S>),
    /// Panic where a handler would.
    #[cfg(feature = "testing")]
    Crash,
}

/// The writing end. First in, first out.
pub(crate) struct Queue<S: GenServer> {
    letters: Mutex<Letters<S>>,
    arrived: Notify,
    load: Load,
}

struct Letters<S: GenServer> {
    waiting: VecDeque<Letter<S>>,
    inspections: usize,
    /// Until the end of the server.
    open: bool,
}

impl<S: GenServer> Queue<S> {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        let letters = Letters { waiting: VecDeque::new(), inspections: 0, open: true };
        let (arrived, load) = (Notify::new(), Load::new(clock));
        Arc::new(Self { letters: Mutex::new(letters), arrived, load })
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// Puts `letter` last, if there is room for its kind. One that is refused is dropped here,
    /// outside the lock, for that is the user's code.
    pub(crate) fn push(&self, letter: Letter<S>) -> Result<(), Refused> {
        let mut letters = self.letters();
        if let Some(refused) = self.refusal(&letters, &letter) {
            drop(letters);
            drop(letter);
            return Err(refused);
        }
        letters.inspections += usize::from(matches!(letter, Letter::Inspect(_)));
        letters.waiting.push_back(letter);
        self.arrived.notify_one();
        Ok(())
    }

    fn refusal(&self, letters: &Letters<S>, letter: &Letter<S>) -> Option<Refused> {
        let room = match letter {
            _ if !letters.open => return Some(Refused::NoProc),
            Letter::Message(_) => self.load.admit(),
            Letter::Inspect(_) => letters.inspections < INSPECTIONS_MAX,
            Letter::Exit(_) | Letter::Severed(..) | Letter::Timer(_) | Letter::Stop => true,
            #[cfg(feature = "testing")]
            Letter::Crash => true,
        };
        (!room).then_some(Refused::Full)
    }

    fn pop(&self) -> Option<Letter<S>> {
        let mut letters = self.letters();
        let letter = letters.waiting.pop_front();
        letters.inspections -= usize::from(matches!(letter, Some(Letter::Inspect(_))));
        letter
    }

    /// Nothing is taken any more; answers what was.
    fn close(&self) -> VecDeque<Letter<S>> {
        let mut letters = self.letters();
        letters.open = false;
        letters.inspections = 0;
        std::mem::take(&mut letters.waiting)
    }

    fn letters(&self) -> MutexGuard<'_, Letters<S>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading end: one per life. Dropping it closes the queue and drops what waits, so that nobody
/// waits for an answer that cannot come (GS-023).
pub(crate) struct Inbox<S: GenServer> {
    queue: Arc<Queue<S>>,
    /// What came first and was passed over while suspended; it still counts in the mailbox.
    aside: VecDeque<Letter<S>>,
}

impl<S: GenServer> Inbox<S> {
    pub(crate) fn new(queue: Arc<Queue<S>>) -> Self {
        Self { queue, aside: VecDeque::new() }
    }

    pub(crate) fn depth(&self) -> u64 {
        self.queue.load.depth()
    }

    pub(crate) fn load(&self) -> &Load {
        &self.queue.load
    }

    /// Puts a letter of the server's own last.
    pub(crate) fn put(&self, letter: Letter<S>) {
        // It is open while it can be read.
        let _ = self.queue.push(letter);
    }

    /// Waits for the next letter; `suspended` for one that does not concern the user's code.
    ///
    /// # Cancel safety
    ///
    /// Safe: no letter is lost.
    pub(crate) async fn next(&mut self, suspended: bool) -> Letter<S> {
        loop {
            let first = if suspended { None } else { self.aside.pop_front() };
            let Some(letter) = first.or_else(|| self.queue.pop()) else {
                self.queue.arrived.notified().await;
                continue;
            };
            if suspended
                && matches!(
                    letter,
                    Letter::Message(_) | Letter::Exit(_) | Letter::Severed(..) | Letter::Timer(_)
                )
            {
                self.aside.push_back(letter);
                continue;
            }
            if matches!(letter, Letter::Message(_)) {
                self.queue.load.taken();
            }
            return letter;
        }
    }
}

impl<S: GenServer> Drop for Inbox<S> {
    fn drop(&mut self) {
        let waiting = self.queue.close();
        for letter in std::mem::take(&mut self.aside).into_iter().chain(waiting) {
            call_quietly("the drop of a message", move || drop(letter));
        }
    }
}

impl<S: GenServer> fmt::Debug for Letter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter").finish_non_exhaustive()
    }
}
