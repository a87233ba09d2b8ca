//! What comes into being: runs with their first rows, owners, jobs.

use perennial_core::{
    Digest,
    run::{
        InvalidTransition, JobKey, JobKind, JobState, Priority, RunId, RunState, SkipReason,
        StageOutcome, StageState,
    },
};
use serde_json::{Value, json};

use super::{
    blob,
    journal::{Journal, micros},
    node, retention, timer, turn, uses,
};
use crate::{
    Created, JobPart, Lease, NewJob, NewRun, NewStage, NodeRef, StageStep, StoreError,
    transaction::{Tx, int},
};

pub(crate) fn create_run(tx: &Tx<'_>, new: &NewRun) -> Result<Created, StoreError> {
    create(tx, new, |_, _| Ok(()))
}

/// With what `more` writes of a run that is new, before its beginning is whole.
pub(crate) fn create(
    tx: &Tx<'_>,
    new: &NewRun,
    more: impl FnOnce(&Tx<'_>, &mut Journal) -> Result<(), StoreError>,
) -> Result<Created, StoreError> {
    let id = new.run.as_str();
    retention::removed_ahead(tx, &new.run);
    let mut acting = claiming(&new.jobs);
    acting.extend(new.owner.as_ref().filter(|owner| !acting.contains(owner)));
    for node in &acting {
        node::alive_ahead(tx, node);
    }
    let existing = tx.row(
        "SELECT r.definition = ?2 AND r.input_digest = ?3 FROM streams s
         JOIN heads h ON h.stream = s.stream
         LEFT JOIN runs r ON r.run = s.stream WHERE s.stream = ?1",
        (id, new.definition.to_string(), new.input_digest.to_string()),
        |row| row.get::<Option<bool>>(),
    )?;
    match existing {
        Some(Some(true)) => return Ok(Created::Existing),
        Some(Some(false) | None) => return Err(StoreError::KeyReused(new.run.clone())),
        None => (),
    }
    if let Some(removed) = retention::removed_run(tx, &new.run)? {
        let same = removed.definition == new.definition.to_string()
            && removed.input_digest == new.input_digest.to_string();
        let reused = StoreError::KeyReused(new.run.clone());
        return Err(if same { retention::gone(removed.run) } else { reused });
    }
    if Digest::of(&new.definition_bytes) != new.definition {
        let why = "its bytes have another digest".to_owned();
        return Err(StoreError::Unreadable { what: "definition".to_owned(), why });
    }
    for node in acting {
        node::require_alive(tx, node)?;
    }
    blob::put(tx, &new.definition_bytes)?;
    tx.post(
        "INSERT INTO streams (stream, kind, owner_node, owner_incarnation, fencing, created_at)
         VALUES (?1, 'run', ?2, ?3, 1, ?4)",
        (
            id,
            new.owner.as_ref().map(|owner| owner.node.as_str()),
            new.owner.as_ref().map(|owner| int(owner.incarnation)),
            tx.now().as_micros(),
        ),
    )?;
    let mut journal = Journal::create(tx, id, true)?;
    let settings = tx.json("run settings", &new.settings)?;
    let is_planned = new.stages.iter().any(NewStage::is_planned);
    tx.post(
        "INSERT INTO runs (run, workflow, definition, input_digest, settings, state, created_at,
         deadline, progress, priority) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        (
            id,
            &new.workflow,
            new.definition.to_string(),
            new.input_digest.to_string(),
            &settings,
            RunState::Running.name(),
            tx.now().as_micros(),
            micros(new.deadline),
            is_planned.then_some(0_u32),
            new.priority.number(),
        ),
    )?;
    retention::note_uses(tx, &new.run, &new.settings)?;
    let mut about = json!({
        "workflow": new.workflow,
        "definition": new.definition,
        "input_digest": new.input_digest,
        "settings": Digest::of(settings.as_bytes()),
        "deadline": micros(new.deadline),
    });
    if new.priority != Priority::NORMAL {
        about["priority"] = json!(new.priority);
    }
    if new.stages.iter().any(|stage| *stage != NewStage::driven(stage.stage.as_str())) {
        about["stages"] = new.stages.iter().map(about_stage).collect();
    }
    journal.note(tx, "run_created", about)?;
    journal.note(tx, "run_started", Value::Null)?;
    for (ordinal, stage) in (0_u32..).zip(&new.stages) {
        create_stage(tx, &mut journal, &new.run, ordinal, stage)?;
    }
    let mut leases = Vec::new();
    if tx.numbers_ahead() {
        for job in &new.jobs {
            tx.ahead_of_own(NUMBER_OF_SERVER, (id, &job.stage, job.key.as_str(), parent(job)));
        }
    }
    for (place, job) in new.jobs.iter().enumerate() {
        let number = number(tx, &new.run, &new.jobs[..place], job)?;
        let (_, lease) = create_job(tx, &mut journal, &new.run, job, number)?;
        leases.extend(lease);
    }
    for new_stage in new.stages.iter().filter(|stage| stage.state == StageState::Sealed) {
        let (stage, from, to) = (new_stage.stage.clone(), StageState::Open, StageState::Sealed);
        let step = StageStep { stage, from, to, outcome: None };
        super::decision::step_stage(tx, &mut journal, &new.run, &step)?;
    }
    timer::set(tx, &new.run, &new.timers)?;
    more(tx, &mut journal)?;
    let (revision, _) = journal.finish(tx, true)?;
    Ok(Created::New { revision, leases })
}

/// The nodes that `jobs` are claimed for, each once.
pub(crate) fn claiming(jobs: &[NewJob]) -> Vec<&NodeRef> {
    let mut nodes: Vec<&NodeRef> = Vec::new();
    for node in jobs.iter().filter_map(|job| job.claim_for.as_ref()) {
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    nodes
}

/// The stage that takes a job, the job that it has by that key, and an id for a new one.
macro_rules! number {
    ($next:literal) => {
        concat!(
            "SELECT s.state, j.id, ",
            $next,
            " FROM stages s LEFT JOIN jobs j ON j.run = s.run AND j.stage = s.stage AND j.parent = ?4 AND j.key = ?3
             WHERE s.run = ?1 AND s.stage = ?2"
        )
    };
}

const NUMBER_OF_SERVER: &str = number!("nextval(pg_get_serial_sequence('jobs', 'id'))");
/// As the engine would give it: a file has one writer at a time.
const NUMBER_OF_FILE: &str = number!("(SELECT COALESCE(MAX(id), 0) + 1 FROM jobs)");

/// Says that [`number`] of each of `jobs` comes next.
pub(crate) fn numbers_ahead(tx: &Tx<'_>, run: &RunId, jobs: &[NewJob]) {
    if tx.numbers_ahead() {
        for job in jobs {
            tx.ahead(NUMBER_OF_SERVER, (run.as_str(), &job.stage, job.key.as_str(), parent(job)));
        }
    }
}

/// The id that a new job gets, where one is known before its row: when nothing is in its way, neither in the store nor
/// among those `before` it. None leaves it to [`create_job`] to find out.
///
/// What was read holds until the transaction ends: who makes a job, or ends a stage, moves the end of the run's stream.
pub(crate) fn number(
    tx: &Tx<'_>,
    run: &RunId,
    before: &[NewJob],
    job: &NewJob,
) -> Result<Option<i64>, StoreError> {
    let number = if tx.numbers_ahead() { NUMBER_OF_SERVER } else { NUMBER_OF_FILE };
    let asked = (run.as_str(), &job.stage, job.key.as_str(), parent(job));
    let found = tx.row(number, asked, |row| {
        Ok((row.parse::<StageState>()?, row.get::<Option<i64>>()?, row.get::<i64>()?))
    })?;
    let twice = before.iter().any(|other| other.key == job.key && other.stage == job.stage);
    Ok(match found {
        Some((StageState::Waiting | StageState::Open, None, id)) if !twice => Some(id),
        // The set of its own jobs is final, not that of their children.
        Some((StageState::Sealed, None, id)) if !twice && job.part.parent.is_some() => Some(id),
        Some((
            StageState::Waiting | StageState::Open | StageState::Sealed | StageState::Closed,
            ..,
        ))
        | None => None,
    })
}

/// A new Ready job, or a Leased one with its first attempt, for a node that was found alive. `number` is its id, if
/// [`number`] knew one.
pub(crate) fn create_job(
    tx: &Tx<'_>,
    journal: &mut Journal,
    run: &RunId,
    new: &NewJob,
    number: Option<i64>,
) -> Result<(i64, Option<Lease>), StoreError> {
    let (id, attempt) = match number {
        Some(id) => (id, insert_job(tx, run, new, id)?),
        None => make_job(tx, run, new)?,
    };
    let input = tx.json("job input", &new.input)?;
    tx.post(
        "INSERT INTO inputs (job, data) VALUES (?1, ?2)
         ON CONFLICT (job) DO UPDATE SET data = excluded.data",
        (id, &input),
    )?;
    let mut about = json!({
        "stage": new.stage,
        "max_attempts": new.max_attempts,
        "crashes_max": new.crashes_max.max(1),
        "input": Digest::of(input.as_bytes()),
    });
    let JobPart { kind, parent, skipped, is_blocked, failed, uses, limit, priority } = &new.part;
    if *kind != JobKind::Step {
        about["kind"] = json!(kind);
    }
    if *priority != Priority::NORMAL {
        about["priority"] = json!(priority);
    }
    if let Some(parent) = parent {
        about["parent"] = json!(parent);
    }
    if number.is_none() {
        // One that is made again uses what it uses now.
        tx.post("DELETE FROM uses WHERE job = ?1", [id])?;
        tx.post("DELETE FROM keyed WHERE job = ?1", [id])?;
    }
    if let Some(limit) = limit {
        turn::declare(tx, id, limit)?;
        about["limit"] = json!([limit.key, limit.most]);
    }
    if !uses.is_empty() {
        uses::declare(tx, id, uses)?;
        about["uses"] = uses.iter().map(|key| json!([key.service(), key.instance()])).collect();
    }
    let made = if *is_blocked { "job_blocked" } else { "job_ready" };
    journal.note_job(tx, made, &new.key, None, about)?;
    if let Some(reason) = skipped {
        journal.note_job(tx, "job_skipped", &new.key, None, json!({ "skipped": reason }))?;
    }
    if let Some(record) = failed {
        let digest = super::decision::keep_result(tx, id, record)?;
        journal.note_job(tx, "job_failed", &new.key, None, json!({ "result": digest }))?;
    }
    if beginning(new).0 != JobState::Leased {
        return Ok((id, None));
    }
    let Some(node) = &new.claim_for else { return Ok((id, None)) };
    let lease =
        Lease { run: run.clone(), job: id, key: new.key.clone(), attempt, node: node.clone() };
    start_attempt(tx, journal, &lease)?;
    Ok((id, Some(lease)))
}

fn about_stage(new: &NewStage) -> Value {
    let NewStage { stage, feed, upstream, concurrency, required, weight, .. } = new;
    json!({
        "stage": stage,
        "feed": feed,
        "upstream": upstream,
        "concurrency": concurrency,
        "required": required,
        "weight": weight,
    })
}

/// One that begins Sealed is Open until its jobs are there.
fn create_stage(
    tx: &Tx<'_>,
    journal: &mut Journal,
    run: &RunId,
    ordinal: u32,
    new: &NewStage,
) -> Result<(), StoreError> {
    let NewStage { stage, outcome, feed, upstream, concurrency, required, weight, .. } = new;
    let state = if new.state == StageState::Sealed { StageState::Open } else { new.state };
    let outcome = outcome.map(StageOutcome::name);
    if !new.is_planned() {
        tx.post(
            "INSERT INTO stages (run, stage, ordinal, state, outcome, required, weight)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            (run.as_str(), stage, ordinal, state.name(), outcome, *required, *weight),
        )?;
    } else {
        tx.post(
            "INSERT INTO stages (run, stage, ordinal, state, outcome, required, weight, feed, upstream,
             concurrency) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            (
                run.as_str(),
                stage,
                ordinal,
                state.name(),
                outcome,
                *required,
                *weight,
                feed.name(),
                upstream.as_deref().unwrap_or(""),
                *concurrency,
            ),
        )?;
    }
    let kind = match state {
        StageState::Waiting => return Ok(()),
        StageState::Open => "stage_opened",
        StageState::Sealed => "stage_sealed",
        StageState::Closed => "stage_closed",
    };
    let about = match outcome {
        Some(outcome) => json!({ "stage": stage, "outcome": outcome }),
        None => json!({ "stage": stage }),
    };
    journal.note(tx, kind, about)
}

/// The key of the group whose child it is, as the rows have it.
fn parent(new: &NewJob) -> &str {
    new.part.parent.as_ref().map_or("", JobKey::as_str)
}

pub(crate) const PARENT: &str =
    "SELECT state FROM jobs WHERE run = ?1 AND stage = ?2 AND key = ?3 AND kind = 'group'";

/// The groups that `jobs` are children of take them: they are being expanded.
pub(crate) fn require_parents(tx: &Tx<'_>, run: &RunId, jobs: &[NewJob]) -> Result<(), StoreError> {
    let mut parents: Vec<(&str, &JobKey)> = Vec::new();
    for job in jobs {
        let Some(parent) = job.part.parent.as_ref().map(|key| (job.stage.as_str(), key)) else {
            continue;
        };
        if parents.contains(&parent) {
            continue;
        }
        parents.push(parent);
        let state = tx.row(PARENT, (run.as_str(), parent.0, parent.1.as_str()), |row| {
            row.parse::<JobState>()
        })?;
        match state {
            Some(JobState::Joining) => (),
            Some(state) => return Err(super::decision::refused("job", state.name(), "joining")),
            None => {
                let id = parent.1.to_string();
                return Err(StoreError::NotFound { what: "group", id });
            }
        }
    }
    Ok(())
}

/// The state and the attempt that a new job begins with.
fn beginning(new: &NewJob) -> (JobState, u32) {
    match (&new.claim_for, new.part.skipped) {
        (_, Some(_)) => (JobState::Skipped, 0),
        (_, None) if new.part.failed.is_some() => (JobState::Failed, 0),
        (_, None) if new.part.is_blocked => (JobState::Blocked, 0),
        // A turn is taken by a claim.
        (Some(_), None) if new.part.limit.is_none() => (JobState::Leased, 1),
        (Some(_) | None, None) => (JobState::Ready, 0),
    }
}

/// The row of a job that nothing is in the way of. Returns its attempt.
fn insert_job(tx: &Tx<'_>, run: &RunId, new: &NewJob, id: i64) -> Result<u32, StoreError> {
    let ((state, attempt), claimed) = (beginning(new), new.claim_for.as_ref());
    tx.post(
        "INSERT INTO jobs (id, run, stage, key, state, max_attempts, attempt, lease_node,
         lease_incarnation, crashes_max, parent, kind, skipped, priority)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        (
            id,
            run.as_str(),
            &new.stage,
            new.key.as_str(),
            state.name(),
            new.max_attempts,
            attempt,
            claimed.map(|node| node.node.as_str()),
            claimed.map(|node| int(node.incarnation)),
            new.crashes_max.max(1),
            parent(new),
            new.part.kind.name(),
            new.part.skipped.map(SkipReason::name),
            new.part.priority.number(),
        ),
    )?;
    Ok(attempt)
}

/// The row of a job if its stage takes it. Returns its id and attempt.
fn make_job(tx: &Tx<'_>, run: &RunId, new: &NewJob) -> Result<(i64, u32), StoreError> {
    let ((state, attempt), claimed) = (beginning(new), new.claim_for.as_ref());
    // One that is there and cancelled, or blocked, in a run that goes on, waits to be made again.
    let created = tx.row(
        "INSERT INTO jobs (run, stage, key, state, max_attempts, attempt, lease_node,
         lease_incarnation, crashes_max, parent, kind, skipped, priority)
         SELECT run, stage, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13 FROM stages
         WHERE run = ?1 AND stage = ?2 AND (state IN ('waiting', 'open')
           OR state = 'sealed' AND ?10 <> '')
         ON CONFLICT (run, stage, parent, key) DO UPDATE SET state = excluded.state,
         max_attempts = excluded.max_attempts, crashes_max = excluded.crashes_max,
         attempt = jobs.attempt + excluded.attempt,
         lease_node = excluded.lease_node, lease_incarnation = excluded.lease_incarnation,
         skipped = excluded.skipped, priority = excluded.priority
         WHERE jobs.state IN ('cancelled', 'blocked') RETURNING id, attempt",
        (
            run.as_str(),
            &new.stage,
            new.key.as_str(),
            state.name(),
            new.max_attempts,
            attempt,
            claimed.map(|node| node.node.as_str()),
            claimed.map(|node| int(node.incarnation)),
            new.crashes_max.max(1),
            parent(new),
            new.part.kind.name(),
            new.part.skipped.map(SkipReason::name),
            new.part.priority.number(),
        ),
        |row| Ok((row.get::<i64>()?, row.get::<u32>()?)),
    )?;
    created.map_or_else(|| Err(no_more_jobs(tx, run, new)?), Ok)
}

/// The row and the event of an attempt whose job was just leased.
pub(crate) fn start_attempt(
    tx: &Tx<'_>,
    journal: &mut Journal,
    lease: &Lease,
) -> Result<(), StoreError> {
    tx.post(
        "INSERT INTO attempts (job, attempt, node, incarnation, claimed_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        (
            lease.job,
            lease.attempt,
            &lease.node.node,
            int(lease.node.incarnation),
            tx.at().as_micros(),
        ),
    )?;
    let by = json!({ "node": lease.node.node, "incarnation": lease.node.incarnation });
    journal.note_job(tx, "attempt_started", &lease.key, Some(lease.attempt), by)
}

/// Why a stage does not take a job: it has it, the set of its jobs is final, or it does not exist.
fn no_more_jobs(tx: &Tx<'_>, run: &RunId, new: &NewJob) -> Result<StoreError, StoreError> {
    let stage = new.stage.as_str();
    let has_it = tx.row(
        "SELECT 1 FROM jobs WHERE run = ?1 AND stage = ?2 AND key = ?3",
        (run.as_str(), stage, new.key.as_str()),
        |_| Ok(()),
    )?;
    if has_it.is_some() {
        return Ok(StoreError::Conflict { what: format!("job {}", new.key) });
    }
    let state = tx.row(
        "SELECT state FROM stages WHERE run = ?1 AND stage = ?2",
        (run.as_str(), stage),
        |row| row.parse::<StageState>(),
    )?;
    Ok(state.map_or_else(
        || StoreError::NotFound { what: "stage", id: stage.to_owned() },
        |state| {
            let to = StageState::Open.name();
            StoreError::InvalidState(InvalidTransition { what: "stage", from: state.name(), to })
        },
    ))
}

/// Repeatable: an owner that asks again keeps its number. A live other owner refuses.
pub(crate) fn own_run(tx: &Tx<'_>, run: &RunId, owner: &NodeRef) -> Result<u64, StoreError> {
    own(tx, run, owner, LiveOwner::Refuses)
}

/// As [`own_run`], also from an owner that lives: of a run that is known to have nothing under way.
pub(crate) fn take_run(tx: &Tx<'_>, run: &RunId, owner: &NodeRef) -> Result<u64, StoreError> {
    own(tx, run, owner, LiveOwner::Yields)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LiveOwner {
    Refuses,
    Yields,
}

fn own(tx: &Tx<'_>, run: &RunId, owner: &NodeRef, live: LiveOwner) -> Result<u64, StoreError> {
    node::require_alive(tx, owner)?;
    if !tx.is_settling() {
        node::end_expired(tx)?;
    }
    let id = run.as_str();
    let found = tx.row(
        "SELECT s.fencing, s.owner_node = ?2 AND s.owner_incarnation = ?3, n.node IS NOT NULL
         FROM streams s LEFT JOIN nodes n ON n.node = s.owner_node
         AND n.incarnation = s.owner_incarnation AND n.ended_at IS NULL
         WHERE s.stream = ?1 AND s.kind = 'run'",
        (id, &owner.node, int(owner.incarnation)),
        |row| Ok((row.count()?, row.get::<Option<bool>>()?, row.get::<bool>()?)),
    )?;
    let taken = || StoreError::Conflict { what: format!("the owner of run {id}") };
    let fencing = match found {
        Some((fencing, Some(true), _)) => return Ok(fencing),
        Some((_, _, true)) if live == LiveOwner::Refuses => return Err(taken()),
        Some((fencing, _, _)) => fencing,
        None => return Err(StoreError::NotFound { what: "run", id: id.to_owned() }),
    };
    let changed = tx.write(
        "UPDATE streams SET owner_node = ?2, owner_incarnation = ?3, fencing = fencing + 1
         WHERE stream = ?1 AND fencing = ?4",
        (id, &owner.node, int(owner.incarnation), int(fencing)),
    )?;
    if changed == 0 { Err(tx.overtaken(taken())) } else { Ok(fencing + 1) }
}
