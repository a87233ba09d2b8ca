//! Calls of a light server against its end: each is answered, or told of the end, and nobody waits for ever.

use std::{sync::Arc, time::Duration};

use shuttle::{
    future::{block_on, spawn, yield_now},
    sync::Mutex,
};

use super::check;
use crate::{
    Address, CallError, Clock, ExitReason, Flow, LightCx, LightServer, LightSupervisor,
    LightSupervisorSpec, Options, Reply, Root, Shutdown, SupervisorSpec, actor::ActorError,
};

type Kept = Arc<Mutex<Vec<Reply<u32>>>>;

enum Question {
    Answered(Reply<u32>),
    /// The port goes to somebody else, who may answer.
    Kept(Reply<u32>),
    /// The port is dropped, and it goes on.
    Dropped(Reply<u32>),
    Fatal,
}

struct Oracle(Kept);

impl LightServer for Oracle {
    type Arguments = Kept;
    type Message = Question;

    async fn init(kept: &Kept, _: &LightCx<Self>) -> Result<Self, ActorError> {
        Ok(Self(kept.clone()))
    }

    async fn handle(&mut self, question: Question, cx: &LightCx<Self>) -> Result<Flow, ActorError> {
        match question {
            Question::Answered(reply) => reply.send(cx.incarnation()),
            Question::Kept(reply) => self.0.lock().unwrap().push(reply),
            Question::Dropped(reply) => drop(reply),
            Question::Fatal => return Err(ExitReason::Timeout.into()),
        }
        Ok(Flow::Continue)
    }
}

async fn start(kept: Kept) -> (Root, LightSupervisor<Oracle>, Address<Question>) {
    let spec = LightSupervisorSpec::new("oracles", 1)
        .intensity(u32::MAX, Duration::from_secs(1))
        .child_shutdown(Shutdown::Infinity);
    let (child, oracles) = LightSupervisor::child_spec(spec);
    let spec = SupervisorSpec::new("top").child(child);
    let root = Root::start(spec, Clock::start(), Options::default()).await.unwrap();
    let oracle = oracles.start_child("a", kept).await.unwrap();
    (root, oracles, oracle)
}

fn ask(
    oracle: &Address<Question>,
    question: fn(Reply<u32>) -> Question,
) -> shuttle::future::JoinHandle<Result<u32, CallError>> {
    let oracle = oracle.clone();
    spawn(async move { oracle.call(question, Duration::MAX).await })
}

#[test]
fn a_call_against_the_end_is_answered_or_told() {
    for question in [Question::Answered, Question::Kept, Question::Dropped] {
        check(move || {
            block_on(async {
                // Whoever has the ports outlives the server: no drop of them tells its callers.
                let kept = Kept::default();
                let (root, _oracles, oracle) = start(kept.clone()).await;
                let calls = [ask(&oracle, question), ask(&oracle, Question::Answered)];
                let fatal = oracle.cast(Question::Fatal);
                root.shutdown().await;
                for call in calls {
                    match call.await.unwrap() {
                        Ok(incarnation) => assert!(incarnation <= 2),
                        Err(CallError::Exited(ExitReason::Timeout)) => assert_eq!(fatal, Ok(())),
                        Err(CallError::Exited(ExitReason::Shutdown) | CallError::NoProc) => (),
                        Err(other) => panic!("{other}"),
                    }
                }
                drop(kept);
            });
        });
    }
}

#[test]
fn an_answer_from_elsewhere_against_the_end_reaches_its_caller_or_the_end_does() {
    check(|| {
        block_on(async {
            let kept = Kept::default();
            let (root, oracles, oracle) = start(kept.clone()).await;
            let call = ask(&oracle, Question::Kept);
            // Behind it, mostly.
            let _ = oracle.call(Question::Answered, Duration::MAX).await;
            let answers = spawn(async move {
                let replies: Vec<_> = std::mem::take(&mut *kept.lock().unwrap());
                replies.into_iter().for_each(|reply| reply.send(7));
            });
            oracles.terminate_child("a").await.unwrap();
            answers.await.unwrap();
            match call.await.unwrap() {
                Ok(answer) => assert_eq!(answer, 7),
                Err(CallError::Exited(ExitReason::Shutdown) | CallError::NoProc) => (),
                Err(other) => panic!("{other}"),
            }
            root.shutdown().await;
        });
    });
}

/// The port outlives the server, and whoever has it answers before it ends the server: that answer counts.
#[test]
fn an_answer_that_is_older_than_the_end_is_heard() {
    check(|| {
        block_on(async {
            let kept = Kept::default();
            let (root, oracles, oracle) = start(kept.clone()).await;
            let call = ask(&oracle, Question::Kept);
            let ends = spawn(async move {
                let reply = loop {
                    let reply = kept.lock().unwrap().pop();
                    if let Some(reply) = reply {
                        break reply;
                    }
                    yield_now().await;
                };
                reply.send(7);
                oracles.terminate_child("a").await.unwrap();
            });
            assert_eq!(call.await.unwrap(), Ok(7));
            ends.await.unwrap();
            root.shutdown().await;
        });
    });
}
