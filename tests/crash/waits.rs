//! A host whose step waits is killed: what it waits for, and what came for it, are in the store.
//!
//! The host is this test's own program, which runs only [`host`] when it is told to be one.

use std::{path::Path, time::Duration};

use perennial::{
    Adoption, RunState, Runtime, Store,
    engine::{AttemptCx, Outcome, RunHandle, Unavailable, Wait, WaitDefault, workflow::BoxFuture},
    records::{AttemptEnd, JobState},
};
use perennial_testkit::{PerennialBinary, RunningBinary};
use serde_json::json;

use crate::{one_job::OneJob, world::SOON};

/// Makes the test's program a host: what its step does.
const HOST: &str = "PERENNIAL_WAITING_HOST";
const STORE: &str = "PERENNIAL_WAITING_STORE";

/// What the step of the host does, at each attempt.
fn step(what: &str, is_later: bool) -> impl Fn(AttemptCx) -> BoxFuture<'static, Outcome> + 'static {
    let is_missing = what == "misses" && !is_later;
    let misses = what == "misses";
    move |cx: AttemptCx| {
        let (soon, later) =
            (cx.now.after(Duration::from_secs(2)), cx.now.after(Duration::from_secs(3600)));
        Box::pin(async move {
            match cx.resumed_with() {
                _ if is_missing => Outcome::Unavailable(Unavailable::new("x").retry_at(soon)),
                _ if misses => Outcome::Succeeded(json!("found")),
                Ok(Some(value)) => Outcome::Succeeded(value),
                Ok(None) | Err(_) => Outcome::Suspend(Wait::Answer {
                    name: "agree?".to_owned(),
                    question: json!("Shall it be sent?"),
                    until: later,
                    or: WaitDefault::Resume(json!("default")),
                }),
            }
        })
    }
}

async fn runtime(path: &Path) -> Runtime {
    let builder = Runtime::builder().store(Store::sqlite(path)).adoption(Adoption::OnRequest);
    builder.start().await.unwrap()
}

/// Not a test but the process under test: it waits until it is killed, or dies once it has answered.
#[tokio::test(flavor = "multi_thread")]
async fn host() {
    let (Ok(what), Ok(path)) = (std::env::var(HOST), std::env::var(STORE)) else { return };
    let runtime = runtime(Path::new(&path)).await;
    let run = OneJob::start_as(&runtime, Some("r"), None, step(&what, false)).await;
    until(&run, |kind| matches!(kind, "job_suspended" | "job_deferred")).await;
    if what == "answers" {
        run.answer("agree?", &json!("yes")).await.unwrap();
        // The answer is committed, and the wake-up is not.
        std::process::abort();
    }
    println!("\nwaiting");
    std::future::pending::<()>().await;
}

async fn until(run: &RunHandle, is_it: impl Fn(&str) -> bool) {
    let mut events = run.events(1);
    while !is_it(&events.next().await.unwrap().kind) {}
}

fn host_that(what: &str, store: &Path) -> RunningBinary {
    PerennialBinary::new(std::env::current_exe().unwrap())
        .args(["waits::host", "--exact", "--nocapture"])
        .env(HOST, what)
        .env(STORE, store)
        .spawn()
        .unwrap()
}

/// Proves K25, INV-20.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_leaves_a_deferral_that_wakes_in_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.db");
    let mut host = host_that("misses", &path);
    host.wait_for_stdout("waiting", SOON).unwrap();
    host.kill().unwrap();
    let runtime = runtime(&path).await;
    let left = runtime.runs().unfinished().await.unwrap();
    let left = runtime.runs().get(&left[0].run).await.unwrap().view().await.unwrap();
    assert_eq!((left.jobs[0].state, left.jobs[0].attempts_used), (JobState::Deferred, 0));
    let run = OneJob::start_as(&runtime, Some("r"), None, step("misses", true)).await;
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.state, RunState::Succeeded);
    let job = &outcome.view.jobs[0];
    assert_eq!((job.attempts_used, job.crashes), (1, 0), "it died while nothing was under way");
    drop(run);
    runtime.shutdown().await;
}

/// Proves K26, INV-ST-26.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_with_an_answer_has_it_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.db");
    host_that("answers", &path).wait(SOON).unwrap();
    let runtime = runtime(&path).await;
    let run = OneJob::start_as(&runtime, Some("r"), None, step("answers", true)).await;
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.view.jobs[0].result, Some(json!("yes")));
    let suspended = outcome.view.attempts.iter();
    let suspended = suspended.filter(|one| one.end == Some(AttemptEnd::Suspended)).count();
    assert_eq!((suspended, outcome.view.signals.len()), (1, 0), "asked once, taken once");
    drop(run);
    runtime.shutdown().await;
}

/// Proves K26.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_leaves_a_question_with_its_deadline_and_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.db");
    let mut host = host_that("asks", &path);
    host.wait_for_stdout("waiting", SOON).unwrap();
    host.kill().unwrap();
    let runtime = runtime(&path).await;
    let run = OneJob::start_as(&runtime, Some("r"), None, step("asks", true)).await;
    let view = run.view().await.unwrap();
    let wait = &view.waits[0];
    assert_eq!(wait.wait.or, WaitDefault::Resume(json!("default")));
    assert_eq!(wait.wait.until.since(wait.since).as_secs() / 60, 59, "{wait:?}");
    run.answer("agree?", &json!("no")).await.unwrap();
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.view.jobs[0].result, Some(json!("no")));
    drop(run);
    runtime.shutdown().await;
}
