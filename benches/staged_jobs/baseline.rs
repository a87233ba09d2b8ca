//! Runs whose workflow says itself what comes next: all of its jobs at once.

use std::{sync::Arc, time::Duration};

use perennial::engine::{
    AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, Outcome, Workflow,
    workflow::{BoxFuture, JobKey, RetryPolicy},
};
use perennial::{Runtime, Store, records::Failure};
use serde_json::json;

#[derive(Debug)]
pub(crate) struct Plain {
    jobs: usize,
    definition: Definition,
}

impl Plain {
    pub(crate) fn new(jobs: usize, definition: Definition) -> Self {
        Self { jobs, definition }
    }
}

impl Workflow for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        if done.len() == self.jobs {
            return Next::Seal;
        }
        if !done.is_empty() {
            return Next::Jobs(Vec::new());
        }
        let job = |number| {
            JobPlan::new(
                JobKey::new(format!("j{number}")),
                RetryPolicy::PROVIDER,
                Duration::from_secs(60),
            )
        };
        Next::Jobs((0..self.jobs).map(job).collect())
    }

    fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
        FailureMeans::FailRun { record: json!(failure.message) }
    }

    fn execute(self: Arc<Self>, _: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async { Outcome::Succeeded(json!(1)) })
    }
}

/// Jobs a second of as many runs at once.
pub(crate) async fn plain_runs(runs: usize, jobs: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::sqlite(folder.path().join("runs.db"));
    let runtime = Runtime::builder().store(store).start().await.unwrap();
    let begun = super::now();
    let mut started = Vec::with_capacity(runs);
    for _ in 0..runs {
        started.push(runtime.runs().start(super::start(jobs)).await.unwrap());
    }
    for run in &started {
        assert_eq!(run.outcome().await.unwrap().state.name(), "succeeded");
    }
    let took = begun.elapsed();
    drop(started);
    runtime.shutdown().await;
    super::per_second(runs * jobs, took)
}
