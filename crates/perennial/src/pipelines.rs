//! Workflow files as hosts and the command see them: check, start, resume, wait.

mod bounds;
mod refusal;
mod registered;
mod request;
mod resume;
mod run;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use perennial_core::{Digest, digest::canonical_json, run::RunId};
use perennial_engine::{
    Action, RunError, StartRun,
    performance::{Performance, Thresholds, trace::Trace},
};
use perennial_pipeline::{
    Checked, Deployment, FILE_BYTES_MAX, Leniency, Pipeline, RunDirectories, RunSettings, read_yaml,
};
use perennial_store::StoreError;
use perennial_tools::{
    MockRules, SourceError, SourceFiles,
    files::{Access, Base, FileError, Files, Pattern},
    read_source,
};
use serde_json::Value;

use crate::runtime::{Parts, ProviderMode, recorded_places, recorded_settings};

pub(crate) use bounds::Bounds;
pub use bounds::InvalidBounds;
pub use refusal::{
    DefinitionError, MocksFileError, Preflight, ResumePipelineError, StartPipelineError,
};
pub use registered::RegisterError;
pub(crate) use registered::{RegisteredPipelines, Registration};
pub use request::StartPipeline;
pub use resume::ResumePipeline;
pub use run::{PipelineOutcome, PipelineRunHandle};

/// Handle to workflow files: checks them, starts them as durable runs, and continues those. Cheap to clone; it
/// outlives the runtime, after whose end whatever needs the store is refused.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// let pipelines = runtime.pipelines();
/// let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
/// let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
/// let run = pipelines.start(start).await?;
/// assert_eq!(run.outcome().await?.status(), "completed");
///
/// // Whoever knows the id finds the run again, and the workflow that it was accepted with.
/// let same = pipelines.get(run.id()).await?;
/// assert_eq!(same.id(), run.id());
/// assert_eq!(pipelines.definition(run.id()).await?.name(), "hi");
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Pipelines {
    parts: Parts,
}

impl Pipelines {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// As [`Runs::on_behalf_of`](perennial_engine::Runs::on_behalf_of): what is asked by this handle, and by those of
    /// its runs, is asked of the runtime's authority first.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store, engine::{Action, Authority}};
    /// let authority = Authority::new(|asked| asked.action == Action::Start);
    /// let runtime = Runtime::builder().store(Store::memory()).authority(authority).start().await?;
    /// let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// let run = runtime.pipelines().on_behalf_of("ada").start(start).await?;
    /// assert!(run.cancel().await.is_err()); // ada may start runs, and nothing else
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_behalf_of(&self, principal: impl Into<String>) -> Self {
        let runs = self.parts.runs.on_behalf_of(principal);
        Self { parts: Parts { runs, ..self.parts.clone() } }
    }

    /// Reads and checks the file at `path` and the files it names: all diagnostics at once.
    ///
    /// ```
    /// # use perennial::{Pipelines, Severity};
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("letter.yaml");
    /// std::fs::write(&path, "workflow: {name: letter, steps: [{name: send, type: ecko, value: 1}]}")?;
    ///
    /// let checked = Pipelines::check(&path)?;
    /// assert!(checked.pipeline.is_none());
    /// assert_eq!(checked.count(Severity::Error), 1);
    /// assert!(checked.diagnostics[0].message.contains("ecko"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn check(path: &Path) -> Result<Checked, SourceError> {
        Self::check_with(path, &Leniency::as_written())
    }

    /// The same with a `leniency` that is stronger than the document's.
    ///
    /// ```
    /// # use perennial::{Leniency, Pipelines};
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("letter.yaml");
    /// let text = "workflow: {name: letter, colour: red, steps: [{name: send, type: echo, value: 1}]}";
    /// std::fs::write(&path, text)?;
    ///
    /// assert!(Pipelines::check(&path)?.pipeline.is_none());
    /// let lenient = Leniency::as_written().with("unknown_keys", "warn")?;
    /// assert!(Pipelines::check_with(&path, &lenient)?.pipeline.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn check_with(path: &Path, leniency: &Leniency) -> Result<Checked, SourceError> {
        Self::check_deployed(path, leniency, &Deployment::default())
    }

    /// The same for a `deployment`: the mode and the limits that are named outside of the document.
    ///
    /// ```
    /// # use perennial::{Deployment, EnvironmentMode, Leniency, Pipelines};
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("letter.yaml");
    /// std::fs::write(&path, "workflow: {name: letter, steps: [{name: send, type: echo, value: 1}]}")?;
    ///
    /// let deployment = Deployment::default().environment(EnvironmentMode::Production);
    /// let checked = Pipelines::check_deployed(&path, &Leniency::as_written(), &deployment)?;
    /// let pipeline = checked.pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.mode(), Some(EnvironmentMode::Production));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn check_deployed(
        path: &Path,
        leniency: &Leniency,
        deployment: &Deployment,
    ) -> Result<Checked, SourceError> {
        RegisteredPipelines::default().check_file(path, leniency, deployment)
    }

    /// As [`check`](Self::check), for the mode and the limits of this runtime's configuration, and where
    /// `pipeline_ref` may also name what this runtime has registered.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("letter.yaml");
    /// std::fs::write(
    ///     &path,
    ///     "workflow: {name: letter, steps: [{name: hello, type: pipeline, pipeline_ref: greet}]}",
    /// )?;
    /// let greet = "workflow: {name: greet, steps: [{name: a, type: echo, value: hello}]}";
    /// let runtime = Runtime::builder().store(Store::memory()).pipeline("greet", greet).start().await?;
    /// assert!(runtime.pipelines().load(&path)?.pipeline.is_some());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn load(&self, path: &Path) -> Result<Checked, SourceError> {
        let parts = &self.parts;
        parts.registered.check_file(path, &Leniency::as_written(), &parts.deployment)
    }

    /// Names of the workflows that are registered, in alphabetical order: see
    /// [`Builder::pipeline`](crate::Builder::pipeline).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// let greet = "workflow: {name: greet, steps: [{name: a, type: echo, value: hello}]}";
    /// let runtime = Runtime::builder().store(Store::memory()).pipeline("greet", greet).start().await?;
    /// assert_eq!(runtime.pipelines().registered(), ["greet"]);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn registered(&self) -> Vec<&str> {
        self.parts.registered.names().collect()
    }

    /// Reads scripted replies, YAML or JSON, from the file at `path`; for
    /// [`StartPipeline::mocks`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Pipelines, ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("mocks.yaml");
    /// std::fs::write(&path, "replies: {draft: Dear Ada}")?;
    ///
    /// let text = "workflow: {name: w, steps: [{name: draft, type: claude, prompt: [{type: static, content: Write}]}]}";
    /// let start = StartPipeline::document("w.yaml", text)
    ///     .mode(ProviderMode::Mock)
    ///     .mocks(Pipelines::read_mocks(&path)?);
    /// let outcome = runtime.pipelines().start(start).await?.outcome().await?;
    /// assert_eq!(outcome.result("draft").unwrap()["text"], "Dear Ada");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is not YAML; what the replies say is checked at the start.
    pub fn read_mocks(path: &Path) -> Result<Value, MocksFileError> {
        let bytes = read_source(path, FILE_BYTES_MAX as u64)?;
        read_yaml(&path.display().to_string(), &bytes).map_err(MocksFileError::Malformed)
    }

    /// Checks, records and starts a workflow. Answers as soon as the run is recorded, which is before it has ended:
    /// see [`PipelineRunHandle::outcome`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, StartPipelineError, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let text = "
    /// workflow:
    ///   name: greet
    ///   inputs: {who: string}
    ///   steps: [{name: text, type: echo, value: 'hello {{ inputs.who }}'}]
    /// ";
    /// let start = StartPipeline::document("greet.yaml", text).mode(ProviderMode::Mock);
    /// let refused = runtime.pipelines().start(start.clone()).await;
    /// assert!(matches!(refused, Err(StartPipelineError::Inputs(_)))); // `who` is missing
    /// assert!(runtime.runs().list(10).await?.is_empty()); // and nothing was recorded
    ///
    /// let run = runtime.pipelines().start(start.input("who", "Ada")).await?;
    /// assert_eq!(run.outcome().await?.result("text"), Some(&"hello Ada".into()));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`StartPipelineError`]; nothing is recorded unless the run was.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a recorded run, which then goes on. A start with a
    /// [`run_id`](StartPipeline::run_id) may be repeated: the same id is the same run.
    pub async fn start(
        &self,
        start: StartPipeline,
    ) -> Result<PipelineRunHandle, StartPipelineError> {
        let (start, short_secrets) = self.made_ready(start).await?;
        let handle = self.parts.runs.start(start).await?;
        Ok(PipelineRunHandle { short_secrets, ..PipelineRunHandle::of(handle) })
    }

    /// As [`start`](Self::start), but leaves the run to whoever takes it: a node on the same store that adopts runs
    /// by itself, as `perennial worker` does. Nothing of it is done here unless this runtime is one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Adoption, ProviderMode, Runtime, StartPipeline, Store};
    /// # let folder = tempfile::tempdir()?;
    /// # let store = Store::sqlite(folder.path().join("letters.db"));
    /// let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// let builder = Runtime::builder().store(store.clone()).adoption(Adoption::OnRequest);
    /// let runtime = builder.start().await?;
    /// let run = runtime.pipelines().submit(start).await?;
    /// assert_eq!(run.view().await?.run.owner, None);
    /// runtime.shutdown().await;
    ///
    /// let worker = Runtime::builder().store(store).adoption(Adoption::AtBoot).start().await?;
    /// let run = worker.pipelines().get(run.id()).await?;
    /// assert_eq!(run.outcome().await?.status(), "completed");
    /// # worker.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a recorded run.
    pub async fn submit(
        &self,
        start: StartPipeline,
    ) -> Result<PipelineRunHandle, StartPipelineError> {
        let (start, short_secrets) = self.made_ready(start).await?;
        let handle = self.parts.runs.submit(start).await?;
        Ok(PipelineRunHandle { short_secrets, ..PipelineRunHandle::of(handle) })
    }

    /// What is recorded of a start that nothing speaks against, and secrets that are short.
    async fn made_ready(
        &self,
        start: StartPipeline,
    ) -> Result<(StartRun, Vec<String>), StartPipelineError> {
        // Before its directories are made.
        let allowed = self.parts.runs.require(Action::Start, start.run.as_ref()).await;
        allowed.map_err(RunError::from)?;
        let (registered, configured) = (&self.parts.registered, &self.parts.deployment);
        let deployment = start.deployment.clone().over(configured);
        let bounds = Bounds::of_start(&deployment, start.within);
        let pipeline = bounds.bind(start.pipeline(registered, configured)?);
        let inputs = pipeline.bind_inputs(&start.inputs)?;
        let mut directories = start.directories(&pipeline, registered)?;
        let mut refusals = self.preflight(&pipeline, start.mode);
        refusals.extend(start.confinement(&pipeline, directories.as_ref()));
        if let Some(directories) = directories.as_mut().filter(|_| refusals.is_empty()) {
            directories.directories.make()?;
            directories.note_leads()?;
            refusals.extend(missing_files(&pipeline, directories).await?);
        }
        if !refusals.is_empty() {
            return Err(StartPipelineError::Preflight(refusals));
        }
        let mut rules = MockRules::default();
        let mut digest = None;
        if let (ProviderMode::Mock, Some(value)) = (start.mode, &start.mocks) {
            rules = MockRules::from_value(value)?;
            digest = Some(self.keep(value).await?);
        }
        // Another key for every run; the same for the same run.
        let key = match &start.run {
            Some(run) => run.to_string(),
            None => ulid::Ulid::generate().to_string(),
        };
        let environment = pipeline.bind_environment(key, &variable);
        let short_secrets = environment.short_secrets().into_iter().map(str::to_owned).collect();
        let calls = self.parts.providers.defaults();
        let anew = BTreeSet::new();
        let settings = RunSettings { inputs, calls, directories, environment, anew };
        let document = start.document_path(&pipeline);
        let mut recorded =
            recorded_settings(&settings, &pipeline, start.mode, digest, document.as_deref());
        bounds.record(&mut recorded);
        let providers = self.parts.providers.of_mode(start.mode, rules);
        let within = bounds.within(&pipeline);
        let workflow = pipeline.shared().bind(settings, providers);
        let start = StartRun {
            run: start.run,
            workflow,
            settings: recorded,
            within,
            priority: start.priority,
        };
        Ok((start, short_secrets))
    }

    /// The handle of a run, whoever runs it: this process, another one on the same store, or nobody.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, RunId, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// let run = runtime.pipelines().get(run.id()).await?;
    /// assert_eq!(run.outcome().await?.status(), "completed");
    ///
    /// assert!(runtime.pipelines().get(&RunId::parse("nobody")?).await.is_err());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Store`] with [`StoreError::NotFound`] when there is no such run, or with another when the store
    /// cannot be read.
    pub async fn get(&self, run: &RunId) -> Result<PipelineRunHandle, RunError> {
        Ok(PipelineRunHandle::of(self.parts.runs.get(run).await?))
    }

    /// The workflow that a run was accepted with, whatever its file says now.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// let pipeline = runtime.pipelines().definition(run.id()).await?;
    /// assert_eq!(pipeline.name(), "hi");
    /// assert_eq!(pipeline.steps().collect::<Vec<_>>(), ["a"]);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`DefinitionError`].
    pub async fn definition(&self, run: &RunId) -> Result<Pipeline, DefinitionError> {
        let record = self.parts.runs.get(run).await?.view().await?.run;
        let bytes = self.parts.store.blob(record.definition).await.map_err(RunError::from)?;
        Ok(Pipeline::revive(&bytes)?.placed(&recorded_places(&record.settings)))
    }

    /// The trace of a run: its steps, attempts and calls as spans, and what they say together (YM-13).
    /// The types of steps are left out where this version cannot read the definition.
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
    /// let trace = runtime.pipelines().trace(run.id()).await?;
    /// let names: Vec<_> = trace.spans.iter().map(|span| (span.level, span.name.as_str())).collect();
    /// assert_eq!(names[..2], [(0, "hi"), (1, "a")]);
    /// assert_eq!(trace.verdict.grade.word.name(), "excellent");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such run, or the store cannot be read.
    pub async fn trace(&self, run: &RunId) -> Result<Trace, RunError> {
        let types = match self.definition(run).await {
            Ok(pipeline) => pipeline.types(),
            Err(DefinitionError::Invalid(_)) => HashMap::new(),
            Err(DefinitionError::Run(error)) => return Err(error),
        };
        let view = self.parts.runs.get(run).await?.view().await?;
        let now = self.parts.store.now();
        let memory = Performance::of(&view, &Thresholds::default(), now).peak_memory_bytes;
        Ok(Trace::of(&view, memory, &types, now))
    }

    async fn keep(&self, mocks: &Value) -> Result<Digest, StoreError> {
        self.parts.store.put_blob(canonical_json(mocks).into_bytes()).await
    }

    fn preflight(&self, pipeline: &Pipeline, mode: ProviderMode) -> Vec<Preflight> {
        let mut refusals = Vec::new();
        let environment = pipeline.mode().unwrap_or_default();
        match mode {
            ProviderMode::Mock if !pipeline.allows_mocks() => {
                refusals.push(Preflight::MocksRefused { environment });
            }
            ProviderMode::Live if pipeline.forces_mocks() => {
                refusals.push(Preflight::MocksOnly { environment });
            }
            ProviderMode::Mock | ProviderMode::Live => (),
        }
        if mode != ProviderMode::Live {
            return refusals;
        }
        refusals.extend(self.parts.providers.refusals(pipeline));
        refusals
    }
}

/// The files that are certain to be needed and cannot be had; what lies in the workspace or the outputs may be made
/// by the run itself.
async fn missing_files(
    pipeline: &Pipeline,
    directories: &RunDirectories,
) -> Result<Vec<Preflight>, FileError> {
    let named: Vec<(String, String)> = pipeline
        .prompt_files()
        .into_iter()
        .map(|(step, path)| (step.to_owned(), path.to_owned()))
        .collect();
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let files = Files::make(directories.roots(pipeline.reads_outside_roots())).await?;
    let own = directories.directories.clone();
    let base = directories.documents.first().cloned().map_or(Base::Project, Base::Document);
    let look = move |access: &Access<'_>| {
        let mut refusals = Vec::new();
        for (step, path) in named {
            let place = own.project_root.join(&path);
            let place: PathBuf = place.components().collect();
            if place.starts_with(&own.workspace) || place.starts_with(&own.outputs) {
                continue;
            }
            let is_glob = path.contains(Pattern::SIGNS);
            let found = match access.look(&base, &path) {
                Ok(None) if is_glob => access.glob(&base, &path).map(|found| !found.is_empty()),
                found => found.map(|found| found.is_some()),
            };
            let (code, why) = match found {
                Ok(true) => continue,
                Ok(false) => ("PL520", "it does not exist".to_owned()),
                Err(error) => (error.code(), error.to_string()),
            };
            refusals.push(Preflight::File { step, path, code, why });
        }
        Ok(refusals)
    };
    files.perform(look).await
}

/// A variable of the environment of this process.
pub(crate) fn variable(name: &str) -> Option<String> {
    SourceFiles::new("").variable(name)
}
