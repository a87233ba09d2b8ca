//! What guards a call to somebody else: limiters, breakers, permits. The guards and the waiting; what is decided is
//! pure, in [`perennial_core::protection`].
//!
//! Nothing here is an actor or a task. A decision is a short critical section in the caller's own task, and a guard that
//! is dropped, however its holder ends, gives back what it stands for.
//!
//! | room | what it guards |
//! |---|---|
//! | [`breakers`] | whether something that failed may be called again yet |
//! | [`guarded`] | one call, by all of them in their one order |
//! | [`limiter`] | how many calls are made in how much time |
//! | [`permits`] | how many are under way at a time, or how much of anything is out |

pub mod breakers;
pub mod guarded;
pub mod limiter;
pub mod permits;
#[cfg(test)]
mod tests;

pub use breakers::{BreakerError, BreakerId, BreakerPermit, BreakerStatus, Breakers};
pub use guarded::{Guarded, GuardedError, Judged};
pub use limiter::{Limiter, LimiterError, Reservation};
pub use perennial_core::protection::{
    InvalidConfig,
    breaker::{BreakerConfig, FailureRate, Outcome, State, Transition},
    limiter::{Bound, Decision, Limit, LimitError, LimitStatus, LimiterConfig, MeterStats, Rate},
    retry_budget::RetryBudget,
};
pub use permits::{Holder, Permit, PermitError, Permits, PermitsStatus};
