//! Runs that this process cannot continue, with the reason: whoever waits for one is told.

use std::sync::Arc;

use dashmap::DashMap;
use perennial_core::run::RunId;

/// Runs that cannot be continued here; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parked(Arc<DashMap<RunId, String>>);

impl Parked {
    pub(crate) fn park(&self, run: &RunId, why: impl Into<String>) {
        self.0.insert(run.clone(), why.into());
    }

    pub(crate) fn release(&self, run: &RunId) {
        self.0.remove(run);
    }

    pub(crate) fn why(&self, run: &RunId) -> Option<String> {
        self.0.get(run).map(|why| why.clone())
    }

    pub(crate) fn retain(&self, keep: impl Fn(&RunId) -> bool) {
        self.0.retain(|run, _| keep(run));
    }

    pub(crate) fn all(&self) -> Vec<(RunId, String)> {
        self.0.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect()
    }
}
