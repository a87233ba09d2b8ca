//! A registry: which process has which keys, found without asking anybody.

mod dispatch;
mod listener;
mod lock;
mod metadata;
mod partition;
#[cfg(test)]
#[cfg(perennial_shuttle)]
mod races;
mod reading;
mod spec;
mod via;

use std::{
    any::Any,
    borrow::Borrow,
    collections::HashMap,
    fmt,
    hash::{Hash, RandomState},
    marker::PhantomData,
    sync::{Arc, PoisonError},
};

use perennial_core::{ChildId, ExitReason, Strategy, tree::NodeKind};

pub(crate) use self::via::ViaKey;
pub use self::{
    dispatch::DispatchError,
    listener::RegistryEvent,
    lock::LockError,
    spec::{RegistrySpec, RegistrySpecError},
    via::Via,
};
use self::{
    listener::Listener,
    lock::Locks,
    partition::{Partition, Rule, place},
    spec::By,
};
use crate::{
    ChildSpec, ProcessRef, Supervisor, SupervisorSpec,
    child::{About, Outcome, StartCx, start_task},
    process::current_process,
    sync::{Mutex, MutexGuard},
};

/// Keys have one holder at a time.
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
/// rooms.register("lobby".to_owned(), 1)?;
/// let again = rooms.register("lobby".to_owned(), 2);
/// assert!(matches!(again, Err(RegistryError::AlreadyRegistered(_))));
/// # Ok::<(), RegistryError>(())
/// # }).await?;
/// # holder.value().await??;
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Unique {}

/// Keys may have several holders, and one holder a key several times.
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
/// rooms.register("lobby".to_owned(), 1)?;
/// rooms.register("lobby".to_owned(), 2)?;
/// assert_eq!(rooms.lookup("lobby")?.len(), 2);
/// # Ok::<(), RegistryError>(())
/// # }).await?;
/// # holder.value().await??;
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Duplicate {}

/// What must hold of a key. Whatever has all that is one.
///
/// ```
/// use perennial_supervision::RegistryKey;
///
/// #[derive(Clone, PartialEq, Eq, Hash)]
/// struct Seat { row: u32, number: u32 }
///
/// fn is_key<K: RegistryKey>(_: &K) {}
/// is_key(&Seat { row: 1, number: 2 });
/// is_key(&"lobby".to_owned());
/// ```
pub trait RegistryKey: Eq + Hash + Clone + Send + Sync + 'static {}
impl<K: Eq + Hash + Clone + Send + Sync + 'static> RegistryKey for K {}

/// Which process has which keys: a supervised component of its own, of which there may be any
/// number (REG-001). Cheap to clone; outlives its restarts.
///
/// `M` is [`Unique`] or [`Duplicate`]. An entry belongs to the process that made it, and goes with it
/// (REG-016). Values are shared and never changed in place.
///
/// | operation | runs |
/// |---|---|
/// | all that read | in the caller; no process is asked (REG-049) |
/// | `register`, `unregister`, `update_value` | in the caller, under the lock of one partition |
/// | cleaning up after a holder | where its end is announced, before anybody hears of it by a monitor |
///
/// Each partition is a process that stands for its entries: when it ends, they are gone, and the
/// processes that hold them end as those do that are linked to it (REG-019), except servers that trap
/// exits, which are told. Where keys are unique all partitions fall together (REG-048).
///
/// ```
/// use perennial_supervision::{Clock, Options, RegistrySpec, Registry, Root, SupervisorSpec, Unique};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (spec, rooms) = Registry::<String, u32, Unique>::child_spec(RegistrySpec::unique("rooms"))?;
/// let root = Root::start(SupervisorSpec::new("app").child(spec), Clock::start(), Options::default()).await?;
/// assert_eq!(rooms.count()?, 0);
/// assert!(rooms.get("lobby")?.is_none());
/// root.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct Registry<K, V, M> {
    inner: Arc<Inner<K, V>>,
    mode: PhantomData<fn() -> M>,
}

struct Inner<K, V> {
    id: ChildId,
    by: By,
    rule: Rule,
    hasher: RandomState,
    partitions: Box<[Arc<Partition<K, V>>]>,
    listeners: Vec<Listener<K, V>>,
    metadata: Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>,
    locks: Locks<K>,
}

/// One entry: who, and with what.
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
/// let found: Registered<u32> = rooms.get("lobby")?.expect("registered above");
/// assert_eq!(found.process.path(), "/app/tasks/holder");
/// assert_eq!(*found.value, 7);
/// # Ok::<(), RegistryError>(())
/// # }).await?;
/// # holder.value().await??;
/// # root.shutdown().await; Ok(()) }
/// ```
pub struct Registered<V> {
    /// Whose it is.
    pub process: ProcessRef,
    /// What it registered.
    pub value: Arc<V>,
}

/// Why a registry did not do what was asked.
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
/// assert_eq!(rooms.update_value("lobby", |old| old + 1), Err(RegistryError::NotHolder));
/// # Ok::<(), RegistryError>(())
/// # }).await?;
/// # holder.value().await??;
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The registry does not run (REG-004).
    #[error("the registry does not run")]
    NotRunning,
    /// The code that asks is no process of a tree, and so cannot have entries.
    #[error("only a supervised process can have entries in a registry")]
    NoProcess,
    /// Somebody has this key: this process.
    #[error("already registered: {0}")]
    AlreadyRegistered(ProcessRef),
    /// The process that asks does not have this key.
    #[error("this process does not have the key")]
    NotHolder,
}

impl<K: RegistryKey, V: Send + Sync + 'static, M: 'static> Registry<K, V, M> {
    /// How to supervise a registry, and the handle to it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// use perennial_supervision::{Registry, RegistrySpec, Unique};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (spec, rooms) = Registry::<String, u32, Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// assert_eq!(rooms.count(), Err(RegistryError::NotRunning)); // not yet
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(rooms.count(), Ok(0));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the specification is refused.
    pub fn child_spec(spec: RegistrySpec<K, V, M>) -> Result<(ChildSpec, Self), RegistrySpecError> {
        if spec.partitions == 0 {
            return Err(RegistrySpecError::NoPartitions);
        }
        let partitions: Box<[_]> =
            (0..spec.partitions).map(|_| Partition::new(spec.rule)).collect();
        let strategy = match spec.rule {
            Rule::Unique => Strategy::OneForAll,
            Rule::Duplicate => Strategy::OneForOne,
        };
        let inner = Arc::new(Inner {
            id: spec.id.clone(),
            by: spec.by,
            rule: spec.rule,
            hasher: RandomState::new(),
            partitions,
            listeners: spec.listeners,
            metadata: Mutex::default(),
            locks: Locks::default(),
        });
        let mut supervisor = SupervisorSpec::new(spec.id).strategy(strategy);
        for number in 0..spec.partitions {
            supervisor = supervisor.child(inner.clone().partition(number));
        }
        let registry = Self { inner, mode: PhantomData };
        let (mut child, _) = Supervisor::child_spec(supervisor);
        child.answers_with(registry.clone());
        let shown = registry.inner.clone();
        let child = child.detail(move || shown.detail());
        Ok((spec.name.into_iter().fold(child, ChildSpec::name), registry))
    }

    /// Gives the process that calls it an entry (REG-005). Many keys may have the same process
    /// (REG-007).
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
    /// rooms.register("attic".to_owned(), 8)?; // one process, several keys
    /// assert_eq!(rooms.count()?, 2);
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RegistryError::AlreadyRegistered`] where keys are unique and somebody alive has this one,
    /// also the caller itself (REG-006); or when the caller is no process, or the registry does not run.
    pub fn register(&self, key: K, value: V) -> Result<(), RegistryError> {
        let process = current_process().ok_or(RegistryError::NoProcess)?;
        let (key, value) = (key, Arc::new(value));
        self.part_of(&key, &process).register(&process, key.clone(), value.clone(), None)?;
        for listener in &self.inner.listeners {
            listener.tell(RegistryEvent::Registered {
                registry: self.inner.id.clone(),
                key: key.clone(),
                process: process.clone(),
                value: value.clone(),
            });
        }
        Ok(())
    }

    /// Takes the caller's entries at `key` away, if there are any (REG-014, 015).
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
    /// rooms.unregister("lobby")?;
    /// rooms.unregister("lobby")?; // nothing there: fine
    /// assert_eq!(rooms.count()?, 0);
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the caller is no process, or the registry does not run.
    pub fn unregister<Q>(&self, key: &Q) -> Result<(), RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.unregister_match(key, |_| true)
    }

    /// Takes those of the caller's entries at `key` away whose values match (REG-037).
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
    /// rooms.unregister_match("lobby", |value| *value == 7)?;
    /// assert_eq!(*rooms.lookup("lobby")?[0].value, 8);
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`unregister`](Self::unregister).
    pub fn unregister_match<Q>(
        &self,
        key: &Q,
        mut matches: impl FnMut(&V) -> bool,
    ) -> Result<(), RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let process = current_process().ok_or(RegistryError::NoProcess)?;
        let part = self.part_of(key, &process);
        // Asked outside of the lock, for that is the caller's code.
        let own = part.read(key, |entries| {
            let own = entries.iter().filter(|it| it.process == process);
            own.map(|it| it.value.clone()).collect::<Vec<_>>()
        });
        let matching: Vec<Arc<V>> = own.into_iter().filter(|value| matches(value)).collect();
        let removed = part.unregister(&process, key, &matching)?;
        if removed > 0 {
            for listener in &self.inner.listeners {
                listener.tell(RegistryEvent::Unregistered {
                    registry: self.inner.id.clone(),
                    key: key.to_owned(),
                    process: process.clone(),
                });
            }
        }
        Ok(())
    }

    /// In how many parts it is.
    ///
    /// ```
    /// use perennial_supervision::{Registry, RegistrySpec, Unique};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = RegistrySpec::unique("rooms").partitions(4);
    /// let (_, rooms) = Registry::<String, u32, Unique>::child_spec(spec)?;
    /// assert_eq!(rooms.partitions(), 4);
    /// # Ok(()) }
    /// ```
    pub fn partitions(&self) -> usize {
        self.inner.partitions.len()
    }

    /// The part of an entry of `process` at `key`.
    fn part_of(&self, key: &(impl Hash + ?Sized), process: &ProcessRef) -> &Arc<Partition<K, V>> {
        let parts = &self.inner.partitions;
        let number = match self.inner.by {
            By::Key => place(&self.inner.hasher, key, parts.len()),
            By::Process => place(&self.inner.hasher, &process.identity(), parts.len()),
        };
        &parts[number]
    }

    /// The parts in which entries at `key` may be.
    fn parts_for(&self, key: &(impl Hash + ?Sized)) -> &[Arc<Partition<K, V>>] {
        let parts = &self.inner.partitions;
        match self.inner.by {
            // One part, as most have, needs no number.
            By::Key if parts.len() == 1 => parts,
            By::Key => {
                let number = place(&self.inner.hasher, key, parts.len());
                &parts[number..=number]
            }
            By::Process => parts,
        }
    }

    fn running(&self) -> Result<(), RegistryError> {
        let is_open = self.inner.partitions.iter().any(|part| part.is_open());
        if is_open { Ok(()) } else { Err(RegistryError::NotRunning) }
    }
}

impl<K: RegistryKey, V: Send + Sync + 'static> Registry<K, V, Unique> {
    /// Changes the caller's value at `key`, and answers the new and the old one (REG-028). `change` is
    /// called again when the value was changed meanwhile.
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
    /// let (new, old) = rooms.update_value("lobby", |guests| guests + 1)?;
    /// assert_eq!((*new, *old), (8, 7));
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotHolder`] when the caller does not have this key: nothing is called then.
    pub fn update_value<Q>(
        &self,
        key: &Q,
        mut change: impl FnMut(&V) -> V,
    ) -> Result<(Arc<V>, Arc<V>), RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.running()?;
        let process = current_process().ok_or(RegistryError::NoProcess)?;
        let part = self.part_of(key, &process);
        loop {
            let held = part.holder(key).filter(|it| it.process == process);
            let old = held.ok_or(RegistryError::NotHolder)?.value;
            let new = Arc::new(change(&old));
            if part.replace(&process, key, &old, new.clone()) {
                return Ok((new, old));
            }
        }
    }
}

impl<K: RegistryKey, V: Send + Sync + 'static> Inner<K, V> {
    /// The process that stands for a part: it does nothing but live.
    fn partition(self: Arc<Self>, number: usize) -> ChildSpec {
        ChildSpec::worker(number.to_string().into(), NodeKind::Task, move |cx: StartCx| {
            let standing = Standing { registry: self.clone(), number };
            self.partitions[number].open(cx.process.clone());
            let life = start_task(&cx, About::default(), async move {
                let _standing = standing;
                std::future::pending::<ExitReason>().await
            });
            Box::pin(std::future::ready(Ok(Outcome::Up(life))))
        })
    }

    fn detail(&self) -> serde_json::Value {
        let entries: u64 = self.partitions.iter().map(|part| part.count()).sum();
        let processes: usize = self.partitions.iter().map(|part| part.processes()).sum();
        let missed: u64 = self.listeners.iter().map(Listener::missed).sum();
        let keys = match self.rule {
            Rule::Unique => "unique",
            Rule::Duplicate => "duplicate",
        };
        let mut detail =
            serde_json::json!({ "keys": keys, "entries": entries, "processes": processes });
        if missed > 0 {
            detail["events_missed"] = missed.into();
        }
        detail
    }

    fn metadata(&self) -> MutexGuard<'_, HashMap<String, Arc<dyn Any + Send + Sync>>> {
        self.metadata.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose end is the end of a part's entries.
struct Standing<K: RegistryKey, V: Send + Sync + 'static> {
    registry: Arc<Inner<K, V>>,
    number: usize,
}

impl<K: RegistryKey, V: Send + Sync + 'static> Drop for Standing<K, V> {
    fn drop(&mut self) {
        self.registry.partitions[self.number].close();
        if !self.registry.partitions.iter().any(|part| part.is_open()) {
            let metadata = std::mem::take(&mut *self.registry.metadata());
            drop(metadata);
        }
    }
}

impl<V> Clone for Registered<V> {
    fn clone(&self) -> Self {
        Self { process: self.process.clone(), value: self.value.clone() }
    }
}

impl<V: PartialEq> PartialEq for Registered<V> {
    fn eq(&self, other: &Self) -> bool {
        self.process == other.process && self.value == other.value
    }
}

impl<V: fmt::Debug> fmt::Debug for Registered<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered")
            .field("process", &self.process)
            .field("value", &self.value)
            .finish()
    }
}

impl<K, V, M> Clone for Registry<K, V, M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), mode: PhantomData }
    }
}

impl<K, V, M> fmt::Debug for Registry<K, V, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("id", &self.inner.id).finish_non_exhaustive()
    }
}
