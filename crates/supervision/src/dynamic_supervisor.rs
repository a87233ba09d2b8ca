//! Supervisors whose children are started on demand.
//!
//! One-for-one only. Children are told apart by what their start returned, not by their ids
//! (DYN-012); one that ends for good is forgotten; a shutdown stops all at once, each under its own
//! timer (DYN-039).

use std::{
    any::Any,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use perennial_core::{
    ChildId, ExitReason, Restart,
    intensity::IntensityLimit,
    supervisor::{Flags, Keeps, SpecError},
    tree::NodeKind,
};

use crate::{
    ChildInfo, ChildSpec, Counts, Extra, Name, ProcessRef, RequestError, StopError,
    actor::ActorError,
    life::Life,
    node::{Node, Supervises},
    presence::Presence,
    supervisor::{
        Ends, NewChild, Plan, Request, SupervisorLife, Which, ask, stop, supervisor_child,
    },
};

/// What a dynamic supervisor is made of.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// use perennial_supervision::DynamicSupervisorSpec;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spec = DynamicSupervisorSpec::new("sessions", 1_000)
///     .intensity(10, Duration::from_secs(1))
///     .child_budget(3, Duration::from_secs(60));
/// let (spec, sessions) = DynamicSupervisor::child_spec(spec);
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// assert_eq!(sessions.count_children()?.active, 0);
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct DynamicSupervisorSpec {
    pub(crate) id: ChildId,
    pub(crate) intensity: IntensityLimit,
    pub(crate) max_children: Option<usize>,
    pub(crate) child_budget: Option<IntensityLimit>,
    pub(crate) kind: NodeKind,
    arguments: Option<Extra>,
    name: Option<Name>,
    restart: Restart,
}

impl Default for DynamicSupervisorSpec {
    /// Without a name or a limit (DYN-002).
    fn default() -> Self {
        Self::unlimited("DynamicSupervisor")
    }
}

impl DynamicSupervisorSpec {
    /// A permanent dynamic supervisor for at most `max_children` children that tolerates 3
    /// restarts in 5 s. The limit is an argument because there is no right default: OTP has none.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 1));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// pool.start_child(Agent::child_spec("first", || 0_u32).0).await?;
    /// let refused = pool.start_child(Agent::child_spec("second", || 0_u32).0).await;
    /// assert_eq!(refused.unwrap_err(), RequestError::MaxChildren(1));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn new(id: impl Into<ChildId>, max_children: usize) -> Self {
        Self {
            id: id.into(),
            intensity: IntensityLimit::default(),
            max_children: Some(max_children),
            child_budget: None,
            arguments: None,
            name: None,
            kind: NodeKind::DynamicSupervisor,
            restart: Restart::Permanent,
        }
    }

    /// As [`new`](Self::new), without a limit (DYN-002): the memory of the machine is the limit.
    ///
    /// ```
    /// use perennial_supervision::{DynamicSupervisor, DynamicSupervisorSpec};
    ///
    /// let (spec, _) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::unlimited("pool"));
    /// assert_eq!(spec.id().as_str(), "pool");
    /// ```
    pub fn unlimited(id: impl Into<ChildId>) -> Self {
        Self { max_children: None, ..Self::new(id, 0) }
    }

    /// As [`unlimited`](Self::unlimited), with the id `name` and claiming that name in the tree
    /// (DYN-006–008). One without a name is [`default`](Self::default): two of those do not fit
    /// under one static supervisor.
    ///
    /// ```
    /// use perennial_supervision::{DynamicSupervisor, DynamicSupervisorSpec};
    ///
    /// let (spec, _) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::named("pool"));
    /// assert_eq!(spec.get_name().map(|name| name.as_str()), Some("pool"));
    /// assert_eq!(spec.id().as_str(), "pool");
    /// ```
    pub fn named(name: impl Into<Name>) -> Self {
        let name = name.into();
        Self { name: Some(name.clone()), ..Self::unlimited(name.as_str()) }
    }

    /// Sets its id as a child; its name stays.
    ///
    /// ```
    /// use perennial_supervision::{DynamicSupervisor, DynamicSupervisorSpec};
    ///
    /// let spec = DynamicSupervisorSpec::named("pool").id("workers");
    /// let (spec, _) = DynamicSupervisor::child_spec(spec);
    /// assert_eq!((spec.id().as_str(), spec.get_name().map(|name| name.as_str())), ("workers", Some("pool")));
    /// ```
    #[must_use]
    pub fn id(mut self, id: impl Into<ChildId>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets how many children may be there at a time.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = DynamicSupervisorSpec::named("pool").max_children(0);
    /// let (spec, pool) = DynamicSupervisor::child_spec(spec);
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let refused = pool.start_child(Agent::child_spec("first", || 0_u32).0).await;
    /// assert_eq!(refused.unwrap_err(), RequestError::MaxChildren(0));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn max_children(mut self, max_children: usize) -> Self {
        self.max_children = Some(max_children);
        self
    }

    /// Hands `arguments` to the init of every child, at each of its starts, which asks for them with
    /// [`extra_arguments`](crate::extra_arguments) (DYN-014, 029).
    ///
    /// ```
    /// use perennial_supervision::DynamicSupervisorSpec;
    ///
    /// /// What every worker needs to know.
    /// struct Shared { url: String }
    ///
    /// let spec = DynamicSupervisorSpec::new("workers", 10)
    ///     .extra_arguments(Shared { url: "db://main".to_owned() });
    /// // In the init of a child: `extra_arguments::<Shared>()`.
    /// # drop(spec);
    /// ```
    #[must_use]
    pub fn extra_arguments(mut self, arguments: impl Any + Send + Sync) -> Self {
        self.arguments = Some(Arc::new(arguments));
        self
    }

    /// Gives up after more than `max_restarts` restarts within `within`, over all children.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = DynamicSupervisorSpec::new("pool", 10).intensity(0, Duration::from_secs(5));
    /// let (spec, pool) = DynamicSupervisor::child_spec(spec.restart(Restart::Temporary));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let fails = ChildSpec::task("fails", || async { Err::<(), _>("always") });
    /// let child = pool.start_child(fails.restart(Restart::Permanent)).await?;
    /// child.first_exit().await;
    /// assert!(!pool.is_up().await); // the first restart was one too many
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn intensity(mut self, max_restarts: u32, within: Duration) -> Self {
        self.intensity = IntensityLimit { max_restarts, within };
        self
    }

    /// Gives each child a restart budget of its own instead: a child that exceeds it is dropped
    /// and reported, and its siblings and the supervisor live on.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = DynamicSupervisorSpec::new("pool", 10).child_budget(0, Duration::from_secs(5));
    /// let (spec, pool) = DynamicSupervisor::child_spec(spec);
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let fails = ChildSpec::task("fails", || async { Err::<(), _>("always") });
    /// let child = pool.start_child(fails.restart(Restart::Permanent)).await?;
    /// child.first_exit().await;
    /// # tokio::time::sleep(Duration::from_millis(1)).await; // paused clock
    /// assert!(pool.is_up().await);
    /// assert_eq!(pool.count_children()?.specs, 0); // it alone is dropped
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn child_budget(mut self, max_restarts: u32, within: Duration) -> Self {
        self.child_budget = Some(IntensityLimit { max_restarts, within });
        self
    }

    /// Sets when this supervisor itself is restarted, as a child.
    ///
    /// ```
    /// use perennial_supervision::{DynamicSupervisor, DynamicSupervisorSpec, Restart};
    ///
    /// let spec = DynamicSupervisorSpec::new("pool", 10).restart(Restart::Transient);
    /// assert_eq!(DynamicSupervisor::child_spec(spec).0.get_restart(), Restart::Transient);
    /// ```
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    fn flags(&self) -> Flags {
        Flags { intensity: self.intensity, ..Flags::default() }
    }

    fn plan(self) -> Plan {
        Plan {
            flags: self.flags(),
            keeps: Keeps::Instances { max: self.max_children },
            ends: Ends::AtOnce,
            children: Vec::new(),
            child_budget: self.child_budget,
            arguments: self.arguments,
        }
    }
}

/// Handle to a dynamic supervisor. Cheap to clone; outlives its restarts.
///
/// ```
/// use perennial_supervision::{DynamicSupervisor, DynamicSupervisorSpec};
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let (session, count) = Agent::child_spec("ada", || 1_u32);
/// let session = pool.start_child(session).await?;
/// assert_eq!(count.get(|count| *count, Duration::from_secs(5)).await, Ok(1));
/// pool.terminate_child(&session).await?;
/// assert!(pool.which_children()?.is_empty());
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct DynamicSupervisor {
    presence: Presence<SupervisorLife>,
}

/// One child of a dynamic supervisor, over its restarts.
///
/// ```
/// use perennial_supervision::ChildRef;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let child: ChildRef = pool.start_child(Agent::child_spec("ada", || 1_u32).0).await?;
/// assert_eq!(child.id().as_str(), "ada");
/// assert_eq!(child.process().path(), "/app/pool/ada");
/// assert!(child.extra().is_none());
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone)]
pub struct ChildRef {
    /// Orders begin anew with every life of the supervisor; nodes are never the same.
    pub(crate) node: Weak<Node>,
    pub(crate) order: u64,
    id: ChildId,
    /// The life it had when it was started.
    pub(crate) first: Life,
    process: ProcessRef,
    extra: Option<Extra>,
}

impl ChildRef {
    pub(crate) fn new(id: ChildId, new: NewChild) -> Result<Self, RequestError> {
        let NewChild { order, node, life, start } = new;
        let first = life.ok_or(RequestError::Ignore)?;
        let process = start.process.ok_or(RequestError::Ignore)?;
        Ok(Self { node, order, id, first, process, extra: start.extra })
    }

    /// Its id, as given by its specification.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let child = pool.start_child(Agent::child_spec("ada", || 1_u32).0).await?;
    /// assert_eq!(child.id().as_str(), "ada");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn id(&self) -> &ChildId {
        &self.id
    }

    /// The incarnation that was started.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let child = pool.start_child(Agent::child_spec("ada", || 1_u32).0).await?;
    /// assert!(child.process().is_alive());
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn process(&self) -> &ProcessRef {
        &self.process
    }

    /// The incarnation that runs now, as published.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let (spec, count) = Agent::child_spec("ada", || 1_u32);
    /// let child = pool.start_child(spec).await?;
    /// count.cast(|_| panic!("a bug"))?;
    /// child.first_exit().await;
    /// count.get(|_| (), Duration::from_secs(5)).await?; // it is back
    /// assert_ne!(child.now().as_ref(), Some(child.process()));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn now(&self) -> Option<ProcessRef> {
        self.node.upgrade()?.process()
    }

    /// What its init handed over when it was started (DYN-019).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// # struct Listener;
    /// # impl GenServer for Listener {
    /// #     type Arguments = ();
    /// #     type Message = ();
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///     pass_to_starter(8080_u16); // the port that it has got
    ///     Ok(Init::new(Self))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let child = pool.start_child(ChildSpec::server::<Listener>("listener", || ()).0).await?;
    /// let port = child.extra().and_then(|extra| extra.downcast_ref::<u16>());
    /// assert_eq!(port, Some(&8080));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn extra(&self) -> Option<&Extra> {
        self.extra.as_ref()
    }

    /// Waits for the end of its first life.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let work = ChildSpec::task("work", || async { Ok::<(), String>(()) });
    /// let child = pool.start_child(work).await?;
    /// assert_eq!(child.first_exit().await, ExitReason::Normal);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub async fn first_exit(&self) -> ExitReason {
        self.first.ended().wait().await
    }

    pub(crate) fn which(&self) -> Which {
        Which::Node { order: self.order, node: self.node.clone(), id: self.id.clone() }
    }
}

impl fmt::Debug for ChildRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildRef")
            .field("id", &self.id)
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

impl DynamicSupervisor {
    /// How to supervise a dynamic supervisor, and the handle to it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert!(pool.is_up().await);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn child_spec(spec: DynamicSupervisorSpec) -> (ChildSpec, Self) {
        let declared = Supervises::new(&spec.flags(), Vec::new());
        let (id, name, restart, kind) =
            (spec.id.clone(), spec.name.clone(), spec.restart, spec.kind);
        let plan = spec.plan();
        let (child, handle) =
            supervisor_child(id, restart, kind, declared, move || Ok(plan.clone()));
        (name.into_iter().fold(child, ChildSpec::name), handle)
    }

    /// As [`child_spec`](Self::child_spec), with an init that is called at each start: it may answer
    /// `Err(Ignore.into())` when the supervisor need not run, or fail (DYN-005). Id and name of what
    /// it returns are not used.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (spec, pool) = DynamicSupervisor::child_spec_with_init("pool", || {
    ///     let limit = 10; // from a file, for instance
    ///     Ok(DynamicSupervisorSpec::new("pool", limit))
    /// });
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert!(pool.is_up().await);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn child_spec_with_init(
        id: impl Into<ChildId>,
        init: impl Fn() -> Result<DynamicSupervisorSpec, ActorError> + Send + Sync + 'static,
    ) -> (ChildSpec, Self) {
        let declared = Supervises::new(&Flags::default(), Vec::new());
        let make = move || init().map(DynamicSupervisorSpec::plan);
        let kind = NodeKind::DynamicSupervisor;
        supervisor_child(id.into(), Restart::Permanent, kind, declared, make)
    }

    /// Starts a child (DYN-011–013, 017–021).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// // Ids may repeat: what tells children apart is what their start returned.
    /// let first = pool.start_child(Agent::child_spec("ada", || 1_u32).0).await?;
    /// let second = pool.start_child(Agent::child_spec("ada", || 1_u32).0).await?;
    /// assert_eq!(first.id(), second.id());
    /// assert_ne!(first.process(), second.process());
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the child does not start, its init answers ignore, or as many as allowed are there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<ChildRef, RequestError> {
        // Without contacting the supervisor (DYN-015).
        ChildSpec::check_all(std::slice::from_ref(&spec), None)?;
        if spec.is_significant() {
            return Err(SpecError::SignificantHere(spec.id().clone()).into());
        }
        let (id, spec) = (spec.id().clone(), Box::new(spec));
        let new = ask(&self.presence, |reply| Request::StartChild { spec, reply }).await?;
        ChildRef::new(id, new)
    }

    /// Stops a child, awaits its end and forgets it; a pending restart is cancelled for good
    /// (DYN-035–037).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let child = pool.start_child(Agent::child_spec("ada", || 1_u32).0).await?;
    /// pool.terminate_child(&child).await?;
    /// let again = pool.terminate_child(&child).await;
    /// assert_eq!(again, Err(RequestError::NotFound("ada".into())));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NotFound`] when it is not a child any more (DYN-038).
    pub async fn terminate_child(&self, child: &ChildRef) -> Result<(), RequestError> {
        let which = child.which();
        ask(&self.presence, |reply| Request::TerminateChild { which, reply }).await
    }

    /// Changes the intensity and the limit of children of this life of the supervisor (DYN-010).
    /// Children that run stay, whatever the limit.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// pool.start_child(Agent::child_spec("ada", || 1_u32).0).await?;
    /// pool.reconfigure(DynamicSupervisorSpec::new("pool", 1)).await?;
    /// let refused = pool.start_child(Agent::child_spec("bob", || 1_u32).0).await;
    /// assert_eq!(refused.unwrap_err(), RequestError::MaxChildren(1));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When a value is refused: nothing changes then.
    pub async fn reconfigure(&self, spec: DynamicSupervisorSpec) -> Result<(), RequestError> {
        let flags = spec.flags();
        let (keeps, children) = (Keeps::Instances { max: spec.max_children }, Vec::new());
        let request = |reply| Request::Reconfigure { flags, keeps, children, reply };
        ask(&self.presence, request).await
    }

    /// Stops it and all below it, as [`Supervisor::stop`](crate::Supervisor::stop).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = DynamicSupervisorSpec::new("pool", 10).restart(Restart::Temporary);
    /// let (spec, pool) = DynamicSupervisor::child_spec(spec);
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// pool.stop(Duration::from_secs(5)).await?;
    /// assert!(!pool.is_up().await);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`StopError`].
    pub async fn stop(&self, within: Duration) -> Result<(), StopError> {
        stop(&self.presence, within).await
    }

    /// Its children as published; asks nobody.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// pool.start_child(Agent::child_spec("ada", || 1_u32).0).await?;
    /// assert_eq!(pool.which_children()?[0].name(), "ada");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NoProc`] when it does not run (SUP-184).
    pub fn which_children(&self) -> Result<Vec<ChildInfo>, RequestError> {
        Ok(self.presence.now().ok_or(RequestError::NoProc)?.children(false))
    }

    /// Totals of [`which_children`](Self::which_children).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// pool.start_child(Agent::child_spec("ada", || 1_u32).0).await?;
    /// assert_eq!(pool.count_children()?.active, 1);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NoProc`] when it does not run (SUP-184).
    pub fn count_children(&self) -> Result<Counts, RequestError> {
        Ok(self.presence.now().ok_or(RequestError::NoProc)?.counts())
    }

    /// The child of this name that runs, as published; asks nobody. Names are ids, unless several
    /// share one: then the first has it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// pool.start_child(Agent::child_spec("ada", || 1_u32).0).await?;
    /// let ada = pool.find("ada").expect("it runs");
    /// pool.terminate_child(&ada).await?;
    /// assert!(pool.find("ada").is_none());
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn find(&self, name: &str) -> Option<ChildRef> {
        let (node, first) = self.presence.now()?.find(name)?;
        let process = first.process.clone();
        let (order, id) = (node.order(), name.into());
        Some(ChildRef { order, node: Arc::downgrade(&node), id, first, process, extra: None })
    }

    /// Waits until an incarnation runs; answers whether one does.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert!(pool.is_up().await);
    /// root.shutdown().await;
    /// assert!(!pool.is_up().await); // and none is coming
    /// # Ok(()) }
    /// ```
    pub async fn is_up(&self) -> bool {
        self.presence.current().await.is_ok()
    }
}

impl From<Presence<SupervisorLife>> for DynamicSupervisor {
    fn from(presence: Presence<SupervisorLife>) -> Self {
        Self { presence }
    }
}
