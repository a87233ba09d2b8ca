//! A further round of a run: one transaction from what has ended to what goes on.

use perennial_core::{
    Digest,
    run::{AttemptEnd, InvalidTransition, JobKey, JobState, RunId, RunState, StageState},
};
use serde_json::json;

use super::{
    blob, creation,
    decision::refused,
    ending::{self, Ending},
    journal::{Journal, micros},
    node, retention, service, timer, turn,
};
use crate::{Again, Reopening, StageBack, StoreError, transaction::Tx};

pub(crate) fn reopen(tx: &Tx<'_>, new: &Reopening) -> Result<u64, StoreError> {
    let run = &new.run;
    node::end_expired(tx)?;
    let (mut journal, state) = Journal::of_run(tx, run)?;
    if journal.revision() != new.expected_revision {
        return Err(StoreError::Conflict { what: format!("run {run}") });
    }
    // A pause outlasts everything but the end of its run.
    let to = if state == RunState::Paused { state } else { RunState::Running };
    // What a plan tolerates can be made good, and then nothing of it may be under way.
    let is_planned = !new.stages.is_empty();
    let may_reopen = if is_planned {
        let may_not = matches!(state, RunState::Succeeded | RunState::CompensationFailed);
        state.is_terminal() && !may_not
    } else {
        state.may_reopen()
    };
    if !may_reopen {
        let (from, to) = (state.name(), to.name());
        return Err(StoreError::InvalidState(InvalidTransition { what: "run", from, to }));
    }
    if Digest::of(&new.definition_bytes) != new.definition {
        let why = "its bytes have another digest".to_owned();
        return Err(StoreError::Unreadable { what: "definition".to_owned(), why });
    }
    require_left(tx, new, state)?;
    creation::take_run(tx, run, &new.owner)?;
    blob::put(tx, &new.definition_bytes)?;
    let settings = tx.json("run settings", &new.settings)?;
    let mut about = json!({
        "was": state.name(),
        "definition": new.definition,
        "input_digest": new.input_digest,
        "settings": Digest::of(settings.as_bytes()),
        "deadline": micros(new.deadline),
        "again": new.again.len(),
    });
    if is_planned {
        let states = new.stages.iter().map(|back| (back.stage.clone(), json!(back.state)));
        about["stages"] = states.collect::<serde_json::Map<_, _>>().into();
    }
    journal.note(tx, "run_reopened", about)?;
    if is_planned {
        require_ended(tx, run)?;
    }
    for again in &new.again {
        set_back(tx, &mut journal, new, again)?;
    }
    if is_planned {
        for back in &new.stages {
            open_stage(tx, run, back)?;
        }
        require_opened(tx, run)?;
    } else {
        // What follows from one that has not ended was planned by the definition that goes.
        require_ended(tx, run)?;
        tx.write(
            "UPDATE stages SET state = ?2, outcome = NULL WHERE run = ?1",
            (run.as_str(), StageState::Open.name()),
        )?;
    }
    timer::clear(tx, run)?;
    tx.write("UPDATE streams SET closed = 0, closed_at = NULL WHERE stream = ?1", [run.as_str()])?;
    tx.write(
        "UPDATE runs SET definition = ?2, input_digest = ?3, settings = ?4, state = ?5,
         failure = NULL, finished_at = NULL, deadline = ?6,
         progress = CASE WHEN progress IS NULL THEN NULL ELSE 0 END WHERE run = ?1",
        (
            run.as_str(),
            new.definition.to_string(),
            new.input_digest.to_string(),
            settings,
            to.name(),
            micros(new.deadline),
        ),
    )?;
    retention::note_uses(tx, run, &new.settings)?;
    let (revision, _) = journal.finish(tx, true)?;
    Ok(revision)
}

fn require_ended(tx: &Tx<'_>, run: &RunId) -> Result<(), StoreError> {
    let unfinished = tx.row(
        "SELECT state FROM jobs WHERE run = ?1
         AND state IN ('blocked', 'ready', 'leased', 'deferred', 'suspended', 'joining') LIMIT 1",
        [run.as_str()],
        |row| row.parse::<JobState>(),
    )?;
    let Some(found) = unfinished else { return Ok(()) };
    Err(refused("job", found.name(), JobState::Cancelled.name()))
}

/// A closed stage of the plan begins there.
fn open_stage(tx: &Tx<'_>, run: &RunId, back: &StageBack) -> Result<(), StoreError> {
    let StageBack { stage, state } = back;
    let closed = StageState::Closed.name();
    let found = tx.row(
        "SELECT state FROM stages WHERE run = ?1 AND stage = ?2
         AND (feed <> 'driven' OR concurrency IS NOT NULL)",
        (run.as_str(), stage),
        |row| row.parse::<StageState>(),
    )?;
    let found = found.ok_or_else(|| StoreError::NotFound { what: "stage", id: stage.clone() })?;
    if found != StageState::Closed || *state == StageState::Closed {
        return Err(refused("stage", found.name(), state.name()));
    }
    tx.change(
        "UPDATE stages SET state = ?3, outcome = NULL WHERE run = ?1 AND stage = ?2
         AND state = 'closed'",
        (run.as_str(), stage, state.name()),
        || refused("stage", closed, state.name()),
    )
}

/// What is made again lies in stages that are open (INV-2).
fn require_opened(tx: &Tx<'_>, run: &RunId) -> Result<(), StoreError> {
    let found = tx.row(
        "SELECT j.state FROM jobs j JOIN stages s ON s.run = j.run AND s.stage = j.stage
         WHERE j.run = ?1 AND j.state IN ('blocked', 'ready') AND s.state = 'closed' LIMIT 1",
        [run.as_str()],
        |row| row.parse::<JobState>(),
    )?;
    let Some(found) = found else { return Ok(()) };
    Err(refused("stage", StageState::Closed.name(), found.name()))
}

/// A run that has not ended is reopened only when nobody runs it, this process included. Of one that has ended,
/// whoever ran it last has nothing left to do; were an attempt of it under way at a live node, it would stay there.
fn require_left(tx: &Tx<'_>, new: &Reopening, state: RunState) -> Result<(), StoreError> {
    let id = new.run.as_str();
    let held = tx.row(
        "SELECT 1 FROM streams s JOIN nodes n ON n.node = s.owner_node
         AND n.incarnation = s.owner_incarnation AND n.ended_at IS NULL WHERE s.stream = ?1 AND ?2 <> 0
         UNION ALL
         SELECT 1 FROM jobs j JOIN nodes n ON n.node = j.lease_node
         AND n.incarnation = j.lease_incarnation AND n.ended_at IS NULL
         WHERE j.run = ?1 AND j.state = 'leased' LIMIT 1",
        (id, !state.is_terminal()),
        |_| Ok(()),
    )?;
    match held {
        Some(()) => Err(StoreError::Conflict { what: format!("the owner of run {id}") }),
        None => node::require_alive(tx, &new.owner),
    }
}

/// Takes a job's result and budget back: it is made again when it is due. The number of its last
/// attempt stays, so that no lease of an earlier round is ever valid again.
fn set_back(
    tx: &Tx<'_>,
    journal: &mut Journal,
    new: &Reopening,
    again: &Again,
) -> Result<(), StoreError> {
    let Again { job, forget_calls, to, input } = again;
    let (job, forget_calls) = (*job, *forget_calls);
    let is_planned = !new.stages.is_empty();
    let fits = match to {
        JobState::Cancelled => !is_planned,
        JobState::Ready | JobState::Blocked => is_planned,
        JobState::Leased
        | JobState::Deferred
        | JobState::Suspended
        | JobState::Joining
        | JobState::Succeeded
        | JobState::Partial
        | JobState::Failed
        | JobState::Skipped => false,
    };
    let (key, state, attempt) = tx
        .row(
            "SELECT key, state, attempt FROM jobs WHERE id = ?1 AND run = ?2",
            (job, new.run.as_str()),
            |row| {
                let key = JobKey::new(row.get::<String>()?);
                Ok((key, row.parse::<JobState>()?, row.get::<u32>()?))
            },
        )?
        .ok_or_else(|| StoreError::NotFound { what: "job", id: job.to_string() })?;
    if !fits {
        return Err(refused("job", state.name(), to.name()));
    }
    if state == JobState::Leased {
        let uncertain = ending::end_attempt(tx, job, &Ending::of(attempt, AttemptEnd::Expired))?;
        journal.note_job(tx, "attempt_expired", &key, Some(attempt), json!({}))?;
        if uncertain {
            ending::note_uncertain(tx, journal, &key, attempt)?;
        }
    }
    tx.write(
        "UPDATE jobs SET state = ?2, skipped = NULL, attempts_used = 0, crashes = 0,
         run_after = 0, lease_node = NULL, lease_incarnation = NULL, dead_letter = 0,
         wake_at = NULL, defer_cause = NULL, defer_until = NULL, defer_then = NULL,
         deferred_since = NULL WHERE id = ?1",
        (job, to.name()),
    )?;
    tx.write("DELETE FROM waits WHERE job = ?1", [job])?;
    turn::forget_place(tx, job)?;
    service::end_of_job(tx, job, JobState::Cancelled)?;
    tx.write("DELETE FROM results WHERE job = ?1", [job])?;
    if forget_calls {
        tx.write("DELETE FROM checkpoints WHERE job = ?1", [job])?;
        tx.write("DELETE FROM saved WHERE job = ?1", [job])?;
    }
    let mut about = json!({ "was": state.name(), "calls_forgotten": forget_calls });
    if is_planned {
        about["to"] = json!(to);
    }
    if let Some(input) = input {
        let text = tx.json("job input", input)?;
        tx.write("UPDATE inputs SET data = ?2 WHERE job = ?1", (job, &text))?;
        about["input"] = json!(Digest::of(text.as_bytes()));
    }
    journal.note_job(tx, "job_reopened", &key, None, about)
}
