//! Where the tools lie: outside of the actor, so that its end does not touch them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dashmap::{DashMap, mapref::entry::Entry};
use perennial_core::nearest;
use perennial_supervision::Clock;

use super::{AcquireError, ToolStatus};
use crate::{
    protection::Permits,
    tool::{Tool, ToolName},
};

/// Who may wait for one tool (TOOL-9).
const QUEUE_MAX: usize = 256;

/// The tools, by name, and what is out of their slots. Clones are the same shelf; what is read is owned, no guard
/// leaves.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    tools: Arc<DashMap<ToolName, Tool>>,
    /// Of each tool, and of those that were taken away while they were called.
    slots: Arc<Mutex<BTreeMap<ToolName, Permits>>>,
    clock: Clock,
}

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
    pub(super) fn new(clock: Clock) -> Self {
        Self { tools: Arc::default(), slots: Arc::default(), clock }
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    pub(super) fn add(&self, tool: Tool) -> Result<(), AlreadyRegistered> {
        match self.tools.entry(tool.name().clone()) {
            Entry::Occupied(taken) => Err(AlreadyRegistered(taken.key().clone())),
            Entry::Vacant(free) => {
                self.set_limit(&tool);
                free.insert(tool);
                Ok(())
            }
        }
    }

    /// As many slots as `tool` says. Calls that are under way still count when a tool of its name was there before.
    fn set_limit(&self, tool: &Tool) {
        let (name, limit) = (tool.name(), u64::from(tool.limit()));
        let mut slots = self.locked_slots();
        if let Some(known) = slots.get(name) {
            // A tool's limit is never none.
            let _ = known.configure(limit);
        } else if let Ok(new) = Permits::counting(name.as_str(), limit, self.clock) {
            slots.insert(name.clone(), new.waiting_max(QUEUE_MAX));
        }
    }

    pub(super) fn remove(&self, tool: &ToolName) -> bool {
        let removed = self.tools.remove(tool).is_some();
        let mut slots = self.locked_slots();
        slots.retain(|name, slots| self.tools.contains_key(name) || !slots.is_idle());
        removed
    }

    pub(super) fn get(&self, tool: &ToolName) -> Option<Tool> {
        self.tools.get(tool).map(|entry| entry.value().clone())
    }

    /// What is out of the slots of `tool`, if there is one.
    pub(super) fn slots(&self, tool: &ToolName) -> Option<Permits> {
        self.get(tool)?;
        self.locked_slots().get(tool).cloned()
    }

    pub(super) fn list(&self) -> Vec<Tool> {
        let mut tools: Vec<Tool> = self.tools.iter().map(|entry| entry.value().clone()).collect();
        tools.sort_by(|a, b| a.name().cmp(b.name()));
        tools
    }

    /// How each tool stands, by name.
    pub(super) fn status(&self) -> Vec<ToolStatus> {
        let line = |spec: Tool| {
            let status = self.slots(spec.name())?.status();
            let callers: Vec<String> =
                status.holders.into_iter().map(|holder| holder.owner).collect();
            let (tool, calls_max) = (spec.name().clone(), spec.limit());
            let (calls, waiting) = (callers.len(), status.waiting);
            Some(ToolStatus { tool, calls, calls_max, waiting, callers })
        };
        self.list().into_iter().filter_map(line).collect()
    }

    /// That there is no `tool`, and what its name is nearest to.
    pub(super) fn unknown(&self, tool: &ToolName) -> AcquireError {
        let tools = self.list();
        let names = tools.iter().map(|tool| tool.name().as_str());
        let near = nearest(tool.as_str(), names).map(ToolName::new);
        AcquireError::UnknownTool { tool: tool.clone(), near }
    }

    fn locked_slots(&self) -> MutexGuard<'_, BTreeMap<ToolName, Permits>> {
        // Nothing in it is half done when somebody panics elsewhere.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
