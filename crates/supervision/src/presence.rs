//! Whether a child is there, coming, or gone: what addresses wait on.

use tokio::sync::watch;

use crate::life::Pid;

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

/// The writing end, held by the child's specification; dropping the last one means gone.
#[derive(Debug)]
pub(crate) struct Publisher<T>(watch::Sender<Phase<T>>);

/// The reading end.
#[derive(Debug)]
pub(crate) struct Presence<T>(watch::Receiver<Phase<T>>);

impl<T> Clone for Presence<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What is published: one life of something.
pub(crate) trait OneLife {
    fn pid(&self) -> Pid;
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
    let (writer, reader) = watch::channel(Phase::Gone);
    (Publisher(writer), Presence(reader))
}

impl<T> Publisher<T> {
    fn change(&self, next: Phase<T>, when: impl FnOnce(&Phase<T>) -> bool) {
        let mut phase = next;
        self.0.send_if_modified(|present| {
            let change = when(present);
            if change {
                std::mem::swap(present, &mut phase);
            }
            change
        });
        // What was there before is dropped here, outside the lock.
    }

    pub(crate) fn up(&self, incarnation: T) {
        self.0.send_replace(Phase::Up(incarnation));
    }
}

impl<T: Clone> Presence<T> {
    /// The present incarnation; waits while one is coming. The caller brings the deadline.
    pub(crate) async fn current(&self) -> Result<T, NothingComes> {
        let mut phase = self.0.clone();
        let settled = phase.wait_for(|phase| !matches!(phase, Phase::Coming)).await;
        match settled.as_deref() {
            Ok(Phase::Up(incarnation)) => Ok(incarnation.clone()),
            Ok(Phase::Coming | Phase::Gone) | Err(_) => Err(NothingComes),
        }
    }

    /// The present incarnation, if there is one now.
    pub(crate) fn now(&self) -> Option<T> {
        match &*self.0.borrow() {
            Phase::Up(incarnation) => Some(incarnation.clone()),
            Phase::Coming | Phase::Gone => None,
        }
    }
}
