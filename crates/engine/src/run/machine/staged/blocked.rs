//! Jobs that wait for other jobs of their stage, and jobs of an earlier round that their edge has to give once more.

use perennial_core::{
    FailureClass,
    run::{JobKey, JobState, SkipReason, StageState},
};
use perennial_store::JobStep;
use serde_json::{Value, json};

use super::{
    super::{Job, Machine, draft::Draft, jobs::is_thorough},
    Board,
};
use crate::staged::{PlannedStage, job_key};

/// What a job that waits is in for.
enum Fate {
    Waits,
    Ready,
    /// What it comes after did not succeed, or it does not come any more.
    Skipped(SkipReason, String),
    /// It can never come.
    Failed(String),
}

impl Draft {
    /// What waits in a stage goes on, or ends, as far as that is known now.
    pub(super) fn settle_blocked(
        &mut self,
        board: &mut Board<'_>,
        machine: &Machine,
        planned: &PlannedStage,
        place: usize,
    ) {
        let is_open = |board: &Board<'_>, at: usize| {
            let job = &machine.jobs[at];
            job.state == JobState::Blocked && job.parent.is_none() && !board.has_changed(at)
        };
        let is_final = board.stages[place].0 == StageState::Sealed;
        let Some(of) = machine.jobs.tally().stage(&planned.name) else { return };
        // Nothing new is known of the others.
        let mut waiting = board.take_ripe(&planned.name);
        waiting.extend(&of.ripe);
        if is_final {
            waiting.extend(&of.lacking);
        }
        // What is skipped may decide about others, each time in the order of the list.
        loop {
            let (mut from, before) = (0, self.job_steps.len());
            if is_thorough() {
                waiting.extend(&of.open);
            }
            while let Some(at) = waiting.range(from..).next().copied() {
                from = at + 1;
                waiting.remove(&at);
                if is_open(board, at) {
                    let fate = fate(board, machine, &machine.jobs[at], is_final);
                    self.meet(board, machine, at, fate);
                    waiting.append(&mut board.take_ripe(&planned.name));
                }
            }
            let is_over = !is_thorough() || self.job_steps.len() == before;
            if waiting.is_empty() && is_over {
                break;
            }
        }
        let adds = self.new_jobs.iter().any(|new| new.stage == planned.name);
        let count = board.count(&planned.name);
        if is_final && !adds && count.blocked > 0 && count.open == count.blocked {
            let waiting = of.open.iter().copied().filter(|at| is_open(board, *at));
            for at in waiting.collect::<Vec<usize>>() {
                let text = "it comes after itself: what it waits for waits for it".to_owned();
                self.meet(board, machine, at, Fate::Failed(text));
            }
        }
    }

    fn meet(&mut self, board: &mut Board<'_>, machine: &Machine, place: usize, fate: Fate) {
        let job = &machine.jobs[place];
        match fate {
            Fate::Waits => (),
            Fate::Ready => self.step_job(board, machine, place, JobState::Ready, |step| step),
            Fate::Skipped(reason, why) => {
                self.cancel_below(board, machine, job);
                let about = json!({ "reason": reason.name(), "why": why });
                self.step_job(board, machine, place, JobState::Skipped, |step| JobStep {
                    skipped: Some(reason),
                    result: Some(Value::String(why)),
                    about,
                    ..step
                });
            }
            Fate::Failed(text) => {
                self.cancel_below(board, machine, job);
                let record =
                    json!({ "class": FailureClass::Permanent, "code": "PL699", "message": text });
                self.step_job(board, machine, place, JobState::Failed, |step| JobStep {
                    result: Some(record.clone()),
                    about: record,
                    ..step
                });
            }
        }
    }
}

fn fate(board: &Board<'_>, machine: &Machine, job: &Job, is_final: bool) -> Fate {
    if job.given.awaits_feed {
        let why = "what it followed from does not give it any more".to_owned();
        return if is_final { Fate::Skipped(SkipReason::NotApplicable, why) } else { Fate::Waits };
    }
    let mut is_ready = true;
    for own in &job.given.after {
        let key = job_key(&job.stage, own);
        match state_of(board, machine, &key) {
            Some(JobState::Succeeded | JobState::Partial) => (),
            Some(state) if state.is_terminal() => {
                let why = format!("{key}, which it comes after, is {state}");
                return Fate::Skipped(SkipReason::Upstream, why);
            }
            Some(_) => is_ready = false,
            None if is_final && !board.adds(&key) => {
                return Fate::Failed(format!("it comes after {key}, which is not there"));
            }
            None => is_ready = false,
        }
    }
    if is_ready { Fate::Ready } else { Fate::Waits }
}

fn state_of(board: &Board<'_>, machine: &Machine, key: &JobKey) -> Option<JobState> {
    let place = machine.jobs.index().by_key(key)?;
    Some(board.state(place))
}

impl Board<'_> {
    /// The job of an earlier round that its edge, or its group, gives once more.
    pub(super) fn comes_again(&self, machine: &Machine, key: &JobKey) -> Option<usize> {
        let place = machine.jobs.index().by_key(key)?;
        let job = &machine.jobs[place];
        let is_meant = job.parent.is_some() || job.given.awaits_feed;
        let is_left = job.state == JobState::Blocked && !self.has_changed(place);
        (is_meant && is_left).then_some(place)
    }

    /// Children of a group that wait for it to be expanded again.
    pub(super) fn left_below(&self, machine: &Machine, group: &Job) -> Vec<usize> {
        let children = machine.jobs.index().children(&group.key).iter().copied();
        children
            .filter(|child| self.comes_again(machine, &machine.jobs[*child].key).is_some())
            .collect()
    }
}
