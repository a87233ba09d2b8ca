//! The journal of calls to the outside world. A call is open from its begin until its reply is
//! recorded or it is settled.

use perennial_core::{Digest, llm::Spent};
use serde_json::{Value, json};

use super::lease;
use crate::{CallStart, Lease, StoreError, transaction::Tx};

/// Returns the recorded reply, if an earlier try got one. Otherwise the call is open, in the name
/// of this attempt.
pub(crate) fn begin(
    tx: &Tx<'_>,
    lease: &Lease,
    call: &CallStart,
) -> Result<Option<Value>, StoreError> {
    let mut journal = lease::require_live(tx, lease)?;
    let recorded = tx.row(
        "SELECT reply FROM checkpoints WHERE job = ?1 AND name = ?2 AND recorded_at IS NOT NULL",
        (lease.job, &call.name),
        |row| row.json(),
    )?;
    if recorded.is_some() {
        return Ok(recorded);
    }
    tx.post(
        "INSERT INTO checkpoints (job, name, attempt, idempotency_key, begun_at)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (job, name) DO UPDATE SET
         attempt = excluded.attempt, idempotency_key = excluded.idempotency_key,
         begun_at = excluded.begun_at WHERE checkpoints.recorded_at IS NULL",
        (lease.job, &call.name, lease.attempt, &call.idempotency_key, tx.at().as_micros()),
    )?;
    let about = json!({ "name": call.name });
    journal.note_job(tx, "call_started", &lease.key, Some(lease.attempt), about)?;
    journal.finish(tx, false)?;
    Ok(None)
}

/// Repeatable with the same reply.
pub(crate) fn record(
    tx: &Tx<'_>,
    lease: &Lease,
    name: &str,
    reply: &Value,
) -> Result<(), StoreError> {
    let mut journal = lease::require_live(tx, lease)?;
    let text = tx.json("reply of a call", reply)?;
    let recorded = tx.write(
        "UPDATE checkpoints SET recorded_at = ?4, reply = ?5
         WHERE job = ?1 AND name = ?2 AND attempt = ?3 AND recorded_at IS NULL",
        (lease.job, name, lease.attempt, tx.at().as_micros(), &text),
    )?;
    if recorded == 0 {
        return match earlier(tx, lease, name)? {
            Some(Some(earlier)) if earlier == *reply => Ok(()),
            Some(_) => Err(StoreError::Conflict { what: format!("call {name}") }),
            None => Err(StoreError::NotFound { what: "call", id: name.to_owned() }),
        };
    }
    tx.post("UPDATE jobs SET crashes = 0 WHERE id = ?1 AND crashes > 0", [lease.job])?;
    let mut about = json!({ "name": name, "reply": Digest::of(text.as_bytes()) });
    if let Some(spent) = Spent::of_reply(reply) {
        // What it used and cost is told with the event (TNM-3); the reply itself is not.
        about["spent"] = json!(spent);
    }
    journal.note_job(tx, "checkpoint_written", &lease.key, Some(lease.attempt), about)?;
    journal.finish(tx, false)?;
    Ok(())
}

/// Repeatable. A call that had no effect leaves no row; a recorded one stays.
pub(crate) fn settle(tx: &Tx<'_>, lease: &Lease, name: &str) -> Result<(), StoreError> {
    lease::require_live(tx, lease)?;
    tx.write(
        "DELETE FROM checkpoints
         WHERE job = ?1 AND name = ?2 AND attempt = ?3 AND recorded_at IS NULL",
        (lease.job, name, lease.attempt),
    )?;
    Ok(())
}

/// The reply of a call, where the call was begun and the reply recorded.
fn earlier(tx: &Tx<'_>, lease: &Lease, name: &str) -> Result<Option<Option<Value>>, StoreError> {
    tx.row("SELECT reply FROM checkpoints WHERE job = ?1 AND name = ?2", (lease.job, name), |row| {
        row.json_maybe()
    })
}
