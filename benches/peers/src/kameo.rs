//! The same through kameo, where it has the feature: for information.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kameo::{
    actor::{Actor, ActorRef, Spawn},
    error::Infallible,
    message::{Context, Message},
    supervision::RestartPolicy,
};

use crate::{
    bare::WITHIN,
    measure::{Meter, bytes, bytes_since, count_bytes, settle},
};

struct Worker(u64);

impl Actor for Worker {
    type Args = u64;
    type Error = Infallible;

    async fn on_start(number: u64, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self(number))
    }
}

struct Ping;

impl Message<Ping> for Worker {
    type Reply = u64;

    async fn handle(&mut self, _: Ping, _: &mut Context<Self, u64>) -> u64 {
        self.0
    }
}

struct Crash;

impl Message<Crash> for Worker {
    type Reply = Result<(), &'static str>;

    async fn handle(&mut self, _: Crash, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Err("asked to fail")
    }
}

struct Parent;

impl Actor for Parent {
    type Args = ();
    type Error = Infallible;

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

async fn child(parent: &ActorRef<Parent>) -> ActorRef<Worker> {
    Worker::supervise(parent, 0).restart_policy(RestartPolicy::Never).spawn().await
}

async fn stop<A: Actor>(actor: &ActorRef<A>) {
    // One that has stopped already is as good.
    let _ = actor.stop_gracefully().await;
    actor.wait_for_shutdown().await;
}

pub(crate) async fn call(count: usize) -> f64 {
    let actor = Worker::spawn(0);
    for _ in 0..count / 10 {
        actor.ask(Ping).reply_timeout(WITHIN).await.expect("an answer");
    }
    let meter = Meter::start();
    for _ in 0..count {
        actor.ask(Ping).reply_timeout(WITHIN).await.expect("an answer");
    }
    let measured = meter.per(count);
    stop(&actor).await;
    measured
}

pub(crate) async fn restart(count: usize) -> f64 {
    let parent = Parent::spawn(());
    let number = Arc::new(AtomicU64::new(0));
    let worker = Worker::supervise_with(&parent, move || number.fetch_add(1, Ordering::Relaxed))
        .restart_limit(u32::MAX, Duration::from_secs(1))
        .spawn()
        .await;
    let mut last = worker.ask(Ping).await.expect("an answer");
    let meter = Meter::start();
    for _ in 0..count {
        worker.tell(Crash).await.expect("it runs");
        last = loop {
            match worker.ask(Ping).reply_timeout(WITHIN).await {
                Ok(number) if number > last => break number,
                Ok(_) => (),
                Err(_) => tokio::task::yield_now().await,
            }
        };
    }
    let measured = meter.per(count);
    stop(&parent).await;
    measured
}

pub(crate) async fn start_terminate(count: usize) -> f64 {
    let parent = Parent::spawn(());
    let meter = Meter::start();
    for _ in 0..count {
        stop(&child(&parent).await).await;
    }
    let measured = meter.rate(count);
    stop(&parent).await;
    measured
}

async fn family(count: usize) -> (ActorRef<Parent>, Vec<ActorRef<Worker>>) {
    let parent = Parent::spawn(());
    let mut actors = Vec::with_capacity(count);
    for _ in 0..count {
        actors.push(child(&parent).await);
    }
    (parent, actors)
}

pub(crate) async fn shutdown(count: usize) -> f64 {
    let (parent, actors) = family(count).await;
    let meter = Meter::start();
    stop(&parent).await;
    for actor in actors {
        actor.wait_for_shutdown().await;
    }
    meter.per(count)
}

pub(crate) async fn memory(count: usize) -> f64 {
    settle().await;
    count_bytes(true);
    let before = bytes();
    let (parent, actors) = family(count).await;
    let measured = bytes_since(before, count);
    count_bytes(false);
    for actor in &actors {
        stop(actor).await;
    }
    stop(&parent).await;
    measured
}
