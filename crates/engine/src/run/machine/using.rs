//! What the jobs of a run use of services: what is asked before a claim, and what is held.

use std::collections::BTreeSet;

use perennial_core::{
    Timestamp,
    run::{JobState, RunState},
    service::ServiceKey,
};

use super::{Job, Machine};

impl Machine {
    /// What must admit before jobs go on that could be claimed now, or that wait for it.
    pub(in crate::run) fn asks_services(&self, now: Timestamp) -> BTreeSet<ServiceKey> {
        if self.state != RunState::Running {
            return BTreeSet::new();
        }
        let asks = |job: &&Job| {
            let is_due = job.run_after.is_none_or(|after| after <= now);
            job.state == JobState::Deferred || job.state == JobState::Ready && is_due
        };
        self.jobs.iter().filter(asks).flat_map(|job| job.uses.iter().cloned()).collect()
    }

    /// What is held for its jobs: from when they could be claimed first until they have ended (DUR-80).
    pub(in crate::run) fn holds_services(&self) -> BTreeSet<ServiceKey> {
        let holds = |job: &&Job| match job.state {
            JobState::Leased | JobState::Deferred => true,
            JobState::Ready => job.attempt > 0 || job.deferred_since.is_some(),
            JobState::Blocked
            | JobState::Suspended
            | JobState::Joining
            | JobState::Succeeded
            | JobState::Partial
            | JobState::Failed
            | JobState::Skipped
            | JobState::Cancelled => false,
        };
        self.jobs.iter().filter(holds).flat_map(|job| job.uses.iter().cloned()).collect()
    }

    /// How many attempts are under way that may call it.
    pub(in crate::run) fn is_let_in(&self, key: &ServiceKey) -> u32 {
        let is_in = |job: &&Job| job.state == JobState::Leased && job.uses.contains(key);
        u32::try_from(self.jobs.iter().filter(is_in).count()).unwrap_or(u32::MAX)
    }

    /// Whether any of its jobs uses one.
    pub(in crate::run) fn uses_services(&self) -> bool {
        self.jobs.iter().any(|job| !job.uses.is_empty())
    }
}
