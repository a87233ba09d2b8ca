//! Who may act for a job: claims, and what gives a job back without deciding anything.

use std::borrow::Cow;

use perennial_core::run::{AttemptEnd, JobKey, JobState, Priority, RunId};
use serde_json::{Value, json};

use super::{
    creation,
    ending::{self, Ending},
    journal::{Journal, cut},
    node,
    turn::{self, Turns},
    uses::Doors,
    view,
};
use crate::{
    Admissions, AttemptRecord, Claimed, Claims, Lease, NodeRef, Rescued, StoreError,
    transaction::{Columns, Tx, int, value::Params},
};

/// What a lease is worth now.
pub(crate) enum Standing {
    /// Its attempt is under way, on a live incarnation.
    Live(Budget),
    /// Its attempt is under way, as far as the store knows, on an incarnation that has ended, or whose lease is
    /// over.
    Dead(Budget),
    /// Its attempt has ended.
    Ended(AttemptEnd),
    /// There is no such attempt.
    Unknown,
}

/// Attempts of a job.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) used: u32,
    pub(crate) max: u32,
    /// Whether its attempts have saved something.
    pub(crate) saved: bool,
    /// Whether it, or its attempt, holds a service or numbers of pools.
    pub(crate) holds: bool,
    /// Whether it has the turn of its key.
    pub(crate) has_turn: bool,
}

const STANDING: &str = "SELECT a.ended_as, j.state = 'leased' AND j.attempt = a.attempt, n.ended_at IS NULL,
    n.lease_until, j.attempts_used, j.max_attempts, EXISTS (SELECT 1 FROM saved s WHERE s.job = j.id),
    EXISTS (SELECT 1 FROM slot_pools p WHERE p.job = j.id) OR EXISTS (SELECT 1 FROM holds h WHERE h.job = j.id),
    EXISTS (SELECT 1 FROM turns t WHERE t.job = j.id)
    FROM attempts a JOIN jobs j ON j.id = a.job
    JOIN nodes n ON n.node = a.node AND n.incarnation = a.incarnation
    WHERE a.job = ?1 AND a.attempt = ?2 AND a.node = ?3 AND a.incarnation = ?4
    AND j.run = ?5 AND j.key = ?6";

/// Says that [`standing`] comes next.
pub(crate) fn standing_ahead(tx: &Tx<'_>, lease: &Lease) {
    tx.ahead(STANDING, of_lease(lease));
}

fn of_lease(lease: &Lease) -> impl Params + use<'_> {
    let Lease { run, job, key, attempt, node } = lease;
    (*job, *attempt, &node.node, int(node.incarnation), run.as_str(), key.as_str())
}

pub(crate) fn standing(tx: &Tx<'_>, lease: &Lease) -> Result<Standing, StoreError> {
    let found = tx.row(STANDING, of_lease(lease), |row| {
        let (ended, current) = (row.parse_maybe()?, row.get::<bool>()?);
        let alive = node::reads_alive(tx, row)?;
        let (used, max, saved) = (row.get()?, row.get()?, row.get()?);
        let (holds, has_turn) = (row.get()?, row.get()?);
        Ok((ended, current, alive, Budget { used, max, saved, holds, has_turn }))
    })?;
    Ok(match found {
        Some((Some(end), ..)) => Standing::Ended(end),
        Some((None, true, true, budget)) => Standing::Live(budget),
        Some((None, true, false, budget)) => Standing::Dead(budget),
        Some((None, false, ..)) | None => Standing::Unknown,
    })
}

pub(crate) fn stale(lease: &Lease) -> StoreError {
    StoreError::StaleAttempt { job: lease.job, attempt: lease.attempt }
}

/// The journal of the lease's run, if the lease lives and the run has not ended.
pub(crate) fn require_live(tx: &Tx<'_>, lease: &Lease) -> Result<Journal, StoreError> {
    // First the end of the stream: what is read after it is not older, and holds until this
    // transaction ends, or the write of the end fails.
    standing_ahead(tx, lease);
    let (journal, state) = match Journal::of_run(tx, &lease.run) {
        Ok(found) => found,
        Err(StoreError::NotFound { .. }) => return Err(stale(lease)),
        Err(error) => return Err(error),
    };
    let Standing::Live(_) = standing(tx, lease)? else { return Err(stale(lease)) };
    if state.is_terminal() { Err(stale(lease)) } else { Ok(journal) }
}

pub(crate) fn claim(
    tx: &Tx<'_>,
    run: &RunId,
    node: &NodeRef,
    limit: u32,
    admissions: &Admissions,
) -> Result<Claims, StoreError> {
    node::alive_ahead(tx, node);
    tx.ahead(PLACES, [run.as_str()]);
    let (mut journal, state) = Journal::of_run(tx, run)?;
    node::require_alive(tx, node)?;
    if !state.claims() {
        return Ok(Claims::default());
    }
    let (mut doors, mut turns) = (Doors::new(admissions), Turns::default());
    if admissions.turns {
        turns.take_up(tx, &mut journal, run, &mut places(tx, run)?)?;
    }
    let mut order = Cow::Borrowed(admissions.order.as_slice());
    if (order.is_empty() || admissions.turns) && limit > 0 {
        // Who has just come to its turn was not there when it was asked for.
        let mut found = priorities(tx, run)?;
        found.retain(|priority| !order.contains(priority));
        order.to_mut().extend(found);
    }
    let due = loop {
        let mut places = places(tx, run)?;
        let mut due = Vec::new();
        // Jobs that a process may have died of come after all others.
        for suspects in [Suspects::No, Suspects::Yes] {
            for priority in order.iter() {
                let room = limit.saturating_sub(u32::try_from(due.len()).unwrap_or(limit));
                if room > 0 {
                    due.extend(self::due(tx, run, node, room, &mut places, (*priority, suspects))?);
                }
            }
        }
        // What is deferred leaves the index: others take its turn.
        let has_deferred = doors.defer(tx, &mut journal, &mut due)?;
        let has_parked = turns.take(tx, &mut journal, &mut due)?;
        if !has_deferred && !has_parked {
            break due;
        }
    };
    let mut claimed = Vec::with_capacity(due.len());
    let mut is_suspected = None;
    for Due { mut job, suspect, .. } in due {
        if suspect {
            // At most one at a time, so that none is convicted of what another did (SM-31).
            let suspected = match is_suspected {
                Some(suspected) => suspected,
                None => holds_suspect(tx, node)?,
            };
            is_suspected = Some(true);
            if suspected {
                continue;
            }
        }
        tx.change(
            "UPDATE jobs SET state = 'leased', attempt = ?2, run_after = 0, lease_node = ?3,
             lease_incarnation = ?4 WHERE id = ?1 AND state || '' = 'ready' AND attempt = ?2 - 1",
            (job.lease.job, job.lease.attempt, &node.node, int(node.incarnation)),
            || StoreError::Conflict { what: format!("job {}", job.lease.key) },
        )?;
        doors.hold(tx, &mut journal, &job.lease)?;
        creation::start_attempt(tx, &mut journal, &job.lease)?;
        // Only an attempt before this one can have called.
        if job.lease.attempt > 1 {
            job.calls = view::calls_of_job(tx, job.lease.job)?;
        }
        job.calls.retain(|call| call.recorded_at.is_some());
        claimed.push(job);
    }
    turns.leave(tx, &claimed)?;
    if admissions.turns && !claimed.is_empty() {
        // Their places are taken now.
        turn::say_looked(tx, run, &places(tx, run)?)?;
    }
    let (mut deferred, Turns { parked, admitted, mut ready, .. }) = (doors.deferred, turns);
    let is_told = !admitted.is_empty() || !ready.is_empty() || !parked.is_empty();
    let events = if !claimed.is_empty() || !deferred.is_empty() || is_told {
        journal.finish(tx, false)?.1
    } else {
        Vec::new()
    };
    let is_elsewhere = |job: &i64| {
        claimed.iter().any(|it| it.lease.job == *job)
            || deferred.iter().chain(&parked).any(|(it, _)| it == job)
    };
    ready.retain(|job| !is_elsewhere(job));
    deferred.retain(|(job, _)| !parked.iter().any(|(it, _)| it == job));
    Ok(Claims { claimed, deferred, parked, admitted, ready, events })
}

/// The priorities of the jobs of a run that can be claimed, the most first: from one to the next in the index, so that it costs as
/// much as there are priorities and stages, however many jobs there are.
fn priorities(tx: &Tx<'_>, run: &RunId) -> Result<Vec<Priority>, StoreError> {
    let mut found = tx.rows(
        "WITH RECURSIVE found (priority) AS (
         SELECT MAX(priority) FROM jobs WHERE run = ?1 AND state = 'ready' AND parent <> '' AND kind <> 'group'
         UNION ALL SELECT (SELECT MAX(j.priority) FROM jobs j
           WHERE j.run = ?1 AND j.state = 'ready' AND j.parent <> '' AND j.kind <> 'group'
           AND j.priority < found.priority)
         FROM found WHERE found.priority IS NOT NULL)
         SELECT priority FROM found WHERE priority IS NOT NULL",
        [run.as_str()],
        view::priority,
    )?;
    found.extend(tx.rows(
        "WITH RECURSIVE found (stage, priority) AS (
         SELECT s.stage, (SELECT MAX(j.priority) FROM jobs j
           WHERE j.run = ?1 AND j.stage = s.stage AND j.state = 'ready' AND j.parent = '' AND j.kind <> 'group')
         FROM stages s WHERE s.run = ?1 AND s.state IN ('open', 'sealed')
         UNION ALL SELECT found.stage, (SELECT MAX(j.priority) FROM jobs j
           WHERE j.run = ?1 AND j.stage = found.stage AND j.state = 'ready' AND j.parent = '' AND j.kind <> 'group'
           AND j.priority < found.priority)
         FROM found WHERE found.priority IS NOT NULL)
         SELECT DISTINCT priority FROM found WHERE priority IS NOT NULL",
        [run.as_str()],
        view::priority,
    )?);
    found.sort_by_key(|priority| std::cmp::Reverse(*priority));
    found.dedup();
    Ok(found)
}

/// The places of a stage: how many are free.
pub(crate) struct Places {
    pub(crate) stage: String,
    /// As many as there are numbers, where it has no limit.
    pub(crate) free: u32,
    pub(crate) is_limited: bool,
    /// Whether its jobs can be claimed.
    is_open: bool,
}

const PLACES: &str = "SELECT s.stage, s.concurrency, s.state IN ('open', 'sealed'),
    CASE WHEN s.concurrency IS NULL THEN 0 ELSE (SELECT COUNT(*) FROM jobs j WHERE j.run = s.run
    AND j.stage = s.stage AND j.state IN ('leased', 'joining') AND j.parent = '' AND j.kind <> 'step') END
    FROM stages s WHERE s.run = ?1 ORDER BY s.ordinal";

/// Counted from the rows, at every claim (STO-21).
fn places(tx: &Tx<'_>, run: &RunId) -> Result<Vec<Places>, StoreError> {
    tx.rows(PLACES, [run.as_str()], |row| {
        let (stage, most) = (row.get()?, row.get::<Option<u32>>()?);
        let (is_open, held) = (row.get()?, row.get::<u32>()?);
        let free = most.map_or(u32::MAX, |most| most.saturating_sub(held));
        Ok(Places { stage, free, is_limited: most.is_some(), is_open })
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Suspects {
    No,
    Yes,
}

/// Jobs that can be claimed, in the order of an index: what a claim costs must not grow with the queue.
macro_rules! due {
    ($crashes:literal, $which:literal) => {
        concat!(
            "SELECT j.id, j.key, j.stage, j.attempt, i.data, j.crashes > 0, j.run_after,
             EXISTS (SELECT 1 FROM uses u WHERE u.job = j.id),
             EXISTS (SELECT 1 FROM keyed k WHERE k.job = j.id) FROM jobs j
             JOIN stages s ON s.run = j.run AND s.stage = j.stage JOIN inputs i ON i.job = j.id
             WHERE j.run = ?1 AND j.priority = ?4 AND j.state = 'ready' AND j.run_after <= ?2 AND j.crashes ",
            $crashes,
            " AND s.state IN ('open', 'sealed') AND j.kind <> 'group' AND ",
            $which,
            " ORDER BY j.run_after, j.id LIMIT ?3"
        )
    };
}

impl Suspects {
    /// Children take no place of their stage: their group has one.
    fn children(self) -> &'static str {
        match self {
            Self::No => due!("= 0", "j.parent <> ''"),
            Self::Yes => due!("> 0", "j.parent <> ''"),
        }
    }

    fn of_stage(self) -> &'static str {
        match self {
            Self::No => due!("= 0", "j.stage = ?5 AND j.parent = ''"),
            Self::Yes => due!("> 0", "j.stage = ?5 AND j.parent = ''"),
        }
    }
}

/// A job that a claim may take.
pub(crate) struct Due {
    pub(crate) job: Claimed,
    /// Its process may have died of it.
    suspect: bool,
    pub(crate) uses_services: bool,
    /// Only so many jobs of its key are under way at a time.
    pub(crate) is_keyed: bool,
}

/// Of one priority at most `limit`, and of a stage no more than it has places for (INV-10).
fn due(
    tx: &Tx<'_>,
    run: &RunId,
    node: &NodeRef,
    limit: u32,
    places: &mut [Places],
    (priority, suspects): (Priority, Suspects),
) -> Result<Vec<Due>, StoreError> {
    let (now, priority) = (tx.now().as_micros(), priority.number());
    let claimed = |row: &Columns<'_>| {
        let (job, key, stage) = (row.get()?, JobKey::new(row.get::<String>()?), row.get()?);
        let attempt = row.get::<u32>()? + 1;
        let lease = Lease { run: run.clone(), job, key, attempt, node: node.clone() };
        let claimed = Claimed { lease, stage, input: row.json()?, calls: Vec::new() };
        let (suspect, after) = (row.get()?, row.get::<i64>()?);
        let (uses_services, is_keyed) = (row.get()?, row.get()?);
        Ok((after, Due { job: claimed, suspect, uses_services, is_keyed }))
    };
    let children = tx.rows(suspects.children(), (run.as_str(), now, limit, priority), claimed)?;
    let mut due: Vec<_> = children.into_iter().map(|(after, due)| (after, None, due)).collect();
    for (place, Places { stage, free, .. }) in
        places.iter().enumerate().filter(|(_, it)| it.is_open && it.free > 0)
    {
        let asked = (run.as_str(), now, limit.min(*free), priority, stage);
        let found = tx.rows(suspects.of_stage(), asked, claimed)?;
        due.extend(found.into_iter().map(|(after, due)| (after, Some(place), due)));
    }
    due.sort_by_key(|(after, _, due)| (*after, due.job.lease.job));
    due.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    for place in due.iter().filter_map(|(_, place, _)| *place) {
        if let Some(places) = places.get_mut(place) {
            places.free = places.free.saturating_sub(1);
        }
    }
    Ok(due.into_iter().map(|(_, _, due)| due).collect())
}

/// Whether the node works on a job that its process may have died of.
fn holds_suspect(tx: &Tx<'_>, node: &NodeRef) -> Result<bool, StoreError> {
    let held = tx.row(
        "SELECT 1 FROM jobs WHERE lease_node = ?1 AND lease_incarnation = ?2 AND state = 'leased'
         AND crashes > 0 LIMIT 1",
        (&node.node, int(node.incarnation)),
        |_| Ok(()),
    )?;
    Ok(held.is_some())
}

pub(crate) fn release(tx: &Tx<'_>, lease: &Lease, why: &str) -> Result<AttemptRecord, StoreError> {
    let mut journal = require_live(tx, lease)?;
    let uncertain =
        ending::end_attempt(tx, lease.job, &Ending::of(lease.attempt, AttemptEnd::Released))?;
    give_back(tx, lease.job, lease.attempt, AttemptEnd::Released)?;
    let why = json!({ "why": cut(why) });
    journal.note_job(tx, "attempt_released", &lease.key, Some(lease.attempt), why)?;
    if uncertain {
        ending::note_uncertain(tx, &mut journal, &lease.key, lease.attempt)?;
    }
    journal.finish(tx, false)?;
    view::attempt(tx, lease.job, lease.attempt)?.ok_or_else(|| stale(lease))
}

/// A job leased to an incarnation that has ended.
struct Orphan {
    job: i64,
    run: RunId,
    key: JobKey,
    attempt: u32,
    exhausted: bool,
}

/// Those that can be given back come first, so that the others never stand in their way. What was reported,
/// or rescued, since it was found is left alone. So is, for this time, what somebody's transaction holds: a node that
/// was cut off amid one keeps nobody waiting for the rest.
pub(crate) fn rescue(
    tx: &Tx<'_>,
    run: Option<&RunId>,
    limit: u32,
) -> Result<Vec<Rescued>, StoreError> {
    if run.is_none() && tx.is_settling() {
        return Ok(Vec::new());
    }
    node::end_expired(tx)?;
    let orphans = tx.rows(
        "SELECT j.id, j.run, j.key, j.attempt,
         j.crashes + 1 >= j.crashes_max AS exhausted
         FROM jobs j JOIN runs r ON r.run = j.run JOIN heads h ON h.stream = j.run
         JOIN nodes n ON n.node = j.lease_node AND n.incarnation = j.lease_incarnation
         WHERE j.state = 'leased' AND n.ended_at IS NOT NULL AND (?1 IS NULL OR j.run = ?1)
         AND r.state IN ('pending', 'running', 'paused', 'cancelling', 'compensating')
         ORDER BY exhausted, j.id LIMIT ?2 /*skip FOR UPDATE OF h SKIP LOCKED*/",
        (run.map(RunId::as_str), limit),
        |row| {
            Ok(Orphan {
                job: row.get()?,
                run: row.read(|id: String| RunId::parse(id))?,
                key: JobKey::new(row.get::<String>()?),
                attempt: row.get()?,
                exhausted: row.get()?,
            })
        },
    )?;
    // In one order everywhere, so that two that rescue at the same time wait for each other and not in a circle.
    let mut places: Vec<usize> = (0..orphans.len()).collect();
    places.sort_by_key(|place| orphans.get(*place).map(|orphan| (orphan.run.as_str(), orphan.job)));
    let mut rescued = Vec::with_capacity(orphans.len());
    for place in places {
        let Some(orphan) = orphans.get(place) else { continue };
        if let Some(uncertain) = give_back_orphan(tx, orphan)? {
            let Orphan { run, key, attempt, exhausted, .. } = orphan;
            let (run, key, attempt, exhausted) = (run.clone(), key.clone(), *attempt, *exhausted);
            rescued.push((place, Rescued { run, key, attempt, uncertain, exhausted }));
        }
    }
    rescued.sort_by_key(|(place, _)| *place);
    Ok(rescued.into_iter().map(|(_, rescued)| rescued).collect())
}

/// Ends the attempt of an orphan and makes it Ready, unless it has no attempt left. Whether it called out
/// without a recorded reply; None when somebody else was there first.
fn give_back_orphan(tx: &Tx<'_>, orphan: &Orphan) -> Result<Option<bool>, StoreError> {
    let Orphan { job, run, key, attempt, exhausted } = orphan;
    let (job, attempt) = (*job, *attempt);
    if *exhausted {
        return ending::has_open_call(tx, job, attempt).map(Some);
    }
    let (mut journal, _) = Journal::of_run(tx, run)?;
    let orphaned = tx.row(
        "SELECT 1 FROM jobs WHERE id = ?1 AND state || '' = 'leased' AND attempt = ?2",
        (job, attempt),
        |_| Ok(()),
    )?;
    if orphaned.is_none() {
        return Ok(None);
    }
    let uncertain = ending::end_attempt(tx, job, &Ending::of(attempt, AttemptEnd::Expired))?;
    give_back(tx, job, attempt, AttemptEnd::Expired)?;
    journal.note_job(tx, "attempt_expired", key, Some(attempt), Value::Null)?;
    if uncertain {
        ending::note_uncertain(tx, &mut journal, key, attempt)?;
    }
    journal.finish(tx, false)?;
    Ok(Some(uncertain))
}

/// Makes a leased job Ready at once, for an attempt that ended as `end`.
fn give_back(tx: &Tx<'_>, job: i64, attempt: u32, end: AttemptEnd) -> Result<(), StoreError> {
    tx.change(
        "UPDATE jobs SET state = ?3, attempts_used = attempts_used + ?4, crashes = crashes + ?5,
         run_after = 0, lease_node = NULL, lease_incarnation = NULL
         WHERE id = ?1 AND state || '' = 'leased' AND attempt = ?2",
        (job, attempt, JobState::Ready.name(), end.uses_budget(), end == AttemptEnd::Expired),
        || StoreError::StaleAttempt { job, attempt },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use perennial_core::Timestamp;
    use rusqlite::{Connection, params_from_iter};

    use super::*;
    use crate::schema;

    /// How the engine of files finds what a statement asks for.
    fn plan(connection: &Connection, sql: &str) -> String {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = vec![1; statement.parameter_count()];
        let steps = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3));
        steps.unwrap().map(Result::unwrap).collect::<Vec<_>>().join("; ")
    }

    /// What a claim costs grows neither with the jobs of the run nor with those that wait: it looks through those that it
    /// may take, and through those that take places.
    #[test]
    fn a_claim_looks_through_nothing_that_it_cannot_take() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::create(&mut connection, Path::new("x"), Timestamp::from_micros(7)).unwrap();
        for suspects in [Suspects::No, Suspects::Yes] {
            let by = "jobs_ready_child (run=? AND priority=? AND run_after<?)";
            let found = plan(&connection, suspects.children());
            assert!(found.contains(by) && !found.contains("ORDER BY"), "{found}");
            let by = "jobs_ready_of_stage (run=? AND stage=? AND priority=? AND run_after<?)";
            let found = plan(&connection, suspects.of_stage());
            assert!(found.contains(by) && !found.contains("ORDER BY"), "{found}");
        }
        let found = plan(&connection, PLACES);
        assert!(found.contains("jobs_held_of_stage (run=? AND stage=? AND parent=?)"), "{found}");
        let found = plan(&connection, creation::PARENT);
        assert!(found.contains("jobs_group (run=? AND stage=? AND key=?)"), "{found}");
    }
}
