//! Why a workflow was not started, continued or read.

use std::path::PathBuf;

use perennial_core::{
    nearest,
    run::{RunId, RunState},
};
use perennial_engine::RunError;
use perennial_pipeline::{Diagnostic, EnvironmentMode, InputErrors, ProviderKind, Severity};
use perennial_store::StoreError;
use perennial_tools::{SourceError, files::FileError};

use crate::runtime::Unavailable;

/// Why a start was refused before anything was recorded.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{Preflight, Runtime, StartPipeline, StartPipelineError, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// let text = "workflow: {name: w, steps: [{name: a, type: gemini, prompt: [{type: static, content: Hi}]}]}";
/// let refused = runtime.pipelines().start(StartPipeline::document("w.yaml", text)).await;
/// let Err(StartPipelineError::Preflight(reasons)) = refused else { panic!("nobody answers gemini") };
/// assert!(matches!(reasons[..], [Preflight::Provider { .. }]));
/// assert!(reasons[0].to_string().contains("--provider-mode mock"));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
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
    /// A secret that the run began with is not set now: it is not recorded, and what needs it would
    /// fail (YF-42).
    #[error(
        "[PL217] the environment variable `{name}` was set when the run began, and is not set now; secrets \
         are not recorded: set it and resume again"
    )]
    Secret {
        /// The variable.
        name: String,
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
    /// The environment lets nobody mock.
    #[error(
        "the environment `{environment}` allows no mocks; \
         `environment.{environment}.allow_mock_providers: true` allows them"
    )]
    MocksRefused {
        /// Its mode.
        environment: EnvironmentMode,
    },
    /// The environment lets only mocks answer.
    #[error(
        "the environment `{environment}` lets only mocks answer \
         (`force_mock_providers`); run with `--provider-mode mock`"
    )]
    MocksOnly {
        /// Its mode.
        environment: EnvironmentMode,
    },
    /// The document asks for all files, and who starts it has not agreed.
    #[error(
        "`safety.restrict_file_access: false` lets steps read and write all files; it needs \
         `--allow-unrestricted-files`"
    )]
    Unrestricted,
    /// The workspace has to be there, and is not.
    #[error("[PL610] the workspace {} does not exist (`workspace_config.create_if_missing: false`)", path.display())]
    NoWorkspace {
        /// The workspace.
        path: PathBuf,
    },
    /// Live calls need a model, and neither the step nor the configuration names one.
    #[error("step `{step}` names no model and [providers.anthropic] model is not configured")]
    MissingModel {
        /// The first such step.
        step: String,
    },
    /// A step has replies for the calls of its child, and calls of this run are live (PL707).
    #[error(
        "[PL707] step `{step}` mocks its child, and mocks are not allowed in a live run; remove `mock_mode` \
         and `mock_responses`, or run with `--provider-mode mock`"
    )]
    Mocks {
        /// The step.
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
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, StartPipelineError, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// let start = StartPipeline::registered("greet").mode(ProviderMode::Mock);
/// match runtime.pipelines().start(start).await {
///     Err(StartPipelineError::NotRegistered { name, registered }) => {
///         assert_eq!((name.as_str(), registered.len()), ("greet", 0));
///     }
///     other => panic!("nothing is registered: {other:?}"),
/// }
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartPipelineError {
    /// The file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The document has errors; all of them.
    #[error("{}", summary(.0))]
    Invalid(Vec<Diagnostic>),
    /// No workflow of this name is registered.
    #[error("the pipeline `{name}` is not registered; {}", registered_text(.registered))]
    NotRegistered {
        /// The name.
        name: String,
        /// The names that are registered.
        registered: Vec<String>,
    },
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
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, ResumePipelineError, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
/// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
/// # let run = runtime.pipelines().start(start).await?;
/// # run.outcome().await?;
/// use perennial::records::RunError;
///
/// let refused = runtime.pipelines().resume(run.id()).await;
/// let Err(ResumePipelineError::Run(RunError::Ended { state, .. })) = refused else {
///     panic!("it has completed");
/// };
/// assert_eq!(state.name(), "succeeded");
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumePipelineError {
    /// Providers are not ready; all reasons.
    #[error("{}", lines(.0))]
    Preflight(Vec<Preflight>),
    /// The corrected document cannot be used.
    #[error(transparent)]
    Document(StartPipelineError),
    /// It is of another workflow.
    #[error("the document is of the workflow `{found}`, and the run of `{expected}`")]
    OtherWorkflow {
        /// What it is of.
        found: String,
        /// What the run is of.
        expected: String,
    },
    /// The recorded inputs do not fit the corrected document; all of them.
    #[error(transparent)]
    Inputs(#[from] InputErrors),
    /// Steps that completed and wrote something would run again; all of them.
    #[error("error[PL903]: these steps have written something and would do it again: {}", .0.join(", "))]
    Rewrites(Vec<String>),
    /// No outermost step has this name.
    #[error("{}", no_such_step(step, around.as_deref(), steps))]
    NoSuchStep {
        /// What was asked for.
        step: String,
        /// The outermost step that it would stand in.
        around: Option<String>,
        /// The outermost steps, in their order.
        steps: Vec<String>,
    },
    /// Somebody runs it, or it is being cancelled: only what nobody runs can be given another
    /// definition.
    #[error("error[PL902]: run {run} is under way ({state})")]
    UnderWay {
        /// The run.
        run: RunId,
        /// Where it is.
        state: RunState,
    },
    /// Somebody else resumed it at the same time.
    #[error("error[PL902]: somebody else has just resumed run {run}")]
    Taken {
        /// The run.
        run: RunId,
    },
    /// Its definition cannot be read.
    #[error(transparent)]
    Definition(#[from] perennial_pipeline::InvalidDefinition),
    /// Its settings cannot be read.
    #[error(transparent)]
    Settings(#[from] perennial_pipeline::InvalidSettings),
    /// What bounds it cannot be read.
    #[error(transparent)]
    Bounds(#[from] super::InvalidBounds),
    /// A directory of the run is not what it was when the run began (PL609), or cannot be looked at.
    #[error("error[{code}]: {0}", code = .0.code())]
    Files(#[from] FileError),
    /// The engine refused.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Why the definition of a run was not read.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{DefinitionError, RunId, Runtime, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// let unknown = RunId::parse("nobody")?;
/// let refused = runtime.pipelines().definition(&unknown).await;
/// assert!(matches!(refused, Err(DefinitionError::Run(_))));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
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
///
/// ```
/// # use perennial::{MocksFileError, Pipelines};
/// let refused = Pipelines::read_mocks("nowhere/mocks.yaml".as_ref());
/// assert!(matches!(refused, Err(MocksFileError::Source(_))));
/// ```
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

impl From<DefinitionError> for ResumePipelineError {
    fn from(error: DefinitionError) -> Self {
        match error {
            DefinitionError::Run(error) => Self::Run(error),
            DefinitionError::Invalid(error) => Self::Definition(error),
        }
    }
}

fn registered_text(names: &[String]) -> String {
    if names.is_empty() { "none is".to_owned() } else { format!("there are: {}", names.join(", ")) }
}

/// Steps that are named when the one that was asked for is not there.
const NAMED_MAX: usize = 8;

fn no_such_step(step: &str, around: Option<&str>, steps: &[String]) -> String {
    match around {
        None => {
            let mut names: Vec<&str> = steps.iter().map(String::as_str).collect();
            let nearest = nearest(step, names.iter().copied());
            names.sort_by_key(|name| (Some(*name) != nearest, !name.contains(step)));
            let more = names.len().saturating_sub(NAMED_MAX);
            names.truncate(NAMED_MAX);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("the workflow has no step `{step}`; it has: {}{more}", names.join(", "))
        }
        Some(around) => {
            format!("`{step}` is no outermost step: a run goes on from one of those, as `{around}`")
        }
    }
}
