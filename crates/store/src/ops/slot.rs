//! Numbers of pools: a number has one row, and a row one holder, which is an attempt under way. What ends the attempt
//! gives them back.

use perennial_core::run::{RunId, SlotPool};
use serde_json::json;

use super::lease;
use crate::{
    Lease, SLOT_FENCE, SlotGiven, SlotHolder, SlotRecord, SlotTaken, StoreError, transaction::Tx,
};

/// Longest name under which an attempt holds a number.
const NAME_BYTES_MAX: usize = 256;
/// Rivals that may be faster, one after the other, before all is done again.
const RIVALS_MAX: u32 = 64;

const HELD: &str =
    "SELECT number FROM slot_pools WHERE job = ?1 AND attempt = ?2 AND pool = ?3 AND name = ?4";

/// The least number that is free: one without a row, or whose fence is over.
const FREE: &str = "SELECT n FROM (
    SELECT CAST(?2 AS BIGINT) AS n WHERE NOT EXISTS
      (SELECT 1 FROM slot_pools f WHERE f.pool = ?1 AND f.number = ?2)
    UNION ALL SELECT s.number FROM slot_pools s WHERE s.pool = ?1 AND s.number >= ?2
      AND s.number <= ?3 AND s.fenced_until <= ?4
    UNION ALL SELECT s.number + 1 FROM slot_pools s WHERE s.pool = ?1 AND s.number >= ?2
      AND s.number < ?3 AND NOT EXISTS
      (SELECT 1 FROM slot_pools t WHERE t.pool = ?1 AND t.number = s.number + 1)
    ) free ORDER BY n LIMIT 1";

/// Repeatable: what the attempt holds under that name it holds on.
pub(crate) fn take(
    tx: &Tx<'_>,
    lease: &Lease,
    pool: &SlotPool,
    name: &str,
) -> Result<SlotTaken, StoreError> {
    tx.admit("name of a number", name.len(), NAME_BYTES_MAX)?;
    tx.ahead(HELD, (lease.job, lease.attempt, pool.name(), name));
    let mut journal = lease::require_live(tx, lease)?;
    let held = tx.row(HELD, (lease.job, lease.attempt, pool.name(), name), |row| row.get())?;
    if let Some(number) = held {
        return Ok(SlotTaken::Number(number));
    }
    let now = tx.now().as_micros();
    let mut from = Some(pool.first());
    for _ in 0..RIVALS_MAX {
        let Some(first) = from else { return Ok(SlotTaken::Full) };
        let free = tx.row(FREE, (pool.name(), first, pool.last(), now), |row| row.get::<u32>())?;
        let Some(free) = free else { return Ok(SlotTaken::Full) };
        let taken = tx.row(
            "INSERT INTO slot_pools (pool, number, job, attempt, name, taken_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (pool, number) DO UPDATE SET
             job = excluded.job, attempt = excluded.attempt, name = excluded.name,
             taken_at = excluded.taken_at, fenced_until = NULL
             WHERE slot_pools.fenced_until <= ?6 RETURNING number",
            (pool.name(), free, lease.job, lease.attempt, name, now),
            |row| row.get::<u32>(),
        )?;
        if let Some(number) = taken {
            let about = json!({ "pool": pool.name(), "number": number });
            journal.note_job(tx, "slot_taken", &lease.key, Some(lease.attempt), about)?;
            journal.finish(tx, false)?;
            return Ok(SlotTaken::Number(number));
        }
        // Somebody else has it by now.
        from = free.checked_add(1).filter(|next| *next <= pool.last());
    }
    Err(tx.overtaken(StoreError::Conflict { what: format!("pool {}", pool.name()) }))
}

/// Whether the attempt had it.
pub(crate) fn give(
    tx: &Tx<'_>,
    lease: &Lease,
    pool: &str,
    number: u32,
    why: SlotGiven,
) -> Result<bool, StoreError> {
    let mut journal = lease::require_live(tx, lease)?;
    let held = (pool, number, lease.job, lease.attempt);
    let given = match why {
        SlotGiven::Unused => tx.write(
            "DELETE FROM slot_pools WHERE pool = ?1 AND number = ?2 AND job = ?3 AND attempt = ?4",
            held,
        )?,
        SlotGiven::Conflict => tx.write(
            "UPDATE slot_pools SET job = NULL, attempt = NULL, name = NULL, taken_at = NULL,
             fenced_until = ?5 WHERE pool = ?1 AND number = ?2 AND job = ?3 AND attempt = ?4",
            (pool, number, lease.job, lease.attempt, tx.now().after(SLOT_FENCE).as_micros()),
        )?,
    };
    if given == 0 {
        return Ok(false);
    }
    let about = json!({ "pool": pool, "number": number, "conflict": why == SlotGiven::Conflict });
    journal.note_job(tx, "slot_given", &lease.key, Some(lease.attempt), about)?;
    journal.finish(tx, false)?;
    Ok(true)
}

/// Gives back what the attempt holds, with its end.
pub(crate) fn free_of(tx: &Tx<'_>, job: i64, attempt: u32) -> Result<(), StoreError> {
    tx.post("DELETE FROM slot_pools WHERE job = ?1 AND attempt = ?2", (job, attempt))
}

/// Forgets fences that are over.
pub(crate) fn forget_fences(tx: &Tx<'_>, limit: i64) -> Result<(), StoreError> {
    tx.write(
        "DELETE FROM slot_pools WHERE (pool, number) IN (SELECT pool, number FROM slot_pools
         WHERE fenced_until <= ?1 LIMIT ?2)",
        (tx.now().as_micros(), limit),
    )?;
    Ok(())
}

/// The numbers of a pool that are not free, in their order.
pub(crate) fn of_pool(tx: &Tx<'_>, pool: &str) -> Result<Vec<SlotRecord>, StoreError> {
    tx.rows(
        "SELECT s.number, s.fenced_until, j.run, s.job, s.attempt, s.name, s.taken_at
         FROM slot_pools s LEFT JOIN jobs j ON j.id = s.job
         WHERE s.pool = ?1 AND (s.fenced_until IS NULL OR s.fenced_until > ?2) ORDER BY s.number",
        (pool, tx.now().as_micros()),
        |row| {
            let (number, fenced_until) = (row.get()?, row.instant_maybe()?);
            let holder = match row.get::<Option<String>>()? {
                None => None,
                Some(run) => Some(SlotHolder {
                    run: RunId::parse(run).map_err(|error| StoreError::Unreadable {
                        what: "run".to_owned(),
                        why: error.to_string(),
                    })?,
                    job: row.get()?,
                    attempt: row.get()?,
                    name: row.get()?,
                    taken_at: row.instant()?,
                }),
            };
            Ok(SlotRecord { number, holder, fenced_until })
        },
    )
}
