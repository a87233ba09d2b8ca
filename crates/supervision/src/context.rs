//! What all nodes of one tree share. Two trees share nothing.

mod members;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::broadcast;

pub(crate) use self::members::Members;
use crate::{
    Clock, Lifecycle, LifecycleEvent, LifecycleSource, Names, ProcessRef,
    life::{Life, Pid},
    lifecycle::LIFECYCLE_KEPT,
    node::Node,
    panics::guard_blocking,
};

/// Settings of a whole tree.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// use perennial_supervision::Options;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let options = Options { kill_deadline: Duration::from_secs(1), ..Options::default() };
/// assert!(options.note_panic_locations);
/// let root = Root::start(SupervisorSpec::new("app"), Clock::start(), options).await?;
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a killed child may take to end before it is reported unkillable and no longer
    /// waited for.
    pub kill_deadline: Duration,
    /// Whether to chain a panic hook in that notes where panics happen. A hook that the host sets
    /// later replaces it, and panics have no place then: set yours before the first start.
    pub note_panic_locations: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { kill_deadline: Duration::from_secs(5), note_panic_locations: true }
    }
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Context(Arc<Shared>);

/// As [`Context`], keeping nothing.
pub(crate) struct Distant(Weak<Shared>);

impl Distant {
    fn upgrade(&self) -> Option<Arc<Shared>> {
        self.0.upgrade()
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    clock: Clock,
    options: Options,
    pids: AtomicU64,
    lifecycle: broadcast::Sender<Lifecycle>,
    names: Names,
    /// Those that were given up and have not ended since.
    unkillable: Mutex<BTreeMap<Pid, ProcessRef>>,
    /// What belongs to applications beside their trees.
    members: Members,
}

impl Context {
    pub(crate) fn new(clock: Clock, options: Options) -> Self {
        let lifecycle = broadcast::Sender::new(LIFECYCLE_KEPT);
        let (pids, unkillable) = (AtomicU64::new(0), Mutex::default());
        let (names, members) = (Names::default(), Members::default());
        Self(Arc::new(Shared { clock, options, pids, lifecycle, names, unkillable, members }))
    }

    pub(crate) fn clock(&self) -> Clock {
        self.0.clock
    }

    pub(crate) fn kill_deadline(&self) -> Duration {
        self.0.options.kill_deadline
    }

    pub(crate) fn next_pid(&self) -> Pid {
        Pid(self.0.pids.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn names(&self) -> &Names {
        &self.0.names
    }

    pub(crate) fn members(&self) -> &Members {
        &self.0.members
    }

    fn downgrade(&self) -> Distant {
        Distant(Arc::downgrade(&self.0))
    }

    pub(crate) fn lifecycle(&self) -> LifecycleSource {
        LifecycleSource(self.0.lifecycle.clone())
    }

    /// `life` did not end when it was killed.
    pub(crate) fn unkillable(&self, life: &Life, node: &Node) {
        self.list_of_unkillable().insert(life.pid(), life.process.clone());
        self.tell(node, Some(&life.process), LifecycleEvent::Unkillable);
    }

    /// As [`unkillable`](Self::unkillable), of what has no node.
    pub(crate) fn unkillable_at(&self, process: ProcessRef) {
        self.list_of_unkillable().insert(process.pid(), process.clone());
        self.tell_at(process.path(), Some(&process), LifecycleEvent::Unkillable);
    }

    /// Paths of those that were given up and have not ended since, oldest first.
    pub(crate) fn still_unkillable(&self) -> Vec<String> {
        self.list_of_unkillable().values().map(|it| it.path().to_owned()).collect()
    }

    /// Those that did end meanwhile are taken off.
    fn list_of_unkillable(&self) -> MutexGuard<'_, BTreeMap<Pid, ProcessRef>> {
        let mut list = self.0.unkillable.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|_, process| process.is_alive());
        list
    }

    /// Whether anybody would hear a warning; if not, it need not be made.
    pub(crate) fn is_heard(&self) -> bool {
        self.hears(tracing::Level::WARN)
    }

    /// Whether anybody would hear an event that is traced at `level`, or above.
    pub(crate) fn hears(&self, level: tracing::Level) -> bool {
        let traced = || match level {
            tracing::Level::ERROR => tracing::enabled!(tracing::Level::ERROR),
            tracing::Level::WARN => tracing::enabled!(tracing::Level::WARN),
            tracing::Level::INFO => tracing::enabled!(tracing::Level::INFO),
            tracing::Level::DEBUG => tracing::enabled!(tracing::Level::DEBUG),
            _ => tracing::enabled!(tracing::Level::TRACE),
        };
        self.0.lifecycle.receiver_count() > 0 || guard_blocking(traced).unwrap_or(true)
    }

    /// Publishes an event of `node`, as a trace event too.
    pub(crate) fn tell(&self, node: &Node, process: Option<&ProcessRef>, event: LifecycleEvent) {
        self.tell_at(node.path(), process, event);
    }

    /// As [`tell`](Self::tell), of what has no node.
    pub(crate) fn tell_at(&self, path: &str, process: Option<&ProcessRef>, event: LifecycleEvent) {
        // The host's subscriber may panic, or be gone with its thread: that hides no end from anybody,
        // and ends nobody.
        let _ = guard_blocking(|| trace(path, &event));
        if self.0.lifecycle.receiver_count() > 0 {
            let (at, path) = (self.0.clock.now(), path.to_owned());
            // The last listener may have left this moment.
            let _ = self.0.lifecycle.send(Lifecycle { at, path, process: process.cloned(), event });
        }
    }
}

/// As a trace event.
fn trace(path: &str, event: &LifecycleEvent) {
    match event {
        LifecycleEvent::Started { incarnation, requested: true } => {
            tracing::trace!(%path, incarnation, context = "progress", "child started");
        }
        LifecycleEvent::Started { incarnation, requested: false } => {
            tracing::debug!(%path, incarnation, context = "progress", "child started");
        }
        LifecycleEvent::Exited { incarnation, reason } if reason.is_abnormal() => {
            tracing::warn!(%path, incarnation, %reason, "child exited");
        }
        LifecycleEvent::Exited { incarnation, reason } => {
            tracing::debug!(%path, incarnation, %reason, "child exited");
        }
        LifecycleEvent::StartFailed { reason } => {
            tracing::warn!(%path, %reason, "child did not start");
        }
        LifecycleEvent::ChildTerminated { reason, offender } => {
            tracing::warn!(
                %path, %reason, %offender, context = "child_terminated",
                "a child ended by itself"
            );
        }
        LifecycleEvent::StartError { reason, offender } => {
            tracing::warn!(
                %path, %reason, %offender, context = "start_error",
                "a child did not start"
            );
        }
        LifecycleEvent::ShutdownError { reason, offender } => {
            tracing::warn!(
                %path, %reason, %offender, context = "shutdown_error",
                "a child did not stop as asked"
            );
        }
        LifecycleEvent::ShutdownErrors { reason, offender, count } => {
            tracing::warn!(
                %path, %reason, %offender, count, context = "shutdown_error",
                "children did not stop as asked"
            );
        }
        LifecycleEvent::Undelivered { count } => {
            tracing::info!(%path, count, "messages were dropped with the mailbox");
        }
        LifecycleEvent::Unkillable => tracing::error!(%path, "child did not end when killed"),
        LifecycleEvent::Crashed(report) => report.trace(),
        LifecycleEvent::ApplicationExited { application, restart, reason } => {
            tracing::warn!(%path, %application, %restart, %reason, "an application ended by itself");
        }
        LifecycleEvent::ApplicationStartFailed(error) => {
            tracing::warn!(%path, application = %error.application, %error, "an application did not start");
        }
        LifecycleEvent::ApplicationFault { application, callback, reason } => {
            tracing::error!(%path, %application, callback, %reason, "a callback of an application failed");
        }
        LifecycleEvent::BudgetSpent => tracing::error!(%path, "restart budget spent"),
        LifecycleEvent::GaveUp { offender } => {
            let reason = "reached_max_restart_intensity";
            tracing::error!(
                %path, reason, %offender, context = "shutdown",
                "too many restarts: the supervisor gives up"
            );
        }
    }
}
