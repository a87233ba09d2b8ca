//! Rows as records.

use perennial_core::{
    FailureClass, Timestamp,
    run::{JobKey, Priority, RunId, RunState},
};

use super::{node::alive_or_absent, retention, saved, signal, turn, uses, wait};
use crate::{
    AttemptRecord, CallRecord, JobRecord, NodeRef, OpenRun, RunRecord, RunSummary, RunView,
    StageRecord, StoreError,
    transaction::{Columns, Tx},
};

/// A run with everything below it.
pub(crate) fn run(tx: &Tx<'_>, run: &RunId) -> Result<RunView, StoreError> {
    let id = run.as_str();
    let record = record(tx, run)?;
    let stages = tx.rows(
        "SELECT stage, ordinal, state, outcome, feed, upstream, concurrency, required, weight
         FROM stages WHERE run = ?1 ORDER BY ordinal",
        [id],
        |row| {
            Ok(StageRecord {
                stage: row.get()?,
                ordinal: row.get()?,
                state: row.parse()?,
                outcome: row.parse_maybe()?,
                feed: row.parse()?,
                upstream: Some(row.get::<String>()?).filter(|stage| !stage.is_empty()),
                concurrency: row.get()?,
                required: row.get()?,
                weight: row.get()?,
            })
        },
    )?;
    let mut jobs = tx.rows(
        concat!(
            "SELECT j.id, j.stage, j.key, j.kind, j.parent, j.state, j.skipped, j.attempt, j.attempts_used,
             j.max_attempts, j.crashes, j.crashes_max, j.run_after, j.lease_node, j.lease_incarnation, ",
            alive_or_absent!("?2"),
            ", i.data, r.data, j.dead_letter, j.wake_at, j.defer_cause,
             j.defer_until, j.defer_then, j.deferred_since, j.priority FROM jobs j
             JOIN inputs i ON i.job = j.id LEFT JOIN results r ON r.job = j.id
             LEFT JOIN nodes n ON n.node = j.lease_node AND n.incarnation = j.lease_incarnation
             WHERE j.run = ?1 ORDER BY j.id",
        ),
        (id, tx.now().as_micros()),
        job,
    )?;
    uses::add_uses(tx, run, &mut jobs)?;
    turn::add_keys(tx, run, &mut jobs)?;
    let attempts = attempts(tx, id)?;
    let calls = tx.rows(
        "SELECT c.job, c.name, c.attempt, c.idempotency_key, c.begun_at, c.recorded_at, c.reply
         FROM checkpoints c JOIN jobs j ON j.id = c.job WHERE j.run = ?1 ORDER BY c.job, c.name",
        [id],
        call,
    )?;
    let (waits, signals) = (wait::of_run(tx, run)?, signal::untaken(tx, run)?);
    let (saved, beats) = (saved::of_run(tx, run)?, saved::beats_of_run(tx, run)?);
    Ok(RunView { run: record, stages, jobs, attempts, calls, waits, signals, saved, beats })
}

/// Whether anything was decided since.
pub(crate) fn revision(tx: &Tx<'_>, run: &RunId) -> Result<u64, StoreError> {
    let found = tx.row(
        "SELECT h.revision FROM heads h JOIN runs r ON r.run = h.stream WHERE h.stream = ?1",
        [run.as_str()],
        |row| row.count(),
    )?;
    found.ok_or_else(|| StoreError::NotFound { what: "run", id: run.to_string() })
}

fn record(tx: &Tx<'_>, run: &RunId) -> Result<RunRecord, StoreError> {
    tx.row(
        concat!(
            "SELECT r.workflow, r.definition, r.input_digest, r.settings, r.state, r.failure,
             h.revision, s.owner_node, s.owner_incarnation, ",
            alive_or_absent!("?2"),
            ", r.created_at, r.finished_at, r.deadline, h.next_seq, r.progress, r.priority FROM runs r
             JOIN streams s ON s.stream = r.run JOIN heads h ON h.stream = r.run
             LEFT JOIN nodes n ON n.node = s.owner_node AND n.incarnation = s.owner_incarnation
             WHERE r.run = ?1",
        ),
        (run.as_str(), tx.now().as_micros()),
        |row| {
            let mut record = RunRecord {
                run: run.clone(),
                workflow: row.get()?,
                definition: row.parse()?,
                input_digest: row.parse()?,
                settings: row.json()?,
                state: row.parse()?,
                failure: row.json_maybe()?,
                revision: row.count()?,
                owner: node(row)?,
                owner_alive: row.get()?,
                created_at: row.instant()?,
                finished_at: row.instant_maybe()?,
                deadline: row.instant_maybe()?,
                next_seq: row.count()?,
                progress: row.get()?,
                priority: priority(row)?,
            };
            record.progress = shown(record.progress, record.state);
            Ok(record)
        },
    )?
    .map_or_else(|| Err(retention::missing(tx, run)?), Ok)
}

/// What [`summary`] reads, in its order; now is the first parameter.
macro_rules! summary_columns {
    () => {
        concat!(
            "SELECT r.run, r.workflow, r.state,
         (SELECT COUNT(*) FROM jobs j WHERE j.run = r.run AND j.parent = '' AND (j.kind <> 'step' OR
          substr(j.key, 1, 1) <> '#' AND j.key NOT LIKE '%/%' AND j.key NOT LIKE '%[error]')),
         (SELECT COUNT(*) FROM jobs j WHERE j.run = r.run AND j.parent = '' AND (j.kind <> 'step' OR
          substr(j.key, 1, 1) <> '#' AND j.key NOT LIKE '%/%' AND j.key NOT LIKE '%[error]')
          AND j.state NOT IN ('blocked', 'ready', 'leased', 'deferred', 'suspended', 'joining')),
         r.created_at, r.finished_at, s.owner_node, s.owner_incarnation, ",
            alive_or_absent!("?1"),
            ", h.revision, r.progress, r.priority FROM runs r JOIN streams s ON s.stream = r.run JOIN heads h ON h.stream = r.run
         LEFT JOIN nodes n ON n.node = s.owner_node AND n.incarnation = s.owner_incarnation "
        )
    };
}

/// Runs, newest first.
pub(crate) fn runs(tx: &Tx<'_>, limit: u32) -> Result<Vec<RunSummary>, StoreError> {
    tx.rows(
        concat!(summary_columns!(), "ORDER BY r.created_at DESC, r.rowid DESC LIMIT ?2",),
        (tx.now().as_micros(), limit),
        summary,
    )
}

/// Runs that are not terminal, oldest first.
pub(crate) fn unfinished(tx: &Tx<'_>) -> Result<Vec<RunSummary>, StoreError> {
    tx.rows(
        concat!(
            summary_columns!(),
            "WHERE r.state IN ('pending', 'running', 'paused', 'cancelling', 'compensating') ",
            "ORDER BY r.created_at, r.rowid",
        ),
        [tx.now().as_micros()],
        summary,
    )
}

/// The same, without their counts. A damaged row must not take the others with it.
pub(crate) fn open_runs(tx: &Tx<'_>) -> Result<Vec<OpenRun>, StoreError> {
    tx.rows(
        concat!(
            "SELECT r.run, r.state, s.owner_node, s.owner_incarnation, ",
            alive_or_absent!("?1"),
            ", h.revision, r.priority, r.created_at FROM runs r JOIN streams s ON s.stream = r.run JOIN heads h ON h.stream = r.run
             LEFT JOIN nodes n ON n.node = s.owner_node AND n.incarnation = s.owner_incarnation
             WHERE r.state IN ('pending', 'running', 'paused', 'cancelling', 'compensating') ORDER BY r.created_at, r.rowid",
        ),
        [tx.now().as_micros()],
        |row| {
            let mut unread = None;
            Ok(OpenRun {
                run: row.read(|id: String| RunId::parse(id))?,
                state: or(row.parse(), RunState::Running, &mut unread)?,
                owner: or(node(row), None, &mut unread)?,
                owner_alive: or(row.get(), false, &mut unread)?,
                revision: or(row.count(), 0, &mut unread)?,
                priority: or(priority(row), Priority::NORMAL, &mut unread)?,
                created_at: or(row.instant(), Timestamp::default(), &mut unread)?,
            })
        },
    )
}

/// Runs that ended by these instants, by how they ended, in the order of their ends.
pub(crate) fn due_for_removal(
    tx: &Tx<'_>,
    (succeeded, failed, cancelled, limit): (i64, i64, i64, u32),
) -> Result<Vec<RunSummary>, StoreError> {
    tx.rows(
        concat!(
            summary_columns!(),
            "WHERE r.finished_at IS NOT NULL AND s.closed = 1 AND (
             (r.state IN ('succeeded', 'partially_succeeded') AND r.finished_at <= ?2)
             OR (r.state IN ('failed', 'timed_out', 'compensation_failed') AND r.finished_at <= ?3)
             OR (r.state = 'cancelled' AND r.finished_at <= ?4))
             ORDER BY r.finished_at, r.run LIMIT ?5",
        ),
        (tx.now().as_micros(), succeeded, failed, cancelled, limit),
        summary,
    )
}

/// The line of one run.
pub(crate) fn summary_of(tx: &Tx<'_>, run: &str) -> Result<Option<RunSummary>, StoreError> {
    let params = (tx.now().as_micros(), run);
    tx.row(concat!(summary_columns!(), "WHERE r.run = ?2"), params, summary)
}

/// The attempts of a run, by job and number.
pub(crate) fn attempts(tx: &Tx<'_>, run: &str) -> Result<Vec<AttemptRecord>, StoreError> {
    tx.rows(
        "SELECT a.job, a.attempt, a.node, a.incarnation, a.claimed_at, a.ended_at, a.ended_as,
         a.class, a.code, a.message, a.uncertain FROM attempts a JOIN jobs j ON j.id = a.job
         WHERE j.run = ?1 ORDER BY a.job, a.attempt",
        [run],
        attempt_row,
    )
}

/// One attempt.
pub(crate) fn attempt(
    tx: &Tx<'_>,
    job: i64,
    attempt: u32,
) -> Result<Option<AttemptRecord>, StoreError> {
    tx.row(
        "SELECT job, attempt, node, incarnation, claimed_at, ended_at, ended_as, class, code,
         message, uncertain FROM attempts WHERE job = ?1 AND attempt = ?2",
        (job, attempt),
        attempt_row,
    )
}

/// The calls of one job, open ones too.
pub(crate) fn calls_of_job(tx: &Tx<'_>, job: i64) -> Result<Vec<CallRecord>, StoreError> {
    tx.rows(
        "SELECT job, name, attempt, idempotency_key, begun_at, recorded_at, reply
         FROM checkpoints WHERE job = ?1 ORDER BY name",
        [job],
        call,
    )
}

fn job(row: &Columns<'_>) -> Result<JobRecord, StoreError> {
    Ok(JobRecord {
        id: row.get()?,
        stage: row.get()?,
        key: JobKey::new(row.get::<String>()?),
        kind: row.parse()?,
        parent: Some(row.get::<String>()?).filter(|key| !key.is_empty()).map(JobKey::new),
        state: row.parse()?,
        skipped: row.parse_maybe()?,
        attempt: row.get()?,
        attempts_used: row.get()?,
        max_attempts: row.get()?,
        crashes: row.get()?,
        crashes_max: row.get()?,
        run_after: Some(row.instant()?).filter(|at| at.as_micros() != 0),
        lease: node(row)?,
        lease_alive: row.get()?,
        input: row.json()?,
        result: row.json_maybe()?,
        dead_letter: row.get()?,
        deferral: wait::deferral(row)?,
        deferred_since: row.instant_maybe()?,
        priority: priority(row)?,
        uses: Vec::new(),
        keyed: None,
    })
}

fn attempt_row(row: &Columns<'_>) -> Result<AttemptRecord, StoreError> {
    Ok(AttemptRecord {
        job: row.get()?,
        attempt: row.get()?,
        node: NodeRef { node: row.get()?, incarnation: row.count()? },
        claimed_at: row.instant()?,
        ended_at: row.instant_maybe()?,
        end: row.parse_maybe()?,
        class: row.read(|class: Option<String>| {
            let known = |name: String| {
                FailureClass::from_name(&name).ok_or_else(|| format!("`{name}` is no class"))
            };
            class.map(known).transpose()
        })?,
        code: row.get()?,
        message: row.get()?,
        uncertain: row.get()?,
    })
}

fn call(row: &Columns<'_>) -> Result<CallRecord, StoreError> {
    Ok(CallRecord {
        job: row.get()?,
        name: row.get()?,
        attempt: row.get()?,
        idempotency_key: row.get()?,
        begun_at: row.instant()?,
        recorded_at: row.instant_maybe()?,
        reply: row.json_maybe()?,
    })
}

/// A damaged row is a line of the list as well: it must not take the others with it.
fn summary(row: &Columns<'_>) -> Result<RunSummary, StoreError> {
    let mut unreadable = None;
    let told = &mut unreadable;
    let mut summary = RunSummary {
        run: row.read(|id: String| RunId::parse(id))?,
        workflow: or(row.get(), String::new(), told)?,
        // Whoever goes on with it reads all of it first.
        state: or(row.parse(), RunState::Running, told)?,
        jobs: or(row.count(), 0, told)?,
        jobs_done: or(row.count(), 0, told)?,
        created_at: or(row.instant(), Timestamp::default(), told)?,
        finished_at: or(row.instant_maybe(), None, told)?,
        owner: or(node(row), None, told)?,
        owner_alive: or(row.get(), false, told)?,
        revision: or(row.count(), 0, told)?,
        progress: or(row.get(), None, told)?,
        priority: or(priority(row), Priority::NORMAL, told)?,
        unreadable: None,
    };
    summary.progress = shown(summary.progress, summary.state);
    Ok(RunSummary { unreadable, ..summary })
}

fn shown(mark: Option<u32>, state: RunState) -> Option<u32> {
    mark.map(|mark| perennial_core::run::shown(mark, 0, state.is_terminal()))
}

/// What was read, or `instead` of what cannot be.
fn or<T>(
    read: Result<T, StoreError>,
    instead: T,
    told: &mut Option<String>,
) -> Result<T, StoreError> {
    match read {
        Err(StoreError::Unreadable { what, why }) => {
            told.get_or_insert(format!("{what}: {why}"));
            Ok(instead)
        }
        read => read,
    }
}

pub(crate) fn priority(row: &Columns<'_>) -> Result<Priority, StoreError> {
    row.read(Priority::new)
}

/// Two columns that are both there or both not.
pub(crate) fn node(row: &Columns<'_>) -> Result<Option<NodeRef>, StoreError> {
    let (node, incarnation) = (row.get::<Option<String>>()?, row.get::<Option<i64>>()?);
    Ok(node
        .zip(incarnation)
        .map(|(node, incarnation)| NodeRef { node, incarnation: incarnation.unsigned_abs() }))
}
