use std::{fmt, sync::Arc};

use perennial_core::{
    ChildId, ChildType, ExitReason, Restart, Shutdown, Uptime, application::ApplicationName,
};
use tokio::sync::broadcast;

use crate::{ApplicationStartError, CrashReport, ProcessRef, process::parent};

/// Events kept for a subscriber that is behind; older ones are counted as missed.
pub(crate) const LIFECYCLE_KEPT: usize = 4096;

/// Something that happened to a node of the tree.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut events = root.tree().lifecycle();
/// counter.cast(Ask::Fail)?;
/// let told = loop {
///     let told = events.next().await.expect("the tree is there");
///     if let LifecycleEvent::Exited { .. } = told.event { break told; }
/// };
/// assert_eq!((told.path.as_str(), told.supervisor()), ("/app/counter", Some("/app")));
/// # root.shutdown().await; Ok(()) }
/// ```
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
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut events = root.tree().lifecycle();
    /// counter.cast(Ask::Fail)?;
    /// let told = events.next().await.expect("the tree is there");
    /// assert_eq!(told.supervisor(), Some("/app"));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn supervisor(&self) -> Option<&str> {
        parent(&self.path)
    }

    /// Name of the node below its supervisor.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut events = root.tree().lifecycle();
    /// counter.cast(Ask::Fail)?;
    /// let told = events.next().await.expect("the tree is there");
    /// assert_eq!(told.name(), "counter");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn name(&self) -> &str {
        &self.path[parent(&self.path).map_or(0, str::len) + 1..]
    }
}

/// What happened. Where OTP writes a report of a context, the variant names it.
///
/// ```
/// use perennial_supervision::LifecycleEvent;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut events = root.tree().lifecycle();
/// counter.cast(Ask::Fail)?;
/// let mut seen = Vec::new();
/// while let Some(told) = events.next().await {
///     match told.event {
///         LifecycleEvent::Exited { reason, .. } => seen.push(reason.name()),
///         LifecycleEvent::Started { incarnation: 2, .. } => break,
///         _ => (), // more may be told in later versions
///     }
/// }
/// assert_eq!(seen, ["panic"]);
/// # root.shutdown().await; Ok(()) }
/// ```
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
///
/// ```
/// use perennial_supervision::{LifecycleEvent, Offender};
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut events = root.tree().lifecycle();
/// counter.cast(Ask::Fail)?;
/// let offender: Box<Offender> = loop {
///     let told = events.next().await.expect("the tree is there");
///     if let LifecycleEvent::ChildTerminated { offender, .. } = told.event { break offender; }
/// };
/// assert_eq!((offender.id.as_str(), offender.restart), ("counter", Restart::Permanent));
/// # root.shutdown().await; Ok(()) }
/// ```
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
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// use perennial_supervision::LifecycleSource;
///
/// # fn child(source: LifecycleSource) { drop(source); }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = Root::start(SupervisorSpec::new("app"), Clock::start(), Options::default()).await?;
/// let source: LifecycleSource = root.tree().lifecycle_source();
/// let mut events = source.subscribe();
/// child(source); // a child may hold it: it keeps nothing of the tree alive
/// root.shutdown().await;
/// assert_eq!(events.next().await.expect("told before it is gone").path, "/app");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct LifecycleSource(pub(crate) broadcast::Sender<Lifecycle>);

impl LifecycleSource {
    /// Subscribes to what happens from now on.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let source = root.tree().lifecycle_source();
    /// let (mut events, mut others) = (source.subscribe(), source.subscribe());
    /// counter.cast(Ask::Fail)?;
    /// assert_eq!(events.next().await, others.next().await); // each is told of everything
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn subscribe(&self) -> LifecycleStream {
        LifecycleStream::new(self.0.subscribe())
    }
}

/// A subscription to [`Lifecycle`] events.
///
/// ```
/// use perennial_supervision::LifecycleStream;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut events: LifecycleStream = root.tree().lifecycle();
/// assert_eq!(events.try_next(), None); // nothing has happened since
/// counter.cast(Ask::Fail)?;
/// assert_eq!(events.next().await.expect("the tree is there").path, "/app/counter");
/// assert_eq!(events.missed(), 0);
/// # root.shutdown().await; Ok(()) }
/// ```
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
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut events = root.tree().lifecycle();
    /// root.shutdown().await;
    /// drop((root, counter));
    /// let mut seen = Vec::new();
    /// while let Some(told) = events.next().await {
    ///     if let LifecycleEvent::Exited { .. } = told.event { seen.push(told.path); }
    /// }
    /// assert_eq!(seen, ["/app/counter", "/app"]); // the tree is gone
    /// # Ok(()) }
    /// ```
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
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut events = root.tree().lifecycle();
    /// root.shutdown().await;
    /// let all: Vec<_> = std::iter::from_fn(|| events.try_next()).collect(); // what there is by now
    /// assert!(all.iter().any(|told| told.path == "/app/counter"));
    /// # Ok(()) }
    /// ```
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
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut events = root.tree().lifecycle();
    /// # drop(counter);
    /// while events.try_next().is_some() {}
    /// assert_eq!(events.missed(), 0); // otherwise: look at `Tree::nodes` for what is so now
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl fmt::Debug for LifecycleStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LifecycleStream").field("missed", &self.missed).finish_non_exhaustive()
    }
}
