//! How attempts end, and what follows.

use std::{sync::Arc, time::Duration};

use perennial::{
    Config, ProviderKind, ProviderMode, Runtime, StartPipeline, Store,
    engine::{
        AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, Outcome, StartRun, Workflow,
        workflow::BoxFuture,
    },
    records::{AttemptEnd, Failure, FailureClass},
};
use serde_json::json;

use tokio::sync::watch;

use crate::gate::{Gate, Keeper, SOON};

pub(crate) async fn runtime() -> Runtime {
    Runtime::builder().store(Store::memory()).start().await.unwrap()
}

async fn gated() -> (Runtime, Keeper) {
    let (gate, keeper) = Gate::new();
    let runtime = Runtime::builder()
        .store(Store::memory())
        .config(Config::default().anthropic_model("gated"))
        .provider(ProviderKind::Claude, gate)
        .start()
        .await
        .unwrap();
    (runtime, keeper)
}

fn document(steps: &str) -> StartPipeline {
    let text = format!("workflow:\n  name: w\n  steps:\n{steps}");
    StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock)
}

const WAITS: &str = "  - {name: a, type: claude, prompt: [{type: static, content: wait}]}\n";

/// One job whose code panics.
#[derive(Debug)]
struct Panics(Definition);

impl Workflow for Panics {
    fn name(&self) -> &str {
        "panics"
    }

    fn definition(&self) -> &Definition {
        &self.0
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        if !done.is_empty() {
            return Next::Seal;
        }
        Next::Jobs(vec![JobPlan {
            key: perennial::engine::workflow::JobKey::new("a"),
            retry: perennial::engine::workflow::RetryPolicy::PROVIDER,
            attempt_within: Duration::from_secs(9),
        }])
    }

    fn on_failure(
        &self,
        _: &perennial::engine::workflow::JobKey,
        failure: &Failure,
        _: u32,
    ) -> FailureMeans {
        FailureMeans::FailRun { record: json!(failure.message) }
    }

    fn execute(self: Arc<Self>, _: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async { panic!("a bug in a step") })
    }
}

/// One job that makes a call and then waits for ever, unless its reply was recorded before.
#[derive(Debug)]
struct CallsThenHangs {
    definition: Definition,
    calls: watch::Sender<usize>,
}

impl Workflow for CallsThenHangs {
    fn name(&self) -> &str {
        "calls"
    }

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        Panics(self.definition.clone()).next(done)
    }

    fn on_failure(
        &self,
        _: &perennial::engine::workflow::JobKey,
        failure: &Failure,
        _: u32,
    ) -> FailureMeans {
        FailureMeans::FailRun { record: json!(failure.message) }
    }

    fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            let answer = async {
                self.calls.send_modify(|calls| *calls += 1);
                Ok(json!("paid"))
            };
            let replied = match cx.call(self.definition.digest, |_key| answer).await {
                Ok(replied) => replied,
                Err(failure) => return Outcome::Failed(failure),
            };
            if !replied.replayed {
                std::future::pending::<()>().await;
            }
            Outcome::Succeeded(replied.value)
        })
    }
}

/// One job whose record is larger than what a store keeps.
#[derive(Debug)]
struct Huge(Definition);

impl Workflow for Huge {
    fn name(&self) -> &str {
        "huge"
    }

    fn definition(&self) -> &Definition {
        &self.0
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        Panics(self.0.clone()).next(done)
    }

    fn on_failure(
        &self,
        _: &perennial::engine::workflow::JobKey,
        failure: &Failure,
        _: u32,
    ) -> FailureMeans {
        FailureMeans::FailRun { record: json!(failure.message) }
    }

    fn execute(self: Arc<Self>, _: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async { Outcome::Succeeded(json!("x".repeat(80 << 20))) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_kept_fails_its_step_and_not_the_run_s_actor() {
    let runtime = runtime().await;
    let workflow = Arc::new(Huge(Definition::new(b"huge".to_vec())));
    let start = StartRun { run: None, workflow, settings: json!({}), within: None };
    let outcome = runtime.runs().start(start).await.unwrap().outcome().await.unwrap();
    assert_eq!(outcome.state.status(), "failed");
    let [attempt] = &outcome.view.attempts[..] else { panic!("{:?}", outcome.view.attempts) };
    assert_eq!(attempt.class, Some(FailureClass::Limit));
    assert!(attempt.message.as_deref().unwrap().contains("at most"), "{attempt:?}");
    runtime.shutdown().await;
}

/// The reply is in the store, and its attempt dies before the step is.
#[tokio::test(start_paused = true)]
async fn a_recorded_reply_is_never_paid_again() {
    let runtime = runtime().await;
    let calls = watch::Sender::new(0);
    let definition = Definition::new(b"calls".to_vec());
    let workflow = Arc::new(CallsThenHangs { definition, calls: calls.clone() });
    let start = StartRun { run: None, workflow, settings: json!({}), within: None };
    let run = runtime.runs().start(start).await.unwrap();
    let mut events = run.events(1);
    while events.next().await.unwrap().kind != "checkpoint_written" {}
    let task = format!("/perennial/tasks/{}:a#1", run.id());
    runtime.supervision_tree().kill(&task).unwrap().exit().await;
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.state.status(), "completed");
    assert_eq!(outcome.view.jobs[0].result, Some(json!("paid")));
    assert_eq!(*calls.borrow(), 1, "the second attempt took the recorded reply");
    let ends: Vec<_> =
        outcome.view.attempts.iter().map(|a| (a.end.unwrap(), a.uncertain)).collect();
    assert_eq!(ends, [(AttemptEnd::Released, false), (AttemptEnd::Succeeded, false)]);
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_attempt_is_a_bug_of_its_step_and_not_repeated() {
    let runtime = runtime().await;
    let workflow = Arc::new(Panics(Definition::new(b"panics".to_vec())));
    let start = StartRun { run: None, workflow, settings: json!({}), within: None };
    let outcome = runtime.runs().start(start).await.unwrap().outcome().await.unwrap();
    assert_eq!(outcome.state.status(), "failed");
    let [attempt] = &outcome.view.attempts[..] else { panic!("{:?}", outcome.view.attempts) };
    assert_eq!((attempt.class, attempt.end), (Some(FailureClass::Panic), Some(AttemptEnd::Error)));
    assert_eq!(attempt.code.as_deref(), Some("PL615"));
    let message = attempt.message.as_deref().unwrap();
    assert!(message.contains("a bug in a step") && message.contains("attempts.rs"), "{message}");
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_killed_is_given_back_and_shown_as_uncertain() {
    let (runtime, keeper) = gated().await;
    let start = document(WAITS).mode(ProviderMode::Live);
    let run = runtime.pipelines().start(start).await.unwrap();
    keeper.called(1).await;
    let task = format!("/perennial/tasks/{}:a#1", run.id());
    runtime.supervision_tree().kill(&task).unwrap().exit().await;
    keeper.called(2).await;
    keeper.open();
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.status(), "completed");
    let ends: Vec<_> =
        outcome.view.attempts.iter().map(|a| (a.end.unwrap(), a.uncertain)).collect();
    assert_eq!(ends, [(AttemptEnd::Released, true), (AttemptEnd::Succeeded, false)]);
    assert_eq!(outcome.view.jobs[0].attempts_used, 1, "a release uses no budget");
    assert_eq!((outcome.uncertain_attempts(), keeper.calls()), (1, 2));
    let drain = runtime.shutdown().await.drain.unwrap();
    assert_eq!((drain.finished, drain.released, drain.cut), (0, 0, 0), "nothing is left over");
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_may_pass_is_tried_again_after_a_durable_pause() {
    let runtime = runtime().await;
    let busy = json!({"error": {"class": "overloaded", "message": "busy"}});
    let mocks = json!({"rules": [{"step": "a", "reply": [busy, busy, "at last"]}]});
    let steps = "  - {name: a, type: claude, prompt: [{type: static, content: hi}]}\n";
    let run = runtime.pipelines().start(document(steps).mocks(mocks)).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.status(), "completed");
    assert_eq!(outcome.result("a").unwrap()["text"], "at last");
    let ends: Vec<_> = outcome.view.attempts.iter().map(|attempt| attempt.end.unwrap()).collect();
    assert_eq!(ends, [AttemptEnd::Error, AttemptEnd::Error, AttemptEnd::Succeeded]);
    assert!(outcome.view.attempts.iter().all(|attempt| !attempt.uncertain), "each was answered");
    let began = |place: usize| outcome.view.attempts[place].claimed_at;
    let ended = |place: usize| outcome.view.attempts[place].ended_at.unwrap();
    assert!(began(1).since(ended(0)) <= Duration::from_millis(500));
    assert!(began(2).since(ended(1)) <= Duration::from_millis(1_000));
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_at_its_deadline() {
    let runtime = runtime().await;
    let steps = "  - {name: a, type: echo, value: 1, delay_ms: 60000, timeout_seconds: 2}\n";
    let outcome =
        runtime.pipelines().start(document(steps)).await.unwrap().outcome().await.unwrap();
    assert_eq!(outcome.status(), "failed");
    let [attempt] = &outcome.view.attempts[..] else { panic!("{:?}", outcome.view.attempts) };
    assert_eq!(attempt.end, Some(AttemptEnd::TimedOut));
    assert_eq!(attempt.ended_at.unwrap().since(attempt.claimed_at).as_secs(), 2);
    let message = attempt.message.as_deref().unwrap();
    assert!(message.contains("timeout") && message.contains("2000"), "{message}");
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_at_its_deadline_whatever_its_steps_do() {
    let runtime = runtime().await;
    let steps = "  - {name: a, type: echo, value: 1, delay_ms: 60000}\n";
    let start = document(steps).within(Duration::from_secs(5));
    let outcome = runtime.pipelines().start(start).await.unwrap().outcome().await.unwrap();
    assert_eq!(outcome.state(), perennial::RunState::TimedOut);
    let took = outcome.view.run.finished_at.unwrap().since(outcome.view.run.created_at);
    assert!((5..=7).contains(&took.as_secs()), "{took:?}");
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_stops_its_attempt_and_stays_cancelled() {
    let (runtime, keeper) = gated().await;
    let start = document(WAITS).mode(ProviderMode::Live);
    let run = runtime.pipelines().start(start).await.unwrap();
    keeper.called(1).await;
    assert!(run.cancel().await.unwrap());
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.status(), "cancelled");
    assert_eq!(outcome.view.attempts[0].end, Some(AttemptEnd::Cancelled));
    assert!(runtime.pipelines().resume(run.id()).await.is_err(), "it has ended");
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn starting_twice_with_one_id_is_one_run_and_other_inputs_are_refused() {
    let runtime = runtime().await;
    let steps = "  - {name: a, type: echo, value: \"{{ inputs.x }}\"}\n";
    let id = perennial::RunId::parse("mine").unwrap();
    let start = |x: u32| document(steps).input("x", x).run_id(id.clone());
    let first = runtime.pipelines().start(start(1)).await.unwrap();
    assert_eq!(first.outcome().await.unwrap().result("a"), Some(&json!(1)));
    let again = runtime.pipelines().start(start(1)).await.unwrap();
    assert_eq!(again.outcome().await.unwrap().view, first.view().await.unwrap());
    let refused = runtime.pipelines().start(start(2)).await.unwrap_err();
    assert!(refused.to_string().contains("in use"), "{refused}");
    assert_eq!(runtime.runs().list(9).await.unwrap().len(), 1);
    runtime.shutdown().await;
}
