//! Processes that own tasks, and a supervisor for those.

use std::{pin::Pin, time::Duration};

use perennial_core::{ExitReason, Restart, Uptime};
use perennial_supervision::{
    Address, ChildSpec, Clock, Exit, GenServer, Init, Monitor, Next, ProcessRef, Reply, Root,
    ServerCx, SupervisorSpec, TaskSupervisor, TaskSupervisorSpec, actor::ActorError,
};

use crate::probe::{Log, SOON, root};

type Later = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What an owner is told: to run something, or a notice of a task.
pub(crate) enum Job {
    Run(Later),
    Note(String),
    Sync(Reply<()>),
}

/// A process that runs what a test says.
pub(crate) struct Worker<const TRAPS: bool>(Log);

impl<const TRAPS: bool> GenServer for Worker<TRAPS> {
    const TRAPS_EXITS: bool = TRAPS;
    type Arguments = Log;
    type Message = Job;

    async fn init(log: Log, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        Ok(Init::new(Self(log)))
    }

    async fn handle(&mut self, job: Job, _: &mut ServerCx<Self>) -> Result<Next<Job>, ActorError> {
        match job {
            Job::Run(work) => work.await,
            Job::Note(line) => self.0.add(line),
            Job::Sync(reply) => reply.send(()),
        }
        Ok(Next::Continue)
    }

    async fn handle_exit(
        &mut self,
        exit: Exit,
        _: &mut ServerCx<Self>,
    ) -> Result<Next<Job>, ActorError> {
        assert!(!exit.watch.is_own());
        self.0.add(format!("exit of {}: {}", exit.process.path(), exit.reason.name()));
        Ok(Next::Continue)
    }
}

/// Handle to one of them.
#[derive(Clone)]
pub(crate) struct Owner {
    pub(crate) address: Address<Job>,
    pub(crate) log: Log,
}

impl Owner {
    fn new<const TRAPS: bool>(id: &str) -> (ChildSpec, Self) {
        let log = Log::default();
        let given = log.clone();
        let (spec, address) = ChildSpec::server::<Worker<TRAPS>>(id, move || given.clone());
        (spec.restart(Restart::Temporary), Self { address, log })
    }

    pub(crate) fn process(&self) -> ProcessRef {
        self.address.whereis().unwrap()
    }

    pub(crate) fn monitor(&self) -> Monitor {
        self.address.monitor()
    }

    /// Runs `work` in it and answers what that made.
    pub(crate) async fn does<R: Send + 'static>(
        &self,
        work: impl Future<Output = R> + Send + 'static,
    ) -> R {
        let (sender, done) = tokio::sync::oneshot::channel();
        self.starts(async move { drop(sender.send(work.await)) });
        done.await.unwrap()
    }

    /// Begins to run `work` in it.
    pub(crate) fn starts(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.address.cast(Job::Run(Box::pin(work))).unwrap();
    }

    /// Returns when all that was sent to it before is handled.
    pub(crate) async fn settles(&self) {
        self.address.call(Job::Sync, SOON).await.unwrap();
    }

    /// Ends it for `reason`, from within.
    pub(crate) async fn ends(&self, reason: ExitReason) {
        let mut end = self.monitor();
        if let ExitReason::Panic { .. } = reason {
            self.starts(async { panic!("the owner fails") });
        } else {
            self.address.stop(reason, SOON).await.unwrap();
        }
        end.down().await;
    }
}

/// A task supervisor, an owner that does not trap exits, and one that does.
pub(crate) struct World {
    pub(crate) root: Root,
    pub(crate) tasks: TaskSupervisor,
    pub(crate) plain: Owner,
    pub(crate) traps: Owner,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(100).await
    }

    pub(crate) async fn with(max: usize) -> Self {
        let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", max));
        let (one, plain) = Owner::new::<false>("plain");
        let (two, traps) = Owner::new::<true>("traps");
        let top = SupervisorSpec::new("top").child(spec).child(one).child(two);
        Self { root: root(top).await, tasks, plain, traps }
    }
}

/// Something that tells when it is dropped.
pub(crate) struct Dropped(pub(crate) Log, pub(crate) &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
}

/// Whether it is a panic with this text.
pub(crate) fn panicked(reason: &ExitReason, text: &str) -> bool {
    matches!(reason, ExitReason::Panic { message, .. } if **message == *text)
}

/// How long something took, on the paused clock.
pub(crate) struct Watch(Clock, Uptime);

impl Watch {
    pub(crate) fn start() -> Self {
        let clock = Clock::start();
        Self(clock, clock.now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.now().since(self.1)
    }
}
