//! Runs in stages: jobs that feed further jobs, groups that expand into children and join them.
//!
//! A [`StagedWorkflow`] is a plan: [`Stage`]s, and where the jobs of each come from ([`Feed`]). Code is in
//! [`Activity`]s, fan-out in [`Group`]s. [`Staged`] puts them together and makes of it a
//! [`Workflow`](crate::Workflow) that the engine runs. Everything but an activity is pure: it sees no clock, no
//! randomness and no I/O, and says the same in every process (DUR-4).
//!
//! | room | what it is |
//! |---|---|
//! | `plan` | stages, feeds and edges, and what is wrong with a plan, all of it at once |
//! | `activity` | what is executed: activities, groups, children |
//! | `compensation` | what undoes completed jobs |
//! | `history` | what is told of a run that began elsewhere |
//! | `rounds` | what is made again in a further round, and what that opens |
//! | `workflow` | the typed workflow, and the one that the engine runs |

mod activity;
mod compensation;
mod history;
mod plan;
mod rounds;
mod workflow;

use std::{collections::BTreeMap, fmt, sync::Arc};

use perennial_core::{
    Timestamp,
    failure::Failure,
    run::{FeedKind, JobKey, JobState, RunId},
    service::ServiceKey,
};
use perennial_store::{NewJob, NewStage};
use serde_json::Value;

pub use perennial_core::run::{
    FailurePolicy, GiveUp, SkipReason, StageOutcome, StageState, Tolerance,
};

pub use self::{
    activity::{
        Activity, ActivityError, Child, ChildEnd, ChildOutcome, Ended, Group, JoinPolicy, Joined,
    },
    compensation::{Undo, UndoInput, UndoReason},
    history::{History, JobEnd, JobHistory},
    plan::{
        Edge, Feed, Item, JobSpec, NextJobs, Plan, PlanProblem, PlanProblems, Stage, Timeouts,
        Upstream, UpstreamFailure,
    },
    rounds::Which,
    workflow::{RunReport, StageReport, Staged, StagedWorkflow},
};
use crate::{
    EngineSettings,
    external::{CannotUse, Offered},
    run::planned_job,
    workflow::{AttemptCx, BoxFuture, Outcome},
};

pub(crate) use self::{
    activity::{ChildPlan, GroupEnd, own_key},
    compensation::{COMPENSATION, undoing_key},
    history::Recalled,
    plan::{PlannedFeed, PlannedJob, PlannedStage, Takes, Work, concurrency_key, is_name},
    rounds::{NoRound, plan as plan_round},
    workflow::failure_of,
};

/// A plan with what it needs of its host, as the engine follows it.
pub struct Staging {
    pub(crate) stages: Vec<PlannedStage>,
    pub(crate) settings: Arc<Value>,
    pub(crate) activities: Arc<BTreeMap<&'static str, Arc<dyn ErasedActivity>>>,
    pub(crate) groups: Arc<BTreeMap<&'static str, Arc<dyn ErasedGroup>>>,
    /// What says what comes next in driven stages.
    pub(crate) driver: Arc<dyn Driver>,
}

impl fmt::Debug for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.stages.iter().map(|stage| stage.name.as_str()).collect();
        f.debug_struct("Staging").field("stages", &names).finish_non_exhaustive()
    }
}

/// An activity whose types are not known.
pub(crate) trait ErasedActivity: Send + Sync {
    fn run(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome>;
}

/// A group whose types are not known.
pub(crate) trait ErasedGroup: Send + Sync {
    fn expand(&self, input: &Value) -> Result<Vec<ChildPlan>, Failure>;
    fn join(&self, input: &Value, children: &[ChildOutcome]) -> Result<GroupEnd, Failure>;
    fn policy(&self) -> JoinPolicy;
}

/// A workflow whose types are not known, as driven stages ask it.
pub(crate) trait Driver: Send + Sync {
    /// What it says, or why its input cannot be read.
    fn next(&self, report: &RunReport) -> Result<NextJobs, serde_json::Error>;
}

impl Staging {
    /// The stages and jobs that a run begins with. A stage that is not to be done, or has nothing to do, is closed
    /// from the beginning.
    pub(crate) fn beginning(
        &self,
        run: &RunId,
        offered: &Offered,
        settings: &EngineSettings,
        now: Timestamp,
    ) -> (Vec<NewStage>, Vec<NewJob>) {
        let mut jobs = Vec::new();
        let stages = self.stages.iter().map(|planned| {
            let state = match &planned.feed {
                _ if planned.begins_closed() => StageState::Closed,
                PlannedFeed::Jobs(_) => StageState::Sealed,
                PlannedFeed::PerItem(_) | PlannedFeed::Driven => StageState::Open,
                PlannedFeed::Barrier(_) => StageState::Waiting,
            };
            if let (PlannedFeed::Jobs(specs), StageState::Sealed) = (&planned.feed, state) {
                jobs.extend(specs.iter().map(|job| {
                    let uses = offered.of_job(planned.uses.iter().chain(&job.uses), run);
                    let key = job_key(&planned.name, &job.key);
                    let made = planned_job(planned, key, job.given(0), uses, settings, now);
                    job.placed(made)
                }));
            }
            NewStage {
                stage: planned.name.clone(),
                state,
                outcome: (state == StageState::Closed).then_some(StageOutcome::Skipped),
                feed: planned.feed.kind(),
                upstream: planned.feed.edge().map(|edge| edge.upstream.to_owned()),
                concurrency: Some(planned.concurrency.unwrap_or(settings.stage_concurrency)),
                required: planned.required,
                weight: planned.weight,
            }
        });
        let mut stages: Vec<NewStage> = stages.collect();
        stages.extend(self.undoes().then(of_compensations));
        (stages, jobs)
    }

    /// Whether a stage of it declares what undoes its jobs.
    pub(crate) fn undoes(&self) -> bool {
        self.stages.iter().any(|stage| stage.undoing.activity.is_some())
    }

    /// What it declares that `offered` does not have, all of it at once.
    pub(crate) fn unusable(&self, run: &RunId, offered: &Offered) -> Vec<PlanProblem> {
        let mut problems = Vec::new();
        let mut check = |what: &dyn Fn() -> String, uses: &[ServiceKey]| {
            problems.extend(unusable(what, uses, run, offered));
        };
        for planned in &self.stages {
            check(&|| format!("stage `{}`", planned.name), &planned.uses);
            if let PlannedFeed::Jobs(jobs) = &planned.feed {
                for PlannedJob { key, uses, .. } in jobs {
                    check(&|| format!("job `{key}` of stage `{}`", planned.name), uses);
                }
            }
        }
        problems
    }

    /// That it begins with more jobs than one may.
    pub(crate) fn too_many(&self, max: usize) -> Option<PlanProblem> {
        let have = self.stages.iter().map(|planned| match &planned.feed {
            PlannedFeed::Jobs(jobs) => jobs.len(),
            PlannedFeed::PerItem(_) | PlannedFeed::Barrier(_) | PlannedFeed::Driven => 0,
        });
        let have = have.sum();
        (have > max).then_some(PlanProblem::TooManyJobs { have, max })
    }

    pub(crate) fn stage(&self, name: &str) -> Option<&PlannedStage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// Where the stage of that name stands.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.stages.iter().position(|stage| stage.name == name)
    }

    pub(crate) fn group(&self, name: &str) -> Option<&Arc<dyn ErasedGroup>> {
        self.groups.get(name)
    }
}

/// The stage of what undoes completed jobs: it waits behind the others, and nothing of a run's success depends on it.
fn of_compensations() -> NewStage {
    NewStage {
        stage: COMPENSATION.to_owned(),
        state: StageState::Waiting,
        outcome: None,
        feed: FeedKind::Driven,
        upstream: None,
        concurrency: Some(1),
        required: false,
        weight: 0,
    }
}

/// What of `uses` the host does not have.
pub(crate) fn unusable(
    what: impl Fn() -> String,
    uses: &[ServiceKey],
    run: &RunId,
    offered: &Offered,
) -> Vec<PlanProblem> {
    let found = uses.iter().filter_map(|declared| {
        let why = offered.of_run(declared, run).err()?;
        let (what, service) = (what(), declared.to_string());
        Some(match why {
            CannotUse::Unknown(nearest) => PlanProblem::UnknownService { what, service, nearest },
            CannotUse::Scope(scope) => PlanProblem::ServiceScope { what, service, scope },
        })
    });
    found.collect()
}

/// A job of another stage that has ended, as an edge is told of it.
pub(crate) fn item(
    key: &JobKey,
    stage: &str,
    state: JobState,
    skipped: Option<SkipReason>,
    result: Option<&Value>,
) -> Item {
    let own = key.as_str().strip_prefix(stage).and_then(|rest| rest.strip_prefix('/'));
    let key = own.unwrap_or(key.as_str()).to_owned();
    Item { key, state, skipped, result: result.cloned() }
}

/// The key of a job of `stage`, which no other job of the run has.
pub(crate) fn job_key(stage: &str, own: &str) -> JobKey {
    JobKey::new(format!("{stage}/{own}"))
}

/// The key of a child of `group`.
pub(crate) fn child_key(group: &JobKey, own: &str) -> JobKey {
    JobKey::new(format!("{group}/{own}"))
}
