//! A name looked up: our registry of running children next to a bare table of their addresses.

use std::sync::Arc;

use dashmap::DashMap;
use perennial_supervision::{Address, Registry, RegistrySpec, Root, Unique};

use crate::{
    light::{Msg, dynamic, fill, name},
    measure::{Meter, all},
};

/// Children under names, and the same addresses in a table.
pub(crate) struct Names {
    root: Root,
    names: Vec<String>,
    registry: Registry<String, (), Unique>,
    table: DashMap<String, Address<Msg>>,
}

impl Names {
    pub(crate) async fn start(count: usize) -> Self {
        let (spec, registry) =
            Registry::child_spec(RegistrySpec::unique("names")).expect("it is well");
        let (root, workers) = dynamic(Some(spec)).await;
        let addresses =
            fill(&workers, count, |number, spec| spec.via(&registry, name(number), ())).await;
        let names: Vec<String> = (0..count).map(name).collect();
        let table = names.iter().cloned().zip(addresses).collect();
        Self { root, names, registry, table }
    }

    pub(crate) async fn in_registry(self: Arc<Self>, count: usize, readers: usize) -> f64 {
        self.read(count, readers, |names, name| {
            names.registry.handle::<Address<Msg>, str>(name).expect("it runs")
        })
        .await
    }

    pub(crate) async fn in_table(self: Arc<Self>, count: usize, readers: usize) -> f64 {
        self.read(count, readers, |names, name| names.table.get(name).map(|found| found.clone()))
            .await
    }

    /// Looks up `count` names, all over the table, from so many tasks at once.
    async fn read(
        self: Arc<Self>,
        count: usize,
        readers: usize,
        find: fn(&Self, &str) -> Option<Address<Msg>>,
    ) -> f64 {
        let meter = Meter::start();
        let readers = (0..readers).map(|reader| {
            let (this, count) = (self.clone(), count / readers);
            tokio::spawn(async move {
                let names = &this.names;
                for number in 0..count {
                    let name = &names[(number * STRIDE + reader) % names.len()];
                    assert!(find(&this, name).is_some(), "it is there");
                }
            })
        });
        all(readers.collect()).await;
        meter.per(count)
    }

    pub(crate) async fn end(self: Arc<Self>) {
        self.root.shutdown().await;
    }
}

/// A prime: neighbours in time are none in memory.
const STRIDE: usize = 7_919;
