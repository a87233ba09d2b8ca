//! A server whose behaviour is what a test says to it, and a log of what it did in which order.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    Address, CallError, ChildSpec, Exit, GenServer, Init, Next, Reply, Root, ServerCx,
    SupervisorSpec, WatchRef, actor::ActorError,
};

use crate::probe::{Cleanup, Log, SOON, root};

pub(crate) type Answer = Result<Next<Say>, ActorError>;
type Act = Box<dyn FnOnce(&mut Talker, &mut ServerCx<Talker>) -> Answer + Send>;
type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a test says to the server.
pub(crate) enum Say {
    Ping(Reply<u64>),
    Work(&'static str),
    Panic,
    Fail(ExitReason),
    Stop(ExitReason),
    /// Never answers, keeping the right to.
    Keep(Reply<u64>),
    /// Runs in the handler.
    Act(Act),
    /// Holds the handler until it is done.
    Await(Later<Answer>),
}

/// The state.
pub(crate) struct Talker {
    pub(crate) log: Log,
    pub(crate) pings: u64,
    pub(crate) kept: Vec<Reply<u64>>,
    cleanup: Cleanup,
    /// What the next timeouts and exits answer, the last first.
    pub(crate) answers: Vec<Next<Say>>,
    /// One of these is given up when the first exit of another is handled.
    pub(crate) flush: Vec<WatchRef>,
    /// What it notes when it handles an exit.
    pub(crate) on_exit: Option<Box<dyn Fn() -> String + Send>>,
    /// Whether its formatters panic.
    pub(crate) unspeakable: bool,
}

pub(crate) struct Setup {
    log: Log,
    cleanup: Cleanup,
    begin: Later<Answer>,
}

impl Talker {
    pub(crate) fn act(
        act: impl FnOnce(&mut Self, &mut ServerCx<Self>) -> Answer + Send + 'static,
    ) -> Say {
        Say::Act(Box::new(act))
    }

    fn new(log: Log, cleanup: Cleanup, pings: u64) -> Self {
        let (kept, answers, flush) = (Vec::new(), Vec::new(), Vec::new());
        Self { log, pings, kept, cleanup, answers, flush, on_exit: None, unspeakable: false }
    }

    /// Another state, which has counted to `pings`.
    pub(crate) fn with_pings(&self, pings: u64) -> Self {
        Self::new(self.log.clone(), self.cleanup, pings)
    }

    /// Holds the handler for ever.
    pub(crate) fn hang() -> Say {
        Say::Await(Box::pin(std::future::pending()))
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.log.add("dropped");
    }
}

impl GenServer for Talker {
    type Arguments = Setup;
    type Message = Say;

    async fn init(setup: Setup, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        let Setup { log, cleanup, begin } = setup;
        let begin = begin.await?;
        log.add("started");
        let init = Init::new(Self::new(log, cleanup, 0));
        Ok(match begin {
            Next::Continue => init,
            Next::Timeout(inactivity) => init.timeout(inactivity),
            Next::Continuation(message) => init.continuation(message),
            Next::Stop(reason) => return Err(reason.into()),
        })
    }

    async fn handle(&mut self, message: Say, cx: &mut ServerCx<Self>) -> Answer {
        match message {
            Say::Ping(reply) => {
                self.pings += 1;
                reply.send(self.pings);
            }
            Say::Work(what) => self.log.add(what),
            Say::Panic => panic!("asked to panic"),
            Say::Fail(reason) => return Err(reason.into()),
            Say::Stop(reason) => return Ok(Next::Stop(reason)),
            Say::Keep(reply) => self.kept.push(reply),
            Say::Act(act) => return act(self, cx),
            Say::Await(work) => return work.await,
        }
        Ok(Next::Continue)
    }

    async fn handle_timeout(&mut self, _: &mut ServerCx<Self>) -> Answer {
        self.log.add("timeout");
        Ok(self.answers.pop().unwrap_or(Next::Continue))
    }

    async fn handle_exit(&mut self, exit: Exit, cx: &mut ServerCx<Self>) -> Answer {
        let others = std::mem::take(&mut self.flush);
        if let Some(watch) = others.into_iter().find(|watch| *watch != exit.watch) {
            cx.demonitor(watch);
        }
        self.log.add(format!("exit of {}: {}", exit.process.path(), exit.reason));
        if let Some(look) = &self.on_exit {
            self.log.add(look());
        }
        Ok(self.answers.pop().unwrap_or(Next::Continue))
    }

    async fn terminate(
        &mut self,
        reason: &ExitReason,
        _: &mut ServerCx<Self>,
    ) -> Result<(), ActorError> {
        self.log.add(format!("terminate: {} after {}", reason.name(), self.pings));
        match self.cleanup {
            Cleanup::Works => Ok(()),
            Cleanup::Fails => Err("cleanup fails".into()),
            Cleanup::Hangs => std::future::pending().await,
        }
    }

    fn format_status(&self) -> String {
        assert!(!self.unspeakable, "cannot be spoken of");
        format!("pings: {}, secret: ***", self.pings)
    }

    fn describe_message(message: &Say) -> Option<String> {
        match message {
            Say::Work(what) => Some(format!("work {what}")),
            Say::Panic => Some("panic".into()),
            Say::Ping(_)
            | Say::Fail(_)
            | Say::Stop(_)
            | Say::Keep(_)
            | Say::Act(_)
            | Say::Await(_) => None,
        }
    }
}

/// What a test holds of one server.
#[derive(Clone)]
pub(crate) struct Talk {
    pub(crate) address: Address<Say>,
    pub(crate) log: Log,
    begins: Arc<Mutex<VecDeque<Later<Answer>>>>,
}

impl Talk {
    pub(crate) fn new(name: &str) -> (ChildSpec, Self) {
        Self::with_cleanup(name, Cleanup::Works)
    }

    pub(crate) fn with_cleanup(name: &str, cleanup: Cleanup) -> (ChildSpec, Self) {
        let begins: Arc<Mutex<VecDeque<Later<Answer>>>> = Arc::default();
        let log = Log::default();
        let (script, lines) = (begins.clone(), log.clone());
        let (spec, address) = ChildSpec::server::<Talker>(name, move || {
            let begin = script.lock().unwrap().pop_front();
            let begin = begin.unwrap_or_else(|| Box::pin(async { Ok(Next::Continue) }));
            Setup { log: lines.clone(), cleanup, begin }
        });
        (spec, Self { address, log, begins })
    }

    /// The init of the next start that has no other does this.
    pub(crate) fn begin(&self, begin: impl Future<Output = Answer> + Send + 'static) {
        self.begins.lock().unwrap().push_back(Box::pin(begin));
    }

    pub(crate) fn say(&self, message: Say) {
        self.address.cast(message).unwrap();
    }

    pub(crate) async fn ping(&self) -> Result<u64, CallError> {
        self.address.call(Say::Ping, SOON).await
    }

    /// What it did since this was asked last.
    pub(crate) fn did(&self) -> Vec<String> {
        self.log.take()
    }

    /// Says `message`, and waits for the end it causes.
    pub(crate) async fn end(&self, message: Say) -> ExitReason {
        let mut monitor = self.address.monitor();
        self.say(message);
        monitor.down().await
    }
}

/// A temporary server alone under a root: nothing comes after its end.
pub(crate) async fn alone() -> (Root, Talk) {
    alone_with(Cleanup::Works).await
}

pub(crate) async fn alone_with(cleanup: Cleanup) -> (Root, Talk) {
    let (spec, talk) = Talk::with_cleanup("a", cleanup);
    let spec = spec.restart(Restart::Temporary);
    let root = root(SupervisorSpec::new("top").child(spec)).await;
    assert_eq!(talk.did(), ["started"]);
    (root, talk)
}

/// Polls `future` once, which must not be done.
pub(crate) async fn pending<F: Future>(mut future: Pin<&mut F>) {
    std::future::poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// Lets everything run that can without time passing.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

pub(crate) const SHORT: Duration = Duration::from_millis(100);

/// A server with nothing but what must be there.
pub(crate) struct Bare<const TRAPS: bool>;

pub(crate) enum Told {
    End(ExitReason),
    Link(Address<Say>, Reply<()>),
}

impl<const TRAPS: bool> GenServer for Bare<TRAPS> {
    type Arguments = ();
    type Message = Told;
    const TRAPS_EXITS: bool = TRAPS;

    async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        Ok(Init::new(Self))
    }

    async fn handle(
        &mut self,
        message: Told,
        cx: &mut ServerCx<Self>,
    ) -> Result<Next<Told>, ActorError> {
        match message {
            Told::End(reason) => return Ok(Next::Stop(reason)),
            Told::Link(other, reply) => {
                cx.link(&other.whereis().ok_or("gone")?);
                reply.send(());
            }
        }
        Ok(Next::Continue)
    }
}

pub(crate) fn reasons() -> [ExitReason; 7] {
    [
        ExitReason::Normal,
        ExitReason::Shutdown,
        ExitReason::ShutdownWith("detail".into()),
        ExitReason::Killed,
        ExitReason::Error("text".into()),
        ExitReason::NoProc,
        ExitReason::Timeout,
    ]
}
