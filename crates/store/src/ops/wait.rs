//! What jobs wait for: things that are not available, signals, answers, instants.

use perennial_core::{
    Timestamp,
    run::{InvalidTransition, JobKey, JobState, RunId},
};
use serde_json::{Map, Value, json};

use super::{
    journal::{Journal, micros},
    signal,
};
use crate::{
    Deferral, Lease, NewWait, StoreError, WaitDefault, WaitEnd, WaitEnded, WaitKind, WaitRecord,
    transaction::{Columns, Tx},
};

/// A deferral's columns, which are there together or not at all.
pub(crate) fn deferral(row: &Columns<'_>) -> Result<Option<Deferral>, StoreError> {
    let (wake_at, cause) = (row.instant_maybe()?, row.get::<Option<String>>()?);
    let (until, then) = (row.instant_maybe()?, row.parse_maybe()?);
    let ((Some(wake_at), Some(cause)), (Some(until), Some(then))) =
        ((wake_at, cause), (until, then))
    else {
        return Ok(None);
    };
    Ok(Some(Deferral { cause, wake_at, until, then }))
}

pub(crate) fn note_deferred(
    tx: &Tx<'_>,
    journal: &mut Journal,
    key: &JobKey,
    attempt: Option<u32>,
    deferral: &Deferral,
    mut about: Map<String, Value>,
) -> Result<(), StoreError> {
    about.insert("cause".to_owned(), json!(deferral.cause));
    about.insert("wake_at".to_owned(), json!(deferral.wake_at.to_rfc3339()));
    about.insert("until".to_owned(), json!(deferral.until.to_rfc3339()));
    about.insert("then".to_owned(), json!(deferral.then.name()));
    journal.note_job(tx, "job_deferred", key, attempt, about.into())
}

/// Ends a deferral before its time.
pub(crate) fn wake(
    tx: &Tx<'_>,
    run: &RunId,
    job: i64,
    cause: &str,
    run_after: Option<Timestamp>,
) -> Result<bool, StoreError> {
    let (mut journal, state) = Journal::of_run(tx, run)?;
    let key = tx
        .row("SELECT key FROM jobs WHERE id = ?1 AND run = ?2", (job, run.as_str()), |row| {
            Ok(JobKey::new(row.get::<String>()?))
        })?
        .ok_or_else(|| StoreError::NotFound { what: "job", id: job.to_string() })?;
    if !state.works() {
        return Ok(false);
    }
    let woken = tx.write(
        "UPDATE jobs SET state = 'ready', run_after = ?2, wake_at = NULL, defer_cause = NULL,
         defer_until = NULL, defer_then = NULL WHERE id = ?1 AND state = 'deferred'",
        (job, micros(run_after).unwrap_or(0)),
    )?;
    if woken == 0 {
        return Ok(false);
    }
    let mut about = json!({ "cause": cause });
    if let Some(due) = run_after {
        about["run_after_micros"] = json!(due.as_micros());
    }
    journal.note_job(tx, "job_ready", &key, None, about)?;
    journal.finish(tx, true)?;
    Ok(true)
}

/// Begins the wait of a job that has just become Suspended, by an attempt of which events tell `facts`. What came before it is taken at once, and
/// returned: the job is then Ready again.
pub(crate) fn begin(
    tx: &Tx<'_>,
    journal: &mut Journal,
    lease: &Lease,
    new: &NewWait,
    mut facts: Map<String, Value>,
) -> Result<Option<WaitEnd>, StoreError> {
    let about = tx.json("question", &new.about)?;
    let value = new.or.value().map(|value| tx.json("default of a wait", value)).transpose()?;
    tx.write(
        "INSERT INTO waits (job, kind, name, about, since, until, fallback, fallback_value)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (job) DO UPDATE SET kind = excluded.kind, name = excluded.name,
         about = excluded.about, since = excluded.since, until = excluded.until,
         fallback = excluded.fallback, fallback_value = excluded.fallback_value,
         ended_as = NULL, ended_by = NULL, ended_at = NULL, answer = NULL",
        (
            lease.job,
            new.kind.name(),
            &new.name,
            about,
            tx.at().as_micros(),
            new.until.as_micros(),
            new.or.name(),
            value,
        ),
    )?;
    facts.insert("kind".to_owned(), json!(new.kind.name()));
    facts.insert("name".to_owned(), json!(new.name));
    facts.insert("until".to_owned(), json!(new.until.to_rfc3339()));
    facts.insert("default".to_owned(), json!(new.or.name()));
    let (key, attempt) = (&lease.key, Some(lease.attempt));
    journal.note_job(tx, "job_suspended", key, attempt, facts.into())?;
    if new.kind == WaitKind::Answer {
        let question = json!({
            "name": new.name,
            "about": new.about,
            "until": new.until.to_rfc3339(),
        });
        journal.note_job(tx, "interrupt_requested", key, attempt, question)?;
    }
    let Some(end) = signal::take(tx, &lease.run, lease.job, new)? else { return Ok(None) };
    resume(tx, lease.job, &lease.key)?;
    self::end(tx, journal, lease.job, &lease.key, &end, JobState::Ready)?;
    Ok(Some(end))
}

/// A suspended job is Ready again.
pub(crate) fn resume(tx: &Tx<'_>, job: i64, key: &JobKey) -> Result<(), StoreError> {
    let changed = tx.write(
        "UPDATE jobs SET state = 'ready', run_after = 0 WHERE id = ?1 AND state = 'suspended'",
        [job],
    )?;
    if changed == 0 {
        return Err(tx.overtaken(StoreError::Conflict { what: format!("job {key}") }));
    }
    Ok(())
}

/// Ends the open wait of a job that enters `to`: the one conditional write on which all that could end
/// it race (DUR-45).
pub(crate) fn end(
    tx: &Tx<'_>,
    journal: &mut Journal,
    job: i64,
    key: &JobKey,
    end: &WaitEnd,
    to: JobState,
) -> Result<(), StoreError> {
    let answer = end.answer.as_ref().map(|answer| tx.json("answer", answer)).transpose()?;
    let ended = tx.row(
        "UPDATE waits SET ended_as = ?2, ended_by = ?3, ended_at = ?4, answer = ?5
         WHERE job = ?1 AND ended_as IS NULL RETURNING kind, name",
        (job, end.how.name(), &end.by, tx.at().as_micros(), answer),
        |row| Ok((row.parse::<WaitKind>()?, row.get::<String>()?)),
    )?;
    let Some((kind, name)) = ended else {
        return Err(tx.overtaken(StoreError::Conflict { what: format!("the wait of job {key}") }));
    };
    let about = json!({ "kind": kind.name(), "name": name, "ended": end.how.name(), "by": end.by });
    if kind == WaitKind::Answer {
        let interrupt = match end.how {
            WaitEnded::Sent => "interrupt_resumed",
            WaitEnded::Deadline | WaitEnded::Timer => "interrupt_expired",
            WaitEnded::Cancelled => "interrupt_cancelled",
        };
        journal.note_job(tx, interrupt, key, None, about.clone())?;
    }
    if to == JobState::Ready {
        journal.note_job(tx, "job_resumed", key, None, about)?;
    }
    Ok(())
}

/// What the jobs of a run wait for, or waited for last.
pub(crate) fn of_run(tx: &Tx<'_>, run: &RunId) -> Result<Vec<WaitRecord>, StoreError> {
    tx.rows(
        "SELECT w.job, w.kind, w.name, w.about, w.since, w.until, w.fallback, w.fallback_value,
         w.ended_as, w.ended_by, w.answer FROM waits w JOIN jobs j ON j.id = w.job
         WHERE j.run = ?1 ORDER BY w.job",
        [run.as_str()],
        record,
    )
}

fn record(row: &Columns<'_>) -> Result<WaitRecord, StoreError> {
    let (job, kind, name, about) = (row.get()?, row.parse()?, row.get()?, row.json()?);
    let (since, until) = (row.instant()?, row.instant()?);
    let fallback: String = row.get()?;
    let value: Option<Value> = row.json_maybe()?;
    let or = match (fallback.as_str(), value) {
        ("resume", Some(value)) => WaitDefault::Resume(value),
        ("skip", None) => WaitDefault::Skip,
        ("fail", None) => WaitDefault::Fail,
        (other, _) => {
            let why = format!("`{other}` is no default of a wait");
            return Err(StoreError::Unreadable { what: "waits".to_owned(), why });
        }
    };
    let how: Option<WaitEnded> = row.parse_maybe()?;
    let (by, answer) = (row.get()?, row.json_maybe()?);
    let ended = how.map(|how| WaitEnd { how, by, answer });
    Ok(WaitRecord { job, wait: NewWait { kind, name, about, until, or }, since, ended })
}

/// A run that takes nothing any more.
pub(crate) fn takes_nothing(from: &'static str) -> StoreError {
    StoreError::InvalidState(InvalidTransition { what: "run", from, to: "signalled" })
}
