//! What is sent to runs.

use std::path::PathBuf;

use super::{OutputArgs, StoreArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct SignalArgs {
    /// The run: its id, or a beginning of it, of 4 characters or more, that no other run has
    pub(crate) run: String,
    /// Which signal
    pub(crate) name: String,
    /// What comes with it; without it, null
    #[arg(value_name = "JSON")]
    pub(crate) payload: Option<String>,
    #[command(flatten)]
    pub(crate) sent: SentArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AnswerArgs {
    /// The run: its id, or a beginning of it, of 4 characters or more, that no other run has
    pub(crate) run: String,
    /// Name of the question; `explain RUN` tells it
    pub(crate) question: String,
    /// The answer
    #[arg(value_name = "JSON")]
    pub(crate) value: String,
    #[command(flatten)]
    pub(crate) sent: SentArgs,
}

/// What is recorded of something that is sent.
#[derive(Debug, clap::Args)]
pub(crate) struct SentArgs {
    /// Who sends it, for the record
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: Option<String>,
    /// Tells a repetition: the same request is sent once
    #[arg(long, value_name = "ID")]
    pub(crate) request: Option<String>,
    /// Configuration whose [store] url names the store
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
