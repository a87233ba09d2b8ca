//! The store that forgets: for tests, and for runs that need not survive their process.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use perennial_core::Timestamp;
use rusqlite::{Connection, TransactionBehavior};

use crate::{
    Leases, Operation, StoreError, StoreStatus,
    backend::{Access, Backend, Turn},
    clock::StoreClock,
    schema,
    transaction::{Tx, failure},
};

/// Stands for the file in errors.
const ORIGIN: &str = ":memory:";

/// A store without a file, without threads and without waiting: every operation is complete when
/// its future is polled for the first time. Cheap to clone; the rows go with the last clone.
///
/// ```
#[doc = include_str!("../doc/recorded.txt")]
/// assert_eq!(store.run(&run).await?.jobs.len(), 1);
/// let another = MemoryStore::open()?; // shares nothing with it
/// assert!(another.runs(20).await?.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    leases: Leases,
}

struct Shared {
    connection: Mutex<Connection>,
    clock: StoreClock,
    store_id: String,
    commits: AtomicU64,
    failed: AtomicU64,
}

impl MemoryStore {
    /// An empty store. Its clock starts at wall time and moves with the async runtime's timer, so
    /// a paused runtime pauses it.
    ///
    /// ```
    /// use perennial_store::{MemoryStore, Store};
    ///
    /// assert!(MemoryStore::open()?.now().as_micros() > 0);
    /// # Ok::<(), perennial_store::StoreError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the engine cannot create it.
    pub fn open() -> Result<Self, StoreError> {
        Self::build(StoreClock::of_runtime())
    }

    /// As [`open`](Self::open), for several nodes in one process: each lives by its lease, as on a store that
    /// several processes share.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use perennial_store::{MemoryStore, Renewal, Store};
    /// use std::time::Duration;
    ///
    /// let store = MemoryStore::open_shared()?;
    /// let node = store.register_node("a").await?.node;
    /// assert!(matches!(store.renew(&node, Duration::ZERO).await?, Renewal::Extended { .. }));
    /// assert_eq!(store.renew(&node, Duration::ZERO).await?, Renewal::NodeLost); // it is over
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the engine cannot create it.
    pub fn open_shared() -> Result<Self, StoreError> {
        Ok(Self { leases: Leases::Timed, ..Self::open()? })
    }

    /// An empty store with the caller's clock, which must not run back.
    ///
    /// # Errors
    ///
    /// When the engine cannot create it.
    pub fn with_clock(now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Result<Self, StoreError> {
        Self::build(StoreClock::custom(now))
    }

    fn build(clock: StoreClock) -> Result<Self, StoreError> {
        let origin = Path::new(ORIGIN);
        let opened = Connection::open_in_memory().and_then(|connection| {
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.set_prepared_statement_cache_capacity(128);
            Ok(connection)
        });
        let mut connection = opened.map_err(|error| failure(&error, origin))?;
        schema::create(&mut connection, origin, clock.now())?;
        let store_id = schema::read(&connection, origin)?.store_id;
        let (commits, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        let connection = Mutex::new(connection);
        let shared = Arc::new(Shared { connection, clock, store_id, commits, failed });
        Ok(Self { shared, leases: Leases::Proven })
    }
}

impl Shared {
    fn transact<T>(
        &self,
        operation: impl FnOnce(&Tx<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let origin = Path::new(ORIGIN);
        let failed = |error| failure(&error, origin);
        // A panic rolls its transaction back: the connection is whole.
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let outcome = operation(&Tx::new(&transaction, origin, 1, self.clock.now()))?;
        let committed = transaction.commit().map_err(failed);
        let counter = if committed.is_ok() { &self.commits } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        committed.map(|()| outcome)
    }
}

impl Backend for MemoryStore {
    fn perform_in<T, F>(&self, _turn: Turn, _access: Access, operation: F) -> Operation<'_, T>
    where
        T: Send + 'static,
        F: Fn(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        Box::pin(async move { self.shared.transact(operation) })
    }

    fn status(&self) -> StoreStatus {
        let commits = self.shared.commits.load(Ordering::Relaxed);
        StoreStatus {
            backend: "memory".to_owned(),
            path: None,
            store_id: self.shared.store_id.clone(),
            queued: 0,
            commits,
            requests: commits,
            failed_commits: self.shared.failed.load(Ordering::Relaxed),
            unsafe_synchronous: None,
            server: None,
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn leases(&self) -> Leases {
        self.leases
    }

    /// Holds nothing outside of its rows, which go with the last handle.
    fn close(&self) {}
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("id", &self.shared.store_id).finish_non_exhaustive()
    }
}
