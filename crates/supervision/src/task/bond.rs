//! What ties a task to the process that asked for it.

use std::sync::{Arc, PoisonError};

use crate::{
    ProcessRef,
    life::Watch,
    sync::{Mutex, MutexGuard},
};

/// A link, both ways: the abnormal end of either is one of the other, unless that is told of exits
/// (TSK-016–019). Cheap to clone; lasts until either has ended, or somebody unlinks.
#[derive(Clone, Default)]
pub(crate) struct Bond(Arc<Mutex<Vec<Watch>>>);

impl Bond {
    /// Links `task`, which has just begun, with its owner.
    pub(crate) fn tie(&self, owner: &ProcessRef, task: &ProcessRef) {
        let (from, to) = (owner.clone(), task.clone());
        let down = owner.on_end(move |reason| to.sever(&from, reason));
        let (from, to) = (task.clone(), owner.clone());
        let up = task.on_end(move |reason| to.sever(&from, reason));
        *self.watches() = down.into_iter().chain(up).collect();
        // Nothing of the link outlives the task, whoever holds this.
        let own = self.clone();
        task.ended().on_end(move |_| own.unlink());
    }

    /// From here on the end of one is nothing to the other.
    pub(crate) fn unlink(&self) {
        let watches = std::mem::take(&mut *self.watches());
        drop(watches);
    }

    fn watches(&self) -> MutexGuard<'_, Vec<Watch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
