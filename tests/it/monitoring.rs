//! The monitor of a run: what it measures, of what it warns, and that the run does not need it.

use std::{sync::Arc, time::Duration};

use perennial::{
    Config, Limits, ProviderMode, Runtime, StartPipeline, Store,
    engine::{
        AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, Outcome, StartRun, Workflow,
        workflow::{BoxFuture, JobKey, RetryPolicy},
    },
    records::{Monitoring, Thresholds, WarningKind},
};
use serde_json::{Value, json};

/// A text of a thousand bytes, and then a step that takes its time.
#[derive(Debug)]
struct Slow {
    definition: Definition,
    takes: Duration,
}

impl Workflow for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        let plan = |key: &str| {
            JobPlan::new(JobKey::new(key), RetryPolicy::ONCE, Duration::from_secs(3_600)).clamped()
        };
        match done.len() {
            0 => Next::Jobs(vec![plan("text")]),
            1 => Next::Jobs(vec![plan("sleep")]),
            _ => Next::Seal,
        }
    }

    fn on_failure(
        &self,
        _: &JobKey,
        _: &perennial::records::Failure,
        _: u32,
        _: &[DoneJob],
    ) -> FailureMeans {
        FailureMeans::FailRun { record: Value::Null }
    }

    fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            if cx.job.as_str() == "text" {
                return Outcome::Succeeded(json!("x".repeat(998)));
            }
            tokio::time::timeout(self.takes, std::future::pending::<()>()).await.unwrap_err();
            Outcome::Succeeded(Value::Null)
        })
    }
}

fn slow(takes: u64) -> StartRun {
    let workflow =
        Slow { definition: Definition::new(b"slow".to_vec()), takes: Duration::from_secs(takes) };
    StartRun {
        run: None,
        workflow: Arc::new(workflow),
        settings: json!({}),
        within: None,
        priority: Default::default(),
    }
}

async fn runtime(monitoring: Monitoring) -> Runtime {
    Runtime::builder().store(Store::memory()).monitoring(monitoring).start().await.unwrap()
}

fn detail(runtime: &Runtime, run: &str) -> Value {
    let path = format!("/perennial/monitors/{run}");
    let nodes = runtime.tree().nodes;
    nodes.into_iter().find(|node| node.path == path).map_or(Value::Null, |node| node.detail)
}

#[tokio::test(start_paused = true)]
async fn ym_12_each_threshold_warns_once_while_the_run_goes_on() {
    let thresholds = Thresholds { memory_bytes: 900, result_bytes: 900, ..Thresholds::default() };
    let runtime = runtime(Monitoring { thresholds, ..Monitoring::default() }).await;
    let mut warnings = runtime.runs().warnings();
    let run = runtime.runs().start(slow(100)).await.unwrap();
    let mut kinds = Vec::new();
    for _ in 0..4 {
        let told = warnings.next().await.unwrap();
        assert_eq!(told.run, *run.id());
        kinds.push(told.warning.kind);
    }
    use WarningKind::{ExecutionThreshold, LargeResult, MemoryThreshold, SlowStep};
    assert_eq!(kinds, [MemoryThreshold, LargeResult, ExecutionThreshold, SlowStep]);
    let shown = detail(&runtime, run.id().as_str());
    assert_eq!(shown["memory_usage_bytes"], 1_002);
    assert_eq!(
        (&shown["total_warnings"], &shown["thresholds"]["memory_bytes"]),
        (&json!(4), &json!(900))
    );
    let samples = shown["samples"].as_u64().unwrap();
    assert!((58..=64).contains(&samples), "one a second for a minute: {samples}");

    run.outcome().await.unwrap();
    let performance = run.performance(&runtime.runs().monitoring().thresholds).await.unwrap();
    assert_eq!((performance.total_warnings, performance.peak_memory_bytes), (4, 1_006));
    let rest = tokio::time::timeout(Duration::from_secs(60), warnings.next()).await;
    assert!(rest.is_err(), "told once: {rest:?}");
    runtime.shutdown().await;
}

/// Proves R3.10.
#[tokio::test(start_paused = true)]
async fn c_195_a_killed_monitor_comes_back_with_all_it_knew_and_the_run_does_not_notice() {
    let runtime = runtime(Monitoring::default()).await;
    let mut warnings = runtime.runs().warnings();
    let run = runtime.runs().start(slow(50)).await.unwrap();
    assert_eq!(warnings.next().await.unwrap().warning.kind, WarningKind::ExecutionThreshold);
    let path = format!("/perennial/monitors/{}", run.id());
    let before = detail(&runtime, run.id().as_str());
    let mut lifecycle = runtime.supervision_tree().lifecycle();
    runtime.supervision_tree().kill(&path).unwrap();
    loop {
        let event = lifecycle.next().await.unwrap();
        if event.path == *path
            && matches!(event.event, perennial::supervision::LifecycleEvent::Started { .. })
        {
            break;
        }
    }
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.state.status(), "completed");
    assert_eq!(outcome.view.attempts.len(), 2);
    assert!(before["events"].as_u64().unwrap() > 0);
    // What was told is not told again.
    let rest = tokio::time::timeout(Duration::from_secs(60), warnings.next()).await;
    assert!(rest.is_err(), "{rest:?}");
    runtime.shutdown().await;
}

/// The row of a monitor in this life of it, once it has counted what the call of its run cost.
async fn lived(runtime: &Runtime, path: &str, incarnation: u64) -> Value {
    let mut last = None;
    // The clock stands still meanwhile; this is far more than it takes.
    for _ in 0..1_000_000 {
        let node = runtime.tree().nodes.into_iter().find(|node| node.path == path);
        if let Some(node) = &node
            && node.incarnation == incarnation
            && node.detail["total_cost"] == 0.001
        {
            return node.detail.clone();
        }
        last = node;
        tokio::task::yield_now().await;
    }
    panic!("the monitor does not come to know: {last:?}");
}

/// What calls cost is in the journal: a monitor that was killed has it again.
#[tokio::test(start_paused = true)]
async fn a_killed_monitor_counts_again_what_calls_cost() {
    let runtime = runtime(Monitoring::default()).await;
    let document = "workflow:\n  name: w\n  steps:\n  \
        - {name: ask, type: claude, prompt: [{type: static, content: simple test}]}\n  \
        - {name: wait, type: echo, value: 1, delay_ms: 50000}\n";
    let start = StartPipeline::document("w.yaml", document).mode(ProviderMode::Mock);
    let run = runtime.pipelines().start(start).await.unwrap();
    let mut events = run.events();
    while events.next().await.unwrap().kind != "job_succeeded" {}
    let path = format!("/perennial/monitors/{}", run.id());
    lived(&runtime, &path, 1).await;
    runtime.supervision_tree().kill(&path).unwrap();
    let row = lived(&runtime, &path, 2).await;
    assert_eq!((&row["llm_calls"], &row["total_tokens"]), (&json!(1), &json!("unknown")));
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.performance.total_cost, Some(0.001));
    let warnings = outcome.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("the run takes 50"), "{warnings:?}");
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn ym_12_without_monitoring_there_is_no_monitor_and_the_run_ends_alike() {
    let runtime = runtime(Monitoring { enabled: false, ..Monitoring::default() }).await;
    let run = runtime.runs().start(slow(40)).await.unwrap();
    assert_eq!(run.outcome().await.unwrap().state.status(), "completed");
    assert_eq!(detail(&runtime, run.id().as_str()), Value::Null);
    runtime.shutdown().await;
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn of_what_is_warned_is_as_it_is_set() {
    use WarningKind::{ExecutionThreshold, LargeResult, MemoryThreshold, SlowStep};
    for (set, kinds) in [
        ("", &[][..]),
        ("execution_threshold = 9000", &[ExecutionThreshold]),
        ("step_threshold = 9000", &[SlowStep]),
        ("result_threshold = 900", &[LargeResult]),
        ("memory_threshold = 900", &[MemoryThreshold]),
        ("step_threshold = 9000\nenable_monitoring = false", &[]),
    ] {
        let config = Config::parse("p.toml", format!("[monitor]\n{set}\n").as_bytes()).unwrap();
        let builder = Runtime::builder().store(Store::memory()).config(config);
        let runtime = builder.start().await.unwrap();
        let mut warnings = runtime.runs().warnings();
        let run = runtime.runs().start(slow(20)).await.unwrap();
        run.outcome().await.unwrap();
        let mut told = Vec::new();
        while let Ok(Some(one)) =
            tokio::time::timeout(Duration::from_secs(60), warnings.next()).await
        {
            told.push(one.warning.kind);
        }
        assert_eq!(told, kinds, "{set}");
        runtime.shutdown().await;
    }
}

/// YM-12. What it waits for a place is no execution of it.
#[tokio::test(start_paused = true)]
async fn of_a_run_that_waited_for_a_place_its_own_time_alone_is_warned_of() {
    let limits = Limits { runs: 1, ..Limits::default() };
    let runtime = Runtime::builder().store(Store::memory()).limits(limits).start().await.unwrap();
    let mut warnings = runtime.runs().warnings();
    let first = runtime.runs().start(slow(40)).await.unwrap();
    let second = runtime.runs().start(slow(20)).await.unwrap();
    second.outcome().await.unwrap();
    let told = warnings.next().await.unwrap();
    assert_eq!((&told.run, told.warning.kind), (first.id(), WarningKind::ExecutionThreshold));
    let rest = tokio::time::timeout(Duration::from_secs(60), warnings.next()).await;
    assert!(rest.is_err(), "{rest:?}");
    let performance = second.performance(&Thresholds::default()).await.unwrap();
    assert_eq!(performance.total_warnings, 0, "{:?}", performance.warnings);
    assert!(performance.total_duration_ms >= 60_000, "{}", performance.total_duration_ms);
    runtime.shutdown().await;
}
