//! Drives the machine of a supervisor's decisions: feeds it what happens, takes the steps it plans.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures_util::future::join_all;
use perennial_core::{
    ExitReason, Restart,
    child::StopRules,
    intensity::IntensityLimit,
    supervisor::{Children, Flags, Keeps, Order, Pid, Refusal, SpecError, Started, Step},
};
use tokio::sync::mpsc;

use super::{
    Acknowledge, Mail, Report, Waiting,
    request::{ChildStart, NewChild, Reply, Request, RequestError, Which},
};
use crate::{
    ChildSpec, Extra, LifecycleEvent, ProcessRef, StartError, StartFault, StopToken,
    child::{Begun, StartCx},
    context::Context,
    life::Life,
    node::Node,
    stopping::{self, StopFault, Stopping},
};

/// How the children are stopped when the supervisor stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// One after another, the last one started first (SUP-136, 137).
    InTurn,
    /// All at once, each under its own timer (DYN-039).
    AtOnce,
    /// As [`AtOnce`](Self::AtOnce), with one report for all that failed in the same way (SUP-170,
    /// 228): instances of a template.
    AsOne,
}

impl Ends {
    fn rules(self) -> StopRules {
        match self {
            Self::InTurn | Self::AsOne => StopRules::Static,
            Self::AtOnce => StopRules::Dynamic,
        }
    }
}

/// What a supervisor of any kind is driven by.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) flags: Flags,
    pub(crate) keeps: Keeps,
    pub(crate) ends: Ends,
    pub(crate) children: Vec<ChildSpec>,
    /// A budget for each child that brings none.
    pub(crate) child_budget: Option<IntensityLimit>,
    /// What the inits of all children can ask for (DYN-014).
    pub(crate) arguments: Option<Extra>,
}

/// Invariant: `slots` holds what `children` holds.
pub(super) struct Shell {
    context: Context,
    node: Arc<Node>,
    mail: mpsc::UnboundedSender<Mail>,
    children: Children,
    slots: HashMap<Order, Slot>,
    declared: Vec<ChildSpec>,
    plan: Plan,
    waiting: Waiting,
}

struct Slot {
    spec: Arc<ChildSpec>,
    node: Arc<Node>,
    /// The present incarnation, or the last one.
    life: Option<Life>,
    /// Whether `spec` came after `node`, by a reconfiguration.
    replaced: bool,
}

impl Slot {
    fn process(&self) -> Option<ProcessRef> {
        let life = self.life.as_ref()?;
        Some(life.process.clone())
    }
}

/// What the tree holds of a specification.
fn shown(spec: &Arc<ChildSpec>) -> Arc<ChildSpec> {
    match spec.restart {
        Restart::Temporary => Arc::new(spec.without_start()),
        Restart::Permanent | Restart::Transient => spec.clone(),
    }
}

/// Why the steps of a turn were not all taken.
struct Over;

impl Shell {
    pub(super) fn new(
        cx: StartCx,
        mut plan: Plan,
        mail: mpsc::UnboundedSender<Mail>,
    ) -> Result<Self, SpecError> {
        Ok(Self {
            context: cx.context,
            node: cx.node,
            mail,
            children: Children::new(plan.flags, plan.keeps)?,
            slots: HashMap::new(),
            declared: std::mem::take(&mut plan.children),
            plan,
            waiting: Waiting::default(),
        })
    }

    /// Starts the declared children in order; at the first that fails, stops the started ones in
    /// reverse and answers its fault (SUP-001, 008–011).
    async fn start_declared(&mut self) -> Result<(), StartFault> {
        let declared = std::mem::take(&mut self.declared);
        declared.iter().try_for_each(ChildSpec::check_name)?;
        let orders = self.children.declare(declared.iter().map(ChildSpec::rules).collect())?;
        for (order, spec) in orders.into_iter().zip(declared) {
            self.add(order, spec);
        }
        let mut last = None;
        match self.play(false, &mut last).await {
            Ok(()) => Ok(()),
            Err(Over) => {
                self.stop_all().await;
                Err(match last {
                    Some(Err(error)) => StartFault::Child(Box::new(error)),
                    Some(Ok(_)) | None => StartFault::Failed(ExitReason::Shutdown),
                })
            }
        }
    }

    /// Takes the planned steps, and leaves the outcome of the last start in `last`.
    async fn play(
        &mut self,
        requested: bool,
        last: &mut Option<Result<Begun, StartError>>,
    ) -> Result<(), Over> {
        while let Some(step) = self.children.next_step() {
            match step {
                Step::Start(order) => {
                    let begun = self.start(order, requested).await;
                    *last = Some(begun);
                }
                Step::Counted(now) => self.node.count_restart(now),
                Step::Stop(order, pid) => self.stop(order, pid).await,
                Step::Expect(order) => self.at(order, |slot| slot.node.coming()),
                Step::Leave(order) => self.at(order, |slot| slot.node.stopped()),
                Step::Dismiss(order) => self.at(order, |slot| {
                    slot.node.stopped();
                    slot.node.gone();
                }),
                Step::Forget(order) => self.forget(order),
                Step::Report(order, reason) => {
                    if let Some(slot) = self.slots.get(&order)
                        && self.context.is_heard()
                    {
                        let offender = slot.spec.offender(slot.process());
                        let event = LifecycleEvent::ChildTerminated { reason, offender };
                        self.report(event);
                    }
                }
                Step::Retry { order, generation, after } => {
                    self.at(order, |slot| slot.node.backing_off());
                    match after {
                        Some(after) => {
                            self.waiting.add(self.context.clock(), after, order, generation);
                        }
                        // The shell holds the receiver's other end.
                        None => drop(self.mail.send(Mail::Retry { order, generation })),
                    }
                }
                Step::BudgetSpent(order) => {
                    if let Some(slot) = self.slots.get(&order) {
                        slot.node.parked();
                        let spent = LifecycleEvent::BudgetSpent;
                        self.context.tell(&slot.node, slot.process().as_ref(), spent);
                    }
                }
                Step::GaveUp(order) => {
                    self.node.gave_up();
                    if let Some(slot) = self.slots.get(&order) {
                        slot.node.stopped(); // SUP-134
                        let offender = slot.spec.offender(slot.process());
                        self.report(LifecycleEvent::GaveUp { offender });
                    }
                }
                Step::End => return Err(Over),
            }
        }
        Ok(())
    }

    async fn start(&mut self, order: Order, requested: bool) -> Result<Begun, StartError> {
        let Some(slot) = self.slots.get_mut(&order) else {
            // Not reached: what is planned is there.
            return Ok(Begun { life: None, extra: None });
        };
        if std::mem::take(&mut slot.replaced) {
            slot.node = self.node.replace_child(&slot.node, shown(&slot.spec));
        }
        let (spec, node) = (slot.spec.clone(), slot.node.clone());
        let report = Report::new(&self.mail, order);
        let cx = StartCx::new(&self.context, &node, requested, Some(report));
        let process = cx.process.clone();
        let begun = spec.start(cx, self.plan.arguments.clone()).await;
        let how = match &begun {
            Ok(Begun { life: Some(life), .. }) => Started::Up(life.pid()),
            Ok(Begun { life: None, .. }) => Started::Ignored,
            Err(_) => Started::Failed,
        };
        if let (Err(error), false) = (&begun, requested) {
            let reason = error.reason.exit_reason();
            let offender = spec.offender(Some(process));
            self.report(LifecycleEvent::StartError { reason, offender });
        }
        if let (Ok(begun), Some(slot)) = (&begun, self.slots.get_mut(&order)) {
            slot.life.clone_from(&begun.life);
            if slot.spec.restart == Restart::Temporary {
                slot.spec = slot.node.shared_spec(); // SUP-073
            }
        }
        self.children.started(order, how, self.context.clock().now());
        begun
    }

    async fn stop(&self, order: Order, pid: Pid) {
        if let Some(StopFault { reason, offender }) = self.stop_quietly(order, pid).await {
            self.report(LifecycleEvent::ShutdownError { reason, offender });
        }
    }

    /// As [`stop`](Self::stop), leaving the report to the caller.
    async fn stop_quietly(&self, order: Order, pid: Pid) -> Option<StopFault> {
        let slot = self.slots.get(&order)?;
        let life = slot.life.as_ref().filter(|life| life.pid() == pid)?;
        stopping::stop(self.stopping(slot, life)).await
    }

    fn stopping<'a>(&'a self, slot: &'a Slot, life: &'a Life) -> Stopping<'a> {
        Stopping {
            context: &self.context,
            node: &slot.node,
            spec: &slot.spec,
            life,
            rules: self.plan.ends.rules(),
        }
    }

    /// Makes room for a child. The tree, which outlives it, holds nothing that was captured to start
    /// a temporary one (SUP-073).
    fn add(&mut self, order: Order, spec: ChildSpec) -> Arc<Node> {
        let spec = Arc::new(spec);
        let node = self.node.add_child(shown(&spec), order);
        self.slots.insert(order, Slot { spec, node: node.clone(), life: None, replaced: false });
        node
    }

    /// A report of this supervisor's own.
    fn report(&self, event: LifecycleEvent) {
        self.context.tell(&self.node, self.node.process().as_ref(), event);
    }

    fn at(&self, order: Order, tell: impl FnOnce(&Slot)) {
        if let Some(slot) = self.slots.get(&order) {
            tell(slot);
        }
    }

    fn forget(&mut self, order: Order) {
        if let Some(slot) = self.slots.remove(&order) {
            slot.node.gone();
            self.node.remove_child(order);
        }
    }

    /// Table 5.5. Callers that have left do not matter (SUP-206).
    async fn serve(&mut self, request: Request) -> Result<(), Over> {
        match request {
            Request::StartChild { spec, reply } => {
                let result = self.start_child(*spec).await?;
                answer(reply, result);
            }
            Request::TerminateChild { which, reply } => {
                let planned = self.order_of(&which).and_then(|order| {
                    self.children.terminate_child(order).map_err(|it| self.refused(it, &which))
                });
                self.play(true, &mut None).await?;
                answer(reply, planned);
            }
            Request::RestartChild { id, reply } => {
                let result = self.restart_child(Which::Id(id)).await?;
                answer(reply, result);
            }
            Request::DeleteChild { id, reply } => {
                let which = Which::Id(id);
                let planned = self.order_of(&which).and_then(|order| {
                    self.children.delete_child(order).map_err(|it| self.refused(it, &which))
                });
                self.play(true, &mut None).await?;
                answer(reply, planned);
            }
            Request::GetChildSpec { which, reply } => {
                let missing = || RequestError::NotFound(which.id().clone());
                let slot = self.order_of(&which).map(|order| self.slots.get(&order));
                answer(
                    reply,
                    slot.and_then(|slot| {
                        slot.map(|it| ChildSpec::clone(&it.spec)).ok_or_else(missing)
                    }),
                );
            }
            Request::Reconfigure { flags, keeps, children, reply } => {
                answer(reply, self.reconfigure(flags, keeps, children));
            }
        }
        Ok(())
    }

    async fn start_child(
        &mut self,
        mut spec: ChildSpec,
    ) -> Result<Result<NewChild, RequestError>, Over> {
        spec.child_ids_repeat = matches!(self.plan.keeps, Keeps::Instances { .. });
        spec.restart_budget = spec.restart_budget.or(self.plan.child_budget);
        let which = Which::Id(spec.id.clone());
        let order = match self.children.start_child(spec.rules()) {
            Ok(order) => order,
            Err(refusal) => return Ok(Err(self.refused(refusal, &which))),
        };
        let place = Arc::downgrade(&self.add(order, spec));
        let mut last = None;
        self.play(true, &mut last).await?;
        let new = begun(last, &which).map(|(life, extra)| {
            let process = self.slots.get(&order).and_then(Slot::process);
            NewChild { order, node: place, life, start: ChildStart { process, extra } }
        });
        Ok(new)
    }

    async fn restart_child(
        &mut self,
        which: Which,
    ) -> Result<Result<ChildStart, RequestError>, Over> {
        let order = match self.order_of(&which) {
            Ok(order) => order,
            Err(missing) => return Ok(Err(missing)),
        };
        if let Err(refusal) = self.children.restart_child(order) {
            return Ok(Err(self.refused(refusal, &which)));
        }
        let mut last = None;
        self.play(true, &mut last).await?;
        let process = self.slots.get(&order).and_then(Slot::process);
        Ok(begun(last, &which).map(|(_, extra)| ChildStart { process, extra }))
    }

    fn reconfigure(
        &mut self,
        flags: Flags,
        keeps: Keeps,
        children: Vec<ChildSpec>,
    ) -> Result<(), RequestError> {
        let rules = children.iter().map(ChildSpec::rules).collect();
        let orders = self.children.reconfigure(flags, keeps, rules)?;
        for (order, spec) in orders.into_iter().zip(children) {
            if let Some(slot) = self.slots.get_mut(&order) {
                slot.node.restarts_by(spec.restart);
                slot.spec = Arc::new(spec);
                slot.replaced = true;
            } else {
                self.add(order, spec).stopped();
            }
        }
        self.node.publish_intensity(self.children.intensity());
        Ok(())
    }

    fn order_of(&self, which: &Which) -> Result<Order, RequestError> {
        let missing = || RequestError::NotFound(which.id().clone());
        match which {
            Which::Id(id) => self.children.find(id).ok_or_else(missing),
            Which::Node { order, node, .. } => {
                let slot = self.slots.get(order).ok_or_else(missing)?;
                // Orders begin anew with every life of the supervisor; nodes are never the same.
                std::ptr::eq(Arc::as_ptr(&slot.node), node.as_ptr())
                    .then_some(*order)
                    .ok_or_else(missing)
            }
        }
    }

    fn refused(&self, refusal: Refusal, which: &Which) -> RequestError {
        let id = || which.id().clone();
        match refusal {
            Refusal::AlreadyStarted(order) => {
                match self.slots.get(&order).and_then(Slot::process) {
                    Some(process) => RequestError::AlreadyStarted(process),
                    None => RequestError::AlreadyPresent(id()),
                }
            }
            Refusal::AlreadyPresent => RequestError::AlreadyPresent(id()),
            Refusal::Running => RequestError::Running(id()),
            Refusal::Restarting => RequestError::Restarting(id()),
            Refusal::NotFound => RequestError::NotFound(id()),
            Refusal::MaxChildren(max) => RequestError::MaxChildren(max),
            Refusal::Invalid(error) => RequestError::Invalid(error),
        }
    }

    /// Whether static children come back is decided above: their addresses wait until then. Those
    /// of a dynamic supervisor do not come back with it.
    async fn stop_all(&mut self) {
        let order = self.children.end();
        match self.plan.ends {
            Ends::InTurn => {
                for (order, pid) in order {
                    if let Some(pid) = pid {
                        self.stop(order, pid).await;
                    }
                    self.at(order, |slot| {
                        slot.node.stopped();
                        slot.node.coming();
                    });
                }
            }
            Ends::AtOnce => {
                let running = order.iter().filter_map(|(order, pid)| Some((*order, (*pid)?)));
                join_all(running.map(|(order, pid)| self.stop(order, pid))).await;
                for (order, _) in order {
                    self.forget(order);
                }
            }
            Ends::AsOne => {
                let running = order.iter().filter_map(|(order, pid)| Some((*order, (*pid)?)));
                let faults = running.map(|(order, pid)| self.stop_quietly(order, pid));
                self.tell_as_one(join_all(faults).await.into_iter().flatten());
                for (order, _) in order {
                    self.forget(order);
                }
            }
        }
    }

    /// One report for all that failed for the same reason.
    fn tell_as_one(&self, faults: impl Iterator<Item = StopFault>) {
        // Reasons have no order of their own; their texts tell them apart.
        let mut same: BTreeMap<String, (StopFault, usize)> = BTreeMap::new();
        for fault in faults {
            same.entry(format!("{:?}", fault.reason)).or_insert((fault, 0)).1 += 1;
        }
        for (StopFault { reason, mut offender }, count) in same.into_values() {
            offender.process = None;
            let event = LifecycleEvent::ShutdownErrors { reason, offender, count };
            self.report(event);
        }
    }

    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Mail>,
        stop: StopToken,
        starting: Acknowledge,
    ) -> ExitReason {
        if let Err(fault) = self.start_declared().await {
            let reason = fault.exit_reason();
            starting.fails(fault);
            return reason;
        }
        self.node.publish_intensity(self.children.intensity());
        starting.works();
        loop {
            let clock = self.context.clock();
            let mail = tokio::select! {
                biased;
                () = stop.stopped() => break,
                (order, generation) = self.waiting.next(clock) => {
                    // Behind what is in the mailbox (SUP-106): a restart that is due again and again
                    // lets everybody else have a turn.
                    drop(self.mail.send(Mail::Retry { order, generation }));
                    continue;
                }
                Some(mail) = inbox.recv() => mail,
            };
            if let Err(Over) = self.turn(mail).await {
                break;
            }
        }
        // From here on nobody reads what arrives: those who asked are told of the end.
        drop(inbox);
        self.stop_all().await;
        // Giving up is an end in good order (SUP-129); a stop says why itself (SUP-149).
        stop.reason().cloned().unwrap_or(ExitReason::Shutdown)
    }

    async fn turn(&mut self, mail: Mail) -> Result<(), Over> {
        let now = self.context.clock().now();
        match mail {
            Mail::Exited { order, pid, reason, at } => {
                self.children.exited(order, pid, &reason, at, now);
            }
            Mail::Retry { order, generation } => self.children.retry_due(order, generation, now),
            Mail::Request(request) => return self.serve(request).await,
        }
        self.play(false, &mut None).await
    }
}

/// What a start that was asked for answers.
fn begun(
    last: Option<Result<Begun, StartError>>,
    which: &Which,
) -> Result<(Option<Life>, Option<Extra>), RequestError> {
    match last {
        Some(Ok(Begun { life, extra })) => Ok((life, extra)),
        Some(Err(StartError { reason: StartFault::AlreadyStarted(holder), .. })) => {
            Err(RequestError::AlreadyStarted(holder)) // SUP-183, DYN-013
        }
        Some(Err(error)) => Err(RequestError::StartFailed(error)),
        None => Err(RequestError::NotFound(which.id().clone())),
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T, RequestError>) {
    // A caller that has left does not want it.
    drop(reply.send(result));
}
