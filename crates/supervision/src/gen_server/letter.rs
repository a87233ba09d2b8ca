//! The mailbox of a server: one queue for all that can be sent to it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, PoisonError},
};

use perennial_core::ExitReason;

use super::{GenServer, TimerRef, context::Watched, debugger::Inspection};
use crate::{
    ProcessRef,
    address::Refused,
    load::{Admission, Load, Place},
    panics::call_quietly,
    sync::{Mutex, MutexGuard, Notify},
};

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
    /// What came first and was passed over while suspended; it still counts in the mailbox.
    aside: VecDeque<Letter<S>>,
    waiting: VecDeque<Letter<S>>,
    inspections: usize,
    /// Until the end of the server.
    open: bool,
}

impl<S: GenServer> Queue<S> {
    pub(crate) fn new(load: Load) -> Arc<Self> {
        let (aside, waiting) = (VecDeque::new(), VecDeque::new());
        let letters = Letters { aside, waiting, inspections: 0, open: true };
        let load = load.behind_a_lock();
        Arc::new(Self { letters: Mutex::new(letters), arrived: Notify::new(), load })
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// Puts a message last, if there is room: in its `place`, where that was waited for.
    pub(crate) fn post(
        &self,
        message: S::Message,
        place: Option<Place<'_>>,
    ) -> Result<(), Refused> {
        self.put(Letter::Message(message), place)
    }

    /// Puts what is no message last, if there is room for its kind.
    pub(crate) fn push(&self, letter: Letter<S>) -> Result<(), Refused> {
        self.put(letter, None)
    }

    /// What is refused, and what goes for another, is dropped here, outside the lock, for that is the
    /// user's code.
    fn put(&self, letter: Letter<S>, place: Option<Place<'_>>) -> Result<(), Refused> {
        let mut letters = self.letters();
        let displaced = match self.admit(&mut letters, &letter, place) {
            Ok(displaced) => displaced,
            Err(refused) => {
                drop(letters);
                drop(letter);
                return Err(refused);
            }
        };
        letters.inspections += usize::from(matches!(letter, Letter::Inspect(_)));
        letters.waiting.push_back(letter);
        self.arrived.notify_one();
        drop(letters);
        if let Some(displaced) = displaced {
            call_quietly("the drop of a message", move || drop(displaced));
        }
        Ok(())
    }

    /// Whether there is room for `letter`, and what goes for it.
    fn admit(
        &self,
        letters: &mut Letters<S>,
        letter: &Letter<S>,
        place: Option<Place<'_>>,
    ) -> Result<Option<Letter<S>>, Refused> {
        match letter {
            _ if !letters.open => Err(Refused::NoProc),
            Letter::Message(_) => match self.load.admit(place) {
                Admission::Taken => Ok(None),
                Admission::InsteadOfOldest => Ok(letters.oldest_message()),
                Admission::Refused => Err(Refused::Full),
                Admission::Dropped => Err(Refused::Dropped),
            },
            Letter::Inspect(_) if letters.inspections >= INSPECTIONS_MAX => Err(Refused::Full),
            Letter::Inspect(_)
            | Letter::Exit(_)
            | Letter::Severed(..)
            | Letter::Timer(_)
            | Letter::Stop => Ok(None),
            #[cfg(feature = "testing")]
            Letter::Crash => Ok(None),
        }
    }

    /// The next letter; `suspended` for one that does not concern the user's code.
    fn pop(&self, suspended: bool) -> Option<Letter<S>> {
        let mut letters = self.letters();
        let letter = letters.next(suspended);
        match letter {
            // Under the lock: what counts as waiting is what stands in the queue.
            Some(Letter::Message(_)) => self.load.taken(),
            Some(Letter::Inspect(_)) => letters.inspections -= 1,
            Some(Letter::Exit(_) | Letter::Severed(..) | Letter::Timer(_) | Letter::Stop)
            | None => (),
            #[cfg(feature = "testing")]
            Some(Letter::Crash) => (),
        }
        letter
    }

    /// Nothing is taken any more; answers what was, the oldest first.
    fn close(&self) -> impl Iterator<Item = Letter<S>> + use<S> {
        let mut letters = self.letters();
        letters.open = false;
        letters.inspections = 0;
        self.load.close();
        let aside = std::mem::take(&mut letters.aside);
        aside.into_iter().chain(std::mem::take(&mut letters.waiting))
    }

    fn letters(&self) -> MutexGuard<'_, Letters<S>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: GenServer> Letters<S> {
    fn next(&mut self, suspended: bool) -> Option<Letter<S>> {
        if !suspended && let Some(first) = self.aside.pop_front() {
            return Some(first);
        }
        while let Some(letter) = self.waiting.pop_front() {
            if !suspended || !letter.is_for_the_user() {
                return Some(letter);
            }
            self.aside.push_back(letter);
        }
        None
    }

    /// Takes out the message that waits longest. What is no message stays.
    fn oldest_message(&mut self) -> Option<Letter<S>> {
        let is_message = |letter: &Letter<S>| matches!(letter, Letter::Message(_));
        [&mut self.aside, &mut self.waiting].into_iter().find_map(|letters| {
            let place = letters.iter().position(is_message)?;
            letters.remove(place)
        })
    }
}

impl<S: GenServer> Letter<S> {
    /// Whether it waits while the server is suspended.
    fn is_for_the_user(&self) -> bool {
        match self {
            Self::Message(_) | Self::Exit(_) | Self::Severed(..) | Self::Timer(_) => true,
            Self::Stop | Self::Inspect(_) => false,
            #[cfg(feature = "testing")]
            Self::Crash => false,
        }
    }
}

/// The reading end: one per life. Dropping it closes the queue and drops what waits, so that nobody
/// waits for an answer that cannot come (GS-023).
pub(crate) struct Inbox<S: GenServer>(Arc<Queue<S>>);

impl<S: GenServer> Inbox<S> {
    pub(crate) fn new(queue: Arc<Queue<S>>) -> Self {
        Self(queue)
    }

    pub(crate) fn depth(&self) -> u64 {
        self.0.load.depth()
    }

    pub(crate) fn load(&self) -> &Load {
        &self.0.load
    }

    /// Puts a letter of the server's own last.
    pub(crate) fn put(&self, letter: Letter<S>) {
        // It is open while it can be read.
        let _ = self.0.push(letter);
    }

    /// Waits for the next letter; `suspended` for one that does not concern the user's code.
    ///
    /// # Cancel safety
    ///
    /// Safe: no letter is lost.
    pub(crate) async fn next(&mut self, suspended: bool) -> Letter<S> {
        loop {
            if let Some(letter) = self.0.pop(suspended) {
                return letter;
            }
            self.0.arrived.notified().await;
        }
    }
}

impl<S: GenServer> Drop for Inbox<S> {
    fn drop(&mut self) {
        for letter in self.0.close() {
            call_quietly("the drop of a message", move || drop(letter));
        }
    }
}

impl<S: GenServer> fmt::Debug for Letter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter").finish_non_exhaustive()
    }
}
