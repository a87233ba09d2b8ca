//! The tree: one function, for tests and production, for what runs and what is only declared.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use perennial_core::tree::{RuntimeInfo, SCHEMA, TreeSnapshot};
use perennial_engine::{
    Authority, Definitions, EngineSettings, Runs, Services, ServicesSpec, drain,
    external::{External, ExternalSpec, InvalidServices, ServiceDefaults, ServiceSpec},
    monitor::Monitoring,
    retention,
    scheduler::{Adoption, LeaseTerms, Scheduler, SchedulerSpec},
    sessions::Sessions,
};
#[cfg(feature = "postgres")]
use perennial_store::PostgresStore;
use perennial_store::{MemoryStore, Retention, SqliteStore, Store, StoreError};
use perennial_supervision::{
    ChildSpec, Clock, DynamicSupervisor, DynamicSupervisorSpec, LifecycleSource, StopToken,
    Supervisor, SupervisorSpec, TaskSupervisor, TaskSupervisorSpec,
};
use perennial_tools::ToolRegistry;
use serde_json::json;

use super::{Limits, store::Opened, workflows::HostWorkflows};

/// Restarts that the root tolerates. A storm anywhere below it has passed its own supervisor first.
pub(super) const INTENSITY: (u32, Duration) = (3, Duration::from_secs(5));
/// Actors of runs beyond the places: of paused ones. More are started as others end.
const PAUSED_MAX: usize = 10_000;

/// What the tree is made of.
pub(super) struct Application {
    pub(super) store: Arc<dyn Store>,
    /// The loops of a store that has some; none for what is only declared.
    pub(super) loops: Loops,
    pub(super) clock: Clock,
    pub(super) node: String,
    pub(super) definitions: Arc<dyn Definitions>,
    pub(super) workflows: HostWorkflows,
    pub(super) adoption: Adoption,
    pub(super) host_children: Vec<ChildSpec>,
    pub(super) external: Vec<ServiceSpec>,
    pub(super) service_defaults: Box<ServiceDefaults>,
    pub(super) limits: Limits,
    pub(super) monitoring: Monitoring,
    pub(super) lease: LeaseTerms,
    pub(super) settings: EngineSettings,
    pub(super) authority: Option<Authority>,
    pub(super) intensity: (u32, Duration),
    pub(super) drain_within: Duration,
    pub(super) retention: Retention,
}

/// The threads of a store.
pub(super) enum Loops {
    /// And how many of them read.
    Sqlite(Option<SqliteStore>, usize),
    #[cfg(feature = "postgres")]
    Postgres(PostgresStore),
    None,
}

impl Loops {
    pub(super) fn of(opened: &Opened) -> Self {
        match opened {
            Opened::Sqlite(store, readers) => Self::Sqlite(Some(store.clone()), *readers),
            #[cfg(feature = "postgres")]
            Opened::Postgres(store) => Self::Postgres(store.clone()),
            Opened::Memory(_) => Self::None,
        }
    }
}

/// The tree and the handles into it.
pub(super) struct Assembled {
    pub(super) tree: SupervisorSpec,
    pub(super) services: Services,
    pub(super) runs: Runs,
    pub(super) sessions: Sessions,
    pub(super) tools: ToolRegistry,
    pub(super) tasks: TaskSupervisor,
    pub(super) external: External,
    pub(super) host: Supervisor,
    /// To be set once the tree runs.
    pub(super) published: Arc<OnceLock<LifecycleSource>>,
}

/// Puts the tree together. Nothing starts here.
///
/// # Errors
///
/// Everything that is wrong with the services of the host.
pub(super) fn assemble(application: Application) -> Result<Assembled, InvalidServices> {
    let Application { store, loops, clock, node, definitions, limits, monitoring, .. } =
        application;
    let published = Arc::new(OnceLock::new());

    let (definitions, rebuilds_child) = application.workflows.beside(definitions);
    let store_child = store_child(&store, loops, Some(application.retention));
    let (tools_child, tools) = ToolRegistry::child_spec();
    let (tasks_child, tasks) =
        TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", limits.tasks));
    let declares_services = !application.external.is_empty();
    let services = Services::new(ServicesSpec {
        store,
        clock,
        node,
        tasks: tasks.clone(),
        definitions,
        monitoring,
        lease: application.lease,
        attempts_max: limits.attempts,
        settings: application.settings,
        authority: application.authority,
    });
    let (external_children, external) = External::child_spec(ExternalSpec {
        services: application.external,
        defaults: *application.service_defaults,
        engine: services.clone(),
    })?;
    let (sessions_child, sessions) = Sessions::child_spec(services.clone());
    // A run that keeps crashing is dropped and reported; its siblings live on.
    let budget = Duration::from_secs(60);
    let (monitors_child, monitors) = DynamicSupervisor::child_spec(
        DynamicSupervisorSpec::new("monitors", limits.monitors).child_budget(5, budget),
    );
    let (runs_child, run_actors) = DynamicSupervisor::child_spec(
        // Paused runs keep their actor and hold no place; who holds one is the scheduler's to decide.
        DynamicSupervisorSpec::new("runs", limits.runs.saturating_add(PAUSED_MAX))
            .child_budget(5, budget),
    );
    let of_tasks = tasks.clone();
    let tasks_child = tasks_child
        .detail(move || json!({ "running": of_tasks.children().len(), "tasks_max": limits.tasks }));
    let of_monitors = monitors.clone();
    let monitors_child = monitors_child.detail(move || {
        let (most, enabled) = (limits.monitors, monitoring.enabled);
        json!({ "active": active(&of_monitors), "monitors_max": most, "enabled": enabled })
    });
    let (of_runs, shared) = (run_actors.clone(), services.clone());
    let runs_child = runs_child.detail(move || {
        let waiting = shared.runs_waiting();
        let (holders, actors) = (shared.runs_active(), active(&of_runs));
        json!({ "waiting": waiting, "active": holders, "actors": actors, "runs_max": limits.runs })
    });
    let (scheduler_child, scheduler) = Scheduler::child_spec(SchedulerSpec {
        services: services.clone(),
        runs: run_actors,
        runs_max: limits.runs,
        monitors,
        adoption: application.adoption,
        lifecycle: published.clone(),
    });
    let mut host = SupervisorSpec::new("host");
    for child in application.host_children {
        host = host.child(child);
    }
    let (host_child, host) = Supervisor::child_spec(host);
    let drain_child = drain::child_spec(services.clone(), application.drain_within);

    let (max_restarts, within) = application.intensity;
    let tree = SupervisorSpec::new("perennial")
        .intensity(max_restarts, within)
        .child(store_child)
        .child(tools_child)
        .child(sessions_child)
        .child(tasks_child);
    // Before the scheduler, which asks there for the workflows of runs.
    let tree = rebuilds_child.into_iter().fold(tree, SupervisorSpec::child);
    // Before whoever holds one, behind the tasks in which drivers work.
    let external_children = declares_services.then_some(external_children);
    let tree = external_children.into_iter().flatten().fold(tree, SupervisorSpec::child);
    let tree = tree
        .child(scheduler_child)
        .child(monitors_child)
        .child(runs_child)
        .child(host_child)
        .child(drain_child);
    let runs = Runs::new(services.clone(), scheduler);
    Ok(Assembled { tree, services, runs, sessions, tools, tasks, external, host, published })
}

/// Children that run; unknown while their supervisor is away.
fn active(children: &DynamicSupervisor) -> serde_json::Value {
    json!(children.count_children().ok().map(|counts| counts.active))
}

/// The supervisor of the store's threads, and of what removes from it; it shows what the store publishes.
pub(super) fn store_child(
    store: &Arc<dyn Store>,
    loops: Loops,
    retention: Option<Retention>,
) -> ChildSpec {
    let mut subtree = SupervisorSpec::new("store");
    match loops {
        Loops::Sqlite(sqlite, readers) => subtree = file_loops(subtree, &sqlite, readers),
        #[cfg(feature = "postgres")]
        Loops::Postgres(store) => subtree = server_loops(subtree, &store),
        Loops::None => (),
    }
    if let Some(policy) = retention {
        subtree = subtree.child(retention::child_spec(store.clone(), policy));
    }
    let shown = store.clone();
    Supervisor::child_spec(subtree).0.detail(move || json!(shown.status()))
}

/// One thread writes the file, some read it.
fn file_loops(
    mut subtree: SupervisorSpec,
    sqlite: &Option<SqliteStore>,
    readers: usize,
) -> SupervisorSpec {
    let writing = sqlite.clone();
    if !sqlite.as_ref().is_some_and(SqliteStore::is_read_only) {
        subtree = subtree.child(ChildSpec::thread("writer", move |stop: StopToken| {
            let Some(store) = &writing else { return Ok(()) };
            let work = store.writer();
            let stopper = work.stopper();
            stop.on_stop(move || stopper.stop());
            work.run()
        }));
    }
    for number in 1..=readers {
        let reading = sqlite.clone();
        let id = format!("reader-{number}");
        subtree = subtree.child(ChildSpec::thread(id, move |stop: StopToken| {
            let Some(store) = &reading else { return Ok::<(), StoreError>(()) };
            let work = store.reader();
            let stopper = work.stopper();
            stop.on_stop(move || stopper.stop());
            work.run()
        }));
    }
    subtree
}

/// Threads that have one connection each, and one that tells other nodes of writes and hears of theirs. A lost
/// connection ends none of them: each connects again by itself.
#[cfg(feature = "postgres")]
fn server_loops(mut subtree: SupervisorSpec, store: &PostgresStore) -> SupervisorSpec {
    for number in 1..=store.connections() {
        let store = store.clone();
        let id = format!("connection-{number}");
        subtree = subtree.child(ChildSpec::thread(id, move |stop: StopToken| {
            let work = store.connection();
            let stopper = work.stopper();
            stop.on_stop(move || stopper.stop());
            work.run()
        }));
    }
    let store = store.clone();
    subtree.child(ChildSpec::thread("listener", move |stop: StopToken| {
        let work = store.listener();
        let stopper = work.stopper();
        stop.on_stop(move || stopper.stop());
        work.run()
    }))
}

/// The tree as specified, without starting anything or touching a store.
///
/// ```
/// # use perennial::{ChildSpec, declared_tree, inspect::to_text};
/// let inbox = ChildSpec::task("inbox", || async { Ok::<(), String>(()) });
/// let tree = declared_tree(vec![inbox])?;
/// assert!(tree.declared);
/// assert!(tree.nodes.iter().any(|node| node.path == "/perennial/host/inbox"));
/// println!("{}", to_text(&tree, &Default::default()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When the placeholder for the store cannot be made.
pub fn declared_tree(host_children: Vec<ChildSpec>) -> Result<TreeSnapshot, StoreError> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::open()?);
    let assembled = assemble(Application {
        store,
        loops: Loops::Sqlite(None, super::StoreSettings::default().readers()),
        clock: Clock::start(),
        node: String::new(),
        definitions: Arc::new(NoDefinitions),
        workflows: HostWorkflows::default(),
        adoption: Adoption::OnRequest,
        host_children,
        external: Vec::new(),
        service_defaults: Box::default(),
        limits: Limits::default(),
        monitoring: Monitoring::default(),
        lease: LeaseTerms::default(),
        settings: EngineSettings::default(),
        authority: None,
        intensity: INTENSITY,
        drain_within: drain::DRAIN_TIMEOUT,
        retention: Retention::default(),
    })
    .expect("no services are declared");
    Ok(TreeSnapshot {
        schema: SCHEMA.to_owned(),
        runtime: RuntimeInfo {
            name: "perennial".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: "-".to_owned(),
            instance: "-".to_owned(),
            store: None,
        },
        taken_at: None,
        uptime_ms: None,
        completeness: None,
        took_us: None,
        declared: true,
        nodes: assembled.tree.declared(),
        findings: Vec::new(),
    })
}

/// For trees that never run anything.
#[derive(Debug)]
pub(super) struct NoDefinitions;

impl Definitions for NoDefinitions {
    fn revive<'a>(
        &'a self,
        run: &'a perennial_store::RunRecord,
        _definition: Vec<u8>,
    ) -> perennial_engine::workflow::BoxFuture<
        'a,
        Result<Arc<dyn perennial_engine::Workflow>, perennial_engine::NotRunnable>,
    > {
        let failure = perennial_core::failure::Failure::new(
            perennial_core::FailureClass::Internal,
            "PL903",
            "this runtime only reads",
        );
        let refused = perennial_engine::NotRunnable { run: run.run.clone(), failure };
        Box::pin(std::future::ready(Err(refused)))
    }
}
