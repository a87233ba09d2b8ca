//! Who is told of registrations.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use perennial_core::ChildId;

use crate::{Address, ProcessRef};

/// What a listener is told (REG-042).
pub enum RegistryEvent<K, V> {
    /// A process has a key from now on.
    Registered {
        /// Where.
        registry: ChildId,
        /// Which.
        key: K,
        /// Who.
        process: ProcessRef,
        /// With what.
        value: Arc<V>,
    },
    /// A process has given a key back, with all its entries there that were meant. Ends of holders are
    /// not told (REG-043).
    Unregistered {
        /// Where.
        registry: ChildId,
        /// Which.
        key: K,
        /// Who.
        process: ProcessRef,
    },
}

impl<K: std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for RegistryEvent<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registered { registry, key, process, value } => f
                .debug_struct("Registered")
                .field("registry", registry)
                .field("key", key)
                .field("process", process)
                .field("value", value)
                .finish(),
            Self::Unregistered { registry, key, process } => f
                .debug_struct("Unregistered")
                .field("registry", registry)
                .field("key", key)
                .field("process", process)
                .finish(),
        }
    }
}

/// Answers whether it was sent.
type Tell<K, V> = Box<dyn Fn(RegistryEvent<K, V>) -> bool + Send + Sync>;

pub(super) struct Listener<K, V> {
    tell: Tell<K, V>,
    missed: AtomicU64,
}

impl<K: 'static, V: 'static> Listener<K, V> {
    pub(super) fn new<L: Send + 'static>(
        listener: Address<L>,
        message: impl Fn(RegistryEvent<K, V>) -> L + Send + Sync + 'static,
    ) -> Self {
        let tell = Box::new(move |event| listener.cast(message(event)).is_ok());
        Self { tell, missed: AtomicU64::new(0) }
    }

    pub(super) fn tell(&self, event: RegistryEvent<K, V>) {
        if !(self.tell)(event) {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events that it could not be told.
    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}
