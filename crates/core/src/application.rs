//! What a system of applications decides: what starts after what, who shares a start, what an end
//! means for the rest, and in which order all of it goes down.

mod machine;
mod order;
mod rules;

pub use machine::Applications;
pub use order::start_order;
pub use rules::{
    APPLICATIONS_MAX, ApplicationName, Asker, Cause, Failure, Phase, Refusal, Request, Step,
    Wanted, end_brings_down, failed_start_brings_down,
};
