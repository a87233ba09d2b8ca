//! What a supervisor is asked: one request a turn, answered when all of its steps are taken.

use std::sync::Arc;

use perennial_core::supervisor::{Flags, Keeps, Order, Refusal};

use super::{Over, Shell, Slot};
use crate::{
    ChildSpec, Extra, StartError, StartFault,
    child::Begun,
    life::Life,
    supervisor::request::{ChildStart, NewChild, Reply, Request, RequestError, Which},
};

impl Shell {
    /// Table 5.5. Callers that have left do not matter (SUP-206).
    pub(super) async fn serve(&mut self, request: Request) -> Result<(), Over> {
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
