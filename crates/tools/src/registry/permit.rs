//! The right to call a tool once.

use crate::{protection, tool::ToolName};

/// The right to call a tool once. Dropping it gives the slot back.
///
/// ```
/// # use perennial_supervision::{Clock, Options, Root, SupervisorSpec};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (child, tools) = perennial_tools::ToolRegistry::child_spec();
/// # let root = Root::start(SupervisorSpec::new("host").child(child), Clock::start(), Options::default()).await?;
/// use perennial_tools::{ToolName, tool_fn};
/// use serde_json::Value;
///
/// tools.register(tool_fn("t", "does it", async |args: Value| Ok(args)))?;
/// let permit = tools.acquire(&ToolName::new("t")).await?;
/// assert_eq!(permit.tool().as_str(), "t");
/// drop(permit);
/// # root.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "a dropped permit gives its slot back"]
#[derive(Debug)]
pub struct Permit {
    tool: ToolName,
    /// Given back with this.
    _slot: protection::Permit,
}

impl Permit {
    pub(super) fn new(tool: ToolName, slot: protection::Permit) -> Self {
        Self { tool, _slot: slot }
    }

    /// Which tool may be called.
    pub fn tool(&self) -> &ToolName {
        &self.tool
    }
}
