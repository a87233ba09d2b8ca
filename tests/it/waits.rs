//! Runs that wait for something outside of them: what is not available, signals, answers, instants.

use std::{path::Path, time::Duration};

use perennial::{
    Adoption, Limits, RunId, RunState, Runtime, Store, StoreError, WaitsFor, WaitsWhy,
    engine::{
        AfterWait, AttemptCx, Outcome, RunHandle, Unavailable, Wait, WaitDefault, WaitEnded,
        workflow::BoxFuture,
    },
    records::{AttemptEnd, JobState, RunError},
};
use serde_json::{Value, json};

use crate::{attempts::runtime, gate::SOON, one_job::OneJob};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The service is down for the first `minutes` of the run.
async fn down(cx: AttemptCx, minutes: u32, then: AfterWait) -> Outcome {
    if cx.now.since(cx.run_started_at) < MINUTE * minutes {
        return Outcome::Unavailable(Unavailable::new("the printer").then(then));
    }
    Outcome::Succeeded(json!(cx.attempt))
}

/// Asks once, and gives what ended the wait.
async fn asks(cx: AttemptCx, within: Duration, or: WaitDefault) -> Outcome {
    match cx.resumed() {
        Some(resumed) => {
            let by = resumed.by.clone();
            Outcome::Succeeded(json!({ "how": resumed.how, "by": by, "value": resumed.value }))
        }
        None => Outcome::Suspend(Wait::Answer {
            name: "agree?".to_owned(),
            question: json!("Shall it be sent?"),
            until: cx.now.after(within),
            or,
        }),
    }
}

/// Waits for the signal `go`.
async fn awaits(cx: AttemptCx) -> Outcome {
    match cx.resumed_with::<Value>().unwrap() {
        Some(value) => Outcome::Succeeded(value),
        None => {
            let until = cx.now.after(DAY * 7);
            Outcome::Suspend(Wait::Signal { name: "go".to_owned(), until, or: WaitDefault::Skip })
        }
    }
}

/// What it waits for, once it waits for that.
async fn waits(run: &RunHandle, why: WaitsWhy) -> WaitsFor {
    let mut events = run.events(1);
    loop {
        if let Some(waits) = run.waits_for().filter(|waits| waits.why == why) {
            return waits;
        }
        tokio::select! {
            event = events.next() => drop(event.unwrap()),
            () = tokio::task::yield_now() => (),
        }
    }
}

/// Proves INV-20, R3.5, D26.
#[tokio::test(start_paused = true)]
async fn a_service_that_is_down_for_twenty_minutes_costs_one_attempt() {
    let runtime = runtime().await;
    let run = OneJob::start(&runtime, |cx| down(cx, 20, AfterWait::Fail)).await;
    let waits = waits(&run, WaitsWhy::Unavailable).await;
    assert_eq!(waits.what, "`the printer`, for step a");
    assert_eq!(waits.then.as_deref(), Some("fail"));
    assert!(waits.not_before < waits.until && waits.not_before.is_some(), "{waits:?}");
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.state, RunState::Succeeded);
    let took = outcome.view.run.finished_at.unwrap().since(outcome.view.run.created_at);
    assert!((MINUTE * 20..MINUTE * 21).contains(&took), "{took:?}");
    let job = &outcome.view.jobs[0];
    assert_eq!((job.attempts_used, job.deferral.as_ref(), job.deferred_since), (1, None, None));
    let ends: Vec<_> = outcome.view.attempts.iter().map(|attempt| attempt.end.unwrap()).collect();
    let (last, before) = ends.split_last().unwrap();
    assert_eq!(*last, AttemptEnd::Succeeded);
    assert!(before.len() > 30 && before.iter().all(|end| *end == AttemptEnd::Unavailable));
    runtime.shutdown().await;
}

/// Proves INV-20, TRAP-6.
#[tokio::test(start_paused = true)]
async fn a_service_that_stays_down_is_waited_for_half_an_hour() {
    let runtime = runtime().await;
    for then in [AfterWait::Fail, AfterWait::Skip] {
        let run = OneJob::start(&runtime, move |cx| down(cx, u32::MAX, then)).await;
        let outcome = run.outcome().await.unwrap();
        // Also by a skip: nothing of the run was done (INV-40).
        assert_eq!(outcome.state, RunState::Failed);
        let took = outcome.view.run.finished_at.unwrap().since(outcome.view.run.created_at);
        assert!((MINUTE * 30..MINUTE * 31).contains(&took), "{took:?}");
        let job = &outcome.view.jobs[0];
        assert_eq!(job.attempts_used, 0);
        let code = match then {
            AfterWait::Fail => "PL711",
            AfterWait::Skip => {
                assert_eq!(job.result.as_ref().unwrap()["skipped"], "unavailable");
                "PL699"
            }
        };
        assert_eq!(outcome.view.run.failure.unwrap()["code"], code);
    }
    runtime.shutdown().await;
}

/// DUR-44: a run that waits for days holds no place.
#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_a_signal_leaves_its_place_to_others() {
    let limits = Limits { runs: 1, ..Limits::default() };
    let runtime = Runtime::builder().store(Store::memory()).limits(limits).start().await.unwrap();
    let waiting = OneJob::start(&runtime, awaits).await;
    let waits = waits(&waiting, WaitsWhy::Signal).await;
    assert_eq!(waits.name.as_deref(), Some("go"));
    assert_eq!(waits.then.as_deref(), Some("skip"));
    let tree = runtime.tree();
    let path = format!("/perennial/runs/{}", waiting.id());
    let node = tree.nodes.iter().find(|node| node.path == path).unwrap();
    assert_eq!(node.detail["waits_for"]["why"], "signal");
    assert_eq!(node.detail["waits_for"]["name"], "go");
    assert!(node.detail["waits_for"]["until"].is_string());

    let other = OneJob::start(&runtime, |_| async { Outcome::Succeeded(json!(1)) }).await;
    let ended = tokio::time::timeout(SOON, other.outcome()).await.unwrap().unwrap();
    assert_eq!(ended.state, RunState::Succeeded);
    let accepted = waiting.signal("go", &json!({"n": 7})).await.unwrap();
    assert_eq!(accepted.woken, Some(waiting.view().await.unwrap().jobs[0].id));
    let outcome = tokio::time::timeout(SOON, waiting.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.view.jobs[0].result, Some(json!({"n": 7})));
    assert_eq!(outcome.view.jobs[0].attempts_used, 1);
    let late = waiting.signal("go", &1).await;
    assert!(matches!(late, Err(RunError::Store(StoreError::InvalidState(_)))), "{late:?}");
    runtime.shutdown().await;
}

/// DUR-45: the first answer counts.
#[tokio::test(start_paused = true)]
async fn a_question_is_answered_once() {
    let runtime = runtime().await;
    let run = OneJob::start(&runtime, |cx| asks(cx, DAY, WaitDefault::Fail)).await;
    let waits = waits(&run, WaitsWhy::Answer).await;
    assert_eq!(waits.name.as_deref(), Some("agree?"));
    run.answer("agree?", &true).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    let result = json!({ "how": "sent", "by": "host", "value": true });
    assert_eq!(outcome.view.jobs[0].result, Some(result));
    let kinds: Vec<_> = outcome.view.attempts.iter().map(|attempt| attempt.end.unwrap()).collect();
    assert_eq!(kinds, [AttemptEnd::Suspended, AttemptEnd::Succeeded]);
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_answers_gets_its_default() {
    let runtime = runtime().await;
    let or = WaitDefault::Resume(json!("no"));
    let run = OneJob::start(&runtime, move |cx| asks(cx, MINUTE, or.clone())).await;
    let outcome = run.outcome().await.unwrap();
    let result = json!({ "how": "deadline", "by": null, "value": "no" });
    assert_eq!(outcome.view.jobs[0].result, Some(result));
    let took = outcome.view.run.finished_at.unwrap().since(outcome.view.run.created_at);
    assert!((MINUTE..MINUTE + Duration::from_secs(2)).contains(&took), "{took:?}");

    let run = OneJob::start(&runtime, |cx| asks(cx, MINUTE, WaitDefault::Fail)).await;
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.state, RunState::Failed);
    assert_eq!(outcome.view.run.failure.unwrap()["code"], "PL712");
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_of_a_step_holds_no_worker_until_it_is_due() {
    let runtime = runtime().await;
    let run = OneJob::start(&runtime, |cx| async move {
        let (name, at) = ("tea".to_owned(), cx.now.after(MINUTE * 40));
        match cx.resumed() {
            Some(resumed) => Outcome::Succeeded(json!(resumed.how == WaitEnded::Timer)),
            None => Outcome::Suspend(Wait::Timer { name, at }),
        }
    })
    .await;
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.view.jobs[0].result, Some(json!(true)));
    let took = outcome.view.run.finished_at.unwrap().since(outcome.view.run.created_at);
    assert!((MINUTE * 40..MINUTE * 40 + Duration::from_secs(2)).contains(&took), "{took:?}");
    runtime.shutdown().await;
}

/// DUR-44: a wait has an end.
#[tokio::test(start_paused = true)]
async fn a_wait_of_more_than_thirty_days_fails_its_step() {
    let runtime = runtime().await;
    let run = OneJob::start(&runtime, |cx| asks(cx, DAY * 31, WaitDefault::Skip)).await;
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.view.run.failure.unwrap()["code"], "PL713");
    runtime.shutdown().await;
}

/// INV-15: what waits ends with its run, by a cancel or by the run's own deadline.
#[tokio::test(start_paused = true)]
async fn a_run_that_waits_is_cancelled_and_ends_in_time() {
    let runtime = runtime().await;
    let run = OneJob::start(&runtime, awaits).await;
    waits(&run, WaitsWhy::Signal).await;
    assert!(run.pause().await.unwrap());
    assert!(run.cancel().await.unwrap());
    assert_eq!(run.outcome().await.unwrap().state, RunState::Cancelled);

    let run = OneJob::start(&runtime, |cx| down(cx, 90, AfterWait::Fail)).await;
    waits(&run, WaitsWhy::Unavailable).await;
    assert!(run.cancel().await.unwrap());
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.state, RunState::Cancelled);
    assert_eq!(outcome.view.jobs[0].state, JobState::Cancelled);

    let work = |cx| Box::pin(awaits(cx)) as BoxFuture<'static, Outcome>;
    let run = OneJob::start_as(&runtime, Some("short"), Some(MINUTE), work).await;
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.state, RunState::TimedOut);
    runtime.shutdown().await;
}

/// SM-10: what comes while it is paused is taken, and nothing starts.
#[tokio::test(start_paused = true)]
async fn a_paused_run_takes_a_signal_and_goes_on_later() {
    let runtime = runtime().await;
    let run = OneJob::start(&runtime, awaits).await;
    waits(&run, WaitsWhy::Signal).await;
    assert!(run.pause().await.unwrap());
    assert!(run.signal("go", &1).await.unwrap().woken.is_some());
    tokio::time::advance(MINUTE).await;
    assert_eq!(run.view().await.unwrap().attempts.len(), 1);
    assert!(run.unpause().await.unwrap());
    assert_eq!(run.outcome().await.unwrap().state, RunState::Succeeded);
    runtime.shutdown().await;
}

async fn reopened(path: &Path) -> Runtime {
    let builder = Runtime::builder().store(Store::sqlite(path)).adoption(Adoption::OnRequest);
    builder.drain_within(Duration::ZERO).start().await.unwrap()
}

async fn continued(runtime: &Runtime) -> RunHandle {
    let work = |cx| {
        let or = WaitDefault::Resume(json!("no"));
        Box::pin(asks(cx, DAY, or)) as BoxFuture<'static, Outcome>
    };
    OneJob::start_as(runtime, Some("r"), None, work).await
}

/// A drain leaves what waits; an answer is kept while nobody runs it, and is taken once.
/// Proves INV-ST-26.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_outlives_its_process_and_so_does_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.db");
    let first = reopened(&path).await;
    let run = continued(&first).await;
    waits(&run, WaitsWhy::Answer).await;
    drop(run);
    let drained = first.shutdown().await.drain.unwrap();
    assert_eq!((drained.released, drained.cut), (0, 0), "no attempt was under way");

    // Nobody runs it here: the answer is written, and taken by whoever goes on.
    let second = reopened(&path).await;
    let run = second.runs().get(&RunId::parse("r").unwrap()).await.unwrap();
    let before = run.view().await.unwrap();
    assert_eq!(before.jobs[0].state, JobState::Suspended);
    assert_eq!(before.waits[0].wait.about, json!("Shall it be sent?"));
    assert!(run.answer("agree?", &true).await.unwrap().woken.is_some());
    let again = run.answer("agree?", &false).await;
    let refused = Err(StoreError::AlreadyAnswered { name: "agree?".to_owned() });
    assert_eq!(
        again.map_err(|error| if let RunError::Store(e) = error { e } else { panic!() }),
        refused
    );
    drop(run);
    second.shutdown().await;

    let third = reopened(&path).await;
    let run = continued(&third).await;
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    let result = json!({ "how": "sent", "by": "host", "value": true });
    assert_eq!(outcome.view.jobs[0].result, Some(result));
    assert_eq!((outcome.view.jobs[0].attempts_used, outcome.view.attempts.len()), (1, 2));
    drop(run);
    third.shutdown().await;
}

/// The wake-up and what is waited for are in the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_deferral_outlives_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.db");
    let first = reopened(&path).await;
    let work = |is_down: bool| {
        move |cx: AttemptCx| {
            let soon = cx.now.after(Duration::from_secs(1));
            let missing = Unavailable::new("the printer").retry_at(soon);
            Box::pin(async move {
                if is_down { Outcome::Unavailable(missing) } else { Outcome::Succeeded(json!(1)) }
            }) as BoxFuture<'static, Outcome>
        }
    };
    let run = OneJob::start_as(&first, Some("r"), None, work(true)).await;
    waits(&run, WaitsWhy::Unavailable).await;
    drop(run);
    first.shutdown().await;
    let second = reopened(&path).await;
    let run = OneJob::start_as(&second, Some("r"), None, work(false)).await;
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.state, RunState::Succeeded);
    assert_eq!(outcome.view.jobs[0].attempts_used, 1);
    drop(run);
    second.shutdown().await;
}
