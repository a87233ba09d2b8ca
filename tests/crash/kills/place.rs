//! Where a victim keeps its run, and how others look at it.

use std::{sync::Arc, thread, time::Duration};

use perennial::supervision::{ChildSpec, StopToken, Supervisor, SupervisorSpec};
#[cfg(feature = "postgres")]
use perennial_store::{PostgresOptions, PostgresStore};
use perennial_store::{SqliteOptions, SqliteStore, Store, StoreError};
use perennial_testkit::Deadline;
#[cfg(feature = "postgres")]
use perennial_testkit::postgres::{self, Database};
use tempfile::TempDir;

/// A store that outlives its victims.
pub(super) enum Place {
    Sqlite(TempDir),
    #[cfg(feature = "postgres")]
    Postgres(Database),
}

impl Place {
    /// A file of its own.
    pub(super) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// A database of its own; none when there is no server to test with. The server is not what is killed: it need
    /// not wait for its disk.
    #[cfg(feature = "postgres")]
    pub(super) fn postgres(name: &str) -> Option<Self> {
        Some(Self::Postgres(postgres::cluster()?.database(name).unwrap()))
    }

    /// An empty one of the same kind.
    pub(super) fn another(&self) -> Self {
        match self {
            Self::Sqlite(_) => Self::sqlite(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Self::postgres("another").unwrap(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "postgres",
        }
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => folder.path().join("store.db").display().to_string(),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => database.url(),
        }
    }

    /// What `look` makes of the store. A file must not be in use by a victim.
    pub(super) fn look<T>(&self, look: impl AsyncFnOnce(&dyn Store) -> T) -> T {
        match self {
            Self::Sqlite(_) => read(&unlocked(&self.url()), look),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => look_at_server(&database.url(), look),
        }
    }
}

/// What `look` makes of the store at `url` while a victim has it; also for the victim itself, in a thread.
pub(super) fn look_beside<T>(url: &str, look: impl AsyncFnOnce(&dyn Store) -> T) -> T {
    #[cfg(feature = "postgres")]
    if url.starts_with("postgres:") {
        return look_at_server(url, look);
    }
    read(&SqliteStore::open_read_only(url, SqliteOptions::default()).unwrap(), look)
}

fn read<T>(store: &SqliteStore, look: impl AsyncFnOnce(&dyn Store) -> T) -> T {
    let reader = store.reader();
    let stopper = reader.stopper();
    thread::scope(|threads| {
        threads.spawn(|| reader.run().unwrap());
        let _stops = OnDrop(|| stopper.stop());
        block_on(look(store))
    })
}

#[cfg(feature = "postgres")]
fn look_at_server<T>(url: &str, look: impl AsyncFnOnce(&dyn Store) -> T) -> T {
    let options = PostgresOptions { connections: 1, ..PostgresOptions::default() };
    let store = block_on(PostgresStore::open(url, options)).unwrap();
    let connection = store.connection();
    let stopper = connection.stopper();
    thread::scope(|threads| {
        threads.spawn(|| connection.run().unwrap());
        let _stops = OnDrop(|| stopper.stop());
        block_on(look(&store))
    })
}

/// The store in the file at `path`. A process that another thread is just starting has all files of this one, until it is itself.
#[expect(clippy::disallowed_methods, reason = "nobody tells when it is")]
fn unlocked(path: &str) -> SqliteStore {
    let deadline = Deadline::after(Duration::from_secs(5));
    loop {
        match SqliteStore::open(path, SqliteOptions::default()) {
            Err(StoreError::Locked { .. }) if !deadline.left().is_zero() => {
                thread::sleep(Duration::from_millis(1)); // real time: it is another process's
            }
            opened => return opened.unwrap(),
        }
    }
}

/// Also when a look panics, else the scope would wait for ever.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The store at `url` in a victim, and the child that serves it.
pub(super) async fn opened(url: &str) -> (Arc<dyn Store>, ChildSpec) {
    let mut children = SupervisorSpec::new("store");
    let store: Arc<dyn Store> = if url.starts_with("postgres:") {
        postgres_store(url, &mut children).await
    } else {
        let store = SqliteStore::open(url, SqliteOptions::default()).unwrap();
        let (writing, reading) = (store.clone(), store.clone());
        children = children
            .child(ChildSpec::thread("writer", move |stop: StopToken| {
                let work = writing.writer();
                let stopper = work.stopper();
                stop.on_stop(move || stopper.stop());
                work.run()
            }))
            .child(ChildSpec::thread("reader", move |stop: StopToken| {
                let work = reading.reader();
                let stopper = work.stopper();
                stop.on_stop(move || stopper.stop());
                work.run()
            }));
        Arc::new(store)
    };
    (store, Supervisor::child_spec(children).0)
}

#[cfg(feature = "postgres")]
async fn postgres_store(url: &str, children: &mut SupervisorSpec) -> Arc<dyn Store> {
    let options = PostgresOptions { connections: 4, ..PostgresOptions::default() };
    let store = PostgresStore::open(url, options).await.unwrap();
    let mut all = SupervisorSpec::new("store");
    for number in 1..=store.connections() {
        let serving = store.clone();
        all =
            all.child(ChildSpec::thread(format!("connection-{number}"), move |stop: StopToken| {
                let work = serving.connection();
                let stopper = work.stopper();
                stop.on_stop(move || stopper.stop());
                work.run()
            }));
    }
    *children = all;
    Arc::new(store)
}

#[cfg(not(feature = "postgres"))]
async fn postgres_store(_: &str, _: &mut SupervisorSpec) -> Arc<dyn Store> {
    panic!("no store on a server in this build")
}
