//! Instances of services, each changed only by whoever knows what it was; and who holds them.

use perennial_core::{
    run::{JobKey, JobState},
    service::{Epoch, Holder, ServiceKey},
};
use serde_json::json;

use super::{
    journal::{Journal, cut, micros},
    lease, node,
};
use crate::{
    HoldOf, HoldRecord, InstanceRecord, InstanceStep, InstanceStepped, NodeRef, StoreError,
    transaction::{Columns, Tx, int},
};

/// Longest name of a service, key of an instance, and name of a process's hold.
const NAME_BYTES_MAX: usize = 256;
/// Instances that one job holds at a time, its attempt included.
const HOLDS_MAX: u64 = 100;
/// Largest description of what runs.
const INSTANCE_BYTES_MAX: usize = 16 * 1024;

/// Repeatable: a holder holds an instance once (DUR-81).
pub(crate) fn hold(tx: &Tx<'_>, of: &HoldOf, key: &ServiceKey) -> Result<(), StoreError> {
    let mut journal = admit(tx, of)?;
    let (service, instance) = names(tx, key)?;
    let holder = of.holder();
    let held = tx.row(
        "SELECT 1 FROM holds WHERE service = ?1 AND key = ?2 AND holder = ?3",
        (service, instance, holder.as_str()),
        |_| Ok(()),
    )?;
    if held.is_some() {
        return Ok(());
    }
    let (job, attempt, node) = match of {
        HoldOf::Attempt(lease) => (Some(lease.job), Some(lease.attempt), None),
        HoldOf::Job { job, .. } => (Some(*job), None, None),
        HoldOf::Node { node, .. } => (None, None, Some(node)),
    };
    if let Some(job) = job {
        let others = tx.row("SELECT COUNT(*) FROM holds WHERE job = ?1", [job], |row| row.count());
        if others?.is_some_and(|others| others >= HOLDS_MAX) {
            let what = format!("job {job}, which holds {HOLDS_MAX} services and may hold no more,");
            return Err(StoreError::Conflict { what });
        }
    }
    insert_hold(tx, key, of, (job, attempt, node))?;
    if let Some((journal, job)) = &mut journal {
        journal.note_job(tx, "hold_taken", job, attempt, about(key))?;
    }
    finish(tx, journal)
}

/// A hold of a job, in the transaction of whoever lets it wait or begin. Repeatable, as [`hold`].
pub(crate) fn hold_of_job(
    tx: &Tx<'_>,
    journal: &mut Journal,
    (of, job): (&HoldOf, &JobKey),
    id: i64,
    key: &ServiceKey,
) -> Result<(), StoreError> {
    let (service, instance) = names(tx, key)?;
    let held = tx.row(
        "SELECT 1 FROM holds WHERE service = ?1 AND key = ?2 AND holder = ?3",
        (service, instance, of.holder().as_str()),
        |_| Ok(()),
    )?;
    if held.is_some() {
        return Ok(());
    }
    insert_hold(tx, key, of, (Some(id), None, None))?;
    journal.note_job(tx, "hold_taken", job, None, about(key))
}

fn insert_hold(
    tx: &Tx<'_>,
    key: &ServiceKey,
    of: &HoldOf,
    (job, attempt, node): (Option<i64>, Option<u32>, Option<&NodeRef>),
) -> Result<(), StoreError> {
    let (service, instance) = names(tx, key)?;
    tx.write(
        "INSERT INTO holds (service, key, holder, job, attempt, node, incarnation, since)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        (
            service,
            instance,
            of.holder().as_str(),
            job,
            attempt,
            node.map(|node| node.node.as_str()),
            node.map(|node| int(node.incarnation)),
            tx.now().as_micros(),
        ),
    )?;
    // Here it meets an orderly stop that began before this was to be seen (DUR-82).
    tx.write(
        "UPDATE services SET acquired = acquired + 1 WHERE service = ?1 AND key = ?2",
        (service, instance),
    )?;
    Ok(())
}

/// Whether it was held. What has ended holds nothing any more.
pub(crate) fn unhold(tx: &Tx<'_>, of: &HoldOf, key: &ServiceKey) -> Result<bool, StoreError> {
    let mut journal = match admit(tx, of) {
        Ok(journal) => journal,
        Err(StoreError::StaleAttempt { .. } | StoreError::NotFound { .. }) => return Ok(false),
        // A process that has ended may still say so.
        Err(StoreError::Conflict { .. }) => None,
        Err(error) => return Err(error),
    };
    let (service, instance) = names(tx, key)?;
    let gone = tx.write(
        "DELETE FROM holds WHERE service = ?1 AND key = ?2 AND holder = ?3",
        (service, instance, of.holder().as_str()),
    )?;
    if gone == 0 {
        return Ok(false);
    }
    if let Some((journal, job)) = &mut journal {
        let attempt = match of {
            HoldOf::Attempt(lease) => Some(lease.attempt),
            HoldOf::Job { .. } | HoldOf::Node { .. } => None,
        };
        journal.note_job(tx, "hold_released", job, attempt, about(key))?;
    }
    finish(tx, journal)?;
    Ok(true)
}

/// The journal of the run and the key of the job that it is of, if it is of one; refused when what it is of has ended.
fn admit(tx: &Tx<'_>, of: &HoldOf) -> Result<Option<(Journal, JobKey)>, StoreError> {
    match of {
        HoldOf::Attempt(lease) => Ok(Some((lease::require_live(tx, lease)?, lease.key.clone()))),
        HoldOf::Job { run, job } => {
            let (journal, _) = Journal::of_run(tx, run)?;
            let found = tx.row(
                "SELECT key, state FROM jobs WHERE id = ?1 AND run = ?2",
                (*job, run.as_str()),
                |row| Ok((JobKey::new(row.get::<String>()?), row.parse::<JobState>()?)),
            )?;
            match found {
                Some((key, state)) if !state.is_terminal() => Ok(Some((journal, key))),
                Some(_) | None => Err(StoreError::NotFound { what: "job", id: job.to_string() }),
            }
        }
        HoldOf::Node { node, name } => {
            tx.admit("name of a hold", name.as_str().len(), NAME_BYTES_MAX)?;
            node::require_alive(tx, node).map(|()| None)
        }
    }
}

fn finish(tx: &Tx<'_>, journal: Option<(Journal, JobKey)>) -> Result<(), StoreError> {
    match journal {
        Some((journal, _)) => journal.finish(tx, false).map(|_| ()),
        None => Ok(()),
    }
}

fn about(key: &ServiceKey) -> serde_json::Value {
    json!({ "service": key.service(), "key": key.instance() })
}

/// The columns of a key: that of a shared service is empty.
pub(crate) fn names<'a>(
    tx: &Tx<'_>,
    key: &'a ServiceKey,
) -> Result<(&'a str, &'a str), StoreError> {
    let (service, instance) = (key.service(), key.instance().unwrap_or_default());
    if service.is_empty() || key.instance() == Some("") {
        return Err(StoreError::InvalidName {
            what: "instance of a service",
            name: key.to_string(),
        });
    }
    tx.admit("name of a service", service.len(), NAME_BYTES_MAX)?;
    tx.admit("key of a service", instance.len(), NAME_BYTES_MAX)?;
    Ok((service, instance))
}

pub(crate) fn key_of(service: String, instance: String) -> ServiceKey {
    if instance.is_empty() {
        ServiceKey::shared(service)
    } else {
        ServiceKey::keyed(service, instance)
    }
}

/// What an attempt holds goes with it.
pub(crate) fn end_of_attempt(tx: &Tx<'_>, job: i64, attempt: u32) -> Result<(), StoreError> {
    tx.post("DELETE FROM holds WHERE job = ?1 AND attempt = ?2", (job, attempt))
}

/// What a job holds goes when it is terminal, and while it is suspended (DUR-44).
pub(crate) fn end_of_job(tx: &Tx<'_>, job: i64, state: JobState) -> Result<(), StoreError> {
    if state.is_terminal() || state == JobState::Suspended {
        tx.post("DELETE FROM holds WHERE job = ?1", [job])?;
    }
    Ok(())
}

/// Repeatable: a row that is already what it is to be stays as it is.
pub(crate) fn step(tx: &Tx<'_>, new: &InstanceStep) -> Result<InstanceStepped, StoreError> {
    let key = &new.key;
    let (service, instance) = names(tx, key)?;
    tx.admit("instance", new.instance.as_ref().map_or(0, String::len), INSTANCE_BYTES_MAX)?;
    // Who keeps it already may go on to the end, as long as nobody else has taken it.
    if new.was.as_ref().is_none_or(|(_, keeper)| *keeper != new.keeper) {
        node::require_alive(tx, &new.keeper)?;
    }
    let conflict = || StoreError::Conflict { what: format!("service {key}") };
    let cause = new.cause.as_deref().map(cut);
    let found = read(tx, key)?;
    if let Some((is, _)) = &found
        && (is.state, is.epoch, &is.keeper) == (new.state, new.epoch, &new.keeper)
        && (&is.instance, is.breaker_open_until) == (&new.instance, new.breaker_open_until)
        && is.cause.as_deref() == cause
    {
        return Ok(InstanceStepped::Done);
    }
    let is = found.as_ref().map(|(is, _)| (is.epoch, is.keeper.clone()));
    if is != new.was || is.is_some_and(|(epoch, _)| epoch > new.epoch) {
        return Err(conflict());
    }
    if new.unless_held {
        forget_dead(tx, service, instance)?;
        if holds(tx, key)?.iter().any(|hold| hold.lives) {
            return Ok(InstanceStepped::Held);
        }
    }
    let now = tx.now().as_micros();
    let Some((was, acquired)) = found else {
        tx.write(
            "INSERT INTO services (service, key, state, epoch, instance, since,
             breaker_open_until, cause, node, incarnation)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            (
                service,
                instance,
                new.state.as_str(),
                int(new.epoch.get()),
                &new.instance,
                now,
                micros(new.breaker_open_until),
                cause,
                &new.keeper.node,
                int(new.keeper.incarnation),
            ),
        )?;
        return Ok(InstanceStepped::Done);
    };
    let since = if was.state == new.state { was.since.as_micros() } else { now };
    tx.change(
        "UPDATE services SET state = ?3, epoch = ?4, instance = ?5, since = ?6,
         breaker_open_until = ?7, cause = ?8, node = ?9, incarnation = ?10
         WHERE service = ?1 AND key = ?2 AND epoch = ?11 AND node = ?12 AND incarnation = ?13
         AND (?14 IS NULL OR acquired = ?14)",
        (
            service,
            instance,
            new.state.as_str(),
            int(new.epoch.get()),
            &new.instance,
            since,
            micros(new.breaker_open_until),
            cause,
            &new.keeper.node,
            int(new.keeper.incarnation),
            int(was.epoch.get()),
            &was.keeper.node,
            int(was.keeper.incarnation),
            new.unless_held.then_some(acquired),
        ),
        conflict,
    )?;
    Ok(InstanceStepped::Done)
}

/// Holds of processes that are gone.
fn forget_dead(tx: &Tx<'_>, service: &str, instance: &str) -> Result<(), StoreError> {
    tx.write(
        "DELETE FROM holds WHERE service = ?1 AND key = ?2 AND node IS NOT NULL AND NOT EXISTS
         (SELECT 1 FROM nodes n WHERE n.node = holds.node AND n.incarnation = holds.incarnation
         AND n.ended_at IS NULL)",
        (service, instance),
    )?;
    Ok(())
}

macro_rules! instances {
    ($rest:literal) => {
        concat!(
            "SELECT s.service, s.key, s.state, s.epoch, s.instance, s.since, s.breaker_open_until,
             s.cause, s.node, s.incarnation, s.acquired, n.node IS NOT NULL AND n.ended_at IS NULL,
             n.lease_until FROM services s
             LEFT JOIN nodes n ON n.node = s.node AND n.incarnation = s.incarnation ",
            $rest
        )
    };
}

fn record(tx: &Tx<'_>, row: &Columns<'_>) -> Result<(InstanceRecord, i64), StoreError> {
    let key = key_of(row.get()?, row.get()?);
    let (state, epoch, instance) = (row.parse()?, Epoch::new(row.count()?), row.get()?);
    let (since, breaker_open_until) = (row.instant()?, row.instant_maybe()?);
    let cause = row.get()?;
    let keeper = NodeRef { node: row.get()?, incarnation: row.count()? };
    let acquired = row.get()?;
    let keeper_lives = node::reads_alive(tx, row)?;
    let record = InstanceRecord {
        key,
        state,
        epoch,
        instance,
        since,
        breaker_open_until,
        cause,
        keeper,
        keeper_lives,
    };
    Ok((record, acquired))
}

fn read(tx: &Tx<'_>, key: &ServiceKey) -> Result<Option<(InstanceRecord, i64)>, StoreError> {
    tx.row(
        instances!("WHERE s.service = ?1 AND s.key = ?2"),
        (key.service(), key.instance().unwrap_or_default()),
        |row| record(tx, row),
    )
}

pub(crate) fn instance(
    tx: &Tx<'_>,
    key: &ServiceKey,
) -> Result<Option<InstanceRecord>, StoreError> {
    Ok(read(tx, key)?.map(|(record, _)| record))
}

/// Those that are not at rest, or are held, in order of their names.
pub(crate) fn instances(tx: &Tx<'_>, limit: u32) -> Result<Vec<InstanceRecord>, StoreError> {
    tx.rows(
        instances!(
            "WHERE s.state NOT IN ('stopped', 'failed') OR EXISTS
             (SELECT 1 FROM holds h WHERE h.service = s.service AND h.key = s.key)
             ORDER BY s.service, s.key LIMIT ?1"
        ),
        [limit],
        |row| Ok(record(tx, row)?.0),
    )
}

/// Who holds an instance, in order of their names.
pub(crate) fn holds(tx: &Tx<'_>, key: &ServiceKey) -> Result<Vec<HoldRecord>, StoreError> {
    tx.rows(
        "SELECT h.holder, h.job, h.attempt, h.node, h.incarnation, h.since, j.state, a.job IS NOT NULL,
         n.node IS NOT NULL AND n.ended_at IS NULL, n.lease_until FROM holds h
         LEFT JOIN jobs j ON j.id = h.job
         LEFT JOIN attempts a ON a.job = h.job AND a.attempt = h.attempt AND a.ended_as IS NULL
         LEFT JOIN nodes n ON n.node = COALESCE(h.node, a.node)
         AND n.incarnation = COALESCE(h.incarnation, a.incarnation)
         WHERE h.service = ?1 AND h.key = ?2 ORDER BY h.holder",
        (key.service(), key.instance().unwrap_or_default()),
        |row| {
            let holder = Holder::new(row.get::<String>()?);
            let (job, attempt, node) = (row.get()?, row.get::<Option<u32>>()?, super::view::node(row)?);
            let (since, state) = (row.instant()?, row.parse_maybe::<JobState>()?);
            let under_way: bool = row.get()?;
            let process_lives = node::reads_alive(tx, row)?;
            let lives = match (job, attempt) {
                (Some(_), Some(_)) => under_way && process_lives,
                (Some(_), None) => state.is_some_and(|state| !state.is_terminal()),
                (None, _) => process_lives,
            };
            Ok(HoldRecord { key: key.clone(), holder, job, attempt, node, since, lives })
        },
    )
}

/// Forgets instances that have been stopped since before `before`: nothing of them is left, and nobody remembers their
/// lives. Whether there may be more.
pub(crate) fn forget(tx: &Tx<'_>, before: i64, limit: u64) -> Result<bool, StoreError> {
    let forgotten = tx.write(
        "DELETE FROM services WHERE (service, key) IN (SELECT s.service, s.key FROM services s
         WHERE s.state = 'stopped' AND s.since <= ?1 AND s.breaker_open_until IS NULL
         AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.service = s.service AND h.key = s.key)
         LIMIT ?2)",
        (before, int(limit)),
    )?;
    Ok(forgotten as u64 >= limit)
}
