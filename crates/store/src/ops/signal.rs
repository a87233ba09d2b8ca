//! What runs are sent: taken by the job that waits for it, or kept for the one that will.

use perennial_core::run::{JobKey, JobState, RunId};
use serde_json::json;

use super::{
    journal::{Journal, cut},
    wait,
};
use crate::{
    Accepted, NewSignal, NewWait, SignalKind, SignalRecord, StoreError, WaitEnd, WaitEnded,
    WaitKind,
    transaction::{Tx, int},
};

/// What a run is sent and nobody takes: as many are kept.
const KEPT_MAX: u32 = 1_000;
/// Largest payload.
const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Longest name and longest request.
const NAME_BYTES_MAX: usize = 256;

pub(crate) fn signal(tx: &Tx<'_>, new: &NewSignal) -> Result<Accepted, StoreError> {
    tx.admit("name of a signal", new.name.len(), NAME_BYTES_MAX)?;
    if new.name.is_empty() || new.name.contains(char::is_control) {
        let what = match new.kind {
            SignalKind::Signal => "a signal",
            SignalKind::Answer => "a question",
        };
        return Err(StoreError::InvalidName { what, name: new.name.clone() });
    }
    tx.admit("request", new.request.len(), NAME_BYTES_MAX)?;
    let run = &new.run;
    let (mut journal, state) = Journal::of_run(tx, run)?;
    if let Some(accepted) = repeated(tx, new)? {
        return Ok(accepted);
    }
    if !state.works() {
        return Err(wait::takes_nothing(state.name()));
    }
    let waiting = waiting(tx, new)?;
    if waiting.is_none() {
        admit_early(tx, new)?;
    }
    let about = json!({
        "kind": new.kind.name(),
        "name": new.name,
        "request": new.request,
        "by": new.by,
        "why": cut(&new.why),
    });
    journal.note(tx, "signal_received", about)?;
    let seq = journal.events();
    let payload = new.payload.to_string();
    tx.admit("payload of a signal", payload.len(), PAYLOAD_BYTES_MAX)?;
    let woken = waiting.as_ref().map(|(job, _)| *job);
    tx.write(
        "INSERT INTO signals (run, request, kind, name, payload, sent_by, why, at, seq, taken_by,
         taken_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        (
            run.as_str(),
            &new.request,
            new.kind.name(),
            &new.name,
            payload,
            &new.by,
            cut(&new.why),
            tx.at().as_micros(),
            int(seq),
            woken,
            woken.map(|_| tx.at().as_micros()),
        ),
    )?;
    if let Some((job, key)) = &waiting {
        let (by, answer) = (Some(new.by.clone()), Some(new.payload.clone()));
        let end = WaitEnd { how: WaitEnded::Sent, by, answer };
        wait::resume(tx, *job, key)?;
        wait::end(tx, &mut journal, *job, key, &end, JobState::Ready)?;
    }
    // One that is only kept decides nothing: no decider has to repeat because of it.
    journal.finish(tx, woken.is_some())?;
    Ok(Accepted { seq, changed: true, woken })
}

/// What the same request was answered before.
fn repeated(tx: &Tx<'_>, new: &NewSignal) -> Result<Option<Accepted>, StoreError> {
    let found = tx.row(
        "SELECT kind, name, seq, taken_by FROM signals WHERE run = ?1 AND request = ?2",
        (new.run.as_str(), &new.request),
        |row| {
            let (kind, name) = (row.parse::<SignalKind>()?, row.get::<String>()?);
            let (seq, woken) = (row.count()?, row.get()?);
            Ok((kind, name, Accepted { seq, changed: false, woken }))
        },
    )?;
    match found {
        Some((kind, name, accepted)) if kind == new.kind && name == new.name => Ok(Some(accepted)),
        Some(_) => Err(StoreError::Conflict { what: format!("request {}", new.request) }),
        None => Ok(None),
    }
}

/// The job that has waited for it longest.
fn waiting(tx: &Tx<'_>, new: &NewSignal) -> Result<Option<(i64, JobKey)>, StoreError> {
    tx.row(
        "SELECT w.job, j.key FROM waits w JOIN jobs j ON j.id = w.job
         WHERE j.run = ?1 AND j.state = 'suspended' AND w.ended_as IS NULL AND w.kind = ?2
         AND w.name = ?3 AND w.until > ?4 ORDER BY w.since, w.job LIMIT 1",
        (new.run.as_str(), new.kind.ends().name(), &new.name, tx.now().as_micros()),
        |row| Ok((row.get()?, JobKey::new(row.get::<String>()?))),
    )
}

/// Whether something that nobody waits for may be kept.
fn admit_early(tx: &Tx<'_>, new: &NewSignal) -> Result<(), StoreError> {
    let run = new.run.as_str();
    if new.kind == SignalKind::Answer {
        let late = tx.row(
            "SELECT w.until FROM waits w JOIN jobs j ON j.id = w.job
             WHERE j.run = ?1 AND w.kind = 'answer' AND w.name = ?2
             AND (w.ended_as = 'deadline' OR (w.ended_as IS NULL AND w.until <= ?3))
             ORDER BY w.until DESC LIMIT 1",
            (run, &new.name, tx.now().as_micros()),
            |row| row.instant(),
        )?;
        if let Some(until) = late {
            return Err(StoreError::Expired { name: new.name.clone(), until });
        }
        let answered = tx.row(
            "SELECT 1 FROM signals WHERE run = ?1 AND kind = 'answer' AND name = ?2 LIMIT 1",
            (run, &new.name),
            |_| Ok(()),
        )?;
        if answered.is_some() {
            return Err(StoreError::AlreadyAnswered { name: new.name.clone() });
        }
    }
    let kept =
        tx.row("SELECT COUNT(*) FROM signals WHERE run = ?1 AND taken_by IS NULL", [run], |row| {
            row.count()
        })?;
    if kept.unwrap_or(0) >= u64::from(KEPT_MAX) {
        return Err(StoreError::TooMany { what: "signals of a run", max: KEPT_MAX });
    }
    Ok(())
}

/// Takes for a job what came before it asked, the oldest first.
pub(crate) fn take(
    tx: &Tx<'_>,
    run: &RunId,
    job: i64,
    new: &NewWait,
) -> Result<Option<WaitEnd>, StoreError> {
    let kind = match new.kind {
        WaitKind::Signal => SignalKind::Signal,
        WaitKind::Answer => SignalKind::Answer,
        WaitKind::Timer => return Ok(None),
    };
    let found = tx.row(
        "SELECT request, payload, sent_by FROM signals WHERE run = ?1 AND kind = ?2 AND name = ?3
         AND taken_by IS NULL ORDER BY seq LIMIT 1",
        (run.as_str(), kind.name(), &new.name),
        |row| Ok((row.get::<String>()?, row.json()?, row.get::<String>()?)),
    )?;
    let Some((request, payload, by)) = found else { return Ok(None) };
    let taken = tx.write(
        "UPDATE signals SET taken_by = ?3, taken_at = ?4
         WHERE run = ?1 AND request = ?2 AND taken_by IS NULL",
        (run.as_str(), &request, job, tx.now().as_micros()),
    )?;
    if taken == 0 {
        return Err(tx.overtaken(StoreError::Conflict { what: format!("signal {request}") }));
    }
    Ok(Some(WaitEnd { how: WaitEnded::Sent, by: Some(by), answer: Some(payload) }))
}

/// What nobody has taken yet.
pub(crate) fn untaken(tx: &Tx<'_>, run: &RunId) -> Result<Vec<SignalRecord>, StoreError> {
    tx.rows(
        "SELECT request, kind, name, payload, sent_by, at FROM signals
         WHERE run = ?1 AND taken_by IS NULL ORDER BY seq",
        [run.as_str()],
        |row| {
            Ok(SignalRecord {
                request: row.get()?,
                kind: row.parse()?,
                name: row.get()?,
                payload: row.json()?,
                by: row.get()?,
                at: row.instant()?,
            })
        },
    )
}
