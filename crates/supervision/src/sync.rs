//! The primitives on which processes meet: locks, atomics, wake-ups, the spawn of a task.
//!
//! A seam. What can race takes them from here, so that the checker of schedules can put its own in their
//! place: the unit tests of a build with `--cfg perennial_shuttle` run the very code of this crate under
//! [shuttle](https://docs.rs/shuttle), which decides at each of these operations who goes on (see `races`).
//! Without that they are what `std`, tokio and dashmap have, under their own names.
//!
//! What is behind no lock of its own, as `OnceLock`, a semaphore or a channel, is one step for the checker.
//! Orderings of atomics are not its subject: it takes all of them for sequentially consistent.

#[cfg(all(test, perennial_shuttle))]
pub(crate) mod checked;

#[cfg(all(test, perennial_shuttle))]
pub(crate) use self::checked::{
    Condvar, DashMap, Entry, Executor, Mutex, MutexGuard, Notify, atomic, spawn, task_local,
};
#[cfg(not(all(test, perennial_shuttle)))]
pub(crate) use dashmap::{DashMap, mapref::entry::Entry};
#[cfg(not(all(test, perennial_shuttle)))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(not(all(test, perennial_shuttle)))]
pub(crate) use tokio::{spawn, sync::Notify, task_local};

/// What runs tasks, for whoever starts some from anywhere.
#[cfg(not(all(test, perennial_shuttle)))]
#[derive(Debug)]
pub(crate) struct Executor(tokio::runtime::Handle);

#[cfg(not(all(test, perennial_shuttle)))]
impl Executor {
    /// The present one.
    ///
    /// # Panics
    ///
    /// Outside of any.
    pub(crate) fn current() -> Self {
        Self(tokio::runtime::Handle::current())
    }

    /// Whether it runs whoever asks.
    pub(crate) fn is_here(&self) -> bool {
        tokio::runtime::Handle::try_current().is_ok_and(|here| here.id() == self.0.id())
    }

    #[expect(clippy::disallowed_methods, reason = "only the spawn of drivers calls it")]
    pub(crate) fn spawn(&self, driver: impl Future<Output = ()> + Send + 'static) {
        // The driver announces its own end; nobody joins it.
        drop(self.0.spawn(driver));
    }
}
