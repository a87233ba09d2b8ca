//! The engine as victims have it: on a store that they watch, with what they run and the services that it uses.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use perennial::{
    engine::{
        Definitions, EngineSettings, Runs, Services, ServicesSpec, drain,
        external::{External, ExternalSpec, ServiceDefaults},
        monitor::Monitoring,
        scheduler::{Adoption, LeaseTerms, Scheduler, SchedulerSpec},
    },
    service::ServiceSpec,
    supervision::{
        Clock, DynamicSupervisor, DynamicSupervisorSpec, Options, Root, SupervisorSpec,
        TaskSupervisor, TaskSupervisorSpec,
    },
};
use perennial_store::Store;

use super::{
    faults::Watched,
    place,
    victim::{Ledger, Orders},
};

/// What is up.
pub(super) struct Host {
    pub(super) store: Arc<dyn Store>,
    pub(super) runs: Runs,
    services: Services,
    /// The engine has it only as long as its host does.
    external: Option<External>,
    root: Root,
    ledger: Arc<Ledger>,
}

impl Host {
    /// `declared` are started for jobs that use them.
    pub(super) async fn start(
        orders: &Orders,
        ledger: Arc<Ledger>,
        definitions: Arc<dyn Definitions>,
        declared: Vec<ServiceSpec>,
    ) -> Self {
        let (inner, store_child) = place::opened(&orders.store).await;
        let looks = orders.staged && orders.samples;
        let store: Arc<dyn Store> = Arc::new(Watched { inner, ledger: ledger.clone(), looks });
        let clock = Clock::start();
        let (tasks_child, tasks) =
            TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
        let services = Services::new(ServicesSpec {
            store: store.clone(),
            clock,
            node: "local".to_owned(),
            tasks,
            definitions,
            monitoring: Monitoring { enabled: false, ..Monitoring::default() },
            // Each life knows that the one before is over.
            lease: LeaseTerms { exclusive: true, ..LeaseTerms::default() },
            attempts_max: orders.rooms,
            // Those that wait for a service come back at once: they are few.
            settings: EngineSettings {
                wake_spread: Duration::from_millis(1),
                ..EngineSettings::default()
            },
            authority: None,
        });
        let mut tree = SupervisorSpec::new("victim").child(store_child).child(tasks_child);
        let mut external = None;
        if !declared.is_empty() {
            let spec = ExternalSpec {
                services: declared,
                defaults: ServiceDefaults::default(),
                engine: services.clone(),
            };
            let (children, handle) = External::child_spec(spec).unwrap();
            external = Some(handle);
            tree = children.into_iter().fold(tree, SupervisorSpec::child);
        }
        let of = |name: &str| DynamicSupervisor::child_spec(DynamicSupervisorSpec::new(name, 100));
        let ((monitors_child, monitors), (runs_child, actors)) = (of("monitors"), of("runs"));
        let lifecycle = Arc::new(OnceLock::new());
        let (scheduler_child, scheduler) = Scheduler::child_spec(SchedulerSpec {
            services: services.clone(),
            runs: actors,
            runs_max: 10,
            monitors,
            adoption: Adoption::AtBoot,
            lifecycle: lifecycle.clone(),
        });
        let tree = tree
            .child(scheduler_child)
            .child(monitors_child)
            .child(runs_child)
            .child(drain::child_spec(services.clone(), Duration::ZERO));
        let root = Root::start(tree, clock, Options::default()).await.unwrap();
        drop(lifecycle.set(root.tree().lifecycle_source()));
        let runs = Runs::new(services.clone(), scheduler);
        ledger.write("up");
        Self { store, runs, services, external, root, ledger }
    }

    pub(super) async fn shutdown(self) {
        self.services.announce_shutdown();
        self.ledger.passes("drain:after");
        self.root.shutdown().await;
        drop(self.external);
        self.store.close();
        self.services.announce_end();
        self.ledger.write("down");
    }
}
