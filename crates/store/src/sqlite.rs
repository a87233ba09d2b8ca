//! The store in one SQLite file.
//!
//! One thread writes, in groups ([`writer`]); any number of threads read ([`reader`]). Requests
//! wait in bounded queues that outlive those threads, so a thread that dies and comes back serves
//! what was waiting. One process has the file ([`file`]), and every connection is opened, set and
//! checked in one place ([`connection`]).

mod connection;
mod file;
mod reader;
#[cfg(test)]
mod upgrades;
mod writer;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use perennial_core::Timestamp;

use self::{connection::Role, file::FileLock};
pub use self::{reader::ReaderLoop, writer::WriterLoop};
use crate::{
    Leases, Operation, StoreError, StoreStatus,
    backend::{Access, Backend, Turn},
    clock::{self, ANCHOR_STEP, StoreClock},
    queue::Queue,
    request::request,
    schema::{self, Meta},
    transaction::Tx,
};

/// What may be chosen about a [`SqliteStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteOptions {
    /// Requests that may wait for the writer, and as many for the readers; one more is
    /// [`StoreError::Busy`].
    pub queue_max: usize,
    /// Gives up that an acknowledged commit survives a power cut. Absent in every store that matters; a store
    /// opened with it says so in its [status](StoreStatus::unsafe_synchronous).
    pub unsafe_synchronous: Option<UnsafeSynchronous>,
}

/// How much less than `synchronous = FULL` an engine is told to do (STO-31). Every setting here loses commits that
/// were acknowledged when the power fails; a process that is killed loses none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsafeSynchronous {
    /// The log is synced before checkpoints only: the latest commits are lost, the file stays whole.
    Normal,
}

impl UnsafeSynchronous {
    /// The engine's own name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
        }
    }
}

impl Default for SqliteOptions {
    /// 4 096: with some thousand commits a second, more would only wait beyond every deadline.
    fn default() -> Self {
        Self { queue_max: 4096, unsafe_synchronous: None }
    }
}

/// A store in one file of this process. Cheap to clone.
///
/// Operations are answered by the threads that run [`SqliteStore::writer`] and
/// [`SqliteStore::reader`]; without them they wait. The file stays locked until the store is
/// [closed](crate::Store::close), or the last clone is gone, and the last loop has ended.
#[derive(Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

/// What handles and loops have in common.
struct Shared {
    path: PathBuf,
    meta: Meta,
    clock: StoreClock,
    weaker: Option<UnsafeSynchronous>,
    writes: Arc<Queue>,
    reads: Arc<Queue>,
    /// Whether a writer is running: there is one at a time (STO-30).
    writing: AtomicBool,
    counters: Counters,
    /// Whether somebody else may have the file: it is only looked at.
    looks: bool,
    /// Declared last: released when nothing of the store is left. A closed store has none, apart from the
    /// loops that still run.
    lock: Mutex<Option<Arc<FileLock>>>,
}

impl Shared {
    /// Keeps the file locked for as long as the answer lives.
    fn hold(&self) -> Result<Arc<FileLock>, StoreError> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        lock.clone().ok_or(StoreError::Closed)
    }
}

#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    requests: AtomicU64,
    failed_commits: AtomicU64,
}

impl SqliteStore {
    /// Opens the store at `path`, or creates it: takes the lock, checks the file, applies missing
    /// steps of the schema. Blocks the thread for as long as that takes; nothing else of the store
    /// runs before.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] at once when another process has it, [`StoreError::Corrupt`] when it
    /// is no store or damaged and [`StoreError::NewerSchema`] when a newer build wrote it: these
    /// three leave the file as it is. [`StoreError::Unavailable`] when it cannot be reached.
    pub fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, StoreError> {
        let path = &*file::resolve(path.as_ref())?;
        let lock = file::claim(path)?;
        file::ensure(path, clock::wall())?;
        let lock = lock.of_store(path)?;
        let mut connection = connection::open(path, Role::Writer, options.unsafe_synchronous)?;
        let meta = schema::open(&mut connection, path, clock::wall())?;
        // The last connection empties and removes the log when it closes.
        drop(connection);
        Ok(Self::build(path, meta, options, lock, false))
    }

    /// Opens the store at `path` to look at it: beside a process that has it, or alone. Nothing is created, brought
    /// up to date or written, and every operation that writes is refused with
    /// [`StoreError::ReadOnly`].
    ///
    /// # Errors
    ///
    /// [`StoreError::OlderSchema`] and [`StoreError::NewerSchema`] when it was written by a build of another
    /// version, [`StoreError::Corrupt`] when it is no store, [`StoreError::Unavailable`] when there is none.
    pub fn open_read_only(
        path: impl AsRef<Path>,
        options: SqliteOptions,
    ) -> Result<Self, StoreError> {
        let path = &*file::resolve(path.as_ref())?;
        let meta = file::examine(path)?;
        Ok(Self::build(path, meta, options, FileLock::none(), true))
    }

    fn build(path: &Path, meta: Meta, options: SqliteOptions, lock: FileLock, looks: bool) -> Self {
        tracing::info!(
            path = %path.display(),
            store_id = meta.store_id,
            engine = rusqlite::version(),
            schema = meta.version,
            looks,
            "store opened"
        );
        Self {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                clock: StoreClock::anchored(clock::wall(), meta.clock_anchor.after(ANCHOR_STEP)),
                meta,
                weaker: options.unsafe_synchronous,
                writes: Arc::new(Queue::new(options.queue_max)),
                reads: Arc::new(Queue::new(options.queue_max)),
                writing: AtomicBool::new(false),
                counters: Counters::default(),
                looks,
                lock: Mutex::new(Some(Arc::new(lock))),
            }),
        }
    }

    /// Whether it was opened only to be looked at: it has no writer.
    pub fn is_read_only(&self) -> bool {
        self.shared.looks
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The loop that writes. One runs at a time; after it ended, however it ended, the next one
    /// continues with what is waiting.
    pub fn writer(&self) -> WriterLoop {
        WriterLoop::new(Arc::clone(&self.shared))
    }

    /// What the engine finds wrong with the file, in its words: pages, indices against their tables, references
    /// between rows. Empty when nothing is. Reads all of it, while the writer goes on.
    pub fn integrity(&self) -> Operation<'_, Vec<String>> {
        self.perform(Access::Read, |tx| {
            let mut found: Vec<String> = tx.rows("PRAGMA integrity_check", [], |row| row.get())?;
            found.retain(|line| line != "ok");
            let dangling: Vec<String> = tx.rows("PRAGMA foreign_key_check", [], |row| row.get())?;
            found.extend(
                dangling.into_iter().map(|table| format!("a reference of {table} leads nowhere")),
            );
            Ok(found)
        })
    }

    /// A loop that reads. Several may run at once; they share what is waiting.
    pub fn reader(&self) -> ReaderLoop {
        ReaderLoop::new(Arc::clone(&self.shared))
    }
}

impl Backend for SqliteStore {
    fn perform_in<T, F>(&self, turn: Turn, access: Access, operation: F) -> Operation<'_, T>
    where
        T: Send + 'static,
        F: Fn(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        Box::pin(async move {
            if access == Access::Write && self.shared.looks {
                return Err(StoreError::ReadOnly);
            }
            let queue = match access {
                Access::Read => &self.shared.reads,
                Access::Write => &self.shared.writes,
            };
            let (request, outcome) = request(turn, access, operation);
            queue.push(request)?;
            outcome.await.unwrap_or_else(|_| {
                Err(StoreError::Unavailable("its thread ended before it answered".to_owned()))
            })
        })
    }

    fn status(&self) -> StoreStatus {
        let shared = &self.shared;
        StoreStatus {
            backend: "sqlite".to_owned(),
            path: Some(shared.path.display().to_string()),
            store_id: shared.meta.store_id.clone(),
            queued: shared.writes.len() as u64,
            commits: shared.counters.commits.load(Ordering::Relaxed),
            requests: shared.counters.requests.load(Ordering::Relaxed),
            failed_commits: shared.counters.failed_commits.load(Ordering::Relaxed),
            unsafe_synchronous: shared.weaker.map(UnsafeSynchronous::name),
            server: None,
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// One process has the file, by its lock.
    fn leases(&self) -> Leases {
        Leases::Proven
    }

    fn close(&self) {
        self.shared.writes.close();
        self.shared.reads.close();
        drop(self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.shared.path).finish_non_exhaustive()
    }
}
