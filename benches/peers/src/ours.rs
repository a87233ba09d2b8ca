//! The same through our supervision.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};
use std::time::Duration;

use perennial_supervision::{
    Address, ChildSpec, Clock, DynamicSupervisor, DynamicSupervisorSpec, Options, Root,
    SupervisorSpec,
};

use crate::{
    bare::{Msg, WITHIN, Worker},
    measure::{Meter, Pick, bytes, bytes_since, count_bytes, latencies, settle},
};

/// A worker that knows which incarnation it is.
fn worker() -> (ChildSpec, Address<Msg>) {
    let number = AtomicU64::new(0);
    ChildSpec::actor("worker", move || (Worker, number.fetch_add(1, Ordering::Relaxed)))
}

fn tolerant(spec: SupervisorSpec) -> SupervisorSpec {
    spec.intensity(u32::MAX, Duration::from_secs(1))
}

async fn start(spec: SupervisorSpec) -> Root {
    Root::start(spec, Clock::start(), Options::default()).await.expect("it starts")
}

/// A dynamic supervisor below a root.
async fn dynamic() -> (Root, DynamicSupervisor) {
    let spec = DynamicSupervisorSpec::new("workers", usize::MAX);
    let spec = spec.intensity(u32::MAX, Duration::from_secs(1));
    let (spec, workers) = DynamicSupervisor::child_spec(spec);
    (start(tolerant(SupervisorSpec::new("root")).child(spec)).await, workers)
}

/// Starts `count` of them and keeps what a host keeps: their addresses.
async fn fill(workers: &DynamicSupervisor, count: usize) -> Vec<Address<Msg>> {
    let mut addresses = Vec::with_capacity(count);
    for _ in 0..count {
        let (spec, address) = worker();
        workers.start_child(spec).await.expect("it starts");
        addresses.push(address);
    }
    addresses
}

async fn ping(address: &Address<Msg>) -> u64 {
    address.call(Msg::Ping, WITHIN).await.expect("an answer")
}

pub(crate) async fn call(count: usize) -> f64 {
    let (spec, address) = worker();
    let root = start(SupervisorSpec::new("root").child(spec)).await;
    for _ in 0..count / 10 {
        ping(&address).await;
    }
    let meter = Meter::start();
    for _ in 0..count {
        ping(&address).await;
    }
    let measured = meter.per(count);
    root.shutdown().await;
    measured
}

async fn crashes(address: Address<Msg>, count: usize) -> f64 {
    let mut last = ping(&address).await;
    let meter = Meter::start();
    for _ in 0..count {
        address.call(Msg::Crash, WITHIN).await.expect_err("it failed");
        let number = ping(&address).await;
        assert!(number > last, "the next one answered");
        last = number;
    }
    meter.per(count)
}

pub(crate) async fn restart_static(count: usize) -> f64 {
    let (spec, address) = worker();
    let root = start(tolerant(SupervisorSpec::new("root")).child(spec)).await;
    let measured = crashes(address, count).await;
    root.shutdown().await;
    measured
}

pub(crate) async fn restart_dynamic(count: usize) -> f64 {
    let (root, workers) = dynamic().await;
    let (spec, address) = worker();
    workers.start_child(spec).await.expect("it starts");
    let measured = crashes(address, count).await;
    root.shutdown().await;
    measured
}

pub(crate) async fn start_terminate(count: usize) -> f64 {
    let (root, workers) = dynamic().await;
    let meter = Meter::start();
    for _ in 0..count {
        let (spec, _address) = worker();
        let child = workers.start_child(spec).await.expect("it starts");
        workers.terminate_child(&child).await.expect("it stops");
    }
    let measured = meter.rate(count);
    root.shutdown().await;
    measured
}

/// In reverse start order, each child awaited.
pub(crate) async fn shutdown(count: usize) -> f64 {
    let mut spec = SupervisorSpec::new("root");
    for id in 0..count {
        let id = id.to_string();
        spec = spec.child(ChildSpec::actor(id.as_str(), || (Worker, 0)).0);
    }
    let root = start(spec).await;
    let meter = Meter::start();
    root.shutdown().await;
    meter.per(count)
}

pub(crate) async fn bulk_start(count: usize) -> f64 {
    let (root, workers) = dynamic().await;
    let meter = Meter::start();
    let addresses = fill(&workers, count).await;
    let measured = meter.per(count);
    root.shutdown().await;
    drop(addresses);
    measured
}

pub(crate) async fn memory(count: usize) -> f64 {
    let (root, workers) = dynamic().await;
    settle().await;
    count_bytes(true);
    let before = bytes();
    let addresses = fill(&workers, count).await;
    let measured = bytes_since(before, count);
    count_bytes(false);
    root.shutdown().await;
    drop(addresses);
    measured
}

/// Many children of one dynamic supervisor.
pub(crate) struct Crowd {
    root: Root,
    workers: DynamicSupervisor,
    addresses: Vec<Address<Msg>>,
    next: AtomicUsize,
}

impl Crowd {
    pub(crate) async fn start(count: usize) -> Self {
        let (root, workers) = dynamic().await;
        let addresses = fill(&workers, count).await;
        Self { root, workers, addresses, next: AtomicUsize::new(0) }
    }

    /// Lists the children while one of them crashes every millisecond.
    pub(crate) async fn list(self: Arc<Self>, pick: Pick) -> f64 {
        let crashes = self.clone().crash();
        let measured = latencies(pick, || self.workers.which_children().unwrap().len()).await;
        crashes.abort();
        measured
    }

    /// As [`Self::list`], the whole tree with all it knows.
    pub(crate) async fn dump(self: Arc<Self>, pick: Pick) -> f64 {
        let crashes = self.clone().crash();
        let measured = latencies(pick, || self.root.tree().nodes().len()).await;
        crashes.abort();
        measured
    }

    fn crash(self: Arc<Self>) -> tokio::task::JoinHandle<()> {
        crate::measure::each_millisecond(move || {
            let next = self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
            // One that is just being restarted is left alone.
            drop(self.addresses[next].cast(Msg::Crash(tokio::sync::oneshot::channel().0.into())));
        })
    }
}
