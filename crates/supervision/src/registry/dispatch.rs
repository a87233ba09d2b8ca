//! Something done with all entries at a key.

use std::{borrow::Borrow, hash::Hash, sync::Arc, time::Duration};

use super::{Duplicate, Registered, Registry, RegistryError, RegistryKey};
use crate::{RequestError, TaskError, TaskSupervisor};

/// Why a dispatch in tasks did not do all.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// use perennial_supervision::{DispatchError, Duplicate, Registry, RegistrySpec};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (spec, topics) = Registry::<String, u32, Duplicate>::child_spec(RegistrySpec::duplicate("topics"))?;
/// # let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10));
/// # let app = SupervisorSpec::new("app").child(tasks_spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// // The registry itself was never started.
/// let told = topics.dispatch_in(&tasks, "news", Duration::from_secs(1), |_| ()).await;
/// assert_eq!(told, Err(DispatchError::Registry(RegistryError::NotRunning)));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchError {
    /// The registry does not run: nothing was done.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A task did not start; those before it are done.
    #[error(transparent)]
    Start(#[from] RequestError),
    /// A task did not come to its end.
    #[error(transparent)]
    Task(#[from] TaskError),
}

impl<K: RegistryKey, V: Send + Sync + 'static, M: 'static> Registry<K, V, M> {
    /// Calls `work` in the caller with the entries at `key`, once for each partition that has some, and
    /// not at all when there are none (REG-030–032). They may be of processes that have just ended:
    /// sending to those does no harm (REG-034). A panic of `work` is the caller's (REG-033).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, u32, Duplicate>::child_spec(RegistrySpec::duplicate("rooms"))?;
    /// # let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10));
    /// # let app = SupervisorSpec::new("app").child(spec).child(tasks_spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let own = rooms.clone();
    /// # let mut holder = tasks.async_nolink("holder", async move {
    /// # let rooms = own;
    /// // In the code of a process:
    /// rooms.register("lobby".to_owned(), 7)?;
    /// rooms.register("lobby".to_owned(), 8)?;
    /// let mut sum = 0;
    /// rooms.dispatch("lobby", |entries| sum += entries.iter().map(|it| *it.value).sum::<u32>())?;
    /// assert_eq!(sum, 15);
    /// rooms.dispatch("attic", |_| panic!("there are no entries"))?;
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn dispatch<Q>(
        &self,
        key: &Q,
        mut work: impl FnMut(&[Registered<V>]),
    ) -> Result<(), RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.running()?;
        for part in self.parts_for(key) {
            let found = part.read(key, |entries| entries.to_vec());
            if !found.is_empty() {
                work(&found);
            }
        }
        Ok(())
    }
}

impl<K: RegistryKey, V: Send + Sync + 'static> Registry<K, V, Duplicate> {
    /// As [`dispatch`](Self::dispatch), for each partition in a task of its own under `tasks`, all at
    /// the same time, and awaits them.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, u32, Duplicate>::child_spec(RegistrySpec::duplicate("rooms"))?;
    /// # let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10));
    /// # let app = SupervisorSpec::new("app").child(spec).child(tasks_spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let inner = tasks.clone();
    /// # let own = rooms.clone();
    /// # let mut holder = tasks.async_nolink("holder", async move {
    /// # let rooms = own;
    /// # let tasks = inner;
    /// // In the code of a process:
    /// rooms.register("lobby".to_owned(), 7)?;
    /// let (tell, told) = std::sync::mpsc::channel();
    /// let work = move |entries: &[Registered<u32>]| drop(tell.send(entries.len()));
    /// let done = rooms.dispatch_in(&tasks, "lobby", Duration::from_secs(1), work).await;
    /// assert_eq!((done, told.recv()), (Ok(()), Ok(1)));
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The first that came. Every task that was started is awaited, for `within` at most.
    pub async fn dispatch_in<Q>(
        &self,
        tasks: &TaskSupervisor,
        key: &Q,
        within: Duration,
        work: impl Fn(&[Registered<V>]) + Send + Sync + 'static,
    ) -> Result<(), DispatchError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.running()?;
        let work = Arc::new(work);
        let (mut started, mut fault) = (Vec::new(), None);
        for part in self.parts_for(key) {
            let found = part.read(key, |entries| entries.to_vec());
            if found.is_empty() {
                continue;
            }
            let work = work.clone();
            let task = async move { work(&found) };
            match tasks.async_nolink("dispatch", task).await {
                Ok(task) => started.push(task),
                Err(error) => {
                    fault = Some(error.into());
                    break;
                }
            }
        }
        for mut task in started {
            if let Err(error) = task.join(within).await {
                fault.get_or_insert(error.into());
            }
        }
        fault.map_or(Ok(()), Err)
    }
}
