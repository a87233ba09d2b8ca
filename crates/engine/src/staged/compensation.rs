//! What undoes the completed jobs of a stage when their run does not end well (SM-14).

use perennial_core::{failure::Failure, retry::RetryPolicy, run::JobKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Activity, Stage};

/// The stage whose jobs undo those of the others: a plan that declares compensations has no stage of its own of that name.
pub(crate) const COMPENSATION: &str = "compensation";

/// What an activity is given that undoes a completed job: `I` is what that job was given, `O` what it gave.
///
/// ```
/// use perennial::engine::{AttemptCx, staged::{Activity, ActivityError, Ended, Undo}};
///
/// #[derive(Debug)]
/// struct Refund;
///
/// impl Activity for Refund {
///     const NAME: &'static str = "refund";
///     type In = Undo<u64, String>; // the amount, and the receipt
///     type Out = String;
///
///     async fn run(&self, cx: &AttemptCx, undo: Self::In) -> Result<Ended<String>, ActivityError> {
///         // The bank knows a repeated refund by this key.
///         let key = &cx.idempotency_key;
///         Ok(Ended::Done(format!("{} back for {} because {:?} ({key})", undo.input, undo.result, undo.reason)))
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Undo<I = Value, O = Value> {
    /// The stage of the job that is undone.
    pub stage: String,
    /// Its key in that stage.
    pub key: String,
    /// What it was given.
    pub input: I,
    /// What it gave.
    pub result: O,
    /// Why it is undone.
    pub reason: UndoReason,
}

/// What an activity is given that undoes jobs: an [`Undo`], of whatever was given and came of them. [`Stage::compensate`] takes no
/// other activity.
///
/// ```
/// use perennial::engine::staged::{Undo, UndoInput};
///
/// fn is_for_undoing<T: UndoInput>() {}
///
/// is_for_undoing::<Undo>();
/// is_for_undoing::<Undo<u64, String>>();
/// ```
#[diagnostic::on_unimplemented(
    message = "an activity that undoes jobs is given an `Undo`, and this one a `{Self}`",
    label = "this activity is given a `{Self}`",
    note = "its input is `type In = Undo<I, O>`: `I` is what the job was given that it undoes, `O` what that gave"
)]
pub trait UndoInput: sealed::Sealed {}

impl<I, O> UndoInput for Undo<I, O> {}

mod sealed {
    /// Only what the engine gives is one.
    pub trait Sealed {}

    impl<I, O> Sealed for super::Undo<I, O> {}
}

/// Why what a run has done is undone.
///
/// ```
/// use perennial::engine::staged::UndoReason;
///
/// let reason: UndoReason = serde_json::from_str(r#"{"cause": "cancelled"}"#)?;
/// assert_eq!(reason, UndoReason::Cancelled);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum UndoReason {
    /// Somebody cancelled it.
    Cancelled,
    /// Its time was over.
    TimedOut,
    /// It failed of that.
    Failed {
        /// What it failed of.
        failure: Failure,
    },
}

/// The activity that undoes the jobs of a stage, and how often it is tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Undoing {
    pub(crate) activity: Option<&'static str>,
    /// Without it the engine's setting.
    pub(crate) retry: Option<RetryPolicy>,
}

impl Stage {
    /// What undoes a job of it that has succeeded, wholly or in part, when its run is cancelled, fails or runs out of time: an
    /// activity that is given an [`Undo`], once for each such job, the last that was done first, one after the other, each
    /// with attempts of its own. Until all are undone the run is [`Compensating`](perennial_core::run::RunState::Compensating)
    /// and takes nothing but signals; then it ends as it would have. All together may take as long as
    /// [`EngineSettings::compensation`](crate::EngineSettings::compensation) says, 1 h. When one fails for good the others are
    /// tried all the same, and the run ends as [`CompensationFailed`](perennial_core::run::RunState::CompensationFailed), with
    /// what it had ended of and what was not undone in its failure.
    ///
    /// A group is undone as a whole, when it has succeeded itself: its children are not undone one by one. An activity is told
    /// an [`idempotency key`](crate::AttemptCx::idempotency_key) here as well: it may be executed more than once. A run whose
    /// work was undone is not opened again.
    ///
    /// ```
    /// use perennial::engine::staged::{Feed, JobSpec, Plan, Stage};
    /// # use perennial::engine::{AttemptCx, staged::{Activity, ActivityError, Ended, Undo}};
    /// # #[derive(Debug)] struct Pay;
    /// # impl Activity for Pay {
    /// #     const NAME: &'static str = "pay";
    /// #     type In = u64;
    /// #     type Out = String;
    /// #     async fn run(&self, _: &AttemptCx, _: u64) -> Result<Ended<String>, ActivityError> { Ok(Ended::Done("receipt".into())) }
    /// # }
    /// # #[derive(Debug)] struct Refund;
    /// # impl Activity for Refund {
    /// #     const NAME: &'static str = "refund";
    /// #     type In = Undo<u64, String>;
    /// #     type Out = ();
    /// #     async fn run(&self, _: &AttemptCx, _: Undo<u64, String>) -> Result<Ended<()>, ActivityError> { Ok(Ended::Done(())) }
    /// # }
    /// let paid = Stage::activity::<Pay>("paid").feed(Feed::jobs([JobSpec::new("shop", &12)])).compensate::<Refund>();
    /// assert!(Plan::new().stage(paid).problems().is_empty());
    /// ```
    ///
    /// An activity with another input is none that undoes anything:
    ///
    /// ```compile_fail,E0277
    /// use perennial::engine::staged::Stage;
    /// # use perennial::engine::{AttemptCx, staged::{Activity, ActivityError, Ended}};
    /// # #[derive(Debug)] struct Pay;
    /// # impl Activity for Pay {
    /// #     const NAME: &'static str = "pay";
    /// #     type In = u64;
    /// #     type Out = String;
    /// #     async fn run(&self, _: &AttemptCx, _: u64) -> Result<Ended<String>, ActivityError> { Ok(Ended::Done("receipt".into())) }
    /// # }
    /// let paid = Stage::activity::<Pay>("paid").compensate::<Pay>(); // its input is the sum
    /// ```
    ///
    /// What the [`Undo`] has of the job is read when it is undone: where it is not of these types the compensation fails, as any other
    /// activity would that cannot read its input.
    #[must_use]
    pub fn compensate<A: Activity<In: UndoInput>>(mut self) -> Self {
        self.undoing.activity = Some(A::NAME);
        self
    }

    /// How often a compensation of it is tried; as [`EngineSettings::retry`](crate::EngineSettings::retry) says, 3 times, with
    /// growing pauses.
    ///
    /// ```
    /// use perennial::engine::{staged::{Plan, Stage}, workflow::RetryPolicy};
    /// # use perennial::engine::{AttemptCx, staged::{Activity, ActivityError, Ended, Feed, JobSpec, Undo}};
    /// # #[derive(Debug)] struct Pay;
    /// # impl Activity for Pay {
    /// #     const NAME: &'static str = "pay";
    /// #     type In = u64;
    /// #     type Out = u64;
    /// #     async fn run(&self, _: &AttemptCx, sum: u64) -> Result<Ended<u64>, ActivityError> { Ok(Ended::Done(sum)) }
    /// # }
    /// # let paid = || Stage::activity::<Pay>("paid").feed(Feed::jobs([JobSpec::new("shop", &12)]));
    /// let once = paid().compensation_retry(RetryPolicy::ONCE);
    /// assert!(!Plan::new().stage(once).problems().is_empty()); // nothing is declared that could be tried
    /// ```
    #[must_use]
    pub fn compensation_retry(mut self, policy: RetryPolicy) -> Self {
        self.undoing.retry = Some(policy);
        self
    }
}

/// The key of the job that undoes `job`, which no other job of the run has.
pub(crate) fn undoing_key(job: &JobKey) -> JobKey {
    JobKey::new(format!("{COMPENSATION}/{job}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_told_of_a_job_is_read_as_its_types() {
        let told = json!({
            "stage": "paid", "key": "shop", "input": 12, "result": "receipt",
            "reason": { "cause": "failed", "failure": Failure::new(perennial_core::FailureClass::Permanent, "APP1", "no") },
        });
        let undo: Undo<u64, String> = serde_json::from_value(told.clone()).unwrap();
        assert_eq!((undo.input, undo.result.as_str(), undo.key.as_str()), (12, "receipt", "shop"));
        assert!(matches!(&undo.reason, UndoReason::Failed { failure } if failure.code == "APP1"));
        assert_eq!(serde_json::to_value(&undo).unwrap(), told);
        assert_eq!(undoing_key(&JobKey::new("paid/shop")).as_str(), "compensation/paid/shop");
    }
}
