//! What a supervisor knows about a child before it runs.

use std::{borrow::Borrow, fmt, sync::Arc, time::Duration};

use crate::ExitReason;

/// The name of a child, unique among its siblings. Cheap to clone.
///
/// ```
/// use perennial_core::ChildId;
///
/// let id = ChildId::new("writer");
/// assert_eq!(id, ChildId::from("writer"));
/// assert_eq!(id.as_str(), "writer");
/// ```
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct ChildId(Arc<str>);

impl ChildId {
    /// A child id.
    pub fn new(id: impl AsRef<str>) -> Self {
        Self(Arc::from(id.as_ref()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for ChildId {
    fn from(id: &str) -> Self {
        Self::new(id)
    }
}

impl From<String> for ChildId {
    fn from(id: String) -> Self {
        Self::new(id)
    }
}

impl Borrow<str> for ChildId {
    /// A table of ids is read by their texts.
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for ChildId {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

/// When a terminated child is restarted.
///
/// ```
/// use perennial_core::{ExitReason, Restart, child::AfterExit};
///
/// // Work that must succeed once: done is done, a failure is tried again.
/// assert_eq!(Restart::Transient.after(&ExitReason::Normal).then, AfterExit::Keep);
/// assert_eq!(Restart::Transient.after(&ExitReason::Killed).then, AfterExit::Restart);
/// assert_eq!(Restart::default().to_string(), "permanent");
/// ```
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// Only after an abnormal exit.
    Transient,
    /// Never; its specification goes with it.
    Temporary,
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permanent => "permanent",
            Self::Transient => "transient",
            Self::Temporary => "temporary",
        })
    }
}

/// How a supervisor stops a child.
///
/// ```
/// use perennial_core::Shutdown;
/// use std::time::Duration;
///
/// assert_eq!(Shutdown::WORKER_DEFAULT, Shutdown::Timeout(Duration::from_secs(5)));
/// assert_eq!(Shutdown::WORKER_DEFAULT.to_string(), "5000ms"); // as dumps show it
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// At once, without cleanup.
    BrutalKill,
    /// Ask, wait this long, then kill.
    Timeout(Duration),
    /// Ask, and wait as long as it takes: for supervisors, whose children have their own limits.
    Infinity,
}

impl Shutdown {
    /// How long a worker gets unless its specification says otherwise (OTP's value).
    pub const WORKER_DEFAULT: Self = Self::Timeout(Duration::from_secs(5));
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrutalKill => f.write_str("brutal_kill"),
            Self::Timeout(within) => write!(f, "{}ms", within.as_millis()),
            Self::Infinity => f.write_str("infinity"),
        }
    }
}

/// Whether a child has children of its own.
///
/// ```
/// use perennial_core::ChildType;
///
/// # fn main() -> Result<(), serde_json::Error> {
/// assert_eq!(serde_json::to_value(ChildType::Supervisor)?, "supervisor");
/// # Ok(()) }
/// ```
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ChildType {
    /// It has none.
    Worker,
    /// It supervises.
    Supervisor,
}

/// What a supervisor does about a child that ended by itself.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnExit {
    /// What becomes of the child.
    pub then: AfterExit,
    /// Whether the exit is reported as `child_terminated`.
    pub report: bool,
}

/// What becomes of a child that ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterExit {
    /// Restart it; one restart is counted.
    Restart,
    /// Keep its specification without a process.
    Keep,
    /// Forget it.
    Drop,
}

impl Restart {
    /// The decision for a child with this policy that ended by itself for `reason`.
    ///
    /// ```
    /// use perennial_core::{ExitReason, Restart, child::AfterExit};
    ///
    /// let verdict = Restart::Temporary.after(&ExitReason::Error("no route".into()));
    /// assert_eq!(verdict.then, AfterExit::Drop);
    /// assert!(verdict.report); // forgotten, and told all the same
    /// ```
    pub fn after(self, reason: &ExitReason) -> OwnExit {
        let abnormal = reason.is_abnormal();
        match self {
            Self::Permanent => OwnExit { then: AfterExit::Restart, report: true },
            Self::Transient if abnormal => OwnExit { then: AfterExit::Restart, report: true },
            Self::Transient => OwnExit { then: AfterExit::Keep, report: false },
            Self::Temporary => OwnExit { then: AfterExit::Drop, report: abnormal },
        }
    }
}

/// Which ends of a child that its supervisor stopped are errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopRules {
    /// Table 5.6: a static supervisor, and one of a template.
    Static,
    /// A dynamic supervisor (DYN-045).
    Dynamic,
}

impl Restart {
    /// Whether the end of a child that its supervisor stopped is reported as `shutdown_error`
    /// (SUP-156 to SUP-158, DYN-045). `timed_out` says that it was killed after its time was up.
    ///
    /// ```
    /// use perennial_core::{ExitReason, Restart, Shutdown, child::StopRules};
    ///
    /// let within = Shutdown::WORKER_DEFAULT;
    /// let is_error = |reason: &ExitReason, timed_out| {
    ///     Restart::Permanent.stop_is_error(StopRules::Static, reason, within, timed_out)
    /// };
    /// assert!(!is_error(&ExitReason::Shutdown, false)); // as it was asked
    /// assert!(is_error(&ExitReason::Killed, true)); // it did not stop in its time
    /// ```
    pub fn stop_is_error(
        self,
        rules: StopRules,
        reason: &ExitReason,
        shutdown: Shutdown,
        timed_out: bool,
    ) -> bool {
        match rules {
            StopRules::Static => self.static_stop_is_error(reason, shutdown, timed_out),
            StopRules::Dynamic => self.dynamic_stop_is_error(reason, shutdown),
        }
    }

    /// What was killed at once can have ended in no other way, unless by itself before.
    fn dynamic_stop_is_error(self, reason: &ExitReason, shutdown: Shutdown) -> bool {
        if shutdown == Shutdown::BrutalKill {
            return *reason != ExitReason::Killed;
        }
        match reason {
            ExitReason::Shutdown | ExitReason::ShutdownWith(_) => false,
            ExitReason::Normal => self == Self::Permanent,
            ExitReason::Killed
            | ExitReason::Panic { .. }
            | ExitReason::Error(_)
            | ExitReason::NoProc
            | ExitReason::Timeout => true,
        }
    }

    fn static_stop_is_error(
        self,
        reason: &ExitReason,
        shutdown: Shutdown,
        timed_out: bool,
    ) -> bool {
        match reason {
            ExitReason::Shutdown => false,
            ExitReason::Normal | ExitReason::ShutdownWith(_) => match self {
                Self::Permanent => true,
                Self::Transient | Self::Temporary => false,
            },
            ExitReason::Killed => timed_out || shutdown != Shutdown::BrutalKill,
            ExitReason::Panic { .. }
            | ExitReason::Error(_)
            | ExitReason::NoProc
            | ExitReason::Timeout => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_stops_are_shown_as_they_are_written() {
        let id = ChildId::from("runs");
        assert_eq!(id.to_string(), "runs");
        assert!(id == *"runs" && id != *"run");
        let stops = [Shutdown::BrutalKill, Shutdown::WORKER_DEFAULT, Shutdown::Infinity]
            .map(|it| it.to_string());
        assert_eq!(stops, ["brutal_kill", "5000ms", "infinity"]);
        let restarts = [Restart::Permanent, Restart::Transient, Restart::Temporary];
        assert_eq!(restarts.map(|it| it.to_string()), ["permanent", "transient", "temporary"]);
    }

    /// The whole table.
    #[test]
    fn own_exits_follow_the_table() {
        use AfterExit::{Drop, Keep, Restart as Again};
        let calm =
            [ExitReason::Normal, ExitReason::Shutdown, ExitReason::ShutdownWith("drained".into())];
        let abnormal = [
            ExitReason::Killed,
            ExitReason::Panic { message: "boom".into(), location: None },
            ExitReason::Error("no".into()),
            ExitReason::NoProc,
            ExitReason::Timeout,
        ];
        for (restart, reasons, then, report) in [
            (Restart::Permanent, &calm[..], Again, true),
            (Restart::Permanent, &abnormal[..], Again, true),
            (Restart::Transient, &calm[..], Keep, false),
            (Restart::Transient, &abnormal[..], Again, true),
            (Restart::Temporary, &calm[..], Drop, false),
            (Restart::Temporary, &abnormal[..], Drop, true),
        ] {
            for reason in reasons {
                assert_eq!(restart.after(reason), OwnExit { then, report }, "{restart:?} {reason}");
            }
        }
    }

    /// The whole table.
    #[test]
    fn stops_are_reported_as_the_table_says() {
        let all = [Restart::Permanent, Restart::Transient, Restart::Temporary];
        let within = Shutdown::WORKER_DEFAULT;
        let error = |restart: Restart, reason: &ExitReason, shutdown, timed_out| {
            restart.stop_is_error(StopRules::Static, reason, shutdown, timed_out)
        };
        for restart in all {
            assert!(!error(restart, &ExitReason::Shutdown, within, false));
            for calm in [ExitReason::Normal, ExitReason::ShutdownWith("x".into())] {
                assert_eq!(error(restart, &calm, within, false), restart == Restart::Permanent);
            }
            assert!(!error(restart, &ExitReason::Killed, Shutdown::BrutalKill, false));
            assert!(error(restart, &ExitReason::Killed, within, true));
            assert!(error(restart, &ExitReason::Killed, within, false), "killed by a stranger");
            assert!(error(restart, &ExitReason::Error("no".into()), within, false));
        }
    }

    /// Every restart type, reason and way to stop.
    #[test]
    fn a_dynamic_supervisor_reports_stops_by_rules_of_its_own() {
        let calm = [ExitReason::Shutdown, ExitReason::ShutdownWith("drained".into())];
        let errors = [
            ExitReason::Panic { message: "boom".into(), location: None },
            ExitReason::Error("no".into()),
            ExitReason::NoProc,
            ExitReason::Timeout,
        ];
        for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
            for timed_out in [false, true] {
                let error = |reason: &ExitReason, shutdown| {
                    restart.stop_is_error(StopRules::Dynamic, reason, shutdown, timed_out)
                };
                for shutdown in [Shutdown::WORKER_DEFAULT, Shutdown::Infinity] {
                    assert!(calm.iter().all(|reason| !error(reason, shutdown)));
                    assert_eq!(error(&ExitReason::Normal, shutdown), restart == Restart::Permanent);
                    assert!(error(&ExitReason::Killed, shutdown));
                    assert!(errors.iter().all(|reason| error(reason, shutdown)));
                }
                let brutal = Shutdown::BrutalKill;
                assert!(!error(&ExitReason::Killed, brutal));
                assert!(error(&ExitReason::Normal, brutal));
                assert!(calm.iter().chain(&errors).all(|reason| error(reason, brutal)));
            }
        }
    }
}
