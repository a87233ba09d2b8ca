//! What a host or its configuration bounds a run with, over all its rounds.

use std::time::Duration;

use perennial::{
    Deployment, PipelineRunHandle, ProviderMode, ResumePipeline, Runtime, StartPipeline, Store,
};

const FAILS: &str = "workflow:\n  name: w\n  steps:\n  - {name: a, type: echo, fail: true}\n";
const MINUTE: Duration = Duration::from_secs(60);

/// How long this round of the run may take.
async fn given(run: &PipelineRunHandle) -> Duration {
    let outcome = run.outcome().await.unwrap();
    let record = &outcome.view.run;
    record.deadline.unwrap().since(record.finished_at.unwrap())
}

fn enforcing(seconds: u64) -> Deployment {
    Deployment::enforcing([("max_execution_time_s", seconds)]).unwrap()
}

/// YF-48, YR-54: each round has the time that the host gave the run, and never more than was enforced at its start.
#[tokio::test]
async fn a_resumed_run_has_the_time_that_it_was_started_with() {
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let start = || StartPipeline::document("w.yaml", FAILS).mode(ProviderMode::Mock);
    let longer =
        FAILS.replace("  steps:", "  resource_limits: {max_execution_time_s: 7200}\n  steps:");
    for (start, most) in [
        (start().within(10 * MINUTE), 10 * MINUTE),
        (start().deployment(enforcing(120)), 2 * MINUTE),
        (start().within(10 * MINUTE).deployment(enforcing(120)), 2 * MINUTE),
    ] {
        let run = runtime.pipelines().start(start).await.unwrap();
        let is_kept = |given: Duration| given <= most && given + MINUTE > most;
        assert!(is_kept(given(&run).await), "{:?} of {most:?}", given(&run).await);
        let as_it_is = ResumePipeline::run(run.id().clone());
        let corrected = as_it_is.clone().document("w.yaml", longer.as_str());
        for resume in [as_it_is.clone(), corrected, as_it_is] {
            let run = runtime.pipelines().resume_with(resume).await.unwrap();
            assert!(is_kept(given(&run).await), "{:?} of {most:?}", given(&run).await);
        }
    }
    runtime.shutdown().await;
}
