//! Where to send messages, whichever incarnation is alive.

mod failed;
mod incarnation;
mod info;
mod request;
mod send;
mod slot;
mod stop;

use std::{any::Any, fmt, pin::pin, sync::Arc, time::Duration};

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
use self::{request::Asked, send::room};
pub(crate) use self::{
    send::room_of,
    slot::{Expected, Held, slot},
};
use crate::{
    Monitor, ProcessRef, deadline, light,
    names::{Answers, AnyAddress, put},
    presence::{Presence, Publisher, Shared, channel},
    process::is_current,
};

/// How long [`Address::ask`] waits: OTP's default (GS-019).
///
/// ```
/// assert_eq!(perennial_supervision::CALL_WITHIN.as_secs(), 5);
/// ```
pub const CALL_WITHIN: Duration = Duration::from_secs(5);

/// Where to send messages of type `M`, whichever incarnation is alive. Cheap to clone.
///
/// A message is delivered at most once: a call that an exit caught is never repeated by the
/// address, for only the caller knows whether that is safe. What one sender sends to one incarnation
/// is handled in that order, whichever way it is sent (GS-033).
///
/// ```
/// use perennial_supervision::Address;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (spec, counter): (ChildSpec, Address<Ask>) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// counter.cast(Ask::Add(2))?; // told, and nothing is waited for
/// assert_eq!(counter.ask(Ask::Sum).await?, 2); // asked, and its answer
/// // It crashes and comes back: the address leads to the next incarnation, which begins anew.
/// counter.cast(Ask::Fail)?;
/// counter.monitor().down().await;
/// assert_eq!(counter.ask(Ask::Sum).await?, 0);
/// # root.shutdown().await; Ok(()) }
/// ```
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
///
/// ```
/// use perennial_supervision::CallError;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let within = Duration::from_secs(1);
/// assert_eq!(counter.call(Ask::Never, within).await, Err(CallError::Timeout));
/// // It ends before it comes to the question.
/// counter.cast(Ask::Fail)?;
/// assert!(matches!(counter.call(Ask::Sum, within).await, Err(CallError::Exited(_))));
/// root.shutdown().await;
/// assert_eq!(counter.call(Ask::Sum, within).await, Err(CallError::NoProc));
/// # Ok(()) }
/// ```
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
///
/// ```
/// use perennial_supervision::{CastError, Mailbox};
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// let spec = spec.mailbox(Mailbox::new(1));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// counter.cast(Ask::Add(1))?;
/// assert_eq!(counter.cast(Ask::Add(1)), Err(CastError::Full)); // the first one waits still
/// root.shutdown().await;
/// assert_eq!(counter.cast(Ask::Add(1)), Err(CastError::NoProc));
/// # Ok(()) }
/// ```
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

    /// Without its type.
    pub(crate) fn any(&self) -> AnyAddress {
        AnyAddress::new(match &self.to {
            To::Child(presence) => presence.shared(),
            To::Light(cell) => cell.clone(),
        })
    }

    /// Asks and waits; `within` bounds waiting for an incarnation, for room, in the queue and for the reply.
    /// [`Duration::MAX`] is OTP's `infinity`: the caller waits for the reply, or for the end of the child.
    ///
    /// Waits for an incarnation only while the supervisor will bring one, and for room only where the
    /// [`Mailbox`](crate::Mailbox) lets callers wait.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// counter.cast(Ask::Add(2))?;
    /// let sum: u32 = counter.call(Ask::Sum, Duration::from_secs(1)).await?;
    /// assert_eq!(sum, 2);
    /// # root.shutdown().await; Ok(()) }
    /// ```
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
        let attempt = pin!(async {
            let life = presence.current().await.map_err(|_| CallError::NoProc)?;
            if is_current(life.process()) {
                return Err(CallError::CallingSelf);
            }
            let place = room(&life).await.map_err(CallError::Exited)?;
            Asked::send(&life, request, place).reply(life.process()).await
        });
        deadline::within(within, attempt).await.unwrap_or(Err(CallError::Timeout))
    }

    /// As [`call`](Self::call), within [`CALL_WITHIN`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// // As `counter.ask(|reply| Ask::Sum(reply))`.
    /// assert_eq!(counter.ask(Ask::Sum).await?, 0);
    /// # root.shutdown().await; Ok(()) }
    /// ```
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
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let sum = counter.send_request(Ask::Sum);
    /// // Here is time for something else.
    /// assert_eq!(sum.wait(Duration::from_secs(1)).await, Ok(0));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn send_request<P: ReplyPort>(
        &self,
        request: impl FnOnce(P) -> M,
    ) -> PendingRequest<P::Reply> {
        let life = self.to.now().ok_or(CallError::NoProc);
        PendingRequest::new(life.map(|life| Awaited::send(&life, request)))
    }

    /// Tells and forgets; nothing waits and nothing is repeated, whatever the target is.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// counter.cast(Ask::Add(1))?;
    /// counter.cast(Ask::Add(2))?;
    /// assert_eq!(counter.ask(Ask::Sum).await?, 3); // behind both: one sender is served in order
    /// # root.shutdown().await; Ok(()) }
    /// ```
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
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let process = counter.whereis().expect("it runs");
    /// assert_eq!(process.path(), "/app/counter");
    /// root.shutdown().await;
    /// assert_eq!(counter.whereis(), None);
    /// # Ok(()) }
    /// ```
    pub fn whereis(&self) -> Option<ProcessRef> {
        match &self.to {
            To::Child(presence) => presence.now().map(|life| life.process().clone()),
            To::Light(cell) => cell.process(),
        }
    }

    /// Watches the end of the present incarnation; [`ExitReason::NoProc`] at once when there is
    /// none (GS-060).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut monitor = counter.monitor();
    /// counter.cast(Ask::Fail)?;
    /// assert_eq!(monitor.down().await.name(), "panic");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn monitor(&self) -> Monitor {
        self.whereis().map_or_else(Monitor::no_proc, |process| process.monitor())
    }

    pub(crate) fn now(&self) -> Option<Incarnation<M>> {
        self.to.now()
    }
}

impl<M: Send + 'static> Answers for Shared<Incarnation<M>> {
    fn answer(self: Arc<Self>, place: &mut dyn Any) {
        put(Address { to: To::Child(Presence::of(self)) }, place);
    }
}

impl<M: Send + 'static> Answers for light::Cell<M> {
    fn answer(self: Arc<Self>, place: &mut dyn Any) {
        put(Address::of_light(self), place);
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
