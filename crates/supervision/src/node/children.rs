//! The nodes below one node.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashMap, HashSet},
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::{Node, picture::PastLife};
use crate::light::Litter;

/// Invariant: `by_order` and `by_name` hold the same nodes, and so does `listed` where it is there.
#[derive(Default)]
pub(super) struct Children {
    by_order: BTreeMap<u64, Arc<Node>>,
    by_name: HashSet<Named>,
    /// In start order; made by the first reader after a change, so that readers of a family that
    /// does not change share one list and hold the lock for a moment only.
    listed: Option<Arc<[Arc<Node>]>>,
    /// How children of the incarnation before ended, by name: those of the specification that have not
    /// started again yet.
    pasts: HashMap<Box<str>, Past>,
    /// Children that have no nodes: light servers.
    pub(super) light: Option<Arc<dyn Litter>>,
}

/// What is shown of a child beyond the life of its supervisor.
pub(super) struct Past {
    pub(super) last: Box<PastLife>,
    pub(super) restarts: u64,
}

impl Children {
    pub(super) fn insert(&mut self, node: Arc<Node>) {
        self.listed = None;
        self.by_order.insert(node.order(), node.clone());
        self.by_name.insert(Named(node));
    }

    /// What was removed goes to the caller, who drops it outside the lock.
    pub(super) fn remove(&mut self, order: u64) -> Removed {
        let listed = self.listed.take();
        let node = self.by_order.remove(&order);
        let named = node.as_ref().and_then(|node| self.by_name.take(node.name()));
        (node, named, listed)
    }

    pub(super) fn remember(&mut self, name: &str, past: Past) {
        self.pasts.insert(name.into(), past);
    }

    pub(super) fn recall(&mut self, name: &str) -> Option<Past> {
        self.pasts.remove(name)
    }

    pub(super) fn find(&self, name: &str) -> Option<&Arc<Node>> {
        self.by_name.get(name).map(|named| &named.0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.by_order.values()
    }

    pub(super) fn list(&mut self) -> Arc<[Arc<Node>]> {
        self.listed.get_or_insert_with(|| self.by_order.values().cloned().collect()).clone()
    }
}

type Removed = (Option<Arc<Node>>, Option<Named>, Option<Arc<[Arc<Node>]>>);

/// A node that is found by its name.
pub(super) struct Named(Arc<Node>);

impl Borrow<str> for Named {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for Named {}
