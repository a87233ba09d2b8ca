//! The jobs and stages of a run as a decision in the making leaves them: what it changes, over what the run counts. It
//! costs what the decision changes, and not what the run has.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use perennial_core::run::{Ends, JobKey, JobState, SkipReason, StageOutcome, StageState};
use serde_json::Value;

use super::super::{
    Job, Machine,
    draft::Draft,
    tally::{Children, Count, Met, Unmet},
};

/// What this decision makes of a job.
struct JobNow {
    state: JobState,
    skipped: Option<SkipReason>,
    result: Option<Arc<Value>>,
}

pub(super) struct Board<'a> {
    machine: &'a Machine,
    /// By their places in the machine's list.
    changed: BTreeMap<usize, JobNow>,
    pub(super) stages: Vec<(StageState, Option<StageOutcome>)>,
    counts: HashMap<&'a str, Count>,
    /// Jobs of the run that have not ended, without those that this decision adds.
    open: usize,
    /// Of the groups whose children it changes.
    children: HashMap<&'a JobKey, Children>,
    /// Groups whose children have changed since somebody asked.
    stirred: BTreeSet<usize>,
    /// Of jobs that wait for those that it changes.
    unmet: HashMap<usize, Unmet>,
    /// Those of them that need not wait any more.
    ripe: BTreeSet<usize>,
    /// Keys of the jobs that this decision adds.
    new_keys: HashSet<JobKey>,
    /// The job of which it uses an attempt.
    uses_attempt: Option<i64>,
}

impl<'a> Board<'a> {
    pub(super) fn of(machine: &'a Machine, draft: &Draft) -> Self {
        let tally = machine.jobs.tally();
        let count = |stage: &'a str| (stage, tally.stage(stage).map(|of| of.count));
        let counts = machine.stages.iter().map(|stage| count(stage.name.as_str()));
        let stages = machine.stages.iter().map(|stage| (stage.state, stage.outcome));
        let mut board = Self {
            machine,
            changed: BTreeMap::new(),
            stages: stages.collect(),
            counts: counts.map(|(stage, count)| (stage, count.unwrap_or_default())).collect(),
            open: tally.open().len(),
            children: HashMap::new(),
            stirred: BTreeSet::new(),
            unmet: HashMap::new(),
            ripe: BTreeSet::new(),
            new_keys: HashSet::new(),
            uses_attempt: draft
                .report
                .as_ref()
                .filter(|report| report.end.uses_budget())
                .map(|report| report.lease.job),
        };
        if let Some(report) = &draft.report {
            board.change_of(report.lease.job, report.job, report.skipped, &report.result);
        }
        for step in &draft.job_steps {
            board.change_of(step.job, step.to, step.skipped, &step.result);
        }
        board
    }

    fn change_of(
        &mut self,
        id: i64,
        to: JobState,
        skipped: Option<SkipReason>,
        result: &Option<Value>,
    ) {
        if let Some(place) = self.machine.jobs.index().by_id(id) {
            self.change(place, to, skipped, result.clone());
        }
    }

    /// What this decision makes of a job.
    pub(super) fn change(
        &mut self,
        place: usize,
        to: JobState,
        skipped: Option<SkipReason>,
        result: Option<Value>,
    ) {
        let Some(job) = self.job(place) else { return };
        let (before, was_skipped) = (self.state(place), self.skipped(place));
        let is_first = !self.has_changed(place);
        match &job.parent {
            None => {
                if let Some(count) = self.counts.get_mut(job.stage.as_str()) {
                    count.with(before, was_skipped, false);
                    count.with(to, skipped, true);
                    count.blocked -= usize::from(is_first && job.state == JobState::Blocked);
                }
            }
            Some(group) => {
                let mut children = self.children(group);
                children.take(before, job.given.required);
                children.put(to, job.given.required);
                self.children.insert(group, children);
                self.stirred.extend(self.machine.jobs.index().by_key(group));
            }
        }
        self.open += usize::from(!to.is_terminal());
        self.open -= usize::from(!before.is_terminal());
        let moved = (Met::of(before), Met::of(to));
        if moved.0 != moved.1 {
            let chains = self.machine.jobs.tally().chains();
            for behind in chains.behind(&job.key) {
                let unmet = self.unmet.entry(behind).or_insert_with(|| chains.unmet(behind));
                unmet.moved(moved.0, moved.1);
                if unmet.is_ripe() {
                    self.ripe.insert(behind);
                }
            }
        }
        let result = result.map(Arc::new);
        self.changed.insert(place, JobNow { state: to, skipped, result });
    }

    /// One more own job of a stage, of this decision. What follows from its end is the next one's.
    pub(super) fn count_new(&mut self, stage: &str, state: JobState, skipped: Option<SkipReason>) {
        if let Some(count) = self.counts.get_mut(stage) {
            let failing = count.failing;
            count.with(state, skipped, true);
            count.failing = failing;
        }
    }

    fn job(&self, place: usize) -> Option<&'a Job> {
        self.machine.jobs.get(place)
    }

    pub(super) fn state(&self, place: usize) -> JobState {
        match self.changed.get(&place) {
            Some(now) => now.state,
            None => self.job(place).map_or(JobState::Cancelled, |job| job.state),
        }
    }

    pub(super) fn skipped(&self, place: usize) -> Option<SkipReason> {
        match self.changed.get(&place) {
            Some(now) => now.skipped,
            None => self.job(place)?.skipped,
        }
    }

    pub(super) fn result(&self, place: usize) -> Option<&Value> {
        match self.changed.get(&place) {
            Some(now) => now.result.as_deref(),
            None => self.job(place)?.result.as_deref(),
        }
    }

    /// Whether its state is of this decision.
    pub(super) fn has_changed(&self, place: usize) -> bool {
        self.changed.contains_key(&place)
    }

    /// Jobs whose state is of this decision, in the order of the list.
    pub(super) fn changed(&self) -> impl Iterator<Item = usize> {
        self.changed.keys().copied()
    }

    /// How many own jobs of a stage have ended how.
    pub(super) fn ends(&self, stage: &str) -> Ends {
        self.count(stage).ends
    }

    /// How the own jobs of a stage stand.
    pub(super) fn count(&self, stage: &str) -> Count {
        self.counts.get(stage).copied().unwrap_or_default()
    }

    /// How many jobs of the run have not ended.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// How the children of a group stand.
    pub(super) fn children(&self, group: &JobKey) -> Children {
        let before = || self.machine.jobs.tally().children(group);
        self.children.get(group).copied().unwrap_or_else(before)
    }

    /// Groups whose children have changed since this was asked last.
    pub(super) fn take_stirred(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.stirred)
    }

    /// Jobs of a stage that need not wait any more since this was asked last.
    pub(super) fn take_ripe(&mut self, stage: &str) -> BTreeSet<usize> {
        let jobs = &self.machine.jobs;
        let is_own = |place: &usize| jobs.get(*place).is_some_and(|job| job.stage == stage);
        let (own, others) = std::mem::take(&mut self.ripe).into_iter().partition(is_own);
        self.ripe = others;
        own
    }

    /// Whether the attempt that ends with this decision is of that job, and one of those that it may have.
    pub(super) fn uses_attempt_of(&self, job: &Job) -> bool {
        self.uses_attempt == Some(job.id)
    }

    /// Whether this decision adds a job of that key.
    pub(super) fn adds(&self, key: &JobKey) -> bool {
        self.new_keys.contains(key)
    }

    /// Notes a job that this decision adds; false when its run has one of that name.
    pub(super) fn add_key(&mut self, key: &JobKey) -> bool {
        self.machine.jobs.index().by_key(key).is_none() && self.new_keys.insert(key.clone())
    }
}

#[cfg(test)]
impl Board<'_> {
    /// What is counted is what a look through all jobs finds.
    pub(super) fn assert_counts(&self, draft: &Draft) {
        let mut counts: HashMap<&str, Count> =
            self.counts.keys().map(|stage| (*stage, Count::default())).collect();
        let mut open = 0;
        for (place, job) in self.machine.jobs.iter().enumerate() {
            let (state, skipped) = (self.state(place), self.skipped(place));
            open += usize::from(!state.is_terminal());
            if job.parent.is_none() {
                let count = counts.get_mut(job.stage.as_str()).unwrap();
                count.with(state, skipped, true);
                let is_blocked = state == JobState::Blocked && !self.has_changed(place);
                count.blocked += usize::from(is_blocked);
            }
            if job.kind == perennial_core::run::JobKind::Group {
                let mut children = Children::default();
                for child in self.machine.jobs.index().children(&job.key) {
                    let required = self.machine.jobs[*child].given.required;
                    children.put(self.state(*child), required);
                }
                assert_eq!(self.children(&job.key), children, "{}", job.key);
            }
        }
        for new in &draft.new_jobs {
            let is_known = self.machine.jobs.index().by_key(&new.key).is_some();
            if new.part.parent.is_some() || is_known {
                continue;
            }
            let state = match &new.part {
                part if part.skipped.is_some() => JobState::Skipped,
                part if part.failed.is_some() => JobState::Failed,
                part if part.is_blocked => JobState::Blocked,
                _ => JobState::Ready,
            };
            let count = counts.get_mut(new.stage.as_str()).unwrap();
            let failing = count.failing;
            count.with(state, new.part.skipped, true);
            count.failing = failing;
        }
        assert_eq!((&self.counts, self.open), (&counts, open));
    }
}
