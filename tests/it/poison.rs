//! A run that cannot go on, as its host sees it: the others end, and it says what is wrong.

use std::{path::Path, sync::Arc, time::Duration};

use perennial::{
    Config, ProviderKind, ProviderMode, RunId, RunState, Runtime, StartPipeline, Store,
    engine::{
        AttemptCx, Definition, DoneJob, Explanation, FailureMeans, JobPlan, Next, Outcome,
        StartRun, Workflow,
        workflow::{BoxFuture, JobKey, RetryPolicy},
    },
    records::{Failure, FailureClass, JobState, RunError},
};
use serde_json::json;

use crate::{
    attempts::runtime,
    gate::{Gate, Keeper, SOON},
};

/// Two jobs at once; as long as `odd`, it panics when asked what follows.
#[derive(Debug)]
struct Two {
    definition: Definition,
    odd: bool,
}

impl Workflow for Two {
    fn name(&self) -> &str {
        "two"
    }

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        assert!(!self.odd || done.is_empty(), "what now?");
        let again = RetryPolicy { max_attempts: 3, ..RetryPolicy::PROVIDER };
        let plan = |key| JobPlan::new(JobKey::new(key), again, Duration::from_secs(9));
        if done.len() < 2 { Next::Jobs(vec![plan("good"), plan("slow")]) } else { Next::Seal }
    }

    fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
        FailureMeans::FailRun { record: json!(failure.message) }
    }

    fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            if cx.job.as_str() == "slow" && cx.attempt == 1 {
                return Outcome::Failed(Failure::new(FailureClass::Transient, "T1", "not yet"));
            }
            Outcome::Succeeded(json!(cx.attempt))
        })
    }
}

fn two(odd: bool) -> StartRun {
    let definition = Definition::new(b"two".to_vec());
    let run = Some(RunId::parse("odd").unwrap());
    StartRun {
        run,
        workflow: Arc::new(Two { definition, odd }),
        settings: json!({}),
        within: None,
        priority: Default::default(),
    }
}

/// Proves INV-32.
#[tokio::test(start_paused = true)]
async fn a_run_whose_workflow_panics_is_told_of_and_goes_on_with_a_mended_one() {
    let runtime = runtime().await;
    let run = runtime.runs().start(two(true)).await.unwrap();
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap();
    let Err(RunError::Parked { why, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("`next`") && why.contains("what now?"), "{why}");
    let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1}]}";
    let other = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    let other = runtime.pipelines().start(other).await.unwrap();
    assert_eq!(other.outcome().await.unwrap().status(), "completed");
    drop(other);

    let tree = runtime.tree();
    let node = |path: &str| tree.nodes.iter().find(|node| node.path == path).unwrap();
    assert_eq!(node("/perennial/scheduler/ownership").detail["parked"]["odd"], json!(why));
    assert_eq!(node("/perennial/scheduler").detail["healthy"], true);
    let tree = perennial::inspect::diagnosed(tree, &[], &Default::default());
    let finding = tree.findings.iter().find(|finding| finding.id == "PF-31").unwrap();
    assert!(finding.message.contains("what now?"), "{}", finding.message);
    let explained = run.explain(&JobKey::new("slow")).await.unwrap();
    assert_eq!(explained, Explanation::Quarantined { reason: why });

    let mended = runtime.runs().start(two(false)).await.unwrap();
    let outcome = tokio::time::timeout(SOON, mended.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.state, RunState::Succeeded);
    let attempts: Vec<u32> = outcome.view.jobs.iter().map(|job| job.attempt).collect();
    assert_eq!(attempts, [1, 2], "what was done before is not done again");
    let again = perennial::inspect::diagnosed(runtime.tree(), &[], &Default::default());
    assert!(again.findings.iter().all(|finding| finding.id != "PF-31"));
    drop((run, mended));
    runtime.shutdown().await;
}

const TEXT: &str = "workflow:\n  name: w\n  inputs: {mark: string}\n  steps:\n  \
    - {name: first, type: echo, value: \"{{ mark }}\"}\n  \
    - {name: second, type: claude, prompt: [{type: static, content: wait}]}\n";

async fn started(path: &Path) -> (Runtime, Keeper) {
    let (gate, keeper) = Gate::new();
    let runtime = Runtime::builder()
        .store(Store::sqlite(path))
        .config(Config::default().anthropic_model("gated"))
        .provider(ProviderKind::Claude, gate)
        .drain_within(Duration::ZERO)
        .start();
    (runtime.await.unwrap(), keeper)
}

/// Writes `to` over `from`, which is as long, wherever it stands in the file; how often it did.
fn overwritten(path: &Path, from: &str, to: &str) -> usize {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(path).unwrap();
    let places = bytes.windows(from.len()).enumerate();
    let places = places.filter(|(_, found)| *found == from.as_bytes());
    let places: Vec<usize> = places.map(|(place, _)| place).collect();
    for place in &places {
        bytes[*place..*place + to.len()].copy_from_slice(to.as_bytes());
    }
    std::fs::write(path, bytes).unwrap();
    places.len()
}

/// Proves INV-32.
/// Rows that a disk or a hand has damaged between two processes: of the inputs of a run, of what a step has given, and
/// of a definition.
#[tokio::test(flavor = "multi_thread")]
async fn runs_with_damaged_rows_are_parked_and_all_others_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.db");
    let (first, keeper) = started(&path).await;
    let mut runs = Vec::new();
    for number in 0..23 {
        let text =
            if number == 2 { TEXT.replace("name: w", "name: ruined") } else { TEXT.to_owned() };
        let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Live);
        let start = start.input("mark", format!("mark-{number:03}"));
        runs.push(first.pipelines().start(start).await.unwrap().id().clone());
    }
    keeper.called(23).await;
    first.shutdown().await;

    let damages = [
        ("\"mark\":\"mark-000\"", "\"mark\":#mark-000\""),
        (":\"mark-001\"", ":#mark-001\""),
        ("\"ruined\"", "\"ruine#\""),
    ];
    for (whole, damaged) in damages {
        assert!(overwritten(&path, whole, damaged) > 0, "{whole}");
    }
    let (second, keeper) = started(&path).await;
    keeper.called(20).await;
    keeper.open();
    for run in &runs[3..] {
        let run = second.pipelines().get(run).await.unwrap();
        let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
        assert_eq!(outcome.status(), "completed");
    }
    let tree = second.tree();
    let ownership = tree.nodes.iter().find(|node| node.path == "/perennial/scheduler/ownership");
    let parked = &ownership.unwrap().detail["parked"];
    for run in &runs[..3] {
        let why = parked[run.as_str()].as_str();
        assert!(why.is_some_and(|why| why.contains("cannot be read")), "{run}: {parked}");
    }
    assert_eq!(second.runs().unfinished().await.unwrap().len(), 3, "they are left as they are");
    assert_eq!(second.runs().list(50).await.unwrap().len(), 23);
    second.shutdown().await;

    for (whole, damaged) in damages {
        assert!(overwritten(&path, damaged, whole) > 0, "{damaged}");
    }
    let (third, keeper) = started(&path).await;
    keeper.open();
    for run in &runs[..3] {
        // It goes on by itself.
        let run = third.pipelines().get(run).await.unwrap();
        let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
        assert_eq!(outcome.status(), "completed");
        let succeeded = |job: &&perennial::records::JobRecord| job.state == JobState::Succeeded;
        assert_eq!(outcome.view.jobs.iter().filter(succeeded).count(), 2);
    }
    third.shutdown().await;
}
