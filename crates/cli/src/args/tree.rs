//! The command line of `tree`.

use std::path::PathBuf;

use clap::ValueEnum;

use super::OutputArgs;

/// How a tree is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON document on one line
    Json,
    /// Graphviz
    Dot,
    /// For Markdown, at most some 200 nodes
    Mermaid,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TreeArgs {
    /// The tree as specified, before anything runs
    #[arg(long, conflicts_with = "dump")]
    pub(crate) declared: bool,
    /// A saved dump: the tree of `run --tree --json`; - reads stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) dump: Option<PathBuf>,
    /// How to write it; --json is the same as json here
    #[arg(long, value_enum, default_value_t = Format::Text, conflicts_with = "json")]
    pub(crate) format: Format,
    /// Placeholders for what differs from one start to the next
    #[arg(long)]
    pub(crate) stable: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl TreeArgs {
    pub(crate) fn format(&self) -> Format {
        if self.output.json { Format::Json } else { self.format }
    }
}
