//! Whether a child is there, coming, or gone: what addresses wait on.

use tokio::sync::watch;

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

/// Set by supervisors without knowing what is published.
pub(crate) trait Announce: Send + Sync {
    fn coming(&self);
    fn gone(&self);
}

impl<T: Clone + Send + Sync> Announce for Publisher<T> {
    fn coming(&self) {
        self.0.send_replace(Phase::Coming);
    }

    fn gone(&self) {
        self.0.send_replace(Phase::Gone);
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

impl<T: Clone> Publisher<T> {
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
