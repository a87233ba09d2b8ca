//! A job as its run knows it: what it was given by its plan, and where it is.

use std::{collections::HashMap, sync::Arc, time::Duration};

use perennial_core::{
    Timestamp,
    retry::RetryPolicy,
    run::{JobKey, JobKind, JobState, Priority, SkipReason},
    service::ServiceKey,
};
use perennial_store::{AttemptRecord, Deferral, JobPart, Keyed, NewJob, NewWait, NodeRef, WaitEnd};
use serde_json::{Value, json};

use crate::{
    LastFailure,
    workflow::{Given, JobPlan, Resumed},
};

#[derive(Clone, Debug, PartialEq)]
pub(in crate::run) struct Job {
    pub(in crate::run) id: i64,
    pub(in crate::run) key: JobKey,
    pub(in crate::run) stage: String,
    pub(in crate::run) kind: JobKind,
    pub(in crate::run) parent: Option<JobKey>,
    /// What it executes; nothing for a step.
    pub(in crate::run) given: Arc<Given>,
    /// What a job of a stage gave; those of steps are in the list of what is done.
    pub(super) result: Option<Arc<Value>>,
    pub(in crate::run) state: JobState,
    pub(in crate::run) attempt: u32,
    pub(in crate::run) run_after: Option<Timestamp>,
    pub(in crate::run) lease: Option<NodeRef>,
    pub(super) attempts_used: u32,
    pub(super) crashes: u32,
    pub(super) policy: Policy,
    /// When its last attempt failed, and how.
    pub(super) failed: Option<(Timestamp, LastFailure)>,
    pub(super) skipped: Option<SkipReason>,
    pub(super) deferral: Option<Deferral>,
    pub(super) deferred_since: Option<Timestamp>,
    pub(super) wait: Option<Waited>,
    /// What must admit it before it is claimed.
    pub(super) uses: Vec<ServiceKey>,
    /// Its limit across runs, and where it is with it.
    pub(in crate::run) keyed: Option<Keyed>,
    pub(in crate::run) priority: Priority,
}

/// What a job waits for, or waited for last.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::run) struct Waited {
    pub(super) wait: NewWait,
    pub(super) since: Timestamp,
    pub(super) ended: Option<WaitEnd>,
}

/// What a job was given by its plan.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(in crate::run) struct Policy {
    pub(super) retry: RetryPolicy,
    pub(in crate::run) attempt_within_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) heartbeat_within_ms: Option<u64>,
    /// When all of its attempts must have ended, in microseconds UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deadline: Option<i64>,
    /// How long that was from when the job was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) within_ms: Option<u64>,
}

/// How long an attempt may take, and how long it may say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run) struct Limits {
    pub(in crate::run) within: Duration,
    /// What `within` is the rest of: what all attempts of the job may take, when that ends first.
    pub(in crate::run) of_job: Option<Duration>,
    /// Whether it undoes a job: what all that do so may take together is a setting.
    pub(in crate::run) undoes: bool,
    pub(in crate::run) heartbeat: Option<Duration>,
}

impl Policy {
    /// When all of its attempts must have ended.
    pub(in crate::run) fn deadline(&self) -> Option<Timestamp> {
        self.deadline.map(Timestamp::from_micros)
    }
}

impl Job {
    /// What ended its last wait.
    pub(in crate::run) fn resumed(&self) -> Option<Resumed> {
        let waited = self.wait.as_ref()?;
        let end = waited.ended.clone()?;
        let (name, value) = (waited.wait.name.clone(), end.answer?);
        Some(Resumed { name, how: end.how, by: end.by, value })
    }
}

/// How the last attempt of each job that has ended failed, of those where it did.
pub(in crate::run) fn last_failures(
    attempts: &[AttemptRecord],
) -> HashMap<i64, (Timestamp, LastFailure)> {
    let mut last: HashMap<i64, &AttemptRecord> = HashMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.ended_at.is_some()) {
        let known = last.entry(attempt.job).or_insert(attempt);
        if known.attempt <= attempt.attempt {
            *known = attempt;
        }
    }
    let failed = last.into_iter().filter_map(|(job, last)| {
        let (code, message) = (last.code.as_deref(), last.message.as_deref());
        Some((job, (last.ended_at?, LastFailure::new(last.class?, code, message))))
    });
    failed.collect()
}

pub(super) fn new_job(
    stage: &str,
    plan: JobPlan,
    claim_for: Option<NodeRef>,
    now: Timestamp,
) -> NewJob {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let policy = Policy {
        retry: plan.retry,
        attempt_within_ms: millis(plan.attempt_within),
        heartbeat_within_ms: plan.heartbeat_within.map(millis),
        deadline: plan.within.map(|within| now.after(within).as_micros()),
        within_ms: plan.within.map(millis),
    };
    NewJob {
        stage: stage.to_owned(),
        key: plan.key,
        // Failures only; deaths of the process are counted apart (SM-31).
        max_attempts: plan.retry.max_attempts,
        crashes_max: plan.retry.crashes_max,
        input: json!(policy),
        claim_for,
        part: JobPart::default(),
    }
}
