//! Connections: the one place that opens them, with every setting written and read back (STO-31).

use std::path::Path;

use rusqlite::{Connection, MAIN_DB, OpenFlags, OptionalExtension, config::DbConfig, types::Value};

use crate::{StoreError, UnsafeSynchronous, transaction::failure};

/// Marks the files of this project: `Pere` in ASCII.
pub(super) const APPLICATION_ID: i32 = 0x5065_7265;

/// Statements that stay prepared: more than all operations together have.
const STATEMENTS_MAX: usize = 128;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Makes a new file, not yet with a log.
    Creator,
    /// Writes and checkpoints.
    Writer,
    /// Reads only.
    Reader,
    /// Reads beside a process that has the file, and can write neither it nor its log.
    Onlooker,
}

/// A setting and what it must read back as.
type Setting = (&'static str, Value);

/// What holds for every connection, whatever its role.
fn settings(weaker: Option<UnsafeSynchronous>) -> Vec<Setting> {
    let synchronous = match weaker {
        // FULL: a commit is on the disk when it returns.
        None => 2,
        Some(UnsafeSynchronous::Normal) => 1,
    };
    vec![
        ("busy_timeout", Value::Integer(5000)),
        ("synchronous", Value::Integer(synchronous)),
        ("foreign_keys", Value::Integer(1)),
        ("trusted_schema", Value::Integer(0)),
        ("cell_size_check", Value::Integer(1)),
        ("mmap_size", Value::Integer(0)),
        ("journal_size_limit", Value::Integer(64 * 1024 * 1024)),
    ]
}

/// What the role adds, after [`settings`].
fn settings_of(role: Role) -> Vec<Setting> {
    match role {
        Role::Creator => vec![
            // INCREMENTAL; only an empty file takes it.
            ("auto_vacuum", Value::Integer(2)),
            ("application_id", Value::Integer(i64::from(APPLICATION_ID))),
        ],
        Role::Writer => vec![
            ("journal_mode", Value::Text("wal".to_owned())),
            // Pages, 32 MiB: the writer checkpoints in passing, and what many commits have changed moves once.
            ("wal_autocheckpoint", Value::Integer(8192)),
            // In KiB, 16 MiB: indexes that every commit touches stay in memory when the file has outgrown the default.
            ("cache_size", Value::Integer(-16 * 1024)),
            // MEMORY: what a savepoint may have to undo goes into no file elsewhere, which would be written for each request, could
            // be full, and holds what the store holds.
            ("temp_store", Value::Integer(2)),
            ("query_only", Value::Integer(0)),
        ],
        Role::Onlooker => {
            vec![("wal_autocheckpoint", Value::Integer(0)), ("query_only", Value::Integer(1))]
        }
        Role::Reader => vec![
            ("journal_mode", Value::Text("wal".to_owned())),
            ("wal_autocheckpoint", Value::Integer(0)),
            ("query_only", Value::Integer(1)),
        ],
    }
}

/// What the file itself must say, besides the settings of the role.
fn marks() -> [Setting; 2] {
    [
        ("auto_vacuum", Value::Integer(2)),
        ("application_id", Value::Integer(i64::from(APPLICATION_ID))),
    ]
}

/// Opens the existing file `path`.
pub(super) fn open(
    path: &Path,
    role: Role,
    weaker: Option<UnsafeSynchronous>,
) -> Result<Connection, StoreError> {
    let failed = |error: rusqlite::Error| failure(&error, path);
    let connection = match role {
        Role::Creator | Role::Writer | Role::Reader => {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
            // The engine is content with a file that can only be read, be it for a moment; what it opened so stays
            // so.
            if connection.is_readonly(MAIN_DB).map_err(failed)? {
                let what = format!("{}: it can be read, and not written", path.display());
                return Err(StoreError::Unavailable(what));
            }
            connection
        }
        Role::Onlooker => super::file::look(path)?,
    };
    // One that could not be opened wholly moves no log into the file, and removes none: it may not know what is in it.
    let keeps_log = |keeps| {
        let config = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        connection.set_db_config(config, keeps).map_err(failed)
    };
    keeps_log(true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // A value that is bound anew compiles no statement anew: with partial indexes the planner would look at it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
    let settings = [settings(weaker), settings_of(role)].concat();
    for (name, value) in &settings {
        connection.pragma_update(None, name, value).map_err(failed)?;
    }
    #[cfg(target_vendor = "apple")]
    for name in ["fullfsync", "checkpoint_fullfsync"] {
        connection.pragma_update(None, name, 1).map_err(failed)?;
    }
    verify(&connection, path, &settings)?;
    verify(&connection, path, &marks())?;
    if role != Role::Onlooker {
        keeps_log(false)?;
    }
    Ok(connection)
}

/// Lets a file that [`Role::Creator`] made have a log from now on.
pub(super) fn write_to_log(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let mode = ("journal_mode", Value::Text("wal".to_owned()));
    connection.pragma_update(None, mode.0, &mode.1).map_err(|error| failure(&error, path))?;
    verify(connection, path, &[mode])
}

/// Refuses a connection on which a setting has not taken effect.
fn verify(connection: &Connection, path: &Path, settings: &[Setting]) -> Result<(), StoreError> {
    for (name, value) in settings {
        // An engine built without memory mapping has no row for that setting.
        let found: Option<Value> = connection
            .pragma_query_value(None, name, |row| row.get(0))
            .optional()
            .map_err(|error| failure(&error, path))?;
        if found.as_ref().is_some_and(|found| found != value)
            || (found.is_none() && *name != "mmap_size")
        {
            return Err(StoreError::Unavailable(format!(
                "{}: setting {name} is {found:?} instead of {value:?}",
                path.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SqliteOptions, SqliteStore, Store};

    #[test]
    fn a_value_that_is_bound_anew_compiles_no_statement_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let _store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        let connection = open(&path, Role::Writer, None).unwrap();
        let sql = "SELECT a.ended_as FROM attempts a JOIN jobs j ON j.id = a.job
            JOIN nodes n ON n.node = a.node AND n.incarnation = a.incarnation
            WHERE a.job = ?1 AND a.node = ?2 AND a.incarnation = ?3 AND j.run = ?4";
        let mut statement = connection.prepare(sql).unwrap();
        for job in 0..3 {
            assert!(!statement.exists((job, "n", job, "r")).unwrap());
        }
        assert_eq!(statement.get_status(rusqlite::StatementStatus::RePrepare), 0);
    }

    /// Proves INV-ST-6.
    #[test]
    fn every_connection_has_its_settings() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let _store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        for (role, query_only, checkpoint, cache) in
            [(Role::Writer, 0, 8192, -16 * 1024), (Role::Reader, 1, 0, -2_000)]
        {
            let connection = open(&path, role, None).unwrap();
            let number = |name: &str| -> i64 {
                connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
            };
            let mode: String =
                connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
            assert_eq!(mode, "wal");
            for (name, value) in [
                ("synchronous", 2),
                ("foreign_keys", 1),
                ("busy_timeout", 5000),
                ("trusted_schema", 0),
                ("cell_size_check", 1),
                ("mmap_size", 0),
                ("journal_size_limit", 64 * 1024 * 1024),
                ("application_id", i64::from(APPLICATION_ID)),
                ("auto_vacuum", 2),
                ("query_only", query_only),
                ("wal_autocheckpoint", checkpoint),
                ("cache_size", cache),
            ] {
                assert_eq!(number(name), value, "{name} of {role:?}");
            }
            assert_eq!(connection.execute("DELETE FROM timers", []).is_ok(), query_only == 0);
        }
    }

    #[test]
    fn less_synchronisation_is_had_by_its_name_only_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let weaker = Some(UnsafeSynchronous::Normal);
        let options = SqliteOptions { unsafe_synchronous: weaker, ..SqliteOptions::default() };
        let status = Store::status(&SqliteStore::open(&path, options).unwrap());
        assert_eq!(status.unsafe_synchronous, Some("NORMAL"));
        let synchronous = |weaker| -> i64 {
            let connection = open(&path, Role::Writer, weaker).unwrap();
            connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap()
        };
        assert_eq!((synchronous(weaker), synchronous(None)), (1, 2));
        let usual = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        assert_eq!(Store::status(&usual).unsafe_synchronous, None);
    }

    #[test]
    fn a_setting_that_has_no_effect_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        let wal = [("journal_mode", Value::Text("wal".to_owned()))];
        let refused = verify(&connection, Path::new("x"), &wal);
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }

    #[test]
    fn every_table_is_strict() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let _store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        let connection = open(&path, Role::Reader, None).unwrap();
        let loose: i64 = connection
            .query_row(
                "SELECT COUNT(*) FROM pragma_table_list
                 WHERE type = 'table' AND strict = 0 AND name NOT LIKE 'sqlite_%'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(loose, 0);
    }
}
