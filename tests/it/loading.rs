//! Children whose file is named while the run is under way, as a host has them.

use std::fs;

use perennial::{ProviderMode, Runtime, StartPipeline, Store};
use serde_json::json;

const PARENT: &str = "workflow:
  name: w
  inputs: {file: {type: string}}
  steps:
    - {name: n, type: pipeline, pipeline_file: '{{ file }}', continue_on_error: true}
";

/// What would refuse a start refuses such a child, before any step of it runs.
#[tokio::test]
async fn a_child_that_nobody_can_answer_is_refused_before_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let child = |step: &str| {
        format!(
            "workflow:
  name: child
  steps:
    - {{name: first, type: echo, value: 1}}
    - {step}
"
        )
    };
    let tools = "{name: ask, type: claude, prompt: x, claude_options: {model: haiku, allowed_tools: [Bash]}}";
    fs::write(folder.path().join("tools.yaml"), child(tools)).unwrap();
    fs::write(folder.path().join("plain.yaml"), child("{name: b, type: echo, value: 2}")).unwrap();
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let run = async |file: &str, mode: ProviderMode| {
        let start = StartPipeline::document("w.yaml", PARENT).project_root(folder.path());
        let run = runtime.pipelines().start(start.mode(mode).input("file", file)).await.unwrap();
        let outcome = run.outcome().await.unwrap();
        let jobs: Vec<String> =
            run.view().await.unwrap().jobs.iter().map(|job| job.key.to_string()).collect();
        (outcome.result("n").cloned().unwrap(), jobs)
    };
    let (record, jobs) = run("plain.yaml", ProviderMode::Live).await;
    assert_eq!(record, json!({ "first": 1, "b": 2 }), "{jobs:?}");
    let (record, jobs) = run("tools.yaml", ProviderMode::Mock).await;
    assert_eq!(record["first"], 1, "{record}");
    assert_eq!(jobs, ["#n", "n/first", "n/ask", "n"]);
    let (record, jobs) = run("tools.yaml", ProviderMode::Live).await;
    let text = record["error"]["message"].as_str().unwrap();
    assert!(text.contains("`ask`") && text.contains("Bash"), "{text}");
    assert_eq!(jobs, ["#n", "n"]);
    runtime.shutdown().await;
}
