//! A name looked up: our registry of running children next to a bare table of their addresses.

use std::sync::Arc;

use dashmap::DashMap;
use perennial_supervision::{
    Address, ChildSpec, Clock, DynamicSupervisor, DynamicSupervisorSpec, GenServer, Init, Next,
    Options, Registry, RegistrySpec, Root, ServerCx, SupervisorSpec, Unique, actor::ActorError,
};

use crate::{
    light::{self, name},
    measure::{Meter, all},
};

/// Has a name, and nothing to do.
struct Bearer;

impl GenServer for Bearer {
    type Arguments = ();
    type Message = ();

    async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        Ok(Init::new(Self))
    }

    async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> {
        Ok(Next::Continue)
    }
}

/// Children under names, the same addresses in a table, and light children of these names.
pub(crate) struct Names {
    roots: [Root; 2],
    names: Vec<String>,
    registry: Registry<String, (), Unique>,
    table: DashMap<String, Address<()>>,
    light: light::Workers,
}

impl Names {
    pub(crate) async fn start(count: usize) -> Self {
        let (spec, registry) =
            Registry::child_spec(RegistrySpec::unique("names")).expect("it is well");
        let (bearers_spec, bearers) =
            DynamicSupervisor::child_spec(DynamicSupervisorSpec::unlimited("bearers"));
        let root = SupervisorSpec::new("root").child(spec).child(bearers_spec);
        let root = Root::start(root, Clock::start(), Options::default()).await.expect("it starts");
        let names: Vec<String> = (0..count).map(name).collect();
        let table = DashMap::new();
        for name in &names {
            let (spec, address) = ChildSpec::server::<Bearer>(name.as_str(), || ());
            let spec = spec.via(&registry, name.clone(), ());
            bearers.start_child(spec).await.expect("it starts");
            table.insert(name.clone(), address);
        }
        let (light_root, light) = light::crowd(count).await;
        Self { roots: [root, light_root], names, registry, table, light }
    }

    pub(crate) async fn in_registry(self: Arc<Self>, count: usize, readers: usize) -> f64 {
        let find = |names: &Self, name: &str| {
            names.registry.handle::<Address<()>, str>(name).expect("it runs").is_some()
        };
        self.read(count, readers, find).await
    }

    pub(crate) async fn in_table(self: Arc<Self>, count: usize, readers: usize) -> f64 {
        let find =
            |names: &Self, name: &str| names.table.get(name).map(|found| found.clone()).is_some();
        self.read(count, readers, find).await
    }

    /// Among light children, which are found by their ids.
    pub(crate) async fn among_light(self: Arc<Self>, count: usize, readers: usize) -> f64 {
        let find = |names: &Self, name: &str| names.light.find(name).is_some();
        self.read(count, readers, find).await
    }

    /// Looks up `count` names, all over the table, from so many tasks at once.
    async fn read(
        self: Arc<Self>,
        count: usize,
        readers: usize,
        find: fn(&Self, &str) -> bool,
    ) -> f64 {
        let meter = Meter::start();
        let readers = (0..readers).map(|reader| {
            let (this, count) = (self.clone(), count / readers);
            tokio::spawn(async move {
                let names = &this.names;
                for number in 0..count {
                    let name = &names[(number * STRIDE + reader) % names.len()];
                    assert!(find(&this, name), "it is there");
                }
            })
        });
        all(readers.collect()).await;
        meter.per(count)
    }

    pub(crate) async fn end(self: Arc<Self>) {
        for root in &self.roots {
            root.shutdown().await;
        }
    }
}

/// A prime: neighbours in time are none in memory.
const STRIDE: usize = 7_919;
