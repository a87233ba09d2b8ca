//! The published picture of a tree. Drivers and supervisors write it; reading it asks nobody.

mod children;
mod details;
mod edges;
mod listing;
mod lives;
mod picture;
mod tree;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, Weak},
};

use perennial_core::{
    ChildType, Restart, RestartIntensity, Uptime, child::AfterExit, tree::NodeState,
};

pub use self::details::DETAILS_WITHIN;
pub(crate) use self::details::Detail;
use self::{
    children::{Children, Past},
    listing::status,
};
pub(crate) use self::{
    listing::Below,
    picture::{PastLife, Supervises, collect_declared, last_exit, millis},
};
pub use self::{
    listing::{ChildInfo, ChildStatus, Counts},
    tree::Tree,
};

use crate::{
    ChildSpec, ProcessRef,
    life::{Ended, Life},
    light::Litter,
    sync::{Mutex, MutexGuard},
};

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
    /// Messages that were dropped with the mailboxes of lives that ended.
    undelivered: u64,
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
                undelivered: 0,
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
        if let Some(past) = children.recall(node.name()) {
            let mut written = node.written();
            written.last = Some(past.last);
            written.restarts = past.restarts;
        }
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
            new.undelivered = old.undelivered;
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
    /// is not in that does not come back. Of what does, how its last life ended is still shown: it may be why
    /// there is a new incarnation.
    pub(crate) fn forget_children(&self) {
        let declared = self.spec.supervises.as_ref().map_or(&[][..], |all| &all.children);
        let forgotten = std::mem::take(&mut *self.children());
        let declared: HashMap<&str, &ChildSpec> =
            declared.iter().map(|spec| (spec.id.as_str(), spec)).collect();
        for child in forgotten.iter().flat_map(|children| children.iter()) {
            let comes_back =
                declared.get(child.name()).is_some_and(|spec| spec.is_same(&child.spec));
            if comes_back {
                if let Some(past) = child.past() {
                    self.children().get_or_insert_default().remember(child.name(), past);
                }
                child.forget_children();
            } else {
                child.gone();
            }
        }
    }

    fn past(&self) -> Option<Past> {
        let written = self.written();
        let (last, restarts) = (written.last.clone()?, written.restarts);
        Some(Past { last, restarts })
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

    /// It has children that have no nodes.
    pub(crate) fn houses(&self, light: Arc<dyn Litter>) {
        self.children().get_or_insert_default().light = Some(light);
    }

    /// Its children that have no nodes.
    pub(crate) fn light(&self) -> Option<Arc<dyn Litter>> {
        self.children().as_ref()?.light.clone()
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
            path: self.path.clone(),
            name_at: self.name_at,
            status,
            process: running.map(|life| life.process.clone()),
            child_type: self.spec.child_type,
            below: Below(Arc::downgrade(self)),
        })
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

    fn written(&self) -> MutexGuard<'_, Written> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn children(&self) -> MutexGuard<'_, Option<Box<Children>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
