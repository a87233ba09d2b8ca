//! The seam between the engine and what it runs: a definition that decides what comes next, and
//! executes one job at a time.

mod warnings;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use perennial_core::{Digest, Timestamp, failure::Failure, run::RunId};
pub use warnings::Warnings;

pub use perennial_core::{
    retry::RetryPolicy,
    run::{IdempotencyKey, JobKey, JobState, SkipReason},
};
use serde_json::Value;

use crate::observer::Observer;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A workflow: pure but for [`Workflow::execute`].
///
/// The pure functions see no clock, no randomness and no I/O; the same arguments give the same
/// answers in every process (DUR-4). A panic in them quarantines nothing but the run's own actor.
pub trait Workflow: Send + Sync + fmt::Debug + 'static {
    /// Its name.
    fn name(&self) -> &str;

    /// What is kept with the run, so that another process can continue it.
    fn definition(&self) -> &Definition;

    /// Name of its one, driven stage.
    fn stage(&self) -> &str {
        "steps"
    }

    /// What follows when these jobs are done; called first with none. Jobs that were returned
    /// before are ignored, so that a list need not know what is under way.
    fn next(&self, done: &[DoneJob]) -> Next;

    /// What the final failure of a job means when these jobs are done.
    fn on_failure(
        &self,
        job: &JobKey,
        failure: &Failure,
        attempt: u32,
        done: &[DoneJob],
    ) -> FailureMeans;

    /// Whether what `job` did only in part was made good by another of these: it then takes
    /// nothing from the run's success.
    fn is_made_good(&self, _job: &DoneJob, _done: &[DoneJob]) -> bool {
        false
    }

    /// Somebody who is told of the run's events from the first on, if anybody is.
    fn observer(self: Arc<Self>) -> Option<Box<dyn Observer>> {
        None
    }

    /// Makes one attempt. The future owns what it needs and may be dropped at any await.
    fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome>;
}

/// What identifies a definition and lets it be built again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Digest of `bytes`.
    pub digest: Digest,
    /// Its canonical form.
    pub bytes: Arc<[u8]>,
}

impl Definition {
    /// The definition with this canonical form.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { digest: Digest::of(&bytes), bytes }
    }
}

/// What a workflow wants next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// These jobs, in this order; empty while others are under way.
    Jobs(Vec<JobPlan>),
    /// Nothing more: the stage is sealed.
    Seal,
}

/// A job to be created.
#[derive(Clone, Debug, PartialEq)]
pub struct JobPlan {
    /// Its step path.
    pub key: JobKey,
    /// How often it is tried.
    pub retry: RetryPolicy,
    /// How long one attempt may take.
    pub attempt_within: Duration,
}

/// A job that is terminal.
#[derive(Clone, Debug, PartialEq)]
pub struct DoneJob {
    /// Its step path.
    pub key: JobKey,
    /// How it ended.
    pub state: JobState,
    /// Its record.
    pub result: Value,
}

/// What a final failure means for the run.
#[derive(Clone, Debug, PartialEq)]
pub enum FailureMeans {
    /// The run fails; the record tells why.
    FailRun {
        /// Kept as the job's result.
        record: Value,
    },
    /// The run goes on without it.
    Tolerate {
        /// Kept as the job's result.
        record: Value,
    },
}

/// How an attempt ended, as its own code says.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With this record.
    Succeeded(Value),
    /// It does not apply.
    Skipped {
        /// Why.
        reason: SkipReason,
        /// Its record.
        record: Value,
    },
    /// With a failure; the retry policy decides what follows.
    Failed(Failure),
}

/// Where external calls are journaled.
pub trait CallJournal: Send + Sync + fmt::Debug {
    /// Before the call; `Some` is the reply recorded earlier.
    fn begin<'a>(
        &'a self,
        name: &'a str,
        key: &'a IdempotencyKey,
    ) -> BoxFuture<'a, Result<Option<Value>, Failure>>;
    /// After a complete reply.
    fn record<'a>(&'a self, name: &'a str, reply: Value) -> BoxFuture<'a, Result<(), Failure>>;
    /// After a failure that is known.
    fn settle<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Failure>>;

    /// The result kept under `key`, recorded as the reply of the call `name`; a journal that keeps
    /// nothing has none.
    fn reuse<'a>(
        &'a self,
        _name: &'a str,
        _key: Digest,
    ) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Keeps a result under `key`; whether it is kept.
    fn keep<'a>(
        &'a self,
        _key: Digest,
        _value: Value,
        _within: Duration,
    ) -> BoxFuture<'a, Result<bool, Failure>> {
        Box::pin(std::future::ready(Ok(false)))
    }
}

/// What an attempt may know and do.
#[derive(Debug)]
pub struct AttemptCx {
    /// The run.
    pub run: RunId,
    /// When the run was accepted: constant over attempts and resumes.
    pub run_started_at: Timestamp,
    /// When this attempt was claimed, on the journal's clock: the same during the whole attempt.
    pub now: Timestamp,
    /// The job.
    pub job: JobKey,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// Inputs and settings of the run.
    pub settings: Arc<Value>,
    /// What is done so far, in order.
    pub done: Arc<Vec<DoneJob>>,
    /// The job's key for the outside world.
    pub idempotency_key: IdempotencyKey,
    /// What it warned of so far; becomes an event of the run with the attempt's end.
    pub warnings: Arc<Warnings>,
    journal: Arc<dyn CallJournal>,
    calls: AtomicU32,
}

/// A reply, and whether it came from the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Replied {
    /// The reply.
    pub value: Value,
    /// `<ordinal>/<request digest>`.
    pub call: String,
    /// Whether it had been recorded by an earlier attempt.
    pub replayed: bool,
}

impl AttemptCx {
    /// An attempt of `job` of `run`, claimed at `now`, whose calls are kept in `journal`.
    #[expect(clippy::too_many_arguments, reason = "each is required, and only the engine calls it")]
    pub fn new(
        run: RunId,
        run_started_at: Timestamp,
        now: Timestamp,
        job: JobKey,
        attempt: u32,
        settings: Arc<Value>,
        done: Arc<Vec<DoneJob>>,
        idempotency_key: IdempotencyKey,
        journal: Arc<dyn CallJournal>,
    ) -> Self {
        Self {
            run,
            run_started_at,
            now,
            job,
            attempt,
            settings,
            done,
            idempotency_key,
            warnings: Arc::default(),
            journal,
            calls: AtomicU32::new(0),
        }
    }

    /// Makes one external call, or takes its recorded reply: journaled before and after, so that
    /// a recorded call is never made again (YR-51). Calls are numbered in the order they are made;
    /// a step must make them in the same order on every attempt.
    ///
    /// # Errors
    ///
    /// What `call` answers, or a failure of class `store` when the journal cannot be written; the
    /// call is then not made, or its reply is lost with this attempt.
    pub async fn call<F>(
        &self,
        request: Digest,
        call: impl FnOnce(IdempotencyKey) -> F,
    ) -> Result<Replied, Failure>
    where
        F: Future<Output = Result<Value, Failure>>,
    {
        let ordinal = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("{ordinal}/{request}");
        let key = self.idempotency_key.call(&name);
        if let Some(value) = self.journal.begin(&name, &key).await? {
            return Ok(Replied { value, call: name, replayed: true });
        }
        match call(key).await {
            Ok(value) => {
                self.journal.record(&name, value.clone()).await?;
                Ok(Replied { value, call: name, replayed: false })
            }
            Err(failure) => {
                self.journal.settle(&name).await?;
                Err(failure)
            }
        }
    }

    /// The result that an earlier job, of this run or another, has kept under `key` and that is not
    /// too old. It is in the journal as the reply of a call, `cache/<key>`, as long as the run is:
    /// later attempts take the same one. None once the job has made a call of its own.
    ///
    /// # Errors
    ///
    /// A failure of class `store` when the journal cannot be written.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the result was taken; asking again tells.
    pub async fn reuse(&self, key: Digest) -> Result<Option<Replied>, Failure> {
        let call = format!("{CACHE_PREFIX}{key}");
        let value = self.journal.reuse(&call, key).await?;
        Ok(value.map(|value| Replied { value, call, replayed: true }))
    }

    /// Keeps `value` under `key` for that long. Whether it is kept: the store has bounds.
    ///
    /// # Errors
    ///
    /// A failure of class `store` when it cannot be written.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it is kept; keeping it again does no harm.
    pub async fn keep(&self, key: Digest, value: Value, within: Duration) -> Result<bool, Failure> {
        self.journal.keep(key, value, within).await
    }
}

/// What names of calls begin with that were not made, because their reply had been kept.
pub const CACHE_PREFIX: &str = "cache/";
