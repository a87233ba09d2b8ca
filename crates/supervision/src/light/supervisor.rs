//! Specification of a supervisor of light servers, and the handle to it.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use perennial_core::{
    ChildId, ChildType, ExitReason, Restart, Shutdown,
    intensity::IntensityLimit,
    supervisor::{Flags, RestartDelay, SpecError},
    tree::NodeKind,
};
use tokio_util::sync::CancellationToken;

use super::{LightServer, home::Home, picture::Litter};
use crate::{
    Address, ChildInfo, ChildSpec, Counts, LifecycleEvent, Mailbox, ProcessRef, RequestError,
    StopError, StopToken,
    child::{Outcome, StartCx, started},
    life::{Control, Life, Pid},
    node::Supervises,
    presence::{Announce, OneLife, Presence, Publisher, channel},
    process::{CURRENT, Here},
};

/// How long an init may take unless the specification says otherwise.
const START_WITHIN: Duration = Duration::from_secs(30);

/// What a supervisor of light servers is made of: its own flags, and what holds for each of its children.
///
/// | option | default |
/// |---|---|
/// | [`intensity`](Self::intensity) | 3 restarts in 5 s, over all children |
/// | [`child_budget`](Self::child_budget) | none |
/// | [`child_restart`](Self::child_restart) | permanent |
/// | [`child_shutdown`](Self::child_shutdown) | 5 s |
/// | [`mailbox`](Self::mailbox) | 10 000 messages, further ones are refused |
/// | [`restart_backoff`](Self::restart_backoff) | none |
/// | [`start_within`](Self::start_within) | 30 s |
/// | [`stops_in_order`](Self::stops_in_order) | no: all at once |
///
/// ```
/// use perennial_supervision::{LightSupervisorSpec, Mailbox, Overflow, Restart};
/// use std::time::Duration;
///
/// let spec = LightSupervisorSpec::new("carts", 100_000)
///     .child_restart(Restart::Transient)
///     .child_budget(3, Duration::from_secs(60))
///     .mailbox(Mailbox::new(100).overflow(Overflow::DropOldest));
/// # drop(spec);
/// ```
#[derive(Clone, Debug)]
pub struct LightSupervisorSpec {
    id: ChildId,
    restart: Restart,
    pub(super) intensity: IntensityLimit,
    pub(super) max_children: Option<usize>,
    pub(super) child_budget: Option<IntensityLimit>,
    pub(super) child_restart: Restart,
    pub(super) child_shutdown: Shutdown,
    pub(super) mailbox: Mailbox,
    pub(super) restart_delay: Option<RestartDelay>,
    pub(super) start_within: Duration,
    pub(super) stops_in_order: bool,
    pub(super) type_name: &'static str,
}

impl LightSupervisorSpec {
    /// A permanent supervisor for at most `max_children` light servers that tolerates 3 restarts in 5 s.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = LightSupervisorSpec::new("carts", 1);
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(spec);
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// carts.start_child("of-ada", vec![]).await?;
    /// let more = carts.start_child("of-bob", vec![]).await;
    /// assert!(matches!(more, Err(RequestError::MaxChildren(1))));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn new(id: impl Into<ChildId>, max_children: usize) -> Self {
        Self { max_children: Some(max_children), ..Self::unlimited(id) }
    }

    /// As [`new`](Self::new), without a limit: the memory of the machine is the limit.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = LightSupervisorSpec::unlimited("carts");
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(spec);
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// for number in 0..1_000 {
    ///     carts.start_child(format!("cart-{number}"), vec![]).await?;
    /// }
    /// assert_eq!(carts.count_children()?.active, 1_000);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn unlimited(id: impl Into<ChildId>) -> Self {
        Self {
            id: id.into(),
            restart: Restart::Permanent,
            intensity: IntensityLimit::default(),
            max_children: None,
            child_budget: None,
            child_restart: Restart::Permanent,
            child_shutdown: Shutdown::WORKER_DEFAULT,
            mailbox: Mailbox::default(),
            restart_delay: None,
            start_within: START_WITHIN,
            stops_in_order: false,
            type_name: "",
        }
    }

    /// Gives up after more than `max_restarts` restarts within `within`, over all children.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = LightSupervisorSpec::new("carts", 100).intensity(1, Duration::from_secs(5));
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(spec);
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// let (ada, bob) = (carts.start_child("of-ada", vec![]).await?, carts.start_child("of-bob", vec![]).await?);
    /// let mut end = bob.monitor();
    /// ada.cast(Message::Lose)?; // one restart is tolerated
    /// assert_eq!(ada.ask(Message::Items).await, Err(CallError::Exited(ExitReason::Error("lost".into()))));
    /// assert!(ada.ask(Message::Items).await.is_ok());
    /// ada.cast(Message::Lose)?; // the second ends all
    /// assert_eq!(end.down().await, ExitReason::Shutdown);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn intensity(mut self, max_restarts: u32, within: Duration) -> Self {
        self.intensity = IntensityLimit { max_restarts, within };
        self
    }

    /// Gives each child a restart budget of its own instead: a child that exceeds it is dropped and
    /// reported, and its siblings and the supervisor live on.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = LightSupervisorSpec::new("carts", 100).child_budget(0, Duration::from_secs(5));
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(spec);
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// let (ada, bob) = (carts.start_child("of-ada", vec![]).await?, carts.start_child("of-bob", vec![]).await?);
    /// let mut end = ada.monitor();
    /// ada.cast(Message::Lose)?;
    /// end.down().await;
    /// assert!(carts.find("of-ada").is_none()); // it had no restart
    /// assert!(bob.ask(Message::Items).await.is_ok());
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn child_budget(mut self, max_restarts: u32, within: Duration) -> Self {
        self.child_budget = Some(IntensityLimit { max_restarts, within });
        self
    }

    /// Sets when this supervisor itself is restarted, as a child. Its children do not come back with it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = LightSupervisorSpec::new("carts", 100).restart(Restart::Transient);
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(spec);
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// carts.stop(Duration::from_secs(5)).await?;
    /// assert!(!carts.is_up().await); // a shutdown is no failure
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Sets when children are restarted.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = LightSupervisorSpec::new("carts", 100).child_restart(Restart::Temporary);
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(spec);
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// let ada = carts.start_child("of-ada", vec![]).await?;
    /// ada.cast(Message::Lose)?;
    /// assert_eq!(ada.ask(Message::Items).await, Err(CallError::Exited(ExitReason::Error("lost".into()))));
    /// assert_eq!(ada.ask(Message::Items).await, Err(CallError::NoProc));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn child_restart(mut self, restart: Restart) -> Self {
        self.child_restart = restart;
        self
    }

    /// Sets how children are stopped.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = LightSupervisorSpec::new("carts", 100).child_shutdown(Shutdown::BrutalKill);
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(spec);
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// let ada = carts.start_child("of-ada", vec![]).await?;
    /// let mut end = ada.monitor();
    /// carts.terminate_child("of-ada").await?;
    /// assert_eq!(end.down().await, ExitReason::Killed);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn child_shutdown(mut self, shutdown: Shutdown) -> Self {
        self.child_shutdown = shutdown;
        self
    }

    /// Bounds the mailbox of each child, and says what becomes of one message more.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = LightSupervisorSpec::new("carts", 100).mailbox(Mailbox::new(1));
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(spec);
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// let ada = carts.start_child("of-ada", vec![]).await?;
    /// ada.cast(Message::Put(1))?;
    /// assert_eq!(ada.cast(Message::Put(2)), Err(CastError::Full));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn mailbox(mut self, mailbox: Mailbox) -> Self {
        self.mailbox = mailbox;
        self
    }

    /// Waits before each restart. A termination and a shutdown cancel the wait (SUP-120).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let wait = RestartDelay::constant(Duration::from_secs(1));
    /// let spec = LightSupervisorSpec::new("carts", 100).restart_backoff(wait);
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(spec);
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// let ada = carts.start_child("of-ada", vec![7]).await?;
    /// let mut end = ada.monitor();
    /// ada.cast(Message::Lose)?;
    /// end.down().await;
    /// assert_eq!(ada.whereis(), None);
    /// assert_eq!(ada.ask(Message::Items).await?, [7]); // a call waits for it
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn restart_backoff(mut self, delay: RestartDelay) -> Self {
        self.restart_delay = Some(delay);
        self
    }

    /// Sets how long an init may take; one that takes longer fails with
    /// [`Timeout`](perennial_core::ExitReason::Timeout).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = LightSupervisorSpec::new("carts", 100).start_within(Duration::from_secs(1));
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(spec);
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// assert!(carts.start_child("of-ada", vec![]).await.is_ok()); // its init takes no time
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn start_within(mut self, within: Duration) -> Self {
        self.start_within = within;
        self
    }

    /// Whether a shutdown stops the children one after another, the last one started first, each within its
    /// own time, and not all at once.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = LightSupervisorSpec::new("carts", 100).stops_in_order(true);
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(spec);
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// let mut events = root.tree().lifecycle();
    /// carts.start_child("first", vec![]).await?;
    /// carts.start_child("last", vec![]).await?;
    /// carts.stop(Duration::from_secs(5)).await?;
    /// let ended = |event: &Lifecycle| matches!(event.event, LifecycleEvent::Exited { .. });
    /// let ends: Vec<_> = std::iter::from_fn(|| events.try_next()).filter(ended).collect();
    /// assert_eq!((ends[0].name(), ends[1].name()), ("last", "first"));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn stops_in_order(mut self, in_order: bool) -> Self {
        self.stops_in_order = in_order;
        self
    }

    fn flags(&self) -> Flags {
        Flags { intensity: self.intensity, ..Flags::default() }
    }

    /// Refuses what no supervisor can do.
    fn check(&self) -> Result<(), SpecError> {
        self.flags().check()?;
        if self.child_budget.is_some_and(|budget| budget.within.is_zero()) {
            return Err(SpecError::ZeroPeriod);
        }
        if self.mailbox.capacity == 0 {
            return Err(SpecError::ZeroMailbox(self.id.clone()));
        }
        Ok(())
    }
}

/// Handle to a supervisor of light servers of one type. Cheap to clone; outlives its restarts.
///
/// In the examples `Cart` is a light server as that of [`LightServer`], whose arguments are its first items; it
/// fails when it is told `Lose`.
///
/// Children are started on demand and told apart by their ids, which are unique below it. It is one-for-one,
/// as a [`DynamicSupervisor`](crate::DynamicSupervisor) is, and unlike that asks nobody for a start or a stop:
/// the caller does it, and children restart themselves.
///
/// | promise | id |
/// |---|---|
/// | a start returns when its init did, or says why it did not | DYN-011, 017 |
/// | what was terminated does not come back, also when it is being restarted | DYN-035–037, SUP-120 |
/// | a restart that fails is tried again and counts again | SUP-097 |
/// | more restarts than tolerated end all children, and then it, for `shutdown` | SUP-129 |
/// | a shutdown leaves none behind | DYN-039, trap 7 |
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (child, carts) = LightSupervisor::<Cart>::child_spec(LightSupervisorSpec::new("carts", 100));
/// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
/// let ada = carts.start_child("of-ada", vec![7]).await?;
/// ada.cast(Message::Put(8))?;
/// assert_eq!(ada.ask(Message::Items).await?, [7, 8]);
/// ada.cast(Message::Lose)?;
/// assert!(ada.ask(Message::Items).await.is_err()); // it waited behind the failure
/// assert_eq!(ada.ask(Message::Items).await?, [7]); // what dies comes back, from its arguments
/// # root.shutdown().await; Ok(()) }
/// ```
pub struct LightSupervisor<S: LightServer> {
    presence: Presence<OneHome<S::Message>>,
    of: PhantomData<fn() -> S>,
}

/// One life of the supervisor.
pub(super) struct OneHome<M> {
    home: Arc<Home<M>>,
    process: ProcessRef,
    control: Arc<SupervisorControl>,
}

impl<S: LightServer> LightSupervisor<S> {
    /// How to supervise it, and the handle to it. Its shutdown is `infinity`: its children have limits of
    /// their own.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (child, carts) = LightSupervisor::<Cart>::child_spec(LightSupervisorSpec::new("carts", 100));
    /// let shop = SupervisorSpec::new("shop").child(child);
    /// let root = Root::start(shop, Clock::start(), Options::default()).await?;
    /// assert!(carts.is_up().await);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn child_spec(spec: LightSupervisorSpec) -> (ChildSpec, Self) {
        let (publisher, presence) = channel();
        let publisher = Arc::new(publisher);
        let announce: Arc<dyn Announce> = publisher.clone();
        let (id, restart, declared) =
            (spec.id.clone(), spec.restart, Supervises::new(&spec.flags(), Vec::new()));
        let spec = LightSupervisorSpec { type_name: std::any::type_name::<S>(), ..spec };
        let spec = Arc::new(spec);
        let mut child = ChildSpec::worker(id, NodeKind::DynamicSupervisor, move |cx: StartCx| {
            let begun = spec.check().map(|()| begin(&cx, &publisher, &spec));
            let begun = begun.map(Outcome::Up).map_err(Into::into);
            Box::pin(std::future::ready(begun))
        });
        child.restart = restart;
        child.shutdown = Shutdown::Infinity;
        child.child_type = ChildType::Supervisor;
        child.start_within = None;
        child.presence = Some(announce);
        child.supervises = Some(Arc::new(declared));
        let handle = Self { presence, of: PhantomData };
        child.answers_with(handle.clone());
        let shown = handle.presence.clone();
        let child = child
            .detail(move || shown.now().map_or(serde_json::Value::Null, |life| life.home.detail()));
        (child, handle)
    }

    /// Starts a child, which is at the address that this returns until it ends for good; `arguments` are
    /// kept for its restarts.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(LightSupervisorSpec::new("carts", 100));
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// let ada = carts.start_child("of-ada", vec![7]).await?;
    /// assert_eq!(ada.ask(Message::Items).await?, [7]);
    /// let again = carts.start_child("of-ada", vec![]).await;
    /// assert!(matches!(again, Err(RequestError::AlreadyStarted(_))));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AlreadyStarted`](RequestError::AlreadyStarted) or [`Restarting`](RequestError::Restarting) when a
    /// child of this id is there; when it does not start, its init answers ignore, or as many as allowed are
    /// there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the start.
    pub async fn start_child(
        &self,
        id: impl Into<ChildId>,
        arguments: S::Arguments,
    ) -> Result<Address<S::Message>, RequestError> {
        let id = id.into();
        if id.as_str().is_empty() {
            return Err(SpecError::MissingId.into());
        }
        let life = self.presence.current().await.map_err(|_| RequestError::NoProc)?;
        let cell = life.home.start::<S>(id, arguments)?;
        life.home.is_begun(&cell).await?;
        Ok(Address::of_light(cell))
    }

    /// Stops the child of this id for good and awaits its end; a pending restart is cancelled.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(LightSupervisorSpec::new("carts", 100));
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// let ada = carts.start_child("of-ada", vec![]).await?;
    /// carts.terminate_child("of-ada").await?;
    /// assert_eq!(ada.ask(Message::Items).await, Err(CallError::NoProc));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NotFound`] when there is no such child, and
    /// [`CallingSelf`](RequestError::CallingSelf) when it is the caller.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the stop; a child that does not end in time is then not killed
    /// before the supervisor stops.
    pub async fn terminate_child(&self, id: impl Into<ChildId>) -> Result<(), RequestError> {
        let id = id.into();
        let life = self.presence.current().await.map_err(|_| RequestError::NoProc)?;
        let cell = life.home.find(id.as_str()).ok_or(RequestError::NotFound(id))?;
        if crate::process::here(|here| here.is_light(&cell)) {
            return Err(RequestError::CallingSelf);
        }
        life.home.stop(&cell).await;
        Ok(())
    }

    /// Where the child of this id is reached. Asks nobody.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(LightSupervisorSpec::new("carts", 100));
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// carts.start_child("of-ada", vec![7]).await?;
    /// let ada = carts.find("of-ada").expect("it runs");
    /// assert_eq!(ada.ask(Message::Items).await?, [7]);
    /// assert!(carts.find("of-bob").is_none());
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn find(&self, id: &str) -> Option<Address<S::Message>> {
        self.presence.now()?.home.find(id).map(Address::of_light)
    }

    /// Its children, in the order in which they were started; asks nobody.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(LightSupervisorSpec::new("carts", 100));
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// carts.start_child("of-ada", vec![]).await?;
    /// assert_eq!(carts.which_children()?[0].path(), "/shop/carts/of-ada");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NoProc`] when it does not run (SUP-184).
    pub fn which_children(&self) -> Result<Vec<ChildInfo>, RequestError> {
        Ok(self.presence.now().ok_or(RequestError::NoProc)?.home.lines())
    }

    /// Totals of [`which_children`](Self::which_children).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(LightSupervisorSpec::new("carts", 100));
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// carts.start_child("of-ada", vec![]).await?;
    /// assert_eq!(carts.count_children()?.active, 1);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NoProc`] when it does not run (SUP-184).
    pub fn count_children(&self) -> Result<Counts, RequestError> {
        Ok(self.presence.now().ok_or(RequestError::NoProc)?.home.counts())
    }

    /// Stops it and all below it, as [`Supervisor::stop`](crate::Supervisor::stop).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(LightSupervisorSpec::new("carts", 100));
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// let ada = carts.start_child("of-ada", vec![]).await?;
    /// carts.stop(Duration::from_secs(5)).await?;
    /// assert_eq!(ada.ask(Message::Items).await, Err(CallError::NoProc));
    /// assert!(carts.is_up().await); // its own supervisor has started it again, without children
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`StopError`].
    pub async fn stop(&self, within: Duration) -> Result<(), StopError> {
        if within.is_zero() {
            return Err(StopError::ZeroDeadline);
        }
        let life = self.presence.now().ok_or(StopError::NoProc)?;
        if crate::process::here(|here| here.is_below(life.home.path())) {
            return Err(StopError::CallingSelf);
        }
        life.control.stop(&ExitReason::Shutdown);
        match tokio::time::timeout(within, life.process.ended().wait()).await {
            Ok(ExitReason::Shutdown) => Ok(()),
            Ok(reason) => Err(StopError::Exited(reason)),
            Err(_) => Err(StopError::Timeout),
        }
    }

    /// Waits until an incarnation runs; answers whether one does.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (child, carts) = LightSupervisor::<Cart>::child_spec(LightSupervisorSpec::new("carts", 100));
    /// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
    /// assert!(carts.is_up().await);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub async fn is_up(&self) -> bool {
        self.presence.current().await.is_ok()
    }
}

/// Starts one life of it; no child is there yet.
fn begin<M: Send + 'static>(
    cx: &StartCx,
    publisher: &Publisher<OneHome<M>>,
    spec: &Arc<LightSupervisorSpec>,
) -> Life {
    cx.node.forget_children();
    let home = Home::new(cx, spec.clone());
    let litter: Arc<dyn Litter> = home.clone();
    cx.node.houses(litter);
    let control = Arc::new(SupervisorControl::default());
    let (process, pid) = (cx.process.clone(), cx.process.pid());
    let life = Life { process: process.clone(), control: control.clone() };
    let (own, node, context) = (control.clone(), cx.node.clone(), cx.context.clone());
    publisher.up(OneHome { home: home.clone(), process: process.clone(), control });
    let run = async move {
        let ended = tokio::select! {
            biased;
            () = own.kill.cancelled() => ExitReason::Killed,
            () = own.stop.stopped() => own.stop.reason().cloned().unwrap_or(ExitReason::Shutdown),
            reason = own.crashed() => reason,
            () = home.attention.notified() => {
                node.gave_up();
                if let Some(offender) = home.gave_up() {
                    home.report(LifecycleEvent::GaveUp { offender });
                }
                ExitReason::Shutdown
            }
        };
        node.stopping(pid);
        let in_peace = !ended.is_abnormal();
        if in_peace {
            tokio::select! {
                biased;
                () = own.kill.cancelled() => (),
                () = home.stop_all(&ExitReason::Shutdown, None) => return ended,
            }
        }
        // Whatever way it ends, nothing below it survives its announced end (SUP-138, 146, 148).
        home.stop_all(&ended, Some(context.kill_deadline())).await;
        if in_peace { ExitReason::Killed } else { ended }
    };
    cx.drive(&life, CURRENT.scope(Here::Process(process), run));
    started(cx);
    life
}

#[derive(Default)]
struct SupervisorControl {
    stop: StopToken,
    kill: CancellationToken,
    #[cfg(feature = "testing")]
    crash: CancellationToken,
}

impl SupervisorControl {
    #[cfg(feature = "testing")]
    async fn crashed(&self) -> ExitReason {
        self.crash.cancelled().await;
        match crate::contain(async { panic!("injected crash") }).await {
            Ok(()) => ExitReason::Normal,
            Err(reason) => reason,
        }
    }

    #[cfg(not(feature = "testing"))]
    async fn crashed(&self) -> ExitReason {
        std::future::pending().await
    }
}

impl Control for SupervisorControl {
    fn stop(&self, reason: &ExitReason) {
        self.stop.stop_for(reason);
    }

    fn kill(&self) {
        self.kill.cancel();
    }

    #[cfg(feature = "testing")]
    fn crash(&self) {
        self.crash.cancel();
    }
}

impl<M> OneLife for OneHome<M> {
    fn pid(&self) -> Pid {
        self.process.pid()
    }
}

impl<M> Clone for OneHome<M> {
    fn clone(&self) -> Self {
        let Self { home, process, control } = self;
        Self { home: home.clone(), process: process.clone(), control: control.clone() }
    }
}

impl<S: LightServer> Clone for LightSupervisor<S> {
    fn clone(&self) -> Self {
        Self { presence: self.presence.clone(), of: PhantomData }
    }
}

impl<S: LightServer> fmt::Debug for LightSupervisor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LightSupervisor").finish_non_exhaustive()
    }
}
