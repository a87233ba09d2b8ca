//! Jobs that change without an attempt of their own ending.

use perennial_core::run::{AttemptEnd, JobKey, JobKind, JobState, RunId, SkipReason};
use serde_json::{Map, Value, json};

use super::{
    decision::{keep_result, note_job_end, refused},
    ending::{self, Ending},
    journal::{Journal, cut, micros},
    service, turn, wait,
};
use crate::{JobStep, StoreError, WaitEnd, transaction::Tx};

/// A leased job's attempt ends with the step, so that no attempt outlives its lease.
pub(crate) fn step_job(
    tx: &Tx<'_>,
    journal: &mut Journal,
    run: &RunId,
    step: &JobStep,
) -> Result<(), StoreError> {
    let JobStep { job, from, to, .. } = *step;
    let (key, state, attempt, kind, stage, has_turn, waits) = tx
        .row(
            "SELECT key, state, attempt, kind, stage, EXISTS (SELECT 1 FROM turns t WHERE t.job = jobs.id),
             (SELECT k.parked_since IS NOT NULL FROM keyed k WHERE k.job = jobs.id) FROM jobs WHERE id = ?1 AND run = ?2",
            (job, run.as_str()),
            |row| {
                let key = JobKey::new(row.get::<String>()?);
                let (state, attempt) = (row.parse::<JobState>()?, row.get::<u32>()?);
                let (kind, stage) = (row.parse::<JobKind>()?, row.get::<String>()?);
                // Nothing of a job without a key.
                let (has_turn, waits) = (row.get::<bool>()?, row.get::<Option<bool>>()?);
                Ok((key, state, attempt, kind, stage, has_turn, waits))
            },
        )?
        .ok_or_else(|| StoreError::NotFound { what: "job", id: job.to_string() })?;
    state.enter(to)?;
    if state != from {
        return Err(StoreError::Conflict { what: format!("job {key}") });
    }
    if to == JobState::Joining && waits.is_some() && !has_turn {
        // It is not its turn.
        return Err(StoreError::Conflict { what: format!("the turn of job {key}") });
    }
    // Only a claim knows for whom, and only a report what for.
    let unknown = matches!(to, JobState::Leased | JobState::Suspended)
        || (to == JobState::Deferred) != step.deferral.is_some()
        // Only a group has children.
        || (to == JobState::Joining && kind != JobKind::Group);
    if unknown {
        return Err(refused("job", from.name(), to.name()));
    }
    let mut about = match &step.about {
        Value::Object(about) => about.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    };
    let uncertain = if from == JobState::Leased {
        let end = match to {
            JobState::Ready => AttemptEnd::Released,
            JobState::Deferred => AttemptEnd::Unavailable,
            JobState::Blocked
            | JobState::Leased
            | JobState::Suspended
            | JobState::Joining
            | JobState::Succeeded
            | JobState::Partial
            | JobState::Failed
            | JobState::Skipped
            | JobState::Cancelled => AttemptEnd::Cancelled,
        };
        about.insert("end".to_owned(), json!(end.name()));
        ending::end_attempt(tx, job, &Ending::of(attempt, end))?
    } else {
        false
    };
    // A step that gives no reason is made because what the job needs is missing.
    let skipped = (to == JobState::Skipped).then(|| step.skipped.unwrap_or(SkipReason::Upstream));
    if let Some(reason) = skipped {
        about.insert("skipped".to_owned(), json!(reason.name()));
    }
    if let Some(due) = step.run_after.filter(|_| to == JobState::Ready) {
        about.insert("run_after_micros".to_owned(), json!(due.as_micros()));
    }
    if from == JobState::Joining {
        require_joined(tx, run, (&stage, &key), to)?;
        journal.note_job(tx, "group_joined", &key, None, json!({ "as": to.name() }))?;
    }
    write_step(tx, &key, step, skipped)?;
    service::end_of_job(tx, job, to)?;
    if has_turn && to.is_terminal() {
        turn::give_back(tx, job)?;
    }
    if waits == Some(true) && to.is_terminal() {
        // Whoever looks for a turn does not look through those that have ended.
        turn::forget_place(tx, job)?;
    }
    if let Some(result) = &step.result {
        let digest = keep_result(tx, job, result)?;
        about.insert("result".to_owned(), json!(digest));
    }
    let attempt = (attempt > 0).then_some(attempt);
    if let (true, Some(attempt)) = (uncertain, attempt) {
        ending::note_uncertain(tx, journal, &key, attempt)?;
    }
    if let Some(deferral) = &step.deferral {
        return wait::note_deferred(tx, journal, &key, attempt, deferral, about);
    }
    if from == JobState::Suspended {
        let end = step.ended.clone().unwrap_or_else(WaitEnd::set_free);
        wait::end(tx, journal, job, &key, &end, to)?;
        if to == JobState::Ready {
            return Ok(());
        }
    }
    let about = if about.is_empty() { Value::Null } else { about.into() };
    note_job_end(tx, journal, to, &key, attempt, about)
}

/// A group ends once each of its children has (INV-9).
fn require_joined(
    tx: &Tx<'_>,
    run: &RunId,
    (stage, group): (&str, &JobKey),
    to: JobState,
) -> Result<(), StoreError> {
    let open = tx.row(
        "SELECT 1 FROM jobs WHERE run = ?1 AND stage = ?2 AND parent = ?3
         AND state IN ('blocked', 'ready', 'leased', 'deferred', 'suspended', 'joining') LIMIT 1",
        (run.as_str(), stage, group.as_str()),
        |_| Ok(()),
    )?;
    match open {
        Some(()) => Err(refused("job", JobState::Joining.name(), to.name())),
        None => Ok(()),
    }
}

fn write_step(
    tx: &Tx<'_>,
    key: &JobKey,
    step: &JobStep,
    skipped: Option<SkipReason>,
) -> Result<(), StoreError> {
    let JobStep { job, from, to, .. } = *step;
    let run_after = if to == JobState::Ready { step.run_after } else { None };
    let deferral = step.deferral.as_ref();
    tx.change(
        "UPDATE jobs SET state = ?3, skipped = ?4, run_after = ?5, lease_node = NULL,
         lease_incarnation = NULL, wake_at = ?6, defer_cause = ?7, defer_until = ?8,
         defer_then = ?9,
         deferred_since = CASE WHEN ?10 = 1 THEN COALESCE(deferred_since, ?11) ELSE deferred_since END
         WHERE id = ?1 AND state = ?2",
        (
            job,
            from.name(),
            to.name(),
            skipped.map(SkipReason::name),
            micros(run_after).unwrap_or(0),
            deferral.map(|deferral| deferral.wake_at.as_micros()),
            deferral.map(|deferral| cut(&deferral.cause)),
            deferral.map(|deferral| deferral.until.as_micros()),
            deferral.map(|deferral| deferral.then.name()),
            deferral.is_some(),
            tx.now().as_micros(),
        ),
        || StoreError::Conflict { what: format!("job {key}") },
    )
}
