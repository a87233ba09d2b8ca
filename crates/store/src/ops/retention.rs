//! What goes: runs that ended long ago, and blobs that nothing uses.
//!
//! A run goes in pieces. The first one takes its head and notes it as removed: from then on it is found nowhere,
//! and nothing can be decided about it. Whoever dies in between leaves a pending note, with which the next one begins.

use std::time::Duration;

use perennial_core::{
    Digest,
    run::{InvalidTransition, RunId, RunState},
};
use serde_json::Value;

use super::{node, service, slot, view};
use crate::{
    RemovedRun, Retained, Retention, RunSummary, StoreError,
    transaction::{Tx, int},
};

/// A blob may be younger than what will use it.
const BLOB_GRACE: Duration = Duration::from_secs(60 * 60);
/// As old a blob's mark is at the most when it is put again.
const BLOB_FRESH: Duration = Duration::from_secs(30 * 60);

/// Deletes of the rows of a run, those that refer to others first; each takes the run and a limit.
const OF_RUN: [&str; 10] = [
    "DELETE FROM saved WHERE (job, name) IN (SELECT s.job, s.name FROM saved s
     JOIN jobs j ON j.id = s.job WHERE j.run = ?1 LIMIT ?2)",
    "DELETE FROM beats WHERE (job, attempt) IN (SELECT b.job, b.attempt FROM beats b
     JOIN jobs j ON j.id = b.job WHERE j.run = ?1 LIMIT ?2)",
    "DELETE FROM checkpoints WHERE (job, name) IN (SELECT c.job, c.name FROM checkpoints c
     JOIN jobs j ON j.id = c.job WHERE j.run = ?1 LIMIT ?2)",
    "DELETE FROM results WHERE job IN (SELECT r.job FROM results r
     JOIN jobs j ON j.id = r.job WHERE j.run = ?1 LIMIT ?2)",
    "DELETE FROM inputs WHERE job IN (SELECT i.job FROM inputs i
     JOIN jobs j ON j.id = i.job WHERE j.run = ?1 LIMIT ?2)",
    "DELETE FROM attempts WHERE (job, attempt) IN (SELECT a.job, a.attempt FROM attempts a
     JOIN jobs j ON j.id = a.job WHERE j.run = ?1 LIMIT ?2)",
    "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE run = ?1 LIMIT ?2)",
    "DELETE FROM timers WHERE (owner, name) IN
     (SELECT owner, name FROM timers WHERE run = ?1 LIMIT ?2)",
    "DELETE FROM stages WHERE (run, stage) IN
     (SELECT run, stage FROM stages WHERE run = ?1 LIMIT ?2)",
    "DELETE FROM events WHERE (stream, seq) IN
     (SELECT stream, seq FROM events WHERE stream = ?1 ORDER BY seq LIMIT ?2)",
];

/// Removes at most `limit` rows: what is pending, then the runs that ended first, then blobs and notes.
pub(crate) fn retain(tx: &Tx<'_>, policy: Retention, limit: u32) -> Result<Retained, StoreError> {
    let (mut done, mut left) = (Retained::default(), u64::from(limit.max(1)));
    while left > 0 {
        let run = match pending(tx)? {
            Some(run) => run,
            None => match due(tx, policy, 1)?.pop() {
                Some(due) => {
                    mark(tx, due.run.as_str())?;
                    due.run.to_string()
                }
                None => break,
            },
        };
        let (rows, whole) = remove_rows(tx, &run, left)?;
        (done.rows, left) = (done.rows + rows, left.saturating_sub(rows.max(1)));
        done.runs += u64::from(whole);
    }
    if left > 0 {
        done.blobs = collect(tx, left)?;
        left = left.saturating_sub(done.blobs);
    }
    let mut more_nodes = false;
    if left > 0 {
        slot::forget_fences(tx, int(left))?;
        forget(tx, policy.ids, left)?;
        more_nodes = node::forget(tx, before(tx, policy.ids), left)?;
        more_nodes |= service::forget(tx, before(tx, policy.ids), left)?;
    }
    done.more = left == 0 || more_nodes;
    Ok(done)
}

/// Runs that `policy` lets go, those that ended first at the front.
pub(crate) fn due(
    tx: &Tx<'_>,
    policy: Retention,
    limit: u32,
) -> Result<Vec<RunSummary>, StoreError> {
    let now = tx.now().as_micros();
    let ended_by = |within: Option<Duration>| match within {
        // Nothing has ended then.
        None => i64::MIN,
        Some(within) => now.saturating_sub(i64::try_from(within.as_micros()).unwrap_or(i64::MAX)),
    };
    view::due_for_removal(
        tx,
        (ended_by(policy.completed), ended_by(policy.failed), ended_by(policy.cancelled), limit),
    )
}

/// Begins the removal of one run, whatever its age.
pub(crate) fn purge(tx: &Tx<'_>, run: &RunId) -> Result<(), StoreError> {
    let state = tx.row(
        "SELECT r.state FROM runs r JOIN heads h ON h.stream = r.run WHERE r.run = ?1",
        [run.as_str()],
        |row| row.parse::<RunState>(),
    )?;
    let Some(state) = state else { return Err(missing(tx, run)?) };
    if !state.is_terminal() {
        let (from, to) = (state.name(), "removed");
        return Err(StoreError::InvalidState(InvalidTransition { what: "run", from, to }));
    }
    mark(tx, run.as_str())
}

fn pending(tx: &Tx<'_>) -> Result<Option<String>, StoreError> {
    tx.row(
        "SELECT run FROM removed WHERE pending = 1 ORDER BY removed_at, run LIMIT 1",
        [],
        |row| row.get(),
    )
}

/// Notes that the run goes, and takes its head: only a run that ended, and whose stream is closed.
fn mark(tx: &Tx<'_>, run: &str) -> Result<(), StoreError> {
    let noted = tx.write(
        "INSERT INTO removed (run, workflow, definition, input_digest, state, created_at,
         finished_at, removed_at, pending)
         SELECT r.run, r.workflow, r.definition, r.input_digest, r.state, r.created_at,
         r.finished_at, ?2, 1 FROM runs r JOIN streams s ON s.stream = r.run
         WHERE r.run = ?1 AND r.finished_at IS NOT NULL AND s.closed = 1",
        (run, tx.now().as_micros()),
    )?;
    let headless = tx.write("DELETE FROM heads WHERE stream = ?1", [run])?;
    if noted == 0 || headless == 0 {
        return Err(StoreError::Conflict { what: format!("run {run}") });
    }
    Ok(())
}

/// Removes at most `limit` rows of a run that is noted as removed. How many, and whether none is left.
fn remove_rows(tx: &Tx<'_>, run: &str, limit: u64) -> Result<(u64, bool), StoreError> {
    let mut rows = 0;
    for sql in OF_RUN {
        rows += tx.write(sql, (run, int(limit - rows)))? as u64;
        if rows >= limit {
            return Ok((rows, false));
        }
    }
    rows += tx.write("DELETE FROM runs WHERE run = ?1", [run])? as u64;
    rows += tx.write("DELETE FROM streams WHERE stream = ?1", [run])? as u64;
    tx.write("UPDATE removed SET pending = 0 WHERE run = ?1", [run])?;
    tracing::debug!(run, rows, "run removed");
    Ok((rows, true))
}

/// Removes blobs that nothing uses and that are old enough for that to stay so.
fn collect(tx: &Tx<'_>, limit: u64) -> Result<u64, StoreError> {
    let before = before(tx, BLOB_GRACE);
    let gone = tx.write(
        "DELETE FROM blobs WHERE digest IN (SELECT b.digest FROM blobs b WHERE b.created_at <= ?1
         AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.definition = b.digest)
         AND NOT EXISTS (SELECT 1 FROM blob_uses u WHERE u.digest = b.digest)
         AND NOT EXISTS (SELECT 1 FROM saved s WHERE s.digest = b.digest)
         ORDER BY b.created_at LIMIT ?2)",
        (before, int(limit)),
    )?;
    Ok(gone as u64)
}

/// Frees the ids of runs that were removed long ago.
fn forget(tx: &Tx<'_>, within: Duration, limit: u64) -> Result<(), StoreError> {
    tx.write(
        "DELETE FROM removed WHERE run IN (SELECT run FROM removed WHERE removed_at <= ?1
         AND pending = 0 ORDER BY removed_at LIMIT ?2)",
        (before(tx, within), int(limit)),
    )?;
    Ok(())
}

fn before(tx: &Tx<'_>, within: Duration) -> i64 {
    let within = i64::try_from(within.as_micros()).unwrap_or(i64::MAX);
    tx.now().as_micros().saturating_sub(within)
}

/// Before which a blob that is put again is marked as new.
pub(crate) fn stale_blob(tx: &Tx<'_>) -> i64 {
    before(tx, BLOB_FRESH)
}

/// Notes the blobs that the settings of a run name: texts in it that are the digest of one.
pub(crate) fn note_uses(tx: &Tx<'_>, run: &RunId, settings: &Value) -> Result<(), StoreError> {
    match settings {
        Value::String(text) => {
            if text.parse::<Digest>().is_ok() {
                tx.post(
                    "INSERT INTO blob_uses (run, digest) SELECT ?1, digest FROM blobs
                     WHERE digest = ?2 ON CONFLICT (run, digest) DO NOTHING",
                    (run.as_str(), text),
                )?;
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| note_uses(tx, run, item)),
        Value::Object(fields) => fields.values().try_for_each(|field| note_uses(tx, run, field)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Why a run is not found: it never was, or it was removed.
pub(crate) fn missing(tx: &Tx<'_>, run: &RunId) -> Result<StoreError, StoreError> {
    let removed = removed_run(tx, run)?;
    Ok(removed.map_or_else(
        || StoreError::NotFound { what: "run", id: run.to_string() },
        |removed| gone(removed.run),
    ))
}

/// The note about a removed run, with what its id stands for.
pub(crate) struct Removed {
    pub(crate) run: RemovedRun,
    pub(crate) definition: String,
    pub(crate) input_digest: String,
}

const REMOVED: &str =
    "SELECT run, workflow, state, created_at, finished_at, removed_at, definition, input_digest
    FROM removed WHERE run = ?1";

/// Says that [`removed_run`] comes next.
pub(crate) fn removed_ahead(tx: &Tx<'_>, run: &RunId) {
    tx.ahead(REMOVED, [run.as_str()]);
}

/// The note about a removed run.
pub(crate) fn removed_run(tx: &Tx<'_>, run: &RunId) -> Result<Option<Removed>, StoreError> {
    tx.row(REMOVED, [run.as_str()], |row| {
        let run = removed_row(row)?;
        Ok(Removed { run, definition: row.get()?, input_digest: row.get()? })
    })
}

pub(crate) fn gone(RemovedRun { run, state, removed_at, .. }: RemovedRun) -> StoreError {
    StoreError::Removed { run, state, at: removed_at }
}

/// Runs that were removed, the last ones first.
pub(crate) fn removed(tx: &Tx<'_>, limit: u32) -> Result<Vec<RemovedRun>, StoreError> {
    tx.rows(
        "SELECT run, workflow, state, created_at, finished_at, removed_at FROM removed
         ORDER BY removed_at DESC, run LIMIT ?1",
        [limit],
        removed_row,
    )
}

fn removed_row(row: &crate::transaction::Columns<'_>) -> Result<RemovedRun, StoreError> {
    Ok(RemovedRun {
        run: row.read(|id: String| RunId::parse(id))?,
        workflow: row.get()?,
        state: row.parse()?,
        created_at: row.instant()?,
        finished_at: row.instant()?,
        removed_at: row.instant()?,
    })
}
