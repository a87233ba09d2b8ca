//! Durable timers. Each belongs to a run and goes with it.

use perennial_core::{Timestamp, run::RunId};

use crate::{NewTimer, StoreError, TimerDue, transaction::Tx};

pub(crate) fn set(tx: &Tx<'_>, run: &RunId, timers: &[NewTimer]) -> Result<(), StoreError> {
    for timer in timers {
        tx.post(
            "INSERT INTO timers (owner, name, run, at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (owner, name) DO UPDATE SET run = excluded.run, at = excluded.at",
            (&timer.owner, &timer.name, run.as_str(), timer.at.as_micros()),
        )?;
    }
    Ok(())
}

/// Removes all timers of a run.
pub(crate) fn clear(tx: &Tx<'_>, run: &RunId) -> Result<(), StoreError> {
    tx.post("DELETE FROM timers WHERE run = ?1", [run.as_str()])
}

pub(crate) fn take_due(tx: &Tx<'_>, limit: u32) -> Result<Vec<TimerDue>, StoreError> {
    let mut due = tx.rows(
        "DELETE FROM timers WHERE at <= ?1 AND (owner, name) IN (SELECT owner, name FROM timers
         WHERE at <= ?1 ORDER BY at, owner, name LIMIT ?2 /*lock FOR UPDATE*//*skip SKIP LOCKED*/)
         RETURNING owner, name, at",
        (tx.now().as_micros(), limit),
        |row| Ok(TimerDue { owner: row.get()?, name: row.get()?, at: row.instant()? }),
    )?;
    due.sort_by(|one, other| {
        (one.at, &one.owner, &one.name).cmp(&(other.at, &other.owner, &other.name))
    });
    Ok(due)
}

/// The next timer; or the next retry, wake-up or deadline of a wait, of a run that goes on. What of these
/// is overdue is found by whoever looks at its run, who may be in another process.
pub(crate) fn next_due(tx: &Tx<'_>) -> Result<Option<Timestamp>, StoreError> {
    let timer = tx.row("SELECT at FROM timers ORDER BY at LIMIT 1", [], |row| row.instant())?;
    let later = |sql| tx.row(sql, [tx.now().as_micros()], |row| row.instant());
    let retry = later(
        "SELECT j.run_after FROM jobs j JOIN runs r ON r.run = j.run
         WHERE j.state = 'ready' AND j.run_after > 0 AND j.run_after > ?1 AND r.state IN ('running', 'compensating')
         ORDER BY j.run_after LIMIT 1",
    )?;
    let wake = later(
        "SELECT j.wake_at FROM jobs j WHERE j.state = 'deferred' AND j.wake_at > ?1
         ORDER BY j.wake_at LIMIT 1",
    )?;
    let wait = later(
        "SELECT w.until FROM waits w WHERE w.ended_as IS NULL AND w.until > ?1
         ORDER BY w.until LIMIT 1",
    )?;
    Ok([timer, retry, wake, wait].into_iter().flatten().min())
}
