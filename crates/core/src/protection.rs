//! What protects others from us, and us from others: when a call may be made.
//!
//! Machines only: `now` and chance are arguments, and what they decide is returned. There is one of each kind, and
//! whatever needs a breaker or a limiter has this one (INV-INF-1). Guards and waiting are the business of those who
//! hold a machine.
//!
//! | room | decides |
//! |---|---|
//! | [`breaker`] | whether something that failed may be called again yet |
//! | [`limiter`] | how many calls may be made in how much time |
//! | [`permits`] | how much of a resource may be out at a time |
//! | [`retry_budget`] | how many retries a target is asked to bear |

pub mod breaker;
pub mod limiter;
pub mod permits;
pub mod retry_budget;

use std::time::Duration;

use crate::Uptime;

/// A setting that cannot be used.
///
/// ```
/// use perennial_core::protection::breaker::{Breaker, BreakerConfig};
///
/// let wrong = Breaker::new(BreakerConfig::consecutive(0)).unwrap_err();
/// assert_eq!(wrong.field, "failures_max");
/// assert_eq!(wrong.to_string(), "breaker: `failures_max` is 0, but must be at least 1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{of}: `{field}` is {is}, but must be {must}")]
pub struct InvalidConfig {
    /// What was to be configured.
    pub of: &'static str,
    /// Which setting is wrong.
    pub field: &'static str,
    /// What it is.
    pub is: String,
    /// What would be right.
    pub must: &'static str,
}

/// `now` moved by `time`, or the end of time.
fn later(now: Uptime, time: Duration) -> Uptime {
    Uptime::new(now.elapsed().saturating_add(time))
}
