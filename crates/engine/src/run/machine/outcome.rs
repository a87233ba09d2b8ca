//! What comes of a stage whose jobs have all ended (4.8).

use perennial_core::{
    FailureClass,
    run::{SkipReason, StageOutcome},
};
use serde_json::{Value, json};

/// How a job that ended counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// It succeeded, or what failed in it was made good.
    Done,
    /// It ended with a failure that is tolerated.
    InPart,
    /// It was not to be done. For a document that is a success as any other (YR-25).
    Neutral,
    /// It was to be done, and was not.
    Missing,
}

impl Counts {
    pub(super) fn skipped(why: SkipReason) -> Self {
        if why.degrades() { Self::Missing } else { Self::Neutral }
    }
}

/// The outcome of a stage in which no job failed for good. Where there is no success of any kind it is as if the
/// stage had not been.
pub(super) fn stage_outcome(jobs: impl IntoIterator<Item = Counts>) -> StageOutcome {
    let (mut is_something_done, mut is_whole) = (false, true);
    for job in jobs {
        match job {
            Counts::Done | Counts::Neutral => is_something_done = true,
            Counts::InPart => (is_something_done, is_whole) = (true, false),
            Counts::Missing => is_whole = false,
        }
    }
    match (is_something_done, is_whole) {
        (false, _) => StageOutcome::Skipped,
        (true, false) => StageOutcome::Partial,
        (true, true) => StageOutcome::Succeeded,
    }
}

/// What is recorded of a run in which nothing was done at all.
pub(super) fn nothing_done() -> Value {
    json!({
        "cause": "failure",
        "class": FailureClass::Permanent,
        "code": "PL699",
        "message": "nothing of the run was done: each of its steps was skipped, or it had none",
    })
}

#[cfg(test)]
mod tests {
    use perennial_core::run::{RunState, run_outcome};

    use super::*;

    /// Proves INV-40.
    /// All counts from none to three of each kind: what comes of them is a function of the counts alone, and without
    /// a success there is none.
    #[test]
    fn without_a_success_there_is_none() {
        const KINDS: [Counts; 4] = [Counts::Done, Counts::InPart, Counts::Neutral, Counts::Missing];
        for number in 0..4_usize.pow(4) {
            let counts = [number % 4, number / 4 % 4, number / 16 % 4, number / 64];
            let mut jobs: Vec<Counts> = Vec::new();
            for (kind, count) in KINDS.into_iter().zip(counts) {
                jobs.extend(std::iter::repeat_n(kind, count));
            }
            let [done, in_part, neutral, missing] = counts;
            let expected = match (done + in_part + neutral, in_part + missing) {
                (0, _) => RunState::Failed,
                (_, 0) => RunState::Succeeded,
                (_, _) => RunState::PartiallySucceeded,
            };
            for order in 0..2 {
                let outcome = stage_outcome(jobs.iter().copied());
                assert_eq!(run_outcome([outcome]), expected, "{order}: {jobs:?}");
                jobs.reverse();
            }
        }
    }
}
