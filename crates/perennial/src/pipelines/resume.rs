//! Runs that go on: where an earlier process left them, or in a further round after they failed or
//! were cancelled, maybe by a corrected document (YR-53 to YR-58).

mod carried;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use perennial_core::{
    Digest, Timestamp,
    run::{JobKey, JobState, RunId, RunState},
};
use perennial_engine::{Definitions, NotRunnable, RecordedCalls, ReopenRun, RunError};
use perennial_pipeline::{
    Deployment, InvalidDefinition, InvalidSettings, Leniency, Pipeline, RecordedJob, ResumePlan,
    RunSettings, Version,
};
use perennial_store::{RunRecord, RunView, StoreError};
use perennial_tools::files::{FileError, Files};
use serde::Deserialize;
use serde_json::{Value, json};

use self::carried::{anew, directories, require_secrets};
use super::{
    Bounds, DefinitionError, InvalidBounds, PipelineRunHandle, Pipelines, Preflight,
    ResumePipelineError, StartPipeline, StartPipelineError, request::Source, variable,
};
use crate::runtime::{
    PipelineDefinitions, ProviderMode, recorded_document, recorded_mocks, recorded_mode,
    recorded_settings,
};

/// How many runs are looked through, newest first, for one that a start goes on with.
const LOOKED_THROUGH: u32 = 1_000;

/// How a run is to go on: by the document it has, or by a corrected one, and from where.
///
/// It does nothing by itself: [`Pipelines::plan_resume`] says what would become of each step, and
/// [`Pipelines::resume_with`] does it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// use perennial::ResumePipeline;
///
/// let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1}, {name: b, type: echo, fail: true}]}";
/// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
/// let run = runtime.pipelines().start(start).await?;
/// assert_eq!(run.outcome().await?.status(), "failed");
///
/// let corrected = text.replace("fail: true", "value: 2");
/// let resume = ResumePipeline::run(run.id().clone()).document("w.yaml", corrected);
/// let outcome = runtime.pipelines().resume_with(resume).await?.outcome().await?;
/// assert_eq!(outcome.result("b"), Some(&2.into()));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ResumePipeline {
    run: RunId,
    corrected: Option<Source>,
    leniency: Leniency,
    deployment: Deployment,
    from: Option<String>,
    rerun_writes: bool,
}

impl ResumePipeline {
    /// The run `run`, by the definition it has.
    ///
    /// ```
    /// # use perennial::{RunId, ResumePipeline};
    /// let resume = ResumePipeline::run(RunId::parse("order-17")?);
    /// # drop(resume);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run(run: RunId) -> Self {
        let leniency = Leniency::as_written();
        let deployment = Deployment::default();
        Self { run, corrected: None, leniency, deployment, from: None, rerun_writes: false }
    }

    /// Goes on by the document in the file at `path`: steps that it leaves as they were keep their
    /// results.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, ResumePipeline, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("w.yaml");
    /// # std::fs::write(&path, "workflow: {name: w, steps: [{name: a, type: echo, fail: true}]}")?;
    /// let run = runtime.pipelines().start(StartPipeline::file(&path).mode(ProviderMode::Mock)).await?;
    /// assert_eq!(run.outcome().await?.status(), "failed");
    ///
    /// std::fs::write(&path, "workflow: {name: w, steps: [{name: a, type: echo, value: 1}]}")?;
    /// let resume = ResumePipeline::run(run.id().clone()).file(&path);
    /// let run = runtime.pipelines().resume_with(resume).await?;
    /// assert_eq!(run.outcome().await?.status(), "completed");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.corrected = Some(Source::File(path.into()));
        self
    }

    /// The same with the document in `bytes`, called `name` in messages.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, ResumePipeline, ResumePipelineError, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: a, type: echo, fail: true}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # run.outcome().await?;
    /// let other = "workflow: {name: other, steps: [{name: a, type: echo, value: 1}]}";
    /// let resume = ResumePipeline::run(run.id().clone()).document("other.yaml", other);
    /// let refused = runtime.pipelines().resume_with(resume).await;
    /// assert!(matches!(refused, Err(ResumePipelineError::OtherWorkflow { .. })));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn document(mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.corrected = Some(Source::Document { name: name.into(), bytes: bytes.into() });
        self
    }

    /// The same with what [`Pipelines::check`] has read.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, ResumePipeline, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: a, type: echo, fail: true}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # run.outcome().await?;
    /// use perennial::records::Pipeline;
    ///
    /// let corrected = b"workflow: {name: w, steps: [{name: a, type: echo, value: 1}]}";
    /// let pipeline = Pipeline::check("w.yaml", corrected).pipeline.expect("it has no fault");
    /// let resume = ResumePipeline::run(run.id().clone()).checked(pipeline);
    /// let run = runtime.pipelines().resume_with(resume).await?;
    /// assert_eq!(run.outcome().await?.status(), "completed");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn checked(mut self, pipeline: Pipeline) -> Self {
        self.corrected = Some(Source::Checked(Box::new(pipeline)));
        self
    }

    /// Goes on by the document that `start` names, read with the leniency and the deployment that it says. Its
    /// inputs, its mode and its directories count for nothing: those of the run stay.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, ResumePipeline, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("w.yaml");
    /// # std::fs::write(&path, "workflow: {name: w, steps: [{name: a, type: echo, fail: true}]}")?;
    /// let start = StartPipeline::file(&path).mode(ProviderMode::Mock);
    /// let run = runtime.pipelines().start(start.clone()).await?;
    /// run.outcome().await?;
    /// # std::fs::write(&path, "workflow: {name: w, steps: [{name: a, type: echo, value: 1}]}")?;
    /// let resume = ResumePipeline::run(run.id().clone()).as_start(&start);
    /// assert_eq!(runtime.pipelines().resume_with(resume).await?.outcome().await?.status(), "completed");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn as_start(mut self, start: &StartPipeline) -> Self {
        self.corrected = Some(start.source.clone());
        self.leniency = start.leniency.clone();
        self.deployment = start.deployment.clone();
        self
    }

    /// Sets what is stronger than the leniency of the corrected document.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Leniency, ProviderMode, ResumePipeline, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: a, type: echo, fail: true}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # run.outcome().await?;
    /// let corrected = "workflow: {name: w, colour: red, steps: [{name: a, type: echo, value: 1}]}";
    /// let resume = ResumePipeline::run(run.id().clone())
    ///     .document("w.yaml", corrected)
    ///     .lenient(Leniency::as_written().with("unknown_keys", "ignore")?);
    /// assert_eq!(runtime.pipelines().resume_with(resume).await?.outcome().await?.status(), "completed");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn lenient(mut self, leniency: Leniency) -> Self {
        self.leniency = leniency;
        self
    }

    /// Runs the outermost step `step` and all behind it again, calls included. Results that earlier runs have kept
    /// (`cache`) are not taken for them; what they make is kept.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, ResumePipeline, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1}, {name: b, type: echo, value: 2}, {name: c, type: echo, fail: true}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # run.outcome().await?;
    /// let resume = ResumePipeline::run(run.id().clone()).from_step("b");
    /// let plan = runtime.pipelines().plan_resume(&resume).await?;
    /// let fates: Vec<_> = plan.steps.iter().map(|step| (step.path.as_str(), step.fate.name())).collect();
    /// assert_eq!(fates, [("a", "reused"), ("b", "rerun"), ("c", "rerun")]);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_step(mut self, step: impl Into<String>) -> Self {
        self.from = Some(step.into());
        self
    }

    /// Lets steps run again that had completed and wrote something (PL903).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, ResumePipeline, ResumePipelineError, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// let text = "
    /// workflow:
    ///   name: w
    ///   steps:
    ///     - {name: log, type: file_ops, operation: write, path: log.txt, content: x, append: true}
    ///     - {name: then, type: echo, fail: true}
    /// ";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock).project_root(folder.path());
    /// # let run = runtime.pipelines().start(start).await?;
    /// # run.outcome().await?;
    /// let resume = ResumePipeline::run(run.id().clone()).from_step("log");
    /// let refused = runtime.pipelines().resume_with(resume.clone()).await;
    /// assert!(matches!(refused, Err(ResumePipelineError::Rewrites(steps)) if steps == ["log"]));
    ///
    /// runtime.pipelines().resume_with(resume.rerun_writes()).await?.outcome().await?;
    /// assert_eq!(std::fs::read_to_string(folder.path().join("workspace/log.txt"))?, "xx");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn rerun_writes(mut self) -> Self {
        self.rerun_writes = true;
        self
    }
}

/// A run as it is, and as it is to go on.
struct Prepared {
    view: RunView,
    after: Pipeline,
    bounds: Bounds,
    /// Outermost steps for which no kept result is taken.
    anew: BTreeSet<String>,
    source: Option<Source>,
    inputs: Value,
    plan: ResumePlan,
}

impl Prepared {
    fn is_ended(&self) -> bool {
        self.view.run.state.is_terminal()
    }
}

impl Pipelines {
    /// Continues a run with what was recorded with it: where its process left it, or, when it
    /// failed, timed out or was cancelled, from the first step that did not complete. Its live
    /// calls need a key here as well.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("names.txt");
    /// let step = serde_json::json!({"name": "names", "type": "file_ops", "operation": "read", "path": "names.txt"});
    /// let start = StartPipeline::step(&step)
    ///     .mode(ProviderMode::Mock)
    ///     .project_root(folder.path())
    ///     .workspace_dir(".");
    /// let run = runtime.pipelines().start(start).await?;
    /// assert_eq!(run.outcome().await?.status(), "failed"); // nobody has written it yet
    ///
    /// std::fs::write(&path, "Ada")?;
    /// let run = runtime.pipelines().resume(run.id()).await?;
    /// assert_eq!(run.outcome().await?.result("names").unwrap()["content"], "Ada");
    /// assert!(runtime.pipelines().resume(run.id()).await.is_err()); // it has completed
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`ResumePipelineError`]; the run is then left as it is. A completed run is never resumed.
    pub async fn resume(&self, run: &RunId) -> Result<PipelineRunHandle, ResumePipelineError> {
        self.resume_with(ResumePipeline::run(run.clone())).await
    }

    /// As [`resume`](Self::resume), maybe by a corrected document: what it leaves as it was is
    /// reused, the rest runs. It is one transaction, and two that ask at the same time do not both
    /// get the run.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, ResumePipeline, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1}, {name: b, type: echo, fail: true}]}";
    /// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// let run = runtime.pipelines().start(start).await?;
    /// run.outcome().await?;
    ///
    /// let corrected = text.replace("fail: true", "value: 2");
    /// let resume = ResumePipeline::run(run.id().clone()).document("w.yaml", corrected);
    /// let outcome = runtime.pipelines().resume_with(resume).await?.outcome().await?;
    /// assert_eq!(outcome.status(), "completed");
    /// let attempts = |step: &str| outcome.performance.step_details.iter().find(|it| it.name.as_str() == step).unwrap().attempts;
    /// assert_eq!((attempts("a"), attempts("b")), (1, 2)); // `a` was reused
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`ResumePipelineError`]; the run is then left as it is.
    pub async fn resume_with(
        &self,
        resume: ResumePipeline,
    ) -> Result<PipelineRunHandle, ResumePipelineError> {
        let view = self.parts.runs.get(&resume.run).await?.view().await?;
        if view.run.state.may_reopen() && !view.run.owner_alive {
            self.require_places(&resume, &view).await?;
        }
        let as_it_is = resume.corrected.is_none() && resume.from.is_none();
        if as_it_is && !view.run.state.is_terminal() && !self.narrows(&resume, &view).await? {
            return self.go_on(&view).await;
        }
        let prepared = self.prepared(&resume, view).await?;
        if !prepared.plan.rewrites.is_empty() && !resume.rerun_writes {
            return Err(ResumePipelineError::Rewrites(prepared.plan.rewrites));
        }
        // What only goes on has the time that it had.
        let until = prepared.view.run.deadline.filter(|_| as_it_is && !prepared.is_ended());
        self.reopen(prepared, until).await
    }

    /// What [`resume_with`](Self::resume_with) would do with each step. Changes nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, ResumePipeline, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1}, {name: b, type: echo, fail: true}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # run.outcome().await?;
    /// let plan = runtime.pipelines().plan_resume(&ResumePipeline::run(run.id().clone())).await?;
    /// assert_eq!(plan.step("a").unwrap().fate.to_string(), "reused");
    /// assert_eq!(plan.step("b").unwrap().fate.to_string(), "rerun (it failed)");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`ResumePipelineError`].
    pub async fn plan_resume(
        &self,
        resume: &ResumePipeline,
    ) -> Result<ResumePlan, ResumePipelineError> {
        let view = self.parts.runs.get(&resume.run).await?.view().await?;
        Ok(self.prepared(resume, view).await?.plan)
    }

    /// What a run by `before` that had completed all steps would keep if it went on by `after`, given
    /// the inputs that both have by default.
    ///
    /// ```
    /// # use perennial::{Pipelines, records::Pipeline};
    /// let pipeline = |text: &str| Pipeline::check("w.yaml", text.as_bytes()).pipeline.expect("no fault");
    /// let before = pipeline("workflow: {name: w, steps: [{name: a, type: echo, value: 1}, {name: b, type: echo, value: 2}]}");
    /// let after = pipeline("workflow: {name: w, steps: [{name: a, type: echo, value: 1}, {name: b, type: echo, value: 3}]}");
    /// let plan = Pipelines::compare(&before, &after);
    /// assert_eq!(plan.step("a").unwrap().fate.name(), "reused");
    /// assert_eq!(plan.step("b").unwrap().fate.name(), "rerun");
    /// ```
    pub fn compare(before: &Pipeline, after: &Pipeline) -> ResumePlan {
        let done: Vec<_> = before.plan().jobs.into_iter().map(|job| JobKey::new(job.key)).collect();
        let state = JobState::Succeeded;
        let jobs: Vec<RecordedJob<'_>> =
            done.iter().map(|key| RecordedJob { key, state, result: None }).collect();
        let defaults = |pipeline: &Pipeline| -> Value {
            let inputs = pipeline.inputs().iter();
            let given = inputs.map(|input| (input.name.clone(), json!(input.default_value())));
            Value::Object(given.collect())
        };
        let (old, new) = (defaults(before), defaults(after));
        ResumePlan::of(
            Version { pipeline: before, inputs: &old },
            Version { pipeline: after, inputs: &new },
            &jobs,
            None,
        )
    }

    /// The run that starting `start` goes on with instead (YR-56): the newest of the same workflow
    /// and the same file, when it failed, was cancelled or interrupted, is not too old, and the
    /// document has its runs resumed. One that was given other inputs, another provider mode, other
    /// mocks or other directories than `start` names is another run. At most 1,000 runs are looked
    /// through.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("w.yaml");
    /// let text = "workflow: {name: w, checkpoint_enabled: true, steps: [{name: a, type: echo, fail: true}]}";
    /// std::fs::write(&path, text)?;
    /// let start = StartPipeline::file(&path).mode(ProviderMode::Mock).project_root(folder.path());
    /// assert_eq!(runtime.pipelines().resumable(&start).await?, None);
    ///
    /// let run = runtime.pipelines().start(start.clone()).await?;
    /// run.outcome().await?;
    /// assert_eq!(runtime.pipelines().resumable(&start).await?.as_ref(), Some(run.id()));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the document cannot be used, or the store cannot be read.
    pub async fn resumable(
        &self,
        start: &StartPipeline,
    ) -> Result<Option<RunId>, StartPipelineError> {
        let pipeline = start.pipeline(&self.parts.registered, &self.parts.deployment)?;
        let within = pipeline.exports().and_then(|exports| exports.resumes_within());
        let (Some(within), Some(document)) = (within, start.document_path(&pipeline)) else {
            return Ok(None);
        };
        let inputs = pipeline.bind_inputs(&start.inputs)?;
        for summary in self.parts.runs.list(LOOKED_THROUGH).await? {
            if summary.workflow != pipeline.name() {
                continue;
            }
            let view = self.parts.runs.get(&summary.run).await?.view().await?;
            let settings = &view.run.settings;
            if recorded_document(settings) != Some(document.as_str()) {
                continue;
            }
            // The newest of this file decides.
            let age = self.parts.store.now().since(last_moment(&view));
            let mocks = start.mocks.as_ref().filter(|_| start.mode == ProviderMode::Mock);
            let is_same = settings.get("inputs") == Some(&inputs)
                && recorded_mode(settings) == Some(start.mode)
                && recorded_mocks(settings) == mocks.map(Digest::of_json)
                && start.has_directories_of(
                    &pipeline,
                    &self.parts.registered,
                    settings.get("directories"),
                )?;
            let state = view.run.state;
            let is_left = state.is_terminal() || !view.run.owner_alive;
            let may_go_on = state.may_reopen() && state != RunState::Paused && is_left;
            let goes_on = may_go_on && is_same && age <= within;
            return Ok(goes_on.then_some(summary.run));
        }
        Ok(None)
    }

    /// What bounds a run with these settings when it is resumed so.
    fn bounds(&self, resume: &ResumePipeline, settings: &Value) -> Result<Bounds, InvalidBounds> {
        let deployment = resume.deployment.clone().over(&self.parts.deployment);
        Ok(Bounds::recorded(settings)?.narrowed(&deployment))
    }

    /// Whether less is allowed here than the run was accepted with. One that somebody runs stays as it is.
    async fn narrows(
        &self,
        resume: &ResumePipeline,
        view: &RunView,
    ) -> Result<bool, ResumePipelineError> {
        let record = &view.run;
        if record.owner_alive || !record.state.may_reopen() {
            return Ok(false);
        }
        Ok(self.bounds(resume, &record.settings)? != Bounds::recorded(&record.settings)?)
    }

    /// What was put in the place of a directory of a run while nobody ran it is not followed (YR-71).
    async fn require_places(
        &self,
        resume: &ResumePipeline,
        view: &RunView,
    ) -> Result<(), FileError> {
        // Settings that cannot be read are refused by whoever goes on with them.
        let settings = RunSettings::from_value(&view.run.settings).ok();
        let Some(mut directories) = settings.and_then(|settings| settings.directories) else {
            return Ok(());
        };
        if resume.corrected.is_some() {
            directories.forget_documents();
        }
        Files::check_unmoved(directories.roots(false)).await
    }

    /// Where an earlier process left it.
    async fn go_on(&self, view: &RunView) -> Result<PipelineRunHandle, ResumePipelineError> {
        let record = &view.run;
        if recorded_mode(&record.settings) == Some(ProviderMode::Live) {
            let bytes = self.parts.store.blob(record.definition).await.map_err(RunError::from)?;
            // A definition that cannot be read is the engine's to refuse, with the reason.
            if let Ok(pipeline) = Pipeline::revive(&bytes) {
                self.require_providers(&pipeline)?;
            }
        }
        let changed_secrets = match RunSettings::from_value(&record.settings) {
            Ok(mut settings) => {
                let changed = settings.environment.read_secrets(&variable);
                require_secrets(&settings.environment, None)?;
                changed
            }
            // Settings that cannot be read are the engine's to refuse, with the reason.
            Err(_) => Vec::new(),
        };
        let run = self.parts.runs.resume(&record.run).await?;
        Ok(PipelineRunHandle { changed_secrets, ..PipelineRunHandle::of(run) })
    }

    /// A run whose calls nobody here can answer is left as it is: starting it would only fail it.
    fn require_providers(&self, pipeline: &Pipeline) -> Result<(), ResumePipelineError> {
        let unavailable = |kind| {
            let why = self.parts.providers.unavailable(kind)?;
            Some(Preflight::Provider { kind, why })
        };
        let refusals: Vec<Preflight> =
            pipeline.providers().into_iter().filter_map(unavailable).collect();
        if refusals.is_empty() { Ok(()) } else { Err(ResumePipelineError::Preflight(refusals)) }
    }

    async fn prepared(
        &self,
        resume: &ResumePipeline,
        view: RunView,
    ) -> Result<Prepared, ResumePipelineError> {
        let record = &view.run;
        let (run, state) = (record.run.clone(), record.state);
        if state.is_terminal() && !state.may_reopen() {
            let undone = state == RunState::CompensationFailed;
            return Err(RunError::Ended { run, state, undone }.into());
        }
        if !state.may_reopen() || (!state.is_terminal() && record.owner_alive) {
            return Err(ResumePipelineError::UnderWay { run, state });
        }
        let bounds = self.bounds(resume, &record.settings)?;
        let before = match self.definition(&run).await {
            // A corrected document has other steps instead.
            Err(DefinitionError::Invalid(unknown @ InvalidDefinition::UnknownStep { .. }))
                if resume.corrected.is_some() =>
            {
                let bytes =
                    self.parts.store.blob(record.definition).await.map_err(RunError::from)?;
                Pipeline::revive_known(&bytes).ok_or(DefinitionError::Invalid(unknown))?
            }
            Err(DefinitionError::Invalid(InvalidDefinition::Json(_)))
                if recorded_mode(&record.settings).is_none() =>
            {
                return Err(of_a_host(record).into());
            }
            found => found?,
        };
        let after = match &resume.corrected {
            Some(source) => {
                let start = StartPipeline::of(source.clone())
                    .lenient(resume.leniency.clone())
                    .deployment(resume.deployment.clone());
                let after = start.pipeline(&self.parts.registered, &self.parts.deployment);
                let after = after.map_err(ResumePipelineError::Document)?;
                if after.name() != before.name() {
                    let (found, expected) = (after.name().to_owned(), before.name().to_owned());
                    return Err(ResumePipelineError::OtherWorkflow { found, expected });
                }
                after
            }
            None => before.clone(),
        };
        let after = bounds.bind(after);
        if let Some(from) = &resume.from
            && !after.steps().any(|step| step == from)
        {
            let around = from.split('/').next().filter(|first| *first != from);
            let around = around.filter(|first| after.steps().any(|step| step == *first));
            let (step, around) = (from.clone(), around.map(str::to_owned));
            let steps = after.steps().map(str::to_owned).collect();
            return Err(ResumePipelineError::NoSuchStep { step, around, steps });
        }
        let old_inputs = record.settings.get("inputs").cloned().unwrap_or_default();
        let given = old_inputs.as_object().cloned().unwrap_or_default();
        let inputs = after.bind_inputs(&given)?;
        let jobs = view.jobs.iter().map(|job| RecordedJob {
            key: &job.key,
            state: job.state,
            result: job.result.as_ref(),
        });
        let plan = ResumePlan::of(
            Version { pipeline: &before, inputs: &old_inputs },
            Version { pipeline: &after, inputs: &inputs },
            &jobs.collect::<Vec<_>>(),
            resume.from.as_deref(),
        );
        let anew = anew(resume.from.as_deref(), &after, &view);
        Ok(Prepared { view, after, bounds, anew, source: resume.corrected.clone(), inputs, plan })
    }

    async fn reopen(
        &self,
        prepared: Prepared,
        until: Option<Timestamp>,
    ) -> Result<PipelineRunHandle, ResumePipelineError> {
        let Prepared { view, after, bounds, anew, source, inputs, plan } = prepared;
        let old = &view.run.settings;
        let mut settings = RunSettings::from_value(old)?;
        let mode = old.get("provider_mode").unwrap_or(&Value::Null);
        let mode = ProviderMode::deserialize(mode).map_err(InvalidSettings::from)?;
        if mode == ProviderMode::Live {
            self.require_providers(&after)?;
        }
        settings.inputs = inputs;
        settings.anew = anew;
        let changed_secrets = settings.environment.read_secrets(&variable);
        require_secrets(&settings.environment, Some(&after))?;
        after.extend_environment(&mut settings.environment, &view.run.run, &variable);
        if let Some(source) = &source {
            settings.directories =
                directories(settings.directories, &after, source, &self.parts.registered)
                    .map_err(StartPipelineError::from)
                    .map_err(ResumePipelineError::Document)?;
        }
        let document = match &source {
            Some(source) => StartPipeline::of(source.clone()).document_path(&after),
            None => recorded_document(old).map(str::to_owned),
        };
        let mut recorded =
            recorded_settings(&settings, &after, mode, recorded_mocks(old), document.as_deref());
        if source.is_none()
            && let Some(file) = old.get("file")
        {
            // A definition does not say which file it was read from.
            recorded["file"] = file.clone();
        }
        bounds.record(&mut recorded);
        let mut record = view.run.clone();
        record.settings = recorded.clone();
        let definitions = PipelineDefinitions {
            store: self.parts.store.clone(),
            providers: self.parts.providers.clone(),
            takes_as: None,
        };
        let bytes = after.definition().bytes.to_vec();
        let workflow = definitions.revive(&record, bytes).await.map_err(RunError::NotRunnable)?;
        let calls = |forget: &bool| match forget {
            true => RecordedCalls::Forgotten,
            false => RecordedCalls::Kept,
        };
        let again: BTreeMap<_, _> =
            plan.again.iter().map(|(key, forget)| (key.clone(), calls(forget))).collect();
        let left = until.map(|until| until.since(self.parts.store.now()));
        let within = bounds.within(&after).into_iter().chain(left).min();
        let reopen = ReopenRun { view, workflow, settings: recorded, within, again };
        let run = match self.parts.runs.reopen(reopen).await {
            Err(RunError::Store(StoreError::Conflict { .. })) => {
                return Err(ResumePipelineError::Taken { run: record.run });
            }
            reopened => reopened?,
        };
        Ok(PipelineRunHandle { changed_secrets, resumed: Some(plan), ..PipelineRunHandle::of(run) })
    }
}

/// Why a run does not go on here whose workflow is a host's own.
fn of_a_host(record: &RunRecord) -> RunError {
    let (run, state) = (record.run.clone(), record.state);
    let undone = record.failure.as_ref().is_some_and(|it| it.get("compensation").is_some());
    if state.is_terminal() && undone {
        return RunError::Undone { run, state };
    }
    let why = format!(
        "its workflow `{}` is none of a document: the program that registers it goes on with it, and opens a further \
         round of one that has ended with `RunHandle::retry` or `Runs::reopen`; it is left as it is here",
        record.workflow
    );
    NotRunnable::new(record, why).into()
}

/// When something last happened to a run.
fn last_moment(view: &RunView) -> Timestamp {
    let attempts = view.attempts.iter();
    let moments = attempts.flat_map(|attempt| [Some(attempt.claimed_at), attempt.ended_at]);
    let moments = moments.chain([view.run.finished_at]).flatten();
    moments.fold(view.run.created_at, Ord::max)
}
