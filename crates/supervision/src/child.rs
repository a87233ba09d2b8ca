//! How to start, restart and stop one child; one file per kind of child.

mod actor;
mod failure;
mod light;
mod server;
mod start;
mod task;
mod thread;

use std::{
    any::Any,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use perennial_core::{
    AutoShutdown, ChildId, ChildType, Overflow, Restart, Shutdown,
    intensity::IntensityLimit,
    supervisor::{RestartDelay, Rules, SpecError},
    tree::NodeKind,
};
use serde_json::Value;

pub use self::failure::{StartError, StartFault};
pub use self::start::{Extra, Ignore, extra_arguments, pass_to_starter};
pub(crate) use self::{
    start::{Begun, Outcome, StartCx, Superior, started},
    task::{About, exit_of, start as start_cooperative, start_once as start_task},
};
use crate::{
    Mailbox, Name, Offender, ProcessRef,
    names::AnyAddress,
    node::{Detail, Supervises},
    panics::call_quietly,
    presence::Announce,
    registry::ViaKey,
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
/// | [`restart_delay`](Self::restart_delay), [`restart_backoff`](Self::restart_backoff) | none |
/// | [`restart_budget`](Self::restart_budget) | its supervisor's |
/// | [`significant`](Self::significant) | no |
/// | [`mailbox`](Self::mailbox) | 10 000 messages, further ones are refused |
/// | [`name`](Self::name), [`linked_to`](Self::linked_to) | none |
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
    pub(crate) type_name: Option<&'static str>,
    /// Absent once a temporary child runs: it is started once (SUP-073).
    start: Option<Arc<Starter>>,
    /// Tells clones of one specification from others, also without a start.
    identity: Weak<Starter>,
    pub(crate) significant: bool,
    name: Option<Name>,
    /// A key of a registry that is its name as well.
    key: Option<Arc<dyn ViaKey>>,
    /// What answers to the name: an `Address<M>`.
    named_address: Option<AnyAddress>,
    owner: Option<ProcessRef>,
    /// Whom to tell whether it is there; absent for what has no address.
    pub(crate) presence: Option<Arc<dyn Announce>>,
    detail: Option<Arc<Detail>>,
    pub(crate) supervises: Option<Arc<Supervises>>,
    pub(crate) start_within: Option<Duration>,
    pub(crate) restart_delay: Option<Box<RestartDelay>>,
    pub(crate) restart_budget: Option<IntensityLimit>,
    /// None for that of its kind.
    pub(crate) mailbox: Option<Mailbox>,
    /// What its mailbox can do when it is full; absent for what has none.
    pub(crate) overflows: Option<&'static [Overflow]>,
    /// Set for dynamic children: siblings may share the id.
    pub(crate) child_ids_repeat: bool,
}

impl ChildSpec {
    pub(crate) fn worker(
        id: ChildId,
        kind: NodeKind,
        start: impl Fn(StartCx) -> Starting + Send + Sync + 'static,
    ) -> Self {
        let start = Arc::new(Starter(Box::new(start)));
        Self {
            id,
            restart: Restart::Permanent,
            shutdown: Shutdown::WORKER_DEFAULT,
            child_type: ChildType::Worker,
            kind,
            type_name: None,
            identity: Arc::downgrade(&start),
            start: Some(start),
            significant: false,
            name: None,
            key: None,
            named_address: None,
            owner: None,
            presence: None,
            detail: None,
            supervises: None,
            start_within: Some(START_WITHIN),
            restart_delay: None,
            restart_budget: None,
            mailbox: None,
            overflows: None,
            child_ids_repeat: false,
        }
    }

    /// Its id.
    ///
    /// ```
    /// use perennial_supervision::ChildSpec;
    ///
    /// let beat = ChildSpec::task("beat", || async { Ok::<(), String>(()) });
    /// assert_eq!(beat.id().as_str(), "beat");
    /// ```
    pub fn id(&self) -> &ChildId {
        &self.id
    }

    /// Sets its id: where a specification is listed that its own type has made, single fields of it
    /// can be overridden, this one too (SUP-053).
    ///
    /// ```
    /// use perennial_supervision::{Agent, ChildSpec, SupervisorSpec};
    ///
    /// /// Made elsewhere, always with the same id.
    /// fn cache() -> ChildSpec {
    ///     Agent::child_spec("cache", || 0).0
    /// }
    /// let app = SupervisorSpec::new("app").child(cache()).child(cache().with_id("spare"));
    /// assert_eq!(app.declared()[2].path, "/app/spare");
    /// ```
    #[must_use]
    pub fn with_id(mut self, id: impl Into<ChildId>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets when the child is restarted.
    ///
    /// ```
    /// use perennial_supervision::{ChildSpec, Restart};
    ///
    /// // Work that must succeed once: a failure is tried again, a success is not.
    /// let migrate = ChildSpec::task("migrate", || async { Ok::<(), String>(()) });
    /// assert_eq!(migrate.get_restart(), Restart::Temporary); // a task, unless told otherwise
    /// assert_eq!(migrate.restart(Restart::Transient).get_restart(), Restart::Transient);
    /// ```
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Sets how the child is stopped.
    ///
    /// ```
    /// use perennial_supervision::{Agent, Shutdown};
    /// use std::time::Duration;
    ///
    /// let (cache, _) = Agent::child_spec("cache", || 0);
    /// assert_eq!(cache.get_shutdown(), Shutdown::Timeout(Duration::from_secs(5)));
    /// // There is nothing to wind up: it need not be asked.
    /// assert_eq!(cache.shutdown(Shutdown::BrutalKill).get_shutdown(), Shutdown::BrutalKill);
    /// ```
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Sets how long a start may take; one that takes longer fails with
    /// [`Timeout`](perennial_core::ExitReason::Timeout).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// # struct Slow;
    /// # impl GenServer for Slow {
    /// #     type Arguments = ();
    /// #     type Message = ();
    /// #     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> { std::future::pending().await }
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (slow, _) = ChildSpec::server::<Slow>("slow", || ()); // its init never returns
    /// let app = SupervisorSpec::new("app").child(slow.start_within(Duration::from_secs(2)));
    /// let Err(error) = Root::start(app, Clock::start(), Options::default()).await else { panic!() };
    /// assert_eq!(error.root_cause(), &StartFault::Failed(ExitReason::Timeout));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn start_within(mut self, within: Duration) -> Self {
        self.start_within = Some(within);
        self
    }

    /// Waits this long before each restart. `terminate_child`, `delete_child` and a shutdown
    /// cancel the wait (SUP-120).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (count, address) = Agent::child_spec("count", || 0_u32);
    /// let count = count.restart_delay(Duration::from_secs(60));
    /// # let app = SupervisorSpec::new("app").child(count);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let clock = root.tree().clock();
    /// address.cast(|_| panic!("a bug"))?;
    /// address.get(|count| *count, Duration::from_secs(100)).await.unwrap_err();
    /// let ended = clock.now();
    /// assert_eq!(address.get(|count| *count, Duration::from_secs(100)).await, Ok(0)); // waits for it
    /// assert_eq!(clock.now().since(ended), Duration::from_secs(60));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn restart_delay(mut self, delay: Duration) -> Self {
        self.restart_delay = Some(Box::new(RestartDelay::constant(delay)));
        self
    }

    /// As [`restart_delay`](Self::restart_delay), growing.
    ///
    /// ```
    /// use perennial_supervision::{ChildSpec, Restart, RestartDelay};
    /// use std::time::Duration;
    ///
    /// // Waits 100 ms, 200 ms, 400 ms .. at most 10 s; a life of a minute begins at 100 ms again.
    /// let patient = RestartDelay {
    ///     first: Duration::from_millis(100),
    ///     max: Duration::from_secs(10),
    ///     reset_after: Duration::from_secs(60),
    /// };
    /// let link = ChildSpec::task("link", || async { Err::<(), _>("the other side hung up") })
    ///     .restart(Restart::Permanent)
    ///     .restart_backoff(patient.clone());
    /// assert_eq!(patient.before(2), Duration::from_millis(400));
    /// # drop(link);
    /// ```
    #[must_use]
    pub fn restart_backoff(mut self, delay: RestartDelay) -> Self {
        self.restart_delay = Some(Box::new(delay));
        self
    }

    /// Gives the child a restart budget of its own instead of its supervisor's: one that exceeds it
    /// is reported and not restarted any more, and its siblings and the supervisor live on. A static
    /// supervisor keeps its specification: `restart_child` brings it back with a fresh budget.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let fails = ChildSpec::task("fails", || async { Err::<(), _>("always") })
    ///     .restart(Restart::Permanent)
    ///     .restart_budget(1, Duration::from_secs(60));
    /// # let (table, count) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table).child(fails);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let mut events = root.tree().lifecycle();
    /// # while !root.tree().nodes()[2].state.eq(&NodeState::GaveUp) { events.next().await; }
    /// // After the second failure it stays down. Its siblings have noticed nothing.
    /// assert_eq!(root.supervisor().which_child("fails")?.status, ChildStatus::Stopped);
    /// assert_eq!(root.supervisor().which_child("table")?.status, ChildStatus::Running);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn restart_budget(mut self, max_restarts: u32, within: Duration) -> Self {
        self.restart_budget = Some(IntensityLimit { max_restarts, within });
        self
    }

    /// Bounds its mailbox, and says what becomes of one message more. A server takes each policy; the mailbox
    /// of a ractor actor is read by ractor alone, so it cannot have
    /// [`DropOldest`](Overflow::DropOldest); other kinds of children have none. What cannot be is refused
    /// with its specification.
    ///
    /// ```
    /// use perennial_supervision::{Agent, ChildSpec, Mailbox, SpecError};
    ///
    /// let (table, _) = Agent::child_spec("table", || 0);
    /// assert_eq!(ChildSpec::check_all(&[table.mailbox(Mailbox::new(100))], None), Ok(()));
    /// // A task takes no messages.
    /// let task = ChildSpec::task("task", || async { Ok::<(), String>(()) }).mailbox(Mailbox::new(100));
    /// assert_eq!(ChildSpec::check_all(&[task], None), Err(SpecError::NoMailbox("task".into())));
    /// ```
    #[must_use]
    pub fn mailbox(mut self, mailbox: Mailbox) -> Self {
        self.mailbox = Some(mailbox);
        self
    }

    /// Marks the child as one whose end may stop its supervisor, by the supervisor's
    /// [`AutoShutdown`] (SUP-212–219).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // The tree is there for this one import, and goes with it.
    /// let import = ChildSpec::task("import", || async { Ok::<(), String>(()) }).significant(true);
    /// let app = SupervisorSpec::new("app").auto_shutdown(AutoShutdown::AnySignificant).child(import);
    /// let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(root.ended().await, ExitReason::Shutdown);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn significant(mut self, significant: bool) -> Self {
        self.significant = significant;
        self
    }

    /// Gives each incarnation this name in the tree: claimed before its init runs (GS-012), free
    /// again at its real end (GS-062). A start fails while somebody else has it (GS-010).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (count, _) = Agent::child_spec("count", || 1_u32);
    /// let count = count.name("counter");
    /// # let app = SupervisorSpec::new("app").child(count);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let holder = root.names().whereis("counter").expect("it runs");
    /// assert_eq!(holder.path(), "/app/count");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Binds each incarnation to `owner`: when that ends, for any reason, this one is asked to stop
    /// with the same reason (GS-002, SUP-023).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let (owner, address) = Agent::child_spec("owner", || 0_u32);
    /// let owner = pool.start_child(owner.restart(Restart::Temporary)).await?;
    /// let wait = || std::future::pending::<Result<(), String>>();
    /// let helper = ChildSpec::task("helper", wait).linked_to(owner.process().clone());
    /// let helper = pool.start_child(helper).await?;
    /// pool.terminate_child(&owner).await?;
    /// assert_eq!(helper.first_exit().await, ExitReason::Shutdown); // as its owner
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn linked_to(mut self, owner: ProcessRef) -> Self {
        self.owner = Some(owner);
        self
    }

    /// When it is restarted.
    ///
    /// ```
    /// use perennial_supervision::{Agent, Restart};
    ///
    /// assert_eq!(Agent::child_spec("table", || 0).0.get_restart(), Restart::Permanent);
    /// ```
    pub fn get_restart(&self) -> Restart {
        self.restart
    }

    /// How it is stopped.
    ///
    /// ```
    /// use perennial_supervision::{Shutdown, Supervisor, SupervisorSpec};
    ///
    /// let (tables, _) = Supervisor::child_spec(SupervisorSpec::new("tables"));
    /// assert_eq!(tables.get_shutdown(), Shutdown::Infinity); // its children have limits of their own
    /// ```
    pub fn get_shutdown(&self) -> Shutdown {
        self.shutdown
    }

    /// Worker or supervisor.
    ///
    /// ```
    /// use perennial_supervision::{Agent, ChildType};
    ///
    /// assert_eq!(Agent::child_spec("table", || 0).0.get_type(), ChildType::Worker);
    /// ```
    pub fn get_type(&self) -> ChildType {
        self.child_type
    }

    /// Whether its end may stop its supervisor.
    ///
    /// ```
    /// use perennial_supervision::Agent;
    ///
    /// assert!(!Agent::child_spec("table", || 0).0.is_significant());
    /// ```
    pub fn is_significant(&self) -> bool {
        self.significant
    }

    /// Its name in the tree.
    ///
    /// ```
    /// use perennial_supervision::{Agent, Name};
    ///
    /// let (table, _) = Agent::child_spec("table", || 0);
    /// assert_eq!(table.get_name(), None); // an id is no name
    /// assert_eq!(table.name("main table").get_name().map(Name::as_str), Some("main table"));
    /// ```
    pub fn get_name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// Refuses a list that no supervisor can have as its children; starts nothing (SUP-049, 050).
    /// Significance is checked against `auto_shutdown` where it is given.
    ///
    /// ```
    /// use perennial_supervision::{Agent, ChildSpec, SpecError};
    ///
    /// let (table, _) = Agent::child_spec("table", || 0);
    /// let twice = [table.clone(), table];
    /// assert_eq!(ChildSpec::check_all(&twice, None), Err(SpecError::DuplicateChild("table".into())));
    /// ```
    ///
    /// # Errors
    ///
    /// The first fault in order.
    pub fn check_all(specs: &[Self], auto_shutdown: Option<AutoShutdown>) -> Result<(), SpecError> {
        specs.iter().try_for_each(Self::check_alone)?;
        let rules: Vec<Rules> = specs.iter().map(Self::rules).collect();
        Rules::check_all(&rules, auto_shutdown)
    }

    /// Refuses a name without text, and a mailbox that it cannot have.
    pub(crate) fn check_alone(&self) -> Result<(), SpecError> {
        if self.name.as_ref().is_some_and(|name| name.as_str().is_empty()) {
            return Err(SpecError::EmptyName(self.id.clone()));
        }
        let Some(Mailbox { capacity, overflow }) = self.mailbox else { return Ok(()) };
        let id = self.id.clone();
        match self.overflows {
            None => Err(SpecError::NoMailbox(id)),
            Some(_) if capacity == 0 => Err(SpecError::ZeroMailbox(id)),
            Some(able) if able.contains(&overflow) => Ok(()),
            Some(_) => Err(SpecError::MailboxPolicy { id, policy: overflow }),
        }
    }

    /// What decisions need to know of it.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            id: self.id.clone(),
            restart: self.restart,
            significant: self.significant,
            delay: self.restart_delay.clone(),
            budget: self.restart_budget,
        }
    }

    pub(crate) fn offender(&self, process: Option<ProcessRef>) -> Box<Offender> {
        Box::new(Offender {
            id: self.id.clone(),
            process,
            restart: self.restart,
            shutdown: self.shutdown,
            significant: self.significant,
            child_type: self.child_type,
        })
    }

    pub(crate) fn with_key(mut self, key: Arc<dyn ViaKey>) -> Self {
        self.key = Some(key);
        self
    }

    /// What whoever asks for its name gets (`Names::handle`).
    pub(crate) fn answers_with(&mut self, handle: impl Any + Clone + Send + Sync) {
        self.named_address = Some(AnyAddress::of(handle));
    }

    /// The same without what was captured to start it, and what is declared below it.
    pub(crate) fn without_start(&self) -> Self {
        let mut shown = Self { start: None, ..self.clone() };
        if let Some(declared) = &mut shown.supervises {
            let children = declared.children.iter().map(Self::without_start).collect();
            *declared = Arc::new(Supervises { children, ..Supervises::clone(declared) });
        }
        shown
    }

    /// What the tree dump shows of the component: `read` returns what it last published, and must
    /// neither block nor ask the child. It runs in a thread of the dump, which does not wait for it
    /// longer than [`DETAILS_WITHIN`](crate::DETAILS_WITHIN).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let done = Arc::new(AtomicU64::new(0));
    /// let shown = done.clone();
    /// let work = ChildSpec::task("work", || std::future::pending::<Result<(), String>>())
    ///     .detail(move || serde_json::json!({ "done": shown.load(Ordering::Relaxed) }));
    /// # let app = SupervisorSpec::new("app").child(work);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// done.store(7, Ordering::Relaxed); // as the work itself would
    /// assert_eq!(root.tree().nodes()[1].detail["done"], 7);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn detail(mut self, read: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        self.detail = Some(Arc::new(Detail::new(read)));
        self
    }

    /// Whether `other` is a clone of this one, and so the same child.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.identity.ptr_eq(&other.identity)
    }

    /// Nothing will come of this specification, nor of those declared below it.
    pub(crate) fn gone(&self) {
        if let Some(presence) = &self.presence {
            presence.gone();
        }
        let below = self.supervises.as_ref().map_or(&[][..], |declared| &declared.children);
        below.iter().for_each(Self::gone);
    }

    /// Where to read what the component published.
    pub(crate) fn shared_detail(&self) -> Option<Arc<Detail>> {
        self.detail.clone()
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("restart", &self.restart)
            .field("shutdown", &self.shutdown)
            .field("significant", &self.significant)
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
