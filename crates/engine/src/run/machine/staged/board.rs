//! The jobs and stages of a run as a decision in the making leaves them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use perennial_core::run::{Ends, JobKey, JobState, SkipReason, StageOutcome, StageState};
use serde_json::Value;

use super::super::{Job, Machine, draft::Draft};

/// A job, with what this decision makes of it.
pub(super) struct JobNow {
    pub(super) state: JobState,
    pub(super) skipped: Option<SkipReason>,
    pub(super) result: Option<Arc<Value>>,
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
    fn add(&mut self, state: JobState, skipped: Option<SkipReason>) {
        if state.is_terminal() {
            self.ends.add(state, skipped);
        } else {
            self.open += 1;
        }
        self.held += usize::from(matches!(state, JobState::Leased | JobState::Joining));
    }
}

pub(super) struct Board<'a> {
    machine: &'a Machine,
    /// In the order of the machine's.
    pub(super) jobs: Vec<JobNow>,
    pub(super) stages: Vec<(StageState, Option<StageOutcome>)>,
    counts: HashMap<&'a str, Count>,
    /// Keys of the jobs that this decision adds.
    new_keys: HashSet<JobKey>,
}

impl<'a> Board<'a> {
    pub(super) fn of(machine: &'a Machine, draft: &Draft) -> Self {
        let now = |job: &Job| JobNow {
            state: job.state,
            skipped: job.skipped,
            result: job.result.clone(),
            has_changed: false,
        };
        let mut jobs: Vec<JobNow> = machine.jobs.iter().map(now).collect();
        let mut change = |id: i64, state, skipped, result: &Option<Value>| {
            if let Some(job) = machine.index.by_id(id).and_then(|place| jobs.get_mut(place)) {
                let result = result.clone().map(Arc::new);
                *job = JobNow { state, skipped, result, has_changed: true };
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
            machine,
            stages: stages.collect(),
            jobs,
            counts: machine
                .stages
                .iter()
                .map(|stage| (stage.name.as_str(), Count::default()))
                .collect(),
            new_keys: HashSet::new(),
        };
        board.count();
        board
    }

    fn count(&mut self) {
        for (job, now) in self.machine.jobs.iter().zip(&self.jobs) {
            if job.parent.is_none() {
                self.counts.entry(&job.stage).or_default().add(now.state, now.skipped);
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
        if job.parent.is_none()
            && let Some(count) = self.counts.get_mut(job.stage.as_str())
        {
            count.open -= usize::from(!before.state.is_terminal());
            let held = matches!(before.state, JobState::Leased | JobState::Joining);
            count.held -= usize::from(held);
            count.add(to, skipped);
        }
        self.jobs[place] =
            JobNow { state: to, skipped, result: result.map(Arc::new), has_changed: true };
    }

    /// One more own job of a stage, of this decision.
    pub(super) fn count_new(&mut self, stage: &str, state: JobState, skipped: Option<SkipReason>) {
        if let Some(count) = self.counts.get_mut(stage) {
            count.add(state, skipped);
        }
    }

    pub(super) fn machine(&self) -> &'a Machine {
        self.machine
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

    /// Whether this decision adds a job of that key.
    pub(super) fn adds(&self, key: &JobKey) -> bool {
        self.new_keys.contains(key)
    }

    /// Notes a job that this decision adds; false when its run has one of that name.
    pub(super) fn add_key(&mut self, key: &JobKey) -> bool {
        self.machine.index.by_key(key).is_none() && self.new_keys.insert(key.clone())
    }
}
