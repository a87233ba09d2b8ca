//! What follows for jobs that wait for something outside of their run: from the refusal of what they
//! need to the end of the wait (DUR-40 to DUR-45).

mod service;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashSet},
};

use perennial_core::{
    FailureClass, Timestamp,
    failure::Failure,
    retry::Jitter,
    run::{AttemptEnd, JobState, SkipReason},
};
use perennial_store::{
    AfterWait, JobStep, NewWait, Report, WaitDefault, WaitEnd, WaitEnded, WaitKind,
};
use serde_json::{Value, json};

use self::service::{Doors, Service};
use super::Draft;
use crate::{
    run::{
        guard::Guard,
        machine::{
            Circumstances, Job, Machine,
            jobs::is_thorough,
            tally::{Kind, due},
        },
    },
    workflow::{DoneJob, FailureMeans, Unavailable},
};

/// Jobs whose waits one decision ends, at most: what is left comes with the next.
const STEPS_MAX: usize = 1_000;

/// What a job ends as.
struct End {
    to: JobState,
    skipped: Option<SkipReason>,
    record: Value,
    failure: Option<Failure>,
}

impl Draft {
    /// Something is not available to the attempt: its job waits for it, or has waited long enough.
    pub(super) fn defer(
        &mut self,
        workflow: &Guard<'_>,
        report: &mut Report,
        missing: &Unavailable,
        job: &Job,
        done: &[DoneJob],
        at: &Circumstances,
    ) {
        report.end = AttemptEnd::Unavailable;
        let since = job.deferred_since.unwrap_or(at.now);
        if let Some(deferral) = missing.deferral(since, at.now, at.settings.defer_max_wait) {
            report.job = JobState::Deferred;
            report.deferral = Some(deferral);
            return;
        }
        let failure = never_available(&missing.what, since, at.now);
        let end = self.in_vain(workflow, job, missing.then, failure, done);
        report.job = end.to;
        report.skipped = end.skipped;
        report.result = Some(end.record);
        if let Some(failure) = end.failure {
            report.class = Some(failure.class);
            report.code = Some(failure.code);
            report.message = Some(failure.message);
        }
    }

    /// Ends the waits whose time has come.
    pub(in crate::run::machine) fn wake(
        &mut self,
        workflow: &Guard<'_>,
        machine: &Machine,
        at: &Circumstances,
    ) {
        // Those that have come back and are not claimed yet.
        let mut let_in = u32::try_from(machine.jobs.tally().back()).unwrap_or(u32::MAX);
        let doors = Doors::of(&at.services.admissions);
        let stepped: HashSet<i64> = self.job_steps.iter().map(|step| step.job).collect();
        for place in moved(machine, &doors, let_in, at.now) {
            // What failed the run ends the waits that are left.
            if !self.state.works() {
                return;
            }
            let job = &machine.jobs[place];
            if stepped.contains(&job.id) {
                // It ends with what is decided here.
                continue;
            }
            match job.state {
                JobState::Deferred => {
                    self.wake_deferred(workflow, machine, job, (&doors, &mut let_in), at);
                }
                JobState::Suspended => self.wake_suspended(workflow, machine, job, at),
                JobState::Blocked
                | JobState::Ready
                | JobState::Leased
                | JobState::Joining
                | JobState::Succeeded
                | JobState::Partial
                | JobState::Failed
                | JobState::Skipped
                | JobState::Cancelled => (),
            }
        }
        self.order_woken(machine);
    }

    /// Of those that go on together what has more priority comes first, and then what was made first: the instants stay as they
    /// are spread.
    fn order_woken(&mut self, machine: &Machine) {
        let is_woken = |step: &JobStep| step.from == JobState::Deferred && step.run_after.is_some();
        let woken = self.job_steps.iter().enumerate().filter(|(_, step)| is_woken(step));
        let mut places: Vec<usize> = woken.map(|(place, _)| place).collect();
        let mut instants: Vec<_> = places.iter().map(|it| self.job_steps[*it].run_after).collect();
        instants.sort_unstable();
        places.sort_by_key(|place| {
            let job = self.job_steps[*place].job;
            (machine.job(job).map(|job| Reverse(job.priority)), job)
        });
        for (place, instant) in places.into_iter().zip(instants) {
            self.job_steps[place].run_after = instant;
        }
    }

    fn wake_deferred(
        &mut self,
        workflow: &Guard<'_>,
        machine: &Machine,
        job: &Job,
        (doors, let_in): (&Doors<'_>, &mut u32),
        at: &Circumstances,
    ) {
        let Some(deferral) = &job.deferral else { return };
        let service = doors.service(&Kind::of(&job.uses, &deferral.cause));
        let is_over = deferral.until <= at.now;
        let moves = match service {
            Service::Admits | Service::Failed(_) => true,
            Service::UpTo(most) => deferral.wake_at <= at.now || *let_in < most,
            Service::Refuses | Service::AsBefore => deferral.wake_at <= at.now,
        };
        if !moves || self.job_steps.len() >= STEPS_MAX {
            return;
        }
        let has_failed = match service {
            Service::Failed(cause) => Some(cause),
            Service::Admits | Service::UpTo(_) | Service::Refuses | Service::AsBefore => None,
        };
        if !is_over && has_failed.is_none() {
            *let_in += u32::from(matches!(service, Service::UpTo(_)));
            self.job_steps.push(JobStep {
                run_after: Some(
                    at.now.after(
                        Jitter::Full.of(at.settings.wake_spread, place_of(job.id, at.jitter)),
                    ),
                ),
                about: json!({ "cause": deferral.cause }),
                ..JobStep::new(job.id, JobState::Deferred, JobState::Ready)
            });
            return;
        }
        let since = job.deferred_since.unwrap_or(deferral.wake_at);
        let failure = match has_failed {
            Some(cause) => gone_for_good(cause),
            None => never_available(&deferral.cause, since, at.now),
        };
        let done = &machine.done;
        let end = self.in_vain(workflow, job, deferral.then, failure, done);
        self.end_waiting(job, end, None);
    }

    fn wake_suspended(
        &mut self,
        workflow: &Guard<'_>,
        machine: &Machine,
        job: &Job,
        at: &Circumstances,
    ) {
        let due = |wait: &NewWait| wait.until <= at.now;
        let Some(wait) = job.wait.as_ref().map(|waited| &waited.wait).filter(|wait| due(wait))
        else {
            return;
        };
        let how = match wait.kind {
            WaitKind::Timer => WaitEnded::Timer,
            WaitKind::Signal | WaitKind::Answer => WaitEnded::Deadline,
        };
        let ended = Some(WaitEnd { how, by: None, answer: wait.or.value().cloned() });
        let then = match wait.or {
            WaitDefault::Resume(_) => {
                self.job_steps.push(JobStep {
                    ended,
                    ..JobStep::new(job.id, JobState::Suspended, JobState::Ready)
                });
                return;
            }
            WaitDefault::Skip => AfterWait::Skip,
            WaitDefault::Fail => AfterWait::Fail,
        };
        let text = format!("`{}` did not come by {}", wait.name, wait.until.to_rfc3339());
        let failure = Failure::new(FailureClass::Timeout, "PL712", text);
        let end = self.in_vain(workflow, job, then, failure, &machine.done);
        self.end_waiting(job, end, ended);
    }

    /// What becomes of a job that has waited in vain.
    fn in_vain(
        &mut self,
        workflow: &Guard<'_>,
        job: &Job,
        then: AfterWait,
        failure: Failure,
        done: &[DoneJob],
    ) -> End {
        let (to, skipped, record) = match then {
            AfterWait::Skip => {
                let reason = SkipReason::Unavailable;
                let record = workflow.on_skip(&job.key, reason, &failure.message);
                return End { to: JobState::Skipped, skipped: Some(reason), record, failure: None };
            }
            AfterWait::Fail => {
                let (means, panicked) = workflow.on_failure(&job.key, &failure, job.attempt, done);
                match means {
                    FailureMeans::Tolerate { record } => (JobState::Partial, None, record),
                    FailureMeans::FailJob { record } => (JobState::Failed, None, record),
                    FailureMeans::FailRun { record } => {
                        let failure = panicked.as_ref().unwrap_or(&failure);
                        self.fail_run(&job.key, job.attempt, failure);
                        (JobState::Failed, None, record)
                    }
                }
            }
        };
        End { to, skipped, record, failure: Some(failure) }
    }

    fn end_waiting(&mut self, job: &Job, end: End, ended: Option<WaitEnd>) {
        let about = match &end.failure {
            Some(failure) => json!({
                "class": failure.class.name(),
                "code": failure.code,
                "message": failure.message,
            }),
            None => json!({ "reason": end.skipped.map(SkipReason::name) }),
        };
        self.newly_done.push(DoneJob {
            key: job.key.clone(),
            state: end.to,
            result: end.record.clone(),
        });
        self.job_steps.push(JobStep {
            skipped: end.skipped,
            ended,
            result: Some(end.record),
            about,
            ..JobStep::new(job.id, job.state, end.to)
        });
    }
}

/// Those whose wait may end now, in the order of the list. Of those that a service lets in no more than one decision
/// takes.
fn moved(machine: &Machine, doors: &Doors<'_>, let_in: u32, now: Timestamp) -> BTreeSet<usize> {
    if is_thorough() {
        return (0..machine.jobs.len()).collect();
    }
    let tally = machine.jobs.tally();
    let mut places: BTreeSet<usize> = due(tally.suspended(), now).collect();
    for (kind, of) in tally.deferred() {
        let first = |most: usize| of.places.iter().copied().take(most.min(STEPS_MAX));
        match doors.service(kind) {
            Service::Admits | Service::Failed(_) => places.extend(first(STEPS_MAX)),
            Service::UpTo(most) => {
                places.extend(first(most.saturating_sub(let_in) as usize));
                places.extend(due(&of.wakes, now).take(STEPS_MAX));
            }
            Service::Refuses | Service::AsBefore => {
                places.extend(due(&of.wakes, now).take(STEPS_MAX))
            }
        }
    }
    places
}

/// Instants over which those are spread that come back together: each of them is looked at for itself.
const PLACES: f64 = 50.0;

/// Where in the second a job comes back: those that come back together are spread over it.
fn place_of(job: i64, jitter: f64) -> f64 {
    // The golden ratio: each next one falls into the widest gap.
    let turn = (job % 1_000_000) as f64 * 0.618_033_988_749_895;
    ((jitter.clamp(0.0, 1.0) + turn).fract() * PLACES).floor() / PLACES
}

fn never_available(what: &str, since: Timestamp, now: Timestamp) -> Failure {
    let waited = match now.since(since).as_secs() {
        0 => String::new(),
        seconds => format!(" for {seconds} s"),
    };
    let text = format!("`{what}` was not available{waited}: it is not waited for any longer");
    Failure::new(FailureClass::Transient, "PL711", text)
}

/// Its service has failed, for this run and all others.
fn gone_for_good(cause: &str) -> Failure {
    Failure::new(FailureClass::Transient, "PL711", format!("{cause}; nobody waits for it"))
}
