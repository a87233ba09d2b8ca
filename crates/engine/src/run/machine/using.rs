//! What the jobs of a run use of services: what is asked before a claim, and what is held.

use std::collections::BTreeSet;

use perennial_core::{Timestamp, run::RunState, service::ServiceKey};

use super::{Machine, tally::Use};

impl Machine {
    /// What must admit before jobs go on that could be claimed now, or that wait for it.
    pub(in crate::run) fn asks_services(&self, now: Timestamp) -> BTreeSet<ServiceKey> {
        if self.state != RunState::Running {
            return BTreeSet::new();
        }
        self.services(|of| of.is_asked(now))
    }

    /// What is held for its jobs: from when they could be claimed first until they have ended (DUR-80).
    pub(in crate::run) fn holds_services(&self) -> BTreeSet<ServiceKey> {
        self.services(Use::is_held)
    }

    fn services(&self, are: impl Fn(&Use) -> bool) -> BTreeSet<ServiceKey> {
        let services = self.jobs.tally().services().iter().filter(|(_, of)| are(of));
        services.map(|(key, _)| key.clone()).collect()
    }

    /// How many attempts are under way that may call it.
    pub(in crate::run) fn is_let_in(&self, key: &ServiceKey) -> u32 {
        self.jobs.tally().services().get(key).map_or(0, Use::leased)
    }

    /// Whether any of its jobs uses one.
    pub(in crate::run) fn uses_services(&self) -> bool {
        !self.jobs.tally().services().is_empty()
    }
}
