//! Which tools exist, and whether each may be called now.
//!
//! # Why an actor
//!
//! Who asks for a tool gets one answer from one place, which is seen in the tree: what it is at, and who waits for
//! it. It never runs a tool: the caller does, while holding a [`Permit`] (TOOL-2). Nor does anybody wait in it: slots are
//! counted by [`protection::Permits`](crate::protection::Permits), as everywhere, and who waits for one does so in its
//! own task.
//!
//! # Supervision
//!
//! A permanent child; restarting it disturbs no other.
//!
//! # What a restart forgets
//!
//! Questions in its mailbox; who waits asks again by itself, inside its own deadline. Never the tools, nor what is out of
//! their slots: both lie on a shelf outside of the actor (TOOL-1).
//!
//! # Guarantees
//!
//! A slot is never leaked: a permit that is dropped, or never received, gives it back. At most
//! `calls_max` permits are out for one tool, also over restarts. Who waits is served in order.

mod actor;
mod permit;
mod shelf;

use std::time::Duration;

use perennial_core::{ExitReason, FailureClass, failure::Failure};
use perennial_supervision::{Address, CallError, ChildSpec, Clock, contain};
use serde_json::{Map, Value, json};

pub use self::{actor::ToolStatus, permit::Permit, shelf::AlreadyRegistered};
use self::{
    actor::{Patience, Turn},
    shelf::Shelf,
};
use crate::{
    protection::{PermitError, permits::caller},
    tool::{Tool, ToolError, ToolName},
};

/// The registry never works, so a late reply means it is in trouble.
const REPLY_WITHIN: Duration = Duration::from_secs(5);

/// Handle to the tool registry. Cheap to clone; outlives restarts.
///
/// ```
/// # use perennial_supervision::{Clock, Options, Root, SupervisorSpec};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (child, tools) = perennial_tools::ToolRegistry::child_spec();
/// # let root = Root::start(SupervisorSpec::new("host").child(child), Clock::start(), Options::default()).await?;
/// use perennial_tools::{ToolName, tool_fn};
/// use serde_json::{Value, json};
///
/// // A runtime has one: `runtime.tools()`.
/// tools.register(tool_fn("shout", "says it louder", async |args: Value| {
///     Ok(json!(args["text"].as_str().map(str::to_uppercase)))
/// }))?;
/// let loud = tools.call(&ToolName::new("shout"), json!({"text": "hello"})).await?;
/// assert_eq!(loud, json!("HELLO"));
/// # root.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ToolRegistry {
    address: Address<actor::Message>,
    shelf: Shelf,
}

/// Why no permit was granted.
///
/// ```
/// # use perennial_supervision::{Clock, Options, Root, SupervisorSpec};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (child, tools) = perennial_tools::ToolRegistry::child_spec();
/// # let root = Root::start(SupervisorSpec::new("host").child(child), Clock::start(), Options::default()).await?;
/// use perennial_tools::{AcquireError, ToolName};
///
/// let refused = tools.acquire(&ToolName::new("unknown")).await;
/// assert!(matches!(refused, Err(AcquireError::UnknownTool { .. })));
/// # root.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// No tool has this name.
    #[error("unknown tool `{tool}`{}", hint(near.as_ref()))]
    UnknownTool {
        /// The name that was asked for.
        tool: ToolName,
        /// The registered name nearest to it, when one is near enough.
        near: Option<ToolName>,
    },
    /// All its call slots are taken, and its queue is full or was not asked for.
    #[error("tool `{0}` is busy")]
    Busy(ToolName),
    /// The registry itself did not answer.
    #[error("tool registry did not answer: {0}")]
    Registry(#[from] CallError),
}

fn hint(near: Option<&ToolName>) -> String {
    near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default()
}

/// Why a call gave no result.
///
/// ```
/// # use perennial_supervision::{Clock, Options, Root, SupervisorSpec};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (child, tools) = perennial_tools::ToolRegistry::child_spec();
/// # let root = Root::start(SupervisorSpec::new("host").child(child), Clock::start(), Options::default()).await?;
/// use perennial_tools::{ToolCallError, ToolError, ToolName, tool_fn};
/// use serde_json::{Value, json};
///
/// tools.register(tool_fn("fail", "fails", async |_: Value| Err(ToolError::new("no line"))))?;
/// let error = tools.call(&ToolName::new("fail"), json!({})).await.unwrap_err();
/// assert!(matches!(error, ToolCallError::Failed { .. }));
/// assert_eq!(error.to_string(), "tool `fail` failed: no line");
/// # root.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ToolCallError {
    /// The tool was not called.
    #[error(transparent)]
    NotCalled(#[from] AcquireError),
    /// The tool was called and failed.
    #[error("tool `{tool}` failed: {error}")]
    Failed {
        /// The tool.
        tool: ToolName,
        /// What it said.
        error: ToolError,
    },
    /// The tool took too long and was abandoned; what it does outside may still happen.
    #[error("tool `{tool}` gave no result within {within:?}")]
    TooLate {
        /// The tool.
        tool: ToolName,
        /// How long it was given.
        within: Duration,
    },
    /// The tool panicked: a bug of it. Its slot is free again, and its next call is an ordinary one.
    #[error("Tool execution failed: tool `{tool}` ended with a {reason}")]
    Panicked {
        /// The tool.
        tool: ToolName,
        /// The message of its panic, and the place where the panic hook could see it; always
        /// [`ExitReason::Panic`].
        reason: ExitReason,
    },
}

impl From<ToolCallError> for Failure {
    fn from(error: ToolCallError) -> Self {
        let (class, code) = match &error {
            ToolCallError::NotCalled(_) | ToolCallError::Failed { .. } => {
                (FailureClass::Tool, "PL617")
            }
            ToolCallError::TooLate { .. } => (FailureClass::Timeout, "PL701"),
            // Never repeated blindly (INV-ER-2).
            ToolCallError::Panicked { .. } => (FailureClass::Panic, "PL617"),
        };
        Self::new(class, code, error.to_string())
    }
}

impl ToolRegistry {
    /// How to supervise a registry, and the handle to it. Tools are added by
    /// [`ToolRegistry::register`], before or after the start.
    ///
    /// ```
    /// use perennial_supervision::{Clock, Options, Root, SupervisorSpec};
    /// use perennial_tools::ToolRegistry;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (child, tools) = ToolRegistry::child_spec();
    /// let root = Root::start(SupervisorSpec::new("host").child(child), Clock::start(), Options::default()).await?;
    /// assert!(tools.status().await?.is_empty());
    /// root.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn child_spec() -> (ChildSpec, Self) {
        let shelf = Shelf::new(Clock::start());
        let (of_actor, of_dump) = (shelf.clone(), shelf.clone());
        let (spec, address) =
            ChildSpec::actor_of_kinds("tool_registry", actor::Message::kind, move || {
                (actor::Shell, of_actor.clone())
            });
        let spec = spec.detail(move || {
            let tools = of_dump.status();
            let names: Vec<_> = tools.iter().map(|line| &line.tool).collect();
            let calls: usize = tools.iter().map(|line| line.calls).sum();
            let waiting: usize = tools.iter().map(|line| line.waiting).sum();
            let limit = |line: &ToolStatus| (line.tool.to_string(), line.calls_max.into());
            let calls_max: Map<String, Value> = tools.iter().map(limit).collect();
            json!({"tools": names, "calls": calls, "waiting": waiting, "calls_max": calls_max})
        });
        (spec, Self { address, shelf })
    }

    /// Adds `tool`.
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
    /// assert!(tools.register(tool()).is_ok());
    /// assert!(tools.register(tool()).is_err()); // its name is taken
    /// # root.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When another tool has its name.
    pub fn register(&self, tool: Tool) -> Result<(), AlreadyRegistered> {
        self.shelf.add(tool)
    }

    /// Takes a tool away; whether there was one. Calls that run go on, calls that wait are told.
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
    /// assert!(tools.unregister(&ToolName::new("t")));
    /// assert!(!tools.unregister(&ToolName::new("t"))); // it is gone
    /// # root.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn unregister(&self, tool: &ToolName) -> bool {
        self.shelf.remove(tool)
    }

    /// The tool of this name.
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
    /// assert_eq!(tools.get(&ToolName::new("t")).unwrap().limit(), 4);
    /// # root.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(&self, tool: &ToolName) -> Option<Tool> {
        self.shelf.get(tool)
    }

    /// All tools, by name (TOOL-3).
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
    /// for name in ["b", "a"] {
    ///     tools.register(tool_fn(name, "does it", async |args: Value| Ok(args)))?;
    /// }
    /// let names: Vec<_> = tools.list().iter().map(|tool| tool.name().to_string()).collect();
    /// assert_eq!(names, ["a", "b"]);
    /// # root.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn list(&self) -> Vec<Tool> {
        self.shelf.list()
    }

    /// Asks for the right to call `tool` once, now.
    ///
    /// ```
    /// # use perennial_supervision::{Clock, Options, Root, SupervisorSpec};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (child, tools) = perennial_tools::ToolRegistry::child_spec();
    /// # let root = Root::start(SupervisorSpec::new("host").child(child), Clock::start(), Options::default()).await?;
    /// use perennial_tools::{AcquireError, ToolName, tool_fn};
    /// use serde_json::Value;
    ///
    /// tools.register(tool_fn("t", "does it", async |args: Value| Ok(args)).calls_max(1))?;
    /// let permit = tools.acquire(&ToolName::new("t")).await?;
    /// let second = tools.acquire(&ToolName::new("t")).await;
    /// assert!(matches!(second, Err(AcquireError::Busy(_))));
    /// drop(permit); // gives the slot back
    /// assert!(tools.acquire(&ToolName::new("t")).await.is_ok());
    /// # root.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such tool, all its slots are taken, or the registry does not answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future gives back whatever was granted.
    pub async fn acquire(&self, tool: &ToolName) -> Result<Permit, AcquireError> {
        match self.ask(tool, Patience::None, REPLY_WITHIN).await? {
            Turn::Now(slot) => Ok(Permit::new(tool.clone(), slot)),
            Turn::InLine(_) => Err(AcquireError::Busy(tool.clone())),
        }
    }

    /// Asks for the right to call `tool` once, and waits in line for it, at most for `within`.
    /// When the registry restarts meanwhile, asks again: a place in line is harmless to repeat.
    ///
    /// ```
    /// # use perennial_supervision::{Clock, Options, Root, SupervisorSpec};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (child, tools) = perennial_tools::ToolRegistry::child_spec();
    /// # let root = Root::start(SupervisorSpec::new("host").child(child), Clock::start(), Options::default()).await?;
    /// use perennial_tools::{ToolName, tool_fn};
    /// use serde_json::Value;
    /// use std::time::Duration;
    ///
    /// tools.register(tool_fn("t", "does it", async |args: Value| Ok(args)).calls_max(1))?;
    /// let permit = tools.acquire(&ToolName::new("t")).await?;
    /// // Nobody gives the only slot back in time.
    /// assert!(tools.acquire_within(&ToolName::new("t"), Duration::from_millis(5)).await.is_err());
    /// drop(permit);
    /// # root.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such tool, its queue is full, or no slot became free in time.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future gives back whatever was granted.
    pub async fn acquire_within(
        &self,
        tool: &ToolName,
        within: Duration,
    ) -> Result<Permit, AcquireError> {
        let clock = self.shelf.clock();
        let deadline = clock.now() + within;
        let asking = async {
            loop {
                match self.ask(tool, Patience::InLine, within).await {
                    Err(AcquireError::Registry(CallError::Exited(_))) => {
                        tokio::task::yield_now().await;
                    }
                    answer => return answer,
                }
            }
        };
        let slots = match tokio::time::timeout(within, asking).await {
            Ok(Ok(Turn::InLine(slots))) => slots,
            Ok(Ok(Turn::Now(slot))) => return Ok(Permit::new(tool.clone(), slot)),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(CallError::Timeout.into()),
        };
        let slot = match slots.acquire(1, &caller(), deadline).await {
            Ok(slot) => slot,
            Err(PermitError::DeadlinePassed { .. }) => return Err(CallError::Timeout.into()),
            Err(_) => return Err(AcquireError::Busy(tool.clone())),
        };
        // It may have been taken away meanwhile.
        if self.get(tool).is_none() {
            return Err(self.shelf.unknown(tool));
        }
        Ok(Permit::new(tool.clone(), slot))
    }

    async fn ask(
        &self,
        tool: &ToolName,
        patience: Patience,
        within: Duration,
    ) -> Result<Turn, AcquireError> {
        let (tool, owner) = (tool.clone(), caller());
        let request = |reply| actor::Message::Acquire { tool, patience, owner, reply };
        self.address.call(request, within).await?
    }

    /// Calls `tool` in the caller's task, holding a permit, inside the tool's own deadline. A panic of the tool
    /// is caught: it is an error, with its message and place.
    ///
    /// ```
    /// # use perennial_supervision::{Clock, Options, Root, SupervisorSpec};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (child, tools) = perennial_tools::ToolRegistry::child_spec();
    /// # let root = Root::start(SupervisorSpec::new("host").child(child), Clock::start(), Options::default()).await?;
    /// use perennial_tools::{ToolCallError, ToolName, tool_fn};
    /// use serde_json::{Value, json};
    ///
    /// tools.register(tool_fn("first", "gives the first", async |args: Value| {
    ///     Ok(args.as_array().expect("it is a list")[0].clone())
    /// }))?;
    /// let first = ToolName::new("first");
    /// assert_eq!(tools.call(&first, json!([1, 2])).await?, json!(1));
    /// let panicked = tools.call(&first, json!({})).await;
    /// assert!(matches!(panicked, Err(ToolCallError::Panicked { .. }))); // a bug of the tool
    /// assert_eq!(tools.call(&first, json!([3])).await?, json!(3));
    /// # root.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the tool cannot be called, fails, panics, or takes too long.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future drops the tool's future and gives the slot back.
    pub async fn call(&self, tool: &ToolName, arguments: Value) -> Result<Value, ToolCallError> {
        let unknown = || self.shelf.unknown(tool);
        let within = self.get(tool).ok_or_else(unknown)?.deadline();
        let call = async {
            let _permit = self.acquire_within(tool, within).await?;
            // What is called is what is registered now, not what was when the wait began.
            let current = self.get(tool).ok_or_else(unknown)?;
            // Its function is its code as much as the future that it gives.
            match contain(async move { current.run(arguments).await }).await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(error)) => Err(ToolCallError::Failed { tool: tool.clone(), error }),
                Err(reason) => Err(ToolCallError::Panicked { tool: tool.clone(), reason }),
            }
        };
        match tokio::time::timeout(within, call).await {
            Ok(result) => result,
            Err(_) => Err(ToolCallError::TooLate { tool: tool.clone(), within }),
        }
    }

    /// The status of every tool, by name.
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
    /// let status = &tools.status().await?[0];
    /// assert_eq!((status.calls, status.calls_max, status.waiting), (1, 4, 0));
    /// # drop(permit);
    /// # root.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the registry does not answer.
    pub async fn status(&self) -> Result<Vec<ToolStatus>, CallError> {
        self.address.call(|reply| actor::Message::Status { reply }, REPLY_WITHIN).await
    }
}

#[cfg(test)]
mod tests;
