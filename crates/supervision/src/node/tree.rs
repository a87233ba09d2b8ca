//! The tree in the hands of a user.

use std::{sync::Arc, time::Duration};

use perennial_core::tree::TreeNode;

use super::{
    Node,
    details::{DETAILS_WITHIN, fill},
    picture::Collected,
};
use crate::{Clock, LifecycleSource, LifecycleStream, Names, context::Context};

/// The picture of one tree, as it is published. Cheap to clone; never blocks for long.
///
/// ```
/// use perennial_supervision::Tree;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (table, _) = Agent::child_spec("table", || 0_u32);
/// # let app = SupervisorSpec::new("app").child(table);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// # let app = root.supervisor();
/// let tree: &Tree = root.tree();
/// let paths: Vec<String> = tree.nodes().into_iter().map(|node| node.path).collect();
/// assert_eq!(paths, ["/app", "/app/table"]);
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Tree {
    root: Arc<Node>,
    context: Context,
}

impl Tree {
    pub(crate) fn new(root: Arc<Node>, context: Context) -> Self {
        Self { root, context }
    }

    /// All nodes, a parent before its children, siblings in start order.
    ///
    /// Each node is consistent in itself; two nodes may be moments apart.
    ///
    /// Blocks for [`DETAILS_WITHIN`] at the most, whatever an actor is at: all but the details is read
    /// without asking, and of a detail that is not there in time it says
    /// `{"unavailable": "deadline"}`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// let table = root.tree().nodes().remove(1);
    /// assert_eq!((table.state, table.incarnation), (NodeState::Running, 1));
    /// # drop(app);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn nodes(&self) -> Vec<TreeNode> {
        self.nodes_within(DETAILS_WITHIN)
    }

    /// As [`nodes`](Self::nodes), and waits so long for the details.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// # drop(app);
    /// let nodes = root.tree().nodes_within(Duration::ZERO); // without any detail
    /// assert_eq!(nodes.len(), 2);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn nodes_within(&self, details: Duration) -> Vec<TreeNode> {
        let mut all = Collected::default();
        self.root.collect(None, 0, self.context.clock().now(), &mut all);
        let Collected { mut nodes, asked, waits } = all;
        waits.tell(&mut nodes);
        fill(&mut nodes, asked, details);
        nodes
    }

    /// Subscribes to what happens from now on.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut events = root.tree().lifecycle();
    /// counter.cast(Ask::Fail)?;
    /// let first = events.next().await.expect("the tree is there");
    /// assert!(matches!(first.event, LifecycleEvent::Crashed(_)));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn lifecycle(&self) -> LifecycleStream {
        self.context.lifecycle().subscribe()
    }

    /// Where to subscribe, for those who must not keep the tree alive.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// # drop(app);
    /// let source = root.tree().lifecycle_source();
    /// let mut events = source.subscribe();
    /// assert_eq!(events.try_next(), None);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn lifecycle_source(&self) -> LifecycleSource {
        self.context.lifecycle()
    }

    /// Paths of those that did not end when they were killed, and still have not.
    pub(crate) fn unkillable(&self) -> Vec<String> {
        self.context.still_unkillable()
    }

    /// Whether the root gave up.
    pub(crate) fn gave_up(&self) -> bool {
        self.root.has_given_up()
    }

    pub(crate) fn names(&self) -> &Names {
        self.context.names()
    }

    /// The clock of this tree.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// # drop(app);
    /// let clock = root.tree().clock(); // events and dumps are told in its time
    /// tokio::time::sleep(Duration::from_secs(2)).await; // paused clock
    /// assert_eq!(clock.now().elapsed(), Duration::from_secs(2));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn clock(&self) -> Clock {
        self.context.clock()
    }

    /// The node at `path`, for example `/perennial/runs/01M`.
    #[cfg(feature = "testing")]
    pub(crate) fn find(&self, path: &str) -> Option<Arc<Node>> {
        let mut parts = path.strip_prefix('/')?.split('/');
        if parts.next()? != self.root.name() {
            return None;
        }
        parts.try_fold(self.root.clone(), |node, part| node.child(part))
    }
}
