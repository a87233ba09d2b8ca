//! What a supervisor decides: which children are stopped and started after what, and when it gives
//! up.

mod children;
mod flags;

pub use children::{Children, Keeps, Order, Pid, Refusal, Started, Status, Step};
pub use flags::{AutoShutdown, Flags, RestartDelay, Rules, SpecError};
