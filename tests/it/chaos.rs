//! What dies comes back: every worker and every run is crashed once and killed once while eight
//! runs are in flight (ACC-1.5), and so is every supervisor (ACC-2.4).

use std::time::Duration;

use perennial::{
    Config, PipelineRunHandle, ProviderKind, ProviderMode, Runtime, StartPipeline, Store,
    TreeSnapshot, engine::sessions::Turn, records::AttemptEnd, supervision::NodeState,
    tools::tool_fn,
};
use perennial_testkit::{
    Chaos, Seed, assert_tree_unchanged,
    chaos::{Blow, supervisors, workers},
};
use serde_json::{Value, json};

use crate::gate::{Gate, SOON};

const RUNS: usize = 8;

/// Echoes, variables and calls; the last call holds the run in flight until the gate opens.
fn document() -> String {
    let mut text = String::from("workflow:\n  name: chaos\n  steps:\n");
    for step in 0..12 {
        text += &format!("  - {{name: e{step}, type: echo, value: {step}, delay_ms: 20}}\n");
        text += &format!(
            "  - name: v{step}\n    type: set_variable\n    variables:\n      total{step}: \
             \"{{{{ steps.e{step}.result }}}}\"\n"
        );
        text += &format!(
            "  - name: c{step}\n    type: claude\n    prompt:\n    - {{type: static, content: \
             \"say {{{{ state.total{step} }}}}\"}}\n"
        );
    }
    text + "  - {name: last, type: claude, prompt: [{type: static, content: wait}]}\n"
}

fn start() -> StartPipeline {
    StartPipeline::document("chaos.yaml", document()).mode(ProviderMode::Live)
}

async fn runtime(store: Store, gate: Gate) -> Runtime {
    let work = |_arguments: Value| async { Ok(json!("tool works")) };
    // The storm is the test's own doing: an explicit argument of this test, not a default.
    Runtime::builder()
        .store(store)
        .config(Config::default().anthropic_model("gated"))
        .provider(ProviderKind::Claude, gate)
        .root_intensity(1_000, Duration::from_secs(60))
        .tool(tool_fn("greet", "greets", work))
        .start()
        .await
        .unwrap()
}

async fn results(run: &PipelineRunHandle) -> Value {
    let outcome = tokio::time::timeout(SOON, run.outcome()).await;
    let outcome = outcome.unwrap_or_else(|_| panic!("run {} does not end", run.id())).unwrap();
    assert_eq!(outcome.status(), "completed", "{:?}", outcome.view.run.failure);
    Value::Object(outcome.results())
}

/// Proves B25.
/// Real time: the store's threads are foreign to a paused clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_dies_the_runs_end_as_if_nothing_had_happened() {
    Box::pin(storm("whatever_dies", |tree| {
        let targets = workers(tree);
        assert!(targets.contains(&"/perennial/store/writer".to_owned()), "{targets:?}");
        assert!(targets.len() >= 2 * RUNS + 8, "runs, their monitors, all parts: {targets:?}");
        targets
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whichever_supervisor_dies_the_runs_end_as_if_nothing_had_happened() {
    Box::pin(storm("whichever_supervisor", |tree| {
        let targets = supervisors(tree);
        for known in ["/perennial/runs", "/perennial/monitors", "/perennial/store"] {
            assert!(targets.iter().any(|path| path == known), "{known}: {targets:?}");
        }
        // Each is hit by its path: a run's own comes back only when `runs` has it again.
        targets
    }))
    .await;
}

/// Hits each of the nodes that `pick` picks, and looks at what is left of the work.
async fn storm(name: &str, pick: impl FnOnce(&TreeSnapshot) -> Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let (gate, keeper) = Gate::new();
    keeper.open();
    let calm = runtime(Store::sqlite(folder.path().join("calm.db")), gate).await;
    let expected = results(&calm.pipelines().start(start()).await.unwrap()).await;
    calm.shutdown().await;

    let (gate, keeper) = Gate::new();
    let runtime = runtime(Store::sqlite(folder.path().join("storm.db")), gate).await;
    runtime.sessions().create("talk").await.unwrap();
    let turn = |text: &str| Turn { role: "user".to_owned(), content: text.to_owned() };
    runtime.sessions().append("talk", turn("before")).await.unwrap();

    let chaos = Chaos::new(runtime.supervision_tree(), SOON);
    let mut seed = Seed::of_test(name);
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(runtime.pipelines().start(start()).await.unwrap());
    }
    in_flight(&runtime, &runs).await;
    let before = specified(runtime.tree());
    let mut targets = pick(&runtime.tree());
    assert!(targets.iter().any(|path| path.starts_with("/perennial/runs")), "{targets:?}");
    seed.shuffle(&mut targets);
    for path in &targets {
        for blow in [Blow::Crash, Blow::Kill] {
            let back =
                chaos.hit(path, blow).await.unwrap_or_else(|error| panic!("{blow:?} {error}"));
            assert!(back, "{path} did not come back after a {blow:?}");
            answers(&runtime).await;
            in_flight(&runtime, &runs).await;
        }
    }
    for run in &runs {
        assert!(!run.view().await.unwrap().run.state.is_terminal(), "in flight all the time");
    }
    keeper.open();

    for run in &runs {
        assert_eq!(results(run).await, expected, "run {}", run.id());
        let view = run.view().await.unwrap();
        for call in &view.calls {
            assert!(call.recorded_at.is_some());
        }
        let expired = view.attempts.iter().filter(|a| a.end == Some(AttemptEnd::Expired));
        assert_eq!(expired.count(), 0, "no process died");
    }
    assert_eq!(runtime.sessions().turns("talk").await.unwrap(), [turn("before")]);
    assert_eq!(runtime.sessions().append("talk", turn("after")).await.unwrap(), 2);
    let name = "greet".into();
    assert_eq!(runtime.tools().call(&name, json!({})).await.unwrap(), json!("tool works"));

    // DIFF-4: nothing is left of the storm but new lives.
    assert_tree_unchanged(&before, &specified(runtime.tree()));

    // Nothing of what was recorded in the storm is half (CHK).
    assert_eq!(runtime.upkeep().verify(None).rest().await.unwrap(), []);
    let tasks = tokio::runtime::Handle::current().metrics();
    let summary = runtime.shutdown().await;
    assert!(summary.tree.unkillable.is_empty(), "{summary:?}");
    drop(runs);
    // Nothing is left running: whoever still winds up has nothing to wait for.
    let left = async {
        while tasks.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, left).await.expect("tasks are left after the shutdown");
}

/// The tree without what comes and goes with runs.
fn specified(mut tree: TreeSnapshot) -> TreeSnapshot {
    let passing = ["/perennial/runs", "/perennial/monitors", "/perennial/tasks"];
    tree.nodes.retain(|node| !node.parent.as_deref().is_some_and(|above| passing.contains(&above)));
    tree
}

/// Every run has its actor and its monitor again.
async fn in_flight(runtime: &Runtime, runs: &[PipelineRunHandle]) {
    let all_there = || {
        let tree = runtime.tree();
        let runs_at = |path: String| {
            let node = tree.nodes.iter().find(|node| node.path == path);
            node.is_some_and(|node| node.state == NodeState::Running)
        };
        runs.iter().all(|run| {
            ["runs", "monitors"].iter().all(|of| runs_at(format!("/perennial/{of}/{}", run.id())))
        })
    };
    let wait = async {
        while !all_there() {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(SOON, wait).await.is_err() {
        let lines = runtime.tree().nodes.into_iter().map(|node| {
            format!("{} {:?} {} {:?}\n", node.path, node.state, node.incarnation, node.last_exit)
        });
        panic!("the runs are not taken up again:\n{}", lines.collect::<String>());
    }
}

/// The parts that a host talks to answer again.
async fn answers(runtime: &Runtime) {
    let tools = async { while runtime.tools().status().await.is_err() {} };
    tokio::time::timeout(SOON, tools).await.unwrap();
    let sessions = async { while runtime.sessions().list().await.is_err() {} };
    tokio::time::timeout(SOON, sessions).await.unwrap();
}
