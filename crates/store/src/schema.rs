//! Versions of the schema: numbered steps that are applied in order and never edited.

use std::path::Path;

use perennial_core::{Digest, Timestamp};
use rusqlite::{Connection, ErrorCode};

use crate::{
    StoreError,
    transaction::{failure, int},
};

/// Step `n` leads from version `n` to version `n + 1`.
pub(crate) const STEPS: &[&str] = &[
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_cache.sql"),
    include_str!("migrations/0003_leases.sql"),
    include_str!("migrations/0005_retention.sql"),
];

/// The row of `meta`.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) store_id: String,
    pub(crate) version: u32,
    /// Digest of all steps up to `version`.
    pub(crate) digest: String,
    /// Nothing in the store is later.
    pub(crate) clock_anchor: Timestamp,
    /// How often the store was opened.
    pub(crate) openings: i64,
}

/// The newest version this build knows.
pub(crate) fn version() -> u32 {
    u32::try_from(STEPS.len()).expect("there are few steps")
}

/// Creates everything in an empty file.
pub(crate) fn create(
    connection: &mut Connection,
    origin: &Path,
    now: Timestamp,
) -> Result<(), StoreError> {
    let created = connection.transaction().and_then(|tx| {
        for step in STEPS {
            tx.execute_batch(step)?;
        }
        tx.execute(
            "INSERT INTO meta (only_row, store_id, schema_version, schema_digest, created_at,
             clock_anchor, openings) VALUES (1, lower(hex(randomblob(16))), ?1, ?2, ?3, ?3, 0)",
            (version(), digest(STEPS), now.as_micros()),
        )?;
        tx.commit()
    });
    created.map_err(|error| failure(&error, origin))
}

/// The row of `meta`; refuses a schema that this build does not know.
pub(crate) fn read(connection: &Connection, origin: &Path) -> Result<Meta, StoreError> {
    let meta = connection
        .query_row(
            "SELECT store_id, schema_version, schema_digest, clock_anchor, openings FROM meta",
            [],
            |row| {
                Ok(Meta {
                    store_id: row.get(0)?,
                    version: row.get(1)?,
                    digest: row.get(2)?,
                    clock_anchor: Timestamp::from_micros(row.get(3)?),
                    openings: row.get(4)?,
                })
            },
        )
        .map_err(|error| unreadable(&error, origin, "its meta row cannot be read"))?;
    check(&meta, origin)?;
    Ok(meta)
}

/// Refuses a schema that this build does not know.
pub(crate) fn check(meta: &Meta, origin: &Path) -> Result<(), StoreError> {
    if meta.version > version() {
        return Err(StoreError::NewerSchema { found: meta.version, known: version() });
    }
    let applied = STEPS.get(..meta.version as usize).unwrap_or_default();
    if digest(applied) != meta.digest {
        let what = format!("its schema is not that of version {}", meta.version);
        return Err(damaged(origin, what));
    }
    Ok(())
}

/// Applies the steps that are missing, counts this opening, and returns the row as it is then.
pub(crate) fn open(
    connection: &mut Connection,
    origin: &Path,
    now: Timestamp,
) -> Result<Meta, StoreError> {
    let missing = STEPS.get(read(connection, origin)?.version as usize..).unwrap_or_default();
    let opened = connection.transaction().and_then(|tx| {
        for step in missing {
            tx.execute_batch(step)?;
        }
        tx.execute(
            "UPDATE meta SET schema_version = ?1, schema_digest = ?2, openings = openings + 1,
             clock_anchor = max(clock_anchor, ?3)",
            (version(), digest(STEPS), now.as_micros()),
        )?;
        tx.commit()
    });
    opened.map_err(|error| failure(&error, origin))?;
    read(connection, origin)
}

/// Moves the anchor of the clock forward.
pub(crate) fn anchor(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE meta SET clock_anchor = ?1 WHERE clock_anchor < ?1")?
        .execute([now.as_micros()])?;
    Ok(())
}

pub(crate) fn damaged(origin: &Path, what: String) -> StoreError {
    StoreError::Corrupt { path: origin.to_owned(), what }
}

/// What it means that a file cannot be read: it is damaged, unless it is the machine that fails.
pub(crate) fn unreadable(error: &rusqlite::Error, origin: &Path, what: &str) -> StoreError {
    let is_of_the_machine = matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::DiskFull
                | ErrorCode::OutOfMemory
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
        )
    );
    if is_of_the_machine {
        failure(error, origin)
    } else {
        damaged(origin, format!("{what}: {error}"))
    }
}

pub(crate) fn digest(steps: &[&str]) -> String {
    let mut text = int(steps.len() as u64).to_string();
    for step in steps {
        text.push('\n');
        text.push_str(step);
    }
    Digest::of(text.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_an_older_version_gets_the_steps_it_lacks() {
        for known in 1..STEPS.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            for step in &STEPS[..known] {
                connection.execute_batch(step).unwrap();
            }
            let row = "INSERT INTO meta (only_row, store_id, schema_version, schema_digest,
                created_at, clock_anchor, openings) VALUES (1, 'id', ?1, ?2, 5, 5, 0)";
            connection.execute(row, (int(known as u64), digest(&STEPS[..known]))).unwrap();
            let now = Timestamp::from_micros(7);
            let meta = open(&mut connection, Path::new("x"), now).unwrap();
            assert_eq!((meta.version, meta.openings), (version(), 1));
            let cached = connection.query_row("SELECT count(*) FROM cache", [], |row| row.get(0));
            assert_eq!(cached, Ok(0_i64));
        }
    }
}
