//! What a commit did to a run: its decision, or a claim of its jobs.

use std::sync::Arc;

use perennial_core::{
    Timestamp,
    run::{JobState, RunState, shown},
};
use perennial_store::{Committed, Decision, Deferral, Keyed, Lease, StageLimit, Turn, WaitEnd};
use serde_json::Value;

use super::{Job, Machine, Waited};
use crate::{
    LastFailure,
    workflow::{DoneJob, Given},
};

impl Machine {
    /// Folds a committed decision.
    pub(in crate::run) fn apply(
        &mut self,
        decision: Decision,
        committed: &Committed,
    ) -> Vec<Lease> {
        let Committed::Now { revision, leases, job_ids, events, resumed } = committed else {
            return Vec::new();
        };
        self.revision = *revision;
        let changes_no_job = decision.report.is_none() && decision.jobs.is_empty();
        let at = events.last().map_or(self.created_at, |event| event.at);
        if let Some(report) = decision.report {
            let counts = report.end.uses_budget();
            let is_staged = self.is_staged;
            let ended = self.jobs.change(report.lease.job, |job| {
                job.state = report.job;
                job.lease = None;
                job.run_after = report.run_after;
                job.skipped = report.skipped;
                job.deferred_since =
                    report.deferral.as_ref().map(|_| job.deferred_since.unwrap_or(at));
                job.deferral = report.deferral;
                job.ask_anew();
                if let Some(wait) = report.wait {
                    job.wait = Some(Waited { wait, since: at, ended: resumed.clone() });
                    if resumed.is_some() {
                        // What it waits for had come before.
                        job.state = JobState::Ready;
                    }
                }
                job.attempts_used += u32::from(counts);
                job.failed = report.class.map(|class| {
                    let (code, message) = (report.code, report.message);
                    (at, LastFailure::new(class, code.as_deref(), message.as_deref()))
                });
                if is_staged {
                    job.result = report.result.map(Arc::new);
                    return None;
                }
                let result = report.result.unwrap_or(Value::Null);
                is_done(report.job).then(|| DoneJob {
                    key: job.key.clone(),
                    state: report.job,
                    result,
                })
            });
            self.add_done(ended.flatten());
        }
        for step in decision.jobs {
            let is_staged = self.is_staged;
            let ended = self.jobs.change(step.job, |job| {
                job.state = step.to;
                // The attempt of one that was leased has ended with the step.
                job.lease = None;
                job.skipped = step.skipped;
                job.run_after = step.run_after;
                job.deferral = step.deferral;
                if step.to != JobState::Joining {
                    job.ask_anew();
                }
                if let Some(waited) = &mut job.wait
                    && step.from == JobState::Suspended
                {
                    waited.ended = Some(step.ended.unwrap_or_else(WaitEnd::set_free));
                }
                if is_staged {
                    job.result = step.result.map(Arc::new);
                    return None;
                }
                let result = step.result.unwrap_or(Value::Null);
                is_done(step.to).then(|| DoneJob { key: job.key.clone(), state: step.to, result })
            });
            self.add_done(ended.flatten());
        }
        for (job, id) in decision.new_jobs.into_iter().zip(job_ids) {
            let lease = job.claim_for.clone();
            // The plan's own input: written by `new_job`.
            let Ok(policy) = serde_json::from_value(job.input.clone()) else { continue };
            let given = if self.is_staged {
                serde_json::from_value(job.input).unwrap_or_default()
            } else {
                Given::default()
            };
            // One of an earlier round keeps its place, and the number of its last attempt.
            let before = self.job(*id);
            let leased = leases.iter().find(|lease| lease.job == *id).map(|lease| lease.attempt);
            let last = before.map_or(0, |old| old.attempt);
            let is_again = before.is_some();
            let made = Job {
                id: *id,
                key: job.key,
                stage: job.stage,
                kind: job.part.kind,
                parent: job.part.parent,
                given: Arc::new(given),
                result: job.part.failed.clone().map(Arc::new),
                state: match (job.part.skipped, &lease) {
                    (Some(_), _) => JobState::Skipped,
                    (None, _) if job.part.failed.is_some() => JobState::Failed,
                    (None, _) if job.part.is_blocked => JobState::Blocked,
                    (None, Some(_)) => JobState::Leased,
                    (None, None) => JobState::Ready,
                },
                attempt: leased.unwrap_or(last),
                run_after: None,
                lease,
                attempts_used: 0,
                crashes: 0,
                policy,
                failed: None,
                skipped: job.part.skipped,
                deferral: None,
                deferred_since: None,
                wait: None,
                uses: job.part.uses,
                priority: job.part.priority,
                keyed: job.part.limit.map(|by| Keyed {
                    by,
                    turn: Turn::None,
                    since: None,
                    held_by: None,
                }),
            };
            if is_again {
                self.jobs.change(*id, |job| *job = made);
            } else {
                self.jobs.push(made);
            }
        }
        for step in decision.stages {
            if let Some(stage) = self.stages.iter_mut().find(|stage| stage.name == step.stage) {
                (stage.state, stage.outcome) = (step.to, step.outcome);
            }
        }
        for StageLimit { stage, most } in decision.limits {
            if let Some(stage) = self.stages.iter_mut().find(|it| it.name == stage) {
                stage.concurrency = Some(most.get());
            }
        }
        self.priority = decision.priority.unwrap_or(self.priority);
        self.is_fed = self.follows || self.is_fed && changes_no_job;
        self.progress = decision.progress.or(self.progress);
        if let Some(step) = decision.run_step {
            self.state = step.to;
            if step.to == RunState::Compensating {
                // Nothing of that is asked any more.
                self.stuck = None;
            }
            if step.to.is_terminal() {
                self.progress = self.progress.map(|mark| shown(mark, mark, true));
            }
            if step.failure.is_some() {
                self.failure = step.failure;
            }
        }
        leases.clone()
    }

    /// The list is shared with attempts.
    fn add_done(&mut self, ended: Option<DoneJob>) {
        if let Some(ended) = ended {
            Arc::make_mut(&mut self.done).push(ended);
        }
    }

    /// A job was leased by a claim.
    pub(in crate::run) fn claimed(&mut self, lease: &Lease, now: Timestamp) {
        let served = self.job(lease.job).map(|job| job.priority);
        self.served.extend(served.map(|priority| (priority, now)));
        self.jobs.change(lease.job, |job| {
            job.state = JobState::Leased;
            job.attempt = lease.attempt;
            job.lease = Some(lease.node.clone());
            job.run_after = None;
            job.has_waited(now);
            job.set_turn(Turn::Has, None);
        });
    }

    /// A claim found that a service does not admit a job.
    pub(in crate::run) fn deferred(&mut self, id: i64, deferral: Deferral, now: Timestamp) {
        self.jobs.change(id, |job| {
            job.state = JobState::Deferred;
            job.run_after = None;
            job.deferred_since = job.deferred_since.or(Some(now));
            job.deferral = Some(deferral);
            job.ask_anew();
        });
    }

    /// An attempt was released.
    pub(in crate::run) fn released(&mut self, lease: &Lease) {
        self.jobs.change(lease.job, |job| {
            job.state = JobState::Ready;
            job.lease = None;
            job.ask_anew();
        });
    }

    /// The lease of a job that is leased.
    pub(in crate::run) fn lease(&self, job: &Job) -> Option<Lease> {
        job.lease.clone().map(|node| Lease {
            run: self.run.clone(),
            job: job.id,
            key: job.key.clone(),
            attempt: job.attempt,
            node,
        })
    }
}

/// Whether a job is not made any more: one that is cancelled in a run that goes on is made again when
/// it is due.
pub(super) fn is_done(state: JobState) -> bool {
    state.is_terminal() && state != JobState::Cancelled
}
