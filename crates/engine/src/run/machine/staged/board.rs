//! The jobs and stages of a run as a decision in the making leaves them.

use std::collections::HashMap;

use perennial_core::run::{Ends, JobKey, JobState, SkipReason, StageOutcome, StageState};
use serde_json::Value;

use super::{
    super::{Job, Machine, draft::Draft},
    Keys,
};

/// A job, with what this decision makes of it.
pub(super) struct JobNow {
    pub(super) state: JobState,
    pub(super) skipped: Option<SkipReason>,
    pub(super) result: Option<Value>,
    /// Its state is of this decision.
    pub(super) has_changed: bool,
}

/// How the own jobs of a stage stand.
#[derive(Clone, Copy, Default)]
pub(super) struct Count {
    ends: Ends,
    open: usize,
    /// Those that take a place.
    held: usize,
}

impl Count {
    /// One that this decision adds.
    pub(super) fn add_new(&mut self, skipped: Option<SkipReason>) {
        match skipped {
            Some(_) => self.ends.add(JobState::Skipped, skipped),
            None => self.open += 1,
        }
    }

    fn add(&mut self, state: JobState, skipped: Option<SkipReason>) {
        if state.is_terminal() {
            self.ends.add(state, skipped);
        } else {
            self.open += 1;
        }
        self.held += usize::from(matches!(state, JobState::Leased | JobState::Joining));
    }
}

pub(super) struct Board {
    /// In the order of the machine's.
    pub(super) jobs: Vec<JobNow>,
    pub(super) stages: Vec<(StageState, Option<StageOutcome>)>,
    counts: HashMap<String, Count>,
    /// All keys, those that this decision adds as well.
    pub(super) keys: Keys,
    /// Children of each group.
    children: HashMap<JobKey, Vec<usize>>,
}

impl Board {
    pub(super) fn of(machine: &Machine, draft: &Draft) -> Self {
        let now = |job: &Job| JobNow {
            state: job.state,
            skipped: job.skipped,
            result: job.result.clone(),
            has_changed: false,
        };
        let mut jobs: Vec<JobNow> = machine.jobs.iter().map(now).collect();
        let mut change = |id: i64, state, skipped, result: &Option<Value>| {
            if let Some(job) = machine.places.get(&id).and_then(|place| jobs.get_mut(*place)) {
                *job = JobNow { state, skipped, result: result.clone(), has_changed: true };
            }
        };
        if let Some(report) = &draft.report {
            change(report.lease.job, report.job, report.skipped, &report.result);
        }
        for step in &draft.job_steps {
            change(step.job, step.to, step.skipped, &step.result);
        }
        let stages = machine.stages.iter().map(|stage| (stage.state, stage.outcome));
        let mut board = Self {
            stages: stages.collect(),
            jobs,
            counts: HashMap::new(),
            keys: machine.jobs.iter().map(|job| job.key.clone()).collect(),
            children: HashMap::new(),
        };
        for (place, job) in machine.jobs.iter().enumerate() {
            if let Some(parent) = &job.parent {
                board.children.entry(parent.clone()).or_default().push(place);
            }
        }
        board.count(machine);
        board
    }

    fn count(&mut self, machine: &Machine) {
        self.counts.clear();
        for (job, now) in machine.jobs.iter().zip(&self.jobs) {
            if job.parent.is_none() {
                self.counts.entry(job.stage.clone()).or_default().add(now.state, now.skipped);
            }
        }
    }

    /// What this decision makes of a job.
    pub(super) fn change(
        &mut self,
        place: usize,
        job: &Job,
        to: JobState,
        skipped: Option<SkipReason>,
        result: Option<Value>,
    ) {
        let before = &self.jobs[place];
        if job.parent.is_none() {
            let count = self.counts.entry(job.stage.clone()).or_default();
            count.open -= usize::from(!before.state.is_terminal());
            let held = matches!(before.state, JobState::Leased | JobState::Joining);
            count.held -= usize::from(held);
            count.add(to, skipped);
        }
        self.jobs[place] = JobNow { state: to, skipped, result, has_changed: true };
    }

    pub(super) fn ends_of(&mut self, stage: &str) -> &mut Count {
        self.counts.entry(stage.to_owned()).or_default()
    }

    /// How many own jobs of a stage have ended how.
    pub(super) fn ends(&self, stage: &str) -> Ends {
        self.counts.get(stage).map_or_else(Ends::default, |count| count.ends)
    }

    /// How many have not.
    pub(super) fn open_of(&self, stage: &str) -> usize {
        self.counts.get(stage).map_or(0, |count| count.open)
    }

    /// How many take a place of their stage.
    pub(super) fn held_of(&self, stage: &str) -> usize {
        self.counts.get(stage).map_or(0, |count| count.held)
    }

    pub(super) fn children(&self, group: &JobKey) -> &[usize] {
        self.children.get(group).map_or(&[], Vec::as_slice)
    }
}
