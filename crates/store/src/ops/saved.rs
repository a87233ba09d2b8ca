//! What attempts save, and what they say of how far they are: both fenced by their lease.

use std::time::Duration;

use perennial_core::{Digest, run::RunId};
use serde_json::{Value, json};

use super::{blob, lease};
use crate::{
    BeatRecord, CheckpointRecord, Lease, NewCheckpoint, StoreError,
    transaction::{Tx, int},
};

/// Larger values are blobs.
const INLINE_BYTES_MAX: usize = 256 * 1024;
/// Values that a job has saved at a time.
const SAVED_MAX: u64 = 1_000;
/// Longest name.
const NAME_BYTES_MAX: usize = 256;
/// Largest progress.
const PROGRESS_BYTES_MAX: usize = 4 * 1024;
/// The least time between two events about the progress of one attempt.
const NOTE_EVERY: Duration = Duration::from_secs(10);

/// Repeatable. What the process dies of later is not what it died of before: deaths are counted anew.
pub(crate) fn save(tx: &Tx<'_>, lease: &Lease, new: &NewCheckpoint) -> Result<(), StoreError> {
    let mut journal = lease::require_live(tx, lease)?;
    let NewCheckpoint { name, value, keep } = new;
    tx.admit("name of a checkpoint", name.len(), NAME_BYTES_MAX)?;
    let others = tx.row(
        "SELECT COUNT(*) FROM saved WHERE job = ?1 AND name <> ?2",
        (lease.job, name),
        |row| row.count(),
    )?;
    if others.is_some_and(|others| others >= SAVED_MAX) {
        return Err(StoreError::Conflict {
            what: format!(
                "job {}, which has {SAVED_MAX} checkpoints and takes no more,",
                lease.key
            ),
        });
    }
    let text = tx.json("checkpoint", value)?;
    let bytes = text.len();
    let (data, digest) = if bytes > INLINE_BYTES_MAX {
        (None, Some(blob::put(tx, text.as_bytes())?.to_string()))
    } else {
        (Some(text), None)
    };
    tx.write(
        "INSERT INTO saved (job, name, attempt, saved_at, bytes, kept, data, digest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (job, name) DO UPDATE SET
         attempt = excluded.attempt, saved_at = excluded.saved_at, bytes = excluded.bytes,
         kept = excluded.kept, data = excluded.data, digest = excluded.digest",
        (
            lease.job,
            name,
            lease.attempt,
            tx.now().as_micros(),
            int(bytes as u64),
            *keep,
            data,
            digest,
        ),
    )?;
    tx.write("UPDATE jobs SET crashes = 0 WHERE id = ?1 AND crashes > 0", [lease.job])?;
    let about = json!({ "name": name, "bytes": bytes, "keep": keep });
    journal.note_job(tx, "checkpoint_saved", &lease.key, Some(lease.attempt), about)?;
    journal.finish(tx, false)?;
    Ok(())
}

/// The value of that name.
pub(crate) fn get(tx: &Tx<'_>, job: i64, name: &str) -> Result<Option<Value>, StoreError> {
    let found = tx.row(
        "SELECT data, digest FROM saved WHERE job = ?1 AND name = ?2",
        (job, name),
        |row| Ok((row.json_maybe()?, row.parse_maybe::<Digest>()?)),
    )?;
    match found {
        None => Ok(None),
        Some((Some(value), _)) => Ok(Some(value)),
        Some((None, Some(digest))) => {
            let bytes = blob::get(tx, digest)?;
            serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(name, &error))
        }
        Some((None, None)) => Err(unreadable(name, &"it has no value")),
    }
}

fn unreadable(name: &str, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unreadable { what: format!("checkpoint {name}"), why: why.to_string() }
}

/// Drops what a job that has succeeded needs no more.
pub(crate) fn drop_of(tx: &Tx<'_>, job: i64) -> Result<(), StoreError> {
    tx.write("DELETE FROM saved WHERE job = ?1 AND kept = 0", [job])?;
    Ok(())
}

/// Notes that the attempt lives, and how far it is.
pub(crate) fn beat(tx: &Tx<'_>, lease: &Lease, progress: &Value) -> Result<(), StoreError> {
    let mut journal = lease::require_live(tx, lease)?;
    let text = progress.to_string();
    tx.admit("progress", text.len(), PROGRESS_BYTES_MAX)?;
    let said = tx.row(
        "SELECT noted_at, at FROM beats WHERE job = ?1 AND attempt = ?2",
        (lease.job, lease.attempt),
        |row| Ok((row.instant()?, row.instant()?)),
    )?;
    // What it said last is not earlier than what it said before, whatever became of the clock.
    let now = said.map_or(tx.now(), |(_, last)| tx.now().max(last));
    let noted = said.map(|(noted, _)| noted).filter(|noted| noted.after(NOTE_EVERY) > now);
    tx.write(
        "INSERT INTO beats (job, attempt, first_at, at, noted_at, progress)
         VALUES (?1, ?2, ?3, ?3, ?5, ?4) ON CONFLICT (job, attempt) DO UPDATE SET
         at = excluded.at, progress = excluded.progress, noted_at = excluded.noted_at",
        (lease.job, lease.attempt, now.as_micros(), text, noted.unwrap_or(now).as_micros()),
    )?;
    if noted.is_none() {
        let about = json!({ "progress": progress });
        journal.note_job(tx, "attempt_progress", &lease.key, Some(lease.attempt), about)?;
        journal.finish(tx, false)?;
    }
    Ok(())
}

/// What the jobs of a run have saved, without the values.
pub(crate) fn of_run(tx: &Tx<'_>, run: &RunId) -> Result<Vec<CheckpointRecord>, StoreError> {
    tx.rows(
        "SELECT s.job, s.name, s.attempt, s.saved_at, s.bytes, s.kept FROM saved s
         JOIN jobs j ON j.id = s.job WHERE j.run = ?1 ORDER BY s.job, s.name",
        [run.as_str()],
        |row| {
            Ok(CheckpointRecord {
                job: row.get()?,
                name: row.get()?,
                attempt: row.get()?,
                saved_at: row.instant()?,
                bytes: row.count()?,
                kept: row.get()?,
            })
        },
    )
}

/// What the attempts of a run have said last.
pub(crate) fn beats_of_run(tx: &Tx<'_>, run: &RunId) -> Result<Vec<BeatRecord>, StoreError> {
    tx.rows(
        "SELECT b.job, b.attempt, b.first_at, b.at, b.progress FROM beats b
         JOIN jobs j ON j.id = b.job WHERE j.run = ?1 ORDER BY b.job, b.attempt",
        [run.as_str()],
        |row| {
            Ok(BeatRecord {
                job: row.get()?,
                attempt: row.get()?,
                first_at: row.instant()?,
                at: row.instant()?,
                progress: row.json()?,
            })
        },
    )
}
