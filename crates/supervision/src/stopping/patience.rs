//! One deadline after another.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use futures_util::future::poll_immediate;
use tokio::time::Sleep;

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
        let mut awaited = pin!(awaited);
        if let Some(output) = poll_immediate(&mut awaited).await {
            return Some(output);
        }
        let next = tokio::time::sleep(within);
        let timer = match &mut self.0 {
            Some(timer) => {
                timer.as_mut().reset(next.deadline());
                timer
            }
            unused => unused.insert(Box::pin(next)),
        };
        tokio::select! {
            biased;
            output = awaited => Some(output),
            () = timer.as_mut() => None,
        }
    }
}
