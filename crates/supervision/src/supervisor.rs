//! Supervisors with declared children.
//!
//! Starts children in order, restarts them by policy and strategy, stops them in reverse order.
//! What is decided is decided by the machine in `perennial_core::supervisor`; here it is done.

mod incarnation;
mod reaper;
mod request;
mod shell;
mod waiting;

use std::{sync::Arc, time::Duration};

use perennial_core::{
    AutoShutdown, ChildId, ChildType, ExitReason, Restart, Shutdown, Strategy,
    intensity::IntensityLimit,
    supervisor::{Flags, Keeps},
    tree::{NodeKind, TreeNode},
};

pub use self::request::{ChildStart, RequestError};
pub(crate) use self::{
    incarnation::{Acknowledge, Mail, SupervisorLife, begin},
    request::{NewChild, Request, Which, ask},
    shell::{Ends, Plan},
    waiting::Waiting,
};
use crate::{
    ChildInfo, ChildSpec, Counts, Ignore, ProcessRef, StopError,
    actor::ActorError,
    child::{Outcome, StartCx},
    node::{Supervises, collect_declared},
    panics::guard_blocking,
    presence::{Announce, Presence, channel},
};

/// What a supervisor is made of.
///
/// ```
/// use perennial_supervision::{ChildSpec, Strategy, SupervisorSpec};
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
    pub(crate) flags: Flags,
    pub(crate) children: Vec<ChildSpec>,
    restart: Restart,
}

impl SupervisorSpec {
    /// A permanent one-for-one supervisor without children that tolerates 3 restarts in 5 s and
    /// never shuts down by itself (SUP-024).
    ///
    /// ```
    /// use perennial_supervision::{Intensity, SupervisorSpec};
    ///
    /// let app = SupervisorSpec::new("app").declared().remove(0);
    /// assert_eq!(app.intensity, Some(Intensity { max: 3, window_ms: 5_000, in_window: 0 }));
    /// ```
    pub fn new(id: impl Into<ChildId>) -> Self {
        Self {
            id: id.into(),
            flags: Flags::default(),
            children: Vec::new(),
            restart: Restart::Permanent,
        }
    }

    /// Sets what happens to the siblings of a child that is restarted.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (connection, link) = Agent::child_spec("connection", || 0_u32);
    /// let (cache, cached) = Agent::child_spec("cache", || 0_u32);
    /// // The cache is of no use without the connection before it.
    /// let app = SupervisorSpec::new("app").strategy(Strategy::RestForOne).child(connection).child(cache);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let within = Duration::from_secs(5);
    /// cached.update(|cached| *cached = 7, within).await?;
    /// link.cast(|_| panic!("hung up"))?;
    /// link.get(|_| (), within).await.unwrap_err();
    /// link.get(|_| (), within).await?;
    /// assert_eq!(cached.get(|cached| *cached, within).await, Ok(0)); // it began anew as well
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.flags.strategy = strategy;
        self
    }

    /// Gives up after more than `max_restarts` restarts within `within`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let link = ChildSpec::task("link", || async { Err::<(), _>("the other side hung up") });
    /// let link = link.restart(Restart::Permanent);
    /// let app = SupervisorSpec::new("app").intensity(0, Duration::from_secs(1)).child(link);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// root.ended().await; // the first restart is one too many
    /// assert!(root.gave_up());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn intensity(mut self, max_restarts: u32, within: Duration) -> Self {
        self.flags.intensity = IntensityLimit { max_restarts, within };
        self
    }

    /// Sets whether the end of significant children stops it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let half = |id: &str| {
    ///     ChildSpec::task(id.to_owned(), || async { Ok::<(), String>(()) }).significant(true)
    /// };
    /// let app = SupervisorSpec::new("app")
    ///     .auto_shutdown(AutoShutdown::AllSignificant)
    ///     .child(half("left"))
    ///     .child(half("right"));
    /// let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(root.ended().await, ExitReason::Shutdown); // both halves are done
    /// assert!(!root.gave_up());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn auto_shutdown(mut self, auto_shutdown: AutoShutdown) -> Self {
        self.flags.auto_shutdown = auto_shutdown;
        self
    }

    /// Adds a child behind the others.
    ///
    /// ```
    /// use perennial_supervision::{Agent, SupervisorSpec};
    ///
    /// let app = SupervisorSpec::new("app")
    ///     .child(Agent::child_spec("first", || 0).0)
    ///     .child(Agent::child_spec("second", || 0).0); // starts after it, stops before it
    /// assert_eq!(app.declared()[2].path, "/app/second");
    /// ```
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// Sets when this supervisor itself is restarted, as a child.
    ///
    /// ```
    /// use perennial_supervision::{Restart, Supervisor, SupervisorSpec};
    ///
    /// let import = SupervisorSpec::new("import").restart(Restart::Temporary);
    /// assert_eq!(Supervisor::child_spec(import).0.get_restart(), Restart::Temporary);
    /// ```
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// The tree as specified, before any start.
    ///
    /// ```
    /// use perennial_supervision::{Agent, NodeState, SupervisorSpec};
    ///
    /// let app = SupervisorSpec::new("app").child(Agent::child_spec("table", || 0).0);
    /// let nodes = app.declared();
    /// assert_eq!(nodes[1].path, "/app/table");
    /// assert_eq!(nodes[1].state, NodeState::Declared); // nothing runs
    /// ```
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
/// have no deadline of their own (SUP-207). A caller that gives up harms nobody: what it asked for
/// is done (SUP-206).
///
/// ```
/// use perennial_supervision::{Supervisor, SupervisorSpec};
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (spec, tables): (ChildSpec, Supervisor) = Supervisor::child_spec(SupervisorSpec::new("tables"));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// tables.start_child(Agent::child_spec("users", || 0_u32).0).await?;
/// tables.terminate_child("users").await?;
/// tables.restart_child("users").await?;
/// assert_eq!(tables.which_child("users")?.path(), "/app/tables/users");
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Supervisor {
    presence: Presence<SupervisorLife>,
}

impl Supervisor {
    /// How to supervise a supervisor, and the handle to it. Its shutdown is `infinity`: its
    /// children have limits of their own.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (cache, _) = Agent::child_spec("cache", || 0_u32);
    /// let (tables, handle) = Supervisor::child_spec(SupervisorSpec::new("tables").child(cache));
    /// # let app = SupervisorSpec::new("app").child(tables);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(handle.count_children()?.active, 1);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn child_spec(spec: SupervisorSpec) -> (ChildSpec, Self) {
        let declared = Supervises::new(&spec.flags, spec.children.clone());
        let (id, restart) = (spec.id.clone(), spec.restart);
        let plan = static_plan(spec);
        supervisor_child(id, restart, NodeKind::Supervisor, declared, move || Ok(plan.clone()))
    }

    /// As [`child_spec`](Self::child_spec), with an init that is called at each start: it may read
    /// what the children are to be, answer `Err(Ignore.into())` when the supervisor need not run
    /// (SUP-004), or fail (SUP-006). The id of what it returns is not used.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // Called at each start: what it reads may have changed since the last one.
    /// let (shards, handle) = Supervisor::child_spec_with_init("shards", || {
    ///     let names = ["north", "south"]; // from a file, for instance
    ///     let shard = |id: &str| Agent::child_spec(id.to_owned(), || 0_u32).0;
    ///     Ok(names.into_iter().map(shard).fold(SupervisorSpec::new("shards"), SupervisorSpec::child))
    /// });
    /// # let app = SupervisorSpec::new("app").child(shards);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(handle.count_children()?.workers, 2);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn child_spec_with_init(
        id: impl Into<ChildId>,
        init: impl Fn() -> Result<SupervisorSpec, ActorError> + Send + Sync + 'static,
    ) -> (ChildSpec, Self) {
        let declared = Supervises::new(&Flags::default(), Vec::new());
        let make = move || init().map(static_plan);
        supervisor_child(id.into(), Restart::Permanent, NodeKind::Supervisor, declared, make)
    }

    /// Starts a further child behind the others (SUP-178–183).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// let (cache, count) = Agent::child_spec("cache", || 7_u32);
    /// let started = app.start_child(cache).await?;
    /// assert!(started.process.is_some_and(|process| process.is_alive()));
    /// assert_eq!(count.get(|count| *count, Duration::from_secs(5)).await, Ok(7));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the specification is refused, a child of this id is specified already, or the new one does
    /// not start: then it is discarded.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<ChildStart, RequestError> {
        spec.check_alone()?;
        let spec = Box::new(spec);
        let new = self.ask(|reply| Request::StartChild { spec, reply }).await?;
        Ok(new.start)
    }

    /// Stops a child and keeps its specification, except of a temporary one; a pending restart is
    /// cancelled for good (SUP-187–193).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// app.terminate_child("table").await?;
    /// assert_eq!(app.which_child("table")?.status, ChildStatus::Stopped);
    /// assert_eq!(app.terminate_child("chair").await, Err(RequestError::NotFound("chair".into())));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such child.
    pub async fn terminate_child(&self, id: impl Into<ChildId>) -> Result<(), RequestError> {
        let which = Which::Id(id.into());
        self.ask(|reply| Request::TerminateChild { which, reply }).await
    }

    /// Starts a child that does not run from its specification (SUP-194–197).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// let running = app.restart_child("table").await;
    /// assert_eq!(running, Err(RequestError::Running("table".into())));
    /// app.terminate_child("table").await?;
    /// assert!(app.restart_child("table").await?.process.is_some());
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such child, it runs, a restart of it is due, or it does not start: then its
    /// specification stays.
    pub async fn restart_child(&self, id: impl Into<ChildId>) -> Result<ChildStart, RequestError> {
        let id = id.into();
        self.ask(|reply| Request::RestartChild { id, reply }).await
    }

    /// Removes the specification of a child that does not run (SUP-198, SUP-199). A restart that
    /// waits for its delay is cancelled with it (SUP-120).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// app.terminate_child("table").await?;
    /// app.delete_child("table").await?;
    /// assert_eq!(app.count_children()?.specs, 0);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such child, it runs, or a restart of it is due at once.
    pub async fn delete_child(&self, id: impl Into<ChildId>) -> Result<(), RequestError> {
        let id = id.into();
        self.ask(|reply| Request::DeleteChild { id, reply }).await
    }

    /// The complete specification of a child (SUP-043).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// let table = app.get_child_spec("table").await?;
    /// assert_eq!(table.get_restart(), Restart::Permanent);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such child.
    pub async fn get_child_spec(&self, id: impl Into<ChildId>) -> Result<ChildSpec, RequestError> {
        let which = Which::Id(id.into());
        self.ask(|reply| Request::GetChildSpec { which, reply }).await
    }

    /// Puts the flags and children of `spec` in force, as a whole or not at all: new flags for what
    /// happens from now on, known ids with their new specification from their next start on, new
    /// ones without a process; those that are not named stay (SUP-222, 223, 234–236).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// let (cache, _) = Agent::child_spec("cache", || 0_u32);
    /// app.reconfigure(SupervisorSpec::new("app").strategy(Strategy::OneForAll).child(cache)).await?;
    /// assert_eq!(app.which_child("cache")?.status, ChildStatus::Stopped); // known, and not started
    /// assert_eq!(app.which_child("table")?.status, ChildStatus::Running); // not named: it stays
    /// app.restart_child("cache").await?;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When anything in `spec` is refused: the old configuration stays in force.
    pub async fn reconfigure(&self, spec: SupervisorSpec) -> Result<(), RequestError> {
        let (flags, keeps, children) = (spec.flags, Keeps::Specs, spec.children);
        self.ask(|reply| Request::Reconfigure { flags, keeps, children, reply }).await
    }

    /// Stops it and all below it, and returns when they are gone (SUP-151). A supervisor that is
    /// itself a child is then restarted by its own supervisor or not, as after any `shutdown`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (cache, _) = Agent::child_spec("cache", || 0_u32);
    /// let tables = SupervisorSpec::new("tables").restart(Restart::Temporary).child(cache);
    /// let (tables, handle) = Supervisor::child_spec(tables);
    /// # let app = SupervisorSpec::new("app").child(tables);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// handle.stop(Duration::from_secs(5)).await?; // all below it has ended
    /// assert_eq!(handle.which_children(), Err(RequestError::NoProc));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`StopError`]. After a timeout the stop goes on.
    pub async fn stop(&self, within: Duration) -> Result<(), StopError> {
        stop(&self.presence, within).await
    }

    /// Its children as published, the last one started first (SUP-200, 201); asks nobody.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// app.start_child(Agent::child_spec("cache", || 0_u32).0).await?;
    /// let names: Vec<String> = app.which_children()?.iter().map(|it| it.name().to_owned()).collect();
    /// assert_eq!(names, ["cache", "table"]); // the last one started first
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NoProc`] when it does not run (SUP-184).
    pub fn which_children(&self) -> Result<Vec<ChildInfo>, RequestError> {
        let mut children = self.presence.now().ok_or(RequestError::NoProc)?.children(true);
        children.reverse();
        Ok(children)
    }

    /// One line of [`which_children`](Self::which_children) (SUP-202).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// assert_eq!(app.which_child("table")?.status, ChildStatus::Running);
    /// assert_eq!(app.which_child("chair"), Err(RequestError::NotFound("chair".into())));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such child, or the supervisor does not run.
    pub fn which_child(&self, id: impl Into<ChildId>) -> Result<ChildInfo, RequestError> {
        let id = id.into();
        let life = self.presence.now().ok_or(RequestError::NoProc)?;
        life.child(id.as_str(), true).ok_or(RequestError::NotFound(id))
    }

    /// Totals of [`which_children`](Self::which_children).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// let counts = app.count_children()?;
    /// assert_eq!((counts.specs, counts.active, counts.workers), (1, 1, 1));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NoProc`] when it does not run (SUP-184).
    pub fn count_children(&self) -> Result<Counts, RequestError> {
        Ok(self.presence.now().ok_or(RequestError::NoProc)?.counts())
    }

    /// The incarnation that runs.
    pub(crate) fn process(&self) -> Option<ProcessRef> {
        Some(self.presence.now()?.process().clone())
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(request::Reply<T>) -> Request,
    ) -> Result<T, RequestError> {
        ask(&self.presence, request).await
    }
}

fn static_plan(spec: SupervisorSpec) -> Plan {
    Plan {
        flags: spec.flags,
        keeps: Keeps::Specs,
        ends: Ends::InTurn,
        children: spec.children,
        child_budget: None,
        arguments: None,
    }
}

/// How to supervise a supervisor of any kind; `plan` is asked at each start.
pub(crate) fn supervisor_child<S>(
    id: ChildId,
    restart: Restart,
    kind: NodeKind,
    declared: Supervises,
    plan: impl Fn() -> Result<Plan, ActorError> + Send + Sync + 'static,
) -> (ChildSpec, S)
where
    S: From<Presence<SupervisorLife>> + Clone + Send + Sync + 'static,
{
    let (publisher, presence) = channel();
    let publisher = Arc::new(publisher);
    let announce: Arc<dyn Announce> = publisher.clone();
    let plan = Arc::new(plan);
    let mut child = ChildSpec::worker(id, kind, move |cx: StartCx| {
        let (publisher, plan) = (publisher.clone(), plan.clone());
        Box::pin(async move {
            match guard_blocking(|| plan()) {
                Ok(Ok(plan)) => begin(cx, publisher, plan).await,
                Ok(Err(error)) if error.is::<Ignore>() => Ok(Outcome::Ignored),
                Ok(Err(error)) => Err(ExitReason::from_boxed(error).into()),
                Err(panic) => Err(panic.into()),
            }
        })
    });
    child.restart = restart;
    child.shutdown = Shutdown::Infinity;
    child.child_type = ChildType::Supervisor;
    child.start_within = None;
    child.presence = Some(announce);
    child.supervises = Some(Arc::new(declared));
    let handle = S::from(presence);
    child.answers_with(handle.clone());
    (child, handle)
}

impl From<Presence<SupervisorLife>> for Supervisor {
    fn from(presence: Presence<SupervisorLife>) -> Self {
        Self { presence }
    }
}

/// Stops a supervisor of any kind.
pub(crate) async fn stop(
    presence: &Presence<SupervisorLife>,
    within: Duration,
) -> Result<(), StopError> {
    if within.is_zero() {
        return Err(StopError::ZeroDeadline);
    }
    let present = presence.now().ok_or(StopError::NoProc)?;
    if present.is_waited_for() {
        return Err(StopError::CallingSelf);
    }
    let life = present.own().ok_or(StopError::NoProc)?;
    life.control.stop(&ExitReason::Shutdown);
    match tokio::time::timeout(within, life.ended().wait()).await {
        Ok(ExitReason::Shutdown) => Ok(()),
        Ok(reason) => Err(StopError::Exited(reason)),
        Err(_) => Err(StopError::Timeout),
    }
}
