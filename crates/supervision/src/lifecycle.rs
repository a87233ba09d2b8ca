use std::{fmt, sync::Arc};

use perennial_core::{
    ChildId, ChildType, ExitReason, Restart, Shutdown, Uptime, application::ApplicationName,
};
use tokio::sync::broadcast;

use crate::{ApplicationStartError, CrashReport, ProcessRef, process::parent};

/// Events kept for a subscriber that is behind; older ones are counted as missed.
pub(crate) const LIFECYCLE_KEPT: usize = 4096;

/// Something that happened to a node of the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Lifecycle {
    /// When.
    pub at: Uptime,
    /// Path of the node: its supervisor's path and its own name.
    pub path: String,
    /// The incarnation that it is about, where one is: of a report by a supervisor, the supervisor's.
    pub process: Option<ProcessRef>,
    /// What.
    pub event: LifecycleEvent,
}

impl Lifecycle {
    /// Path of the supervisor of the node; none for the root.
    pub fn supervisor(&self) -> Option<&str> {
        parent(&self.path)
    }

    /// Name of the node below its supervisor.
    pub fn name(&self) -> &str {
        &self.path[parent(&self.path).map_or(0, str::len) + 1..]
    }
}

/// What happened. Where OTP writes a report of a context, the variant names it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LifecycleEvent {
    /// An incarnation started: OTP's `progress`.
    Started {
        /// Its number, from 1.
        incarnation: u64,
        /// Whether it was asked for with `start_child` or `restart_child`; such starts are traced
        /// one level lower (SUP-229).
        requested: bool,
    },
    /// An incarnation ended.
    Exited {
        /// Its number.
        incarnation: u64,
        /// Why.
        reason: ExitReason,
    },
    /// A start failed, whoever asked for it.
    StartFailed {
        /// Why.
        reason: ExitReason,
    },
    /// A child of this supervisor ended by itself (SUP-224, 225): OTP's `child_terminated`.
    ChildTerminated {
        /// Why.
        reason: ExitReason,
        /// Which.
        offender: Box<Offender>,
    },
    /// An automatic start of a child of this supervisor failed (SUP-226): OTP's `start_error`.
    StartError {
        /// Why.
        reason: ExitReason,
        /// Which.
        offender: Box<Offender>,
    },
    /// The stop of a child of this supervisor did not go as asked: OTP's
    /// `shutdown_error`.
    ShutdownError {
        /// What was seen instead.
        reason: ExitReason,
        /// Which.
        offender: Box<Offender>,
    },
    /// As [`ShutdownError`](Self::ShutdownError), for so many instances of a template that were
    /// stopped together and failed for the same reason (SUP-228).
    ShutdownErrors {
        /// What was seen instead.
        reason: ExitReason,
        /// What they are, as one of them was declared; no process.
        offender: Box<Offender>,
        /// How many.
        count: usize,
    },
    /// So many messages were dropped with the mailbox of an incarnation that ended, or did not start: told
    /// before the next one starts (SUP-074). Who called with one of them is told of the end.
    Undelivered {
        /// How many.
        count: u64,
    },
    /// It did not end after it was killed; nobody waits for it any more.
    Unkillable,
    /// A server ended abnormally and tells about itself; its exit follows (GS-046).
    Crashed(Box<CrashReport>),
    /// It used up the restart budget of its own, and is not restarted any more.
    BudgetSpent,
    /// The top supervisor of an application ended by itself, and its callbacks have run (APP-028).
    ApplicationExited {
        /// Which.
        application: ApplicationName,
        /// What it was started as.
        restart: Restart,
        /// Of its top supervisor.
        reason: ExitReason,
    },
    /// An application did not start (APP-009).
    ApplicationStartFailed(Arc<ApplicationStartError>),
    /// A callback failed whose failure changes nothing (APP-025).
    ApplicationFault {
        /// Which; the system's own name for a callback of the system.
        application: ApplicationName,
        /// `prep_stop`, `stop` or `on_shutdown`.
        callback: &'static str,
        /// Why: its error, its panic, or [`Timeout`](ExitReason::Timeout).
        reason: ExitReason,
    },
    /// A supervisor reached its restart intensity (SUP-227): OTP's `shutdown` with
    /// `reached_max_restart_intensity`.
    GaveUp {
        /// The child whose restart was one too many.
        offender: Box<Offender>,
    },
}

/// The child that a supervisor's report is about (SUP-224).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offender {
    /// Its id.
    pub id: ChildId,
    /// Its incarnation, where one ran.
    pub process: Option<ProcessRef>,
    /// Its specification.
    pub restart: Restart,
    /// Its specification.
    pub shutdown: Shutdown,
    /// Its specification.
    pub significant: bool,
    /// Its specification.
    pub child_type: ChildType,
}

impl fmt::Display for Offender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some(process) => write!(f, "{process}"),
            None => write!(f, "{}", self.id),
        }
    }
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

    /// The next event if it is there already; `None` also when the tree is gone.
    pub fn try_next(&mut self) -> Option<Lifecycle> {
        loop {
            match self.receiver.try_recv() {
                Ok(event) => return Some(event),
                Err(broadcast::error::TryRecvError::Lagged(missed)) => self.missed += missed,
                Err(
                    broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed,
                ) => return None,
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
