//! What undoes what a run has done, when it does not end well (SM-14): job by job, the last that was done first.
//!
//! The run enters Compensating with the decision that would have ended it. From then on its jobs stay as they are, and the
//! stage `compensation` gets one job for each that is to be undone, with the decision that knows how the one before it
//! has ended. Which is next follows from the rows alone, so that whoever takes the run over goes on behind the last.

use std::{collections::HashMap, time::Duration};

use perennial_core::{
    FailureClass, Timestamp,
    failure::Failure,
    run::{
        FailurePolicy, JobKey, JobKind, JobState, RunCause, RunState, StageOutcome, StageState,
        run_outcome_of, stage_outcome,
    },
};
use perennial_store::{
    EventRecord, JobPart, JobStep, NewEvent, NewTimer, PAYLOAD_BYTES_MAX, RunStep,
};
use serde_json::{Value, json};

use super::{
    super::{Circumstances, Machine, draft::Draft, owner, tally::fails},
    Board, new_job, policy_of,
};
use crate::{
    run::guard::Guard,
    staged::{
        COMPENSATION, PlannedStage, Staging, Timeouts, Undo, UndoReason, failure_of, item,
        undoing_key,
    },
    workflow::{Given, Workflow},
};

/// Failures that a run's failure tells of one by one.
const TOLD_MAX: usize = 20;
/// What the input of a job has around what it is given: how it is tried, and names.
const AROUND_BYTES: usize = 4 * 1024;

/// The jobs that have succeeded, in the order they did, read from events.
#[derive(Debug, Default)]
pub(in crate::run) struct Completed(HashMap<JobKey, u64>);

impl Completed {
    /// Of a job that was made in several rounds the last end counts.
    pub(in crate::run) fn take(&mut self, event: &EventRecord) {
        if let (Some(job), "job_succeeded" | "job_partial") = (&event.job, event.kind.as_str()) {
            self.0.insert(job.clone(), event.seq);
        }
    }
}

impl Machine {
    /// Whether it does not know yet in which order its jobs were done, and undoes them.
    pub(in crate::run) fn asks_order(&self) -> bool {
        self.state == RunState::Compensating && self.undo.is_none()
    }

    /// In which order its jobs were done.
    pub(in crate::run) fn know_order(&mut self, workflow: &dyn Workflow, completed: &Completed) {
        let Some(staging) = Guard::new(workflow).staging() else { return };
        let is_undone = |place: &usize| {
            let job = &self.jobs[*place];
            let is_done = matches!(job.state, JobState::Succeeded | JobState::Partial);
            let declares =
                staging.stage(&job.stage).is_some_and(|of| of.undoing.activity.is_some());
            is_done && declares && job.parent.is_none()
        };
        let mut undo: Vec<usize> = (0..self.jobs.len()).filter(is_undone).collect();
        // One of which nothing is told was done before all others.
        undo.sort_by_key(|place| (completed.0.get(&self.jobs[*place].key), *place));
        undo.reverse();
        self.undo = Some(undo);
    }

    /// Where the stage of what undoes its jobs stands, if its plan declares anything of that kind.
    fn undoing_stage(&self) -> Option<usize> {
        let place = || self.stages.iter().position(|stage| stage.name == COMPENSATION);
        self.undoes.then(place).flatten()
    }

    /// Whether that is the stage in which it undoes its jobs.
    pub(in crate::run::machine) fn is_undoing(&self, stage: &str) -> bool {
        self.undoes && stage == COMPENSATION
    }

    /// Until when all must be undone.
    fn undone_by(&self) -> Option<Timestamp> {
        let until = &self.failure.as_ref()?["compensation"]["until_micros"];
        until.as_i64().map(Timestamp::from_micros)
    }
}

impl Draft {
    /// Whether what the run has done is to be undone before it ends otherwise than well.
    pub(super) fn undoes(board: &Board<'_>, machine: &Machine, staging: &Staging) -> bool {
        let has_done = |planned: &PlannedStage| {
            planned.undoing.activity.is_some() && board.ends(&planned.name).successes() > 0
        };
        machine.undoes && staging.stages.iter().any(has_done)
    }

    /// The run is to end with `failure`, and undoes first what it has done.
    pub(super) fn begin_undoing(
        &mut self,
        board: &mut Board<'_>,
        machine: &Machine,
        failure: Option<Value>,
        at: &Circumstances,
    ) {
        let Some(place) = machine.undoing_stage() else { return };
        let until = at.now.after(at.settings.compensation);
        let mut failure = failure.unwrap_or_else(|| json!({ "cause": "failure" }));
        failure["compensation"] =
            json!({ "until": until.to_rfc3339(), "until_micros": until.as_micros() });
        self.step_stage(board, place, COMPENSATION, StageState::Open, None);
        let name = COMPENSATION.to_owned();
        self.timers.push(NewTimer { owner: owner(&machine.run), name, at: until });
        let (from, to) = (machine.state, RunState::Compensating);
        self.run_step = Some(RunStep { from, to, failure: Some(failure) });
        self.state = to;
    }

    /// A run that ends without undoing anything has nothing in that stage.
    pub(super) fn close_undoing(&mut self, board: &mut Board<'_>, machine: &Machine) {
        if let Some(place) = machine.undoing_stage()
            && board.stages[place].0 == StageState::Waiting
        {
            let outcome = Some(StageOutcome::Skipped);
            self.step_stage(board, place, COMPENSATION, StageState::Closed, outcome);
        }
    }

    /// The next job is undone once the one before is, and with the last of them the run ends.
    pub(in crate::run::machine) fn undo(
        &mut self,
        workflow: &Guard<'_>,
        machine: &Machine,
        at: &Circumstances,
    ) {
        let (Some(staging), Some(place)) = (workflow.staging(), machine.undoing_stage()) else {
            return;
        };
        let mut board = Board::of(machine, self);
        let until = machine.undone_by();
        let is_late = until.is_some_and(|until| until <= at.now);
        if is_late {
            self.give_up(&mut board, machine, at.settings.compensation);
        }
        self.tell_failures(&board, machine);
        // Whoever does not know the order is told it.
        let Some(undo) = machine.undo.as_ref().filter(|_| board.count(COMPENSATION).open == 0)
        else {
            return;
        };
        let made = usize::try_from(board.ends(COMPENSATION).settled()).unwrap_or(usize::MAX);
        let next = undo.get(made).filter(|_| !is_late);
        match next {
            Some(next) => self.undo_job(&mut board, machine, staging, (*next, until), at),
            None => self.end_undoing(&mut board, machine, place, undo.get(made..).unwrap_or(&[])),
        }
    }

    /// What is not under way when the time is over fails; an attempt ends by its own limit.
    fn give_up(&mut self, board: &mut Board<'_>, machine: &Machine, within: Duration) {
        let of = machine.jobs.tally().stage(COMPENSATION);
        let open: Vec<usize> = of.into_iter().flat_map(|of| &of.open).copied().collect();
        let text = format!(
            "what the run has done was not undone within {} s (`compensation` of `[engine]`)",
            within.as_secs()
        );
        let record = json!({ "class": FailureClass::Timeout, "code": "PL701", "message": text });
        for place in open {
            if machine.jobs[place].state != JobState::Leased {
                self.step_job(board, machine, place, JobState::Failed, |step| JobStep {
                    result: Some(record.clone()),
                    about: record.clone(),
                    ..step
                });
            }
        }
    }

    /// What is not undone with this decision is an event.
    fn tell_failures(&mut self, board: &Board<'_>, machine: &Machine) {
        for place in board.changed() {
            let (job, state) = (&machine.jobs[place], board.state(place));
            if job.stage == COMPENSATION && fails(state, board.skipped(place)) {
                let Failure { class, code, message, .. } = failure_of(board.result(place));
                let data = json!({ "class": class, "code": code, "message": message });
                self.tell("compensation_failed", &job.key, data);
            }
        }
    }

    fn tell(&mut self, kind: &str, job: &JobKey, data: Value) {
        let (kind, job) = (kind.to_owned(), Some(job.clone()));
        self.events.push(NewEvent { kind, job, attempt: None, data });
    }

    fn undo_job(
        &mut self,
        board: &mut Board<'_>,
        machine: &Machine,
        staging: &Staging,
        (place, until): (usize, Option<Timestamp>),
        at: &Circumstances,
    ) {
        let job = &machine.jobs[place];
        let Some(planned) = staging.stage(&job.stage) else { return };
        let (state, result) = (job.state, job.result.as_deref());
        let undo = Undo {
            stage: job.stage.clone(),
            key: item(&job.key, &job.stage, state, None, None).key,
            input: &job.given.input,
            result: result.unwrap_or(&Value::Null),
            reason: reason(machine.failure.as_ref()),
        };
        let (mut input, key) = (json!(undo), undoing_key(&job.key));
        let bytes = input.to_string().len();
        let mut failed = None;
        if bytes > PAYLOAD_BYTES_MAX - AROUND_BYTES {
            let text = format!(
                "what job {} was given and what it gave have {bytes} bytes together: more than one job can be given",
                job.key
            );
            failed =
                Some(json!({ "class": FailureClass::Limit, "code": "PL801", "message": text }));
            input = Value::Null;
        }
        let work = planned.undoing.activity.unwrap_or_default().to_owned();
        let given = Given { work, input, ..Given::default() };
        let retry = planned.undoing.retry;
        let policy = policy_of(retry, Timeouts::default(), until, &at.settings, at.now);
        let kind = JobKind::Activity;
        let part = JobPart { kind, failed: failed.clone(), ..JobPart::default() };
        let mut new = new_job(COMPENSATION.to_owned(), key.clone(), given, part, policy);
        self.tell("compensation_started", &key, json!({ "undoes": job.key }));
        if let Some(failed) = failed {
            self.tell("compensation_failed", &key, failed);
        } else {
            new.claim_for = at.claim_for.clone();
        }
        board.add_key(&key);
        self.new_jobs.push(new);
    }

    /// `left`: what was not even begun.
    fn end_undoing(
        &mut self,
        board: &mut Board<'_>,
        machine: &Machine,
        place: usize,
        left: &[usize],
    ) {
        let count = board.count(COMPENSATION);
        let own = machine.jobs.iter().enumerate().filter(|(_, job)| job.stage == COMPENSATION);
        let failed = own.filter(|(place, _)| fails(board.state(*place), board.skipped(*place)));
        let told = failed.take(TOLD_MAX).map(|(place, job)| {
            let Failure { class, code, message, .. } = failure_of(board.result(place));
            json!({ "job": item(&job.key, COMPENSATION, job.state, None, None).key, "class": class, "code": code, "message": message })
        });
        let told: Vec<Value> = told.collect();
        let is_whole = count.failing == 0 && left.is_empty();
        let mut failure = machine.failure.clone().unwrap_or_else(|| json!({ "cause": "failure" }));
        let cause = cause(&failure);
        let mut about = json!({ "undone": count.ends.settled() - count.failing as u64 });
        if !is_whole {
            about["failed"] = json!(count.failing);
            about["not_begun"] = json!(left.len());
            about["failures"] = told.into();
        }
        failure["compensation"] = about;
        let to = match is_whole {
            true => run_outcome_of::<StageOutcome>(Some(cause), []),
            false => RunState::CompensationFailed,
        };
        let outcome = match is_whole {
            true => stage_outcome(&count.ends, &FailurePolicy::default(), false),
            false => StageOutcome::Failed,
        };
        self.step_stage(board, place, COMPENSATION, StageState::Sealed, None);
        self.step_stage(board, place, COMPENSATION, StageState::Closed, Some(outcome));
        self.run_step = Some(RunStep { from: machine.state, to, failure: Some(failure) });
        self.state = to;
    }
}

/// Why a run ends that is recorded with that failure.
pub(super) fn cause(failure: &Value) -> RunCause {
    match failure["cause"].as_str() {
        Some("cancel") => RunCause::Cancel,
        Some("deadline") => RunCause::Deadline,
        Some(_) | None => RunCause::Failure,
    }
}

fn reason(failure: Option<&Value>) -> UndoReason {
    match cause(failure.unwrap_or(&Value::Null)) {
        RunCause::Cancel => UndoReason::Cancelled,
        RunCause::Deadline => UndoReason::TimedOut,
        RunCause::Failure => UndoReason::Failed { failure: failure_of(failure) },
    }
}
