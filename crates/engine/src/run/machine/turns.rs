//! Turns of jobs of which only so many are under way at a time, over all runs.

use perennial_core::{
    Timestamp,
    run::{JobState, RunState},
};
use perennial_store::{Decision, Deferral, Keyed, Turn};

use super::{Job, Machine};

impl Job {
    /// It has no turn any more, and waits for none.
    pub(super) fn ask_anew(&mut self) {
        self.set_turn(Turn::None, None);
    }

    /// What has waited for its turn has waited for nothing else meanwhile.
    pub(super) fn has_waited(&mut self, now: Timestamp) {
        let Some(Keyed { turn: Turn::Waits, since, .. }) = &self.keyed else { return };
        let parked = since.unwrap_or(now);
        let earlier = self.deferred_since.filter(|since| *since < parked);
        self.deferred_since = earlier.map(|since| since.after(now.since(parked)));
        self.deferral = None;
    }

    /// Whether it may be expanded: a group with a key only when it has its turn.
    pub(super) fn may_expand(&self) -> bool {
        self.keyed.as_ref().is_none_or(|keyed| keyed.turn == Turn::Has)
    }

    /// Whether a claim may find that it is its turn.
    pub(super) fn asks_turn(&self) -> bool {
        let Some(keyed) = &self.keyed else { return false };
        match self.state {
            JobState::Deferred => keyed.turn == Turn::Waits,
            // What is no group asks when it is claimed.
            JobState::Ready => {
                self.kind == perennial_core::run::JobKind::Group && keyed.turn == Turn::None
            }
            JobState::Blocked
            | JobState::Leased
            | JobState::Suspended
            | JobState::Joining
            | JobState::Succeeded
            | JobState::Partial
            | JobState::Failed
            | JobState::Skipped
            | JobState::Cancelled => false,
        }
    }

    pub(super) fn set_turn(&mut self, turn: Turn, since: Option<Timestamp>) {
        if let Some(keyed) = &mut self.keyed {
            (keyed.turn, keyed.since) = (turn, since);
        }
    }
}

impl Machine {
    /// How many of its jobs ask for their turn with a key, apart from those that ask when they are claimed.
    pub(in crate::run) fn asks_turns(&self) -> usize {
        if self.state == RunState::Running { self.jobs.tally().turns() } else { 0 }
    }

    /// Whether a decision ends what had a turn.
    pub(in crate::run) fn gives_turn_back(&self, decision: &Decision) -> bool {
        let report = decision.report.iter().map(|report| report.lease.job);
        let steps = decision.jobs.iter().filter(|step| step.to.is_terminal()).map(|step| step.job);
        report.chain(steps).any(|id| self.job(id).is_some_and(|job| job.keyed.is_some()))
    }

    /// A claim found that it is not its turn.
    pub(in crate::run) fn parked(&mut self, id: i64, deferral: Deferral, now: Timestamp) {
        self.jobs.change(id, |job| {
            job.state = JobState::Deferred;
            job.run_after = None;
            job.deferred_since = job.deferred_since.or(Some(now));
            job.deferral = Some(deferral);
            job.set_turn(Turn::Waits, Some(now));
        });
    }

    /// A claim found that it is the turn of a group.
    pub(in crate::run) fn has_turn(&mut self, id: i64, now: Timestamp) {
        self.is_ready(id, now);
        self.jobs.change(id, |job| job.set_turn(Turn::Has, None));
    }

    /// One that waited for its turn can be claimed.
    pub(in crate::run) fn is_ready(&mut self, id: i64, now: Timestamp) {
        self.jobs.change(id, |job| {
            job.state = JobState::Ready;
            job.run_after = None;
            job.has_waited(now);
            job.ask_anew();
        });
    }
}
