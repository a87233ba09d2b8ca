//! Services: how an external dependency is started, looked at and stopped. When is decided elsewhere: a driver only
//! does what it is told, and each of its calls runs as a supervised task with a deadline.
//!
//! | room | what it drives |
//! |---|---|
//! | `service/process.rs` | a process of this machine |
//! | `service/http.rs` | something that runs elsewhere and answers over HTTP |

mod http;
mod process;

use std::{
    any::Any,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

pub use perennial_core::service::{Epoch, ServiceKey, StopMode};

pub use self::{
    http::{HttpEndpoint, InvalidEndpoint},
    process::ChildProcess,
};

/// What a driver's call is, so that drivers of all kinds fit into one table.
pub type DriverFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Starts, looks at and stops instances of one service. It keeps no state about whether they should run.
///
/// Each call may be dropped at any await: what it has begun must end with it.
///
/// ```
/// use perennial_tools::service::{
///     DriverFuture, Epoch, Instance, Probe, ProbeResult, ServiceDriver, ServiceKey, StartError, StopError, StopMode,
/// };
///
/// /// A file server that somebody else runs.
/// #[derive(Debug)]
/// struct Share;
///
/// impl ServiceDriver for Share {
///     fn start<'a>(&'a self, _: &'a ServiceKey, _: Epoch) -> DriverFuture<'a, Result<Instance, StartError>> {
///         Box::pin(async { Ok(Instance::at("/mnt/share")) })
///     }
///     fn stop<'a>(&'a self, _: &'a Instance, _: StopMode) -> DriverFuture<'a, Result<(), StopError>> {
///         Box::pin(async { Ok(()) })
///     }
///     fn probe<'a>(&'a self, instance: &'a Instance, _: Probe) -> DriverFuture<'a, ProbeResult> {
///         let there = instance.endpoint().is_some_and(|path| std::path::Path::new(path).exists());
///         let result = if there { ProbeResult::Pass } else { ProbeResult::Fail("it is not mounted".into()) };
///         Box::pin(async { result })
///     }
/// }
/// ```
pub trait ServiceDriver: fmt::Debug + Send + Sync + 'static {
    /// Starts the instance of `key` for its life `epoch`. What is left of earlier lives is adopted or removed first.
    ///
    /// # Errors
    ///
    /// [`StartError`], with the driver's reason.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, nothing of the life may be left running.
    fn start<'a>(
        &'a self,
        key: &'a ServiceKey,
        epoch: Epoch,
    ) -> DriverFuture<'a, Result<Instance, StartError>>;

    /// Stops the instance, and answers when nothing of it runs. One that is gone already is stopped.
    ///
    /// # Errors
    ///
    /// [`StopError`]: it is tried again, with [`StopMode::Kill`].
    fn stop<'a>(
        &'a self,
        instance: &'a Instance,
        mode: StopMode,
    ) -> DriverFuture<'a, Result<(), StopError>>;

    /// Finds the instance of `key` again that was started for its life `epoch` by a process that is gone, or by another
    /// one: `note` is what was noted of it, none when the end of its start was not seen. None when nothing of it is
    /// there, or it can only be started anew; this is what a driver does that says nothing else.
    fn adopt<'a>(
        &'a self,
        _key: &'a ServiceKey,
        _epoch: Epoch,
        _note: Option<&'a InstanceNote>,
    ) -> DriverFuture<'a, Option<Instance>> {
        Box::pin(std::future::ready(None))
    }

    /// Looks at the instance. It changes nothing.
    fn probe<'a>(&'a self, instance: &'a Instance, probe: Probe) -> DriverFuture<'a, ProbeResult>;

    /// Everything about its configuration that cannot be meant; a service with faults is not declared.
    fn faults(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What is asked of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Whether it serves.
    Readiness,
    /// Whether it lives, although it does not serve: whether a restart would help.
    Liveness,
}

/// What an instance showed.
///
/// ```
/// use perennial_tools::service::ProbeResult;
///
/// let result = ProbeResult::Fail("503 Service Unavailable".into());
/// assert_ne!(result, ProbeResult::Pass);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// It does.
    Pass,
    /// It does not, for this reason.
    Fail(Arc<str>),
    /// It is not there any more, for this reason.
    Gone(Arc<str>),
}

/// Why an instance was not started.
///
/// ```
/// use perennial_tools::service::StartError;
///
/// assert_eq!(StartError::Permanent("it does not build".into()).to_string(), "it does not build");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Another try may succeed.
    #[error("{0}")]
    Retryable(Arc<str>),
    /// Another try can only fail as well.
    #[error("{0}")]
    Permanent(Arc<str>),
}

/// Why an instance was not stopped.
///
/// ```
/// use perennial_tools::service::StopError;
///
/// assert_eq!(StopError::new("the container is paused").to_string(), "the container is paused");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StopError(Arc<str>);

impl StopError {
    /// For this reason.
    pub fn new(why: impl Into<Arc<str>>) -> Self {
        Self(why.into())
    }
}

/// Runs for as long as an instance does, and ends with how it ended.
pub type Keeper = Pin<Box<dyn Future<Output = Arc<str>> + Send>>;

/// What is kept of an instance beyond its process, for whoever finds it again.
///
/// ```
/// use perennial_tools::service::Instance;
///
/// let container = Instance::at("http://127.0.0.1:2002").noting("container 4f2a");
/// assert_eq!(container.note().more.as_deref(), Some("container 4f2a"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InstanceNote {
    /// Where it is reached.
    pub endpoint: Option<String>,
    /// Which process it is, where it is one.
    pub pid: Option<u32>,
    /// What its driver noted besides.
    pub more: Option<String>,
}

/// One life of a service: what a driver made. The address comes from here and from nowhere else. Cheap to clone.
///
/// ```
/// use perennial_tools::service::Instance;
///
/// let instance = Instance::at("http://127.0.0.1:2002").with_pid(4711);
/// assert_eq!((instance.endpoint(), instance.pid()), (Some("http://127.0.0.1:2002"), Some(4711)));
/// ```
#[derive(Clone)]
pub struct Instance {
    endpoint: Option<Arc<str>>,
    pid: Option<u32>,
    more: Option<Arc<str>>,
    inside: Option<Arc<dyn Any + Send + Sync>>,
    keeper: Arc<Mutex<Option<Keeper>>>,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("endpoint", &self.endpoint)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl Instance {
    /// One without an address.
    pub fn new() -> Self {
        Self { endpoint: None, pid: None, more: None, inside: None, keeper: Arc::default() }
    }

    /// One that is reached at `endpoint`.
    pub fn at(endpoint: impl Into<Arc<str>>) -> Self {
        Self { endpoint: Some(endpoint.into()), ..Self::new() }
    }

    /// The same as process `pid`.
    #[must_use]
    pub fn with_pid(mut self, pid: u32) -> Self {
        self.pid = Some(pid);
        self
    }

    /// The same with a text that outlives this process: for [`ServiceDriver::adopt`]. No secret, it is shown.
    #[must_use]
    pub fn noting(mut self, more: impl Into<Arc<str>>) -> Self {
        self.more = Some(more.into());
        self
    }

    /// The same with what its driver wants to find again in this process.
    #[must_use]
    pub fn holding(mut self, inside: impl Any + Send + Sync) -> Self {
        self.inside = Some(Arc::new(inside));
        self
    }

    /// The same with a future that is run, as a supervised task, for as long as the instance lives, and whose end is the
    /// instance's end, whatever its probes say.
    ///
    /// It goes on when the actor of the instance is lost. It is dropped when this process has nothing more to do with the
    /// instance: after [`ServiceDriver::stop`], before the stop counts as done; where the instance is another process's and
    /// was only used here; and with the runtime. So its drop may end what this process has started, and must not end what
    /// [`ServiceDriver::adopt`] has found.
    #[must_use]
    pub fn kept_by(self, keeper: impl Future<Output = Arc<str>> + Send + 'static) -> Self {
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(keeper));
        self
    }

    /// Where it is reached.
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// What is kept of it beyond this process.
    pub fn note(&self) -> InstanceNote {
        InstanceNote {
            endpoint: self.endpoint.as_deref().map(str::to_owned),
            pid: self.pid,
            more: self.more.as_deref().map(str::to_owned),
        }
    }

    /// Which process it is, where it is one.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// What its driver put in; none for another type.
    pub fn inside<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.inside.as_ref().and_then(|inside| inside.downcast_ref())
    }

    /// What is to be run while it lives; for whoever supervises it, once.
    pub fn take_keeper(&self) -> Option<Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Default for Instance {
    fn default() -> Self {
        Self::new()
    }
}
