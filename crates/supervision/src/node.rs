//! The published picture of a tree. Drivers and supervisors write it; reading it asks nobody.

mod children;
mod picture;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use perennial_core::{
    ChildType, ExitReason, Restart, RestartIntensity, Uptime,
    child::AfterExit,
    tree::{NodeState, TreeNode},
};

pub(crate) use self::picture::{Supervises, collect_declared};
use self::{children::Children, picture::PastLife};

use crate::{
    ChildInfo, ChildSpec, ChildStatus, Clock, LifecycleSource, LifecycleStream, Names, ProcessRef,
    context::Context,
    life::{Ended, Life, Pid},
    supervisor::{Below, status},
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
        self.root.collect(None, 0, self.context.clock().now(), &mut nodes);
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

    /// Paths of those that did not end when they were killed, and still have not.
    pub(crate) fn unkillable(&self) -> Vec<String> {
        self.context.still_unkillable()
    }

    pub(crate) fn names(&self) -> &Names {
        self.context.names()
    }

    /// The clock of this tree.
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

/// One child of a supervisor, over all its incarnations.
pub(crate) struct Node {
    path: Arc<str>,
    /// Where its name begins in the path: names are unique, other than the ids of specifications.
    name_at: usize,
    parent: Option<Weak<Node>>,
    order: u64,
    spec: Arc<ChildSpec>,
    state: Mutex<Written>,
    /// Most nodes are workers and never have any.
    children: Mutex<Option<Box<Children>>>,
}

/// What changes.
struct Written {
    /// When it is restarted: a reconfiguration may change it while it runs.
    restart: Restart,
    state: NodeState,
    /// What will become of it: its end is published, and its supervisor has not handled it yet.
    pending: Option<AfterExit>,
    /// Whether the present life, or else the last one, was acknowledged as started.
    started: bool,
    /// Its executor is gone: whatever ends now does not come back.
    abandoned: bool,
    /// Whether it is a supervisor that reached its restart intensity in the present life.
    gave_up: bool,
    incarnation: u64,
    restarts: u64,
    started_at: Option<Uptime>,
    /// How its last life ended.
    last: Option<Box<PastLife>>,
    life: Option<Life>,
    /// The end that is being told of: published, and not yet announced.
    ending: Option<Ended>,
    /// Supervisors only: restarts in the window, published after each step.
    intensity: Option<Box<RestartIntensity>>,
}

impl Node {
    pub(crate) fn root(spec: Arc<ChildSpec>) -> Arc<Self> {
        let path = format!("/{}", spec.id);
        Self::new(spec, None, 0, path.into())
    }

    fn new(
        spec: Arc<ChildSpec>,
        parent: Option<&Arc<Self>>,
        order: u64,
        path: Arc<str>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name_at: parent.map_or(0, |parent| parent.path.len()) + 1,
            path,
            parent: parent.map(Arc::downgrade),
            order,
            state: Mutex::new(Written {
                restart: spec.restart,
                state: NodeState::Declared,
                pending: None,
                started: false,
                abandoned: false,
                gave_up: false,
                incarnation: 0,
                restarts: 0,
                started_at: None,
                last: None,
                life: None,
                ending: None,
                intensity: None,
            }),
            spec,
            children: Mutex::default(),
        })
    }

    /// Adds a child behind the others. An id that a sibling has already gets its order appended,
    /// so that paths stay unique (dynamic children share ids, DYN-012).
    pub(crate) fn add_child(self: &Arc<Self>, spec: Arc<ChildSpec>, order: u64) -> Arc<Self> {
        let mut children = self.children();
        let children = children.get_or_insert_default();
        let mut path = format!("{}/{}", self.path, spec.id);
        while spec.child_ids_repeat && children.find(&path[self.path.len() + 1..]).is_some() {
            path = format!("{path}~{order}");
        }
        let node = Self::new(spec, Some(self), order, path.into());
        children.insert(node.clone());
        node
    }

    pub(crate) fn name(&self) -> &str {
        &self.path[self.name_at..]
    }

    /// Puts another specification in the place of `old`, which does not run: the next incarnation
    /// is the first of that, and counts on (SUP-235).
    pub(crate) fn replace_child(self: &Arc<Self>, old: &Self, spec: Arc<ChildSpec>) -> Arc<Self> {
        let same = spec.is_same(&old.spec);
        let node = Self::new(spec, Some(self), old.order, old.path.clone());
        {
            let (mut new, old) = (node.written(), old.written());
            new.state = old.state;
            new.incarnation = old.incarnation;
            new.restarts = old.restarts;
            new.last.clone_from(&old.last);
        }
        let replaced = self.children().as_mut().map(|children| {
            let removed = children.remove(old.order);
            children.insert(node.clone());
            removed
        });
        drop(replaced);
        if !same {
            old.gone();
        }
        node
    }

    /// From its next exit on it is restarted by this.
    pub(crate) fn restarts_by(&self, restart: Restart) {
        self.written().restart = restart;
    }

    pub(crate) fn spec(&self) -> &ChildSpec {
        &self.spec
    }

    pub(crate) fn shared_spec(&self) -> Arc<ChildSpec> {
        self.spec.clone()
    }

    pub(crate) fn order(&self) -> u64 {
        self.order
    }

    pub(crate) fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    pub(crate) fn remove_child(&self, order: u64) {
        let removed = self.children().as_mut().map(|children| children.remove(order));
        // Outside the lock: with it may go what the host's code captured.
        drop(removed);
    }

    /// Forgets all children: a new incarnation of a supervisor starts from its specification. What
    /// is not in that does not come back.
    pub(crate) fn forget_children(&self) {
        let declared = self.spec.supervises.as_ref().map_or(&[][..], |all| &all.children);
        let forgotten = std::mem::take(&mut *self.children());
        let declared: HashMap<&str, &ChildSpec> =
            declared.iter().map(|spec| (spec.id.as_str(), spec)).collect();
        for child in forgotten.iter().flat_map(|children| children.iter()) {
            let comes_back =
                declared.get(child.name()).is_some_and(|spec| spec.is_same(&child.spec));
            if comes_back {
                child.forget_children();
            } else {
                child.gone();
            }
        }
    }

    pub(crate) fn shared_path(&self) -> Arc<str> {
        self.path.clone()
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn child_type(&self) -> ChildType {
        self.spec.child_type
    }

    pub(crate) fn child(&self, id: &str) -> Option<Arc<Self>> {
        self.children().as_ref()?.find(id).cloned()
    }

    pub(crate) fn child_nodes(&self) -> Arc<[Arc<Self>]> {
        self.children().as_mut().map(|children| children.list()).unwrap_or_default()
    }

    /// What it is doing; nothing when it is not listed any more.
    pub(crate) fn status(&self) -> Option<ChildStatus> {
        let written = self.written();
        status(written.state, written.pending)
    }

    /// Its line in a list of children; `by_id` says whether ids tell them apart.
    pub(crate) fn info(self: &Arc<Self>, by_id: bool) -> Option<ChildInfo> {
        let written = self.written();
        let status = status(written.state, written.pending)?;
        let running = (status == ChildStatus::Running).then_some(written.life.as_ref()).flatten();
        Some(ChildInfo {
            id: by_id.then(|| self.spec.id.clone()),
            name: self.name().to_owned(),
            status,
            process: running.map(|life| life.process.clone()),
            child_type: self.spec.child_type,
            below: Below(Arc::downgrade(self)),
        })
    }

    /// Its supervisor will start it again: those who call it wait.
    pub(crate) fn backing_off(&self) {
        let mut written = self.written();
        written.state = NodeState::BackingOff;
        written.pending = None;
        drop(written);
        self.coming();
    }

    /// It used up its own restart budget.
    pub(crate) fn parked(&self) {
        let mut written = self.written();
        written.state = NodeState::GaveUp;
        written.pending = None;
    }

    /// The life `pid` was asked to stop, unless it has ended already.
    pub(crate) fn stopping(&self, pid: Pid) {
        let mut written = self.written();
        if written.life.as_ref().is_some_and(|life| life.pid() == pid) {
            written.state = NodeState::Stopping;
        }
    }

    /// Nobody will start it any more, unless by hand.
    pub(crate) fn stopped(&self) {
        let mut written = self.written();
        written.pending = None;
        if matches!(
            written.state,
            NodeState::Declared | NodeState::Starting | NodeState::BackingOff
        ) {
            written.state = NodeState::Stopped;
        }
    }

    /// Its supervisor ended: what had been starting or waiting below it does so no longer.
    pub(crate) fn children_stopped(&self) {
        self.child_nodes().iter().for_each(|child| child.stopped());
    }

    pub(crate) fn gave_up(&self) {
        self.written().gave_up = true;
    }

    #[cfg(feature = "testing")]
    pub(crate) fn state(&self) -> NodeState {
        self.written().state
    }

    /// Another incarnation is about to start.
    pub(crate) fn begin_start(&self) {
        let mut written = self.written();
        written.state = NodeState::Starting;
        written.pending = None;
        written.started = false;
        written.gave_up = false;
        if written.incarnation > 0 {
            written.restarts += 1;
        }
        written.incarnation += 1;
    }

    pub(crate) fn attach(&self, life: Life, now: Uptime) {
        let mut written = self.written();
        written.life = Some(life);
        written.started_at = Some(now);
    }

    /// The present incarnation runs; answers its number.
    pub(crate) fn started(&self) -> u64 {
        let mut written = self.written();
        written.started = true;
        written.state = NodeState::Running;
        written.incarnation
    }

    /// Records the exit of `pid`, before anybody is told. Returns the incarnation's number, or
    /// nothing when it was never started or nobody waits for it any more.
    pub(crate) fn ended(&self, pid: Pid, reason: &ExitReason, now: Uptime) -> Option<u64> {
        let mut written = self.written();
        if written.life.as_ref().is_none_or(|life| life.pid() != pid) {
            return None;
        }
        let lived = written.started_at.map(|then| now.since(then)).unwrap_or_default();
        written.past(reason, lived, now);
        if written.state == NodeState::Running {
            written.pending = Some(match written.restart.after(reason).then {
                // Where ids repeat nothing is kept of what does not run.
                AfterExit::Keep if self.spec.child_ids_repeat => AfterExit::Drop,
                then @ (AfterExit::Restart | AfterExit::Keep | AfterExit::Drop) => then,
            });
        }
        written.state = if written.gave_up { NodeState::GaveUp } else { NodeState::Stopped };
        let life = written.forget_life();
        written.ending = life.as_ref().map(|life| life.ended().clone());
        let incarnation = written.started.then_some(written.incarnation);
        let abandoned = written.abandoned;
        drop(written);
        drop(life);
        self.down(pid);
        if abandoned {
            self.spec.gone();
        }
        incarnation
    }

    /// Given up: its end, should it come, is no longer this node's. Answers whether it was there
    /// to be given up.
    pub(crate) fn give_up_on(&self, pid: Pid) -> bool {
        let mut written = self.written();
        if written.life.as_ref().is_none_or(|life| life.pid() != pid) {
            return false;
        }
        written.state = NodeState::Unkillable;
        let life = written.forget_life();
        drop(written);
        drop(life);
        self.down(pid);
        true
    }

    fn down(&self, pid: Pid) {
        if let Some(presence) = &self.spec.presence {
            presence.ended(pid);
        }
    }

    pub(crate) fn start_failed(&self, reason: &ExitReason, now: Uptime) {
        let mut written = self.written();
        written.past(reason, Duration::ZERO, now);
        if written.state != NodeState::Unkillable {
            written.state = NodeState::Stopped;
        }
    }

    /// Its init answered that it need not run.
    pub(crate) fn ignored(&self) {
        let mut written = self.written();
        written.state = NodeState::Stopped;
        drop(written);
        self.gone();
    }

    pub(crate) fn publish_intensity(&self, intensity: &RestartIntensity) {
        self.written().intensity = Some(Box::new(intensity.clone()));
    }

    pub(crate) fn count_restart(&self, now: Uptime) {
        if let Some(intensity) = &mut self.written().intensity {
            // Decided upon elsewhere; here it is shown.
            let _ = intensity.record(now);
        }
    }

    /// The end is announced.
    pub(crate) fn told(&self, ended: &Ended) {
        let mut written = self.written();
        if written.ending.as_ref().is_some_and(|ending| ending.is_same(ended)) {
            written.ending = None;
        }
    }

    /// Whatever of it is not over: what runs, and what is being told of.
    pub(crate) fn not_over(&self) -> (Option<Life>, Option<Ended>) {
        let written = self.written();
        (written.life.clone(), written.ending.clone())
    }

    pub(crate) fn life(&self) -> Option<Life> {
        self.written().life.clone()
    }

    /// The incarnation that runs.
    pub(crate) fn process(&self) -> Option<ProcessRef> {
        self.life().map(|life| life.process)
    }

    /// This child will come back: those who call it wait.
    pub(crate) fn coming(&self) {
        if let Some(presence) = &self.spec.presence {
            presence.coming();
        }
    }

    /// The executor of its supervisor, or its own, is gone.
    pub(crate) fn abandon(&self) {
        self.written().abandoned = true;
        self.spec.gone();
        self.child_nodes().iter().for_each(|child| child.abandon());
    }

    /// Nothing will come back here, nor below.
    pub(crate) fn gone(&self) {
        // Those declared below it may have no node: their supervisor did not get to them.
        self.spec.gone();
        self.child_nodes().iter().for_each(|child| child.gone());
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn children(&self) -> MutexGuard<'_, Option<Box<Children>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Written {
    fn past(&mut self, reason: &ExitReason, lived: Duration, ended: Uptime) {
        let life = PastLife { reason: reason.clone(), lived, ended };
        match &mut self.last {
            Some(last) => **last = life,
            None => self.last = Some(Box::new(life)),
        }
    }

    fn forget_life(&mut self) -> Option<Life> {
        self.started_at = None;
        self.life.take()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("path", &self.path).finish_non_exhaustive()
    }
}
