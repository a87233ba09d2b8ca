//! What an attempt may do while it works: save, say how far it is; and how long it may take.

use std::time::Duration;

use perennial::{
    Runtime, Store,
    engine::{
        AttemptCx, Explanation, JobPlan, Outcome,
        workflow::{JobKey, RetryPolicy},
    },
    records::{AttemptEnd, Failure, FailureClass, JobState, RunError, RunHandle},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{attempts::runtime, gate::SOON, one_job::OneJob};

fn outcome(result: Result<Value, Failure>) -> Outcome {
    result.map_or_else(Outcome::Failed, Outcome::Succeeded)
}

async fn until(run: &RunHandle, kind: &str) {
    let mut events = run.events(1);
    let found = async { while events.next().await.unwrap().kind != kind {} };
    tokio::time::timeout(SOON, found).await.unwrap();
}

/// The process stays, and the attempt is killed after its checkpoint.
///
/// DUR-141.
#[tokio::test(start_paused = true)]
async fn the_next_attempt_takes_what_the_last_one_saved() {
    let runtime = runtime().await;
    let paid = watch::Sender::new(0);
    let counted = paid.clone();
    let work = async |cx: AttemptCx, paid: watch::Sender<i32>| {
        if let Some(sum) = cx.restored::<u64>("sum").await? {
            assert_eq!(cx.restored::<u64>("other").await?, None);
            return Ok(json!(sum));
        }
        paid.send_modify(|paid| *paid += 1);
        cx.checkpoint("sum", &7_u64).await?;
        std::future::pending().await
    };
    let work = move |cx: AttemptCx| {
        let paid = counted.clone();
        async move { outcome(work(cx, paid).await) }
    };
    let run = OneJob::start(&runtime, work).await;
    until(&run, "checkpoint_saved").await;
    let saved = run.view().await.unwrap().saved;
    assert_eq!((saved[0].name.as_str(), saved[0].attempt), ("sum", 1));
    let task = format!("/perennial/tasks/{}:a#1", run.id());
    runtime.supervision_tree().kill(&task).unwrap().exit().await;
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.view.jobs[0].result, Some(json!(7)));
    assert_eq!(*paid.borrow(), 1, "it is not paid again");
    assert!(outcome.view.saved.is_empty(), "nobody needs it any more");
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_saved_and_is_something_else_than_expected_is_an_error() {
    let runtime = runtime().await;
    let work = |cx: AttemptCx| async move {
        let of = async {
            cx.checkpoint_to_keep("text", "seven").await?;
            cx.restored::<u64>("text").await
        };
        let refused = of.await.unwrap_err();
        assert_eq!(refused.class, FailureClass::Internal);
        Outcome::Succeeded(json!(refused.message))
    };
    let outcome = OneJob::start(&runtime, work).await.outcome().await.unwrap();
    assert_eq!(outcome.state.name(), "succeeded");
    assert_eq!(outcome.view.saved.len(), 1, "it is to be kept");
    runtime.shutdown().await;
}

/// Proves INV-39, TRAP-1.
///
/// Its process lives and renews what it has to, and the attempt says nothing (DUR-22).
#[tokio::test(start_paused = true)]
async fn an_attempt_that_falls_silent_has_timed_out() {
    let runtime = runtime().await;
    let plan = JobPlan::new(JobKey::new("a"), RetryPolicy::ONCE, Duration::from_secs(60));
    let plan = plan.heartbeat_within(Duration::from_secs(3));
    let work = |cx: AttemptCx| async move {
        for page in 1..=4 {
            // Paused clock: far longer in all than it may say nothing.
            drop(tokio::time::timeout(Duration::from_secs(2), std::future::pending::<()>()).await);
            cx.heartbeat(json!({ "page": page })).await.unwrap();
            if page == 3 {
                std::future::pending::<()>().await;
            }
        }
        Outcome::Succeeded(Value::Null)
    };
    let run = OneJob::start_with(&runtime, plan, None, work).await.unwrap();
    until(&run, "attempt_progress").await;
    let Explanation::Leased { progress, heartbeat, until, .. } =
        run.explain(&JobKey::new("a")).await.unwrap()
    else {
        panic!("it is under way")
    };
    assert_eq!(progress.unwrap()["page"], 1);
    assert!(heartbeat.unwrap() < until.unwrap());
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    let [attempt] = &outcome.view.attempts[..] else { panic!("{:?}", outcome.view.attempts) };
    assert_eq!(
        (attempt.class, attempt.end),
        (Some(FailureClass::Timeout), Some(AttemptEnd::TimedOut))
    );
    assert!(attempt.message.as_deref().unwrap().contains("said nothing of itself for 3000 ms"));
    assert_eq!(outcome.view.beats[0].progress["page"], 3);
    let took = attempt.ended_at.unwrap().since(attempt.claimed_at);
    assert!(took >= Duration::from_secs(9) && took < Duration::from_secs(10), "{took:?}");
    runtime.shutdown().await;
}

/// Proves INV-39.
#[tokio::test(start_paused = true)]
async fn an_attempt_has_no_more_time_than_its_job_and_its_run() {
    let runtime = runtime().await;
    let hangs = |_| std::future::pending::<Outcome>();
    let plan = OneJob::plan().within(Duration::from_secs(12));
    let run = OneJob::start_with(&runtime, plan, None, hangs).await.unwrap();
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    let job = &outcome.view.jobs[0];
    assert_eq!((job.state, job.dead_letter), (JobState::Failed, true));
    let attempts = &outcome.view.attempts;
    assert_eq!(attempts.len(), 2, "there was no time for a third one");
    let whys: Vec<_> = attempts.iter().map(|attempt| attempt.message.as_deref().unwrap()).collect();
    assert!(whys[0].ends_with("the attempt took longer than 9000 ms"), "{whys:?}");
    assert!(whys[1].ends_with("all attempts of the job took longer than 12000 ms"), "{whys:?}");
    let took = attempts[1].ended_at.unwrap().since(attempts[0].claimed_at);
    assert!(took >= Duration::from_secs(12) && took < Duration::from_secs(13), "{took:?}");

    let (plan, five) = (OneJob::plan().clamped(), Duration::from_secs(5));
    let run = OneJob::start_with(&runtime, plan, Some(five), hangs).await.unwrap();
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.state.name(), "timed_out");
    let [attempt] = &outcome.view.attempts[..] else { panic!("{:?}", outcome.view.attempts) };
    let took = attempt.ended_at.unwrap().since(attempt.claimed_at);
    assert!(took >= five && took < Duration::from_secs(7), "{took:?}");
    runtime.shutdown().await;
}

/// Proves D24.
/// DUR-53.
#[tokio::test(start_paused = true)]
async fn limits_that_can_never_apply_are_refused_at_the_start() {
    let runtime = runtime().await;
    let works = |_| async { Outcome::Succeeded(Value::Null) };
    let nine = Duration::from_secs(9);
    let short = Duration::from_secs(5);
    for (plan, within, texts) in [
        (
            OneJob::plan().heartbeat_within(nine),
            None,
            ["its heartbeat may take 9s", "an attempt that it is part of 9s"],
        ),
        (
            OneJob::plan().within(short),
            None,
            ["an attempt may take 9s", "the job that it is part of 5s"],
        ),
        (OneJob::plan(), Some(short), ["an attempt may take 9s", "the run that it is part of 5s"]),
    ] {
        let refused = OneJob::start_with(&runtime, plan.clone(), within, works).await.unwrap_err();
        assert!(matches!(refused, RunError::InvertedTimeouts(_)), "{refused:?}");
        for text in texts {
            assert!(refused.to_string().contains(text), "{refused}");
        }
        let run = OneJob::start_with(&runtime, plan.clamped(), within, works).await.unwrap();
        assert_eq!(run.outcome().await.unwrap().state.name(), "succeeded");
    }
    assert_eq!(runtime.runs().list(9).await.unwrap().len(), 3, "what is refused leaves nothing");
    runtime.shutdown().await;
}

/// DUR-64: its attempt is stopped, and the run is a success in part.
#[tokio::test(start_paused = true)]
async fn a_job_that_is_under_way_is_skipped() {
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let run = OneJob::start(&runtime, |_| std::future::pending::<Outcome>()).await;
    until(&run, "attempt_started").await;
    let (job, unknown) = (JobKey::new("a"), JobKey::new("no"));
    assert!(run.skip(&unknown, "").await.unwrap_err().to_string().contains("`no`"));
    run.pause().await.unwrap();
    assert!(run.skip(&job, "nobody needs it").await.unwrap());
    assert!(!run.skip(&job, "nobody needs it").await.unwrap(), "it is so already");
    run.unpause().await.unwrap();
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.view.jobs[0].state, JobState::Skipped);
    assert_eq!(outcome.view.jobs[0].skipped.unwrap().name(), "operator");
    assert_eq!(outcome.view.attempts[0].end, Some(AttemptEnd::Cancelled));
    assert!(matches!(run.skip(&job, "").await, Err(RunError::Ended { .. })));
    runtime.shutdown().await;
}
