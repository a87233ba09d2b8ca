//! The state machines (SM-1 to SM-33), as far as anything uses them.

use std::fmt;

/// A transition that the tables do not list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {what} cannot go from {from} to {to}")]
pub struct InvalidTransition {
    /// Run, stage or job.
    pub what: &'static str,
    /// The state it is in.
    pub from: &'static str,
    /// The state it was to enter.
    pub to: &'static str,
}

/// A text that names no state: the record is corrupt (SM-4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no state of a {what}")]
pub struct UnknownState {
    /// Run, stage, job or attempt.
    pub what: &'static str,
    /// What was found.
    pub text: String,
}

macro_rules! states {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$variant_doc:meta])* $variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The short text that is stored and shown.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownState;
            fn from_str(text: &str) -> Result<Self, UnknownState> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(UnknownState { what: $what, text: text.to_owned() }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

states! {
    /// Where a run is.
    ///
    /// ```
    /// use perennial_core::run::RunState;
    ///
    /// assert_eq!(RunState::PartiallySucceeded.name(), "partially_succeeded");
    /// assert_eq!(RunState::PartiallySucceeded.status(), "completed"); // in the words of the language
    /// assert!(RunState::Failed.is_terminal() && RunState::Failed.may_reopen());
    /// assert!(!RunState::Succeeded.may_reopen());
    /// assert!(RunState::Compensating.works() && !RunState::Compensating.goes_on()); // what is left is to undo
    /// ```
    RunState, "run" {
        /// Accepted, not begun.
        Pending => "pending",
        /// Its jobs may be claimed.
        Running => "running",
        /// No claim until it is resumed.
        Paused => "paused",
        /// No claim any more; live attempts are ending.
        Cancelling => "cancelling",
        /// What it has done is undone, job by job, before it ends.
        Compensating => "compensating",
        /// All went well.
        Succeeded => "succeeded",
        /// It ended, with parts missing that its policies tolerate.
        PartiallySucceeded => "partially_succeeded",
        /// It failed.
        Failed => "failed",
        /// Its deadline passed.
        TimedOut => "timed_out",
        /// It was cancelled.
        Cancelled => "cancelled",
        /// It failed, timed out or was cancelled, and not all that it had done could be undone.
        CompensationFailed => "compensation_failed",
    }
}

states! {
    /// Where a stage is.
    StageState, "stage" {
        /// Its feed may not deliver yet.
        Waiting => "waiting",
        /// Jobs may be added and claimed.
        Open => "open",
        /// The set of its jobs is final.
        Sealed => "sealed",
        /// Every job is terminal.
        Closed => "closed",
    }
}

states! {
    /// How a stage closed.
    StageOutcome, "stage outcome" {
        /// Every job succeeded.
        Succeeded => "succeeded",
        /// Some jobs are partial.
        Partial => "partial",
        /// A job failed.
        Failed => "failed",
        /// There was nothing to do.
        Skipped => "skipped",
        /// The run was cancelled.
        Cancelled => "cancelled",
    }
}

states! {
    /// Where a job is.
    ///
    /// ```
    /// use perennial_core::run::JobState;
    ///
    /// assert_eq!(JobState::Leased.name(), "leased");
    /// assert!(JobState::Skipped.is_terminal() && !JobState::Ready.is_terminal());
    /// ```
    JobState, "job" {
        /// Waits for other jobs.
        Blocked => "blocked",
        /// May be claimed once `run_after` has passed.
        Ready => "ready",
        /// An attempt holds it.
        Leased => "leased",
        /// Waits for something that is not available now; that uses none of its attempts.
        Deferred => "deferred",
        /// Waits for a signal, an answer or an instant that an attempt of it asked for.
        Suspended => "suspended",
        /// A group whose children exist and have not all ended.
        Joining => "joining",
        /// Done.
        Succeeded => "succeeded",
        /// Ended with a failure that its policy tolerates.
        Partial => "partial",
        /// Failed for good.
        Failed => "failed",
        /// Not done, for a reason.
        Skipped => "skipped",
        /// Ended with its run.
        Cancelled => "cancelled",
    }
}

states! {
    /// What a job is.
    ///
    /// ```
    /// use perennial_core::run::JobKind;
    ///
    /// assert_eq!(JobKind::Group.to_string(), "group");
    /// ```
    JobKind, "kind of job" {
        /// A step of a workflow that says itself what comes next.
        Step => "step",
        /// A job of a stage, or a child of a group: code is executed for it.
        Activity => "activity",
        /// Children of it are executed, and joined once they have ended.
        Group => "group",
    }
}

states! {
    /// Where the jobs of a stage come from.
    ///
    /// ```
    /// use perennial_core::run::FeedKind;
    ///
    /// assert_eq!(FeedKind::PerItem.name(), "per_item");
    /// ```
    FeedKind, "feed" {
        /// They are all there from the beginning.
        Static => "static",
        /// From each job of another stage, as soon as that has ended.
        PerItem => "per_item",
        /// From all jobs of another stage, once that has closed.
        Barrier => "barrier",
        /// Its workflow says what comes next until it says that nothing does.
        Driven => "driven",
    }
}

states! {
    /// How an attempt ended.
    ///
    /// ```
    /// use perennial_core::run::AttemptEnd;
    ///
    /// assert_eq!(AttemptEnd::TimedOut.to_string(), "timed_out");
    /// assert!(AttemptEnd::Error.uses_budget());
    /// assert!(!AttemptEnd::Released.uses_budget()); // a shutdown costs no try
    /// assert!(!AttemptEnd::Unavailable.uses_budget()); // nor does a service that is down
    /// ```
    AttemptEnd, "attempt" {
        /// With a result.
        Succeeded => "succeeded",
        /// With a tolerated failure.
        Partial => "partial",
        /// Its work does not apply.
        Skipped => "skipped",
        /// With an error.
        Error => "error",
        /// Its deadline passed.
        TimedOut => "timed_out",
        /// Its node died.
        Expired => "expired",
        /// Given back: its task died, or its node is shutting down.
        Released => "released",
        /// What it needs is not available now: its job is deferred.
        Unavailable => "unavailable",
        /// It asked for something to wait for: its job is suspended.
        Suspended => "suspended",
        /// Its run was cancelled.
        Cancelled => "cancelled",
    }
}

states! {
    /// Why a job was skipped.
    ///
    /// ```
    /// use perennial_core::run::SkipReason;
    ///
    /// assert_eq!(SkipReason::Upstream.name(), "upstream");
    /// assert!(SkipReason::Operator.degrades() && !SkipReason::Disabled.degrades());
    /// ```
    SkipReason, "skip reason" {
        /// Its condition says so; neutral.
        NotApplicable => "not_applicable",
        /// Something it needs failed; degrades the outcome.
        Upstream => "upstream",
        /// What it needs did not become available in time; degrades the outcome.
        Unavailable => "unavailable",
        /// The tool it names does not exist; degrades the outcome.
        UnknownTool => "unknown_tool",
        /// Somebody said so; degrades the outcome.
        Operator => "operator",
        /// Its stage is declared as not to be done; neutral.
        Disabled => "disabled",
    }
}

impl RunState {
    /// Whether nothing can follow in this round.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Pending
            | Self::Running
            | Self::Paused
            | Self::Cancelling
            | Self::Compensating => false,
            Self::Succeeded
            | Self::PartiallySucceeded
            | Self::Failed
            | Self::TimedOut
            | Self::Cancelled
            | Self::CompensationFailed => true,
        }
    }

    /// Whether its plan is followed, at once or once it is not paused any more.
    pub fn goes_on(self) -> bool {
        match self {
            Self::Running | Self::Paused => true,
            Self::Pending
            | Self::Cancelling
            | Self::Compensating
            | Self::Succeeded
            | Self::PartiallySucceeded
            | Self::Failed
            | Self::TimedOut
            | Self::Cancelled
            | Self::CompensationFailed => false,
        }
    }

    /// Whether jobs of it may be claimed: those of its plan, or those that undo what it has done.
    pub fn claims(self) -> bool {
        match self {
            Self::Running | Self::Compensating => true,
            Self::Pending
            | Self::Paused
            | Self::Cancelling
            | Self::Succeeded
            | Self::PartiallySucceeded
            | Self::Failed
            | Self::TimedOut
            | Self::Cancelled
            | Self::CompensationFailed => false,
        }
    }

    /// Whether its jobs are tried again, wait and take signals: it goes on, or undoes what it has done.
    pub fn works(self) -> bool {
        self.goes_on() || self == Self::Compensating
    }

    /// Whether it may be opened again for a further round: all but completed runs (YR-55), those
    /// that are still being cancelled, and those whose work is being undone or could not be.
    pub fn may_reopen(self) -> bool {
        match self {
            Self::Pending
            | Self::Running
            | Self::Paused
            | Self::Failed
            | Self::TimedOut
            | Self::Cancelled => true,
            Self::Cancelling
            | Self::Compensating
            | Self::Succeeded
            | Self::PartiallySucceeded
            | Self::CompensationFailed => false,
        }
    }

    /// The language's word for it (YR-25).
    pub fn status(self) -> &'static str {
        match self {
            Self::Succeeded | Self::PartiallySucceeded => "completed",
            Self::Failed | Self::TimedOut | Self::CompensationFailed => "failed",
            Self::Cancelled => "cancelled",
            Self::Pending
            | Self::Running
            | Self::Paused
            | Self::Cancelling
            | Self::Compensating => self.name(),
        }
    }

    /// Enters `to`.
    ///
    /// # Errors
    ///
    /// When the table of 4.1 does not list the transition.
    pub fn enter(self, to: Self) -> Result<Self, InvalidTransition> {
        use RunState::{
            Cancelled, Cancelling, Compensating, CompensationFailed, Failed, PartiallySucceeded,
            Paused, Pending, Running, Succeeded, TimedOut,
        };
        let listed = match self {
            Pending => matches!(to, Running | Cancelled | TimedOut),
            Running => matches!(
                to,
                Paused
                    | Cancelling
                    | Compensating
                    | Succeeded
                    | PartiallySucceeded
                    | Failed
                    | TimedOut
            ),
            Paused => matches!(to, Running | Cancelling | TimedOut),
            Cancelling => matches!(to, Compensating | Cancelled | TimedOut | Failed),
            Compensating => matches!(to, Cancelled | TimedOut | Failed | CompensationFailed),
            Succeeded | PartiallySucceeded | Failed | TimedOut | Cancelled | CompensationFailed => {
                false
            }
        };
        if listed {
            Ok(to)
        } else {
            Err(InvalidTransition { what: "run", from: self.name(), to: to.name() })
        }
    }
}

impl StageState {
    /// Whether its jobs may be claimed.
    pub fn is_claimable(self) -> bool {
        match self {
            Self::Open | Self::Sealed => true,
            Self::Waiting | Self::Closed => false,
        }
    }

    /// Enters `to`.
    ///
    /// # Errors
    ///
    /// When the table of 4.2 does not list the transition.
    pub fn enter(self, to: Self) -> Result<Self, InvalidTransition> {
        let listed = match self {
            Self::Waiting => matches!(to, Self::Open | Self::Sealed | Self::Closed),
            Self::Open => matches!(to, Self::Sealed | Self::Closed),
            Self::Sealed => matches!(to, Self::Closed),
            Self::Closed => false,
        };
        if listed {
            Ok(to)
        } else {
            Err(InvalidTransition { what: "stage", from: self.name(), to: to.name() })
        }
    }
}

impl JobState {
    /// Whether nothing can follow in this round.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Blocked
            | Self::Ready
            | Self::Leased
            | Self::Deferred
            | Self::Suspended
            | Self::Joining => false,
            Self::Succeeded | Self::Partial | Self::Failed | Self::Skipped | Self::Cancelled => {
                true
            }
        }
    }

    /// Whether it waits for something outside of its run: it holds no place, no lease and no attempt.
    pub fn is_waiting(self) -> bool {
        match self {
            Self::Deferred | Self::Suspended => true,
            Self::Blocked
            | Self::Ready
            | Self::Leased
            | Self::Joining
            | Self::Succeeded
            | Self::Partial
            | Self::Failed
            | Self::Skipped
            | Self::Cancelled => false,
        }
    }

    /// Enters `to`.
    ///
    /// # Errors
    ///
    /// When the table of 4.3 does not list the transition. A group goes from Ready to Joining at once: nobody sees
    /// it Expanding, because the decision that expands it writes all of its children (SM-40). A wait that ends without what was waited
    /// for may also end its job in part: a document may tolerate that failure like any other.
    pub fn enter(self, to: Self) -> Result<Self, InvalidTransition> {
        use JobState::{
            Blocked, Cancelled, Deferred, Failed, Joining, Leased, Partial, Ready, Skipped,
            Succeeded, Suspended,
        };
        let listed = match self {
            Blocked => matches!(to, Ready | Skipped | Failed | Cancelled),
            Ready => matches!(to, Leased | Deferred | Joining | Skipped | Failed | Cancelled),
            Leased => matches!(
                to,
                Ready | Deferred | Suspended | Succeeded | Partial | Skipped | Failed | Cancelled
            ),
            Joining => matches!(to, Succeeded | Partial | Failed | Skipped | Cancelled),
            Deferred | Suspended => matches!(to, Ready | Partial | Skipped | Failed | Cancelled),
            Succeeded | Partial | Failed | Skipped | Cancelled => false,
        };
        if listed {
            Ok(to)
        } else {
            Err(InvalidTransition { what: "job", from: self.name(), to: to.name() })
        }
    }
}

impl AttemptEnd {
    /// Whether the attempt counts against the budget (SM-30). The death of its process does not: it is no failure of
    /// the step, and has a count of its own.
    pub fn uses_budget(self) -> bool {
        match self {
            Self::Succeeded | Self::Partial | Self::Skipped | Self::Error | Self::TimedOut => true,
            Self::Expired
            | Self::Released
            | Self::Unavailable
            | Self::Suspended
            | Self::Cancelled => false,
        }
    }
}

impl SkipReason {
    /// Whether a job that was skipped for it takes something from the success of its run (4.3); otherwise it is
    /// as if it had not been there.
    pub fn degrades(self) -> bool {
        match self {
            Self::NotApplicable | Self::Disabled => false,
            Self::Upstream | Self::Unavailable | Self::UnknownTool | Self::Operator => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves INV-5.
    #[test]
    fn terminal_states_absorb() {
        for from in RunState::ALL.iter().filter(|state| state.is_terminal()) {
            for to in RunState::ALL {
                assert!(from.enter(*to).is_err(), "{from} to {to}");
            }
        }
        for from in JobState::ALL.iter().filter(|state| state.is_terminal()) {
            for to in JobState::ALL {
                assert!(from.enter(*to).is_err(), "{from} to {to}");
            }
        }
    }

    #[test]
    fn every_state_that_is_not_terminal_can_end_and_none_enters_itself() {
        for from in RunState::ALL {
            assert!(from.enter(*from).is_err());
            let ends = RunState::ALL.iter().any(|to| to.is_terminal() && from.enter(*to).is_ok());
            assert_eq!(ends, !from.is_terminal(), "{from}");
        }
        for from in JobState::ALL {
            assert!(from.enter(*from).is_err());
            let ends = JobState::ALL.iter().any(|to| to.is_terminal() && from.enter(*to).is_ok());
            assert_eq!(ends, !from.is_terminal(), "{from}");
        }
    }

    /// SM-14: what a run has done is undone when it would end otherwise than well, and after that it ends.
    #[test]
    fn a_run_that_undoes_what_it_has_done_ends_and_nothing_else() {
        use RunState::{
            Cancelled, Cancelling, Compensating, CompensationFailed, Failed, Running, TimedOut,
        };
        let into: Vec<_> =
            RunState::ALL.iter().filter(|from| from.enter(Compensating).is_ok()).collect();
        assert_eq!(into, [&Running, &Cancelling]);
        let ends: Vec<_> =
            RunState::ALL.iter().filter(|to| Compensating.enter(**to).is_ok()).collect();
        assert_eq!(ends, [&Failed, &TimedOut, &Cancelled, &CompensationFailed]);
        for state in RunState::ALL {
            assert_eq!(state.enter(CompensationFailed).is_ok(), *state == Compensating, "{state}");
            assert!(!state.is_terminal() || !state.works() && !state.claims(), "{state}");
        }
    }

    #[test]
    fn texts_read_back_and_unknown_texts_are_refused() {
        for state in JobState::ALL {
            assert_eq!(state.name().parse(), Ok(*state));
        }
        for state in RunState::ALL {
            assert_eq!(state.name().parse(), Ok(*state));
        }
        assert!("done".parse::<JobState>().is_err());
    }

    /// INV-20, SM-30: who only waits has used nothing.
    #[test]
    fn waiting_uses_no_attempt_and_can_always_be_ended() {
        for end in [AttemptEnd::Unavailable, AttemptEnd::Suspended] {
            assert!(!end.uses_budget(), "{end}");
        }
        for state in JobState::ALL {
            let waits = matches!(state, JobState::Deferred | JobState::Suspended);
            assert_eq!(state.is_waiting(), waits, "{state}");
            for waiting in [JobState::Deferred, JobState::Suspended] {
                let ends = state.is_terminal() && *state != JobState::Succeeded;
                let listed = ends || *state == JobState::Ready;
                assert_eq!(waiting.enter(*state).is_ok(), listed, "{waiting} to {state}");
            }
        }
        let enters: Vec<_> =
            JobState::ALL.iter().filter(|from| from.enter(JobState::Suspended).is_ok()).collect();
        assert_eq!(enters, [&JobState::Leased], "only an attempt suspends its job");
    }

    #[test]
    fn reasons_are_neutral_or_degrade() {
        let neutral: Vec<_> = SkipReason::ALL.iter().filter(|why| !why.degrades()).collect();
        assert_eq!(neutral, [&SkipReason::NotApplicable, &SkipReason::Disabled]);
    }
}
