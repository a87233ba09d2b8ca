//! Supervisors with declared children.
//!
//! Starts children in order, restarts them by policy and strategy, stops them in reverse order.
//! Every rule of OTP that this implements is named, by its id, where it is decided.

mod incarnation;
mod shell;
mod waiting;

use std::{sync::Arc, time::Duration};

use perennial_core::{
    ChildId, ChildType, Restart, Shutdown, Strategy,
    intensity::IntensityLimit,
    tree::{NodeKind, NodeState, TreeNode},
};
use tokio::sync::oneshot;

pub(crate) use self::{
    incarnation::{Acknowledge, Shell, SupervisorLife, SupervisorMail, begin},
    waiting::Waiting,
};
use crate::{
    ChildSpec, StartError,
    node::{Supervises, collect_declared},
    presence::{Announce, Presence, channel},
};

/// What a supervisor is made of.
///
/// ```
/// use perennial_core::Strategy;
/// use perennial_supervision::{ChildSpec, SupervisorSpec};
/// use std::time::Duration;
///
/// let beat = ChildSpec::task("beat", || async { std::future::pending::<Result<(), String>>().await });
/// let spec = SupervisorSpec::new("app")
///     .strategy(Strategy::RestForOne)
///     .intensity(3, Duration::from_secs(5))
///     .child(beat);
/// assert_eq!(spec.declared()[1].path, "/app/beat");
/// ```
#[derive(Clone, Debug)]
pub struct SupervisorSpec {
    pub(crate) id: ChildId,
    pub(crate) strategy: Strategy,
    pub(crate) intensity: IntensityLimit,
    pub(crate) children: Vec<ChildSpec>,
    restart: Restart,
}

impl SupervisorSpec {
    /// A permanent one-for-one supervisor without children that tolerates 3 restarts in 5 s.
    pub fn new(id: impl Into<ChildId>) -> Self {
        Self {
            id: id.into(),
            strategy: Strategy::OneForOne,
            intensity: IntensityLimit::default(),
            children: Vec::new(),
            restart: Restart::Permanent,
        }
    }

    /// Sets what happens to the siblings of a child that is restarted.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Gives up after more than `max_restarts` restarts within `within`.
    #[must_use]
    pub fn intensity(mut self, max_restarts: u32, within: Duration) -> Self {
        self.intensity = IntensityLimit { max_restarts, within };
        self
    }

    /// Adds a child behind the others.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// Sets when this supervisor itself is restarted, as a child.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// The tree as specified, before any start.
    pub fn declared(&self) -> Vec<TreeNode> {
        let (spec, _) = Supervisor::child_spec(self.clone());
        let mut nodes = Vec::new();
        collect_declared(&spec, None, 0, &mut nodes);
        nodes
    }
}

/// Handle to a supervisor. Cheap to clone; outlives its restarts.
///
/// Requests are served in the order they arrive, between the exits that it handles; as in OTP they
/// have no deadline of their own. A caller that gives up harms nobody: what it asked for is done.
#[derive(Clone, Debug)]
pub struct Supervisor {
    presence: Presence<SupervisorLife<Request>>,
}

/// Why a supervisor refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A child of this id runs.
    #[error("child `{0}` is already started")]
    AlreadyStarted(ChildId),
    /// A child of this id is specified and does not run.
    #[error("child `{0}` is already specified")]
    AlreadyPresent(ChildId),
    /// The child runs.
    #[error("child `{0}` is running")]
    Running(ChildId),
    /// The child is being restarted.
    #[error("child `{0}` is restarting")]
    Restarting(ChildId),
    /// There is no such child.
    #[error("no child `{0}`")]
    NotFound(ChildId),
    /// The child did not start.
    #[error(transparent)]
    StartFailed(#[from] StartError),
    /// As many children as allowed are there.
    #[error("no more than {0} children are allowed")]
    MaxChildren(usize),
    /// The supervisor does not run and will not.
    #[error("no such supervisor")]
    NoProc,
    /// The supervisor ended before it answered.
    #[error("the supervisor ended before it answered")]
    Ended,
    /// The request comes from the start of one of its own children and would wait for itself.
    #[error("a child that is being started cannot ask its own supervisor")]
    CallingSelf,
}

/// Whether a child runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildStatus {
    /// It runs.
    Running,
    /// Its supervisor will start it again.
    Restarting,
    /// It does not run and will not by itself.
    Stopped,
}

/// A line of [`Supervisor::which_children`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildInfo {
    /// Its id.
    pub id: String,
    /// Whether it runs.
    pub status: ChildStatus,
    /// Worker or supervisor.
    pub child_type: ChildType,
}

/// Totals of a supervisor's children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Specifications.
    pub specs: usize,
    /// Of those, running.
    pub active: usize,
    /// Of those, supervisors.
    pub supervisors: usize,
    /// Of those, workers.
    pub workers: usize,
}

/// What a supervisor can be asked, in OTP's words.
#[derive(Debug)]
#[expect(clippy::enum_variant_names, reason = "the names of OTP's requests")]
pub(crate) enum Request {
    StartChild { spec: Box<ChildSpec>, reply: Reply<()> },
    TerminateChild { id: ChildId, reply: Reply<()> },
    RestartChild { id: ChildId, reply: Reply<()> },
    DeleteChild { id: ChildId, reply: Reply<()> },
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, RequestError>>;

impl Supervisor {
    /// How to supervise a supervisor, and the handle to it. Its shutdown is `infinity`: its
    /// children have limits of their own.
    pub fn child_spec(spec: SupervisorSpec) -> (ChildSpec, Self) {
        let (publisher, presence) = channel();
        let publisher = Arc::new(publisher);
        let announce: Arc<dyn Announce> = publisher.clone();
        let declared = Supervises {
            strategy: spec.strategy,
            intensity: spec.intensity,
            children: spec.children.clone(),
        };
        let restart = spec.restart;
        let mut child = ChildSpec::worker(spec.id.clone(), NodeKind::Supervisor, move |cx| {
            let (publisher, spec) = (publisher.clone(), spec.clone());
            Box::pin(async move {
                let make = |cx, mail, reaper| shell::Shell::new(cx, spec, mail, reaper);
                begin(cx, publisher, make).await
            })
        });
        child.restart = restart;
        child.shutdown = Shutdown::Infinity;
        child.child_type = ChildType::Supervisor;
        child.start_within = None;
        child.presence = Some(announce);
        child.supervises = Some(declared);
        (child, Self { presence })
    }

    /// Starts a further child behind the others (SUP-178–181).
    ///
    /// # Errors
    ///
    /// Table 5.5; a child that does not start is discarded.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<(), RequestError> {
        let spec = Box::new(spec);
        self.ask(|reply| Request::StartChild { spec, reply }).await
    }

    /// Stops a child and keeps its specification, except of a temporary one; a pending restart is
    /// cancelled for good (SUP-187–193).
    ///
    /// # Errors
    ///
    /// When there is no such child.
    pub async fn terminate_child(&self, id: impl Into<ChildId>) -> Result<(), RequestError> {
        let id = id.into();
        self.ask(|reply| Request::TerminateChild { id, reply }).await
    }

    /// Starts a child that does not run from its specification (SUP-194–197).
    ///
    /// # Errors
    ///
    /// Table 5.5; a failed start keeps the specification.
    pub async fn restart_child(&self, id: impl Into<ChildId>) -> Result<(), RequestError> {
        let id = id.into();
        self.ask(|reply| Request::RestartChild { id, reply }).await
    }

    /// Removes the specification of a child that does not run (SUP-198, SUP-199).
    ///
    /// # Errors
    ///
    /// Table 5.5.
    pub async fn delete_child(&self, id: impl Into<ChildId>) -> Result<(), RequestError> {
        let id = id.into();
        self.ask(|reply| Request::DeleteChild { id, reply }).await
    }

    /// Its children in start order, as published; asks nobody. Empty when it does not run.
    pub fn which_children(&self) -> Vec<ChildInfo> {
        self.presence.now().map(|life| life.children()).unwrap_or_default()
    }

    /// Totals of [`which_children`](Self::which_children).
    pub fn count_children(&self) -> Counts {
        count(&self.which_children())
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, RequestError> {
        ask(&self.presence, request).await
    }
}

/// Sends a request to whichever incarnation is there or coming, and waits for its answer.
pub(crate) async fn ask<T, R>(
    presence: &Presence<SupervisorLife<R>>,
    request: impl FnOnce(Reply<T>) -> R,
) -> Result<T, RequestError> {
    if presence.now().is_some_and(|life| life.is_waited_for()) {
        return Err(RequestError::CallingSelf);
    }
    let life = presence.current().await.map_err(|_| RequestError::NoProc)?;
    let (reply, mut answer) = oneshot::channel();
    let _place = life.admit().await;
    life.send(request(reply));
    tokio::select! {
        biased;
        Ok(answer) = &mut answer => answer,
        // As at an address: what is sent at the very moment of the end is never read, and whoever
        // waits for the answer keeps it from being dropped.
        _ = life.ended.wait() => answer.try_recv().unwrap_or(Err(RequestError::Ended)),
    }
}

pub(crate) fn count(children: &[ChildInfo]) -> Counts {
    let mut counts = Counts { specs: children.len(), ..Counts::default() };
    for child in children {
        match child.child_type {
            ChildType::Supervisor => counts.supervisors += 1,
            ChildType::Worker => counts.workers += 1,
        }
        if child.status == ChildStatus::Running {
            counts.active += 1;
        }
    }
    counts
}

pub(crate) fn status(state: NodeState) -> ChildStatus {
    match state {
        NodeState::Running | NodeState::Stopping => ChildStatus::Running,
        NodeState::Starting | NodeState::BackingOff => ChildStatus::Restarting,
        NodeState::Declared | NodeState::Stopped | NodeState::Unkillable | NodeState::GaveUp => {
            ChildStatus::Stopped
        }
    }
}
