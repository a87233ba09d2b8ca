//! Numbers of jobs: of a stage, of a group, and of those that a claim finds.

use perennial_core::{
    Timestamp,
    run::{Ends, JobState, SkipReason, StageProgress},
};

use super::{Times, due, set, step};
use crate::staged::JoinPolicy;

/// How the own jobs of a stage stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::run::machine) struct Count {
    pub(in crate::run::machine) ends: Ends,
    pub(in crate::run::machine) open: usize,
    /// Those that take a place.
    pub(in crate::run::machine) held: usize,
    /// Those whose end is a failure for what follows from them.
    pub(in crate::run::machine) failing: usize,
    /// Those that wait for other jobs.
    pub(in crate::run::machine) blocked: usize,
}

impl Count {
    /// One more, or one less; not of those that wait for others.
    pub(in crate::run::machine) fn with(
        &mut self,
        state: JobState,
        skipped: Option<SkipReason>,
        counts: bool,
    ) {
        let mut one = Ends::default();
        one.add(state, skipped);
        let of = &mut self.ends;
        for (all, one) in [
            (&mut of.succeeded, one.succeeded),
            (&mut of.partial, one.partial),
            (&mut of.failed, one.failed),
            (&mut of.neutral, one.neutral),
            (&mut of.degrading, one.degrading),
            (&mut of.cancelled, one.cancelled),
        ] {
            *all = if counts { *all + one } else { *all - one };
        }
        step(&mut self.open, !state.is_terminal(), counts);
        step(&mut self.held, matches!(state, JobState::Leased | JobState::Joining), counts);
        step(&mut self.failing, fails(state, skipped), counts);
    }
}

/// Whether the end of a job is a failure for those that follow from it.
pub(in crate::run::machine) fn fails(state: JobState, skipped: Option<SkipReason>) -> bool {
    let is_success = matches!(state, JobState::Succeeded | JobState::Partial);
    let is_neutral = state == JobState::Skipped && skipped.is_some_and(|why| !why.degrades());
    state.is_terminal() && !is_success && !is_neutral
}

/// How the children of a group stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::run::machine) struct Children {
    pub(in crate::run::machine) all: usize,
    pub(in crate::run::machine) open: usize,
    succeeded: usize,
    /// Those with whose end the group cannot succeed.
    failed: usize,
}

impl Children {
    /// One more.
    pub(in crate::run::machine) fn put(&mut self, state: JobState, required: bool) {
        self.with(state, required, true);
    }

    /// One less.
    pub(in crate::run::machine) fn take(&mut self, state: JobState, required: bool) {
        self.with(state, required, false);
    }

    fn with(&mut self, state: JobState, required: bool, counts: bool) {
        step(&mut self.all, true, counts);
        step(&mut self.open, !state.is_terminal(), counts);
        let has_succeeded = matches!(state, JobState::Succeeded | JobState::Partial);
        step(&mut self.succeeded, has_succeeded, counts);
        let has_failed = state == JobState::Failed || required && state == JobState::Skipped;
        step(&mut self.failed, has_failed, counts);
    }

    /// Whether the group waits for none of them any longer.
    pub(in crate::run::machine) fn is_settled(self, policy: JoinPolicy) -> bool {
        self.open == 0 || self.gives_up(policy)
    }

    /// Whether the policy of the group gives up the rest of them.
    pub(in crate::run::machine) fn gives_up(self, policy: JoinPolicy) -> bool {
        match policy {
            JoinPolicy::AllSettled => false,
            JoinPolicy::FailFast => self.failed > 0,
            JoinPolicy::Quorum(enough) => {
                let enough = enough as usize;
                self.succeeded >= enough || self.succeeded + self.open < enough
            }
        }
    }

    /// What of them has ended, in millionths.
    pub(in crate::run::machine) fn share(self) -> u64 {
        StageProgress::share((self.all - self.open) as u64, self.all as u64)
    }
}

/// Jobs that a claim finds, at once or at their time.
#[derive(Debug, Default, PartialEq)]
pub(in crate::run::machine) struct Ready {
    at_once: usize,
    later: Times,
}

impl Ready {
    pub(super) fn with(&mut self, place: usize, at: Option<Timestamp>, counts: bool) {
        match at {
            None => step(&mut self.at_once, true, counts),
            Some(at) => set(&mut self.later, (at, place), counts),
        }
    }

    /// How many are due, counted no further than `most`.
    pub(in crate::run::machine) fn due(&self, now: Timestamp, most: usize) -> usize {
        let left = most.saturating_sub(self.at_once);
        self.at_once.min(most) + due(&self.later, now).take(left).count()
    }
}
