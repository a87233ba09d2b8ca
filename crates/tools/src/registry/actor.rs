//! The shell: looks at the shelf, asks the [`Catalog`], replies. No decision is made here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use perennial_supervision::actor::{Actor, ActorError, ActorRef, RpcReply as ReplyPort};

use super::{
    AcquireError, Permit,
    catalog::{Catalog, Patience, PermitId, Verdict},
    shelf::Shelf,
};
use crate::tool::ToolName;

type Reply = ReplyPort<Result<Permit, AcquireError>>;

#[derive(Debug)]
pub(super) struct Shell {
    pub(super) at_work: AtWork,
}

/// Calls in flight and callers in line, by tool, for the dump; tools that rest are not in it.
#[derive(Clone, Debug, Default)]
pub(super) struct AtWork(Arc<Mutex<BTreeMap<ToolName, (usize, usize)>>>);

impl AtWork {
    fn set(&self, tool: ToolName, load: (usize, usize)) {
        let mut tools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if load == (0, 0) {
            tools.remove(&tool);
        } else {
            tools.insert(tool, load);
        }
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn totals(&self) -> (usize, usize) {
        let tools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tools.values().fold((0, 0), |(calls, waiting), load| (calls + load.0, waiting + load.1))
    }
}

#[derive(Debug)]
pub(super) enum Message {
    Acquire { tool: ToolName, patience: Patience, reply: Reply },
    Returned { tool: ToolName, permit: PermitId },
    Status { reply: ReplyPort<Vec<ToolStatus>> },
}

impl Message {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Acquire { .. } => "acquire",
            Self::Returned { .. } => "returned",
            Self::Status { .. } => "status",
        }
    }

    /// The tool whose load it may change.
    fn tool(&self) -> Option<&ToolName> {
        match self {
            Self::Acquire { tool, .. } | Self::Returned { tool, .. } => Some(tool),
            Self::Status { .. } => None,
        }
    }
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
        let touched = message.tool().cloned();
        match message {
            Message::Acquire { tool, patience, reply } => match shelf.get(&tool) {
                None => refuse(reply, shelf.unknown(&tool)),
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
                        refuse(reply, shelf.unknown(&tool));
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
        if let Some(tool) = touched {
            let load = catalog.load(&tool);
            self.at_work.set(tool, load);
        }
        Ok(())
    }
}
