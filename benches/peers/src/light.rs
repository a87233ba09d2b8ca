//! Light children, below which is no ractor. `incumbent` has this file as well.

use std::time::Duration;

use perennial_supervision::{
    Address, CallError, CastError, Clock, ExitReason, Flow, LightCx, LightServer, LightSupervisor,
    LightSupervisorSpec, Options, Reply, Restart, Root, SupervisorSpec, actor::ActorError,
};
use tokio::sync::watch;

use crate::{
    bare::{AskedToPanic, WITHIN},
    measure::{Meter, all, bytes, bytes_since, count_bytes, settle},
};

pub(crate) enum Msg {
    /// Answers which incarnation it is.
    Ping(Reply<u64>),
    /// Fails, and never answers.
    Crash(Reply<()>),
    /// Nothing.
    Note,
    /// Ends.
    End,
}

/// As the actor of the baseline; its state is the number of its incarnation.
pub(crate) struct Worker(u64);

impl LightServer for Worker {
    type Arguments = ();
    type Message = Msg;

    async fn init((): &(), cx: &LightCx<Self>) -> Result<Self, ActorError> {
        Ok(Self(cx.incarnation().into()))
    }

    async fn handle(&mut self, message: Msg, _: &LightCx<Self>) -> Result<Flow, ActorError> {
        match message {
            Msg::Ping(reply) => reply.send(self.0),
            Msg::Crash(reply) => {
                drop(reply);
                return Err("asked to fail".into());
            }
            Msg::Note => (),
            Msg::End => return Ok(Flow::Stop(ExitReason::Normal)),
        }
        Ok(Flow::Continue)
    }
}

pub(crate) type Workers = LightSupervisor<Worker>;

/// A supervisor of workers below a root.
async fn workers(with: impl FnOnce(LightSupervisorSpec) -> LightSupervisorSpec) -> (Root, Workers) {
    let spec =
        LightSupervisorSpec::unlimited("workers").intensity(u32::MAX, Duration::from_secs(1));
    let (spec, workers) = Workers::child_spec(with(spec));
    let root = SupervisorSpec::new("root").child(spec);
    let root = Root::start(root, Clock::start(), Options::default()).await.expect("it starts");
    (root, workers)
}

/// With one of them.
async fn one() -> (Root, Address<Msg>) {
    let (root, workers) = workers(|spec| spec).await;
    let address = workers.start_child("worker", ()).await.expect("it starts");
    (root, address)
}

async fn ping(address: &Address<Msg>) -> u64 {
    ping_within(address, WITHIN).await
}

async fn ping_within(address: &Address<Msg>, within: Duration) -> u64 {
    address.call(Msg::Ping, within).await.expect("an answer")
}

/// Crashes one, `count` times, each time until the next incarnation answers.
pub(crate) async fn restart(count: usize, crash: fn(Reply<()>) -> Msg) -> f64 {
    let (root, address) = one().await;
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

/// Tells of each of its starts, and fails at whatever it is sent.
struct Phoenix;

impl LightServer for Phoenix {
    type Arguments = watch::Sender<u32>;
    type Message = bool;

    async fn init(up: &watch::Sender<u32>, cx: &LightCx<Self>) -> Result<Self, ActorError> {
        up.send_replace(cx.incarnation());
        Ok(Self)
    }

    async fn handle(&mut self, panics: bool, _: &LightCx<Self>) -> Result<Flow, ActorError> {
        if panics {
            std::panic::panic_any(AskedToPanic);
        }
        Err(ExitReason::Error("asked to".into()).into())
    }
}

/// Crashes one, `count` times, each time until the init of the next has run.
pub(crate) async fn rise(count: usize, panics: bool) -> f64 {
    let spec =
        LightSupervisorSpec::unlimited("workers").intensity(u32::MAX, Duration::from_secs(1));
    let (spec, workers) = LightSupervisor::<Phoenix>::child_spec(spec);
    let root = SupervisorSpec::new("root").child(spec);
    let root = Root::start(root, Clock::start(), Options::default()).await.expect("it starts");
    let (tell, mut up) = watch::channel(0);
    let address = workers.start_child("worker", tell).await.expect("it starts");
    let mut last = *up.borrow_and_update();
    let meter = Meter::start();
    for _ in 0..count {
        // The init of the last one tells a moment before it can be sent to as one that runs.
        address.cast(panics).expect("it runs");
        up.changed().await.expect("it lives");
        let number = *up.borrow_and_update();
        assert_eq!(number, last + 1, "the next one rose");
        last = number;
    }
    let measured = meter.per(count);
    root.shutdown().await;
    measured
}

pub(crate) async fn start_terminate(count: usize) -> f64 {
    let (root, workers) = workers(|spec| spec).await;
    let meter = Meter::start();
    for _ in 0..count {
        let _address = workers.start_child("worker", ()).await.expect("it starts");
        workers.terminate_child("worker").await.expect("it stops");
    }
    let measured = meter.rate(count);
    root.shutdown().await;
    measured
}

/// Starts `count` of them and keeps what a host keeps: their addresses.
async fn fill(workers: &Workers, count: usize) -> Vec<Address<Msg>> {
    let mut addresses = Vec::with_capacity(count);
    for number in 0..count {
        addresses.push(workers.start_child(name(number), ()).await.expect("it starts"));
    }
    addresses
}

pub(crate) fn name(number: usize) -> String {
    format!("worker-{number}")
}

/// So many of them, which are found by their names.
pub(crate) async fn crowd(count: usize) -> (Root, Workers) {
    let (root, workers) = workers(|spec| spec).await;
    fill(&workers, count).await;
    (root, workers)
}

pub(crate) async fn bulk_start(count: usize) -> f64 {
    let (root, workers) = workers(|spec| spec).await;
    let meter = Meter::start();
    let addresses = fill(&workers, count).await;
    let measured = meter.per(count);
    root.shutdown().await;
    drop(addresses);
    measured
}

pub(crate) async fn memory(count: usize) -> f64 {
    let (root, workers) = workers(|spec| spec).await;
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

/// In reverse start order, each child awaited.
pub(crate) async fn shutdown(count: usize) -> f64 {
    let (root, workers) = workers(|spec| spec.stops_in_order(true)).await;
    drop(fill(&workers, count).await);
    let meter = Meter::start();
    root.shutdown().await;
    meter.per(count)
}

/// Tells one `count` times, from so many `senders` at once, until the last was handled. Its mailbox
/// is bounded as every one is unless that is changed; whoever finds it full lets others run.
pub(crate) async fn cast(count: usize, senders: usize) -> f64 {
    let (root, address) = one().await;
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

pub(crate) async fn call(count: usize, callers: usize, within: Option<Duration>) -> f64 {
    let within = within.unwrap_or(Duration::MAX);
    let (root, address) = one().await;
    for _ in 0..count / 10 {
        ping(&address).await;
    }
    let meter = Meter::start();
    let callers = (0..callers).map(|_| {
        let (address, count) = (address.clone(), count / callers);
        tokio::spawn(async move {
            for _ in 0..count {
                ping_within(&address, within).await;
            }
        })
    });
    all(callers.collect()).await;
    let measured = meter.per(count);
    root.shutdown().await;
    measured
}

/// Those whose normal end is for good.
pub(crate) async fn short_lived() -> (Root, Workers) {
    workers(|spec| spec.child_restart(Restart::Transient)).await
}

/// Starts `count` short children, `wave` of them at a time, and waits for the end of each: every
/// second one ends by itself, the others are terminated.
pub(crate) async fn come_and_go(workers: &Workers, count: usize, wave: usize) {
    let mut running = Vec::with_capacity(wave);
    for first in (0..count).step_by(wave) {
        for number in first..count.min(first + wave) {
            let name = name(number);
            let address = workers.start_child(name.as_str(), ()).await.expect("it starts");
            running.push((name, address, number % 2 == 0));
        }
        for (name, address, ends_itself) in running.drain(..) {
            if ends_itself {
                let mut watch = address.monitor();
                address.cast(Msg::End).expect("it runs");
                assert_eq!(watch.down().await, ExitReason::Normal);
            } else {
                workers.terminate_child(name).await.expect("it stops");
            }
        }
    }
}
