//! A workflow of one job, `a`, whose work is the test's own.

use std::{fmt, sync::Arc, time::Duration};

use perennial::{
    RunId, Runtime,
    engine::{
        AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, Outcome, RunHandle, StartRun,
        Workflow,
        workflow::{BoxFuture, JobKey, RetryPolicy},
    },
    records::{Failure, RunError},
};
use serde_json::json;

type Work = dyn Fn(AttemptCx) -> BoxFuture<'static, Outcome> + Send + Sync;

pub(crate) struct OneJob {
    definition: Definition,
    plan: JobPlan,
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
        let workflow = Self::of(Self::plan(), work);
        let run = run.map(|run| RunId::parse(run).unwrap());
        let start =
            StartRun { run, workflow, settings: json!({}), within, priority: Default::default() };
        runtime.runs().start(start).await.unwrap()
    }
}

impl OneJob {
    /// As [`OneJob::start`], of a job with a plan of its own, in a run that may take that long.
    pub(crate) async fn start_with<F>(
        runtime: &Runtime,
        plan: JobPlan,
        within: Option<Duration>,
        work: impl Fn(AttemptCx) -> F + Send + Sync + 'static,
    ) -> Result<RunHandle, RunError>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let workflow = Self::of(plan, move |cx| Box::pin(work(cx)) as BoxFuture<'static, Outcome>);
        runtime
            .runs()
            .start(StartRun {
                run: None,
                workflow,
                settings: json!({}),
                within,
                priority: Default::default(),
            })
            .await
    }

    /// Three attempts of nine seconds.
    pub(crate) fn plan() -> JobPlan {
        JobPlan::new(JobKey::new("a"), RetryPolicy::PROVIDER, Duration::from_secs(9))
    }

    fn of(
        plan: JobPlan,
        work: impl Fn(AttemptCx) -> BoxFuture<'static, Outcome> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let definition = Definition::new(b"one job".to_vec());
        Arc::new(Self { definition, plan, work: Box::new(work) })
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
        Next::Jobs(vec![self.plan.clone()])
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
