//! What must be true of a run whose processes are killed: its rows are what its events say (CHK-2 to CHK-5, CHK-9,
//! CHK-15), and both have everything that a ledger says was acknowledged, once.

use std::collections::{BTreeMap, BTreeSet};

use perennial::{
    RunId, RunState,
    records::{AttemptEnd, EventRecord, JobState, RunView, Timestamp},
};
use perennial_store::Store;
use serde_json::Value;

use super::{
    flow::{Shape, key},
    ledger::Told,
};

/// Events read at a time.
const PAGE: u32 = 1000;
/// As in the plans of the workflow.
const MAX_ATTEMPTS: u32 = 5;

/// A run as its events tell it.
#[derive(Clone, Debug, Default)]
pub(super) struct Fold {
    /// Of the next event.
    next: u64,
    at: Option<Timestamp>,
    state: Option<RunState>,
    jobs: BTreeMap<String, Job>,
    /// Kind, job and attempt of each event, in order.
    pub(super) told: Vec<(String, String, u32)>,
}

#[derive(Clone, Debug, Default)]
struct Job {
    state: Option<JobState>,
    attempt: u32,
    ends: Vec<Option<AttemptEnd>>,
    used: u32,
    crashes: u32,
    calls: BTreeSet<String>,
    recorded: BTreeSet<String>,
    run_after: Option<String>,
    /// A further round makes it again.
    is_set_back: bool,
}

impl Fold {
    /// Reads the run's rows, then what events it has to have by them, and compares.
    pub(super) async fn catch_up(&mut self, store: &dyn Store, run: &RunId) -> Result<(), String> {
        let before = summary(store, run).await?;
        let view = store.run(run).await.map_err(|error| error.to_string())?;
        let after = summary(store, run).await?;
        self.next = self.next.max(1);
        while self.next < view.run.next_seq {
            let left = u32::try_from(view.run.next_seq - self.next).unwrap();
            let events = store.events(run.as_str(), self.next, left.min(PAGE)).await;
            let events = events.map_err(|error| error.to_string())?;
            if events.is_empty() {
                return Err(format!("no event {}, of {}", self.next, view.run.next_seq - 1));
            }
            for event in events {
                let seq = event.seq;
                self.take(event).map_err(|why| format!("event {seq}: {why}"))?;
            }
        }
        self.compare(&view)?;
        // Counted apart from the rows; nothing to say about it when the run moved meanwhile.
        let done = view.jobs.iter().filter(|job| job.state.is_terminal()).count() as u64;
        let counted = (view.jobs.len() as u64, done, view.run.state);
        if before == after && before != counted {
            return Err(format!("counters {before:?} and rows {counted:?}"));
        }
        Ok(())
    }

    fn take(&mut self, event: EventRecord) -> Result<(), String> {
        if event.seq != self.next {
            return Err(format!("{} was due", self.next));
        }
        if self.at.is_some_and(|at| at > event.at) {
            return Err("earlier than the one before".to_owned());
        }
        (self.next, self.at) = (self.next + 1, Some(event.at));
        let job = event.job.as_ref().map_or("-", |job| job.as_str()).to_owned();
        let attempt = event.attempt.unwrap_or(0);
        self.told.push((event.kind.clone(), job.clone(), attempt));
        if self.state.is_some_and(RunState::is_terminal) && event.kind != "run_reopened" {
            return Err(format!("{} after the end of the run", event.kind));
        }
        let state = match event.kind.as_str() {
            "run_created" => Some(RunState::Pending),
            "run_started" | "run_resumed" | "run_reopened" => Some(RunState::Running),
            "run_paused" => Some(RunState::Paused),
            "run_cancelling" => Some(RunState::Cancelling),
            "run_closed" => {
                let name = event.data["state"].as_str().unwrap_or_default();
                RunState::ALL.iter().copied().find(|state| state.name() == name)
            }
            _ => None,
        };
        self.state = state.or(self.state);
        if job == "-" {
            return Ok(());
        }
        if event.kind == "attempt_started" && self.state != Some(RunState::Running) {
            return Err(format!("an attempt of {job} while the run is {:?}", self.state));
        }
        let about = format!("{} of {job}, attempt {attempt}", event.kind);
        let known = self.jobs.entry(job).or_default();
        known.take(&event, attempt).map_err(|why| format!("{about}: {why}, but {known:?}"))
    }

    fn compare(&self, view: &RunView) -> Result<(), String> {
        if self.state != Some(view.run.state) {
            return Err(format!(
                "the run is {}, and {:?} by its events",
                view.run.state, self.state
            ));
        }
        let rows: BTreeSet<&str> = view.jobs.iter().map(|job| job.key.as_str()).collect();
        if rows.len() != view.jobs.len() || rows.len() != self.jobs.len() {
            return Err(format!("{} rows of {} jobs", view.jobs.len(), self.jobs.len()));
        }
        for row in &view.jobs {
            let name = row.key.as_str();
            let job = self.jobs.get(name).ok_or(format!("job {name} is in no event"))?;
            let attempts: Vec<_> = view.attempts.iter().filter(|it| it.job == row.id).collect();
            let is_dense = attempts.iter().map(|it| it.attempt).eq(1..=row.attempt);
            let ends: Vec<_> = attempts.iter().map(|attempt| attempt.end).collect();
            let of_row = |is_recorded: bool| -> BTreeSet<String> {
                let calls = view.calls.iter().filter(|call| call.job == row.id);
                let calls = calls.filter(|call| call.recorded_at.is_some() == is_recorded);
                calls.map(|call| call.name.clone()).collect()
            };
            let open: BTreeSet<String> = job.calls.difference(&job.recorded).cloned().collect();
            let same = job.state == Some(row.state)
                && job.attempt == row.attempt
                && is_dense
                && job.ends == ends
                && job.used == row.attempts_used
                && job.crashes == row.crashes
                && job.recorded == of_row(true)
                && of_row(false).is_subset(&open)
                && row.lease.is_some() == (row.state == JobState::Leased)
                && row.attempts_used <= MAX_ATTEMPTS;
            if !same {
                return Err(format!("{row:?} with {attempts:?}, by its events {job:?}"));
            }
        }
        Ok(())
    }

    /// How the job stands, by the events.
    pub(super) fn has_ended(&self, job: &str) -> bool {
        self.jobs.get(job).and_then(|job| job.state).is_some_and(JobState::is_terminal)
    }

    pub(super) fn events(&self) -> u64 {
        self.told.len() as u64
    }
}

impl Job {
    fn take(&mut self, event: &EventRecord, attempt: u32) -> Result<(), &'static str> {
        let name = || event.data["name"].as_str().unwrap_or_default().to_owned();
        if event.kind == "job_reopened" {
            (self.state, self.used, self.crashes) = (Some(JobState::Cancelled), 0, 0);
            (self.run_after, self.is_set_back) = (None, true);
            return Ok(());
        }
        if self.state.is_some_and(JobState::is_terminal) && !self.is_set_back {
            return Err("it has ended");
        }
        let end = match event.kind.as_str() {
            "job_ready" if self.state.is_none() || self.is_set_back => {
                (self.state, self.is_set_back) = (Some(JobState::Ready), false);
                return Ok(());
            }
            "attempt_started" => {
                let is_next = self.state == Some(JobState::Ready) && attempt == self.attempt + 1;
                let due = self.run_after.take();
                if due.is_some_and(|due| event.at.to_rfc3339() < due) {
                    return Err("it is not due");
                }
                (self.state, self.attempt) = (Some(JobState::Leased), attempt);
                self.ends.push(None);
                return if is_next { Ok(()) } else { Err("it is not the next one") };
            }
            "call_started" => {
                self.calls.insert(name());
                return self.is_live(attempt);
            }
            "checkpoint_written" => {
                self.crashes = 0;
                let is_new = self.recorded.insert(name());
                return if is_new { self.is_live(attempt) } else { Err("recorded twice") };
            }
            "checkpoint_saved" => {
                self.crashes = 0;
                return self.is_live(attempt);
            }
            "attempt_failed" => {
                let due = event.data["run_after"].as_str();
                self.run_after = due.map(str::to_owned);
                Some((AttemptEnd::Error, JobState::Ready))
            }
            "attempt_timed_out" => Some((AttemptEnd::TimedOut, JobState::Ready)),
            "attempt_expired" => {
                self.crashes += 1;
                Some((AttemptEnd::Expired, JobState::Ready))
            }
            "attempt_released" => Some((AttemptEnd::Released, JobState::Ready)),
            "job_succeeded" => Some((AttemptEnd::Succeeded, JobState::Succeeded)),
            "job_failed" => Some((AttemptEnd::Error, JobState::Failed)),
            "job_cancelled" => Some((AttemptEnd::Cancelled, JobState::Cancelled)),
            _ => None,
        };
        let Some((end, state)) = end else { return Ok(()) };
        // What was never claimed is cancelled without an attempt's end.
        let waits = self.state == Some(JobState::Ready) && state == JobState::Cancelled;
        self.state = Some(state);
        match self.ends.last_mut() {
            _ if waits => Ok(()),
            Some(open @ None) if attempt == self.attempt => {
                *open = Some(end);
                self.used += u32::from(end.uses_budget());
                Ok(())
            }
            Some(_) | None => Err("no such attempt is under way"),
        }
    }

    fn is_live(&self, attempt: u32) -> Result<(), &'static str> {
        let live = self.state == Some(JobState::Leased) && self.attempt == attempt;
        if live { Ok(()) } else { Err("the attempt does not hold the job") }
    }
}

async fn summary(store: &dyn Store, run: &RunId) -> Result<(u64, u64, RunState), String> {
    let runs = store.runs(PAGE).await.map_err(|error| error.to_string())?;
    let found = runs.into_iter().find(|summary| summary.run == *run).ok_or("not listed")?;
    Ok((found.jobs, found.jobs_done, found.state))
}

/// Compares what was told by victims with what is in the store.
///
/// # Errors
///
/// What is lost, was done twice, or does not fit.
pub(super) fn reconcile(told: &Told, fold: &Fold, view: &RunView) -> Result<(), String> {
    let ids: BTreeMap<i64, &str> = view.jobs.iter().map(|job| (job.id, job.key.as_str())).collect();
    let attempts: BTreeMap<(&str, u32), _> =
        view.attempts.iter().map(|it| ((ids[&it.job], it.attempt), it)).collect();
    let recorded: BTreeSet<(&str, &str)> = view
        .calls
        .iter()
        .filter(|call| call.recorded_at.is_some())
        .map(|call| (ids[&call.job], call.name.as_str()))
        .collect();
    if let Some(violation) = told.violations.first() {
        return Err(format!("a look at the running one: {violation}"));
    }
    for (job, name) in &told.recorded {
        if !recorded.contains(&(job.as_str(), name.as_str())) {
            return Err(format!("lost: call {name} of {job} was acknowledged"));
        }
    }
    for (seq, event) in &told.events {
        let place = usize::try_from(seq - 1).unwrap();
        if fold.told.get(place) != Some(event) {
            return Err(format!("lost: event {seq} was told as {event:?}"));
        }
    }
    for ((job, attempt), end) in &told.committed {
        let row = attempts.get(&(job.as_str(), *attempt));
        if row.is_none_or(|row| row.end.is_none()) {
            return Err(format!("lost: {end} of {job}, attempt {attempt}, was acknowledged"));
        }
        if end != "ready" && !fold.has_ended(job) {
            return Err(format!("lost: {job} was {end}"));
        }
    }
    for (job, attempt) in told.claimed.iter().chain(told.begun.keys()) {
        if !attempts.contains_key(&(job.as_str(), *attempt)) {
            return Err(format!("attempt {attempt} of {job} ran, and has no row"));
        }
    }
    for ((job, call), effects) in &told.effects {
        if !effects.is_sorted() {
            return Err(format!("effects of {job}, call {call}, by attempts {effects:?}"));
        }
        for attempt in effects.iter().rev().skip(1) {
            if attempts.get(&(job.as_str(), *attempt)).is_none_or(|row| !row.uncertain) {
                return Err(format!("call {call} of {job} again, and {attempt} was certain"));
            }
        }
    }
    if let Some(state) = &told.closed
        && view.run.state.name() != state
    {
        return Err(format!("the run was told to be {state}, and is {}", view.run.state));
    }
    Ok(())
}

/// The run has ended as if nothing had been.
pub(super) fn undisturbed(shape: Shape, told: &Told, view: &RunView) -> Result<(), String> {
    if view.run.state != RunState::Succeeded {
        return Err(format!("the run is {}", view.run.state));
    }
    let expected: Vec<(String, Option<Value>)> = shape
        .results()
        .into_iter()
        .enumerate()
        .map(|(job, result)| (key(job).as_str().to_owned(), Some(result)))
        .collect();
    let mut found: Vec<(String, Option<Value>)> =
        view.jobs.iter().map(|job| (job.key.as_str().to_owned(), job.result.clone())).collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    if found != expected {
        return Err(format!("results {found:?} instead of {expected:?}"));
    }
    let all = shape.jobs as u64 * shape.calls;
    if told.effects.len() as u64 != all {
        return Err(format!("{} calls of {all} had an effect", told.effects.len()));
    }
    Ok(())
}
