use std::time::Duration;

use perennial_core::ExitReason;

use super::Address;
use crate::{StopError, process::is_current, waits::Waiting};

impl<M: Send + 'static> Address<M> {
    /// Stops the present incarnation and waits for its end: what waits in its mailbox is handled,
    /// its cleanup runs, even where it does not trap exits, and it ends with exactly `reason`
    /// (GS-049). Its supervisor treats that as any end of its own: a permanent child comes back.
    ///
    /// Of two that stop it at once the first gives the reason, and both wait (GS-050).
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
    /// counter.stop(ExitReason::Normal, Duration::from_secs(1)).await?; // the cast is handled before
    /// // A permanent child comes back, and begins anew.
    /// assert_eq!(counter.ask(Ask::Sum).await?, 0);
    /// # root.shutdown().await; Ok(()) }
    /// ```
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
        let incarnation = self.to.now().ok_or(StopError::NoProc)?;
        let process = incarnation.process();
        if is_current(process) {
            return Err(StopError::CallingSelf);
        }
        incarnation.terminate(&reason);
        let _waiting = Waiting::begin(process);
        match tokio::time::timeout(within, process.ended().wait()).await {
            Ok(actual) if actual == reason => Ok(()),
            Ok(actual) => Err(StopError::Exited(actual)),
            Err(_) => Err(StopError::Timeout),
        }
    }
}
