//! Why an application, or the whole system, does not do what it should.

use std::sync::Arc;

use perennial_core::{
    ChildId, ExitReason, Restart,
    application::{ApplicationName, Cause, Refusal},
};

use crate::{RequestError, StartError};

/// An application that did not start, and what was called for it (APP-008).
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
/// # let applications = system.applications();
/// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
/// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
/// use perennial_supervision::ApplicationStartError;
///
/// let broken = ApplicationSpec::tree("broken", |_| Err("no disk".into()));
/// applications.load(broken).await?;
/// let failed = applications.start("broken", Restart::Temporary).await;
/// let Err(ApplicationError::StartFailed(error)) = failed else { panic!("{failed:?}") };
/// let ApplicationStartError { application, restart, .. } = &*error;
/// assert_eq!((application.as_str(), *restart), ("broken", Restart::Temporary));
/// # system.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("application `{application}` ({restart}) did not start: {callback}: {fault}")]
pub struct ApplicationStartError {
    /// Which.
    pub application: ApplicationName,
    /// What it was to be started as.
    pub restart: Restart,
    /// What was called, as `shop::Shop::start`.
    pub callback: Arc<str>,
    /// What came of that.
    pub fault: ApplicationStartFault,
}

/// What came of the start of an application.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
/// # let applications = system.applications();
/// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
/// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
/// use perennial_supervision::ApplicationStartFault;
///
/// applications.load(ApplicationSpec::tree("broken", |_| Err("no disk".into()))).await?;
/// let failed = applications.start("broken", Restart::Temporary).await;
/// let Err(ApplicationError::StartFailed(error)) = failed else { panic!("{failed:?}") };
/// let no_disk = ExitReason::Error("no disk".into());
/// assert_eq!(error.fault, ApplicationStartFault::Callback(no_disk));
/// # system.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplicationStartFault {
    /// The start callback returned an error, panicked, or took too long (APP-031).
    #[error("{0}")]
    Callback(ExitReason),
    /// What the start callback returned is no supervisor (APP-031).
    #[error("`{0}` is no supervisor")]
    NotASupervisor(ChildId),
    /// The top supervisor answered that it need not run, so there is none (APP-031).
    #[error("the top supervisor `{0}` need not run")]
    Ignored(ChildId),
    /// The tree did not start; what had started has been stopped.
    #[error(transparent)]
    Tree(StartError),
    /// The tree was up, and this phase failed (APP-011); the application has been stopped.
    #[error("phase `{phase}`: {reason}")]
    Phase {
        /// Which.
        phase: String,
        /// Why.
        reason: ExitReason,
    },
    /// The system went down meanwhile.
    #[error("the system goes down")]
    Aborted,
    /// The system's own supervision refused.
    #[error(transparent)]
    Refused(RequestError),
}

impl ApplicationStartFault {
    /// The exit reason that this is told as.
    ///
    /// ```
    /// use perennial_supervision::{ApplicationStartFault, ExitReason};
    ///
    /// assert_eq!(ApplicationStartFault::Aborted.exit_reason(), ExitReason::Shutdown);
    /// ```
    pub fn exit_reason(&self) -> ExitReason {
        match self {
            Self::Callback(reason) | Self::Phase { reason, .. } => reason.clone(),
            Self::Tree(error) => error.reason.exit_reason(),
            Self::Aborted => ExitReason::Shutdown,
            Self::NotASupervisor(_) | Self::Ignored(_) | Self::Refused(_) => {
                ExitReason::Error(self.to_string().into())
            }
        }
    }
}

/// What travels through the machine of decisions.
pub(crate) type Failed = Arc<ApplicationStartError>;

/// Why something that was asked of a system's applications is not done.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
/// # let applications = system.applications();
/// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
/// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
/// use perennial_supervision::ApplicationError;
///
/// let failed = applications.start("shop", Restart::Permanent).await;
/// assert_eq!(failed, Err(ApplicationError::NotLoaded("shop".into())));
/// assert_eq!(failed.unwrap_err().to_string(), "no application `shop` is loaded");
/// # system.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplicationError {
    /// Nobody has loaded it.
    #[error("no application `{0}` is loaded")]
    NotLoaded(ApplicationName),
    /// One of this name is loaded, and stays as it is.
    #[error("application `{0}` is already loaded")]
    AlreadyLoaded(ApplicationName),
    /// A name is a step of a path: not empty, and without `/`.
    #[error("`{0}` cannot be the name of an application")]
    InvalidName(ApplicationName),
    /// As many as allowed are loaded.
    #[error("no more than {0} applications can be loaded")]
    TooMany(usize),
    /// It runs (APP-002).
    #[error("application `{0}` is already started")]
    AlreadyStarted(ApplicationName),
    /// It was not started (APP-016), or is a dependency that was not (APP-003).
    #[error("application `{0}` is not started")]
    NotStarted(ApplicationName),
    /// It was started, and its top supervisor has ended (APP-004).
    #[error("application `{0}` is not running any more")]
    NotRunning(ApplicationName),
    /// It is being stopped (APP-024).
    #[error("application `{0}` is being stopped")]
    Stopping(ApplicationName),
    /// It cannot be unloaded while it starts, runs or stops.
    #[error("application `{0}` is in use")]
    InUse(ApplicationName),
    /// They depend on each other, each on the next one and the last on the first.
    #[error("applications depend on each other: {}", circle(.0))]
    Circular(Vec<ApplicationName>),
    /// Code of this application asked, and would wait for itself.
    #[error("application `{0}` cannot wait for itself")]
    CallingSelf(ApplicationName),
    /// It did not start: the one asked for, or one that it depends on.
    #[error(transparent)]
    StartFailed(Arc<ApplicationStartError>),
    /// Its `config_change` failed; the values are in force.
    #[error("application `{application}` did not take its new configuration: {reason}")]
    ConfigChange {
        /// Which.
        application: ApplicationName,
        /// Why.
        reason: ExitReason,
    },
    /// The whole system goes down, or is down.
    #[error("the system goes down")]
    ShuttingDown,
}

fn circle(names: &[ApplicationName]) -> String {
    let names: Vec<&str> = names.iter().chain(names.first()).map(ApplicationName::as_str).collect();
    names.join(" -> ")
}

impl From<Refusal<Failed>> for ApplicationError {
    fn from(refusal: Refusal<Failed>) -> Self {
        match refusal {
            Refusal::NotLoaded(name) => Self::NotLoaded(name),
            Refusal::AlreadyLoaded(name) => Self::AlreadyLoaded(name),
            Refusal::InvalidName(name) => Self::InvalidName(name),
            Refusal::TooMany(max) => Self::TooMany(max),
            Refusal::AlreadyStarted(name) => Self::AlreadyStarted(name),
            Refusal::NotStarted(name) => Self::NotStarted(name),
            Refusal::NotRunning(name) => Self::NotRunning(name),
            Refusal::Stopping(name) => Self::Stopping(name),
            Refusal::InUse(name) => Self::InUse(name),
            Refusal::Circular(names) => Self::Circular(names),
            Refusal::CallingSelf(name) => Self::CallingSelf(name),
            Refusal::Failed { error, .. } => Self::StartFailed(error),
            Refusal::ShuttingDown => Self::ShuttingDown,
        }
    }
}

/// Why a system went down by itself (A13): a reason for its program to end with a failure.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
/// # let applications = system.applications();
/// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
/// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
/// use perennial_supervision::SystemError;
///
/// let link = ChildSpec::task("link", || async { Err::<(), _>("hung up") }).restart(Restart::Permanent);
/// let shop = move |_: &Env| Ok(SupervisorSpec::new("shop").child(link.clone()));
/// applications.load(ApplicationSpec::tree("shop", shop)).await?;
/// applications.start("shop", Restart::Permanent).await?;
/// // It gives up, and the system goes down with it.
/// let Err(SystemError::Exited { application, .. }) = system.ended().await else { panic!() };
/// assert_eq!(application.as_str(), "shop");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SystemError {
    /// The top supervisor of an application that must not end has ended (APP-026, 027, 029).
    #[error("application `{application}` ({restart}) ended: {reason}")]
    Exited {
        /// Which.
        application: ApplicationName,
        /// What it was started as.
        restart: Restart,
        /// Of its top supervisor.
        reason: ExitReason,
    },
    /// The start of an application failed that must not fail (APP-009).
    #[error(transparent)]
    StartFailed(Arc<ApplicationStartError>),
    /// One of the system's own parts ended.
    #[error("the system's own supervision ended: {0}")]
    Failed(ExitReason),
}

impl From<Cause<Failed>> for SystemError {
    fn from(cause: Cause<Failed>) -> Self {
        match cause {
            Cause::Exited { application, restart, reason } => {
                Self::Exited { application, restart, reason }
            }
            Cause::FailedToStart { error, .. } => Self::StartFailed(error),
        }
    }
}
