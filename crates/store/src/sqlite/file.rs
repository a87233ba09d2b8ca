//! The store's files: who may have them, and whether they are what they should be.
//!
//! A store appears whole or not at all: it is created under another name and renamed. A file that
//! is not a usable store is never opened for writing.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use perennial_core::Timestamp;
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::connection::{self, APPLICATION_ID, Role};
use crate::{StoreError, schema, transaction::failure};

/// How every SQLite file begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Length of the header, and where the application id is in it.
const HEADER_BYTES: usize = 100;
const APPLICATION_ID_AT: usize = 68;
/// How much of the log is written again at a time.
const LOG_STEP: usize = 1024 * 1024;
/// Files up to this size are checked at every opening, larger ones only after an unclean end: the
/// check reads all of it, about a second for this much.
const CHECKED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The exclusive lock of this process on a store. The kernel releases it with the process.
///
/// It is on a file beside the store and, where that is possible, on the store itself: the file beside it may be taken for a
/// left-over and removed. Closing the store's file gives up what the engine has locked of it in this process: this is
/// dropped behind its connections.
#[derive(Debug)]
pub(super) struct FileLock {
    _beside: Option<File>,
    store: Option<File>,
}

impl FileLock {
    /// Of those who only look: it locks nothing.
    pub(super) fn none() -> Self {
        Self { _beside: None, store: None }
    }

    /// With the one of the store itself, if there is a store by now.
    pub(super) fn of_store(mut self, path: &Path) -> Result<Self, StoreError> {
        if self.store.is_some() || !can_lock_stores(path) {
            return Ok(self);
        }
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self),
            Err(error) => return Err(unavailable(path, &error)),
        };
        match file.try_lock() {
            Ok(()) => self.store = Some(file),
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { path: path.to_owned(), holder: None });
            }
            Err(TryLockError::Error(error)) => return Err(unavailable(path, &error)),
        }
        Ok(self)
    }
}

/// Whether a lock on the store itself is another one than those of the engine: on Linux, unless the file system makes
/// the same of both, as those do that are reached over a network.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn can_lock_stores(path: &Path) -> bool {
    /// NFS, SMB, CIFS, SMB2, AFS, Ceph, 9P.
    const NETWORKS: [rustix::fs::FsWord; 7] =
        [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x5346_414f, 0x00c3_6400, 0x0102_1997];
    rustix::fs::statfs(path).is_ok_and(|found| !NETWORKS.contains(&found.f_type))
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn can_lock_stores(_path: &Path) -> bool {
    false
}

/// The one name of the file that `path` leads to, so that its lock has one name too.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    match fs::canonicalize(path) {
        Ok(found) => return Ok(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Err(error) => return Err(unavailable(path, &error)),
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let Some(name) = path.file_name() else {
        return Err(StoreError::Unavailable(format!("{} names no file", path.display())));
    };
    match fs::canonicalize(directory) {
        Ok(found) if found.is_dir() => Ok(found.join(name)),
        Ok(_) => {
            Err(StoreError::Unavailable(format!("{} is not a directory", directory.display())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(StoreError::Unavailable(format!("there is no directory {}", directory.display())))
        }
        Err(error) => Err(unavailable(directory, &error)),
    }
}

/// Takes the lock of the store at `path`. A foreign file is refused before anything is created
/// beside it.
pub(super) fn claim(path: &Path) -> Result<FileLock, StoreError> {
    check_names(path)?;
    let beside = beside(path, "lock");
    let failed = |error| unavailable(&beside, &error);
    // The store's own file is opened by whoever has the lock, and by nobody else in that process.
    if !beside.exists() {
        check_header(path)?;
    }
    let mut file = private().write(true).read(true).create(true).open(&beside).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => (),
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::Locked { path: path.to_owned(), holder: holder(&mut file) });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let lock = FileLock { _beside: None, store: None }.of_store(path)?;
    file.set_len(0).map_err(failed)?;
    file.write_all(format!("pid {}\n", std::process::id()).as_bytes()).map_err(failed)?;
    Ok(FileLock { _beside: Some(file), ..lock })
}

/// What the holder of a lock wrote; only for messages. One that wrote nothing yet is not named.
fn holder(file: &mut File) -> Option<String> {
    let mut holder = String::new();
    let holder = file.read_to_string(&mut holder).ok().map(|_| holder.trim().to_owned());
    holder.filter(|text| !text.is_empty())
}

/// The engine keeps its log beside the name by which it opened a file: two names of one file are two logs, and what is in
/// the one is lost with what goes into the other.
#[cfg(unix)]
fn check_names(path: &Path) -> Result<(), StoreError> {
    let names = |found: fs::Metadata| std::os::unix::fs::MetadataExt::nlink(&found);
    match fs::metadata(path).map(|found| found.is_file().then(|| names(found))) {
        Ok(Some(2..)) => {
            let what = "it has other names (hard links), and what is written last is kept beside one of them only: \
                remove all names but one; for a copy, use the backup of SQLite, or copy it while nobody has it";
            Err(schema::damaged(path, what.to_owned()))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(not(unix))]
fn check_names(_path: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// Makes sure that a usable store is at `path`; the lock is held.
pub(super) fn ensure(path: &Path, now: Timestamp) -> Result<(), StoreError> {
    if check_header(path)? { check_content(path) } else { create(path, now) }
}

/// Whether there is a file with a store's header; an empty file counts as none.
fn check_header(path: &Path) -> Result<bool, StoreError> {
    let damaged = |what: &str| Err(schema::damaged(path, what.to_owned()));
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return damaged("it is not a regular file"),
        Ok(found) if found.len() == 0 => return Ok(false),
        Ok(_) => (),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(unavailable(path, &error)),
    }
    let mut header = [0; HEADER_BYTES];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Ok(()) => (),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return damaged("it is too short to be a store: is it another file?");
        }
        Err(error) => return Err(unavailable(path, &error)),
    }
    if !header.starts_with(MAGIC) {
        return damaged("it is not an SQLite file, and so no store of perennial");
    }
    let id = &header[APPLICATION_ID_AT..APPLICATION_ID_AT + 4];
    if id != APPLICATION_ID.to_be_bytes() {
        return damaged("it is an SQLite file of another application");
    }
    Ok(true)
}

/// Reads the schema's version and checks the pages, over a connection that can write neither the
/// file nor its log.
fn check_content(path: &Path) -> Result<(), StoreError> {
    roll_back(path)?;
    let clean = has_no_log(path);
    let probe = look(path)?;
    schema::read(&probe, path)?;
    let bytes = fs::metadata(path).map_err(|error| unavailable(path, &error))?.len();
    if clean && bytes > CHECKED_BYTES_MAX {
        return Ok(());
    }
    drop(probe);
    if verdict(path)?.is_none() {
        return Ok(());
    }
    // The engine does not always tell a page that it could not read from one that is wrong.
    read_all(path)?;
    match verdict(path)? {
        None => Ok(()),
        Some(found) => Err(schema::damaged(path, found)),
    }
}

/// What the engine finds wrong with the pages.
fn verdict(path: &Path) -> Result<Option<String>, StoreError> {
    let found: String = look(path)?
        .pragma_query_value(None, "quick_check", |row| row.get(0))
        .map_err(|error| schema::unreadable(&error, path, "it cannot be checked"))?;
    if could_not_read(&found) {
        return Err(StoreError::Unavailable(format!("{}: {found}", path.display())));
    }
    Ok(Some(found).filter(|found| found != "ok"))
}

/// Reads every byte of the store, for the failures of that.
fn read_all(path: &Path) -> Result<(), StoreError> {
    for part in [path.to_owned(), beside(path, "wal")] {
        let failed = |error| unavailable(&part, &error);
        match File::open(&part) {
            Ok(mut file) => io::copy(&mut file, &mut io::sink()).map(|_| ()).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Lets the engine undo what a journal beside the file says was not finished: that takes a connection that can write,
/// and a look at the file is none.
fn roll_back(path: &Path) -> Result<(), StoreError> {
    match fs::metadata(beside(path, "journal")) {
        Ok(journal) if journal.len() > 0 => (),
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unavailable(path, &error)),
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let undone = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0))
    });
    undone.map(|_| ()).map_err(|error| failure(&error, path))
}

/// Whether the engine found damage because it could not read. Of the pages of trees it gives its code of the failure,
/// whose low byte is the kind; of those that continue a row, only that they were not got. What else it found may
/// follow from that, and is found again if not.
fn could_not_read(verdict: &str) -> bool {
    verdict.lines().any(|line| {
        line.contains("failed to get page ")
            || line
                .split_once("unable to get the page. error code=")
                .and_then(|(_, code)| code.parse().ok())
                .is_some_and(|code: i32| code & 0xff == rusqlite::ffi::SQLITE_IOERR)
    })
}

/// Whether nothing is in the log: the file alone is the store.
fn has_no_log(path: &Path) -> bool {
    fs::metadata(beside(path, "wal")).map_or(true, |log| log.len() == 0)
}

/// Makes what is in the log durable, by writing all of it once more in its place: what a failed sync was about the
/// system counts as written, and no later sync makes it so. Whoever reads the log meanwhile sees no change of it; nobody
/// else may write it.
pub(super) fn write_log_again(path: &Path) -> Result<(), StoreError> {
    let log = beside(path, "wal");
    let failed = |error| unavailable(&log, &error);
    let (mut reading, mut writing) =
        match (File::open(&log), OpenOptions::new().write(true).open(&log)) {
            (Ok(reading), Ok(writing)) => (reading, writing),
            (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            (Err(error), _) | (_, Err(error)) => return Err(failed(error)),
        };
    let bytes = reading.metadata().map_err(failed)?.len();
    if bytes == 0 {
        return Ok(());
    }
    // By hand: a copy within a file may be made without writing anything. And not more than there was.
    let mut again = || {
        let (mut part, mut left) = (vec![0; LOG_STEP], bytes);
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(LOG_STEP).min(LOG_STEP);
            match reading.read(&mut part[..step])? {
                0 => break,
                read => {
                    writing.write_all(&part[..read])?;
                    left -= read as u64;
                }
            }
        }
        writing.sync_all()
    };
    again().map_err(failed)
}

/// A connection that can write neither the file nor its log.
pub(super) fn look(path: &Path) -> Result<Connection, StoreError> {
    // Without a log nobody writes the file, or not yet: no log is created then.
    let immutable = if has_no_log(path) { "?immutable=1" } else { "" };
    let uri = format!("file:{}{immutable}", escaped(path));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |error: rusqlite::Error| failure(&error, path);
    let connection = Connection::open_with_flags(uri, flags).map_err(failed)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    Ok(connection)
}

/// What a file that nobody writes keeps: without a log, a connection of [`look`] sees no change of it. None while
/// there is a log, which keeps readers and the writer apart.
pub(super) fn standstill(path: &Path) -> Option<(u64, Option<SystemTime>)> {
    let found = fs::metadata(path).ok().filter(|_| has_no_log(path))?;
    Some((found.len(), found.modified().ok()))
}

/// Makes sure that there is a store to look at, and reads the row about it.
pub(super) fn examine(path: &Path) -> Result<schema::Meta, StoreError> {
    check_names(path)?;
    if !check_header(path)? {
        return Err(StoreError::Unavailable(format!("there is no store at {}", path.display())));
    }
    let meta = schema::read(&look(path)?, path)?;
    if meta.version < schema::version() {
        return Err(StoreError::OlderSchema { found: meta.version, needed: schema::version() });
    }
    Ok(meta)
}

/// Creates an empty store.
fn create(path: &Path, now: Timestamp) -> Result<(), StoreError> {
    // The engine would take it for that of the new one, which is then neither of the two.
    if !has_no_log(path) {
        let log = beside(path, "wal");
        let what = format!(
            "there is none, but the log of one, {}, with what was written to it last: put the store back beside its log, or \
             move that away",
            log.display()
        );
        return Err(schema::damaged(path, what));
    }
    let draft = beside(path, "new");
    let failed = |error: io::Error| unavailable(path, &error);
    // What a creation that did not finish left behind.
    let beside_it = ["journal", "wal", "shm"].map(|suffix| beside(&draft, suffix));
    for leftover in [draft.clone()].into_iter().chain(beside_it) {
        match fs::remove_file(&leftover) {
            Ok(()) => (),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(failed(error)),
        }
    }
    private().write(true).create_new(true).open(&draft).map_err(failed)?;
    let mut connection = connection::open(&draft, Role::Creator, None)?;
    schema::create(&mut connection, path, now)?;
    // Under this name: the engine changes the mode with a journal, and one that a power cut leaves beside a store
    // with a log would keep it from being opened for reading.
    connection::write_to_log(&connection, path)?;
    connection.close().map_err(|(_, error)| failure(&error, path))?;
    fs::rename(&draft, path).map_err(failed)?;
    sync_directory(path)
}

/// Makes durable that the file at `path`, and those beside it, are there under their names.
#[cfg(unix)]
pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let synced = path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all());
    synced.map_err(|error| unavailable(path, &error))
}

/// Elsewhere directories cannot be synced.
#[cfg(not(unix))]
pub(super) fn sync_directory(_path: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// The file `<path>.<suffix>`, or `<path>-<suffix>` for those that SQLite names.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let separator = if matches!(suffix, "wal" | "shm" | "journal") { "-" } else { "." };
    let mut name = path.as_os_str().to_owned();
    name.push(separator);
    name.push(suffix);
    PathBuf::from(name)
}

/// Options of files that only their owner may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// A path as part of a URI.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

fn unavailable(path: &Path, error: &io::Error) -> StoreError {
    let what = format!("{}: {error}", path.display());
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    if is_full { StoreError::Full(what) } else { StoreError::Unavailable(what) }
}
