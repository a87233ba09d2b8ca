//! Turns at keys: of all jobs of the store with a key, only so many are under way at a time (INV-ST-20).
//!
//! A turn is a row (STO-21): what takes one takes a free place of its key, or nothing, and what ends the attempt, or the group,
//! gives it back. A job whose key is full waits, deferred, and leaves the index of what can be claimed (DUR-13); its run looks for its
//! turn with each claim.
//!
//! Waiting jobs have their turn in the order in which they began to wait, over all runs. One whose run does not look for it any
//! more (nobody works on it, it is paused, it has no place) keeps nobody waiting: it counts for those behind it only as long as
//! its run has looked lately.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use perennial_core::{
    Timestamp,
    run::{JobKey, JobState, RunId},
};
use serde_json::{Map, json};

use super::{
    journal::Journal,
    lease::{Due, Places},
    wait,
};
use crate::{
    AfterWait, Claimed, ConcurrencyKey, Deferral, JobRecord, Keyed, StoreError, Turn, TurnHolder,
    transaction::{Tx, int},
};

/// How long a waiting job counts for those behind it after its run has looked for its turn.
const SEEN_FOR: Duration = Duration::from_secs(30);
/// How soon a run writes down again that it has looked.
const SAID_EVERY: Duration = Duration::from_secs(10);
/// What is waited for at most; the run's own time is over before, as a rule.
const WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Jobs that one claim lets wait, and keys that it looks at, at most: what is left comes with the next.
const AT_ONCE: usize = 1_000;

/// Repeatable: a job that is made again has the key that it has now.
pub(crate) fn declare(tx: &Tx<'_>, job: i64, by: &ConcurrencyKey) -> Result<(), StoreError> {
    if by.key.is_empty() {
        return Err(StoreError::NotFound { what: "concurrency key", id: String::new() });
    }
    tx.admit("concurrency key", by.key.len(), ConcurrencyKey::BYTES_MAX)?;
    tx.write(
        "INSERT INTO keyed (job, key, most) VALUES (?1, ?2, ?3)
         ON CONFLICT (job) DO UPDATE SET key = excluded.key, most = excluded.most,
         parked_since = NULL, parked_seen = NULL",
        (job, &by.key, by.most.get()),
    )?;
    Ok(())
}

/// The keys of the jobs of a run.
pub(crate) fn add_keys(tx: &Tx<'_>, run: &RunId, jobs: &mut [JobRecord]) -> Result<(), StoreError> {
    let rows = tx.rows(
        "SELECT k.job, k.key, k.most, k.parked_since IS NOT NULL AND j.state = 'deferred',
         EXISTS (SELECT 1 FROM turns t WHERE t.job = k.job), k.parked_since, h.run, h.key
         FROM keyed k JOIN jobs j ON j.id = k.job
         LEFT JOIN turns t ON k.parked_since IS NOT NULL AND t.key = k.key
         AND t.place = (SELECT MIN(f.place) FROM turns f WHERE f.key = k.key)
         LEFT JOIN jobs h ON h.id = t.job WHERE j.run = ?1 ORDER BY k.job",
        [run.as_str()],
        |row| {
            let (job, by) =
                (row.get::<i64>()?, ConcurrencyKey { key: row.get()?, most: most(row.get()?) });
            let (waits, has) = (row.get::<bool>()?, row.get::<bool>()?);
            let turn = match (waits, has) {
                (_, true) => Turn::Has,
                (true, false) => Turn::Waits,
                (false, false) => Turn::None,
            };
            let since = row.instant_maybe()?.filter(|_| turn == Turn::Waits);
            let of = row.read(|run: Option<String>| run.map(RunId::parse).transpose())?;
            let holder = of.zip(row.get::<Option<String>>()?).filter(|_| turn == Turn::Waits);
            let held_by = holder.map(|(run, job)| TurnHolder { run, job: JobKey::new(job) });
            Ok((job, Keyed { by, turn, since, held_by }))
        },
    )?;
    for (job, keyed) in rows {
        // Both lists are in the order of the jobs.
        if let Ok(place) = jobs.binary_search_by_key(&job, |job| job.id) {
            jobs[place].keyed = Some(keyed);
        }
    }
    Ok(())
}

fn most(rows: u32) -> NonZeroU32 {
    NonZeroU32::new(rows).unwrap_or(NonZeroU32::MIN)
}

/// Gives back the turn of a job, if it has one.
pub(crate) fn give_back(tx: &Tx<'_>, job: i64) -> Result<(), StoreError> {
    tx.post("DELETE FROM turns WHERE job = ?1", [job])
}

/// It waits for something else now, and has to ask for its turn again.
pub(crate) fn forget_place(tx: &Tx<'_>, job: i64) -> Result<(), StoreError> {
    tx.post("UPDATE keyed SET parked_since = NULL, parked_seen = NULL WHERE job = ?1", [job])
}

/// What one claim knows of turns, and what it makes of them.
#[derive(Default)]
pub(crate) struct Turns {
    /// Jobs that wait for their turn from now on.
    pub(crate) parked: Vec<(i64, Deferral)>,
    /// Groups whose turn it is.
    pub(crate) admitted: Vec<i64>,
    /// Jobs that waited, and can be claimed now: not all of them need to be.
    pub(crate) ready: Vec<i64>,
    /// How many of each key can be claimed, of those of the run that waited.
    called: BTreeMap<String, u32>,
    /// Those that have taken their turn to be claimed.
    taken: Vec<i64>,
}

/// A job that asks for its turn.
struct Asks {
    job: i64,
    key: JobKey,
    stage: String,
    attempt: u32,
    state: JobState,
    by: ConcurrencyKey,
    since: Option<Timestamp>,
    takes_place: bool,
    is_group: bool,
}

const ASKS: &str = "SELECT j.id, j.key, j.stage, j.attempt, j.state, k.key, k.most, k.parked_since,
     j.parent = '', j.kind = 'group' FROM keyed k JOIN jobs j ON j.id = k.job ";

fn asks(row: &crate::transaction::Columns<'_>) -> Result<Asks, StoreError> {
    Ok(Asks {
        job: row.get()?,
        key: JobKey::new(row.get::<String>()?),
        stage: row.get()?,
        attempt: row.get()?,
        state: row.parse()?,
        by: ConcurrencyKey { key: row.get()?, most: most(row.get()?) },
        since: row.instant_maybe()?,
        takes_place: row.get()?,
        is_group: row.get()?,
    })
}

impl Turns {
    /// Takes up those of a run that have waited and whose turn it is, and the turns of its groups: as many as have places.
    pub(crate) fn take_up(
        &mut self,
        tx: &Tx<'_>,
        journal: &mut Journal,
        run: &RunId,
        places: &mut [Places],
    ) -> Result<(), StoreError> {
        // Groups whose turn it is, and that are not expanded yet, have places as well.
        let expected = tx.rows(
            "SELECT j.stage FROM turns t CROSS JOIN jobs j WHERE j.id = t.job AND
             j.run = ?1 AND j.state = 'ready' AND j.parent = ''",
            [run.as_str()],
            |row| row.get::<String>(),
        )?;
        for stage in expected {
            if let Some(of) = places.iter_mut().find(|it| it.stage == stage) {
                of.free = of.free.saturating_sub(1);
            }
        }
        say_looked(tx, run, places)?;
        self.called = woken(tx, run)?;
        for asks in self.waiting(tx, run)? {
            let place = places.iter_mut().find(|it| asks.takes_place && it.stage == asks.stage);
            if place.as_ref().is_some_and(|place| place.free == 0) {
                // First it waits for a place.
                continue;
            }
            let has_turn = if asks.is_group {
                take(tx, &asks, 0)?
            } else {
                let called = self.called.entry(asks.by.key.clone()).or_default();
                let is_next = free(tx, &asks, *called)?.is_some();
                *called += u32::from(is_next);
                is_next
            };
            if has_turn {
                if asks.state == JobState::Deferred {
                    wake(tx, journal, &asks)?;
                }
                if asks.is_group {
                    forget_place(tx, asks.job)?;
                    self.admitted.push(asks.job);
                    if let Some(place) = place {
                        place.free -= 1;
                    }
                } else {
                    self.ready.push(asks.job);
                }
            } else if asks.state == JobState::Ready {
                self.park(tx, journal, &asks)?;
            }
        }
        Ok(())
    }

    /// Of each key the first of the run that wait for it and have a place, and groups that ask for the first time.
    fn waiting(&self, tx: &Tx<'_>, run: &RunId) -> Result<Vec<Asks>, StoreError> {
        let keys = tx.rows(
            "SELECT k.key, MAX(k.most) - (SELECT COUNT(*) FROM turns t WHERE t.key = k.key)
             FROM keyed k JOIN jobs j ON j.id = k.job
             WHERE j.run = ?1 AND j.state = 'deferred' AND k.parked_seen > 0
             GROUP BY k.key
             HAVING MAX(k.most) > (SELECT COUNT(*) FROM turns t WHERE t.key = k.key)
             ORDER BY MIN(k.parked_since) LIMIT ?2",
            (run.as_str(), int(AT_ONCE as u64)),
            |row| Ok((row.get::<String>()?, row.get::<i64>()?)),
        )?;
        let mut waiting = Vec::new();
        for (key, free) in keys {
            // From the key to its jobs, and not by run: a server that has not counted its tables would look through all of a run
            // for each.
            waiting.extend(tx.rows(
                &format!(
                    "{ASKS} WHERE k.key = ?1 AND k.parked_since IS NOT NULL AND k.parked_seen > 0
                     AND j.run || '' = ?2 AND j.state || '' = 'deferred' AND (SELECT s.state FROM stages s
                     WHERE s.run = j.run AND s.stage = j.stage) IN ('open', 'sealed')
                     ORDER BY k.parked_since, k.job LIMIT ?3"
                ),
                (&key, run.as_str(), free.min(int(AT_ONCE as u64))),
                asks,
            )?);
        }
        waiting.extend(tx.rows(
            &format!(
                "{ASKS} JOIN stages s ON s.run = j.run AND s.stage = j.stage
                 WHERE j.run = ?1 AND j.state = 'ready' AND j.kind = 'group' AND s.state IN ('open', 'sealed')
                 AND NOT EXISTS (SELECT 1 FROM turns t WHERE t.job = j.id) ORDER BY j.priority DESC, j.id LIMIT ?2"
            ),
            (run.as_str(), int(AT_ONCE as u64)),
            asks,
        )?);
        Ok(waiting)
    }

    /// Keeps those of `due` whose turn it is, which they take; the others wait for it. Whether it is worth looking for others in
    /// their place.
    pub(crate) fn take(
        &mut self,
        tx: &Tx<'_>,
        journal: &mut Journal,
        due: &mut Vec<Due>,
    ) -> Result<bool, StoreError> {
        let mut asking = Vec::new();
        for one in due.iter().filter(|one| one.is_keyed) {
            asking.extend(tx.row(
                &format!("{ASKS} WHERE k.job = ?1"),
                [one.job.lease.job],
                asks,
            )?);
        }
        // In one order everywhere, so that two that take several wait for each other and not in a circle.
        asking.sort_by(|one, other| one.by.key.cmp(&other.by.key));
        let before = self.parked.len();
        for asks in asking {
            if take(tx, &asks, 0)? {
                self.taken.push(asks.job);
            } else {
                due.retain(|one| one.job.lease.job != asks.job);
                self.park(tx, journal, &asks)?;
            }
        }
        Ok(self.parked.len() > before && self.parked.len() < AT_ONCE)
    }

    /// Of those that have taken their turn only those that are claimed have it.
    pub(crate) fn leave(&mut self, tx: &Tx<'_>, claimed: &[Claimed]) -> Result<(), StoreError> {
        let taken = std::mem::take(&mut self.taken);
        for job in taken {
            if claimed.iter().any(|it| it.lease.job == job) {
                forget_place(tx, job)?;
            } else {
                give_back(tx, job)?;
            }
        }
        Ok(())
    }

    fn park(&mut self, tx: &Tx<'_>, journal: &mut Journal, asks: &Asks) -> Result<(), StoreError> {
        let now = tx.now();
        let until = now.after(WAIT_MAX);
        let ConcurrencyKey { key, most } = &asks.by;
        let cause = format!("its turn with the key `{key}`, {most} at a time");
        let deferral = Deferral { cause, wake_at: until, until, then: AfterWait::Fail };
        tx.change(
            "UPDATE jobs SET state = 'deferred', run_after = 0, wake_at = ?2, defer_cause = ?3, defer_until = ?2,
             defer_then = ?4, deferred_since = COALESCE(deferred_since, ?5) WHERE id = ?1 AND state || '' = 'ready'",
            (asks.job, until.as_micros(), &deferral.cause, deferral.then.name(), now.as_micros()),
            || StoreError::Conflict { what: format!("job {}", asks.key) },
        )?;
        tx.write(
            "UPDATE keyed SET parked_since = COALESCE(parked_since, ?2), parked_seen = ?2 WHERE job = ?1",
            (asks.job, now.as_micros()),
        )?;
        let attempt = (asks.attempt > 0).then_some(asks.attempt);
        let about = Map::from_iter([("concurrency_key".to_owned(), json!(key))]);
        wait::note_deferred(tx, journal, &asks.key, attempt, &deferral, about)?;
        self.parked.push((asks.job, deferral));
        Ok(())
    }
}

/// Those of a run that wait count for those behind them, unless their stage has no place for them: whoever has the place may be
/// behind them.
pub(crate) fn say_looked(tx: &Tx<'_>, run: &RunId, places: &[Places]) -> Result<(), StoreError> {
    let (now, before) = (tx.now().as_micros(), earlier(tx.now(), SAID_EVERY));
    tx.post(
        "UPDATE keyed SET parked_seen = ?2 WHERE parked_seen < ?3 AND job IN (SELECT j.id FROM jobs j
         JOIN stages s ON s.run = j.run AND s.stage = j.stage WHERE j.run = ?1
         AND j.state IN ('deferred', 'ready') AND (j.parent <> '' OR s.concurrency IS NULL))",
        (run.as_str(), now, before),
    )?;
    for Places { stage, free, .. } in places.iter().filter(|it| it.is_limited) {
        let (seen, before) = if *free > 0 { (now, before) } else { (0, now.saturating_add(1)) };
        tx.post(
            "UPDATE keyed SET parked_seen = ?3 WHERE parked_seen < ?4 AND parked_seen <> ?3 AND job IN (
             SELECT j.id FROM jobs j WHERE j.run = ?1 AND j.stage = ?2
             AND j.state IN ('deferred', 'ready') AND j.parent = '')",
            (run.as_str(), stage, seen, before),
        )?;
    }
    Ok(())
}

/// Of those of a run that have waited, how many of each key can be claimed, and have a place: for these no others come.
fn woken(tx: &Tx<'_>, run: &RunId) -> Result<BTreeMap<String, u32>, StoreError> {
    let woken = tx.rows(
        "SELECT k.key, COUNT(*) FROM (
         SELECT j.id FROM jobs j WHERE j.run = ?1 AND j.state = 'ready' AND j.parent <> '' AND j.kind <> 'group'
         UNION ALL
         SELECT j.id FROM jobs j WHERE j.run = ?1 AND j.state = 'ready' AND j.parent = '' AND j.kind <> 'group'
         ) AS waiting JOIN keyed k ON k.job = waiting.id WHERE k.parked_seen > 0 GROUP BY k.key",
        [run.as_str()],
        |row| Ok((row.get::<String>()?, row.get::<u32>()?)),
    )?;
    Ok(woken.into_iter().collect())
}

fn earlier(now: Timestamp, by: Duration) -> i64 {
    now.as_micros().saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX))
}

/// One that has waited for its turn can be claimed. The time that it waited is none that something else let it wait.
fn wake(tx: &Tx<'_>, journal: &mut Journal, asks: &Asks) -> Result<(), StoreError> {
    let now = tx.now();
    tx.change(
        "UPDATE jobs SET state = 'ready', run_after = 0, wake_at = NULL, defer_cause = NULL, defer_until = NULL,
         defer_then = NULL, deferred_since = CASE WHEN deferred_since < ?2 THEN deferred_since + ?3 - ?2 ELSE NULL END
         WHERE id = ?1 AND state = 'deferred'",
        (asks.job, asks.since.unwrap_or(now).as_micros(), now.as_micros()),
        || StoreError::Conflict { what: format!("job {}", asks.key) },
    )?;
    let about = json!({ "cause": format!("its turn with the key `{}`", asks.by.key) });
    journal.note_job(tx, "job_ready", &asks.key, None, about)
}

/// The least free place of the key, unless others are before it: the first `called` of those that are free are given away.
fn free(tx: &Tx<'_>, asks: &Asks, called: u32) -> Result<Option<u32>, StoreError> {
    let most = asks.by.most.get();
    let held = tx.rows(
        "SELECT place FROM turns WHERE key = ?1 ORDER BY place LIMIT ?2",
        (&asks.by.key, most),
        |row| row.get::<u32>(),
    )?;
    let taken = u32::try_from(held.len()).unwrap_or(u32::MAX).saturating_add(called);
    let left = most.saturating_sub(taken);
    if left == 0 {
        return Ok(None);
    }
    let now = tx.now();
    let before = tx.row(
        "SELECT COUNT(*) FROM (SELECT 1 FROM keyed k JOIN jobs j ON j.id = k.job
         WHERE k.key = ?1 AND k.parked_since IS NOT NULL AND j.state || '' = 'deferred'
         AND (SELECT r.state FROM runs r WHERE r.run = j.run) = 'running'
         AND k.parked_seen > ?2 AND (k.parked_since, k.job) < (?3, ?4) LIMIT ?5) b",
        (
            &asks.by.key,
            earlier(now, SEEN_FOR),
            asks.since.unwrap_or(now).as_micros(),
            asks.job,
            left,
        ),
        |row| row.get::<u32>(),
    )?;
    if before.unwrap_or(0) >= left {
        return Ok(None);
    }
    let gap = (0..most).zip(held.iter().copied().map(Some).chain(std::iter::repeat(None)));
    Ok(gap.into_iter().find(|(place, held)| Some(*place) != *held).map(|(place, _)| place))
}

/// Takes the turn of a job, if it is its own and nobody was faster.
fn take(tx: &Tx<'_>, asks: &Asks, called: u32) -> Result<bool, StoreError> {
    let has = tx.row("SELECT 1 FROM turns WHERE job = ?1", [asks.job], |_| Ok(()))?;
    if has.is_some() {
        return Ok(true);
    }
    // Each rival that is faster leaves one place less.
    while let Some(place) = free(tx, asks, called)? {
        let taken = tx.write(
            "INSERT INTO turns (key, place, job) VALUES (?1, ?2, ?3) ON CONFLICT (key, place) DO NOTHING",
            (&asks.by.key, place, asks.job),
        )?;
        if taken > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}
