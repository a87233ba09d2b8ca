//! What jobs use of services: declared with the job, held for it, and asked before it is claimed.

use std::collections::BTreeMap;

use perennial_core::{
    Timestamp,
    run::{JobKey, RunId},
    service::ServiceKey,
};
use serde_json::Map;

use super::{
    journal::{Journal, micros},
    lease::Due,
    service, turn, wait,
};
use crate::{
    Admissions, Admits, AfterWait, Closed, Deferral, HoldOf, JobRecord, Lease, StoreError,
    transaction::Tx,
};

/// Jobs that one claim defers, at most: what is left comes with the next.
const DEFERRED_MAX: usize = 1_000;

/// Repeatable: a job that is made again is asked for what it uses now.
pub(crate) fn declare(tx: &Tx<'_>, job: i64, uses: &[ServiceKey]) -> Result<(), StoreError> {
    for key in uses {
        let (service, instance) = service::names(tx, key)?;
        tx.write(
            "INSERT INTO uses (job, service, key) VALUES (?1, ?2, ?3)
             ON CONFLICT (job, service, key) DO NOTHING",
            (job, service, instance),
        )?;
    }
    Ok(())
}

/// What the jobs of a run use.
pub(crate) fn add_uses(tx: &Tx<'_>, run: &RunId, jobs: &mut [JobRecord]) -> Result<(), StoreError> {
    let rows = tx.rows(
        "SELECT u.job, u.service, u.key FROM uses u JOIN jobs j ON j.id = u.job WHERE j.run = ?1
         ORDER BY u.job, u.service, u.key",
        [run.as_str()],
        |row| Ok((row.get::<i64>()?, service::key_of(row.get()?, row.get()?))),
    )?;
    for (job, key) in rows {
        // Both lists are in the order of the jobs.
        if let Ok(place) = jobs.binary_search_by_key(&job, |job| job.id) {
            jobs[place].uses.push(key);
        }
    }
    Ok(())
}

/// What one claim knows of services, and what it makes of it.
pub(crate) struct Doors<'a> {
    known: BTreeMap<&'a ServiceKey, &'a Admits>,
    /// How many it has let in where only so many may be.
    let_in: BTreeMap<ServiceKey, u32>,
    /// What each job uses that it has looked at.
    uses: BTreeMap<i64, Vec<ServiceKey>>,
    pub(crate) deferred: Vec<(i64, Deferral)>,
}

/// What is asked for a job.
struct Asks {
    attempt: u32,
    is_child: bool,
    since: Option<Timestamp>,
    uses: Vec<ServiceKey>,
}

impl<'a> Doors<'a> {
    pub(crate) fn new(admissions: &'a Admissions) -> Self {
        let known = admissions.services.iter().map(|(key, admits)| (key, admits)).collect();
        Self { known, let_in: BTreeMap::new(), uses: BTreeMap::new(), deferred: Vec::new() }
    }

    /// Defers those of `due` that are not admitted, and leaves alone of which nobody knows whether they are. Whether
    /// it is worth looking for others in their place.
    pub(crate) fn defer(
        &mut self,
        tx: &Tx<'_>,
        journal: &mut Journal,
        due: &mut Vec<Due>,
    ) -> Result<bool, StoreError> {
        if self.known.is_empty() {
            due.retain(|job| !job.uses_services);
            return Ok(false);
        }
        let (mut kept, mut has_deferred) = (Vec::with_capacity(due.len()), false);
        self.let_in.clear();
        for one in due.drain(..) {
            let lease = &one.job.lease;
            let asks = if one.uses_services { asks(tx, lease.job)? } else { None };
            let Some(asks) = asks else {
                kept.push(one);
                continue;
            };
            let admits = |key: &ServiceKey| self.known.get(key).copied();
            if !asks.uses.iter().all(|key| admits(key).is_some()) {
                continue;
            }
            let closed = asks.uses.iter().find_map(|key| match admits(key)? {
                Admits::Yes => None,
                Admits::UpTo { most, then } => {
                    let is_full = self.let_in.get(key).copied().unwrap_or(0) >= *most;
                    is_full.then_some(then)
                }
                Admits::No(closed) => Some(closed),
            });
            if let Some(closed) = closed {
                let deferral = closed.deferral(&asks, tx.now());
                self.defer_one(tx, journal, lease, &asks, deferral)?;
                if one.is_keyed {
                    turn::forget_place(tx, lease.job)?;
                }
                has_deferred = true;
            } else {
                for key in &asks.uses {
                    *self.let_in.entry(key.clone()).or_default() += 1;
                }
                self.uses.insert(lease.job, asks.uses);
                kept.push(one);
            }
        }
        *due = kept;
        Ok(has_deferred && self.deferred.len() < DEFERRED_MAX)
    }

    fn defer_one(
        &mut self,
        tx: &Tx<'_>,
        journal: &mut Journal,
        lease: &Lease,
        asks: &Asks,
        deferral: Deferral,
    ) -> Result<(), StoreError> {
        let job = lease.job;
        tx.change(
            "UPDATE jobs SET state = 'deferred', run_after = 0, wake_at = ?2, defer_cause = ?3,
             defer_until = ?4, defer_then = ?5, deferred_since = COALESCE(deferred_since, ?6)
             WHERE id = ?1 AND state || '' = 'ready'",
            (
                job,
                micros(Some(deferral.wake_at)),
                &deferral.cause,
                deferral.until.as_micros(),
                deferral.then.name(),
                tx.now().as_micros(),
            ),
            || StoreError::Conflict { what: format!("job {}", lease.key) },
        )?;
        let attempt = (asks.attempt > 0).then_some(asks.attempt);
        wait::note_deferred(tx, journal, &lease.key, attempt, &deferral, Map::new())?;
        // Those that are not to be held yet wait without.
        let held = |key: &&ServiceKey| match self.known.get(*key) {
            Some(Admits::No(closed)) => closed.hold,
            Some(Admits::Yes | Admits::UpTo { .. }) => true,
            None => false,
        };
        for key in asks.uses.iter().filter(held) {
            hold(tx, journal, lease, key)?;
        }
        self.deferred.push((job, deferral));
        Ok(())
    }

    /// What a job that is claimed uses is held for it.
    pub(crate) fn hold(
        &self,
        tx: &Tx<'_>,
        journal: &mut Journal,
        lease: &Lease,
    ) -> Result<(), StoreError> {
        for key in self.uses.get(&lease.job).into_iter().flatten() {
            hold(tx, journal, lease, key)?;
        }
        Ok(())
    }
}

impl Closed {
    fn deferral(&self, asks: &Asks, now: Timestamp) -> Deferral {
        let since = asks.since.unwrap_or(now);
        let until = if self.is_final { now } else { since.after(self.max_wait) };
        // Only what is one of several may be missing.
        let then = if asks.is_child { self.then } else { AfterWait::Fail };
        let cause = super::journal::cut(&self.cause).to_owned();
        Deferral { cause, wake_at: self.wake_at.min(until), until, then }
    }
}

fn hold(
    tx: &Tx<'_>,
    journal: &mut Journal,
    lease: &Lease,
    key: &ServiceKey,
) -> Result<(), StoreError> {
    let of = HoldOf::Job { run: lease.run.clone(), job: lease.job };
    let job: &JobKey = &lease.key;
    service::hold_of_job(tx, journal, (&of, job), lease.job, key)
}

fn asks(tx: &Tx<'_>, job: i64) -> Result<Option<Asks>, StoreError> {
    let rows = tx.rows(
        "SELECT u.service, u.key, j.attempt, j.parent <> '', j.deferred_since FROM uses u
         JOIN jobs j ON j.id = u.job WHERE u.job = ?1 ORDER BY u.service, u.key",
        [job],
        |row| {
            let key = service::key_of(row.get()?, row.get()?);
            Ok((key, row.get::<u32>()?, row.get::<bool>()?, row.instant_maybe()?))
        },
    )?;
    let Some((_, attempt, is_child, since)) = rows.first() else { return Ok(None) };
    let (attempt, is_child, since) = (*attempt, *is_child, *since);
    let uses = rows.into_iter().map(|(key, ..)| key).collect();
    Ok(Some(Asks { attempt, is_child, since, uses }))
}
