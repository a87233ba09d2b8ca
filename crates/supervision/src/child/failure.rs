//! Why a child did not start.

use std::fmt;

use perennial_core::{ChildId, ExitReason, supervisor::SpecError};

use crate::ProcessRef;

/// A child that did not start: OTP's `failed_to_start_child`.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (cache, _) = Agent::child_spec("cache", || -> u32 { panic!("no memory") });
/// let (tables, _) = Supervisor::child_spec(SupervisorSpec::new("tables").child(cache));
/// let app = SupervisorSpec::new("app").child(tables);
/// let Err(error) = Root::start(app, Clock::start(), Options::default()).await else { panic!() };
/// assert_eq!(error.child.as_str(), "app");
/// assert_eq!(error.path(), "app/tables/cache"); // the innermost one
/// assert!(error.to_string().starts_with("child `app/tables/cache` did not start: panic: no memory"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// The child.
    pub child: ChildId,
    /// Why.
    pub reason: StartFault,
}

/// Why something did not start.
///
/// ```
/// use perennial_supervision::StartFault;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (table, _) = Agent::child_spec("table", || 0);
/// let app = SupervisorSpec::new("app").child(table.clone()).child(table);
/// let Err(error) = Root::start(app, Clock::start(), Options::default()).await else { panic!() };
/// assert_eq!(error.reason, StartFault::Invalid(SpecError::DuplicateChild("table".into())));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartFault {
    /// Its init failed, panicked, was killed, or took too long.
    #[error("{0}")]
    Failed(ExitReason),
    /// It is a supervisor, and this child of it did not start (SUP-011).
    #[error(transparent)]
    Child(Box<StartError>),
    /// Its name belongs to somebody who lives (SUP-020, GS-010).
    #[error("the name is taken by {0}")]
    AlreadyStarted(ProcessRef),
    /// Its specification is refused.
    #[error(transparent)]
    Invalid(#[from] SpecError),
}

impl StartFault {
    /// The exit reason that this is told as: a supervisor whose child did not start ends in good
    /// order.
    ///
    /// ```
    /// use perennial_supervision::{ExitReason, StartFault};
    ///
    /// assert_eq!(StartFault::Failed(ExitReason::Timeout).exit_reason(), ExitReason::Timeout);
    /// ```
    pub fn exit_reason(&self) -> ExitReason {
        match self {
            Self::Failed(reason) => reason.clone(),
            Self::Child(error) => ExitReason::ShutdownWith(error.to_string().into()),
            Self::AlreadyStarted(_) | Self::Invalid(_) => {
                ExitReason::Error(self.to_string().into())
            }
        }
    }
}

impl From<ExitReason> for StartFault {
    fn from(reason: ExitReason) -> Self {
        Self::Failed(reason)
    }
}

impl StartError {
    pub(crate) fn new(child: &ChildId, reason: impl Into<StartFault>) -> Self {
        Self { child: child.clone(), reason: reason.into() }
    }

    /// The path below the first child to the one that failed, as `a/b`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (cache, _) = Agent::child_spec("cache", || -> u32 { panic!("no memory") });
    /// let app = SupervisorSpec::new("app").child(cache);
    /// let Err(error) = Root::start(app, Clock::start(), Options::default()).await else { panic!() };
    /// assert_eq!(error.path(), "app/cache");
    /// # Ok(()) }
    /// ```
    pub fn path(&self) -> String {
        let mut path = self.child.to_string();
        let mut at = self;
        while let StartFault::Child(below) = &at.reason {
            path.push('/');
            path.push_str(below.child.as_str());
            at = below;
        }
        path
    }

    /// Why the innermost child failed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (cache, _) = Agent::child_spec("cache", || -> u32 { panic!("no memory") });
    /// let app = SupervisorSpec::new("app").child(cache);
    /// let Err(error) = Root::start(app, Clock::start(), Options::default()).await else { panic!() };
    /// assert!(matches!(error.root_cause(), StartFault::Failed(ExitReason::Panic { .. })));
    /// # Ok(()) }
    /// ```
    pub fn root_cause(&self) -> &StartFault {
        let mut at = self;
        while let StartFault::Child(below) = &at.reason {
            at = below;
        }
        &at.reason
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "child `{}` did not start: {}", self.path(), self.root_cause())
    }
}

impl std::error::Error for StartError {}
