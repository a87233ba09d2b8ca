//! Drives the machine of a supervisor's decisions: feeds it what happens, takes the steps it plans.

mod ends;
mod requests;

use std::{collections::HashMap, sync::Arc};

use perennial_core::{
    ExitReason, Restart,
    intensity::IntensityLimit,
    supervisor::{Children, Flags, Keeps, Order, SpecError, Started, Step},
};
use tokio::sync::mpsc;

pub(crate) use self::ends::Ends;
use super::{Acknowledge, Mail, Waiting};
use crate::{
    ChildSpec, Extra, LifecycleEvent, ProcessRef, StartError, StartFault, StopToken,
    child::{Begun, StartCx, Superior},
    context::Context,
    life::Life,
    node::Node,
    stopping::Patience,
};

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
    /// Into `mail` as well.
    superior: Arc<dyn Superior>,
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
            superior: Arc::new(mail.clone()),
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
        declared.iter().try_for_each(ChildSpec::check_alone)?;
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
        let mut patience = Patience::default();
        while let Some(step) = self.children.next_step() {
            match step {
                Step::Start(order) => {
                    let begun = self.start(order, requested).await;
                    *last = Some(begun);
                }
                Step::Counted(now) => {
                    // Decided upon by the machine.
                    let _ = self.node.count_restart(now);
                }
                Step::Stop(order, pid) => self.stop(order, pid, &mut patience).await,
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
        let superior = Some((self.superior.clone(), order));
        let cx = StartCx::new(&self.context, &node, requested, superior);
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
