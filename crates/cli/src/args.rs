//! The command line.

mod deployment;
mod keeping;
mod nodes;
mod sent;
mod store;
mod tree;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use perennial::{Leniency, ProviderMode, Store, engine::Priority};

pub(crate) use self::deployment::DeploymentArgs;
pub(crate) use self::keeping::{GcArgs, JournalArgs, JournalCommand, PurgeArgs, VerifyArgs};
pub(crate) use self::nodes::{NodesArgs, PriorityArgs, RunIdArgs, WorkerArgs};
pub(crate) use self::sent::{AnswerArgs, SentArgs, SignalArgs};
pub(crate) use self::store::{STORE_DEFAULT, StoreArgs, is_of_environment, store_value};
pub(crate) use self::tree::{Format, TreeArgs, TreeCommand, TreeDiffArgs};
use crate::output::{Colour, Shape};

const AFTER_HELP: &str = "\
First steps:
  perennial check FILE
  perennial run FILE... --provider-mode mock --tree
  perennial runs

Exit codes: 0 completed · 1 run failed · 2 usage · 3 definition invalid · 5 deadline
            6 cancelled · 7 paused · 8 provider · 9 store · 10 trees differ
            11 findings · 12 not found · 128+n signal";

/// Durable AI pipelines under supervision: what dies comes back.
#[derive(Debug, Parser)]
#[command(
    name = "perennial",
    version,
    after_help = AFTER_HELP
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Checks workflow files, records a run of each, and runs them to their end
    Run(RunArgs),
    /// Reports everything that is wrong with workflow files
    Check(CheckArgs),
    /// Continues runs that were interrupted, failed or were cancelled
    Resume(ResumeArgs),
    /// Lets a paused run go on, and follows it as resume does
    Unpause(UnpauseArgs),
    /// Tries again what failed in a run that has ended, and follows it as resume does
    Retry(RetryArgs),
    /// Ends a step of a run as skipped: the run goes on without it
    Skip(SkipArgs),
    /// Ends a run, whichever node works on it
    Cancel(RunIdArgs),
    /// Lets a run begin nothing new until `unpause`, whichever node works on it
    Pause(RunIdArgs),
    /// Says how soon a run comes of those that wait, whichever node works on it
    Priority(PriorityArgs),
    /// Works on the runs of a store that nobody works on, until it is stopped
    Worker(WorkerArgs),
    /// Lists the nodes of a store: who lives, until when, and with how much work
    Nodes(NodesArgs),
    /// Sends a run a signal: a step that waits for it goes on, or it is kept for the one that will
    Signal(SignalArgs),
    /// Answers a question of a run: the first answer counts
    Answer(AnswerArgs),
    /// Lists runs, newest first
    Runs(RunsArgs),
    /// Shows one run: steps, attempts, calls
    Show(ShowArgs),
    /// Prints what the steps of a run gave
    Results(ResultsArgs),
    /// Prints the recorded events of a run
    Events(EventsArgs),
    /// Checks what is recorded: whether events and rows are whole and tell the same
    Journal(JournalArgs),
    /// Removes runs that ended long ago, and what nothing uses any more
    Gc(GcArgs),
    /// Removes one run that has ended
    Purge(PurgeArgs),
    /// Draws a workflow, or how a run of it stands, as Mermaid or DOT
    Graph(GraphArgs),
    /// Tells what a step would do, or why a run waits
    Explain(ExplainArgs),
    /// Lists the functions of expressions
    Functions(OutputArgs),
    /// Lists the step types, or the keys of one
    Steps(StepsArgs),
    /// Shows the supervision tree
    Tree(TreeArgs),
    /// Prints the JSON Schema of workflow files, for editors
    Schema,
}

impl Command {
    /// Whether its stdout is for programs.
    pub(crate) fn is_json(&self) -> bool {
        match self {
            Self::Run(args) => args.output.json,
            Self::Check(args) => args.output.json,
            Self::Resume(args) => args.output.json,
            Self::Unpause(args) => args.output.json,
            Self::Retry(args) => args.output.json,
            Self::Skip(args) => args.output.json,
            Self::Cancel(args) | Self::Pause(args) => args.output.json,
            Self::Priority(args) => args.of.output.json,
            Self::Worker(args) => args.output.json,
            Self::Nodes(args) => args.output.json,
            Self::Signal(args) => args.sent.output.json,
            Self::Answer(args) => args.sent.output.json,
            Self::Runs(args) => args.output.json,
            Self::Show(args) => args.output.json,
            Self::Results(args) => args.output.json,
            Self::Events(args) => args.output.json,
            Self::Journal(args) => match &args.command {
                JournalCommand::Verify(args) => args.output.json,
            },
            Self::Gc(args) => args.output.json,
            Self::Purge(args) => args.output.json,
            Self::Explain(args) => args.output.json,
            Self::Functions(output) => output.json,
            Self::Steps(args) => args.output.json,
            Self::Tree(args) => match &args.command {
                Some(TreeCommand::Diff(diff)) => diff.output.json,
                None => args.output.json,
            },
            Self::Graph(_) | Self::Schema => false,
        }
    }

    /// Where it says that runs are kept, and its configuration, which may say so, too.
    pub(crate) fn store(&mut self) -> Option<(&mut StoreArgs, Option<&std::path::Path>)> {
        match self {
            // Reads its configuration itself, beside signals: it may be a pipe into which nobody writes.
            Self::Run(args) => Some((&mut args.store, None)),
            Self::Resume(args) => Some((&mut args.store, args.engine.config.as_deref())),
            Self::Unpause(args) => Some((&mut args.store, args.engine.config.as_deref())),
            Self::Cancel(args) | Self::Pause(args) => {
                Some((&mut args.store, args.config.as_deref()))
            }
            Self::Priority(args) => Some((&mut args.of.store, args.of.config.as_deref())),
            Self::Retry(args) => Some((&mut args.store, args.engine.config.as_deref())),
            Self::Skip(args) => Some((&mut args.store, args.config.as_deref())),
            Self::Worker(args) => Some((&mut args.store, args.engine.config.as_deref())),
            Self::Nodes(args) => Some((&mut args.store, args.config.as_deref())),
            Self::Show(args) => Some((&mut args.store, args.config.as_deref())),
            Self::Gc(args) => Some((&mut args.store, args.config.as_deref())),
            Self::Purge(args) => Some((&mut args.store, args.config.as_deref())),
            Self::Journal(args) => match &mut args.command {
                JournalCommand::Verify(args) => Some((&mut args.store, args.config.as_deref())),
            },
            Self::Signal(args) => Some((&mut args.sent.store, args.sent.config.as_deref())),
            Self::Answer(args) => Some((&mut args.sent.store, args.sent.config.as_deref())),
            Self::Runs(args) => Some((&mut args.store, args.config.as_deref())),
            Self::Results(args) => Some((&mut args.store, args.config.as_deref())),
            Self::Events(args) => Some((&mut args.store, args.config.as_deref())),
            Self::Explain(args) => Some((&mut args.store, args.config.as_deref())),
            Self::Graph(args) => Some((&mut args.store, args.config.as_deref())),
            Self::Check(_) | Self::Functions(_) | Self::Steps(_) | Self::Tree(_) | Self::Schema => {
                None
            }
        }
    }
}

/// What shapes the output.
#[derive(Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// Machine-readable: one JSON value per line on stdout
    #[arg(long)]
    pub(crate) json: bool,
    /// Colours: auto is on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Colour::Auto)]
    pub(crate) color: Colour,
}

/// What a process that runs something needs.
#[derive(Debug, clap::Args)]
pub(crate) struct EngineArgs {
    /// Configuration (TOML): [providers.anthropic] base_url, model, api_key_env, max_output;
    /// [store] url; [pipeline] environment; [limits]; [engine]; [monitor];
    /// [retention];
    /// [prices.MODEL] input, output, cache_read, cache_write
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Prints the supervision tree at the end
    #[arg(long)]
    pub(crate) tree: bool,
    /// In that tree, placeholders for what differs from one start to the next
    #[arg(long, requires = "tree")]
    pub(crate) stable: bool,
    /// Prints every prompt on stderr before it is sent, part by part
    #[arg(long)]
    pub(crate) show_prompts: bool,
    /// No progress, no results: only problems and what was asked for
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Workflow files, and inputs as KEY=VALUE: values are JSON scalars where they are, else text;
    /// `@FILE` reads a file. A file with `=` in its name is given as ./NAME
    #[arg(value_name = "FILE|KEY=VALUE", required = true)]
    pub(crate) targets: Vec<std::ffi::OsString>,
    /// One input, as KEY=VALUE
    #[arg(long = "input", value_name = "KEY=VALUE")]
    pub(crate) inputs: Vec<String>,
    /// Who answers: mock (nothing leaves the machine) or live
    #[arg(long, value_name = "MODE", env = "PERENNIAL_PROVIDER_MODE", default_value = "live")]
    pub(crate) provider_mode: ProviderMode,
    /// Scripted replies for --provider-mode mock (YAML or JSON)
    #[arg(long, value_name = "FILE")]
    pub(crate) mocks: Option<PathBuf>,
    /// The run's id, of a single file; starting twice with one id is one run
    #[arg(long, value_name = "ID")]
    pub(crate) run_id: Option<String>,
    /// What comes first of runs that wait: urgent, high, normal, low, or a number from -100 to 100; a run that was
    /// started before with this id keeps its own [default: normal]
    #[arg(long, value_name = "PRIORITY", allow_negative_numbers = true)]
    pub(crate) priority: Option<Priority>,
    /// Records the runs and ends: a worker on the same store takes them (see `perennial worker`)
    #[arg(long, conflicts_with_all = ["tree", "show_prompts"])]
    pub(crate) detach: bool,
    /// Starts anew, also where the document would have its unfinished run resumed
    #[arg(long)]
    pub(crate) fresh: bool,
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    #[command(flatten)]
    pub(crate) directories: DirectoryArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How a document is read.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ReadingArgs {
    /// One leniency, stronger than the document's, as OPTION=VALUE; may be repeated
    #[arg(long, value_name = "OPTION=VALUE")]
    lenient: Vec<String>,
    /// The strictest value of every leniency, whatever the document says
    #[arg(long)]
    strict: bool,
    /// Warnings and notes prevent a start, too
    #[arg(long)]
    pub(crate) deny_warnings: bool,
}

/// Where a run works on files. The environment (PERENNIAL_WORKSPACE_DIR and the like) is weaker than the document,
/// so it is no default of these.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Directories")]
pub(crate) struct DirectoryArgs {
    /// Where steps work on files [env: PERENNIAL_WORKSPACE_DIR, default: workspace]
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace_dir: Option<PathBuf>,
    /// Where steps leave files [env: PERENNIAL_OUTPUT_DIR, default: outputs]
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,
    /// Where exports go [env: PERENNIAL_CHECKPOINT_DIR, default: checkpoints]
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoint_dir: Option<PathBuf>,
    /// Where children get fresh workspaces [env: PERENNIAL_NESTED_WORKSPACE_ROOT, default: nested_workspaces]
    #[arg(long, value_name = "DIR")]
    pub(crate) nested_workspace_root: Option<PathBuf>,
    /// Where relative paths start [env: PERENNIAL_PROJECT_ROOT, default: the working directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) project_root: Option<PathBuf>,
    /// A further place that steps may read and write
    #[arg(long = "allow-path", value_name = "PATH")]
    pub(crate) allowed: Vec<PathBuf>,
    /// Agrees that a document with `safety.restrict_file_access: false` reads and writes all files
    #[arg(long)]
    pub(crate) allow_unrestricted_files: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Workflow files
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Configuration (TOML), of which [pipeline] and [limits] count here
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The form of the report; json is the same as --json
    #[arg(long, value_enum, value_name = "FORM", default_value_t = ReportForm::Text)]
    pub(crate) format: ReportForm,
    #[command(flatten)]
    pub(crate) view: CheckView,
    /// Shows every note; without it, notes that say the same are one line
    #[arg(long)]
    pub(crate) verbose: bool,
    /// Says what a run of this older text would keep of its steps
    #[arg(long, value_name = "OLD")]
    pub(crate) compat: Option<PathBuf>,
    /// With --compat: says which unfinished runs of this store could take the new text
    #[arg(long, value_name = "URL", requires = "compat", value_parser = store_value())]
    pub(crate) store: Option<Store>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// The form of a report of diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ReportForm {
    Text,
    Json,
}

/// What is shown of valid files.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct CheckView {
    /// Shows the definition as it is hashed and run: files put together, defaults applied
    #[arg(long)]
    pub(crate) resolved: bool,
    /// Shows what a run is given, and the variables of the environment that it reads
    #[arg(long)]
    pub(crate) inputs: bool,
    /// Shows the jobs of a run: order, attempts, deadlines
    #[arg(long)]
    pub(crate) plan: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    /// The run: its id, or a beginning of it, of 4 characters or more, that no other run has
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) run: Option<String>,
    /// All runs that were interrupted; those that failed or were cancelled are named one by one
    #[arg(long, conflicts_with_all = ["file", "from", "rerun_writes"])]
    pub(crate) all: bool,
    /// Goes on by this corrected document: steps that it leaves as they were keep their results
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Runs this step and all behind it again, calls included; no result that `cache` has kept is taken for them
    #[arg(long, value_name = "STEP")]
    pub(crate) from: Option<String>,
    /// Lets steps run again that had completed and wrote something
    #[arg(long)]
    pub(crate) rerun_writes: bool,
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UnpauseArgs {
    /// The run: its id, or a beginning of it, of 4 characters or more, that no other run has
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    /// The run: its id, or a beginning of it, of 4 characters or more, that no other run has
    pub(crate) run: String,
    /// Begins with this step, and makes all behind it again; without it, with what failed
    #[arg(long, value_name = "STEP")]
    pub(crate) step: Option<String>,
    /// Lets steps run again that had completed and wrote something
    #[arg(long)]
    pub(crate) rerun_writes: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SkipArgs {
    /// The run: its id, or a beginning of it, of 4 characters or more, that no other run has
    pub(crate) run: String,
    /// The step, as show names it
    pub(crate) step: String,
    /// Why; kept with the run
    #[arg(long, value_name = "TEXT", default_value = "somebody said so")]
    pub(crate) why: String,
    /// Configuration whose [store] url names the store
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunsArgs {
    /// At most this many
    #[arg(long, value_name = "COUNT", default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Configuration whose [store] url names the store
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The run: its id, or a beginning of it, of 4 characters or more, that no other run has
    pub(crate) run: String,
    /// Shows steps, attempts and calls as a tree with their times, a summary, findings and a grade
    #[arg(long)]
    pub(crate) trace: bool,
    /// Configuration whose [monitor] thresholds tell what is worth a warning
    #[arg(long, value_name = "FILE", conflicts_with = "trace")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ResultsArgs {
    /// The run: its id, or a beginning of it, of 4 characters or more, that no other run has
    pub(crate) run: String,
    /// One step of it
    pub(crate) step: Option<String>,
    /// Configuration whose [store] url names the store
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct EventsArgs {
    /// The run: its id, or a beginning of it, of 4 characters or more, that no other run has
    pub(crate) run: String,
    /// The first sequence number
    #[arg(long, value_name = "SEQ", default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from: u64,
    /// Configuration whose [store] url names the store
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GraphArgs {
    /// The workflow file
    #[arg(required_unless_present = "run", conflicts_with = "run")]
    pub(crate) file: Option<PathBuf>,
    /// Draws the workflow of a run, with the states of its steps: its id, or a beginning of it, of 4 characters or
    /// more, that no other run has
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<String>,
    /// The language of the picture
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Picture::Mermaid)]
    pub(crate) format: Picture,
    /// Configuration whose [store] url names the store
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StepsArgs {
    /// One step type
    #[arg(value_name = "TYPE")]
    pub(crate) type_name: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// A language of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Picture {
    Mermaid,
    Dot,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// A run: its id, or a beginning of it, of 4 characters or more, that no other run has; or, with STEP, a
    /// workflow file
    #[arg(value_name = "RUN|FILE")]
    pub(crate) what: std::ffi::OsString,
    /// A step of that file, or of that run
    pub(crate) step: Option<String>,
    /// Configuration whose [store] url names the store
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl ReadingArgs {
    /// What is stronger than the document.
    ///
    /// # Errors
    ///
    /// When an option does not exist or has no such value.
    pub(crate) fn leniency(&self) -> Result<Leniency, String> {
        let mut leniency = Leniency::as_written();
        if self.strict {
            leniency = leniency.strict();
        }
        for pair in &self.lenient {
            let (option, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("--lenient needs OPTION=VALUE, got: {pair}"))?;
            leniency = leniency.with(option, value).map_err(|error| error.to_string())?;
        }
        Ok(leniency)
    }
}

impl EngineArgs {
    /// How the tree at the end is shown.
    pub(crate) fn tree_shape(&self, output: &OutputArgs) -> Shape {
        let format = if output.json { Format::Json } else { Format::Text };
        Shape { format, colour: output.color, stable: self.stable, total: None, columns: None }
    }
}
