//! What commands for several nodes on one store take.

use std::path::PathBuf;

use perennial::engine::Priority;

use super::{EngineArgs, OutputArgs, StoreArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// What this node is called; runs and attempts tell by it who works on them
    #[arg(long, value_name = "NAME", env = "PERENNIAL_NODE", default_value = "worker",
        value_parser = node_name)]
    pub(crate) node: String,
    /// How long this node is taken for alive without a sign; others wait as long before they take over its
    /// work. Longer for a server that is slow at times; without it what the configuration says, else 10
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) lease: Option<u64>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct NodesArgs {
    /// At most this many: those that live come first
    #[arg(long, value_name = "COUNT", default_value_t = 20,
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

/// One run, to be told something.
#[derive(Debug, clap::Args)]
pub(crate) struct RunIdArgs {
    /// The run: its id, or a beginning of it, of 4 characters or more, that no other run has
    pub(crate) run: String,
    /// Configuration whose [store] url names the store
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// One run, and how soon it comes.
#[derive(Debug, clap::Args)]
pub(crate) struct PriorityArgs {
    #[command(flatten)]
    pub(crate) of: RunIdArgs,
    /// urgent, high, normal, low, or a number from -100 to 100
    #[arg(allow_negative_numbers = true)]
    pub(crate) priority: Priority,
}

/// Longest name of a node.
const NODE_NAME_MAX: usize = 128;

/// A name that can be read in a list.
fn node_name(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if length == 0 {
        return Err("a node needs a name".to_owned());
    }
    if length > NODE_NAME_MAX {
        return Err(format!(
            "it has {length} characters, and at most {NODE_NAME_MAX} can be read in a list"
        ));
    }
    match text.chars().find(|one| one.is_control() || one.is_whitespace()) {
        Some(found) => Err(format!("{found:?} cannot stand in the name of a node")),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_a_name_that_can_be_read() {
        for name in ["a", "rack-1", "db.internal", "ö", &"a".repeat(NODE_NAME_MAX)] {
            assert_eq!(node_name(name).as_deref(), Ok(name));
        }
        for name in ["", " ", "a b", "a\nb", "\u{7}", &"a".repeat(NODE_NAME_MAX + 1)] {
            assert!(node_name(name).is_err(), "{name:?}");
        }
    }
}
