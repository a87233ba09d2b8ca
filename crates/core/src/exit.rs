//! Why something stopped running.

use std::{fmt, sync::Arc};

/// Why a child stopped running.
///
/// OTP's exit reasons as a closed type; cheap to clone, because everybody is told of an exit.
/// [`ExitReason::Killed`] is abnormal; a shutdown, with or
/// without detail, is not (SUP-062, SUP-064).
///
/// ```
/// use perennial_core::ExitReason;
///
/// let ended = ExitReason::Error("disk full".into());
/// assert!(ended.is_abnormal());
/// assert_eq!(ended.name(), "error");
/// assert_eq!(ended.to_string(), "error: disk full");
/// assert!(!ExitReason::ShutdownWith("moved".into()).is_abnormal());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExitReason {
    /// Finished its work.
    Normal,
    /// Asked to stop by its supervisor, or its supervisor gave up.
    Shutdown,
    /// Stopped in good order, for the reason given.
    ShutdownWith(Arc<str>),
    /// Terminated without a chance to clean up.
    Killed,
    /// Panicked.
    Panic {
        /// The panic's message.
        message: Arc<str>,
        /// `file:line:column`, where the panic hook could see it.
        location: Option<Arc<str>>,
    },
    /// Returned an error, with its text (its sources joined by `: `).
    Error(Arc<str>),
    /// There was nothing to end: the target did not exist.
    NoProc,
    /// A deadline passed.
    Timeout,
}

/// Sources of an error that are told: one that is its own source would never end.
const SOURCES_MAX: usize = 32;

impl ExitReason {
    /// Whether a transient child restarts after this exit.
    pub fn is_abnormal(&self) -> bool {
        match self {
            Self::Normal | Self::Shutdown | Self::ShutdownWith(_) => false,
            Self::Killed | Self::Panic { .. } | Self::Error(_) | Self::NoProc | Self::Timeout => {
                true
            }
        }
    }

    /// The reason's name in dumps and events, without detail.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Shutdown => "shutdown",
            Self::ShutdownWith(_) => "shutdown_with",
            Self::Killed => "killed",
            Self::Panic { .. } => "panic",
            Self::Error(_) => "error",
            Self::NoProc => "noproc",
            Self::Timeout => "timeout",
        }
    }

    /// What an error that came out of a behaviour says: a reason that travelled as an error is that
    /// reason, any other is [`ExitReason::Error`].
    ///
    /// ```
    /// use perennial_core::ExitReason;
    ///
    /// let wanted = ExitReason::from_boxed(ExitReason::ShutdownWith("moved".into()).into());
    /// assert_eq!(wanted, ExitReason::ShutdownWith("moved".into()));
    /// assert_eq!(ExitReason::from_boxed("no route".into()), ExitReason::Error("no route".into()));
    /// ```
    pub fn from_boxed(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        match error.downcast::<Self>() {
            Ok(reason) => *reason,
            Err(error) => Self::error(&*error),
        }
    }

    /// An error's text with those of its sources, as one line.
    ///
    /// ```
    /// use perennial_core::ExitReason;
    ///
    /// let refused = std::io::Error::other("disk full");
    /// assert_eq!(ExitReason::error(&refused), ExitReason::Error("disk full".into()));
    /// ```
    pub fn error(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        for _ in 0..SOURCES_MAX {
            let Some(cause) = source else { break };
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::Error(text.into())
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShutdownWith(detail) => write!(f, "shutdown: {detail}"),
            Self::Panic { message, location: Some(location) } => {
                write!(f, "panic: {message} (at {location})")
            }
            Self::Panic { message, location: None } => write!(f, "panic: {message}"),
            Self::Error(text) => write!(f, "error: {text}"),
            Self::Normal | Self::Shutdown | Self::Killed | Self::NoProc | Self::Timeout => {
                f.write_str(self.name())
            }
        }
    }
}

/// Typed exits travel through `Err` of a behaviour: `Err(ExitReason::Shutdown.into())`.
impl std::error::Error for ExitReason {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_the_texts_of_its_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::fmt::Error);
        let reason = ExitReason::error(&Outer(std::fmt::Error));
        assert_eq!(reason.to_string(), format!("error: outer: {}", std::fmt::Error));
    }

    #[test]
    fn an_error_that_is_its_own_source_is_told_as_well() {
        #[derive(Debug)]
        struct Snake;
        impl fmt::Display for Snake {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("hiss")
            }
        }
        impl std::error::Error for Snake {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&Snake)
            }
        }
        assert!(ExitReason::error(&Snake).to_string().starts_with("error: hiss: hiss"));
    }

    #[test]
    fn every_reason_has_a_name_and_its_detail() {
        let panic = |location| ExitReason::Panic { message: "boom".into(), location };
        for (reason, name, shown) in [
            (ExitReason::Normal, "normal", "normal"),
            (ExitReason::Shutdown, "shutdown", "shutdown"),
            (ExitReason::ShutdownWith("why".into()), "shutdown_with", "shutdown: why"),
            (ExitReason::Killed, "killed", "killed"),
            (panic(None), "panic", "panic: boom"),
            (panic(Some("a.rs:1:2".into())), "panic", "panic: boom (at a.rs:1:2)"),
            (ExitReason::Error("no".into()), "error", "error: no"),
            (ExitReason::NoProc, "noproc", "noproc"),
            (ExitReason::Timeout, "timeout", "timeout"),
        ] {
            assert_eq!((reason.name(), reason.to_string().as_str()), (name, shown));
        }
    }
}
