//! Runs that are recorded and ready to go on, and wait for a free place, with the reason.

use std::sync::Arc;

use dashmap::DashMap;
use perennial_core::{Timestamp, run::RunId};

/// What a run waits for. It is recorded, and starts by itself when that is there.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WaitsFor {
    /// What, in words.
    #[serde(rename = "for")]
    pub what: String,
    /// Since when.
    #[serde(serialize_with = "as_text")]
    pub since: Timestamp,
}

fn as_text<S: serde::Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&at.to_rfc3339())
}

/// Runs that wait; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting(Arc<DashMap<RunId, WaitsFor>>);

impl Waiting {
    /// It waits for `what`; since when it does so already stays.
    pub(crate) fn waits(&self, run: &RunId, what: String, now: Timestamp) {
        let since = self.0.get(run).map_or(now, |known| known.since);
        self.0.insert(run.clone(), WaitsFor { what, since });
    }

    pub(crate) fn starts(&self, run: &RunId) {
        self.0.remove(run);
    }

    /// Whether another one than `run` waits.
    pub(crate) fn has_other(&self, run: &RunId) -> bool {
        self.0.iter().any(|entry| entry.key() != run)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn of(&self, run: &RunId) -> Option<WaitsFor> {
        self.0.get(run).map(|waits| waits.clone())
    }

    pub(crate) fn retain(&self, keep: impl Fn(&RunId) -> bool) {
        self.0.retain(|run, _| keep(run));
    }

    /// All of them, who waits longest first.
    pub(crate) fn all(&self) -> Vec<(RunId, WaitsFor)> {
        let pairs = self.0.iter().map(|entry| (entry.key().clone(), entry.value().clone()));
        let mut all: Vec<(RunId, WaitsFor)> = pairs.collect();
        all.sort_by(|(a, x), (b, y)| (x.since, a).cmp(&(y.since, b)));
        all
    }
}
