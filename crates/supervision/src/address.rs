use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use perennial_core::ExitReason;
use ractor::{ActorRef, Message, RpcReplyPort};
use tokio::sync::oneshot;

use crate::{
    life::{Ended, Pid},
    presence::{OneLife, Presence, Publisher, channel},
};

/// Messages that may wait in one mailbox; the next one is refused at the address.
pub const MAILBOX_MAX: u64 = 10_000;

tokio::task_local! {
    /// The incarnation whose code is running.
    pub(crate) static CURRENT: Pid;
}

/// Where to send messages of type `M`, whichever incarnation is alive. Cheap to clone.
///
/// A message is delivered at most once: a call that an exit caught is never repeated by the
/// address, for only the caller knows whether that is safe.
pub struct Address<M> {
    presence: Presence<Incarnation<M>>,
}

/// One life of an actor.
pub(crate) struct Incarnation<M> {
    pub(crate) pid: Pid,
    pub(crate) actor: ActorRef<M>,
    pub(crate) ended: Ended,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// How full a mailbox is.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    depth: AtomicU64,
}

impl Mailbox {
    pub(crate) fn depth(&self) -> u64 {
        self.depth.load(Ordering::Relaxed)
    }

    fn admit(&self) -> bool {
        let grow = |depth| (depth < MAILBOX_MAX).then_some(depth + 1);
        self.depth.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok()
    }

    /// A message left. Messages an actor sends itself past its address do not count.
    pub(crate) fn taken(&self) {
        let shrink = |depth: u64| Some(depth.saturating_sub(1));
        // The closure always answers.
        let _ = self.depth.fetch_update(Ordering::Relaxed, Ordering::Relaxed, shrink);
    }
}

impl<M> OneLife for Incarnation<M> {
    fn pid(&self) -> Pid {
        self.pid
    }
}

impl<M> Clone for Incarnation<M> {
    fn clone(&self) -> Self {
        Self {
            pid: self.pid,
            actor: self.actor.clone(),
            ended: self.ended.clone(),
            mailbox: self.mailbox.clone(),
        }
    }
}

/// Why a call produced no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No child is running and none is coming.
    #[error("no such child")]
    NoProc,
    /// The child ended while it held the request.
    #[error("the child ended before it replied: {0}")]
    Exited(ExitReason),
    /// The deadline passed.
    #[error("no reply within the deadline")]
    Timeout,
    /// The caller is the callee: the call would wait for itself.
    #[error("a child cannot call itself")]
    CallingSelf,
    /// [`MAILBOX_MAX`] messages wait already.
    #[error("the mailbox is full")]
    Full,
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CastError {
    /// No incarnation is running.
    #[error("no incarnation is running")]
    NoProc,
    /// [`MAILBOX_MAX`] messages wait already.
    #[error("the mailbox is full")]
    Full,
}

impl<M: Message> Address<M> {
    pub(crate) fn channel() -> (Publisher<Incarnation<M>>, Self) {
        let (publisher, presence) = channel();
        (publisher, Self { presence })
    }

    /// Asks and waits; `within` bounds waiting for an incarnation, the queue and the reply.
    ///
    /// Waits for an incarnation only while the supervisor will bring one.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. After [`CallError::Exited`] and [`CallError::Timeout`] the request may
    /// or may not have been handled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request; its reply is dropped.
    pub async fn call<R: Send + 'static>(
        &self,
        request: impl FnOnce(RpcReplyPort<R>) -> M,
        within: Duration,
    ) -> Result<R, CallError> {
        let attempt = async {
            let life = self.presence.current().await.map_err(|_| CallError::NoProc)?;
            if CURRENT.try_with(|pid| *pid == life.pid).unwrap_or(false) {
                return Err(CallError::CallingSelf);
            }
            if !life.mailbox.admit() {
                return Err(CallError::Full);
            }
            let (sender, mut reply) = oneshot::channel();
            if life.actor.send_message(request(sender.into())).is_err() {
                return Err(CallError::Exited(life.ended.wait().await));
            }
            tokio::select! {
                biased;
                Ok(reply) = &mut reply => Ok(reply),
                // A request that was sent at the very moment of the end lies in a mailbox that
                // nobody will read: that its reply port is not dropped says nothing.
                reason = life.ended.wait() => {
                    // What was replied before the end counts.
                    reply.try_recv().map_err(|_| CallError::Exited(reason))
                }
            }
        };
        tokio::time::timeout(within, attempt).await.unwrap_or(Err(CallError::Timeout))
    }

    /// Tells and forgets; nothing waits and nothing is repeated.
    ///
    /// # Errors
    ///
    /// When no incarnation runs now, or its mailbox is full.
    pub fn cast(&self, message: M) -> Result<(), CastError> {
        let life = self.presence.now().ok_or(CastError::NoProc)?;
        if !life.mailbox.admit() {
            return Err(CastError::Full);
        }
        life.actor.send_message(message).map_err(|_| CastError::NoProc)
    }
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self { presence: self.presence.clone() }
    }
}

impl<M> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
}
