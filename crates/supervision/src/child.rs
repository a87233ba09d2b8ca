//! How to start, restart and stop one child; one file per kind of child.

mod actor;
mod failure;
mod reaper;
mod server;
mod start;
mod task;
mod thread;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use perennial_core::{ChildId, ChildType, Restart, Shutdown, tree::NodeKind};
use serde_json::Value;

pub use self::failure::{StartError, StartFault};
pub use self::start::{Extra, Ignore, pass_to_starter};
pub(crate) use self::{
    reaper::Reaper,
    start::{Outcome, StartCx, started},
    task::{exit_of, start_once as start_task},
};
use crate::{
    node::Supervises,
    panics::{call_quietly, guard_blocking},
    presence::Announce,
};

/// How long a worker's start may take unless its specification says otherwise. OTP waits for ever;
/// a supervisor that waits for a start obeys nobody, so there is a bound here (trap 15).
const START_WITHIN: Duration = Duration::from_secs(30);

type Starting = Pin<Box<dyn Future<Output = Result<Outcome, StartFault>> + Send>>;

/// How to start, restart and stop one child. Cheap to clone.
///
/// | option | default |
/// |---|---|
/// | [`restart`](Self::restart) | permanent |
/// | [`shutdown`](Self::shutdown) | 5 s for workers, infinity for supervisors |
/// | [`start_within`](Self::start_within) | 30 s for workers, none for supervisors |
/// | [`restart_delay`](Self::restart_delay) | none |
///
/// ```
/// use perennial_supervision::{ChildSpec, ractor::{Actor, ActorProcessingErr, ActorRef}};
///
/// struct Counter;
/// impl Actor for Counter {
///     type Msg = u32;
///     type State = u32;
///     type Arguments = u32;
///     async fn pre_start(&self, _: ActorRef<u32>, first: u32) -> Result<u32, ActorProcessingErr> {
///         Ok(first)
///     }
/// }
/// let (spec, address) = ChildSpec::actor("counter", || (Counter, 0));
/// # drop((spec, address));
/// ```
#[derive(Clone)]
pub struct ChildSpec {
    pub(crate) id: ChildId,
    pub(crate) restart: Restart,
    pub(crate) shutdown: Shutdown,
    pub(crate) child_type: ChildType,
    pub(crate) kind: NodeKind,
    pub(crate) type_name: Option<String>,
    start: Arc<Starter>,
    /// Whom to tell whether it is there; absent for what has no address.
    pub(crate) presence: Option<Arc<dyn Announce>>,
    detail: Option<Arc<Detail>>,
    pub(crate) supervises: Option<Supervises>,
    pub(crate) start_within: Option<Duration>,
    pub(crate) restart_delay: Option<Duration>,
    /// Set for dynamic children: siblings may share the id.
    pub(crate) child_ids_repeat: bool,
}

impl ChildSpec {
    pub(crate) fn worker(
        id: ChildId,
        kind: NodeKind,
        start: impl Fn(StartCx) -> Starting + Send + Sync + 'static,
    ) -> Self {
        Self {
            id,
            restart: Restart::Permanent,
            shutdown: Shutdown::WORKER_DEFAULT,
            child_type: ChildType::Worker,
            kind,
            type_name: None,
            start: Arc::new(Starter(Box::new(start))),
            presence: None,
            detail: None,
            supervises: None,
            start_within: Some(START_WITHIN),
            restart_delay: None,
            child_ids_repeat: false,
        }
    }

    /// Its id.
    pub fn id(&self) -> &ChildId {
        &self.id
    }

    /// Sets when the child is restarted.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Sets how the child is stopped.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Sets how long a start may take; one that takes longer fails with [`ExitReason::Timeout`].
    #[must_use]
    pub fn start_within(mut self, within: Duration) -> Self {
        self.start_within = Some(within);
        self
    }

    /// Waits this long before each restart. `terminate_child`, `delete_child` and a shutdown
    /// cancel the wait.
    #[must_use]
    pub fn restart_delay(mut self, delay: Duration) -> Self {
        self.restart_delay = Some(delay);
        self
    }

    /// What the tree dump shows of the component: `read` returns what it last published, and must
    /// neither block nor ask the child.
    #[must_use]
    pub fn detail(mut self, read: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        self.detail = Some(Arc::new(Detail(Box::new(read))));
        self
    }

    /// Whether `other` is a clone of this one, and so the same child.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.start, &other.start)
    }

    /// Nothing will come of this specification, nor of those declared below it.
    pub(crate) fn gone(&self) {
        if let Some(presence) = &self.presence {
            presence.gone();
        }
        let below = self.supervises.as_ref().map_or(&[][..], |declared| &declared.children);
        below.iter().for_each(Self::gone);
    }

    /// What the component published; a reader that panics spoils only its own line of the dump.
    pub(crate) fn read_detail(&self) -> Value {
        let Some(detail) = &self.detail else { return Value::Null };
        guard_blocking(|| (detail.0)())
            .unwrap_or_else(|panic| Value::String(format!("the detail cannot be read: {panic}")))
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("restart", &self.restart)
            .field("shutdown", &self.shutdown)
            .finish_non_exhaustive()
    }
}

/// The host's way to start a child. What it captured may panic in its drop; whoever happens to hold
/// it last, a supervisor as a rule, does not fall with it.
struct Starter(Box<dyn Fn(StartCx) -> Starting + Send + Sync>);

impl Drop for Starter {
    fn drop(&mut self) {
        let start = std::mem::replace(&mut self.0, Box::new(|_| Box::pin(std::future::pending())));
        call_quietly("the drop of a specification", move || drop(start));
    }
}

/// As [`Starter`], for the detail.
struct Detail(Box<dyn Fn() -> Value + Send + Sync>);

impl Drop for Detail {
    fn drop(&mut self) {
        let read = std::mem::replace(&mut self.0, Box::new(|| Value::Null));
        call_quietly("the drop of a specification", move || drop(read));
    }
}
