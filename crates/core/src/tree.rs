//! The value of the supervision-tree dump, schema `perennial.tree/1`.
//!
//! Fields are added, never renamed; readers ignore what they do not know.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Overflow, Restart, Strategy};

/// The name and major version of the format.
pub const SCHEMA: &str = "perennial.tree/1";

/// A picture of a runtime's supervision tree: the value that every drawing of it is made from. As JSON it is the
/// published document of [`SCHEMA`].
///
/// ```
/// use perennial_core::tree::{NodeState, TreeSnapshot};
///
/// /// Paths of all that is not as it should be.
/// fn troubled(tree: &TreeSnapshot) -> Vec<&str> {
///     let bad = [NodeState::BackingOff, NodeState::Unkillable, NodeState::GaveUp];
///     let nodes = tree.nodes.iter().filter(|node| bad.contains(&node.state));
///     nodes.map(|node| node.path.as_str()).collect()
/// }
///
/// let saved = serde_json::json!({
///     "schema": "perennial.tree/1",
///     "runtime": {"name": "orders", "version": "0.1.0", "node": "local", "instance": "1"},
///     "nodes": [],
/// });
/// let tree: TreeSnapshot = serde_json::from_value(saved)?;
/// assert!(troubled(&tree).is_empty());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TreeSnapshot {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Which runtime.
    pub runtime: RuntimeInfo,
    /// When it was taken, RFC 3339; absent in a declared tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<String>,
    /// Milliseconds since the runtime started; absent in a declared tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    /// Which details were asked for and not told in time; absent in a declared tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completeness: Option<Completeness>,
    /// What taking it cost, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
    /// Whether this is the tree as specified and not as it runs.
    #[serde(default)]
    pub declared: bool,
    /// All nodes, a parent before its children, siblings in start order.
    pub nodes: Vec<TreeNode>,
    /// Diagnosed problems.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// Whether everybody told what was asked for. All but the details is read without asking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Completeness {
    /// Nodes of the dump.
    pub nodes: u64,
    /// Of those that publish a detail, the ones whose detail is here.
    pub answered: u64,
    /// Paths of the others.
    pub unresponsive: Vec<String>,
    /// How long the dump waits for all of them together, in milliseconds.
    pub deadline_ms: u64,
}

/// Which runtime a snapshot shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeInfo {
    /// Name given by the host.
    pub name: String,
    /// Version of Perennial.
    pub version: String,
    /// Node id on its store.
    pub node: String,
    /// Tells runtimes in one process, and process starts, apart.
    pub instance: String,
    /// The URL of its store, if the host named it; never with credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

/// One supervisor, worker or task.
///
/// ```
/// use perennial_core::tree::{NodeState, TreeNode};
///
/// # fn main() -> Result<(), serde_json::Error> {
/// // A line of a dump that was saved as JSON.
/// let node: TreeNode = serde_json::from_str(
///     r#"{"path": "/app/cache", "id": "cache", "parent": "/app", "order": 0, "kind": "worker",
///         "restart": "permanent", "shutdown": "5000ms", "state": "running", "incarnation": 2,
///         "restarts": {"total": 1, "in_window": 1}}"#,
/// )?;
/// assert_eq!((node.state, node.restarts.total), (NodeState::Running, 1));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TreeNode {
    /// Readable and unique in a snapshot; the same over restarts.
    pub path: String,
    /// Its last part.
    pub id: String,
    /// Path of its supervisor; absent for the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Place among its siblings, in start order.
    pub order: u64,
    /// What kind of thing it is.
    pub kind: NodeKind,
    /// Its Rust type, tool or server name.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_name: Option<String>,
    /// When it is restarted.
    pub restart: Restart,
    /// How it is stopped: `brutal_kill`, `infinity` or milliseconds as `5000ms`.
    pub shutdown: String,
    /// How its children restart; supervisors only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// When it gives up; supervisors only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intensity: Option<Intensity>,
    /// Where it is in its life.
    pub state: NodeState,
    /// Number of its present or last life; 0 before the first.
    pub incarnation: u64,
    /// Restarts of this child.
    pub restarts: Restarts,
    /// How its last life ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<LastExit>,
    /// Milliseconds since its present life started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    /// Messages waiting, where it has a mailbox that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox_depth: Option<u64>,
    /// How long the first of them waits, in milliseconds; an estimate, and absent where none waits or
    /// nobody noted when it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox_oldest_ms: Option<u64>,
    /// What its mailbox holds, and what became of messages that found it full; in the present life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<Mailbox>,
    /// Messages that were dropped with the mailboxes of lives that ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub undelivered: u64,
    /// The processes that it waits for now: it called them and has no answer. Those of other trees are not
    /// told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<WaitsFor>,
    /// Messages that were handled in the present life, and the one that is being handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled: Option<u64>,
    /// The callback in progress; absent while it waits for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Current>,
    /// Milliseconds since it was last without work; absent while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_ms: Option<u64>,
    /// What the component itself published.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The bound of a mailbox, and what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mailbox {
    /// Messages that may wait.
    pub capacity: u64,
    /// What becomes of one more.
    pub policy: Overflow,
    /// Messages that were refused, because it was full; their senders were told.
    #[serde(default)]
    pub rejected: u64,
    /// Messages that were dropped, because it was full; nobody was told.
    #[serde(default)]
    pub dropped: u64,
}

/// One wait of a process for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitsFor {
    /// Whom it called.
    pub path: String,
    /// How long ago, in milliseconds.
    pub ms: u64,
}

/// What a node is at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Current {
    /// The kind of the message that it handles, or the name of another callback; never its content.
    pub message: String,
    /// For how long.
    pub running_ms: u64,
}

/// What kind of thing a node is.
///
/// ```
/// use perennial_core::tree::NodeKind;
///
/// # fn main() -> Result<(), serde_json::Error> {
/// assert_eq!(serde_json::to_value(NodeKind::TaskSupervisor)?, "task_supervisor");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// Children declared before the start.
    Supervisor,
    /// Children started on demand, those of a template included.
    DynamicSupervisor,
    /// Tasks started on demand.
    TaskSupervisor,
    /// An actor.
    Worker,
    /// A future: a loop, or work that ends.
    Task,
    /// An operating-system thread.
    Thread,
}

/// Where a node is in its life.
///
/// ```
/// use perennial_core::tree::NodeState;
///
/// # fn main() -> Result<(), serde_json::Error> {
/// assert_eq!(serde_json::to_value(NodeState::BackingOff)?, "backing_off");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Specified, not started.
    Declared,
    /// Its start has not returned.
    Starting,
    /// It runs.
    Running,
    /// Its supervisor will start it again.
    BackingOff,
    /// It was asked to stop.
    Stopping,
    /// It ended and will not come back by itself.
    Stopped,
    /// It did not end when it was killed; nobody waits for it any more.
    Unkillable,
    /// A supervisor that reached its restart intensity, or a child that used up its own budget.
    GaveUp,
}

/// Restarts that are tolerated.
///
/// ```
/// use perennial_core::tree::Intensity;
///
/// let shown = Intensity { max: 3, window_ms: 5_000, in_window: 3 };
/// assert_eq!(shown.max, shown.in_window); // one restart more, and it gives up
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Intensity {
    /// At most this many.
    pub max: u32,
    /// In a window of this length.
    pub window_ms: u64,
    /// Inside the window now.
    pub in_window: u32,
}

/// How often a child was restarted.
///
/// ```
/// use perennial_core::tree::Restarts;
///
/// assert_eq!(Restarts::default(), Restarts { total: 0, in_window: 0 });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Restarts {
    /// Since it was first started.
    pub total: u64,
    /// Those of its supervisor's children together, inside their window now; 0 for a child that was
    /// never restarted.
    pub in_window: u32,
}

/// How a life ended.
///
/// ```
/// use perennial_core::tree::LastExit;
///
/// # fn main() -> Result<(), serde_json::Error> {
/// let exit: LastExit =
///     serde_json::from_str(r#"{"reason": "panic", "message": "a bug", "lived_ms": 40, "at_ms": 900}"#)?;
/// assert_eq!((exit.reason.as_str(), exit.message.as_deref()), ("panic", Some("a bug")));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastExit {
    /// The reason's name, for example `panic`.
    pub reason: String,
    /// Detail, for example the panic's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `file:line:column` of a panic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// How long that life was.
    pub lived_ms: u64,
    /// Milliseconds since the runtime started.
    pub at_ms: u64,
}

/// A diagnosed problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Stable id.
    pub id: String,
    /// What is wrong, in a few words.
    pub name: String,
    /// How bad it is.
    #[serde(default)]
    pub severity: Severity,
    /// Path of the node it is about.
    pub path: String,
    /// One line for people: what was seen, and why that is a problem.
    pub message: String,
    /// The numbers it was concluded from.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub evidence: serde_json::Map<String, serde_json::Value>,
    /// One line for people: what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// What to type after `perennial` to see more; a `tree` is told there which dump to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// How bad a finding is, from less to more.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Not well; nothing is lost yet. What an early dump does not say is this.
    #[default]
    Warn,
    /// Broken, or about to be.
    Error,
}
