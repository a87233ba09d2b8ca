//! One at a time for each key: not the entries' keys, a space of its own (REG-045, 046).

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Registry, RegistryKey};

/// Why nothing was done under a lock.
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
/// use perennial_supervision::LockError;
///
/// let within = Duration::from_secs(1);
/// let inside = rooms.lock("lobby".to_owned(), within, async {
///     // Somebody else, meanwhile.
///     rooms.lock("lobby".to_owned(), within, async {}).await
/// }).await;
/// assert_eq!(inside, Ok(Err(LockError::Timeout)));
/// # Ok::<(), RegistryError>(())
/// # }).await?;
/// # holder.value().await??;
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Others held it for that long.
    #[error("the lock was not free within the deadline")]
    Timeout,
}

/// Keys that are locked or waited for.
pub(super) struct Locks<K>(Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>);

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Locks<K> {
    fn interest(&self, key: K) -> Interest<'_, K> {
        let lock = self.all().entry(key.clone()).or_default().clone();
        Interest { locks: self, key, lock }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<K, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who holds a key or waits for it. With the last of them the key is forgotten.
struct Interest<'a, K: Eq + Hash + Clone> {
    locks: &'a Locks<K>,
    key: K,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl<K: Eq + Hash + Clone> Drop for Interest<'_, K> {
    fn drop(&mut self) {
        let mut all = self.locks.all();
        // One is in the table, one is here.
        let is_last = Arc::strong_count(&self.lock) == 2;
        let gone = is_last.then(|| all.remove_entry(&self.key));
        drop(all);
        drop(gone);
    }
}

impl<K: RegistryKey, V: Send + Sync + 'static, M: 'static> Registry<K, V, M> {
    /// Runs `work` in the caller while nobody else runs something under the same key; what waits for
    /// the key gets it in the order of arrival. Keys of locks have nothing to do with keys of entries.
    ///
    /// The lock is free again when `work` has returned, has panicked, or is dropped, as with a caller
    /// that is killed. `work` has no deadline here: others wait for as long as they want to, `within`.
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
    /// let within = Duration::from_secs(1);
    /// let made = rooms.lock("lobby".to_owned(), within, async { "made once" }).await;
    /// assert_eq!(made, Ok("made once"));
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the key was not free `within`: `work` was not run.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `work` where it is, and frees the key.
    pub async fn lock<R>(
        &self,
        key: K,
        within: Duration,
        work: impl Future<Output = R>,
    ) -> Result<R, LockError> {
        let interest = self.inner.locks.interest(key);
        let lock = interest.lock.clone();
        let held = tokio::time::timeout(within, lock.lock_owned()).await;
        let held = held.map_err(|_| LockError::Timeout)?;
        let result = work.await;
        drop(held);
        Ok(result)
    }

    /// Keys that are locked or waited for.
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
    /// let within = Duration::from_secs(1);
    /// let inside = rooms.lock("lobby".to_owned(), within, async { rooms.locked() }).await;
    /// assert_eq!(inside, Ok(1));
    /// assert_eq!(rooms.locked(), 0);
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn locked(&self) -> usize {
        self.inner.locks.all().len()
    }
}
