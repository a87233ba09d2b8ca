//! A light server that does what it is told, and what it did.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial_supervision::{
    Address, ExitReason, Flow, Ignore, LightCx, LightServer, LightSupervisor, LightSupervisorSpec,
    ProcessRef, Registry, RegistryError, Reply, Root, SupervisorSpec, Unique, actor::ActorError,
    current_process,
};
use tokio::sync::oneshot;

use crate::{gs_server::settle, probe::root};

/// What the inits to come do; none left: they succeed.
pub(super) enum Begin {
    Fail,
    Ignore,
    Panic,
    Wait(oneshot::Receiver<()>),
    Hang,
}

/// What the cleanups to come do; none left: they succeed.
pub(super) enum Finish {
    Fail,
    Panic,
    Hang,
}

#[derive(Clone, Default)]
pub(super) struct Wire(Arc<Plans>);

#[derive(Default)]
struct Plans {
    did: Mutex<Vec<String>>,
    begin: Mutex<VecDeque<Begin>>,
    finish: Mutex<VecDeque<Finish>>,
}

impl Wire {
    /// What was done since this was asked last.
    pub(super) fn did(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.did.lock().unwrap())
    }

    fn note(&self, what: String) {
        self.0.did.lock().unwrap().push(what);
    }

    pub(super) fn begin(&self, how: Begin) {
        self.0.begin.lock().unwrap().push_back(how);
    }

    pub(super) fn finish(&self, how: Finish) {
        self.0.finish.lock().unwrap().push_back(how);
    }
}

pub(super) enum Say {
    Note(&'static str),
    Ask(Reply<u32>),
    /// Holds the handler until the sender is used or dropped.
    Hold(oneshot::Receiver<()>),
    /// Keeps the port for ever, elsewhere.
    Keep(Reply<u32>, Arc<Mutex<Vec<Reply<u32>>>>),
    /// Drops the port.
    Forget(Reply<u32>),
    Fail(ExitReason),
    Panic,
    Stop(ExitReason),
    CallSelf(Reply<String>),
    CallOther(Address<Say>),
    Register(Registry<String, u32, Unique>, Reply<Result<(), RegistryError>>),
    Who(Reply<(ProcessRef, Option<ProcessRef>)>),
}

pub(super) struct Lamp {
    wire: Wire,
}

impl Drop for Lamp {
    fn drop(&mut self) {
        self.wire.note("dropped".into());
    }
}

impl LightServer for Lamp {
    type Arguments = Wire;
    type Message = Say;

    async fn init(wire: &Wire, cx: &LightCx<Self>) -> Result<Self, ActorError> {
        let plan = wire.0.begin.lock().unwrap().pop_front();
        match plan {
            None => (),
            Some(Begin::Fail) => return Err("no light".into()),
            Some(Begin::Ignore) => return Err(Ignore.into()),
            Some(Begin::Panic) => panic!("no light"),
            Some(Begin::Wait(gate)) => drop(gate.await),
            Some(Begin::Hang) => std::future::pending().await,
        }
        wire.note(format!("{} {} started", cx.id(), cx.incarnation()));
        Ok(Self { wire: wire.clone() })
    }

    async fn handle(&mut self, say: Say, cx: &LightCx<Self>) -> Result<Flow, ActorError> {
        match say {
            Say::Note(what) => self.wire.note(what.into()),
            Say::Ask(reply) => reply.send(cx.incarnation()),
            Say::Hold(gate) => drop(gate.await),
            Say::Keep(reply, kept) => kept.lock().unwrap().push(reply),
            Say::Forget(reply) => drop(reply),
            Say::Fail(reason) => return Err(reason.into()),
            Say::Panic => panic!("out"),
            Say::Stop(reason) => return Ok(Flow::Stop(reason)),
            Say::CallSelf(reply) => {
                let asked = cx.address().call(Say::Ask, Duration::from_secs(1)).await;
                reply.send(format!("{asked:?}"));
            }
            Say::CallOther(other) => drop(other.call(Say::Ask, Duration::from_secs(9)).await),
            Say::Register(registry, reply) => reply.send(registry.register("first".into(), 1)),
            Say::Who(reply) => reply.send((cx.process(), current_process())),
        }
        Ok(Flow::Continue)
    }

    async fn terminate(
        &mut self,
        reason: &ExitReason,
        _: &LightCx<Self>,
    ) -> Result<(), ActorError> {
        let plan = self.wire.0.finish.lock().unwrap().pop_front();
        self.wire.note(format!("terminate {reason}"));
        match plan {
            None => Ok(()),
            Some(Finish::Fail) => Err("dark".into()),
            Some(Finish::Panic) => panic!("dark"),
            Some(Finish::Hang) => std::future::pending().await,
        }
    }

    fn message_kind(say: &Say) -> &'static str {
        match say {
            Say::Note(_) => "note",
            Say::Hold(_) => "hold",
            Say::Ask(_)
            | Say::Keep(..)
            | Say::Forget(_)
            | Say::Fail(_)
            | Say::Panic
            | Say::Stop(_)
            | Say::CallSelf(_)
            | Say::CallOther(_)
            | Say::Register(..)
            | Say::Who(_) => "other",
        }
    }
}

/// A tree with a supervisor of lamps.
pub(super) async fn lamps(spec: LightSupervisorSpec) -> (Root, LightSupervisor<Lamp>, Wire) {
    let (spec, lamps) = LightSupervisor::child_spec(spec);
    let root = root(SupervisorSpec::new("top").child(spec)).await;
    (root, lamps, Wire::default())
}

/// One that tolerates a hundred restarts.
pub(super) fn patient() -> LightSupervisorSpec {
    LightSupervisorSpec::new("lamps", 1_000).intensity(100, Duration::from_secs(5))
}

/// It fails, and what follows has followed.
pub(super) async fn fall(lamp: &Address<Say>) {
    lamp.cast(Say::Fail(error("x"))).unwrap();
    settle().await;
}

pub(super) fn error(text: &str) -> ExitReason {
    ExitReason::Error(text.into())
}
