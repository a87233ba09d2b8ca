//! One open transaction as operations see it: statements and one instant, and no way to end it.

use std::{cell::Cell, path::Path, str::FromStr};

use perennial_core::Timestamp;
use rusqlite::{Connection, ErrorCode, Params, Row, types::FromSql};
use serde_json::Value;

use crate::StoreError;

/// Largest payload and largest blob. The engine's own limit is near 1 GB; far below it, one row
/// cannot hold up the writer for long.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What an operation may do: read and write rows at one instant.
pub(crate) struct Tx<'a> {
    connection: &'a Connection,
    /// Where the rows live; named by errors.
    origin: &'a Path,
    /// Which opening of the store this is (see the room of nodes).
    opening: i64,
    now: Timestamp,
    /// Payload bytes that were written.
    bytes: Cell<usize>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        origin: &'a Path,
        opening: i64,
        now: Timestamp,
    ) -> Self {
        Self { connection, origin, opening, now, bytes: Cell::new(0) }
    }

    /// The instant of everything this transaction writes.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn opening(&self) -> i64 {
        self.opening
    }

    /// Payload bytes written so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Changes rows and tells how many.
    pub(crate) fn write(&self, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params))
            .map_err(|error| failure(&error, self.origin))
    }

    /// The first row, if any.
    pub(crate) fn row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Columns<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let failed = |error| failure(&error, self.origin);
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params).map_err(failed)?;
        rows.next().map_err(failed)?.map(|row| read(&Columns::of(row))).transpose()
    }

    /// All rows.
    pub(crate) fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Columns<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let failed = |error| failure(&error, self.origin);
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params).map_err(failed)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            found.push(read(&Columns::of(row))?);
        }
        Ok(found)
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
    row: &'r Row<'r>,
    next: Cell<usize>,
}

impl<'r> Columns<'r> {
    fn of(row: &'r Row<'r>) -> Self {
        Self { row, next: Cell::new(0) }
    }

    fn unreadable(&self, why: String) -> StoreError {
        let place = self.next.get().saturating_sub(1);
        let what = self.row.as_ref().column_name(place).unwrap_or("?").to_owned();
        StoreError::Unreadable { what, why }
    }

    /// The next column as it is.
    pub(crate) fn get<T: FromSql>(&self) -> Result<T, StoreError> {
        let place = self.next.replace(self.next.get() + 1);
        self.row.get(place).map_err(|error| self.unreadable(error.to_string()))
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
    pub(crate) fn read<C: FromSql, T, E: std::fmt::Display>(
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

/// A count as SQLite keeps it.
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
        _ => StoreError::Unavailable(error.to_string()),
    }
}
