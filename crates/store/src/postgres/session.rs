//! A connection in the hands of one thread: transactions, and the statements of operations in them.

mod joint;

use std::{
    cell::{Cell as Slot, RefCell},
    collections::HashMap,
    future::Future,
    ops::ControlFlow,
    sync::atomic::Ordering,
    time::Duration,
};

use perennial_core::Timestamp;
use tokio::runtime::Runtime;
use tokio_postgres::{Error, Row, Statement, error::SqlState, types::Type};

use self::joint::Mode;
pub(super) use self::joint::{Foreseen, Performed};
use super::{
    Shared,
    dialect::{self, Locks},
    failure::{self, Trouble},
    link::{Failed, Link},
    trip::{self, Ahead, Group, Owned, Part, Posted, Said},
    value::kind,
};
use crate::{
    StoreError,
    backend::Access,
    transaction::value::{Bind, Cell, Params},
};

const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
/// All statements of it see the same rows, and it cannot write.
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// The server's instant.
macro_rules! now {
    () => {
        "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000000) AS BIGINT)"
    };
}
const NOW: &str = concat!("SELECT ", now!());
/// The instant, and the transaction's number in the server's log, by which its outcome can be asked for later, on
/// the line of history that the server then was on.
macro_rules! opened {
    () => {
        concat!(
            now!(),
            ", CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT), \
             substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)"
        )
    };
}
const OPENED: &str = concat!("SELECT ", opened!());
const OPENED_COLUMNS_OF: &str = opened!();
/// How many columns that are.
const OPENED_COLUMNS: usize = 3;
/// The most statements that a connection keeps prepared. Operations have fewer; how their changes are put together
/// varies.
const STATEMENTS_MAX: usize = 500;
/// Rows that one statement inserts at most: each number of them is a statement of its own.
const ROWS_MAX: usize = 8;
const LOCK: &str = "SELECT 1 FROM heads WHERE stream = $1 FOR UPDATE";
const END: &str = "SELECT revision, next_seq FROM heads WHERE stream = $1";
const STATUS: &str = "SELECT pg_xact_status(CAST(CAST($1 AS TEXT) AS xid8)), \
    substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)";
const TRACE: &str = "SELECT hash FROM events WHERE stream = $1 AND seq = $2";
/// A transaction that hangs is ended, in the server process that had it.
const OVER: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE CAST(CAST(backend_xid AS TEXT) AS BIGINT) = $1 % 4294967296 AND pid = $2";

/// By what a transaction is found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    number: i64,
    line: String,
    /// The server process that has it.
    process: i32,
    /// An event that only it can have written: stream, number, hash.
    trace: Option<(String, i64, String)>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Everything that it wrote is there.
    Committed,
    /// Nothing is there, and never will be.
    RolledBack,
    /// It has not ended.
    UnderWay,
    /// The server does not know.
    Unknown,
}

/// A connection and the runtime that it lives in.
pub(crate) struct Session<'a> {
    shared: &'a Shared,
    link: Link,
    statements: RefCell<HashMap<String, Statement>>,
    /// The worst that happened to the open transaction.
    trouble: Slot<Option<Trouble>>,
    /// What its first failure was told as: what the server says of later statements is only that there was one.
    failure: RefCell<Option<StoreError>>,
    /// See [`Mark::trace`].
    trace: RefCell<Option<(String, i64, String)>>,
    /// Whether the open transaction may have written.
    wrote: Slot<bool>,
    /// Whether a row was not as the open transaction had read it.
    overtaken: Slot<bool>,
    /// Set until the begin of the open transaction is sent, with the first of its statements.
    unsent: Slot<Option<Access>>,
    /// The open transaction's instant, once it is known.
    now: Slot<Option<Timestamp>>,
    /// By what the open transaction is found again, once that is known.
    mark: RefCell<Option<Mark>>,
    /// Changes of the open transaction that are sent with the next trip.
    posted: RefCell<Vec<Posted>>,
    /// Questions of the open transaction that are sent with the next trip.
    ahead: RefCell<Vec<Ahead>>,
    /// What questions that were asked ahead found.
    known: RefCell<Vec<(Ahead, Vec<Row>)>>,
    /// Ends of streams that the open transaction read without a lock: stream, revision, next number.
    ends: RefCell<Vec<(String, i64, i64)>>,
    /// Whether operations are performed alone, or together with others.
    mode: Slot<Mode>,
    /// Whether the operation that is performed with others has to be performed alone.
    strayed: Slot<bool>,
    /// The end of a stream that an operation is going to ask for: its stream, and the question.
    foreseen: RefCell<Option<(String, Ahead)>>,
    /// The end of its stream for an operation that is performed with others.
    told_end: RefCell<Option<Row>>,
    /// Declared last: dropped when nothing lives in it any more.
    runtime: &'a Runtime,
}

impl<'a> Session<'a> {
    pub(super) fn open(shared: &'a Shared, runtime: &'a Runtime) -> Result<Self, StoreError> {
        let link = runtime.block_on(Link::of(shared))?;
        Ok(Self {
            shared,
            link,
            statements: RefCell::default(),
            trouble: Slot::new(None),
            failure: RefCell::default(),
            trace: RefCell::default(),
            wrote: Slot::new(false),
            overtaken: Slot::new(false),
            unsent: Slot::new(None),
            now: Slot::new(None),
            mark: RefCell::default(),
            posted: RefCell::default(),
            ahead: RefCell::default(),
            known: RefCell::default(),
            ends: RefCell::default(),
            mode: Slot::new(Mode::Alone),
            strayed: Slot::new(false),
            foreseen: RefCell::default(),
            told_end: RefCell::default(),
            runtime,
        })
    }

    /// Whether it is of no use any more.
    pub(super) fn is_ended(&self) -> bool {
        self.trouble.get() == Some(Trouble::Lost) || self.link.is_ended()
    }

    /// Lets the connection read what has arrived.
    pub(super) fn look(&self) {
        self.runtime.block_on(self.link.look());
    }

    /// What happened to the open transaction.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.get()
    }

    /// Whether a posted change found its row otherwise than it had been read.
    pub(crate) fn is_overtaken(&self) -> bool {
        self.overtaken.get()
    }

    fn drive<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
        self.shared.counters.trips.fetch_add(1, Ordering::Relaxed);
        self.runtime.block_on(self.link.drive(asked)).map_err(|failed| self.failed(&failed))
    }

    /// One trip: the begin, unless it was sent; what is posted; `asked`; and what is asked ahead. Answers what
    /// `asked` came to. The first failure counts: what comes after it is its consequence.
    fn send(&self, asked: Vec<Part<'_>>, tells: Tells) -> Result<Vec<Said>, StoreError> {
        self.alone()?;
        let groups = Group::all(self.posted.take());
        let ahead = self.ahead.take();
        let statements = groups.iter().map(|group| self.grouped(group));
        let statements = statements.collect::<Result<Vec<_>, _>>()?;
        let questions = ahead.iter().map(|one| {
            let params: Vec<Bind<'_>> = one.params.iter().map(Owned::bind).collect();
            self.translated(&one.sql, &params)
        });
        let questions = questions.collect::<Result<Vec<_>, _>>()?;
        let client = &self.link.client;
        let (mut parts, mut opened) = (Vec::new(), None);
        if let Some(access) = self.unsent.get() {
            let (begin, state) = match access {
                Access::Read => (BEGIN_READ, NOW),
                Access::Write => (BEGIN_WRITE, OPENED),
            };
            parts.push(Part::change(client, &self.prepared(begin, &[])?, Vec::new()));
            if tells == Tells::Nothing {
                opened = Some(parts.len());
                parts.push(Part::query(client, &self.prepared(state, &[])?, Vec::new()));
            }
            self.unsent.set(None);
        }
        let before = parts.len();
        for (group, statement) in groups.iter().zip(&statements) {
            parts.push(Part::change(client, statement, group.params()));
        }
        let (from, count) = (parts.len(), asked.len());
        parts.extend(asked);
        for (one, statement) in ahead.iter().zip(&questions) {
            let params = one.params.iter().map(Owned::bind).collect();
            parts.push(Part::query(client, statement, params));
        }
        let mut said = match self.drive(trip::together(parts))? {
            Ok(said) => said,
            Err((place, failed)) => return Err(self.refused(place, before, groups, &failed)),
        };
        for (one, found) in ahead.into_iter().zip(said.split_off(from + count)) {
            self.known.borrow_mut().push((one, found.found()));
        }
        let answers = said.split_off(from);
        if let Some(place) = opened
            && let Some(row) = said.swap_remove(place).found().first()
        {
            self.opened(row)?;
        }
        Ok(answers)
    }

    /// What the failure of the part at `place` means, the groups' parts being those from `before` on.
    fn refused(
        &self,
        place: usize,
        before: usize,
        groups: Vec<Group>,
        failed: &Failed,
    ) -> StoreError {
        let divided = match failed {
            Failed::Told(error) => error.code() == Some(&SqlState::DIVISION_BY_ZERO),
            Failed::Silent => false,
        };
        let group = place.checked_sub(before).and_then(|place| groups.into_iter().nth(place));
        match group.filter(|_| divided).and_then(Group::gone) {
            Some(gone) => {
                self.overtaken.set(true);
                gone
            }
            None => self.failed(failed),
        }
    }

    /// Notes what a row of [`OPENED`] says, or one of [`NOW`].
    fn opened(&self, row: &Row) -> Result<(), StoreError> {
        let read = || {
            let now = Timestamp::from_micros(row.try_get(0)?);
            let numbered = row.len() >= OPENED_COLUMNS;
            let mark = numbered.then(|| Ok((row.try_get(1)?, row.try_get(2)?))).transpose()?;
            Ok((now, mark))
        };
        let (now, mark) = read().map_err(|error: Error| self.failed(&error.into()))?;
        self.shared.clock.measured(now);
        self.now.set(Some(now));
        if let Some((number, line)) = mark {
            let (process, trace) = (self.link.greeting.process, None);
            self.mark.replace(Some(Mark { number, line, process, trace }));
        }
        Ok(())
    }

    /// The open transaction's instant: that of its begin, or of the last end of a stream that it read. When it cannot be
    /// had, that is the trouble of the transaction, and no instant matters.
    pub(crate) fn now(&self) -> Timestamp {
        if self.now.get().is_none() && self.trouble.get().is_none() {
            // The failure is noted, and whoever performs the transaction looks there.
            drop(self.send(Vec::new(), Tells::Nothing));
        }
        self.now.get().unwrap_or_default()
    }

    /// See [`Tx::post`](crate::transaction::Tx::post) and [`Tx::change`](crate::transaction::Tx::change).
    pub(crate) fn post(&self, sql: &str, params: &[Bind<'_>], gone: Option<StoreError>) {
        self.wrote.set(true);
        let params = params.iter().map(Owned::of).collect();
        self.posted.borrow_mut().push(Posted { sql: sql.to_owned(), params, gone });
    }

    /// How many rows one statement shall insert at most.
    pub(crate) fn rows_max(&self) -> usize {
        match self.mode.get() {
            Mode::Alone => ROWS_MAX,
            // Those of all operations go into one.
            Mode::Foreseeing | Mode::Told => 1,
        }
    }

    /// See [`Tx::post_rows`](crate::transaction::Tx::post_rows): `sql` inserts all of `rows`.
    pub(crate) fn post_rows<P: Params>(&self, sql: &str, rows: &[P]) {
        self.wrote.set(true);
        let mut params = Vec::new();
        for row in rows {
            row.with(|row| params.extend(row.iter().map(Owned::of)));
        }
        self.posted.borrow_mut().push(Posted { sql: sql.to_owned(), params, gone: None });
    }

    /// See [`Tx::ahead`](crate::transaction::Tx::ahead).
    pub(crate) fn ask_ahead(&self, sql: &str, params: &[Bind<'_>]) {
        if self.mode.get() == Mode::Told {
            return;
        }
        let params = params.iter().map(Owned::of).collect();
        self.ahead.borrow_mut().push(Ahead { sql: sql.to_owned(), params });
    }

    fn failed(&self, failed: &Failed) -> StoreError {
        let (trouble, error) = match failed {
            Failed::Told(error) => failure::judge(error, self.shared.address.label()),
            Failed::Silent => {
                let silent = "the server gave no answer in time".to_owned();
                (Trouble::Lost, StoreError::Unavailable(silent))
            }
        };
        // What comes after the first is its consequence, unless it is the end.
        if self.trouble.get().is_none() || trouble == Trouble::Lost {
            self.trouble.set(Some(trouble));
            self.failure.replace(Some(error.clone()));
        }
        let follows = matches!(failed, Failed::Told(error)
            if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
        self.failure().filter(|_| follows).unwrap_or(error)
    }

    /// The failure that the open transaction has its trouble from.
    pub(super) fn failure(&self) -> Option<StoreError> {
        self.failure.borrow().clone()
    }

    /// The statement known as `key`, made from what `text` says.
    fn statement(
        &self,
        key: &str,
        text: impl FnOnce() -> String,
        kinds: impl FnOnce() -> Vec<Type>,
    ) -> Result<Statement, StoreError> {
        if let Some(known) = self.statements.borrow().get(key) {
            return Ok(known.clone());
        }
        let made = self.drive(self.link.client.prepare_typed(&text(), &kinds()))?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(key.to_owned(), made.clone());
        Ok(made)
    }

    /// The statement of `text`, which is PostgreSQL's own.
    fn prepared(&self, text: &str, kinds: &[Type]) -> Result<Statement, StoreError> {
        self.statement(text, || text.to_owned(), || kinds.to_vec())
    }

    /// The statement of an operation.
    fn translated(&self, sql: &str, params: &[Bind<'_>]) -> Result<Statement, StoreError> {
        let text = || dialect::statement(sql, self.locks());
        self.statement(sql, text, || params.iter().map(kind).collect())
    }

    fn grouped(&self, group: &Group) -> Result<Statement, StoreError> {
        let kinds = || group.params().iter().map(kind).collect();
        self.statement(&group.key(), || group.text(self.locks()), kinds)
    }

    fn locks(&self) -> Locks {
        let options = &self.shared.options;
        Locks { rows: options.row_locks, skip: options.skip_locked }
    }

    /// Begins a transaction. The server hears of it with the first statement.
    pub(super) fn begin(&self, access: Access) {
        self.forget();
        self.trouble.set(None);
        self.failure.take();
        self.overtaken.set(false);
        self.ends.borrow_mut().clear();
        self.trace.take();
        self.mark.take();
        self.now.set(None);
        self.wrote.set(false);
        self.unsent.set(Some(access));
    }

    pub(crate) fn lives_by(&self, ttl: Duration) {
        let micros = u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX);
        self.shared.lease.fetch_max(micros, Ordering::Relaxed);
    }

    /// A server that this process found running is one that others have found, too.
    pub(crate) fn is_settling(&self, now: Timestamp) -> bool {
        let started = self.link.greeting.started;
        let lease = Duration::from_micros(self.shared.lease.load(Ordering::Relaxed));
        started > self.shared.opened && now < started.after(lease)
    }

    /// Forgets what is not sent, and what was asked ahead.
    fn forget(&self) {
        self.posted.borrow_mut().clear();
        self.ahead.borrow_mut().clear();
        self.known.borrow_mut().clear();
    }

    /// Ends the transaction; its writes are there when this returns without an error. The commit travels with the
    /// last changes: where one of them fails the server makes a rollback of it, and its own answer is not looked at.
    pub(super) fn commit(&self) -> Result<(), StoreError> {
        self.ahead.borrow_mut().clear();
        if self.unsent.get().is_some() && self.posted.borrow().is_empty() {
            self.unsent.set(None);
            return Ok(());
        }
        let commit = self.prepared("COMMIT", &[])?;
        if self.wrote.get() && self.mark.borrow().is_none() {
            // By what it is found again has to be known before the commit is sent.
            self.send(Vec::new(), Tells::Nothing)?;
        }
        let commit = Part::change(&self.link.client, &commit, Vec::new());
        self.send(vec![commit], Tells::Nothing).map(|_| ())
    }

    /// Ends the transaction; its writes are gone.
    pub(super) fn roll_back(&self) {
        self.forget();
        if self.unsent.take().is_some() {
            return;
        }
        let ended = self
            .prepared("ROLLBACK", &[])
            .and_then(|rollback| self.drive(self.link.client.execute(&rollback, &[])).map(|_| ()));
        if let Err(error) = ended {
            // Then the connection is not used again, and its end is the transaction's.
            tracing::debug!(%error, "rollback failed");
            self.trouble.set(Some(Trouble::Lost));
        }
    }

    /// Whether an end of a stream is no longer as the open transaction read it. Asked before it is
    /// rolled back; what a lock holds cannot have moved.
    pub(super) fn has_moved(&self) -> bool {
        self.forget();
        let ends = self.ends.take();
        ends.iter().any(|(stream, revision, next)| {
            let found = self
                .prepared(END, &[Type::TEXT])
                .and_then(|end| self.drive(self.link.client.query_opt(&end, &[stream])));
            match found {
                Ok(Some(row)) => {
                    let read = || Ok((row.try_get(0)?, row.try_get(1)?));
                    !matches!(read(), Ok::<_, Error>(now) if now == (*revision, *next))
                }
                Ok(None) => true,
                Err(_) => false,
            }
        })
    }

    /// By what the open transaction can be found again; None when that is not known, and then its commit was not sent.
    pub(super) fn traced(&self) -> Option<Mark> {
        let trace = self.trace.take();
        self.mark.take().map(|mark| Mark { trace, ..mark })
    }

    /// Whether the open transaction may have written; else its end is no matter.
    pub(super) fn has_written(&self) -> bool {
        self.wrote.get()
    }

    /// See [`Tx::leaves`](crate::transaction::Tx::leaves).
    pub(crate) fn leaves(&self, stream: &str, seq: i64, hash: &str) {
        self.trace.replace(Some((stream.to_owned(), seq, hash.to_owned())));
    }

    /// How the transaction `mark` ended, on the line of history that it was on.
    ///
    /// After a crash the server may give the number of a transaction of which nothing was kept to another
    /// one: that this number was committed proves nothing, that it was not, does.
    pub(super) fn fate(&self, mark: &Mark) -> Result<Fate, StoreError> {
        self.forget();
        self.trouble.set(None);
        self.failure.take();
        let status = self.prepared(STATUS, &[Type::INT8])?;
        let row = self.drive(self.link.client.query_one(&status, &[&mark.number]))?;
        let read = || Ok((row.try_get::<_, Option<String>>(0)?, row.try_get::<_, String>(1)?));
        let (status, line) = read().map_err(|error: Error| self.failed(&error.into()))?;
        if line != mark.line {
            return Ok(Fate::Unknown);
        }
        match (status.as_deref(), &mark.trace) {
            (Some("aborted"), _) => Ok(Fate::RolledBack),
            (Some("committed"), Some((stream, seq, hash))) => {
                let trace = self.prepared(TRACE, &[Type::TEXT, Type::INT8])?;
                let row = self.drive(self.link.client.query_opt(&trace, &[stream, seq]))?;
                let found = row.map(|row| row.try_get::<_, String>(0)).transpose();
                let found = found.map_err(|error| self.failed(&error.into()))?;
                let ours = found.as_ref() == Some(hash);
                Ok(if ours { Fate::Committed } else { Fate::RolledBack })
            }
            (Some("committed") | None, _) => Ok(Fate::Unknown),
            (Some(_), _) => Ok(Fate::UnderWay),
        }
    }

    /// Ends the server process that still has the transaction `mark`, so that its fate is decided.
    pub(super) fn cut_off(&self, mark: &Mark) -> Result<(), StoreError> {
        let over = self.prepared(OVER, &[Type::INT8, Type::INT4])?;
        self.drive(self.link.client.query(&over, &[&mark.number, &mark.process])).map(|_| ())
    }

    /// See [`Tx::write`](crate::transaction::Tx::write).
    pub(crate) fn write(&self, sql: &str, params: &[Bind<'_>]) -> Result<usize, StoreError> {
        self.alone()?;
        let statement = self.translated(sql, params)?;
        self.wrote.set(true);
        let part = Part::change(&self.link.client, &statement, params.to_vec());
        let said = self.send(vec![part], Tells::Nothing)?;
        Ok(said.first().map_or(0, |said| usize::try_from(said.changed()).unwrap_or(usize::MAX)))
    }

    /// Hands out rows until `row` has enough.
    pub(crate) fn each(
        &self,
        sql: &str,
        params: &[Bind<'_>],
        row: &mut dyn FnMut(&Row) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        for found in self.rows(sql, params)? {
            if row(&found)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn rows(&self, sql: &str, params: &[Bind<'_>]) -> Result<Vec<Row>, StoreError> {
        let is_ahead = self.ahead.borrow().iter().any(|one| one.is(sql, params));
        if is_ahead {
            self.send(Vec::new(), Tells::Nothing)?;
        }
        let place = self.known.borrow().iter().position(|(one, _)| one.is(sql, params));
        if let Some(place) = place {
            return Ok(self.known.borrow_mut().swap_remove(place).1);
        }
        self.alone()?;
        let statement = self.translated(sql, params)?;
        if !sql.starts_with("SELECT") {
            self.wrote.set(true);
        }
        let part = Part::query(&self.link.client, &statement, params.to_vec());
        let said = self.send(vec![part], Tells::Nothing)?;
        Ok(said.into_iter().next().map(Said::found).unwrap_or_default())
    }

    /// Locks the end of `stream`, and then reads and asks for the time, so that whoever holds the end later
    /// has a later instant. `read` gets the row, and how many columns are before those of `sql`; the first of these is
    /// never null.
    pub(crate) fn end_of_stream(
        &self,
        stream: &str,
        sql: &str,
        params: &[Bind<'_>],
        read: &mut dyn FnMut(&Row, usize) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.mode.get() != Mode::Alone {
            return self.joint_end(stream, sql, params, read);
        }
        let client = &self.link.client;
        let text = || {
            let sql = dialect::statement(sql, self.locks());
            format!("SELECT {}, t.* FROM (SELECT 1) one LEFT JOIN ({sql}) t ON TRUE", opened!())
        };
        let kinds = || params.iter().map(kind).collect();
        let statement = self.statement(&format!("end {sql}"), text, kinds)?;
        // Without a lock its state is kept for comparison instead.
        let locks = self.shared.options.row_locks;
        let held = self.prepared(if locks { LOCK } else { END }, &[Type::TEXT])?;
        let held = Part::query(client, &held, vec![Bind::Text(stream)]);
        let found = Part::query(client, &statement, params.to_vec());
        let mut said = self.send(vec![held, found], Tells::Opened)?.into_iter().map(Said::found);
        let (held, found) = (said.next().unwrap_or_default(), said.next().unwrap_or_default());
        if let (false, Some(end)) = (locks, held.first()) {
            let read = || Ok((end.try_get(0)?, end.try_get(1)?));
            let (revision, next) = read().map_err(|error: Error| self.failed(&error.into()))?;
            self.ends.borrow_mut().push((stream.to_owned(), revision, next));
        }
        let Some(row) = found.first() else { return Err(self.failed(&Failed::Silent)) };
        self.end_from(row, read)
    }

    /// Notes what is in front of the end of a stream, and reads the end itself, if there is one.
    fn end_from(
        &self,
        row: &Row,
        read: &mut dyn FnMut(&Row, usize) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.opened(row)?;
        let missing = row
            .try_get::<_, Cell<'_>>(OPENED_COLUMNS)
            .map_err(|error| self.failed(&error.into()))?
            .is_null();
        if missing { Ok(()) } else { read(row, OPENED_COLUMNS) }
    }
}

/// Whether what is asked tells the instant and the number of the transaction itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tells {
    Nothing,
    Opened,
}

#[cfg(test)]
mod tests;
