//! One incarnation in the hands of a user, and the watch on its end.

use std::{fmt, sync::Arc};

use perennial_core::ExitReason;

use crate::{
    life::{Ended, Pid},
    light::Somebody,
    sync::task_local,
    waits::Waits,
};

/// One incarnation of a child: OTP's pid. Never waits for a successor, unlike an
/// [`Address`](crate::Address). Cheap to clone; equal when it is the same incarnation.
///
/// ```
/// use perennial_supervision::ProcessRef;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let first: ProcessRef = counter.whereis().expect("it runs");
/// counter.cast(Ask::Fail)?;
/// counter.ask(Ask::Sum).await.unwrap_err(); // caught by the end
/// counter.ask(Ask::Sum).await?;
/// let second = counter.whereis().expect("it runs again");
/// assert_ne!(first, second); // one child, two incarnations
/// assert_eq!(first.path(), second.path());
/// assert_eq!(first.exit_reason().map(|reason| reason.name()), Some("panic"));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone)]
pub struct ProcessRef(Ended);

impl ProcessRef {
    /// One that is about to be.
    pub(crate) fn new(path: Arc<str>, pid: Pid) -> Self {
        Self(Ended::new(path, pid))
    }

    /// One that is about to be, at the same place in the tree.
    pub(crate) fn sibling(&self, pid: Pid) -> Self {
        Self(Ended::new(self.0.shared_path(), pid))
    }

    /// Makes another one of it, where nobody else has it.
    pub(crate) fn renew(&mut self, pid: Pid) -> bool {
        self.0.renew(pid)
    }

    /// Whether nobody can see its end any more, which is not worth an announcement then.
    pub(crate) fn is_unseen(&mut self) -> bool {
        self.0.is_unseen()
    }

    pub(crate) fn pid(&self) -> Pid {
        self.0.pid()
    }

    /// Tells incarnations apart, of whatever tree, while any reference to them is there.
    pub(crate) fn identity(&self) -> usize {
        self.0.identity()
    }

    pub(crate) fn waits(&self) -> &Waits {
        self.0.waits()
    }

    pub(crate) fn ended(&self) -> &Ended {
        &self.0
    }

    /// Calls `tell` at its end, unless what this returns is dropped before; at once when it is past.
    /// `tell` must not block.
    pub(crate) fn on_end(
        &self,
        tell: impl FnOnce(&ExitReason) + Send + 'static,
    ) -> Option<crate::life::Watch> {
        self.0.watch(tell)
    }

    /// `from`, which it is linked to, ended with `reason`.
    pub(crate) fn sever(&self, from: &Self, reason: &ExitReason) {
        if let Some(control) = self.0.control() {
            control.sever(from, reason);
        }
    }

    /// Its place in the tree, for example `/app/runs/7`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(counter.whereis().expect("it runs").path(), "/app/counter");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// Paths of its supervisor, of that one's supervisor, and so on up to the root (OBS-003).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (cache, _) = Agent::child_spec("cache", || 0_u32);
    /// let (tables, tables_handle) = Supervisor::child_spec(SupervisorSpec::new("tables").child(cache));
    /// # let app = SupervisorSpec::new("app").child(tables);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let cache = tables_handle.which_child("cache")?.process.expect("it runs");
    /// assert_eq!(cache.ancestors().collect::<Vec<_>>(), ["/app/tables", "/app"]);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(parent(self.path()), |above| parent(above))
    }

    /// Whether its end has not been announced.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let process = counter.whereis().expect("it runs");
    /// assert!(process.is_alive());
    /// root.shutdown().await;
    /// assert!(!process.is_alive());
    /// # Ok(()) }
    /// ```
    pub fn is_alive(&self) -> bool {
        self.0.reason().is_none()
    }

    /// As [`is_alive`](Self::is_alive), for those who learned of the end by what its supervisor does:
    /// that is told a moment before.
    pub(crate) fn is_not_ending(&self) -> bool {
        !self.0.is_being_announced()
    }

    /// Why it ended, once that is announced.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let process = counter.whereis().expect("it runs");
    /// assert_eq!(process.exit_reason(), None);
    /// root.shutdown().await;
    /// assert_eq!(process.exit_reason(), Some(ExitReason::Shutdown));
    /// # Ok(()) }
    /// ```
    pub fn exit_reason(&self) -> Option<ExitReason> {
        self.0.reason()
    }

    /// Watches its end. Each monitor is independent of all others (GS-061).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let process = counter.whereis().expect("it runs");
    /// let mut monitor = process.monitor();
    /// root.shutdown().await;
    /// assert_eq!(monitor.down().await, ExitReason::Shutdown);
    /// assert_eq!(process.monitor().down().await, ExitReason::NoProc); // too late to watch it
    /// # Ok(()) }
    /// ```
    pub fn monitor(&self) -> Monitor {
        // What has ended already is a target that is not there (GS-060).
        Monitor { target: self.is_alive().then(|| self.0.clone()), down: None }
    }
}

impl PartialEq for ProcessRef {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }
}

impl Eq for ProcessRef {}

impl fmt::Debug for ProcessRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcessRef({} {:?})", self.path(), self.pid())
    }
}

impl fmt::Display for ProcessRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.path(), self.pid().0)
    }
}

/// Whose code is running.
#[derive(Clone)]
pub(crate) enum Here {
    Process(ProcessRef),
    /// A light server: most of its incarnations nobody ever meets.
    Light(Arc<dyn Somebody>),
}

impl Here {
    /// The incarnation.
    pub(crate) fn process(&self) -> Option<ProcessRef> {
        match self {
            Self::Process(process) => Some(process.clone()),
            Self::Light(light) => light.clone().process(),
        }
    }

    pub(crate) fn is_light<T>(&self, cell: &Arc<T>) -> bool {
        match self {
            Self::Process(_) => false,
            Self::Light(light) => light.place() == Arc::as_ptr(cell).addr(),
        }
    }

    /// Whether it is at `path` or below.
    pub(crate) fn is_below(&self, path: &str) -> bool {
        let below = |own: &str| {
            own.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.process().is_some_and(|process| below(process.path()))
    }
}

task_local! {
    /// The incarnation whose code is running.
    pub(crate) static CURRENT: Here;
    /// Those who asked for the task that is running, and for the task that they are.
    pub(crate) static CALLERS: Arc<[ProcessRef]>;
}

/// The incarnation whose code is running here, in its init and in all its callbacks; none outside of
/// the tree, and none in a task that was spawned past it.
///
/// ```
/// use perennial_supervision::current_process;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut task = tasks.async_nolink("task", async { current_process() }).await?;
/// let inside = task.value().await?.expect("a task is a process");
/// assert_eq!(inside.path(), "/app/tasks/task");
/// assert_eq!(current_process(), None); // outside of any tree
/// # root.shutdown().await; Ok(()) }
/// ```
pub fn current_process() -> Option<ProcessRef> {
    CURRENT.try_with(Here::process).ok().flatten()
}

/// What `look` says of whose code runs here; no where that is nobody of a tree.
pub(crate) fn here(look: impl FnOnce(&Here) -> bool) -> bool {
    CURRENT.try_with(look).unwrap_or(false)
}

/// Who asked for the task that is running here, the nearest first: OTP's `$callers` (OBS-004). Who
/// supervises it is told by [`ProcessRef::ancestors`].
///
/// ```
/// use perennial_supervision::callers;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let inner = tasks.clone();
/// let mut outer = tasks.async_nolink("outer", async move {
///     let mut task = inner.async_nolink("inner", async { callers() }).await.ok()?;
///     task.value().await.ok()
/// }).await?;
/// let callers = outer.value().await?.expect("both have run");
/// assert_eq!(callers[0].path(), "/app/tasks/outer"); // who asked for it
/// # root.shutdown().await; Ok(()) }
/// ```
pub fn callers() -> Vec<ProcessRef> {
    CALLERS.try_with(|callers| callers.to_vec()).unwrap_or_default()
}

/// Who would be the callers of a task that is asked for here.
pub(crate) fn callers_from_here() -> Arc<[ProcessRef]> {
    current_process().into_iter().chain(callers()).collect()
}

/// Whether the code of `process` is running here, so that waiting for it would wait for ever. One of another
/// tree may have the same number.
pub(crate) fn is_current(process: &ProcessRef) -> bool {
    here(|here| match here {
        Here::Process(current) => current == process,
        Here::Light(light) => light.is(process),
    })
}

/// The path above a path; none above the root.
pub(crate) fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(above, _)| above).filter(|above| !above.is_empty())
}

/// A watch on the end of one incarnation. Dropping it ends the watch; nothing of it remains. A clone
/// is a watch of its own.
///
/// ```
/// use perennial_supervision::Monitor;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut monitor: Monitor = counter.monitor();
/// let mut other = monitor.clone(); // a watch of its own
/// root.shutdown().await;
/// assert_eq!(monitor.down().await, ExitReason::Shutdown);
/// assert_eq!(other.down().await, ExitReason::Shutdown);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Monitor {
    /// None when there was nothing when the watch began.
    target: Option<Ended>,
    down: Option<ExitReason>,
}

impl Monitor {
    /// A watch on what is not there.
    pub(crate) fn no_proc() -> Self {
        Self { target: None, down: None }
    }

    /// Waits for the end and says why; [`ExitReason::NoProc`] at once when the target had ended
    /// before the watch began. Repeated calls answer the same.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut monitor = counter.monitor();
    /// counter.stop(ExitReason::Normal, Duration::from_secs(1)).await?;
    /// assert_eq!(monitor.down().await, ExitReason::Normal);
    /// assert_eq!(monitor.down().await, ExitReason::Normal); // answered again
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Safe: the end is not lost.
    pub async fn down(&mut self) -> ExitReason {
        if let Some(reason) = &self.down {
            return reason.clone();
        }
        let reason = match &self.target {
            Some(ended) => ended.wait().await,
            None => ExitReason::NoProc,
        };
        self.down = Some(reason.clone());
        reason
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("down", &self.down).finish_non_exhaustive()
    }
}

/// Why a stop that was asked for did not go as asked.
///
/// ```
/// use perennial_supervision::StopError;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let stopped = counter.stop(ExitReason::Normal, Duration::ZERO).await;
/// assert_eq!(stopped, Err(StopError::ZeroDeadline)); // nothing was asked
/// root.shutdown().await;
/// let stopped = counter.stop(ExitReason::Normal, Duration::from_secs(1)).await;
/// assert_eq!(stopped, Err(StopError::NoProc));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// Nothing runs there.
    #[error("nothing runs there")]
    NoProc,
    /// It takes longer; the stop goes on.
    #[error("it did not end within the deadline")]
    Timeout,
    /// The stop would wait for whoever asks for it.
    #[error("a process cannot wait for its own end")]
    CallingSelf,
    /// It ended, for another reason than the one asked for.
    #[error("it ended for another reason: {0}")]
    Exited(ExitReason),
    /// A deadline of no time at all: nothing was asked (GS-054).
    #[error("the deadline must not be zero")]
    ZeroDeadline,
}
