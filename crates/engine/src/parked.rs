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

    /// Leaves the reason of one that is parked already: whoever parked it first knew more.
    pub(crate) fn park_for_want_of_better(&self, run: &RunId, why: impl Into<String>) {
        self.0.entry(run.clone()).or_insert_with(|| why.into());
    }

    /// Answers whether it was parked.
    pub(crate) fn release(&self, run: &RunId) -> bool {
        self.0.remove(run).is_some()
    }

    pub(crate) fn is_parked(&self, run: &RunId) -> bool {
        self.0.contains_key(run)
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
