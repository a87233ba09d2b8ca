//! Handlers: what follows when a step that has one failed for good (4.4).
//!
//! The step's own job ends with the failed record; its retries, and the rounds of its child, are then
//! used up. The handler is opened, its steps are gone through, and the job that closes it says what became of
//! the step: a failure that was handled, or the failure as it was, with that of the handler beside it.
//! A limit of a scope around the step ends that scope: no handler answers it.

use perennial_core::{
    FailureClass,
    failure::Failure,
    run::{JobState, StepPath},
};
use perennial_engine::{AttemptCx, DoneJob, FailureMeans, Outcome};
use serde_json::{Value, json};

use super::{
    record::{self, limit_of},
    scope::value_of,
    tree::{Done, Frame},
};
use crate::definition::Step;

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Standing<'a> {
    /// Its own job is not done.
    Due,
    /// It failed, and its handler has still to run or to be closed.
    Failed(&'a DoneJob),
    /// This became of it.
    Over(&'a DoneJob),
}

/// A handler that has come to its end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Closing<'a> {
    /// What the step left when it failed.
    pub(super) failed: &'a DoneJob,
    pub(super) how: Handled<'a>,
}

/// How a handler came to its end.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Handled<'a> {
    /// All its steps are done; the last value of it.
    Through(Value),
    /// This job of it failed for good.
    Failed(&'a DoneJob),
}

/// Where `step` stands, whose jobs are at `path`.
pub(super) fn standing<'a>(step: &Step, path: &StepPath, done: &Done<'a>) -> Standing<'a> {
    let Some(own) = done.get(&path.key()) else { return Standing::Due };
    if step.handler.is_none() || !is_to_be_handled(own) {
        return Standing::Over(own);
    }
    done.get(&path.handler().key()).map_or(Standing::Failed(own), Standing::Over)
}

/// Whether the end of a step is one that its handler is for: a failure of its own.
fn is_to_be_handled(own: &DoneJob) -> bool {
    match own.state {
        JobState::Partial | JobState::Failed => limit_of(&own.result).is_none(),
        JobState::Succeeded
        | JobState::Skipped
        | JobState::Cancelled
        | JobState::Blocked
        | JobState::Ready
        | JobState::Leased
        | JobState::Deferred
        | JobState::Suspended
        | JobState::Joining => false,
    }
}

/// Whether `job`, which tells what became of `step`, closed a handler that was gone through.
pub(super) fn is_handled(step: &Step, job: &DoneJob) -> bool {
    step.handler.is_some() && job.state == JobState::Partial && job.result.get(HANDLED).is_some()
}

/// The field of a failed record with the last value of the handler.
const HANDLED: &str = "handled";
/// The field of an error with those that came of it.
const RELATED: &str = "related";

impl<'a> Frame<'a> {
    /// The value of the last step that ran; nothing when all were skipped.
    pub(super) fn last_value(&self, done: &Done<'a>) -> Value {
        let ended = self.steps.iter().filter_map(|step| Some((step, self.find(step, done)?)));
        let mut ran = ended.filter(|(_, job)| job.state != JobState::Skipped);
        ran.next_back().map_or(Value::Null, |(step, job)| value_of(step, job).clone())
    }
}

/// What the job that opens a handler leaves.
pub(super) fn opened(cx: &AttemptCx) -> Outcome {
    Outcome::Succeeded(json!({ "opened_at": cx.now }))
}

impl Closing<'_> {
    /// The failure of the step, as the job that closes its handler tells it.
    pub(super) fn failure(&self) -> Failure {
        let error = &self.failed.result["error"];
        let text = |key: &str| error[key].as_str();
        let class = text("class").and_then(FailureClass::from_name);
        let mut failure = Failure::new(
            class.unwrap_or(FailureClass::Internal),
            text("code").unwrap_or("PL699"),
            text("message").unwrap_or("it failed without saying why"),
        );
        if let Handled::Failed(job) = &self.how {
            failure.detail = json!({ "cause": error["cause"], RELATED: [job.result["error"]] });
        }
        failure
    }

    /// What became of the step: it is tolerated when its handler went through, or when it stands `inside`
    /// a scope, whose end then says what follows.
    pub(super) fn meaning(&self, inside: bool) -> FailureMeans {
        let mut record = self.failed.result.clone();
        match &self.how {
            Handled::Through(value) => {
                record[HANDLED] = value.clone();
                FailureMeans::Tolerate { record }
            }
            Handled::Failed(job) => {
                record["error"][RELATED] = json!([job.result["error"]]);
                if inside {
                    FailureMeans::Tolerate { record }
                } else {
                    FailureMeans::FailRun { record }
                }
            }
        }
    }
}

/// The failed record of a step with a handler, which may ask in which attempt it failed.
pub(super) fn record_to_handle(mut record: Value, attempt: u32) -> Value {
    record["error"][record::ATTEMPT] = attempt.into();
    record
}

/// What the root `error` is in a handler that was opened `at` this instant.
pub(super) fn error(failed: &DoneJob, at: &str) -> Value {
    let mut error = failed.result["error"].clone();
    error["at"] = at.into();
    error
}

#[cfg(test)]
mod tests {
    use perennial_core::run::JobKey;

    use super::*;
    use crate::{Pipeline, run::tree};

    const STATES: [JobState; 8] = [
        JobState::Blocked,
        JobState::Ready,
        JobState::Leased,
        JobState::Succeeded,
        JobState::Partial,
        JobState::Skipped,
        JobState::Failed,
        JobState::Cancelled,
    ];

    /// The step `s`, with a handler when `keys` has one.
    fn step(keys: &str) -> Step {
        let text = format!("workflow: {{name: w, steps: [{{name: s, type: echo{keys}}}]}}");
        Pipeline::check("w.yaml", text.as_bytes()).pipeline.unwrap().model.steps.remove(0)
    }

    fn job(key: &str, state: JobState, result: Value) -> DoneJob {
        DoneJob { key: JobKey::new(key), state, result }
    }

    /// Every state of the step's own job, with and without a handler, a limit, and the job that closes the handler.
    #[test]
    fn a_handler_is_for_failures_of_the_step_itself_and_what_closes_it_has_the_last_word() {
        let path = StepPath::root().step("s");
        let handled = step(", on_error: [{name: h, type: echo}]");
        for (step, has_handler) in [(step(""), false), (handled, true)] {
            assert_eq!(standing(&step, &path, &tree::index(&[])), Standing::Due);
            for (own, limit) in STATES.into_iter().flat_map(|own| [(own, false), (own, true)]) {
                let error = if limit { json!({"limit_of": "n"}) } else { json!({}) };
                let own = job("s", own, json!({ "error": error }));
                let for_it = matches!(own.state, JobState::Partial | JobState::Failed);
                let is_handled = has_handler && for_it && !limit;
                let open = [own.clone()];
                let expected =
                    if is_handled { Standing::Failed(&open[0]) } else { Standing::Over(&open[0]) };
                assert_eq!(standing(&step, &path, &tree::index(&open)), expected);
                for closing in STATES {
                    let closed = [own.clone(), job("s[error]", closing, Value::Null)];
                    let expected = Standing::Over(&closed[usize::from(is_handled)]);
                    assert_eq!(standing(&step, &path, &tree::index(&closed)), expected);
                }
            }
        }
    }

    /// Every way a handler can end, at the top and inside a scope.
    #[test]
    fn a_failure_is_tolerated_when_it_was_handled_or_when_the_scope_around_it_decides() {
        let step = step(", on_error: [{name: h, type: echo}]");
        let record = json!({"error": {"class": "timeout", "code": "PL701", "message": "late"}});
        let failed = job("s", JobState::Partial, record);
        let worse = job("s[error]/h", JobState::Partial, json!({"error": {"message": "worse"}}));
        let ways =
            [Handled::Through(Value::Null), Handled::Through(json!(1)), Handled::Failed(&worse)];
        for (how, inside) in ways.into_iter().flat_map(|how| [(how.clone(), false), (how, true)]) {
            let through = matches!(how, Handled::Through(_));
            let closing = Closing { failed: &failed, how };
            let failure = closing.failure();
            let told = (failure.class, failure.code.as_str(), failure.message.as_str());
            assert_eq!(told, (FailureClass::Timeout, "PL701", "late"));
            let (goes_on, record) = match closing.meaning(inside) {
                FailureMeans::Tolerate { record } => (true, record),
                FailureMeans::FailRun { record } | FailureMeans::FailJob { record } => {
                    (false, record)
                }
            };
            assert_eq!(goes_on, through || inside);
            assert_eq!(record["error"]["message"], "late");
            assert_eq!(record["error"][RELATED].is_array(), !through);
            for state in STATES {
                let closed = job("s[error]", state, record.clone());
                let expected = through && state == JobState::Partial;
                assert_eq!(is_handled(&step, &closed), expected, "{state}");
            }
        }
    }
}
