//! How children are stopped: one, and all of them when their supervisor stops.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use perennial_core::{
    child::StopRules,
    supervisor::{Order, Pid},
};

use super::{Shell, Slot};
use crate::{
    LifecycleEvent,
    life::Life,
    stopping::{self, Patience, StopFault, Stopping},
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

impl Shell {
    pub(super) async fn stop(&self, order: Order, pid: Pid, patience: &mut Patience) {
        let fault = self.stop_quietly(order, pid, patience).await;
        if let Some(StopFault { reason, offender }) = fault {
            self.report(LifecycleEvent::ShutdownError { reason, offender });
        }
    }

    /// As [`stop`](Self::stop), leaving the report to the caller.
    async fn stop_quietly(
        &self,
        order: Order,
        pid: Pid,
        patience: &mut Patience,
    ) -> Option<StopFault> {
        let slot = self.slots.get(&order)?;
        let life = slot.life.as_ref().filter(|life| life.pid() == pid)?;
        stopping::stop(self.stopping(slot, life), patience).await
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

    /// Whether static children come back is decided above: their addresses wait until then. Those
    /// of a dynamic supervisor do not come back with it.
    pub(super) async fn stop_all(&mut self) {
        let order = self.children.end();
        match self.plan.ends {
            Ends::InTurn => {
                let mut patience = Patience::default();
                for (order, pid) in order {
                    if let Some(pid) = pid {
                        self.stop(order, pid, &mut patience).await;
                    }
                    self.at(order, |slot| {
                        slot.node.stopped();
                        slot.node.coming();
                    });
                }
            }
            Ends::AtOnce => {
                let this = &*self;
                let running = order.iter().filter_map(|(order, pid)| Some((*order, (*pid)?)));
                let stops = running.map(|(order, pid)| async move {
                    this.stop(order, pid, &mut Patience::default()).await;
                });
                join_all(stops).await;
                for (order, _) in order {
                    self.forget(order);
                }
            }
            Ends::AsOne => {
                let this = &*self;
                let running = order.iter().filter_map(|(order, pid)| Some((*order, (*pid)?)));
                let faults = running.map(|(order, pid)| async move {
                    this.stop_quietly(order, pid, &mut Patience::default()).await
                });
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
}
