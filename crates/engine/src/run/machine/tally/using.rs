//! What is counted of jobs that use services, and of those that wait for something that is not available.

use std::collections::BTreeSet;

use perennial_core::{Timestamp, run::JobState, service::ServiceKey};
use perennial_store::Deferral;

use super::{super::Job, Times, set, step};
use crate::external::{is_for_room, why};

/// What the jobs that use a service are at.
#[derive(Debug, Default, PartialEq)]
pub(in crate::run::machine) struct Use {
    all: usize,
    /// Those for which it is held.
    holding: usize,
    leased: usize,
    deferred: usize,
    at_once: usize,
    later: Times,
}

impl Use {
    pub(super) fn with(&mut self, place: usize, job: &Job, counts: bool) {
        let is_ready = job.state == JobState::Ready;
        let is_held = match job.state {
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
        step(&mut self.all, true, counts);
        step(&mut self.holding, is_held, counts);
        step(&mut self.leased, job.state == JobState::Leased, counts);
        step(&mut self.deferred, job.state == JobState::Deferred, counts);
        match job.run_after.filter(|_| is_ready) {
            None => step(&mut self.at_once, is_ready, counts),
            Some(at) => set(&mut self.later, (at, place), counts),
        }
    }

    /// Whether a job could be claimed now, or waits for it.
    pub(in crate::run::machine) fn is_asked(&self, now: Timestamp) -> bool {
        self.deferred > 0
            || self.at_once > 0
            || self.later.first().is_some_and(|(at, _)| *at <= now)
    }

    pub(in crate::run::machine) fn is_held(&self) -> bool {
        self.holding > 0
    }

    pub(in crate::run::machine) fn leased(&self) -> u32 {
        u32::try_from(self.leased).unwrap_or(u32::MAX)
    }
}

/// What is the same for all of the jobs that wait for the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::run::machine) struct Kind {
    pub(in crate::run::machine) uses: Vec<ServiceKey>,
    /// The one of them that is waited for, and whether for room only; nothing when it is something else.
    pub(in crate::run::machine) waits_for: Option<(usize, bool)>,
}

impl Kind {
    pub(in crate::run::machine) fn of(uses: &[ServiceKey], cause: &str) -> Self {
        let mut reasons = uses.iter().enumerate();
        let waits_for =
            reasons.find_map(|(place, key)| Some((place, is_for_room(why(cause, key)?))));
        Self { uses: uses.to_vec(), waits_for }
    }
}

/// Jobs that wait for the same.
#[derive(Debug, Default, PartialEq)]
pub(in crate::run::machine) struct Waiting {
    pub(in crate::run::machine) places: BTreeSet<usize>,
    /// When they look again.
    pub(in crate::run::machine) wakes: Times,
    /// When they have waited long enough.
    pub(in crate::run::machine) ends: Times,
}

impl Waiting {
    pub(super) fn add(&mut self, place: usize, deferral: &Deferral) {
        self.places.insert(place);
        self.wakes.insert((deferral.wake_at, place));
        self.ends.insert((deferral.until, place));
    }

    pub(super) fn remove(&mut self, place: usize, deferral: &Deferral) {
        self.places.remove(&place);
        self.wakes.remove(&(deferral.wake_at, place));
        self.ends.remove(&(deferral.until, place));
    }
}
