//! duroxide: an orchestration of activities, each recorded in its SQLite provider.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use duroxide::{
    ActivityContext, Client, OrchestrationContext, OrchestrationRegistry, OrchestrationStatus,
    providers::sqlite::SqliteProvider,
    runtime::{Runtime, RuntimeOptions, registry::ActivityRegistry},
};

use tokio::sync::mpsc;

use crate::measure::rate;

/// So many activities a second, in `runs` orchestrations of `steps` each.
pub(crate) async fn run(path: PathBuf, steps: usize, runs: usize) -> f64 {
    std::fs::File::create(&path).expect("a file");
    let url = format!("sqlite:{}", path.display());
    let store = Arc::new(SqliteProvider::new(&url, None).await.expect("a store"));
    let activities = ActivityRegistry::builder()
        .register("one", |_: ActivityContext, input: String| async move { Ok(input) })
        .build();
    // Whoever waits for an end asks every tenth of a second: the last line of the code tells it sooner, which is before
    // its last commit.
    let (tell, mut told) = mpsc::unbounded_channel();
    let orchestrations = OrchestrationRegistry::builder()
        .register("steps", move |cx: OrchestrationContext, count: String| {
            let tell = tell.clone();
            async move {
                let count: usize = count.parse().map_err(|_| "no number".to_owned())?;
                for number in 0..count {
                    cx.schedule_activity("one", number.to_string()).await?;
                }
                tell.send(()).map_err(|_| "nobody waits".to_owned())?;
                Ok::<_, String>(count.to_string())
            }
        })
        .build();
    let mut options = RuntimeOptions::default();
    options.observability.log_level = "off".to_owned();
    // It asks every tenth of a second as it is.
    options.dispatcher_min_poll_interval = Duration::from_millis(1);
    let runtime =
        Runtime::start_with_options(store.clone(), activities, orchestrations, options).await;
    let client = Client::new(store);
    let begun = Instant::now();
    for run in 0..runs {
        let started = client.start_orchestration(format!("run-{run}"), "steps", steps.to_string());
        started.await.expect("it was started");
    }
    for _ in 0..runs {
        told.recv().await.expect("the end of each");
    }
    let rate = rate(steps * runs, begun);
    for run in 0..runs {
        let name = format!("run-{run}");
        let ended = client.wait_for_orchestration(&name, Duration::from_secs(60)).await;
        let ended = ended.expect("it ended");
        assert!(matches!(ended, OrchestrationStatus::Completed { .. }), "{ended:?}");
    }
    runtime.shutdown(Some(0)).await;
    rate
}
