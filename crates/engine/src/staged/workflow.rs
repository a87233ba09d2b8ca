//! The typed workflow, and the one that the engine runs.

use std::{collections::BTreeMap, fmt, marker::PhantomData, sync::Arc};

use perennial_core::{
    FailureClass,
    failure::Failure,
    run::{JobKey, Priority, RunState, SkipReason, StageOutcome, StageState},
};
use perennial_store::{RunRecord, RunView};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Activity, Driver, ErasedActivity, ErasedGroup, Group, Item, NextJobs, Plan, PlanProblem,
    PlanProblems, Staging, Work,
    activity::{ActivityOf, GroupOf},
};
use crate::{
    NotRunnable, StartRun,
    workflow::{AttemptCx, BoxFuture, Definition, DoneJob, FailureMeans, Next, Outcome, Workflow},
};

/// A workflow in stages: a plan, and what is told of its run.
///
/// Both functions are pure. A plan is made again whenever a process takes the run up; one that differs from the plan
/// the run was started with is refused, so `VERSION` changes with whatever changes it (DUR-7).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use perennial::{Runtime, Store};
/// use perennial::engine::{AttemptCx, staged::*};
///
/// #[derive(Debug)]
/// struct Square;
///
/// impl Activity for Square {
///     const NAME: &'static str = "square";
///     type In = u64;
///     type Out = u64;
///
///     async fn run(&self, _: &AttemptCx, number: u64) -> Result<Ended<u64>, ActivityError> {
///         Ok(Ended::Done(number * number))
///     }
/// }
///
/// #[derive(Debug)]
/// struct Squares;
///
/// impl StagedWorkflow for Squares {
///     const NAME: &'static str = "squares";
///     const VERSION: u32 = 1;
///     type Input = Vec<u64>;
///     type Output = u64;
///
///     fn plan(&self, numbers: &Vec<u64>) -> Result<Plan, PlanProblems> {
///         let jobs = numbers.iter().map(|number| JobSpec::new(number.to_string(), number));
///         Ok(Plan::new().stage(Stage::activity::<Square>("square").feed(Feed::jobs(jobs))))
///     }
///
///     fn summarize(&self, _: &Vec<u64>, report: &RunReport) -> u64 {
///         report.stage("square").iter().flat_map(|it| &it.items).filter_map(|it| it.output::<u64>()).sum()
///     }
/// }
///
/// let squares = Staged::new(Squares).activity(Square);
/// let runtime = Runtime::builder().store(Store::memory()).staged(&squares).start().await?;
/// let run = runtime.runs().start(squares.start(&vec![1, 2, 3])?).await?;
/// let outcome = run.outcome().await?;
/// assert_eq!(outcome.state.name(), "succeeded");
/// assert_eq!(squares.output(&outcome.view)?, 14);
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub trait StagedWorkflow: Send + Sync + 'static {
    /// Its name, which its runs are recorded with.
    const NAME: &'static str;
    /// Changes with whatever changes its plans; runs stay on the version they were started with.
    const VERSION: u32;
    /// What a run is given.
    type Input: Serialize + DeserializeOwned;
    /// What a run gives.
    type Output;

    /// The stages of a run with that input.
    ///
    /// # Errors
    ///
    /// Everything that keeps such a run from being planned.
    fn plan(&self, input: &Self::Input) -> Result<Plan, PlanProblems>;

    /// What comes next in the driven stages of a run's plan ([`Feed::driven`](super::Feed::driven)), from what has ended by
    /// now; without one it is never asked. Unless it says otherwise they are sealed at once.
    ///
    /// It is asked whenever something of the run has ended, after what follows from that by other feeds, and what it says
    /// is recorded together with that. `report` tells of all stages, and of the jobs that have ended, in the order they
    /// were made; what is under way is not in it. So it says the same for the same ends: it may ask for jobs that are there
    /// already, which are not made twice, and need not remember anything. Like the plan it is pure (DUR-4).
    ///
    /// Where it panics, or asks for what cannot be (a job of a stage that is not driven, or a new one in a stage that is
    /// sealed; two jobs of one key; jobs that come after each other in a circle, or after one that is not there; a service
    /// that the host does not have; more than 1 000 000 jobs), what has happened is recorded, nothing of its answer is made,
    /// and the run is parked with the reason. So is a run in which nothing is under way while a stage is not sealed and
    /// nothing is asked for. It asks again when somebody resumes the run, by a workflow that is put right. Jobs of a stage
    /// that the plan skips are not made.
    ///
    /// In a further round it is asked again where something is made again in a driven stage, in one before it in the plan,
    /// or in what it feeds one by one, and always where the run had failed or was cancelled. Jobs that have ended keep their results then, unless a result of an earlier stage
    /// changes: then all of the stage is made again, as far as it is asked for once more.
    fn next(&self, _input: &Self::Input, _report: &RunReport) -> NextJobs {
        NextJobs::seal_all()
    }

    /// What came of a run, from what is recorded of it.
    fn summarize(&self, input: &Self::Input, report: &RunReport) -> Self::Output;
}

/// A [`StagedWorkflow`] with its activities and groups, as a runtime is given it. Cheap to clone.
pub struct Staged<W>(Arc<Parts<W>>);

struct Parts<W> {
    workflow: Arc<W>,
    activities: Arc<BTreeMap<&'static str, Arc<dyn ErasedActivity>>>,
    groups: Arc<BTreeMap<&'static str, Arc<dyn ErasedGroup>>>,
}

impl<W> Clone for Staged<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W: StagedWorkflow> fmt::Debug for Staged<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").field("name", &W::NAME).field("version", &W::VERSION).finish()
    }
}

impl<W: StagedWorkflow> Staged<W> {
    /// That workflow, without anything that its plans may name.
    pub fn new(workflow: W) -> Self {
        let (activities, groups) = (Arc::default(), Arc::default());
        Self(Arc::new(Parts { workflow: Arc::new(workflow), activities, groups }))
    }

    fn with(self, change: impl FnOnce(&mut Parts<W>)) -> Self {
        // Its clones are made once it is complete.
        let mut parts = self.0;
        match Arc::get_mut(&mut parts) {
            Some(own) => change(own),
            None => tracing::warn!(workflow = W::NAME, "parts of a workflow in use do not change"),
        }
        Self(parts)
    }

    /// With that activity.
    #[must_use]
    pub fn activity<A: Activity>(self, activity: A) -> Self {
        self.with(|parts| {
            Arc::make_mut(&mut parts.activities).insert(A::NAME, Arc::new(ActivityOf(activity)));
        })
    }

    /// With that group.
    #[must_use]
    pub fn group<G: Group>(self, group: G) -> Self {
        self.with(|parts| {
            let group = Arc::new(GroupOf(group, PhantomData));
            Arc::make_mut(&mut parts.groups).insert(G::NAME, group);
        })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        W::NAME
    }

    /// A run with that input, to be handed to [`Runs::start`](crate::Runs::start).
    ///
    /// # Errors
    ///
    /// Everything that is wrong with its plan.
    pub fn start(&self, input: &W::Input) -> Result<StartRun, PlanProblems> {
        let given = serde_json::to_value(input).map_err(|error| {
            let (what, why) = ("the run".to_owned(), error.to_string());
            PlanProblems(vec![PlanProblem::Input { what, why }])
        })?;
        let settings = json!({ "input": given });
        let workflow = Arc::new(self.planned(input, settings.clone())?);
        let priority = Priority::NORMAL;
        Ok(StartRun { run: None, workflow, settings, within: None, priority })
    }

    fn planned(&self, input: &W::Input, settings: Value) -> Result<StagedRun, PlanProblems> {
        let plan = self.0.workflow.plan(input)?;
        let mut problems = plan.problems();
        problems.extend(self.unknown(&plan));
        if !problems.is_empty() {
            return Err(PlanProblems(problems));
        }
        let data = json!({ "name": W::NAME, "version": W::VERSION, "plan": plan.data() });
        let definition = Definition::new(data.to_string().into_bytes());
        let settings = Arc::new(settings);
        let staging = Staging {
            stages: plan.into_stages(),
            driver: Arc::new(DrivenBy(self.0.workflow.clone(), settings.clone())),
            settings,
            activities: self.0.activities.clone(),
            groups: self.0.groups.clone(),
        };
        Ok(StagedRun { name: W::NAME, definition, staging })
    }

    /// What the plan needs and nobody has registered.
    fn unknown<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = PlanProblem> + 'a {
        plan.stages.iter().flat_map(|stage| {
            let work = match stage.work {
                Work::Activity(name) => ("activity", name, self.0.activities.contains_key(name)),
                Work::Group(name) => ("group", name, self.0.groups.contains_key(name)),
            };
            let undoes = stage.undoing.activity;
            let undoes =
                undoes.map(|name| ("activity", name, self.0.activities.contains_key(name)));
            let unknown = [Some(work), undoes].into_iter().flatten().filter(|(.., known)| !known);
            unknown.map(|(kind, name, _)| {
                let (stage, name) = (stage.name.clone(), name.to_owned());
                PlanProblem::UnknownWork { stage, kind, name }
            })
        })
    }

    /// The workflow of a run that this process takes up.
    ///
    /// # Errors
    ///
    /// When its input cannot be read any more, or is planned otherwise than when it was started.
    pub fn rebuild(&self, record: &RunRecord) -> Result<Arc<dyn Workflow>, NotRunnable> {
        let refuse = |why: String| NotRunnable::new(record, why);
        let input = serde_json::from_value(record.settings["input"].clone())
            .map_err(|error| refuse(format!("its input cannot be read: {error}")))?;
        let planned = self
            .planned(&input, record.settings.clone())
            .map_err(|problems| refuse(problems.to_string()))?;
        if planned.definition.digest != record.definition {
            return Err(refuse(format!(
                "its plan is not the one that it was started with: {} {} plans otherwise now",
                W::NAME,
                W::VERSION
            )));
        }
        Ok(Arc::new(planned))
    }

    /// What came of a run, by its rows: [`StagedWorkflow::summarize`].
    ///
    /// # Errors
    ///
    /// When its input cannot be read any more.
    pub fn output(&self, view: &RunView) -> Result<W::Output, serde_json::Error> {
        let input = serde_json::from_value(view.run.settings["input"].clone())?;
        Ok(self.0.workflow.summarize(&input, &RunReport::of(view)))
    }
}

/// What is recorded of a run, by stage.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunReport {
    /// Where the run is.
    pub state: RunState,
    /// Its stages, in order.
    pub stages: Vec<StageReport>,
}

/// What is recorded of a stage.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StageReport {
    /// Its name.
    pub stage: String,
    /// Where it is.
    pub state: StageState,
    /// How it closed.
    pub outcome: Option<StageOutcome>,
    /// Its own jobs, in the order they were made.
    pub items: Vec<Item>,
}

impl RunReport {
    /// Of a run with those rows.
    pub fn of(view: &RunView) -> Self {
        let stages = view.stages.iter().map(|stage| {
            let own =
                view.jobs.iter().filter(|job| job.stage == stage.stage && job.parent.is_none());
            StageReport {
                stage: stage.stage.clone(),
                state: stage.state,
                outcome: stage.outcome,
                items: own
                    .map(|job| {
                        let (state, skipped) = (job.state, job.skipped);
                        super::item(&job.key, &job.stage, state, skipped, job.result.as_ref())
                    })
                    .collect(),
            }
        });
        Self { state: view.run.state, stages: stages.collect() }
    }

    /// The stage of that name.
    pub fn stage(&self, name: &str) -> Option<&StageReport> {
        self.stages.iter().find(|stage| stage.stage == name)
    }
}

/// A workflow with the settings of one of its runs.
struct DrivenBy<W>(Arc<W>, Arc<Value>);

impl<W: StagedWorkflow> Driver for DrivenBy<W> {
    fn next(&self, report: &RunReport) -> Result<NextJobs, serde_json::Error> {
        let input = W::Input::deserialize(&self.1["input"])?;
        Ok(self.0.next(&input, report))
    }
}

/// One planned run.
#[derive(Debug)]
struct StagedRun {
    name: &'static str,
    definition: Definition,
    staging: Staging,
}

impl Workflow for StagedRun {
    fn name(&self) -> &str {
        self.name
    }

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn staging(&self) -> Option<&Staging> {
        Some(&self.staging)
    }

    /// Never asked: its plan says it.
    fn next(&self, _: &[DoneJob]) -> Next {
        Next::Seal
    }

    /// Its stage says what a failure of its job means.
    fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
        let Failure { class, code, message, .. } = failure;
        FailureMeans::FailJob {
            record: json!({ "class": class, "code": code, "message": message }),
        }
    }

    fn on_skip(&self, _: &JobKey, _: SkipReason, why: &str) -> Value {
        Value::String(why.to_owned())
    }

    fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
        match self.staging.activities.get(cx.work()) {
            Some(activity) => activity.clone().run(cx),
            None => {
                let text = format!("no activity `{}` is registered", cx.work());
                let failure = Failure::new(FailureClass::Permanent, "PL699", text);
                Box::pin(std::future::ready(Outcome::Failed(failure)))
            }
        }
    }
}

/// The failure that a job's record tells of.
pub(crate) fn failure_of(record: Option<&Value>) -> Failure {
    let text = |name: &str| record.and_then(|it| it.get(name)).and_then(Value::as_str);
    let class = text("class").and_then(FailureClass::from_name).unwrap_or(FailureClass::Permanent);
    let code = text("code").unwrap_or("PL699");
    Failure::new(class, code, text("message").unwrap_or("it failed without saying why"))
}
