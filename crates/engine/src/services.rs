//! What the components of the engine share. Cheap to clone.
//!
//! Only what may be lost: handles, caches and wake-ups. What must be right is in the store.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    panic::AssertUnwindSafe,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use futures_util::FutureExt;
use perennial_core::{FailureClass, failure::Failure, run::RunId};
use perennial_store::{NodeRef, NodeTerms, RunRecord, Store, StoreError};
use perennial_supervision::{Address, Clock, TaskRef, TaskSupervisor};
use tokio::sync::{Mutex, Notify, watch};

use crate::{
    Workflow,
    authority::Authority,
    beginning::Beginning,
    drain::{DrainReport, UnderWay},
    external::{External, WeakExternal},
    feed::{EventFeed, Hub},
    membership::{Joined, Membership},
    monitor::{self, Monitoring},
    parked::Parked,
    patience::{STORE_WITHIN, patiently},
    progress::Progress,
    rooms::{Room, Rooms},
    run::{self, Account},
    scheduler::LeaseTerms,
    settings::EngineSettings,
    waiting::{Places, Waiting},
    workflow::BoxFuture,
};

/// How long the host may take to read one definition, which all other runs wait for.
const REVIVE_WITHIN: Duration = Duration::from_secs(10);

/// Builds a workflow again from what was recorded with a run.
///
/// ```
/// use std::sync::Arc;
/// use perennial::engine::{Definitions, NotRunnable, Workflow, workflow::BoxFuture};
/// use perennial::records::{Failure, FailureClass, RunRecord};
///
/// /// Of a host whose runs are never continued by another process.
/// #[derive(Debug)]
/// struct NothingRevived;
///
/// impl Definitions for NothingRevived {
///     fn revive<'a>(
///         &'a self,
///         run: &'a RunRecord,
///         _definition: Vec<u8>,
///     ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
///         let failure = Failure::new(FailureClass::Internal, "APP1", "it is not continued");
///         let refused = NotRunnable { run: run.run.clone(), failure };
///         Box::pin(std::future::ready(Err(refused)))
///     }
/// }
/// # let _ = NothingRevived;
/// ```
pub trait Definitions: Send + Sync + fmt::Debug + 'static {
    /// The workflow of `run`, whose definition is `definition`.
    ///
    /// # Errors
    ///
    /// When this build cannot run it; the run is then left as it is, with the reason shown.
    fn revive<'a>(
        &'a self,
        run: &'a RunRecord,
        definition: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>>;

    /// The workflow of `run` for somebody who only stops it, or lets it go on elsewhere: none of its code is executed, so
    /// that what it would lack for that here, such as a secret, is no reason to refuse. As [`revive`](Self::revive)
    /// unless the host says otherwise.
    ///
    /// # Errors
    ///
    /// When this build cannot read it.
    fn revive_to_stop<'a>(
        &'a self,
        run: &'a RunRecord,
        definition: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
        self.revive(run, definition)
    }
}

/// What a workflow is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// To go on with its run.
    ToExecute,
    /// To end or pause its run, or to end that.
    ToStop,
}

/// Why a recorded run cannot be continued here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("run {run} cannot be continued: {}", .failure.message)]
pub struct NotRunnable {
    /// The run.
    pub run: RunId,
    /// Why.
    pub failure: Failure,
}

impl NotRunnable {
    /// Says `why` this build cannot go on with `run`, and what helps. To whoever waits for it that is a failure of
    /// its definition, `PL903`.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use perennial::{engine::{NotRunnable, Workflow}, records::RunRecord};
    ///
    /// fn rebuild(run: &RunRecord, _definition: Vec<u8>) -> Result<Arc<dyn Workflow>, NotRunnable> {
    ///     Err(NotRunnable::new(run, "reports of the old kind are made by version 3"))
    /// }
    /// # let _ = rebuild;
    /// ```
    pub fn new(run: &RunRecord, why: impl Into<String>) -> Self {
        let failure = Failure::new(FailureClass::Internal, "PL903", why);
        Self { run: run.run.clone(), failure }
    }
}

/// What the services are made of. A host that wants the whole runtime never writes one: the builder of the facade
/// does.
///
/// ```
/// use std::{sync::{Arc, OnceLock}, time::Duration};
/// use perennial_engine::{
///     EngineSettings, Runs, Services, ServicesSpec, drain,
///     monitor::Monitoring,
///     scheduler::{Adoption, LeaseTerms, Scheduler, SchedulerSpec},
/// };
/// use perennial_store::MemoryStore;
/// use perennial_supervision::{
///     Clock, DynamicSupervisor, DynamicSupervisorSpec, Options, Root, SupervisorSpec, TaskSupervisor, TaskSupervisorSpec,
/// };
/// # use perennial_engine::{Definitions, NotRunnable, Workflow, workflow::BoxFuture};
/// # #[derive(Debug)]
/// # struct NothingRevived;
/// # impl Definitions for NothingRevived {
/// #     fn revive<'a>(&'a self, run: &'a perennial_store::RunRecord, _: Vec<u8>) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
/// #         let failure = perennial_core::failure::Failure::new(perennial_core::FailureClass::Internal, "APP1", "never");
/// #         Box::pin(std::future::ready(Err(NotRunnable { run: run.run.clone(), failure })))
/// #     }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = Clock::start();
/// let (tasks_child, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// let services = Services::new(ServicesSpec {
///     store: Arc::new(MemoryStore::open()?),
///     clock,
///     node: "local".to_owned(),
///     tasks,
///     definitions: Arc::new(NothingRevived),
///     monitoring: Monitoring::default(),
///     lease: LeaseTerms::default(),
///     attempts_max: 64,
///     settings: EngineSettings::default(),
///     authority: None,
/// });
/// let (monitors_child, monitors) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("monitors", 100));
/// let (runs_child, actors) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("runs", 100));
/// let lifecycle = Arc::new(OnceLock::new());
/// let (scheduler_child, scheduler) = Scheduler::child_spec(SchedulerSpec {
///     services: services.clone(),
///     runs: actors,
///     runs_max: 100,
///     monitors,
///     adoption: Adoption::OnRequest,
///     lifecycle: lifecycle.clone(),
/// });
/// let tree = SupervisorSpec::new("engine")
///     .child(tasks_child)
///     .child(scheduler_child)
///     .child(monitors_child)
///     .child(runs_child)
///     .child(drain::child_spec(services.clone(), Duration::from_secs(1))); // last: it is stopped first
/// let root = Root::start(tree, clock, Options::default()).await?;
/// drop(lifecycle.set(root.tree().lifecycle_source()));
///
/// let runs = Runs::new(services.clone(), scheduler);
/// assert!(runs.unfinished().await?.is_empty());
///
/// services.announce_shutdown();
/// root.shutdown().await;
/// services.announce_end();
/// assert!(services.drain_report().is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ServicesSpec {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock of the tree.
    pub clock: Clock,
    /// Name of this node on the store.
    pub node: String,
    /// Where attempts run.
    pub tasks: TaskSupervisor,
    /// How recorded runs become workflows again.
    pub definitions: Arc<dyn Definitions>,
    /// How runs are monitored.
    pub monitoring: Monitoring,
    /// How this node lives on a store that several share; their order is the caller's to check.
    pub lease: LeaseTerms,
    /// How many attempts may be under way here at a time.
    pub attempts_max: usize,
    /// How the engine works; what they can mean is the caller's to check.
    pub settings: EngineSettings,
    /// Who says what principals may ask of runs; without it, none may ask anything.
    pub authority: Option<Authority>,
}

/// What the components share.
#[derive(Clone)]
pub struct Services {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    pub(crate) tasks: TaskSupervisor,
    pub(crate) definitions: Arc<dyn Definitions>,
    pub(crate) hub: Hub,
    node_name: Arc<str>,
    /// Held while this node is registered.
    joining: Arc<Mutex<()>>,
    /// Who this process is on the store, and how sure that is.
    pub(crate) membership: Membership,
    /// Where to find a run's actor and its monitor.
    pub(crate) runs: Arc<DashMap<RunId, Address<run::Message>>>,
    pub(crate) monitors: Arc<DashMap<RunId, Address<monitor::Message>>>,
    /// Runs that are recorded, and whose workflow is on its way from whoever starts them.
    pub(crate) beginning: Beginning,
    /// Runs that this process cannot continue, with the reason: whoever waits for one is told.
    pub(crate) parked: Parked,
    /// What the runs that this process works on hold in memory.
    pub(crate) accounts: Arc<DashMap<RunId, Account>>,
    /// How runs are monitored.
    pub(crate) monitoring: Monitoring,
    /// How the engine works.
    pub(crate) settings: EngineSettings,
    pub(crate) authority: Option<Authority>,
    /// Runs of this process that wait for a free place.
    pub(crate) waiting: Waiting,
    /// Runs that are paused or wait for another attempt.
    pub(crate) resting: Waiting,
    /// Runs that hold one of the places.
    pub(crate) places: Places,
    /// The attempts of this process whose end no run actor has taken in yet.
    pub(crate) attempts: Arc<DashMap<AttemptId, Begun>>,
    /// How far they say they are.
    pub(crate) progress: Progress,
    /// Room for attempts on this node.
    pub(crate) rooms: Rooms,
    /// Notified whenever an attempt leaves the table.
    pub(crate) attempt_left: Arc<Notify>,
    /// The services of the host, which share this in turn: hence weak.
    external: Arc<OnceLock<WeakExternal>>,
    /// The whole tree is about to be stopped.
    shutdown: Arc<AtomicBool>,
    /// No claim any more.
    draining: Arc<AtomicBool>,
    pub(crate) drained: watch::Sender<Option<DrainReport>>,
    /// Wakes the timekeeper.
    pub(crate) look_again: Arc<Notify>,
    jitter: Arc<(RandomState, AtomicU64)>,
}

/// One attempt of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttemptId {
    pub(crate) job: i64,
    pub(crate) attempt: u32,
}

/// An attempt whose end no run actor has taken in yet.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) run: RunId,
    pub(crate) task: TaskRef,
    /// Gone as soon as another attempt was given it.
    pub(crate) room: Option<Room>,
}

impl Services {
    /// Services made of `spec`.
    pub fn new(spec: ServicesSpec) -> Self {
        let leases = spec.store.leases();
        let runs: Arc<DashMap<RunId, Address<run::Message>>> = Arc::default();
        let addresses = runs.clone();
        let store = spec.store.clone();
        let now = move || store.now();
        let rooms = Rooms::new(spec.attempts_max, spec.settings.aging, now, move |run| {
            let address = addresses.get(run).map(|address| address.clone());
            address.is_some_and(|address| address.cast(run::Message::Wake).is_ok())
        });
        Self {
            store: spec.store,
            clock: spec.clock,
            tasks: spec.tasks,
            definitions: spec.definitions,
            hub: Hub::new(),
            node_name: spec.node.into(),
            joining: Arc::default(),
            membership: Membership::new(spec.clock, leases, spec.lease),
            runs,
            monitors: Arc::default(),
            beginning: Beginning::default(),
            parked: Parked::default(),
            accounts: Arc::default(),
            monitoring: spec.monitoring,
            settings: spec.settings,
            authority: spec.authority,
            waiting: Waiting::default(),
            resting: Waiting::default(),
            places: Places::default(),
            attempts: Arc::default(),
            progress: Progress::default(),
            rooms,
            attempt_left: Arc::default(),
            shutdown: Arc::default(),
            draining: Arc::default(),
            drained: watch::Sender::new(None),
            look_again: Arc::default(),
            external: Arc::default(),
            jitter: Arc::default(),
        }
    }

    /// The services that attempts may hold.
    pub(crate) fn knows_external(&self, external: &External) {
        // Set once: a tree has one.
        drop(self.external.set(external.downgrade()));
    }

    /// The services of the host; none once they are gone.
    pub(crate) fn external(&self) -> Option<External> {
        self.external.get().and_then(WeakExternal::upgrade)
    }

    /// The workflow of a run, by the host's code: what is wrong with that is this run's alone, and nobody waits for it
    /// longer than [`REVIVE_WITHIN`] (DUR-4).
    pub(crate) async fn revive(
        &self,
        record: &RunRecord,
        definition: Vec<u8>,
        reads: Reads,
    ) -> Result<Arc<dyn Workflow>, NotRunnable> {
        let asks = async {
            match reads {
                Reads::ToExecute => self.definitions.revive(record, definition).await,
                Reads::ToStop => self.definitions.revive_to_stop(record, definition).await,
            }
        };
        let asks = tokio::time::timeout(REVIVE_WITHIN, AssertUnwindSafe(asks).catch_unwind());
        let (class, what) = match asks.await {
            Ok(Ok(revived)) => return revived,
            Ok(Err(_)) => (FailureClass::Panic, "reading its definition panicked".to_owned()),
            Err(_) => {
                let seconds = REVIVE_WITHIN.as_secs();
                let what = format!("its definition was not read within {seconds} s");
                (FailureClass::Timeout, what)
            }
        };
        Err(NotRunnable { run: record.run.clone(), failure: Failure::new(class, "PL615", what) })
    }

    /// This process's incarnation on the store; registered by whoever asks first. Waits while it is registered
    /// again, because its lease was lost.
    pub(crate) async fn node(&self) -> Result<NodeRef, StoreError> {
        match self.membership.joined() {
            Joined::As(node) => Ok(node),
            Joined::NotYet => self.join(&Joined::NotYet).await,
            Joined::Lost(_) => {
                let joined = tokio::time::timeout(STORE_WITHIN, self.membership.joined_again());
                let why = "this node has lost its lease, and has not joined again yet";
                joined.await.map_err(|_| StoreError::Unavailable(why.to_owned()))
            }
        }
    }

    /// Registers this node again, as a new incarnation: once what the lost one was at has been left.
    pub(crate) async fn rejoin(&self) -> Result<NodeRef, StoreError> {
        self.join(&self.membership.joined()).await
    }

    /// Registers it, if it still stands as `before`.
    async fn join(&self, before: &Joined) -> Result<NodeRef, StoreError> {
        let _joining = self.joining.lock().await;
        if let Joined::As(node) = self.membership.joined()
            && self.membership.joined() != *before
        {
            return Ok(node);
        }
        let LeaseTerms { ttl, exclusive, .. } = self.membership.terms();
        let register = || async {
            let sent = self.clock.now();
            let terms = NodeTerms { ttl, exclusive };
            Ok((self.store.register_node_on(&self.node_name, terms).await?, sent))
        };
        let (registered, sent) = patiently(STORE_WITHIN, register).await?;
        tracing::info!(
            node = %registered.node.node,
            incarnation = registered.node.incarnation,
            ended = registered.ended.len(),
            "node registered"
        );
        self.membership.join(&registered, sent);
        Ok(registered.node)
    }

    /// The last incarnation, if it was registered.
    pub fn registered_node(&self) -> Option<NodeRef> {
        self.membership.incarnation()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Says that the tree is about to be stopped: its drain then hands over. Nothing is started
    /// from here on.
    pub fn announce_shutdown(&self) {
        self.shutdown.store(true, Ordering::SeqCst);
        self.start_draining();
    }

    pub(crate) fn shutdown_announced(&self) -> bool {
        self.shutdown.load(Ordering::SeqCst)
    }

    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// The events of `run` from `from` on.
    pub(crate) fn watch(&self, run: &RunId, from: u64) -> EventFeed {
        let (store, parked) = (self.store.clone(), self.parked.clone());
        self.hub.watch(store, parked, self.drained.subscribe(), run.clone(), from)
    }

    /// Says that the tree has ended: whoever waits for a run or its events is told, and nothing is waited for
    /// any more.
    pub fn announce_end(&self) {
        self.hub.end();
    }

    /// How many runs hold a place: they are under way, or wait for another attempt.
    pub fn runs_active(&self) -> usize {
        self.places.count()
    }

    /// How many runs wait for a free place.
    pub fn runs_waiting(&self) -> usize {
        self.waiting.count()
    }

    /// The report of the drain, once there is one.
    pub fn drain_report(&self) -> Option<DrainReport> {
        self.drained.borrow().clone()
    }

    /// Waits until the drain of a shutdown has its report. Holds nothing of the tree alive.
    pub fn drained(&self) -> impl Future<Output = DrainReport> + Send + use<> {
        let mut drained = self.drained.subscribe();
        async move {
            match drained.wait_for(Option::is_some).await.map(|report| report.clone()) {
                Ok(Some(report)) => report,
                // Everything is gone without a drain: there is none to wait for.
                Ok(None) | Err(_) => std::future::pending().await,
            }
        }
    }

    /// A random number in `0.0..1.0`, for pauses only.
    pub(crate) fn jitter(&self) -> f64 {
        let (state, count) = &*self.jitter;
        let hash = state.hash_one(count.fetch_add(1, Ordering::Relaxed));
        f64::from(u32::try_from(hash >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
    }

    /// Owned values only: no guard of the table leaves this module.
    pub(crate) fn run_address(&self, run: &RunId) -> Option<Address<run::Message>> {
        self.runs.get(run).map(|address| address.clone())
    }

    pub(crate) fn run_addresses(&self) -> Vec<Address<run::Message>> {
        self.runs.iter().map(|entry| entry.value().clone()).collect()
    }

    pub(crate) fn monitor_address(&self, run: &RunId) -> Option<Address<monitor::Message>> {
        self.monitors.get(run).map(|address| address.clone())
    }

    pub(crate) fn attempt(&self, attempt: AttemptId) -> Option<TaskRef> {
        self.attempts.get(&attempt).map(|entry| entry.task.clone())
    }

    /// The runs that have an actor here, or had one until lately.
    pub(crate) fn runs_here(&self) -> Vec<RunId> {
        self.runs.iter().map(|entry| entry.key().clone()).collect()
    }

    /// The attempts whose end no run actor has taken in yet.
    pub(crate) fn under_way(&self) -> UnderWay {
        self.attempts.iter().map(|entry| (*entry.key(), entry.run.clone())).collect()
    }

    pub(crate) fn attempts_of(&self, run: &RunId) -> Vec<TaskRef> {
        let own = self.attempts.iter().filter(|entry| entry.run == *run);
        own.map(|entry| entry.task.clone()).collect()
    }

    /// Nothing at all is waited for any more: this node has left what it was at.
    pub(crate) fn forget_all_attempts(&self) {
        self.attempts.clear();
        self.attempt_left.notify_waiters();
    }

    /// Nothing of `run` is waited for any more: it has ended, or is left as it is.
    pub(crate) fn forget_attempts_of(&self, run: &RunId) {
        self.attempts.retain(|_, begun| begun.run != *run);
        self.progress.forget_run(run);
        self.attempt_left.notify_waiters();
    }

    /// Nothing of `run` is done here any more.
    pub(crate) fn set_aside(&self, run: &RunId) {
        self.waiting.starts(run);
        self.gives_back(run);
    }

    /// Its place and its room are others' until it asks for them again.
    pub(crate) fn gives_back(&self, run: &RunId) {
        self.rooms.leave(run);
        self.resting.starts(run);
        if self.places.release(run) && self.waiting.count() > 0 {
            self.look_again.notify_one();
        }
    }

    /// The room of an attempt that is over: another one may begin in it.
    pub(crate) fn room_of(&self, attempt: AttemptId) -> Option<Room> {
        self.attempts.get_mut(&attempt)?.room.take()
    }

    pub(crate) fn has_room(&self, attempt: AttemptId) -> bool {
        self.attempts.get(&attempt).is_some_and(|entry| entry.room.is_some())
    }

    pub(crate) fn forget_attempt(&self, attempt: AttemptId) {
        self.attempts.remove(&attempt);
        self.progress.forget(attempt);
        self.attempt_left.notify_waiters();
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.membership.incarnation();
        f.debug_struct("Services").field("node", &node).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
