//! What a host asks to start.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use perennial_core::run::{Priority, RunId};
use perennial_pipeline::{Deployment, Leniency, Pipeline, RunDirectories};
use perennial_tools::files::{ChosenDirectories, FileError};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Preflight, RegisteredPipelines, StartPipelineError};
use crate::runtime::ProviderMode;

/// What to start, and how: a document, its inputs, who answers its calls, and where it works.
///
/// Nothing is read or checked before [`Pipelines::start`](crate::Pipelines::start). Calls go to live providers unless
/// [`mode`](Self::mode) says otherwise.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: hi, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}]}";
/// use std::time::Duration;
///
/// let start = StartPipeline::document("hi.yaml", text)
///     .input("who", "Ada")
///     .mode(ProviderMode::Mock)
///     .within(Duration::from_secs(60));
/// let outcome = runtime.pipelines().start(start).await?.outcome().await?;
/// assert_eq!(outcome.result("a"), Some(&"Ada".into()));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct StartPipeline {
    pub(super) source: Source,
    pub(super) inputs: Map<String, Value>,
    pub(super) mode: ProviderMode,
    pub(super) mocks: Option<Value>,
    pub(super) run: Option<RunId>,
    pub(super) within: Option<Duration>,
    pub(super) priority: Priority,
    pub(super) leniency: Leniency,
    pub(super) deployment: Deployment,
    unrestricted: bool,
    chosen: ChosenDirectories,
    fallback: ChosenDirectories,
    allowed: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    File(PathBuf),
    Document { name: String, bytes: Vec<u8> },
    Checked(Box<Pipeline>),
    Registered(String),
}

impl StartPipeline {
    /// The workflow in the file at `path`, answered by live providers.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("hi.yaml");
    /// std::fs::write(&path, "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}")?;
    /// let run = runtime.pipelines().start(StartPipeline::file(&path).mode(ProviderMode::Mock)).await?;
    /// assert_eq!(run.outcome().await?.result("a"), Some(&1.into()));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::of(Source::File(path.into()))
    }

    /// The workflow in `bytes`, called `name` in messages, answered by live providers. It names no other file, and
    /// paths of its prompts start at the root of the project.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, StartPipelineError, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let start = StartPipeline::document("draft.yaml", "workflow: {name: draft}");
    /// let Err(StartPipelineError::Invalid(diagnostics)) = runtime.pipelines().start(start).await else {
    ///     panic!("it has no steps");
    /// };
    /// assert_eq!(&*diagnostics[0].file, "draft.yaml");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn document(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self::of(Source::Document { name: name.into(), bytes: bytes.into() })
    }

    /// What [`Pipelines::check`](crate::Pipelines::check) has read and found valid: its files are not read again, so
    /// that what starts is what was checked, whatever has become of them.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Pipelines, ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("hi.yaml");
    /// # std::fs::write(&path, "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}")?;
    /// let pipeline = Pipelines::check(&path)?.pipeline.expect("it has no fault");
    /// std::fs::remove_file(&path)?;
    /// let start = StartPipeline::checked(pipeline).mode(ProviderMode::Mock);
    /// assert_eq!(runtime.pipelines().start(start).await?.outcome().await?.status(), "completed");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn checked(pipeline: Pipeline) -> Self {
        Self::of(Source::Checked(Box::new(pipeline)))
    }

    /// The newest version of the workflow that the runtime has registered as `name`.
    ///
    /// ```
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// let runtime = Runtime::builder().store(Store::memory()).pipeline("hi", text).start().await?;
    /// let run = runtime.pipelines().start(StartPipeline::registered("hi")).await?;
    /// assert_eq!(run.outcome().await?.status(), "completed");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn registered(name: impl Into<String>) -> Self {
        Self::of(Source::Registered(name.into()))
    }

    /// `step` alone, written as in a document; what it needs are inputs. Texts of inputs are values, and no
    /// templates.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// use serde_json::json;
    ///
    /// let step = json!({"name": "double", "type": "echo", "value": "{{ inputs.text }}{{ inputs.text }}"});
    /// let start = StartPipeline::step(&step).input("text", "ab").mode(ProviderMode::Mock);
    /// let outcome = runtime.pipelines().start(start).await?.outcome().await?;
    /// assert_eq!(outcome.result("double"), Some(&json!("abab")));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn step(step: &Value) -> Self {
        let workflow = json!({"name": "step", "language": 1, "steps": [step]});
        Self::document("step", json!({ "workflow": workflow }).to_string())
    }

    pub(super) fn of(source: Source) -> Self {
        Self {
            source,
            inputs: Map::new(),
            mode: ProviderMode::Live,
            mocks: None,
            run: None,
            within: None,
            priority: Priority::NORMAL,
            leniency: Leniency::as_written(),
            deployment: Deployment::default(),
            unrestricted: false,
            chosen: ChosenDirectories::default(),
            fallback: ChosenDirectories::default(),
            allowed: Vec::new(),
        }
    }

    /// Sets one input; of several with one name the last counts. Whether the document has it, and its type fits, is
    /// checked at the start.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, StartPipelineError, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let text = "workflow: {name: w, inputs: {count: integer}, steps: [{name: a, type: echo, value: '{{ inputs.count }}'}]}";
    /// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// let refused = runtime.pipelines().start(start.clone().input("count", "many")).await;
    /// assert!(matches!(refused, Err(StartPipelineError::Inputs(_))));
    /// let run = runtime.pipelines().start(start.input("count", 3)).await?;
    /// assert_eq!(run.outcome().await?.result("a"), Some(&3.into()));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn input(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.inputs.insert(name.into(), value.into());
        self
    }

    /// Sets who answers calls to models; the default is [`ProviderMode::Live`]. Nothing falls back to mocks by
    /// itself.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let text = "workflow: {name: w, steps: [{name: ask, type: claude, prompt: [{type: static, content: Hi}]}]}";
    /// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// let outcome = runtime.pipelines().start(start).await?.outcome().await?;
    /// assert!(outcome.result("ask").unwrap()["text"].is_string()); // made up, with neither key nor network
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
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

    /// Sets the run's id; without it the run gets a new ULID. Starting twice with one id, the same document and the
    /// same inputs is one run; with others it is refused.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, RunId, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// let start = StartPipeline::document("hi.yaml", text)
    ///     .mode(ProviderMode::Mock)
    ///     .run_id(RunId::parse("order-17")?);
    /// let first = runtime.pipelines().start(start.clone()).await?;
    /// let second = runtime.pipelines().start(start).await?;
    /// assert_eq!(first.id(), second.id());
    /// assert_eq!(runtime.runs().list(10).await?.len(), 1);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_id(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }

    /// Sets what is stronger than the leniency of the document.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Leniency, ProviderMode, Runtime, StartPipeline, StartPipelineError, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let text = "workflow: {name: w, colour: red, steps: [{name: a, type: echo, value: 1}]}";
    /// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// let refused = runtime.pipelines().start(start.clone()).await;
    /// assert!(matches!(refused, Err(StartPipelineError::Invalid(_))));
    ///
    /// let lenient = Leniency::as_written().with("unknown_keys", "warn")?;
    /// let run = runtime.pipelines().start(start.lenient(lenient)).await?;
    /// assert_eq!(run.outcome().await?.status(), "completed");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn lenient(mut self, leniency: Leniency) -> Self {
        self.leniency = leniency;
        self
    }

    /// Sets mode and limits over what the document says. What was [checked](Self::checked) before has them
    /// from its check.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Deployment, ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let text = "
    /// workflow:
    ///   name: w
    ///   steps:
    ///     - name: child
    ///       type: pipeline
    ///       pipeline: {name: c, steps: [{name: a, type: echo, value: 1}, {name: b, type: echo, value: 2}]}
    /// ";
    /// let two_steps_are_too_many = Deployment::default().limit("max_total_steps", "1")?;
    /// let start = StartPipeline::document("w.yaml", text)
    ///     .mode(ProviderMode::Mock)
    ///     .deployment(two_steps_are_too_many);
    /// let run = runtime.pipelines().start(start).await?;
    /// assert_eq!(run.outcome().await?.status(), "failed");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn deployment(mut self, deployment: Deployment) -> Self {
        self.deployment = deployment;
        self
    }

    /// Agrees that a document with `safety.restrict_file_access: false` reads and writes all files.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, StartPipelineError, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, safety: {restrict_file_access: false}, steps: [{name: a, type: echo, value: 1}]}";
    /// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// let refused = runtime.pipelines().start(start.clone()).await;
    /// assert!(matches!(refused, Err(StartPipelineError::Preflight(_))));
    ///
    /// let run = runtime.pipelines().start(start.allow_unrestricted_files()).await?;
    /// assert_eq!(run.outcome().await?.status(), "completed");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn allow_unrestricted_files(mut self) -> Self {
        self.unrestricted = true;
        self
    }

    /// Sets where relative paths of the run start. The default is the working directory of the process.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// let text = "workflow: {name: w, steps: [{name: a, type: echo, value: hi, output_to_file: hi.txt}]}";
    /// let start = StartPipeline::document("w.yaml", text)
    ///     .mode(ProviderMode::Mock)
    ///     .project_root(folder.path());
    /// runtime.pipelines().start(start).await?.outcome().await?;
    /// assert_eq!(std::fs::read_to_string(folder.path().join("outputs/hi.txt"))?, "hi");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn project_root(mut self, path: impl Into<PathBuf>) -> Self {
        self.chosen.project_root = Some(path.into());
        self
    }

    /// Sets where steps work on files, over what the document says. The default is `workspace`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// let text = "
    /// workflow:
    ///   name: w
    ///   steps: [{name: note, type: file_ops, operation: write, path: note.txt, content: hello}]
    /// ";
    /// let start = StartPipeline::document("w.yaml", text)
    ///     .mode(ProviderMode::Mock)
    ///     .project_root(folder.path())
    ///     .workspace_dir("work"); // below the root of the project
    /// runtime.pipelines().start(start).await?.outcome().await?;
    /// assert_eq!(std::fs::read_to_string(folder.path().join("work/note.txt"))?, "hello");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn workspace_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.chosen.workspace = Some(path.into());
        self
    }

    /// Sets where steps leave files, over what the document says. The default is `outputs`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// # let text = "workflow: {name: w, steps: [{name: a, type: echo, value: hi, output_to_file: hi.txt}]}";
    /// let start = StartPipeline::document("w.yaml", text)
    ///     .mode(ProviderMode::Mock)
    ///     .project_root(folder.path())
    ///     .output_dir("results");
    /// let outcome = runtime.pipelines().start(start).await?.outcome().await?;
    /// assert_eq!(outcome.output_dir(), Some(folder.path().join("results").as_path()));
    /// assert!(folder.path().join("results/hi.txt").is_file());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn output_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.chosen.outputs = Some(path.into());
        self
    }

    /// Sets where exports go, over what the document says. The default is `checkpoints`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// let text = "workflow: {name: w, checkpoint_enabled: true, steps: [{name: a, type: echo, value: 1}]}";
    /// let start = StartPipeline::document("w.yaml", text)
    ///     .mode(ProviderMode::Mock)
    ///     .project_root(folder.path())
    ///     .checkpoint_dir("exports");
    /// runtime.pipelines().start(start).await?.outcome().await?;
    /// # runtime.shutdown().await;
    /// assert!(folder.path().join("exports").is_dir());
    /// # Ok(())
    /// # }
    /// ```
    pub fn checkpoint_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.chosen.checkpoints = Some(path.into());
        self
    }

    /// Sets where children with `workspace_enabled` get their fresh workspaces. The default is `nested_workspaces`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// let text = "
    /// workflow:
    ///   name: w
    ///   steps:
    ///     - name: inner
    ///       type: pipeline
    ///       config: {workspace_enabled: true, cleanup_on_success: false}
    ///       pipeline:
    ///         name: child
    ///         steps: [{name: note, type: file_ops, operation: write, path: note.txt, content: hello}]
    /// ";
    /// let start = StartPipeline::document("w.yaml", text)
    ///     .mode(ProviderMode::Mock)
    ///     .project_root(folder.path())
    ///     .nested_workspace_root("children");
    /// let outcome = runtime.pipelines().start(start).await?.outcome().await?;
    /// assert_eq!(outcome.status(), "completed");
    /// assert!(folder.path().join("children").is_dir());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn nested_workspace_root(mut self, path: impl Into<PathBuf>) -> Self {
        self.chosen.nested_workspaces = Some(path.into());
        self
    }

    /// Allows steps to read and write below `path` as well.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// let elsewhere = tempfile::tempdir()?;
    /// std::fs::write(elsewhere.path().join("names.txt"), "Ada")?;
    /// let step = serde_json::json!({
    ///     "name": "names", "type": "file_ops", "operation": "read", "path": elsewhere.path().join("names.txt"),
    /// });
    /// let start = StartPipeline::step(&step).mode(ProviderMode::Mock).project_root(folder.path());
    /// let outcome = runtime.pipelines().start(start.clone()).await?.outcome().await?;
    /// assert_eq!(outcome.status(), "failed"); // it is outside of all places of the run
    ///
    /// let start = start.allow_path(elsewhere.path());
    /// let outcome = runtime.pipelines().start(start).await?.outcome().await?;
    /// assert_eq!(outcome.result("names").unwrap()["content"], "Ada");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn allow_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.allowed.push(path.into());
        self
    }

    /// Sets directories that hold where neither an option nor the document speaks: those of an environment.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let folder = tempfile::tempdir()?;
    /// # let text = "workflow: {name: w, steps: [{name: a, type: echo, value: hi, output_to_file: hi.txt}]}";
    /// use perennial::tools::files::ChosenDirectories;
    ///
    /// let fallback = ChosenDirectories { outputs: Some("results".into()), ..Default::default() };
    /// let start = StartPipeline::document("w.yaml", text)
    ///     .mode(ProviderMode::Mock)
    ///     .project_root(folder.path())
    ///     .fallback_directories(fallback); // weaker than the document and than `output_dir`
    /// runtime.pipelines().start(start).await?.outcome().await?;
    /// assert!(folder.path().join("results/hi.txt").is_file());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn fallback_directories(mut self, fallback: ChosenDirectories) -> Self {
        self.fallback = fallback;
        self
    }

    /// What is to run, read and checked where that is not done yet.
    pub(super) fn pipeline(
        &self,
        registered: &RegisteredPipelines,
        configured: &Deployment,
    ) -> Result<Pipeline, StartPipelineError> {
        let deployment = self.deployment.clone().over(configured);
        let checked = match &self.source {
            Source::File(path) => registered.check_file(path, &self.leniency, &deployment)?,
            Source::Document { name, bytes } => {
                registered.check_document(name, bytes, &self.leniency, &deployment)
            }
            Source::Checked(pipeline) => return Ok(Pipeline::clone(pipeline)),
            Source::Registered(name) => {
                let found = registered.newest(name, &self.leniency, &deployment);
                found.ok_or_else(|| StartPipelineError::NotRegistered {
                    name: name.clone(),
                    registered: registered.names().map(str::to_owned).collect(),
                })?
            }
        };
        checked.pipeline.ok_or(StartPipelineError::Invalid(checked.diagnostics))
    }

    /// The canonical path of the document, by which runs of one file are told (YR-56). None when it is no file, or
    /// the file has gone.
    pub(super) fn document_path(&self, pipeline: &Pipeline) -> Option<String> {
        match &self.source {
            Source::File(_) | Source::Checked(_) => {
                let path = std::fs::canonicalize(pipeline.file()).ok()?;
                Some(path.display().to_string())
            }
            Source::Document { .. } | Source::Registered(_) => None,
        }
    }

    /// Whether a run with these recorded directories works where this start says, if it says anything.
    pub(super) fn has_directories_of(
        &self,
        pipeline: &Pipeline,
        registered: &RegisteredPipelines,
        recorded: Option<&Value>,
    ) -> Result<bool, FileError> {
        if self.chosen == ChosenDirectories::default() && self.allowed.is_empty() {
            return Ok(true);
        }
        let named = self.directories(pipeline, registered)?;
        let recorded = recorded.and_then(|all| RunDirectories::deserialize(all).ok());
        Ok(match (named, recorded) {
            (Some(named), Some(recorded)) => named.is_same_place(&recorded),
            (named, recorded) => named == recorded,
        })
    }

    /// The directories of a run of `pipeline`: option over document over fallback over default (YF-48). None when
    /// nobody names one and no step has to do with files.
    pub(super) fn directories(
        &self,
        pipeline: &Pipeline,
        registered: &RegisteredPipelines,
    ) -> Result<Option<RunDirectories>, FileError> {
        let asked = self.chosen != ChosenDirectories::default() || !self.allowed.is_empty();
        if !asked && !pipeline.uses_directories() {
            return Ok(None);
        }
        let here = Path::new(".");
        let cwd = std::path::absolute(here)
            .map_err(|source| FileError::Directory { path: here.to_owned(), source })?;
        let chosen = self.chosen.clone().over(pipeline.directories()).over(self.fallback.clone());
        let directories = chosen.resolve(&cwd);
        // A document that is a text has no folder; children of it may have one.
        let is_text = |file: &str| {
            registered.is_text(file)
                || matches!(&self.source, Source::Document { name, .. } if name == file)
        };
        let files = pipeline.documents().into_iter().filter(|file| !is_text(file));
        let folders = files.filter_map(|file| Path::new(file).parent());
        let folders: BTreeSet<PathBuf> = folders.map(|folder| cwd.join(folder)).collect();
        let documents = folders.into_iter().collect();
        let confinement = pipeline.confinement();
        let root = &directories.project_root;
        let mut allowed: Vec<PathBuf> = self.allowed.iter().map(|path| cwd.join(path)).collect();
        allowed.extend(confinement.allowed.iter().map(|path| root.join(path)));
        if confinement.unrestricted && self.unrestricted {
            allowed.push(root.ancestors().last().unwrap_or(root).to_owned());
        }
        let read_only = confinement.read_only.iter().map(|path| root.join(path)).collect();
        let led = BTreeMap::new();
        let all = RunDirectories { directories, documents, allowed, read_only, led };
        all.check_names()?;
        Ok(Some(all))
    }

    /// What the document asks of places, and cannot have.
    pub(super) fn confinement(
        &self,
        pipeline: &Pipeline,
        directories: Option<&RunDirectories>,
    ) -> Vec<Preflight> {
        let confinement = pipeline.confinement();
        let mut refusals = Vec::new();
        if confinement.unrestricted && !self.unrestricted {
            refusals.push(Preflight::Unrestricted);
        }
        if let Some(RunDirectories { directories, .. }) = directories
            && confinement.workspace_exists
            && !directories.workspace.is_dir()
        {
            refusals.push(Preflight::NoWorkspace { path: directories.workspace.clone() });
        }
        refusals
    }

    /// Sets how long the run may take, counted from its start over restarts of the process; the default is what the
    /// document says, else 24 hours. A run that passes it is cancelled, and its state is
    /// [`TimedOut`](crate::RunState::TimedOut).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, RunState, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// use std::time::Duration;
    ///
    /// let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// let start = StartPipeline::document("w.yaml", text)
    ///     .mode(ProviderMode::Mock)
    ///     .within(Duration::from_millis(20));
    /// let outcome = runtime.pipelines().start(start).await?.outcome().await?;
    /// assert_eq!(outcome.state(), RunState::TimedOut);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// Sets what comes first of runs that wait, for a place among the active ones and for room of their node; the default is
    /// [`Priority::NORMAL`]. [`set_priority`](crate::engine::RunHandle::set_priority) changes it later; a further start with the id of
    /// a run does not.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// use perennial::engine::Priority;
    ///
    /// let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1}]}";
    /// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock).priority(Priority::LOW);
    /// let run = runtime.pipelines().start(start).await?;
    /// assert_eq!(runtime.runs().list(1).await?[0].priority, Priority::LOW);
    /// # run.outcome().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }
}
