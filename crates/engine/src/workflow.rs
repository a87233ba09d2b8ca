//! The seam between the engine and what it runs: a definition that decides what comes next, and
//! executes one job at a time.

mod attempt;
pub(crate) mod holding;
mod journal;
mod numbers;
mod plan;
mod saved;
mod wait;
mod warnings;

use std::{fmt, future::Future, pin::Pin, sync::Arc};

pub(crate) use self::{
    attempt::Given,
    numbers::{Ordinals, number_key},
    saved::Pulse,
};
pub use self::{
    attempt::{AttemptCx, CACHE_PREFIX, Replied},
    holding::HeldService,
    journal::CallJournal,
    numbers::{
        InvalidNumbers, NewNumber, NewVersion, NoSlot, SequenceName, SlotGiven, SlotHold, SlotPool,
        SlotTaken,
    },
    plan::{InvertedTimeouts, JobPlan},
    wait::{AfterWait, Resumed, Unavailable, Wait, WaitDefault, WaitEnded},
    warnings::Warnings,
};
use perennial_core::{Digest, failure::Failure};

pub use perennial_core::{
    retry::RetryPolicy,
    run::{IdempotencyKey, JobKey, JobState, SkipReason},
};
use serde_json::Value;

use crate::{observer::Observer, staged::Staging};

/// A boxed future.
///
/// ```
/// use perennial::engine::workflow::BoxFuture;
///
/// fn later(text: &str) -> BoxFuture<'_, usize> {
///     Box::pin(async move { text.len() })
/// }
/// # drop(later("hello"));
/// ```
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A workflow: pure but for [`Workflow::execute`].
///
/// The pure functions see no clock, no randomness and no I/O; the same arguments give the same
/// answers in every process (DUR-4). A panic in one of them parks its run, with the reason, and no other: what has
/// happened is recorded first, and a resume asks again. A panic in `on_failure` lets the failure fail the run.
///
/// A workflow of one job:
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use perennial::engine::{
///     AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, Outcome, StartRun, Workflow,
///     workflow::{BoxFuture, JobKey, RetryPolicy},
/// };
/// use perennial::{Runtime, Store, records::Failure};
/// use serde_json::json;
///
/// #[derive(Debug)]
/// struct Greet(Definition);
///
/// impl Workflow for Greet {
///     fn name(&self) -> &str {
///         "greet"
///     }
///
///     fn definition(&self) -> &Definition {
///         &self.0
///     }
///
///     fn next(&self, done: &[DoneJob]) -> Next {
///         if !done.is_empty() {
///             return Next::Seal;
///         }
///         let (key, retry) = (JobKey::new("say"), RetryPolicy::PROVIDER);
///         Next::Jobs(vec![JobPlan::new(key, retry, Duration::from_secs(5))])
///     }
///
///     fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
///         FailureMeans::FailRun { record: json!(failure.message) }
///     }
///
///     fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
///         Box::pin(async move { Outcome::Succeeded(json!(format!("hello {}", cx.settings["who"]))) })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
/// let start = StartRun { run: None, workflow, settings: json!({"who": 7}), within: None, priority: Default::default() };
/// let outcome = runtime.runs().start(start).await?.outcome().await?;
/// assert_eq!(outcome.view.jobs[0].result, Some(json!("hello 7")));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub trait Workflow: Send + Sync + fmt::Debug + 'static {
    /// Its name.
    fn name(&self) -> &str;

    /// What is kept with the run, so that another process can continue it.
    fn definition(&self) -> &Definition;

    /// Name of its one, driven stage.
    fn stage(&self) -> &str {
        "steps"
    }

    /// Its stages, where a plan says what comes next and not [`next`](Self::next): see
    /// [`Staged`](crate::staged::Staged).
    fn staging(&self) -> Option<&Staging> {
        None
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

    /// The record of a job that is skipped because it has waited in vain.
    fn on_skip(&self, _job: &JobKey, reason: SkipReason, why: &str) -> Value {
        serde_json::json!({ "skipped": reason.name(), "why": why })
    }

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
///
/// ```
/// use perennial::engine::Definition;
///
/// let definition = Definition::new(b"greet 1".to_vec());
/// assert_eq!(&*definition.bytes, b"greet 1");
/// assert_ne!(definition.digest, Definition::new(b"greet 2".to_vec()).digest);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Digest of `bytes`.
    pub digest: Digest,
    /// Its canonical form.
    pub bytes: Arc<[u8]>,
}

impl Definition {
    /// The definition with this canonical form.
    ///
    /// ```
    /// use perennial::engine::Definition;
    ///
    /// assert_eq!(Definition::new(b"greet 1".to_vec()), Definition::new(b"greet 1".to_vec()));
    /// ```
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { digest: Digest::of(&bytes), bytes }
    }
}

/// What a workflow wants next.
///
/// ```
/// use std::time::Duration;
/// use perennial::engine::{JobPlan, Next, workflow::{JobKey, RetryPolicy}};
///
/// let retry = RetryPolicy::PROVIDER; // 3 tries
/// let say = JobPlan::new(JobKey::new("say"), retry, Duration::from_secs(30));
/// assert_ne!(Next::Jobs(vec![say]), Next::Seal);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// These jobs, in this order; empty while others are under way.
    Jobs(Vec<JobPlan>),
    /// Nothing more: the stage is sealed.
    Seal,
}

/// A job that is terminal.
///
/// ```
/// use perennial::engine::{DoneJob, workflow::{JobKey, JobState}};
///
/// /// The texts of those jobs that succeeded.
/// fn texts(done: &[DoneJob]) -> Vec<&str> {
///     let succeeded = done.iter().filter(|job| job.state == JobState::Succeeded);
///     succeeded.filter_map(|job| job.result.as_str()).collect()
/// }
///
/// let done = DoneJob { key: JobKey::new("say"), state: JobState::Succeeded, result: "hi".into() };
/// assert_eq!(texts(&[done]), ["hi"]);
/// ```
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
///
/// ```
/// use perennial::engine::FailureMeans;
/// use perennial::records::{Failure, FailureClass};
///
/// /// A letter that cannot be sent is no reason to stop; everything else is.
/// fn means(job: &str, failure: &Failure) -> FailureMeans {
///     let record = failure.message.clone().into();
///     match job {
///         "send" => FailureMeans::Tolerate { record },
///         _ => FailureMeans::FailRun { record },
///     }
/// }
///
/// let failure = Failure::new(FailureClass::Io, "APP1", "no line");
/// assert_eq!(means("send", &failure), FailureMeans::Tolerate { record: "no line".into() });
/// ```
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
    /// The job has failed; its stage says what that means.
    FailJob {
        /// Kept as the job's result.
        record: Value,
    },
}

/// How an attempt ended, as its own code says.
///
/// ```
/// use perennial::engine::Outcome;
/// use perennial::records::{Failure, FailureClass};
///
/// fn outcome(reply: Result<String, std::io::Error>) -> Outcome {
///     match reply {
///         Ok(text) => Outcome::Succeeded(text.into()),
///         // Its class says whether another try makes sense.
///         Err(error) => Outcome::Failed(Failure::new(FailureClass::Transient, "APP1", error.to_string())),
///     }
/// }
/// assert_eq!(outcome(Ok("hello".to_owned())), Outcome::Succeeded("hello".into()));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With this record.
    Succeeded(Value),
    /// With a part of what it was to give, which is a success as well.
    Partial(Value),
    /// It does not apply.
    Skipped {
        /// Why.
        reason: SkipReason,
        /// Its record.
        record: Value,
    },
    /// With a failure; the retry policy decides what follows.
    Failed(Failure),
    /// What it needs is not available: the job is tried again when it may be, and no attempt is used.
    Unavailable(Unavailable),
    /// The job waits, and the next attempt is told what ended that; no attempt is used.
    Suspend(Wait),
}
