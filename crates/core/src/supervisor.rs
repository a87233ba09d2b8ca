//! What a supervisor decides: which children are stopped and started after what, and when it gives
//! up.

mod children;
mod flags;
mod plan;

pub use children::Children;
pub use flags::{AutoShutdown, Flags, RestartDelay, Rules, SpecError};
pub use plan::{Keeps, Order, Pid, Refusal, Started, Status, Step};
