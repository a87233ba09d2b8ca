//! Workflow files as hosts and the command see them: check, start, resume, wait.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use perennial_core::{
    Digest,
    digest::canonical_json,
    run::{JobState, RunId, RunState},
};
use perennial_engine::{
    EventFeed, RunError, RunHandle, StartRun, WaitsFor,
    performance::{Performance, Thresholds},
};
use perennial_pipeline::{
    Checked, Diagnostic, FILE_BYTES_MAX, InputErrors, Leniency, Pipeline, ProviderKind,
    RunDirectories, RunSettings, Severity, SourceFile, read_yaml,
};
use perennial_store::{JobRecord, RunRecord, RunView, StoreError};
use perennial_tools::{
    MockRules, SourceError, SourceFiles,
    files::{Access, Base, ChosenDirectories, FileError, Files, Pattern},
    read_source,
};
use serde_json::{Map, Value, json};

use crate::View;
use crate::runtime::{
    Parts, ProviderMode, Unavailable, recorded_mode, recorded_places, recorded_settings,
};

/// Handle to workflow files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pipelines {
    parts: Parts,
}

/// What to start.
#[derive(Clone, Debug)]
#[must_use]
pub struct StartPipeline {
    source: Source,
    inputs: Map<String, Value>,
    mode: ProviderMode,
    mocks: Option<Value>,
    run: Option<RunId>,
    within: Option<Duration>,
    leniency: Leniency,
    chosen: ChosenDirectories,
    fallback: ChosenDirectories,
    allowed: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
enum Source {
    File(PathBuf),
    Document { name: String, bytes: Vec<u8> },
    Checked(Box<Pipeline>),
}

/// Why a start was refused before anything was recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Preflight {
    /// Live calls of this kind are not possible here.
    #[error("{why}; with `--provider-mode mock` the run needs neither key nor network")]
    Provider {
        /// The kind of call.
        kind: ProviderKind,
        /// Why not.
        why: Unavailable,
    },
    /// A file that is certain to be needed is not there, or not in an allowed place (YR-73).
    #[error("[{code}] step `{step}` needs the file `{path}`: {why}")]
    File {
        /// The step.
        step: String,
        /// The file, as the document names it.
        path: String,
        /// PL520 or PL609.
        code: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Live calls need a model, and neither the step nor the configuration names one.
    #[error("step `{step}` names no model and [providers.anthropic] model is not configured")]
    MissingModel {
        /// The first such step.
        step: String,
    },
    /// A step lets its model use tools, and the live provider of this build offers none.
    #[error(
        "step `{step}` lists tools ({}), and live calls of this version offer none; remove \
         `allowed_tools`, or run with `--provider-mode mock`",
        tools.join(", ")
    )]
    Tools {
        /// The step.
        step: String,
        /// The tools it lists.
        tools: Vec<String>,
    },
}

/// Why a workflow was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartPipelineError {
    /// The file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The document has errors; all of them.
    #[error("{}", summary(.0))]
    Invalid(Vec<Diagnostic>),
    /// Inputs are missing or do not fit; all of them.
    #[error(transparent)]
    Inputs(#[from] InputErrors),
    /// The mocks cannot be used.
    #[error(transparent)]
    Mocks(#[from] perennial_tools::MockRulesError),
    /// Providers are not ready; all reasons.
    #[error("{}", lines(.0))]
    Preflight(Vec<Preflight>),
    /// A directory of the run cannot be made (PL610), or a path cannot be used.
    #[error("error[{code}]: {0}", code = .0.code())]
    Files(#[from] FileError),
    /// The store cannot keep what the run needs.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine refused.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Why a run was not continued. It is left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumePipelineError {
    /// Providers are not ready; all reasons.
    #[error("{}", lines(.0))]
    Preflight(Vec<Preflight>),
    /// The engine refused.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Why the definition of a run was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// The store cannot be read, or has no such run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// It is no workflow of this language, or of a later version of it.
    #[error(transparent)]
    Invalid(#[from] perennial_pipeline::InvalidDefinition),
}

/// Why a file of scripted replies was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MocksFileError {
    /// The file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It is not YAML; all diagnostics.
    #[error("{}", summary(.0))]
    Malformed(Vec<Diagnostic>),
}

/// A variable of the environment of this process.
pub(crate) fn variable(name: &str) -> Option<String> {
    SourceFiles::new("").variable(name)
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    let errors: Vec<&Diagnostic> =
        diagnostics.iter().filter(|found| found.severity == Severity::Error).collect();
    match errors.first() {
        Some(first) if errors.len() == 1 => format!("Invalid workflow: {}", first.message),
        Some(first) => {
            format!("Invalid workflow: {} (and {} more errors)", first.message, errors.len() - 1)
        }
        None => "Invalid workflow".to_owned(),
    }
}

fn lines(refusals: &[Preflight]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl StartPipeline {
    /// The workflow in the file at `path`, answered by live providers.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::of(Source::File(path.into()))
    }

    /// The workflow in `bytes`, called `name` in messages.
    pub fn document(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self::of(Source::Document { name: name.into(), bytes: bytes.into() })
    }

    /// What [`Pipelines::check`] has read and found valid: its files are not read again, so that what
    /// starts is what was checked, whatever has become of them.
    pub fn checked(pipeline: Pipeline) -> Self {
        Self::of(Source::Checked(Box::new(pipeline)))
    }

    /// `step` alone, written as in a document; what it needs are inputs. Texts of inputs are values, and no
    /// templates.
    pub fn step(step: &Value) -> Self {
        let workflow = json!({"name": "step", "language": 1, "steps": [step]});
        Self::document("step", json!({ "workflow": workflow }).to_string())
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            inputs: Map::new(),
            mode: ProviderMode::Live,
            mocks: None,
            run: None,
            within: None,
            leniency: Leniency::as_written(),
            chosen: ChosenDirectories::default(),
            fallback: ChosenDirectories::default(),
            allowed: Vec::new(),
        }
    }

    /// Sets one input.
    pub fn input(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.inputs.insert(name.into(), value.into());
        self
    }

    /// Sets who answers. Nothing falls back to mocks by itself.
    pub fn mode(mut self, mode: ProviderMode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets scripted replies for [`ProviderMode::Mock`]; kept with the run.
    ///
    /// `replies` answers by the name of a step, its path or words of the prompt; `""` answers the rest.
    /// A list gives one reply for each call. A reply is a text, or a map with `text` or `json`, or
    /// `error`, and with `delay_ms` and `cost_usd`; `rules` say more exactly whom they answer.
    ///
    /// ```
    /// # use perennial::{ProviderMode, StartPipeline};
    /// # use serde_json::json;
    /// let start = StartPipeline::file("flows/review.yaml").mode(ProviderMode::Mock).mocks(json!({
    ///     "replies": {
    ///         "summary": "Short and friendly.",
    ///         "score": { "json": { "score": 8 } },
    ///         "draft": [
    ///             { "error": { "class": "rate_limited", "message": "slow down" } },
    ///             "the second call succeeds",
    ///         ],
    ///     },
    ///     "rules": [{ "contains": "translate", "reply": { "text": "übersetzt", "delay_ms": 50 } }],
    /// }));
    /// # drop(start);
    /// ```
    pub fn mocks(mut self, rules: Value) -> Self {
        self.mocks = Some(rules);
        self
    }

    /// Sets the run's id. Starting twice with one id is one run.
    pub fn run_id(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }

    /// Sets what is stronger than the leniency of the document.
    pub fn lenient(mut self, leniency: Leniency) -> Self {
        self.leniency = leniency;
        self
    }

    /// Sets where relative paths of the run start. The default is the working directory of the process.
    pub fn project_root(mut self, path: impl Into<PathBuf>) -> Self {
        self.chosen.project_root = Some(path.into());
        self
    }

    /// Sets where steps work on files, over what the document says. The default is `workspace`.
    pub fn workspace_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.chosen.workspace = Some(path.into());
        self
    }

    /// Sets where steps leave files, over what the document says. The default is `outputs`.
    pub fn output_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.chosen.outputs = Some(path.into());
        self
    }

    /// Sets where exports go, over what the document says. The default is `checkpoints`.
    pub fn checkpoint_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.chosen.checkpoints = Some(path.into());
        self
    }

    /// Allows steps to read and write below `path` as well.
    pub fn allow_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.allowed.push(path.into());
        self
    }

    /// Sets directories that hold where neither an option nor the document speaks: those of an environment.
    pub fn fallback_directories(mut self, fallback: ChosenDirectories) -> Self {
        self.fallback = fallback;
        self
    }

    /// What is to run, read and checked where that is not done yet.
    fn pipeline(&self) -> Result<Pipeline, StartPipelineError> {
        let checked = match &self.source {
            Source::File(path) => Pipelines::check_with(path, &self.leniency)?,
            Source::Document { name, bytes } => Pipeline::check_with(name, bytes, &self.leniency),
            Source::Checked(pipeline) => return Ok(Pipeline::clone(pipeline)),
        };
        checked.pipeline.ok_or(StartPipelineError::Invalid(checked.diagnostics))
    }

    /// The directories of a run of `pipeline`: option over document over fallback over default (YF-48). None when
    /// nobody names one and no step has to do with files.
    fn directories(&self, pipeline: &Pipeline) -> Result<Option<RunDirectories>, FileError> {
        let asked = self.chosen != ChosenDirectories::default() || !self.allowed.is_empty();
        if !asked && !pipeline.uses_directories() {
            return Ok(None);
        }
        let here = Path::new(".");
        let cwd = std::path::absolute(here)
            .map_err(|source| FileError::Directory { path: here.to_owned(), source })?;
        let chosen = self.chosen.clone().over(pipeline.directories()).over(self.fallback.clone());
        let directories = chosen.resolve(&cwd);
        let documents = match &self.source {
            Source::File(_) | Source::Checked(_) => {
                let folders = pipeline.documents().into_iter().map(|file| Path::new(file).parent());
                let folders: BTreeSet<PathBuf> =
                    folders.flatten().map(|folder| cwd.join(folder)).collect();
                folders.into_iter().collect()
            }
            Source::Document { .. } => Vec::new(),
        };
        let allowed = self.allowed.iter().map(|path| cwd.join(path)).collect();
        Ok(Some(RunDirectories { directories, documents, allowed }))
    }

    /// Sets how long the run may take; the default is what the document says, else 24 hours.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }
}

impl Pipelines {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// Reads and checks the file at `path` and the files it names: all diagnostics at once.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn check(path: &Path) -> Result<Checked, SourceError> {
        Self::check_with(path, &Leniency::as_written())
    }

    /// The same with a `leniency` that is stronger than the document's.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn check_with(path: &Path, leniency: &Leniency) -> Result<Checked, SourceError> {
        // The working directory is the root of the project.
        let sources = SourceFiles::new("");
        let found = sources.named(path)?;
        let bytes = match read_source(path, FILE_BYTES_MAX as u64) {
            // What is too long is not read; the language says what is wrong with it.
            Err(SourceError::TooLarge { .. }) => vec![b' '; FILE_BYTES_MAX + 1],
            read => read?,
        };
        let file = SourceFile {
            identity: found.canonical.display().to_string(),
            ..SourceFile::new(path.display().to_string(), bytes)
        };
        Ok(Pipeline::load_with(&file, &sources, leniency))
    }

    /// Reads scripted replies, YAML or JSON, from the file at `path`; for
    /// [`StartPipeline::mocks`].
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is not YAML; what the replies say is checked at the start.
    pub fn read_mocks(path: &Path) -> Result<Value, MocksFileError> {
        let bytes = read_source(path, FILE_BYTES_MAX as u64)?;
        read_yaml(&path.display().to_string(), &bytes).map_err(MocksFileError::Malformed)
    }

    /// Checks, records and starts a workflow.
    ///
    /// # Errors
    ///
    /// See [`StartPipelineError`]; nothing is recorded unless the run was.
    pub async fn start(
        &self,
        start: StartPipeline,
    ) -> Result<PipelineRunHandle, StartPipelineError> {
        let pipeline = start.pipeline()?;
        let inputs = pipeline.bind_inputs(&start.inputs)?;
        let directories = start.directories(&pipeline)?;
        let mut refusals = self.preflight(&pipeline, start.mode);
        if let Some(directories) = &directories {
            directories.directories.make()?;
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
        let calls = self.parts.providers.defaults();
        let settings = RunSettings { inputs, calls, directories, environment };
        let recorded = recorded_settings(&settings, &pipeline, start.mode, digest);
        let providers = self.parts.providers.of_mode(start.mode, rules);
        let within = start.within.or(pipeline.within());
        let workflow = pipeline.shared().bind(settings, providers);
        let handle = self.parts.runs.start(StartRun {
            run: start.run,
            workflow,
            settings: recorded,
            within,
        });
        Ok(PipelineRunHandle { run: handle.await?, changed_secrets: Vec::new() })
    }

    /// Continues a run with what was recorded with it. Its live calls need a key here as well.
    ///
    /// # Errors
    ///
    /// See [`ResumePipelineError`]; the run is then left as it is.
    pub async fn resume(&self, run: &RunId) -> Result<PipelineRunHandle, ResumePipelineError> {
        let record = self.parts.runs.get(run).await?.view().await?.run;
        if !record.state.is_terminal() {
            let refusals = self.resume_preflight(&record).await?;
            if !refusals.is_empty() {
                return Err(ResumePipelineError::Preflight(refusals));
            }
        }
        let changed_secrets = match RunSettings::from_value(&record.settings) {
            Ok(mut settings) if !record.state.is_terminal() => {
                settings.environment.read_secrets(&variable)
            }
            // Settings that cannot be read are the engine's to refuse, with the reason.
            Ok(_) | Err(_) => Vec::new(),
        };
        Ok(PipelineRunHandle { run: self.parts.runs.resume(run).await?, changed_secrets })
    }

    /// A run whose calls nobody here can answer is left as it is: starting it would only fail it.
    async fn resume_preflight(&self, record: &RunRecord) -> Result<Vec<Preflight>, RunError> {
        if recorded_mode(&record.settings) != Some(ProviderMode::Live) {
            return Ok(Vec::new());
        }
        let bytes = self.parts.store.blob(record.definition).await?;
        // A definition that cannot be read is the engine's to refuse, with the reason.
        let Ok(pipeline) = Pipeline::revive(&bytes) else { return Ok(Vec::new()) };
        let unavailable = |kind| {
            let why = self.parts.providers.unavailable(kind)?;
            Some(Preflight::Provider { kind, why })
        };
        Ok(pipeline.providers().into_iter().filter_map(unavailable).collect())
    }

    /// The handle of a run, whoever runs it.
    ///
    /// # Errors
    ///
    /// When there is no such run.
    pub async fn get(&self, run: &RunId) -> Result<PipelineRunHandle, RunError> {
        Ok(PipelineRunHandle { run: self.parts.runs.get(run).await?, changed_secrets: Vec::new() })
    }

    /// The workflow that a run was accepted with, whatever its file says now.
    ///
    /// # Errors
    ///
    /// See [`DefinitionError`].
    pub async fn definition(&self, run: &RunId) -> Result<Pipeline, DefinitionError> {
        let record = self.parts.runs.get(run).await?.view().await?.run;
        let bytes = self.parts.store.blob(record.definition).await.map_err(RunError::from)?;
        Ok(Pipeline::revive(&bytes)?.placed(&recorded_places(&record.settings)))
    }

    async fn keep(&self, mocks: &Value) -> Result<Digest, StoreError> {
        self.parts.store.put_blob(canonical_json(mocks).into_bytes()).await
    }

    fn preflight(&self, pipeline: &Pipeline, mode: ProviderMode) -> Vec<Preflight> {
        let mut refusals = Vec::new();
        if mode != ProviderMode::Live {
            return refusals;
        }
        for kind in pipeline.providers() {
            if let Some(why) = self.parts.providers.unavailable(kind) {
                refusals.push(Preflight::Provider { kind, why });
            }
            if !self.parts.providers.has_model(kind)
                && let Some(step) = pipeline.step_without_model(kind)
            {
                refusals.push(Preflight::MissingModel { step: step.to_owned() });
            }
        }
        for (step, tools) in pipeline.steps_with_tools() {
            refusals.push(Preflight::Tools { step: step.to_owned(), tools: tools.to_vec() });
        }
        refusals
    }
}

/// The files that are certain to be needed and cannot be had; what lies in the workspace or the outputs may be made by
/// the run itself.
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

/// One run of a workflow.
#[derive(Clone, Debug)]
pub struct PipelineRunHandle {
    run: RunHandle,
    changed_secrets: Vec<String>,
}

/// How a run of a workflow ended.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineOutcome {
    /// Everything recorded of it.
    pub view: RunView,
}

impl PipelineRunHandle {
    /// Its id.
    pub fn id(&self) -> &RunId {
        self.run.id()
    }

    /// What it waits for: a free place, the time of another attempt, or the end of its pause. Nothing when
    /// it is under way, has ended, or belongs to another process.
    pub fn waits_for(&self) -> Option<WaitsFor> {
        self.run.waits_for()
    }

    /// Names of secrets of the environment that are not what they were when the run began, if it was
    /// resumed: they are not recorded, and were read again.
    pub fn changed_secrets(&self) -> &[String] {
        &self.changed_secrets
    }

    /// Its committed events, from the first on.
    pub fn events(&self) -> EventFeed {
        self.events_from(1)
    }

    /// Its events from `from` on (1 is the first), as they are committed.
    pub fn events_from(&self, from: u64) -> EventFeed {
        self.run.events(from)
    }

    /// Everything recorded of it, at one revision.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn view(&self) -> Result<RunView, RunError> {
        self.run.view().await
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn outcome(&self) -> Result<PipelineOutcome, RunError> {
        Ok(PipelineOutcome { view: self.run.outcome().await?.view })
    }

    /// How it performed, or performs: durations, sizes, retries, and what passed `thresholds`.
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
    /// # Errors
    ///
    /// When it has ended, nobody here runs it, or the store is away.
    pub async fn pause(&self) -> Result<bool, RunError> {
        self.run.pause().await
    }

    /// Lets it go on where it stands. Answers whether that changed anything.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub async fn unpause(&self) -> Result<bool, RunError> {
        self.run.unpause().await
    }

    /// Asks it to end; answers whether that changed anything.
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
    pub fn run_id(&self) -> &RunId {
        &self.view.run.run
    }

    /// Its state.
    pub fn state(&self) -> RunState {
        self.view.run.state
    }

    /// `completed`, `failed` or `cancelled`.
    pub fn status(&self) -> &'static str {
        self.state().status()
    }

    /// What a step of the workflow gave. Steps of a child are in the result of their step; the
    /// job of each is in the view.
    pub fn result(&self, step: &str) -> Option<&Value> {
        self.steps().find(|job| job.key.step_name() == step)?.result.as_ref()
    }

    /// What a step of the workflow gave, for looking at: cut where it is large.
    pub fn shown(&self, step: &str) -> Option<View<'_>> {
        let job = self.steps().find(|job| job.key.step_name() == step)?;
        let made = self.view.attempts.iter().rfind(|attempt| attempt.job == job.id);
        let at = made.and_then(|attempt| attempt.ended_at);
        Some(View::new(job.key.as_str(), job.result.as_ref()?, at))
    }

    /// What all steps of the workflow gave, in order.
    pub fn results(&self) -> Map<String, Value> {
        let given =
            |job: &JobRecord| job.result.clone().map(|result| (job.key.step_name(), result));
        self.steps().filter_map(given).collect()
    }

    /// Whether a step did only a part of its work, and the run went on.
    pub fn is_degraded(&self) -> bool {
        self.state() == RunState::PartiallySucceeded
            || self.steps().any(|job| job.state == JobState::Partial)
    }

    /// The jobs of the workflow's own steps.
    fn steps(&self) -> impl Iterator<Item = &JobRecord> {
        let own = |job: &&JobRecord| job.key.depth() == 0 && !job.key.is_opening();
        self.view.jobs.iter().filter(own)
    }

    /// Files that steps left, each with its step: their paths below the directory of outputs, as they were named.
    pub fn files(&self) -> Vec<(&str, &str)> {
        let left = |job| -> Option<(&str, &str)> {
            let job: &JobRecord = job;
            Some((job.key.as_str(), job.result.as_ref()?.get("output_file")?.as_str()?))
        };
        self.view.jobs.iter().filter_map(left).collect()
    }

    /// Where they are; none when the run had no directories.
    pub fn output_dir(&self) -> Option<&Path> {
        let directories = self.view.run.settings.get("directories")?;
        directories.get("outputs")?.as_str().map(Path::new)
    }

    /// Attempts that had called out and ended without a recorded reply: the call may have happened.
    pub fn uncertain_attempts(&self) -> usize {
        self.view.attempts.iter().filter(|attempt| attempt.uncertain).count()
    }
}
