//! The children of one life of a light supervisor: a table that nobody owns alone. Starts and stops take a
//! lock of one of its parts for a moment, and no mailbox.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use perennial_core::{
    ChildId, ChildType, ExitReason, Shutdown, Uptime,
    child::{AfterExit, StopRules},
    intensity::{RestartIntensity, Verdict},
};

use super::{
    Cell, LightServer, LightSupervisorSpec,
    desk::{Phase, Remains},
    kinds::Kinds,
    life::{Came, History, live},
};
use crate::{
    ChildStatus, Counts, LifecycleEvent, Offender, ProcessRef, RequestError, StartError,
    child::StartCx,
    context::Context,
    deadline::{self, Spares},
    node::Node,
    panics::drop_each,
    sync::{
        DashMap, Entry, Executor, Notify,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

pub(crate) struct Home<M> {
    context: Context,
    /// The supervisor's own, on which all children run, whoever starts them.
    executor: Executor,
    /// Of the supervisor; the tree holds the children, not the children the tree.
    node: Weak<Node>,
    /// Of the supervisor, or of the one child that is supervised elsewhere.
    path: Arc<str>,
    process: ProcessRef,
    spec: Arc<LightSupervisorSpec>,
    /// None where its one child is supervised elsewhere.
    children: Option<DashMap<ChildId, Arc<Cell<M>>>>,
    /// How many are in the table or about to be.
    count: AtomicUsize,
    /// Children that were started, ever.
    orders: AtomicU64,
    /// What its children handle.
    kinds: Kinds,
    /// For deadlines of those who wait for children, on `executor`.
    spares: Spares,
    /// Nothing is started or restarted any more.
    closed: AtomicBool,
    /// Too many restarts: the one that was one too many.
    gave_up: OnceLock<Box<Offender>>,
    /// Of the supervisor's task: it has to give up.
    pub(super) attention: Notify,
}

/// What follows an incarnation.
pub(super) enum Fate {
    Over,
    /// Another one, maybe after a delay.
    Again(Option<Duration>),
}

impl<M> Home<M> {
    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn path_of(&self, id: &ChildId) -> Arc<str> {
        if self.is_alone() { self.path.clone() } else { format!("{}/{id}", self.path).into() }
    }

    /// Whether its one child is supervised elsewhere.
    pub(super) fn is_alone(&self) -> bool {
        self.children.is_none()
    }

    /// What `work` comes to; none when it takes longer than `time`, which [`Duration::MAX`] does not count.
    pub(super) async fn within<T, F: Future<Output = T>>(
        &self,
        time: Duration,
        work: Pin<&mut F>,
    ) -> Option<T> {
        if time != Duration::MAX && self.executor.is_here() {
            return self.spares.within(time, work).await;
        }
        // A timer belongs to its executor, and may not outlive it.
        deadline::within(time, work).await
    }

    pub(super) fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    pub(super) fn spec(&self) -> &LightSupervisorSpec {
        &self.spec
    }

    pub(super) fn gave_up(&self) -> Option<Box<Offender>> {
        self.gave_up.get().cloned()
    }
}

impl<M: Send + 'static> Home<M> {
    pub(super) fn new(cx: &StartCx, spec: Arc<LightSupervisorSpec>) -> Arc<Self> {
        cx.node.publish_intensity(&RestartIntensity::new(spec.intensity));
        Arc::new(Self::of(cx, spec, false))
    }

    /// Of one incarnation of a child that is supervised elsewhere.
    pub(super) fn alone(cx: &StartCx) -> Arc<Self> {
        let spec = LightSupervisorSpec::new(cx.node.spec().id.clone(), 1);
        let spec = spec.mailbox(cx.node.spec().mailbox.unwrap_or_default());
        Arc::new(Self::of(cx, Arc::new(spec), true))
    }

    fn of(cx: &StartCx, spec: Arc<LightSupervisorSpec>, is_alone: bool) -> Self {
        Self {
            context: cx.context.clone(),
            executor: Executor::current(),
            node: Arc::downgrade(&cx.node),
            path: cx.node.shared_path(),
            process: cx.process.clone(),
            spec,
            children: (!is_alone).then(DashMap::new),
            count: AtomicUsize::new(0),
            orders: AtomicU64::new(0),
            kinds: Kinds::default(),
            spares: Spares::default(),
            closed: AtomicBool::new(false),
            gave_up: OnceLock::new(),
            attention: Notify::new(),
        }
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Cell<M>>> {
        self.children.as_ref()?.get(id).map(|cell| Arc::clone(&cell))
    }

    /// All there are, in the order in which they were started.
    pub(super) fn all(&self) -> Vec<Arc<Cell<M>>> {
        let entries = self.children.iter().flat_map(|children| children.iter());
        let mut all: Vec<_> = entries.map(|entry| entry.value().clone()).collect();
        all.sort_unstable_by_key(|cell| cell.order());
        all
    }

    /// What the tree dump shows of the supervisor beside its children, of which there may be very many.
    pub(super) fn detail(&self) -> serde_json::Value {
        let budget = self.spec.child_budget;
        let budget = budget.map(|it| format!("{}/{:?}", it.max_restarts, it.within));
        let mut detail = serde_json::json!({ "children": self.count.load(Ordering::Acquire) });
        if let Some(max) = self.spec.max_children {
            detail["children_max"] = max.into();
        }
        if let Some(budget) = budget {
            detail["child_budget"] = budget.into();
        }
        detail
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.children.iter().flat_map(|children| children.iter()) {
            let phase = entry.value().desk().phase();
            let status = match phase {
                Phase::Running | Phase::Ending => ChildStatus::Running,
                Phase::Starting | Phase::Between { .. } => ChildStatus::Restarting,
                Phase::Over => continue,
            };
            counts.add(ChildType::Worker, status);
        }
        counts
    }

    /// Puts a child into the table and starts its task. What it came to is to be awaited at the cell.
    pub(super) fn start<S: LightServer<Message = M>>(
        self: &Arc<Self>,
        id: ChildId,
        arguments: S::Arguments,
    ) -> Result<Arc<Cell<M>>, RequestError> {
        let max = self.spec.max_children;
        let admit = |count: usize| max.is_none_or(|max| count < max).then(|| count + 1);
        let children = self.children.as_ref().ok_or(RequestError::NoProc)?;
        let cell = match children.entry(id.clone()) {
            // Looked at under the lock of the entry: whoever closed the table has looked, or will look,
            // through what is in it.
            _ if self.closed.load(Ordering::SeqCst) => return Err(RequestError::NoProc),
            Entry::Occupied(there) => return Err(taken(there.get())),
            Entry::Vacant(place) => {
                // Counted only where the place is free: one that is refused takes nobody's.
                let counted = self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, admit);
                counted.map_err(RequestError::MaxChildren)?;
                let order = self.orders.fetch_add(1, Ordering::Relaxed) + 1;
                let cell = Cell::new(id, order, self.clone());
                drop(place.insert(cell.clone()));
                cell
            }
        };
        let budget = self.spec.child_budget.map(RestartIntensity::new);
        let remembers = budget.is_some() || self.spec.restart_delay.is_some();
        let history = remembers.then(|| Box::new(History { budget, in_a_row: 0 }));
        self.executor.spawn(live::<S>(cell.clone(), arguments, history));
        Ok(cell)
    }

    /// Waits until the first init of the child at `cell` is done.
    pub(super) async fn is_begun(&self, cell: &Cell<M>) -> Result<(), RequestError> {
        cell.until(|desk| match (desk.phase(), desk.incarnation()) {
            (Phase::Starting, 1) => None,
            // Its init failed: it is not there before what it held is gone.
            (Phase::Between { .. }, 1) if !desk.has_run() => None,
            (Phase::Over, 1) if desk.is_ignored() => Some(Err(RequestError::Ignore)),
            (Phase::Over, 1) if !desk.has_run() => {
                let reason = desk.last_end().cloned().unwrap_or(ExitReason::NoProc);
                Some(Err(RequestError::StartFailed(StartError::new(cell.id(), reason))))
            }
            (
                Phase::Starting
                | Phase::Running
                | Phase::Ending
                | Phase::Between { .. }
                | Phase::Over,
                _,
            ) => Some(Ok(())),
        })
        .await
    }

    /// An incarnation runs.
    pub(super) fn begun(&self, cell: &Arc<Cell<M>>, number: u32) {
        cell.started();
        self.tell(cell, tracing::Level::DEBUG, || LifecycleEvent::Started {
            incarnation: u64::from(number),
            requested: number == 1,
        });
    }

    /// An incarnation came to its end: it is published, told, and what follows is decided. What was in its
    /// mailbox is dropped, and those who watch it are told.
    pub(super) fn settle(
        &self,
        cell: &Arc<Cell<M>>,
        number: u32,
        came: Came,
        history: &mut Option<Box<History>>,
    ) -> Fate {
        let rule = self.spec.child_restart;
        let (reason, has_run) = match came {
            Came::Ran(reason) => (reason, true),
            Came::Failed(reason) => (reason, false),
            Came::Ignored => {
                cell.desk().ignored();
                (ExitReason::Normal, false)
            }
        };
        let is_ignored = cell.desk().is_ignored();
        let own = rule.after(&reason);
        // A start that was asked for and failed is its caller's; a restart that failed is tried again.
        let comes_back = !is_ignored
            && !self.closed.load(Ordering::SeqCst)
            && if has_run { own.then == AfterExit::Restart } else { number > 1 };
        let now = self.context.clock().now();
        let Remains { messages, known, doomed, lived } = cell.end(&reason, now, comes_back);
        let undelivered = messages.len() as u64;
        drop_each(messages);
        let process = known.as_ref().map(|known| known.process.clone());
        let level = if reason.is_abnormal() { tracing::Level::WARN } else { tracing::Level::DEBUG };
        if !is_ignored {
            self.tell(cell, level, || {
                if has_run {
                    let incarnation = u64::from(number);
                    LifecycleEvent::Exited { incarnation, reason: reason.clone() }
                } else {
                    LifecycleEvent::StartFailed { reason: reason.clone() }
                }
            });
        }
        if undelivered > 0 {
            let count = undelivered;
            self.tell(cell, tracing::Level::INFO, || LifecycleEvent::Undelivered { count });
        }
        let fate = if comes_back && !doomed {
            self.restart(cell, process.as_ref(), (now, lived), history)
        } else {
            Fate::Over
        };
        if matches!(fate, Fate::Over) {
            // Its id is free before anybody learns of the end.
            self.forget(cell);
        }
        if let Some(known) = known {
            known.announce(&reason);
        }
        cell.told();
        if !doomed && !is_ignored && number + u32::from(has_run) > 1 && self.context.is_heard() {
            let offender = self.offender(cell, process);
            if !has_run {
                self.report(LifecycleEvent::StartError { reason, offender });
            } else if own.report {
                self.report(LifecycleEvent::ChildTerminated { reason, offender });
            }
        }
        fate
    }

    /// Charges one restart to whoever pays for it.
    fn restart(
        &self,
        cell: &Cell<M>,
        process: Option<&ProcessRef>,
        (now, lived): (Uptime, Duration),
        history: &mut Option<Box<History>>,
    ) -> Fate {
        let budget = history.as_mut().and_then(|history| history.budget.as_mut());
        let is_own = budget.is_some();
        let verdict = match budget {
            Some(budget) => budget.record(now),
            // Without a node there is nothing to be below.
            None => self.node.upgrade().map_or(Verdict::GiveUp, |node| node.count_restart(now)),
        };
        match verdict {
            Verdict::Restart => {
                let delays = self.spec.restart_delay.as_ref().zip(history.as_mut());
                Fate::Again(delays.map(|(delay, history)| {
                    if lived >= delay.reset_after && !delay.reset_after.is_zero() {
                        history.in_a_row = 0;
                    }
                    let wait = delay.before(history.in_a_row);
                    history.in_a_row = history.in_a_row.saturating_add(1);
                    wait
                }))
            }
            Verdict::GiveUp if is_own => {
                self.tell(cell, tracing::Level::ERROR, || LifecycleEvent::BudgetSpent);
                Fate::Over
            }
            Verdict::GiveUp => {
                self.closed.store(true, Ordering::SeqCst);
                self.gave_up.get_or_init(|| self.offender(cell, process.cloned()));
                self.attention.notify_one();
                Fate::Over
            }
        }
    }

    /// Nothing of it is left and nothing will come.
    pub(super) fn remove(&self, cell: &Arc<Cell<M>>) {
        self.forget(cell);
        cell.over();
    }

    fn forget(&self, cell: &Arc<Cell<M>>) {
        let is_it = |_: &ChildId, there: &Arc<Cell<M>>| Arc::ptr_eq(there, cell);
        // One that was given up as unkillable is not there any more.
        let removed = self.children.as_ref().and_then(|it| it.remove_if(cell.id(), is_it));
        if removed.is_some() {
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Its executor dropped the task of `cell`.
    pub(super) fn abandoned(&self, cell: &Arc<Cell<M>>) {
        let is_up = cell.desk().phase().is_up();
        if is_up {
            let Remains { messages, known, .. } =
                cell.end(&ExitReason::Killed, self.context.clock().now(), false);
            drop_each(messages);
            self.forget(cell);
            if let Some(known) = known {
                known.announce(&ExitReason::Killed);
            }
        }
        self.remove(cell);
    }

    fn offender(&self, cell: &Cell<M>, process: Option<ProcessRef>) -> Box<Offender> {
        Box::new(Offender {
            id: cell.id().clone(),
            process,
            restart: self.spec.child_restart,
            shutdown: self.spec.child_shutdown,
            significant: false,
            child_type: ChildType::Worker,
        })
    }

    /// Publishes an event of a child, if anybody listens.
    fn tell(&self, cell: &Cell<M>, level: tracing::Level, event: impl FnOnce() -> LifecycleEvent) {
        if self.context.hears(level) {
            let process = cell.desk().known().as_ref().map(|known| known.process.clone());
            self.context.tell_at(&cell.path(), process.as_ref(), event());
        }
    }

    /// A report of the supervisor's own.
    pub(super) fn report(&self, event: LifecycleEvent) {
        self.context.tell_at(&self.path, Some(&self.process), event);
    }
}

/// How children are stopped.
impl<M: Send + 'static> Home<M> {
    /// Nothing is started or restarted from here on.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Stops one child for good, awaits its end, and reports what is to be reported.
    pub(super) async fn stop(&self, cell: &Arc<Cell<M>>) {
        let (reason, timed_out) = match self.spec.child_shutdown {
            Shutdown::BrutalKill => (self.kill(cell).await, false),
            Shutdown::Infinity => {
                cell.doom(&ExitReason::Shutdown);
                (ended(cell).await, false)
            }
            Shutdown::Timeout(within) => {
                cell.doom(&ExitReason::Shutdown);
                match self.within(within, pin!(ended(cell))).await {
                    Some(reason) => (reason, false),
                    None => (self.kill(cell).await, true),
                }
            }
        };
        self.stopped(cell, reason, timed_out);
    }

    fn stopped(&self, cell: &Cell<M>, reason: ExitReason, timed_out: bool) {
        let (restart, shutdown) = (self.spec.child_restart, self.spec.child_shutdown);
        if restart.stop_is_error(StopRules::Dynamic, &reason, shutdown, timed_out) {
            let offender = self.offender(cell, None);
            self.report(LifecycleEvent::ShutdownError { reason, offender });
        }
    }

    /// Kills it and awaits its end, but no longer than the kill deadline: then it is given up.
    async fn kill(&self, cell: &Arc<Cell<M>>) -> ExitReason {
        cell.kill_for_good();
        let within = self.context.kill_deadline();
        match tokio::time::timeout(within, ended(cell)).await {
            Ok(reason) => reason,
            Err(_) => {
                self.give_up_on(cell);
                ExitReason::Killed
            }
        }
    }

    fn give_up_on(&self, cell: &Arc<Cell<M>>) {
        self.forget(cell);
        if let Some(process) = cell.process() {
            self.context.unkillable_at(process);
        }
    }

    /// Stops all there are: the last one started first, or all at once under one deadline. None gets more
    /// time than `most`.
    pub(super) async fn stop_all(&self, reason: &ExitReason, most: Option<Duration>) {
        self.close();
        let all = self.all();
        if self.spec.stops_in_order && most.is_none() {
            for cell in all.iter().rev() {
                self.stop(cell).await;
            }
            return;
        }
        let within = match (self.spec.child_shutdown, most) {
            (Shutdown::BrutalKill, _) => Some(Duration::ZERO),
            (Shutdown::Timeout(within), most) => {
                Some(most.map_or(within, |most: Duration| within.min(most)))
            }
            (Shutdown::Infinity, most) => most,
        };
        if within != Some(Duration::ZERO) {
            all.iter().for_each(|cell| cell.doom(reason));
        }
        let late = ended_within(&all, within).await;
        late.iter().for_each(|cell| cell.kill_for_good());
        let never = ended_within(late, Some(self.context.kill_deadline())).await;
        never.iter().for_each(|cell| self.give_up_on(cell));
        let in_time = all.len() - late.len();
        for (place, cell) in all.iter().enumerate() {
            let last = cell.desk().last_end().cloned();
            let timed_out = place >= in_time && within != Some(Duration::ZERO);
            self.stopped(cell, last.unwrap_or(ExitReason::Killed), timed_out);
        }
    }
}

/// Waits for the end of all of `cells`, in their order, which is as good as any; answers the first of those
/// that did not end in time and all behind it that have not.
async fn ended_within<M: Send + 'static>(
    cells: &[Arc<Cell<M>>],
    within: Option<Duration>,
) -> &[Arc<Cell<M>>] {
    let mut done = 0;
    let all = async {
        for cell in cells {
            ended(cell).await;
            done += 1;
        }
    };
    match within {
        Some(within) => {
            // What is left of them is told by how far it came.
            let _ = tokio::time::timeout(within, all).await;
        }
        None => all.await,
    }
    &cells[done..]
}

/// Waits until nothing of it is there and nothing will come; why the last incarnation ended.
async fn ended<M: Send + 'static>(cell: &Cell<M>) -> ExitReason {
    cell.until(|desk| {
        let is_over = desk.phase() == Phase::Over;
        is_over.then(|| desk.last_end().cloned().unwrap_or(ExitReason::NoProc))
    })
    .await
}

/// Somebody has the id.
fn taken<M: Send + 'static>(there: &Arc<Cell<M>>) -> RequestError {
    match there.process() {
        Some(process) => RequestError::AlreadyStarted(process),
        None => RequestError::Restarting(there.id().clone()),
    }
}
