//! Where to send messages, whichever incarnation is alive.

mod failed;
mod incarnation;
mod info;
mod request;
mod send;
mod stop;

use std::{fmt, sync::Arc, time::Duration};

use perennial_core::ExitReason;

pub use self::{
    failed::Failed,
    info::{ProcessInfo, ProcessStatus},
    request::{Expired, PendingRequest, Reply, ReplyPort, RequestSet},
    send::SendError,
};
pub(crate) use self::{
    incarnation::{Incarnation, Post, Refused},
    request::Awaited,
};
pub(crate) use self::send::room_of;
use self::{request::Asked, send::room};
use crate::{
    Monitor, ProcessRef, light,
    presence::{Presence, Publisher, channel},
    process::is_current,
};

/// How long [`Address::ask`] waits: OTP's default (GS-019).
pub const CALL_WITHIN: Duration = Duration::from_secs(5);

/// Where to send messages of type `M`, whichever incarnation is alive. Cheap to clone.
///
/// A message is delivered at most once: a call that an exit caught is never repeated by the
/// address, for only the caller knows whether that is safe. What one sender sends to one incarnation
/// is handled in that order, whichever way it is sent (GS-033).
pub struct Address<M> {
    to: To<M>,
}

/// What is behind an address.
enum To<M> {
    /// A child, each of whose incarnations is published.
    Child(Presence<Incarnation<M>>),
    /// A light server, which is the same over its incarnations.
    Light(Arc<light::Cell<M>>),
}

impl<M: Send + 'static> To<M> {
    /// The present incarnation, if there is one now.
    fn now(&self) -> Option<Incarnation<M>> {
        match self {
            Self::Child(presence) => presence.now(),
            Self::Light(cell) => cell.now(),
        }
    }

    /// The present incarnation; waits while one is coming, and answers none when nothing comes. The caller
    /// brings the deadline.
    async fn current(&self) -> Option<Incarnation<M>> {
        match self {
            Self::Child(presence) => presence.current().await.ok(),
            Self::Light(cell) => Box::pin(cell.current()).await,
        }
    }
}

impl<M> To<M> {
    fn path(&self) -> Option<Arc<str>> {
        match self {
            Self::Child(presence) => presence.path().map(Arc::from),
            Self::Light(cell) => Some(cell.path()),
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
    /// As many messages wait as its [`Mailbox`](crate::Mailbox) takes, [`MAILBOX_MAX`](crate::MAILBOX_MAX)
    /// as a rule.
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
    /// As many messages wait as its [`Mailbox`](crate::Mailbox) takes.
    #[error("the mailbox is full")]
    Full,
}

impl<M: Send + 'static> Address<M> {
    pub(crate) fn channel() -> (Publisher<Incarnation<M>>, Self) {
        let (publisher, presence) = channel();
        (publisher, Self { to: To::Child(presence) })
    }

    pub(crate) fn of_light(cell: Arc<light::Cell<M>>) -> Self {
        Self { to: To::Light(cell) }
    }

    /// Asks and waits; `within` bounds waiting for an incarnation, for room, in the queue and for the reply.
    ///
    /// Waits for an incarnation only while the supervisor will bring one, and for room only where the
    /// [`Mailbox`](crate::Mailbox) lets callers wait.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. After [`CallError::Exited`] and [`CallError::Timeout`] the request may
    /// or may not have been handled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request; its reply is dropped.
    pub async fn call<P: ReplyPort>(
        &self,
        request: impl FnOnce(P) -> M,
        within: Duration,
    ) -> Result<P::Reply, CallError> {
        let presence = match &self.to {
            To::Child(presence) => presence,
            To::Light(cell) => return light::call(cell, request, within).await,
        };
        let attempt = async {
            let life = presence.current().await.map_err(|_| CallError::NoProc)?;
            if is_current(life.process()) {
                return Err(CallError::CallingSelf);
            }
            let place = room(&life).await.map_err(CallError::Exited)?;
            Asked::send(&life, request, place).reply(life.process()).await
        };
        tokio::time::timeout(within, attempt).await.unwrap_or(Err(CallError::Timeout))
    }

    /// As [`call`](Self::call), within [`CALL_WITHIN`].
    ///
    /// # Errors
    ///
    /// See [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// See [`call`](Self::call).
    pub async fn ask<P: ReplyPort>(
        &self,
        request: impl FnOnce(P) -> M,
    ) -> Result<P::Reply, CallError> {
        self.call(request, CALL_WITHIN).await
    }

    /// Asks the present incarnation, and leaves the answer for later. Whatever prevents it is told
    /// where the answer is awaited. Never waits for room.
    pub fn send_request<P: ReplyPort>(
        &self,
        request: impl FnOnce(P) -> M,
    ) -> PendingRequest<P::Reply> {
        let life = self.to.now().ok_or(CallError::NoProc);
        PendingRequest::new(life.map(|life| Awaited::send(&life, request)))
    }

    /// Tells and forgets; nothing waits and nothing is repeated, whatever the target is.
    ///
    /// # Errors
    ///
    /// When no incarnation runs now, or its mailbox is full, unless its [`Mailbox`](crate::Mailbox) drops
    /// what comes then. It is safe to ignore that, as OTP's cast does: an accepted message may be lost
    /// with its incarnation as well (GS-032).
    pub fn cast(&self, message: M) -> Result<(), CastError> {
        let presence = match &self.to {
            To::Child(presence) => presence,
            To::Light(cell) => return light::cast(cell, message),
        };
        presence.now().ok_or(CastError::NoProc)?.post(message, None).or_else(|why| match why {
            Refused::Dropped => Ok(()),
            Refused::Full => Err(CastError::Full),
            Refused::NoProc | Refused::Stranger => Err(CastError::NoProc),
        })
    }

    /// The present incarnation, if there is one now (GS-063).
    pub fn whereis(&self) -> Option<ProcessRef> {
        match &self.to {
            To::Child(presence) => presence.now().map(|life| life.process().clone()),
            To::Light(cell) => cell.process(),
        }
    }

    /// Watches the end of the present incarnation; [`ExitReason::NoProc`] at once when there is
    /// none (GS-060).
    pub fn monitor(&self) -> Monitor {
        self.whereis().map_or_else(Monitor::no_proc, |process| process.monitor())
    }

    pub(crate) fn now(&self) -> Option<Incarnation<M>> {
        self.to.now()
    }
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        let to = match &self.to {
            To::Child(presence) => To::Child(presence.clone()),
            To::Light(cell) => To::Light(cell.clone()),
        };
        Self { to }
    }
}

impl<M> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("path", &self.to.path()).finish_non_exhaustive()
    }
}
