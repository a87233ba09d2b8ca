//! Versions of the schema: numbered steps that are applied in order and never edited.

#[cfg(test)]
pub(crate) mod older;

use std::path::Path;

use perennial_core::{Digest, Timestamp};
use rusqlite::{Connection, ErrorCode, Transaction};

use crate::{
    StoreError,
    transaction::{failure, int},
};

/// Step `n` leads from version `n` to version `n + 1`.
pub(crate) const STEPS: &[&str] = &[
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_cache.sql"),
    include_str!("migrations/0003_leases.sql"),
    include_str!("migrations/0004_waits.sql"),
    include_str!("migrations/0005_retention.sql"),
    include_str!("migrations/0006_attempts.sql"),
    include_str!("migrations/0007_stages.sql"),
    include_str!("migrations/0008_numbers.sql"),
    include_str!("migrations/0009_services.sql"),
    include_str!("migrations/0010_uses.sql"),
    include_str!("migrations/0011_flow.sql"),
    include_str!("migrations/0012_turns.sql"),
    include_str!("migrations/0013_priorities.sql"),
    include_str!("migrations/0014_compensation.sql"),
    include_str!("migrations/0015_claims.sql"),
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
    apply(connection, missing, |tx| {
        tx.execute(
            "UPDATE meta SET schema_version = ?1, schema_digest = ?2, openings = openings + 1,
             clock_anchor = max(clock_anchor, ?3)",
            (version(), digest(STEPS), now.as_micros()),
        )
    })
    .map_err(|error| failure(&error, origin))?;
    read(connection, origin)
}

/// Applies `steps` and what `then` writes, all of it or nothing. A table that others refer to can be built anew only
/// while nothing follows these references: with it its rows would go. All of them are looked at before it is done.
pub(crate) fn apply(
    connection: &mut Connection,
    steps: &[&str],
    then: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<usize>,
) -> rusqlite::Result<()> {
    let follows = |connection: &Connection, is_on: bool| {
        if steps.is_empty() {
            Ok(())
        } else {
            connection.pragma_update(None, "foreign_keys", is_on)
        }
    };
    follows(connection, false)?;
    let applied = connection.transaction().and_then(|tx| {
        for step in steps {
            tx.execute_batch(step)?;
        }
        then(&tx)?;
        if !steps.is_empty() {
            tx.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| {
                match row.get::<_, i64>(0)? {
                    0 => Ok(()),
                    _ => Err(rusqlite::Error::SqliteFailure(
                        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY),
                        Some("rows refer to what is not there".to_owned()),
                    )),
                }
            })?;
        }
        tx.commit()
    });
    follows(connection, true)?;
    applied
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

    /// Rows of a run as version 2 kept them.
    const OF_VERSION_2: &str = "
        INSERT INTO nodes VALUES ('n', 1, 1, 1, NULL, NULL);
        INSERT INTO streams VALUES ('r', 'run', 0, 'n', 1, 1, 1, NULL);
        INSERT INTO heads VALUES ('r', 4, 9, '');
        INSERT INTO blobs VALUES (hex(zeroblob(32)), x'00', 1);
        INSERT INTO runs VALUES ('r', 'w', hex(zeroblob(32)), '', '{}', 'running', NULL, 1, NULL, NULL);
        INSERT INTO stages VALUES ('r', 's', 0, 'open', NULL);
        INSERT INTO jobs VALUES (7, 'r', 's', '', 'a', 'leased', NULL, 2, 1, 3, 1, 5, 'n', 1, 0);
        INSERT INTO jobs VALUES (9, 'r', 's', '', 'b', 'skipped', 'upstream', 0, 0, 3, 0, 0, NULL, NULL, 0);
        INSERT INTO attempts VALUES (7, 1, 'n', 1, 1, 2, 'error', 'io', 'X', 'no', 1);
        INSERT INTO attempts VALUES (7, 2, 'n', 1, 3, NULL, NULL, NULL, NULL, NULL, 0);
        INSERT INTO inputs VALUES (7, '{}'), (9, '{}');
        INSERT INTO results VALUES (9, '1');
        INSERT INTO checkpoints VALUES (7, 'c', 1, 'k', 1, 2, '3');
        INSERT INTO timers VALUES ('run:r', 't', 'r', 8);";

    /// DUR-133: the tables that are built anew keep rows, ids, references and indexes.
    /// Proves INV-ST-31.
    #[test]
    fn rows_of_an_older_version_are_kept() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "foreign_keys", true).unwrap();
        for step in &STEPS[..2] {
            connection.execute_batch(step).unwrap();
        }
        connection.execute_batch(OF_VERSION_2).unwrap();
        let row = "INSERT INTO meta (only_row, store_id, schema_version, schema_digest,
            created_at, clock_anchor, openings) VALUES (1, 'id', 2, ?1, 5, 5, 0)";
        connection.execute(row, [digest(&STEPS[..2])]).unwrap();
        let read = |connection: &Connection, sql: &str| -> Vec<String> {
            let mut statement = connection.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get(0)).unwrap();
            rows.map(Result::unwrap).collect()
        };
        let texts = [
            "SELECT id || key || state || attempt || attempts_used || crashes || run_after ||
             coalesce(lease_node, '') || coalesce(skipped, '') FROM jobs ORDER BY id",
            "SELECT job || '/' || attempt || coalesce(ended_as, '') || uncertain FROM attempts",
            "SELECT job || data FROM inputs",
            "SELECT job || data FROM results",
            "SELECT job || name || reply FROM checkpoints",
        ];
        let indexes = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL
            AND name NOT IN ('jobs_deferred', 'jobs_deferred_of_run', 'jobs_group', 'jobs_held_of_stage')
            AND name NOT LIKE 'jobs_ready%' AND tbl_name IN ('jobs', 'attempts', 'inputs', 'results',
            'checkpoints') ORDER BY name";
        let before: Vec<_> = texts.iter().map(|sql| read(&connection, sql)).collect();
        let indexed = read(&connection, indexes);
        open(&mut connection, Path::new("x"), Timestamp::from_micros(7)).unwrap();
        let after: Vec<_> = texts.iter().map(|sql| read(&connection, sql)).collect();
        assert_eq!(after, before);
        assert_eq!(read(&connection, indexes), indexed);
        assert!(read(&connection, "SELECT \"table\" FROM pragma_foreign_key_check").is_empty());
        assert_eq!(read(&connection, "PRAGMA integrity_check"), ["ok"]);
        let refers = "SELECT \"table\" FROM pragma_foreign_key_list('attempts') ORDER BY 1 LIMIT 1";
        assert_eq!(read(&connection, refers), ["jobs"]);
        connection.execute("DELETE FROM streams", []).unwrap();
        assert!(read(&connection, texts[4]).is_empty(), "all goes with its run");
    }

    /// A table that others refer to is built anew while nothing follows these references: what they refer to is looked at
    /// before it is done, and they are followed again.
    #[test]
    fn a_file_in_which_a_row_refers_to_nothing_stays_as_it_is() {
        let mut connection = Connection::open_in_memory().unwrap();
        let now = Timestamp::from_micros(7);
        connection.pragma_update(None, "foreign_keys", true).unwrap();
        connection.execute_batch(STEPS[0]).unwrap();
        connection.execute_batch(OF_VERSION_2).unwrap();
        connection.execute_batch(&older::meta(1)).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection.execute("UPDATE timers SET run = 'nobody'", []).unwrap();
        let before = schema_of(&connection);
        assert!(open(&mut connection, Path::new("x"), now).is_err());
        assert_eq!(schema_of(&connection), before);
        let follows = "SELECT foreign_keys FROM pragma_foreign_keys";
        assert_eq!(connection.query_row(follows, [], |row| row.get(0)), Ok(1_i64));
        connection.execute("UPDATE timers SET run = 'r'", []).unwrap();
        open(&mut connection, Path::new("x"), now).unwrap();
        let kept = "SELECT run || rowid || state FROM runs";
        assert_eq!(connection.query_row(kept, [], |row| row.get(0)), Ok("r1running".to_owned()));
        let states = "UPDATE runs SET state = 'compensating'";
        assert_eq!(connection.execute(states, []), Ok(1));
        assert!(connection.execute("UPDATE runs SET state = 'undoing'", []).is_err());
        assert!(connection.execute("UPDATE runs SET finished_at = 9", []).is_err());
    }

    /// What there is: tables and indexes, as they are defined, and the version.
    fn schema_of(connection: &Connection) -> Vec<String> {
        let sql = "SELECT name || ': ' || coalesce(sql, '') FROM sqlite_schema UNION ALL
            SELECT schema_version || schema_digest || openings FROM meta ORDER BY 1";
        let mut statement = connection.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// DUR-133: a step that ends in the middle, at each thing that steps make, was never begun.
    /// Proves K40, INV-ST-31.
    #[test]
    fn steps_that_are_cut_short_leave_the_older_version_and_are_made_again() {
        let now = Timestamp::from_micros(7);
        let all = |count: usize| {
            let connection = Connection::open_in_memory().unwrap();
            STEPS[..count].iter().for_each(|step| connection.execute_batch(step).unwrap());
            let row = "INSERT INTO meta (only_row, store_id, schema_version, schema_digest,
                created_at, clock_anchor, openings) VALUES (1, 'id', ?1, ?2, 5, 5, 0)";
            connection.execute(row, (int(count as u64), digest(&STEPS[..count]))).unwrap();
            connection
        };
        let names = |connection: &Connection| -> Vec<String> {
            let sql = "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'";
            let mut statement = connection.prepare(sql).unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let made = names(&all(STEPS.len()));
        let mut cuts = 0;
        for known in 1..STEPS.len() {
            let mut connection = all(known);
            let there = names(&connection);
            for name in made.iter().filter(|name| !there.contains(name)) {
                let before = schema_of(&connection);
                // It is in the way of the step that makes it.
                connection.execute_batch(&format!("CREATE TABLE {name} (x)")).unwrap();
                assert!(open(&mut connection, Path::new("x"), now).is_err(), "{name}");
                connection.execute_batch(&format!("DROP TABLE {name}")).unwrap();
                assert_eq!(schema_of(&connection), before, "cut at {name}, from version {known}");
                cuts += 1;
            }
            assert_eq!(open(&mut connection, Path::new("x"), now).unwrap().version, version());
        }
        assert!(cuts > 30, "{cuts}");
    }
}
