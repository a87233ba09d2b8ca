//! What a server knows of itself, and the processes it watches.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
};

use futures_util::{
    StreamExt,
    future::{AbortHandle, Aborted, abortable},
    stream::FuturesUnordered,
};
use perennial_core::ExitReason;

use super::{GenServer, Standing, timers::Timers};
use crate::{Address, ChildRef, ChildSpec, Clock, DynamicSupervisor, ProcessRef, RequestError};

/// Events that the debugger and a crash report can tell of.
const EVENTS_KEPT: usize = 16;

/// The server itself, in its callbacks.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{*, actor::ActorError};
/// use perennial_supervision::ServerCx;
///
/// struct Me;
/// impl GenServer for Me {
///     type Arguments = ();
///     type Message = Reply<String>;
///
///     async fn init((): (), cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
///         cx.set_label("the only one"); // for reports and the debugger
///         Ok(Init::new(Self))
///     }
///
///     async fn handle(&mut self, reply: Reply<String>, cx: &mut ServerCx<Self>) -> Result<Next<Reply<String>>, ActorError> {
///         reply.send(cx.process().path().to_owned());
///         Ok(Next::Continue)
///     }
/// }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (me, address) = ChildSpec::server::<Me>("me", || ());
/// # let app = SupervisorSpec::new("app").child(me);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// assert_eq!(address.ask(|reply| reply).await?, "/app/me");
/// # root.shutdown().await; Ok(()) }
/// ```
pub struct ServerCx<S: GenServer> {
    process: ProcessRef,
    address: Address<S::Message>,
    pub(super) label: Option<String>,
    pub(super) watches: Watches,
    pub(super) timers: Timers<S::Message>,
    pub(super) events: Events,
}

/// The end of a process that was watched.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{*, actor::ActorError};
/// use perennial_supervision::{Exit, WatchRef};
///
/// /// Watches two, and tells them apart.
/// struct Pair { left: WatchRef, right: WatchRef }
/// impl GenServer for Pair {
///     type Arguments = [ProcessRef; 2];
///     type Message = ();
///
///     async fn init([left, right]: [ProcessRef; 2], cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
///         Ok(Init::new(Self { left: cx.monitor(&left), right: cx.monitor(&right) }))
///     }
///
///     async fn handle_exit(&mut self, exit: Exit, _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> {
///         let which = if exit.watch == self.left { "left" } else { "right" };
///         Ok(Next::Stop(ExitReason::ShutdownWith(format!("{which}: {}", exit.reason).into())))
///     }
/// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
/// }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// # let left = pool.start_child(Agent::child_spec("left", || 0_u32).0).await?;
/// # let right = pool.start_child(Agent::child_spec("right", || 0_u32).0).await?;
/// let both = [left.process().clone(), right.process().clone()];
/// let (pair, address) = ChildSpec::server::<Pair>("pair", move || both.clone());
/// pool.start_child(pair.restart(Restart::Temporary)).await?;
/// let mut monitor = address.monitor();
/// pool.terminate_child(&right).await?;
/// assert_eq!(monitor.down().await, ExitReason::ShutdownWith("right: shutdown".into()));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Which watch it was.
    pub watch: WatchRef,
    /// What ended.
    pub process: ProcessRef,
    /// Why; [`ExitReason::NoProc`] when it had ended before it was watched.
    pub reason: ExitReason,
}

/// One watch of one server on one process.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{*, actor::ActorError};
/// use perennial_supervision::WatchRef;
///
/// /// Watches one process at a time.
/// struct Follower(Option<WatchRef>);
/// impl GenServer for Follower {
///     type Arguments = ();
///     type Message = ProcessRef;
///
///     async fn handle(&mut self, next: ProcessRef, cx: &mut ServerCx<Self>) -> Result<Next<ProcessRef>, ActorError> {
///         let before = self.0.replace(cx.monitor(&next));
///         before.into_iter().for_each(|watch| cx.demonitor(watch));
///         Ok(Next::Continue)
///     }
/// #     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> { Ok(Init::new(Self(None))) }
/// }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (table, _) = Agent::child_spec("table", || 0_u32);
/// # let (follower, address) = ChildSpec::server::<Follower>("follower", || ());
/// # let app = SupervisorSpec::new("app").child(table).child(follower);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let table = root.supervisor().which_child("table")?.process.expect("it runs");
/// address.cast(table.clone())?;
/// address.cast(table)?;
/// tokio::time::sleep(Duration::from_millis(1)).await; // paused clock
/// assert_eq!(address.info().expect("it runs").watches.len(), 1);
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchRef(u64);

impl WatchRef {
    /// That of all links that others have made: of a task that was started for it, of a registry that
    /// it is registered in.
    pub(super) fn of_others() -> Self {
        Self(u64::MAX)
    }

    /// Whether the server itself watches or has linked what ended; otherwise others have.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// # struct Watcher;
    /// # impl GenServer for Watcher {
    /// #     type Arguments = ();
    /// #     type Message = ();
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// async fn init((): (), cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///     let own = cx.process().clone();
    ///     assert!(cx.monitor(&own).is_own());
    ///     Ok(Init::new(Self))
    /// }
    ///
    /// async fn handle_exit(&mut self, exit: Exit, _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> {
    ///     // The end of a task that was started for it with a link, for instance.
    ///     let _by_others = !exit.watch.is_own();
    ///     Ok(Next::Continue)
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (watcher, _) = ChildSpec::server::<Watcher>("watcher", || ());
    /// # let app = SupervisorSpec::new("app").child(watcher);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn is_own(self) -> bool {
        self != Self::of_others()
    }
}

impl<S: GenServer> ServerCx<S> {
    pub(crate) fn new(
        process: ProcessRef,
        address: Address<S::Message>,
        standing: Arc<Standing>,
        clock: Clock,
    ) -> Self {
        let (watches, timers) = (Watches::new(standing), Timers::new(clock));
        Self { process, address, label: None, watches, timers, events: Events::default() }
    }

    /// This incarnation.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// # struct Worker;
    /// # impl GenServer for Worker {
    /// #     type Arguments = ();
    /// #     type Message = ();
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// async fn init((): (), cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///     assert_eq!(cx.process().path(), "/app/worker");
    ///     Ok(Init::new(Self))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (worker, _) = ChildSpec::server::<Worker>("worker", || ());
    /// # let app = SupervisorSpec::new("app").child(worker);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn process(&self) -> &ProcessRef {
        &self.process
    }

    /// Where it is reached, now and after a restart. A call to it from here would wait for itself,
    /// and says so.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// struct Poll;
    /// impl GenServer for Poll {
    ///     type Arguments = ();
    ///     type Message = &'static str;
    ///
    ///     async fn init((): (), cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///         let address = cx.address().clone();
    ///         // Given away, for instance to whoever is to tell it of news.
    ///         address.cast("news")?;
    ///         Ok(Init::new(Self))
    ///     }
    ///
    ///     async fn handle(&mut self, news: &'static str, _: &mut ServerCx<Self>) -> Result<Next<&'static str>, ActorError> {
    ///         Ok(Next::Stop(ExitReason::ShutdownWith(news.into())))
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let (poll, _) = ChildSpec::server::<Poll>("poll", || ());
    /// let poll = pool.start_child(poll.restart(Restart::Temporary)).await?;
    /// assert_eq!(poll.first_exit().await, ExitReason::ShutdownWith("news".into()));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn address(&self) -> &Address<S::Message> {
        &self.address
    }

    /// What reports call it, beside its path (OBS-013).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// # struct Worker;
    /// # impl GenServer for Worker {
    /// #     type Arguments = ();
    /// #     type Message = ();
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// async fn init((): (), cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///     cx.set_label("order 7");
    ///     Ok(Init::new(Self))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (worker, address) = ChildSpec::server::<Worker>("worker", || ());
    /// # let app = SupervisorSpec::new("app").child(worker);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let status = Debugger::<Worker>::of(&address).status(Duration::from_secs(1)).await?;
    /// assert_eq!(status.label.as_deref(), Some("order 7"));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn set_label(&mut self, label: impl Into<String>) {
        self.label = Some(label.into());
    }

    /// Watches the end of `process`, which `handle_exit` is told of once, and lives on. Watches are
    /// independent of each other: each tells of the end (GS-061).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// # struct Watcher;
    /// # impl GenServer for Watcher {
    /// #     type Arguments = ProcessRef;
    /// #     type Message = ();
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// async fn init(peer: ProcessRef, cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///     let watch = cx.monitor(&peer); // `handle_exit` is told of its end
    ///     assert!(watch.is_own());
    ///     Ok(Init::new(Self))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, count) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let peer = root.supervisor().which_child("table")?.process.expect("it runs");
    /// let (watcher, address) = ChildSpec::server::<Watcher>("watcher", move || peer.clone());
    /// root.supervisor().start_child(watcher).await?;
    /// assert_eq!(address.info().expect("it runs").watches[0].path(), "/app/table");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn monitor(&mut self, process: &ProcessRef) -> WatchRef {
        self.watches.add(process, false)
    }

    /// As [`monitor`](Self::monitor), and one that does not trap exits ends with `process`, for the
    /// same reason and without cleanup, unless that is normal. One direction only: `process` does
    /// not notice.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// /// Worth nothing without its connection.
    /// struct Query;
    /// impl GenServer for Query {
    ///     type Arguments = ProcessRef;
    ///     type Message = ();
    ///     const TRAPS_EXITS: bool = false;
    ///
    ///     async fn init(connection: ProcessRef, cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///         cx.link(&connection);
    ///         Ok(Init::new(Self))
    ///     }
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let (connection, handle) = Agent::child_spec("connection", || 0_u32);
    /// let connection = pool.start_child(connection.restart(Restart::Temporary)).await?.process().clone();
    /// let (query, address) = ChildSpec::server::<Query>("query", move || connection.clone());
    /// pool.start_child(query.restart(Restart::Temporary)).await?;
    /// let mut monitor = address.monitor();
    /// handle.cast(|_| panic!("hung up"))?;
    /// assert!(matches!(monitor.down().await, ExitReason::Panic { message, .. } if &*message == "hung up"));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn link(&mut self, process: &ProcessRef) -> WatchRef {
        self.watches.add(process, true)
    }

    /// Starts `spec` under `supervisor` and links both ways (GS-002): the child ends with this
    /// server, and the end of the child is told as of any [`link`](Self::link). A plain `start_child`
    /// links neither.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// struct Owner;
    /// impl GenServer for Owner {
    ///     type Arguments = DynamicSupervisor;
    ///     type Message = ();
    ///
    ///     async fn init(pool: DynamicSupervisor, cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///         let wait = || std::future::pending::<Result<(), String>>();
    ///         let (helper, _watch) = cx.start_link(&pool, ChildSpec::task("helper", wait)).await?;
    ///         assert_eq!(helper.process().path(), "/app/pool/helper");
    ///         Ok(Init::new(Self))
    ///     }
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let given = pool.clone();
    /// let (owner, address) = ChildSpec::server::<Owner>("owner", move || given.clone());
    /// root.supervisor().start_child(owner.restart(Restart::Temporary)).await?;
    /// let helper = pool.find("helper").expect("it runs");
    /// address.stop(ExitReason::Normal, Duration::from_secs(1)).await?;
    /// assert!(helper.first_exit().await == ExitReason::Normal); // with its owner
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`DynamicSupervisor::start_child`].
    pub async fn start_link(
        &mut self,
        supervisor: &DynamicSupervisor,
        spec: ChildSpec,
    ) -> Result<(ChildRef, WatchRef), RequestError> {
        let child = supervisor.start_child(spec.linked_to(self.process.clone())).await?;
        let watch = self.link(child.process());
        Ok((child, watch))
    }

    /// Watches no more. An exit that waits in the mailbox already is not told (GS-061).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// # struct Watcher;
    /// # impl GenServer for Watcher {
    /// #     type Arguments = ProcessRef;
    /// #     type Message = ();
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// async fn init(peer: ProcessRef, cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///     let watch = cx.monitor(&peer);
    ///     cx.demonitor(watch); // `handle_exit` is not told any more
    ///     Ok(Init::new(Self))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, count) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let peer = root.supervisor().which_child("table")?.process.expect("it runs");
    /// let (watcher, address) = ChildSpec::server::<Watcher>("watcher", move || peer.clone());
    /// root.supervisor().start_child(watcher).await?;
    /// assert!(address.info().expect("it runs").watches.is_empty());
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn demonitor(&mut self, watch: WatchRef) {
        self.watches.remove(watch);
    }
}

impl<S: GenServer> fmt::Debug for ServerCx<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCx")
            .field("process", &self.process)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// An exit on its way through the mailbox.
pub(crate) struct Watched(Exit);

type Ending = Pin<Box<dyn Future<Output = Result<Exit, Aborted>> + Send>>;

/// The watches of one server. Nothing of a watch outlives it.
pub(super) struct Watches {
    made: u64,
    present: BTreeMap<WatchRef, Watch>,
    ends: FuturesUnordered<Ending>,
    /// Shows the same watches.
    pub(super) standing: Arc<Standing>,
}

struct Watch {
    linked: bool,
    abort: AbortHandle,
}

impl Watches {
    fn new(standing: Arc<Standing>) -> Self {
        Self { made: 0, present: BTreeMap::new(), ends: FuturesUnordered::new(), standing }
    }

    fn add(&mut self, process: &ProcessRef, linked: bool) -> WatchRef {
        let watch = WatchRef(self.made);
        self.made += 1;
        let (mut monitor, target) = (process.monitor(), process.clone());
        let (end, abort) = abortable(async move {
            let reason = monitor.down().await;
            Exit { watch, process: target, reason }
        });
        self.ends.push(Box::pin(end));
        self.present.insert(watch, Watch { linked, abort });
        self.standing.watch(watch, process.clone());
        watch
    }

    fn remove(&mut self, watch: WatchRef) {
        self.standing.unwatch(watch);
        if let Some(watch) = self.present.remove(&watch) {
            watch.abort.abort();
        }
    }

    /// The next end; `None` when nothing is watched.
    ///
    /// # Cancel safety
    ///
    /// Safe: no end is lost.
    pub(super) async fn next(&mut self) -> Option<Watched> {
        loop {
            match self.ends.next().await {
                Some(Ok(exit)) => return Some(Watched(exit)),
                Some(Err(Aborted)) => (),
                None => return None,
            }
        }
    }

    /// The exit and whether it was of a link, unless it is watched no more.
    pub(super) fn settle(&mut self, watched: Watched) -> Option<(Exit, bool)> {
        let watch = self.present.remove(&watched.0.watch)?;
        self.standing.unwatch(watched.0.watch);
        Some((watched.0, watch.linked))
    }

    /// Paths of what is watched.
    pub(super) fn paths(&self) -> Vec<String> {
        self.standing.look().1.iter().map(|process| process.path().to_owned()).collect()
    }
}

/// What the server was given to do last.
#[derive(Default)]
pub(super) struct Events(VecDeque<Cow<'static, str>>);

impl Events {
    pub(super) fn add(&mut self, event: impl Into<Cow<'static, str>>) {
        if self.0.len() == EVENTS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(event.into());
    }

    pub(super) fn last(&self) -> Option<String> {
        self.0.back().map(|event| event.clone().into_owned())
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.iter().map(|event| event.clone().into_owned()).collect()
    }
}
