//! A workflow of two stages whose attempts do what their input says, on a service or without, and a note of when each was there.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use perennial::{
    Builder, RunId, Runtime,
    engine::{
        AttemptCx,
        staged::{
            Activity, ActivityError, Child, ChildOutcome, Edge, Ended, Feed, Group, Item, JobSpec,
            Joined, Plan, PlanProblems, RunReport, Stage, Staged, StagedWorkflow, Timeouts,
            Upstream, UpstreamFailure,
        },
        workflow::RetryPolicy,
    },
    records::{Failure, FailureClass, RunHandle},
    service::{
        DriverFuture, Epoch, Instance, Probe, ProbeResult, ServiceDriver, ServiceKey, ServiceSpec,
        StartError, StopError, StopMode,
    },
    supervision::Clock,
};
use serde::{Deserialize, Serialize, Serializer};
use tokio::time::sleep;

/// What an attempt does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Does {
    /// Ends well after so many milliseconds.
    Ends(u64),
    Fails,
    Panics,
    /// Ends well, and gives what the next stage cannot be given.
    Odd,
    /// Does not end, until all is healed; with what it holds, where it holds something.
    Stays,
    Holds,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) does: Does,
}

pub(crate) fn task(name: &str, does: Does) -> Task {
    Task { name: name.to_owned(), does }
}

/// What an attempt gives: by its name, and how long the name is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) by: String,
    pub(crate) letters: usize,
}

/// What happened, and when.
#[derive(Debug)]
pub(crate) struct World {
    clock: Clock,
    log: Mutex<Vec<(String, Duration)>>,
    pub(crate) is_healed: AtomicBool,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        let (log, is_healed) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { clock: Clock::start(), log, is_healed })
    }

    fn note(&self, what: String) {
        let at = self.clock.now().elapsed();
        self.log.lock().unwrap().push((what, at));
    }

    /// All that happened, in order.
    pub(crate) fn told(&self) -> Vec<String> {
        self.log.lock().unwrap().iter().map(|(what, _)| what.clone()).collect()
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.told().iter().filter(|told| *told == what).count()
    }

    /// When that happened last, since the world began.
    pub(crate) fn at(&self, what: &str) -> Duration {
        let log = self.log.lock().unwrap();
        let found = log.iter().rev().find(|(told, _)| told == what);
        found.unwrap_or_else(|| panic!("never {what}: {log:?}")).1
    }

    /// Waits until that has happened.
    pub(crate) async fn until(&self, what: &str) {
        let waited = async {
            while self.count(what) == 0 {
                sleep(Duration::from_millis(5)).await; // paused clock, or real time
            }
        };
        let late = |_| panic!("never {what}: {:?}", self.told());
        tokio::time::timeout(Duration::from_secs(600), waited).await.unwrap_or_else(late);
    }
}

/// While it is there an attempt is.
struct There(Arc<World>, String);

impl There {
    fn new(world: &Arc<World>, name: &str) -> Self {
        world.note(format!("{name} begins"));
        Self(world.clone(), name.to_owned())
    }
}

impl Drop for There {
    fn drop(&mut self) {
        self.0.note(format!("{} is over", self.1));
    }
}

pub(crate) fn app() -> ServiceKey {
    ServiceKey::shared("app")
}

struct Work(Arc<World>);

impl Activity for Work {
    const NAME: &'static str = "work";
    type In = Task;
    type Out = Made;

    async fn run(
        &self,
        cx: &AttemptCx,
        Task { name, does }: Task,
    ) -> Result<Ended<Made>, ActivityError> {
        let _there = There::new(&self.0, &name);
        let is_healed = self.0.is_healed.load(Ordering::SeqCst);
        let _held = if does == Does::Holds { Some(cx.hold(&app()).await?) } else { None };
        match does {
            Does::Ends(takes) => sleep(Duration::from_millis(takes)).await, // paused clock, or real time
            Does::Fails if !is_healed => {
                return Err(Failure::new(FailureClass::Permanent, "APP1", "it is wrong").into());
            }
            Does::Panics if !is_healed => panic!("{name} fell over"),
            Does::Stays | Does::Holds if !is_healed => std::future::pending::<()>().await,
            Does::Odd if !is_healed => {
                return Ok(Ended::Done(Made { by: name, letters: 0 }));
            }
            Does::Fails | Does::Panics | Does::Odd | Does::Stays | Does::Holds => (),
        }
        Ok(Ended::Done(Made { letters: name.len(), by: name }))
    }
}

/// Its children do that, in as many groups within each other as it says; they would have a minute each.
struct Bundle;

impl Group for Bundle {
    const NAME: &'static str = "bundle";
    type In = (Vec<Task>, u32);
    type Out = usize;

    fn expand(&self, (tasks, depth): &Self::In) -> Vec<Child> {
        let limits =
            Timeouts::schedule_to_close(Duration::from_secs(60)).attempt(Duration::from_secs(50));
        let child = |task: &Task| {
            let named = Task { name: format!("{}{depth}", task.name), does: task.does };
            Child::activity::<Work>(&task.name, &named).retry(RetryPolicy::ONCE).timeouts(limits)
        };
        let inner = (*depth > 0)
            .then(|| Child::group::<Self>("deep", &(tasks, depth - 1)).timeouts(limits));
        tasks.iter().map(child).chain(inner).collect()
    }

    fn join(&self, _: &Self::In, children: &[ChildOutcome]) -> Joined<usize> {
        Joined::by_ends(children, children.len())
    }
}

/// What a run does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Trial {
    pub(crate) tasks: Vec<Task>,
    /// As one group, with so many groups within it.
    pub(crate) depth: Option<u32>,
    pub(crate) places: u32,
    /// How long an attempt, and a job or group, may take.
    pub(crate) attempt_ms: Option<u64>,
    pub(crate) job_ms: Option<u64>,
    /// The second stage does that with what each gave; nothing without.
    pub(crate) next: Option<Does>,
    /// And fails with the first.
    pub(crate) fails_stage: bool,
}

/// What cannot be kept where it has no letters.
struct Given<'a>(&'a Made, Does);

impl Serialize for Given<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.letters == 0 {
            return Err(serde::ser::Error::custom("it has no letters"));
        }
        task(&format!("after {}", self.0.by), self.1).serialize(serializer)
    }
}

fn next(trial: &serde_json::Value, done: &Upstream) -> Vec<JobSpec> {
    let does: Does = serde_json::from_value(trial["next"].clone()).unwrap();
    let spec = |item: &Item| {
        let made = item.output().unwrap_or_else(|| Made { by: item.key.clone(), letters: 1 });
        JobSpec::new(&item.key, &Given(&made, does))
    };
    done.succeeded().map(spec).collect()
}

pub(crate) struct Trials;

impl StagedWorkflow for Trials {
    const NAME: &'static str = "trial";
    const VERSION: u32 = 1;
    type Input = Trial;
    type Output = usize;

    fn plan(&self, trial: &Trial) -> Result<Plan, PlanProblems> {
        let millis = Duration::from_millis;
        let mut limits = Timeouts::default();
        if let Some(job) = trial.job_ms {
            limits = limits.job(millis(job)).attempt(millis(job));
        }
        if let Some(attempt) = trial.attempt_ms {
            limits = limits.attempt(millis(attempt));
        }
        let (stage, jobs): (_, Vec<JobSpec>) = match trial.depth {
            Some(depth) => {
                let jobs = vec![JobSpec::new("g", &(&trial.tasks, depth))];
                (Stage::group::<Bundle>("work"), jobs)
            }
            None => {
                let job = |task: &Task| JobSpec::new(&task.name, task);
                (Stage::activity::<Work>("work"), trial.tasks.iter().map(job).collect())
            }
        };
        let stage = stage.feed(Feed::jobs(jobs)).concurrency(trial.places.max(1));
        let plan = Plan::new().stage(stage.retry(RetryPolicy::ONCE).timeouts(limits));
        if trial.next.is_none() {
            return Ok(plan);
        }
        let edge = Edge::from("work", next);
        let edge = if trial.fails_stage {
            edge.on_upstream_failure(UpstreamFailure::FailStage)
        } else {
            edge
        };
        let stage = Stage::activity::<Work>("next").feed(Feed::per_item(edge)).concurrency(9);
        Ok(plan.stage(stage.retry(RetryPolicy::ONCE)))
    }

    fn summarize(&self, _: &Trial, report: &RunReport) -> usize {
        let items = report.stages.iter().flat_map(|stage| &stage.items);
        items.filter_map(|item| item.output::<Made>()).map(|made| made.letters).sum()
    }
}

pub(crate) fn trials(world: &Arc<World>) -> Staged<Trials> {
    Staged::new(Trials).activity(Work(world.clone())).group(Bundle)
}

/// A runtime that knows trials and has the service `app`, which is stopped as soon as nobody holds it.
pub(crate) fn builder(world: &Arc<World>) -> Builder {
    let app = ServiceSpec::new("app", App(world.clone())).idle_stop(Duration::from_millis(1));
    Runtime::builder().staged(&trials(world)).service(app)
}

pub(crate) async fn start(
    runtime: &Runtime,
    world: &Arc<World>,
    run: &str,
    trial: &Trial,
) -> RunHandle {
    start_within(runtime, world, run, trial, None).await
}

/// The same of a run that may take that long.
pub(crate) async fn start_within(
    runtime: &Runtime,
    world: &Arc<World>,
    run: &str,
    trial: &Trial,
    within: Option<Duration>,
) -> RunHandle {
    let mut start = trials(world).start(trial).unwrap();
    (start.run, start.within) = (Some(RunId::parse(run).unwrap()), within);
    runtime.runs().start(start).await.unwrap()
}

#[derive(Debug)]
struct App(Arc<World>);

impl ServiceDriver for App {
    fn start<'a>(
        &'a self,
        key: &'a ServiceKey,
        _: Epoch,
    ) -> DriverFuture<'a, Result<Instance, StartError>> {
        self.0.note("app starts".to_owned());
        let instance = Instance::at(key.to_string());
        Box::pin(async { Ok(instance) })
    }

    fn stop<'a>(&'a self, _: &'a Instance, _: StopMode) -> DriverFuture<'a, Result<(), StopError>> {
        self.0.note("app stops".to_owned());
        Box::pin(async { Ok(()) })
    }

    fn probe<'a>(&'a self, _: &'a Instance, _: Probe) -> DriverFuture<'a, ProbeResult> {
        Box::pin(async { ProbeResult::Pass })
    }
}
