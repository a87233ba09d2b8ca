//! The shell: looks at the shelf, asks the [`Catalog`], replies. No decision is made here.

use perennial_supervision::actor::{Actor, ActorError, ActorRef, RpcReply as ReplyPort};

use super::{
    AcquireError, Permit,
    catalog::{Catalog, Patience, PermitId, Verdict},
    shelf::Shelf,
};
use crate::tool::ToolName;

type Reply = ReplyPort<Result<Permit, AcquireError>>;

#[derive(Debug)]
pub(super) struct Shell;

#[derive(Debug)]
pub(super) enum Message {
    Acquire { tool: ToolName, patience: Patience, reply: Reply },
    Returned { tool: ToolName, permit: PermitId },
    Status { reply: ReplyPort<Vec<ToolStatus>> },
}

/// One line of the registry's status.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ToolStatus {
    /// The tool.
    pub tool: ToolName,
    /// Calls in flight.
    pub calls: usize,
    /// Calls that may be in flight.
    pub calls_max: u32,
    /// Callers in line.
    pub waiting: usize,
}

pub(super) struct State {
    shelf: Shelf,
    catalog: Catalog<Reply>,
}

impl Actor for Shell {
    type Msg = Message;
    type State = State;
    type Arguments = Shelf;

    async fn pre_start(&self, _me: ActorRef<Message>, shelf: Shelf) -> Result<State, ActorError> {
        Ok(State { shelf, catalog: Catalog::new() })
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        State { shelf, catalog }: &mut State,
    ) -> Result<(), ActorError> {
        // A reply carries the guard: if the caller has left, the guard gives the slot back.
        let grant = |tool: &ToolName, (id, reply): (PermitId, Reply)| {
            drop(reply.send(Ok(Permit::new(tool.clone(), id, me.clone()))));
        };
        let refuse = |reply: Reply, error: AcquireError| drop(reply.send(Err(error)));
        match message {
            Message::Acquire { tool, patience, reply } => match shelf.get(&tool) {
                None => refuse(reply, AcquireError::UnknownTool(tool)),
                Some(spec) => {
                    let still_there = |reply: &Reply| !reply.is_closed();
                    match catalog.acquire(&tool, spec.limit(), patience, reply, still_there) {
                        Verdict::Granted(id, reply) => grant(&tool, (id, reply)),
                        Verdict::Waits => (),
                        Verdict::Refused(reply) => refuse(reply, AcquireError::Busy(tool)),
                    }
                }
            },
            Message::Returned { tool, permit } => {
                let limit = shelf.get(&tool).map(|spec| spec.limit());
                for next in catalog.give_back(&tool, permit, limit.unwrap_or(0)) {
                    grant(&tool, next);
                }
                if limit.is_none() {
                    for reply in catalog.dismiss(&tool) {
                        refuse(reply, AcquireError::UnknownTool(tool.clone()));
                    }
                }
            }
            Message::Status { reply } => {
                let line = |spec: crate::tool::Tool| {
                    let (calls, waiting) = catalog.load(spec.name());
                    let (tool, calls_max) = (spec.name().clone(), spec.limit());
                    ToolStatus { tool, calls, calls_max, waiting }
                };
                // Nobody left to read it.
                drop(reply.send(shelf.list().into_iter().map(line).collect()));
            }
        }
        Ok(())
    }
}
