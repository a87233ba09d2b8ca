//! Tasks that live no longer than the code that asked for them.

use std::{fmt, time::Duration};

use futures_util::future::join_all;
use perennial_core::ExitReason;
use tokio_util::sync::CancellationToken;

use crate::{RequestError, Task, TaskRef, TaskSpec, TaskSupervisor};

/// Structured concurrency: tasks that are started in it are cancelled when it is dropped, by whatever
/// way: at the end of a block, with `?`, by a panic, or with the process that holds it.
///
/// They are tasks of a [`TaskSupervisor`], listed and bounded as all of them, and linked to nobody: the
/// failure of one is told by [`close`](Self::close) in its place.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{Clock, ExitReason, Options, Root, SupervisorSpec};
/// use perennial_supervision::{TaskSupervisor, TaskSupervisorSpec};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut scope = tasks.scope();
/// scope.start("left", async { 1 }).await?;
/// scope.start("right", async { 2 }).await?;
/// scope.start("slow", std::future::pending()).await?;
/// let found = scope.close(Duration::from_millis(20)).await;
/// assert_eq!(found, [Ok(1), Ok(2), Err(ExitReason::Timeout)]);
/// # root.shutdown().await; Ok(()) }
/// ```
#[must_use = "dropping a scope cancels its tasks"]
pub struct Scope<T> {
    supervisor: TaskSupervisor,
    tasks: Vec<Task<T>>,
    /// Also for one that is being started.
    cancelled: CancellationToken,
}

impl TaskSupervisor {
    /// A scope for tasks of this supervisor.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut scope = tasks.scope();
    /// scope.start("answer", async { 42 }).await?;
    /// assert_eq!(scope.close(Duration::from_secs(1)).await, [Ok(42)]);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn scope<T: Send + 'static>(&self) -> Scope<T> {
        let cancelled = CancellationToken::new();
        Scope { supervisor: self.clone(), tasks: Vec::new(), cancelled }
    }
}

impl<T: Send + 'static> Scope<T> {
    /// Starts a task in this scope.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut scope = tasks.scope::<u32>();
    /// let task = scope.start("slow", std::future::pending()).await?;
    /// drop(scope); // cancels it
    /// assert_eq!(task.exit().await, ExitReason::Killed);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`TaskSupervisor::start_child`]. Those that run go on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request: the task belongs to nobody then, but is
    /// cancelled with the scope.
    pub async fn start(
        &mut self,
        task: impl Into<TaskSpec>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<TaskRef, RequestError> {
        let cancelled = self.cancelled.clone();
        let work = async move { cancelled.run_until_cancelled_owned(work).await };
        let task = self.supervisor.async_optional(task.into(), work).await?;
        let reference = task.reference().cloned().ok_or(RequestError::NoProc)?;
        self.tasks.push(task);
        Ok(reference)
    }

    /// How many tasks were started in it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut scope = tasks.scope();
    /// assert!(scope.is_empty());
    /// scope.start("answer", async { 42 }).await?;
    /// assert_eq!(scope.len(), 1);
    /// # scope.cancel().await;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits for all of its tasks and answers what became of each, in the order of their starts. Those
    /// that take longer than `within`, together, are killed, with [`ExitReason::Timeout`] in their
    /// place; none of them runs when this returns.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut scope = tasks.scope();
    /// scope.start("quick", async { 1 }).await?;
    /// scope.start("slow", std::future::pending()).await?;
    /// let found = scope.close(Duration::from_secs(1)).await;
    /// assert_eq!(found, [Ok(1), Err(ExitReason::Timeout)]); // in the order of their starts
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the scope.
    pub async fn close(mut self, within: Duration) -> Vec<Result<T, ExitReason>> {
        let mut found: Vec<_> = self.tasks.iter().map(|_| None).collect();
        let all = found.iter_mut().zip(&mut self.tasks).map(|(place, task)| async {
            *place = Some(task.found().await);
        });
        // What is missing then is late.
        let in_time = tokio::time::timeout(within, join_all(all)).await;
        if in_time.is_err() {
            self.stop().await;
        }
        found.into_iter().map(|it| it.unwrap_or(Err(ExitReason::Timeout))).collect()
    }

    /// Cancels its tasks and waits for their ends, which a drop does not.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut scope = tasks.scope::<()>();
    /// let task = scope.start("slow", std::future::pending()).await?;
    /// scope.cancel().await;
    /// assert!(!task.is_alive()); // it has ended
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub async fn cancel(mut self) {
        self.stop().await;
    }

    async fn stop(&mut self) {
        self.kill();
        let ends = self.tasks.iter().filter_map(Task::reference).map(TaskRef::exit);
        join_all(ends).await;
    }
}

impl<T> Scope<T> {
    fn kill(&self) {
        self.cancelled.cancel();
        self.tasks.iter().for_each(Task::kill);
    }
}

impl<T> Drop for Scope<T> {
    fn drop(&mut self) {
        self.kill();
    }
}

impl<T> fmt::Debug for Scope<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}
