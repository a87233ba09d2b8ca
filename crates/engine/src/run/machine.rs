//! The pure core: what follows from a fact, for one run.

mod commit;
mod draft;
mod fact;
mod index;
mod job;
mod jobs;
mod order;
mod outcome;
mod rest;
mod staged;
mod tally;
mod turns;
mod using;

pub(crate) use self::{
    fact::Reported,
    staged::{child_job, planned_job},
};
pub(super) use self::{
    fact::{AskedBy, Circumstances, Ending, Fact, ServicesNow, StopCause, Unchanged},
    job::{Job, Limits, Policy, last_failures},
    staged::Completed,
};

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use perennial_core::{
    Timestamp,
    run::{
        IdempotencyKey, JobKey, JobState, Priority, RunId, RunState, SkipReason, StageOutcome,
        StageState,
    },
};
use perennial_store::{Decision, RunView, StageLimit};
use serde_json::Value;

use self::{
    commit::is_done,
    draft::Draft,
    job::{Waited, new_job},
    jobs::Jobs,
};
use super::guard::{Guard, Stuck, guarded};
use crate::{
    staged::ErasedGroup,
    workflow::{DoneJob, Given, JobPlan, Next, Workflow},
};

/// A run as the store has it at `revision`.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) run: RunId,
    pub(super) state: RunState,
    pub(super) created_at: Timestamp,
    priority: Priority,
    /// Since when those of each priority that can be claimed have waited for being served.
    served: BTreeMap<Priority, Timestamp>,
    pub(super) deadline: Option<Timestamp>,
    pub(super) settings: Arc<Value>,
    workflow: String,
    /// In order; a workflow that says itself what comes next has one.
    pub(super) stages: Vec<StageNow>,
    revision: u64,
    /// How far it has come at most in this round, in per cent; only a plan says.
    pub(super) progress: Option<u32>,
    failure: Option<Value>,
    jobs: Jobs,
    /// A plan says what comes next.
    pub(super) is_staged: bool,
    /// Whether what follows from jobs that have ended was made with their end; else all of them are looked at.
    is_fed: bool,
    /// Whether the last decision said what follows from its changes.
    follows: bool,
    /// Terminal jobs, in the order they ended. Shared with attempts; grows in place once they left.
    done: Arc<Vec<DoneJob>>,
    /// Its plan declares what undoes its jobs.
    undoes: bool,
    /// Where those are that it undoes, in that order, once that is known.
    undo: Option<Vec<usize>>,
    /// Its workflow does not say how it goes on: what happens is recorded, and nothing more is asked of it.
    stuck: Option<Stuck>,
}

/// A stage as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StageNow {
    pub(super) name: String,
    pub(super) state: StageState,
    pub(super) outcome: Option<StageOutcome>,
    pub(super) concurrency: Option<u32>,
}

impl Machine {
    /// The machine of a run that can be understood; else why it cannot.
    pub(super) fn new(view: RunView, workflow: &dyn Workflow) -> Result<Self, String> {
        let served = order::served(&view);
        let mut jobs = Vec::with_capacity(view.jobs.len());
        let mut done = Vec::new();
        let mut waits: HashMap<i64, Waited> = view
            .waits
            .into_iter()
            .map(|of| (of.job, Waited { wait: of.wait, since: of.since, ended: of.ended }))
            .collect();
        let policies = guarded("staging", || {
            let staging = workflow.staging()?;
            let policy =
                |(name, of): (&&str, &Arc<dyn ErasedGroup>)| ((*name).to_owned(), of.policy());
            Some((staging.groups.iter().map(policy).collect(), staging.undoes()))
        });
        let policies = policies.map_err(|panicked| panicked.to_string())?;
        let is_staged = policies.is_some();
        let (policies, undoes) = policies.unwrap_or_default();
        let mut failures = last_failures(&view.attempts);
        for job in view.jobs {
            let unreadable = |error| format!("the plan of {}: {error}", job.key);
            let given = if is_staged {
                serde_json::from_value(job.input.clone()).map_err(unreadable)?
            } else {
                Given::default()
            };
            let result = job.result.clone().filter(|_| is_staged).map(Arc::new);
            if is_done(job.state) && !is_staged {
                done.push(DoneJob {
                    key: job.key.clone(),
                    state: job.state,
                    result: job.result.unwrap_or(Value::Null),
                });
            }
            jobs.push(Job {
                id: job.id,
                stage: job.stage,
                kind: job.kind,
                parent: job.parent,
                given: Arc::new(given),
                result,
                policy: serde_json::from_value(job.input)
                    .map_err(|error| format!("the plan of {}: {error}", job.key))?,
                key: job.key,
                state: job.state,
                attempt: job.attempt,
                run_after: job.run_after,
                lease: job.lease,
                attempts_used: job.attempts_used,
                crashes: job.crashes,
                failed: failures.remove(&job.id),
                skipped: job.skipped,
                deferral: job.deferral,
                deferred_since: job.deferred_since,
                wait: waits.remove(&job.id),
                uses: job.uses,
                keyed: job.keyed,
                priority: job.priority,
            });
        }
        let stages = if is_staged {
            view.stages.into_iter().map(StageNow::from).collect()
        } else {
            let stage = guarded("stage", || workflow.stage().to_owned());
            let name = stage.map_err(|panicked| panicked.to_string())?;
            let state = view
                .stages
                .iter()
                .find(|record| record.stage == name)
                .map_or(StageState::Open, |record| record.state);
            vec![StageNow { name, state, outcome: None, concurrency: None }]
        };
        Ok(Self {
            run: view.run.run,
            state: view.run.state,
            created_at: view.run.created_at,
            priority: view.run.priority,
            served,
            deadline: view.run.deadline,
            settings: Arc::new(view.run.settings),
            workflow: view.run.workflow,
            stages,
            revision: view.run.revision,
            progress: view.run.progress,
            failure: view.run.failure,
            jobs: Jobs::of(jobs, policies),
            is_staged,
            is_fed: false,
            follows: false,
            done: Arc::new(done),
            undoes,
            undo: None,
            stuck: None,
        })
    }

    /// Why nobody knows how it goes on; a run that is ending needs nobody for that.
    pub(super) fn stuck(&self) -> Option<&Stuck> {
        self.stuck.as_ref().filter(|_| self.state.works())
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    pub(super) fn job(&self, id: i64) -> Option<&Job> {
        self.jobs.get(self.jobs.index().by_id(id)?)
    }

    /// Those whose attempts are under way.
    pub(super) fn leased(&self) -> impl Iterator<Item = &Job> {
        self.jobs.tally().leased().iter().filter_map(|place| self.jobs.get(*place))
    }

    /// The last of those that have not ended.
    pub(super) fn last_open(&self) -> Option<&Job> {
        self.jobs.get(*self.jobs.tally().open().last()?)
    }

    /// How many have ended.
    pub(super) fn ended(&self) -> usize {
        self.jobs.len() - self.jobs.tally().open().len()
    }

    /// The one stage of a workflow that says itself what comes next.
    fn driven(&self) -> (&str, StageState) {
        self.stages.first().map_or(("", StageState::Open), |it| (it.name.as_str(), it.state))
    }

    /// What an attempt that is claimed now may take: its own limit, and no more than what is left of its
    /// job's time (DUR-50). When its run's time is over the run ends it: that is no failure of the job (DUR-52).
    pub(super) fn limits(&self, id: i64, now: Timestamp) -> Limits {
        let Some(Job { policy, stage, .. }) = self.job(id) else {
            let within = Duration::ZERO;
            return Limits { within, of_job: None, undoes: false, heartbeat: None };
        };
        let own = Duration::from_millis(policy.attempt_within_ms);
        let left = policy.deadline().map(|deadline| deadline.since(now)).filter(|left| *left < own);
        let of_job = left.and(policy.within_ms).map(Duration::from_millis);
        let heartbeat = policy.heartbeat_within_ms.map(Duration::from_millis);
        let undoes = self.is_undoing(stage);
        Limits { within: left.unwrap_or(own), of_job, undoes, heartbeat }
    }

    /// The job of that name.
    pub(super) fn find(&self, key: &JobKey) -> Option<&Job> {
        self.jobs.get(self.jobs.index().by_key(key)?)
    }

    pub(super) fn done(&self) -> Arc<Vec<DoneJob>> {
        self.done.clone()
    }

    pub(super) fn idempotency_key(&self, job: &JobKey) -> IdempotencyKey {
        // The key of a job of a stage begins with it.
        let (stage, rest) = match job.as_str().split_once('/') {
            Some((stage, rest)) if self.is_staged => (stage, JobKey::new(rest)),
            Some(_) | None => (self.driven().0, job.clone()),
        };
        IdempotencyKey::new(&self.workflow, &self.run, stage, &rest)
    }

    /// Whether a job is Ready and due, so that a claim would find something.
    pub(super) fn has_due(&self, now: Timestamp) -> bool {
        self.due(now, 1) > 0
    }

    /// How many jobs a claim would find, counted no further than `most`.
    pub(super) fn due(&self, now: Timestamp, most: usize) -> usize {
        if !self.state.claims() {
            return 0;
        }
        if self.is_staged {
            return self.due_in_stages(now, most);
        }
        let stages = self.jobs.tally().stages();
        stages.map(|of| of.own.due(now, most)).sum::<usize>().min(most)
    }

    /// What follows from `fact`; nothing when it changes nothing.
    pub(super) fn decide(
        &mut self,
        workflow: &dyn Workflow,
        fact: &Fact,
        at: &Circumstances,
    ) -> Result<Option<Decision>, Unchanged> {
        #[cfg(test)]
        let thorough = self.decide_thoroughly(workflow, fact, at);
        let guard = Guard::new(workflow);
        let decided = self.decide_with(&guard, fact, at);
        self.stuck = self.stuck.take().or(guard.stuck());
        #[cfg(test)]
        if let Some(thorough) = thorough {
            let quick = format!("{decided:?}");
            assert_eq!(quick, thorough, "a look through all jobs decides otherwise");
        }
        decided
    }

    /// What a look through all of its jobs decides, and that what is counted of them is what is found then. Where no
    /// stage is counted and no job waits, nothing is decided by counts.
    #[cfg(test)]
    fn decide_thoroughly(
        &mut self,
        workflow: &dyn Workflow,
        fact: &Fact,
        at: &Circumstances,
    ) -> Option<String> {
        if !self.is_staged && self.jobs.tally().waiting() == 0 {
            return None;
        }
        assert_eq!(*self.jobs.tally(), self.jobs.recount(), "counted otherwise");
        jobs::THOROUGH.set(true);
        let decided = self.decide_with(&Guard::new(workflow), fact, at);
        jobs::THOROUGH.set(false);
        Some(format!("{decided:?}"))
    }

    fn decide_with(
        &mut self,
        workflow: &Guard<'_>,
        fact: &Fact,
        at: &Circumstances,
    ) -> Result<Option<Decision>, Unchanged> {
        self.follows = false;
        if self.state == RunState::Compensating && fact.is_asked() {
            // SM-12: it ends already, which is what whoever stops it wants.
            let ends = matches!(fact, Fact::Stop(_));
            return Err(if ends { Unchanged::Already } else { Unchanged::Undoes });
        }
        let mut draft = Draft::new(self);
        if let Some(asked) = &at.asked {
            draft.note(asked, fact);
        }
        match fact {
            Fact::Look => (),
            Fact::Ended { lease, how } => {
                let job = self.job(lease.job).ok_or(Unchanged::Already)?;
                draft.report(workflow, lease, how, job, &self.done, at);
            }
            Fact::Stop(_) if self.state.is_terminal() || self.state == RunState::Cancelling => {
                return Err(Unchanged::Already);
            }
            Fact::Stop(cause) => draft.stop(*cause, self),
            // SM-12: what it is already changes nothing.
            Fact::Pause if self.state != RunState::Running => return Err(Unchanged::Already),
            Fact::Pause => draft.enter(RunState::Paused, self),
            Fact::Unpause if self.state != RunState::Paused => return Err(Unchanged::Already),
            Fact::Unpause => draft.enter(RunState::Running, self),
            Fact::Skip { job, why } => {
                let job = self.find(job).ok_or(Unchanged::NoJob)?;
                if job.skipped == Some(SkipReason::Operator) || !self.state.goes_on() {
                    return Err(Unchanged::Already);
                }
                if job.state.is_terminal() {
                    return Err(Unchanged::Ended(job.state));
                }
                if self.is_staged {
                    draft.stop_below(self, job);
                }
                draft.skip(workflow, job, why);
            }
            Fact::Limit(_) | Fact::Priority(_) => (),
        }
        if let Fact::Limit(limit) = fact {
            // What follows is decided by it.
            return self.limit(draft, limit);
        }
        if let Fact::Priority(priority) = fact {
            return self.prioritise(draft, *priority);
        }
        let goes_on = draft.state.goes_on() && self.stuck.is_none();
        if draft.state.works() && self.stuck.is_none() {
            draft.wake(workflow, self, at);
        }
        if self.state == RunState::Compensating {
            draft.undo(workflow, self, at);
            return Ok(draft.finish(self));
        }
        // What follows a report is made while the run is paused as well, and waits.
        if goes_on && draft.state.goes_on() && draft.state == self.state {
            if self.is_staged {
                self.follows = draft.follow_plan(workflow, self, at).is_some();
                return Ok(draft.finish(self));
            }
            self.continue_with(workflow, &mut draft, at);
        }
        if self.is_staged {
            draft.close_stages(workflow, self, at);
            return Ok(draft.finish(self));
        }
        draft.close(workflow, self);
        Ok(draft.finish(self))
    }

    fn limit(&self, mut draft: Draft, limit: &StageLimit) -> Result<Option<Decision>, Unchanged> {
        let stage = self.stages.iter().find(|stage| stage.name == limit.stage);
        // What undoes jobs does so one by one.
        let is_planned = |stage: &&StageNow| self.is_staged && !self.is_undoing(&stage.name);
        let stage = stage.filter(is_planned).ok_or(Unchanged::NoStage)?;
        if stage.concurrency == Some(limit.most.get()) || !self.state.goes_on() {
            return Err(Unchanged::Already);
        }
        draft.limits.push(limit.clone());
        Ok(draft.finish(self))
    }

    /// Asks the workflow what comes next, with the jobs of the draft counted as done.
    fn continue_with(&mut self, workflow: &Guard<'_>, draft: &mut Draft, at: &Circumstances) {
        if self.driven().1 != StageState::Open {
            return;
        }
        let next = if draft.newly_done.is_empty() {
            workflow.next(&self.done)
        } else {
            // In place unless an attempt still holds the list.
            let done = Arc::make_mut(&mut self.done);
            let before = done.len();
            done.extend(draft.newly_done.iter().cloned());
            let next = workflow.next(done);
            done.truncate(before);
            next
        };
        match next {
            Some(Next::Jobs(plans)) => {
                if let Some(inverted) = plans.iter().find_map(JobPlan::inverted) {
                    return draft.refuse_plan(&inverted);
                }
                let claim_for = at.claim_for.clone().filter(|_| self.state == RunState::Running);
                let known = |plan: &JobPlan| {
                    let found = self.jobs.iter().rev().find(|job| job.key == plan.key);
                    found.is_some_and(|job| job.state != JobState::Cancelled)
                };
                let new = plans.into_iter().filter(|plan| !known(plan));
                let stage = self.driven().0;
                draft.new_jobs =
                    new.map(|plan| new_job(stage, plan, claim_for.clone(), at.now)).collect();
            }
            Some(Next::Seal) => draft.seal = true,
            None => (),
        }
    }
}

impl From<perennial_store::StageRecord> for StageNow {
    fn from(record: perennial_store::StageRecord) -> Self {
        let (name, state, outcome) = (record.stage, record.state, record.outcome);
        Self { name, state, outcome, concurrency: record.concurrency }
    }
}

/// The name under which a run's timers are kept.
pub(crate) fn owner(run: &RunId) -> String {
    format!("run:{run}")
}

#[cfg(test)]
mod tests;
