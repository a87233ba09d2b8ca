//! Deadlines of calls.

use std::{future::Future, pin::Pin, time::Duration};

/// What `work` comes to; none when it takes longer than `time`. [`Duration::MAX`] is no deadline, and costs no
/// timer: a third of a call that is answered at once.
///
/// # Cancel safety
///
/// As safe as `work`.
pub(crate) async fn within<T, F: Future<Output = T>>(
    time: Duration,
    work: Pin<&mut F>,
) -> Option<T> {
    if time == Duration::MAX {
        return Some(work.await);
    }
    tokio::time::timeout(time, work).await.ok()
}
