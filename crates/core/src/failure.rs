//! Classes of failure, and what each means for retry.

use std::fmt;

/// What kind of failure something was. Decisions read the class, never a text.
///
/// ```
/// use perennial_core::FailureClass;
///
/// assert!(FailureClass::Overloaded.is_retryable());
/// assert!(!FailureClass::Permanent.is_retryable());
/// assert_eq!(FailureClass::RateLimited.to_string(), "rate_limited");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// A deadline passed.
    Timeout,
    /// The other side or the way to it failed for a moment.
    Transient,
    /// The other side has too much to do.
    Overloaded,
    /// The stream ended without its terminal event.
    Interrupted,
    /// A quota is used up for now.
    RateLimited,
    /// A spending limit is reached; never repeated before its reset.
    SpendCap,
    /// The request is refused as it is.
    Permanent,
    /// The reply is well formed and not usable.
    Semantic,
    /// A name refers to nothing.
    Reference,
    /// An expression cannot be evaluated.
    Expression,
    /// A path leaves the allowed roots.
    Path,
    /// A file operation failed.
    Io,
    /// A tool failed.
    Tool,
    /// A limit or a budget says stop.
    Limit,
    /// The code panicked.
    Panic,
    /// Cancelled from outside.
    Cancelled,
    /// The store failed.
    Store,
    /// An invariant of ours is broken.
    Internal,
    /// The work died with its process too often.
    Lost,
}

impl FailureClass {
    /// All classes.
    pub const ALL: [Self; 19] = [
        Self::Timeout,
        Self::Transient,
        Self::Overloaded,
        Self::Interrupted,
        Self::RateLimited,
        Self::SpendCap,
        Self::Permanent,
        Self::Semantic,
        Self::Reference,
        Self::Expression,
        Self::Path,
        Self::Io,
        Self::Tool,
        Self::Limit,
        Self::Panic,
        Self::Cancelled,
        Self::Store,
        Self::Internal,
        Self::Lost,
    ];

    /// Whether another attempt may help.
    ///
    /// ```
    /// use perennial_core::FailureClass;
    ///
    /// let retried: Vec<_> = FailureClass::ALL.into_iter().filter(|class| class.is_retryable()).collect();
    /// assert!(retried.contains(&FailureClass::Timeout) && !retried.contains(&FailureClass::Panic));
    /// ```
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Timeout
            | Self::Transient
            | Self::Overloaded
            | Self::Interrupted
            | Self::RateLimited => true,
            Self::SpendCap
            | Self::Permanent
            | Self::Semantic
            | Self::Reference
            | Self::Expression
            | Self::Path
            | Self::Io
            | Self::Tool
            | Self::Limit
            | Self::Panic
            | Self::Cancelled
            | Self::Store
            | Self::Internal
            | Self::Lost => false,
        }
    }

    /// Its name in records, events and texts.
    ///
    /// ```
    /// use perennial_core::FailureClass;
    ///
    /// assert_eq!(FailureClass::SpendCap.name(), "spend_cap");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Transient => "transient",
            Self::Overloaded => "overloaded",
            Self::Interrupted => "interrupted",
            Self::RateLimited => "rate_limited",
            Self::SpendCap => "spend_cap",
            Self::Permanent => "permanent",
            Self::Semantic => "semantic",
            Self::Reference => "reference",
            Self::Expression => "expression",
            Self::Path => "path",
            Self::Io => "io",
            Self::Tool => "tool",
            Self::Limit => "limit",
            Self::Panic => "panic",
            Self::Cancelled => "cancelled",
            Self::Store => "store",
            Self::Internal => "internal",
            Self::Lost => "lost",
        }
    }

    /// The class called `name`.
    ///
    /// ```
    /// use perennial_core::FailureClass;
    ///
    /// assert_eq!(FailureClass::from_name("spend_cap"), Some(FailureClass::SpendCap));
    /// assert_eq!(FailureClass::from_name("misfortune"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A failure as a value: what is recorded, shown and decided upon.
///
/// ```
/// use perennial_core::{FailureClass, failure::Failure};
///
/// let mut failure = Failure::new(FailureClass::RateLimited, "APP1", "slow down");
/// failure.retry_after_ms = Some(2_000);
/// assert_eq!(failure.to_string(), "slow down");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind it is.
    pub class: FailureClass,
    /// The stable code, for example `PL705`.
    pub code: String,
    /// One line for people; never a secret.
    pub message: String,
    /// A pause the other side asked for, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Further facts (status, request id, body prefix), already redacted.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
}

impl Failure {
    /// A failure without further facts. `code` is stable, for those who look it up; a host has codes of its own.
    ///
    /// ```
    /// use perennial_core::{FailureClass, failure::Failure};
    ///
    /// let failure = Failure::new(FailureClass::Io, "APP2", "no such file");
    /// assert_eq!((failure.code.as_str(), failure.retry_after_ms), ("APP2", None));
    /// ```
    pub fn new(class: FailureClass, code: &str, message: impl Into<String>) -> Self {
        Self {
            class,
            code: code.to_owned(),
            message: message.into(),
            retry_after_ms: None,
            detail: serde_json::Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_name_that_reads_back() {
        for class in FailureClass::ALL {
            assert_eq!(FailureClass::from_name(class.name()), Some(class));
        }
    }
}
