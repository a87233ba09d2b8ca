//! Stages, where their jobs come from, and what is wrong with a plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use perennial_core::{
    retry::RetryPolicy,
    run::{FailurePolicy, FeedKind, JobState, SkipReason},
    service::ServiceKey,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Activity, Group};
use crate::{external::Scope, workflow::Given};

/// Jobs of a stage that are under way at a time, unless it says otherwise.
const CONCURRENCY: u32 = 10;
/// How long an attempt may take, unless its stage says otherwise.
const START_TO_CLOSE: Duration = Duration::from_secs(10 * 60);
/// Jobs that a plan may begin with.
const JOBS_MAX: usize = 100_000;
/// Longest name of a stage, and longest key of a job in it, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// The stages of a run, in order: one is fed by earlier ones only.
///
/// ```
/// use perennial::engine::staged::{Edge, Feed, JobSpec, Plan, Stage};
/// # use perennial::engine::{AttemptCx, staged::{Activity, ActivityError, Ended}};
/// # #[derive(Debug)] struct Write;
/// # impl Activity for Write {
/// #     const NAME: &'static str = "write";
/// #     type In = String;
/// #     type Out = String;
/// #     async fn run(&self, _: &AttemptCx, text: String) -> Result<Ended<String>, ActivityError> { Ok(Ended::Done(text)) }
/// # }
/// let drafts = Stage::activity::<Write>("drafts").feed(Feed::jobs([JobSpec::new("a", &"once")]));
/// let reviews = Stage::activity::<Write>("reviews").feed(Feed::per_item(Edge::from("drafts", |_, drafts| {
///     drafts.succeeded().map(|draft| JobSpec::new(&draft.key, &draft.result)).collect()
/// })));
/// let plan = Plan::new().stage(drafts).stage(reviews);
/// assert!(plan.problems().is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Plan {
    pub(crate) stages: Vec<Stage>,
}

/// What is executed for the jobs of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Activity(&'static str),
    Group(&'static str),
}

/// One stage of a plan.
#[derive(Debug)]
pub struct Stage {
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) feed: Feed,
    pub(crate) skip: Option<SkipReason>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) retry: RetryPolicy,
    pub(crate) timeouts: Timeouts,
    pub(crate) on_failure: FailurePolicy,
    pub(crate) required: bool,
    pub(crate) weight: u32,
    pub(crate) uses: Vec<ServiceKey>,
}

/// How long something may take.
///
/// ```
/// use std::time::Duration;
/// use perennial::engine::staged::Timeouts;
///
/// let limits = Timeouts::start_to_close(Duration::from_secs(60)).heartbeat(Duration::from_secs(5));
/// assert_eq!(limits, Timeouts::default().attempt(Duration::from_secs(60)).heartbeat(Duration::from_secs(5)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub(crate) attempt: Duration,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) job: Option<Duration>,
}

impl Default for Timeouts {
    /// 10 min an attempt.
    fn default() -> Self {
        Self { attempt: START_TO_CLOSE, heartbeat: None, job: None }
    }
}

impl Timeouts {
    /// One attempt, counted from its claim.
    pub fn start_to_close(attempt: Duration) -> Self {
        Self::default().attempt(attempt)
    }

    /// All attempts of a job and the pauses between them, or all of a group, counted from its creation.
    pub fn schedule_to_close(job: Duration) -> Self {
        Self::default().job(job)
    }

    /// One attempt, counted from its claim.
    #[must_use]
    pub fn attempt(mut self, attempt: Duration) -> Self {
        self.attempt = attempt;
        self
    }

    /// How long an attempt may say nothing of itself.
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = Some(heartbeat);
        self
    }

    /// All attempts of a job, or all of a group.
    #[must_use]
    pub fn job(mut self, job: Duration) -> Self {
        self.job = Some(job);
        self
    }
}

/// Where the jobs of a stage come from. An attribute of the stage, not a mode of the engine.
#[derive(Debug)]
pub struct Feed(pub(crate) FeedFrom);

#[derive(Debug)]
pub(crate) enum FeedFrom {
    Jobs(Vec<JobSpec>),
    PerItem(Edge),
    Barrier(Edge),
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
}

impl JobSpec {
    /// The job of that key, which no other one of its stage has, with that input.
    pub fn new(key: impl AsRef<str>, input: &impl Serialize) -> Self {
        let input = serde_json::to_value(input).map_err(|error| error.to_string());
        Self { key: key.as_ref().to_owned(), input, after: Vec::new(), uses: Vec::new() }
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

    /// It needs that instance of a service, besides what its stage does: see [`Stage::uses`].
    #[must_use]
    pub fn uses(mut self, service: ServiceKey) -> Self {
        self.uses.push(service);
        self
    }
}

impl Stage {
    /// Jobs for each of which an activity is executed.
    pub fn activity<A: Activity>(name: impl Into<String>) -> Self {
        Self::new(name.into(), Work::Activity(A::NAME))
    }

    /// Jobs each of which expands into children.
    pub fn group<G: Group>(name: impl Into<String>) -> Self {
        Self::new(name.into(), Work::Group(G::NAME))
    }

    fn new(name: String, work: Work) -> Self {
        Self {
            name,
            work,
            feed: Feed::jobs([]),
            skip: None,
            concurrency: Some(CONCURRENCY),
            retry: RetryPolicy::PROVIDER,
            timeouts: Timeouts::default(),
            on_failure: FailurePolicy::default(),
            required: true,
            weight: 1,
            uses: Vec::new(),
        }
    }

    /// Where its jobs come from; without, it has none.
    #[must_use]
    pub fn feed(mut self, feed: Feed) -> Self {
        self.feed = feed;
        self
    }

    /// It is not to be done: it closes at once, as skipped.
    #[must_use]
    pub fn skip(mut self, reason: SkipReason) -> Self {
        self.skip = Some(reason);
        self
    }

    /// How many of its jobs are under way at a time, in this run; 10. A group is under way until it has ended; its
    /// children take no place of their stage.
    #[must_use]
    pub fn concurrency(mut self, most: u32) -> Self {
        self.concurrency = Some(most);
        self
    }

    /// How often an activity is tried; 3 times, with growing pauses.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// How long an attempt, and a job, may take.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// What failures of its jobs mean; it tolerates all but that of every job.
    #[must_use]
    pub fn on_failure(mut self, policy: FailurePolicy) -> Self {
        self.on_failure = policy;
        self
    }

    /// Its jobs need that instance of a service: the shared one, that of a key, or, of a service with an instance for each
    /// run, that of the run. It is held for a job from when the job could begin until the job has ended, which starts it;
    /// and a job begins only when it admits. Until then the job is deferred: it uses none of its attempts, and nothing waits
    /// behind it. How long, and what then, says
    /// [`ServiceSpec::on_unavailable`](crate::external::ServiceSpec::on_unavailable). A service that the host does not have
    /// is refused when a run is started.
    ///
    /// ```
    /// use perennial::{engine::staged::{Feed, JobSpec, Stage}, service::ServiceKey};
    /// # use perennial::engine::{AttemptCx, staged::{Activity, ActivityError, Ended}};
    /// # #[derive(Debug)] struct Ask;
    /// # impl Activity for Ask {
    /// #     const NAME: &'static str = "ask";
    /// #     type In = String;
    /// #     type Out = String;
    /// #     async fn run(&self, _: &AttemptCx, text: String) -> Result<Ended<String>, ActivityError> { Ok(Ended::Done(text)) }
    /// # }
    /// let app = JobSpec::new("a", &"once").uses(ServiceKey::keyed("app", "a"));
    /// let asked = Stage::activity::<Ask>("asked").uses(ServiceKey::shared("analyzer")).feed(Feed::jobs([app]));
    /// # drop(asked);
    /// ```
    #[must_use]
    pub fn uses(mut self, service: ServiceKey) -> Self {
        self.uses.push(service);
        self
    }

    /// Its failure is not one of its run, which then succeeds in part.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// Its share of the run's progress; 1, as that of any other stage.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    fn upstream(&self) -> Option<&'static str> {
        match &self.feed.0 {
            FeedFrom::Jobs(_) => None,
            FeedFrom::PerItem(edge) | FeedFrom::Barrier(edge) => Some(edge.upstream),
        }
    }
}

/// Everything that is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plan cannot be followed: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct PlanProblems(pub Vec<PlanProblem>);

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanProblem {
    /// Nothing would be done: success without work would be dishonest.
    #[error("it has no job and nothing that could give it one")]
    Empty,
    /// Two stages of one name.
    #[error("it has two stages `{0}`")]
    DuplicateStage(String),
    /// Two jobs of one key.
    #[error("stage `{stage}` has two jobs `{key}`")]
    DuplicateKey {
        /// The stage.
        stage: String,
        /// The key.
        key: String,
    },
    /// It is empty, too long, or has a sign that means something else in the key of a job.
    #[error("`{0}` cannot name a stage or a job: 1 to 100 bytes, and no `/` in a stage's name")]
    InvalidName(String),
    /// A stage is fed by one that is not there, or comes after it.
    #[error("stage `{stage}` is fed by `{upstream}`, and no stage before it has that name")]
    UnknownStage {
        /// The stage.
        stage: String,
        /// What feeds it.
        upstream: String,
    },
    /// Nobody has registered what is to be executed.
    #[error("stage `{stage}` needs the {kind} `{name}`, which is not registered")]
    UnknownWork {
        /// The stage.
        stage: String,
        /// `activity` or `group`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// An inner limit is longer than the outer one.
    #[error("stage `{stage}`: {inner} may take longer than {outer}")]
    InvertedTimeouts {
        /// The stage.
        stage: String,
        /// The outer limit.
        outer: &'static str,
        /// The inner limit.
        inner: &'static str,
    },
    /// A failure policy that makes no sense.
    #[error("stage `{stage}`: {what}")]
    Policy {
        /// The stage.
        stage: String,
        /// What is wrong.
        what: String,
    },
    /// It begins with too many jobs.
    #[error("it begins with {have} jobs; at most {max} are allowed")]
    TooManyJobs {
        /// How many it has.
        have: usize,
        /// How many it may have.
        max: usize,
    },
    /// A job comes after one that is not there.
    #[error("job `{key}` of stage `{stage}` comes after `{after}`, which is none of its jobs")]
    UnknownJob {
        /// The stage.
        stage: String,
        /// The job.
        key: String,
        /// What it names.
        after: String,
    },
    /// Jobs come after each other in a circle.
    #[error("jobs of stage `{stage}` wait for each other: {}", .path.join(" after "))]
    Cycle {
        /// The stage.
        stage: String,
        /// The way, from a job back to it.
        path: Vec<String>,
    },
    /// An input that cannot be kept.
    #[error("the input of {what} cannot be kept: {why}")]
    Input {
        /// Of what.
        what: String,
        /// Why.
        why: String,
    },
    /// The host has no such service.
    #[error("{what} uses the service `{service}`, which is not declared{}", .nearest.as_ref().map(|near| format!(": did you mean `{near}`?")).unwrap_or_default())]
    UnknownService {
        /// The stage, or the job.
        what: String,
        /// The name.
        service: String,
        /// The declared one that is nearest to it.
        nearest: Option<String>,
    },
    /// A shared service is named with a key, or a keyed one without.
    #[error("{what} uses `{service}`, and the service is declared as {scope:?}")]
    ServiceScope {
        /// The stage, or the job.
        what: String,
        /// What is used.
        service: String,
        /// How it is declared.
        scope: Scope,
    },
    /// The host's own.
    #[error("{0}")]
    Host(String),
}

impl Plan {
    /// A plan without stages, which cannot be followed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With that stage behind the others.
    #[must_use]
    pub fn stage(mut self, stage: Stage) -> Self {
        self.stages.push(stage);
        self
    }

    /// Everything that is wrong with it, apart from what is not registered.
    pub fn problems(&self) -> Vec<PlanProblem> {
        let mut problems = Vec::new();
        let (mut names, mut jobs) = (BTreeSet::new(), 0);
        for stage in &self.stages {
            let name = &stage.name;
            if !is_name(name) || name.contains('/') {
                problems.push(PlanProblem::InvalidName(name.clone()));
            }
            if let Some(upstream) = stage.upstream().filter(|upstream| !names.contains(*upstream)) {
                let (stage, upstream) = (name.clone(), upstream.to_owned());
                problems.push(PlanProblem::UnknownStage { stage, upstream });
            }
            if !names.insert(name.as_str()) {
                problems.push(PlanProblem::DuplicateStage(name.clone()));
            }
            if let Some(what) = stage.on_failure.problem() {
                problems.push(PlanProblem::Policy { stage: name.clone(), what });
            }
            if stage.concurrency == Some(0) {
                let what = "a concurrency of 0 lets none of its jobs begin".to_owned();
                problems.push(PlanProblem::Policy { stage: name.clone(), what });
            }
            if matches!(stage.work, Work::Group(_)) && !stage.uses.is_empty() {
                let what = "a group uses no service: its children do".to_owned();
                problems.push(PlanProblem::Policy { stage: name.clone(), what });
            }
            inverted(stage, &mut problems);
            if let FeedFrom::Jobs(specs) = &stage.feed.0 {
                jobs += specs.len();
                check_jobs(name, specs, &mut problems);
            }
        }
        if jobs == 0 {
            problems.push(PlanProblem::Empty);
        }
        if jobs > JOBS_MAX {
            problems.push(PlanProblem::TooManyJobs { have: jobs, max: JOBS_MAX });
        }
        problems
    }

    /// What of it does not depend on code: its digest tells whether a run can go on by this plan (DUR-7).
    pub(crate) fn data(&self) -> Value {
        let stages = self.stages.iter().map(|stage| {
            let (kind, upstream, jobs) = match &stage.feed.0 {
                FeedFrom::Jobs(jobs) => {
                    let key = |job: &JobSpec| match job.after.as_slice() {
                        [] => json!(job.key),
                        after => json!({ "key": job.key, "after": after }),
                    };
                    ("static", None, jobs.iter().map(key).collect())
                }
                FeedFrom::PerItem(edge) => ("per_item", Some(edge.upstream), Value::Null),
                FeedFrom::Barrier(edge) => ("barrier", Some(edge.upstream), Value::Null),
            };
            let (work, name) = match stage.work {
                Work::Activity(name) => ("activity", name),
                Work::Group(name) => ("group", name),
            };
            let mut data = json!({
                "stage": stage.name, "feed": kind, "upstream": upstream, "jobs": jobs, work: name,
                "required": stage.required, "skip": stage.skip, "on_failure": stage.on_failure,
            });
            if !stage.uses.is_empty() {
                data["uses"] = stage.uses.iter().map(ToString::to_string).collect();
            }
            data
        });
        stages.collect()
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
}

fn check_jobs(stage: &str, specs: &[JobSpec], problems: &mut Vec<PlanProblem>) {
    let mut keys = BTreeSet::new();
    cycle(stage, specs, problems);
    for JobSpec { key, input, after, .. } in specs {
        for other in after.iter().filter(|other| !specs.iter().any(|job| job.key == **other)) {
            let (stage, key, after) = (stage.to_owned(), key.clone(), other.clone());
            problems.push(PlanProblem::UnknownJob { stage, key, after });
        }
        if !is_name(key) {
            problems.push(PlanProblem::InvalidName(key.clone()));
        }
        if !keys.insert(key) {
            let (stage, key) = (stage.to_owned(), key.clone());
            problems.push(PlanProblem::DuplicateKey { stage, key });
        }
        if let Err(why) = input {
            let what = format!("job `{key}` of stage `{stage}`");
            problems.push(PlanProblem::Input { what, why: why.clone() });
        }
    }
}

/// A way from a job back to itself, along what each comes after.
fn cycle(stage: &str, specs: &[JobSpec], problems: &mut Vec<PlanProblem>) {
    let after: BTreeMap<&str, &[String]> =
        specs.iter().map(|spec| (spec.key.as_str(), spec.after.as_slice())).collect();
    let mut settled: BTreeSet<&str> = BTreeSet::new();
    for spec in specs.iter().filter(|spec| !spec.after.is_empty()) {
        // Jobs on the way, each with how many of its own it has tried.
        let mut path: Vec<(&str, usize)> = vec![(spec.key.as_str(), 0)];
        while let Some((key, tried)) = path.last_mut() {
            let next = after.get(key).and_then(|others| others.get(*tried));
            *tried += 1;
            match next {
                None => {
                    settled.insert(key);
                    path.pop();
                }
                Some(next) if settled.contains(next.as_str()) => (),
                Some(next) => {
                    if let Some(from) = path.iter().position(|(key, _)| key == next) {
                        let way = path[from..].iter().map(|(key, _)| (*key).to_owned());
                        let path = way.chain([next.clone()]).collect();
                        problems.push(PlanProblem::Cycle { stage: stage.to_owned(), path });
                        return;
                    }
                    path.push((next.as_str(), 0));
                }
            }
        }
    }
}

fn inverted(stage: &Stage, problems: &mut Vec<PlanProblem>) {
    let Timeouts { attempt, heartbeat, job } = stage.timeouts;
    let mut add = |outer, inner| {
        let stage = stage.name.clone();
        problems.push(PlanProblem::InvertedTimeouts { stage, outer, inner });
    };
    if heartbeat.is_some_and(|beat| beat >= attempt) {
        add("an attempt", "its heartbeat");
    }
    // Of a group it is its children whose attempts count.
    if matches!(stage.work, Work::Activity(_)) && job.is_some_and(|job| attempt > job) {
        add("its job", "an attempt");
    }
}

/// A stage as the engine follows it.
#[derive(Debug)]
pub(crate) struct PlannedStage {
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) feed: PlannedFeed,
    pub(crate) skip: Option<SkipReason>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) retry: RetryPolicy,
    pub(crate) timeouts: Timeouts,
    pub(crate) on_failure: FailurePolicy,
    pub(crate) required: bool,
    pub(crate) weight: u32,
    pub(crate) uses: Vec<ServiceKey>,
}

/// A job of a stage as the engine follows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlannedJob {
    pub(crate) key: String,
    pub(crate) input: Value,
    pub(crate) after: Vec<String>,
    pub(crate) uses: Vec<ServiceKey>,
}

impl PlannedJob {
    /// What it is given, without what it executes. `again`: how often it was made anew.
    pub(crate) fn given(&self, again: u32) -> Given {
        let (input, after) = (self.input.clone(), self.after.clone());
        Given { input, after, again, ..Given::default() }
    }
}

#[derive(Debug)]
pub(crate) enum PlannedFeed {
    Jobs(Vec<PlannedJob>),
    PerItem(Edge),
    Barrier(Edge),
}

impl PlannedFeed {
    pub(crate) fn kind(&self) -> FeedKind {
        match self {
            Self::Jobs(_) => FeedKind::Static,
            Self::PerItem(_) => FeedKind::PerItem,
            Self::Barrier(_) => FeedKind::Barrier,
        }
    }

    pub(crate) fn edge(&self) -> Option<&Edge> {
        match self {
            Self::Jobs(_) => None,
            Self::PerItem(edge) | Self::Barrier(edge) => Some(edge),
        }
    }
}

impl Plan {
    /// The stages of a plan without problems.
    pub(crate) fn into_stages(self) -> Vec<PlannedStage> {
        let planned = self.stages.into_iter().map(|stage| PlannedStage {
            feed: match stage.feed.0 {
                FeedFrom::Jobs(jobs) => {
                    let planned = |JobSpec { key, input, after, uses }: JobSpec| PlannedJob {
                        key,
                        input: input.unwrap_or(Value::Null),
                        after,
                        uses,
                    };
                    PlannedFeed::Jobs(jobs.into_iter().map(planned).collect())
                }
                FeedFrom::PerItem(edge) => PlannedFeed::PerItem(edge),
                FeedFrom::Barrier(edge) => PlannedFeed::Barrier(edge),
            },
            name: stage.name,
            work: stage.work,
            skip: stage.skip,
            concurrency: stage.concurrency,
            retry: stage.retry,
            timeouts: stage.timeouts,
            on_failure: stage.on_failure,
            required: stage.required,
            weight: stage.weight,
            uses: stage.uses,
        });
        planned.collect()
    }
}
