//! One open transaction as operations see it: statements and one instant, and no way to end it.

pub(crate) mod value;

use std::{cell::Cell as Slot, ops::ControlFlow, path::Path, str::FromStr};

use perennial_core::Timestamp;
use rusqlite::{Connection, ErrorCode, Row, types::ValueRef};
use serde_json::Value;

use self::value::{Cell, FromCell, Params};
use crate::StoreError;
#[cfg(feature = "postgres")]
use crate::postgres::Session;

/// Largest payload and largest blob. The engine's own limit is near 1 GB; far below it, one row
/// cannot hold up the writer for long.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What an operation may do: read and write rows at one instant.
///
/// Statements are written for all engines: numbered parameters `?1`, integers, texts and bytes, and
/// what the dialects have in common. What only helps the server of a PostgreSQL store stands in them as
/// a comment (see the room `dialect`).
pub(crate) struct Tx<'a> {
    engine: Engine<'a>,
    /// Which opening of the store this is (see the room of nodes).
    opening: i64,
    /// Of a file, or of memory.
    now: Timestamp,
    /// The last event of the stream that was read last.
    told_last: Slot<Timestamp>,
    /// Payload bytes that were written.
    bytes: Slot<usize>,
    /// Whether a write found a row otherwise than it had been read.
    overtaken: Slot<bool>,
    /// Whether it has been asked to change something.
    wrote: Slot<bool>,
}

/// Who performs the statements.
enum Engine<'a> {
    /// Rows of a file, or of memory; errors name the place.
    Sqlite(&'a Connection, &'a Path),
    /// Rows of a server.
    #[cfg(feature = "postgres")]
    Postgres(&'a Session<'a>),
}

impl<'a> Tx<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        origin: &'a Path,
        opening: i64,
        now: Timestamp,
    ) -> Self {
        Self::of(Engine::Sqlite(connection, origin), opening, now)
    }

    /// A transaction on a server, whose instant the server tells.
    #[cfg(feature = "postgres")]
    pub(crate) fn on_server(session: &'a Session<'a>, opening: i64) -> Self {
        Self::of(Engine::Postgres(session), opening, Timestamp::default())
    }

    fn of(engine: Engine<'a>, opening: i64, now: Timestamp) -> Self {
        let (bytes, overtaken) = (Slot::new(0), Slot::new(false));
        let (told_last, wrote) = (Slot::new(Timestamp::default()), Slot::new(false));
        Self { engine, opening, now, told_last, bytes, overtaken, wrote }
    }

    /// The store's instant: by it is decided what is due, and whose lease is over.
    pub(crate) fn now(&self) -> Timestamp {
        match &self.engine {
            Engine::Sqlite(..) => self.now,
            #[cfg(feature = "postgres")]
            Engine::Postgres(session) => session.now(),
        }
    }

    /// The instant of what this transaction adds to a history: not before what that tells already, also when a
    /// server's clock was set back.
    pub(crate) fn at(&self) -> Timestamp {
        self.now().max(self.told_last.get())
    }

    /// The stream that is gone on with tells of this instant last.
    pub(crate) fn goes_on_from(&self, told_last: Timestamp) {
        self.told_last.set(told_last);
    }

    /// The node of this process has leases of that length.
    pub(crate) fn lives_by(&self, ttl: std::time::Duration) {
        match &self.engine {
            Engine::Sqlite(..) => {
                let _ = ttl;
            }
            #[cfg(feature = "postgres")]
            Engine::Postgres(session) => session.lives_by(ttl),
        }
    }

    /// Whether the server was started again less than a lease ago: then others have the first word about what is
    /// theirs, because they may live and have had nobody to renew their lease with (STO-45).
    pub(crate) fn is_settling(&self) -> bool {
        match &self.engine {
            Engine::Sqlite(..) => false,
            #[cfg(feature = "postgres")]
            Engine::Postgres(session) => session.is_settling(self.now()),
        }
    }

    pub(crate) fn opening(&self) -> i64 {
        self.opening
    }

    /// Payload bytes written so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Marks `error` as what another transaction caused between a read and a write of this one: the same
    /// operation, done again, finds out what it comes to now. Where one transaction writes at a time that
    /// cannot happen.
    pub(crate) fn overtaken(&self, error: StoreError) -> StoreError {
        self.overtaken.set(true);
        error
    }

    /// Whether [`Tx::overtaken`] was called.
    #[cfg(feature = "postgres")]
    pub(crate) fn is_overtaken(&self) -> bool {
        match &self.engine {
            Engine::Sqlite(..) => self.overtaken.get(),
            Engine::Postgres(session) => self.overtaken.get() || session.is_overtaken(),
        }
    }

    /// Changes rows and tells how many.
    pub(crate) fn write(&self, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        self.wrote.set(true);
        params.with(|params| match &self.engine {
            Engine::Sqlite(connection, origin) => connection
                .prepare_cached(sql)
                .and_then(|mut statement| statement.execute(rusqlite::params_from_iter(params)))
                .map_err(|error| failure(&error, origin)),
            #[cfg(feature = "postgres")]
            Engine::Postgres(session) => session.write(sql, params),
        })
    }

    /// The last event that this transaction wrote to `stream`, with its hash, which no other transaction comes to: by
    /// it can be told later whether it was committed.
    pub(crate) fn leaves(&self, stream: &str, seq: u64, hash: &str) {
        match &self.engine {
            Engine::Sqlite(..) => {
                let _ = (stream, seq, hash);
            }
            #[cfg(feature = "postgres")]
            Engine::Postgres(session) => session.leaves(stream, int(seq), hash),
        }
    }

    /// Changes rows of which nothing has to be known. As [`Tx::write`], but a server may be told only together with
    /// what comes next, and then that fails in its place.
    pub(crate) fn post(&self, sql: &str, params: impl Params) -> Result<(), StoreError> {
        self.wrote.set(true);
        match &self.engine {
            Engine::Sqlite(..) => self.write(sql, params).map(|_| ()),
            #[cfg(feature = "postgres")]
            Engine::Postgres(session) => {
                params.with(|params| session.post(sql, params, None));
                Ok(())
            }
        }
    }

    /// Inserts `rows`, of as many columns each, as [`Tx::post`] does. `into` is the statement up to its `VALUES`.
    pub(crate) fn post_rows<P: Params>(&self, into: &str, rows: &[P]) -> Result<(), StoreError> {
        let Some(first) = rows.first() else { return Ok(()) };
        let width = first.with(|row| row.len());
        self.wrote.set(true);
        match &self.engine {
            Engine::Sqlite(..) => {
                let sql = format!("{into} VALUES {}", value::rows(1, width));
                rows.iter().try_for_each(|row| self.write(&sql, row).map(|_| ()))
            }
            #[cfg(feature = "postgres")]
            Engine::Postgres(session) => {
                for rows in rows.chunks(session.rows_max()) {
                    let sql = format!("{into} VALUES {}", value::rows(rows.len(), width));
                    session.post_rows(&sql, rows);
                }
                Ok(())
            }
        }
    }

    /// Says that `sql` will be asked with `params`, in this transaction, before anything that it reads is changed. A
    /// server may be asked together with what comes next, also when that is [`Tx::end_of_stream`]: the answer is
    /// not older than that end.
    ///
    /// It is said before the transaction's first change: an answer that is older than a change of the same transaction
    /// would be another one than that of an engine that is asked only later.
    pub(crate) fn ahead(&self, sql: &str, params: impl Params) {
        debug_assert!(
            !self.wrote.get(),
            "asked ahead behind a change of the same transaction: {sql}"
        );
        self.ahead_of_own(sql, params);
    }

    /// As [`Tx::ahead`], of rows that this transaction itself has made, and does not change again before it asks: the
    /// question travels behind those changes.
    pub(crate) fn ahead_of_own(&self, sql: &str, params: impl Params) {
        match &self.engine {
            Engine::Sqlite(..) => {
                let _ = (sql, params);
            }
            #[cfg(feature = "postgres")]
            Engine::Postgres(session) => params.with(|params| session.ask_ahead(sql, params)),
        }
    }

    /// Whether new rows get their ids from questions that are asked ahead of them, by a server: that spares a trip for each.
    pub(crate) fn numbers_ahead(&self) -> bool {
        match &self.engine {
            Engine::Sqlite(..) => false,
            #[cfg(feature = "postgres")]
            Engine::Postgres(_) => true,
        }
    }

    /// Changes a row that was read in this transaction; `gone` when it is no longer as it was read. As
    /// [`Tx::post`] otherwise; it is known before the transaction is committed.
    pub(crate) fn change(
        &self,
        sql: &str,
        params: impl Params,
        gone: impl FnOnce() -> StoreError,
    ) -> Result<(), StoreError> {
        self.wrote.set(true);
        match &self.engine {
            Engine::Sqlite(..) => match self.write(sql, params)? {
                0 => Err(self.overtaken(gone())),
                _ => Ok(()),
            },
            #[cfg(feature = "postgres")]
            Engine::Postgres(session) => {
                params.with(|params| session.post(sql, params, Some(gone())));
                Ok(())
            }
        }
    }

    /// The first row, if any.
    pub(crate) fn row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Columns<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let (mut read, mut found) = (Some(read), None);
        self.each(sql, &params, |row| {
            found = read.take().map(|read| read(row)).transpose()?;
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// The first row of the end of `stream`, if it exists, whose first column is never null; what is read from here on is not older than
    /// that row, and nobody else changes the stream before this transaction has ended. An engine on which several
    /// transactions write at a time may do without the latter: whoever goes on from the end of a
    /// stream writes it on the condition that it is still as it was read.
    pub(crate) fn end_of_stream<T>(
        &self,
        stream: &str,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Columns<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        #[cfg(not(feature = "postgres"))]
        let _ = stream;
        match &self.engine {
            Engine::Sqlite(..) => self.row(sql, params, read),
            #[cfg(feature = "postgres")]
            Engine::Postgres(session) => {
                let (mut read, mut found) = (Some(read), None);
                params.with(|params| {
                    session.end_of_stream(stream, sql, params, &mut |row, before| {
                        let row = Columns::of(Source::Postgres(row));
                        row.next.set(before);
                        found = read.take().map(|read| read(&row)).transpose()?;
                        Ok(())
                    })
                })?;
                Ok(found)
            }
        }
    }

    /// All rows.
    pub(crate) fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Columns<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        self.each(sql, &params, |row| {
            found.push(read(row)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Hands out rows until `row` has enough.
    fn each(
        &self,
        sql: &str,
        params: &impl Params,
        mut row: impl FnMut(&Columns<'_>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        if !sql.starts_with("SELECT") {
            self.wrote.set(true);
        }
        params.with(|params| match &self.engine {
            Engine::Sqlite(connection, origin) => {
                let failed = |error| failure(&error, origin);
                let mut statement = connection.prepare_cached(sql).map_err(failed)?;
                let params = rusqlite::params_from_iter(params);
                let mut rows = statement.query(params).map_err(failed)?;
                while let Some(found) = rows.next().map_err(failed)? {
                    if row(&Columns::of(Source::Sqlite(found)))?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
            #[cfg(feature = "postgres")]
            Engine::Postgres(session) => {
                session.each(sql, params, &mut |found| row(&Columns::of(Source::Postgres(found))))
            }
        })
    }

    /// A payload as it is stored.
    pub(crate) fn json(&self, what: &'static str, value: &Value) -> Result<String, StoreError> {
        let text = value.to_string();
        self.admit(what, text.len(), PAYLOAD_BYTES_MAX)?;
        Ok(text)
    }

    /// Counts `bytes` of payload, unless they are too many.
    pub(crate) fn admit(
        &self,
        what: &'static str,
        bytes: usize,
        max: usize,
    ) -> Result<(), StoreError> {
        if bytes > max {
            return Err(StoreError::TooLarge { what, bytes, max });
        }
        self.bytes.set(self.bytes.get() + bytes);
        Ok(())
    }
}

/// The columns of one row, read from left to right.
pub(crate) struct Columns<'r> {
    row: Source<'r>,
    next: Slot<usize>,
}

/// A row of an engine.
enum Source<'r> {
    Sqlite(&'r Row<'r>),
    #[cfg(feature = "postgres")]
    Postgres(&'r tokio_postgres::Row),
}

impl<'r> Columns<'r> {
    fn of(row: Source<'r>) -> Self {
        Self { row, next: Slot::new(0) }
    }

    fn unreadable(&self, why: String) -> StoreError {
        let place = self.next.get().saturating_sub(1);
        let name = match &self.row {
            Source::Sqlite(row) => row.as_ref().column_name(place).ok(),
            #[cfg(feature = "postgres")]
            Source::Postgres(row) => row.columns().get(place).map(tokio_postgres::Column::name),
        };
        StoreError::Unreadable { what: name.unwrap_or("?").to_owned(), why }
    }

    /// The next column as it is.
    pub(crate) fn get<T: FromCell>(&self) -> Result<T, StoreError> {
        let place = self.next.replace(self.next.get() + 1);
        self.cell(place).and_then(T::from_cell).map_err(|why| self.unreadable(why))
    }

    fn cell(&self, place: usize) -> Result<Cell<'_>, String> {
        match &self.row {
            Source::Sqlite(row) => match row.get_ref(place).map_err(|error| error.to_string())? {
                ValueRef::Null => Ok(Cell::Null),
                ValueRef::Integer(number) => Ok(Cell::Int(number)),
                ValueRef::Real(number) => Err(format!("{number} is no whole number")),
                ValueRef::Text(text) => {
                    std::str::from_utf8(text).map(Cell::Text).map_err(|error| error.to_string())
                }
                ValueRef::Blob(bytes) => Ok(Cell::Blob(bytes)),
            },
            #[cfg(feature = "postgres")]
            Source::Postgres(row) => row.try_get(place).map_err(|error| error.to_string()),
        }
    }

    /// The next column as a number that cannot be negative.
    pub(crate) fn count(&self) -> Result<u64, StoreError> {
        let number: i64 = self.get()?;
        u64::try_from(number).map_err(|error| self.unreadable(error.to_string()))
    }

    /// The next column as a value that is stored as text.
    pub(crate) fn parse<T: FromStr<Err: std::fmt::Display>>(&self) -> Result<T, StoreError> {
        let text: String = self.get()?;
        text.parse().map_err(|error: T::Err| self.unreadable(error.to_string()))
    }

    /// As [`Columns::parse`], where there may be none.
    pub(crate) fn parse_maybe<T: FromStr<Err: std::fmt::Display>>(
        &self,
    ) -> Result<Option<T>, StoreError> {
        let text: Option<String> = self.get()?;
        text.map(|text| text.parse().map_err(|error: T::Err| self.unreadable(error.to_string())))
            .transpose()
    }

    /// As [`Columns::parse`], by a function.
    pub(crate) fn read<C: FromCell, T, E: std::fmt::Display>(
        &self,
        read: impl FnOnce(C) -> Result<T, E>,
    ) -> Result<T, StoreError> {
        read(self.get()?).map_err(|error| self.unreadable(error.to_string()))
    }

    /// The next column as a payload.
    pub(crate) fn json(&self) -> Result<Value, StoreError> {
        self.read(|text: String| serde_json::from_str(&text))
    }

    /// As [`Columns::json`], where there may be none.
    pub(crate) fn json_maybe(&self) -> Result<Option<Value>, StoreError> {
        let text: Option<String> = self.get()?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| self.unreadable(error.to_string()))
    }

    /// The next column as an instant.
    pub(crate) fn instant(&self) -> Result<Timestamp, StoreError> {
        self.get().map(Timestamp::from_micros)
    }

    /// As [`Columns::instant`], where there may be none.
    pub(crate) fn instant_maybe(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.get::<Option<i64>>()?.map(Timestamp::from_micros))
    }
}

/// A count as the engines keep it.
pub(crate) fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What an error of the engine means to callers.
pub(crate) fn failure(error: &rusqlite::Error, origin: &Path) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(error.to_string()),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupt { path: origin.to_owned(), what: error.to_string() }
        }
        // A unique key or a reference: somebody else was first, or what it needs is not there.
        Some(ErrorCode::ConstraintViolation) => {
            StoreError::Conflict { what: format!("a record ({error})") }
        }
        // No statement of ours: its tables are not what they should be, and are the same at the next try.
        _ if lacks_schema(error) => {
            let what = format!("its tables are not those of its version: {error}");
            StoreError::Corrupt { path: origin.to_owned(), what }
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// Whether the engine does not find a table or a column.
fn lacks_schema(error: &rusqlite::Error) -> bool {
    let is_of_statement = matches!(error, rusqlite::Error::SqlInputError { .. })
        || error
            .sqlite_error()
            .is_some_and(|code| code.extended_code == rusqlite::ffi::SQLITE_ERROR);
    let text = error.to_string();
    is_of_statement && ["no such table", "no such column"].iter().any(|it| text.contains(it))
}
