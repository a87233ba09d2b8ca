//! A victim whose run fails when all but its last job is done, and undoes what it has done.

use std::{fmt, sync::Arc};

use perennial::{
    RunId,
    engine::{
        AttemptCx, Definitions, NotRunnable, StartRun, Workflow,
        staged::{
            Activity, ActivityError, Edge, Ended, Feed, JobSpec, Plan, PlanProblems, RunReport,
            Stage, Staged, StagedWorkflow, Undo,
        },
        workflow::{BoxFuture, RetryPolicy},
    },
    records::{Failure, FailureClass, RunRecord},
};

use super::{
    host::Host,
    victim::{Ledger, Orders},
};

/// What is done, in this order; the third is undone at the second try.
pub(super) const DONE: [&str; 4] = ["a", "b", "c", "d"];

/// Does what is undone, and what fails.
struct Do;

impl Activity for Do {
    const NAME: &'static str = "do";
    type In = bool;
    type Out = String;

    async fn run(&self, cx: &AttemptCx, is_last: bool) -> Result<Ended<String>, ActivityError> {
        if is_last {
            return Err(Failure::new(FailureClass::Permanent, "APP1", "never").into());
        }
        Ok(Ended::Done(cx.job.to_string()))
    }
}

/// Undoes it, and tells that with the key that the outside world sees.
struct UndoIt(Arc<Ledger>);

impl Activity for UndoIt {
    const NAME: &'static str = "undo";
    type In = Undo<bool, String>;
    type Out = ();

    async fn run(&self, cx: &AttemptCx, undo: Self::In) -> Result<Ended<()>, ActivityError> {
        assert_eq!(undo.result, format!("{}/{}", undo.stage, undo.key), "what it gave");
        let key = cx.idempotency_key.as_str();
        self.0.write(&format!("effect {} {} 1 {key}", cx.job, cx.attempt));
        self.0.passes("undo:after");
        if undo.key == "c" && cx.attempt == 1 {
            return Err(Failure::new(FailureClass::Transient, "APP2", "not yet").into());
        }
        Ok(Ended::Done(()))
    }
}

struct Undoing;

impl StagedWorkflow for Undoing {
    const NAME: &'static str = "undoing";
    const VERSION: u32 = 1;
    type Input = ();
    type Output = ();

    fn plan(&self, (): &()) -> Result<Plan, PlanProblems> {
        let jobs = DONE.iter().enumerate().map(|(at, key)| {
            JobSpec::new(*key, &false).after(at.checked_sub(1).map(|before| DONE[before]))
        });
        let retry = RetryPolicy { base_ms: 1, cap_ms: 5, ..RetryPolicy::PROVIDER };
        let done = Stage::activity::<Do>("done").retry(retry).feed(Feed::jobs(jobs));
        let done = done.compensate::<UndoIt>().compensation_retry(retry);
        let last = Edge::from("done", |_, _| vec![JobSpec::new("it", &true)]);
        Ok(Plan::new()
            .stage(done)
            .stage(Stage::activity::<Do>("last").retry(retry).feed(Feed::barrier(last))))
    }

    fn summarize(&self, (): &(), _: &RunReport) {}
}

/// Takes the run up again.
struct Revived(Staged<Undoing>);

impl fmt::Debug for Revived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Revived")
    }
}

impl Definitions for Revived {
    fn revive<'a>(
        &'a self,
        record: &'a RunRecord,
        _: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
        Box::pin(std::future::ready(self.0.rebuild(record)))
    }
}

/// One life of the process, to the end of the run.
pub(super) async fn live(orders: &Orders, ledger: Arc<Ledger>) {
    let undoing = Staged::new(Undoing).activity(Do).activity(UndoIt(ledger.clone()));
    let revived = Arc::new(Revived(undoing.clone()));
    let host = Host::start(orders, ledger.clone(), revived, Vec::new()).await;
    let run = Some(RunId::parse(&orders.run).unwrap());
    let run = host.runs.start(StartRun { run, ..undoing.start(&()).unwrap() }).await.unwrap();
    ledger.write("created");
    let outcome = run.outcome().await.unwrap();
    ledger.write(&format!("closed {}", outcome.state));
    host.shutdown().await;
}
