//! The pure core: what follows from a fact, for one run.

use std::{sync::Arc, time::Duration};

use perennial_core::{
    FailureClass, Timestamp,
    failure::Failure,
    retry::{AfterFailure, RetryPolicy},
    run::{
        AttemptEnd, IdempotencyKey, JobKey, JobState, RunId, RunState, StageOutcome, StageState,
        run_outcome,
    },
};
use perennial_store::{
    Committed, Decision, JobStep, Lease, NewEvent, NewJob, NewTimer, NodeRef, Report, RunStep,
    RunView, StageStep,
};
use serde_json::{Value, json};

use crate::workflow::{DoneJob, FailureMeans, JobPlan, Next, Outcome, Workflow};

/// A run as the store has it at `revision`.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) run: RunId,
    pub(super) state: RunState,
    pub(super) created_at: Timestamp,
    pub(super) deadline: Option<Timestamp>,
    pub(super) settings: Arc<Value>,
    workflow: String,
    stage: String,
    stage_state: StageState,
    revision: u64,
    failure: Option<Value>,
    jobs: Vec<Job>,
    /// Terminal jobs, in the order they ended. Shared with attempts; grows in place once they left.
    done: Arc<Vec<DoneJob>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Job {
    pub(super) id: i64,
    pub(super) key: JobKey,
    pub(super) state: JobState,
    pub(super) attempt: u32,
    pub(super) run_after: Option<Timestamp>,
    pub(super) lease: Option<NodeRef>,
    attempts_used: u32,
    crashes: u32,
    policy: Policy,
}

/// What a job was given by its plan.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Policy {
    retry: RetryPolicy,
    pub(super) attempt_within_ms: u64,
}

/// What may happen to a run.
#[derive(Clone, Debug)]
pub(super) enum Fact {
    /// Nothing new: do what is due.
    Look,
    /// An attempt ended.
    Ended { lease: Lease, how: Box<Ending> },
    /// The run must end.
    Stop(StopCause),
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    /// As its own code says.
    Outcome(Outcome),
    /// Its task panicked: a bug of its code.
    Panicked(String),
    /// It was stopped because the run is ending.
    Cancelled,
    /// It died with its process, and has no attempt left.
    Lost,
}

/// Why a run must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopCause {
    /// Somebody asked.
    Cancel,
    /// Its time is up.
    Deadline,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unchanged {
    /// The state makes it meaningless; nothing is written.
    Already,
}

/// The circumstances of a decision.
#[derive(Clone, Debug)]
pub(super) struct Circumstances {
    pub(super) now: Timestamp,
    /// In `0.0..1.0`, for pauses.
    pub(super) jitter: f64,
    /// Lease new jobs for this node at once; nothing is leased while draining.
    pub(super) claim_for: Option<NodeRef>,
}

impl Job {
    pub(super) fn policy(&self) -> Policy {
        self.policy
    }
}

impl Machine {
    pub(super) fn new(view: RunView, workflow: &dyn Workflow) -> Result<Self, serde_json::Error> {
        let mut jobs = Vec::with_capacity(view.jobs.len());
        let mut done = Vec::new();
        for job in view.jobs {
            if job.state.is_terminal() {
                done.push(DoneJob {
                    key: job.key.clone(),
                    state: job.state,
                    result: job.result.unwrap_or(Value::Null),
                });
            }
            jobs.push(Job {
                id: job.id,
                key: job.key,
                state: job.state,
                attempt: job.attempt,
                run_after: job.run_after,
                lease: job.lease,
                attempts_used: job.attempts_used,
                crashes: job.crashes,
                policy: serde_json::from_value(job.input)?,
            });
        }
        let stage = workflow.stage().to_owned();
        let stage_state = view
            .stages
            .iter()
            .find(|record| record.stage == stage)
            .map_or(StageState::Open, |record| record.state);
        Ok(Self {
            run: view.run.run,
            state: view.run.state,
            created_at: view.run.created_at,
            deadline: view.run.deadline,
            settings: Arc::new(view.run.settings),
            workflow: view.run.workflow,
            stage,
            stage_state,
            revision: view.run.revision,
            failure: view.run.failure,
            jobs,
            done: Arc::new(done),
        })
    }

    pub(super) fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    pub(super) fn job(&self, id: i64) -> Option<&Job> {
        self.jobs.iter().rev().find(|job| job.id == id)
    }

    pub(super) fn done(&self) -> Arc<Vec<DoneJob>> {
        self.done.clone()
    }

    pub(super) fn idempotency_key(&self, job: &JobKey) -> IdempotencyKey {
        IdempotencyKey::new(&self.workflow, &self.run, &self.stage, job)
    }

    /// Whether a job is Ready and due, so that a claim would find something.
    pub(super) fn has_due(&self, now: Timestamp) -> bool {
        let due = |job: &Job| {
            job.state == JobState::Ready && job.run_after.is_none_or(|after| after <= now)
        };
        self.state == RunState::Running && self.jobs.iter().any(due)
    }

    /// What follows from `fact`; nothing when it changes nothing.
    pub(super) fn decide(
        &mut self,
        workflow: &dyn Workflow,
        fact: &Fact,
        at: &Circumstances,
    ) -> Result<Option<Decision>, Unchanged> {
        let mut draft = Draft::new(self);
        match fact {
            Fact::Look => (),
            Fact::Ended { lease, how } => {
                let policy = self.job(lease.job).map(|job| (job.policy, job.attempts_used));
                let (policy, used) = policy.ok_or(Unchanged::Already)?;
                draft.report(workflow, lease, how, policy, used, at);
            }
            Fact::Stop(_) if self.state.is_terminal() || self.state == RunState::Cancelling => {
                return Err(Unchanged::Already);
            }
            Fact::Stop(cause) => draft.stop(*cause, self),
        }
        if draft.state == RunState::Running && self.state == RunState::Running {
            self.continue_with(workflow, &mut draft, at);
        }
        draft.close(self);
        Ok(draft.finish(self))
    }

    /// Asks the workflow what comes next, with the jobs of the draft counted as done.
    fn continue_with(&mut self, workflow: &dyn Workflow, draft: &mut Draft, at: &Circumstances) {
        if self.stage_state != StageState::Open {
            return;
        }
        let next = match &draft.newly_done {
            None => workflow.next(&self.done),
            Some(job) => {
                // In place unless an attempt still holds the list.
                let done = Arc::make_mut(&mut self.done);
                done.push(job.clone());
                let next = workflow.next(done);
                done.pop();
                next
            }
        };
        match next {
            Next::Jobs(plans) => {
                let known = |plan: &JobPlan| self.jobs.iter().rev().any(|job| job.key == plan.key);
                let new = plans.into_iter().filter(|plan| !known(plan));
                draft.new_jobs =
                    new.map(|plan| new_job(&self.stage, plan, at.claim_for.clone())).collect();
            }
            Next::Seal => draft.seal = true,
        }
    }

    /// Folds a committed decision.
    pub(super) fn apply(&mut self, decision: Decision, committed: &Committed) -> Vec<Lease> {
        let Committed::Now { revision, leases, job_ids, .. } = committed else {
            return Vec::new();
        };
        self.revision = *revision;
        if let Some(report) = decision.report {
            let counts = report.end.uses_budget();
            if let Some(job) = self.jobs.iter_mut().rev().find(|job| job.id == report.lease.job) {
                job.state = report.job;
                job.lease = None;
                job.run_after = report.run_after;
                job.attempts_used += u32::from(counts);
                if report.job.is_terminal() {
                    let result = report.result.unwrap_or(Value::Null);
                    let done = DoneJob { key: job.key.clone(), state: report.job, result };
                    Arc::make_mut(&mut self.done).push(done);
                }
            }
        }
        for step in decision.jobs {
            if let Some(job) = self.jobs.iter_mut().rev().find(|job| job.id == step.job) {
                job.state = step.to;
                if step.to.is_terminal() {
                    let (key, state) = (job.key.clone(), step.to);
                    let done = DoneJob { key, state, result: Value::Null };
                    Arc::make_mut(&mut self.done).push(done);
                }
            }
        }
        for (job, id) in decision.new_jobs.into_iter().zip(job_ids) {
            let lease = job.claim_for.clone();
            // The plan's own input: written by `new_job`.
            let Ok(policy) = serde_json::from_value(job.input) else { continue };
            self.jobs.push(Job {
                id: *id,
                key: job.key,
                state: if lease.is_some() { JobState::Leased } else { JobState::Ready },
                attempt: u32::from(lease.is_some()),
                run_after: None,
                lease,
                attempts_used: 0,
                crashes: 0,
                policy,
            });
        }
        if let Some(step) = decision.stages.last() {
            self.stage_state = step.to;
        }
        if let Some(step) = decision.run_step {
            self.state = step.to;
            if step.failure.is_some() {
                self.failure = step.failure;
            }
        }
        leases.clone()
    }

    /// A job was leased by a claim.
    pub(super) fn claimed(&mut self, lease: &Lease) {
        if let Some(job) = self.jobs.iter_mut().rev().find(|job| job.id == lease.job) {
            job.state = JobState::Leased;
            job.attempt = lease.attempt;
            job.lease = Some(lease.node.clone());
            job.run_after = None;
        }
    }

    /// An attempt was released.
    pub(super) fn released(&mut self, lease: &Lease) {
        if let Some(job) = self.jobs.iter_mut().rev().find(|job| job.id == lease.job) {
            job.state = JobState::Ready;
            job.lease = None;
        }
    }

    /// The lease of a job that is leased.
    pub(super) fn lease(&self, job: &Job) -> Option<Lease> {
        job.lease.clone().map(|node| Lease {
            run: self.run.clone(),
            job: job.id,
            key: job.key.clone(),
            attempt: job.attempt,
            node,
        })
    }
}

/// Deaths of its process that a job survives less one, whatever its retry policy (SM-31).
const CRASHES_MAX: u32 = 3;

fn new_job(stage: &str, plan: JobPlan, claim_for: Option<NodeRef>) -> NewJob {
    let within = u64::try_from(plan.attempt_within.as_millis()).unwrap_or(u64::MAX);
    NewJob {
        stage: stage.to_owned(),
        key: plan.key,
        // The retry policy counts failures; a death of the process is no failure of the step.
        max_attempts: plan.retry.max_attempts.max(CRASHES_MAX),
        input: json!({ "retry": plan.retry, "attempt_within_ms": within }),
        claim_for,
    }
}

/// A decision in the making.
struct Draft {
    state: RunState,
    report: Option<Report>,
    newly_done: Option<DoneJob>,
    job_steps: Vec<JobStep>,
    new_jobs: Vec<NewJob>,
    seal: bool,
    run_step: Option<RunStep>,
    events: Vec<NewEvent>,
    timers: Vec<NewTimer>,
    stages: Vec<StageStep>,
}

impl Draft {
    fn new(machine: &Machine) -> Self {
        Self {
            state: machine.state,
            report: None,
            newly_done: None,
            job_steps: Vec::new(),
            new_jobs: Vec::new(),
            seal: false,
            run_step: None,
            events: Vec::new(),
            timers: Vec::new(),
            stages: Vec::new(),
        }
    }

    fn report(
        &mut self,
        workflow: &dyn Workflow,
        lease: &Lease,
        how: &Ending,
        policy: Policy,
        used: u32,
        at: &Circumstances,
    ) {
        let mut report = Report {
            lease: lease.clone(),
            end: AttemptEnd::Succeeded,
            job: JobState::Succeeded,
            skipped: None,
            run_after: None,
            result: None,
            class: None,
            code: None,
            message: None,
            dead_letter: false,
        };
        let failure = match how {
            Ending::Outcome(Outcome::Succeeded(record)) => {
                report.result = Some(record.clone());
                None
            }
            Ending::Outcome(Outcome::Skipped { reason, record }) => {
                report.end = AttemptEnd::Skipped;
                report.job = JobState::Skipped;
                report.skipped = Some(*reason);
                report.result = Some(record.clone());
                None
            }
            Ending::Outcome(Outcome::Failed(failure)) => Some(failure.clone()),
            Ending::Panicked(message) => Some(Failure::new(
                FailureClass::Panic,
                "PL615",
                format!("the step panicked: {message}"),
            )),
            Ending::Cancelled => {
                report.end = AttemptEnd::Cancelled;
                report.job = JobState::Cancelled;
                None
            }
            Ending::Lost => {
                report.end = AttemptEnd::Expired;
                let message = "its process died with it, and no attempt is left";
                Some(Failure::new(FailureClass::Lost, "PL699", message))
            }
        };
        if let Some(failure) = failure {
            self.fail(workflow, &mut report, &failure, policy, used, at);
        }
        if report.job.is_terminal() {
            self.newly_done = Some(DoneJob {
                key: lease.key.clone(),
                state: report.job,
                result: report.result.clone().unwrap_or(Value::Null),
            });
        }
        self.report = Some(report);
    }

    fn fail(
        &mut self,
        workflow: &dyn Workflow,
        report: &mut Report,
        failure: &Failure,
        policy: Policy,
        used: u32,
        at: &Circumstances,
    ) {
        let lease = report.lease.clone();
        let lost = report.end == AttemptEnd::Expired;
        if !lost {
            let timed_out = failure.class == FailureClass::Timeout;
            report.end = if timed_out { AttemptEnd::TimedOut } else { AttemptEnd::Error };
        }
        report.class = Some(failure.class);
        report.code = Some(failure.code.clone());
        report.message = Some(failure.message.clone());
        let told = failure.retry_after_ms.map(Duration::from_millis);
        let after = if self.state == RunState::Running && !lost {
            policy.retry.after(failure.class, used + 1, told, at.jitter)
        } else {
            AfterFailure::Fail { exhausted: lost }
        };
        match after {
            AfterFailure::RetryIn(pause) => {
                let due = at.now.after(pause);
                report.job = JobState::Ready;
                report.run_after = Some(due);
                self.timers.push(NewTimer {
                    owner: owner(&lease.run),
                    name: format!("retry/{}", lease.job),
                    at: due,
                });
            }
            AfterFailure::Fail { exhausted } => {
                report.dead_letter = exhausted;
                match workflow.on_failure(&lease.key, failure, lease.attempt) {
                    FailureMeans::Tolerate { record } => {
                        report.job = JobState::Partial;
                        report.result = Some(record);
                        if !lost && report.end == AttemptEnd::Error {
                            report.end = AttemptEnd::Partial;
                        }
                    }
                    FailureMeans::FailRun { record } => {
                        report.job = JobState::Failed;
                        report.result = Some(record);
                        self.fail_run(&lease, failure);
                    }
                }
            }
        }
    }

    fn fail_run(&mut self, lease: &Lease, failure: &Failure) {
        if self.state != RunState::Running {
            return;
        }
        self.state = RunState::Failed;
        self.run_step = Some(RunStep {
            from: RunState::Running,
            to: RunState::Failed,
            failure: Some(json!({
                "cause": "failure",
                "step": lease.key,
                "attempt": lease.attempt,
                "class": failure.class,
                "code": failure.code,
                "message": failure.message,
                "detail": failure.detail,
            })),
        });
    }

    fn stop(&mut self, cause: StopCause, machine: &Machine) {
        let cause = match cause {
            StopCause::Cancel => "cancel",
            StopCause::Deadline => "deadline",
        };
        self.state = RunState::Cancelling;
        self.run_step = Some(RunStep {
            from: machine.state,
            to: RunState::Cancelling,
            failure: Some(json!({ "cause": cause })),
        });
    }

    /// Ends jobs that wait once the run is ending, and the stage and the run once all jobs ended.
    fn close(&mut self, machine: &Machine) {
        let reported = self.report.as_ref().map(|report| (report.lease.job, report.job));
        let ending = self.state != RunState::Running && self.state != RunState::Paused;
        if ending && !machine.state.is_terminal() {
            for job in &machine.jobs {
                let is_reported = reported.is_some_and(|(id, _)| id == job.id);
                if !is_reported && matches!(job.state, JobState::Ready | JobState::Blocked) {
                    let to = JobState::Cancelled;
                    self.job_steps.push(JobStep { job: job.id, from: job.state, to });
                }
            }
        }
        let live = machine.jobs.iter().any(|job| match reported {
            Some((id, state)) if id == job.id => !state.is_terminal(),
            _ => {
                let stepped = self.job_steps.iter().any(|step| step.job == job.id);
                !stepped && !job.state.is_terminal()
            }
        });
        if machine.stage_state == StageState::Closed || machine.state.is_terminal() {
            return;
        }
        if ending {
            self.close_ending(machine, live);
        } else if self.seal || machine.stage_state == StageState::Sealed {
            self.close_sealed(machine, live);
        }
    }

    fn close_ending(&mut self, machine: &Machine, live: bool) {
        let failure = self.run_step.as_ref().and_then(|step| step.failure.clone());
        let failure = failure.or_else(|| machine.failure.clone());
        let cause = failure.as_ref().and_then(|failure| failure["cause"].as_str());
        let (target, outcome) = match cause {
            Some("cancel") => (RunState::Cancelled, StageOutcome::Cancelled),
            Some("deadline") => (RunState::TimedOut, StageOutcome::Cancelled),
            _ => (RunState::Failed, StageOutcome::Failed),
        };
        let from = machine.state;
        if !live && from.enter(target).is_ok() {
            self.run_step = Some(RunStep { from, to: target, failure });
            self.close_stage(machine, outcome);
        } else if from == RunState::Cancelling {
            self.run_step = None;
        } else {
            // The last attempt to end closes the run; without one, the next look does.
            self.run_step = Some(RunStep { from, to: RunState::Cancelling, failure });
        }
    }

    fn close_sealed(&mut self, machine: &Machine, live: bool) {
        if live {
            if machine.stage_state == StageState::Sealed {
                return;
            }
            self.stages.push(StageStep {
                stage: machine.stage.clone(),
                from: machine.stage_state,
                to: StageState::Sealed,
                outcome: None,
            });
            return;
        }
        let newly = self.newly_done.as_ref().map(|job| job.state);
        let mut states = machine.done.iter().map(|job| job.state).chain(newly).peekable();
        let outcome = if states.peek().is_none() {
            StageOutcome::Skipped
        } else if states.any(|state| state == JobState::Partial) {
            StageOutcome::Partial
        } else {
            StageOutcome::Succeeded
        };
        let to = run_outcome([outcome]);
        self.run_step = Some(RunStep { from: machine.state, to, failure: None });
        self.state = to;
        self.close_stage(machine, outcome);
    }

    fn close_stage(&mut self, machine: &Machine, outcome: StageOutcome) {
        self.stages.push(StageStep {
            stage: machine.stage.clone(),
            from: machine.stage_state,
            to: StageState::Closed,
            outcome: Some(outcome),
        });
    }

    fn finish(self, machine: &Machine) -> Option<Decision> {
        let nothing = self.report.is_none()
            && self.job_steps.is_empty()
            && self.new_jobs.is_empty()
            && self.stages.is_empty()
            && self.run_step.is_none();
        (!nothing).then(|| Decision {
            run: machine.run.clone(),
            expected_revision: machine.revision,
            report: self.report,
            jobs: self.job_steps,
            new_jobs: self.new_jobs,
            stages: self.stages,
            run_step: self.run_step,
            events: self.events,
            timers: self.timers,
        })
    }
}

/// The name under which a run's timers are kept.
pub(crate) fn owner(run: &RunId) -> String {
    format!("run:{run}")
}

#[cfg(test)]
mod tests;
