//! Reads what the checker compares of numbers: one scope of a sequence at a time, in pieces, and then the pools.

use super::finished;
use crate::{
    Rule, StoreError, VerifyCursor, VerifyStep,
    check::{Findings, NumberRow, Place, dense},
    transaction::{Tx, int},
};

/// Numbers of pools whose holder is gone that are told.
const TOLD_MAX: u32 = 100;

/// Where scopes are named.
const SCOPES: [&str; 2] = [
    "SELECT sequence, scope FROM sequences WHERE (sequence, scope) > (?1, ?2)
     ORDER BY sequence, scope LIMIT 1",
    "SELECT sequence, scope FROM allocations WHERE (sequence, scope) > (?1, ?2)
     ORDER BY sequence, scope LIMIT 1",
];

/// The numbers of `of` behind `last`; without one, those of the scope that follows `of`.
pub(super) fn numbers(
    tx: &Tx<'_>,
    of: (String, String),
    last: Option<u64>,
    limit: u32,
) -> Result<VerifyStep, StoreError> {
    let limit = limit.max(1);
    let ((sequence, scope), last) = match last {
        Some(last) => (of, last),
        None => match following(tx, &of)? {
            Some(next) => (next, 0),
            None => return pools(tx),
        },
    };
    let rows = tx.rows(
        "SELECT a.number, a.version, (SELECT COUNT(*) FROM allocation_versions v
         WHERE v.sequence = a.sequence AND v.scope = a.scope AND v.number = a.number),
         EXISTS (SELECT 1 FROM allocations b WHERE b.sequence = a.sequence AND b.scope = a.scope
         AND b.key = a.key AND b.number <> a.number)
         FROM allocations a WHERE a.sequence = ?1 AND a.scope = ?2 AND a.number > ?3
         ORDER BY a.number LIMIT ?4",
        (&sequence, &scope, int(last), limit),
        |row| {
            let (number, version) = (row.count()?, row.count()?);
            Ok(NumberRow { number, version, versions: row.count()?, shared: row.get()? })
        },
    )?;
    let next = tx.row(
        "SELECT next FROM sequences WHERE sequence = ?1 AND scope = ?2",
        (&sequence, &scope),
        |row| row.count(),
    )?;
    let ends = rows.len() < limit as usize;
    let mut findings = Findings::default();
    dense(&format!("{sequence} in {scope}"), last, &rows, next, ends, &mut findings);
    let last = rows.last().filter(|_| !ends).map(|row| row.number);
    let place = Place::Numbers { of: (sequence, scope), last };
    Ok(finished(findings.take(""), Some(VerifyCursor(place))))
}

/// The scope behind `of`.
fn following(tx: &Tx<'_>, of: &(String, String)) -> Result<Option<(String, String)>, StoreError> {
    let mut found = Vec::new();
    for sql in SCOPES {
        found.extend(tx.row(sql, (&of.0, &of.1), |row| Ok((row.get()?, row.get()?)))?);
    }
    Ok(found.into_iter().min())
}

/// A number of a pool is held by an attempt that is under way, or by none.
fn pools(tx: &Tx<'_>) -> Result<VerifyStep, StoreError> {
    let left = tx.rows(
        "SELECT s.pool, s.number FROM slot_pools s LEFT JOIN jobs j ON j.id = s.job
         LEFT JOIN attempts a ON a.job = s.job AND a.attempt = s.attempt
         WHERE s.job IS NOT NULL AND (a.job IS NULL OR a.ended_as IS NOT NULL OR j.id IS NULL
         OR j.state <> 'leased' OR j.attempt <> s.attempt) ORDER BY s.pool, s.number LIMIT ?1",
        [TOLD_MAX],
        |row| Ok((row.get::<String>()?, row.get::<i64>()?)),
    )?;
    let mut findings = Findings::default();
    for (pool, number) in left {
        let what = format!("number {number} of the pool {pool} is held by an attempt that is over");
        findings.add(Rule::Orphans, what);
    }
    Ok(finished(findings.take(""), None))
}
