use std::{any::Any, ops::Deref, sync::Arc};

use perennial_core::ExitReason;
use tokio::sync::Semaphore;

use super::ProcessStatus;
use crate::{ProcessRef, life::Pid, load::Place, presence::OneLife};

/// One life of an actor, as an address reaches it. Cheap to clone: each call does.
pub(crate) struct Incarnation<M>(Arc<dyn Post<M>>);

impl<M> Incarnation<M> {
    pub(crate) fn new(post: Arc<dyn Post<M>>) -> Self {
        Self(post)
    }
}

impl<M> Deref for Incarnation<M> {
    type Target = dyn Post<M>;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// How a life is reached, whatever kind of actor it is. None of these waits.
pub(crate) trait Post<M>: Send + Sync {
    /// Which life it is.
    fn process(&self) -> &ProcessRef;

    /// Puts `message` behind those that wait: in its `place`, where that was waited for.
    fn post(&self, message: M, place: Option<Place<'_>>) -> Result<(), Refused>;

    /// Where its senders wait for room, if its mailbox lets them.
    fn room(&self) -> Option<&Semaphore>;

    /// Asks for the end, with cleanup, behind what waits; the first reason counts.
    fn terminate(&self, reason: &ExitReason);

    /// What it is at, how much waits, and what it watches.
    fn look(&self) -> (ProcessStatus, u64, Vec<ProcessRef>);

    /// Hands over what a debugger asks for. Only its own kind of server understands it.
    fn inspect(&self, request: Box<dyn Any + Send>) -> Result<(), Refused>;
}

/// Why a message, or a debugger's request, was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NoProc,
    Full,
    /// It is full, and nobody is to be told.
    Dropped,
    /// It is another kind of server.
    Stranger,
}

impl<M> OneLife for Incarnation<M> {
    fn pid(&self) -> Pid {
        self.process().pid()
    }

    fn path(&self) -> Option<Arc<str>> {
        Some(self.process().ended().shared_path())
    }
}

impl<M> Clone for Incarnation<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
