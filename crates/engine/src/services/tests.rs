//! What is left in memory of runs that have ended.

use std::{sync::OnceLock, time::Duration};

use perennial_core::failure::Failure;
use perennial_store::{MemoryStore, RunRecord, Store};
use perennial_supervision::{
    Clock, DynamicSupervisor, DynamicSupervisorSpec, Options, Root, SupervisorSpec, TaskSupervisor,
    TaskSupervisorSpec,
};
use serde_json::json;

use super::*;
use crate::{
    AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, NotRunnable, Outcome, Runs,
    StartRun, Workflow,
    scheduler::{Adoption, Scheduler, SchedulerSpec},
    workflow::{BoxFuture, JobKey, RetryPolicy},
};

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    Well,
    Failed,
    /// By somebody, while an attempt of it is under way.
    Cancelled,
    /// When its time is up.
    Late,
}

/// Two jobs at once that say how far they are, and save something.
#[derive(Debug)]
struct Short {
    definition: Definition,
    ends: Ends,
}

impl Workflow for Short {
    fn name(&self) -> &str {
        "short"
    }

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        let plan = |key: &str| {
            JobPlan::new(JobKey::new(key), RetryPolicy::ONCE, Duration::from_secs(60)).clamped()
        };
        if done.is_empty() { Next::Jobs(vec![plan("a"), plan("b")]) } else { Next::Seal }
    }

    fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
        FailureMeans::FailRun { record: json!(failure.message) }
    }

    fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            if let Err(failure) = cx.heartbeat(json!({ "page": 1 })).await {
                return Outcome::Failed(failure);
            }
            match self.ends {
                Ends::Well => Outcome::Succeeded(json!(1)),
                Ends::Failed => {
                    let class = perennial_core::FailureClass::Permanent;
                    Outcome::Failed(Failure::new(class, "T1", "no"))
                }
                Ends::Cancelled | Ends::Late => std::future::pending().await,
            }
        })
    }
}

/// Knows nothing that was not started here.
#[derive(Debug)]
struct Nothing;

impl Definitions for Nothing {
    fn revive<'a>(
        &'a self,
        run: &'a RunRecord,
        _: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
        let failure = Failure::new(perennial_core::FailureClass::Internal, "T1", "unknown");
        Box::pin(std::future::ready(Err(NotRunnable { run: run.run.clone(), failure })))
    }
}

async fn runtime(store: &Arc<MemoryStore>) -> (Services, Runs, Root) {
    let clock = Clock::start();
    let (tasks_child, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 1_000));
    let services = Services::new(ServicesSpec {
        store: store.clone(),
        clock,
        node: "n".to_owned(),
        tasks,
        definitions: Arc::new(Nothing),
        monitoring: Monitoring::default(),
        lease: LeaseTerms::default(),
        attempts_max: 4,
        settings: EngineSettings::default(),
        authority: None,
    });
    let dynamic =
        |id: &'static str| DynamicSupervisor::child_spec(DynamicSupervisorSpec::new(id, 1_000));
    let ((monitors_child, monitors), (runs_child, runs)) = (dynamic("monitors"), dynamic("runs"));
    let lifecycle = Arc::new(OnceLock::new());
    let (scheduler_child, scheduler) = Scheduler::child_spec(SchedulerSpec {
        services: services.clone(),
        runs,
        // Some of them wait for a place.
        runs_max: 8,
        monitors,
        adoption: Adoption::AtBoot,
        lifecycle: lifecycle.clone(),
    });
    let children = [tasks_child, scheduler_child, monitors_child, runs_child];
    let spec = children.into_iter().fold(SupervisorSpec::new("engine"), SupervisorSpec::child);
    let root = Root::start(spec, clock, Options::default()).await.unwrap();
    drop(lifecycle.set(root.tree().lifecycle_source()));
    let runs = Runs::new(services.clone(), scheduler);
    (services, runs, root)
}

/// What is kept of single runs, by what keeps it; whatever is there is told.
fn kept(services: &Services, root: &Root) -> Vec<(&'static str, String)> {
    let Services { runs, monitors, beginning, parked, accounts, .. } = services;
    let Services { waiting, resting, places, attempts, progress, rooms, .. } = services;
    let nodes = root.tree().nodes().into_iter().map(|node| node.path);
    let below = |path: &String| {
        ["tasks", "monitors", "runs"].iter().any(|of| path.starts_with(&format!("/engine/{of}/")))
    };
    let all = [
        ("runs", format!("{:?}", runs.iter().map(|it| it.key().clone()).collect::<Vec<_>>())),
        (
            "monitors",
            format!("{:?}", monitors.iter().map(|it| it.key().clone()).collect::<Vec<_>>()),
        ),
        ("beginning", format!("{beginning:?}").replace("Beginning({})", "[]")),
        ("parked", format!("{:?}", parked.all())),
        (
            "accounts",
            format!("{:?}", accounts.iter().map(|it| it.key().clone()).collect::<Vec<_>>()),
        ),
        ("waiting", format!("{:?}", waiting.listed().0)),
        ("resting", format!("{:?}", resting.listed().0)),
        ("places", format!("{:?}", places.listed())),
        ("attempts", format!("{:?}", attempts.iter().map(|it| *it.key()).collect::<Vec<_>>())),
        ("progress", format!("{progress:?}").replace("Progress({})", "[]")),
        ("tree", format!("{:?}", nodes.filter(below).collect::<Vec<_>>())),
    ];
    let mut all: Vec<_> = all.into_iter().filter(|(_, what)| what != "[]").collect();
    if rooms.has_queue() || rooms.counts().0 != 0 {
        all.push(("rooms", format!("{:?}", rooms.counts())));
    }
    all
}

/// Proves B28.
/// Runs that ended well, failed, were cancelled or were late, some of which waited for a place or for room: a look later nothing of
/// them is kept, neither in the tree nor in what its parts share.
#[tokio::test(start_paused = true)]
async fn nothing_of_a_run_that_has_ended_stays_in_memory() {
    let store = Arc::new(MemoryStore::open().unwrap());
    let (services, runs, root) = runtime(&store).await;
    let ways = [Ends::Well, Ends::Failed, Ends::Cancelled, Ends::Late];
    let mut handles = Vec::new();
    for (number, ends) in (0..60).zip(ways.into_iter().cycle()) {
        let definition = Definition::new(format!("{ends:?}").into_bytes());
        let run = Some(RunId::parse(format!("r{number}")).unwrap());
        let workflow = Arc::new(Short { definition, ends });
        let within = (ends == Ends::Late).then_some(Duration::from_secs(30));
        let start =
            StartRun { run, workflow, settings: json!({}), within, priority: Default::default() };
        handles.push((ends, runs.start(start).await.unwrap()));
    }
    assert!(kept(&services, &root).len() >= 6, "{:?}", kept(&services, &root));
    let mut states = std::collections::BTreeMap::<String, u32>::new();
    for (ends, run) in handles {
        if ends == Ends::Cancelled {
            let mut events = run.events(1);
            let begun = async { while events.next().await.unwrap().kind != "attempt_started" {} };
            tokio::time::timeout(Duration::from_secs(600), begun).await.unwrap();
            run.cancel().await.unwrap();
        }
        let outcome = tokio::time::timeout(Duration::from_secs(3_600), run.outcome()).await;
        *states.entry(outcome.unwrap().unwrap().state.to_string()).or_default() += 1;
    }
    assert_eq!(states.len(), 4, "{states:?}");
    tokio::time::sleep(Duration::from_secs(10)).await; // paused clock: some looks
    assert_eq!(kept(&services, &root), []);
    assert_eq!(store.runs(99).await.unwrap().len(), 60, "in the store they are");
    services.announce_shutdown();
    root.shutdown().await;
    services.announce_end();
}
