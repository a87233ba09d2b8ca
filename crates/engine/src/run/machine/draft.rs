//! A decision in the making: one fact, and everything that follows from it.

mod waits;

use std::time::Duration;

use perennial_core::{
    FailureClass,
    failure::Failure,
    retry::AfterFailure,
    run::{
        AttemptEnd, JobKey, JobState, Priority, RunState, SkipReason, StageOutcome, StageState,
        run_outcome,
    },
};
use perennial_store::{
    Decision, JobStep, Lease, NewEvent, NewJob, NewTimer, Report, RunStep, StageLimit, StageStep,
};
use serde_json::{Value, json};

use super::{
    AskedBy, Circumstances, Ending, Fact, Job, Machine, Policy, Reported, StopCause,
    outcome::{Counts, nothing_done, stage_outcome},
    owner,
};
use crate::{
    run::guard::Guard,
    workflow::{DoneJob, FailureMeans, InvertedTimeouts, Outcome},
};

/// A decision in the making.
pub(super) struct Draft {
    pub(super) state: RunState,
    pub(super) report: Option<Report>,
    /// Jobs that end with it, in order.
    pub(super) newly_done: Vec<DoneJob>,
    pub(super) job_steps: Vec<JobStep>,
    pub(super) new_jobs: Vec<NewJob>,
    pub(super) seal: bool,
    pub(super) run_step: Option<RunStep>,
    pub(super) events: Vec<NewEvent>,
    pub(super) timers: Vec<NewTimer>,
    pub(super) stages: Vec<StageStep>,
    pub(super) progress: Option<u32>,
    pub(super) limits: Vec<StageLimit>,
    pub(super) priority: Option<Priority>,
}

impl Draft {
    pub(super) fn new(machine: &Machine) -> Self {
        Self {
            state: machine.state,
            report: None,
            newly_done: Vec::new(),
            job_steps: Vec::new(),
            new_jobs: Vec::new(),
            seal: false,
            run_step: None,
            events: Vec::new(),
            timers: Vec::new(),
            stages: Vec::new(),
            progress: None,
            limits: Vec::new(),
            priority: None,
        }
    }

    pub(super) fn report(
        &mut self,
        workflow: &Guard<'_>,
        lease: &Lease,
        how: &Ending,
        job: &Job,
        done: &[DoneJob],
        at: &Circumstances,
    ) {
        let (policy, used) = (job.policy, job.attempts_used);
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
            deferral: None,
            wait: None,
        };
        let failure = match how {
            Ending::Reported(Reported { outcome, warnings }) => {
                self.warn(lease, warnings);
                match outcome {
                    Outcome::Succeeded(record) => {
                        report.result = Some(record.clone());
                        None
                    }
                    Outcome::Partial(record) => {
                        report.end = AttemptEnd::Partial;
                        report.job = JobState::Partial;
                        report.result = Some(record.clone());
                        None
                    }
                    Outcome::Skipped { reason, record } => {
                        report.end = AttemptEnd::Skipped;
                        report.job = JobState::Skipped;
                        report.skipped = Some(*reason);
                        report.result = Some(record.clone());
                        None
                    }
                    Outcome::Failed(failure) => Some(failure.clone()),
                    Outcome::Unavailable(_) | Outcome::Suspend(_) if !self.state.works() => {
                        // Nothing is waited for any more.
                        report.end = AttemptEnd::Cancelled;
                        report.job = JobState::Cancelled;
                        None
                    }
                    Outcome::Unavailable(missing) => {
                        self.defer(workflow, &mut report, missing, job, done, at);
                        None
                    }
                    Outcome::Suspend(wait) => match wait.checked(at.now, at.settings.wait_max) {
                        Ok(wait) => {
                            report.end = AttemptEnd::Suspended;
                            report.job = JobState::Suspended;
                            report.wait = Some(wait);
                            None
                        }
                        Err(failure) => Some(failure),
                    },
                }
            }
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
                let times = policy.retry.crashes_max.max(1);
                let message = format!(
                    "its process died with it {times} times in a row: it is not tried again"
                );
                Some(Failure::new(FailureClass::Lost, "PL699", message))
            }
        };
        if let Some(failure) = failure {
            self.fail(workflow, &mut report, &failure, (policy, used), done, at);
        }
        if report.job.is_terminal() {
            self.newly_done.push(DoneJob {
                key: lease.key.clone(),
                state: report.job,
                result: report.result.clone().unwrap_or(Value::Null),
            });
        }
        self.report = Some(report);
    }

    /// Who asked for what follows, as an event before it (DUR-68).
    pub(super) fn note(&mut self, asked: &AskedBy, fact: &Fact) {
        self.events.push(asked.event(fact));
    }

    /// What the attempt warned of, as one event of the run.
    fn warn(&mut self, lease: &Lease, warnings: &[String]) {
        if !warnings.is_empty() {
            self.events.push(NewEvent {
                kind: "step_warning".to_owned(),
                job: Some(lease.key.clone()),
                attempt: Some(lease.attempt),
                data: json!({ "warnings": warnings }),
            });
        }
    }

    fn fail(
        &mut self,
        workflow: &Guard<'_>,
        report: &mut Report,
        failure: &Failure,
        (policy, used): (Policy, u32),
        done: &[DoneJob],
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
        let after = if self.state.works() && !lost {
            policy.retry.after(failure.class, used + 1, told, at.jitter)
        } else {
            AfterFailure::Fail { exhausted: lost }
        };
        // There is no time for another one (DUR-50).
        let in_time =
            |pause| policy.deadline().is_none_or(|deadline| at.now.after(pause) < deadline);
        let after = match after {
            AfterFailure::RetryIn(pause) if in_time(pause) => after,
            AfterFailure::RetryIn(_) => AfterFailure::Fail { exhausted: true },
            AfterFailure::Fail { .. } => after,
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
                let (means, panicked) =
                    workflow.on_failure(&lease.key, failure, lease.attempt, done);
                match means {
                    FailureMeans::Tolerate { record } => {
                        report.job = JobState::Partial;
                        report.result = Some(record);
                        if !lost && report.end == AttemptEnd::Error {
                            report.end = AttemptEnd::Partial;
                        }
                    }
                    FailureMeans::FailJob { record } => {
                        report.job = JobState::Failed;
                        report.result = Some(record);
                    }
                    FailureMeans::FailRun { record } => {
                        report.job = JobState::Failed;
                        report.result = Some(record);
                        let failure = panicked.as_ref().unwrap_or(failure);
                        self.fail_run(&lease.key, lease.attempt, failure);
                    }
                }
            }
        }
    }

    pub(super) fn fail_run(&mut self, key: &JobKey, attempt: u32, failure: &Failure) {
        if !self.state.goes_on() {
            return;
        }
        let from = std::mem::replace(&mut self.state, RunState::Failed);
        self.run_step = Some(RunStep {
            from,
            to: RunState::Failed,
            failure: Some(json!({
                "cause": "failure",
                // What closes a handler speaks of the step that the handler belongs to.
                "step": key.without_handler(),
                "attempt": attempt,
                "class": failure.class,
                "code": failure.code,
                "message": failure.message,
                "detail": failure.detail,
            })),
        });
    }

    /// What the workflow wants can never be: that is a mistake in it, and ends its run (DUR-53).
    pub(super) fn refuse_plan(&mut self, inverted: &InvertedTimeouts) {
        let from = std::mem::replace(&mut self.state, RunState::Failed);
        self.run_step = Some(RunStep {
            from,
            to: RunState::Failed,
            failure: Some(json!({
                "cause": "failure",
                "step": inverted.job,
                "class": FailureClass::Limit,
                "code": "PL699",
                "message": inverted.to_string(),
            })),
        });
    }

    /// Somebody said that the job shall not be made; what follows from it is as if it had said so itself.
    pub(super) fn skip(&mut self, workflow: &Guard<'_>, job: &Job, why: &str) {
        let reason = SkipReason::Operator;
        let record = workflow.on_skip(&job.key, reason, why);
        self.newly_done.push(DoneJob {
            key: job.key.clone(),
            state: JobState::Skipped,
            result: record.clone(),
        });
        self.job_steps.push(JobStep {
            skipped: Some(reason),
            result: Some(record),
            about: json!({ "reason": reason.name(), "why": why }),
            ..JobStep::new(job.id, job.state, JobState::Skipped)
        });
    }

    /// Pauses the run, or lets it go on.
    pub(super) fn enter(&mut self, state: RunState, machine: &Machine) {
        self.state = state;
        self.run_step = Some(RunStep { from: machine.state, to: state, failure: None });
    }

    pub(super) fn stop(&mut self, cause: StopCause, machine: &Machine) {
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
    pub(super) fn close(&mut self, workflow: &Guard<'_>, machine: &Machine) {
        let reported = self.report.as_ref().map(|report| (report.lease.job, report.job));
        let ending = !self.state.goes_on();
        if ending && !machine.state.is_terminal() {
            for job in machine.jobs.iter() {
                let is_reported = reported.is_some_and(|(id, _)| id == job.id);
                let is_stepped = self.job_steps.iter().any(|step| step.job == job.id);
                let waits = matches!(
                    job.state,
                    JobState::Ready | JobState::Blocked | JobState::Deferred | JobState::Suspended
                );
                if !is_reported && !is_stepped && waits {
                    self.job_steps.push(JobStep::new(job.id, job.state, JobState::Cancelled));
                }
            }
        }
        let live = machine.jobs.iter().any(|job| match reported {
            Some((id, state)) if id == job.id => !state.is_terminal(),
            _ => {
                let step = self.job_steps.iter().find(|step| step.job == job.id);
                !step.map_or(job.state, |step| step.to).is_terminal()
            }
        });
        let (_, stage_state) = machine.driven();
        if stage_state == StageState::Closed || machine.state.is_terminal() {
            return;
        }
        if ending {
            self.close_ending(machine, live);
        } else if self.seal || stage_state == StageState::Sealed {
            // One that is paused, or was until now, ends with the next look.
            let may_end = self.state == RunState::Running && machine.state == RunState::Running;
            if live || may_end {
                self.close_sealed(workflow, machine, live);
            }
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

    fn close_sealed(&mut self, workflow: &Guard<'_>, machine: &Machine, live: bool) {
        if live {
            let (stage, state) = machine.driven();
            if state == StageState::Sealed {
                return;
            }
            self.stages.push(StageStep {
                stage: stage.to_owned(),
                from: state,
                to: StageState::Sealed,
                outcome: None,
            });
            return;
        }
        let done = machine.done.iter().chain(&self.newly_done);
        let done = done.filter(|job| job.state != JobState::Skipped).map(|job| {
            if job.state != JobState::Partial {
                return Some(Counts::Done);
            }
            let is_made_good = workflow.is_made_good(job, &machine.done)?;
            Some(if is_made_good { Counts::Done } else { Counts::InPart })
        });
        // While nobody knows what it comes to, it stays open.
        let Some(done) = done.collect::<Option<Vec<Counts>>>() else { return };
        let skipped = self.skips(machine).map(Counts::skipped);
        let outcome = stage_outcome(done.into_iter().chain(skipped));
        let to = run_outcome([outcome]);
        let failure = (to == RunState::Failed).then(nothing_done);
        self.run_step = Some(RunStep { from: machine.state, to, failure });
        self.state = to;
        self.close_stage(machine, outcome);
    }

    /// Why jobs of the run were skipped, each of them once.
    fn skips(&self, machine: &Machine) -> impl Iterator<Item = SkipReason> {
        let before = machine.jobs.iter().filter_map(|job| job.skipped);
        let stepped = self.job_steps.iter().filter_map(|step| step.skipped);
        before.chain(stepped).chain(self.report.iter().filter_map(|report| report.skipped))
    }

    fn close_stage(&mut self, machine: &Machine, outcome: StageOutcome) {
        let (stage, from) = machine.driven();
        self.stages.push(StageStep {
            stage: stage.to_owned(),
            from,
            to: StageState::Closed,
            outcome: Some(outcome),
        });
    }

    pub(super) fn finish(self, machine: &Machine) -> Option<Decision> {
        let nothing = self.report.is_none()
            && self.job_steps.is_empty()
            && self.new_jobs.is_empty()
            && self.stages.is_empty()
            && self.limits.is_empty()
            && self.priority.is_none()
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
            progress: self.progress,
            limits: self.limits,
            priority: self.priority,
        })
    }
}
