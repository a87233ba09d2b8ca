//! Commits of decisions: all of it or nothing.

use perennial_core::{
    Digest,
    run::{
        AttemptEnd, InvalidTransition, JobKey, JobState, Priority, RunId, RunState, SkipReason,
        StageState,
    },
};
use serde_json::{Map, Value, json};

use super::{
    creation,
    ending::{self, Ending},
    journal::{Journal, cut, micros},
    lease::{self, Budget, Standing},
    node, saved, service, step, stream, timer, wait,
};
use crate::{
    Committed, Decision, Report, RunStep, StageLimit, StageStep, StoreError, WaitEnd,
    transaction::Tx,
};

pub(crate) fn commit(tx: &Tx<'_>, decision: &Decision) -> Result<Committed, StoreError> {
    let run = &decision.run;
    if let Some(report) = &decision.report {
        lease::standing_ahead(tx, &report.lease);
    }
    // Whose report is taken lives, unless it is that it died, and claims without being asked again.
    let reporting = decision.report.as_ref().filter(|report| report.end != AttemptEnd::Expired);
    let reporting = reporting.map(|report| &report.lease.node);
    let claiming = creation::claiming(&decision.new_jobs);
    let claiming = claiming.into_iter().filter(|node| Some(*node) != reporting);
    for node in claiming.clone() {
        node::alive_ahead(tx, node);
    }
    creation::numbers_ahead(tx, run, &decision.new_jobs);
    let (mut journal, state) = Journal::of_run(tx, run)?;
    let mut budget = None;
    if let Some(report) = &decision.report {
        match admit(tx, run, report)? {
            Admission::Recorded(end) => return Ok(Committed::AlreadyRecorded { end }),
            Admission::Live(found) => budget = Some(found),
        }
    }
    if journal.revision() != decision.expected_revision {
        return Err(StoreError::Conflict { what: format!("run {run}") });
    }
    if state.is_terminal() {
        let to = decision.run_step.as_ref().map_or(state, |step| step.to);
        return Err(refused("run", state.name(), to.name()));
    }
    let mut resumed = None;
    if let (Some(report), Some(budget)) = (&decision.report, budget) {
        resumed = apply_report(tx, &mut journal, report, budget)?;
    }
    for step in &decision.jobs {
        step::step_job(tx, &mut journal, run, step)?;
    }
    let after = decision.run_step.as_ref().map_or(state, |step| step.to);
    let (mut job_ids, mut leases) = (Vec::new(), Vec::new());
    for node in claiming {
        node::require_alive(tx, node)?;
    }
    creation::require_parents(tx, run, &decision.new_jobs)?;
    for (place, job) in decision.new_jobs.iter().enumerate() {
        if job.claim_for.is_some() && !after.claims() {
            return Err(refused("job", JobState::Ready.name(), JobState::Leased.name()));
        }
        let number = creation::number(tx, run, &decision.new_jobs[..place], job)?;
        let (id, lease) = creation::create_job(tx, &mut journal, run, job, number)?;
        job_ids.push(id);
        leases.extend(lease);
    }
    for step in &decision.stages {
        step_stage(tx, &mut journal, run, step)?;
    }
    timer::set(tx, run, &decision.timers)?;
    // Before the run's own step: nothing follows the end of a run.
    for event in &decision.events {
        journal.append(tx, event.clone())?;
    }
    for limit in &decision.limits {
        limit_stage(tx, &mut journal, run, limit)?;
    }
    if let Some(priority) = decision.priority {
        prioritise(tx, &mut journal, run, priority)?;
    }
    if let Some(percent) = decision.progress {
        note_progress(tx, &mut journal, run, percent)?;
    }
    if let Some(step) = &decision.run_step {
        step_run(tx, &mut journal, run, state, step)?;
    }
    let (revision, events) = journal.finish(tx, true)?;
    Ok(Committed::Now { revision, leases, job_ids, events, resumed })
}

/// Whatever is under way goes on.
fn limit_stage(
    tx: &Tx<'_>,
    journal: &mut Journal,
    run: &RunId,
    StageLimit { stage, most }: &StageLimit,
) -> Result<(), StoreError> {
    let found = tx.row(
        "SELECT 1 FROM stages WHERE run = ?1 AND stage = ?2
         AND (feed <> 'driven' OR concurrency IS NOT NULL)",
        (run.as_str(), stage),
        |_| Ok(()),
    )?;
    found.ok_or_else(|| StoreError::NotFound { what: "stage", id: stage.clone() })?;
    tx.change(
        "UPDATE stages SET concurrency = ?3 WHERE run = ?1 AND stage = ?2",
        (run.as_str(), stage, most.get()),
        || StoreError::Conflict { what: format!("stage {stage}") },
    )?;
    journal.note(tx, "stage_limited", json!({ "stage": stage, "concurrency": most }))
}

/// What is under way goes on; what waits has another place among the others.
fn prioritise(
    tx: &Tx<'_>,
    journal: &mut Journal,
    run: &RunId,
    priority: Priority,
) -> Result<(), StoreError> {
    tx.change(
        "UPDATE runs SET priority = ?2 WHERE run = ?1",
        (run.as_str(), priority.number()),
        || StoreError::Conflict { what: format!("the priority of run {run}") },
    )?;
    journal.note(tx, "priority_changed", json!({ "priority": priority }))
}

/// It only rises, until the next round.
fn note_progress(
    tx: &Tx<'_>,
    journal: &mut Journal,
    run: &RunId,
    percent: u32,
) -> Result<(), StoreError> {
    tx.change(
        "UPDATE runs SET progress = ?2 WHERE run = ?1 AND progress < ?2",
        (run.as_str(), percent),
        || StoreError::Conflict { what: format!("the progress of run {run}") },
    )?;
    journal.note(tx, "run_progressed", json!({ "percent": percent }))
}

enum Admission {
    /// The lease allows it.
    Live(Budget),
    /// A report of this attempt is in the store.
    Recorded(AttemptEnd),
}

/// Whether the report's lease allows it. The lease of a dead incarnation allows only the decision
/// that its attempt expired.
fn admit(tx: &Tx<'_>, run: &RunId, report: &Report) -> Result<Admission, StoreError> {
    let stale = Err(lease::stale(&report.lease));
    if report.lease.run != *run {
        return stale;
    }
    match lease::standing(tx, &report.lease)? {
        Standing::Live(budget) => Ok(Admission::Live(budget)),
        Standing::Dead(budget) if report.end == AttemptEnd::Expired => {
            node::end_expired(tx)?;
            Ok(Admission::Live(budget))
        }
        Standing::Ended(end) => match end {
            // Not ended by a report of its own: rescued, or given back.
            AttemptEnd::Expired | AttemptEnd::Released if end != report.end => stale,
            AttemptEnd::Succeeded
            | AttemptEnd::Partial
            | AttemptEnd::Skipped
            | AttemptEnd::Error
            | AttemptEnd::TimedOut
            | AttemptEnd::Expired
            | AttemptEnd::Released
            | AttemptEnd::Unavailable
            | AttemptEnd::Suspended
            | AttemptEnd::Cancelled => Ok(Admission::Recorded(end)),
        },
        Standing::Dead(_) | Standing::Unknown => stale,
    }
}

/// Returns what ended the wait that the report began, when that had come before.
fn apply_report(
    tx: &Tx<'_>,
    journal: &mut Journal,
    report: &Report,
    budget: Budget,
) -> Result<Option<WaitEnd>, StoreError> {
    let Report { lease, end, job: to, .. } = report;
    JobState::Leased.enter(*to)?;
    let waits = (report.deferral.is_some(), report.wait.is_some());
    if waits != (*to == JobState::Deferred, *to == JobState::Suspended) {
        // Nobody waits without saying what for.
        return Err(refused("job", JobState::Leased.name(), to.name()));
    }
    let used = budget.used + u32::from(end.uses_budget());
    // The last attempt cannot be followed by another one.
    if used > budget.max || (*to == JobState::Ready && used == budget.max) {
        return Err(refused("job", JobState::Leased.name(), to.name()));
    }
    let ending = Ending {
        attempt: lease.attempt,
        end: *end,
        class: report.class,
        code: report.code.as_deref(),
        message: report.message.as_deref(),
        may_hold: budget.holds,
        may_have_turn: budget.has_turn,
    };
    let uncertain = ending::end_attempt(tx, lease.job, &ending)?;
    let skipped =
        (*to == JobState::Skipped).then(|| report.skipped.unwrap_or(SkipReason::NotApplicable));
    let run_after = if *to == JobState::Ready { report.run_after } else { None };
    let deferral = report.deferral.as_ref();
    // By its key: put so, no index of the jobs in that state is taken, which has all that were in it lately.
    tx.change(
        "UPDATE jobs SET state = ?3, skipped = ?4, attempts_used = ?5, crashes = crashes + ?6,
         run_after = ?7, lease_node = NULL, lease_incarnation = NULL, dead_letter = ?8,
         wake_at = ?9, defer_cause = ?10, defer_until = ?11, defer_then = ?12,
         deferred_since = CASE WHEN ?13 = 1 THEN COALESCE(deferred_since, ?14) ELSE NULL END
         WHERE id = ?1 AND attempt = ?2 AND state || '' = 'leased'",
        (
            lease.job,
            lease.attempt,
            to.name(),
            skipped.map(SkipReason::name),
            used,
            *end == AttemptEnd::Expired,
            micros(run_after).unwrap_or(0),
            report.dead_letter,
            deferral.map(|deferral| deferral.wake_at.as_micros()),
            deferral.map(|deferral| cut(&deferral.cause)),
            deferral.map(|deferral| deferral.until.as_micros()),
            deferral.map(|deferral| deferral.then.name()),
            deferral.is_some(),
            tx.now().as_micros(),
        ),
        || lease::stale(lease),
    )?;
    let mut about = about_attempt(report, skipped);
    if let Some(result) = &report.result {
        let digest = keep_result(tx, lease.job, result)?;
        about.insert("result".to_owned(), json!(digest));
    }
    if budget.saved && *to == JobState::Succeeded {
        saved::drop_of(tx, lease.job)?;
    }
    if budget.holds {
        service::end_of_job(tx, lease.job, *to)?;
    }
    note_report(tx, journal, report, uncertain, about.clone())?;
    match &report.wait {
        Some(new) => wait::begin(tx, journal, lease, new, about),
        None => Ok(None),
    }
}

/// Keeps it; the digest that events tell of it.
pub(crate) fn keep_result(tx: &Tx<'_>, job: i64, result: &Value) -> Result<Digest, StoreError> {
    let text = tx.json("job result", result)?;
    tx.post(
        "INSERT INTO results (job, data) VALUES (?1, ?2)
         ON CONFLICT (job) DO UPDATE SET data = excluded.data",
        (job, &text),
    )?;
    Ok(Digest::of(text.as_bytes()))
}

/// What happened to the attempt, then what became of the job.
fn note_report(
    tx: &Tx<'_>,
    journal: &mut Journal,
    report: &Report,
    uncertain: bool,
    about: Map<String, Value>,
) -> Result<(), StoreError> {
    let (key, attempt) = (&report.lease.key, report.lease.attempt);
    let retried = report.job == JobState::Ready;
    let of_attempt = match report.end {
        AttemptEnd::TimedOut => Some("attempt_timed_out"),
        AttemptEnd::Expired => Some("attempt_expired"),
        AttemptEnd::Released => Some("attempt_released"),
        AttemptEnd::Succeeded
        | AttemptEnd::Partial
        | AttemptEnd::Skipped
        | AttemptEnd::Error
        | AttemptEnd::Unavailable
        | AttemptEnd::Suspended
        | AttemptEnd::Cancelled => retried.then_some("attempt_failed"),
    };
    if let Some(kind) = of_attempt {
        let mut of_retry = about.clone();
        if let Some(due) = report.run_after.filter(|_| retried) {
            of_retry.insert("run_after".to_owned(), json!(due.to_rfc3339()));
            of_retry.insert("run_after_micros".to_owned(), json!(due.as_micros()));
        }
        journal.note_job(tx, kind, key, Some(attempt), of_retry.into())?;
    }
    if uncertain {
        ending::note_uncertain(tx, journal, key, attempt)?;
    }
    if let Some(deferral) = &report.deferral {
        return wait::note_deferred(tx, journal, key, Some(attempt), deferral, about);
    }
    if retried || report.wait.is_some() {
        return Ok(());
    }
    note_job_end(tx, journal, report.job, key, Some(attempt), about.clone().into())?;
    if report.dead_letter {
        journal.note_job(tx, "job_dead_lettered", key, Some(attempt), about.into())?;
    }
    Ok(())
}

/// The facts of a report that events carry: all that its rows have, of its result the digest.
fn about_attempt(report: &Report, skipped: Option<SkipReason>) -> Map<String, Value> {
    let mut about = Map::new();
    about.insert("attempt".to_owned(), json!(report.lease.attempt));
    about.insert("end".to_owned(), json!(report.end.name()));
    if let Some(reason) = skipped {
        about.insert("skipped".to_owned(), json!(reason.name()));
    }
    if let Some(class) = report.class {
        about.insert("class".to_owned(), json!(class.name()));
    }
    for (name, text) in [("code", &report.code), ("message", &report.message)] {
        if let Some(text) = text {
            about.insert(name.to_owned(), json!(cut(text)));
        }
    }
    about
}

pub(crate) fn note_job_end(
    tx: &Tx<'_>,
    journal: &mut Journal,
    state: JobState,
    key: &JobKey,
    attempt: Option<u32>,
    data: Value,
) -> Result<(), StoreError> {
    let kind = match state {
        JobState::Succeeded => "job_succeeded",
        JobState::Partial => "job_partial",
        JobState::Failed => "job_failed",
        JobState::Skipped => "job_skipped",
        JobState::Cancelled => "job_cancelled",
        JobState::Ready => "job_ready",
        JobState::Joining => "group_expanded",
        // What they wait for is told by whoever knows it.
        JobState::Deferred | JobState::Suspended => return Ok(()),
        JobState::Blocked | JobState::Leased => return Ok(()),
    };
    journal.note_job(tx, kind, key, attempt, data)
}

/// A stage closes only when each of its jobs is terminal (INV-2).
pub(crate) fn step_stage(
    tx: &Tx<'_>,
    journal: &mut Journal,
    run: &RunId,
    step: &StageStep,
) -> Result<(), StoreError> {
    let StageStep { stage, from, to, outcome } = step;
    let state = tx
        .row(
            "SELECT state FROM stages WHERE run = ?1 AND stage = ?2",
            (run.as_str(), stage),
            |row| row.parse::<StageState>(),
        )?
        .ok_or_else(|| StoreError::NotFound { what: "stage", id: stage.clone() })?;
    state.enter(*to)?;
    if state != *from {
        return Err(StoreError::Conflict { what: format!("stage {stage}") });
    }
    let kind = match to {
        StageState::Open => "stage_opened",
        StageState::Sealed => "stage_sealed",
        StageState::Closed => "stage_closed",
        StageState::Waiting => return Err(refused("stage", from.name(), to.name())),
    };
    if *to == StageState::Closed {
        let open = tx.row(
            "SELECT 1 FROM jobs WHERE run = ?1 AND stage = ?2
             AND state IN ('blocked', 'ready', 'leased', 'deferred', 'suspended', 'joining') LIMIT 1",
            (run.as_str(), stage),
            |_| Ok(()),
        )?;
        if open.is_some() {
            return Err(refused("stage", from.name(), to.name()));
        }
    }
    let outcome = outcome.map(perennial_core::run::StageOutcome::name);
    tx.change(
        "UPDATE stages SET state = ?4, outcome = ?5 WHERE run = ?1 AND stage = ?2 AND state = ?3",
        (run.as_str(), stage, from.name(), to.name(), outcome),
        || StoreError::Conflict { what: format!("stage {stage}") },
    )?;
    let about = match outcome {
        Some(outcome) => json!({ "stage": stage, "outcome": outcome }),
        None => json!({ "stage": stage }),
    };
    journal.note(tx, kind, about)
}

/// With its end a run loses its timers, and its stream closes.
fn step_run(
    tx: &Tx<'_>,
    journal: &mut Journal,
    run: &RunId,
    state: RunState,
    step: &RunStep,
) -> Result<(), StoreError> {
    let to = state.enter(step.to)?;
    if state != step.from {
        return Err(StoreError::Conflict { what: format!("run {run}") });
    }
    let failure =
        step.failure.as_ref().map(|failure| tx.json("failure of a run", failure)).transpose()?;
    let finished = to.is_terminal().then(|| tx.at().as_micros());
    let why = failure.as_ref().map(|text| Digest::of(text.as_bytes()));
    tx.change(
        "UPDATE runs SET state = ?3, failure = COALESCE(?4, failure), finished_at = ?5
         WHERE run = ?1 AND state = ?2",
        (run.as_str(), step.from.name(), to.name(), failure, finished),
        || StoreError::Conflict { what: format!("run {run}") },
    )?;
    let kind = match to {
        RunState::Running if state == RunState::Pending => "run_started",
        RunState::Running => "run_resumed",
        RunState::Paused => "run_paused",
        RunState::Cancelling => "run_cancelling",
        RunState::Compensating => "run_compensating",
        RunState::Pending
        | RunState::Succeeded
        | RunState::PartiallySucceeded
        | RunState::Failed
        | RunState::TimedOut
        | RunState::Cancelled
        | RunState::CompensationFailed => {
            timer::clear(tx, run)?;
            stream::close(tx, run.as_str())?;
            let mut about = json!({ "state": to.name() });
            if let Some(why) = why {
                about["failure"] = json!(why);
            }
            return journal.note(tx, "run_closed", about);
        }
    };
    journal.note(tx, kind, why.map_or(Value::Null, |why| json!({ "failure": why })))
}

pub(crate) fn refused(what: &'static str, from: &'static str, to: &'static str) -> StoreError {
    StoreError::InvalidState(InvalidTransition { what, from, to })
}

#[cfg(test)]
mod tests {
    //! The states that no operation leads to yet; the others are in the conformance suite.

    use super::*;
    use crate::{
        JobPart, JobStep, MemoryStore, NewJob, NewRun, NewStage, NodeRef, Store,
        backend::{Access, Backend},
    };

    fn new_run(id: &str, owner: &NodeRef) -> NewRun {
        let job = NewJob {
            stage: "s".to_owned(),
            key: JobKey::new("a"),
            max_attempts: 1,
            crashes_max: 3,
            input: Value::Null,
            claim_for: None,
            part: JobPart::default(),
        };
        NewRun {
            run: RunId::parse(id).unwrap(),
            workflow: "w".to_owned(),
            definition: Digest::of(b""),
            definition_bytes: Vec::new(),
            input_digest: Digest::of(b""),
            settings: Value::Null,
            owner: Some(owner.clone()),
            deadline: None,
            stages: vec![NewStage::driven("s")],
            jobs: vec![job],
            timers: Vec::new(),
            priority: Default::default(),
        }
    }

    /// Puts rows into a state, decides, and returns the outcome.
    async fn decide(
        sql: &'static str,
        fill: impl FnOnce(&mut Decision, i64),
    ) -> Result<Committed, StoreError> {
        let store = MemoryStore::open().unwrap();
        let node = store.register_node("n").await.unwrap().node;
        let new = new_run("r", &node);
        let run = new.run.clone();
        store.create_run(new).await.unwrap();
        store.perform(Access::Write, move |tx| tx.write(sql, [])).await.unwrap();
        let mut decision = Decision {
            run: run.clone(),
            expected_revision: 1,
            report: None,
            jobs: Vec::new(),
            new_jobs: Vec::new(),
            stages: Vec::new(),
            run_step: None,
            events: Vec::new(),
            timers: Vec::new(),
            progress: None,
            limits: Vec::new(),
            priority: None,
        };
        let before = store.run(&run).await.unwrap();
        fill(&mut decision, before.jobs[0].id);
        let outcome = store.commit(decision).await;
        assert_eq!(store.run(&run).await.unwrap() == before, outcome.is_err());
        outcome
    }

    #[tokio::test]
    async fn a_pending_run_moves_as_the_core_says() {
        for to in RunState::ALL {
            let outcome = decide("UPDATE runs SET state = 'pending'", |decision, _| {
                let from = RunState::Pending;
                decision.run_step = Some(RunStep { from, to: *to, failure: None });
            });
            let listed = RunState::Pending.enter(*to).map(|_| ()).map_err(StoreError::from);
            assert_eq!(outcome.await.map(|_| ()), listed, "{to}");
        }
    }

    #[tokio::test]
    async fn a_blocked_job_moves_as_the_core_says() {
        for to in JobState::ALL {
            let outcome = decide("UPDATE jobs SET state = 'blocked'", |decision, job| {
                decision.jobs = vec![JobStep::new(job, JobState::Blocked, *to)];
            });
            let listed = JobState::Blocked.enter(*to).map(|_| ()).map_err(StoreError::from);
            assert_eq!(outcome.await.map(|_| ()), listed, "{to}");
        }
    }

    #[tokio::test]
    async fn a_stage_moves_as_the_core_says() {
        for (from, sql) in [
            (StageState::Waiting, "UPDATE stages SET state = 'waiting'"),
            (StageState::Open, "UPDATE stages SET state = 'open'"),
            (StageState::Sealed, "UPDATE stages SET state = 'sealed'"),
            (StageState::Closed, "UPDATE stages SET state = 'closed'"),
        ] {
            for to in StageState::ALL {
                let outcome = decide(sql, |decision, job| {
                    let (ready, cancelled) = (JobState::Ready, JobState::Cancelled);
                    decision.jobs = vec![JobStep::new(job, ready, cancelled)];
                    let stage = "s".to_owned();
                    decision.stages = vec![StageStep { stage, from, to: *to, outcome: None }];
                });
                let listed = from.enter(*to).map(|_| ()).map_err(StoreError::from);
                assert_eq!(outcome.await.map(|_| ()), listed, "{from} to {to}");
            }
        }
    }
}
