//! The baseline: ractor without a supervision layer, and the actor that both sides run.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use ractor::{
    Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent, rpc::CallResult,
};
use tokio::sync::watch;

use crate::measure::{Meter, Pick, all, bytes, bytes_since, count_bytes, latencies, settle};

pub(crate) const WITHIN: Duration = Duration::from_secs(5);

pub(crate) enum Msg {
    /// Answers which incarnation it is.
    Ping(RpcReplyPort<u64>),
    /// Fails, and never answers.
    Crash(RpcReplyPort<()>),
    /// As [`Crash`](Self::Crash), by a panic.
    Panic(RpcReplyPort<()>),
    /// Nothing.
    Note,
}

/// What those panic with that are asked to; nothing is printed of it.
pub(crate) struct AskedToPanic;

/// The actor of all lines; its state is the number of its incarnation.
pub(crate) struct Worker;

impl Actor for Worker {
    type Msg = Msg;
    type State = u64;
    type Arguments = u64;

    async fn pre_start(&self, _: ActorRef<Msg>, number: u64) -> Result<u64, ActorProcessingErr> {
        Ok(number)
    }

    async fn handle(
        &self,
        _: ActorRef<Msg>,
        message: Msg,
        number: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Ping(reply) => Ok(reply.send(*number)?),
            Msg::Crash(reply) => {
                drop(reply);
                Err("asked to fail".into())
            }
            Msg::Panic(reply) => {
                drop(reply);
                std::panic::panic_any(AskedToPanic);
            }
            Msg::Note => Ok(()),
        }
    }
}

type OnRespawn = Box<dyn Fn(ActorRef<Msg>) + Send + Sync>;

/// Spawns whatever fails below it anew: restarts and nothing else.
struct Parent;

struct Respawn {
    number: u64,
    tell: OnRespawn,
}

impl Actor for Parent {
    type Msg = ();
    type State = Respawn;
    type Arguments = OnRespawn;

    async fn pre_start(
        &self,
        _: ActorRef<()>,
        tell: OnRespawn,
    ) -> Result<Respawn, ActorProcessingErr> {
        Ok(Respawn { number: 0, tell })
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<()>,
        event: SupervisionEvent,
        state: &mut Respawn,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(..) = event {
            state.number += 1;
            let spawned = Actor::spawn_linked(None, Worker, state.number, me.get_cell()).await;
            (state.tell)(spawned?.0);
        }
        Ok(())
    }
}

async fn parent(tell: impl Fn(ActorRef<Msg>) + Send + Sync + 'static) -> ActorRef<()> {
    Actor::spawn(None, Parent, Box::new(tell)).await.expect("a parent").0
}

async fn worker() -> ActorRef<Msg> {
    Actor::spawn(None, Worker, 0).await.expect("a worker").0
}

pub(crate) async fn ping(actor: &ActorRef<Msg>) -> u64 {
    ping_within(actor, Some(WITHIN)).await
}

async fn ping_within(actor: &ActorRef<Msg>, within: Option<Duration>) -> u64 {
    match actor.call(Msg::Ping, within).await {
        Ok(CallResult::Success(number)) => number,
        other => panic!("no answer: {}", other.is_ok()),
    }
}

pub(crate) async fn call(count: usize) -> f64 {
    let actor = worker().await;
    for _ in 0..count / 10 {
        ping(&actor).await;
    }
    let meter = Meter::start();
    for _ in 0..count {
        ping(&actor).await;
    }
    let measured = meter.per(count);
    actor.stop_and_wait(None, None).await.expect("it stops");
    measured
}

/// From so many `callers` at once, each a task of its own.
pub(crate) async fn calls(count: usize, callers: usize, within: Option<Duration>) -> f64 {
    let actor = worker().await;
    for _ in 0..count / 10 {
        ping(&actor).await;
    }
    let meter = Meter::start();
    let callers = (0..callers).map(|_| {
        let (actor, count) = (actor.clone(), count / callers);
        tokio::spawn(async move {
            for _ in 0..count {
                ping_within(&actor, within).await;
            }
        })
    });
    all(callers.collect()).await;
    let measured = meter.per(count);
    actor.stop_and_wait(None, None).await.expect("it stops");
    measured
}

/// Tells one `count` times, from so many `senders` at once, until the last was handled. Nothing bounds
/// its mailbox.
pub(crate) async fn cast(count: usize, senders: usize) -> f64 {
    let actor = worker().await;
    ping(&actor).await;
    let meter = Meter::start();
    let senders = (0..senders).map(|_| {
        let (actor, count) = (actor.clone(), count / senders);
        tokio::spawn(async move {
            for _ in 0..count {
                actor.cast(Msg::Note).expect("it runs");
            }
            // Behind all that was sent from here.
            ping(&actor).await;
        })
    });
    all(senders.collect()).await;
    let measured = meter.per(count);
    actor.stop_and_wait(None, None).await.expect("it stops");
    measured
}

/// How one is made to fail.
pub(crate) type Crash = fn(RpcReplyPort<()>) -> Msg;

/// Crashes what is `up`, `count` times, each time until the next one answers.
pub(crate) async fn crashes(
    mut up: watch::Receiver<Option<ActorRef<Msg>>>,
    count: usize,
    crash: Crash,
) -> f64 {
    let present = |up: &mut watch::Receiver<Option<ActorRef<Msg>>>| {
        up.borrow_and_update().clone().expect("one is up")
    };
    let mut actor = present(&mut up);
    let mut last = ping(&actor).await;
    let meter = Meter::start();
    for _ in 0..count {
        // The failure drops the reply port.
        let failed = actor.call(crash, Some(WITHIN)).await;
        assert!(matches!(failed, Ok(CallResult::SenderError)), "it failed");
        up.changed().await.expect("its parent lives");
        actor = present(&mut up);
        let number = ping(&actor).await;
        assert!(number > last, "the next one answered");
        last = number;
    }
    meter.per(count)
}

pub(crate) async fn restart(count: usize, crash: Crash) -> f64 {
    let (tell, up) = watch::channel(None);
    let tell = Arc::new(tell);
    let respawned = tell.clone();
    let parent = parent(move |actor| drop(respawned.send_replace(Some(actor)))).await;
    let first = Actor::spawn_linked(None, Worker, 0, parent.get_cell()).await.expect("a worker").0;
    tell.send_replace(Some(first));
    let measured = crashes(up, count, crash).await;
    parent.stop_and_wait(None, None).await.expect("it stops");
    measured
}

/// As [`restart`], until the next one runs and its place is told; nobody calls.
pub(crate) async fn rise(count: usize, crash: Crash) -> f64 {
    let (tell, mut up) = watch::channel(None);
    let tell = Arc::new(tell);
    let respawned = tell.clone();
    let parent = parent(move |actor| drop(respawned.send_replace(Some(actor)))).await;
    let first = Actor::spawn_linked(None, Worker, 0, parent.get_cell()).await.expect("a worker").0;
    tell.send_replace(Some(first));
    let meter = Meter::start();
    for _ in 0..count {
        let actor = up.borrow_and_update().clone().expect("one is up");
        let (port, _nobody) = tokio::sync::oneshot::channel();
        actor.cast(crash(port.into())).expect("it runs");
        up.changed().await.expect("its parent lives");
    }
    let measured = meter.per(count);
    parent.stop_and_wait(None, None).await.expect("it stops");
    measured
}

pub(crate) async fn start_terminate(count: usize) -> f64 {
    let meter = Meter::start();
    for _ in 0..count {
        worker().await.stop_and_wait(None, None).await.expect("it stops");
    }
    meter.rate(count)
}

async fn workers(count: usize) -> Vec<ActorRef<Msg>> {
    let mut actors = Vec::with_capacity(count);
    for _ in 0..count {
        actors.push(worker().await);
    }
    actors
}

async fn stop(actors: Vec<ActorRef<Msg>>) {
    for actor in &actors {
        actor.stop(None);
    }
    for actor in actors {
        actor.wait(None).await.expect("it stops");
    }
}

pub(crate) async fn bulk_start(count: usize) -> f64 {
    let meter = Meter::start();
    let actors = workers(count).await;
    let measured = meter.per(count);
    stop(actors).await;
    measured
}

pub(crate) async fn shutdown(count: usize) -> f64 {
    let actors = workers(count).await;
    let meter = Meter::start();
    stop(actors).await;
    meter.per(count)
}

pub(crate) async fn memory(count: usize) -> f64 {
    settle().await;
    count_bytes(true);
    let before = bytes();
    let actors = workers(count).await;
    let measured = bytes_since(before, count);
    count_bytes(false);
    stop(actors).await;
    measured
}

/// Many children of one parent.
pub(crate) struct Crowd {
    parent: ActorRef<()>,
    /// Those that run, the one to crash next first.
    next: Arc<Mutex<VecDeque<ActorRef<Msg>>>>,
}

impl Crowd {
    pub(crate) async fn start(count: usize) -> Self {
        let next = Arc::new(Mutex::new(VecDeque::with_capacity(count)));
        let respawned = next.clone();
        let parent =
            parent(move |actor| respawned.lock().expect("not poisoned").push_back(actor)).await;
        for _ in 0..count {
            let spawned = Actor::spawn_linked(None, Worker, 0, parent.get_cell()).await;
            next.lock().expect("not poisoned").push_back(spawned.expect("a worker").0);
        }
        Self { parent, next }
    }

    /// Lists the children while one of them crashes every millisecond.
    pub(crate) async fn list(self: Arc<Self>, pick: Pick) -> f64 {
        let crowd = self.clone();
        let crashes = crate::measure::each_millisecond(move || {
            if let Some(actor) = crowd.next.lock().expect("not poisoned").pop_front() {
                // The reply is dropped with the message.
                drop(actor.cast(Msg::Crash(tokio::sync::oneshot::channel().0.into())));
            }
        });
        let measured = latencies(pick, || self.parent.get_children().len()).await;
        crashes.abort();
        measured
    }
}
