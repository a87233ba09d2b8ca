//! How far a run in stages has come with a decision.

use std::collections::HashMap;

use perennial_core::run::{
    JobKey, JobKind, JobState, StageOutcome, StageProgress, StageState, progress, shown,
};

use super::{
    super::{Machine, draft::Draft},
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
            let (ends, (state, outcome)) = (board.ends(&planned.name), board.stages[place]);
            let upstream = planned.feed.edge().map(|edge| edge.upstream);
            let is_over = state == StageState::Closed;
            let degrades = ends.degrading + ends.cancelled > 0;
            StageProgress {
                weight: planned.weight,
                is_neutral: is_over && outcome == Some(StageOutcome::Skipped) && !degrades,
                is_final: is_over || state == StageState::Sealed,
                upstream: upstream.and_then(|name| staging.place(name)),
                jobs: ends.settled() + board.open_of(&planned.name) as u64,
                settled: ends.settled(),
                of_groups: groups.get(planned.name.as_str()).copied().unwrap_or(0),
            }
        });
        by_now.collect()
    }

    /// What of the groups of each stage has ended that go on, those that this decision expands as well.
    fn shares<'a>(&self, board: &Board<'_>, machine: &'a Machine) -> HashMap<&'a str, u64> {
        let mut new: HashMap<&JobKey, (u64, u64)> = HashMap::new();
        for job in &self.new_jobs {
            if let Some(group) = &job.part.parent {
                let (settled, children) = new.entry(group).or_default();
                (*settled, *children) =
                    (*settled + u64::from(job.part.skipped.is_some()), *children + 1);
            }
        }
        let mut shares: HashMap<&str, u64> = HashMap::new();
        for (place, job) in machine.jobs.iter().enumerate() {
            let is_open = board.jobs[place].state == JobState::Joining;
            if job.kind != JobKind::Group || job.parent.is_some() || !is_open {
                continue;
            }
            let (mut settled, mut children) = new.get(&job.key).copied().unwrap_or_default();
            for child in machine.index.children(&job.key) {
                settled += u64::from(board.jobs[*child].state.is_terminal());
                children += 1;
            }
            *shares.entry(job.stage.as_str()).or_default() +=
                StageProgress::share(settled, children);
        }
        shares
    }
}
