//! Work that runs beside actors, under supervision: bounded, listed, stopped in order.
//!
//! A dynamic supervisor of futures. No task is detached: each is in the tree while it runs.

mod places;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use perennial_core::{ChildId, ExitReason, Restart, Shutdown, tree::NodeKind};
use tokio::sync::oneshot;

pub(crate) use self::places::{Place, Places};
use crate::{
    Address, ChildSpec, DynamicSupervisor, DynamicSupervisorSpec, ProcessRef, RequestError,
    StartFault, Task, TaskRef,
    child::{About, Outcome, StartCx, start_task},
    context::Context,
    life::Life,
    panics::{call_quietly, guard_blocking},
    process::{callers_from_here, current_process},
    stopping::Killer,
    task::Bond,
};

/// What a task supervisor is made of.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// use perennial_supervision::{TaskSupervisor, TaskSupervisorSpec};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 1));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// tasks.start_child("first", std::future::pending()).await?;
/// let refused = tasks.start_child("second", std::future::pending()).await;
/// assert_eq!(refused.unwrap_err(), RequestError::MaxChildren(1));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TaskSupervisorSpec(DynamicSupervisorSpec);

impl TaskSupervisorSpec {
    /// A permanent supervisor of at most `max_children` tasks at a time.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert!(tasks.children().is_empty());
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn new(id: impl Into<ChildId>, max_children: usize) -> Self {
        let mut spec = DynamicSupervisorSpec::new(id, max_children);
        spec.kind = NodeKind::TaskSupervisor;
        Self(spec)
    }
}

/// Handle to a task supervisor. Cheap to clone; outlives its restarts.
///
/// | starts | linked to the caller | value |
/// |---|---|---|
/// | [`start_child`](Self::start_child), [`start_restarting`](Self::start_restarting) | no | none |
/// | [`start_link`](Self::start_link) | yes | none |
/// | [`async_nolink`](Self::async_nolink) | no | awaited |
/// | [`async_linked`](Self::async_linked) | yes | awaited |
/// | [`async_telling`](Self::async_telling) | yes | a message |
///
/// The caller is the process whose code asks. What is linked to it ends with it when it ends abnormally,
/// and the other way round, unless it traps exits (TSK-016–019). Code that is no process has no links.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// use perennial_supervision::{TaskSupervisor, TaskSupervisorSpec};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut sum = tasks.async_nolink("sum", async { (1..=4).sum::<u32>() }).await?;
/// assert_eq!(sum.value().await, Ok(10));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TaskSupervisor {
    pub(crate) supervisor: DynamicSupervisor,
    /// Elements of streams need them as well, and have no place in the supervisor itself.
    pub(crate) places: Arc<Places>,
}

/// What a task is called, and how it is stopped; an id alone will do.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// use perennial_supervision::{Shutdown, TaskSpec};
///
/// let import = TaskSpec::new("import").label("order 7").shutdown(Shutdown::BrutalKill);
/// let task = tasks.start_child(import, async {}).await?;
/// assert_eq!(task.exit().await, ExitReason::Normal);
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TaskSpec {
    id: ChildId,
    shutdown: Shutdown,
    label: Option<Arc<str>>,
    restart_delay: Option<Duration>,
}

impl TaskSpec {
    /// A task with 5 s to stop. It is dropped at its next await when it is asked to.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let task = tasks.start_child(TaskSpec::new("import"), async {}).await?;
    /// let same = tasks.start_child("import", async {}).await?; // an id alone will do
    /// assert_eq!(task.id(), same.id());
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn new(id: impl Into<ChildId>) -> Self {
        Self { id: id.into(), shutdown: Shutdown::WORKER_DEFAULT, label: None, restart_delay: None }
    }

    /// Sets how its supervisor stops it (TSU-009).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// // The stop of its supervisor does not ask it first.
    /// let task = TaskSpec::new("import").shutdown(Shutdown::BrutalKill);
    /// let task = tasks.start_child(task, std::future::pending()).await?;
    /// root.shutdown().await;
    /// assert_eq!(task.exit_reason(), Some(ExitReason::Killed));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Sets what the report of its crash calls it, beside its path (TSK-047).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut events = root.tree().lifecycle();
    /// tasks.start_child(TaskSpec::new("import").label("order 7"), async { panic!("a bug") }).await?;
    /// let report = loop {
    ///     let told = events.next().await.expect("the tree is there");
    ///     if let LifecycleEvent::Crashed(report) = told.event { break report; }
    /// };
    /// assert_eq!(report.label.as_deref(), Some("order 7"));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Waits this long before it is run again ([`TaskSupervisor::start_restarting`]).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let poll = TaskSpec::new("poll").restart_delay(Duration::from_secs(60));
    /// let task = tasks.start_restarting(poll, Restart::Permanent, || async {}).await?;
    /// task.exit().await;
    /// assert!(tasks.find("poll").is_none()); // it waits for its next run
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn restart_delay(mut self, delay: Duration) -> Self {
        self.restart_delay = Some(delay);
        self
    }

    /// What is known of it from here.
    fn about(&self) -> About {
        About { callers: callers_from_here(), label: self.label.clone() }
    }
}

impl<I: Into<ChildId>> From<I> for TaskSpec {
    fn from(id: I) -> Self {
        Self::new(id)
    }
}

/// What the owner of a task is told by [`async_telling`](TaskSupervisor::async_telling) (TSK-003).
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{*, actor::ActorError};
/// use perennial_supervision::TaskNotice;
///
/// /// Asks for a sum, and goes on meanwhile.
/// struct Owner { tasks: TaskSupervisor, sum: Option<u32> }
/// enum Message { Begin, Told(TaskNotice<u32>) }
/// impl GenServer for Owner {
///     type Arguments = TaskSupervisor;
///     type Message = Message;
///
///     async fn init(tasks: TaskSupervisor, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
///         Ok(Init::new(Self { tasks, sum: None }))
///     }
///
///     async fn handle(&mut self, message: Message, cx: &mut ServerCx<Self>) -> Result<Next<Message>, ActorError> {
///         match message {
///             Message::Begin => {
///                 let work = async { (1..=4).sum() };
///                 self.tasks.async_telling("sum", cx.address().clone(), Message::Told, work).await?;
///             }
///             Message::Told(TaskNotice::Value { value, .. }) => self.sum = Some(value),
///             Message::Told(TaskNotice::Down { reason, .. }) => {
///                 let told = format!("{:?}, {reason}", self.sum);
///                 return Ok(Next::Stop(ExitReason::ShutdownWith(told.into())));
///             }
///         }
///         Ok(Next::Continue)
///     }
/// }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let given = tasks.clone();
/// let (owner, address) = ChildSpec::server::<Owner>("owner", move || given.clone());
/// let owner = owner.restart(Restart::Transient);
/// # let app = SupervisorSpec::new("app").child(spec).child(owner);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut monitor = address.monitor();
/// address.cast(Message::Begin)?;
/// assert_eq!(monitor.down().await, ExitReason::ShutdownWith("Some(10), normal".into()));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskNotice<T> {
    /// It has a value. Its end follows.
    Value {
        /// Which task.
        task: ProcessRef,
        /// What it made.
        value: T,
    },
    /// It has ended.
    Down {
        /// Which task.
        task: ProcessRef,
        /// Why.
        reason: ExitReason,
    },
}

/// Work that has not begun; given once, or again and again.
type Work = Pin<Box<dyn Future<Output = ExitReason> + Send>>;

/// Whether a task is linked to the process that asked for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Owner,
    None,
}

impl TaskSupervisor {
    /// How to supervise a task supervisor, and the handle to it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(root.tree().nodes()[1].kind, NodeKind::TaskSupervisor);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn child_spec(spec: TaskSupervisorSpec) -> (ChildSpec, Self) {
        let places = Places::new(spec.0.max_children.unwrap_or(usize::MAX));
        let (mut child, supervisor) = DynamicSupervisor::child_spec(spec.0);
        let handle = Self { supervisor, places };
        child.answers_with(handle.clone());
        (child, handle)
    }

    /// Starts a task that nobody waits for, and that is nobody's (TSU-012). A stop drops it at its next
    /// await. It is not restarted (TSU-013).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let task = tasks.start_child("tidy", async { /* nobody waits for it */ }).await?;
    /// assert_eq!(task.exit().await, ExitReason::Normal);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When as many tasks as allowed run (TSU-011), or the supervisor is gone; `work` is dropped.
    pub async fn start_child(
        &self,
        task: impl Into<TaskSpec>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<TaskRef, RequestError> {
        self.start_once(task.into(), Link::None, silent(work)).await.map(|started| started.0)
    }

    /// As [`start_child`](Self::start_child), linked to the caller (TSK-044).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let inner = tasks.clone();
    /// let outer = tasks.start_child("outer", async move {
    ///     let helper = inner.start_link("helper", async { panic!("a bug") }).await;
    ///     std::future::pending().await
    /// }).await?;
    /// assert_eq!(outer.exit().await.name(), "panic"); // with its helper
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`start_child`](Self::start_child).
    pub async fn start_link(
        &self,
        task: impl Into<TaskSpec>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<TaskRef, RequestError> {
        self.start_once(task.into(), Link::Owner, silent(work)).await.map(|started| started.0)
    }

    /// As [`start_child`](Self::start_child), and the same function is run again as `restart` says
    /// (TSU-014). Restarts count against the supervisor's intensity.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
    ///
    /// let tries = Arc::new(AtomicU32::new(0));
    /// let own = tries.clone();
    /// let work = move || {
    ///     let nth = own.fetch_add(1, Ordering::SeqCst);
    ///     async move { assert!(nth == 2, "not yet") }
    /// };
    /// tasks.start_restarting("patient", Restart::Transient, work).await?;
    /// tokio::time::sleep(Duration::from_secs(1)).await; // paused clock
    /// assert_eq!(tries.load(Ordering::SeqCst), 3);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`start_child`](Self::start_child).
    pub async fn start_restarting<F>(
        &self,
        task: impl Into<TaskSpec>,
        restart: Restart,
        work: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<TaskRef, RequestError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task: TaskSpec = task.into();
        let about = task.about();
        let (place, work) = self.place_for(work)?;
        let spec = ChildSpec::worker(task.id, NodeKind::Task, move |cx| {
            // Over all of its restarts.
            let _place = &place;
            // What makes the work is the user's code as well, and runs in the task.
            let life = match guard_blocking(&work) {
                Ok(work) => start_task(&cx, about.clone(), silent(work)),
                Err(panic) => start_task(&cx, about.clone(), std::future::ready(panic)),
            };
            Box::pin(std::future::ready(Ok(Outcome::Up(life))))
        });
        let spec = spec.restart(restart).shutdown(task.shutdown);
        let spec = task.restart_delay.into_iter().fold(spec, ChildSpec::restart_delay);
        self.supervisor.start_child(spec).await.map(|child| TaskRef { child })
    }

    /// Starts a task whose value the caller wants; the task outlives the caller (TSU-004, 007),
    /// and its failure does not harm the caller (TSU-005).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut fails = tasks.async_nolink("fails", async { if true { panic!("a bug") } }).await?;
    /// let failed = fails.value().await; // and nobody else has noticed
    /// assert!(matches!(failed, Err(TaskError::Exited(ExitReason::Panic { .. }))));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`start_child`](Self::start_child).
    pub async fn async_nolink<T: Send + 'static>(
        &self,
        task: impl Into<TaskSpec>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<Task<T>, RequestError> {
        self.start_async(task.into(), Link::None, async { Some(work.await) }).await
    }

    /// As [`async_nolink`](Self::async_nolink), for work that may end without a value.
    pub(crate) async fn async_optional<T: Send + 'static>(
        &self,
        task: TaskSpec,
        work: impl Future<Output = Option<T>> + Send + 'static,
    ) -> Result<Task<T>, RequestError> {
        self.start_async(task, Link::None, work).await
    }

    /// As [`async_nolink`](Self::async_nolink), linked to the caller (TSK-001, 002, TSU-003).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let inner = tasks.clone();
    /// let mut outer = tasks.async_nolink("outer", async move {
    ///     let mut helper = inner.async_linked("helper", async { if true { panic!("a bug") } }).await?;
    ///     drop(helper.value().await); // no answer: it ends with its helper
    ///     Ok::<(), RequestError>(())
    /// }).await?;
    /// assert!(matches!(outer.value().await, Err(TaskError::Exited(ExitReason::Panic { .. }))));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`start_child`](Self::start_child).
    pub async fn async_linked<T: Send + 'static>(
        &self,
        task: impl Into<TaskSpec>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<Task<T>, RequestError> {
        self.start_async(task.into(), Link::Owner, async { Some(work.await) }).await
    }

    /// As [`async_linked`](Self::async_linked), and the value comes as a message to `owner`, then, in any
    /// case, the end: each once, and both with the task's process (TSK-003). They are casts: what finds
    /// no incarnation, or a full mailbox, is lost, as a message to a process that has ended.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # use perennial_supervision::actor::ActorError;
    /// # struct Log(Vec<TaskNotice<u32>>);
    /// # enum Message { Told(TaskNotice<u32>), All(Reply<Vec<TaskNotice<u32>>>) }
    /// # impl GenServer for Log {
    /// #     type Arguments = ();
    /// #     type Message = Message;
    /// #     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> { Ok(Init::new(Self(Vec::new()))) }
    /// #     async fn handle(&mut self, message: Message, _: &mut ServerCx<Self>) -> Result<Next<Message>, ActorError> {
    /// #         match message {
    /// #             Message::Told(notice) => self.0.push(notice),
    /// #             Message::All(reply) => reply.send(self.0.clone()),
    /// #         }
    /// #         Ok(Next::Continue)
    /// #     }
    /// # }
    /// # let (log, address) = ChildSpec::server::<Log>("log", || ());
    /// # root.supervisor().start_child(log).await?;
    /// let task = tasks.async_telling("sum", address.clone(), Message::Told, async { 10 }).await?;
    /// task.exit().await;
    /// let told = address.ask(Message::All).await?;
    /// assert!(matches!(told[0], TaskNotice::Value { value: 10, .. }));
    /// assert!(matches!(told[1], TaskNotice::Down { reason: ExitReason::Normal, .. }));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`start_child`](Self::start_child).
    pub async fn async_telling<T: Send + 'static, M: Send + 'static>(
        &self,
        task: impl Into<TaskSpec>,
        owner: Address<M>,
        message: impl Fn(TaskNotice<T>) -> M + Send + Sync + 'static,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<TaskRef, RequestError> {
        let message = Arc::new(message);
        let (told, tell) = (owner.clone(), message.clone());
        let work = async move {
            let value = work.await;
            if let Some(task) = current_process() {
                // It may have left.
                let _ = told.cast(tell(TaskNotice::Value { task, value }));
            }
        };
        let (task, _, _) = self.start_once(task.into(), Link::Owner, silent(work)).await?;
        let process = task.process().clone();
        task.on_exit(move |reason| {
            let down = TaskNotice::Down { task: process, reason: reason.clone() };
            let _ = owner.cast(message(down));
        });
        Ok(task)
    }

    async fn start_async<T: Send + 'static>(
        &self,
        task: TaskSpec,
        link: Link,
        work: impl Future<Output = Option<T>> + Send + 'static,
    ) -> Result<Task<T>, RequestError> {
        let (sender, value) = oneshot::channel();
        let work = silent(async move {
            if let Some(value) = work.await {
                // An owner that has left does not want it.
                drop(sender.send(value));
            }
        });
        let (TaskRef { child }, bond, context) = self.start_once(task, link, work).await?;
        let killer = Killer { context, node: child.node.clone() };
        Ok(Task::new(child, value, (current_process(), bond, killer)))
    }

    /// A place for `work`. What is refused is the user's, and its drop harms nobody.
    fn place_for<W>(&self, work: W) -> Result<(Place, W), RequestError> {
        match self.places.place() {
            Ok(place) => Ok((place, work)),
            Err(refusal) => {
                call_quietly("the drop of a task", || drop(work));
                Err(refusal)
            }
        }
    }

    /// Starts `work` once. Who asked is its owner, linked or not.
    async fn start_once(
        &self,
        task: TaskSpec,
        link: Link,
        work: impl Future<Output = ExitReason> + Send + 'static,
    ) -> Result<(TaskRef, Bond, Arc<OnceLock<Context>>), RequestError> {
        let (place, work) = self.place_for(work)?;
        let work: Work = Box::pin(async move {
            let reason = work.await;
            drop(place);
            reason
        });
        let (work, about) = (Mutex::new(Some(work)), task.about());
        let owner = current_process().filter(|_| link == Link::Owner);
        let (bond, context) = (Bond::default(), Arc::new(OnceLock::new()));
        let (tied, seen) = (bond.clone(), context.clone());
        let spec = ChildSpec::worker(task.id, NodeKind::Task, move |cx| {
            seen.get_or_init(|| cx.context.clone());
            let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Temporary children are started once.
            let work = work.ok_or(StartFault::Failed(ExitReason::NoProc));
            let started = work
                .map(|work| Outcome::Up(begin(&cx, owner.as_ref(), &tied, about.clone(), work)));
            Box::pin(std::future::ready(started))
        });
        let spec = spec.restart(Restart::Temporary).shutdown(task.shutdown);
        let child = self.supervisor.start_child(spec).await?;
        Ok((TaskRef { child }, bond, context))
    }

    /// Stops a task and awaits its end (TSU-016).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let task = tasks.start_child("slow", std::future::pending()).await?;
    /// tasks.terminate_child(&task).await?;
    /// assert_eq!(task.exit_reason(), Some(ExitReason::Shutdown));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NotFound`] when it has ended.
    pub async fn terminate_child(&self, task: &TaskRef) -> Result<(), RequestError> {
        self.supervisor.terminate_child(&task.child).await
    }

    /// The task of this name that runs, as published; asks nobody.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// tasks.start_child("slow", std::future::pending()).await?;
    /// let slow = tasks.find("slow").expect("it runs");
    /// tasks.terminate_child(&slow).await?;
    /// assert!(tasks.find("slow").is_none());
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn find(&self, id: &str) -> Option<TaskRef> {
        self.supervisor.find(id).map(|child| TaskRef { child })
    }

    /// Names of the tasks that run, oldest first, as published; not of those that are being restarted
    /// (TSU-017).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// tasks.start_child("slow", std::future::pending()).await?;
    /// tasks.start_child("slower", std::future::pending()).await?;
    /// assert_eq!(tasks.children(), ["slow", "slower"]);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn children(&self) -> Vec<String> {
        self.supervisor
            .which_children()
            .unwrap_or_default()
            .into_iter()
            .filter(|child| child.process.is_some())
            .map(|child| child.name().to_owned())
            .collect()
    }
}

/// Starts `work` for `owner`.
fn begin(cx: &StartCx, owner: Option<&ProcessRef>, bond: &Bond, about: About, work: Work) -> Life {
    let gone = owner.and_then(ProcessRef::exit_reason);
    if let Some(reason) = gone {
        // Before it has got its work: it ends in silence (TSU-008).
        drop(work);
        let reason = ExitReason::ShutdownWith(reason.to_string().into());
        return start_task(cx, about, std::future::ready(reason));
    }
    let life = start_task(cx, about, work);
    if let Some(owner) = owner {
        bond.tie(owner, &cx.process);
        cx.context.members().join(&cx.context, owner, &life, &cx.node);
    }
    life
}

async fn silent(work: impl Future<Output = ()> + Send + 'static) -> ExitReason {
    work.await;
    ExitReason::Normal
}
