//! The one writer: requests in groups, one commit each, answers only after it (STO-32, STO-33).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use perennial_core::Timestamp;
use rusqlite::Connection;

use super::{
    Shared,
    connection::{self, Role},
    file,
};
use crate::{
    StoreError,
    clock::ANCHOR_STEP,
    queue::{Stopper, Wake},
    request::Request,
    schema,
    transaction::{Tx, failure},
};

/// Most requests of one commit.
const GROUP_REQUESTS_MAX: usize = 256;
/// A group that has written this much payload takes no further request.
const GROUP_BYTES_MAX: usize = 1024 * 1024;
/// Failed commits in a row that end the loop.
const FAILURES_MAX: u32 = 3;
/// Without work for so long, the writer moves the log into the file; then it sleeps longer.
const IDLE: Duration = Duration::from_secs(1);
const ASLEEP: Duration = Duration::from_secs(60);
/// Moves the log into the file and syncs that; waits for readers, as long as a connection waits for any lock.
const EMPTY_THE_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// Free pages that are kept for what is written next: 4 MiB.
const FREE_PAGES_KEPT: i64 = 1_024;
/// Pages that are given back at a time, 4 MiB.
const FREE_PAGES_STEP: i64 = 1_024;

/// The loop that writes; see [`SqliteStore::writer`](super::SqliteStore::writer).
///
/// It blocks its thread until it is stopped or fails. What it had taken from the queue when it
/// died is answered with [`StoreError::Unavailable`]; what still waited is served by the next one.
#[must_use = "nothing is written until it runs"]
pub struct WriterLoop {
    shared: Arc<Shared>,
    stopped: Arc<AtomicBool>,
}

/// The right to write, given back on the way out, be it a panic.
struct Seat<'a>(&'a AtomicBool);

impl<'a> Seat<'a> {
    fn take(taken: &'a AtomicBool) -> Option<Self> {
        (!taken.swap(true, Ordering::AcqRel)).then_some(Self(taken))
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl WriterLoop {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, stopped: Arc::default() }
    }

    /// What ends this loop.
    pub fn stopper(&self) -> Stopper {
        Stopper::new(Arc::clone(&self.stopped), Arc::clone(&self.shared.writes))
    }

    /// Serves requests until it is stopped; then what is waiting, and returns.
    ///
    /// # Errors
    ///
    /// When the store is closed, another writer is running, the file cannot be opened, or three commits in a row
    /// failed.
    pub fn run(self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        // Declared first, dropped last: behind the connection.
        let _lock = shared.hold()?;
        let Some(_seat) = Seat::take(&shared.writing) else {
            return Err(StoreError::Unavailable("another writer is running".to_owned()));
        };
        let mut writer = match Writer::open(shared) {
            Ok(writer) => Some(writer),
            Err(error) => {
                if !is_passing(&error) {
                    // The next writer will not do better at once: whoever waits is told why, not that nobody answered.
                    shared.writes.refuse(&error);
                }
                return Err(error);
            }
        };
        let mut failures = 0;
        loop {
            let dirty = writer.as_mut().filter(|writer| writer.dirty);
            let within = if dirty.is_some() { IDLE } else { ASLEEP };
            match (shared.writes.wait(&self.stopped, within), dirty) {
                (Wake::Stop, _) => break,
                (Wake::Idle, Some(writer)) => writer.checkpoint(),
                (Wake::Idle, None) => (),
                (Wake::Request(first), _) => match Writer::serve(&mut writer, shared, first) {
                    Ok(()) => failures = 0,
                    Err(error) => {
                        shared.counters.failed_commits.fetch_add(1, Ordering::Relaxed);
                        failures += 1;
                        tracing::warn!(%error, failures, "commit failed");
                        if failures == FAILURES_MAX {
                            return Err(error);
                        }
                        // What is committed is read from the file by the next request, never assumed (STO-9).
                        writer = None;
                    }
                },
            }
        }
        if let Some(writer) = writer {
            writer.finish();
        }
        Ok(())
    }
}

impl fmt::Debug for WriterLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterLoop").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    connection: Connection,
    /// The anchor of the clock as it was last written.
    anchored: Timestamp,
    /// Whether the log may have something to move.
    dirty: bool,
}

impl<'a> Writer<'a> {
    fn open(shared: &'a Shared) -> Result<Self, StoreError> {
        // The log has to be durable before any of it is moved: a power cut amid that would else leave a file of which half
        // is moved, and a log from which the rest cannot be told.
        file::write_log_again(&shared.path)?;
        let connection = connection::open(&shared.path, Role::Writer, shared.weaker)?;
        // The log is there since its first reading. The engine syncs its name with its first commit, and ignores
        // when that fails: a power cut would then take the log with all commits in it.
        file::sync_directory(&shared.path)?;
        // What the engine finds in the log it takes for durable. After a failed sync it is not, and no later sync
        // makes it so: the system counts it as written. In the file it is, before anything is added to the log.
        // A reader that is just opening the file may still be at its recovery; a transaction waits for that, and a
        // checkpoint would not.
        let is_held = connection
            .execute_batch("BEGIN IMMEDIATE; COMMIT")
            .and_then(|()| connection.query_row(EMPTY_THE_LOG, [], |row| row.get::<_, bool>(0)))
            .map_err(|error| failure(&error, &shared.path))?;
        if is_held {
            let what = "a reader holds the log, which has to be emptied".to_owned();
            return Err(StoreError::Unavailable(what));
        }
        Ok(Self { shared, connection, anchored: Timestamp::default(), dirty: true })
    }

    /// Performs `first` and what else is waiting in one transaction, and answers. Opens the file if there is no
    /// writer.
    ///
    /// An error means that nothing was committed, or that it is unknown; the group is answered.
    fn serve(
        writer: &mut Option<Self>,
        shared: &'a Shared,
        first: Box<dyn Request>,
    ) -> Result<(), StoreError> {
        let open = match writer.take() {
            Some(open) => Ok(open),
            None => Self::open(shared),
        };
        match open {
            Ok(open) => writer.insert(open).serve_group(first),
            Err(error) => {
                first.refuse(told(&error));
                Err(error)
            }
        }
    }

    fn serve_group(&mut self, first: Box<dyn Request>) -> Result<(), StoreError> {
        let mut group = Vec::new();
        let committed = self.perform(first, &mut group);
        let (commits, requests) = (&self.shared.counters.commits, &self.shared.counters.requests);
        match committed {
            Ok(()) => {
                self.dirty = true;
                commits.fetch_add(1, Ordering::Relaxed);
                requests.fetch_add(group.len() as u64, Ordering::Relaxed);
                group.into_iter().for_each(Request::answer);
                Ok(())
            }
            Err(error) => {
                for request in group {
                    request.refuse(told(&error));
                }
                Err(error)
            }
        }
    }

    /// One transaction; each request but the first has a savepoint, so that it fails alone. With the first the transaction is given
    /// up: so far there is nothing else in it, and whoever comes alone pays for no savepoint.
    fn perform(
        &mut self,
        first: Box<dyn Request>,
        group: &mut Vec<Box<dyn Request>>,
    ) -> Result<(), StoreError> {
        let (mut next, mut bytes, mut wrote) = (Some(first), 0, false);
        // Should anything fail from here on, the caller has every request that was taken.
        let begun = self.statement("BEGIN IMMEDIATE");
        while let Some(mut request) = next.take() {
            if let Err(error) = &begun {
                group.push(request);
                return Err(error.clone());
            }
            if !request.is_abandoned() {
                let outcome = self.perform_one(&mut *request, group.is_empty());
                group.push(request);
                let (kept, written) = outcome?;
                wrote |= kept;
                bytes += written;
            }
            if group.len() < GROUP_REQUESTS_MAX && bytes < GROUP_BYTES_MAX {
                next = self.shared.writes.try_take();
            }
        }
        let now = self.shared.clock.now();
        if wrote && now.since(self.anchored) >= ANCHOR_STEP {
            schema::anchor(&self.connection, now).map_err(|error| self.failed(&error))?;
            self.anchored = now;
        }
        self.statement("COMMIT")
    }

    /// Whether the request's writes stay, and how many bytes it wrote.
    fn perform_one(
        &self,
        request: &mut dyn Request,
        is_first: bool,
    ) -> Result<(bool, usize), StoreError> {
        let shared = self.shared;
        if !is_first {
            self.statement("SAVEPOINT request")?;
        }
        let tx = Tx::new(&self.connection, &shared.path, shared.meta.openings, shared.clock.now());
        let kept = request.perform(&tx);
        if self.connection.is_autocommit() {
            // The engine gave the whole transaction up: disk full, I/O error, no memory.
            return Err(StoreError::Unavailable("the transaction was rolled back".to_owned()));
        }
        match (kept, is_first) {
            (true, true) => (),
            (true, false) => self.statement("RELEASE request")?,
            (false, true) => {
                self.statement("ROLLBACK")?;
                self.statement("BEGIN IMMEDIATE")?;
            }
            (false, false) => {
                self.statement("ROLLBACK TO request")?;
                self.statement("RELEASE request")?;
            }
        }
        Ok((kept, tx.bytes()))
    }

    fn statement(&self, sql: &str) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .map(|_| ())
            .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &rusqlite::Error) -> StoreError {
        failure(error, &self.shared.path)
    }

    /// Moves the log into the file as far as readers allow. What is left is moved later.
    fn checkpoint(&mut self) {
        self.dirty = self.vacuum();
        self.move_log("PRAGMA wal_checkpoint(PASSIVE)");
    }

    /// Gives back pages that nothing is in, when they are many: some at a time, for somebody may come. Whether there
    /// are more.
    fn vacuum(&self) -> bool {
        let free = self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0));
        let surplus = free.map(|pages: i64| pages - FREE_PAGES_KEPT);
        let given_back = surplus.and_then(|surplus| {
            if surplus > 0 {
                let pages = surplus.min(FREE_PAGES_STEP);
                let sql = format!("PRAGMA incremental_vacuum({pages})");
                let mut statement = self.connection.prepare(&sql)?;
                // One page goes with each step of the statement.
                let mut steps = statement.query([])?;
                while steps.next()?.is_some() {}
            }
            Ok(surplus > FREE_PAGES_STEP)
        });
        given_back.unwrap_or_else(|error| {
            tracing::warn!(%error, "free pages were not given back");
            false
        })
    }

    /// Leaves a short log and the latest instant.
    fn finish(self) {
        // The next opening adds a step; it then starts no earlier than this moment, and no later.
        let step = i64::try_from(ANCHOR_STEP.as_micros()).unwrap_or(0);
        let now = Timestamp::from_micros(self.shared.clock.now().as_micros() - step);
        if let Err(error) = schema::anchor(&self.connection, now) {
            tracing::warn!(%error, "the clock's anchor was not written");
        }
        self.move_log(EMPTY_THE_LOG);
    }

    fn move_log(&self, sql: &str) {
        if let Err(error) = self.connection.query_row(sql, [], |_| Ok(())) {
            tracing::warn!(%error, "checkpoint failed");
        }
    }
}

/// Whether the next writer may open the file though this one could not.
fn is_passing(error: &StoreError) -> bool {
    matches!(error, StoreError::Busy | StoreError::Unavailable(_) | StoreError::Unknown(_))
}

/// What those are answered whose group failed.
fn told(error: &StoreError) -> StoreError {
    let is_full = matches!(error, StoreError::Full(_));
    if is_full { error.clone() } else { StoreError::Unavailable(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{
        Operation, SqliteOptions, SqliteStore, Store,
        backend::{Access, Backend},
    };

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn store(directory: &tempfile::TempDir) -> SqliteStore {
        SqliteStore::open(directory.path().join("store.db"), SqliteOptions::default()).unwrap()
    }

    /// Puts `operation` into the queue.
    fn queue<T>(operation: &mut Operation<'_, T>) {
        block_on(std::future::poll_fn(|cx| {
            assert!(operation.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        }));
    }

    /// Serves what is waiting, on a thread of its own, and returns.
    fn serve(store: &SqliteStore) -> thread::Result<Result<(), StoreError>> {
        let writer = store.writer();
        writer.stopper().stop();
        thread::scope(|threads| threads.spawn(|| writer.run()).join())
    }

    fn is_unavailable<T>(outcome: &Result<T, StoreError>) -> bool {
        matches!(outcome, Err(StoreError::Unavailable(_)))
    }

    #[test]
    fn a_writer_that_panics_loses_its_group_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        let mut first = store.create_stream("first", "session", Vec::new());
        let mut bug: Operation<'_, ()> = store.perform(Access::Write, |_| panic!("a bug"));
        let mut later = store.create_stream("later", "session", Vec::new());
        queue(&mut first);
        queue(&mut bug);
        queue(&mut later);
        assert!(serve(&store).is_err(), "it panicked");
        assert!(is_unavailable(&block_on(first)));
        assert!(is_unavailable(&block_on(bug)));
        serve(&store).unwrap().unwrap();
        assert!(block_on(later).is_ok());
        let mut again = store.create_stream("first", "session", Vec::new());
        queue(&mut again);
        serve(&store).unwrap().unwrap();
        assert!(block_on(again).is_ok(), "nothing of the lost group was written");
    }

    /// STO-60, INV-ST-32: a file shrinks again when what was in it is gone.
    #[test]
    fn pages_that_nothing_is_in_are_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        let mut operations: Vec<Operation<'_, ()>> = (0_u8..16)
            .map(|number| -> Operation<'_, ()> {
                store.perform(Access::Write, move |tx| {
                    crate::ops::blob::put(tx, &vec![number; 1024 * 1024]).map(|_| ())
                })
            })
            .collect();
        operations
            .push(store.perform(Access::Write, |tx| tx.write("DELETE FROM blobs", []).map(|_| ())));
        operations.iter_mut().for_each(queue);
        serve(&store).unwrap().unwrap();
        let mut writer = Writer::open(&store.shared).unwrap();
        let pages = |writer: &Writer<'_>, name| -> i64 {
            writer.connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
        };
        let before = pages(&writer, "page_count");
        let mut idle = 0;
        while writer.dirty {
            writer.checkpoint();
            idle += 1;
            assert!(idle < 10, "it comes to an end");
        }
        assert!(idle > 1, "some at a time");
        assert_eq!(pages(&writer, "freelist_count"), FREE_PAGES_KEPT);
        assert!(pages(&writer, "page_count") < before / 2);
    }

    #[test]
    fn a_full_disk_is_told_and_survived() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        let mut operations: Vec<Operation<'_, ()>> = vec![
            store.perform(Access::Write, |tx| {
                tx.row("PRAGMA max_page_count = 1", [], |_| Ok(())).map(|_| ())
            }),
            store.perform(Access::Write, |tx| {
                crate::ops::blob::put(tx, &vec![1; 512 * 1024]).map(|_| ())
            }),
            store.perform(Access::Write, |tx| {
                crate::ops::stream::create(tx, "s", "session", &[]).map(|_| ())
            }),
        ];
        operations.iter_mut().for_each(queue);
        serve(&store).unwrap().unwrap();
        let outcomes: Vec<_> = operations.into_iter().map(block_on).collect();
        assert!(matches!(outcomes[1], Err(StoreError::Full(_))), "{outcomes:?}");
        let mut again = store.put_blob(vec![1; 512 * 1024]);
        queue(&mut again);
        serve(&store).unwrap().unwrap();
        assert!(block_on(again).is_ok(), "once there is space again");
    }

    /// Whoever waited would learn after a long time that nobody had answered, and never why.
    #[test]
    fn a_file_that_cannot_be_opened_is_told_to_those_who_wait() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let store = store(&directory);
        let mut waiting = store.create_stream("s", "session", Vec::new());
        queue(&mut waiting);
        std::fs::write(&path, "not a store any more ".repeat(1_000)).unwrap();
        let refused = serve(&store).unwrap().unwrap_err();
        assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused:?}");
        queue_is_empty(&store);
        assert_eq!(block_on(waiting), Err(refused));
    }

    /// A file that is away for a moment: the next writer has what waits.
    #[test]
    fn a_file_that_cannot_be_opened_now_leaves_those_who_wait_to_the_next_writer() {
        let directory = tempfile::tempdir().unwrap();
        let (path, aside) = (directory.path().join("store.db"), directory.path().join("aside.db"));
        let store = store(&directory);
        let mut waiting = store.create_stream("s", "session", Vec::new());
        queue(&mut waiting);
        std::fs::rename(&path, &aside).unwrap();
        let outcome = serve(&store).unwrap();
        assert!(is_unavailable(&outcome), "{outcome:?}");
        assert_eq!(Store::status(&store).queued, 1, "it still waits");
        std::fs::rename(&aside, &path).unwrap();
        serve(&store).unwrap().unwrap();
        assert!(block_on(waiting).is_ok());
    }

    /// After a commit that failed the file is opened anew. Where that fails as well, each that is taken is told why.
    #[test]
    fn a_file_that_cannot_be_opened_again_is_told_to_each_that_was_taken() {
        let directory = tempfile::tempdir().unwrap();
        let (path, aside) = (directory.path().join("store.db"), directory.path().join("aside.db"));
        let store = store(&directory);
        let (from, to) = (path.clone(), aside.clone());
        let mut broken: Operation<'_, ()> = store.perform(Access::Write, move |tx| {
            std::fs::rename(&from, &to).unwrap();
            tx.write("ROLLBACK", []).map(|_| ())
        });
        queue(&mut broken);
        let mut waiting: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .map(|name| store.create_stream(name, "session", Vec::new()))
            .collect();
        waiting.iter_mut().for_each(queue);
        let ended = serve(&store).unwrap().unwrap_err();
        let told = block_on(broken).unwrap_err();
        assert!(told.to_string().contains("the transaction was rolled back"), "{told}");
        let last = waiting.pop().unwrap();
        for one in waiting {
            assert_eq!(block_on(one), Err(StoreError::Unavailable(ended.to_string())));
        }
        std::fs::rename(&aside, &path).unwrap();
        serve(&store).unwrap().unwrap();
        assert!(block_on(last).is_ok(), "the fourth was left to the next writer");
    }

    fn queue_is_empty(store: &SqliteStore) {
        assert_eq!(Store::status(store).queued, 0);
    }

    #[test]
    fn commits_that_fail_are_told_and_end_the_loop_after_three() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        // An operation that ends the transaction makes the group fail; nothing else can do that.
        let broken = || -> Operation<'_, ()> {
            store.perform(Access::Write, |tx| tx.write("ROLLBACK", []).map(|_| ()))
        };
        let fine = |name| store.create_stream(name, "session", Vec::new());
        let mut before = fine("before");
        queue(&mut before);
        let mut failing: Vec<_> = (0..3).map(|_| broken()).collect();
        failing.iter_mut().for_each(queue);
        let mut after = fine("after");
        queue(&mut after);
        assert!(is_unavailable(&serve(&store).unwrap()));
        assert!(is_unavailable(&block_on(before)), "its group failed");
        assert!(failing.into_iter().all(|operation| is_unavailable(&block_on(operation))));
        assert_eq!(Store::status(&store).failed_commits, 3);
        serve(&store).unwrap().unwrap();
        assert!(block_on(after).is_ok());
    }
}
