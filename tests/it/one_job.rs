//! A workflow of one job, `a`, whose work is the test's own.

use std::{fmt, sync::Arc, time::Duration};

use perennial::{
    RunId, Runtime,
    engine::{
        AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, Outcome, RunHandle, StartRun,
        Workflow,
        workflow::{BoxFuture, JobKey, RetryPolicy},
    },
    records::Failure,
};
use serde_json::json;

type Work = dyn Fn(AttemptCx) -> BoxFuture<'static, Outcome> + Send + Sync;

pub(crate) struct OneJob {
    definition: Definition,
    work: Box<Work>,
}

impl OneJob {
    /// Starts a run of one job that does `work` at each attempt.
    pub(crate) async fn start<F>(
        runtime: &Runtime,
        work: impl Fn(AttemptCx) -> F + Send + Sync + 'static,
    ) -> RunHandle
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let work = move |cx| Box::pin(work(cx)) as BoxFuture<'static, Outcome>;
        Self::start_as(runtime, None, None, work).await
    }

    /// Starts, or continues, the run of that name, which has to end in time.
    pub(crate) async fn start_as(
        runtime: &Runtime,
        run: Option<&str>,
        within: Option<Duration>,
        work: impl Fn(AttemptCx) -> BoxFuture<'static, Outcome> + Send + Sync + 'static,
    ) -> RunHandle {
        let definition = Definition::new(b"one job".to_vec());
        let workflow = Arc::new(Self { definition, work: Box::new(work) });
        let run = run.map(|run| RunId::parse(run).unwrap());
        let start = StartRun { run, workflow, settings: json!({}), within };
        runtime.runs().start(start).await.unwrap()
    }
}

impl Workflow for OneJob {
    fn name(&self) -> &str {
        "one-job"
    }

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        if !done.is_empty() {
            return Next::Seal;
        }
        Next::Jobs(vec![JobPlan {
            key: JobKey::new("a"),
            retry: RetryPolicy::PROVIDER,
            attempt_within: Duration::from_secs(9),
        }])
    }

    fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
        FailureMeans::FailRun { record: json!(failure.message) }
    }

    fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
        (self.work)(cx)
    }
}

impl fmt::Debug for OneJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneJob").finish_non_exhaustive()
    }
}
