//! Runs that began elsewhere: created with what had come of them.

use perennial_core::run::{InvalidTransition, JobState, RunId, RunState, SkipReason};
use serde_json::{Map, Value, json};

use super::{
    creation,
    decision::{keep_result, note_job_end},
    journal::Journal,
    sequence,
};
use crate::{
    Created, NewRun, Past, PastJob, PastNumber, StoreError,
    transaction::{Tx, int},
};

/// Numbers below one that came from elsewhere that nobody has yet, at most.
const GAP_MAX: u64 = 10_000;

/// A second import of the same run is that run, whatever has become of it since.
pub(crate) fn import_run(tx: &Tx<'_>, new: &NewRun, past: &Past) -> Result<Created, StoreError> {
    creation::create(tx, new, |tx, journal| {
        for job in &past.jobs {
            end_job(tx, journal, &new.run, job)?;
        }
        for number in &past.numbers {
            take_number(tx, journal, &new.run, number)?;
        }
        for event in &past.events {
            journal.append(tx, event.clone())?;
        }
        if past.paused {
            tx.change(
                "UPDATE runs SET state = ?2 WHERE run = ?1 AND state = 'running'",
                (new.run.as_str(), RunState::Paused.name()),
                || StoreError::Conflict { what: format!("run {}", new.run) },
            )?;
            journal.note(tx, "run_paused", Value::Null)?;
        }
        Ok(())
    })
}

/// No attempt of it was made here.
fn end_job(
    tx: &Tx<'_>,
    journal: &mut Journal,
    run: &RunId,
    past: &PastJob,
) -> Result<(), StoreError> {
    let PastJob { stage, key, state, skipped, result } = past;
    let gives = matches!(state, JobState::Succeeded | JobState::Partial);
    if !state.is_terminal() || gives && result.is_none() {
        let (from, to) = (JobState::Ready.name(), state.name());
        return Err(StoreError::InvalidState(InvalidTransition { what: "job", from, to }));
    }
    let skipped =
        (*state == JobState::Skipped).then(|| skipped.unwrap_or(SkipReason::NotApplicable));
    let missing = || StoreError::NotFound { what: "job", id: format!("{key} of stage {stage}") };
    let id = tx
        .row(
            "UPDATE jobs SET state = ?4, skipped = ?5 WHERE run = ?1 AND stage = ?2 AND key = ?3
             AND state IN ('ready', 'blocked') RETURNING id",
            (run.as_str(), stage, key.as_str(), state.name(), skipped.map(SkipReason::name)),
            |row| row.get::<i64>(),
        )?
        .ok_or_else(missing)?;
    let mut about = Map::new();
    if let Some(reason) = skipped {
        about.insert("skipped".to_owned(), json!(reason.name()));
    }
    if let Some(result) = result {
        about.insert("result".to_owned(), json!(keep_result(tx, id, result)?));
    }
    about.insert("imported".to_owned(), json!(true));
    note_job_end(tx, journal, *state, key, None, about.into())
}

/// Numbers below it that nobody has are nobody's, until somebody comes with them: none of them is given out.
fn take_number(
    tx: &Tx<'_>,
    journal: &mut Journal,
    run: &RunId,
    past: &PastNumber,
) -> Result<(), StoreError> {
    let PastNumber { sequence, scope, number, key, job, versions } = past;
    let name = sequence.as_str();
    sequence::admit(tx, scope, key)?;
    let taken = || StoreError::Conflict { what: format!("number {number} of {name} in {scope}") };
    if *number == 0 {
        return Err(taken());
    }
    // Whoever asks for the next one waits until this is done.
    let next = tx
        .row(
            "INSERT INTO sequences (sequence, scope, next) VALUES (?1, ?2, 1)
             ON CONFLICT (sequence, scope) DO UPDATE SET next = sequences.next RETURNING next",
            (name, scope),
            |row| row.count(),
        )?
        .ok_or_else(taken)?;
    if number.saturating_sub(next) > GAP_MAX {
        let why = format!(
            "{number} of {name} in {scope} is more than {GAP_MAX} above {next}, the next one"
        );
        return Err(StoreError::Unreadable { what: "number".to_owned(), why });
    }
    let (at, newest) = (tx.at().as_micros(), versions.len() as u64 + 1);
    let has_key = tx.row(sequence::OF_KEY, (name, scope, key), |row| row.count())?;
    if has_key.is_some() {
        return Err(StoreError::Conflict { what: format!("{key} of {name} in {scope}") });
    }
    let changed = if *number < next {
        tx.write(
            "UPDATE allocations SET key = ?4, version = ?5, run = ?6, job = ?7, allocated_at = ?8
             WHERE sequence = ?1 AND scope = ?2 AND number = ?3 AND key = ?9",
            (
                name,
                scope,
                int(*number),
                key,
                int(newest),
                run.as_str(),
                job.as_str(),
                at,
                nobodys(*number),
            ),
        )?
    } else {
        for left in next..*number {
            let row = (name, scope, int(left), nobodys(left), 1_i64, "", "", at);
            tx.post(INSERT, row)?;
        }
        let row = (name, scope, int(*number), key, int(newest), run.as_str(), job.as_str(), at);
        tx.post(INSERT, row)?;
        tx.write(
            "UPDATE sequences SET next = ?3 WHERE sequence = ?1 AND scope = ?2",
            (name, scope, int(number + 1)),
        )?
    };
    if changed == 0 {
        return Err(taken());
    }
    let about = json!({ "sequence": name, "scope": scope, "key": key, "number": number });
    journal.note_job(tx, "number_allocated", job, None, about)?;
    for (version, of) in (2_u32..).zip(versions) {
        sequence::admit(tx, scope, &of.key)?;
        if of.parent == 0 || of.parent >= version {
            let id = format!("{} of number {number} of {name} in {scope}", of.parent);
            return Err(StoreError::NotFound { what: "version", id });
        }
        tx.post(
            "INSERT INTO allocation_versions (sequence, scope, number, version, parent, key, run, job,
             attempt, allocated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9)",
            (
                name,
                scope,
                int(*number),
                version,
                of.parent,
                &of.key,
                run.as_str(),
                job.as_str(),
                at,
            ),
        )?;
        let about = json!({ "sequence": name, "scope": scope, "key": of.key, "number": number,
            "version": version, "parent": of.parent });
        journal.note_job(tx, "version_allocated", job, None, about)?;
    }
    Ok(())
}

const INSERT: &str = "INSERT INTO allocations (sequence, scope, number, key, version, run, job,
    attempt, allocated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8)";

/// The key of a number that was given elsewhere, and nobody knows to whom.
fn nobodys(number: u64) -> String {
    format!("elsewhere#{number}")
}
