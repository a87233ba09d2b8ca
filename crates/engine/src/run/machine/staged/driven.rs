//! Driven stages of a plan: what their workflow says comes next, from all that has ended by now.

use std::collections::BTreeMap;

use perennial_core::run::{RunState, StageState};

use super::{
    super::{Circumstances, Machine, draft::Draft},
    Board, Born, ended_at_once,
};
use crate::{
    run::guard::Guard,
    staged::{
        NextJobs, PlanProblem, PlannedFeed, PlannedJob, PlannedStage, RunReport, StageReport,
        Staging, Takes, item, job_key, unusable,
    },
};

impl Draft {
    /// Asks the workflow once, if a driven stage of the plan is open, and makes what it asks for: all of it or, where
    /// something of it cannot be, nothing. Gives the place of the first stage that it seals. Nothing when nobody knows
    /// how the run goes on.
    pub(super) fn ask_next(
        &mut self,
        board: &mut Board<'_>,
        workflow: &Guard<'_>,
        machine: &Machine,
        staging: &Staging,
        at: &Circumstances,
    ) -> Option<Option<usize>> {
        let is_open = |(place, planned): &(usize, &PlannedStage)| {
            matches!(planned.feed, PlannedFeed::Driven)
                && board.stages[*place].0 == StageState::Open
        };
        let open: Vec<usize> =
            staging.stages.iter().enumerate().filter(is_open).map(|(place, _)| place).collect();
        if open.is_empty() {
            return Some(None);
        }
        let next = workflow.next_jobs(&self.ended_by_now(board, machine, staging))?;
        let problems = self.problems(&next, board, machine, staging, at);
        if !problems.is_empty() {
            return workflow.refuse(problems);
        }
        let before = self.new_jobs.len();
        for (stage, spec) in next.jobs.iter().cloned() {
            let Some(place) = staging.place(&stage).filter(|place| open.contains(place)) else {
                // Everything that is asked for is there, or the plan says that it is not to be done.
                continue;
            };
            let planned = &staging.stages[place];
            let uses = planned.uses.iter().chain(&spec.uses);
            let uses = at.services.offered.of_job(uses, &machine.run);
            let job = PlannedJob { uses, ..PlannedJob::of(spec) };
            self.add_job(board, machine, planned, &job, Born::Open, at);
        }
        let sealed = |place: &usize| next.seals(&staging.stages[*place].name);
        let sealed: Vec<usize> = open.iter().copied().filter(sealed).collect();
        for place in &sealed {
            let name = &staging.stages[*place].name;
            self.step_stage(board, *place, name, StageState::Sealed, None);
        }
        let adds = self.new_jobs.len() > before;
        if !adds && sealed.is_empty() && self.is_stuck(board, machine, staging) {
            let name = |place: usize| staging.stages[place].name.clone();
            return workflow.never_sealed(open.into_iter().map(name).collect());
        }
        Some(sealed.first().copied())
    }

    /// Nothing is under way, nothing follows, and nothing ever will: told by the look that would change nothing, so that
    /// all that follows from what has happened is recorded by then. One that is paused is told once it goes on.
    fn is_stuck(&self, board: &Board<'_>, machine: &Machine, staging: &Staging) -> bool {
        let is_running = self.state == RunState::Running && machine.state == RunState::Running;
        let changes = self.report.is_some()
            || self.run_step.is_some()
            || !(self.job_steps.is_empty() && self.new_jobs.is_empty() && self.stages.is_empty());
        let open = staging.stages.iter().map(|planned| board.count(&planned.name).open);
        is_running && !changes && open.sum::<usize>() == 0
    }

    /// The own jobs of all stages that have ended, with this decision as well, in the order they were made.
    fn ended_by_now(&self, board: &Board<'_>, machine: &Machine, staging: &Staging) -> RunReport {
        let stages = staging.stages.iter().zip(&board.stages);
        let mut stages: Vec<StageReport> = stages
            .map(|(planned, (state, outcome))| StageReport {
                stage: planned.name.clone(),
                state: *state,
                outcome: *outcome,
                items: Vec::new(),
            })
            .collect();
        let places: BTreeMap<&str, usize> =
            staging.stages.iter().enumerate().map(|(at, it)| (it.name.as_str(), at)).collect();
        for (place, job) in machine.jobs.iter().enumerate() {
            let state = board.state(place);
            let of = places.get(job.stage.as_str()).filter(|_| job.parent.is_none());
            let Some(of) = of.filter(|_| state.is_terminal()) else { continue };
            let (skipped, result) = (board.skipped(place), board.result(place));
            stages[*of].items.push(item(&job.key, &job.stage, state, skipped, result));
        }
        // Skipped or failed from the beginning, by this decision.
        for new in &self.new_jobs {
            let is_known = machine.jobs.index().by_key(&new.key).is_some();
            let of = places.get(new.stage.as_str()).filter(|_| !is_known);
            let (Some(of), Some(state)) = (of, ended_at_once(&new.part)) else { continue };
            let (skipped, result) = (new.part.skipped, new.part.failed.as_ref());
            stages[*of].items.push(item(&new.key, &new.stage, state, skipped, result));
        }
        RunReport { state: self.state, stages }
    }

    /// What of it cannot be.
    fn problems(
        &self,
        next: &NextJobs,
        board: &Board<'_>,
        machine: &Machine,
        staging: &Staging,
        at: &Circumstances,
    ) -> Vec<PlanProblem> {
        let driven = staging.stages.iter().enumerate();
        let driven = driven.filter(|(_, planned)| matches!(planned.feed, PlannedFeed::Driven));
        let takes = driven.map(|(place, planned)| {
            let has = |own: &str| {
                let key = job_key(&planned.name, own);
                board.adds(&key) || machine.jobs.index().by_key(&key).is_some()
            };
            // Of one that is not to be done nothing is made, as with every other feed.
            let is_sealed = board.stages[place].0 != StageState::Open && planned.skip.is_none();
            (planned.name.as_str(), Takes { has: Box::new(has), is_sealed })
        });
        let jobs = machine.jobs.len() + self.new_jobs.len();
        let mut problems = next.problems(&takes.collect(), jobs, at.settings.run_jobs_max);
        for (stage, job) in next.jobs.iter().filter(|(_, job)| !job.uses.is_empty()) {
            let what = || format!("job `{}` of stage `{stage}`", job.key);
            problems.extend(unusable(what, &job.uses, &machine.run, &at.services.offered));
        }
        problems
    }
}
