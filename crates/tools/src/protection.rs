//! What guards a call to somebody else: limiters, breakers, permits. The guards and the waiting; what is decided is
//! pure, in [`perennial_core::protection`].
//!
//! Nothing here is an actor or a task. A decision is a short critical section in the caller's own task, and a guard that
//! is dropped, however its holder ends, gives back what it stands for.
//!
//! | room | what it guards |
//! |---|---|
//! | [`breakers`] | whether something that failed may be called again yet |
//! | [`dispatch`] | calls to one provider: their number, their bytes, and the pause it asked for |
//! | [`endpoints`] | to which of several a call goes |
//! | [`guarded`] | one call, by all of them in their one order |
//! | [`in_flight`] | equal requests, which share one |
//! | [`limiter`], [`limiters`] | how many calls are made in how much time |
//! | [`pause`] | a pause that one was told and all keep |
//! | [`permits`] | how many are under way at a time, or how much of anything is out |
//! | [`poller`] | what is asked again until it is there |

pub mod breakers;
mod chance;
pub mod dispatch;
pub mod endpoints;
pub mod guarded;
pub mod in_flight;
pub mod limiter;
pub mod limiters;
pub mod pause;
pub mod permits;
pub mod poller;
#[cfg(test)]
mod tests;

pub use breakers::{BreakerError, BreakerId, BreakerPermit, BreakerStatus, Breakers};
pub use dispatch::{Dispatch, DispatchConfig, DispatchError, DispatchStatus, Going};
pub use endpoints::{Endpoints, Turn, Unavailable};
pub use guarded::{Calling, Guarded, GuardedError, Judged, Progress, Told};
pub use in_flight::{InFlight, InFlightError};
pub use limiter::{Limiter, LimiterError, Reservation};
pub use limiters::{Limiters, LimitersError, LimitersStats};
pub use pause::{EndsTooLate, Pause, Pauses, TooManyPauses};
pub use perennial_core::protection::{
    InvalidConfig,
    breaker::{BreakerConfig, FailureRate, Outcome, State, Transition},
    limiter::{Bound, Decision, Limit, LimitError, LimitStatus, LimiterConfig, MeterStats, Rate},
    retry_budget::RetryBudget,
};
pub use permits::{Holder, Permit, PermitError, Permits, PermitsStatus};
pub use poller::{PollError, Polled, Poller};
