//! How attempts end, and what follows.

use std::time::Duration;

use perennial::{
    Config, ProviderKind, ProviderMode, ResumePipeline, ResumePipelineError, Runtime,
    StartPipeline, Store,
    engine::{AttemptCx, Outcome},
    records::{AttemptEnd, FailureClass, JobState, RerunWhy, RunError},
    tools::llm::ChatRequest,
};
use serde_json::json;
use tokio::sync::watch;

use crate::{
    gate::{Gate, Keeper, SOON},
    one_job::OneJob,
};

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

/// Proves R3.8.
#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_kept_fails_its_step_and_not_the_run_s_actor() {
    let runtime = runtime().await;
    let huge = |_| async { Outcome::Succeeded(json!("x".repeat(80 << 20))) };
    let outcome = OneJob::start(&runtime, huge).await.outcome().await.unwrap();
    assert_eq!(outcome.state.status(), "failed");
    let [attempt] = &outcome.view.attempts[..] else { panic!("{:?}", outcome.view.attempts) };
    assert_eq!(attempt.class, Some(FailureClass::Limit));
    assert!(attempt.message.as_deref().unwrap().contains("at most"), "{attempt:?}");
    runtime.shutdown().await;
}

/// Makes a call and then waits for ever, unless the reply was recorded before.
async fn calls_then_hangs(cx: AttemptCx, calls: watch::Sender<usize>) -> Outcome {
    let answer = async {
        calls.send_modify(|calls| *calls += 1);
        Ok(json!("paid"))
    };
    match cx.call(ChatRequest::ask("m", "question", 1).digest(), |_key| answer).await {
        Ok(replied) if replied.replayed => Outcome::Succeeded(replied.value),
        Ok(_) => std::future::pending().await,
        Err(failure) => Outcome::Failed(failure),
    }
}

/// The reply is in the store, and its attempt dies before the step is.
#[tokio::test(start_paused = true)]
async fn a_recorded_reply_is_never_paid_again() {
    let runtime = runtime().await;
    let calls = watch::Sender::new(0);
    let counted = calls.clone();
    let run = OneJob::start(&runtime, move |cx| calls_then_hangs(cx, counted.clone())).await;
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
    let panics = |_| async { panic!("a bug in a step") };
    let outcome = OneJob::start(&runtime, panics).await.outcome().await.unwrap();
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

/// Proves B20, I4.
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
    let start = document(steps).within(Duration::from_millis(2_300));
    let outcome = runtime.pipelines().start(start).await.unwrap().outcome().await.unwrap();
    assert_eq!(outcome.state(), perennial::RunState::TimedOut);
    let took = outcome.view.run.finished_at.unwrap().since(outcome.view.run.created_at);
    // Not at the next look, which comes every second.
    assert!((2_300..2_500).contains(&took.as_millis()), "{took:?}");
    runtime.shutdown().await;
}

/// SM-10, SM-12, INV-16.
#[tokio::test(start_paused = true)]
async fn a_paused_run_records_what_is_under_way_and_starts_nothing() {
    let (runtime, keeper) = gated().await;
    let steps = format!("{WAITS}  - {{name: b, type: echo, value: 2}}\n");
    let start = document(&steps).mode(ProviderMode::Live);
    let run = runtime.pipelines().start(start).await.unwrap();
    keeper.called(1).await;
    assert!(!run.unpause().await.unwrap(), "it is not paused");
    assert!(run.pause().await.unwrap());
    assert!(!run.pause().await.unwrap(), "it is paused already");
    let mut events = run.events();
    keeper.open();
    while events.next().await.unwrap().kind != "job_succeeded" {}
    // The actor of the run is asked behind what follows from that; a restart of it changes nothing.
    assert!(!run.pause().await.unwrap());
    let actor = format!("/perennial/runs/{}", run.id());
    runtime.supervision_tree().crash(&actor).unwrap().exit().await;
    assert!(!run.pause().await.unwrap());
    let view = run.view().await.unwrap();
    assert_eq!((view.run.state, view.attempts.len()), (perennial::RunState::Paused, 1));
    assert_eq!(
        view.jobs.iter().map(|job| job.state).collect::<Vec<_>>(),
        [JobState::Succeeded, JobState::Ready]
    );

    assert!(run.unpause().await.unwrap());
    let outcome = run.outcome().await.unwrap();
    assert_eq!((outcome.status(), outcome.result("b")), ("completed", Some(&json!(2))));
    assert!(matches!(run.pause().await, Err(RunError::Ended { .. })));
    assert!(!run.cancel().await.unwrap());
    runtime.shutdown().await;
}

/// C-197, YR-85: what is under way ends, nothing is left of it, and the run can be resumed, in the same
/// process as well.
#[tokio::test(start_paused = true)]
async fn a_cancelled_run_stops_its_attempt_and_may_be_resumed() {
    let (runtime, keeper) = gated().await;
    let start = document(WAITS).mode(ProviderMode::Live);
    let run = runtime.pipelines().start(start).await.unwrap();
    keeper.called(1).await;
    assert!(run.cancel().await.unwrap());
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.status(), "cancelled");
    assert_eq!(outcome.view.attempts[0].end, Some(AttemptEnd::Cancelled));
    assert!(outcome.view.run.owner_alive, "by this process");
    let resumed = runtime.pipelines().resume(run.id()).await.unwrap();
    let why = resumed.resumed().unwrap().steps[0].fate.why().cloned();
    assert_eq!(why, Some(RerunWhy::Unfinished));
    keeper.called(2).await;
    let taken = runtime.pipelines().resume(run.id()).await.unwrap();
    assert!(taken.resumed().is_none(), "it is under way already");
    keeper.open();
    let outcome = resumed.outcome().await.unwrap();
    assert_eq!((outcome.status(), keeper.calls()), ("completed", 2));
    let ends: Vec<_> = outcome.view.attempts.iter().map(|attempt| attempt.end).collect();
    assert_eq!(ends, [Some(AttemptEnd::Cancelled), Some(AttemptEnd::Succeeded)]);
    let again = runtime.pipelines().resume(run.id()).await;
    assert!(matches!(again, Err(ResumePipelineError::Run(RunError::Ended { .. }))), "{again:?}");
    runtime.shutdown().await;
}

/// YR-53, YR-54: a child whose steps run again gets its time again, and keeps what it completed.
#[tokio::test(start_paused = true)]
async fn a_child_goes_on_by_a_corrected_document() {
    let runtime = runtime().await;
    let text = |delay: u32| {
        format!(
            "  - name: n\n    type: pipeline\n    timeout_seconds: 1\n    pipeline:\n      name: k\n      \
             steps:\n      - {{name: x, type: echo, value: 1}}\n      \
             - {{name: y, type: echo, value: 2, delay_ms: {delay}}}\n"
        )
    };
    let run = runtime.pipelines().start(document(&text(3_000))).await.unwrap();
    assert_eq!(run.outcome().await.unwrap().status(), "failed");
    let corrected = ResumePipeline::run(run.id().clone()).as_start(&document(&text(5)));
    let resumed = runtime.pipelines().resume_with(corrected).await.unwrap();
    let fates: Vec<String> =
        resumed.resumed().unwrap().steps.iter().map(|step| step.fate.to_string()).collect();
    assert_eq!(fates, ["rerun (it failed)", "reused", "rerun (it changed)"]);
    let outcome = resumed.outcome().await.unwrap();
    assert_eq!(outcome.status(), "completed", "{:#?}", outcome.view);
    let made = |key: &str| {
        let job = outcome.view.jobs.iter().find(|job| job.key.as_str() == key).unwrap();
        job.attempt
    };
    assert_eq!([made("n"), made("#n"), made("n/x"), made("n/y")], [2, 2, 1, 2]);
    runtime.shutdown().await;
}

/// Proves TRAP-7.
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
