//! The right to call a tool once.

use perennial_supervision::actor::ActorRef;

use super::{actor::Message, catalog::PermitId};
use crate::tool::ToolName;

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
    id: PermitId,
    /// Not an address: a permit means nothing to a later incarnation.
    grantor: ActorRef<Message>,
}

impl Permit {
    pub(super) fn new(tool: ToolName, id: PermitId, grantor: ActorRef<Message>) -> Self {
        Self { tool, id, grantor }
    }

    /// Which tool may be called.
    pub fn tool(&self) -> &ToolName {
        &self.tool
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let returned = Message::Returned { tool: self.tool.clone(), permit: self.id };
        // A grantor that is gone has forgotten this permit.
        let _ = self.grantor.cast(returned);
    }
}
