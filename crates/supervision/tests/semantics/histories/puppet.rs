//! A child that does what its strings say, and tells every start, cleanup and end.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial_core::{ExitReason, Shutdown, supervisor::RestartDelay};
use perennial_supervision::{
    Address, ChildSpec, Ignore,
    ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort},
};

use super::history::{Child, Outcome, START_WITHIN, STOP_WITHIN};
use crate::probe::Log;

/// The strings of all puppets of a history.
#[derive(Clone, Default)]
pub(super) struct Strings {
    pub(super) log: Log,
    /// By label.
    starts: Arc<Mutex<HashMap<String, Starts>>>,
}

#[derive(Default)]
struct Starts {
    so_far: u64,
    coming: VecDeque<Outcome>,
}

struct Puppet {
    name: String,
    log: Log,
    outcome: Outcome,
    stubborn: bool,
}

pub(super) enum Message {
    Ping(RpcReplyPort<()>),
    Exit(ExitReason),
    Fail,
    Panic,
    Stop,
}

struct State {
    name: String,
    log: Log,
}

impl Drop for State {
    fn drop(&mut self) {
        self.log.add(format!("{} gone", self.name));
    }
}

impl Actor for Puppet {
    type Msg = Message;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<State, ActorProcessingErr> {
        self.log.add(format!("{} {:?}", self.name, self.outcome));
        match self.outcome {
            Outcome::Works => (),
            Outcome::Ignores => return Err(Ignore.into()),
            Outcome::Fails => return Err("start fails".into()),
            Outcome::Panics => panic!("start panics"),
            Outcome::Hangs => std::future::pending().await,
        }
        Ok(State { name: self.name.clone(), log: self.log.clone() })
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        _: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Ping(reply) => drop(reply.send(())),
            Message::Exit(reason) => return Err(reason.into()),
            Message::Fail => return Err("asked to fail".into()),
            Message::Panic => panic!("asked to panic"),
            Message::Stop => me.stop(None),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Message>,
        _: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        self.log.add(format!("{} cleans", self.name));
        if self.stubborn {
            std::future::pending().await
        }
        Ok(())
    }
}

impl Strings {
    pub(super) fn script(&self, label: &str, outcomes: &[Outcome]) {
        self.starts.lock().unwrap().entry(label.to_owned()).or_default().coming.extend(outcomes);
    }

    pub(super) fn child(&self, child: &Child) -> (ChildSpec, Address<Message>) {
        let (strings, label, stubborn) = (self.clone(), child.label.clone(), child.stubborn());
        let (spec, address) = ChildSpec::actor(child.id.clone(), move || {
            let mut starts = strings.starts.lock().unwrap();
            let own = starts.entry(label.clone()).or_default();
            own.so_far += 1;
            let name = format!("{label} {}", own.so_far);
            let outcome = own.coming.pop_front().unwrap_or(Outcome::Works);
            (Puppet { name, log: strings.log.clone(), outcome, stubborn }, ())
        });
        let shutdown = if child.brutal {
            Shutdown::BrutalKill
        } else if stubborn {
            Shutdown::Timeout(Duration::from_millis(STOP_WITHIN))
        } else {
            Shutdown::WORKER_DEFAULT
        };
        let mut spec = spec
            .restart(child.restart)
            .significant(child.significant)
            .shutdown(shutdown)
            .start_within(Duration::from_millis(START_WITHIN));
        if let Some(delay) = child.delay {
            spec = spec.restart_backoff(RestartDelay {
                first: Duration::from_millis(delay.first),
                max: Duration::from_millis(delay.max),
                reset_after: Duration::from_millis(delay.reset_after),
            });
        }
        if let Some((max_restarts, within)) = child.budget {
            spec = spec.restart_budget(max_restarts, Duration::from_millis(within));
        }
        (spec, address)
    }
}
