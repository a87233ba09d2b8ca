//! The shell: looks at the shelf, replies. What is counted lies there, and no decision is made here.

use perennial_supervision::actor::{Actor, ActorError, ActorRef, RpcReply as ReplyPort};

use super::{AcquireError, shelf::Shelf};
use crate::{
    protection::{Permit as Slot, Permits},
    tool::ToolName,
};

type Reply = ReplyPort<Result<Turn, AcquireError>>;

#[derive(Debug)]
pub(super) struct Shell;

/// Whether to wait for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Now or not at all.
    None,
    /// Behind those who came before.
    InLine,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Turn {
    /// A slot was free. Given back with the reply when the caller has left.
    Now(Slot),
    /// The caller waits itself, here.
    InLine(Permits),
}

#[derive(Debug)]
pub(super) enum Message {
    Acquire { tool: ToolName, patience: Patience, owner: String, reply: Reply },
    Status { reply: ReplyPort<Vec<ToolStatus>> },
}

impl Message {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Acquire { .. } => "acquire",
            Self::Status { .. } => "status",
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
    /// Who calls: the paths of their processes, oldest call first.
    pub callers: Vec<String>,
}

impl Actor for Shell {
    type Msg = Message;
    type State = Shelf;
    type Arguments = Shelf;

    async fn pre_start(&self, _me: ActorRef<Message>, shelf: Shelf) -> Result<Shelf, ActorError> {
        Ok(shelf)
    }

    async fn handle(
        &self,
        _me: ActorRef<Message>,
        message: Message,
        shelf: &mut Shelf,
    ) -> Result<(), ActorError> {
        match message {
            Message::Acquire { tool, patience, owner, reply } => {
                let turn = match (shelf.slots(&tool), patience) {
                    (None, _) => Err(shelf.unknown(&tool)),
                    (Some(slots), Patience::InLine) => Ok(Turn::InLine(slots)),
                    (Some(slots), Patience::None) => match slots.try_acquire(1, &owner) {
                        Ok(slot) => Ok(Turn::Now(slot)),
                        Err(_) => Err(AcquireError::Busy(tool)),
                    },
                };
                drop(reply.send(turn));
            }
            // Nobody left to read it.
            Message::Status { reply } => drop(reply.send(shelf.status())),
        }
        Ok(())
    }
}
