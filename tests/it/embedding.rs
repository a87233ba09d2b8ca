//! A runtime inside a host.

use perennial::{ProviderMode, Runtime, StartPipeline, Store};

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
