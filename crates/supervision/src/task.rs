//! One task that somebody waits for: awaiting, polling, stopping and leaving it.

mod bond;
mod many;

use std::{fmt, future::poll_fn, task::Poll, time::Duration};

use perennial_core::{ExitReason, Shutdown};
use tokio::sync::oneshot;

pub(crate) use self::bond::Bond;
pub use self::many::{OnTimeout, await_many, yield_many};
use crate::{
    CALL_WITHIN, ChildRef, ProcessRef,
    life::Life,
    process::{current_process, is_current},
    stopping::Killer,
    waits::Waiting,
};

/// One running task. Cheap to clone.
///
/// ```
/// use perennial_supervision::TaskRef;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let task: TaskRef = tasks.start_child("slow", std::future::pending()).await?;
/// assert_eq!((task.id().as_str(), task.process().path()), ("slow", "/app/tasks/slow"));
/// assert!(task.is_alive());
/// tasks.terminate_child(&task).await?;
/// assert_eq!(task.exit_reason(), Some(ExitReason::Shutdown));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TaskRef {
    pub(crate) child: ChildRef,
}

/// One task whose value its owner waits for: the process that asked for it.
///
/// Only the owner can ask for the value (TSK-009); what is no process of a tree has the tasks that
/// nobody in a tree has asked for. The value is given once: from then on, and after
/// [`join`](Self::join) has given up, there is nothing to wait for any more (TSK-007, 010).
///
/// Dropping it leaves the task as it is, linked to its owner or not.
///
/// ```
/// use perennial_supervision::Task;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut task: Task<u32> = tasks.async_nolink("answer", async { 42 }).await?;
/// assert_eq!(task.reference().expect("it has a process").id().as_str(), "answer");
/// assert_eq!(task.join(Duration::from_secs(1)).await, Ok(42));
/// # root.shutdown().await; Ok(()) }
/// ```
pub struct Task<T> {
    /// None for a value without a process.
    running: Option<Running>,
    value: Value<T>,
    owner: Option<ProcessRef>,
}

struct Running {
    reference: TaskRef,
    life: Life,
    bond: Bond,
    killer: Killer,
}

enum Value<T> {
    Coming(oneshot::Receiver<T>),
    Here(T),
    /// It does not come: the end of the task says why.
    Ending,
    /// It was given, or nobody wants it any more.
    Gone,
}

/// Why a task gave no value.
///
/// ```
/// use perennial_supervision::TaskError;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut slow = tasks.async_nolink("slow", std::future::pending::<u32>()).await?;
/// assert_eq!(slow.join(Duration::from_secs(1)).await, Err(TaskError::Timeout));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It ended without one.
    #[error("the task ended without a result: {0}")]
    Exited(ExitReason),
    /// It takes longer; it runs on.
    #[error("no result within the deadline")]
    Timeout,
    /// Another process asked for the task.
    #[error("only the process that asked for a task can wait for it")]
    NotOwner,
}

/// What a poll of a task found: its value, why it ended without one, or nothing yet.
///
/// ```
/// use perennial_supervision::{ExitReason, Yielded};
///
/// let found: Yielded<u32> = Some(Err(ExitReason::Killed));
/// assert!(found.is_some_and(|found| found.is_err())); // `None` is: nothing yet
/// ```
pub type Yielded<T> = Option<Result<T, ExitReason>>;

impl TaskRef {
    /// Its id.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let task = tasks.start_child("tidy", async {}).await?;
    /// assert_eq!(task.id().as_str(), "tidy");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn id(&self) -> &perennial_core::ChildId {
        self.child.id()
    }

    /// The process that it is.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let task = tasks.start_child("tidy", async {}).await?;
    /// assert_eq!(task.process().path(), "/app/tasks/tidy");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn process(&self) -> &ProcessRef {
        &self.child.first.process
    }

    /// Whether its end has not been announced.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let task = tasks.start_child("tidy", async {}).await?;
    /// task.exit().await;
    /// assert!(!task.is_alive());
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn is_alive(&self) -> bool {
        self.child.first.ended().reason().is_none()
    }

    /// Why it ended, once that is announced.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let task = tasks.start_child("slow", std::future::pending()).await?;
    /// assert_eq!(task.exit_reason(), None); // it runs
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn exit_reason(&self) -> Option<ExitReason> {
        self.child.first.ended().reason()
    }

    /// Waits for its end.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let task = tasks.start_child("tidy", async {}).await?;
    /// assert_eq!(task.exit().await, ExitReason::Normal);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub async fn exit(&self) -> ExitReason {
        self.child.first_exit().await
    }

    /// Calls `tell` at its end; at once when that is past. `tell` must not block.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let (tell, told) = std::sync::mpsc::channel();
    /// let task = tasks.start_child("tidy", async {}).await?;
    /// task.on_exit(move |reason| drop(tell.send(reason.clone())));
    /// task.exit().await;
    /// assert_eq!(told.recv(), Ok(ExitReason::Normal));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn on_exit(&self, tell: impl FnOnce(&ExitReason) + Send + 'static) {
        self.child.first.ended().on_end(tell);
    }
}

impl<T> Task<T> {
    pub(crate) fn new(
        child: ChildRef,
        value: oneshot::Receiver<T>,
        (owner, bond, killer): (Option<ProcessRef>, Bond, Killer),
    ) -> Self {
        let life = child.first.clone();
        let running = Running { reference: TaskRef { child }, life, bond, killer };
        Self { running: Some(running), value: Value::Coming(value), owner }
    }

    /// A task without a process, whose value is there (TSK-011): for callers who have it already where
    /// others would have to work for it.
    ///
    /// ```
    /// use perennial_supervision::Task;
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// // Found in a cache: nothing has to run for it.
    /// let mut cached = Task::completed(42);
    /// assert!(cached.reference().is_none());
    /// assert_eq!(cached.join(Duration::from_secs(1)).await, Ok(42));
    /// # }
    /// ```
    pub fn completed(value: T) -> Self {
        Self { running: None, value: Value::Here(value), owner: current_process() }
    }

    /// The task without its value; none for one without a process.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let task = tasks.async_nolink("answer", async { 42 }).await?;
    /// let reference = task.reference().cloned().expect("it has a process");
    /// drop(task); // nobody wants its value; it runs all the same
    /// assert_eq!(reference.exit().await, ExitReason::Normal);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn reference(&self) -> Option<&TaskRef> {
        self.running.as_ref().map(|running| &running.reference)
    }

    /// Waits for the value. A value wins over an end (TSK-027).
    ///
    /// When `within` has passed the task runs on, and its value is not wanted any more: later calls time
    /// out as well (TSK-006–008). Ask with [`yield_within`](Self::yield_within) to be able to ask again.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut answer = tasks.async_nolink("answer", async { 42 }).await?;
    /// assert_eq!(answer.join(Duration::from_secs(1)).await, Ok(42));
    /// // The value is given once.
    /// assert_eq!(answer.join(Duration::from_secs(1)).await, Err(TaskError::Timeout));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the task ended without a value (TSK-004, 005), `within` passed, the value was given before,
    /// or the caller is not the owner.
    ///
    /// # Cancel safety
    ///
    /// Safe: the value stays until it is given.
    pub async fn join(&mut self, within: Duration) -> Result<T, TaskError> {
        self.owned()?;
        match self.fetch(within).await {
            Some(found) => found.map_err(TaskError::Exited),
            None => {
                self.value = Value::Gone;
                Err(TaskError::Timeout)
            }
        }
    }

    /// As [`join`](Self::join), for as long as OTP waits: 5 s.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut answer = tasks.async_nolink("answer", async { 42 }).await?;
    /// assert_eq!(answer.value().await, Ok(42));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`join`](Self::join).
    ///
    /// # Cancel safety
    ///
    /// See [`join`](Self::join).
    pub async fn value(&mut self) -> Result<T, TaskError> {
        self.join(CALL_WITHIN).await
    }

    /// What there is within that time: the value, why the task ended without one, or nothing; then it can
    /// be asked again (TSK-026). With no time at all it is a poll (TSK-028).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let work = async {
    ///     tokio::time::sleep(Duration::from_secs(3)).await; // paused clock
    ///     42
    /// };
    /// let mut answer = tasks.async_nolink("answer", work).await?;
    /// assert_eq!(answer.yield_within(Duration::from_secs(2)).await?, None); // not yet
    /// assert_eq!(answer.yield_within(Duration::from_secs(2)).await?, Some(Ok(42)));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the caller is not the owner.
    ///
    /// # Cancel safety
    ///
    /// Safe: the value stays until it is given.
    pub async fn yield_within(&mut self, within: Duration) -> Result<Yielded<T>, TaskError> {
        self.owned()?;
        Ok(self.fetch(within).await)
    }

    /// Asks the task to stop, waits for its end and kills it when its time is over (TSK-034). First it is
    /// unlinked, so that its end is nothing to the owner (TSK-041).
    ///
    /// A value that was there, or came meanwhile, wins (TSK-035). Nothing when it stopped because of
    /// this; the reason when it ended for another one, or had to be killed after its time (TSK-036–038).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut slow = tasks.async_nolink("slow", std::future::pending::<u32>()).await?;
    /// assert_eq!(slow.shutdown(Shutdown::WORKER_DEFAULT).await?, None); // it stopped because of this
    /// let mut done = tasks.async_nolink("done", async { 42 }).await?;
    /// done.reference().expect("it has a process").exit().await;
    /// assert_eq!(done.shutdown(Shutdown::BrutalKill).await?, Some(Ok(42))); // its value was there
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the caller is not the owner.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request; one that does not stop is not killed then.
    pub async fn shutdown(&mut self, how: Shutdown) -> Result<Yielded<T>, TaskError> {
        self.owned()?;
        let Some(running) = &self.running else {
            return Ok(self.fetch(Duration::ZERO).await);
        };
        if matches!(self.value, Value::Gone) {
            return Ok(Some(Err(ExitReason::NoProc))); // TSK-039
        }
        running.bond.unlink();
        let (life, killer) = (running.life.clone(), running.killer.clone());
        let (reason, asked) = match how {
            Shutdown::BrutalKill => (killer.kill(&life).await, ExitReason::Killed),
            Shutdown::Infinity => {
                life.control.stop(&ExitReason::Shutdown);
                (life.ended().wait().await, ExitReason::Shutdown)
            }
            Shutdown::Timeout(within) => {
                life.control.stop(&ExitReason::Shutdown);
                let ended = tokio::time::timeout(within, life.ended().wait()).await;
                match ended {
                    Ok(reason) => (reason, ExitReason::Shutdown),
                    Err(_) => (killer.kill(&life).await, ExitReason::Shutdown),
                }
            }
        };
        let found = match self.fetch(Duration::ZERO).await {
            Some(Ok(value)) => Some(Ok(value)),
            Some(Err(_)) | None => (reason != asked).then_some(Err(reason)),
        };
        self.value = Value::Gone;
        Ok(found)
    }

    /// Leaves the task to itself: unlinked, it runs on, and neither its value nor its failure arrives
    /// (TSK-043). What is there by now is given.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut slow = tasks.async_nolink("slow", std::future::pending::<u32>()).await?;
    /// assert_eq!(slow.ignore().await?, None);
    /// assert!(slow.reference().expect("it has a process").is_alive()); // it runs on
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the caller is not the owner.
    pub async fn ignore(&mut self) -> Result<Yielded<T>, TaskError> {
        self.owned()?;
        let found = self.fetch(Duration::ZERO).await;
        if let Some(running) = &self.running {
            running.bond.unlink();
        }
        self.value = Value::Gone;
        Ok(found)
    }

    /// Kills it, if it runs; does not wait for its end.
    pub(crate) fn kill(&self) {
        if let Some(running) = &self.running {
            running.life.control.kill();
        }
    }

    fn owned(&self) -> Result<(), TaskError> {
        let is_owner = match &self.owner {
            Some(owner) => is_current(owner),
            None => current_process().is_none(),
        };
        if is_owner { Ok(()) } else { Err(TaskError::NotOwner) }
    }

    async fn fetch(&mut self, within: Duration) -> Yielded<T> {
        tokio::time::timeout(within, self.found()).await.ok()
    }

    /// The value, or why there is none; waits for ever where nothing comes any more.
    pub(crate) async fn found(&mut self) -> Result<T, ExitReason> {
        let _waiting = self.running.as_ref().map(|running| Waiting::begin(&running.life.process));
        if let Value::Coming(coming) = &mut self.value {
            match coming.await {
                Ok(value) => {
                    self.value = Value::Gone;
                    return Ok(value);
                }
                // What was found closed must not be asked again.
                Err(_) => self.value = Value::Ending,
            }
        }
        match std::mem::replace(&mut self.value, Value::Gone) {
            Value::Here(value) => Ok(value),
            Value::Ending => {
                self.value = Value::Ending;
                let reason = match &self.running {
                    Some(running) => running.life.ended().wait().await,
                    None => ExitReason::NoProc,
                };
                self.value = Value::Gone;
                Err(reason)
            }
            Value::Coming(_) | Value::Gone => poll_fn(|_| Poll::Pending).await,
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("reference", &self.reference()).finish_non_exhaustive()
    }
}
