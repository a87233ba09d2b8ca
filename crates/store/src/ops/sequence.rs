//! Numbers of sequences: each key has one, none is given twice, and below the next one none is missing.
//!
//! The row of a scope is counted up by one conditional write, whose lock the transaction has until it ends; the row
//! of the allocation is inserted in the same transaction. Whoever fails in between leaves neither.

use perennial_core::run::{JobKey, RunId};
use serde_json::json;

use super::lease;
use crate::{
    AllocationRecord, Lease, NewNumber, NewVersion, StoreError,
    transaction::{Tx, int},
};

/// Longest scope.
const SCOPE_BYTES_MAX: usize = 256;
/// Longest key.
const KEY_BYTES_MAX: usize = 1024;

pub(crate) const OF_KEY: &str =
    "SELECT number FROM allocations WHERE sequence = ?1 AND scope = ?2 AND key = ?3";

/// Repeatable: a key that has a number keeps it.
pub(crate) fn allocate(tx: &Tx<'_>, lease: &Lease, new: &NewNumber) -> Result<u64, StoreError> {
    let NewNumber { sequence, scope, key } = new;
    admit(tx, scope, key)?;
    let sequence = sequence.as_str();
    tx.ahead(OF_KEY, (sequence, scope, key));
    let mut journal = lease::require_live(tx, lease)?;
    if let Some(number) = tx.row(OF_KEY, (sequence, scope, key), |row| row.count())? {
        return Ok(number);
    }
    let number = tx
        .row(
            "INSERT INTO sequences (sequence, scope, next) VALUES (?1, ?2, 2)
             ON CONFLICT (sequence, scope) DO UPDATE SET next = sequences.next + 1
             RETURNING next - 1",
            (sequence, scope),
            |row| row.count(),
        )?
        .ok_or_else(|| conflict(sequence, scope))?;
    let Lease { run, key: job, attempt, .. } = lease;
    tx.post(
        "INSERT INTO allocations (sequence, scope, number, key, run, job, attempt, allocated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        (
            sequence,
            scope,
            int(number),
            key,
            run.as_str(),
            job.as_str(),
            *attempt,
            tx.at().as_micros(),
        ),
    )?;
    let about = json!({ "sequence": sequence, "scope": scope, "key": key, "number": number });
    journal.note_job(tx, "number_allocated", job, Some(*attempt), about)?;
    journal.finish(tx, false)?;
    Ok(number)
}

const VERSION_OF_KEY: &str = "SELECT number, version FROM allocation_versions
    WHERE sequence = ?1 AND scope = ?2 AND key = ?3";

/// Repeatable: a key that has a version of that number keeps it.
pub(crate) fn allocate_version(
    tx: &Tx<'_>,
    lease: &Lease,
    new: &NewVersion,
) -> Result<u32, StoreError> {
    let NewVersion { sequence, scope, number, parent, key } = new;
    admit(tx, scope, key)?;
    let sequence = sequence.as_str();
    tx.ahead(VERSION_OF_KEY, (sequence, scope, key));
    let mut journal = lease::require_live(tx, lease)?;
    let known = tx
        .row(VERSION_OF_KEY, (sequence, scope, key), |row| Ok((row.count()?, row.get::<u32>()?)))?;
    match known {
        Some((of, version)) if of == *number => return Ok(version),
        Some(_) => return Err(conflict(sequence, scope)),
        None => (),
    }
    // Versions are as dense as numbers: what is not newer than the newest one is there.
    let version = tx
        .row(
            "UPDATE allocations SET version = version + 1 WHERE sequence = ?1 AND scope = ?2
             AND number = ?3 AND ?4 >= 1 AND version >= ?4 RETURNING version",
            (sequence, scope, int(*number), *parent),
            |row| row.get::<u32>(),
        )?
        .ok_or_else(|| StoreError::NotFound {
            what: "version",
            id: format!("{parent} of number {number} of {sequence} in {scope}"),
        })?;
    let Lease { run, key: job, attempt, .. } = lease;
    tx.post(
        "INSERT INTO allocation_versions (sequence, scope, number, version, parent, key, run, job,
         attempt, allocated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        (
            sequence,
            scope,
            int(*number),
            version,
            *parent,
            key,
            run.as_str(),
            job.as_str(),
            *attempt,
            tx.at().as_micros(),
        ),
    )?;
    let about = json!({ "sequence": sequence, "scope": scope, "key": key, "number": number,
        "version": version, "parent": parent });
    journal.note_job(tx, "version_allocated", job, Some(*attempt), about)?;
    journal.finish(tx, false)?;
    Ok(version)
}

pub(crate) fn admit(tx: &Tx<'_>, scope: &str, key: &str) -> Result<(), StoreError> {
    for (what, text, max) in
        [("a scope", scope, SCOPE_BYTES_MAX), ("whose number it is", key, KEY_BYTES_MAX)]
    {
        tx.admit(what, text.len(), max)?;
        if text.is_empty() || text.contains(char::is_control) {
            return Err(StoreError::InvalidName { what, name: text.to_owned() });
        }
    }
    Ok(())
}

fn conflict(sequence: &str, scope: &str) -> StoreError {
    StoreError::Conflict { what: format!("sequence {sequence} in {scope}") }
}

/// What a run has been given, in the order of names and numbers.
pub(crate) fn of_run(tx: &Tx<'_>, run: &RunId) -> Result<Vec<AllocationRecord>, StoreError> {
    tx.rows(
        "SELECT sequence, scope, number, 1, NULL, key, run, job, attempt, allocated_at
         FROM allocations WHERE run = ?1 UNION ALL
         SELECT sequence, scope, number, version, parent, key, run, job, attempt, allocated_at
         FROM allocation_versions WHERE run = ?1 ORDER BY 1, 2, 3, 4",
        [run.as_str()],
        |row| {
            Ok(AllocationRecord {
                sequence: row.get()?,
                scope: row.get()?,
                number: row.count()?,
                version: row.get()?,
                parent: row.get()?,
                key: row.get()?,
                run: row.read(|id: String| RunId::parse(id))?,
                job: JobKey::new(row.get::<String>()?),
                attempt: row.get()?,
                allocated_at: row.instant()?,
            })
        },
    )
}
