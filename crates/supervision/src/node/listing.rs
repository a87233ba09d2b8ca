//! What a supervisor's children look like from outside, as published: reading it asks nobody.
//!
//! OTP answers `which_children` from the supervisor's own mailbox, behind whatever keeps it busy.
//! Here drivers publish an exit before anybody is told of it, so what a reader sees contains every
//! exit that it could have observed (SUP-205), and a supervisor that is busy or hung delays nobody.
//! A child whose exit was published and not yet handled is shown as what its policy makes of it.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use perennial_core::{
    ChildId, ChildType,
    child::AfterExit,
    tree::{NodeKind, NodeState},
};

use super::Node;
use crate::ProcessRef;

/// Whether a child runs.
///
/// ```
/// use perennial_supervision::ChildStatus;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (table, _) = Agent::child_spec("table", || 0_u32);
/// # let app = SupervisorSpec::new("app").child(table);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// # let app = root.supervisor();
/// app.terminate_child("table").await?;
/// assert_eq!(app.which_child("table")?.status, ChildStatus::Stopped); // its specification stays
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildStatus {
    /// It runs.
    Running,
    /// Its supervisor will start it again.
    Restarting,
    /// It does not run and will not by itself.
    Stopped,
}

/// A line of [`Supervisor::which_children`](crate::Supervisor::which_children).
///
/// ```
/// use perennial_supervision::{ChildInfo, ChildType};
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (table, _) = Agent::child_spec("table", || 0_u32);
/// # let app = SupervisorSpec::new("app").child(table);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// # let app = root.supervisor();
/// let table: ChildInfo = app.which_child("table")?;
/// assert_eq!((table.name(), table.path()), ("table", "/app/table"));
/// assert_eq!(table.child_type, ChildType::Worker);
/// assert!(table.process.is_some_and(|process| process.is_alive()));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildInfo {
    /// Its id; none under a supervisor whose children are not told apart by ids (DYN-047, SUP-161).
    pub id: Option<ChildId>,
    /// Whether it runs.
    pub status: ChildStatus,
    /// The incarnation that runs.
    pub process: Option<ProcessRef>,
    /// Worker or supervisor.
    pub child_type: ChildType,
    /// Shared with the tree: a list of many is not to copy as many texts.
    pub(crate) path: Arc<str>,
    /// Where the name begins in the path.
    pub(crate) name_at: usize,
    pub(crate) below: Below,
}

impl ChildInfo {
    /// Its name in the tree, unique among its siblings.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// assert_eq!(app.which_children()?[0].name(), "table");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn name(&self) -> &str {
        &self.path[self.name_at..]
    }

    /// Its place in the tree, for example `/app/runs/7`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// assert_eq!(app.which_children()?[0].path(), "/app/table");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The children of this child, as published, in the order in which its own handle lists them;
    /// none below a worker, and none below what has gone meanwhile. So a tree can be walked from any of its supervisors (OBS-001).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (cache, _) = Agent::child_spec("cache", || 0_u32);
    /// let (tables, _) = Supervisor::child_spec(SupervisorSpec::new("tables").child(cache));
    /// # let app = SupervisorSpec::new("app").child(tables);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let tables = root.supervisor().which_child("tables")?;
    /// assert_eq!(tables.which_children()[0].path(), "/app/tables/cache");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn which_children(&self) -> Vec<Self> {
        let Some(node) = self.below.0.upgrade() else { return Vec::new() };
        let mut lines: Vec<Self> =
            node.child_nodes().iter().filter_map(|child| child.info(true)).collect();
        if node.spec().kind == NodeKind::Supervisor {
            lines.reverse();
        }
        if let Some(light) = node.light() {
            lines.extend(light.lines());
        }
        lines
    }
}

/// Where the children of a child are found.
#[derive(Clone)]
pub(crate) struct Below(pub(crate) Weak<Node>);

impl fmt::Debug for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl PartialEq for Below {
    fn eq(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl Eq for Below {}

/// Totals of a supervisor's children.
///
/// ```
/// use perennial_supervision::Counts;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (table, _) = Agent::child_spec("table", || 0_u32);
/// # let app = SupervisorSpec::new("app").child(table);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// # let app = root.supervisor();
/// app.terminate_child("table").await?;
/// assert_eq!(app.count_children()?, Counts { specs: 1, active: 0, supervisors: 0, workers: 1 });
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Specifications.
    pub specs: usize,
    /// Of those, running.
    pub active: usize,
    /// Of those, supervisors.
    pub supervisors: usize,
    /// Of those, workers.
    pub workers: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, child_type: ChildType, status: ChildStatus) {
        self.specs += 1;
        match child_type {
            ChildType::Supervisor => self.supervisors += 1,
            ChildType::Worker => self.workers += 1,
        }
        if status == ChildStatus::Running {
            self.active += 1;
        }
    }
}

/// What a child is doing, from its published state and, for one that ended by itself and is not
/// handled yet, what its policy makes of it. `None`: it is not listed any more.
pub(crate) fn status(state: NodeState, pending: Option<AfterExit>) -> Option<ChildStatus> {
    match (state, pending) {
        (_, Some(AfterExit::Restart)) => Some(ChildStatus::Restarting),
        (_, Some(AfterExit::Keep)) => Some(ChildStatus::Stopped),
        (_, Some(AfterExit::Drop)) => None,
        (NodeState::Running | NodeState::Stopping, None) => Some(ChildStatus::Running),
        (NodeState::Starting | NodeState::BackingOff, None) => Some(ChildStatus::Restarting),
        (
            NodeState::Declared | NodeState::Stopped | NodeState::Unkillable | NodeState::GaveUp,
            None,
        ) => Some(ChildStatus::Stopped),
    }
}
