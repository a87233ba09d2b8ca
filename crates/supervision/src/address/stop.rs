use std::time::Duration;

use perennial_core::ExitReason;

use super::{Address, is_current};

/// Why a stop did not end as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// No incarnation is running.
    #[error("no incarnation is running")]
    NoProc,
    /// The deadline passed; it is still busy stopping.
    #[error("not stopped within the deadline")]
    Timeout,
    /// It asked to stop itself and to wait for that; `Next::Stop` is the way.
    #[error("a child cannot wait for its own end")]
    CallingSelf,
    /// It ended, for another reason than the one asked for.
    #[error("ended for another reason: {0}")]
    Exited(ExitReason),
    /// A deadline of no time at all: nothing was asked.
    #[error("the deadline must not be zero")]
    ZeroDeadline,
}

impl<M: Send + 'static> Address<M> {
    /// Stops the present incarnation and waits for its end: what waits in its mailbox is handled,
    /// its cleanup runs, even where it does not trap exits, and it ends with exactly `reason`
    /// (GS-049). Its supervisor treats that as any end of its own: a permanent child comes back.
    ///
    /// Of two that stop it at once the first gives the reason, and both wait (GS-050).
    ///
    /// # Errors
    ///
    /// See [`StopError`]. A restart that is on its way is no incarnation to stop.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn stop(&self, reason: ExitReason, within: Duration) -> Result<(), StopError> {
        if within.is_zero() {
            return Err(StopError::ZeroDeadline);
        }
        let incarnation = self.presence.now().ok_or(StopError::NoProc)?;
        let life = incarnation.process.life();
        if is_current(life.pid) {
            return Err(StopError::CallingSelf);
        }
        incarnation.post.terminate(&reason);
        match tokio::time::timeout(within, life.ended.wait()).await {
            Ok(actual) if actual == reason => Ok(()),
            Ok(actual) => Err(StopError::Exited(actual)),
            Err(_) => Err(StopError::Timeout),
        }
    }
}
