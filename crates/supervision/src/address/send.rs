use std::time::Duration;

use perennial_core::ExitReason;
use tokio::sync::Semaphore;

use super::{Address, Incarnation, Refused};
use crate::{ProcessRef, load::Place, process::is_current, waits::Waiting};

/// Why a message was not sent.
///
/// ```
/// use perennial_supervision::SendError;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// root.shutdown().await;
/// let sent = counter.send(Ask::Add(1), Duration::from_secs(1)).await;
/// assert_eq!(sent, Err(SendError::NoProc));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No child is running and none is coming.
    #[error("no such child")]
    NoProc,
    /// The child ended while the sender waited for room.
    #[error("the child ended before there was room: {0}")]
    Exited(ExitReason),
    /// The deadline passed.
    #[error("no room within the deadline")]
    Timeout,
    /// The sender is the receiver, and its own mailbox is full: it would wait for itself.
    #[error("a child cannot wait for room in its own mailbox")]
    CallingSelf,
    /// The mailbox is full, and lets nobody wait.
    #[error("the mailbox is full")]
    Full,
}

impl<M: Send + 'static> Address<M> {
    /// Tells, and waits until the message is taken into the mailbox; `within` bounds waiting for an
    /// incarnation, and for room where the [`Mailbox`](crate::Mailbox) lets senders wait. They get in in
    /// the order in which they came. What has been taken may be lost with its incarnation all the same
    /// (GS-032).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// let spec = spec.mailbox(Mailbox::new(1).overflow(Overflow::Wait));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// for _ in 0..3 {
    ///     // Waits for room from the second one on, where a cast would be refused.
    ///     counter.send(Ask::Add(1), Duration::from_secs(1)).await?;
    /// }
    /// assert_eq!(counter.ask(Ask::Sum).await?, 3);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`SendError`]. The message was not taken, and is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is done drops the message: it was not sent, and its turn goes to the
    /// next one.
    pub async fn send(&self, message: M, within: Duration) -> Result<(), SendError> {
        let attempt = async {
            let life = self.to.current().await.ok_or(SendError::NoProc)?;
            let is_own = is_current(life.process());
            // None of its own room will come while it waits.
            let place = if is_own { None } else { room(&life).await.map_err(SendError::Exited)? };
            let had_room = place.is_some();
            match life.post(message, place) {
                Ok(()) | Err(Refused::Dropped) => Ok(()),
                Err(Refused::Full) if is_own && life.room().is_some() => {
                    Err(SendError::CallingSelf)
                }
                Err(Refused::Full) => Err(SendError::Full),
                // It ended meanwhile, which is about to be announced.
                Err(Refused::NoProc) if had_room => {
                    Err(SendError::Exited(Box::pin(life.process().ended().wait()).await))
                }
                Err(Refused::NoProc | Refused::Stranger) => Err(SendError::NoProc),
            }
        };
        tokio::time::timeout(within, attempt).await.unwrap_or(Err(SendError::Timeout))
    }
}

/// Waits for room where senders do that; the reason when the incarnation ends before. The caller brings
/// the deadline.
///
/// # Cancel safety
///
/// Safe: the turn goes to the next one.
pub(super) async fn room<M>(life: &Incarnation<M>) -> Result<Option<Place<'_>>, ExitReason> {
    room_of(life.room(), life.process()).await
}

/// As [`room`], of `process`.
pub(crate) async fn room_of<'a>(
    room: Option<&'a Semaphore>,
    process: &ProcessRef,
) -> Result<Option<Place<'a>>, ExitReason> {
    let Some(room) = room else { return Ok(None) };
    if let Ok(place) = room.try_acquire() {
        return Ok(Some(place));
    }
    let _waiting = Waiting::begin(process);
    // Its room would be kept in every call.
    match Box::pin(room.acquire()).await {
        Ok(place) => Ok(Some(place)),
        // Closed at its end, which is about to be announced.
        Err(_) => Err(Box::pin(process.ended().wait()).await),
    }
}
