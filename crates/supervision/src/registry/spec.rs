//! What a registry is made of.

use std::{fmt, marker::PhantomData};

use perennial_core::ChildId;

use super::{Duplicate, RegistryEvent, RegistryKey, Unique, listener::Listener, partition::Rule};
use crate::names::Name;

/// What a registry is made of: OTP's options, the mandatory ones as arguments (REG-002).
pub struct RegistrySpec<K, V, M> {
    pub(super) id: ChildId,
    pub(super) name: Option<Name>,
    pub(super) rule: Rule,
    pub(super) by: By,
    pub(super) partitions: usize,
    pub(super) listeners: Vec<Listener<K, V>>,
    mode: PhantomData<fn() -> M>,
}

/// What tells in which part an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Key,
    Process,
}

/// Why a specification is refused; nothing was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrySpecError {
    /// A registry needs a part at least.
    #[error("a registry has at least one partition")]
    NoPartitions,
}

impl<K: RegistryKey, V: Send + Sync + 'static> RegistrySpec<K, V, Unique> {
    /// A registry whose keys have one holder at a time.
    pub fn unique(id: impl Into<ChildId>) -> Self {
        Self::new(id.into(), Rule::Unique, By::Key)
    }
}

impl<K: RegistryKey, V: Send + Sync + 'static> RegistrySpec<K, V, Duplicate> {
    /// A registry whose keys may have many holders. With several partitions, all keys of one process
    /// are in one of them: [`partitioned_by_key`](Self::partitioned_by_key) is better where a key has
    /// few holders and is looked up often.
    pub fn duplicate(id: impl Into<ChildId>) -> Self {
        Self::new(id.into(), Rule::Duplicate, By::Process)
    }

    /// Keeps all holders of a key in one partition.
    #[must_use]
    pub fn partitioned_by_key(mut self) -> Self {
        self.by = By::Key;
        self
    }
}

impl<K: RegistryKey, V: Send + Sync + 'static, M> RegistrySpec<K, V, M> {
    fn new(id: ChildId, rule: Rule, by: By) -> Self {
        let (name, listeners, mode) = (None, Vec::new(), PhantomData);
        Self { id, name, rule, by, partitions: 1, listeners, mode }
    }

    /// Sets in how many parts it is: that many processes can register at a time. One by default.
    #[must_use]
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = partitions;
        self
    }

    /// Claims a name in the tree, at which [`Names::handle`](crate::Names::handle) finds it.
    #[must_use]
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Tells `listener` of every `register` and `unregister` (REG-042), and not of ends of holders:
    /// whoever wants to know of those monitors them (REG-043). A cast: what the listener's mailbox has
    /// no room for is lost, and counted in the registry's line of the tree dump.
    #[must_use]
    pub fn listener<L: Send + 'static>(
        mut self,
        listener: crate::Address<L>,
        message: impl Fn(RegistryEvent<K, V>) -> L + Send + Sync + 'static,
    ) -> Self {
        self.listeners.push(Listener::new(listener, message));
        self
    }
}

impl<K, V, M> fmt::Debug for RegistrySpec<K, V, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrySpec")
            .field("id", &self.id)
            .field("keys", &self.rule)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}
