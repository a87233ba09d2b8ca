//! Workflows that the host registers by name (2.16).

use std::{path::Path, time::Duration};

use perennial::{
    Config, ProviderKind, ProviderMode, Runtime, RuntimeError, StartPipeline, StartPipelineError,
    Store,
};

use crate::gate::{Gate, Keeper, SOON};

const ASK: &str = "\
workflow:
  name: ask
  version: \"1.2.0\"
  inputs: {what: string}
  steps:
    - {name: first, type: claude, prompt: \"hello {{ what }}\"}
    - {name: second, type: claude, prompt: \"wait {{ what }}\"}
";

const PARENT: &str = "\
workflow:
  name: parent
  steps:
    - {name: n, type: pipeline, pipeline_ref: ask, version: \"^1.1\", inputs: {what: \"you\"}, outputs: [second]}
";

async fn start(path: &Path, registered: Option<&str>) -> (Runtime, Keeper) {
    let (gate, keeper) = Gate::new();
    let mut builder = Runtime::builder()
        .store(Store::sqlite(path))
        .config(Config::default().anthropic_model("gated"))
        .provider(ProviderKind::Claude, gate)
        .drain_within(Duration::ZERO);
    if let Some(text) = registered {
        builder = builder.pipeline("ask", text);
    }
    (builder.start().await.unwrap(), keeper)
}

/// What was registered when the run was started is part of it: a process that has registered nothing, or something
/// else, goes on with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_resume_needs_no_registry() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.db");
    let (first, keeper) = start(&path, Some(ASK)).await;
    let run = StartPipeline::document("w.yaml", PARENT).mode(ProviderMode::Live);
    let run = first.pipelines().start(run).await.unwrap();
    keeper.called(2).await;
    let id = run.id().clone();
    drop(run);
    assert_eq!(first.shutdown().await.drain.unwrap().released, 1);

    let (second, keeper) = start(&path, None).await;
    assert!(second.pipelines().registered().is_empty());
    keeper.open();
    let run = second.pipelines().get(&id).await.unwrap();
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.status(), "completed", "{:?}", outcome.results());
    assert_eq!(keeper.calls(), 1, "the first call is not made again");
    let refused = StartPipeline::document("w.yaml", PARENT).mode(ProviderMode::Live);
    let refused = second.pipelines().start(refused).await.unwrap_err().to_string();
    assert!(refused.contains("`ask` is not among the `pipelines`"), "{refused}");
    drop(run);
    second.shutdown().await;
}

#[tokio::test]
async fn a_registered_workflow_is_started_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flow.yaml");
    let child = folder.path().join("child.yaml");
    std::fs::write(&child, "workflow: {name: c, steps: [{name: e, type: echo, value: 7}]}")
        .unwrap();
    std::fs::write(
        &file,
        "workflow: {name: f, version: 1.5, steps: [{name: n, type: pipeline, pipeline_file: child.yaml}]}",
    )
    .unwrap();
    let text = |version: &str, value: u32| {
        format!(
            "workflow: {{name: t, version: {version:?}, steps: [{{name: e, type: echo, value: {value}}}]}}"
        )
    };
    let runtime = Runtime::builder()
        .store(Store::memory())
        .pipeline("text", text("1.9", 9))
        .pipeline("text", text("1.10", 10))
        .pipeline_file("file", &file)
        .start()
        .await
        .unwrap();
    let pipelines = runtime.pipelines();
    assert_eq!(pipelines.registered(), ["file", "text"]);
    let outcome = async |start: StartPipeline| {
        let run = pipelines.start(start.mode(ProviderMode::Mock)).await.unwrap();
        run.outcome().await.unwrap()
    };
    let newest = outcome(StartPipeline::registered("text")).await;
    assert_eq!(newest.result("e").unwrap(), 10);
    // Files that a registered file names are read; those that a text names itself are not.
    let of_file = outcome(StartPipeline::registered("file")).await;
    assert_eq!(of_file.result("n").unwrap()["e"], 7);
    let step =
        |keys: &str| format!("workflow: {{name: d, steps: [{{name: n, type: pipeline, {keys}}}]}}");
    let document = StartPipeline::document("d.yaml", step("pipeline_ref: file, version: ^1.2"));
    assert_eq!(outcome(document).await.result("n").unwrap()["n"]["e"], 7);
    let named = format!("pipeline_file: {:?}", child.display().to_string());
    let refused = pipelines.start(StartPipeline::document("d.yaml", step(&named))).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("no other file is read"), "{refused}");
    let path = folder.path().join("by-file.yaml");
    std::fs::write(&path, step("pipeline_ref: text")).unwrap();
    assert!(pipelines.load(&path).unwrap().pipeline.is_some());
    assert_eq!(outcome(StartPipeline::file(&path)).await.result("n").unwrap()["e"], 10);

    let refused = pipelines.start(StartPipeline::registered("txt")).await.unwrap_err();
    assert!(matches!(refused, StartPipelineError::NotRegistered { .. }));
    assert_eq!(refused.to_string(), "the pipeline `txt` is not registered; there are: file, text");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_runtime_does_not_start_with_a_pipeline_that_is_faulty() {
    let rows = [
        ("workflow: {name: x, steps: [{name: a, type: ecko}]}", "`x` is invalid: x:1: [PL208]"),
        ("a: [1", "`x` is invalid: x"),
        (
            "workflow: {name: x, steps: [{name: a, type: pipeline, pipeline_ref: x}]}",
            "[PL504] Circular dependency detected: x → x",
        ),
    ];
    for (text, expected) in rows {
        let started = Runtime::builder().store(Store::memory()).pipeline("x", text).start().await;
        let error = started.unwrap_err();
        assert!(matches!(error, RuntimeError::Pipeline(_)));
        assert!(error.to_string().contains(expected), "{error}");
    }
    let absent = Runtime::builder().store(Store::memory()).pipeline_file("x", "absent.yaml");
    let error = absent.start().await.unwrap_err().to_string();
    assert!(error.starts_with("the registered pipeline `x`: "), "{error}");
}

/// PL707: a child whose replies are made up is not part of a live run.
#[tokio::test]
async fn a_mocked_child_does_not_run_live() {
    const MOCKED: &str = "\
workflow:
  name: w
  steps:
    - name: n
      type: pipeline
      config: {mock_responses: {ask: scripted}}
      pipeline: {name: c, steps: [{name: ask, type: claude, prompt: [{type: static, content: q}]}]}
";
    let (gate, keeper) = Gate::new();
    let runtime = Runtime::builder()
        .store(Store::memory())
        .config(Config::default().anthropic_model("gated"))
        .provider(ProviderKind::Claude, gate)
        .start()
        .await
        .unwrap();
    let start = || StartPipeline::document("w.yaml", MOCKED);
    let refused = runtime.pipelines().start(start().mode(ProviderMode::Live)).await.unwrap_err();
    assert!(refused.to_string().starts_with("[PL707] step `n` mocks its child"), "{refused}");
    let run = runtime.pipelines().start(start().mode(ProviderMode::Mock)).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.result("n").unwrap()["ask"], "scripted");
    assert_eq!(keeper.calls(), 0);
    runtime.shutdown().await;
}
