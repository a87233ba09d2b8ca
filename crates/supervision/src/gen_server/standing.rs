//! What others see of a server without asking it.

use std::{collections::BTreeMap, sync::PoisonError};

use super::WatchRef;
use crate::{
    ProcessRef, ProcessStatus,
    sync::{Mutex, MutexGuard},
};

/// Written by the server, read by anybody.
#[derive(Debug)]
pub(crate) struct Standing(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    status: ProcessStatus,
    watches: BTreeMap<WatchRef, ProcessRef>,
}

impl Default for Standing {
    fn default() -> Self {
        let (status, watches) = (ProcessStatus::Starting, BTreeMap::new());
        Self(Mutex::new(Seen { status, watches }))
    }
}

impl Standing {
    pub(super) fn set(&self, status: ProcessStatus) {
        self.seen().status = status;
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.seen().status == ProcessStatus::Suspended
    }

    pub(super) fn watch(&self, watch: WatchRef, process: ProcessRef) {
        self.seen().watches.insert(watch, process);
    }

    pub(super) fn unwatch(&self, watch: WatchRef) {
        self.seen().watches.remove(&watch);
    }

    pub(crate) fn look(&self) -> (ProcessStatus, Vec<ProcessRef>) {
        let seen = self.seen();
        (seen.status, seen.watches.values().cloned().collect())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
