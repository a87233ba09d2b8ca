//! What the rows of a run must be, compared with what they are.

use std::collections::{BTreeMap, BTreeSet};

use perennial_core::run::{
    AttemptEnd, Ends, JobKind, JobState, RunState, SkipReason, StageEnd, StageOutcome, StageState,
    run_outcome,
};

use super::{
    Findings, Fold, Rule,
    fold::{AttemptFold, JobFold, StagePlan},
};
use crate::{AttemptRecord, NodeRef};

/// The rows of a run as they are, with digests in place of payloads.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) run: RunRow,
    pub(crate) stages: Vec<StageRow>,
    /// In order of their ids.
    pub(crate) jobs: Vec<JobRow>,
    /// By job and number.
    pub(crate) attempts: BTreeMap<i64, Vec<AttemptRecord>>,
    /// Calls by job.
    pub(crate) calls: BTreeMap<i64, Vec<CallRow>>,
    /// Timers of the run.
    pub(crate) timers: u64,
    /// What holds services: a job, or an attempt of it.
    pub(crate) holds: Vec<(i64, Option<u32>)>,
}

#[derive(Debug)]
pub(crate) struct RunRow {
    pub(crate) workflow: String,
    pub(crate) definition: String,
    /// Digest of the definition's bytes, where they are there.
    pub(crate) definition_bytes: Option<String>,
    pub(crate) input_digest: String,
    pub(crate) settings: String,
    pub(crate) state: RunState,
    pub(crate) failure: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) finished_at: Option<i64>,
    pub(crate) deadline: Option<i64>,
    /// Of its stream, as the next one.
    pub(crate) stream_created_at: i64,
    pub(crate) closed_at: Option<i64>,
    pub(crate) progress: Option<u32>,
    pub(crate) priority: i64,
}

#[derive(Debug)]
pub(crate) struct StageRow {
    pub(crate) stage: String,
    pub(crate) ordinal: u64,
    pub(crate) state: StageState,
    pub(crate) outcome: Option<StageOutcome>,
    pub(crate) plan: StagePlan,
}

#[derive(Debug)]
pub(crate) struct JobRow {
    pub(crate) id: i64,
    pub(crate) stage: String,
    pub(crate) key: String,
    pub(crate) kind: JobKind,
    /// Empty where it is no child of a group.
    pub(crate) parent: String,
    pub(crate) state: JobState,
    pub(crate) skipped: Option<SkipReason>,
    pub(crate) attempt: u32,
    pub(crate) attempts_used: u32,
    pub(crate) max_attempts: u32,
    pub(crate) crashes: u32,
    pub(crate) crashes_max: u32,
    pub(crate) run_after: i64,
    pub(crate) lease: Option<NodeRef>,
    /// Whether the node of the lease is known.
    pub(crate) lease_known: bool,
    /// Whether it has an open wait.
    pub(crate) waits: bool,
    pub(crate) dead_letter: bool,
    pub(crate) input: Option<String>,
    pub(crate) result: Option<String>,
    /// Service and key of each instance that it uses, in order.
    pub(crate) uses: Vec<(String, String)>,
    /// The key of its limit across runs, and how many.
    pub(crate) limit: Option<(String, u64)>,
    pub(crate) priority: i64,
    /// Whether it has its turn.
    pub(crate) has_turn: bool,
}

#[derive(Debug)]
pub(crate) struct CallRow {
    pub(crate) name: String,
    pub(crate) reply: Option<String>,
}

/// Compares, field by field, what is told with what is there.
macro_rules! differ {
    ($findings:expr, $whose:expr, $($name:literal: $told:expr, $is:expr;)+) => {{$(
        if let (Some(told), is) = ($told, $is) && told != is {
            $findings.add(
                Rule::Fold,
                format!("{} has {} {is:?}, and its events say {told:?}", $whose, $name),
            );
        }
    )+}};
}

/// All rules about a run's rows.
pub(crate) fn compare(fold: &Fold, content: &Content, findings: &mut Findings) {
    unique(&content.jobs, findings);
    runs(fold, &content.run, findings);
    stages(fold, content, findings);
    for job in &content.jobs {
        let attempts = content.attempts.get(&job.id).map_or(&[][..], Vec::as_slice);
        let calls = content.calls.get(&job.id).map_or(&[][..], Vec::as_slice);
        match fold.jobs.get(&job.key) {
            None => findings.add(Rule::Fold, format!("job {} is told by no event", job.key)),
            Some(told) if told.shared => (),
            Some(told) => {
                jobs(told, job, findings);
                attempts_of(told, job, attempts, findings);
                payloads(told, job, calls, findings);
            }
        }
        budget(job, attempts, findings);
        waiting(job, content, findings);
    }
    for key in fold.jobs.keys() {
        if !content.jobs.iter().any(|job| job.key == *key) {
            findings.add(Rule::Fold, format!("job {key} of its events is not there"));
        }
    }
    groups(fold, content, findings);
    holds(content, findings);
    outcome(content, findings);
}

/// A child has a group, which is expanded exactly when it has children or may have none; a group that has ended has no
/// child that has not; no stage has more under way than it has places for.
fn groups(fold: &Fold, content: &Content, findings: &mut Findings) {
    let groups: BTreeMap<(&str, &str), &JobRow> = content
        .jobs
        .iter()
        .filter(|job| job.kind == JobKind::Group)
        .map(|job| ((job.stage.as_str(), job.key.as_str()), job))
        .collect();
    for child in content.jobs.iter().filter(|job| !job.parent.is_empty()) {
        let key = &child.key;
        match groups.get(&(child.stage.as_str(), child.parent.as_str())) {
            None => findings.add(
                Rule::Orphans,
                format!("job {key} is a child of {}, which is no group", child.parent),
            ),
            // In a further round children wait for their group to be expanded again.
            Some(group)
                if matches!(group.state, JobState::Ready | JobState::Blocked)
                    && !(child.state == JobState::Blocked || child.state.is_terminal()) =>
            {
                let what = format!("job {key} is a child of {}, which is not expanded", group.key);
                findings.add(Rule::Groups, what);
            }
            Some(group) if group.state.is_terminal() && !child.state.is_terminal() => {
                let what = format!(
                    "group {} is {}, and its child {key} is {}",
                    group.key, group.state, child.state
                );
                findings.add(Rule::Groups, what);
            }
            Some(_) => (),
        }
    }
    for stage in &content.stages {
        let Some(most) = stage.plan.concurrency else { continue };
        let holds = |job: &&JobRow| {
            let held = matches!(job.state, JobState::Leased | JobState::Joining);
            held && job.stage == stage.stage && job.parent.is_empty()
        };
        let held = content.jobs.iter().filter(holds).count() as u64;
        let ever = fold.stages.get(&stage.stage).and_then(|told| told.places_max);
        if held > most.max(ever.unwrap_or(0)) {
            let what =
                format!("stage {} has {held} jobs under way, and places for {most}", stage.stage);
            findings.add(Rule::Places, what);
        }
    }
}

/// A key of a stage has one job.
fn unique(jobs: &[JobRow], findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for job in jobs {
        if !seen.insert((&job.stage, &job.key)) {
            let what = format!("stage {} has job {} more than once", job.stage, job.key);
            findings.add(Rule::Orphans, what);
        }
    }
}

fn runs(fold: &Fold, row: &RunRow, findings: &mut Findings) {
    let Some(told) = &fold.run else {
        return findings.add(Rule::Fold, "no event tells of the run's creation");
    };
    differ!(findings, "the run",
        "state": Some(told.state), row.state;
        "workflow": Some(&told.workflow), &row.workflow;
        "definition": Some(&told.definition), &row.definition;
        "input digest": told.input_digest.as_ref(), &row.input_digest;
        "settings of digest": told.settings.as_ref(), &row.settings;
        "deadline": told.deadline, row.deadline;
        "created_at": Some(told.created_at), row.created_at;
        "finished_at": Some(told.finished_at), row.finished_at;
        "a stream created at": Some(told.created_at), row.stream_created_at;
        "a stream closed at": Some(told.finished_at), row.closed_at;
        "progress": Some(told.progress), row.progress;
        "priority": Some(told.priority), row.priority;
    );
    if told.failure.is_some() && told.failure != row.failure {
        findings.add(Rule::Fold, "the run's failure is not the one of its events");
    }
    match &row.definition_bytes {
        Some(digest) if *digest == row.definition => (),
        Some(_) => findings.add(Rule::Payloads, "the bytes of its definition have another digest"),
        None => findings.add(Rule::Payloads, "its definition is not there"),
    }
}

fn stages(fold: &Fold, content: &Content, findings: &mut Findings) {
    for row in &content.stages {
        let name = &row.stage;
        let whose = format!("stage {name}");
        match fold.stages.get(name) {
            None => findings.add(Rule::Fold, format!("{whose} is told by no event")),
            Some(told) => differ!(findings, whose,
                "place": Some(told.ordinal), row.ordinal;
                "state": Some(told.state), row.state;
                "outcome": Some(told.outcome), row.outcome;
                "plan": Some(&told.plan), &row.plan;
            ),
        }
        let closed = row.state == StageState::Closed;
        if !closed && row.outcome.is_some() {
            findings.add(Rule::Closed, format!("{whose} has an outcome and is {}", row.state));
        }
        let open = content.jobs.iter().find(|job| job.stage == *name && !job.state.is_terminal());
        if let (true, Some(job)) = (closed, open) {
            findings.add(
                Rule::Closed,
                format!("{whose} is closed and its job {} is {}", job.key, job.state),
            );
        }
    }
    for name in fold.stages.keys() {
        if !content.stages.iter().any(|row| row.stage == *name) {
            findings.add(Rule::Fold, format!("stage {name} of its events is not there"));
        }
    }
}

fn jobs(told: &JobFold, row: &JobRow, findings: &mut Findings) {
    let skipped =
        (told.state != JobState::Skipped || told.skipped.is_some()).then_some(told.skipped);
    differ!(findings, format!("job {}", row.key),
        "stage": Some(&told.stage), &row.stage;
        "kind": Some(told.kind), row.kind;
        "parent": Some(told.parent.as_deref().unwrap_or("")), row.parent.as_str();
        "state": Some(told.state), row.state;
        "skip reason": skipped, row.skipped;
        "services": Some(&told.uses), &row.uses;
        "limit": Some(&told.limit), &row.limit;
        "priority": Some(told.priority), row.priority;
        "attempt": Some(told.attempts.last().map_or(0, |last| last.number)), row.attempt;
        "attempts used": told.used, row.attempts_used;
        "at most attempts": told.max, row.max_attempts;
        "crashes": told.crashes, row.crashes;
        "at most crashes": told.crashes_max, row.crashes_max;
        "run_after": told.run_after, row.run_after;
        "a lease of": Some(&told.lease), &row.lease;
        "a mark of a dead letter": Some(told.dead_letter), row.dead_letter;
    );
    let may_have_turn = match row.state {
        JobState::Leased | JobState::Joining => true,
        // One that is about to be expanded.
        JobState::Ready => row.kind == JobKind::Group,
        JobState::Blocked
        | JobState::Deferred
        | JobState::Suspended
        | JobState::Succeeded
        | JobState::Partial
        | JobState::Failed
        | JobState::Skipped
        | JobState::Cancelled => false,
    };
    let needs_turn =
        row.limit.is_some() && matches!(row.state, JobState::Leased | JobState::Joining);
    if row.has_turn && !may_have_turn {
        findings.add(Rule::Turns, format!("job {} is {} and has a turn", row.key, row.state));
    }
    if needs_turn && !row.has_turn {
        findings.add(Rule::Turns, format!("job {} is {} without its turn", row.key, row.state));
    }
}

fn attempts_of(told: &JobFold, job: &JobRow, rows: &[AttemptRecord], findings: &mut Findings) {
    let key = &job.key;
    if told.attempts.len() != rows.len() {
        let (events, is) = (told.attempts.len(), rows.len());
        findings
            .add(Rule::Fold, format!("job {key} has {is} attempts, and its events say {events}"));
    }
    for (told, row) in told.attempts.iter().zip(rows) {
        let whose = format!("attempt {} of job {key}", row.attempt);
        differ!(findings, whose,
            "number": Some(told.number), row.attempt;
            "node": Some(&told.node), &row.node;
            "claimed_at": Some(told.claimed_at), row.claimed_at.as_micros();
            "a mark of uncertainty": Some(told.uncertain), row.uncertain;
        );
        ends(told, row, &whose, findings);
    }
    for (number, row) in (1_u32..).zip(rows) {
        if row.attempt != number {
            findings.add(Rule::Attempts, format!("job {key} has no attempt {number}"));
            break;
        }
    }
    for row in rows.iter().filter(|row| row.end.is_none()) {
        let holds = row.attempt == job.attempt && job.lease.as_ref() == Some(&row.node);
        if !holds {
            let what =
                format!("attempt {} of job {key} has not ended and holds no lease", row.attempt);
            findings.add(Rule::Attempts, what);
        }
    }
    let live = rows.last().is_some_and(|row| row.end.is_none());
    if job.state == JobState::Leased && !live {
        findings.add(Rule::Attempts, format!("job {key} is leased to no attempt"));
    }
}

fn ends(told: &AttemptFold, row: &AttemptRecord, whose: &str, findings: &mut Findings) {
    let Some(end) = &told.ended else {
        if row.end.is_some() {
            findings.add(Rule::Fold, format!("{whose} has ended, and no event says so"));
        }
        return;
    };
    differ!(findings, whose,
        "ended_at": Some(Some(end.at)), row.ended_at.map(perennial_core::Timestamp::as_micros);
        "end": end.end.map(Some), row.end;
        "class": Some(end.class.as_deref()), row.class.map(perennial_core::FailureClass::name);
        "code": Some(&end.code), &row.code;
        "message": Some(&end.message), &row.message;
    );
}

fn payloads(told: &JobFold, row: &JobRow, calls: &[CallRow], findings: &mut Findings) {
    let key = &row.key;
    match (&told.input, &row.input) {
        (_, None) => findings.add(Rule::Payloads, format!("job {key} has no input")),
        (Some(told), Some(is)) if told != is => {
            findings.add(Rule::Payloads, format!("the input of job {key} has another digest"));
        }
        (Some(_) | None, Some(_)) => (),
    }
    match row.state {
        JobState::Succeeded | JobState::Partial if row.result.is_none() => {
            findings.add(Rule::Results, format!("job {key} is {} and has no result", row.state));
        }
        JobState::Blocked
        | JobState::Ready
        | JobState::Leased
        | JobState::Deferred
        | JobState::Suspended
        | JobState::Joining
        | JobState::Succeeded
        | JobState::Partial
        | JobState::Failed
        | JobState::Skipped
        | JobState::Cancelled => {
            if told.result.as_ref().is_some_and(|told| *told != row.result) {
                findings.add(Rule::Payloads, format!("the result of job {key} has another digest"));
            }
        }
    }
    for (name, told) in &told.calls {
        match calls.iter().find(|call| call.name == *name).and_then(|call| call.reply.as_ref()) {
            None => findings
                .add(Rule::Payloads, format!("the reply of call {name} of job {key} is not there")),
            Some(is) if told.as_ref().is_some_and(|told| told != is) => {
                findings.add(
                    Rule::Payloads,
                    format!("the reply of call {name} of job {key} has another digest"),
                );
            }
            Some(_) => (),
        }
    }
    for call in calls.iter().filter(|call| call.reply.is_some()) {
        if !told.calls.contains_key(&call.name) {
            let what = format!("no event tells of the reply of call {} of job {key}", call.name);
            findings.add(Rule::Payloads, what);
        }
    }
}

fn budget(job: &JobRow, attempts: &[AttemptRecord], findings: &mut Findings) {
    let key = &job.key;
    if job.attempts_used > job.max_attempts {
        let what =
            format!("job {key} has used {} of {} attempts", job.attempts_used, job.max_attempts);
        findings.add(Rule::Budget, what);
    }
    if job.dead_letter {
        let failed = matches!(job.state, JobState::Failed | JobState::Partial);
        let left = job.attempts_used < job.max_attempts;
        // What is left cannot follow when its time is over, or its process has died with it too often.
        let may_leave = match attempts.last().and_then(|last| last.end) {
            Some(AttemptEnd::Error | AttemptEnd::TimedOut | AttemptEnd::Expired) => true,
            Some(
                AttemptEnd::Succeeded
                | AttemptEnd::Partial
                | AttemptEnd::Skipped
                | AttemptEnd::Released
                | AttemptEnd::Unavailable
                | AttemptEnd::Suspended
                | AttemptEnd::Cancelled,
            )
            | None => false,
        };
        if !failed || (left && !may_leave) {
            let what =
                format!("job {key} is given up, is {} and has attempts left: {left}", job.state);
            findings.add(Rule::Budget, what);
        }
    }
}

/// Something that can come: a due instant in a stage that may be claimed from, a holder, a decision.
fn waiting(job: &JobRow, content: &Content, findings: &mut Findings) {
    let key = &job.key;
    match job.state {
        JobState::Ready => {
            let stage = content.stages.iter().find(|stage| stage.stage == job.stage);
            if stage.is_none_or(|stage| stage.state == StageState::Closed) {
                findings
                    .add(Rule::Waiting, format!("job {key} is ready in a stage that is closed"));
            }
        }
        JobState::Leased => {
            if !job.lease_known {
                findings
                    .add(Rule::Waiting, format!("job {key} is leased to a node that is not there"));
            }
        }
        // Of a deferral the instant is a condition of the row; what a suspended one waits for is below.
        JobState::Deferred
        | JobState::Suspended
        | JobState::Joining
        | JobState::Blocked
        | JobState::Succeeded
        | JobState::Partial
        | JobState::Failed
        | JobState::Skipped
        | JobState::Cancelled => (),
    }
    if job.waits != (job.state == JobState::Suspended) {
        let (is, open) = (job.state, if job.waits { "an open" } else { "no open" });
        findings.add(Rule::Waiting, format!("job {key} is {is}, and has {open} wait"));
    }
    if content.run.state.is_terminal() && !job.state.is_terminal() {
        let what = format!("job {key} is {}, and its run has ended", job.state);
        findings.add(Rule::Waiting, what);
    }
}

/// A hold goes with what it is of (CHK-11).
fn holds(content: &Content, findings: &mut Findings) {
    for (job, attempt) in &content.holds {
        let Some(row) = content.jobs.iter().find(|row| row.id == *job) else { continue };
        let key = &row.key;
        match attempt {
            Some(attempt) => {
                let attempts = content.attempts.get(job).map_or(&[][..], Vec::as_slice);
                let is = attempts.iter().find(|is| is.attempt == *attempt);
                if is.is_none_or(|is| is.end.is_some()) {
                    let what =
                        format!("attempt {attempt} of job {key} has ended, and holds a service");
                    findings.add(Rule::Holds, what);
                }
            }
            None if row.state.is_terminal() || row.state == JobState::Suspended => {
                let what = format!("job {key} is {}, and holds a service", row.state);
                findings.add(Rule::Holds, what);
            }
            None => (),
        }
    }
}

fn outcome(content: &Content, findings: &mut Findings) {
    let state = content.run.state;
    if !state.is_terminal() {
        return;
    }
    if content.timers > 0 {
        findings.add(Rule::Outcome, "the run has ended, and timers of it are left");
    }
    if let Some(open) = content.stages.iter().find(|stage| stage.state != StageState::Closed) {
        let what = format!("the run has ended, and stage {} is {}", open.stage, open.state);
        return findings.add(Rule::Outcome, what);
    }
    let ends = content.stages.iter().filter_map(|stage| {
        let outcome = stage.outcome?;
        let mut ends = Ends::default();
        let own = |job: &&JobRow| job.stage == stage.stage && job.parent.is_empty();
        let own: Vec<&JobRow> = content.jobs.iter().filter(own).collect();
        if own.iter().all(|job| job.kind == JobKind::Step) {
            return Some(outcome.into());
        }
        own.iter().for_each(|job| ends.add(job.state, job.skipped));
        Some(StageEnd::new(outcome, stage.plan.required, &ends))
    });
    let follows = run_outcome(ends);
    let fits = match state {
        RunState::Succeeded | RunState::PartiallySucceeded => follows == state,
        RunState::Failed => follows == RunState::Failed,
        // Some of its stages may have been done by then.
        RunState::TimedOut | RunState::Cancelled | RunState::CompensationFailed => {
            let is_staged = content.jobs.iter().any(|job| job.kind != JobKind::Step);
            is_staged || follows == RunState::Failed
        }
        RunState::Pending
        | RunState::Running
        | RunState::Paused
        | RunState::Cancelling
        | RunState::Compensating => true,
    };
    if !fits {
        findings.add(
            Rule::Outcome,
            format!("the run is {state}, and from its stages follows {follows}"),
        );
    }
}
