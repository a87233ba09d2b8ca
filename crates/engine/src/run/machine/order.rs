//! What comes first (DUR-12): of the jobs of a run, and of runs that wait for room.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use perennial_core::{
    Timestamp,
    run::{JobState, Priority},
};
use perennial_store::{Decision, RunView};

use super::{Machine, Unchanged, draft::Draft};

/// Since when the jobs of each priority have waited, of those that can be claimed: since one of them was claimed last, and if none
/// ever was, since the run was made.
pub(super) fn served(view: &RunView) -> BTreeMap<Priority, Timestamp> {
    let ready = view.jobs.iter().filter(|job| job.state == JobState::Ready);
    let mut served: BTreeMap<Priority, Timestamp> =
        ready.map(|job| (job.priority, view.run.created_at)).collect();
    if served.len() < 2 {
        return served;
    }
    // Both lists are in the order of the jobs.
    let mut jobs = view.jobs.iter().peekable();
    for attempt in &view.attempts {
        while jobs.next_if(|job| job.id < attempt.job).is_some() {}
        let of = jobs.peek().filter(|job| job.id == attempt.job);
        if let Some(since) = of.and_then(|job| served.get_mut(&job.priority)) {
            *since = attempt.claimed_at.max(*since);
        }
    }
    served
}

impl Machine {
    /// The priorities of jobs that can be claimed, in the order in which they come: who has waited for long comes before what is more
    /// urgent (INV-ST-21).
    pub(in crate::run) fn order(&mut self, now: Timestamp, aging: Duration) -> Vec<Priority> {
        let ready = self.jobs.tally().ready();
        self.served.retain(|priority, _| ready.contains_key(priority));
        for priority in ready.keys() {
            self.served.entry(*priority).or_insert(now);
        }
        let mut order: Vec<_> = self.served.iter().collect();
        order.sort_by_key(|(priority, since)| {
            (Reverse(priority.aged(now.since(**since), aging)), **since, Reverse(**priority))
        });
        order.into_iter().map(|(priority, _)| *priority).collect()
    }

    /// Whether jobs can be claimed, now or at a time, that are more urgent.
    pub(in crate::run) fn has_before(&self, priority: Priority) -> bool {
        let first = self.jobs.tally().ready().last_key_value();
        first.is_some_and(|(first, _)| *first > priority)
    }

    /// What the run itself has.
    pub(in crate::run) fn priority(&self) -> Priority {
        self.priority
    }

    /// How soon the run comes of those that wait for room: by what of it comes first.
    pub(in crate::run) fn urgency(&self) -> Priority {
        let first = self.jobs.tally().ready().last_key_value();
        self.priority.plus(first.map_or(Priority::NORMAL, |(priority, _)| *priority))
    }

    /// The same run, read again: what has waited has done so before as well.
    pub(in crate::run) fn goes_on_as(&mut self, read: Self) {
        let served = std::mem::replace(self, read).served;
        for (priority, since) in served {
            self.served.entry(priority).and_modify(|it| *it = since.max(*it));
        }
    }

    pub(super) fn prioritise(
        &self,
        mut draft: Draft,
        priority: Priority,
    ) -> Result<Option<Decision>, Unchanged> {
        if self.priority == priority || !self.state.goes_on() {
            return Err(Unchanged::Already);
        }
        draft.priority = Some(priority);
        Ok(draft.finish(self))
    }
}
