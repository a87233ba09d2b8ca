//! Runs that began elsewhere.

use std::panic::{self, AssertUnwindSafe};

use perennial_store::{Created, NewJob, Past};

use super::{RunError, RunHandle, Runs, StartRun};
use crate::{
    Action,
    staged::{History, PlanProblem, PlanProblems, Recalled},
    workflow::Workflow,
};

/// A run that began elsewhere and is recorded here.
///
/// ```
/// use perennial::engine::ImportedRun;
///
/// fn tell(imported: &ImportedRun) {
///     let what = if imported.is_new { "recorded" } else { "here already" };
///     println!("{} is {what}", imported.run.id());
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImportedRun {
    /// The run.
    pub run: RunHandle,
    /// It was recorded by this import; else an earlier one did, and nothing has changed.
    pub is_new: bool,
}

impl Runs {
    /// Records a run that began elsewhere, with what had come of it, and goes on with it unless it arrives
    /// [paused](History::paused): in one transaction, so that it is there whole or not at all. The same id with the
    /// same definition and settings is the same run, however far it is: a second import changes nothing (INV-35).
    ///
    /// Jobs that had ended keep how they ended and what they gave, without an attempt; what follows from them is made
    /// as if they had ended here. Stages and the run close by what is recorded of their jobs, whatever was told of them
    /// elsewhere.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use perennial::{RunId, Runtime, Store, engine::{StartRun, staged::*}};
    /// # use perennial::engine::AttemptCx;
    /// # #[derive(Debug)]
    /// # struct Square;
    /// # impl Activity for Square {
    /// #     const NAME: &'static str = "square";
    /// #     type In = u64;
    /// #     type Out = u64;
    /// #     async fn run(&self, _: &AttemptCx, number: u64) -> Result<Ended<u64>, ActivityError> {
    /// #         Ok(Ended::Done(number * number))
    /// #     }
    /// # }
    /// # #[derive(Debug)]
    /// # struct Squares;
    /// # impl StagedWorkflow for Squares {
    /// #     const NAME: &'static str = "squares";
    /// #     const VERSION: u32 = 1;
    /// #     type Input = Vec<u64>;
    /// #     type Output = u64;
    /// #     fn plan(&self, numbers: &Vec<u64>) -> Result<Plan, PlanProblems> {
    /// #         let jobs = numbers.iter().map(|number| JobSpec::new(number.to_string(), number));
    /// #         Ok(Plan::new().stage(Stage::activity::<Square>("square").feed(Feed::jobs(jobs))))
    /// #     }
    /// #     fn summarize(&self, _: &Vec<u64>, report: &RunReport) -> u64 {
    /// #         report.stage("square").iter().flat_map(|it| &it.items).filter_map(|it| it.output::<u64>()).sum()
    /// #     }
    /// # }
    ///
    /// let squares = Staged::new(Squares).activity(Square);
    /// let runtime = Runtime::builder().store(Store::memory()).staged(&squares).start().await?;
    /// let start = || -> Result<StartRun, PlanProblems> {
    ///     let run = RunId::parse("legacy-17").ok();
    ///     Ok(StartRun { run, ..squares.start(&vec![2, 3])? })
    /// };
    /// // The other system had done the first one, its own way.
    /// let first = JobHistory::new("square", JobSpec::new("2", &2)).ended(JobEnd::succeeded(&40));
    /// let history = History::new().job(first);
    /// let imported = runtime.runs().import(start()?, &history).await?;
    /// let outcome = imported.run.outcome().await?;
    /// assert_eq!(squares.output(&outcome.view)?, 49);
    /// assert!(!runtime.runs().import(start()?, &history).await?.is_new);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::PlanRejected`] with everything in the history that does not fit the plan; a
    /// [`StoreError::Conflict`](crate::RunError::Store) when somebody else has one of its numbers; else see
    /// [`RunError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a recorded run.
    pub async fn import(
        &self,
        start: StartRun,
        history: &History,
    ) -> Result<ImportedRun, RunError> {
        self.require(Action::Import, start.run.as_ref()).await?;
        if self.services.is_draining() {
            return Err(RunError::ShuttingDown);
        }
        let node = self.services.node().await?;
        let (run, _starts, created) = self.create(&start, Some(node), Some(history)).await?;
        let is_new = matches!(created, Created::New { .. });
        if is_new {
            self.scheduler.ensure(&run, Some(start.workflow), true).await??;
        }
        Ok(ImportedRun { run: RunHandle { runs: self.clone(), run }, is_new })
    }
}

/// What is recorded of `history`; its further jobs are added to `jobs`.
pub(super) fn recall(
    workflow: &dyn Workflow,
    history: &History,
    of: &Recalled<'_>,
    jobs: &mut Vec<NewJob>,
) -> Result<Past, PlanProblems> {
    let staged = panic::catch_unwind(AssertUnwindSafe(|| workflow.staging()));
    let Ok(Some(staging)) = staged else {
        let why = "only a run in stages can have begun elsewhere".to_owned();
        return Err(PlanProblems(vec![PlanProblem::Host(why)]));
    };
    staging.recall(history, of, jobs)
}
