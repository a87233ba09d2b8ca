//! How far attempts of this process are, in their own words, told to whoever looks at the tree.

use std::sync::Arc;

use dashmap::DashMap;
use perennial_core::run::{JobKey, RunId};
use perennial_store::Lease;
use serde_json::{Map, Value};

use crate::services::AttemptId;

/// The last that each attempt has said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<DashMap<AttemptId, Said>>);

#[derive(Debug)]
struct Said {
    run: RunId,
    job: JobKey,
    progress: Value,
}

impl Progress {
    pub(crate) fn says(&self, lease: &Lease, progress: &Value) {
        let id = AttemptId { job: lease.job, attempt: lease.attempt };
        let (run, job) = (lease.run.clone(), lease.key.clone());
        self.0.insert(id, Said { run, job, progress: progress.clone() });
    }

    pub(crate) fn forget(&self, attempt: AttemptId) {
        self.0.remove(&attempt);
    }

    pub(crate) fn forget_run(&self, run: &RunId) {
        self.0.retain(|_, said| said.run != *run);
    }

    /// By job; nothing when no attempt of the run has said anything.
    pub(crate) fn of(&self, run: &RunId) -> Option<Value> {
        let own = self.0.iter().filter(|said| said.run == *run);
        let said: Map<String, Value> =
            own.map(|said| (said.job.to_string(), said.progress.clone())).collect();
        (!said.is_empty()).then_some(Value::Object(said))
    }
}
