//! A further round of a run in stages that has ended: what is made again, and what that opens (DUR-65, DUR-66).
//!
//! Pure, and from rows alone. What is made again at once is Ready. What its edge has to give once more, or its group, is Blocked and
//! says so in what it was given; it gets a new input from there, or is skipped when it does not come any more.

use std::collections::{BTreeMap, BTreeSet};

use perennial_core::{
    Timestamp,
    run::{JobKey, JobKind, JobState, RunState, SkipReason, StageState},
};
use perennial_store::{Again, JobRecord, RunView, StageBack};
use serde_json::{Value, json};

use super::{COMPENSATION, PlannedFeed, PlannedStage, Staging, Upstream, item, job_key};

/// What is made again.
///
/// ```
/// use perennial::engine::{staged::Which, workflow::JobKey};
///
/// let one = Which::Job(JobKey::new("analysis/shop/static")); // this child; its group is joined again
/// assert_ne!(one, Which::Failed);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that failed: jobs, children of groups that are a success in part as well, and what was cancelled because
    /// something failed or the run was ended.
    Failed,
    /// The same of one stage; what was cancelled goes on in all of them.
    Stage(String),
    /// One job, or one child of a group, also one that has succeeded: the outside world then sees it under a new key.
    Job(JobKey),
}

/// What a further round begins with.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) again: Vec<Again>,
    pub(crate) stages: Vec<StageBack>,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoRound {
    /// Nothing of that kind has failed.
    Nothing,
    /// These stages have used results that would change.
    WouldInvalidate(Vec<String>),
    /// What it had done was undone: nothing of it can be kept.
    Undone,
}

struct Planning<'a> {
    view: &'a RunView,
    staging: &'a Staging,
    now: Timestamp,
    places: BTreeMap<&'a JobKey, usize>,
    children: BTreeMap<&'a JobKey, Vec<usize>>,
    /// The jobs of its stage that were skipped and come after that one.
    behind: BTreeMap<JobKey, Vec<usize>>,
    back: BTreeMap<usize, Back>,
    /// Stages that may get jobs which they did not have: driven ones whose workflow is asked again, and those behind them.
    grows: BTreeSet<&'a str>,
}

#[derive(Clone, Copy, Debug)]
struct Back {
    to: JobState,
    /// It had succeeded, and is another one for the outside world.
    anew: bool,
    /// Its edge gives it again.
    awaits_feed: bool,
}

/// The round in which `which` is made again. `cascade`: and whatever has used results of that.
pub(crate) fn plan(
    view: &RunView,
    staging: &Staging,
    which: &Which,
    cascade: bool,
    now: Timestamp,
) -> Result<Round, NoRound> {
    let is_undoing = |job: &JobRecord| staging.undoes() && job.stage == COMPENSATION;
    if view.run.state == RunState::CompensationFailed || view.jobs.iter().any(is_undoing) {
        return Err(NoRound::Undone);
    }
    let mut planning = Planning::of(view, staging, now);
    planning.choose(which)?;
    let invalidated = planning.follow(cascade);
    if !invalidated.is_empty() {
        return Err(NoRound::WouldInvalidate(invalidated));
    }
    Ok(Round { stages: planning.stages(), again: planning.again() })
}

impl<'a> Planning<'a> {
    fn of(view: &'a RunView, staging: &'a Staging, now: Timestamp) -> Self {
        let places = view.jobs.iter().enumerate().map(|(place, job)| (&job.key, place)).collect();
        let mut children: BTreeMap<&JobKey, Vec<usize>> = BTreeMap::new();
        for (place, job) in view.jobs.iter().enumerate() {
            if let Some(parent) = &job.parent {
                children.entry(parent).or_default().push(place);
            }
        }
        let mut behind: BTreeMap<JobKey, Vec<usize>> = BTreeMap::new();
        for (place, job) in view.jobs.iter().enumerate() {
            if job.skipped == Some(SkipReason::Upstream) {
                for own in after(job) {
                    behind.entry(job_key(&job.stage, &own)).or_default().push(place);
                }
            }
        }
        let (back, grows) = (BTreeMap::new(), BTreeSet::new());
        Self { view, staging, now, places, children, behind, back, grows }
    }

    fn children(&self, group: &JobKey) -> Vec<usize> {
        self.children.get(group).cloned().unwrap_or_default()
    }

    /// Whether it failed, or something below it did.
    fn is_failed(&self, place: usize) -> bool {
        let job = &self.view.jobs[place];
        match job.state {
            JobState::Failed | JobState::Cancelled => true,
            JobState::Partial => self.children(&job.key).into_iter().any(|it| self.is_failed(it)),
            JobState::Blocked
            | JobState::Ready
            | JobState::Leased
            | JobState::Deferred
            | JobState::Suspended
            | JobState::Joining
            | JobState::Succeeded => false,
            // What it needed was not there: that is a failure of something else.
            JobState::Skipped => job.skipped == Some(SkipReason::Unavailable),
        }
    }

    fn choose(&mut self, which: &Which) -> Result<(), NoRound> {
        // It ended before its plan did: what was given up with it goes on.
        let was_stopped = self.was_stopped();
        let own = |job: &JobRecord| job.parent.is_none();
        for place in 0..self.view.jobs.len() {
            let job = &self.view.jobs[place];
            let is_meant = match which {
                Which::Failed => own(job) && self.is_failed(place),
                Which::Stage(stage) => own(job) && job.stage == *stage && self.is_failed(place),
                Which::Job(_) => false,
            };
            if is_meant {
                self.set_back(place, false);
            }
        }
        if let Which::Job(key) = which {
            let place = *self.places.get(key).ok_or(NoRound::Nothing)?;
            self.choose_one(place)?;
        }
        if self.back.is_empty() {
            return Err(NoRound::Nothing);
        }
        for place in 0..self.view.jobs.len() {
            let job = &self.view.jobs[place];
            let is_cancelled = own(job) && job.state == JobState::Cancelled;
            if was_stopped && is_cancelled && !self.back.contains_key(&place) {
                self.set_back(place, false);
            }
        }
        Ok(())
    }

    fn was_stopped(&self) -> bool {
        match self.view.run.state {
            RunState::Failed | RunState::TimedOut | RunState::Cancelled => true,
            RunState::Pending
            | RunState::Running
            | RunState::Paused
            | RunState::Cancelling
            | RunState::Compensating
            | RunState::Succeeded
            | RunState::PartiallySucceeded
            | RunState::CompensationFailed => false,
        }
    }

    fn choose_one(&mut self, place: usize) -> Result<(), NoRound> {
        let job = &self.view.jobs[place];
        if job.skipped == Some(SkipReason::Upstream) {
            // It comes back with what it follows from.
            return Err(NoRound::Nothing);
        }
        match &job.parent {
            None => self.set_back(place, !self.is_failed(place)),
            Some(_) => {
                self.set_back_child(place, !self.is_failed(place));
                let mut inner = place;
                while let Some(group) = self.view.jobs[inner].parent.as_ref() {
                    let Some(outer) = self.places.get(group).copied() else { break };
                    let is_own = self.view.jobs[outer].parent.is_none();
                    let to = if is_own { JobState::Ready } else { JobState::Blocked };
                    self.put(outer, to, false);
                    inner = outer;
                }
                self.free_behind(inner);
            }
        }
        Ok(())
    }

    fn put(&mut self, place: usize, to: JobState, awaits_feed: bool) {
        let job = &self.view.jobs[place];
        // A group calls nobody.
        let anew = job.kind == JobKind::Activity
            && matches!(job.state, JobState::Succeeded | JobState::Partial);
        self.back.insert(place, Back { to, anew, awaits_feed });
    }

    /// A job of a stage; of a group what failed below it, or, when it is `whole`, everything.
    fn set_back(&mut self, place: usize, whole: bool) {
        let job = &self.view.jobs[place];
        // What others have to end before is looked at when the round begins.
        let to = if after(job).is_empty() { JobState::Ready } else { JobState::Blocked };
        // One that failed before it began has to be given once more.
        let is_fed = self.staging.stage(&job.stage).is_some_and(|it| it.feed.edge().is_some());
        let is_born_failed = job.state == JobState::Failed
            && job.attempt == 0
            && !self.children.contains_key(&job.key);
        if is_fed && is_born_failed {
            self.put(place, JobState::Blocked, true);
        } else {
            self.put(place, to, false);
        }
        self.set_back_below(place, whole);
        self.free_behind(place);
    }

    fn set_back_below(&mut self, group: usize, whole: bool) {
        for child in self.children(&self.view.jobs[group].key) {
            if whole || self.is_failed(child) {
                self.set_back_child(child, whole);
            }
        }
    }

    /// It comes back when its group is expanded again.
    fn set_back_child(&mut self, place: usize, whole: bool) {
        self.put(place, JobState::Blocked, false);
        self.set_back_below(place, whole);
    }

    /// Jobs of the stage that were skipped because they come after it.
    fn free_behind(&mut self, place: usize) {
        let mut freed = vec![place];
        while let Some(place) = freed.pop() {
            let behind = self.behind.get(&self.view.jobs[place].key).cloned().unwrap_or_default();
            for behind in behind {
                if !self.back.contains_key(&behind) {
                    self.put(behind, JobState::Blocked, false);
                    freed.push(behind);
                }
            }
        }
    }

    /// What follows from what is made again, stage by stage: the stages that have used what would change, unless they
    /// are made again as well.
    fn follow(&mut self, cascade: bool) -> Vec<String> {
        let mut invalidated = Vec::new();
        let staging = self.staging;
        for (at, planned) in staging.stages.iter().enumerate() {
            if planned.skip.is_some() {
                continue;
            }
            let Some(edge) = planned.feed.edge() else {
                if matches!(planned.feed, PlannedFeed::Driven) {
                    invalidated.extend(self.follow_driven(planned, at, cascade));
                }
                continue;
            };
            let grows = self.grows.contains(edge.upstream);
            if grows {
                self.grows.insert(&planned.name);
            }
            let of_upstream: Vec<usize> = self
                .back
                .keys()
                .copied()
                .filter(|place| {
                    let job = &self.view.jobs[*place];
                    job.stage == edge.upstream && job.parent.is_none()
                })
                .collect();
            if of_upstream.is_empty() && !grows {
                continue;
            }
            let (waiting, used) = match &planned.feed {
                PlannedFeed::Barrier(_) => self.of_stage(&planned.name),
                PlannedFeed::PerItem(_) | PlannedFeed::Jobs(_) | PlannedFeed::Driven => {
                    self.of_items(planned, &of_upstream)
                }
            };
            if !used.is_empty() && !cascade {
                invalidated.push(planned.name.clone());
            }
            self.await_feed(waiting.into_iter().chain(used));
        }
        invalidated
    }

    fn await_feed(&mut self, places: impl Iterator<Item = usize>) {
        for place in places {
            self.put(place, JobState::Blocked, true);
            self.set_back_below(place, true);
            self.free_behind(place);
        }
    }

    /// A driven stage is asked for again when something is made again in it, before it, or of what it feeds one by one.
    /// What it has stays, unless an earlier stage has given a result that would change: nobody knows what follows from that.
    fn follow_driven(
        &mut self,
        planned: &'a PlannedStage,
        at: usize,
        cascade: bool,
    ) -> Option<String> {
        let fed = self.fed_one_by_one(&planned.name);
        let mut is_asked = false;
        let mut is_changed = false;
        for place in self.back.keys() {
            let job = &self.view.jobs[*place];
            let is_before = self.staging.place(&job.stage).is_some_and(|of| of < at);
            is_asked |= is_before || job.stage == planned.name || fed.contains(job.stage.as_str());
            is_changed |= is_before && job.parent.is_none() && self.has_result(*place);
        }
        if is_asked {
            self.grows.insert(&planned.name);
        }
        if !is_changed {
            return None;
        }
        let (waiting, used) = self.of_stage(&planned.name);
        let refused = (!used.is_empty() && !cascade).then(|| planned.name.clone());
        self.await_feed(waiting.into_iter().chain(used));
        refused
    }

    /// Stages that get jobs from that one before it has closed.
    fn fed_one_by_one(&self, stage: &'a str) -> BTreeSet<&'a str> {
        let mut fed = BTreeSet::from([stage]);
        for planned in &self.staging.stages {
            if let PlannedFeed::PerItem(edge) = &planned.feed
                && fed.contains(edge.upstream)
            {
                fed.insert(&planned.name);
            }
        }
        fed
    }

    /// The own jobs of a stage: those that have nothing of what is made again, and those that have used it.
    fn of_stage(&self, stage: &str) -> (Vec<usize>, Vec<usize>) {
        let own = (0..self.view.jobs.len()).filter(|place| {
            let job = &self.view.jobs[*place];
            job.stage == stage && job.parent.is_none()
        });
        own.partition(|place| !self.has_result(*place))
    }

    /// The same of those that follow from these jobs of the upstream.
    fn of_items(&self, planned: &PlannedStage, items: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let Some(edge) = planned.feed.edge() else { return (Vec::new(), Vec::new()) };
        let given = self.staging.settings.get("input").unwrap_or(&Value::Null);
        let mut keys: BTreeSet<JobKey> = BTreeSet::new();
        for place in items {
            let job = &self.view.jobs[*place];
            let item = item(&job.key, &job.stage, job.state, job.skipped, job.result.as_ref());
            if item.is_success() {
                let specs = (edge.jobs)(given, &Upstream { items: vec![item] });
                keys.extend(specs.iter().map(|spec| job_key(&planned.name, &spec.key)));
            } else {
                keys.insert(job_key(&planned.name, &item.key));
            }
        }
        let found = keys.iter().filter_map(|key| self.places.get(key).copied());
        found.partition(|place| !self.has_result(*place))
    }

    fn has_result(&self, place: usize) -> bool {
        matches!(self.view.jobs[place].state, JobState::Succeeded | JobState::Partial)
    }

    /// The stages that are opened: those in which something is made again, and those behind them; all of a run that
    /// ended before its plan did.
    fn stages(&self) -> Vec<StageBack> {
        let mut opened: BTreeSet<&str> = BTreeSet::new();
        let mut stages = Vec::new();
        for planned in &self.staging.stages {
            let name = planned.name.as_str();
            let is_made_again = self.back.keys().any(|place| self.view.jobs[*place].stage == name);
            let is_behind = planned.feed.edge().is_some_and(|edge| opened.contains(edge.upstream));
            let is_empty = matches!(&planned.feed, PlannedFeed::Jobs(jobs) if jobs.is_empty());
            let is_asked = self.grows.contains(name);
            let is_meant = is_made_again || is_behind || is_asked || self.was_stopped();
            if !is_meant || planned.skip.is_some() || is_empty {
                continue;
            }
            opened.insert(name);
            // One that was fed before is fed once more: of the same jobs come the same keys.
            let state = match planned.feed {
                PlannedFeed::Jobs(_) => StageState::Sealed,
                PlannedFeed::PerItem(_) | PlannedFeed::Driven => StageState::Open,
                PlannedFeed::Barrier(_) => StageState::Waiting,
            };
            stages.push(StageBack { stage: name.to_owned(), state });
        }
        if self.staging.undoes() && !stages.is_empty() {
            let (stage, state) = (COMPENSATION.to_owned(), StageState::Waiting);
            stages.push(StageBack { stage, state });
        }
        stages
    }

    fn again(&self) -> Vec<Again> {
        let again = self.back.iter().map(|(place, back)| {
            let job = &self.view.jobs[*place];
            Again {
                job: job.id,
                forget_calls: back.anew,
                to: back.to,
                input: Some(self.given(job, *back)),
            }
        });
        again.collect()
    }

    /// What it is given from now on: its limits begin anew.
    fn given(&self, job: &JobRecord, back: Back) -> Value {
        let mut given = job.input.clone();
        let Some(parts) = given.as_object_mut() else { return given };
        if let (Some(_), Some(within)) =
            (parts.get("deadline"), parts.get("within_ms").and_then(Value::as_u64))
        {
            let deadline = self.now.after(std::time::Duration::from_millis(within));
            parts.insert("deadline".to_owned(), json!(deadline.as_micros()));
        }
        if back.anew {
            let times = parts.get("again").and_then(Value::as_u64).unwrap_or(0) + 1;
            parts.insert("again".to_owned(), json!(times));
        }
        if back.awaits_feed {
            parts.insert("awaits_feed".to_owned(), json!(true));
        }
        given
    }
}

/// Keys of the jobs of its stage that a job comes after.
fn after(job: &JobRecord) -> Vec<String> {
    let given = job.input.get("after").cloned().unwrap_or_default();
    serde_json::from_value(given).unwrap_or_default()
}
