//! The command line of `tree`.

use std::path::PathBuf;

use clap::{
    Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use perennial::inspect::{
    Column, Filter, NodeKind, NodeState, PathPattern, Severity, kind_word, severity_word,
    state_word,
};

use super::OutputArgs;

const STATES: [NodeState; 8] = [
    NodeState::Declared,
    NodeState::Starting,
    NodeState::Running,
    NodeState::BackingOff,
    NodeState::Stopping,
    NodeState::Stopped,
    NodeState::Unkillable,
    NodeState::GaveUp,
];
const KINDS: [NodeKind; 6] = [
    NodeKind::Supervisor,
    NodeKind::DynamicSupervisor,
    NodeKind::TaskSupervisor,
    NodeKind::Worker,
    NodeKind::Task,
    NodeKind::Thread,
];
const COLUMNS: [Column; 12] = Column::ALL;
const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Warn, Severity::Error];

/// How a tree is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON document on one line
    Json,
    /// One line of JSON a node, between the envelope and the findings
    Ndjson,
    /// Graphviz
    Dot,
    /// For Markdown, at most some 200 nodes
    Mermaid,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct TreeArgs {
    #[command(subcommand)]
    pub(crate) command: Option<TreeCommand>,
    /// The tree as specified, before anything runs
    #[arg(long, conflicts_with = "dump")]
    pub(crate) declared: bool,
    /// A saved dump: the tree of `run --tree --json`; - reads stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) dump: Option<PathBuf>,
    /// An earlier dump of the same process, oldest first: shows what grows and what hangs
    #[arg(long, value_name = "FILE", requires = "dump")]
    pub(crate) earlier: Vec<PathBuf>,
    /// How to write it; --json is the same as json here
    #[arg(long, value_enum, default_value_t = Format::Text, conflicts_with = "json")]
    pub(crate) format: Format,
    /// Columns of the text beside the names; several are separated by commas
    #[arg(long, value_name = "COLUMN", value_delimiter = ',',
        value_parser = word(&COLUMNS, Column::word), conflicts_with = "json")]
    pub(crate) columns: Vec<Column>,
    /// Placeholders for what differs from one start to the next
    #[arg(long)]
    pub(crate) stable: bool,
    /// Exits with 11 if a shown finding is at least this bad
    #[arg(long, value_name = "SEVERITY",
        value_parser = word(&SEVERITIES, severity_word))]
    pub(crate) fail_on: Option<Severity>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    // Last: its heading is that of all that follows.
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

/// Which part of the tree is shown; what is above it is shown with it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArgs {
    /// Nodes that match, and what is below: /perennial/runs, '/perennial/*/writer', 'reader-*'
    #[arg(long = "match", value_name = "GLOB")]
    patterns: Vec<PathPattern>,
    /// Nodes in this state; several are separated by commas
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = word(&STATES, state_word))]
    state: Vec<NodeState>,
    /// Nodes of this kind; several are separated by commas
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = word(&KINDS, kind_word))]
    kind: Vec<NodeKind>,
    /// Nodes that are not well, or that a finding names
    #[arg(long)]
    only_problems: bool,
    /// At most so many levels below the root
    #[arg(long, value_name = "LEVELS")]
    depth: Option<usize>,
}

impl FilterArgs {
    pub(crate) fn filter(&self) -> Filter {
        Filter {
            patterns: self.patterns.clone(),
            states: self.state.clone(),
            kinds: self.kind.clone(),
            only_problems: self.only_problems,
            depth: self.depth,
        }
    }
}

/// Takes the word of one of `all`.
fn word<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    word_of: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(|value| word_of(*value))).map(move |word| {
        let meant = all.iter().find(|value| word_of(**value) == word);
        *meant.expect("the parser lets none but these words pass")
    })
}

#[derive(Debug, Subcommand)]
pub(crate) enum TreeCommand {
    /// Tells what changed between two saved dumps; exits with 10 if something did
    Diff(TreeDiffArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct TreeDiffArgs {
    /// The dump of before
    pub(crate) before: PathBuf,
    /// The dump of after; one of the two may be -, which reads stdin
    pub(crate) after: PathBuf,
    /// Compares numbers too that move while all is well
    #[arg(long)]
    pub(crate) counters: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl TreeArgs {
    pub(crate) fn format(&self) -> Format {
        if self.output.json { Format::Json } else { self.format }
    }
}
