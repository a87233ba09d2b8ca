//! Plans: their stages. Where the jobs of a stage come from is in `feed.rs`, what can be wrong in `problems.rs`.

mod feed;
mod keyed;
mod next;
mod planned;
mod problems;

use std::time::Duration;

use perennial_core::{
    retry::RetryPolicy,
    run::{FailurePolicy, Priority, SkipReason},
    service::ServiceKey,
};
use serde_json::{Value, json};

pub(crate) use self::{
    feed::FeedFrom,
    keyed::{KeyedBy, concurrency_key},
    next::Takes,
    planned::{PlannedFeed, PlannedJob, PlannedStage},
    problems::is_name,
};
pub use self::{
    feed::{Edge, Feed, Item, JobSpec, Upstream, UpstreamFailure},
    next::NextJobs,
    problems::{PlanProblem, PlanProblems},
};
use super::{Activity, Group, compensation::Undoing};

/// The stages of a run, in order: one is fed by earlier ones only, and what is asked for in a driven one follows from earlier
/// ones, from its own jobs and from what is fed by these one by one.
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
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) timeouts: Timeouts,
    pub(crate) on_failure: FailurePolicy,
    pub(crate) required: bool,
    pub(crate) weight: u32,
    pub(crate) uses: Vec<ServiceKey>,
    pub(crate) keyed: Option<KeyedBy>,
    pub(crate) priority: Priority,
    pub(crate) undoing: Undoing,
}

/// How long something may take. An attempt of which nothing is said may take as long as
/// [`EngineSettings::start_to_close`](crate::EngineSettings::start_to_close) says, 10 min.
///
/// ```
/// use std::time::Duration;
/// use perennial::engine::staged::Timeouts;
///
/// let limits = Timeouts::start_to_close(Duration::from_secs(60)).heartbeat(Duration::from_secs(5));
/// assert_eq!(limits, Timeouts::default().attempt(Duration::from_secs(60)).heartbeat(Duration::from_secs(5)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Without it the engine's setting.
    pub(crate) attempt: Option<Duration>,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) job: Option<Duration>,
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
        self.attempt = Some(attempt);
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
            concurrency: None,
            retry: None,
            timeouts: Timeouts::default(),
            on_failure: FailurePolicy::default(),
            required: true,
            weight: 1,
            uses: Vec::new(),
            keyed: None,
            priority: Priority::NORMAL,
            undoing: Undoing::default(),
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

    /// How many of its jobs are under way at a time, in this run; as many as
    /// [`EngineSettings::stage_concurrency`](crate::EngineSettings::stage_concurrency) says, 10. A group is under way until it has ended; its
    /// children take no place of their stage.
    #[must_use]
    pub fn concurrency(mut self, most: u32) -> Self {
        self.concurrency = Some(most);
        self
    }

    /// How often an activity is tried; as [`EngineSettings::retry`](crate::EngineSettings::retry) says, 3 times, with
    /// growing pauses.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// How long an attempt, and a job, may take.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// What failures of its jobs mean; it tolerates all but that of every job.
    ///
    /// ```
    /// use perennial::engine::staged::{FailurePolicy, Feed, JobSpec, Stage, Tolerance};
    /// # use perennial::engine::{AttemptCx, staged::{Activity, ActivityError, Ended}};
    /// # #[derive(Debug)] struct Ask;
    /// # impl Activity for Ask {
    /// #     const NAME: &'static str = "ask";
    /// #     type In = String;
    /// #     type Out = String;
    /// #     async fn run(&self, _: &AttemptCx, text: String) -> Result<Ended<String>, ActivityError> { Ok(Ended::Done(text)) }
    /// # }
    /// let jobs = Feed::jobs([JobSpec::new("a", &"shop"), JobSpec::new("b", &"blog")]);
    /// let half = FailurePolicy::tolerate(Tolerance::Ratio(0.5));
    /// let asked = Stage::activity::<Ask>("asked").feed(jobs).on_failure(half);
    /// # drop(asked);
    /// ```
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

    /// Its jobs come before those of other stages, or after them, where not all that could be under way has room; normal. It is added
    /// to [what its run has](crate::StartRun::priority), by which those of different runs come. What waits comes the sooner the
    /// longer it has waited ([`EngineSettings::aging`](crate::EngineSettings::aging)). Children have that of their group.
    ///
    /// ```
    /// use perennial::engine::{Priority, staged::{Feed, JobSpec, Stage}};
    /// # use perennial::engine::{AttemptCx, staged::{Activity, ActivityError, Ended}};
    /// # #[derive(Debug)] struct Ask;
    /// # impl Activity for Ask {
    /// #     const NAME: &'static str = "ask";
    /// #     type In = String;
    /// #     type Out = String;
    /// #     async fn run(&self, _: &AttemptCx, text: String) -> Result<Ended<String>, ActivityError> { Ok(Ended::Done(text)) }
    /// # }
    /// let jobs = Feed::jobs([JobSpec::new("a", &"shop")]);
    /// let tidied = Stage::activity::<Ask>("tidied").priority(Priority::LOW).feed(jobs);
    /// # drop(tidied);
    /// ```
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
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
            FeedFrom::Jobs(_) | FeedFrom::Driven => None,
            FeedFrom::PerItem(edge) | FeedFrom::Barrier(edge) => Some(edge.upstream),
        }
    }
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
                FeedFrom::Driven => ("driven", None, Value::Null),
            };
            let (work, name) = match stage.work {
                Work::Activity(name) => ("activity", name),
                Work::Group(name) => ("group", name),
            };
            let mut data = json!({
                "stage": stage.name, "feed": kind, "upstream": upstream, "jobs": jobs, work: name,
                "required": stage.required, "skip": stage.skip, "on_failure": stage.on_failure,
            });
            if let Some(keyed) = &stage.keyed {
                data["concurrency_key"] = json!(keyed.most);
            }
            if let Some(activity) = stage.undoing.activity {
                data["compensate"] = json!(activity);
            }
            if !stage.uses.is_empty() {
                data["uses"] = stage.uses.iter().map(ToString::to_string).collect();
            }
            data
        });
        stages.collect()
    }
}
