//! Nodes and their incarnations.
//!
//! An incarnation lives until it has ended, and on a store that several nodes share no longer than its
//! lease. Whoever takes something from one whose lease is over ends it first ([`end_expired`]), so that it
//! can never be renewed; hence nothing but the end counts where something is taken.
//!
//! Where the store is held by one process, every opening of it has a number: an incarnation of an earlier
//! opening is dead, and so is an earlier incarnation of the same name.

use std::time::Duration;

use serde_json::Value;

use crate::{
    Leases, NodeRecord, NodeRef, NodeTerms, Registered, Renewal, StoreError,
    transaction::{Columns, Tx, int},
};

/// The report of an incarnation that gives back what it has, until it is done. No report of a drain is this.
macro_rules! draining {
    () => {
        "'{\"draining\":true}'"
    };
}

/// Incarnations of which at most so many are forgotten in a transaction: with each the engines look through all
/// attempts whether one refers to it.
const FORGOTTEN_MAX: u64 = 4;
/// How often a number is tried anew because somebody else took it.
const ROUNDS_MAX: u32 = 16;

/// Whether the incarnation `n` lives, now being the parameter `$now`.
macro_rules! alive {
    ($now:literal) => {
        concat!("(n.ended_at IS NULL AND (n.lease_until IS NULL OR n.lease_until > ", $now, "))")
    };
}
pub(crate) use alive;

/// As [`alive`], also before anybody has registered in this opening.
macro_rules! alive_or_absent {
    ($now:literal) => {
        concat!(
            "(n.node IS NOT NULL AND ",
            $crate::ops::node::alive!($now),
            " AND (n.lease_until IS NOT NULL OR n.opening >= (SELECT openings FROM meta)))"
        )
    };
}
pub(crate) use alive_or_absent;

pub(crate) fn register(
    tx: &Tx<'_>,
    name: &str,
    terms: NodeTerms,
    leases: Leases,
) -> Result<Registered, StoreError> {
    tx.lives_by(terms.ttl);
    let until = match leases {
        Leases::Proven => None,
        Leases::Timed => Some(tx.now().after(terms.ttl)),
    };
    for _ in 0..ROUNDS_MAX {
        // Nothing is written when somebody else has just taken that number.
        let incarnation = tx.row(
            "INSERT INTO nodes (node, incarnation, opening, started_at, lease_until)
             SELECT ?1, COALESCE(MAX(incarnation), 0) + 1, ?2, ?3, ?4 FROM nodes WHERE node = ?1
             ON CONFLICT (node, incarnation) DO NOTHING RETURNING incarnation",
            (name, tx.opening(), tx.now().as_micros(), until.map(|until| until.as_micros())),
            |row| row.count(),
        )?;
        if let Some(incarnation) = incarnation {
            let ended = end_earlier(tx, name, incarnation, terms, leases)?;
            let node = NodeRef { node: name.to_owned(), incarnation };
            return Ok(Registered { node, until, ended });
        }
    }
    Err(StoreError::Busy)
}

/// Ends the incarnations before this one whose death is proven: by the store's lock, by the end of their
/// lease, or by the word that the name is used once. Answers which of this name.
fn end_earlier(
    tx: &Tx<'_>,
    name: &str,
    incarnation: u64,
    terms: NodeTerms,
    leases: Leases,
) -> Result<Vec<u64>, StoreError> {
    let now = tx.now().as_micros();
    let ended = match leases {
        Leases::Timed if !terms.exclusive => tx.rows(
            "UPDATE nodes SET ended_at = ?1 WHERE node = ?2 AND incarnation < ?3
             AND ended_at IS NULL AND lease_until <= ?1 RETURNING incarnation",
            (now, name, int(incarnation)),
            |row| row.count(),
        ),
        Leases::Timed | Leases::Proven => tx.rows(
            "UPDATE nodes SET ended_at = ?1 WHERE node = ?2 AND incarnation < ?3
             AND ended_at IS NULL RETURNING incarnation",
            (now, name, int(incarnation)),
            |row| row.count(),
        ),
    };
    let mut ended = ended?;
    ended.sort_unstable();
    if leases == Leases::Proven {
        tx.write(
            "UPDATE nodes SET ended_at = ?1 WHERE ended_at IS NULL AND opening < ?2",
            (now, tx.opening()),
        )?;
    }
    Ok(ended)
}

/// Says of an incarnation that lives that it takes nothing any more (DUR-120). Repeatable.
pub(crate) fn drain(tx: &Tx<'_>, node: &NodeRef) -> Result<(), StoreError> {
    let marked = tx.write(
        concat!(
            "UPDATE nodes SET report = ",
            draining!(),
            " WHERE node = ?1 AND incarnation = ?2 AND ended_at IS NULL"
        ),
        (&node.node, int(node.incarnation)),
    )?;
    if marked == 0 && is_alive(tx, node)?.is_none() {
        return Err(unknown(node));
    }
    Ok(())
}

/// Repeatable: the first end and its report stay.
pub(crate) fn end(tx: &Tx<'_>, node: &NodeRef, report: &Value) -> Result<(), StoreError> {
    let report = tx.json("drain report", report)?;
    let changed = tx.write(
        "UPDATE nodes SET ended_at = ?1, report = ?2
         WHERE node = ?3 AND incarnation = ?4 AND ended_at IS NULL",
        (tx.now().as_micros(), report, &node.node, int(node.incarnation)),
    )?;
    if changed == 0 && is_alive(tx, node)?.is_none() {
        return Err(unknown(node));
    }
    Ok(())
}

/// Moves the end of a lease that is not over. One that is can never be renewed, whoever asks.
pub(crate) fn renew(tx: &Tx<'_>, node: &NodeRef, ttl: Duration) -> Result<Renewal, StoreError> {
    tx.lives_by(ttl);
    let until = tx.now().after(ttl);
    let extended = tx.write(
        "UPDATE nodes SET lease_until = ?1 WHERE node = ?2 AND incarnation = ?3
         AND ended_at IS NULL AND lease_until > ?4",
        (until.as_micros(), &node.node, int(node.incarnation), tx.now().as_micros()),
    )?;
    if extended == 1 {
        return Ok(Renewal::Extended { until: Some(until) });
    }
    match is_alive(tx, node)? {
        // It needs none.
        Some(true) => Ok(Renewal::Extended { until: None }),
        Some(false) => Ok(Renewal::NodeLost),
        None => Err(unknown(node)),
    }
}

/// Ends the incarnations whose lease is over: from here on the end says it all. One that a transaction holds, which
/// may be its last renewal, is left for the next time: whoever was cut off amid it keeps nobody waiting.
pub(crate) fn end_expired(tx: &Tx<'_>) -> Result<(), StoreError> {
    tx.write(
        "UPDATE nodes SET ended_at = ?1 WHERE ended_at IS NULL AND lease_until <= ?1
         AND (node, incarnation) IN (SELECT node, incarnation FROM nodes
           WHERE ended_at IS NULL AND lease_until <= ?1 /*skip FOR UPDATE SKIP LOCKED*/)",
        [tx.now().as_micros()],
    )?;
    Ok(())
}

/// Those that live, then those that have ended, the newest first.
pub(crate) fn list(tx: &Tx<'_>, limit: u32) -> Result<Vec<NodeRecord>, StoreError> {
    tx.rows(
        concat!(
            "SELECT n.node, n.incarnation, n.started_at, n.lease_until, n.ended_at,
             n.ended_at IS NOT NULL AND COALESCE(n.report, ",
            draining!(),
            ") <> ",
            draining!(),
            ", n.ended_at IS NULL AND n.report IS NOT NULL, ",
            alive_or_absent!("?1"),
            " AS alive, (SELECT COUNT(*) FROM jobs j WHERE j.state = 'leased'
               AND j.lease_node = n.node AND j.lease_incarnation = n.incarnation),
             (SELECT COUNT(*) FROM runs r JOIN streams s ON s.stream = r.run
               WHERE r.state IN ('pending', 'running', 'paused', 'cancelling', 'compensating')
               AND s.owner_node = n.node AND s.owner_incarnation = n.incarnation)
             FROM nodes n
             ORDER BY alive DESC, n.started_at DESC, n.node, n.incarnation DESC LIMIT ?2",
        ),
        (tx.now().as_micros(), limit),
        |row| {
            let node = NodeRef { node: row.get()?, incarnation: row.count()? };
            let (started_at, lease_until) = (row.instant()?, row.instant_maybe()?);
            let (ended_at, handed_over) = (row.instant_maybe()?, row.get()?);
            let (marked, alive) = (row.get::<bool>()?, row.get::<bool>()?);
            Ok(NodeRecord {
                node,
                started_at,
                lease_until,
                ended_at,
                handed_over,
                draining: marked && alive,
                alive,
                jobs: row.count()?,
                runs: row.count()?,
            })
        },
    )
}

/// Forgets incarnations that ended before `before` and to which nothing refers, so that nothing that must be rescued
/// is ever out of sight (DUR-26). The newest of each name stays: by it the next one is numbered. Whether there may
/// be more.
pub(crate) fn forget(tx: &Tx<'_>, before: i64, limit: u64) -> Result<bool, StoreError> {
    let limit = limit.min(FORGOTTEN_MAX);
    let forgotten = tx.write(
        "DELETE FROM nodes WHERE (node, incarnation) IN (
           SELECT n.node, n.incarnation FROM nodes n WHERE n.ended_at <= ?1
           AND EXISTS (SELECT 1 FROM nodes m WHERE m.node = n.node AND m.incarnation > n.incarnation)
           AND (n.node, n.incarnation) NOT IN (SELECT a.node, a.incarnation FROM attempts a)
           AND (n.node, n.incarnation) NOT IN
             (SELECT s.owner_node, s.owner_incarnation FROM streams s WHERE s.owner_node IS NOT NULL)
           AND (n.node, n.incarnation) NOT IN
             (SELECT j.lease_node, j.lease_incarnation FROM jobs j WHERE j.lease_node IS NOT NULL)
           ORDER BY n.ended_at, n.node, n.incarnation LIMIT ?2)",
        (before, int(limit)),
    )?;
    Ok(forgotten as u64 >= limit)
}

const ALIVE: &str = "SELECT n.ended_at IS NULL, n.lease_until FROM nodes n
    WHERE n.node = ?1 AND n.incarnation = ?2";

/// Says that [`require_alive`] comes next.
pub(crate) fn alive_ahead(tx: &Tx<'_>, node: &NodeRef) {
    tx.ahead(ALIVE, (&node.node, int(node.incarnation)));
}

/// Refuses to act for an incarnation that has ended, or whose lease is over.
pub(crate) fn require_alive(tx: &Tx<'_>, node: &NodeRef) -> Result<(), StoreError> {
    match is_alive(tx, node)? {
        Some(true) => Ok(()),
        Some(false) => Err(StoreError::Conflict { what: format!("node {}", name(node)) }),
        None => Err(unknown(node)),
    }
}

fn is_alive(tx: &Tx<'_>, node: &NodeRef) -> Result<Option<bool>, StoreError> {
    tx.row(ALIVE, (&node.node, int(node.incarnation)), |row| reads_alive(tx, row))
}

/// Whether an incarnation lives, by two columns: whether it has not ended, and the end of its lease. As [`alive`].
pub(crate) fn reads_alive(tx: &Tx<'_>, row: &Columns<'_>) -> Result<bool, StoreError> {
    let (open, until) = (row.get::<bool>()?, row.instant_maybe()?);
    Ok(open && until.is_none_or(|until| until > tx.now()))
}

fn unknown(node: &NodeRef) -> StoreError {
    StoreError::NotFound { what: "node", id: name(node) }
}

fn name(node: &NodeRef) -> String {
    format!("{}/{}", node.node, node.incarnation)
}
