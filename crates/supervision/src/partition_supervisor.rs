//! The same child several times, so that work on different keys does not wait for each other.

mod routing;

use std::{
    fmt,
    num::NonZero,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use perennial_core::{ChildId, Restart, supervisor::SpecError};

pub use self::routing::{Hashed, RouteKey};
use crate::{
    ChildInfo, ChildSpec, Counts, Name, ProcessRef, RequestError, StopError, Supervisor,
    SupervisorSpec,
};

/// What a partition supervisor is made of.
///
/// | option | default |
/// |---|---|
/// | [`partitions`](Self::partitions) | as many as the executor has worker threads |
/// | [`intensity`](Self::intensity) | 3 restarts in 5 s over all partitions together (PAR-007) |
/// | [`restart`](Self::restart) | permanent |
///
/// One for one, and it never shuts down by itself: neither can be chosen (PAR-005).
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// use perennial_supervision::{PartitionSupervisor, PartitionSupervisorSpec};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spec = PartitionSupervisorSpec::new("counters")
///     .partitions(2)
///     .intensity(10, Duration::from_secs(1))
///     .id("parts");
/// let child = |number: usize| Agent::child_spec(number.to_string(), || 0_u32);
/// let (spec, counters) = PartitionSupervisor::child_spec(spec, child)?;
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// assert_eq!(counters.partitions()?, 2);
/// assert_eq!(counters.which_children()?[0].path(), "/app/parts/1");
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PartitionSupervisorSpec {
    name: Name,
    partitions: Option<usize>,
    supervisor: SupervisorSpec,
}

/// Why a specification is refused; nothing was started.
///
/// ```
/// use perennial_supervision::{Agent, PartitionSpecError, PartitionSupervisor, PartitionSupervisorSpec};
///
/// let spec = PartitionSupervisorSpec::new("counters").partitions(0);
/// let refused = PartitionSupervisor::child_spec(spec, |_| Agent::child_spec("count", || 0_u32));
/// assert_eq!(refused.err(), Some(PartitionSpecError::NoPartitions));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionSpecError {
    /// There has to be a partition at least.
    #[error("a partition supervisor has at least one partition")]
    NoPartitions,
    /// The children's specification.
    #[error(transparent)]
    Child(#[from] SpecError),
}

impl PartitionSupervisorSpec {
    /// One that claims `name` in the tree, and has it for its id (PAR-006).
    pub fn new(name: impl Into<Name>) -> Self {
        let name = name.into();
        let supervisor = SupervisorSpec::new(name.as_str());
        Self { name, partitions: None, supervisor }
    }

    /// Sets its id as a child; its name stays.
    #[must_use]
    pub fn id(mut self, id: impl Into<ChildId>) -> Self {
        self.supervisor.id = id.into();
        self
    }

    /// Sets how many there are. [`PartitionSupervisor::resize`] can make it fewer, and never more.
    #[must_use]
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Gives up after more than `max_restarts` restarts within `within`, over all partitions.
    #[must_use]
    pub fn intensity(mut self, max_restarts: u32, within: Duration) -> Self {
        self.supervisor = self.supervisor.intensity(max_restarts, within);
        self
    }

    /// Sets when this supervisor itself is restarted, as a child.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.supervisor = self.supervisor.restart(restart);
        self
    }

    fn count(&self) -> usize {
        let workers = || match tokio::runtime::Handle::try_current() {
            Ok(executor) => executor.metrics().num_workers(),
            Err(_) => std::thread::available_parallelism().map_or(1, NonZero::get),
        };
        self.partitions.unwrap_or_else(workers)
    }
}

/// Handle to a supervisor of several children that are made alike; `H` is what reaches one of them:
/// an [`Address`](crate::Address), a [`DynamicSupervisor`](crate::DynamicSupervisor), an
/// [`Agent`](crate::Agent). Cheap to clone; outlives its restarts, as `H` does.
///
/// Routing asks nobody (PAR-011). A partition that is being restarted is reached by the same handle
/// when it is back (PAR-010).
///
/// ```
/// use perennial_supervision::{
///     Agent, Clock, Options, PartitionSupervisor, PartitionSupervisorSpec, Root, SupervisorSpec,
/// };
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spec = PartitionSupervisorSpec::new("counters").partitions(4);
/// let (spec, counters) = PartitionSupervisor::child_spec(spec, |partition| {
///     Agent::child_spec(partition.to_string(), || 0_u32)
/// })?;
/// let root = Root::start(SupervisorSpec::new("app").child(spec), Clock::start(), Options::default()).await?;
/// let counter = counters.at("alice")?;
/// counter.update(|count| *count += 1, Duration::from_secs(1)).await?;
/// root.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct PartitionSupervisor<H> {
    shared: Arc<Shared<H>>,
}

struct Shared<H> {
    supervisor: Supervisor,
    handles: Box<[H]>,
    routed: Mutex<Routed>,
    /// Held by whoever resizes (PAR-020).
    resizing: tokio::sync::Mutex<()>,
}

/// How many partitions keys are routed to. A new incarnation of the supervisor starts all of them.
struct Routed {
    active: usize,
    incarnation: Option<ProcessRef>,
}

/// Why there is no way to a partition.
///
/// ```
/// use perennial_supervision::RouteError;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let spec = PartitionSupervisorSpec::new("counters").partitions(4);
/// # let child = |number: usize| Agent::child_spec(number.to_string(), || 0_u32);
/// # let (spec, counters) = PartitionSupervisor::child_spec(spec, child)?;
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// counters.resize(0).await?;
/// assert_eq!(counters.at("alice").err(), Some(RouteError::NoPartitions));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// It was resized to none (PAR-018).
    #[error("there are no partitions")]
    NoPartitions,
}

/// Why it was not resized.
///
/// ```
/// use perennial_supervision::ResizeError;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let spec = PartitionSupervisorSpec::new("counters").partitions(4);
/// # let child = |number: usize| Agent::child_spec(number.to_string(), || 0_u32);
/// # let (spec, counters) = PartitionSupervisor::child_spec(spec, child)?;
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// assert_eq!(counters.resize(5).await, Err(ResizeError::TooMany(4)));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResizeError {
    /// More than it was started with (PAR-019): nothing changed.
    #[error("no more than {0} partitions were declared")]
    TooMany(usize),
    /// A partition did not stop or start. What was done up to there stays.
    #[error(transparent)]
    Child(#[from] RequestError),
}

impl<H: Clone + Send + Sync + 'static> PartitionSupervisor<H> {
    /// How to supervise a partition supervisor, and the handle to it. `child` is called once for each
    /// partition, with its number from 0 on: what differs between them comes from that (PAR-004). The id
    /// of the specification that it returns is not used: ids are the numbers (PAR-001).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = PartitionSupervisorSpec::new("counters").partitions(2);
    /// // What differs between the partitions comes from their numbers.
    /// let child = |number: usize| Agent::child_spec("count", move || number);
    /// let (spec, counters) = PartitionSupervisor::child_spec(spec, child)?;
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(counters.at(1_u32)?.get(|first| *first, Duration::from_secs(5)).await, Ok(1));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no partition, or a specification is refused.
    pub fn child_spec(
        spec: PartitionSupervisorSpec,
        child: impl Fn(usize) -> (ChildSpec, H),
    ) -> Result<(ChildSpec, Self), PartitionSpecError> {
        let count = spec.count();
        if count == 0 {
            return Err(PartitionSpecError::NoPartitions);
        }
        let mut supervisor = spec.supervisor;
        let mut handles = Vec::with_capacity(count);
        for number in 0..count {
            let (child, handle) = child(number);
            supervisor = supervisor.child(child.with_id(number.to_string()));
            handles.push(handle);
        }
        ChildSpec::check_all(&supervisor.children, Some(supervisor.flags.auto_shutdown))?;
        let (child, supervisor) = Supervisor::child_spec(supervisor);
        let routed = Mutex::new(Routed { active: count, incarnation: None });
        let (handles, resizing) = (handles.into(), tokio::sync::Mutex::default());
        let handle = Self { shared: Arc::new(Shared { supervisor, handles, routed, resizing }) };
        let mut child = child.name(spec.name);
        child.answers_with(handle.clone());
        Ok((child, handle))
    }

    /// The partition for `key`: the same for equal keys, for as long as it is not resized. Whole numbers
    /// go by their absolute value modulo the number of partitions (PAR-008), everything else by a hash
    /// (PAR-009).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let spec = PartitionSupervisorSpec::new("counters").partitions(4);
    /// # let child = |number: usize| Agent::child_spec(number.to_string(), || 0_u32);
    /// # let (spec, counters) = PartitionSupervisor::child_spec(spec, child)?;
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let within = Duration::from_secs(5);
    /// counters.at("alice")?.update(|count| *count += 1, within).await?;
    /// assert_eq!(counters.at("alice")?.get(|count| *count, within).await, Ok(1)); // the same one
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn at(&self, key: impl RouteKey) -> Result<H, RouteError> {
        let active = u64::try_from(self.active()).unwrap_or(u64::MAX);
        let place = key.number().checked_rem(active).ok_or(RouteError::NoPartitions)?;
        let place = usize::try_from(place).map_err(|_| RouteError::NoPartitions)?;
        self.shared.handles.get(place).cloned().ok_or(RouteError::NoPartitions)
    }

    /// All partitions that keys are routed to, by number.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let spec = PartitionSupervisorSpec::new("counters").partitions(4);
    /// # let child = |number: usize| Agent::child_spec(number.to_string(), || 0_u32);
    /// # let (spec, counters) = PartitionSupervisor::child_spec(spec, child)?;
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut sum = 0;
    /// for counter in counters.all() {
    ///     sum += counter.get(|count| *count, Duration::from_secs(5)).await?;
    /// }
    /// assert_eq!((counters.all().len(), sum), (4, 0));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn all(&self) -> Vec<H> {
        self.shared.handles[..self.active()].to_vec()
    }

    /// How many partitions keys are routed to.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let spec = PartitionSupervisorSpec::new("counters").partitions(4);
    /// # let child = |number: usize| Agent::child_spec(number.to_string(), || 0_u32);
    /// # let (spec, counters) = PartitionSupervisor::child_spec(spec, child)?;
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(counters.partitions()?, 4);
    /// root.shutdown().await;
    /// assert_eq!(counters.partitions(), Err(RequestError::NoProc));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NoProc`] when it does not run (PAR-013).
    pub fn partitions(&self) -> Result<usize, RequestError> {
        self.shared.supervisor.process().ok_or(RequestError::NoProc)?;
        Ok(self.active())
    }

    /// Lets exactly the first `partitions` run, and answers how many did before (PAR-017). The
    /// specifications of the others stay. Of two that resize at once the second waits for the first.
    ///
    /// What is stopped takes no more keys before it is asked to stop; what is started gets keys once all
    /// run.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let spec = PartitionSupervisorSpec::new("counters").partitions(4);
    /// # let child = |number: usize| Agent::child_spec(number.to_string(), || 0_u32);
    /// # let (spec, counters) = PartitionSupervisor::child_spec(spec, child)?;
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(counters.resize(2).await?, 4); // before
    /// assert_eq!(counters.partitions()?, 2);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When there are not so many, or one does not stop or start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it between two partitions: all keys are routed to running ones.
    pub async fn resize(&self, partitions: usize) -> Result<usize, ResizeError> {
        let all = self.shared.handles.len();
        if partitions > all {
            return Err(ResizeError::TooMany(all));
        }
        let _serial = self.shared.resizing.lock().await;
        let supervisor = &self.shared.supervisor;
        let process = supervisor.process().ok_or(RequestError::NoProc)?;
        let before = self.active();
        if partitions < before {
            self.route(&process, partitions);
        }
        for number in (partitions..before).rev() {
            supervisor.terminate_child(number.to_string()).await?;
        }
        for number in before..partitions {
            match supervisor.restart_child(number.to_string()).await {
                Ok(_) | Err(RequestError::Running(_) | RequestError::Restarting(_)) => (),
                Err(error) => return Err(error.into()),
            }
        }
        self.route(&process, partitions);
        Ok(before)
    }

    /// Its partitions, those too that were stopped by a resize (PAR-014); asks nobody.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let spec = PartitionSupervisorSpec::new("counters").partitions(4);
    /// # let child = |number: usize| Agent::child_spec(number.to_string(), || 0_u32);
    /// # let (spec, counters) = PartitionSupervisor::child_spec(spec, child)?;
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// counters.resize(2).await?;
    /// assert_eq!(counters.which_children()?.len(), 4); // those too that it has stopped
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NoProc`] when it does not run.
    pub fn which_children(&self) -> Result<Vec<ChildInfo>, RequestError> {
        self.shared.supervisor.which_children()
    }

    /// Totals of [`which_children`](Self::which_children) (PAR-015).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let spec = PartitionSupervisorSpec::new("counters").partitions(4);
    /// # let child = |number: usize| Agent::child_spec(number.to_string(), || 0_u32);
    /// # let (spec, counters) = PartitionSupervisor::child_spec(spec, child)?;
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// counters.resize(2).await?;
    /// let counts = counters.count_children()?;
    /// assert_eq!((counts.specs, counts.active), (4, 2));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NoProc`] when it does not run.
    pub fn count_children(&self) -> Result<Counts, RequestError> {
        self.shared.supervisor.count_children()
    }

    /// Stops it and all partitions, as [`Supervisor::stop`] (PAR-016).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = PartitionSupervisorSpec::new("counters").partitions(2).restart(Restart::Temporary);
    /// let child = |number: usize| Agent::child_spec(number.to_string(), || 0_u32);
    /// let (spec, counters) = PartitionSupervisor::child_spec(spec, child)?;
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// counters.stop(Duration::from_secs(5)).await?;
    /// assert_eq!(counters.partitions(), Err(RequestError::NoProc));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`StopError`].
    pub async fn stop(&self, within: Duration) -> Result<(), StopError> {
        self.shared.supervisor.stop(within).await
    }

    fn active(&self) -> usize {
        let now = self.shared.supervisor.process();
        let routed = self.routed();
        if now.is_none() || now == routed.incarnation {
            return routed.active;
        }
        self.shared.handles.len()
    }

    /// From here on keys go to the first `active` of the present incarnation.
    fn route(&self, incarnation: &ProcessRef, active: usize) {
        *self.routed() = Routed { active, incarnation: Some(incarnation.clone()) };
    }

    fn routed(&self) -> MutexGuard<'_, Routed> {
        self.shared.routed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H> Clone for PartitionSupervisor<H> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<H> fmt::Debug for PartitionSupervisor<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionSupervisor")
            .field("partitions", &self.shared.handles.len())
            .finish_non_exhaustive()
    }
}
