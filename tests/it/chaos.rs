//! What dies comes back: every worker and every run is crashed once and killed once while eight
//! runs are in flight (ACC-1.5).

use std::time::Duration;

use perennial::{
    Config, PipelineRunHandle, ProviderKind, ProviderMode, Runtime, StartPipeline, Store,
    engine::sessions::Turn, records::AttemptEnd, tools::tool_fn,
};
use perennial_testkit::{
    Chaos, Seed,
    chaos::{Blow, workers},
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

/// Real time: the store's threads are foreign to a paused clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_dies_the_runs_end_as_if_nothing_had_happened() {
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
    let mut seed = Seed::of_test("whatever_dies");
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(runtime.pipelines().start(start()).await.unwrap());
    }
    let mut targets = workers(&runtime.tree());
    assert!(targets.iter().any(|path| path.starts_with("/perennial/runs/")), "{targets:?}");
    assert!(targets.contains(&"/perennial/store/writer".to_owned()), "{targets:?}");
    seed.shuffle(&mut targets);
    assert!(targets.len() >= 2 * RUNS + 8, "runs, their monitors, all parts: {targets:?}");
    for path in &targets {
        for blow in [Blow::Crash, Blow::Kill] {
            let back =
                chaos.hit(path, blow).await.unwrap_or_else(|error| panic!("{blow:?} {error}"));
            assert!(back, "{path} did not come back after a {blow:?}");
            answers(&runtime).await;
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

/// The parts that a host talks to answer again.
async fn answers(runtime: &Runtime) {
    let tools = async { while runtime.tools().status().await.is_err() {} };
    tokio::time::timeout(SOON, tools).await.unwrap();
    let sessions = async { while runtime.sessions().list().await.is_err() {} };
    tokio::time::timeout(SOON, sessions).await.unwrap();
}
