//! Readers: each request sees one snapshot, and none of them waits for the writer.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use rusqlite::Connection;

use super::{
    Shared,
    connection::{self, Role},
};
use crate::{
    StoreError,
    queue::{Stopper, Wake},
    request::Request,
    transaction::{Tx, failure},
};

/// How long a reader sleeps at most. It has nothing else to do.
const IDLE: Duration = Duration::from_secs(60);

/// A loop that reads; see [`SqliteStore::reader`](super::SqliteStore::reader).
///
/// It blocks its thread until it is stopped or fails. The request it held when it died is answered
/// with [`StoreError::Unavailable`]; what still waited is served by another one.
#[must_use = "nothing is read until it runs"]
pub struct ReaderLoop {
    shared: Arc<Shared>,
    stopped: Arc<AtomicBool>,
}

impl ReaderLoop {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, stopped: Arc::default() }
    }

    /// What ends this loop.
    pub fn stopper(&self) -> Stopper {
        Stopper::new(Arc::clone(&self.stopped), Arc::clone(&self.shared.reads))
    }

    /// Serves requests until it is stopped; then what is waiting, and returns.
    ///
    /// # Errors
    ///
    /// When the store is closed, the file cannot be opened, or a snapshot cannot be taken.
    pub fn run(self) -> Result<(), StoreError> {
        // Declared first, dropped last: behind the connection.
        let _lock = self.shared.hold()?;
        let mut connection = connection::open(&self.shared.path, Role::Reader, self.shared.weaker)?;
        loop {
            match self.shared.reads.wait(&self.stopped, IDLE) {
                Wake::Stop => return Ok(()),
                Wake::Idle => (),
                Wake::Request(request) if request.is_abandoned() => (),
                Wake::Request(request) => self.serve(&mut connection, request)?,
            }
        }
    }

    fn serve(
        &self,
        connection: &mut Connection,
        mut request: Box<dyn Request>,
    ) -> Result<(), StoreError> {
        let shared = &*self.shared;
        match connection.transaction() {
            Ok(snapshot) => {
                let now = shared.clock.now();
                request.perform(&Tx::new(&snapshot, &shared.path, shared.meta.openings, now));
                // Nothing was written: dropping the snapshot is enough.
                drop(snapshot);
                request.answer();
                Ok(())
            }
            Err(error) => {
                let error = failure(&error, &shared.path);
                request.refuse(StoreError::Unavailable(error.to_string()));
                Err(error)
            }
        }
    }
}

impl fmt::Debug for ReaderLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderLoop").field("path", &self.shared.path).finish_non_exhaustive()
    }
}
