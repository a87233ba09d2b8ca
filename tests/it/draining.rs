//! A shutdown hands over: what ends in time is recorded, what does not is given back.

use std::time::Duration;

use perennial::{
    Config, ProviderKind, ProviderMode, Runtime, StartPipeline, Store, records::AttemptEnd,
};

use crate::gate::Gate;

fn echo(delay_ms: u32) -> StartPipeline {
    let text = format!(
        "workflow:\n  name: w\n  steps:\n  - {{name: a, type: echo, value: 1, delay_ms: \
         {delay_ms}}}\n  - {{name: b, type: echo, value: 2}}\n"
    );
    StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock)
}

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
