//! A connection in the hands of one thread: transactions, and the statements of operations in them.

use std::{
    cell::{Cell as Slot, RefCell},
    collections::HashMap,
    future::Future,
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use bytes::BytesMut;
use perennial_core::Timestamp;
use tokio::runtime::Runtime;
use tokio_postgres::{
    Error, Row, Statement,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};

use super::{
    Shared,
    dialect::{self, Locks},
    failure::{self, Trouble},
    link::{Failed, Link},
};
use crate::{
    StoreError,
    backend::Access,
    transaction::value::{Bind, Cell, Kind},
};

const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
/// All statements of it see the same rows, and it cannot write.
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const NOW: &str = "SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000000) AS BIGINT)";
/// The transaction's number in the server's log, by which its outcome can be asked for later, on the
/// line of history that the server then was on.
const MARK: &str = "SELECT CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT), \
    substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)";
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

/// A statement whose answer nobody waits for on its own.
struct Posted {
    asked: Pin<Box<dyn Future<Output = Result<u64, Error>>>>,
    answer: Option<Result<u64, Error>>,
    /// What it means that it changed nothing, where that means something.
    gone: Option<StoreError>,
}

/// A connection and the runtime that it lives in.
pub(crate) struct Session<'a> {
    shared: &'a Shared,
    link: Link,
    statements: RefCell<HashMap<String, Statement>>,
    /// The worst that happened to the open transaction.
    trouble: Slot<Option<Trouble>>,
    /// See [`Mark::trace`].
    trace: RefCell<Option<(String, i64, String)>>,
    /// Whether the open transaction may have written.
    wrote: Slot<bool>,
    /// Whether a row was not as the open transaction had read it.
    overtaken: Slot<bool>,
    /// Statements of the open transaction that are sent with the next one.
    posted: RefCell<Vec<Posted>>,
    /// Ends of streams that the open transaction read without a lock: stream, revision, next number.
    ends: RefCell<Vec<(String, i64, i64)>>,
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
            trace: RefCell::default(),
            overtaken: Slot::new(false),
            posted: RefCell::default(),
            wrote: Slot::new(false),
            ends: RefCell::default(),
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

    /// Sends what is posted and then `asked`, and waits for all answers. The first failure counts: what
    /// comes after it is its consequence.
    fn drive<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
        let mut posted = self.posted.take();
        if posted.is_empty() {
            return self.runtime.block_on(self.link.drive(asked)).map_err(|it| self.failed(&it));
        }
        let answer = self.runtime.block_on(self.link.drive(async {
            let (mut asked, mut answer) = (pin!(asked), None);
            std::future::poll_fn(|cx| {
                let mut waiting = false;
                for one in posted.iter_mut().filter(|one| one.answer.is_none()) {
                    match one.asked.as_mut().poll(cx) {
                        Poll::Ready(answer) => one.answer = Some(answer),
                        Poll::Pending => waiting = true,
                    }
                }
                if answer.is_none() {
                    match asked.as_mut().poll(cx) {
                        Poll::Ready(given) => answer = Some(given),
                        Poll::Pending => waiting = true,
                    }
                }
                if waiting { Poll::Pending } else { Poll::Ready(Ok(answer.take())) }
            })
            .await
        }));
        let answer = answer.map_err(|failed| self.failed(&failed))?;
        for Posted { answer, gone, .. } in posted {
            match (answer, gone) {
                (Some(Err(error)), _) => return Err(self.failed(&error.into())),
                (Some(Ok(0)), Some(gone)) => {
                    self.overtaken.set(true);
                    return Err(gone);
                }
                (Some(Ok(_)), _) | (None, _) => (),
            }
        }
        match answer {
            Some(answer) => answer.map_err(|error| self.failed(&error.into())),
            None => Err(self.failed(&Failed::Silent)),
        }
    }

    /// See [`Tx::post`](crate::transaction::Tx::post) and [`Tx::change`](crate::transaction::Tx::change).
    pub(crate) fn post(
        &self,
        sql: &str,
        params: &[Bind<'_>],
        gone: Option<StoreError>,
    ) -> Result<(), StoreError> {
        let statement = self.translated(sql, params)?;
        self.wrote.set(true);
        let client = Arc::clone(&self.link.client);
        let params: Vec<Owned> = params.iter().map(Owned::of).collect();
        let asked = Box::pin(async move {
            let params: Vec<Bind<'_>> = params.iter().map(Owned::bind).collect();
            client.execute(&statement, &refs(&params)).await
        });
        self.posted.borrow_mut().push(Posted { asked, answer: None, gone });
        Ok(())
    }

    fn failed(&self, failed: &Failed) -> StoreError {
        let (trouble, error) = match failed {
            Failed::Told(error) => failure::judge(error),
            Failed::Silent => {
                let silent = "the server gave no answer in time".to_owned();
                (Trouble::Lost, StoreError::Unavailable(silent))
            }
        };
        // What comes after the first is its consequence, unless it is the end.
        if self.trouble.get().is_none() || trouble == Trouble::Lost {
            self.trouble.set(Some(trouble));
        }
        error
    }

    /// The statement of `text`, which is PostgreSQL's own.
    fn prepared(&self, text: &str, kinds: &[Type]) -> Result<Statement, StoreError> {
        if let Some(known) = self.statements.borrow().get(text) {
            return Ok(known.clone());
        }
        let made = self.drive(self.link.client.prepare_typed(text, kinds))?;
        self.statements.borrow_mut().insert(text.to_owned(), made.clone());
        Ok(made)
    }

    /// The statement of an operation.
    fn translated(&self, sql: &str, params: &[Bind<'_>]) -> Result<Statement, StoreError> {
        if let Some(known) = self.statements.borrow().get(sql) {
            return Ok(known.clone());
        }
        let options = &self.shared.options;
        let locks = Locks { rows: options.row_locks, skip: options.skip_locked };
        let kinds: Vec<Type> = params.iter().map(kind).collect();
        let text = dialect::statement(sql, locks);
        let made = self.drive(self.link.client.prepare_typed(&text, &kinds))?;
        self.statements.borrow_mut().insert(sql.to_owned(), made.clone());
        Ok(made)
    }

    /// Begins a transaction; the server's instant, and the mark of one that writes.
    pub(super) fn begin(&self, access: Access) -> Result<(Timestamp, Option<Mark>), StoreError> {
        self.trouble.set(None);
        self.overtaken.set(false);
        self.posted.borrow_mut().clear();
        self.ends.borrow_mut().clear();
        self.trace.take();
        self.wrote.set(false);
        let client = &self.link.client;
        let now = self.prepared(NOW, &[])?;
        let (row, mark) = match access {
            Access::Read => {
                let begin = self.prepared(BEGIN_READ, &[])?;
                let (begun, row) = self.drive(async {
                    let both = async {
                        tokio::join!(biased; client.execute(&begin, &[]), client.query_one(&now, &[]))
                    };
                    Ok(both.await)
                })?;
                begun.map_err(|error| self.failed(&error.into()))?;
                (row, None)
            }
            Access::Write => {
                let (begin, mark) = (self.prepared(BEGIN_WRITE, &[])?, self.prepared(MARK, &[])?);
                let (begun, row, mark) = self.drive(async {
                    let all = async {
                        tokio::join!(
                            biased;
                            client.execute(&begin, &[]),
                            client.query_one(&now, &[]),
                            client.query_one(&mark, &[])
                        )
                    };
                    Ok(all.await)
                })?;
                begun.map_err(|error| self.failed(&error.into()))?;
                let mark = mark.map_err(|error| self.failed(&error.into()))?;
                let (process, trace) = (self.link.greeting.process, None);
                let read = || {
                    let (number, line) = (mark.try_get(0)?, mark.try_get(1)?);
                    Ok(Mark { number, line, process, trace })
                };
                (row, Some(read().map_err(|error: Error| self.failed(&error.into()))?))
            }
        };
        let row = row.map_err(|error| self.failed(&error.into()))?;
        Ok((self.instant(&row)?, mark))
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

    fn instant(&self, row: &Row) -> Result<Timestamp, StoreError> {
        let micros = row.try_get(0).map_err(|error| self.failed(&error.into()))?;
        let now = Timestamp::from_micros(micros);
        self.shared.clock.measured(now);
        Ok(now)
    }

    /// Ends the transaction; its writes are there when this returns without an error.
    pub(super) fn commit(&self) -> Result<(), StoreError> {
        let commit = self.prepared("COMMIT", &[])?;
        // What a change came to is known before the commit is sent.
        if self.posted.borrow().iter().any(|one| one.gone.is_some()) {
            self.drive(std::future::ready(Ok(())))?;
        }
        self.drive(self.link.client.execute(&commit, &[])).map(|_| ())
    }

    /// Ends the transaction; its writes are gone.
    pub(super) fn roll_back(&self) {
        self.posted.borrow_mut().clear();
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
        self.posted.borrow_mut().clear();
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

    /// By what the open transaction can be found again; None when it wrote nothing, so that its end is no
    /// matter.
    pub(super) fn traced(&self, mark: Option<Mark>) -> Option<Mark> {
        let trace = self.trace.take();
        mark.filter(|_| self.wrote.get()).map(|mark| Mark { trace, ..mark })
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
        self.trouble.set(None);
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
        let statement = self.translated(sql, params)?;
        let params = refs(params);
        self.wrote.set(true);
        let rows = self.drive(self.link.client.execute(&statement, &params))?;
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    /// Hands out rows until `row` has enough.
    pub(crate) fn each(
        &self,
        sql: &str,
        params: &[Bind<'_>],
        row: &mut dyn FnMut(&Row) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let statement = self.translated(sql, params)?;
        let params = refs(params);
        if !sql.starts_with("SELECT") {
            self.wrote.set(true);
        }
        for found in self.drive(self.link.client.query(&statement, &params))? {
            if row(&found)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Locks the end of `stream`, reads, and then asks for the time, so that whoever holds the end later
    /// has a later instant.
    pub(crate) fn end_of_stream(
        &self,
        stream: &str,
        sql: &str,
        params: &[Bind<'_>],
        read: &mut dyn FnMut(&Row) -> Result<(), StoreError>,
    ) -> Result<Timestamp, StoreError> {
        let (statement, now) = (self.translated(sql, params)?, self.prepared(NOW, &[])?);
        let (end, params) = (self.prepared(END, &[Type::TEXT])?, refs(params));
        let lock = if self.shared.options.row_locks {
            Some(self.prepared(LOCK, &[Type::TEXT])?)
        } else {
            None
        };
        let client = &self.link.client;
        let locked = async {
            match &lock {
                Some(lock) => client.query_opt(lock, &[&stream]).await,
                // Then its state is kept for comparison instead.
                None => client.query_opt(&end, &[&stream]).await,
            }
        };
        let (locked, found, now) = self.drive(async {
            let (query, time) =
                (client.query_opt(&statement, &params), client.query_one(&now, &[]));
            Ok(tokio::join!(biased; locked, query, time))
        })?;
        let locked = locked.map_err(|error| self.failed(&error.into()))?;
        if let (None, Some(end)) = (&lock, locked) {
            let read = || Ok((end.try_get(0)?, end.try_get(1)?));
            let (revision, next) = read().map_err(|error: Error| self.failed(&error.into()))?;
            self.ends.borrow_mut().push((stream.to_owned(), revision, next));
        }
        if let Some(found) = found.map_err(|error| self.failed(&error.into()))? {
            read(&found)?;
        }
        let now = now.map_err(|error| self.failed(&error.into()))?;
        self.instant(&now)
    }
}

/// A parameter that outlives its caller's.
enum Owned {
    Null(Kind),
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl Owned {
    fn of(bind: &Bind<'_>) -> Self {
        match *bind {
            Bind::Null(kind) => Self::Null(kind),
            Bind::Int(number) => Self::Int(number),
            Bind::Text(text) => Self::Text(text.to_owned()),
            Bind::Blob(bytes) => Self::Blob(bytes.to_owned()),
        }
    }

    fn bind(&self) -> Bind<'_> {
        match self {
            Self::Null(kind) => Bind::Null(*kind),
            Self::Int(number) => Bind::Int(*number),
            Self::Text(text) => Bind::Text(text),
            Self::Blob(bytes) => Bind::Blob(bytes),
        }
    }
}

fn kind(bind: &Bind<'_>) -> Type {
    match bind {
        Bind::Null(Kind::Int) | Bind::Int(_) => Type::INT8,
        Bind::Null(Kind::Text) | Bind::Text(_) => Type::TEXT,
        Bind::Null(Kind::Blob) | Bind::Blob(_) => Type::BYTEA,
    }
}

fn refs<'a>(params: &'a [Bind<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|param| param as &(dyn ToSql + Sync)).collect()
}

impl ToSql for Bind<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Bind::Null(_) => Ok(IsNull::Yes),
            Bind::Int(number) => number.to_sql(ty, out),
            Bind::Text(text) => text.to_sql(ty, out),
            Bind::Blob(bytes) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::BYTEA].contains(ty)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Cell<'a> {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match *ty {
            Type::INT8 => Cell::Int(i64::from_sql(ty, raw)?),
            Type::INT4 => Cell::Int(i32::from_sql(ty, raw)?.into()),
            Type::BOOL => Cell::Int(bool::from_sql(ty, raw)?.into()),
            Type::BYTEA => Cell::Blob(raw),
            _ => Cell::Text(std::str::from_utf8(raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Cell::Null)
    }

    fn accepts(ty: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::BOOL, Type::BYTEA, Type::TEXT].contains(ty)
    }
}
