//! What follows in a run that has a plan of stages: feeds, seals, groups and outcomes, all of it in the decision
//! about the fact that it follows from (SM-22).

mod blocked;
mod board;
mod compensation;
mod driven;
mod groups;
mod progress;

use std::time::Duration;

use perennial_core::{
    Timestamp,
    failure::Failure,
    retry::RetryPolicy,
    run::{
        Ends, FailurePolicy, JobKey, JobKind, JobState, RunCause, RunState, SkipReason, StageEnd,
        StageOutcome, StageState, run_outcome_of, stage_outcome,
    },
    service::ServiceKey,
};
use perennial_store::{JobPart, JobStep, NewJob, RunStep, StageStep};
use serde_json::{Map, Value, json};

pub(in crate::run) use self::compensation::Completed;
pub(crate) use self::groups::child_job;
use self::{board::Board, compensation::cause};
use super::{
    Circumstances, Job, Machine, Policy,
    draft::Draft,
    outcome::nothing_done,
    tally::{Count, fails},
};
use crate::{
    EngineSettings,
    run::guard::Guard,
    staged::{
        Edge, JobSpec, PlannedFeed, PlannedJob, PlannedStage, Staging, Timeouts, Upstream,
        UpstreamFailure, Work, item, job_key,
    },
    workflow::Given,
};

impl Machine {
    /// Its stages as whoever looks at the tree sees them; nothing where it has none of a plan.
    pub(in crate::run) fn stages_in_short(&self) -> Option<Value> {
        if !self.is_staged {
            return None;
        }
        let stages = self.stages.iter().map(|stage| {
            let of = self.jobs.tally().stage(&stage.name);
            let Count { ends, open, held, .. } = of.map(|of| of.count).unwrap_or_default();
            let (under_way, waiting) = (held as u64, (open - held) as u64);
            let mut about = Map::new();
            about.insert("stage".to_owned(), json!(stage.name));
            about.insert("state".to_owned(), json!(stage.state));
            if let Some(outcome) = stage.outcome {
                about.insert("outcome".to_owned(), json!(outcome));
            }
            if let Some(most) = stage.concurrency {
                about.insert("places".to_owned(), json!(most));
            }
            let counts = [
                ("under_way", under_way),
                ("waiting", waiting),
                ("succeeded", ends.succeeded),
                ("partial", ends.partial),
                ("failed", ends.failed),
                ("skipped", ends.neutral + ends.degrading),
                ("cancelled", ends.cancelled),
            ];
            about.extend(
                counts
                    .into_iter()
                    .filter(|(_, count)| *count > 0)
                    .map(|(name, count)| (name.to_owned(), json!(count))),
            );
            Value::Object(about)
        });
        Some(stages.collect())
    }

    /// How many due jobs a claim would find, no more than `most`: of a stage no more than it has places for.
    pub(super) fn due_in_stages(&self, now: Timestamp, most: usize) -> usize {
        let mut found = 0;
        for stage in self.stages.iter().filter(|stage| stage.state.is_claimable()) {
            let Some(of) = self.jobs.tally().stage(&stage.name) else { continue };
            let places = stage.concurrency.map_or(usize::MAX, |most| most as usize);
            let free = places.saturating_sub(of.count.held);
            found += of.own.due(now, free.min(most - found));
            found += of.below.due(now, most - found);
        }
        found
    }
}

impl Draft {
    /// Everything that follows in a run that goes on. Nothing when nobody knows what follows: then what has happened
    /// is recorded, and whoever decides next looks at all of it.
    pub(super) fn follow_plan(
        &mut self,
        workflow: &Guard<'_>,
        machine: &Machine,
        at: &Circumstances,
    ) -> Option<()> {
        let staging = workflow.staging()?;
        let mut board = Board::of(machine, self);
        self.join_groups(&mut board, machine, staging, at);
        if let Some(stopped) = self.stop_stages(&mut board, machine, staging) {
            self.fail_run(&stopped.0, 0, &stopped.1);
            self.close_stages(workflow, machine, at);
            return None;
        }
        self.follow_stages(&mut board, workflow, machine, staging, at)?;
        self.expand_groups(&mut board, machine, staging, at);
        // One that is paused, or was until now, ends with the next look.
        if self.state == RunState::Running && machine.state == RunState::Running {
            self.close_run(&mut board, machine, staging, at);
        }
        self.note_progress(&board, machine, staging);
        #[cfg(test)]
        board.assert_counts(self);
        Some(())
    }

    /// What a group has under way ends before it does.
    pub(super) fn stop_below(&mut self, machine: &Machine, group: &Job) {
        let mut board = Board::of(machine, self);
        self.cancel_below(&mut board, machine, group);
    }

    /// Stages by their feeds, then what the workflow says of driven ones, and what follows from that. Nothing when nobody
    /// knows.
    fn follow_stages(
        &mut self,
        board: &mut Board<'_>,
        workflow: &Guard<'_>,
        machine: &Machine,
        staging: &Staging,
        at: &Circumstances,
    ) -> Option<()> {
        self.follow_feeds(board, workflow, machine, staging, 0, at)?;
        match self.ask_next(board, workflow, machine, staging, at)? {
            // What is fed by one that is sealed now comes after it.
            Some(sealed) => self.follow_feeds(board, workflow, machine, staging, sealed, at),
            None => Some(()),
        }
    }

    /// Stages in order, from that place on: what feeds one is known when it is looked at. Nothing when an edge panicked.
    fn follow_feeds(
        &mut self,
        board: &mut Board<'_>,
        workflow: &Guard<'_>,
        machine: &Machine,
        staging: &Staging,
        from: usize,
        at: &Circumstances,
    ) -> Option<()> {
        for (place, planned) in staging.stages.iter().enumerate().skip(from) {
            let state = board.stages[place].0;
            if state == StageState::Closed {
                continue;
            }
            if let Some(edge) = planned.feed.edge() {
                let upstream =
                    staging.stages.iter().position(|stage| stage.name == edge.upstream)?;
                let is_over = board.stages[upstream].0 == StageState::Closed;
                let is_due = match planned.feed {
                    PlannedFeed::Barrier(_) => state == StageState::Waiting && is_over,
                    PlannedFeed::PerItem(_) => state == StageState::Open,
                    PlannedFeed::Jobs(_) | PlannedFeed::Driven => false,
                };
                if is_due {
                    self.feed(board, workflow, machine, staging, (planned, edge), at)?;
                }
                if is_over && state != StageState::Sealed {
                    self.step_stage(board, place, &planned.name, StageState::Sealed, None);
                }
            }
            self.settle_blocked(board, machine, planned, place);
            self.close_stage_if_done(board, place, planned, false);
        }
        Some(())
    }

    /// The jobs that follow from those of the upstream that ended with this decision; from all that have ended where
    /// nobody has looked yet, and at a barrier. What is there already is not made again.
    fn feed(
        &mut self,
        board: &mut Board<'_>,
        workflow: &Guard<'_>,
        machine: &Machine,
        staging: &Staging,
        (planned, edge): (&PlannedStage, &Edge),
        at: &Circumstances,
    ) -> Option<()> {
        let is_barrier = matches!(planned.feed, PlannedFeed::Barrier(_));
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        let places: Vec<usize> = if is_barrier || !machine.is_fed {
            (0..machine.jobs.len()).collect()
        } else {
            board.changed().collect()
        };
        for place in places {
            let (job, state) = (&machine.jobs[place], board.state(place));
            if job.stage != edge.upstream || job.parent.is_some() || !state.is_terminal() {
                continue;
            }
            let (skipped, result) = (board.skipped(place), board.result(place));
            let item = item(&job.key, &job.stage, state, skipped, result);
            if item.is_success() { good.push(item) } else { bad.push(item) }
        }
        // Skipped or failed from the beginning, by this decision.
        for new in self.new_jobs.iter().filter(|new| new.stage == edge.upstream) {
            let Some(state) = ended_at_once(&new.part) else { continue };
            bad.push(item(&new.key, &new.stage, state, new.part.skipped, None));
        }
        let given = staging.settings.get("input").unwrap_or(&Value::Null);
        let mut specs = Vec::new();
        if is_barrier {
            specs = workflow.feed(edge, given, &Upstream { items: good })?;
        } else {
            for item in good {
                specs.extend(workflow.feed(edge, given, &Upstream { items: vec![item] })?);
            }
        }
        for JobSpec { key, input, after, uses, priority } in specs {
            let uses = at.services.offered.of_job(planned.uses.iter().chain(&uses), &machine.run);
            let (input, born) = match input {
                Ok(input) => (input, Born::Open),
                Err(why) => (Value::Null, Born::failed(format!("its input cannot be kept: {why}"))),
            };
            let job = PlannedJob { key, input, after, uses, priority };
            self.add_job(board, machine, planned, &job, born, at);
        }
        for item in bad {
            let born = match edge.on_failure {
                UpstreamFailure::Omit => continue,
                UpstreamFailure::FailStage if fails(item.state, item.skipped) => {
                    let (stage, key, state) = (edge.upstream, &item.key, item.state);
                    Born::failed(format!("{stage}/{key}, which it follows from, is {state}"))
                }
                UpstreamFailure::FailStage | UpstreamFailure::Skip => Born::Skipped,
            };
            let (after, uses) = (Vec::new(), Vec::new());
            let (input, priority) = (Value::Null, None);
            let job = PlannedJob { key: item.key, input, after, uses, priority };
            self.add_job(board, machine, planned, &job, born, at);
        }
        Some(())
    }

    fn add_job(
        &mut self,
        board: &mut Board<'_>,
        machine: &Machine,
        planned: &PlannedStage,
        spec: &PlannedJob,
        born: Born,
        at: &Circumstances,
    ) {
        let key = job_key(&planned.name, &spec.key);
        let born = match (born, planned.limit_of(&spec.input)) {
            (Born::Open, Err(failure)) => Born::Failed(record_of(&failure)),
            (born, Ok(_) | Err(_)) => born,
        };
        let (state, skipped, failed) = match born {
            Born::Open if spec.after.is_empty() => (JobState::Ready, None, None),
            Born::Open => (JobState::Blocked, None, None),
            Born::Skipped => (JobState::Skipped, Some(SkipReason::Upstream), None),
            Born::Failed(record) => (JobState::Failed, None, Some(record)),
        };
        let mut again = 0;
        if let Some(place) = board.comes_again(machine, &key) {
            let job = &machine.jobs[place];
            again = job.given.again;
            if state.is_terminal() {
                self.cancel_below(board, machine, job);
            }
            board.change(place, state, skipped, failed.clone());
        } else if board.add_key(&key) {
            board.count_new(&planned.name, state, skipped);
        } else {
            return;
        }
        let uses = if state.is_terminal() { Vec::new() } else { spec.uses.clone() };
        let made = planned_job(planned, key, spec.given(again), uses, &at.settings, at.now);
        let mut job = spec.placed(made);
        let is_blocked = state == JobState::Blocked;
        let limit = job.part.limit.filter(|_| !state.is_terminal());
        job.part = JobPart { skipped, failed, is_blocked, limit, ..job.part };
        self.new_jobs.push(job);
    }

    /// Stages whose policy says that it is enough. A required one stops its run; what goes on of another is cancelled.
    fn stop_stages(
        &mut self,
        board: &mut Board<'_>,
        machine: &Machine,
        staging: &Staging,
    ) -> Option<(JobKey, Failure)> {
        for planned in &staging.stages {
            let ends = board.ends(&planned.name);
            if !policy(board, planned).stops(&ends) {
                continue;
            }
            if planned.required {
                // Once: with this its run ends.
                let (job, cause) = first_failed(board, machine, planned)?;
                let text = format!(
                    "stage {} stopped: {} of {} jobs failed; {}: {}",
                    planned.name,
                    ends.failed,
                    ends.settled(),
                    job.key,
                    cause.message
                );
                let failure = Failure::new(cause.class, &cause.code, text);
                return Some((job.key.clone(), failure));
            }
            let of = machine.jobs.tally().stage(&planned.name);
            let open = of.into_iter().flat_map(|of| &of.open).copied().collect();
            self.cancel(board, machine, open);
        }
        None
    }

    fn close_stage_if_done(
        &mut self,
        board: &mut Board<'_>,
        place: usize,
        planned: &PlannedStage,
        cancelling: bool,
    ) {
        let (state, _) = board.stages[place];
        let ends = board.ends(&planned.name);
        if (state == StageState::Sealed || cancelling) && board.count(&planned.name).open == 0 {
            let outcome = stage_outcome(&ends, &policy(board, planned), cancelling);
            self.step_stage(board, place, &planned.name, StageState::Closed, Some(outcome));
        }
    }

    /// Two steps of one stage in one decision are made one after the other.
    fn step_stage(
        &mut self,
        board: &mut Board<'_>,
        place: usize,
        stage: &str,
        to: StageState,
        outcome: Option<StageOutcome>,
    ) {
        let from = board.stages[place].0;
        self.stages.push(StageStep { stage: stage.to_owned(), from, to, outcome });
        board.stages[place] = (to, outcome);
    }

    /// The run ends with the last of its stages, or begins to undo what it has done.
    fn close_run(
        &mut self,
        board: &mut Board<'_>,
        machine: &Machine,
        staging: &Staging,
        at: &Circumstances,
    ) {
        let ends = staging.stages.iter().zip(&board.stages).map(|(planned, (state, outcome))| {
            let outcome = outcome.filter(|_| *state == StageState::Closed)?;
            Some(StageEnd::new(outcome, planned.required, &board.ends(&planned.name)))
        });
        let Some(ends) = ends.collect::<Option<Vec<StageEnd>>>() else { return };
        let to = run_outcome_of(None, ends.iter().copied());
        let failure = (to == RunState::Failed).then(|| {
            if ends.iter().any(|end| end.has_success) {
                failed_stages(board, machine, staging)
            } else {
                nothing_done()
            }
        });
        if to == RunState::Failed && Self::undoes(board, machine, staging) {
            return self.begin_undoing(board, machine, failure, at);
        }
        self.close_undoing(board, machine);
        self.run_step = Some(RunStep { from: machine.state, to, failure });
        self.state = to;
    }

    /// A run that is ending: what waits is cancelled, and with the last attempt its stages close, and it, unless it has to
    /// undo what it has done.
    pub(super) fn close_stages(
        &mut self,
        workflow: &Guard<'_>,
        machine: &Machine,
        at: &Circumstances,
    ) {
        if self.state.goes_on() || machine.state.is_terminal() {
            return;
        }
        let mut board = Board::of(machine, self);
        let open = machine.jobs.tally().open().iter().copied();
        let waiting = open.filter(|place| machine.jobs[*place].state != JobState::Leased).collect();
        self.cancel(&mut board, machine, waiting);
        self.cancel_settled_groups(&mut board, machine);
        let failure = self.run_step.as_ref().and_then(|step| step.failure.clone());
        let failure = failure.or_else(|| machine.failure.clone());
        let cause = cause(failure.as_ref().unwrap_or(&Value::Null));
        let from = machine.state;
        let target = run_outcome_of::<StageOutcome>(Some(cause), []);
        let live = board.open() > 0;
        let staging = workflow.staging();
        let undoes = staging.is_some_and(|staging| Self::undoes(&board, machine, staging));
        // Whoever is cancelled, or out of time, stops before.
        let may_end = !undoes || from == RunState::Cancelling || cause == RunCause::Failure;
        let target = if undoes { RunState::Compensating } else { target };
        if !live && may_end && from.enter(target).is_ok() {
            if undoes {
                self.begin_undoing(&mut board, machine, failure, at);
            } else {
                self.close_undoing(&mut board, machine);
                self.run_step = Some(RunStep { from, to: target, failure });
            }
            let cancelling = cause != RunCause::Failure;
            for (place, stage) in machine.stages.iter().enumerate() {
                let is_undoing = undoes && machine.is_undoing(&stage.name);
                if board.stages[place].0 == StageState::Closed || is_undoing {
                    continue;
                }
                let planned = staging.and_then(|staging| staging.stage(&stage.name));
                let policy = planned.map(|planned| policy(&board, planned));
                let policy = policy.unwrap_or_default();
                let ends = board.ends(&stage.name);
                let mut outcome = stage_outcome(&ends, &policy, cancelling);
                if outcome == StageOutcome::Skipped && cancelling {
                    // It was not done because its run ended.
                    outcome = StageOutcome::Cancelled;
                }
                self.step_stage(&mut board, place, &stage.name, StageState::Closed, Some(outcome));
            }
        } else if from == RunState::Cancelling {
            self.run_step = None;
        } else {
            // The last attempt to end closes the run; without one, the next look does.
            self.run_step = Some(RunStep { from, to: RunState::Cancelling, failure });
        }
        if let Some(staging) = staging {
            self.note_progress(&board, machine, staging);
        }
    }

    /// Ends those of the jobs that have not ended: children before their groups. A group waits for children that are
    /// under way when it is not itself cancelled with them.
    fn cancel(&mut self, board: &mut Board<'_>, machine: &Machine, places: Vec<usize>) {
        let (mut jobs, mut groups): (Vec<usize>, Vec<usize>) =
            places.into_iter().partition(|place| machine.jobs[*place].kind != JobKind::Group);
        groups.retain(|place| {
            // Also those that wait for their turn; one that joins ends with the last of its children.
            matches!(board.state(*place), JobState::Ready | JobState::Blocked | JobState::Deferred)
        });
        jobs.append(&mut groups);
        for place in jobs {
            self.step_job(board, machine, place, JobState::Cancelled, |step| step);
        }
    }

    /// One more step of a job that has not ended and has none in this decision.
    fn step_job(
        &mut self,
        board: &mut Board<'_>,
        machine: &Machine,
        place: usize,
        to: JobState,
        with: impl FnOnce(JobStep) -> JobStep,
    ) {
        let (job, state) = (&machine.jobs[place], board.state(place));
        if state.is_terminal() || board.has_changed(place) {
            return;
        }
        let step = with(JobStep::new(job.id, state, to));
        board.change(place, to, step.skipped, step.result.clone());
        self.job_steps.push(step);
    }
}

/// How a job of a stage comes into being.
enum Born {
    /// To be done.
    Open,
    /// What it follows from did not succeed.
    Skipped,
    /// With that record.
    Failed(Value),
}

impl Born {
    fn failed(text: String) -> Self {
        let class = perennial_core::FailureClass::Permanent;
        Self::Failed(json!({ "class": class, "code": "PL699", "message": text }))
    }
}

/// How an own job of a stage ended that did so as it came into being.
fn ended_at_once(part: &JobPart) -> Option<JobState> {
    match part {
        part if part.parent.is_some() => None,
        part if part.skipped.is_some() => Some(JobState::Skipped),
        part if part.failed.is_some() => Some(JobState::Failed),
        _ => None,
    }
}

/// What failures of its jobs mean for a stage now: one that fails with its upstream takes none once that has failed.
fn policy(board: &Board<'_>, planned: &PlannedStage) -> FailurePolicy {
    let edge = planned.feed.edge().filter(|edge| edge.on_failure == UpstreamFailure::FailStage);
    let is_failed = edge.is_some_and(|edge| board.count(edge.upstream).failing > 0);
    if is_failed { FailurePolicy::FAIL_FAST } else { planned.on_failure }
}

/// The first job of a stage that has failed, and of what.
fn first_failed<'m>(
    board: &Board<'_>,
    machine: &'m Machine,
    planned: &PlannedStage,
) -> Option<(&'m Job, Failure)> {
    let failed = |(place, job): &(usize, &Job)| {
        let state = board.state(*place);
        job.stage == planned.name && job.parent.is_none() && state == JobState::Failed
    };
    let (place, job) = machine.jobs.iter().enumerate().find(failed)?;
    Some((job, crate::staged::failure_of(board.result(place))))
}

/// Why a run failed although something of it succeeded: the first failure of those that it did not tolerate.
fn failed_stages(board: &Board<'_>, machine: &Machine, staging: &Staging) -> Value {
    let is_failed = |(planned, (_, outcome)): &(&PlannedStage, &(StageState, _))| {
        planned.required && matches!(outcome, Some(StageOutcome::Failed | StageOutcome::Cancelled))
    };
    let stages = staging.stages.iter().zip(&board.stages).filter(is_failed);
    let failed: Vec<&PlannedStage> = stages.map(|(planned, _)| planned).collect();
    let names = failed.iter().map(|planned| {
        let Ends { failed, .. } = board.ends(&planned.name);
        format!("{} ({failed} of its jobs failed)", planned.name)
    });
    let names = names.collect::<Vec<_>>().join(", ");
    let text = format!("more failed than is tolerated: {names}");
    let first = failed.iter().find_map(|planned| first_failed(board, machine, planned));
    let failure = match first {
        Some((job, Failure { class, code, message, .. })) => {
            Failure::new(class, &code, format!("{text}; {}: {message}", job.key))
        }
        None => Failure::new(perennial_core::FailureClass::Permanent, "PL699", text),
    };
    let mut record = record_of(&failure);
    record["cause"] = json!("failure");
    record
}

fn record_of(Failure { class, code, message, .. }: &Failure) -> Value {
    json!({ "class": class, "code": code, "message": message })
}

/// A job of a stage as the store keeps it, with what it uses. One whose limit across runs is none has failed.
pub(crate) fn planned_job(
    planned: &PlannedStage,
    key: JobKey,
    given: Given,
    uses: Vec<ServiceKey>,
    settings: &EngineSettings,
    now: Timestamp,
) -> NewJob {
    let (kind, work) = match planned.work {
        Work::Activity(name) => (JobKind::Activity, name),
        Work::Group(name) => (JobKind::Group, name),
    };
    let is_blocked = !given.after.is_empty();
    let given = Given { work: work.to_owned(), ..given };
    let (limit, failed) = match planned.limit_of(&given.input) {
        Ok(limit) => (limit, None),
        Err(failure) => (None, Some(record_of(&failure))),
    };
    let priority = planned.priority;
    let part = JobPart { kind, is_blocked, uses, limit, failed, priority, ..JobPart::default() };
    let policy = policy_of(planned.retry, planned.timeouts, None, settings, now);
    new_job(planned.name.clone(), key, given, part, policy)
}

/// How a job is tried and what it may take. What its plan does not say the settings do, and it stays so for good.
fn policy_of(
    retry: Option<RetryPolicy>,
    timeouts: Timeouts,
    no_later: Option<Timestamp>,
    settings: &EngineSettings,
    now: Timestamp,
) -> Policy {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let own = timeouts.job.map(|within| now.after(within));
    let deadline = own.into_iter().chain(no_later).min();
    Policy {
        retry: retry.unwrap_or(settings.retry),
        attempt_within_ms: millis(timeouts.attempt.unwrap_or(settings.start_to_close)),
        heartbeat_within_ms: timeouts.heartbeat.map(millis),
        deadline: deadline.map(Timestamp::as_micros),
        within_ms: deadline.map(|deadline| millis(deadline.since(now))),
    }
}

fn new_job(stage: String, key: JobKey, given: Given, part: JobPart, policy: Policy) -> NewJob {
    let mut input = Map::new();
    for part in [json!(policy), json!(given)] {
        if let Value::Object(part) = part {
            input.extend(part);
        }
    }
    NewJob {
        stage,
        key,
        max_attempts: policy.retry.max_attempts,
        crashes_max: policy.retry.crashes_max,
        input: input.into(),
        claim_for: None,
        part,
    }
}

#[cfg(test)]
mod tests;
