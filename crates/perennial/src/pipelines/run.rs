//! One run of a workflow, and how it ended.

use std::path::Path;

use perennial_core::run::{JobState, RunId, RunState};
use perennial_engine::{
    EventFeed, RunError, RunHandle, WaitsFor,
    performance::{Performance, Thresholds},
};
use perennial_pipeline::ResumePlan;
use perennial_store::{JobRecord, RunView};
use serde_json::{Map, Value};

use crate::View;

/// One run of a workflow: wait for it, watch it, pause it, end it. Cheap to clone. Dropping it changes nothing for
/// the run; [`Pipelines::get`](crate::Pipelines::get) makes another.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
/// let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
/// let run = runtime.pipelines().start(start).await?;
/// let outcome = run.outcome().await?;
/// assert_eq!(outcome.run_id(), run.id());
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PipelineRunHandle {
    pub(super) run: RunHandle,
    pub(super) changed_secrets: Vec<String>,
    pub(super) short_secrets: Vec<String>,
    pub(super) resumed: Option<ResumePlan>,
}

/// How a run of a workflow ended.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
/// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
/// # let run = runtime.pipelines().start(start).await?;
/// let outcome = run.outcome().await?;
/// assert_eq!(outcome.status(), "completed");
/// assert_eq!(outcome.performance.total_steps, 1);
/// assert_eq!(outcome.view.jobs.len(), 1);
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineOutcome {
    /// Everything recorded of it.
    pub view: RunView,
    /// How it performed, by the thresholds of the runtime: durations, `usage`, cost, warnings (YR-24).
    pub performance: Performance,
}

impl PipelineRunHandle {
    pub(super) fn of(run: RunHandle) -> Self {
        Self { run, changed_secrets: Vec::new(), short_secrets: Vec::new(), resumed: None }
    }

    /// What becomes of its steps, when this handle is from a resume that opened it for a further round; of other
    /// handles nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1}, {name: b, type: echo, fail: true}]}";
    /// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// let run = runtime.pipelines().start(start).await?;
    /// assert!(run.resumed().is_none());
    /// run.outcome().await?;
    ///
    /// let run = runtime.pipelines().resume(run.id()).await?;
    /// let plan = run.resumed().expect("it had failed, and was opened again");
    /// assert_eq!(plan.step("a").unwrap().fate.to_string(), "reused");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn resumed(&self) -> Option<&ResumePlan> {
        self.resumed.as_ref()
    }

    /// Its id.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, RunId, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// let run = runtime.pipelines().start(start.run_id(RunId::parse("order-17")?)).await?;
    /// assert_eq!(run.id().as_str(), "order-17");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn id(&self) -> &RunId {
        self.run.id()
    }

    /// What it waits for: a free place, the time of another attempt, or the end of its pause. Nothing when
    /// it is under way, has ended, or belongs to another process.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store, WaitsWhy};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1, delay_ms: 50}]}";
    /// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// let run = runtime.pipelines().start(start).await?;
    /// run.pause().await?;
    /// # let mut events = run.events();
    /// # while events.next().await?.kind != "run_paused" {}
    /// # while run.waits_for().is_none() { tokio::task::yield_now().await; }
    /// let waits = run.waits_for().expect("it is paused");
    /// assert_eq!(waits.why, WaitsWhy::Pause);
    /// run.unpause().await?;
    /// run.outcome().await?;
    /// assert!(run.waits_for().is_none());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn waits_for(&self) -> Option<WaitsFor> {
        self.run.waits_for()
    }

    /// Names of secrets of the environment that are not what they were when the run began, if it was
    /// resumed: they are not recorded, and were read again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// assert!(run.changed_secrets().is_empty()); // it was started, not resumed
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn changed_secrets(&self) -> &[String] {
        &self.changed_secrets
    }

    /// Names of secrets of the environment that are shorter than 8 bytes, of a run that was started
    /// or resumed here: a text that is nothing else is kept out of records, and a longer text that
    /// holds one is not found.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// assert!(run.short_secrets().is_empty()); // its document names no secret
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn short_secrets(&self) -> &[String] {
        &self.short_secrets
    }

    /// Its committed events, from the first on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// let mut events = run.events();
    /// let mut kinds = Vec::new();
    /// while kinds.last().map(String::as_str) != Some("run_closed") {
    ///     kinds.push(events.next().await?.kind);
    /// }
    /// assert_eq!(kinds[0], "run_created");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self) -> EventFeed {
        self.events_from(1)
    }

    /// Its events from the number `from` on (1 is the first), as they are committed. Who keeps the number of the
    /// last event that was worked off misses none, also after a restart of the process.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// let first = run.events().next().await?;
    /// let second = run.events_from(first.seq + 1).next().await?;
    /// assert_eq!((first.seq, second.seq), (1, 2));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn events_from(&self, from: u64) -> EventFeed {
        self.run.events(from)
    }

    /// Everything recorded of it, at one revision.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, RunState, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// run.outcome().await?;
    /// let view = run.view().await?;
    /// assert_eq!(view.run.state, RunState::Succeeded);
    /// assert_eq!((view.jobs.len(), view.attempts.len()), (1, 1));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn view(&self) -> Result<RunView, RunError> {
        self.run.view().await
    }

    /// Waits until it has ended, whoever runs it. A run that failed has an outcome as well: this is no error here.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let text = "workflow: {name: w, steps: [{name: a, type: echo, fail: true, error_message: no line}]}";
    /// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// let outcome = runtime.pipelines().start(start).await?.outcome().await?;
    /// assert_eq!(outcome.status(), "failed");
    /// assert_eq!(outcome.result("a").unwrap()["error"]["message"], "no line");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or when this process gave up on the run and nothing will come of it here.
    /// [`RunError::ShutDown`] when the runtime shuts down before: the run is unfinished then, and can be resumed.
    ///
    /// # Cancel safety
    ///
    /// Safe: waiting changes nothing.
    pub async fn outcome(&self) -> Result<PipelineOutcome, RunError> {
        let view = self.run.outcome().await?.view;
        let performance = self.run.performance_of(&view);
        Ok(PipelineOutcome { view, performance })
    }

    /// How it performed, or performs: durations, sizes, retries, and what passed `thresholds`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # run.outcome().await?;
    /// use perennial::records::Thresholds;
    ///
    /// let small = Thresholds { result_bytes: 0, ..Thresholds::default() };
    /// let performance = run.performance(&small).await?;
    /// assert_eq!(performance.total_steps, 1);
    /// assert_eq!(performance.warnings[0].message, "the result of a has 1 bytes, more than 0");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn performance(&self, thresholds: &Thresholds) -> Result<Performance, RunError> {
        self.run.performance(thresholds).await
    }

    /// Pauses it: steps under way end and are recorded, and nothing more starts until
    /// [`unpause`](Self::unpause), over restarts of the process as well. Answers whether that changed
    /// anything.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1, delay_ms: 50}, {name: b, type: echo, value: 2}]}";
    /// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// let run = runtime.pipelines().start(start).await?;
    /// assert!(run.pause().await?);
    /// assert!(!run.pause().await?); // it was paused already
    /// run.unpause().await?;
    /// assert_eq!(run.outcome().await?.status(), "completed");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When it has ended, nobody here runs it, or the store is away.
    pub async fn pause(&self) -> Result<bool, RunError> {
        self.run.pause().await
    }

    /// Lets it go on where it stands. Answers whether that changed anything.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1, delay_ms: 50}, {name: b, type: echo, value: 2}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// run.pause().await?;
    /// assert!(run.unpause().await?);
    /// assert!(!run.unpause().await?); // it was not paused any more
    /// # run.outcome().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub async fn unpause(&self) -> Result<bool, RunError> {
        self.run.unpause().await
    }

    /// Asks it to end: attempts under way are stopped, and nothing more starts. Answers whether that changed
    /// anything; [`outcome`](Self::outcome) waits for the end.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, RunState, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// let run = runtime.pipelines().start(start).await?;
    /// assert!(run.cancel().await?);
    /// assert_eq!(run.outcome().await?.state(), RunState::Cancelled);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When nobody here runs it, or the store is away.
    pub async fn cancel(&self) -> Result<bool, RunError> {
        self.run.cancel().await
    }
}

impl PipelineOutcome {
    /// Its id.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// assert_eq!(run.outcome().await?.run_id(), run.id());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_id(&self) -> &RunId {
        &self.view.run.run
    }

    /// Its state; always one that is final.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, RunState, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// assert_eq!(run.outcome().await?.state(), RunState::Succeeded);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn state(&self) -> RunState {
        self.view.run.state
    }

    /// `completed`, `failed` or `cancelled`: [`state`](Self::state) in the words of the language. A run that
    /// completed with [a part of it failed](Self::is_degraded) is `completed`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// assert_eq!(run.outcome().await?.status(), "completed");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn status(&self) -> &'static str {
        self.state().status()
    }

    /// What the step `step` of the workflow gave: of one that failed its record, which tells why. Nothing when there
    /// is no such step or it was not reached. Steps of a child are in the result of their step; the job of each is
    /// in the view.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// let outcome = run.outcome().await?;
    /// assert_eq!(outcome.result("a"), Some(&1.into()));
    /// assert_eq!(outcome.result("b"), None);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn result(&self, step: &str) -> Option<&Value> {
        let job = self.steps().find(|job| job.key.step_name() == step)?;
        self.ended(job).result.as_ref()
    }

    /// What a step of the workflow gave, for looking at: cut where it is large.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let start = StartPipeline::step(&serde_json::json!({"name": "a", "type": "echo", "value": "{{ inputs.text }}"}))
    ///     .input("text", "x".repeat(200_000))
    ///     .mode(ProviderMode::Mock);
    /// let outcome = runtime.pipelines().start(start).await?.outcome().await?;
    /// let shown = outcome.shown("a").expect("it gave something").shown();
    /// assert!(shown.as_str().unwrap().ends_with("... [TRIMMED: 200000 bytes total]"));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn shown(&self, step: &str) -> Option<View<'_>> {
        let job = self.steps().find(|job| job.key.step_name() == step)?;
        let ended = self.ended(job);
        let made = self.view.attempts.iter().rfind(|attempt| attempt.job == ended.id);
        let at = made.and_then(|attempt| attempt.ended_at);
        Some(View::new(job.key.as_str(), ended.result.as_ref()?, at))
    }

    /// What all steps of the workflow gave, in order.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: b, type: echo, value: 2}, {name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// let results = run.outcome().await?.results();
    /// assert_eq!(serde_json::to_string(&results)?, r#"{"b":2,"a":1}"#);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn results(&self) -> Map<String, Value> {
        let given = |job: &JobRecord| {
            let result = self.ended(job).result.clone()?;
            Some((job.key.step_name(), result))
        };
        self.steps().filter_map(given).collect()
    }

    /// What it warns of (YR-24): what its steps recorded as `warnings`, each with its step, and what passed
    /// a threshold.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # use perennial::records::{Monitoring, Thresholds};
    /// let thresholds = Thresholds { result_bytes: 0, ..Thresholds::default() };
    /// let monitoring = Monitoring { thresholds, ..Monitoring::default() };
    /// let runtime = Runtime::builder().store(Store::memory()).monitoring(monitoring).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// assert_eq!(run.outcome().await?.warnings(), ["the result of a has 1 bytes, more than 0"]);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn warnings(&self) -> Vec<String> {
        let mut all = Vec::new();
        for job in self.view.jobs.iter().filter(|job| !job.key.is_opening()) {
            let recorded =
                job.result.as_ref().and_then(|result| result.get("warnings")?.as_array());
            let told = recorded.into_iter().flatten().filter_map(Value::as_str);
            all.extend(told.map(|warning| format!("{}: {warning}", job.key)));
        }
        all.extend(self.performance.warnings.iter().map(|warning| warning.message.clone()));
        all
    }

    /// Whether a step did only a part of its work, and the run went on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let text = "workflow: {name: w, steps: [{name: a, type: echo, fail: true, on_error: continue}]}";
    /// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// let outcome = runtime.pipelines().start(start).await?.outcome().await?;
    /// assert_eq!((outcome.status(), outcome.is_degraded()), ("completed", true));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_degraded(&self) -> bool {
        self.state() == RunState::PartiallySucceeded
            || self.steps().any(|job| job.state == JobState::Partial)
    }

    /// The jobs of the workflow's own steps.
    fn steps(&self) -> impl Iterator<Item = &JobRecord> {
        let own = |job: &&JobRecord| {
            job.key.depth() == 0 && !job.key.is_opening() && !job.key.closes_handler()
        };
        self.view.jobs.iter().filter(own)
    }

    /// The job that says what became of a step: the one that closed its handler, else its own.
    fn ended<'a>(&'a self, job: &'a JobRecord) -> &'a JobRecord {
        let handler = job.key.handler();
        self.view.jobs.iter().find(|other| other.key == handler).unwrap_or(job)
    }

    /// Files that steps left and that their records tell of (`output_file`), each with its step: their paths below
    /// the directory of outputs, as they were named. Steps that call a model, set variables or work on files have
    /// such records; a bare value, such as that of `echo`, has no place for it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// let text = "workflow: {name: w, steps: [{name: a, type: set_variable, variables: {to: Ada}, output_to_file: hi.json}]}";
    /// let start = StartPipeline::document("w.yaml", text)
    ///     .mode(ProviderMode::Mock)
    ///     .project_root(folder.path());
    /// let outcome = runtime.pipelines().start(start).await?.outcome().await?;
    /// assert_eq!(outcome.files(), [("a", "hi.json")]);
    /// assert!(outcome.output_dir().unwrap().join("hi.json").is_file());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn files(&self) -> Vec<(&str, &str)> {
        let left = |job| -> Option<(&str, &str)> {
            let job: &JobRecord = job;
            Some((job.key.as_str(), job.result.as_ref()?.get("output_file")?.as_str()?))
        };
        self.view.jobs.iter().filter_map(left).collect()
    }

    /// Where [its files](Self::files) are; none when the run had no directories.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// assert_eq!(run.outcome().await?.output_dir(), None); // none of its steps has to do with files
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn output_dir(&self) -> Option<&Path> {
        let directories = self.view.run.settings.get("directories")?;
        directories.get("outputs")?.as_str().map(Path::new)
    }

    /// Attempts that had called out and ended without a recorded reply: the call may have happened.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// assert_eq!(run.outcome().await?.uncertain_attempts(), 0);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn uncertain_attempts(&self) -> usize {
        self.view.attempts.iter().filter(|attempt| attempt.uncertain).count()
    }
}
