//! Where the jobs of a stage come from.

use std::fmt;

use perennial_core::{
    run::{JobState, Priority, SkipReason},
    service::ServiceKey,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Where the jobs of a stage come from. An attribute of the stage, not a mode of the engine.
#[derive(Debug)]
pub struct Feed(pub(crate) FeedFrom);

#[derive(Debug)]
pub(crate) enum FeedFrom {
    Jobs(Vec<JobSpec>),
    PerItem(Edge),
    Barrier(Edge),
    Driven,
}

impl Feed {
    /// These, from the beginning.
    pub fn jobs(jobs: impl IntoIterator<Item = JobSpec>) -> Self {
        Self(FeedFrom::Jobs(jobs.into_iter().collect()))
    }

    /// From each job of another stage, as soon as it has ended.
    pub fn per_item(edge: Edge) -> Self {
        Self(FeedFrom::PerItem(edge))
    }

    /// From all jobs of another stage, once it has closed.
    pub fn barrier(edge: Edge) -> Self {
        Self(FeedFrom::Barrier(edge))
    }

    /// From what [`StagedWorkflow::next`](crate::staged::StagedWorkflow::next) asks for, each time that jobs of the run have ended,
    /// until it seals the stage. So a stage may go on until something is good enough.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use perennial::{Runtime, Store};
    /// use perennial::engine::{AttemptCx, staged::*};
    ///
    /// #[derive(Debug)]
    /// struct Halve;
    ///
    /// impl Activity for Halve {
    ///     const NAME: &'static str = "halve";
    ///     type In = u64;
    ///     type Out = u64;
    ///
    ///     async fn run(&self, _: &AttemptCx, number: u64) -> Result<Ended<u64>, ActivityError> {
    ///         Ok(Ended::Done(number / 2))
    ///     }
    /// }
    ///
    /// /// Halves a number until it is below 10, at most 8 times.
    /// #[derive(Debug)]
    /// struct Halves;
    ///
    /// impl StagedWorkflow for Halves {
    ///     const NAME: &'static str = "halves";
    ///     const VERSION: u32 = 1;
    ///     type Input = u64;
    ///     type Output = Option<u64>;
    ///
    ///     fn plan(&self, _: &u64) -> Result<Plan, PlanProblems> {
    ///         Ok(Plan::new().stage(Stage::activity::<Halve>("halve").feed(Feed::driven())))
    ///     }
    ///
    ///     fn next(&self, number: &u64, report: &RunReport) -> NextJobs {
    ///         let ended = report.stage("halve").map_or(&[][..], |it| &it.items);
    ///         let last = match ended.last() {
    ///             None => Some(*number),
    ///             Some(item) => item.output::<u64>(), // none where it failed
    ///         };
    ///         match last {
    ///             Some(number) if number >= 10 && ended.len() < 8 => {
    ///                 NextJobs::none().job("halve", JobSpec::new(format!("{}", ended.len()), &number))
    ///             }
    ///             Some(_) | None => NextJobs::none().seal("halve"),
    ///         }
    ///     }
    ///
    ///     fn summarize(&self, _: &u64, report: &RunReport) -> Option<u64> {
    ///         report.stage("halve")?.items.last()?.output()
    ///     }
    /// }
    ///
    /// let halves = Staged::new(Halves).activity(Halve);
    /// let runtime = Runtime::builder().store(Store::memory()).staged(&halves).start().await?;
    /// let outcome = runtime.runs().start(halves.start(&77)?).await?.outcome().await?;
    /// assert_eq!(halves.output(&outcome.view)?, Some(9)); // 77, 38, 19, 9
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn driven() -> Self {
        Self(FeedFrom::Driven)
    }
}

/// What jobs follow from those of another stage: a pure function of the run's input and of their results.
#[derive(Clone, Copy)]
pub struct Edge {
    pub(crate) upstream: &'static str,
    pub(crate) jobs: fn(&Value, &Upstream) -> Vec<JobSpec>,
    pub(crate) on_failure: UpstreamFailure,
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { upstream, on_failure, .. } = self;
        f.debug_struct("Edge").field("upstream", upstream).field("on_failure", on_failure).finish()
    }
}

impl Edge {
    /// From that stage, by that function: of one job each time where its stage is fed per item, of all of them at a
    /// barrier. It is asked of jobs that succeeded, wholly or in part.
    pub fn from(upstream: &'static str, jobs: fn(&Value, &Upstream) -> Vec<JobSpec>) -> Self {
        Self { upstream, jobs, on_failure: UpstreamFailure::Skip }
    }

    /// What becomes of a job that did not succeed.
    #[must_use]
    pub fn on_upstream_failure(mut self, on_failure: UpstreamFailure) -> Self {
        self.on_failure = on_failure;
        self
    }
}

/// What follows from a job that did not succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// A job of the same key that is skipped, so that totals stay honest (FL6).
    #[default]
    Skip,
    /// Nothing.
    Omit,
    /// The stage fails: that job has failed, what goes on of the stage ends, and its run with it unless the stage is optional.
    FailStage,
}

/// Jobs of another stage that have ended.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub(crate) items: Vec<Item>,
}

impl Upstream {
    /// All of them, in the order they were made.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Those that succeeded, wholly or in part.
    pub fn succeeded(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.is_success())
    }
}

/// A job of another stage that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its key in its stage.
    pub key: String,
    /// How it ended.
    pub state: JobState,
    /// Why it was skipped.
    pub skipped: Option<SkipReason>,
    /// What it gave.
    pub result: Option<Value>,
}

impl Item {
    /// Whether it succeeded, wholly or in part.
    pub fn is_success(&self) -> bool {
        matches!(self.state, JobState::Succeeded | JobState::Partial)
    }

    /// What it gave, as a `T`; nothing where it gave none, or something else.
    pub fn output<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_value(self.result.clone()?).ok()
    }
}

/// A job to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    pub(crate) key: String,
    pub(crate) input: Result<Value, String>,
    pub(crate) after: Vec<String>,
    pub(crate) uses: Vec<ServiceKey>,
    /// Without it that of its stage.
    pub(crate) priority: Option<Priority>,
}

impl JobSpec {
    /// The job of that key, which no other one of its stage has, with that input.
    pub fn new(key: impl AsRef<str>, input: &impl Serialize) -> Self {
        let input = serde_json::to_value(input).map_err(|error| error.to_string());
        let key = key.as_ref().to_owned();
        Self { key, input, after: Vec::new(), uses: Vec::new(), priority: None }
    }

    /// Begins once those jobs of its stage have succeeded, wholly or in part, and is skipped when one of them does not.
    ///
    /// ```
    /// use perennial::engine::staged::JobSpec;
    ///
    /// let index = JobSpec::new("index", &"all").after(["a", "b"]);
    /// assert_ne!(index, JobSpec::new("index", &"all"));
    /// ```
    #[must_use]
    pub fn after<K: AsRef<str>>(mut self, jobs: impl IntoIterator<Item = K>) -> Self {
        self.after.extend(jobs.into_iter().map(|key| key.as_ref().to_owned()));
        self
    }

    /// It needs that instance of a service, besides what its stage does: see [`Stage::uses`](super::Stage::uses).
    #[must_use]
    pub fn uses(mut self, service: ServiceKey) -> Self {
        self.uses.push(service);
        self
    }

    /// It comes before other jobs of its run, or after them, whatever [its stage](super::Stage::priority) says.
    ///
    /// ```
    /// use perennial::engine::{Priority, staged::JobSpec};
    ///
    /// let first = JobSpec::new("shop", &"now").priority(Priority::URGENT);
    /// assert_ne!(first, JobSpec::new("shop", &"now"));
    /// ```
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }
}
