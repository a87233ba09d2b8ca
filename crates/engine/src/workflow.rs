//! The seam between the engine and what it runs: a definition that decides what comes next, and
//! executes one job at a time.

pub(crate) mod holding;
mod numbers;
mod plan;
mod saved;
mod wait;
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

use self::holding::Holding;
pub use self::{
    holding::HeldService,
    numbers::{
        InvalidNumbers, NewNumber, NewVersion, NoSlot, SequenceName, SlotGiven, SlotHold, SlotPool,
        SlotTaken,
    },
    plan::{InvertedTimeouts, JobPlan},
    wait::{AfterWait, Resumed, Unavailable, Wait, WaitDefault, WaitEnded},
    warnings::Warnings,
};
pub(crate) use self::{numbers::Ordinals, saved::Pulse};
use perennial_core::{Digest, Timestamp, failure::Failure, run::RunId};

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
/// let start = StartRun { run: None, workflow, settings: json!({"who": 7}), within: None };
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

/// Where external calls are journaled.
///
/// A journal in memory, for tests of a workflow without an engine:
///
/// ```
/// use std::{collections::BTreeMap, sync::{Arc, Mutex}};
/// use perennial::engine::{AttemptCx, CallJournal, Definition, workflow::{BoxFuture, IdempotencyKey, JobKey}};
/// use perennial::{RunId, records::{Failure, Timestamp}};
/// use serde_json::{Value, json};
///
/// #[derive(Debug, Default)]
/// struct InMemory(Mutex<BTreeMap<String, Value>>);
///
/// impl CallJournal for InMemory {
///     fn begin<'a>(
///         &'a self,
///         name: &'a str,
///         _key: &'a IdempotencyKey,
///     ) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
///         Box::pin(async move { Ok(self.0.lock().expect("no panic").get(name).cloned()) })
///     }
///
///     fn record<'a>(&'a self, name: &'a str, reply: Value) -> BoxFuture<'a, Result<(), Failure>> {
///         Box::pin(async move {
///             self.0.lock().expect("no panic").insert(name.to_owned(), reply);
///             Ok(())
///         })
///     }
///
///     fn settle<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
///         Box::pin(async { Ok(()) })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let journal = Arc::new(InMemory::default());
/// let request = Definition::new(b"what is the time?".to_vec());
/// for attempt in [1, 2] {
///     let (run, job, now) = (RunId::parse("r1")?, JobKey::new("ask"), Timestamp::from_micros(0));
///     let key = IdempotencyKey::new("w", &run, "steps", &job);
///     let cx = AttemptCx::new(run, now, now, job, attempt, Arc::default(), Arc::default(), key, journal.clone());
///     let replied = cx.call(request.digest, async |_| Ok(json!("noon"))).await?;
///     assert_eq!((replied.value, replied.replayed), (json!("noon"), attempt == 2));
/// }
/// # Ok(())
/// # }
/// ```
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

    /// Saves a value for later attempts of the job. A journal that saves nothing refuses.
    fn save<'a>(
        &'a self,
        name: &'a str,
        _value: Value,
        _keep: bool,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let text = format!("checkpoint `{name}` cannot be saved: this journal saves none");
        let failure = Failure::new(perennial_core::FailureClass::Store, "PL901", text);
        Box::pin(std::future::ready(Err(failure)))
    }

    /// The value that was saved under that name.
    fn saved<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The number of a key; a journal that gives none refuses.
    fn allocate(&self, _new: NewNumber) -> BoxFuture<'_, Result<u64, Failure>> {
        numbers::gives_none()
    }

    /// The version of a key; a journal that gives none refuses.
    fn allocate_version(&self, _new: NewVersion) -> BoxFuture<'_, Result<u32, Failure>> {
        numbers::gives_none()
    }

    /// Takes a number of a pool, or has it under that name already; a journal that gives none refuses.
    fn slot_take<'a>(
        &'a self,
        _pool: &'a SlotPool,
        _name: &'a str,
    ) -> BoxFuture<'a, Result<SlotTaken, Failure>> {
        numbers::gives_none()
    }

    /// Gives a number back; whether it was held.
    fn slot_give<'a>(
        &'a self,
        _pool: &'a str,
        _number: u32,
        _why: SlotGiven,
    ) -> BoxFuture<'a, Result<bool, Failure>> {
        numbers::gives_none()
    }

    /// Notes how far the attempt is; a journal may leave that out.
    fn beat<'a>(&'a self, _progress: Value) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What an attempt may know and do.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
#[doc = include_str!("../doc/attempts.txt")]
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// /// The attempt of a job, as its workflow's `execute` makes it.
/// async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
///     cx.warnings.push("nobody is awake");
///     Ok(serde_json::json!({"said": cx.settings["hello"], "attempt": cx.attempt}))
/// }
/// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
/// # let settings = serde_json::json!({"hello": "Ada"});
/// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None }).await?;
/// # let outcome = run.outcome().await?;
/// assert_eq!(outcome.view.jobs[0].result, Some(serde_json::json!({"said": "Ada", "attempt": 1})));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
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
    pub(crate) pulse: Arc<Pulse>,
    journal: Arc<dyn CallJournal>,
    calls: AtomicU32,
    ordinals: Arc<Ordinals>,
    resumed: Option<Resumed>,
    given: Arc<Given>,
    /// The key of the same job before it was made anew: what was allocated for it stays.
    first_key: Option<IdempotencyKey>,
    /// For whom it holds services; nothing outside of a runtime.
    holding: Option<Holding>,
}

/// What a job of a stage executes, and with what.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Given {
    /// Name of the activity or group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) work: String,
    /// Its input.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) input: Value,
    /// Whether its group needs its success.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) required: bool,
    /// Keys of jobs of its stage that have to succeed before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) after: Vec<String>,
    /// How often it was made anew although it had succeeded.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(crate) again: u32,
    /// It is of an earlier round, and waits for what gives it once more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) awaits_feed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(times: &u32) -> bool {
    *times == 0
}

/// A reply, and whether it came from the journal.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
#[doc = include_str!("../doc/attempts.txt")]
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
///     let request = Definition::new(b"what is the time?".to_vec());
///     let replied = cx.call(request.digest, async |_| Ok("noon".into())).await?;
///     assert_eq!(replied.call, format!("1/{}", request.digest)); // the first call of this attempt
///     assert!(!replied.replayed);
///     Ok(replied.value)
/// }
/// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
/// # let settings = serde_json::json!({"hello": "Ada"});
/// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None }).await?;
/// # assert_eq!(run.outcome().await?.state.name(), "succeeded");
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
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
            pulse: Arc::default(),
            journal,
            calls: AtomicU32::new(0),
            ordinals: Arc::default(),
            resumed: None,
            given: Arc::default(),
            first_key: None,
            holding: None,
        }
    }

    pub(crate) fn with_given(mut self, given: Arc<Given>) -> Self {
        if given.again > 0 {
            let anew = self.idempotency_key.again(given.again);
            self.first_key = Some(std::mem::replace(&mut self.idempotency_key, anew));
        }
        self.given = given;
        self
    }

    /// Name of the activity that is executed.
    pub(crate) fn work(&self) -> &str {
        &self.given.work
    }

    /// What the job of a stage was given; null for a step.
    ///
    /// ```
    /// use perennial::engine::AttemptCx;
    ///
    /// fn model(cx: &AttemptCx) -> Option<&str> {
    ///     cx.input()["model"].as_str()
    /// }
    /// ```
    pub fn input(&self) -> &Value {
        &self.given.input
    }

    /// The same attempt, of a job whose wait ended like this.
    ///
    /// ```
    /// use perennial::engine::{AttemptCx, Resumed};
    ///
    /// fn resumed(cx: AttemptCx, how: Resumed) -> AttemptCx {
    ///     cx.with_resumed(Some(how))
    /// }
    /// ```
    #[must_use]
    pub fn with_resumed(mut self, resumed: Option<Resumed>) -> Self {
        self.resumed = resumed;
        self
    }

    /// What ended the last wait that an attempt of this job asked for; nothing when none did. It stays when
    /// this attempt fails and the job is tried again.
    ///
    /// ```
    /// use perennial::engine::AttemptCx;
    ///
    /// fn who_agreed(cx: &AttemptCx) -> Option<&str> {
    ///     cx.resumed()?.by.as_deref()
    /// }
    /// ```
    pub fn resumed(&self) -> Option<&Resumed> {
        self.resumed.as_ref()
    }

    /// The value that ended the last wait of this job.
    ///
    /// ```
    /// use perennial::engine::AttemptCx;
    ///
    /// fn agreed(cx: &AttemptCx) -> bool {
    ///     cx.resumed_with().ok().flatten().unwrap_or(false)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// When it is something else than a `T`.
    pub fn resumed_with<T: serde::de::DeserializeOwned>(
        &self,
    ) -> Result<Option<T>, serde_json::Error> {
        self.resumed.as_ref().map(Resumed::value_as).transpose()
    }

    /// Makes one external call, or takes its recorded reply: journaled before and after, so that
    /// a recorded call is never made again (YR-51). Calls are numbered in the order they are made;
    /// a step must make them in the same order on every attempt.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../doc/attempts.txt")]
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
    ///     let request = Definition::new(b"what is the time?".to_vec()); // what tells it from other calls
    ///     let ask = async |key: perennial::engine::workflow::IdempotencyKey| {
    ///         // Ask the other side here, and tell it `key`, by which it knows a repetition.
    ///         Ok(format!("noon, asked as {} bytes", key.as_str().len()).into())
    ///     };
    ///     Ok(cx.call(request.digest, ask).await?.value)
    /// }
    /// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
    /// # let settings = serde_json::json!({"hello": "Ada"});
    /// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None }).await?;
    /// # let outcome = run.outcome().await?;
    /// assert_eq!(outcome.view.calls.len(), 1); // recorded: no later attempt asks again
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What `call` answers, or a failure of class `store` when the journal cannot be written; the
    /// call is then not made, or its reply is lost with this attempt.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while `call` is under way leaves open whether it happened: the attempt is then
    /// counted as uncertain, and the next one makes the call again, with the same idempotency key.
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../doc/attempts.txt")]
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
    ///     let key = Definition::new(b"the time of today".to_vec()).digest;
    ///     if let Some(kept) = cx.reuse(key).await? {
    ///         return Ok(kept.value);
    ///     }
    ///     cx.keep(key, "noon".into(), Duration::from_secs(60)).await?;
    ///     Ok("asked".into())
    /// }
    /// # for expected in ["asked", "noon"] {
    /// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
    /// # let settings = serde_json::json!({"hello": "Ada"});
    /// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None }).await?;
    /// # let outcome = run.outcome().await?;
    /// # assert_eq!(outcome.view.jobs[0].result, Some(expected.into()));
    /// # }
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../doc/attempts.txt")]
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
    ///     let key = Definition::new(b"the time of today".to_vec()).digest;
    ///     let is_kept = cx.keep(key, "noon".into(), Duration::from_secs(60)).await?;
    ///     Ok(is_kept.into())
    /// }
    /// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
    /// # let settings = serde_json::json!({"hello": "Ada"});
    /// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None }).await?;
    /// # let outcome = run.outcome().await?;
    /// assert_eq!(outcome.view.jobs[0].result, Some(true.into()));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
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
