//! One deadline after another.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use futures_util::future::poll_immediate;
use tokio::time::{Instant, Sleep};

/// Further than any program runs; tokio's own timeouts take as much for "never".
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Waits with a deadline, one wait after another.
///
/// A timer that is made anew for each wait wakes whoever sleeps in the executor's driver, each time,
/// which costs more than the end of a child. This one is made for the first wait that needs it, and
/// is only moved for the next.
#[derive(Default)]
pub(crate) struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    /// What `awaited` comes to; none when it takes longer than `within`.
    pub(crate) async fn within<T>(
        &mut self,
        within: Duration,
        awaited: impl Future<Output = T>,
    ) -> Option<T> {
        let now = Instant::now();
        let deadline = now.checked_add(within).unwrap_or(now + FAR);
        let mut awaited = pin!(awaited);
        if let Some(output) = poll_immediate(&mut awaited).await {
            return Some(output);
        }
        let timer = match &mut self.0 {
            Some(timer) => {
                timer.as_mut().reset(deadline);
                timer
            }
            unused => unused.insert(Box::pin(tokio::time::sleep_until(deadline))),
        };
        tokio::select! {
            biased;
            output = awaited => Some(output),
            () = timer.as_mut() => None,
        }
    }
}
