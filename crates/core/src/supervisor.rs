//! What a supervisor decides: which children are stopped and started after what, and when it gives
//! up.

mod flags;

pub use flags::{AutoShutdown, Flags, RestartDelay, Rules, SpecError};
