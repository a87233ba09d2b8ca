//! Hints between processes (STO-44): one connection says that something was written here, at most every 20 ms,
//! and hears it of the others. It is never part of a writing transaction, and never needed.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Builder;

use super::{Shared, link::Link};
use crate::StoreError;

/// Between two notes to the others.
const EVERY: Duration = Duration::from_millis(20);
/// Between attempts to connect.
const BACKOFF: Duration = Duration::from_secs(2);
const CHANNEL: &str = "perennial_wake";

/// A loop that tells and hears of changes; see [`PostgresStore::listener`](super::PostgresStore::listener).
///
/// It blocks its thread until it is stopped. Without it, or without a server, changes are found by looking.
#[must_use = "nothing is told until it runs"]
pub struct ListenerLoop {
    shared: Arc<Shared>,
    stop: Arc<Stop>,
}

#[derive(Debug, Default)]
struct Stop {
    asked: AtomicBool,
    told: tokio::sync::Notify,
}

/// Ends a [`ListenerLoop`].
#[derive(Clone, Debug)]
pub struct ListenerStopper(Arc<Stop>);

impl ListenerStopper {
    /// Asks the loop to end. It may be called from any thread, and more than once.
    pub fn stop(&self) {
        self.0.asked.store(true, Ordering::Release);
        self.0.told.notify_one();
    }
}

/// Whether somebody hears, taken back on the way out.
struct Listening<'a>(&'a AtomicBool);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl ListenerLoop {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, stop: Arc::default() }
    }

    /// What ends this loop.
    pub fn stopper(&self) -> ListenerStopper {
        ListenerStopper(Arc::clone(&self.stop))
    }

    /// Tells and hears until it is stopped.
    ///
    /// # Errors
    ///
    /// When the thread has no descriptors for a connection.
    pub fn run(self) -> Result<(), StoreError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        runtime.block_on(async {
            while !self.stop.asked.load(Ordering::Acquire) {
                let failed = self.until_stopped(self.listen()).await.and_then(Result::err);
                if let Some(error) = failed {
                    tracing::debug!(%error, "no hints from other processes");
                    self.until_stopped(tokio::time::sleep(BACKOFF)).await;
                }
            }
        });
        Ok(())
    }

    async fn until_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stop.told.notified() => None,
            done = work => Some(done),
        }
    }

    /// One connection's life.
    async fn listen(&self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let link = Link::of(shared).await?;
        let lost = |_| StoreError::Unavailable("the connection to the server was lost".to_owned());
        let listen = format!("LISTEN {CHANNEL}");
        link.drive(link.client.batch_execute(&listen)).await.map_err(lost)?;
        shared.counters.listening.store(true, Ordering::Relaxed);
        let _listening = Listening(&shared.counters.listening);
        // What was told before this one listened is lost.
        shared.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
        let tell = format!("NOTIFY {CHANNEL}");
        loop {
            tokio::select! {
                heard = link.notified() => {
                    // What this process tells comes back to it.
                    if heard?.process_id() != link.greeting.process {
                        shared.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
                    }
                }
                () = shared.written.notified(), if shared.options.notify => {
                    link.drive(link.client.batch_execute(&tell)).await.map_err(lost)?;
                    tokio::time::sleep(EVERY).await;
                }
            }
        }
    }
}

impl fmt::Debug for ListenerLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerLoop")
            .field("address", &self.shared.address)
            .finish_non_exhaustive()
    }
}
