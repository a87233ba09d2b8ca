//! Children of our own kind, without ractor below them. `incumbent` has this file as well.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use perennial_supervision::{
    Address, CallError, CastError, ChildSpec, Clock, DynamicSupervisor, DynamicSupervisorSpec,
    ExitReason, GenServer, Init, Next, Options, Reply, Restart, Root, ServerCx, SupervisorSpec,
    actor::ActorError,
};

use crate::{
    bare::{AskedToPanic, WITHIN},
    measure::{Meter, all, bytes, bytes_since, count_bytes, settle},
};

pub(crate) enum Msg {
    /// Answers which incarnation it is.
    Ping(Reply<u64>),
    /// Fails, and never answers.
    Crash(Reply<()>),
    /// As [`Crash`](Self::Crash), by a panic.
    Panic(Reply<()>),
    /// Nothing.
    Note,
    /// Ends.
    End,
}

/// As the actor of the baseline; its state is the number of its incarnation.
pub(crate) struct Worker(u64);

impl GenServer for Worker {
    type Arguments = u64;
    type Message = Msg;

    async fn init(number: u64, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        Ok(Init::new(Self(number)))
    }

    async fn handle(
        &mut self,
        message: Msg,
        _: &mut ServerCx<Self>,
    ) -> Result<Next<Msg>, ActorError> {
        match message {
            Msg::Ping(reply) => reply.send(self.0),
            Msg::Crash(reply) => {
                drop(reply);
                return Err("asked to fail".into());
            }
            Msg::Panic(reply) => {
                drop(reply);
                std::panic::panic_any(AskedToPanic);
            }
            Msg::Note => (),
            Msg::End => return Ok(Next::Stop(ExitReason::Normal)),
        }
        Ok(Next::Continue)
    }
}

/// The child of all these lines. Its kind is decided here and nowhere else.
pub(crate) fn child(id: &str) -> (ChildSpec, Address<Msg>) {
    // Counted for all: what the specification captures would count in its memory.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    ChildSpec::server::<Worker>(id, || NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn tolerant(spec: SupervisorSpec) -> SupervisorSpec {
    spec.intensity(u32::MAX, Duration::from_secs(1))
}

pub(crate) async fn start(spec: SupervisorSpec) -> Root {
    Root::start(tolerant(spec), Clock::start(), Options::default()).await.expect("it starts")
}

/// A dynamic supervisor below a root, behind `first` if there is one.
pub(crate) async fn dynamic(first: Option<ChildSpec>) -> (Root, DynamicSupervisor) {
    let spec = DynamicSupervisorSpec::new("workers", usize::MAX);
    let spec = spec.intensity(u32::MAX, Duration::from_secs(1));
    let (spec, workers) = DynamicSupervisor::child_spec(spec);
    let root = first.into_iter().fold(SupervisorSpec::new("root"), SupervisorSpec::child);
    (start(root.child(spec)).await, workers)
}

/// Starts one below a dynamic supervisor.
async fn one(spec: impl FnOnce(ChildSpec) -> ChildSpec) -> (Root, Address<Msg>) {
    let (root, workers) = dynamic(None).await;
    let (child, address) = child("worker");
    workers.start_child(spec(child)).await.expect("it starts");
    (root, address)
}

async fn ping(address: &Address<Msg>) -> u64 {
    address.call(Msg::Ping, WITHIN).await.expect("an answer")
}

/// Crashes one, `count` times, each time until the next incarnation answers.
pub(crate) async fn restart(count: usize, crash: fn(Reply<()>) -> Msg) -> f64 {
    let (root, address) = one(|spec| spec).await;
    let mut last = ping(&address).await;
    let meter = Meter::start();
    for _ in 0..count {
        address.call(crash, WITHIN).await.expect_err("it failed");
        let number = ping(&address).await;
        assert!(number > last, "the next one answered");
        last = number;
    }
    let measured = meter.per(count);
    root.shutdown().await;
    measured
}

pub(crate) async fn start_terminate(count: usize) -> f64 {
    let (root, workers) = dynamic(None).await;
    let meter = Meter::start();
    for _ in 0..count {
        let (spec, _address) = child("worker");
        let child = workers.start_child(spec).await.expect("it starts");
        workers.terminate_child(&child).await.expect("it stops");
    }
    let measured = meter.rate(count);
    root.shutdown().await;
    measured
}

/// Each with an id of its own; keeps what a host keeps.
pub(crate) async fn fill(
    workers: &DynamicSupervisor,
    count: usize,
    given: impl Fn(usize, ChildSpec) -> ChildSpec,
) -> Vec<Address<Msg>> {
    let mut addresses = Vec::with_capacity(count);
    for number in 0..count {
        let (spec, address) = child(&name(number));
        workers.start_child(given(number, spec)).await.expect("it starts");
        addresses.push(address);
    }
    addresses
}

pub(crate) fn name(number: usize) -> String {
    format!("worker-{number}")
}

pub(crate) async fn bulk_start(count: usize) -> f64 {
    let (root, workers) = dynamic(None).await;
    let meter = Meter::start();
    let addresses = fill(&workers, count, |_, spec| spec).await;
    let measured = meter.per(count);
    root.shutdown().await;
    drop(addresses);
    measured
}

/// `claims` says whether each claims a name in the tree beside its id.
pub(crate) async fn memory(count: usize, claims: bool) -> f64 {
    let (root, workers) = dynamic(None).await;
    settle().await;
    count_bytes(true);
    let before = bytes();
    let addresses =
        fill(&workers, count, |number, spec| if claims { spec.name(name(number)) } else { spec })
            .await;
    let measured = bytes_since(before, count);
    count_bytes(false);
    root.shutdown().await;
    drop(addresses);
    measured
}

/// In reverse start order, each child awaited.
pub(crate) async fn shutdown(count: usize) -> f64 {
    let spec = (0..count)
        .fold(SupervisorSpec::new("root"), |spec, number| spec.child(child(&name(number)).0));
    let root = start(spec).await;
    let meter = Meter::start();
    root.shutdown().await;
    meter.per(count)
}

/// Tells one `count` times, from so many `senders` at once, until the last was handled. Its mailbox
/// is bounded as every one is unless that is changed; whoever finds it full lets others run.
pub(crate) async fn cast(count: usize, senders: usize) -> f64 {
    let (root, address) = one(|spec| spec).await;
    ping(&address).await;
    let meter = Meter::start();
    let senders = (0..senders).map(|_| {
        let (address, count) = (address.clone(), count / senders);
        tokio::spawn(async move {
            for _ in 0..count {
                while let Err(refused) = address.cast(Msg::Note) {
                    assert_eq!(refused, CastError::Full);
                    tokio::task::yield_now().await;
                }
            }
            answered(&address).await;
        })
    });
    all(senders.collect()).await;
    let measured = meter.per(count);
    root.shutdown().await;
    measured
}

/// Behind all that was sent from here.
async fn answered(address: &Address<Msg>) {
    while let Err(refused) = address.call::<Reply<u64>>(Msg::Ping, WITHIN).await {
        assert_eq!(refused, CallError::Full);
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn call(count: usize, callers: usize) -> f64 {
    let (root, address) = one(|spec| spec).await;
    for _ in 0..count / 10 {
        ping(&address).await;
    }
    let meter = Meter::start();
    let callers = (0..callers).map(|_| {
        let (address, count) = (address.clone(), count / callers);
        tokio::spawn(async move {
            for _ in 0..count {
                ping(&address).await;
            }
        })
    });
    all(callers.collect()).await;
    let measured = meter.per(count);
    root.shutdown().await;
    measured
}

/// Starts `count` short children, `wave` of them at a time, and waits for the end of each: every
/// second one ends by itself, the others are terminated.
pub(crate) async fn come_and_go(workers: &DynamicSupervisor, count: usize, wave: usize) {
    let mut running = Vec::with_capacity(wave);
    for first in (0..count).step_by(wave) {
        for number in first..count.min(first + wave) {
            let (spec, address) = child("worker");
            let ends_itself = number % 2 == 0;
            let spec = if ends_itself { spec.restart(Restart::Temporary) } else { spec };
            let child = workers.start_child(spec).await.expect("it starts");
            running.push((child, ends_itself.then_some(address)));
        }
        for (child, address) in running.drain(..) {
            if let Some(address) = address {
                address.cast(Msg::End).expect("it runs");
                assert_eq!(child.first_exit().await, ExitReason::Normal);
            } else {
                workers.terminate_child(&child).await.expect("it stops");
            }
        }
    }
}
