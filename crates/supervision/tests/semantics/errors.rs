//! Errors whose own text panics. They end what returned them, as a panic, and with its cleanup.

use std::fmt;

use perennial_core::ExitReason;
use perennial_supervision::{
    ChildSpec, DebugError, Debugger, GenServer, Init, Next, RequestError, ServerCx, StartFault,
    SupervisorSpec,
    actor::ActorError,
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

use crate::probe::{Log, SOON, root};

#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("text panics")
    }
}

impl std::error::Error for Unspeakable {}

fn is_that_panic(reason: &ExitReason) -> bool {
    matches!(reason, ExitReason::Panic { message, .. } if &**message == "text panics")
}

struct Plain;

impl Actor for Plain {
    type Msg = ();
    type State = Log;
    type Arguments = Log;

    async fn pre_start(&self, _: ActorRef<()>, log: Log) -> Result<Log, ActorProcessingErr> {
        Ok(log)
    }

    async fn handle(&self, _: ActorRef<()>, (): (), _: &mut Log) -> Result<(), ActorProcessingErr> {
        Err(Unspeakable.into())
    }

    async fn post_stop(&self, _: ActorRef<()>, log: &mut Log) -> Result<(), ActorProcessingErr> {
        log.add("cleaned");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_actor_with_an_error_whose_text_panics_cleans_up_and_panicked() {
    let log = Log::default();
    let sink = log.clone();
    let (spec, address) = ChildSpec::actor("a", move || (Plain, sink.clone()));
    let _root = root(SupervisorSpec::new("top").child(spec)).await;
    let mut end = address.monitor();
    address.cast(()).unwrap();
    let reason = end.down().await;
    assert!(is_that_panic(&reason), "{reason}");
    assert_eq!(log.take(), ["cleaned"]);
}

struct Server(Log);

impl GenServer for Server {
    type Arguments = Option<Log>;
    type Message = ();

    async fn init(log: Option<Log>, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        log.map(|log| Init::new(Self(log))).ok_or(Unspeakable.into())
    }

    async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> {
        Err(Unspeakable.into())
    }

    async fn terminate(
        &mut self,
        reason: &ExitReason,
        _: &mut ServerCx<Self>,
    ) -> Result<(), ActorError> {
        self.0.add(format!("terminates for a {}", reason.name()));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_with_an_error_whose_text_panics_cleans_up_and_panicked() {
    let log = Log::default();
    let sink = log.clone();
    let (spec, address) = ChildSpec::server::<Server>("a", move || Some(sink.clone()));
    let root = root(SupervisorSpec::new("top").child(spec)).await;
    let debugger = Debugger::<Server>::of(&address);
    let refused = debugger.replace_state(|_| Err(Unspeakable.into()), SOON).await;
    assert!(matches!(&refused, Err(DebugError::Failed(it)) if is_that_panic(it)), "{refused:?}");
    let mut end = address.monitor();
    address.cast(()).unwrap();
    let reason = end.down().await;
    assert!(is_that_panic(&reason), "{reason}");
    assert_eq!(log.take(), ["terminates for a panic"]);

    let (bad, _) = ChildSpec::server::<Server>("bad", || None);
    let Err(RequestError::StartFailed(refused)) = root.supervisor().start_child(bad).await else {
        panic!("it started")
    };
    assert!(matches!(&refused.reason, StartFault::Failed(it) if is_that_panic(it)), "{refused:?}");
}
