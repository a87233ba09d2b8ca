//! Results that are kept under a key, so that later jobs take them instead of making them again.
//!
//! A result that is taken is recorded in the same transaction as the reply of a call of the job that
//! takes it: whatever dies afterwards, the job goes on with the same one, and the journal tells.

use std::time::Duration;

use perennial_core::Digest;
use serde_json::{Value, json};

use super::lease;
use crate::{
    Lease, StoreError,
    transaction::{Tx, int},
};

/// How much is kept at most.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    rows: u64,
    /// Of all results together, as JSON.
    bytes: u64,
    /// Of one result.
    one: u64,
}

/// 100 MB as in the language's `cache_config`, in entries of which no ten fill it.
const BOUNDS: Bounds = Bounds { rows: 10_000, bytes: 100_000_000, one: 10_000_000 };

/// Expired rows that one transaction removes.
const EXPIRED_MAX: u32 = 1_000;

/// The result kept under `key`, which becomes the recorded reply of the call `name`; or what this
/// job took before. A job that has made a call of its own goes on with that one.
pub(crate) fn reuse(
    tx: &Tx<'_>,
    lease: &Lease,
    name: &str,
    key: Digest,
) -> Result<Option<Value>, StoreError> {
    let mut journal = lease::require_live(tx, lease)?;
    let taken = tx.row(
        "SELECT reply FROM checkpoints WHERE job = ?1 AND name = ?2 AND recorded_at IS NOT NULL",
        (lease.job, name),
        |row| row.json(),
    )?;
    if taken.is_some() {
        return Ok(taken);
    }
    let called =
        tx.row("SELECT 1 FROM checkpoints WHERE job = ?1 LIMIT 1", [lease.job], |row| {
            row.get::<i64>()
        })?;
    if called.is_some() {
        return Ok(None);
    }
    let (now, id) = (tx.now().as_micros(), key.to_string());
    let kept =
        tx.row("SELECT data FROM cache WHERE key = ?1 AND expires_at > ?2", (&id, now), |row| {
            row.json()
        })?;
    let Some(kept) = kept else { return Ok(None) };
    tx.write("UPDATE cache SET used_at = ?2 WHERE key = ?1", (&id, now))?;
    let text = tx.json("reply of a call", &kept)?;
    tx.write(
        "INSERT INTO checkpoints (job, name, attempt, idempotency_key, begun_at, recorded_at, reply)
         VALUES (?1, ?2, ?3, '', ?4, ?4, ?5)",
        (lease.job, name, lease.attempt, now, &text),
    )?;
    let about = json!({ "name": name, "key": id, "reply": Digest::of(text.as_bytes()) });
    journal.note_job(tx, "cache_hit", &lease.key, Some(lease.attempt), about)?;
    journal.finish(tx, false)?;
    Ok(Some(kept))
}

/// Keeps `value` under `key`, in place of what was kept there, and makes room for it: what has
/// expired goes first, then what was not used for longest. Whether it was small enough to be kept.
pub(crate) fn keep(
    tx: &Tx<'_>,
    lease: &Lease,
    key: Digest,
    value: &Value,
    within: Duration,
) -> Result<bool, StoreError> {
    let mut journal = lease::require_live(tx, lease)?;
    let text = tx.json("kept result", value)?;
    let bytes = text.len() as u64;
    if bytes > BOUNDS.one {
        return Ok(false);
    }
    let now = tx.now();
    tx.write(
        "INSERT INTO cache (key, data, bytes, expires_at, used_at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (key) DO UPDATE SET data = excluded.data, bytes = excluded.bytes,
         expires_at = excluded.expires_at, used_at = excluded.used_at",
        (key.to_string(), text, int(bytes), now.after(within).as_micros(), now.as_micros()),
    )?;
    tx.write(
        "DELETE FROM cache WHERE key IN
         (SELECT key FROM cache WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
        (now.as_micros(), EXPIRED_MAX),
    )?;
    let evicted = make_room(tx, key)?;
    let about = json!({ "key": key, "bytes": bytes, "evicted": evicted });
    journal.note_job(tx, "cache_kept", &lease.key, Some(lease.attempt), about)?;
    journal.finish(tx, false)?;
    Ok(true)
}

const TOTAL: &str = "SELECT count(*), CAST(COALESCE(sum(bytes), 0) AS BIGINT) FROM cache";

/// Removes what is too much, but never `newest`. How many there were.
fn make_room(tx: &Tx<'_>, newest: Digest) -> Result<usize, StoreError> {
    let total = tx.row(TOTAL, [], |row| Ok((row.count()?, row.count()?)))?;
    let fits = total.is_none_or(|(rows, bytes)| rows <= BOUNDS.rows && bytes <= BOUNDS.bytes);
    if fits {
        return Ok(0);
    }
    let oldest = tx.rows(
        "SELECT key, bytes FROM cache WHERE key <> ?1 ORDER BY used_at, key",
        [newest.to_string()],
        |row| Ok((row.get::<String>()?, row.count()?)),
    )?;
    let newest =
        tx.row("SELECT bytes FROM cache WHERE key = ?1", [newest.to_string()], |row| row.count())?;
    let sizes: Vec<u64> = oldest.iter().map(|(_, bytes)| *bytes).collect();
    let surplus = surplus(&sizes, newest.unwrap_or(0), BOUNDS);
    for (key, _) in &oldest[..surplus] {
        tx.write("DELETE FROM cache WHERE key = ?1", [key])?;
    }
    Ok(surplus)
}

/// How many of the entries of these sizes, oldest first, have to go so that a further one of
/// `newest` bytes has room.
fn surplus(sizes: &[u64], newest: u64, bounds: Bounds) -> usize {
    let mut bytes = sizes.iter().sum::<u64>().saturating_add(newest);
    let mut rows = sizes.len() as u64 + 1;
    let mut gone = 0;
    for size in sizes {
        if rows <= bounds.rows && bytes <= bounds.bytes {
            break;
        }
        (rows, bytes, gone) = (rows - 1, bytes - size, gone + 1);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entries_go_until_both_bounds_hold() {
        let bounds = Bounds { rows: 4, bytes: 100, one: 50 };
        for (sizes, newest, expected) in [
            (&[][..], 50, 0),
            (&[10, 10, 10][..], 50, 0),
            (&[10, 10, 10, 10][..], 1, 1),
            (&[50, 50][..], 1, 1),
            (&[1, 50, 50][..], 1, 2),
            (&[50, 50, 1][..], 50, 2),
            (&[50, 49, 1][..], 50, 1),
            (&[1, 1, 1, 1, 1, 1][..], 1, 3),
            (&[60][..], 50, 1),
        ] {
            assert_eq!(surplus(sizes, newest, bounds), expected, "{sizes:?} and {newest}");
        }
    }
}
