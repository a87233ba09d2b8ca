//! Decides; never does. No async, no I/O, no clock, no randomness: `now`, random numbers and ids
//! are arguments, verdicts are return values.
//!
//! | room | decides |
//! |---|---|
//! | [`exit`] | why something ended, and whether that is abnormal |
//! | [`child`] | when a child comes back and how it is stopped |
//! | [`strategy`] | which siblings an exit touches |
//! | [`overflow`] | what a full mailbox does with one message more |
//! | [`supervisor`] | what a supervisor does about all that: its children as a machine |
//! | [`application`] | which applications start and stop after what, and when all of them go down |
//! | [`intensity`] | when a supervisor gives up |
//! | [`service`] | the states of an external dependency, and who may use it now |
//! | [`run`] | the states of runs, stages, jobs and attempts, and what may follow what |
//! | [`protection`] | when a call may be made: breakers, limiters, permits |
//! | [`retry`] | whether and when a failed attempt is repeated |
//! | [`failure`] | the class of a failure and what the class means |
//! | [`llm`] | the neutral model of a call to a language model |
//! | [`picture`] | what texts inside of Mermaid and DOT pictures look like |
//! | [`spelling`] | which of the right names a wrong one is nearest to |
//! | [`digest`] | canonical JSON and its digest |
//! | [`tree`] | the value of the supervision-tree dump |
//! | [`time`] | durations since start, instants of the wall |

pub mod application;
pub mod child;
pub mod digest;
pub mod exit;
pub mod failure;
pub mod intensity;
pub mod llm;
pub mod overflow;
pub mod picture;
pub mod protection;
pub mod retry;
pub mod run;
pub mod service;
pub mod spelling;
pub mod strategy;
pub mod supervisor;
pub mod time;
pub mod tree;

pub use child::{ChildId, ChildType, Restart, Shutdown};
pub use digest::Digest;
pub use exit::ExitReason;
pub use failure::FailureClass;
pub use intensity::{RestartIntensity, Verdict};
pub use overflow::Overflow;
pub use spelling::nearest;
pub use strategy::Strategy;
pub use supervisor::AutoShutdown;
pub use time::{Timestamp, Uptime};
