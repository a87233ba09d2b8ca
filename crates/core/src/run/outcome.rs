//! What comes of a stage, and of a run, whose jobs have all ended (4.8): functions of recorded facts alone.

use super::{JobState, RunState, SkipReason, StageOutcome};

/// How many top-level jobs of a stage ended how. Children count in their group only (RF5).
///
/// ```
/// use perennial_core::run::{Ends, JobState, SkipReason};
///
/// let mut ends = Ends::default();
/// ends.add(JobState::Succeeded, None);
/// ends.add(JobState::Skipped, Some(SkipReason::Upstream));
/// assert_eq!((ends.successes(), ends.settled(), ends.degrading), (1, 2, 1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// With a result.
    pub succeeded: u64,
    /// With a part of it: a success as well.
    pub partial: u64,
    /// For good.
    pub failed: u64,
    /// Skipped for a reason that takes nothing from the success.
    pub neutral: u64,
    /// Skipped for a reason that does.
    pub degrading: u64,
    /// With their run, or because their stage was stopped.
    pub cancelled: u64,
}

impl Ends {
    /// Counts one more; a job that has not ended is not counted.
    pub fn add(&mut self, state: JobState, skipped: Option<SkipReason>) {
        match state {
            JobState::Succeeded => self.succeeded += 1,
            JobState::Partial => self.partial += 1,
            JobState::Failed => self.failed += 1,
            // One that gives no reason was to be done, and was not.
            JobState::Skipped if skipped.is_none_or(SkipReason::degrades) => self.degrading += 1,
            JobState::Skipped => self.neutral += 1,
            JobState::Cancelled => self.cancelled += 1,
            JobState::Blocked
            | JobState::Ready
            | JobState::Leased
            | JobState::Deferred
            | JobState::Suspended
            | JobState::Joining => (),
        }
    }

    /// Succeeded, wholly or in part.
    pub fn successes(&self) -> u64 {
        self.succeeded + self.partial
    }

    /// All of them.
    pub fn settled(&self) -> u64 {
        self.successes() + self.failed + self.neutral + self.degrading + self.cancelled
    }
}

/// How many failures a stage takes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tolerance {
    /// So many.
    Count(u64),
    /// This share of its jobs, from 0 to 1.
    Ratio(f64),
    /// Any number, as long as one job succeeds.
    AllButOne,
}

/// Stop a stage early in which nearly everything fails.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GiveUp {
    /// The share of failures, from 0 to 1.
    pub ratio: f64,
    /// As soon as so many jobs have ended.
    pub after: u64,
}

/// What the failures of its jobs mean for a stage. No policy turns zero successes into a success.
///
/// ```
/// use perennial_core::run::{Ends, FailurePolicy, StageOutcome, Tolerance, stage_outcome};
///
/// let ends = Ends { succeeded: 4, failed: 2, ..Ends::default() };
/// let of = |policy: FailurePolicy| stage_outcome(&ends, &policy, false);
/// assert_eq!(of(FailurePolicy::default()), StageOutcome::Partial); // tolerates all but one
/// assert_eq!(of(FailurePolicy::tolerate(Tolerance::Count(1))), StageOutcome::Failed);
/// assert_eq!(of(FailurePolicy::FAIL_FAST), StageOutcome::Failed);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FailurePolicy {
    /// How many it takes; none with the first of which it stops.
    pub tolerates: Option<Tolerance>,
    /// When it stops before all jobs have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub give_up: Option<GiveUp>,
}

impl Default for FailurePolicy {
    /// Tolerates all failures but that of every job.
    fn default() -> Self {
        Self::tolerate(Tolerance::AllButOne)
    }
}

impl FailurePolicy {
    /// The first failure stops the stage, and its run unless the stage is optional.
    pub const FAIL_FAST: Self = Self { tolerates: None, give_up: None };

    /// Takes that many.
    pub const fn tolerate(tolerance: Tolerance) -> Self {
        Self { tolerates: Some(tolerance), give_up: None }
    }

    /// The same, which stops early when that share has failed of at least so many.
    #[must_use]
    pub const fn give_up(mut self, ratio: f64, after: u64) -> Self {
        self.give_up = Some(GiveUp { ratio, after });
        self
    }

    /// Whether a stage stops now, with these ends so far.
    pub fn stops(&self, ends: &Ends) -> bool {
        let fails_fast = self.tolerates.is_none() && ends.failed > 0;
        fails_fast || self.gives_up(ends)
    }

    fn gives_up(&self, ends: &Ends) -> bool {
        let settled = ends.settled();
        self.give_up.is_some_and(|GiveUp { ratio, after }| {
            settled >= after.max(1) && ends.failed > 0 && share(ends.failed, settled) >= ratio
        })
    }

    /// Whether that is more than it takes.
    fn is_exceeded(&self, ends: &Ends) -> bool {
        let exceeds = match self.tolerates {
            None => ends.failed > 0,
            Some(Tolerance::Count(most)) => ends.failed > most,
            Some(Tolerance::Ratio(most)) => share(ends.failed, ends.settled()) > most,
            Some(Tolerance::AllButOne) => ends.failed > 0 && ends.successes() == 0,
        };
        exceeds || self.gives_up(ends)
    }

    /// What is wrong with it, if anything is.
    pub fn problem(&self) -> Option<String> {
        let is_share = |ratio: f64| (0.0..=1.0).contains(&ratio);
        if let Some(Tolerance::Ratio(ratio)) = self.tolerates.filter(|it| match it {
            Tolerance::Ratio(ratio) => !is_share(*ratio),
            Tolerance::Count(_) | Tolerance::AllButOne => false,
        }) {
            return Some(format!("it tolerates a share of {ratio}, which is not between 0 and 1"));
        }
        let GiveUp { ratio, .. } = self.give_up.filter(|it| !is_share(it.ratio))?;
        Some(format!("it gives up at a share of {ratio}, which is not between 0 and 1"))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of jobs are far below 2^52")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The outcome of a stage whose jobs have all ended; `cancelling`: its run is cancelled, or its time or budget is up.
pub fn stage_outcome(ends: &Ends, policy: &FailurePolicy, cancelling: bool) -> StageOutcome {
    let Ends { partial, failed, neutral, degrading, cancelled, .. } = *ends;
    if cancelling && cancelled > 0 {
        StageOutcome::Cancelled
    } else if ends.settled() == neutral {
        StageOutcome::Skipped
    } else if ends.successes() == 0 && failed > 0 {
        StageOutcome::Failed
    } else if ends.successes() == 0 {
        StageOutcome::Skipped
    } else if policy.is_exceeded(ends) {
        StageOutcome::Failed
    } else if partial + failed + degrading + cancelled == 0 {
        StageOutcome::Succeeded
    } else {
        StageOutcome::Partial
    }
}

/// A closed stage, as far as its run's outcome needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageEnd {
    /// How it closed.
    pub outcome: StageOutcome,
    /// Whether its failure is one of its run.
    pub required: bool,
    /// Whether a job of it succeeded, wholly or in part.
    pub has_success: bool,
    /// Whether it was skipped although it was to be done.
    pub degrades: bool,
}

impl StageEnd {
    /// A stage that closed with that outcome for these ends.
    pub fn new(outcome: StageOutcome, required: bool, ends: &Ends) -> Self {
        let degrades = ends.degrading + ends.cancelled > 0;
        Self { outcome, required, has_success: ends.successes() > 0, degrades }
    }
}

impl From<StageOutcome> for StageEnd {
    /// A required stage of which nothing else is known.
    fn from(outcome: StageOutcome) -> Self {
        let has_success = matches!(outcome, StageOutcome::Succeeded | StageOutcome::Partial);
        Self { outcome, required: true, has_success, degrades: false }
    }
}

/// Why a run ends before its stages are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunCause {
    /// Somebody asked.
    Cancel,
    /// Its time is up.
    Deadline,
    /// A failure, a policy or a budget stopped it.
    Failure,
}

/// The outcome of a run whose stages all closed with these outcomes: the worst decides, and where nothing was done
/// nothing has succeeded (INV-40).
///
/// ```
/// use perennial_core::run::{RunState, StageOutcome, run_outcome};
///
/// assert_eq!(run_outcome([StageOutcome::Succeeded, StageOutcome::Skipped]), RunState::Succeeded);
/// assert_eq!(run_outcome([StageOutcome::Skipped]), RunState::Failed);
/// ```
pub fn run_outcome<S: Into<StageEnd>>(stages: impl IntoIterator<Item = S>) -> RunState {
    run_outcome_of(None, stages)
}

/// As [`run_outcome`], of a run that was ended for a reason of its own, if there is one.
pub fn run_outcome_of<S: Into<StageEnd>>(
    cause: Option<RunCause>,
    stages: impl IntoIterator<Item = S>,
) -> RunState {
    match cause {
        Some(RunCause::Cancel) => return RunState::Cancelled,
        Some(RunCause::Deadline) => return RunState::TimedOut,
        Some(RunCause::Failure) => return RunState::Failed,
        None => (),
    }
    let (mut is_whole, mut is_something_done) = (true, false);
    for stage in stages {
        let stage: StageEnd = stage.into();
        is_something_done |= stage.has_success;
        match stage.outcome {
            StageOutcome::Failed | StageOutcome::Cancelled if stage.required => {
                return RunState::Failed;
            }
            StageOutcome::Failed | StageOutcome::Cancelled | StageOutcome::Partial => {
                is_whole = false;
            }
            StageOutcome::Skipped => is_whole &= !stage.degrades,
            StageOutcome::Succeeded => (),
        }
    }
    match (is_something_done, is_whole) {
        (false, _) => RunState::Failed,
        (true, true) => RunState::Succeeded,
        (true, false) => RunState::PartiallySucceeded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICIES: [FailurePolicy; 7] = [
        FailurePolicy::FAIL_FAST,
        FailurePolicy::tolerate(Tolerance::AllButOne),
        FailurePolicy::tolerate(Tolerance::Count(0)),
        FailurePolicy::tolerate(Tolerance::Count(1)),
        FailurePolicy::tolerate(Tolerance::Ratio(0.5)),
        FailurePolicy::tolerate(Tolerance::Ratio(1.0)),
        FailurePolicy::tolerate(Tolerance::AllButOne).give_up(0.5, 2),
    ];

    /// All counts from none to three of each kind.
    fn all_ends() -> impl Iterator<Item = Ends> {
        (0..4_u64.pow(6)).map(|number| {
            let digit = |place: u32| number / 4_u64.pow(place) % 4;
            let (succeeded, partial, failed) = (digit(0), digit(1), digit(2));
            let (neutral, degrading, cancelled) = (digit(3), digit(4), digit(5));
            Ends { succeeded, partial, failed, neutral, degrading, cancelled }
        })
    }

    /// The rows of the table of 4.8 from below: what each forbids of the outcome, for every count and policy.
    ///
    /// Proves INV-40, FL8, B13.
    #[test]
    fn a_stage_is_what_its_jobs_are() {
        let mut cases = 0;
        for ends in all_ends() {
            for (policy, cancelling) in POLICIES.iter().flat_map(|it| [(it, false), (it, true)]) {
                let outcome = stage_outcome(&ends, policy, cancelling);
                let of = || format!("{ends:?}, {policy:?}, {cancelling}: {outcome}");
                let cut = cancelling && ends.cancelled > 0;
                assert_eq!(outcome == StageOutcome::Cancelled, cut, "{}", of());
                cases += 1;
                if cut {
                    continue;
                }
                let spoilt = ends.partial + ends.failed + ends.degrading + ends.cancelled;
                let whole = ends.succeeded > 0 && spoilt == 0;
                assert_eq!(outcome == StageOutcome::Succeeded, whole, "{}", of());
                let none = ends.succeeded + ends.partial == 0;
                assert_eq!(outcome == StageOutcome::Skipped, none && ends.failed == 0, "{}", of());
                if none && ends.failed > 0 || policy.stops(&ends) {
                    assert_eq!(outcome, StageOutcome::Failed, "{}", of());
                }
                if ends.failed == 0 {
                    assert_ne!(outcome, StageOutcome::Failed, "{}", of());
                }
            }
        }
        assert_eq!(cases, 4096 * 14);
    }

    #[test]
    fn tolerances_count_what_they_say() {
        let ends = |succeeded, failed| Ends { succeeded, failed, ..Ends::default() };
        let exceeds = |policy: FailurePolicy, ends: Ends| {
            stage_outcome(&ends, &policy, false) == StageOutcome::Failed
        };
        let of = FailurePolicy::tolerate;
        for (policy, succeeded, failed, expected) in [
            (of(Tolerance::Count(1)), 1, 1, false),
            (of(Tolerance::Count(1)), 1, 2, true),
            (of(Tolerance::Ratio(0.5)), 1, 1, false),
            (of(Tolerance::Ratio(0.5)), 1, 2, true),
            (of(Tolerance::AllButOne), 1, 1_000, false),
            (of(Tolerance::AllButOne).give_up(0.9, 10), 1, 8, false),
            (of(Tolerance::AllButOne).give_up(0.9, 10), 1, 9, true),
            (FailurePolicy::FAIL_FAST, 1_000, 1, true),
        ] {
            assert_eq!(exceeds(policy, ends(succeeded, failed)), expected, "{policy:?}");
        }
        assert!(of(Tolerance::Ratio(1.5)).problem().is_some_and(|it| it.contains("1.5")));
        assert!(of(Tolerance::AllButOne).give_up(f64::NAN, 1).problem().is_some());
        assert!(POLICIES.iter().all(|policy| policy.problem().is_none()));
    }

    #[test]
    fn the_worst_stage_decides_a_run() {
        use StageOutcome::{Failed, Partial, Skipped, Succeeded};
        assert_eq!(run_outcome([Succeeded, Skipped]), RunState::Succeeded);
        assert_eq!(run_outcome([Succeeded, Partial]), RunState::PartiallySucceeded);
        assert_eq!(run_outcome([Partial, Failed, Succeeded]), RunState::Failed);
        let optional = StageEnd { required: false, ..Failed.into() };
        let run = run_outcome([Succeeded.into(), optional]);
        assert_eq!(run, RunState::PartiallySucceeded);
        let missing = StageEnd { degrades: true, ..Skipped.into() };
        assert_eq!(run_outcome([Succeeded.into(), missing]), RunState::PartiallySucceeded);
    }

    /// Proves INV-40.
    /// Of up to three stages with each outcome, in any order.
    #[test]
    fn a_run_of_which_nothing_succeeded_has_not() {
        let all = StageOutcome::ALL;
        let mut plans: Vec<Vec<StageOutcome>> = vec![Vec::new()];
        for length in 0..3 {
            let longer: Vec<Vec<StageOutcome>> = plans
                .iter()
                .filter(|plan| plan.len() == length)
                .flat_map(|plan| all.iter().map(|last| [plan.as_slice(), &[*last]].concat()))
                .collect();
            plans.extend(longer);
        }
        assert_eq!(plans.len(), 1 + 5 + 25 + 125);
        for plan in plans {
            let has = |outcome| plan.contains(&outcome);
            let (done, in_part) = (has(StageOutcome::Succeeded), has(StageOutcome::Partial));
            let failed = has(StageOutcome::Failed) || has(StageOutcome::Cancelled);
            let expected = match (failed, done || in_part, in_part) {
                (true, _, _) | (false, false, _) => RunState::Failed,
                (false, true, false) => RunState::Succeeded,
                (false, true, true) => RunState::PartiallySucceeded,
            };
            assert_eq!(run_outcome(plan.iter().copied()), expected, "{plan:?}");
            for (cause, expected) in [
                (RunCause::Cancel, RunState::Cancelled),
                (RunCause::Deadline, RunState::TimedOut),
                (RunCause::Failure, RunState::Failed),
            ] {
                assert_eq!(run_outcome_of(Some(cause), plan.iter().copied()), expected);
            }
        }
    }
}
