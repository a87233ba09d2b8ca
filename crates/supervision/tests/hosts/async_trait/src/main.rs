//! A host whose build has ractor's `async-trait`: its supervised actor is called, crashes, comes back.

use std::{process::ExitCode, time::Duration};

use perennial_supervision::{Address, CallError, ChildSpec, Clock, Options, Root, SupervisorSpec};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

const SOON: Duration = Duration::from_secs(30);

enum Request {
    Add(u32),
    Sum(RpcReplyPort<u32>),
    Panic,
}

struct Counter;

#[ractor::async_trait]
impl Actor for Counter {
    type Msg = Request;
    type State = u32;
    type Arguments = u32;

    async fn pre_start(&self, _: ActorRef<Request>, first: u32) -> Result<u32, ActorProcessingErr> {
        Ok(first)
    }

    async fn handle(
        &self,
        _: ActorRef<Request>,
        request: Request,
        sum: &mut u32,
    ) -> Result<(), ActorProcessingErr> {
        match request {
            Request::Add(number) => *sum += number,
            Request::Sum(reply) => reply.send(*sum)?,
            Request::Panic => panic!("asked to panic"),
        }
        Ok(())
    }
}

/// The sum once the counter has none of its former life: a call may meet the one that dies.
async fn sum_of_the_next(counter: &Address<Request>) -> Result<u32, CallError> {
    loop {
        match counter.call(Request::Sum, SOON).await {
            Err(CallError::Exited(_)) => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
}

async fn embed() -> Result<(), Box<dyn std::error::Error>> {
    let (spec, counter) = ChildSpec::actor("counter", || (Counter, 40));
    let top = SupervisorSpec::new("top").child(spec);
    let root = Root::start(top, Clock::start(), Options::default()).await?;
    counter.cast(Request::Add(2))?;
    assert_eq!(counter.ask(Request::Sum).await?, 42);
    let mut first = counter.monitor();
    counter.cast(Request::Panic)?;
    println!("the first life ended: {}", first.down().await);
    assert_eq!(sum_of_the_next(&counter).await?, 40, "a new life has a new state");
    let report = root.shutdown().await;
    assert!(report.unkillable.is_empty(), "{report:?}");
    assert_eq!(counter.ask(Request::Sum).await, Err(CallError::NoProc));
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    match embed().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
