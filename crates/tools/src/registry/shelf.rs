//! Where the tools lie: outside of the actor, so that its end does not touch them.

use std::sync::Arc;

use dashmap::{DashMap, mapref::entry::Entry};
use perennial_core::nearest;

use super::AcquireError;
use crate::tool::{Tool, ToolName};

/// The tools, by name. Clones are the same shelf; what is read is owned, no guard leaves.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf(Arc<DashMap<ToolName, Tool>>);

/// A name that is taken.
///
/// ```
/// # use perennial_supervision::{Clock, Options, Root, SupervisorSpec};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (child, tools) = perennial_tools::ToolRegistry::child_spec();
/// # let root = Root::start(SupervisorSpec::new("host").child(child), Clock::start(), Options::default()).await?;
/// use perennial_tools::tool_fn;
/// use serde_json::Value;
///
/// let tool = || tool_fn("t", "does it", async |args: Value| Ok(args));
/// tools.register(tool())?;
/// let error = tools.register(tool()).unwrap_err();
/// assert!(error.to_string().contains("t"));
/// # root.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tool named `{0}` is registered already")]
pub struct AlreadyRegistered(pub ToolName);

impl Shelf {
    pub(super) fn add(&self, tool: Tool) -> Result<(), AlreadyRegistered> {
        match self.0.entry(tool.name().clone()) {
            Entry::Occupied(taken) => Err(AlreadyRegistered(taken.key().clone())),
            Entry::Vacant(free) => {
                free.insert(tool);
                Ok(())
            }
        }
    }

    pub(super) fn remove(&self, tool: &ToolName) -> bool {
        self.0.remove(tool).is_some()
    }

    pub(super) fn get(&self, tool: &ToolName) -> Option<Tool> {
        self.0.get(tool).map(|entry| entry.value().clone())
    }

    pub(super) fn list(&self) -> Vec<Tool> {
        let mut tools: Vec<Tool> = self.0.iter().map(|entry| entry.value().clone()).collect();
        tools.sort_by(|a, b| a.name().cmp(b.name()));
        tools
    }

    /// That there is no `tool`, and what its name is nearest to.
    pub(super) fn unknown(&self, tool: &ToolName) -> AcquireError {
        let names = self.names();
        let near = nearest(tool.as_str(), names.iter().map(ToolName::as_str)).map(ToolName::new);
        AcquireError::UnknownTool { tool: tool.clone(), near }
    }

    pub(super) fn names(&self) -> Vec<ToolName> {
        self.list().iter().map(|tool| tool.name().clone()).collect()
    }
}
