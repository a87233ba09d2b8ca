//! The controller of a system: feeds the machine of decisions what happens, takes the steps it plans.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use perennial_core::{
    ExitReason,
    application::{ApplicationName, Applications as Machine, Cause, Failure, Phase, Step},
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    ApplicationError, ApplicationSpec, ApplicationStartFault, Env, RunningApplication, SystemError,
    callbacks::called,
    error::Failed,
    job::{Job, Owed},
    shared::{Ask, Line, Mail, Reply, Shared, Up, WORKS_FOR},
};
use crate::{
    DynamicSupervisor, LifecycleEvent, StopToken, TaskSupervisor, actor::ActorError, child::StartCx,
};

/// How long a task may take to begin. That takes no time, unless the supervisor of tasks has failed: then
/// the system ends, and nobody brings it back.
const BEGUN_WITHIN: Duration = Duration::from_secs(5);

pub(crate) type Hook = Arc<
    dyn Fn(Result<(), SystemError>) -> BoxFuture<'static, Result<(), ActorError>> + Send + Sync,
>;

/// What a controller is made of.
pub(crate) struct Setup {
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: mpsc::UnboundedReceiver<Mail>,
    pub(crate) applications: DynamicSupervisor,
    pub(crate) work: TaskSupervisor,
    pub(crate) hook: Option<Hook>,
    pub(crate) hook_within: Duration,
    pub(crate) shutdown_timeout: Option<Duration>,
    pub(crate) settings: BTreeMap<ApplicationName, BTreeMap<String, Value>>,
}

/// Invariant: `known` holds what `machine` has loaded.
pub(crate) struct Controller {
    cx: StartCx,
    setup: Setup,
    machine: Machine<Failed>,
    known: BTreeMap<ApplicationName, Known>,
    replies: BTreeMap<u64, Reply>,
    requests: u64,
    /// Cancelled when the system begins to go down.
    going: CancellationToken,
}

struct Known {
    spec: ApplicationSpec,
    env: Env,
    up: Option<Box<Up>>,
    /// Gives up the start that is under way.
    abort: CancellationToken,
}

impl Controller {
    pub(crate) fn new(cx: StartCx, setup: Setup) -> Self {
        Self {
            cx,
            setup,
            machine: Machine::default(),
            known: BTreeMap::new(),
            replies: BTreeMap::new(),
            requests: 0,
            going: CancellationToken::new(),
        }
    }

    /// Serves until all applications are stopped, which is asked for by `stop`, by anybody, or by the end
    /// of an application.
    pub(crate) async fn run(mut self, stop: StopToken) -> ExitReason {
        loop {
            tokio::select! {
                biased;
                () = stop.stopped(), if !self.machine.is_going_down() => self.machine.shut_down(None),
                Some(mail) = self.setup.inbox.recv() => self.hears(mail),
            }
            if self.play().await {
                self.publish();
                return ExitReason::Normal;
            }
        }
    }

    fn hears(&mut self, mail: Mail) {
        match mail {
            Mail::Ask(ask, reply) => self.asked(ask, reply),
            Mail::Started(name, Ok(up)) => {
                if let Some(known) = self.known.get_mut(&name) {
                    let (mail, top) = (self.setup.shared.mail.clone(), up.top.clone());
                    let (ended, who) = (top.clone(), name.clone());
                    // It may have ended: that is told behind this.
                    top.ended().on_end(move |reason| {
                        drop(mail.send(Mail::Ended(who, ended, reason.clone())));
                    });
                    known.up = Some(up);
                }
                self.machine.started(&name, Ok(()));
            }
            Mail::Started(name, Err(error)) => {
                let normal = error.fault.exit_reason() == ExitReason::Normal;
                self.machine.started(&name, Err(Failure { error, normal }));
            }
            Mail::Ended(name, top, reason) => {
                let up = self.known.get(&name).and_then(|known| known.up.as_ref());
                if up.is_some_and(|up| up.top == top) {
                    self.machine.ended(&name, reason);
                }
            }
            Mail::Stopped(name) => self.machine.stopped(&name),
            Mail::HostTold => self.machine.host_told(),
        }
    }

    fn asked(&mut self, ask: Ask, reply: Reply) {
        self.requests += 1;
        let asker = Shared::asker(self.requests, &reply);
        match ask {
            Ask::Load(spec) => self.load(*spec, reply),
            Ask::Unload(name) => self.unload(&name, reply),
            Ask::Start { name, restart, wanted } => {
                self.replies.insert(self.requests, reply);
                self.machine.start(&asker, &name, restart, wanted);
            }
            Ask::StartAll { names, restart } => {
                self.replies.insert(self.requests, reply);
                self.machine.start_all(asker, &names, restart);
            }
            Ask::Stop(name) => {
                self.replies.insert(self.requests, reply);
                self.machine.stop(&asker, &name);
            }
            Ask::ShutDown => {
                let first = !self.machine.is_going_down();
                self.machine.shut_down(None);
                let answer = first.then(Vec::new).ok_or(ApplicationError::ShuttingDown);
                drop(reply.sender.send(answer));
            }
        }
    }

    fn load(&mut self, spec: ApplicationSpec, reply: Reply) {
        let name = spec.name.clone();
        let loaded = self.machine.load(&name, spec.depends_on.clone());
        if loaded.is_ok() {
            let set = self.setup.settings.get(&name).cloned().unwrap_or_default();
            let env = Env::new(spec.defaults.clone(), set);
            let abort = CancellationToken::new();
            self.known.insert(name, Known { spec, env, up: None, abort });
        }
        self.publish();
        drop(reply.sender.send(loaded.map(|()| Vec::new()).map_err(Into::into)));
    }

    fn unload(&mut self, name: &ApplicationName, reply: Reply) {
        let unloaded = self.machine.unload(name);
        if unloaded.is_ok()
            && let Some(known) = self.known.remove(name)
        {
            self.setup.settings.insert(name.clone(), known.env.configured());
        }
        self.publish();
        drop(reply.sender.send(unloaded.map(|()| Vec::new()).map_err(Into::into)));
    }

    /// Takes the planned steps; answers whether all is down.
    async fn play(&mut self) -> bool {
        self.publish();
        while let Some(step) = self.machine.next_step() {
            match step {
                Step::Start(name) => self.start(&name).await,
                Step::Abort(name) => {
                    if let Some(known) = self.known.get(&name) {
                        known.abort.cancel();
                    }
                }
                Step::Stop(name) => self.stop(&name).await,
                Step::Answer(request, result) => {
                    if let Some(reply) = self.replies.remove(&request) {
                        // A caller that has left does not want it.
                        drop(reply.sender.send(result.map_err(Into::into)));
                    }
                }
                Step::Exited { application, restart, reason } => {
                    self.tell(LifecycleEvent::ApplicationExited { application, restart, reason });
                }
                Step::FailedToStart { error, .. } => {
                    self.tell(LifecycleEvent::ApplicationStartFailed(error));
                }
                Step::TellHost(cause) => self.tell_host(cause).await,
                Step::Down => return true,
            }
        }
        false
    }

    fn job(&self, spec: &ApplicationSpec) -> Job {
        Job {
            cx: self.cx.clone(),
            applications: self.setup.applications.clone(),
            spec: spec.clone(),
            going: self.going.clone(),
            shutdown_timeout: self.setup.shutdown_timeout,
        }
    }

    async fn start(&mut self, name: &ApplicationName) {
        let restart = self.machine.starts_as(name);
        let abort = CancellationToken::new();
        let Some((known, restart)) = self.known.get_mut(name).zip(restart) else { return };
        known.abort = abort.clone();
        let (spec, env) = (known.spec.clone(), known.env.clone());
        let job = self.job(&spec);
        let lost = job.failed(restart, ApplicationStartFault::Aborted);
        let owed = self.owed(Mail::Started(name.clone(), Err(lost)));
        let who = name.clone();
        works(&self.setup.work.clone(), name, "start", async move {
            // Nothing of it runs any more when its start is given up.
            let result = job.start(env, &abort).await;
            let result = result.map(Box::new).map_err(|fault| job.failed(restart, fault));
            owed.pay(Mail::Started(who, result));
        })
        .await;
    }

    async fn stop(&mut self, name: &ApplicationName) {
        let Some(known) = self.known.get_mut(name) else { return };
        let (up, spec) = (known.up.take(), known.spec.clone());
        let job = self.job(&spec);
        let owed = self.owed(Mail::Stopped(name.clone()));
        works(&self.setup.work.clone(), name, "stop", async move {
            if let Some(up) = up {
                job.stop(*up).await;
            }
            drop(owed);
        })
        .await;
    }

    /// The host is told first, and has the time of a callback to act (APP-023).
    async fn tell_host(&mut self, cause: Option<Cause<Failed>>) {
        let outcome = cause.map_or(Ok(()), |cause| Err(SystemError::from(cause)));
        // The machine tells once.
        let _ = self.setup.shared.outcome.set(outcome.clone());
        self.going.cancel();
        let owed = self.owed(Mail::HostTold);
        let Some(hook) = self.setup.hook.clone() else { return drop(owed) };
        let (cx, within) = (self.cx.clone(), self.setup.hook_within);
        let system = ApplicationName::from(cx.process.ancestors().last().unwrap_or_default());
        let who = system.clone();
        works(&self.setup.work.clone(), &system, "on_shutdown", async move {
            let told = called(within, async move { hook(outcome).await }).await;
            if let Err(reason) = told {
                let (application, callback) = (who, "on_shutdown");
                let fault = LifecycleEvent::ApplicationFault { application, callback, reason };
                cx.context.tell(&cx.node, Some(&cx.process), fault);
            }
            drop(owed);
        })
        .await;
    }

    fn owed(&self, otherwise: Mail) -> Owed {
        Owed { mail: self.setup.shared.mail.clone(), otherwise: Some(otherwise) }
    }

    fn tell(&self, event: LifecycleEvent) {
        self.cx.context.tell(&self.cx.node, Some(&self.cx.process), event);
    }

    /// What everybody may read, before anybody is answered.
    fn publish(&self) {
        let line = |(name, phase): (&ApplicationName, Phase)| {
            let Known { spec, env, up, .. } = self.known.get(name)?;
            let line = Line {
                phase,
                env: env.clone(),
                callbacks: spec.callbacks.clone(),
                within: spec.within,
                top: up.as_ref().map(|up| (up.above.clone(), up.top_id.clone())),
            };
            Some((name.clone(), line))
        };
        let running = self.machine.running().into_iter().filter_map(|(name, restart)| {
            let top = self.known.get(&name)?.up.as_ref()?.top.clone();
            Some(RunningApplication { name, restart, top })
        });
        let (loaded, running) = (self.machine.iter().filter_map(line).collect(), running.collect());
        let before = {
            let mut shown = self.setup.shared.shown();
            let before = (
                std::mem::replace(&mut shown.loaded, loaded),
                std::mem::replace(&mut shown.running, running),
            );
            drop(shown);
            before
        };
        // What it captured is the host's, and dropped outside the lock.
        drop(before);
    }
}

/// Lets a task do what takes time. It has a debt to pay, which it does also when it is dropped.
async fn works(
    tasks: &TaskSupervisor,
    name: &ApplicationName,
    what: &str,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let work = WORKS_FOR.scope(name.clone(), work);
    let begun = tasks.start_child(format!("{what} {name}"), work);
    drop(tokio::time::timeout(BEGUN_WITHIN, begun).await);
}
