//! What reads: in the caller, on copies of the entries, which are small.

use std::{borrow::Borrow, hash::Hash, sync::Arc};

use super::{Registered, Registry, RegistryError, RegistryKey, Unique};
use crate::ProcessRef;

impl<K: RegistryKey, V: Send + Sync + 'static, M: 'static> Registry<K, V, M> {
    /// What is registered at `key`, in the order of registration within a partition.
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
    /// let values: Vec<u32> = rooms.lookup("lobby")?.iter().map(|found| *found.value).collect();
    /// assert_eq!(values, [7, 8]);
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the registry does not run; the same holds for all that read.
    pub fn lookup<Q>(&self, key: &Q) -> Result<Vec<Registered<V>>, RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.lookup_match(key, |_| true)
    }

    /// As [`lookup`](Self::lookup), only those whose values match (REG-035).
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
    /// assert_eq!(rooms.lookup_match("lobby", |value| *value > 7)?.len(), 1);
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn lookup_match<Q>(
        &self,
        key: &Q,
        mut matches: impl FnMut(&V) -> bool,
    ) -> Result<Vec<Registered<V>>, RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.running()?;
        let mut found = Vec::new();
        for part in self.parts_for(key) {
            found.extend(part.read(key, |entries| {
                let living = entries.iter().filter(|it| it.process.is_alive());
                living.cloned().collect::<Vec<_>>()
            }));
        }
        found.retain(|it| matches(&it.value));
        Ok(found)
    }

    /// How many [`lookup_match`](Self::lookup_match) finds (REG-036).
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
    /// assert_eq!(rooms.count_match("lobby", |value| *value > 7)?, 1);
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn count_match<Q>(
        &self,
        key: &Q,
        matches: impl FnMut(&V) -> bool,
    ) -> Result<usize, RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Ok(self.lookup_match(key, matches)?.len())
    }

    /// The keys of `process`, each once for each of its entries; none of a stranger, and none of one
    /// that has ended (REG-009).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, u32, Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10));
    /// # let app = SupervisorSpec::new("app").child(spec).child(tasks_spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let own = rooms.clone();
    /// # let mut holder = tasks.async_nolink("holder", async move {
    /// # let rooms = own;
    /// // In the code of a process:
    /// rooms.register("lobby".to_owned(), 7)?;
    /// let own = current_process().expect("a task is a process");
    /// assert_eq!(rooms.keys(&own)?, ["lobby"]);
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn keys(&self, process: &ProcessRef) -> Result<Vec<K>, RegistryError> {
        self.running()?;
        Ok(self.inner.partitions.iter().flat_map(|part| part.keys(process)).collect())
    }

    /// The values of `process` at `key` (REG-010).
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
    /// let own = current_process().expect("a task is a process");
    /// assert_eq!(*rooms.values("lobby", &own)?[0], 7);
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn values<Q>(&self, key: &Q, process: &ProcessRef) -> Result<Vec<Arc<V>>, RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.lookup(key)?.into_iter();
        Ok(found.filter(|it| it.process == *process).map(|it| it.value).collect())
    }

    /// How many entries there are (REG-011).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, u32, Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10));
    /// # let app = SupervisorSpec::new("app").child(spec).child(tasks_spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let own = rooms.clone();
    /// # let mut holder = tasks.async_nolink("holder", async move {
    /// # let rooms = own;
    /// // In the code of a process:
    /// rooms.register("lobby".to_owned(), 7)?;
    /// assert_eq!(rooms.count()?, 1);
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn count(&self) -> Result<u64, RegistryError> {
        self.running()?;
        Ok(self.inner.partitions.iter().map(|part| part.count()).sum())
    }

    /// What `pick` makes of all entries, those left out for which it makes nothing (REG-039). In no
    /// particular order.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, u32, Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10));
    /// # let app = SupervisorSpec::new("app").child(spec).child(tasks_spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let own = rooms.clone();
    /// # let mut holder = tasks.async_nolink("holder", async move {
    /// # let rooms = own;
    /// // In the code of a process:
    /// rooms.register("lobby".to_owned(), 7)?;
    /// rooms.register("attic".to_owned(), 0)?;
    /// let full = rooms.select(|key, entry| (*entry.value > 0).then(|| key.clone()))?;
    /// assert_eq!(full, ["lobby"]);
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn select<T>(
        &self,
        mut pick: impl FnMut(&K, &Registered<V>) -> Option<T>,
    ) -> Result<Vec<T>, RegistryError> {
        self.running()?;
        let all = self.inner.partitions.iter().flat_map(|part| part.all());
        Ok(all.filter_map(|(key, entry)| pick(&key, &entry)).collect())
    }

    /// How many entries match (REG-040).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, u32, Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10));
    /// # let app = SupervisorSpec::new("app").child(spec).child(tasks_spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let own = rooms.clone();
    /// # let mut holder = tasks.async_nolink("holder", async move {
    /// # let rooms = own;
    /// // In the code of a process:
    /// rooms.register("lobby".to_owned(), 7)?;
    /// rooms.register("attic".to_owned(), 0)?;
    /// assert_eq!(rooms.count_select(|_, entry| *entry.value > 0)?, 1);
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn count_select(
        &self,
        mut matches: impl FnMut(&K, &Registered<V>) -> bool,
    ) -> Result<usize, RegistryError> {
        Ok(self.select(|key, entry| matches(key, entry).then_some(()))?.len())
    }
}

impl<K: RegistryKey, V: Send + Sync + 'static> Registry<K, V, Unique> {
    /// Who has `key`, and with what; nobody who has ended (REG-023).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, u32, Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10));
    /// # let app = SupervisorSpec::new("app").child(spec).child(tasks_spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let own = rooms.clone();
    /// # let mut holder = tasks.async_nolink("holder", async move {
    /// # let rooms = own;
    /// // In the code of a process:
    /// rooms.register("lobby".to_owned(), 7)?;
    /// assert_eq!(*rooms.get("lobby")?.expect("registered above").value, 7);
    /// assert!(rooms.get("attic")?.is_none());
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn get<Q>(&self, key: &Q) -> Result<Option<Registered<V>>, RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let part = &self.parts_for(key)[0];
        match part.holder(key) {
            Some(found) => Ok(Some(found)),
            None => self.running().map(|()| None),
        }
    }

    /// Who has `key`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, u32, Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10));
    /// # let app = SupervisorSpec::new("app").child(spec).child(tasks_spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let own = rooms.clone();
    /// # let mut holder = tasks.async_nolink("holder", async move {
    /// # let rooms = own;
    /// // In the code of a process:
    /// rooms.register("lobby".to_owned(), 7)?;
    /// assert_eq!(rooms.whereis("lobby")?, current_process());
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn whereis<Q>(&self, key: &Q) -> Result<Option<ProcessRef>, RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Ok(self.get(key)?.map(|it| it.process))
    }
}
