//! A shutdown hands over: what ends in time is recorded, what does not is given back.

use std::{
    sync::{Mutex, mpsc},
    time::Duration,
};

use perennial::{
    Config, DrainedAttempts, ProviderKind, ProviderMode, RunFate, RunState, Runtime, StartPipeline,
    Store,
    records::{AttemptEnd, RunError},
    tools::{CallCx, Provider, llm::ChatRequest, provider::Opening},
};

use tokio::sync::watch;

use crate::gate::{Gate, SOON};

fn echo(delay_ms: u32) -> StartPipeline {
    let text = format!(
        "workflow:\n  name: w\n  steps:\n  - {{name: a, type: echo, value: 1, delay_ms: \
         {delay_ms}}}\n  - {{name: b, type: echo, value: 2}}\n"
    );
    StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock)
}

/// Proves INV-17, INV-ST-33, I5, TG4, D31, B26.
#[tokio::test(start_paused = true)]
async fn a_drain_records_what_ends_in_time_and_releases_the_rest() {
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let clock = runtime.supervision_tree().clock();
    let quick = runtime.pipelines().start(echo(3_000)).await.unwrap();
    let slow = runtime.pipelines().start(echo(300_000)).await.unwrap();
    for run in [&quick, &slow] {
        let mut events = run.events();
        while events.next().await.unwrap().kind != "attempt_started" {}
    }
    let begun = clock.now();
    let summary = runtime.shutdown().await;
    let took = clock.now().since(begun);
    assert!(took <= Duration::from_secs(11), "{took:?}");
    let drain = summary.drain.unwrap();
    assert_eq!((drain.finished, drain.released, drain.cut), (1, 1, 0), "{drain:?}");

    let quick = quick.view().await.unwrap();
    assert_eq!(quick.attempts[0].end, Some(AttemptEnd::Succeeded));
    assert_eq!(quick.jobs.len(), 2, "its next step is recorded");
    assert_eq!(quick.jobs[1].attempt, 0, "and not claimed by a process that is leaving");
    let slow = slow.view().await.unwrap();
    assert_eq!(slow.attempts[0].end, Some(AttemptEnd::Released));
    assert_eq!(slow.jobs[0].attempts_used, 0);
}

/// Who waits for all that is under way, however long it takes, says so with a time that never comes.
#[tokio::test(start_paused = true)]
async fn a_drain_may_take_as_long_as_its_attempts() {
    let builder = Runtime::builder().store(Store::memory());
    let runtime = builder.drain_within(Duration::MAX).start().await.unwrap();
    let slow = runtime.pipelines().start(echo(300_000)).await.unwrap();
    let mut events = slow.events();
    while events.next().await.unwrap().kind != "attempt_started" {}
    let drain = runtime.shutdown().await.drain.unwrap();
    assert_eq!((drain.finished, drain.released, drain.cut), (1, 0, 0), "{drain:?}");
    assert_eq!(slow.view().await.unwrap().attempts[0].end, Some(AttemptEnd::Succeeded));
}

/// Proves B25.
/// Handles that outlive their runtime answer at once, and hold neither each other nor the file back.
#[tokio::test]
async fn after_a_shutdown_handles_answer_and_the_file_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::sqlite(folder.path().join("runs.db"));
    let start = || Runtime::builder().store(store.clone()).drain_within(Duration::ZERO).start();
    let runtime = start().await.unwrap();
    let ended = runtime.pipelines().start(echo(0)).await.unwrap();
    ended.outcome().await.unwrap();
    let run = runtime.pipelines().start(echo(300_000)).await.unwrap();
    let mut feed = run.events();
    while feed.next().await.unwrap().kind != "attempt_started" {}
    let mut warnings = runtime.runs().warnings();
    let waiting = run.clone();
    // What is recorded at the very end is told as well, to whoever listens.
    let listening = async {
        let mut kinds = Vec::new();
        loop {
            match feed.next().await {
                Ok(event) => kinds.push(event.kind),
                Err(error) => return (kinds, error),
            }
        }
    };
    let (waited, (kinds, fed), _) = tokio::join!(waiting.outcome(), listening, runtime.shutdown());
    assert_eq!(kinds, ["attempt_released"]);
    let answers = async {
        let unfinished =
            format!("the runtime has shut down; run {} is unfinished and can be resumed", run.id());
        assert_eq!(waited.unwrap_err().to_string(), unfinished);
        let asked = [
            run.outcome().await.map(|_| ()),
            run.view().await.map(|_| ()),
            run.pause().await.map(|_| ()),
            run.cancel().await.map(|_| ()),
        ];
        for answer in asked {
            assert_eq!(answer.unwrap_err().to_string(), unfinished);
        }
        assert_eq!(fed.to_string(), unfinished);
        let error = run.events().next().await.unwrap_err();
        assert_eq!(error.to_string(), unfinished);
        assert!(warnings.next().await.is_none());
        // Of one that had ended before, nothing is claimed that is not known.
        let error = ended.outcome().await.unwrap_err();
        let RunError::ShutDown { fate: None, .. } = error else { panic!("{error:?}") };
    };
    tokio::time::timeout(SOON / 3, answers).await.expect("handles wait for nothing");
    let next = start().await.expect("the file is not held by handles");
    assert_eq!(next.runs().unfinished().await.unwrap()[0].run, *run.id());
    next.shutdown().await;
}

/// A runtime that is dropped tells those who wait as well.
#[tokio::test(start_paused = true)]
async fn a_dropped_runtime_leaves_nobody_waiting() {
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let run = runtime.pipelines().start(echo(300_000)).await.unwrap();
    drop(runtime);
    let outcome = tokio::time::timeout(Duration::from_secs(1), run.outcome()).await.unwrap();
    let error = outcome.unwrap_err();
    assert!(matches!(error, RunError::ShutDown { fate: Some(RunFate::Released), .. }), "{error:?}");
}

/// HLT-6, DUR-123: the report is what a restart goes by, run by run.
#[tokio::test(start_paused = true)]
async fn a_drain_reports_each_run_by_what_became_of_it() {
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let one = |value: &str| {
        let text = format!(
            "workflow:\n  name: w\n  steps:\n  - {{name: a, type: echo, value: 1, {value}}}\n"
        );
        StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock)
    };
    let start = async |what: StartPipeline, until: &str| {
        let run = runtime.pipelines().start(what).await.unwrap();
        let mut events = run.events();
        while events.next().await.unwrap().kind != until {}
        run
    };
    let before = start(one("delay_ms: 0"), "run_closed").await;
    let ends = start(one("delay_ms: 2000"), "attempt_started").await;
    let goes_on = start(echo(2_500), "attempt_started").await;
    let slow = start(one("delay_ms: 300000"), "attempt_started").await;
    let report = runtime.shutdown().await.drain.unwrap();

    let attempts = |finished, released| DrainedAttempts { finished, released, cut: 0 };
    for (run, fate, state, expected) in [
        (&ends, RunFate::Finished, RunState::Succeeded, attempts(1, 0)),
        (&goes_on, RunFate::Released, RunState::Running, attempts(1, 0)),
        (&slow, RunFate::Released, RunState::Running, attempts(0, 1)),
    ] {
        let entry = report.run(run.id()).unwrap_or_else(|| panic!("{}: {report:?}", run.id()));
        assert_eq!((entry.fate, entry.state), (fate, Some(state)), "{report:?}");
        assert_eq!((entry.attempts, entry.workflow.as_deref()), (expected, Some("w")));
    }
    assert_eq!(report.run(before.id()), None, "it had ended before");
    assert_eq!((report.runs.len(), report.runs_more), (3, 0), "{report:?}");
    assert_eq!((report.finished, report.released, report.cut), (2, 1, 0), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_while_a_runtime_shuts_down() {
    let (gate, keeper) = Gate::new();
    let runtime = Runtime::builder()
        .store(Store::memory())
        .config(Config::default().anthropic_model("gated"))
        .provider(ProviderKind::Claude, gate)
        .drain_within(Duration::from_secs(4))
        .start()
        .await
        .unwrap();
    let text = "workflow:\n  name: w\n  steps:\n  - {name: a, type: claude, prompt: wait}\n";
    let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Live);
    runtime.pipelines().start(start.clone()).await.unwrap();
    keeper.called(1).await;
    let pipelines = runtime.pipelines().clone();
    let (summary, refused) = tokio::join!(runtime.shutdown(), async {
        tokio::task::yield_now().await;
        pipelines.start(start).await.unwrap_err()
    });
    assert!(refused.to_string().contains("shutting down"), "{refused}");
    assert_eq!(summary.drain.unwrap().released, 1);
}

/// A provider whose calls hold their thread: they cannot be cancelled.
#[derive(Debug)]
struct Stubborn {
    called: watch::Sender<bool>,
    let_go: Mutex<mpsc::Receiver<()>>,
}

impl Provider for Stubborn {
    fn name(&self) -> &str {
        "stubborn"
    }

    fn chat<'a>(&'a self, _: &'a ChatRequest, _: &'a CallCx) -> Opening<'a> {
        Box::pin(async move {
            self.called.send_replace(true);
            let_go(&self.let_go);
            std::future::pending().await
        })
    }
}

/// Holds the thread until the test has ended.
fn let_go(until: &Mutex<mpsc::Receiver<()>>) {
    // It ends with an error: the other side is dropped.
    let _ = until.lock().unwrap().recv();
}

/// Proves INV-17.
/// DUR-120: whatever a step does, the report is there when the time is up.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_step_that_ignores_cancellation_does_not_hold_up_the_report() {
    let within = Duration::from_millis(200);
    let ((called, mut was_called), (hold, let_go)) = (watch::channel(false), mpsc::channel());
    let runtime = Runtime::builder()
        .store(Store::memory())
        .config(Config::default().anthropic_model("m"))
        .provider(ProviderKind::Claude, Stubborn { called, let_go: Mutex::new(let_go) })
        .drain_within(within)
        .start()
        .await
        .unwrap();
    let text = "workflow:\n  name: w\n  steps:\n  - {name: a, type: claude, prompt: wait}\n";
    let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Live);
    let run = runtime.pipelines().start(start).await.unwrap();
    let call = was_called.wait_for(|called| *called);
    drop(tokio::time::timeout(SOON, call).await.unwrap().unwrap());
    let clock = runtime.supervision_tree().clock();
    let (begun, drained) = (clock.now(), runtime.drained());
    let mut shutdown = std::pin::pin!(runtime.shutdown());
    let report = tokio::select! {
        report = tokio::time::timeout(SOON, drained) => report.unwrap(),
        _ = &mut shutdown => panic!("it cannot have ended"),
    };
    let took = clock.now().since(begun);
    assert!(took < within + Duration::from_secs(1), "{took:?}");
    assert_eq!((report.finished, report.released, report.cut), (0, 0, 1), "{report:?}");
    assert_eq!(report.run(run.id()).unwrap().fate, RunFate::Released);
    assert_eq!(report.run(run.id()).unwrap().attempts.cut, 1);
    drop(hold);
    tokio::time::timeout(SOON, shutdown).await.unwrap();
}
