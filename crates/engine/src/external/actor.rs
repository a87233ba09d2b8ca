//! The shell of one instance: it asks the machine, and starts tasks for what takes time.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use perennial_core::{
    ExitReason, Uptime,
    service::{
        Asker, Epoch, NotFailed, ServiceAction, ServiceEvent, ServiceInput, ServiceKey,
        ServiceMachine, ServiceState, Steps, StopMode, Verdict,
    },
};
use perennial_store::{HoldOf, StoreError};
use perennial_supervision::{
    Address, ChildSpec, GenServer, Init, Next, Reply, ServerCx, TaskNotice, TaskRef, TimerRef,
    actor::ActorError,
};
use perennial_tools::service::{Instance, InstanceNote, StartError, StopError};

use super::{
    Inner,
    acts::Found,
    board::Board,
    calls::{Calls, Opened},
    hold::{Admitted, NotReady},
    ledger::Ledger,
    row::{self, Kept, Standing},
    spec::Declared,
};
use crate::Services;

/// What whoever asks is told; an error when their hold was not kept.
type Answer = Reply<Result<Result<Admitted, NotReady>, StoreError>>;

pub(super) enum Message {
    Begin,
    Acquire {
        of: HoldOf,
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
    /// Whether it is there.
    Ping {
        reply: Reply<()>,
    },
    /// Somebody has given back.
    Look,
    Wake,
    /// What other processes have written is to be looked at.
    LookElsewhere,
    /// Jobs hold it since a moment, or do not any more: who holds it is to be looked at. Since when it is needed, if it is.
    Nudge {
        needed: Option<Uptime>,
    },
    DrainConfirmed(Epoch),
    Launch(Epoch, TaskNotice<Result<Instance, StartError>>),
    Probe(Epoch, u64, TaskNotice<Verdict>),
    Clean(Epoch, TaskNotice<Result<(), StopError>>),
    /// Whoever kept that life does not any more.
    KeeperEnded(Epoch),
    Found(Epoch, TaskNotice<Found>),
}

/// What all incarnations of an actor share.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) key: ServiceKey,
    pub(super) declared: Arc<Declared>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) board: Arc<Board>,
    pub(super) calls: Calls,
    pub(super) engine: Services,
}

pub(super) fn child_spec(keeper: Keeper) -> (ChildSpec, Address<Message>) {
    let (id, shown) = (keeper.key.to_string(), keeper.ledger.clone());
    let (key, calls) = (keeper.key.clone(), keeper.calls.clone());
    let (spec, address) = ChildSpec::server::<ServiceActor>(id, move || keeper.clone());
    // The breaker as it is, without a question to the actor (SM-62).
    let detail = move || {
        let mut detail = shown.shown.read();
        if let Some(detail) = detail.as_object_mut() {
            detail.insert("breaker".to_owned(), calls.shown(&key));
            let limits = calls.limits(&key);
            if limits.as_object().is_none_or(|limits| !limits.is_empty()) {
                detail.insert("limits".to_owned(), limits);
            }
        }
        detail
    };
    (spec.detail(detail), address)
}

pub(super) struct ServiceActor {
    pub(super) its: Keeper,
    pub(super) machine: ServiceMachine,
    pub(super) standing: Standing,
    /// Since when it stands so.
    pub(super) stood: Uptime,
    /// Whether somebody holds it whom this process does not know; the machine knows them as one holder.
    pub(super) is_held_elsewhere: bool,
    /// What was noted of the instance that is to be found again.
    pub(super) noted: Option<InstanceNote>,
    /// What its row says of its breaker.
    pub(super) breaker: Option<Opened>,
    /// Whether the instance of this life is another one than its row says.
    pub(super) has_found: bool,
    /// What is to be performed first.
    pub(super) begin: Steps,
    pub(super) answers: HashMap<Asker, Answer>,
    pub(super) askers: Asker,
    timer: Option<TimerRef>,
    look_timer: Option<TimerRef>,
    /// The start and the probe that are under way.
    pub(super) launching: Option<(Epoch, TaskRef)>,
    pub(super) probing: Option<TaskRef>,
    chance: RandomState,
    draws: u64,
}

impl GenServer for ServiceActor {
    type Arguments = Keeper;
    type Message = Message;

    async fn init(its: Keeper, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        let now = its.engine.clock.now();
        let stood = row::stand(&its).await?;
        let actor = Self {
            its,
            machine: stood.machine,
            standing: stood.standing,
            stood: now,
            is_held_elsewhere: stood.is_held_elsewhere,
            noted: stood.noted,
            breaker: stood.breaker,
            has_found: false,
            begin: stood.begin,
            answers: HashMap::new(),
            askers: 0,
            timer: None,
            look_timer: None,
            launching: None,
            probing: None,
            chance: RandomState::new(),
            draws: 0,
        };
        // Whoever looks for rest finds none while it has begun.
        actor.its.ledger.note(&actor.machine, &actor.standing);
        Ok(Init::new(actor).continuation(Message::Begin))
    }

    async fn handle(
        &mut self,
        message: Message,
        cx: &mut ServerCx<Self>,
    ) -> Result<Next<Message>, ActorError> {
        for (holder, of) in self.its.ledger.returned() {
            row::unhold(&self.its, of).await?;
            self.input(ServiceInput::Release { holder }, cx).await?;
        }
        match message {
            Message::Begin => {
                self.clear().await;
                let begin = std::mem::take(&mut self.begin);
                self.perform(begin, cx).await?;
            }
            Message::Restart { reply } => {
                let mut answer = Ok(());
                for _ in 0..3 {
                    match self.machine.restart(self.its.engine.clock.now()) {
                        Ok(steps) => {
                            answer = Ok(());
                            self.perform(steps, cx).await?;
                            // Another process may have come first, and failed with it: once more, from there.
                            if self.machine.state() != ServiceState::Failed {
                                break;
                            }
                        }
                        // Whoever asks has seen the row, which may be ahead of what is known here.
                        Err(refused) => {
                            answer = Err(refused);
                            if !row::has_failed(&self.its).await? {
                                break;
                            }
                            let begin = self.stand_again().await?;
                            self.perform(begin, cx).await?;
                        }
                    }
                }
                // Whoever asks for it from now on is to find that it has not failed.
                self.publish();
                reply.send(answer);
            }
            Message::Ping { reply } => reply.send(()),
            Message::LookElsewhere => {
                self.look_timer = None;
                self.look_elsewhere(cx).await?;
            }
            Message::Nudge { needed } => {
                self.look_elsewhere(cx).await?;
                if self.its.calls.opened(&self.its.key) != self.breaker {
                    // Written with nothing else: a transition of its breaker (SM-61).
                    self.has_found = true;
                    self.perform(Steps::default(), cx).await?;
                }
                if let Some(needed) = needed {
                    // What it finds is published: nobody waits for this answer.
                    self.askers += 1;
                    self.input(ServiceInput::Ask { asker: self.askers, needed }, cx).await?;
                }
            }
            message @ (Message::Acquire { .. }
            | Message::Ask { .. }
            | Message::Look
            | Message::Wake
            | Message::DrainConfirmed(_)
            | Message::Launch(..)
            | Message::Probe(..)
            | Message::Clean(..)
            | Message::KeeperEnded(_)
            | Message::Found(..)) => {
                if let Some(input) = self.read(message).await? {
                    self.input(input, cx).await?;
                }
            }
        }
        if let Some(needed) = self.unseen() {
            // Who came while it was looked at is not to wait until somebody asks again. Nobody waits for this answer.
            self.askers += 1;
            self.input(ServiceInput::Ask { asker: self.askers, needed }, cx).await?;
        }
        self.set_timer(cx)?;
        self.publish();
        let at_rest = [ServiceState::Stopped, ServiceState::Failed];
        let is_over = at_rest.contains(&self.machine.state())
            && self.its.ledger.is_at_rest()
            && !self.is_held_elsewhere;
        let is_shared = self.its.key.instance().is_none();
        Ok(if is_over && !is_shared { Next::Stop(ExitReason::Normal) } else { Next::Continue })
    }

    fn message_kind(message: &Message) -> &'static str {
        match message {
            Message::Begin => "begin",
            Message::Acquire { .. } => "acquire",
            Message::Ask { .. } => "ask",
            Message::Restart { .. } => "restart",
            Message::Ping { .. } => "ping",
            Message::Look => "look",
            Message::Wake => "wake",
            Message::LookElsewhere => "look_elsewhere",
            Message::Nudge { .. } => "nudge",
            Message::DrainConfirmed(_) => "drain_confirmed",
            Message::Launch(..) => "launch",
            Message::Probe(..) => "probe",
            Message::Clean(..) => "clean",
            Message::KeeperEnded(_) => "keeper_ended",
            Message::Found(..) => "found",
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
        let is_known = !self.machine.is_finding();
        // What another process keeps, or uses, is not ours to stop.
        let is_left = self.standing.is_guest() || row::is_used_elsewhere(&self.its).await;
        // The last one first: what is left of earlier lives may not listen.
        for (epoch, instance) in self.its.ledger.instances().into_iter().rev() {
            let is_left = is_left && epoch == self.machine.epoch();
            let ours = !is_left && !self.its.ledger.is_guests(epoch);
            if !ours || self.stop_now(epoch, instance, StopMode::Graceful).await {
                self.its.ledger.forget(epoch);
            }
        }
        let now = self.its.engine.clock.now();
        let steps = self.machine.on(ServiceInput::Shutdown, now, 0.0);
        let failed = self.its.ledger.instance(self.machine.epoch()).map(|_| "it still runs".into());
        let stopped = ServiceInput::Cleaned { epoch: self.machine.epoch(), failed };
        let rest = self.machine.on(stopped, now, 0.0);
        let events: Vec<_> = steps.events.into_iter().chain(rest.events).collect();
        self.its.ledger.note(&self.machine, &self.standing);
        // What was not found yet is left for whoever comes next, as it is.
        if is_known && !is_left && !events.is_empty() {
            self.keep_end().await;
        }
        for event in events {
            self.its.ledger.tell(event, now);
        }
        self.publish();
        Inner::wake(&self.its.engine, self.its.board.remove(&self.its.key));
        Ok(())
    }
}

impl ServiceActor {
    /// What the machine is to be told.
    async fn read(&mut self, message: Message) -> Result<Option<ServiceInput>, ActorError> {
        Ok(match message {
            Message::Acquire { of, needed, reply } => {
                let holder = of.holder();
                // Whoever asked may have left meanwhile, and holds nothing.
                let holds = self.its.ledger.holds(&holder);
                // The row is there before anything is started (DUR-80).
                if holds && let Err(error) = row::hold(&self.its, of).await {
                    reply.send(Err(error));
                    return Ok(None);
                }
                let asker = self.asker(reply);
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
            Message::Launch(epoch, notice) => Some(self.launched(epoch, notice).await),
            Message::Probe(epoch, probe, notice) => {
                let verdict = match notice {
                    TaskNotice::Value { value, .. } => value,
                    TaskNotice::Down { reason, .. } => {
                        Verdict::Unresponsive(format!("its probe ended: {reason}").into())
                    }
                };
                let verdict = self.seen(epoch, verdict);
                Some(ServiceInput::Probed { epoch, probe, verdict })
            }
            Message::Clean(epoch, notice) => Some(self.cleaned(epoch, notice)),
            Message::KeeperEnded(epoch) => {
                self.its.ledger.ended(epoch).map(|why| ServiceInput::Exited { epoch, why })
            }
            // The end of what has answered; it may be looked for again by now.
            Message::Found(_, TaskNotice::Down { reason: ExitReason::Normal, .. }) => None,
            Message::Found(epoch, notice) => Some(self.found(epoch, notice).await),
            Message::Begin
            | Message::Restart { .. }
            | Message::Ping { .. }
            | Message::Look
            | Message::LookElsewhere
            | Message::Nudge { .. } => None,
        })
    }

    /// Since when somebody needs it of whom the last look at it says nothing, and no other is under way.
    fn unseen(&self) -> Option<Uptime> {
        let is_up = matches!(self.machine.state(), ServiceState::Ready | ServiceState::Degraded);
        if !is_up || self.machine.is_looked_at() {
            return None;
        }
        let now = self.its.engine.clock.now();
        self.its.board.unseen(&self.its.key, &self.machine.offer(), now)
    }

    fn asker(&mut self, reply: Answer) -> Asker {
        self.askers += 1;
        self.answers.insert(self.askers, reply);
        self.askers
    }

    pub(super) async fn input(
        &mut self,
        input: ServiceInput,
        cx: &mut ServerCx<Self>,
    ) -> Result<(), ActorError> {
        let steps = self.decide(input);
        self.perform(steps, cx).await
    }

    pub(super) fn decide(&mut self, input: ServiceInput) -> Steps {
        self.draws += 1;
        // 53 bits, as many as the number has.
        let random = (self.chance.hash_one(self.draws) >> 11) as f64 / (1_u64 << 53) as f64;
        self.machine.on(input, self.its.engine.clock.now(), random)
    }

    /// Keeps what has changed before anything follows from it.
    pub(super) async fn perform(
        &mut self,
        steps: Steps,
        cx: &mut ServerCx<Self>,
    ) -> Result<(), ActorError> {
        let mut waiting = VecDeque::from([steps]);
        while let Some(mut steps) = waiting.pop_front() {
            self.its.ledger.note(&self.machine, &self.standing);
            if !steps.events.is_empty() || std::mem::take(&mut self.has_found) {
                match self.keep_row(&steps.events).await? {
                    Kept::Done => {}
                    Kept::Held => {
                        // Somebody in another process came in between: it goes on as it is.
                        let drain =
                            |action: &_| matches!(action, ServiceAction::ConfirmDrain { .. });
                        steps.actions.retain(|action| !drain(action));
                        waiting.push_front(self.is_held_elsewhere());
                    }
                    Kept::Lost => {
                        waiting.clear();
                        waiting.push_back(self.stand_again().await?);
                        continue;
                    }
                }
            }
            let has_failed = steps.events.iter().any(|event| event.to == ServiceState::Failed);
            for event in steps.events {
                self.log(&event);
                self.its.ledger.tell(event, self.its.engine.clock.now());
            }
            for action in steps.actions {
                if let ServiceAction::Start { epoch, .. } = action
                    && self.standing.is_guest()
                {
                    // Not ours to start, unless its keeper is gone; which has not been looked for just now.
                    let stood = self.its.engine.clock.now().since(self.stood);
                    if stood < self.its.declared.terms.start_backoff / 2 {
                        let why = "another process is about to stop it, or to start it".into();
                        let failed = ServiceInput::LaunchFailed { epoch, why, permanent: false };
                        waiting.push_back(self.decide(failed));
                        continue;
                    }
                    waiting.clear();
                    waiting.push_back(self.stand_again().await?);
                    break;
                }
                if let Some(failed) = self.act(action, cx).await {
                    waiting.push_back(self.decide(failed));
                }
            }
            if has_failed {
                // What could not be removed has nobody else who tries it again.
                self.clear().await;
            }
        }
        Ok(())
    }

    fn log(&self, event: &ServiceEvent) {
        let (key, why) = (&self.its.key, event.why.as_deref());
        tracing::info!(service = %key, epoch = %event.epoch, from = %event.from, to = %event.to, why, "service changed");
    }

    fn set_timer(&mut self, cx: &mut ServerCx<Self>) -> Result<(), ActorError> {
        if let Some(timer) = self.timer.take() {
            cx.cancel_timer(timer);
        }
        if let Some(due) = self.machine.wake_at() {
            let left = due.since(self.its.engine.clock.now());
            self.timer = Some(cx.send_after(left, Message::Wake)?);
        }
        if self.looks() && self.look_timer.is_none() {
            let every = self.its.declared.terms.probe_every;
            self.look_timer = Some(cx.send_after(every, Message::LookElsewhere)?);
        }
        Ok(())
    }
}
