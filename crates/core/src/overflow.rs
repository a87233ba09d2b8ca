//! What a full mailbox does with one message more.

use std::fmt;

/// What becomes of a message that comes to a full mailbox.
///
/// ```
/// use perennial_core::Overflow;
///
/// assert_eq!(Overflow::default(), Overflow::Reject);
/// assert_eq!(Overflow::DropOldest.to_string(), "drop_oldest"); // as dumps show it
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
pub enum Overflow {
    /// It is refused, and its sender is told.
    #[default]
    Reject,
    /// Who calls, or sends and waits, waits for room in turn; whoever does not wait is refused.
    Wait,
    /// The message that waits longest is dropped for it.
    DropOldest,
    /// It is dropped.
    DropNewest,
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reject => "reject",
            Self::Wait => "wait",
            Self::DropOldest => "drop_oldest",
            Self::DropNewest => "drop_newest",
        })
    }
}
