//! How to start, restart and stop one child; one file per kind of child.

mod actor;
mod task;
mod thread;

pub(crate) use self::task::start_once as start_task;
use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use perennial_core::{ChildId, ChildType, ExitReason, Restart, Shutdown, tree::NodeKind};
use serde_json::Value;

use crate::{
    LifecycleEvent,
    address::Mailbox,
    context::Context,
    life::{Life, Pid},
    node::{Node, Supervises},
    panics,
    presence::Announce,
};

/// How long a worker's start may take unless its specification says otherwise. OTP waits for ever;
/// a supervisor that waits for a start obeys nobody, so there is a bound here (trap 15).
const START_WITHIN: Duration = Duration::from_secs(30);

type Starting = Pin<Box<dyn Future<Output = Result<Life, StartError>> + Send>>;

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
    pub(crate) start: Arc<dyn Fn(StartCx) -> Starting + Send + Sync>,
    /// Whom to tell whether it is there; absent for what has no address.
    pub(crate) presence: Option<Arc<dyn Announce>>,
    pub(crate) detail: Option<Arc<dyn Fn() -> Value + Send + Sync>>,
    pub(crate) supervises: Option<Supervises>,
    pub(crate) start_within: Option<Duration>,
    pub(crate) restart_delay: Option<Duration>,
    /// Set for dynamic children: siblings may share the id.
    pub(crate) child_ids_repeat: bool,
}

/// A child that did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("child `{child}` did not start: {reason}")]
pub struct StartError {
    /// The child; for a supervisor, the path below it to the child that failed, as `a/b`.
    pub child: String,
    /// Why.
    pub reason: ExitReason,
}

impl StartError {
    pub(crate) fn new(child: impl ToString, reason: ExitReason) -> Self {
        Self { child: child.to_string(), reason }
    }
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
            start: Arc::new(start),
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
        self.detail = Some(Arc::new(read));
        self
    }

    /// Starts an incarnation: bounded, and no panic of the start gets past here.
    pub(crate) async fn start(&self, cx: StartCx) -> Result<Life, StartError> {
        let start = self.start.clone();
        let node = cx.node.clone();
        let (context, incarnation) = (cx.context.clone(), node.begin_start());
        // Whoever calls it from here on, its own work included, waits for it to be up.
        node.coming();
        let starting = panics::guard(async move { start(cx).await });
        let result = match self.start_within {
            Some(within) => {
                tokio::time::timeout(within, starting).await.unwrap_or(Err(ExitReason::Timeout))
            }
            None => starting.await,
        };
        let result = match result {
            Ok(result) => result,
            Err(reason) => Err(StartError::new(&self.id, reason)),
        };
        match &result {
            Ok(_) => {
                node.started();
                context.tell(&node, LifecycleEvent::Started { incarnation });
            }
            Err(error) => {
                node.start_failed(&error.reason, context.clock().now());
                let reason = error.reason.clone();
                context.tell(&node, LifecycleEvent::StartFailed { reason });
            }
        }
        result
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

/// What a start gets from the supervisor.
#[derive(Clone)]
pub(crate) struct StartCx {
    pub(crate) context: Context,
    pub(crate) node: Arc<Node>,
    pub(crate) reaper: Reaper,
    /// Tells the supervisor of the end of an incarnation; must not wait.
    pub(crate) report: Arc<dyn Fn(Pid, ExitReason) + Send + Sync>,
}

impl StartCx {
    /// From here on the incarnation exists: it is in the tree, the reaper has it, and `end` is
    /// awaited by a driver that announces the result.
    ///
    /// No await may stand between the birth of what `life` controls and this call.
    pub(crate) fn drive(
        &self,
        life: &Life,
        presence: Option<Arc<dyn Announce>>,
        mailbox: Option<Arc<Mailbox>>,
        end: impl Future<Output = ExitReason> + Send + 'static,
    ) {
        let (cx, life) = (self.clone(), life.clone());
        self.node.attach(life.clone(), mailbox, self.context.clock().now());
        self.reaper.add(life.clone());
        spawn(async move {
            let reason = end.await;
            cx.finish(life, presence, reason);
        });
    }

    /// Whoever waits for the end may open again what the incarnation held: everything of it is
    /// dropped before the end is announced.
    fn finish(self, life: Life, presence: Option<Arc<dyn Announce>>, reason: ExitReason) {
        let now = self.context.clock().now();
        // One that was given up as unkillable has been replaced in the tree and at its address.
        if let Some(incarnation) = self.node.ended(life.pid, &reason, now) {
            if let Some(presence) = &presence {
                presence.coming();
            }
            let event = LifecycleEvent::Exited { incarnation, reason: reason.clone() };
            self.context.tell(&self.node, event);
        }
        self.reaper.remove(life.pid);
        if self.node.is_root() {
            // Nobody brings a root back.
            self.node.gone();
        }
        let (Life { pid, ended, control }, report) = (life, self.report.clone());
        drop((self, presence, control));
        ended.announce(&reason);
        report(pid, reason);
    }
}

/// The one place that hands a future to tokio: drivers, which end with what they drive.
#[expect(clippy::disallowed_methods, reason = "every supervised thing is driven from here")]
fn spawn(driver: impl Future<Output = ()> + Send + 'static) {
    // The driver announces its own end; nobody joins it.
    drop(tokio::spawn(driver));
}

/// Everything below a supervisor that is alive, for the case that the supervisor itself is not.
#[derive(Clone, Default)]
pub(crate) struct Reaper(Arc<Mutex<HashMap<Pid, Life>>>);

impl Reaper {
    fn add(&self, life: Life) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(life.pid, life);
    }

    pub(crate) fn remove(&self, pid: Pid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }

    /// Kills what is left and awaits it, all under one deadline (trap 7).
    pub(crate) async fn reap(&self, context: &Context) {
        let left: Vec<Life> = {
            let mut lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lives.drain().map(|(_, life)| life).collect()
        };
        for life in &left {
            life.control.kill();
        }
        let all = async {
            for life in &left {
                life.ended.wait().await;
            }
        };
        if tokio::time::timeout(context.kill_deadline(), all).await.is_err() {
            let alive = left.iter().filter(|life| life.ended.reason().is_none()).count();
            tracing::error!(alive, "children did not end with their supervisor");
        }
    }
}
