//! Whether a child is there, coming, or gone: what addresses wait on.

use std::sync::{Arc, OnceLock, PoisonError};

use crate::{
    life::Pid,
    sync::{
        Mutex, MutexGuard, Notify,
        atomic::{AtomicBool, Ordering},
    },
};

/// What a destination is at the moment.
#[derive(Clone, Debug)]
pub(crate) enum Phase<T> {
    /// Its supervisor has not started it, or is bringing it back.
    Coming,
    /// It runs.
    Up(T),
    /// Nothing will come.
    Gone,
}

/// What both ends share.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    phase: Mutex<Phase<T>>,
    /// Of the phase.
    changed: Notify,
    /// The writing end is gone: nothing changes any more.
    closed: AtomicBool,
    /// Where what is published first was.
    path: OnceLock<Arc<str>>,
}

/// The writing end, held by the child's specification; dropping the last one means gone.
#[derive(Debug)]
pub(crate) struct Publisher<T>(Arc<Shared<T>>);

/// The reading end.
#[derive(Debug)]
pub(crate) struct Presence<T>(Arc<Shared<T>>);

impl<T> Clone for Presence<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Drop for Publisher<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

impl<T> Shared<T> {
    fn phase(&self) -> MutexGuard<'_, Phase<T>> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is published: one life of something.
pub(crate) trait OneLife {
    fn pid(&self) -> Pid;
    /// Its place in the tree, where errors tell it.
    fn path(&self) -> Option<Arc<str>> {
        None
    }
}

/// Set without knowing what is published.
///
/// Invariant: a life that is up is taken down by its own end only, so that no news about an earlier
/// life, however late, hides the one that runs.
pub(crate) trait Announce: Send + Sync {
    /// Unless it is up: it will be.
    fn coming(&self);
    /// Unless it is up: it will not be.
    fn gone(&self);
    /// The life `pid` ended, or nobody waits for its end any more; what comes next is not known.
    fn ended(&self, pid: Pid);
}

impl<T: OneLife + Send + Sync> Announce for Publisher<T> {
    fn coming(&self) {
        self.change(Phase::Coming, |phase| matches!(phase, Phase::Gone));
    }

    fn gone(&self) {
        self.change(Phase::Gone, |phase| matches!(phase, Phase::Coming));
    }

    fn ended(&self, pid: Pid) {
        self.change(Phase::Coming, |phase| matches!(phase, Phase::Up(life) if life.pid() == pid));
    }
}

/// A destination that nothing will come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NothingComes;

/// Before the first start nothing is promised: a destination that was never started is gone.
pub(crate) fn channel<T>() -> (Publisher<T>, Presence<T>) {
    let shared = Arc::new(Shared {
        phase: Mutex::new(Phase::Gone),
        changed: Notify::new(),
        closed: AtomicBool::new(false),
        path: OnceLock::new(),
    });
    (Publisher(shared.clone()), Presence(shared))
}

impl<T> Publisher<T> {
    fn change(&self, next: Phase<T>, when: impl FnOnce(&Phase<T>) -> bool) {
        let before = {
            let mut phase = self.0.phase();
            when(&phase).then(|| std::mem::replace(&mut *phase, next))
        };
        if before.is_some() {
            self.0.changed.notify_waiters();
        }
        // What was there before is dropped here, outside the lock.
    }

    pub(crate) fn up(&self, incarnation: T)
    where
        T: OneLife,
    {
        if self.0.path.get().is_none()
            && let Some(path) = incarnation.path()
        {
            self.0.path.get_or_init(|| path);
        }
        self.change(Phase::Up(incarnation), |_| true);
    }
}

impl<T> Presence<T> {
    pub(crate) fn of(shared: Arc<Shared<T>>) -> Self {
        Self(shared)
    }

    pub(crate) fn shared(&self) -> Arc<Shared<T>> {
        self.0.clone()
    }

    /// Where what was published was, if anything ever was.
    pub(crate) fn path(&self) -> Option<&str> {
        self.0.path.get().map(|path| &**path)
    }
}

impl<T: Clone> Presence<T> {
    /// The present incarnation; waits while one is coming. The caller brings the deadline.
    pub(crate) async fn current(&self) -> Result<T, NothingComes> {
        // Mostly it is there.
        if let Some(settled) = self.settled() {
            return settled;
        }
        loop {
            // Made before the look: a change after it is not missed.
            let changed = self.0.changed.notified();
            if let Some(settled) = self.settled() {
                return settled;
            }
            changed.await;
        }
    }

    /// What there is; nothing while that is open.
    fn settled(&self) -> Option<Result<T, NothingComes>> {
        match &*self.0.phase() {
            Phase::Up(incarnation) => Some(Ok(incarnation.clone())),
            Phase::Gone => Some(Err(NothingComes)),
            Phase::Coming if self.0.closed.load(Ordering::SeqCst) => Some(Err(NothingComes)),
            Phase::Coming => None,
        }
    }

    /// The present incarnation, if there is one now.
    pub(crate) fn now(&self) -> Option<T> {
        match &*self.0.phase() {
            Phase::Up(incarnation) => Some(incarnation.clone()),
            Phase::Coming | Phase::Gone => None,
        }
    }
}
