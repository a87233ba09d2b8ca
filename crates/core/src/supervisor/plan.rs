//! What goes into the machine and what comes out of it.

use std::time::Duration;

use super::SpecError;
use crate::{ExitReason, Uptime};

/// Identity of one incarnation; unique in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(pub u64);

/// Place of a child in start order; never used twice in one life of a supervisor.
pub type Order = u64;

/// What a supervisor keeps of children that do not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Their specifications, told apart by their ids: a static supervisor.
    Specs,
    /// Nothing; ids may repeat: a dynamic supervisor, or a template's.
    Instances {
        /// As many may be there, those that wait for a restart included (DYN-021, 022).
        max: Option<usize>,
    },
}

/// What a child is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// This incarnation runs.
    Running(Pid),
    /// A restart is due, or waits for its delay.
    Restarting {
        /// Tells this restart from earlier ones that were cancelled.
        generation: u64,
    },
    /// It does not run, and will not by itself.
    Stopped,
}

/// How a start went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// This incarnation runs.
    Up(Pid),
    /// Its init answered that it need not run.
    Ignored,
    /// It did not start.
    Failed,
}

/// What the driver of the machine has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Say that this child ended by itself: OTP's `child_terminated`.
    Report(Order, ExitReason),
    /// A restart was counted now: show it.
    Counted(Uptime),
    /// Stop this incarnation by its own shutdown option, and await its end.
    Stop(Order, Pid),
    /// This child will be started: let its callers wait.
    Expect(Order),
    /// The attempt to restart its group ended before its turn: show it without a process. Its
    /// callers wait: it comes with the next attempt (SUP-096, 113).
    Leave(Order),
    /// Nothing will come here unless by hand: let no caller wait.
    Dismiss(Order),
    /// Forget the child and its specification.
    Forget(Order),
    /// Start the child and tell [`Children::started`](super::Children::started).
    Start(Order),
    /// Feed [`Children::retry_due`](super::Children::retry_due) with this, behind everything that has arrived, and not before
    /// the delay is over.
    Retry {
        /// The child.
        order: Order,
        /// Of this restart.
        generation: u64,
        /// How long it waits.
        after: Option<Duration>,
    },
    /// Say that this child used up its own budget and is not restarted any more.
    BudgetSpent(Order),
    /// Say that this child's restart exceeded the intensity: `reached_max_restart_intensity`.
    GaveUp(Order),
    /// Stop all children and end with `shutdown`.
    End,
}

/// Why a request is refused (table 5.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A child of this id runs.
    AlreadyStarted(Order),
    /// A child of this id is specified and does not run.
    AlreadyPresent,
    /// The child runs.
    Running,
    /// The child is being restarted.
    Restarting,
    /// There is no such child.
    NotFound,
    /// As many children as allowed are there.
    MaxChildren(usize),
    /// Its specification is refused.
    Invalid(SpecError),
}
