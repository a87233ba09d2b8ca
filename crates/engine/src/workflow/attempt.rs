//! What an attempt may know and do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use perennial_core::{
    Digest, Timestamp,
    failure::Failure,
    run::{IdempotencyKey, JobKey, RunId},
};
use serde_json::Value;

use super::{CallJournal, DoneJob, Ordinals, Pulse, Resumed, Warnings, holding::Holding};

/// What an attempt may know and do.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
#[doc = include_str!("../../doc/attempts.txt")]
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// /// The attempt of a job, as its workflow's `execute` makes it.
/// async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
///     cx.warnings.push("nobody is awake");
///     Ok(serde_json::json!({"said": cx.settings["hello"], "attempt": cx.attempt}))
/// }
/// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
/// # let settings = serde_json::json!({"hello": "Ada"});
/// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None, priority: Default::default() }).await?;
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
    /// Inputs and settings of the run, as [`StartRun::settings`](crate::StartRun::settings) had them. Of a run [in
    /// stages](crate::staged) it is an object, and its `input` is the input of the run, as JSON:
    ///
    /// ```
    /// use perennial::engine::AttemptCx;
    ///
    /// /// For how many names a run was started whose `StagedWorkflow::Input` is a `Vec<String>`.
    /// fn names(cx: &AttemptCx) -> usize {
    ///     cx.settings["input"].as_array().map_or(0, Vec::len)
    /// }
    /// # let _ = names;
    /// ```
    pub settings: Arc<Value>,
    /// What is done so far, in order.
    pub done: Arc<Vec<DoneJob>>,
    /// The job's key for the outside world.
    pub idempotency_key: IdempotencyKey,
    /// What it warned of so far; becomes an event of the run with the attempt's end.
    pub warnings: Arc<Warnings>,
    pub(crate) pulse: Arc<Pulse>,
    pub(super) journal: Arc<dyn CallJournal>,
    pub(super) calls: AtomicU32,
    pub(super) ordinals: Arc<Ordinals>,
    pub(super) resumed: Option<Resumed>,
    pub(super) given: Arc<Given>,
    /// The key of the same job before it was made anew: what was allocated for it stays.
    pub(super) first_key: Option<IdempotencyKey>,
    /// For whom it holds services; nothing outside of a runtime.
    pub(super) holding: Option<Holding>,
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
    #[doc = include_str!("../../doc/attempts.txt")]
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
    /// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None, priority: Default::default() }).await?;
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
    #[doc = include_str!("../../doc/attempts.txt")]
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
    /// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None, priority: Default::default() }).await?;
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
    #[doc = include_str!("../../doc/attempts.txt")]
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
    ///     let key = Definition::new(b"the time of today".to_vec()).digest;
    ///     let is_kept = cx.keep(key, "noon".into(), Duration::from_secs(60)).await?;
    ///     Ok(is_kept.into())
    /// }
    /// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
    /// # let settings = serde_json::json!({"hello": "Ada"});
    /// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None, priority: Default::default() }).await?;
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

/// A reply, and whether it came from the journal.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
#[doc = include_str!("../../doc/attempts.txt")]
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
/// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None, priority: Default::default() }).await?;
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

/// What names of calls begin with that were not made, because their reply had been kept.
pub const CACHE_PREFIX: &str = "cache/";
