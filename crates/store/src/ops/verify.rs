//! Reads what the checker compares: one stream, or the rows of one table, at a time and in pieces.

mod numbers;

use std::collections::BTreeMap;

use perennial_core::{
    Digest,
    run::{JobKind, JobState, RunId},
};

use super::{journal, sequence, view};
use crate::{
    AttemptRecord, Rule, StoreError, VerifyCursor, VerifyStep, Violation,
    check::{
        CallRow, Content, Findings, Fold, JobRow, Place, RunRow, StagePlan, StageRow, compare,
    },
    transaction::{Columns, Tx, int},
};

pub(crate) fn step(
    tx: &Tx<'_>,
    cursor: VerifyCursor,
    limit: u32,
) -> Result<VerifyStep, StoreError> {
    match cursor.0 {
        Place::After(after) => {
            let next = tx.row(
                "SELECT stream FROM streams WHERE stream > ?1 ORDER BY stream LIMIT 1",
                [&after],
                |row| row.get::<String>(),
            )?;
            match next {
                Some(stream) => stream_step(tx, stream, Box::default(), true, limit),
                None => orphans(tx, 0, String::new(), limit),
            }
        }
        Place::In { stream, fold, more } => stream_step(tx, stream, fold, more, limit),
        Place::Orphans { table, after } => orphans(tx, table, after, limit),
        Place::Numbers { of, last } => numbers::numbers(tx, of, last, limit),
    }
}

/// What was read, or nothing and a violation where it cannot be understood.
fn readable<T>(
    read: Result<T, StoreError>,
    rule: Rule,
    findings: &mut Findings,
) -> Result<Option<T>, StoreError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(StoreError::Unreadable { what, why }) => {
            findings.add(rule, format!("{what} cannot be read: {why}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn stream_step(
    tx: &Tx<'_>,
    stream: String,
    mut fold: Box<Fold>,
    more: bool,
    limit: u32,
) -> Result<VerifyStep, StoreError> {
    // Of a run that is being removed, only a part is there.
    let kind = tx.row(
        "SELECT kind FROM streams WHERE stream = ?1 AND NOT EXISTS
         (SELECT 1 FROM removed r WHERE r.run = streams.stream AND r.pending = 1)",
        [&stream],
        |row| row.get::<String>(),
    )?;
    let after = |stream: &String| more.then(|| VerifyCursor(Place::After(stream.clone())));
    let Some(kind) = kind else {
        if !more {
            return Err(StoreError::NotFound { what: "stream", id: stream });
        }
        // Removed since its last piece.
        let next = after(&stream);
        return Ok(VerifyStep {
            violations: Vec::new(),
            stream: None,
            kind: None,
            complete: true,
            events: 0,
            next,
        });
    };
    let mut findings = std::mem::take(&mut fold.findings);
    let read = journal::rows(tx, &stream, fold.next_seq, limit.max(1));
    let rows = readable(read, Rule::Sequence, &mut findings)?;
    let events = rows.as_ref().map_or(0, Vec::len);
    let complete = rows.as_ref().is_none_or(|rows| rows.len() < limit.max(1) as usize);
    let broken = rows.is_none();
    follow(&mut fold, rows.unwrap_or_default(), kind == "run", &mut findings);
    if complete && !broken {
        head(tx, &stream, &fold, &mut findings)?;
        if kind == "run" {
            let read = content(tx, &stream);
            match readable(read, Rule::Fold, &mut findings)? {
                Some(Some(content)) => {
                    counts(tx, &stream, &content, &mut findings)?;
                    nodes(tx, &stream, &mut findings)?;
                    compare(&fold, &content, &mut findings);
                    given(tx, &stream, &fold, &mut findings)?;
                }
                Some(None) => findings.add(Rule::Orphans, "its run is not there"),
                None => (),
            }
        }
    }
    let (violations, kind) = (findings.take(&stream), Some(kind));
    let next = if complete {
        after(&stream)
    } else {
        Some(VerifyCursor(Place::In { stream: stream.clone(), fold, more }))
    };
    Ok(VerifyStep { violations, stream: Some(stream), kind, complete, events: events as u64, next })
}

/// Follows the chain, and a run's events into what they tell of its rows.
fn follow(
    fold: &mut Fold,
    rows: Vec<(crate::EventRecord, String, String)>,
    is_run: bool,
    findings: &mut Findings,
) {
    for (mut event, data, hash) in rows {
        let seq = event.seq;
        if seq != fold.next_seq {
            findings.at(Rule::Sequence, fold.next_seq, "the event is missing");
        } else if journal::chained(&fold.hash, &event, &data) != hash {
            findings.at(Rule::Sequence, seq, "the event, or its hash, was changed");
        }
        if event.at.as_micros() < fold.last_at {
            findings.at(Rule::Sequence, seq, "the event is earlier than the one before");
        }
        (fold.next_seq, fold.hash, fold.last_at) = (seq + 1, hash, event.at.as_micros());
        match serde_json::from_str(&data) {
            Ok(data) => event.data = data,
            Err(error) => findings.at(Rule::Sequence, seq, format!("its data: {error}")),
        }
        if is_run {
            fold.findings = std::mem::take(findings);
            fold.take(&event);
            *findings = std::mem::take(&mut fold.findings);
        }
    }
}

/// The end of the stream as it is kept, compared with its events.
fn head(tx: &Tx<'_>, stream: &str, fold: &Fold, findings: &mut Findings) -> Result<(), StoreError> {
    let read = tx.row("SELECT next_seq, hash FROM heads WHERE stream = ?1", [stream], |row| {
        Ok((row.count()?, row.get::<String>()?))
    });
    match readable(read, Rule::Sequence, findings)? {
        None => (),
        Some(None) => findings.add(Rule::Orphans, "its head is not there"),
        Some(Some((next_seq, _))) if next_seq != fold.next_seq => {
            let (last, told) = (fold.next_seq.saturating_sub(1), next_seq.saturating_sub(1));
            findings.at(Rule::Sequence, last, format!("the last event; its head says {told}"));
        }
        Some(Some((next_seq, hash))) if hash != fold.hash => {
            let last = next_seq.saturating_sub(1);
            findings.at(Rule::Sequence, last, "the last event has another hash than its head says");
        }
        Some(Some(_)) => (),
    }
    Ok(())
}

/// The numbers of a run. A run that was removed before it, and had its id, may have left others.
fn given(tx: &Tx<'_>, id: &str, fold: &Fold, findings: &mut Findings) -> Result<(), StoreError> {
    let (Some(run), Ok(id)) = (&fold.run, RunId::parse(id)) else { return Ok(()) };
    let read = sequence::of_run(tx, &id);
    if let Some(mut rows) = readable(read, Rule::Allocations, findings)? {
        rows.retain(|row| row.allocated_at.as_micros() >= run.created_at);
        fold.numbers.compare(&rows, findings);
    }
    Ok(())
}

/// The rows of a run.
fn content(tx: &Tx<'_>, id: &str) -> Result<Option<Content>, StoreError> {
    let Some(run) = run(tx, id)? else { return Ok(None) };
    let stages = tx.rows(
        "SELECT stage, ordinal, state, outcome, feed, upstream, concurrency, required, weight
         FROM stages WHERE run = ?1 ORDER BY ordinal",
        [id],
        |row| {
            let (stage, ordinal, state) = (row.get()?, row.count()?, row.parse()?);
            let outcome = row.parse_maybe()?;
            let plan = StagePlan {
                feed: row.parse()?,
                upstream: row.get()?,
                concurrency: row.get::<Option<i64>>()?.map(i64::unsigned_abs),
                required: row.get()?,
                weight: row.count()?,
            };
            Ok(StageRow { stage, ordinal, state, outcome, plan })
        },
    )?;
    let mut jobs = tx.rows(
        "SELECT j.id, j.stage, j.key, j.kind, j.parent, j.state, j.skipped, j.attempt, j.attempts_used,
         j.max_attempts, j.crashes, j.crashes_max, j.run_after, j.lease_node, j.lease_incarnation,
         n.node IS NOT NULL, w.job IS NOT NULL, j.dead_letter, i.data, r.data, j.priority FROM jobs j
         LEFT JOIN inputs i ON i.job = j.id LEFT JOIN results r ON r.job = j.id
         LEFT JOIN nodes n ON n.node = j.lease_node AND n.incarnation = j.lease_incarnation
         LEFT JOIN waits w ON w.job = j.id AND w.ended_as IS NULL
         WHERE j.run = ?1 ORDER BY j.id",
        [id],
        job,
    )?;
    let uses = tx.rows(
        "SELECT u.job, u.service, u.key FROM uses u JOIN jobs j ON j.id = u.job WHERE j.run = ?1
         ORDER BY u.job, u.service, u.key",
        [id],
        |row| Ok((row.get::<i64>()?, row.get::<String>()?, row.get::<String>()?)),
    )?;
    for (id, service, key) in uses {
        if let Ok(place) = jobs.binary_search_by_key(&id, |job: &JobRow| job.id) {
            jobs[place].uses.push((service, key));
        }
    }
    let keyed = tx.rows(
        "SELECT k.job, k.key, k.most, EXISTS (SELECT 1 FROM turns t WHERE t.job = k.job AND t.key = k.key)
         FROM keyed k JOIN jobs j ON j.id = k.job WHERE j.run = ?1",
        [id],
        |row| Ok((row.get::<i64>()?, (row.get::<String>()?, row.count()?), row.get::<bool>()?)),
    )?;
    for (id, limit, has_turn) in keyed {
        if let Ok(place) = jobs.binary_search_by_key(&id, |job: &JobRow| job.id) {
            (jobs[place].limit, jobs[place].has_turn) = (Some(limit), has_turn);
        }
    }
    let mut attempts: BTreeMap<i64, Vec<AttemptRecord>> = BTreeMap::new();
    for attempt in view::attempts(tx, id)? {
        attempts.entry(attempt.job).or_default().push(attempt);
    }
    let mut calls: BTreeMap<i64, Vec<CallRow>> = BTreeMap::new();
    let rows = tx.rows(
        "SELECT c.job, c.name, c.reply FROM checkpoints c JOIN jobs j ON j.id = c.job
         WHERE j.run = ?1",
        [id],
        |row| Ok((row.get::<i64>()?, CallRow { name: row.get()?, reply: digest_maybe(row)? })),
    )?;
    for (job, call) in rows {
        calls.entry(job).or_default().push(call);
    }
    let timers =
        tx.row("SELECT COUNT(*) FROM timers WHERE run = ?1", [id], |row| row.count())?.unwrap_or(0);
    let holds = tx.rows(
        "SELECT h.job, h.attempt FROM holds h JOIN jobs j ON j.id = h.job WHERE j.run = ?1",
        [id],
        |row| Ok((row.get()?, row.get()?)),
    )?;
    Ok(Some(Content { run, stages, jobs, attempts, calls, timers, holds }))
}

fn run(tx: &Tx<'_>, id: &str) -> Result<Option<RunRow>, StoreError> {
    tx.row(
        "SELECT r.workflow, r.definition, b.bytes, r.input_digest, r.settings, r.state, r.failure,
         r.created_at, r.finished_at, r.deadline, s.created_at, s.closed_at, r.progress, r.priority
         FROM runs r
         JOIN streams s ON s.stream = r.run LEFT JOIN blobs b ON b.digest = r.definition
         WHERE r.run = ?1",
        [id],
        |row| {
            let (workflow, definition) = (row.get()?, row.get()?);
            let bytes = row.get::<Option<Vec<u8>>>()?;
            Ok(RunRow {
                workflow,
                definition,
                definition_bytes: bytes.map(|bytes| Digest::of(&bytes).to_string()),
                input_digest: row.get()?,
                settings: digest(row.get()?),
                state: row.parse()?,
                failure: digest_maybe(row)?,
                created_at: row.get()?,
                finished_at: row.get()?,
                deadline: row.get()?,
                stream_created_at: row.get()?,
                closed_at: row.get()?,
                progress: row.get()?,
                priority: row.get()?,
            })
        },
    )
}

fn job(row: &Columns<'_>) -> Result<JobRow, StoreError> {
    Ok(JobRow {
        id: row.get()?,
        stage: row.get()?,
        key: row.get()?,
        kind: row.parse()?,
        parent: row.get()?,
        state: row.parse()?,
        skipped: row.parse_maybe()?,
        attempt: row.get()?,
        attempts_used: row.get()?,
        max_attempts: row.get()?,
        crashes: row.get()?,
        crashes_max: row.get()?,
        run_after: row.get()?,
        lease: view::node(row)?,
        lease_known: row.get()?,
        waits: row.get()?,
        dead_letter: row.get()?,
        input: digest_maybe(row)?,
        result: digest_maybe(row)?,
        uses: Vec::new(),
        limit: None,
        priority: row.get()?,
        has_turn: false,
    })
}

fn digest(text: String) -> String {
    Digest::of(text.as_bytes()).to_string()
}

fn digest_maybe(row: &Columns<'_>) -> Result<Option<String>, StoreError> {
    Ok(row.get::<Option<String>>()?.map(digest))
}

/// What the list of runs says of this one.
fn counts(
    tx: &Tx<'_>,
    id: &str,
    content: &Content,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let Some(line) = readable(view::summary_of(tx, id), Rule::Counts, findings)? else {
        return Ok(());
    };
    let Some(line) = line else {
        findings.add(Rule::Counts, "the list of runs lacks it");
        return Ok(());
    };
    let shown =
        |key: &str| !key.starts_with('#') && !key.contains('/') && !key.ends_with("[error]");
    let is_listed =
        |job: &&JobRow| job.parent.is_empty() && (job.kind != JobKind::Step || shown(&job.key));
    let jobs = || content.jobs.iter().filter(is_listed);
    let done = jobs().filter(|job| job.state.is_terminal()).count() as u64;
    for (name, listed, is) in
        [("jobs", line.jobs, jobs().count() as u64), ("jobs done", line.jobs_done, done)]
    {
        if listed != is {
            findings.add(
                Rule::Counts,
                format!("the list of runs says {listed} {name}, there are {is}"),
            );
        }
    }
    if line.state != content.run.state {
        findings.add(Rule::Counts, format!("the list of runs says it is {}", line.state));
    }
    let leased = content.jobs.iter().filter(|job| job.state == JobState::Leased).count() as u64;
    let rows = tx.row(
        "SELECT COUNT(*) FROM jobs WHERE run = ?1 AND state = 'leased' AND lease_node IS NOT NULL",
        [id],
        |row| row.count(),
    )?;
    if rows != Some(leased) {
        findings.add(Rule::Counts, format!("{rows:?} jobs are held, and {leased} are leased"));
    }
    Ok(())
}

/// Owners and those who made attempts are nodes that are there (INV-ST-14).
fn nodes(tx: &Tx<'_>, id: &str, findings: &mut Findings) -> Result<(), StoreError> {
    let unknown = tx.row(
        "SELECT a.node FROM attempts a JOIN jobs j ON j.id = a.job WHERE j.run = ?1 AND NOT EXISTS
         (SELECT 1 FROM nodes n WHERE n.node = a.node AND n.incarnation = a.incarnation)
         UNION ALL SELECT s.owner_node FROM streams s WHERE s.stream = ?1
         AND s.owner_node IS NOT NULL AND NOT EXISTS (SELECT 1 FROM nodes n
         WHERE n.node = s.owner_node AND n.incarnation = s.owner_incarnation) LIMIT 1",
        [id],
        |row| row.get::<String>(),
    );
    if let Some(Some(node)) = readable(unknown, Rule::Orphans, findings)? {
        findings.add(Rule::Orphans, format!("it names the node {node}, which is not there"));
    }
    Ok(())
}

/// Rows that belong to rows of another table: table, its column, and the statement that finds the other row.
const BELONGS: [(&str, &str, &str); 8] = [
    ("events", "stream", "SELECT 1 FROM streams WHERE stream = ?1"),
    ("heads", "stream", "SELECT 1 FROM streams WHERE stream = ?1"),
    ("runs", "run", "SELECT 1 FROM streams WHERE stream = ?1 AND kind = 'run'"),
    ("stages", "run", "SELECT 1 FROM runs WHERE run = ?1"),
    ("jobs", "run", "SELECT 1 FROM stages WHERE run = ?1"),
    ("timers", "run", "SELECT 1 FROM runs WHERE run = ?1"),
    ("signals", "run", "SELECT 1 FROM runs WHERE run = ?1"),
    ("blob_uses", "run", "SELECT 1 FROM runs WHERE run = ?1"),
];

/// Rows that belong to jobs.
const OF_JOBS: [&str; 11] = [
    "attempts",
    "inputs",
    "results",
    "checkpoints",
    "saved",
    "beats",
    "waits",
    "holds",
    "uses",
    "keyed",
    "turns",
];

/// Job ids that one question covers, for each row that a step may read.
const IDS_PER_ROW: i64 = 20;

/// Rows of one table that belong to nothing, behind `after`.
fn orphans(tx: &Tx<'_>, table: usize, after: String, limit: u32) -> Result<VerifyStep, StoreError> {
    let mut findings = Findings::default();
    let next = if let Some((name, column, parent)) = BELONGS.get(table) {
        let sql =
            format!("SELECT {column} FROM {name} WHERE {column} > ?1 ORDER BY {column} LIMIT 1");
        let mut at = Some(after);
        for _ in 0..limit.max(1) {
            let Some(last) = &at else { break };
            at = tx.row(&sql, [last], |row| row.get::<String>())?;
            if let Some(key) = &at
                && tx.row(parent, [key], |_| Ok(()))?.is_none()
            {
                findings.add(Rule::Orphans, format!("{name} of {key} belong to nothing"));
            }
        }
        at.map(|after| Place::Orphans { table, after })
    } else if let Some(name) = OF_JOBS.get(table - BELONGS.len()) {
        let from: i64 = after.parse().unwrap_or(i64::MIN);
        let first = tx.row(
            &format!("SELECT job FROM {name} WHERE job > ?1 ORDER BY job LIMIT 1"),
            [from],
            |row| row.get::<i64>(),
        )?;
        match first {
            None => None,
            Some(first) => {
                let last = first.saturating_add(int(u64::from(limit.max(1))) * IDS_PER_ROW);
                let found = tx.rows(
                    &format!(
                        "SELECT DISTINCT t.job FROM {name} t WHERE t.job >= ?1 AND t.job <= ?2
                         AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = t.job) LIMIT 100"
                    ),
                    (first, last),
                    |row| row.get::<i64>(),
                )?;
                for job in found {
                    findings.add(Rule::Orphans, format!("{name} of job {job} belong to nothing"));
                }
                Some(Place::Orphans { table, after: last.to_string() })
            }
        }
    } else {
        let start = Place::Numbers { of: Default::default(), last: None };
        return Ok(finished(Vec::new(), Some(VerifyCursor(start))));
    };
    let next = next.unwrap_or(Place::Orphans { table: table + 1, after: String::new() });
    Ok(finished(findings.take(""), Some(VerifyCursor(next))))
}

fn finished(violations: Vec<Violation>, next: Option<VerifyCursor>) -> VerifyStep {
    VerifyStep { violations, stream: None, kind: None, complete: true, events: 0, next }
}
