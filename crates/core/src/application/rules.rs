//! What goes into the machine and what comes out of it, and the two rules of table 5.4.

use std::{fmt, sync::Arc};

use crate::{ExitReason, Restart};

/// Applications that one system can have loaded. A system is put together by hand: who needs more has
/// a loop that loads.
pub const APPLICATIONS_MAX: usize = 1_000;

/// The name of an application. Cheap to clone.
///
/// ```
/// use perennial_core::application::ApplicationName;
///
/// assert_eq!(ApplicationName::from("shop").as_str(), "shop");
/// assert!(ApplicationName::from("shop").is_valid());
/// assert!(!ApplicationName::from("shop/web").is_valid()); // a name is one step of a path
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApplicationName(Arc<str>);

impl ApplicationName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can be a step of a path: there is something in it, and no `/`.
    pub fn is_valid(&self) -> bool {
        !self.0.is_empty() && !self.0.contains('/')
    }
}

impl From<&str> for ApplicationName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for ApplicationName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<&Self> for ApplicationName {
    fn from(name: &Self) -> Self {
        name.clone()
    }
}

impl fmt::Display for ApplicationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tells requests apart; given by whoever drives the machine, never twice.
pub type Request = u64;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Where the answer goes.
    pub request: Request,
    /// The application whose code asks, if one does: it cannot wait for itself.
    pub inside: Option<ApplicationName>,
}

/// What whoever asks for a start wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// That it starts now: one that runs is an error (APP-002).
    Start,
    /// That it runs (APP-005).
    Running,
}

/// What an application is at.
///
/// ```
/// use perennial_core::application::{ApplicationName, Applications, Phase};
///
/// let mut applications = Applications::<String>::default();
/// let shop = ApplicationName::from("shop");
/// applications.load(&shop, Vec::new()).unwrap();
/// assert_eq!(applications.phase(&shop), Some(Phase::Loaded)); // nobody has started it
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does not run; nobody started it, its start failed, or it was stopped.
    Loaded,
    /// Its start is under way.
    Starting,
    /// Its tree is up.
    Running,
    /// It is being stopped, or is winding up after its top supervisor ended by itself.
    Stopping,
    /// Its top supervisor ended by itself, and nobody has stopped or started it since.
    Died,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal<E> {
    /// Nobody has loaded it.
    NotLoaded(ApplicationName),
    /// It is loaded already; the one that is stays as it is.
    AlreadyLoaded(ApplicationName),
    /// It cannot be the name of an application.
    InvalidName(ApplicationName),
    /// As many as allowed are loaded.
    TooMany(usize),
    /// It runs (APP-002).
    AlreadyStarted(ApplicationName),
    /// Nobody has started it: the one that was to be stopped (APP-016), or a dependency (APP-003).
    NotStarted(ApplicationName),
    /// A dependency was started, and its tree is gone (APP-004).
    NotRunning(ApplicationName),
    /// It is being stopped.
    Stopping(ApplicationName),
    /// It cannot be unloaded: it runs, starts or stops.
    InUse(ApplicationName),
    /// They depend on each other in a circle, each on the next.
    Circular(Vec<ApplicationName>),
    /// The application that asks would wait for itself.
    CallingSelf(ApplicationName),
    /// It did not start.
    Failed {
        /// Which: the one asked for, or one that it depends on.
        application: ApplicationName,
        /// Why.
        error: E,
    },
    /// The whole system is going down, or is down.
    ShuttingDown,
}

/// A start that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure<E> {
    /// How.
    pub error: E,
    /// Whether it was a normal exit, which a transient application may have.
    pub normal: bool,
}

/// Why the whole system goes down by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause<E> {
    /// The top supervisor of an application that must not end has ended (APP-026, 027, 029).
    Exited {
        /// Which.
        application: ApplicationName,
        /// What it was started as.
        restart: Restart,
        /// Of its top supervisor.
        reason: ExitReason,
    },
    /// The start of an application failed that must not fail (APP-009).
    FailedToStart {
        /// Which.
        application: ApplicationName,
        /// What it was to be started as.
        restart: Restart,
        /// How.
        error: E,
    },
}

/// What the driver of the machine has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<E> {
    /// Start it, and tell [`Applications::started`](super::Applications::started).
    Start(ApplicationName),
    /// Give its start up, and tell [`Applications::started`](super::Applications::started) what came of
    /// it: it may have been too late.
    Abort(ApplicationName),
    /// Stop what runs of it, its callbacks included, and tell
    /// [`Applications::stopped`](super::Applications::stopped).
    Stop(ApplicationName),
    /// Answer a request: with the applications that it started, in order.
    Answer(Request, Result<Vec<ApplicationName>, Refusal<E>>),
    /// Say that the top supervisor of an application ended by itself (APP-028).
    Exited {
        /// Which.
        application: ApplicationName,
        /// What it was started as.
        restart: Restart,
        /// Of its top supervisor.
        reason: ExitReason,
    },
    /// Say that a start failed (APP-009).
    FailedToStart {
        /// Which.
        application: ApplicationName,
        /// What it was to be started as.
        restart: Restart,
        /// How.
        error: E,
    },
    /// The system goes down, for this reason or because somebody asked: tell the host (APP-023), and
    /// then [`Applications::host_told`](super::Applications::host_told).
    TellHost(Option<Cause<E>>),
    /// All applications are stopped.
    Down,
}

/// Whether the end of a top supervisor takes the system with it (table 5.4; APP-026–028).
pub fn end_brings_down(restart: Restart, reason: &ExitReason) -> bool {
    match restart {
        Restart::Permanent => true,
        Restart::Transient => *reason != ExitReason::Normal,
        Restart::Temporary => false,
    }
}

/// Whether a failed start takes the system with it (table 5.4; APP-009).
pub fn failed_start_brings_down(restart: Restart, normal: bool) -> bool {
    match restart {
        Restart::Permanent => true,
        Restart::Transient => !normal,
        Restart::Temporary => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table 5.4.
    #[test]
    fn ends_and_failed_starts_follow_the_table() {
        let panic = ExitReason::Panic { message: "boom".into(), location: None };
        let others = [
            ExitReason::Shutdown,
            ExitReason::ShutdownWith("why".into()),
            ExitReason::Killed,
            panic,
            ExitReason::Error("no".into()),
            ExitReason::NoProc,
            ExitReason::Timeout,
        ];
        for (restart, normal, other) in [
            (Restart::Permanent, true, true),
            (Restart::Transient, false, true),
            (Restart::Temporary, false, false),
        ] {
            assert_eq!(end_brings_down(restart, &ExitReason::Normal), normal, "{restart:?}");
            assert_eq!(failed_start_brings_down(restart, true), normal, "{restart:?}");
            assert_eq!(failed_start_brings_down(restart, false), other, "{restart:?}");
            for reason in &others {
                assert_eq!(end_brings_down(restart, reason), other, "{restart:?} {reason}");
            }
        }
    }

    #[test]
    fn a_name_is_one_step_of_a_path() {
        for (name, valid) in [("web", true), ("a b", true), ("", false), ("a/b", false)] {
            assert_eq!(ApplicationName::from(name).is_valid(), valid, "{name}");
        }
    }
}
