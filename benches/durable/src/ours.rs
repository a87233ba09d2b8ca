//! Ours: a workflow in code, through the facade and the whole runtime.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use perennial::{
    Runtime, Store,
    engine::{
        AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, Outcome, StartRun, Workflow,
        workflow::{BoxFuture, JobKey, RetryPolicy},
    },
    records::Failure,
};
use serde_json::{Value, json};

use crate::{WIDTH, measure::rate};

/// How the jobs of a run follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Each when the one before it is done.
    Chain,
    /// All at once.
    Queue,
}

/// A run of trivial jobs.
#[derive(Debug)]
struct Flow {
    jobs: usize,
    order: Order,
    definition: Definition,
}

impl Flow {
    fn new(jobs: usize, order: Order) -> Arc<Self> {
        let definition = Definition::new(format!("{order:?} {jobs}").into_bytes());
        Arc::new(Self { jobs, order, definition })
    }

    fn plan(job: usize) -> JobPlan {
        let retry = RetryPolicy::PROVIDER;
        JobPlan::new(JobKey::new(format!("j{job}")), retry, Duration::from_secs(60))
    }
}

impl Workflow for Flow {
    fn name(&self) -> &str {
        "flow"
    }

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        match self.order {
            _ if done.len() == self.jobs => Next::Seal,
            Order::Chain => Next::Jobs(vec![Self::plan(done.len())]),
            Order::Queue if done.is_empty() => Next::Jobs((0..self.jobs).map(Self::plan).collect()),
            Order::Queue => Next::Jobs(Vec::new()),
        }
    }

    fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
        FailureMeans::FailRun { record: json!(failure.message) }
    }

    fn execute(self: Arc<Self>, _: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async { Outcome::Succeeded(Value::Null) })
    }
}

/// So many jobs a second, as the jobs of `runs` runs; enqueued, run and recorded.
pub(crate) async fn jobs(store: Store, jobs: usize, runs: usize) -> f64 {
    all(store, Flow::new(jobs / runs, Order::Queue), runs).await
}

/// So many steps a second, in `runs` runs of `steps` steps each.
pub(crate) async fn steps(store: Store, steps: usize, runs: usize) -> f64 {
    all(store, Flow::new(steps, Order::Chain), runs).await
}

/// Starts the runs, [`WIDTH`] at a time, and waits for their ends.
async fn all(store: Store, workflow: Arc<Flow>, runs: usize) -> f64 {
    let runtime = Runtime::builder().store(store).start().await.expect("a runtime");
    let begun = Instant::now();
    let starters = runs.min(WIDTH);
    let starting: Vec<_> = (0..starters)
        .map(|starter| {
            let (handle, workflow) = (runtime.runs().clone(), workflow.clone());
            tokio::spawn(async move {
                let mut started = Vec::new();
                for _ in (starter..runs).step_by(starters) {
                    let workflow = workflow.clone();
                    let start = StartRun {
                        run: None,
                        workflow,
                        settings: json!({}),
                        within: None,
                        priority: Default::default(),
                    };
                    started.push(handle.start(start).await.expect("it was recorded"));
                }
                for run in started {
                    let outcome = run.outcome().await.expect("an end");
                    assert_eq!(outcome.state.name(), "succeeded");
                }
            })
        })
        .collect();
    for one in starting {
        one.await.expect("it went well");
    }
    let rate = rate(runs * workflow.jobs, begun);
    runtime.shutdown().await;
    rate
}
