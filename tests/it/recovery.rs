//! What another process, or the next one, finds.

use perennial::{
    Adoption, Config, ProviderKind, ProviderMode, Runtime, StartPipeline, Store,
    records::AttemptEnd, supervision::Agent,
};
use std::{path::Path, time::Duration};

use crate::gate::{Gate, Keeper, SOON};

const TEXT: &str = "workflow:\n  name: w\n  steps:\n  \
    - {name: first, type: claude, prompt: hello}\n  \
    - {name: second, type: claude, prompt: [{type: static, content: wait}]}\n";

async fn start(path: &Path, adoption: Adoption) -> (Runtime, Keeper) {
    let (gate, keeper) = Gate::new();
    let runtime = Runtime::builder()
        .store(Store::sqlite(path))
        .config(Config::default().anthropic_model("gated"))
        .provider(ProviderKind::Claude, gate)
        .adoption(adoption)
        .drain_within(Duration::ZERO)
        .start()
        .await
        .unwrap();
    (runtime, keeper)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_stays_continues_at_boot_what_another_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.db");
    let (first, keeper) = start(&path, Adoption::AtBoot).await;
    let run = StartPipeline::document("w.yaml", TEXT).mode(ProviderMode::Live);
    let run = first.pipelines().start(run).await.unwrap();
    keeper.called(2).await;
    let id = run.id().clone();
    drop(run);
    let summary = first.shutdown().await;
    assert_eq!(summary.drain.unwrap().released, 1);

    let (second, keeper) = start(&path, Adoption::OnRequest).await;
    let unfinished = second.runs().unfinished().await.unwrap();
    assert_eq!(unfinished.len(), 1);
    assert!(!unfinished[0].owner_alive, "and left alone by a process that was not asked");
    assert_eq!(keeper.calls(), 0);
    second.shutdown().await;

    let (third, keeper) = start(&path, Adoption::AtBoot).await;
    keeper.called(1).await;
    keeper.open();
    let run = third.pipelines().get(&id).await.unwrap();
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    drop(run);
    assert_eq!(outcome.status(), "completed");
    assert_eq!(keeper.calls(), 1, "the recorded first reply is not asked for again");
    let ends: Vec<_> = outcome.view.attempts.iter().map(|attempt| attempt.end.unwrap()).collect();
    assert_eq!(ends, [AttemptEnd::Succeeded, AttemptEnd::Released, AttemptEnd::Succeeded]);
    assert_eq!(third.upkeep().verify(None).rest().await.unwrap(), [], "what is recorded is whole");
    third.shutdown().await;
}

/// What a run needs of its host may take its time: what another process left waits for all of it.
/// Proves INV-ST-30.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_claimed_before_all_of_the_host_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.db");
    let (first, keeper) = start(&path, Adoption::AtBoot).await;
    let run = StartPipeline::document("w.yaml", TEXT).mode(ProviderMode::Live);
    let run = first.pipelines().start(run).await.unwrap();
    keeper.called(2).await;
    let id = run.id().clone();
    drop(run);
    first.shutdown().await;

    let (gate, keeper) = Gate::new();
    let seen = keeper.clone();
    let (late, calls) = Agent::child_spec("late", move || {
        // real time: more than the scheduler waits between two looks
        let (_kept, nothing) = std::sync::mpsc::channel::<()>();
        assert!(nothing.recv_timeout(Duration::from_millis(1_500)).is_err(), "nobody sends");
        seen.calls()
    });
    let second = Runtime::builder()
        .store(Store::sqlite(&path))
        .config(Config::default().anthropic_model("gated"))
        .provider(ProviderKind::Claude, gate)
        .child(late)
        .start()
        .await
        .unwrap();
    assert_eq!(calls.get(|calls| *calls, SOON).await, Ok(0), "calls before it was ready");
    keeper.called(1).await;
    keeper.open();
    let run = second.pipelines().get(&id).await.unwrap();
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    drop(run);
    assert_eq!(outcome.status(), "completed");
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_has_one_process_and_says_who() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.db");
    let (first, _keeper) = start(&path, Adoption::OnRequest).await;
    let refused = Runtime::builder().store(Store::sqlite(&path)).start().await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("held by this process (pid "), "{text}");
    assert!(text.contains(&std::process::id().to_string()), "{text}");
    first.shutdown().await;
    let (second, _keeper) = start(&path, Adoption::OnRequest).await;
    second.shutdown().await;
}
