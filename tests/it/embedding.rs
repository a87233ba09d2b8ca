//! A runtime inside a host.

use perennial::{ProviderMode, Runtime, StartPipeline, StartPipelineError, Store};
use serde_json::json;

const DOCUMENT: &str = "workflow:\n  name: w\n  steps:\n  - {name: a, type: echo, value: 1}\n";

#[tokio::test]
async fn two_runtimes_share_a_process_and_nothing_else() {
    let first = Runtime::builder().name("first").store(Store::memory()).start().await.unwrap();
    let second = Runtime::builder().name("second").store(Store::memory()).start().await.unwrap();
    let start = || StartPipeline::document("w.yaml", DOCUMENT).mode(ProviderMode::Mock);
    let run = first.pipelines().start(start()).await.unwrap();
    assert_eq!(run.outcome().await.unwrap().status(), "completed");
    assert_eq!(first.runs().list(9).await.unwrap().len(), 1);
    assert_eq!(second.runs().list(9).await.unwrap().len(), 0);
    first.shutdown().await;
    let run = second.pipelines().start(start()).await.unwrap();
    assert_eq!(run.outcome().await.unwrap().status(), "completed");
    second.shutdown().await;
}

/// One step with what it is given, and nothing else: texts that are given are no templates.
#[tokio::test]
async fn c_45_one_step_runs_with_the_context_that_it_is_given() {
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let step = json!({"name": "only", "type": "echo", "value": ["{{ who }}", "{{ inputs.n }}", "{{ text }}"]});
    let start = StartPipeline::step(&step).mode(ProviderMode::Mock);
    let given = start.clone().input("who", "Ada").input("n", 3).input("text", "{{ who }}");
    let run = runtime.pipelines().start(given).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert_eq!(json!(outcome.results()), json!({"only": ["Ada", 3, "{{ who }}"]}));
    let refused = runtime.pipelines().start(start).await;
    assert!(matches!(refused, Err(StartPipelineError::Inputs(_))), "{refused:?}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn c_33_c_35_a_host_is_shown_the_beginning_and_documents_read_all_of_it() {
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let document = "\
workflow:
  name: large
  inputs: {text: string, huge: string}
  steps:
    - {name: text, type: echo, value: \"{{ text }}\"}
    - {name: record, type: echo, value: {top: \"{{ text }}\", deep: {text: \"{{ text }}\"}}}
    - {name: huge, type: echo, value: \"{{ huge }}\"}
    - {name: e, type: echo, value: [\"{{ length(steps.text) }}\", \"{{ length(steps.huge) }}\"]}
";
    let start = StartPipeline::document("large.yaml", document).mode(ProviderMode::Mock);
    let start = start.input("text", "x".repeat(150_000)).input("huge", "y".repeat(10_500_000));
    let run = runtime.pipelines().start(start).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    let shown = |step: &str| outcome.shown(step).unwrap().shown().into_owned();
    let text = shown("text");
    assert_eq!(text.as_str().unwrap().len(), 100_033);
    assert!(text.as_str().unwrap().ends_with("x... [TRIMMED: 150000 bytes total]"));
    assert_eq!(outcome.shown("text").unwrap().full().as_str().unwrap().len(), 150_000);
    assert_eq!(shown("record")["top"], text);
    assert_eq!(shown("record")["deep"]["text"].as_str().unwrap().len(), 150_000);
    let huge = shown("huge");
    assert_eq!(huge["type"], "stream");
    assert_eq!(huge["stream_info"]["id"], huge["stream_id"]);
    assert_eq!(huge["stream_info"]["source_step"], "huge");
    assert!(!huge["stream_info"]["created_at"].is_null());
    assert_eq!(shown("e"), json!([150_000, 10_500_000]));
    runtime.shutdown().await;
}
