//! How far a run in stages has come with a decision.

use std::collections::{BTreeSet, HashMap};

use perennial_core::run::{
    JobKey, JobKind, JobState, StageOutcome, StageProgress, StageState, progress, shown,
};

use super::{
    super::{Machine, draft::Draft, tally::Count},
    Board,
};
use crate::staged::Staging;

impl Draft {
    /// Noted where it is further than it was. What ends its run, or lets it end, says so by that.
    pub(super) fn note_progress(
        &mut self,
        board: &Board<'_>,
        machine: &Machine,
        staging: &Staging,
    ) {
        let Some(mark) = machine.progress.filter(|_| self.run_step.is_none()) else { return };
        let now = shown(mark, progress(&self.stages_by_now(board, machine, staging)), false);
        self.progress = (now > mark).then_some(now);
    }

    fn stages_by_now(
        &self,
        board: &Board<'_>,
        machine: &Machine,
        staging: &Staging,
    ) -> Vec<StageProgress> {
        let groups = self.shares(board, machine);
        let by_now = staging.stages.iter().enumerate().map(|(place, planned)| {
            let Count { ends, open, .. } = board.count(&planned.name);
            let (state, outcome) = board.stages[place];
            let upstream = planned.feed.edge().map(|edge| edge.upstream);
            let is_over = state == StageState::Closed;
            let degrades = ends.degrading + ends.cancelled > 0;
            StageProgress {
                weight: planned.weight,
                is_neutral: is_over && outcome == Some(StageOutcome::Skipped) && !degrades,
                is_final: is_over || state == StageState::Sealed,
                upstream: upstream.and_then(|name| staging.place(name)),
                jobs: ends.settled() + open as u64,
                settled: ends.settled(),
                of_groups: groups.get(planned.name.as_str()).copied().unwrap_or(0),
            }
        });
        by_now.collect()
    }

    /// What of the groups of each stage has ended that go on, those that this decision expands as well.
    fn shares<'a>(&self, board: &Board<'_>, machine: &'a Machine) -> HashMap<&'a str, u64> {
        let (index, tally) = (machine.jobs.index(), machine.jobs.tally());
        let mut new: HashMap<&JobKey, (u64, u64)> = HashMap::new();
        for job in &self.new_jobs {
            if let Some(group) = &job.part.parent {
                let (settled, children) = new.entry(group).or_default();
                (*settled, *children) =
                    (*settled + u64::from(job.part.skipped.is_some()), *children + 1);
            }
        }
        let of_groups = |name| tally.stage(name).map_or(0, |of| of.of_groups);
        let stages = machine.stages.iter().map(|stage| stage.name.as_str());
        let mut shares: HashMap<&str, u64> = stages.map(|name| (name, of_groups(name))).collect();
        // What is otherwise now than it was before this decision.
        let changed = board.changed().flat_map(|place| {
            let above = machine.jobs[place].parent.as_ref().and_then(|group| index.by_key(group));
            [Some(place), above].into_iter().flatten()
        });
        let groups: BTreeSet<usize> =
            changed.chain(new.keys().filter_map(|group| index.by_key(group))).collect();
        for place in groups {
            let job = &machine.jobs[place];
            if job.kind != JobKind::Group || job.parent.is_some() {
                continue;
            }
            let share = shares.entry(job.stage.as_str()).or_default();
            if job.state == JobState::Joining {
                *share -= tally.children(&job.key).share();
            }
            if board.state(place) == JobState::Joining {
                let children = board.children(&job.key);
                let (mut settled, mut all) = new.get(&job.key).copied().unwrap_or_default();
                settled += (children.all - children.open) as u64;
                all += children.all as u64;
                *share += StageProgress::share(settled, all);
            }
        }
        shares
    }
}
