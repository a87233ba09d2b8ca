//! The stores under test, and the threads that one of them needs.

use std::{path::Path, thread};

use perennial_store::{MemoryStore, SqliteOptions, SqliteStore, Store};

/// Runs each case on each store.
macro_rules! on_every_store {
    ($($case:ident),+ $(,)?) => {
        mod memory { $(
            #[test]
            fn $case() { crate::stores::on_memory(async |store| super::$case(store).await) }
        )+ }
        mod sqlite { $(
            #[test]
            fn $case() { crate::stores::on_sqlite(async |store| super::$case(store).await) }
        )+ }
        #[cfg(feature = "postgres")]
        mod postgres { $(
            #[test]
            fn $case() {
                let case = async |store: &dyn perennial_store::Store| super::$case(store).await;
                crate::postgres::on_postgres(stringify!($case), crate::postgres::options(), case);
            }
        )+ }
        /// STO-2, STO-41: what holds, holds without locks.
        #[cfg(feature = "postgres")]
        mod postgres_without_locks { $(
            #[test]
            fn $case() {
                let case = async |store: &dyn perennial_store::Store| super::$case(store).await;
                crate::postgres::on_postgres(stringify!($case), crate::postgres::without_locks(), case);
            }
        )+ }
    };
}
pub(crate) use on_every_store;

pub(crate) fn on_memory(case: impl AsyncFnOnce(&dyn Store)) {
    block_on(async {
        let store = MemoryStore::open().unwrap();
        case(&store).await;
        checked(&store).await;
    });
}

pub(crate) fn on_sqlite(case: impl AsyncFnOnce(&dyn Store)) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    served(&store, || {
        block_on(async {
            case(&store).await;
            checked(&store).await;
        });
    });
}

/// What the store alone sees to holds after every case (CHK).
pub(crate) async fn checked(store: &dyn Store) {
    let mut found = perennial_store::verify(store).await.unwrap();
    found.retain(|violation| violation.rule.is_of_store());
    assert!(found.is_empty(), "{found:#?}");
}

pub(crate) fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

/// Runs `body` while a writer and two readers serve `store`; then stops them.
pub(crate) fn served<T>(store: &SqliteStore, body: impl FnOnce() -> T) -> T {
    let (writer, readers) = (store.writer(), [store.reader(), store.reader()]);
    let mut stoppers = vec![writer.stopper()];
    stoppers.extend(readers.iter().map(perennial_store::ReaderLoop::stopper));
    thread::scope(|threads| {
        threads.spawn(|| writer.run().unwrap());
        for reader in readers {
            threads.spawn(|| reader.run().unwrap());
        }
        // Stopped also when the body panics, else the scope would wait for ever.
        let _stops = OnDrop(|| stoppers.iter().for_each(perennial_store::Stopper::stop));
        body()
    })
}

/// Runs `body` while a reader serves `store`, which has no writer.
pub(crate) fn read_only<T>(store: &SqliteStore, body: impl FnOnce() -> T) -> T {
    let reader = store.reader();
    let stopper = reader.stopper();
    thread::scope(|threads| {
        threads.spawn(|| reader.run().unwrap());
        let _stops = OnDrop(|| stopper.stop());
        body()
    })
}

pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}
