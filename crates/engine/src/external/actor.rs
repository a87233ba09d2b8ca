//! The shell of one instance: it asks the machine, and starts tasks for what takes time.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use perennial_core::{
    ExitReason, Shutdown, Uptime,
    service::{
        Asker, Epoch, Holder, NotFailed, ServiceAction, ServiceEvent, ServiceInput, ServiceKey,
        ServiceMachine, ServiceState, Steps, StopMode, Verdict,
    },
};
use perennial_supervision::{
    Address, ChildSpec, Clock, GenServer, Init, Next, Reply, ServerCx, TaskNotice, TaskRef,
    TaskSpec, TaskSupervisor, TimerRef, actor::ActorError,
};
use perennial_tools::service::{Instance, StartError, StopError};
use serde_json::json;
use tokio::time::timeout;

use super::{Admitted, NotReady, ledger::Ledger, probing::probe, spec::Declared, told};

type Answer = Reply<Result<Admitted, NotReady>>;

pub(super) enum Message {
    Begin,
    Acquire {
        holder: Holder,
        needed: Uptime,
        reply: Answer,
    },
    Ask {
        needed: Uptime,
        reply: Answer,
    },
    Restart {
        reply: Reply<Result<(), NotFailed>>,
    },
    /// Somebody has given back.
    Look,
    Wake,
    DrainConfirmed(Epoch),
    Launch(Epoch, TaskNotice<Result<Instance, StartError>>),
    Probe(Epoch, u64, TaskNotice<Verdict>),
    Clean(Epoch, TaskNotice<Result<(), StopError>>),
    Kept(Epoch, TaskNotice<Arc<str>>),
}

/// What all incarnations of an actor share.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) key: ServiceKey,
    pub(super) declared: Arc<Declared>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) tasks: TaskSupervisor,
    pub(super) clock: Clock,
}

pub(super) fn child_spec(keeper: Keeper) -> (ChildSpec, Address<Message>) {
    let (id, shown) = (keeper.key.to_string(), keeper.ledger.clone());
    let (spec, address) = ChildSpec::server::<ServiceActor>(id, move || keeper.clone());
    (spec.detail(move || shown.shown.read()), address)
}

struct ServiceActor {
    its: Keeper,
    machine: ServiceMachine,
    /// What is to be performed first.
    begin: Steps,
    answers: HashMap<Asker, Answer>,
    askers: Asker,
    timer: Option<TimerRef>,
    /// The start and the probe that are under way.
    launching: Option<(Epoch, TaskRef)>,
    probing: Option<TaskRef>,
    chance: RandomState,
    draws: u64,
}

impl GenServer for ServiceActor {
    type Arguments = Keeper;
    type Message = Message;

    async fn init(its: Keeper, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        let (now, terms) = (its.clock.now(), its.declared.terms);
        let (machine, begin) = match its.ledger.was() {
            Some(was) => ServiceMachine::recovered(terms, was, its.ledger.holders(), now),
            None => ServiceMachine::new(terms, now),
        };
        let actor = Self {
            its,
            machine,
            begin,
            answers: HashMap::new(),
            askers: 0,
            timer: None,
            launching: None,
            probing: None,
            chance: RandomState::new(),
            draws: 0,
        };
        Ok(Init::new(actor).continuation(Message::Begin))
    }

    async fn handle(
        &mut self,
        message: Message,
        cx: &mut ServerCx<Self>,
    ) -> Result<Next<Message>, ActorError> {
        for holder in self.its.ledger.returned() {
            self.input(ServiceInput::Release { holder }, cx).await;
        }
        match message {
            Message::Begin => {
                let begin = std::mem::take(&mut self.begin);
                self.perform(begin, cx).await;
            }
            Message::Restart { reply } => {
                let steps = self.machine.restart(self.its.clock.now());
                reply.send(steps.as_ref().map(|_| ()).map_err(|refused| *refused));
                self.perform(steps.unwrap_or_default(), cx).await;
            }
            message @ (Message::Acquire { .. }
            | Message::Ask { .. }
            | Message::Look
            | Message::Wake
            | Message::DrainConfirmed(_)
            | Message::Launch(..)
            | Message::Probe(..)
            | Message::Clean(..)
            | Message::Kept(..)) => {
                if let Some(input) = self.read(message, cx).await {
                    self.input(input, cx).await;
                }
            }
        }
        self.set_timer(cx)?;
        self.publish();
        let is_over = self.machine.state() == ServiceState::Stopped && self.its.ledger.is_at_rest();
        let is_shared = self.its.key.instance().is_none();
        Ok(if is_over && !is_shared { Next::Stop(ExitReason::Normal) } else { Next::Continue })
    }

    fn message_kind(message: &Message) -> &'static str {
        match message {
            Message::Begin => "begin",
            Message::Acquire { .. } => "acquire",
            Message::Ask { .. } => "ask",
            Message::Restart { .. } => "restart",
            Message::Look => "look",
            Message::Wake => "wake",
            Message::DrainConfirmed(_) => "drain_confirmed",
            Message::Launch(..) => "launch",
            Message::Probe(..) => "probe",
            Message::Clean(..) => "clean",
            Message::Kept(..) => "kept",
        }
    }

    /// At a shutdown everything that was started is stopped. What a crash leaves is the next incarnation's to remove.
    async fn terminate(
        &mut self,
        reason: &ExitReason,
        _: &mut ServerCx<Self>,
    ) -> Result<(), ActorError> {
        if reason.is_abnormal() {
            return Ok(());
        }
        self.end_tasks().await;
        let within = self.its.declared.terms.stop_within;
        for (epoch, instance) in self.its.ledger.instances() {
            let driver = self.its.declared.driver.clone();
            let stop = async move { driver.stop(&instance, StopMode::Graceful).await };
            let stopping = self.its.tasks.async_nolink(self.task("stop"), stop).await;
            if let Ok(mut stopping) = stopping
                && let Ok(Ok(())) = stopping.join(within).await
            {
                self.its.ledger.forget(epoch);
            }
        }
        let steps = self.machine.on(ServiceInput::Shutdown, self.its.clock.now(), 0.0);
        let stopped = ServiceInput::Cleaned { epoch: self.machine.epoch(), failed: None };
        let rest = self.machine.on(stopped, self.its.clock.now(), 0.0);
        for event in steps.events.into_iter().chain(rest.events) {
            self.its.ledger.tell(event, self.its.clock.now());
        }
        self.its.ledger.note(self.machine.state(), self.machine.epoch());
        self.publish();
        Ok(())
    }
}

impl ServiceActor {
    /// What the machine is to be told.
    async fn read(&mut self, message: Message, cx: &mut ServerCx<Self>) -> Option<ServiceInput> {
        match message {
            Message::Acquire { holder, needed, reply } => {
                let asker = self.asker(reply);
                // Whoever asked may have left meanwhile, and holds nothing.
                let holds = self.its.ledger.holds(&holder);
                Some(if holds {
                    ServiceInput::Acquire { holder, asker, needed }
                } else {
                    ServiceInput::Ask { asker, needed }
                })
            }
            Message::Ask { needed, reply } => {
                Some(ServiceInput::Ask { asker: self.asker(reply), needed })
            }
            Message::Wake => {
                self.timer = None;
                Some(ServiceInput::Due)
            }
            Message::DrainConfirmed(epoch) => Some(ServiceInput::DrainConfirmed { epoch }),
            Message::Launch(epoch, notice) => Some(self.launched(epoch, notice, cx).await),
            Message::Probe(epoch, probe, notice) => {
                let verdict = match notice {
                    TaskNotice::Value { value, .. } => value,
                    TaskNotice::Down { reason, .. } => {
                        Verdict::Unresponsive(format!("its probe ended: {reason}").into())
                    }
                };
                Some(ServiceInput::Probed { epoch, probe, verdict })
            }
            Message::Clean(epoch, notice) => Some(self.cleaned(epoch, notice)),
            Message::Kept(epoch, notice) => {
                let why = match notice {
                    TaskNotice::Value { value, .. } => value,
                    TaskNotice::Down { reason, .. } => format!("its keeper ended: {reason}").into(),
                };
                Some(ServiceInput::Exited { epoch, why })
            }
            Message::Begin | Message::Restart { .. } | Message::Look => None,
        }
    }

    async fn launched(
        &mut self,
        epoch: Epoch,
        notice: TaskNotice<Result<Instance, StartError>>,
        cx: &mut ServerCx<Self>,
    ) -> ServiceInput {
        let failed =
            |why: Arc<str>, permanent| ServiceInput::LaunchFailed { epoch, why, permanent };
        match notice {
            TaskNotice::Value { value: Ok(instance), .. } => {
                let keeper = instance.take_keeper();
                self.its.ledger.keep(epoch, instance);
                if let Some(keeper) = keeper {
                    let (task, own) = (self.task("keeper"), cx.address().clone());
                    let tell = move |notice| Message::Kept(epoch, notice);
                    if let Err(error) = self.its.tasks.async_telling(task, own, tell, keeper).await
                    {
                        return failed(format!("its keeper did not start: {error}").into(), false);
                    }
                }
                ServiceInput::Launched { epoch }
            }
            TaskNotice::Value { value: Err(StartError::Retryable(why)), .. } => failed(why, false),
            TaskNotice::Value { value: Err(StartError::Permanent(why)), .. } => failed(why, true),
            TaskNotice::Down { reason, .. } => {
                self.launching.take_if(|(of, _)| *of == epoch);
                failed(format!("its start ended: {reason}").into(), false)
            }
        }
    }

    fn cleaned(&mut self, epoch: Epoch, notice: TaskNotice<Result<(), StopError>>) -> ServiceInput {
        let failed: Option<Arc<str>> = match notice {
            TaskNotice::Value { value: Ok(()), .. } => {
                self.its.ledger.forget(epoch);
                None
            }
            TaskNotice::Value { value: Err(error), .. } => Some(error.to_string().into()),
            TaskNotice::Down { reason, .. } => Some(format!("its stop ended: {reason}").into()),
        };
        ServiceInput::Cleaned { epoch, failed }
    }

    fn asker(&mut self, reply: Answer) -> Asker {
        self.askers += 1;
        self.answers.insert(self.askers, reply);
        self.askers
    }

    async fn input(&mut self, input: ServiceInput, cx: &mut ServerCx<Self>) {
        let steps = self.decide(input);
        self.perform(steps, cx).await;
    }

    fn decide(&mut self, input: ServiceInput) -> Steps {
        self.draws += 1;
        // 53 bits, as many as the number has.
        let random = (self.chance.hash_one(self.draws) >> 11) as f64 / (1_u64 << 53) as f64;
        self.machine.on(input, self.its.clock.now(), random)
    }

    async fn perform(&mut self, steps: Steps, cx: &mut ServerCx<Self>) {
        let mut waiting = VecDeque::from([steps]);
        while let Some(steps) = waiting.pop_front() {
            self.its.ledger.note(self.machine.state(), self.machine.epoch());
            for event in steps.events {
                self.log(&event);
                self.its.ledger.tell(event, self.its.clock.now());
            }
            for action in steps.actions {
                if let Some(failed) = self.act(action, cx).await {
                    waiting.push_back(self.decide(failed));
                }
            }
        }
    }

    fn log(&self, event: &ServiceEvent) {
        let (key, why) = (&self.its.key, event.why.as_deref());
        tracing::info!(service = %key, epoch = %event.epoch, from = %event.from, to = %event.to, why, "service changed");
    }

    /// What is to be told at once: that a task did not start.
    async fn act(
        &mut self,
        action: ServiceAction,
        cx: &mut ServerCx<Self>,
    ) -> Option<ServiceInput> {
        let own = cx.address().clone();
        let (driver, tasks) = (self.its.declared.driver.clone(), self.its.tasks.clone());
        let terms = self.its.declared.terms;
        match action {
            ServiceAction::Start { epoch, within } => {
                let key = self.its.key.clone();
                let work = async move {
                    let late = |_| {
                        Err(StartError::Retryable(
                            format!("its driver did not start it within {within:?}").into(),
                        ))
                    };
                    timeout(within, driver.start(&key, epoch)).await.unwrap_or_else(late)
                };
                let tell = move |notice| Message::Launch(epoch, notice);
                match tasks.async_telling(self.task("start"), own, tell, work).await {
                    Ok(task) => self.launching = Some((epoch, task)),
                    Err(error) => {
                        let why = format!("its start found no task: {error}").into();
                        return Some(ServiceInput::LaunchFailed { epoch, why, permanent: false });
                    }
                }
            }
            ServiceAction::Probe { epoch, probe: number } => {
                let gone = || Verdict::Gone("nothing of it is known".into());
                let Some(instance) = self.its.ledger.instance(epoch) else {
                    return Some(ServiceInput::Probed { epoch, probe: number, verdict: gone() });
                };
                let work = probe(driver, instance, terms.probe_timeout);
                let tell = move |notice| Message::Probe(epoch, number, notice);
                match tasks.async_telling(self.task("probe"), own, tell, work).await {
                    Ok(task) => self.probing = Some(task),
                    Err(error) => {
                        let why = format!("its probe found no task: {error}").into();
                        let verdict = Verdict::Unresponsive(why);
                        return Some(ServiceInput::Probed { epoch, probe: number, verdict });
                    }
                }
            }
            ServiceAction::ConfirmDrain { epoch } => {
                // One that is lost counts as given after a moment.
                let _ = own.cast(Message::DrainConfirmed(epoch));
            }
            ServiceAction::Stop { epoch, mode } => return self.clean(epoch, mode, own).await,
            ServiceAction::Remove { epoch } => {
                return self.clean(epoch, StopMode::Kill, own).await;
            }
            ServiceAction::Answer { asker, admission } => {
                if let Some(reply) = self.answers.remove(&asker) {
                    reply.send(told(admission, &self.its.ledger));
                }
            }
        }
        None
    }

    /// Ends what is under way for this life, then lets the driver stop what it has made.
    async fn clean(
        &mut self,
        epoch: Epoch,
        mode: StopMode,
        own: Address<Message>,
    ) -> Option<ServiceInput> {
        let (driver, tasks) = (self.its.declared.driver.clone(), self.its.tasks.clone());
        let within: Duration = self.its.declared.terms.stop_within;
        let launching = self.launching.take_if(|(of, _)| *of == epoch).map(|(_, task)| task);
        let ended: Vec<_> = launching.into_iter().chain(self.probing.take()).collect();
        let ledger = self.its.ledger.clone();
        let ending = tasks.clone();
        let work = async move {
            for task in ended {
                // One that has ended is what is wanted.
                let _ = ending.terminate_child(&task).await;
            }
            let Some(instance) = ledger.instance(epoch) else { return Ok(()) };
            let late =
                |_| Err(StopError::new(format!("its driver did not stop it within {within:?}")));
            timeout(within, driver.stop(&instance, mode)).await.unwrap_or_else(late)
        };
        let tell = move |notice| Message::Clean(epoch, notice);
        let started = tasks.async_telling(self.task("stop"), own, tell, work).await;
        let error = started.err()?;
        let failed = Some(format!("its stop found no task: {error}").into());
        Some(ServiceInput::Cleaned { epoch, failed })
    }

    async fn end_tasks(&mut self) {
        let launching = self.launching.take().map(|(_, task)| task);
        for task in launching.into_iter().chain(self.probing.take()) {
            // One that has ended is what is wanted.
            let _ = self.its.tasks.terminate_child(&task).await;
        }
    }

    /// What it does is bounded by deadlines of its own; one that is given up gets no time besides.
    fn task(&self, what: &str) -> TaskSpec {
        TaskSpec::new(format!("{} {what}", self.its.key)).shutdown(Shutdown::BrutalKill)
    }

    fn set_timer(&mut self, cx: &mut ServerCx<Self>) -> Result<(), ActorError> {
        if let Some(timer) = self.timer.take() {
            cx.cancel_timer(timer);
        }
        if let Some(due) = self.machine.wake_at() {
            let left = due.since(self.its.clock.now());
            self.timer = Some(cx.send_after(left, Message::Wake)?);
        }
        Ok(())
    }

    fn publish(&self) {
        let now = self.its.clock.now();
        let status = self.machine.status(now);
        let probe = status.health.as_ref().map(|health| {
            json!({
                "found": health.verdict.as_str(),
                "why": health.verdict.reason(),
                "epoch": health.epoch,
                "age_ms": u64::try_from(now.since(health.taken).as_millis()).unwrap_or(u64::MAX),
            })
        });
        let running = self.its.ledger.instance(status.epoch);
        self.its.ledger.shown.publish(json!({
            "state": status.state.as_str(),
            "epoch": status.epoch,
            "holds": status.holds,
            "why": status.why,
            "last_probe": probe,
            "restarts": status.restarts,
            "endpoint": running.as_ref().and_then(Instance::endpoint),
            "pid": running.as_ref().and_then(Instance::pid),
        }));
    }
}
