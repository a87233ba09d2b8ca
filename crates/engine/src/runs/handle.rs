//! One run as its users see it: what it is, how far it is, how it ended.

use perennial_core::run::{JobKey, RunId, RunState};
use perennial_store::{JobRecord, RunView, StoreError};

use super::{RunError, Runs};
use crate::{
    EventFeed, RunFate, WaitsFor,
    performance::{Performance, Thresholds},
    run::{Explanation, Known, explain},
};

/// One run. A handle outlives the runtime: after its [shutdown](RunError::ShutDown) nothing waits, and whatever
/// needs the closed store is refused.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
/// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
/// # let run = runtime.pipelines().start(start).await?;
/// # let run = runtime.runs().get(run.id()).await?;
/// let outcome = run.outcome().await?;
/// assert_eq!(&outcome.run, run.id());
/// assert_eq!(run.view().await?.run.state, outcome.state);
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RunHandle {
    pub(super) runs: Runs,
    pub(super) run: RunId,
}

/// How a run ended.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
/// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
/// # let run = runtime.pipelines().start(start).await?;
/// # let run = runtime.runs().get(run.id()).await?;
/// let outcome = run.outcome().await?;
/// assert!(outcome.state.is_terminal());
/// assert_eq!(outcome.view.jobs[0].key.as_str(), "a");
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RunOutcome {
    /// The run.
    pub run: RunId,
    /// Its terminal state.
    pub state: RunState,
    /// Everything recorded of it.
    pub view: RunView,
}

impl RunHandle {
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
    /// # let run = runtime.runs().get(run.id()).await?;
    /// assert_eq!(runtime.runs().get(run.id()).await?.id(), run.id());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn id(&self) -> &RunId {
        &self.run
    }

    /// Everything recorded of it, at one revision.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # let run = runtime.runs().get(run.id()).await?;
    /// run.outcome().await?;
    /// let view = run.view().await?;
    /// assert_eq!((view.run.workflow.as_str(), view.attempts.len()), ("hi", 1));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn view(&self) -> Result<RunView, RunError> {
        self.runs.view(&self.run).await
    }

    /// What it waits for: a free place, the time of another attempt, or the end of its pause. Nothing when
    /// it is under way, has ended, or belongs to another process.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # let run = runtime.runs().get(run.id()).await?;
    /// # run.outcome().await?;
    /// assert_eq!(run.waits_for(), None); // it has ended
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn waits_for(&self) -> Option<WaitsFor> {
        let services = &self.runs.services;
        services.waiting.of(&self.run).or_else(|| services.resting.of(&self.run))
    }

    /// Why a job of it is where it is, and what will change that. Asks the store, and changes nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # let run = runtime.runs().get(run.id()).await?;
    /// # run.outcome().await?;
    /// use perennial::engine::{Explanation, workflow::JobKey};
    ///
    /// let explained = run.explain(&JobKey::new("a")).await?;
    /// assert!(matches!(explained, Explanation::Ended { .. }));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Store`] with [`StoreError::NotFound`] when it has no such job yet, or when the store cannot be
    /// read.
    pub async fn explain(&self, job: &JobKey) -> Result<Explanation, RunError> {
        let view = self.view().await?;
        let Some(record) = view.jobs.iter().find(|record| record.key == *job) else {
            return Err(StoreError::NotFound { what: "step", id: job.to_string() }.into());
        };
        Ok(self.explanation(&view, record))
    }

    /// As [`explain`](Self::explain), of a job in `view`, without asking anybody.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # let run = runtime.runs().get(run.id()).await?;
    /// let view = run.outcome().await?.view;
    /// let explained = run.explanation(&view, &view.jobs[0]);
    /// assert_eq!(explained.changed_by(), None);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn explanation(&self, view: &RunView, job: &JobRecord) -> Explanation {
        let services = &self.runs.services;
        let service = services.external().zip(job.deferral.as_ref());
        let service = service.and_then(|(it, deferral)| it.standing(&job.uses, &deferral.cause));
        let known =
            Known { parked: services.parked.why(&self.run), waits: self.waits_for(), service };
        explain(view, job, services.store.now(), &known)
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
    /// # let run = runtime.runs().get(run.id()).await?;
    /// # run.outcome().await?;
    /// use perennial::records::Thresholds;
    ///
    /// let performance = run.performance(&Thresholds::default()).await?;
    /// assert_eq!((performance.total_steps, performance.failed_steps), (1, 0));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn performance(&self, thresholds: &Thresholds) -> Result<Performance, RunError> {
        let view = self.view().await?;
        Ok(Performance::of(&view, thresholds, self.runs.services.store.now()))
    }

    /// How a run with these rows performs, by the thresholds of this runtime.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # let run = runtime.runs().get(run.id()).await?;
    /// let view = run.outcome().await?.view;
    /// assert_eq!(run.performance_of(&view).successful_steps, 1);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn performance_of(&self, view: &RunView) -> Performance {
        let services = &self.runs.services;
        Performance::of(view, &services.monitoring.thresholds, services.store.now())
    }

    /// Its events from `from` on (1 is the first), as they are committed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # let run = runtime.runs().get(run.id()).await?;
    /// let first = run.events(1).next().await?;
    /// assert_eq!((first.seq, first.kind.as_str()), (1, "run_created"));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self, from: u64) -> EventFeed {
        self.runs.services.watch(&self.run, from)
    }

    /// Waits until it has ended. The store is asked, so this works whoever runs it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # let run = runtime.runs().get(run.id()).await?;
    /// let outcome = run.outcome().await?;
    /// assert_eq!(outcome.state.name(), "succeeded");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read. [`RunError::ShutDown`] when the runtime shuts down before: the run is
    /// unfinished then, and can be resumed.
    ///
    /// # Cancel safety
    ///
    /// Safe: waiting changes nothing.
    pub async fn outcome(&self) -> Result<RunOutcome, RunError> {
        let mut view = self.view().await?;
        let mut events = self.events(view.run.next_seq);
        while !view.run.state.is_terminal() {
            // Whatever happened, the store says whether it was the end.
            match events.next().await {
                Ok(event) if event.kind == "run_closed" => view = self.view().await?,
                Ok(_) => (),
                // It had not ended, and nothing that came after says so.
                Err(RunError::ShutDown { run, fate: None }) => {
                    return Err(RunError::ShutDown { run, fate: Some(RunFate::Released) });
                }
                Err(error) => return Err(error),
            }
        }
        let (run, state) = (self.run.clone(), view.run.state);
        Ok(RunOutcome { run, state, view })
    }
}
