//! The published picture of a tree. Drivers and supervisors write it; reading it asks nobody.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use perennial_core::{
    ExitReason, RestartIntensity, Strategy, Uptime,
    tree::{Intensity, LastExit, NodeKind, NodeState, Restarts, TreeNode},
};

use crate::{
    ChildSpec, Clock, LifecycleSource, LifecycleStream,
    address::Mailbox,
    context::Context,
    life::{Life, Pid},
};

/// The picture of one tree, as it is published. Cheap to clone; never blocks for long.
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
    pub fn nodes(&self) -> Vec<TreeNode> {
        let mut nodes = Vec::new();
        self.root.collect(None, self.context.clock().now(), &mut nodes);
        nodes
    }

    /// Subscribes to what happens from now on.
    pub fn lifecycle(&self) -> LifecycleStream {
        self.context.lifecycle().subscribe()
    }

    /// Where to subscribe, for those who must not keep the tree alive.
    pub fn lifecycle_source(&self) -> LifecycleSource {
        self.context.lifecycle()
    }

    /// The clock of this tree.
    pub fn clock(&self) -> Clock {
        self.context.clock()
    }

    /// The node at `path`, for example `/perennial/runs/01M`.
    #[cfg(feature = "testing")]
    pub(crate) fn find(&self, path: &str) -> Option<Arc<Node>> {
        let mut parts = path.strip_prefix('/')?.split('/');
        if parts.next()? != self.root.id {
            return None;
        }
        parts.try_fold(self.root.clone(), |node, part| node.child(part))
    }
}

/// One child of a supervisor, over all its incarnations.
pub(crate) struct Node {
    pub(crate) id: String,
    parent: Option<Weak<Node>>,
    order: u64,
    spec: ChildSpec,
    state: Mutex<Written>,
    children: Mutex<BTreeMap<u64, Arc<Node>>>,
}

/// What changes.
struct Written {
    state: NodeState,
    incarnation: u64,
    restarts: u64,
    started_at: Option<Uptime>,
    last_exit: Option<LastExit>,
    life: Option<Life>,
    mailbox: Option<Arc<Mailbox>>,
    /// Supervisors only: restarts in the window, published after each step.
    intensity: Option<RestartIntensity>,
}

impl Node {
    pub(crate) fn root(spec: ChildSpec) -> Arc<Self> {
        Self::new(spec, None, 0, None)
    }

    fn new(
        spec: ChildSpec,
        parent: Option<&Arc<Self>>,
        order: u64,
        id: Option<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: id.unwrap_or_else(|| spec.id.to_string()),
            parent: parent.map(Arc::downgrade),
            order,
            spec,
            state: Mutex::new(Written {
                state: NodeState::Declared,
                incarnation: 0,
                restarts: 0,
                started_at: None,
                last_exit: None,
                life: None,
                mailbox: None,
                intensity: None,
            }),
            children: Mutex::new(BTreeMap::new()),
        })
    }

    /// Adds a child behind the others. An id that a sibling has already gets its order appended,
    /// so that paths stay unique (dynamic children share ids, DYN-012).
    pub(crate) fn add_child(self: &Arc<Self>, spec: ChildSpec, order: u64) -> Arc<Self> {
        let mut children = self.children();
        let taken = spec.child_ids_repeat && children.values().any(|n| *n.id == *spec.id.as_str());
        let id = taken.then(|| format!("{}~{order}", spec.id));
        let node = Self::new(spec, Some(self), order, id);
        children.insert(order, node.clone());
        node
    }

    pub(crate) fn order(&self) -> u64 {
        self.order
    }

    pub(crate) fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    pub(crate) fn remove_child(&self, order: u64) {
        self.children().remove(&order);
    }

    /// Forgets all children: a new incarnation of a supervisor starts from its specification.
    pub(crate) fn clear_children(&self) {
        self.children().clear();
    }

    pub(crate) fn path(&self) -> String {
        match self.parent.as_ref().and_then(Weak::upgrade) {
            Some(parent) => format!("{}/{}", parent.path(), self.id),
            None => format!("/{}", self.id),
        }
    }

    pub(crate) fn child(&self, id: &str) -> Option<Arc<Self>> {
        self.children().values().find(|node| node.id == id).cloned()
    }

    /// One value per child, in start order.
    pub(crate) fn infos<T>(&self, read: impl Fn(&ChildSpec, &str, NodeState) -> T) -> Vec<T> {
        let children: Vec<Arc<Self>> = self.children().values().cloned().collect();
        children.iter().map(|node| read(&node.spec, &node.id, node.state())).collect()
    }

    pub(crate) fn enter(&self, state: NodeState) {
        self.written().state = state;
    }

    pub(crate) fn state(&self) -> NodeState {
        self.written().state
    }

    /// Number of the incarnation that is about to start.
    pub(crate) fn begin_start(&self) -> u64 {
        let mut written = self.written();
        written.state = NodeState::Starting;
        if written.incarnation > 0 {
            written.restarts += 1;
        }
        written.incarnation += 1;
        written.incarnation
    }

    pub(crate) fn attach(&self, life: Life, mailbox: Option<Arc<Mailbox>>, now: Uptime) {
        let mut written = self.written();
        written.life = Some(life);
        written.mailbox = mailbox;
        written.started_at = Some(now);
    }

    pub(crate) fn started(&self) -> u64 {
        let mut written = self.written();
        // It may have ended before its supervisor got here.
        if written.state == NodeState::Starting {
            written.state = NodeState::Running;
        }
        written.incarnation
    }

    /// Records the exit of `pid`, before anybody is told. Returns the incarnation's number, or
    /// nothing when another incarnation has taken its place.
    pub(crate) fn ended(&self, pid: Pid, reason: &ExitReason, now: Uptime) -> Option<u64> {
        let mut written = self.written();
        if written.life.as_ref().is_none_or(|life| life.pid != pid) {
            return None;
        }
        let lived = written.started_at.map(|then| now.since(then)).unwrap_or_default();
        written.last_exit = Some(last_exit(reason, lived, now));
        written.state = NodeState::Stopped;
        written.started_at = None;
        written.life = None;
        written.mailbox = None;
        Some(written.incarnation)
    }

    /// Given up: its end, should it come, is no longer this node's.
    pub(crate) fn give_up_on(&self, pid: Pid) {
        let mut written = self.written();
        if written.life.as_ref().is_some_and(|life| life.pid == pid) {
            written.life = None;
            written.mailbox = None;
            written.state = NodeState::Unkillable;
        }
    }

    pub(crate) fn start_failed(&self, reason: &ExitReason, now: Uptime) {
        let mut written = self.written();
        written.last_exit = Some(last_exit(reason, Duration::ZERO, now));
        written.state = NodeState::Stopped;
        written.life = None;
    }

    pub(crate) fn publish_intensity(&self, intensity: &RestartIntensity) {
        self.written().intensity = Some(intensity.clone());
    }

    pub(crate) fn life(&self) -> Option<Life> {
        self.written().life.clone()
    }

    /// This child will come back: those who call it wait.
    pub(crate) fn coming(&self) {
        if let Some(presence) = &self.spec.presence {
            presence.coming();
        }
    }

    /// Nothing will come back here, nor below.
    pub(crate) fn gone(&self) {
        if let Some(presence) = &self.spec.presence {
            presence.gone();
        }
        let children: Vec<Arc<Self>> = self.children().values().cloned().collect();
        children.iter().for_each(|child| child.gone());
    }

    fn collect(&self, parent: Option<&str>, now: Uptime, nodes: &mut Vec<TreeNode>) {
        let path = match parent {
            Some(parent) => format!("{parent}/{}", self.id),
            None => format!("/{}", self.id),
        };
        nodes.push(self.picture(&path, parent, now));
        let children: Vec<Arc<Self>> = self.children().values().cloned().collect();
        for child in children {
            child.collect(Some(&path), now, nodes);
        }
    }

    fn picture(&self, path: &str, parent: Option<&str>, now: Uptime) -> TreeNode {
        let in_window = |parent: &Arc<Self>| {
            parent.written().intensity.as_ref().map_or(0, |i| i.in_window(now))
        };
        let in_window = self.parent.as_ref().and_then(Weak::upgrade).as_ref().map_or(0, in_window);
        // Published by the component; asked before the lock, for it is the host's code.
        let detail = self.spec.detail.as_ref().map_or(serde_json::Value::Null, |read| read());
        let mut node = declared(&self.spec, path, parent, self.order);
        let written = self.written();
        if let (Some(shown), Some(intensity)) = (&mut node.intensity, &written.intensity) {
            shown.in_window = intensity.in_window(now);
        }
        let total = written.restarts;
        node.restarts = Restarts { total, in_window: if total == 0 { 0 } else { in_window } };
        node.state = written.state;
        node.incarnation = written.incarnation;
        node.last_exit.clone_from(&written.last_exit);
        node.uptime_ms = written.started_at.map(|then| millis(now.since(then)));
        node.mailbox_depth = written.mailbox.as_ref().map(|mailbox| mailbox.depth());
        node.detail = detail;
        node
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn children(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Self>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A child as specified.
pub(crate) fn declared(spec: &ChildSpec, path: &str, parent: Option<&str>, order: u64) -> TreeNode {
    let supervises = spec.supervises.as_ref();
    TreeNode {
        path: path.to_owned(),
        id: path.rsplit('/').next().unwrap_or_default().to_owned(),
        parent: parent.map(ToOwned::to_owned),
        order,
        kind: spec.kind,
        type_name: spec.type_name.clone(),
        restart: spec.restart,
        shutdown: spec.shutdown.to_string(),
        strategy: supervises.map(|declared| declared.strategy),
        intensity: supervises.map(|declared| Intensity {
            max: declared.intensity.max_restarts,
            window_ms: millis(declared.intensity.within),
            in_window: 0,
        }),
        state: NodeState::Declared,
        incarnation: 0,
        restarts: Restarts::default(),
        last_exit: None,
        uptime_ms: None,
        mailbox_depth: None,
        detail: serde_json::Value::Null,
    }
}

/// What a supervisor's specification says about itself.
#[derive(Clone)]
pub(crate) struct Supervises {
    pub(crate) strategy: Strategy,
    pub(crate) intensity: perennial_core::intensity::IntensityLimit,
    pub(crate) children: Vec<ChildSpec>,
}

/// `spec` and everything below it, as specified.
pub(crate) fn collect_declared(
    spec: &ChildSpec,
    parent: Option<&str>,
    order: u64,
    nodes: &mut Vec<TreeNode>,
) {
    let path = format!("{}/{}", parent.unwrap_or_default(), spec.id);
    nodes.push(declared(spec, &path, parent, order));
    if spec.kind == NodeKind::Supervisor
        && let Some(supervises) = &spec.supervises
    {
        for (child, order) in supervises.children.iter().zip(1..) {
            collect_declared(child, Some(&path), order, nodes);
        }
    }
}

fn last_exit(reason: &ExitReason, lived: Duration, now: Uptime) -> LastExit {
    let (message, location) = if let ExitReason::Panic { message, location } = reason {
        (Some(message.clone()), location.clone())
    } else if let ExitReason::Error(text) | ExitReason::ShutdownWith(text) = reason {
        (Some(text.clone()), None)
    } else {
        (None, None)
    };
    LastExit {
        reason: reason.name().to_owned(),
        message,
        location,
        lived_ms: millis(lived),
        at_ms: millis(now.elapsed()),
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("path", &self.path()).finish_non_exhaustive()
    }
}
