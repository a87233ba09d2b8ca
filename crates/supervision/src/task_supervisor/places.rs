//! How many tasks of one supervisor may run, the elements of its streams among them.

use std::sync::Arc;

use crate::{
    RequestError,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Places for tasks. An element of a stream starts without its supervisor, which counts children only.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    /// Never above `max`.
    taken: AtomicUsize,
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: AtomicUsize::new(0) })
    }

    /// Takes a place for as long as what this returns is kept.
    pub(crate) fn place(self: &Arc<Self>) -> Result<Place, RequestError> {
        if self.take() { Ok(Place(self.clone())) } else { Err(self.refusal()) }
    }

    /// Takes a place, to be given back with [`give`](Self::give).
    pub(crate) fn take(&self) -> bool {
        let grow = |taken: usize| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, grow).is_ok()
    }

    /// Takes up to `wanted` at once; answers how many.
    pub(crate) fn take_some(&self, wanted: usize) -> usize {
        let left = |taken: usize| self.max.saturating_sub(taken).min(wanted);
        let grow = |taken: usize| (left(taken) > 0).then(|| taken + left(taken));
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, grow).map_or(0, left)
    }

    pub(crate) fn give(&self, places: usize) {
        if places > 0 {
            self.taken.fetch_sub(places, Ordering::AcqRel);
        }
    }

    pub(crate) fn refusal(&self) -> RequestError {
        RequestError::MaxChildren(self.max)
    }
}

/// One place that is taken.
#[derive(Debug)]
pub(crate) struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.give(1);
    }
}
