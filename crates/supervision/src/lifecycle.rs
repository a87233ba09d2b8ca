use std::fmt;

use perennial_core::{ExitReason, Uptime};
use tokio::sync::broadcast;

use crate::CrashReport;

/// Events kept for a subscriber that is behind; older ones are counted as missed.
pub(crate) const LIFECYCLE_KEPT: usize = 4096;

/// Something that happened to a node of the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Lifecycle {
    /// When.
    pub at: Uptime,
    /// Path of the node.
    pub path: String,
    /// What.
    pub event: LifecycleEvent,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LifecycleEvent {
    /// An incarnation started.
    Started {
        /// Its number, from 1.
        incarnation: u64,
    },
    /// An incarnation ended.
    Exited {
        /// Its number.
        incarnation: u64,
        /// Why.
        reason: ExitReason,
    },
    /// A start failed.
    StartFailed {
        /// Why.
        reason: ExitReason,
    },
    /// A stop did not go as asked (table 5.6).
    ShutdownError {
        /// What was seen instead.
        reason: ExitReason,
    },
    /// It did not end after it was killed; nobody waits for it any more.
    Unkillable,
    /// A server ended abnormally and tells about itself; its exit follows (GS-046).
    Crashed(Box<CrashReport>),
    /// A supervisor reached its restart intensity.
    GaveUp,
}

/// Where to subscribe to the events of one tree. Cheap to clone; unlike a
/// [`Tree`](crate::Tree) it keeps nothing of the tree alive, so children may hold it.
#[derive(Clone, Debug)]
pub struct LifecycleSource(pub(crate) broadcast::Sender<Lifecycle>);

impl LifecycleSource {
    /// Subscribes to what happens from now on.
    pub fn subscribe(&self) -> LifecycleStream {
        LifecycleStream::new(self.0.subscribe())
    }
}

/// A subscription to [`Lifecycle`] events.
pub struct LifecycleStream {
    receiver: broadcast::Receiver<Lifecycle>,
    missed: u64,
}

impl LifecycleStream {
    pub(crate) fn new(receiver: broadcast::Receiver<Lifecycle>) -> Self {
        Self { receiver, missed: 0 }
    }

    /// The next event; `None` when the tree is gone.
    ///
    /// # Cancel safety
    ///
    /// Safe: no event is lost.
    pub async fn next(&mut self) -> Option<Lifecycle> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => self.missed += missed,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// Events this subscriber was too slow for.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl fmt::Debug for LifecycleStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LifecycleStream").field("missed", &self.missed).finish_non_exhaustive()
    }
}
