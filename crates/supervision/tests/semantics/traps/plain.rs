//! Plain ractor: the probe's actor and a supervisor of ractor's kind, with nothing of ours around.

use std::{
    pin::{Pin, pin},
    task::Poll,
};

use perennial_supervision::ractor::{
    Actor, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent,
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::probe::{Cleanup, Log, Message, Shell};

pub(super) type Later = Pin<Box<dyn Future<Output = ()> + Send>>;
pub(super) type Running<M> = (ActorRef<M>, JoinHandle<()>);

/// A supervisor that notes what it is told about its children, and is not moved by it.
pub(super) struct Watcher;

pub(super) enum Order {
    /// Notes this.
    Note(&'static str),
    /// Holds the handler until it is done.
    Await(Later),
    /// The handler answers an error.
    Fail,
}

impl Actor for Watcher {
    type Msg = Order;
    type State = Log;
    type Arguments = Log;

    async fn pre_start(&self, _: ActorRef<Order>, log: Log) -> Result<Log, ActorProcessingErr> {
        Ok(log)
    }

    async fn handle(
        &self,
        _: ActorRef<Order>,
        order: Order,
        log: &mut Log,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Note(what) => log.add(what),
            Order::Await(work) => work.await,
            Order::Fail => return Err("gives up".into()),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Order>,
        event: SupervisionEvent,
        log: &mut Log,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorTerminated(_, state, reason) = &event {
            let state = if state.is_some() { "with" } else { "without" };
            log.add(format!("terminated {state} a state: {}", reason.as_deref().unwrap_or("-")));
        } else if let SupervisionEvent::ActorFailed(_, error) = &event {
            log.add(format!("failed: {error}"));
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Order>, log: &mut Log) -> Result<(), ActorProcessingErr> {
        log.add("watcher cleaned");
        Ok(())
    }
}

/// Runs `actor` by itself.
#[expect(clippy::disallowed_methods, reason = "plain ractor is the subject")]
pub(super) async fn alone<A: Actor>(
    name: Option<&str>,
    actor: A,
    arguments: A::Arguments,
) -> Result<Running<A::Msg>, SpawnErr> {
    Actor::spawn(name.map(str::to_owned), actor, arguments).await
}

/// Runs `actor` as a child of `parent`.
#[expect(clippy::disallowed_methods, reason = "plain ractor is the subject")]
pub(super) async fn under<A: Actor, P>(
    parent: &ActorRef<P>,
    actor: A,
    arguments: A::Arguments,
) -> Result<Running<A::Msg>, SpawnErr> {
    Actor::spawn_linked(None, actor, arguments, parent.get_cell()).await
}

/// A watcher, and what it notes.
pub(super) async fn watcher() -> (Running<Order>, Log) {
    let log = Log::default();
    (alone(None, Watcher, log.clone()).await.unwrap(), log)
}

/// A probe's actor as a child of `parent`.
pub(super) async fn bare<P>(parent: &ActorRef<P>, name: &str, log: &Log) -> Running<Message> {
    under(parent, Shell::new(name, log, Cleanup::Works), ()).await.unwrap()
}

/// As [`bare`], with a cleanup that does this.
pub(super) async fn bare_with<P>(
    parent: &ActorRef<P>,
    name: &str,
    log: &Log,
    cleanup: Cleanup,
) -> Running<Message> {
    under(parent, Shell::new(name, log, cleanup), ()).await.unwrap()
}

/// An actor whose start is what its arguments do; what they do first is done by the call itself,
/// before there is a future.
pub(super) struct Odd;

pub(super) type Begin = Box<dyn FnOnce() -> Later + Send>;

impl Actor for Odd {
    type Msg = ();
    type State = ();
    type Arguments = Begin;

    fn pre_start(
        &self,
        _: ActorRef<()>,
        begin: Begin,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        let begun = begin();
        async {
            begun.await;
            Ok(())
        }
    }
}

/// What waits until somebody opens it, and what opens it.
pub(super) fn gate() -> (oneshot::Sender<()>, Later) {
    let (open, opened) = oneshot::channel();
    let wait = async {
        // Whoever leaves it for good opens it as well.
        drop(opened.await);
    };
    (open, Box::pin(wait))
}

/// Polls `future` once.
pub(super) async fn is_pending<F: Future>(mut future: Pin<&mut F>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Everybody who can run has run: enough turns on an executor of one thread.
pub(super) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Sends `message` to a bare actor and lets it be handled.
pub(super) async fn tell(actor: &ActorRef<Message>, message: Message) {
    actor.cast(message).unwrap();
    settle().await;
}

/// Waits for `future`, which must not take part in time.
pub(super) async fn at_once<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    for _ in 0..200 {
        if let Poll::Ready(output) =
            std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
        {
            return output;
        }
        tokio::task::yield_now().await;
    }
    panic!("it waits for something");
}
