//! One node: the engine's part of a runtime.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use perennial_core::{run::RunId, tree::TreeNode};
use perennial_engine::{
    Definitions, EngineSettings, RunHandle, Runs, Services, ServicesSpec, StartRun, Workflow,
    drain,
    monitor::Monitoring,
    scheduler::{Adoption, LeaseTerms, Scheduler, SchedulerSpec},
};
use perennial_store::{MemoryStore, RunView, Store, VerifyCursor};
use perennial_supervision::{
    Clock, DynamicSupervisor, DynamicSupervisorSpec, Options, Root, SupervisorSpec, TaskSupervisor,
    TaskSupervisorSpec,
};

use crate::{
    link::{Link, Weather},
    work::{Known, Log, Steps},
};

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) link: Link,
    pub(crate) runs: Runs,
    log: Log,
    services: Services,
    root: Root,
}

impl Node {
    pub(crate) async fn start(
        name: &str,
        store: &MemoryStore,
        log: &Log,
        adoption: Adoption,
    ) -> Self {
        Self::start_with(name, store, log, adoption, 64).await
    }

    /// Of a build that knows what others do not.
    pub(crate) async fn start_newer(name: &str, store: &MemoryStore, log: &Log) -> Self {
        let known = Arc::new(Known { node: name.to_owned(), log: log.clone(), newer: true });
        Self::start_knowing(name, store, log, (Adoption::AtBoot, 64), known).await
    }

    pub(crate) async fn start_with(
        name: &str,
        store: &MemoryStore,
        log: &Log,
        adoption: Adoption,
        attempts_max: usize,
    ) -> Self {
        let known = Arc::new(Known { node: name.to_owned(), log: log.clone(), newer: false });
        Self::start_knowing(name, store, log, (adoption, attempts_max), known).await
    }

    pub(crate) async fn start_knowing(
        name: &str,
        store: &MemoryStore,
        log: &Log,
        room: (Adoption, usize),
        definitions: Arc<dyn Definitions>,
    ) -> Self {
        Self::start_leased(name, store, log, room, definitions, LeaseTerms::default()).await
    }

    pub(crate) async fn start_leased(
        name: &str,
        store: &MemoryStore,
        log: &Log,
        room: (Adoption, usize),
        definitions: Arc<dyn Definitions>,
        lease: LeaseTerms,
    ) -> Self {
        let settings = EngineSettings::default();
        Self::start_as(name, store, log, room, definitions, lease, settings).await
    }

    pub(crate) async fn start_set(
        name: &str,
        store: &MemoryStore,
        log: &Log,
        settings: EngineSettings,
    ) -> Self {
        let known = Arc::new(Known { node: name.to_owned(), log: log.clone(), newer: false });
        let (room, lease) = ((Adoption::AtBoot, 64), LeaseTerms::default());
        Self::start_as(name, store, log, room, known, lease, settings).await
    }

    async fn start_as(
        name: &str,
        store: &MemoryStore,
        log: &Log,
        (adoption, attempts_max): (Adoption, usize),
        definitions: Arc<dyn Definitions>,
        lease: LeaseTerms,
        settings: EngineSettings,
    ) -> Self {
        let clock = Clock::start();
        let link = Link::to(store);
        let (tasks_child, tasks) =
            TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 1_000));
        let services = Services::new(ServicesSpec {
            store: Arc::new(link.clone()),
            clock,
            node: name.to_owned(),
            tasks,
            definitions,
            monitoring: Monitoring::default(),
            lease,
            attempts_max,
            settings,
            authority: None,
        });
        let dynamic = |id: &'static str| DynamicSupervisorSpec::new(id, 1_000);
        let (monitors_child, monitors) = DynamicSupervisor::child_spec(dynamic("monitors"));
        let budget = Duration::from_secs(60);
        let (runs_child, actors) =
            DynamicSupervisor::child_spec(dynamic("runs").child_budget(5, budget));
        let lifecycle = Arc::new(OnceLock::new());
        let (scheduler_child, scheduler) = Scheduler::child_spec(SchedulerSpec {
            services: services.clone(),
            runs: actors,
            runs_max: 1_000,
            monitors,
            adoption,
            lifecycle: lifecycle.clone(),
        });
        let tree = SupervisorSpec::new("engine")
            .child(tasks_child)
            .child(scheduler_child)
            .child(monitors_child)
            .child(runs_child)
            .child(drain::child_spec(services.clone(), Duration::from_secs(1)));
        let root = Root::start(tree, clock, Options::default()).await.unwrap();
        drop(lifecycle.set(root.tree().lifecycle_source()));
        let runs = Runs::new(services.clone(), scheduler);
        Self { name: name.to_owned(), link, runs, log: log.clone(), services, root }
    }

    /// Starts `count` steps that take that long each.
    pub(crate) async fn begin(&self, run: &str, count: usize, takes: Duration) -> RunHandle {
        self.begin_with(run, count, takes, false).await
    }

    pub(crate) async fn begin_with(
        &self,
        run: &str,
        count: usize,
        takes: Duration,
        at_once: bool,
    ) -> RunHandle {
        self.begin_steps(run, Steps::new(&self.name, &self.log, count, takes, at_once)).await
    }

    /// Starts steps that only a newer build knows.
    pub(crate) async fn begin_newer(&self, run: &str, count: usize, takes: Duration) -> RunHandle {
        self.begin_steps(run, Steps::new(&self.name, &self.log, count, takes, false).newer()).await
    }

    async fn begin_steps(&self, run: &str, steps: Steps) -> RunHandle {
        self.runs.start(starting(run, steps)).await.unwrap()
    }

    /// Records such a run and leaves it to whoever takes it.
    pub(crate) async fn leave(&self, run: &str, count: usize, takes: Duration) -> RunHandle {
        let workflow = Steps::new(&self.name, &self.log, count, takes, false);
        self.runs.submit(starting(run, workflow)).await.unwrap()
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.services.registered_node().unwrap().incarnation
    }

    pub(crate) fn is_at(&self, stage: &str) -> bool {
        self.detail("/engine/scheduler/lease")["stage"] == stage
    }

    pub(crate) fn detail(&self, path: &str) -> serde_json::Value {
        let nodes: Vec<TreeNode> = self.root.tree().nodes();
        nodes.into_iter().find(|node| node.path == path).unwrap().detail
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.root.tree().nodes().iter().any(|node| node.path == path)
    }

    pub(crate) async fn stop(self) {
        self.link.set(Weather::Fair);
        self.services.announce_shutdown();
        self.root.shutdown().await;
        self.services.announce_end();
    }
}

pub(crate) fn starting(run: &str, workflow: impl Workflow) -> StartRun {
    let run = Some(RunId::parse(run).unwrap());
    StartRun {
        run,
        workflow: Arc::new(workflow),
        settings: serde_json::json!({}),
        within: None,
        priority: Default::default(),
    }
}

/// The run as it is, and that its history holds together: gapless, each job there once and ended once, attempts
/// dense, counters those of the rows, and whatever else the store looks for.
pub(crate) async fn checked(store: &MemoryStore, run: &RunId) -> RunView {
    let events = store.events(run.as_str(), 1, 100_000).await.unwrap();
    assert!(events.iter().map(|event| event.seq).eq(1..=events.len() as u64));
    let view = store.run(run).await.unwrap();
    let keys: BTreeSet<_> = view.jobs.iter().map(|job| job.key.as_str()).collect();
    assert_eq!(keys.len(), view.jobs.len());
    let listed = store.runs(100_000).await.unwrap();
    let listed = listed.iter().find(|summary| summary.run == *run).unwrap();
    let done = view.jobs.iter().filter(|job| job.state.is_terminal()).count();
    assert_eq!((listed.jobs, listed.jobs_done), (keys.len() as u64, done as u64));
    let found = store.verify(VerifyCursor::of(run.as_str()), 100_000).await.unwrap();
    assert!(found.complete && found.violations.is_empty(), "{:#?}", found.violations);
    for job in &view.jobs {
        let of_job = |kind: &str| {
            let of = |event: &&perennial_store::EventRecord| {
                event.kind == kind && event.job.as_ref() == Some(&job.key)
            };
            events.iter().filter(of).count()
        };
        assert_eq!(of_job("job_succeeded"), usize::from(job.state.is_terminal()), "{}", job.key);
        let attempts = view.attempts.iter().filter(|attempt| attempt.job == job.id);
        assert!(attempts.map(|attempt| attempt.attempt).eq(1..=job.attempt), "dense from 1");
    }
    view
}
