//! The store in a database of a PostgreSQL server, which any number of processes share.
//!
//! Operations wait in one bounded queue; each loop of [`PostgresStore::connection`] has a connection of its
//! own and performs one after the other ([`connection`]), each in a transaction that
//! [`session`] speaks with the server about. Statements and schema are the common ones
//! ([`dialect`], [`schema`]). One further connection tells other processes that something was
//! written, and hears it from them ([`listener`]).
//!
//! Nothing here waits for ever: the server ends statements after 30 s and transactions that do nothing after
//! 10 s, a connection that gives no answer for 40 s is given up, and while no connection can be had
//! for [`PostgresOptions::patience`], what waits is answered with [`StoreError::Unavailable`].

mod address;
mod clock;
mod connection;
mod dialect;
mod failure;
mod link;
mod listener;
mod outage;
mod schema;
mod session;
mod sets;
mod together;
mod trip;
mod value;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use perennial_core::Timestamp;
use tokio::sync::{oneshot, watch};

pub(crate) use self::session::Session;
pub use self::{
    address::Address,
    connection::ConnectionLoop,
    listener::{ListenerLoop, ListenerStopper},
};
use self::{clock::ServerClock, link::Link, outage::Outage};
use crate::{
    LEASE_TTL, Leases, Operation, StoreError, StoreStatus,
    backend::{Access, Backend, Turn},
    queue::Queue,
    request::{Request, request},
    schema::Meta,
    transaction::Tx,
};

/// What may be chosen about a [`PostgresStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresOptions {
    /// How many [connections](PostgresStore::connection) shall serve; one more hears of changes.
    pub connections: usize,
    /// Requests that may wait; one more is [`StoreError::Busy`].
    pub queue_max: usize,
    /// How the server shows the connections of this process (`application_name`).
    pub application_name: String,
    /// The identity that the store must have (STO-50).
    pub expect_id: Option<String>,
    /// Refuses to create what is not there.
    pub must_exist: bool,
    /// How long the server keeps a transaction, and what it has locked, of which it hears nothing: of a process
    /// that was cut off amid one; 5 s. Less than is left of a node's lease when it is cut off, so that nothing is locked
    /// any more when others may do its work.
    pub idle_in_transaction: Duration,
    /// How long requests wait while the server cannot be reached.
    pub patience: Duration,
    /// How many decisions that wait at the same time are committed in one transaction at most; with 1, each has its own.
    pub commits_together: usize,
    /// Whether rows are locked when they are read to be changed. It spares repetitions; what holds, holds
    /// without it (STO-2).
    pub row_locks: bool,
    /// Whether rows that somebody else has locked are passed over, where that is harmless; as above.
    pub skip_locked: bool,
    /// Whether other processes are told of what is written here (STO-44). Without it they find it when they
    /// look.
    pub notify: bool,
}

impl Default for PostgresOptions {
    /// Eight connections: the server's commits share their flushes, and more gain little.
    fn default() -> Self {
        Self {
            connections: 8,
            queue_max: 4096,
            application_name: "perennial".to_owned(),
            expect_id: None,
            must_exist: false,
            idle_in_transaction: LEASE_TTL / 2,
            patience: Duration::from_secs(30),
            commits_together: 16,
            row_locks: true,
            skip_locked: true,
            notify: true,
        }
    }
}

impl PostgresOptions {
    /// At least one. Without the locks, what one of several has read need not hold until all are committed.
    fn commits_together(&self) -> usize {
        if self.row_locks { self.commits_together.max(1) } else { 1 }
    }
}

/// A store on a server. Cheap to clone.
///
/// Operations are answered by the threads that run [`PostgresStore::connection`]; without them they
/// wait. Any number of processes may have it open.
#[derive(Clone)]
pub struct PostgresStore {
    shared: Arc<Shared>,
}

/// What handles and loops have in common.
struct Shared {
    address: Address,
    options: PostgresOptions,
    meta: Meta,
    clock: ServerClock,
    /// The server's instant when this store was opened.
    opened: Timestamp,
    /// The longest lease that a node of this process had, in microseconds.
    lease: AtomicU64,
    queue: Arc<Queue>,
    counters: Counters,
    /// What was said of connections that cannot be made.
    outage: Mutex<Outage>,
    /// Something was written and not yet told.
    written: tokio::sync::Notify,
    /// Moves when another process has written something, or may have.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    requests: AtomicU64,
    failed_commits: AtomicU64,
    /// Connections that are open.
    connected: AtomicU64,
    /// Connections that were lost.
    lost: AtomicU64,
    /// Operations that were done again because another transaction was in the way.
    retries: AtomicU64,
    /// Decisions whose transaction was that of others, too.
    shared: AtomicU64,
    /// Round trips of operations.
    trips: AtomicU64,
    /// Uptime of the clock, in milliseconds, when a connection was last known to work.
    seen: AtomicU64,
    /// Whether somebody hears of changes.
    listening: AtomicBool,
}

impl PostgresStore {
    /// Opens the store in the database at `url`, or creates it there: in the schema `perennial`, which nobody
    /// else may use. The runtime it is awaited in needs I/O and time enabled.
    ///
    /// The address is `postgres://user:password@host:port/database`; a folder instead of the host (as
    /// `%2Frun%2Fpostgresql`, or `?host=/run/postgresql`) is that of a unix socket. There is no TLS in this
    /// version: use a private network, a socket or a tunnel.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidAddress`] when the text cannot be used, [`StoreError::Refused`] when the server is
    /// too old or does not accept user, password or database, [`StoreError::Unavailable`] when it cannot be
    /// reached, [`StoreError::NewerSchema`] when a newer build wrote it, [`StoreError::Corrupt`] when the schema
    /// is not that of a store, [`StoreError::WrongIdentity`] when it is not the one that the options expect.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves everything or nothing of the schema.
    pub async fn open(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        Self::open_at(&Address::parse(url)?, options).await
    }

    /// The same at an address that was read before.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    ///
    /// # Cancel safety
    ///
    /// As of [`open`](Self::open).
    pub async fn open_at(address: &Address, options: PostgresOptions) -> Result<Self, StoreError> {
        let address = address.clone();
        let link = Link::open(&address, &options).await?;
        let meta = schema::open(&link, &address, options.must_exist).await?;
        if let Some(expected) = &options.expect_id
            && *expected != meta.store_id
        {
            let (found, expected) = (meta.store_id, expected.clone());
            return Err(StoreError::WrongIdentity { found, expected });
        }
        tracing::info!(
            server = address.label(),
            store_id = meta.store_id,
            version = link.greeting.version,
            schema = meta.version,
            "store opened"
        );
        Ok(Self {
            shared: Arc::new(Shared {
                clock: ServerClock::new(link.greeting.now),
                opened: link.greeting.now,
                lease: AtomicU64::new(0),
                queue: Arc::new(Queue::new(options.queue_max)),
                counters: Counters::default(),
                outage: Mutex::default(),
                written: tokio::sync::Notify::new(),
                changes: watch::Sender::new(0),
                address,
                options,
                meta,
            }),
        })
    }

    /// How many loops of [`PostgresStore::connection`] the options ask for.
    pub fn connections(&self) -> usize {
        self.shared.options.connections
    }

    /// A loop that performs operations. Several may run at once; they share what is waiting.
    pub fn connection(&self) -> ConnectionLoop {
        ConnectionLoop::new(Arc::clone(&self.shared))
    }

    /// The loop that tells other processes of what is written here, and hears of what they write: for
    /// [`Store::changes`](crate::Store::changes). The store is whole without it.
    pub fn listener(&self) -> ListenerLoop {
        ListenerLoop::new(Arc::clone(&self.shared))
    }
}

impl PostgresStore {
    fn queued<T: Send + 'static>(
        &self,
        request: Box<dyn Request>,
        outcome: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Operation<'_, T> {
        Box::pin(async move {
            self.shared.queue.push(request)?;
            outcome.await.unwrap_or_else(|_| {
                Err(StoreError::Unavailable("its thread ended before it answered".to_owned()))
            })
        })
    }
}

impl Shared {
    /// A connection could not be made: said by all of them together, and not at each try.
    fn unreachable(&self, error: &StoreError) {
        let said =
            self.outage.lock().unwrap_or_else(PoisonError::into_inner).failed(self.clock.uptime());
        let connected = self.counters.connected.load(Ordering::Relaxed);
        match said.map(|away| away.as_secs()) {
            Some(0) => tracing::warn!(%error, connected, "no connection to the store"),
            Some(away_s) => {
                tracing::warn!(%error, connected, away_s, "still no connection to the store");
            }
            None => tracing::debug!(%error, connected, "no connection to the store"),
        }
    }

    /// A connection was made.
    fn reached(&self) {
        let ended =
            self.outage.lock().unwrap_or_else(PoisonError::into_inner).ended(self.clock.uptime());
        if let Some(away) = ended {
            tracing::info!(away_s = away.as_secs(), "the store can be reached again");
        }
    }

    /// A connection works.
    fn seen(&self) {
        let uptime = u64::try_from(self.clock.uptime().as_millis()).unwrap_or(u64::MAX);
        self.counters.seen.fetch_max(uptime, Ordering::Relaxed);
    }

    /// For how long no connection was known to work.
    fn unseen(&self) -> Duration {
        let seen = Duration::from_millis(self.counters.seen.load(Ordering::Relaxed));
        self.clock.uptime().saturating_sub(seen)
    }
}

impl Backend for PostgresStore {
    fn perform_in<T, F>(&self, turn: Turn, access: Access, operation: F) -> Operation<'_, T>
    where
        T: Send + 'static,
        F: Fn(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (request, outcome) = request(turn, access, operation);
        self.queued(request, outcome)
    }

    fn status(&self) -> StoreStatus {
        let (shared, counters) = (&self.shared, &self.shared.counters);
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreStatus {
            backend: "postgres".to_owned(),
            path: Some(shared.address.label().to_owned()),
            store_id: shared.meta.store_id.clone(),
            queued: shared.queue.len() as u64,
            commits: of(&counters.commits),
            requests: of(&counters.requests),
            failed_commits: of(&counters.failed_commits),
            unsafe_synchronous: None,
            server: Some(crate::ServerStatus {
                connected: of(&counters.connected),
                lost: of(&counters.lost),
                retries: of(&counters.retries),
                shared_commits: of(&counters.shared),
                trips: of(&counters.trips),
                listening: counters.listening.load(Ordering::Relaxed),
            }),
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Several nodes share it: nothing but the end of its lease says that one is dead.
    fn leases(&self) -> Leases {
        Leases::Timed
    }

    fn close(&self) {
        self.shared.queue.close();
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.shared.changes.subscribe())
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("address", &self.shared.address)
            .finish_non_exhaustive()
    }
}
