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
    file,
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
        let mut connection = self.connect()?;
        loop {
            match self.shared.reads.wait(&self.stopped, IDLE) {
                Wake::Stop => return Ok(()),
                Wake::Idle => (),
                Wake::Request(request) if request.is_abandoned() => (),
                Wake::Request(request) if self.shared.looks => {
                    // Where the log is now, and whether there is one, is for each look to find out.
                    connection = self.connect()?;
                    self.look(&mut connection, request)?;
                }
                Wake::Request(request) => self.serve(&mut connection, request)?,
            }
        }
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let role = if self.shared.looks { Role::Onlooker } else { Role::Reader };
        connection::open(&self.shared.path, role, self.shared.weaker)
    }

    /// Answers only with what the file was throughout.
    fn look(
        &self,
        connection: &mut Connection,
        mut request: Box<dyn Request>,
    ) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let before = file::standstill(&shared.path);
        let snapshot = connection.transaction().map_err(|error| failure(&error, &shared.path))?;
        let now = shared.clock.now();
        request.perform(&Tx::new(&snapshot, &shared.path, shared.meta.openings, now));
        drop(snapshot);
        if before.is_some() && file::standstill(&shared.path) != before {
            let why = "another process began to write it while it was read";
            request.refuse(StoreError::Unavailable(why.to_owned()));
        } else {
            request.answer();
        }
        Ok(())
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
