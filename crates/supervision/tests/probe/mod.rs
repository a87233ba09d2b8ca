//! A child whose behaviour is its script, and a log of what happened in which order.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial_core::{ExitReason, Restart, tree::TreeNode};
use perennial_supervision::{
    Address, CallError, ChildSpec, ChildStatus, Clock, Options, Root, StartError, Supervisor,
    SupervisorSpec,
    ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort},
};

pub(crate) const SOON: Duration = Duration::from_secs(60);

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// What the next start does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Start {
    Works,
    Fails,
    Panics,
    Hangs,
}

/// What a probe's cleanup does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cleanup {
    Works,
    Fails,
    Hangs,
}

/// One probe child: its specification and what a test holds of it.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) name: String,
    pub(crate) address: Address<Message>,
    starts: Arc<Mutex<VecDeque<Start>>>,
}

/// The actor itself, which knows nothing of what runs it.
pub(crate) struct Shell {
    name: String,
    log: Log,
    start: Start,
    cleanup: Cleanup,
}

impl Shell {
    pub(crate) fn new(name: &str, log: &Log, cleanup: Cleanup) -> Self {
        Self { name: name.to_owned(), log: log.clone(), start: Start::Works, cleanup }
    }
}

type Act = Box<dyn FnOnce(&ActorRef<Message>) + Send>;

pub(crate) enum Message {
    Ping(RpcReplyPort<u64>),
    Work(&'static str),
    Panic,
    Fail,
    Exit(ExitReason),
    StopSelf,
    /// Holds the handler for ever.
    Hang,
    /// Asks itself through its own address.
    CallSelf(Address<Message>, RpcReplyPort<Result<u64, CallError>>),
    /// Never replies, keeping the port.
    Keep(RpcReplyPort<u64>),
    /// Runs in the handler.
    Act(Act),
    /// Holds the handler until it is done.
    Await(Pin<Box<dyn Future<Output = ()> + Send>>),
}

pub(crate) struct State {
    pings: u64,
    name: String,
    log: Log,
    kept: Vec<RpcReplyPort<u64>>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.log.add(format!("{} dropped", self.name));
    }
}

impl Actor for Shell {
    type Msg = Message;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<State, ActorProcessingErr> {
        match self.start {
            Start::Works => (),
            Start::Fails => return Err("start fails".into()),
            Start::Panics => panic!("start panics"),
            Start::Hangs => std::future::pending().await,
        }
        self.log.add(format!("{} started", self.name));
        let (name, log) = (self.name.clone(), self.log.clone());
        Ok(State { pings: 0, name, log, kept: Vec::new() })
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Ping(reply) => {
                state.pings += 1;
                drop(reply.send(state.pings));
            }
            Message::Work(what) => self.log.add(format!("{} worked {what}", self.name)),
            Message::Panic => panic!("asked to panic"),
            Message::Fail => return Err("asked to fail".into()),
            Message::Exit(reason) => return Err(reason.into()),
            Message::StopSelf => me.stop(None),
            Message::Hang => std::future::pending().await,
            Message::CallSelf(address, reply) => {
                drop(reply.send(address.call(Message::Ping, SOON).await));
            }
            Message::Keep(reply) => state.kept.push(reply),
            Message::Act(act) => act(&me),
            Message::Await(work) => work.await,
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Message>,
        _: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        self.log.add(format!("{} cleaned", self.name));
        match self.cleanup {
            Cleanup::Works => Ok(()),
            Cleanup::Fails => Err("cleanup fails".into()),
            Cleanup::Hangs => std::future::pending().await,
        }
    }
}

impl Probe {
    pub(crate) fn new(name: &str, log: &Log) -> (ChildSpec, Self) {
        Self::with_cleanup(name, log, Cleanup::Works)
    }

    pub(crate) fn with_cleanup(name: &str, log: &Log, cleanup: Cleanup) -> (ChildSpec, Self) {
        let starts: Arc<Mutex<VecDeque<Start>>> = Arc::default();
        let (log, script, label) = (log.clone(), starts.clone(), name.to_owned());
        let (spec, address) = ChildSpec::actor(name, move || {
            let start = script.lock().unwrap().pop_front().unwrap_or(Start::Works);
            (Shell { name: label.clone(), log: log.clone(), start, cleanup }, ())
        });
        (spec, Self { name: name.to_owned(), address, starts })
    }

    /// The coming starts do this; later ones work.
    pub(crate) fn script(&self, starts: &[Start]) {
        self.starts.lock().unwrap().extend(starts);
    }

    /// All coming starts work.
    pub(crate) fn forget_script(&self) {
        self.starts.lock().unwrap().clear();
    }

    pub(crate) async fn ping(&self) -> Result<u64, CallError> {
        self.address.call(Message::Ping, SOON).await
    }

    /// Pings until an incarnation answers: a call may meet the dying one.
    pub(crate) async fn answers(&self) -> u64 {
        loop {
            match self.ping().await {
                Ok(count) => return count,
                Err(CallError::Exited(_)) => tokio::task::yield_now().await,
                Err(other) => panic!("{}: {other}", self.name),
            }
        }
    }

    /// Pings until the end of the last life is behind it: the answer of the next one, or why there is
    /// none.
    pub(crate) async fn settled(&self) -> Result<u64, CallError> {
        loop {
            match self.ping().await {
                Err(CallError::Exited(_)) => tokio::task::yield_now().await,
                other => return other,
            }
        }
    }

    /// Sends `message` and waits for the end it causes.
    pub(crate) async fn end(&self, message: impl FnOnce() -> Message) -> ExitReason {
        // A call that never gets its reply tells why its callee ended.
        let kept = self.address.call(Message::Keep, SOON);
        let mut kept = std::pin::pin!(kept);
        std::future::poll_fn(|cx| {
            assert!(kept.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        self.address.cast(message()).unwrap();
        match kept.await {
            Err(CallError::Exited(reason)) => reason,
            other => panic!("{}: {other:?}", self.name),
        }
    }
}

/// Three permanent probes under a supervisor that a test configures.
pub(crate) struct World {
    pub(crate) root: Root,
    pub(crate) log: Log,
    pub(crate) probes: Vec<Probe>,
}

impl World {
    pub(crate) async fn start(configure: impl FnOnce(SupervisorSpec) -> SupervisorSpec) -> Self {
        Self::start_with(&[Restart::Permanent; 3], configure).await.unwrap()
    }

    pub(crate) async fn start_with(
        restarts: &[Restart],
        configure: impl FnOnce(SupervisorSpec) -> SupervisorSpec,
    ) -> Result<Self, StartError> {
        let log = Log::default();
        let mut spec = configure(SupervisorSpec::new("top"));
        let mut probes = Vec::new();
        for (name, restart) in ["a", "b", "c", "d"].iter().zip(restarts) {
            let (child, probe) = Probe::new(name, &log);
            spec = spec.child(child.restart(*restart));
            probes.push(probe);
        }
        let root = Root::start(spec, Clock::start(), Options::default()).await?;
        Ok(Self { root, log, probes })
    }

    pub(crate) fn top(&self) -> &Supervisor {
        self.root.supervisor()
    }

    /// Which life of the probe `name` it is.
    pub(crate) fn incarnation(&self, name: &str) -> u64 {
        self.node(&format!("/top/{name}")).incarnation
    }

    /// Restarts that count at present.
    pub(crate) fn counted(&self) -> u32 {
        self.node("/top").intensity.unwrap().in_window
    }

    pub(crate) fn node(&self, path: &str) -> TreeNode {
        let nodes = self.root.tree().nodes();
        nodes.into_iter().find(|node| node.path == path).unwrap_or_else(|| panic!("{path}"))
    }
}

/// Lets everybody else run until `holds`.
pub(crate) async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

/// The ids of a supervisor's children, sorted.
pub(crate) fn ids(of: &Supervisor) -> Vec<String> {
    let mut ids: Vec<String> = of
        .which_children()
        .unwrap_or_default()
        .into_iter()
        .map(|child| child.name().to_owned())
        .collect();
    ids.sort();
    ids
}

/// Whether the child `id` runs, will run again, or does not run.
pub(crate) fn status(of: &Supervisor, id: &str) -> ChildStatus {
    let children = of.which_children().unwrap();
    children.iter().find(|child| child.name() == id).unwrap_or_else(|| panic!("{id}")).status
}

pub(crate) async fn root(spec: SupervisorSpec) -> Root {
    Root::start(spec, Clock::start(), Options::default()).await.unwrap()
}
