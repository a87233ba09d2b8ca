//! How long a test waits for something that happens elsewhere.
//!
//! What another process or thread does cannot be hurried by pausing a clock, so these waits are
//! real; they end with the event and not with the time.

use std::{
    fmt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often a process is looked at: the standard library tells of its end only when asked.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A moment after which waiting is in vain.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    within: Duration,
}

/// What was waited for did not happen in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} did not happen within {within:?}; so far: {so_far}")]
pub struct TooLate {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub within: Duration,
    /// What was there instead.
    pub so_far: String,
}

#[expect(clippy::disallowed_methods, reason = "other processes run on the real clock")]
impl Deadline {
    /// The moment `within` from now.
    pub fn after(within: Duration) -> Self {
        Self { at: Instant::now() + within, within }
    }

    /// Time left, zero when it has passed.
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

impl Deadline {
    /// The error of having waited for `what` and met `so_far`.
    pub fn missed(&self, what: impl fmt::Display, so_far: impl fmt::Display) -> TooLate {
        TooLate { what: what.to_string(), within: self.within, so_far: so_far.to_string() }
    }

    /// Lets a moment pass before the next look at what notifies nobody.
    pub(crate) fn pause(&self) {
        let (never, changed) = (Mutex::new(()), Condvar::new());
        let guard = never.lock().unwrap_or_else(PoisonError::into_inner);
        drop(changed.wait_timeout(guard, LOOK_EVERY.min(self.left())));
    }

    /// Waits until `done` says so, asking again whenever `changed` is notified; whether it did.
    pub(crate) fn wait_until<T>(
        &self,
        mut guard: MutexGuard<'_, T>,
        changed: &Condvar,
        done: impl Fn(&T) -> bool,
    ) -> bool {
        while !done(&guard) {
            let left = self.left();
            if left.is_zero() {
                return false;
            }
            let woken = changed.wait_timeout(guard, left);
            (guard, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}
