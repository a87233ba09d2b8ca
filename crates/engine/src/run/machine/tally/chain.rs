//! Jobs that wait for other jobs of their stage: how many of those each of them still needs.

use std::collections::{BTreeSet, HashMap};

use perennial_core::run::{JobKey, JobState};

use super::super::Job;
use crate::staged::job_key;

/// What a job is to those that come after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run::machine) enum Met {
    /// It is not there.
    Absent,
    Open,
    Well,
    /// It has ended, and not well enough.
    Badly,
}

impl Met {
    pub(in crate::run::machine) fn of(state: JobState) -> Self {
        match state {
            JobState::Succeeded | JobState::Partial => Self::Well,
            JobState::Failed | JobState::Skipped | JobState::Cancelled => Self::Badly,
            JobState::Blocked
            | JobState::Ready
            | JobState::Leased
            | JobState::Deferred
            | JobState::Suspended
            | JobState::Joining => Self::Open,
        }
    }
}

/// What a job that waits for others still needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::run::machine) struct Unmet {
    /// Jobs that have not ended, or are not there.
    open: usize,
    absent: usize,
    badly: usize,
    awaits_feed: bool,
}

impl Unmet {
    fn with(&mut self, met: Met, counts: bool) {
        let step = |count: &mut usize| *count = if counts { *count + 1 } else { *count - 1 };
        match met {
            Met::Absent => {
                step(&mut self.open);
                step(&mut self.absent);
            }
            Met::Open => step(&mut self.open),
            Met::Badly => step(&mut self.badly),
            Met::Well => (),
        }
    }

    pub(in crate::run::machine) fn moved(&mut self, from: Met, to: Met) {
        self.with(from, false);
        self.with(to, true);
    }

    /// Whether it waits no longer: for its turn, or in vain.
    pub(in crate::run::machine) fn is_ripe(self) -> bool {
        !self.awaits_feed && (self.badly > 0 || self.open == 0)
    }

    /// Whether it waits for what may never come.
    pub(in crate::run::machine) fn is_lacking(self) -> bool {
        self.awaits_feed || self.absent > 0
    }
}

#[derive(Debug, Default, PartialEq)]
pub(in crate::run::machine) struct Chains {
    waits: HashMap<usize, Unmet>,
    /// Who waits for the job of that key.
    behind: HashMap<JobKey, BTreeSet<usize>>,
}

impl Chains {
    pub(super) fn enter(&mut self, place: usize, job: &Job, met: impl Fn(&JobKey) -> Met) -> Unmet {
        let mut unmet = Unmet { awaits_feed: job.given.awaits_feed, ..Unmet::default() };
        for key in before(job) {
            unmet.with(met(&key), true);
            self.behind.entry(key).or_default().insert(place);
        }
        self.waits.insert(place, unmet);
        unmet
    }

    pub(super) fn leave(&mut self, place: usize, job: &Job) {
        self.waits.remove(&place);
        for key in before(job) {
            if let Some(behind) = self.behind.get_mut(&key) {
                behind.remove(&place);
                if behind.is_empty() {
                    self.behind.remove(&key);
                }
            }
        }
    }

    /// Those that wait for the job, and what each needs now.
    pub(super) fn moved(&mut self, key: &JobKey, from: Met, to: Met) -> Vec<(usize, Unmet)> {
        let behind = self.behind.get(key).into_iter().flatten();
        let moved = behind.filter_map(|place| {
            let unmet = self.waits.get_mut(place)?;
            unmet.moved(from, to);
            Some((*place, *unmet))
        });
        moved.collect()
    }

    pub(in crate::run::machine) fn behind(&self, key: &JobKey) -> impl Iterator<Item = usize> {
        self.behind.get(key).into_iter().flatten().copied()
    }

    pub(in crate::run::machine) fn unmet(&self, place: usize) -> Unmet {
        self.waits.get(&place).copied().unwrap_or_default()
    }
}

/// What a job comes after, each once.
fn before(job: &Job) -> BTreeSet<JobKey> {
    job.given.after.iter().map(|own| job_key(&job.stage, own)).collect()
}
