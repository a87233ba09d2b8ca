//! A run in stages as people think of it: each stage with its jobs, children under their group.

use std::collections::HashMap;

use perennial::{
    engine::workflow::JobKey,
    records::{JobKind, JobRecord, JobState, RunRecord, RunView},
};
use serde_json::{Value, json};

use super::Row;
use crate::{commands::explain::waits_for_turn, output};

/// Whether the run has stages of a plan.
pub(in super::super) fn is_staged(view: &RunView) -> bool {
    // Only of a plan it is known how far a run has come.
    let has_progress = view.run.progress.is_some();
    has_progress || view.jobs.iter().any(|job| job.kind != JobKind::Step) || view.stages.len() > 1
}

/// What of its work a run has undone, or is at undoing, and what could not be.
pub(in super::super) fn undone(run: &RunRecord) -> Vec<String> {
    let Some(about) = run.failure.as_ref().and_then(|failure| failure.get("compensation")) else {
        return Vec::new();
    };
    let count = |name: &str| about[name].as_u64().unwrap_or(0);
    let jobs = |count: u64| if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") };
    let mut told = vec![match about["until"].as_str() {
        Some(until) => format!("until {until} at most"),
        None => jobs(count("undone")),
    }];
    let failures = about["failures"].as_array().into_iter().flatten();
    told.extend(failures.map(|failure| {
        let text = |name: &str| failure[name].as_str().unwrap_or_default();
        output::brief(&json!(format!("not {}: {}", text("job"), text("message"))), 200)
    }));
    let more = count("failed").saturating_sub(told.len() as u64 - 1);
    told.extend((more > 0).then(|| format!("not {more} more")));
    let left = count("not_begun");
    told.extend((left > 0).then(|| format!("not begun for want of time: {}", jobs(left))));
    told
}

/// What is printed: a line, or a job with its name at the depth of its group.
pub(super) enum Part<'a> {
    Line(String),
    Job(Row<'a>, String),
}

/// Stages in their order, jobs in the order in which they were made.
pub(super) fn parts<'a>(view: &'a RunView, rows: &[Row<'a>]) -> Vec<Part<'a>> {
    let mut below: HashMap<Option<&JobKey>, Vec<Row<'a>>> = HashMap::new();
    for row in rows {
        below.entry(row.job.parent.as_ref()).or_default().push(*row);
    }
    let own = below.remove(&None).unwrap_or_default();
    let mut parts = Vec::new();
    for (place, stage) in view.stages.iter().enumerate() {
        if place > 0 {
            parts.push(Part::Line(String::new()));
        }
        let jobs: Vec<Row<'a>> =
            own.iter().filter(|row| row.job.stage == stage.stage).copied().collect();
        let outcome = stage.outcome.map(|outcome| format!(", {outcome}")).unwrap_or_default();
        let counts = counts(&jobs);
        let counts = if counts.is_empty() { String::new() } else { format!(": {counts}") };
        parts.push(Part::Line(format!("stage {}  {}{outcome}{counts}", stage.stage, stage.state)));
        for row in jobs {
            add(&mut parts, &below, row, &stage.stage, 0);
        }
    }
    parts
}

fn add<'a>(
    parts: &mut Vec<Part<'a>>,
    below: &HashMap<Option<&JobKey>, Vec<Row<'a>>>,
    row: Row<'a>,
    around: &str,
    depth: usize,
) {
    parts.push(Part::Job(
        row,
        format!("{:depth$}{}", "", own_name(row.job, around), depth = 2 * depth),
    ));
    for child in below.get(&Some(&row.job.key)).into_iter().flatten() {
        add(parts, below, *child, row.job.key.as_str(), depth + 1);
    }
}

/// The key without that of what it is in.
fn own_name<'a>(job: &'a JobRecord, around: &str) -> &'a str {
    let key = job.key.as_str();
    key.strip_prefix(around).and_then(|rest| rest.strip_prefix('/')).unwrap_or(key)
}

/// How many jobs are in each state, those that went well first.
fn counts(jobs: &[Row<'_>]) -> String {
    let all = [
        JobState::Succeeded,
        JobState::Partial,
        JobState::Failed,
        JobState::Skipped,
        JobState::Cancelled,
        JobState::Leased,
        JobState::Joining,
        JobState::Ready,
        JobState::Deferred,
        JobState::Suspended,
        JobState::Blocked,
    ];
    let count = |state| jobs.iter().filter(|row| row.state() == state).count();
    let told = all.into_iter().map(|state| (state, count(state))).filter(|(_, count)| *count > 0);
    told.map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

/// Why a job was skipped, what it waits for, or that its process died: what its result does not say.
pub(super) fn reason(job: &JobRecord) -> Option<String> {
    if let (JobState::Skipped, Some(why), None) = (job.state, job.skipped, &job.result) {
        return Some(format!("because of {why}"));
    }
    if job.state == JobState::Leased && !job.lease_alive {
        return Some(format!("the process of attempt {} died", job.attempt));
    }
    let waits = job.deferral.as_ref().filter(|_| job.state == JobState::Deferred)?;
    if waits_for_turn(job) {
        return Some(format!("waits for {}", waits.cause));
    }
    Some(format!(
        "waits for {}, looks again at {}, at most until {}",
        waits.cause,
        waits.wake_at.to_rfc3339(),
        waits.until.to_rfc3339()
    ))
}

/// The stages as JSON.
pub(super) fn described(view: &RunView) -> Vec<Value> {
    let stages = view.stages.iter().map(|stage| {
        let own = |job: &&JobRecord| job.stage == stage.stage && job.parent.is_none();
        let mut counts: HashMap<String, usize> = HashMap::new();
        for job in view.jobs.iter().filter(own) {
            *counts.entry(job.state.to_string()).or_default() += 1;
        }
        json!({
            "stage": stage.stage,
            "state": stage.state,
            "outcome": stage.outcome,
            "feed": stage.feed,
            "upstream": stage.upstream,
            "concurrency": stage.concurrency,
            "required": stage.required,
            "weight": stage.weight,
            "jobs": counts,
        })
    });
    stages.collect()
}

/// One line under a job.
pub(super) fn note(text: &str) -> anyhow::Result<()> {
    output::lines(&format!("{:12}", ""), text)
}
