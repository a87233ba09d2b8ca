//! One run.
//!
//! # Why an actor
//!
//! What follows from an attempt's end must be decided by one place at a time, from all that was
//! decided before. It holds the run's state; its attempts run as supervised tasks beside it.
//!
//! # Supervision
//!
//! A transient child of `runs` with a restart budget of its own; the scheduler re-creates it when
//! `runs` itself was restarted.
//!
//! # What a restart forgets
//!
//! Nothing: the machine is rebuilt from the store's rows, and live attempts are found again in the
//! table of attempts.
//!
//! # Guarantees
//!
//! Commit, then apply: memory changes only after the store has (DUR-8). A fact that is reported
//! twice changes the run once.

mod account;
mod actor;
mod aside;
mod attempt;
mod explain;
mod guard;
mod journal;
mod machine;
mod told;

pub use self::explain::Explanation;
pub(crate) use self::{
    account::{Account, json_bytes},
    actor::{Message, child_spec},
    aside::{Request, Requested, give_back, settle},
    explain::{Known, explain},
    guard::Guard,
    machine::{child_job, owner, planned_job},
    told::{is_tellable, tell},
};
