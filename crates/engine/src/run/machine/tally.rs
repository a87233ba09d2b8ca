//! What is counted of the jobs of a run: told of each change of a job, so that no decision looks through all of them.
//! It is nothing of its own: counted anew from the list it is the same, and tests say so after each change.

mod chain;
mod count;
mod using;

pub(super) use self::{
    chain::{Chains, Met, Unmet},
    count::{Children, Count, Ready, fails},
    using::{Kind, Use, Waiting},
};

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
};

use perennial_core::{
    Timestamp,
    run::{JobKey, JobKind, JobState, Priority},
    service::ServiceKey,
};

use super::{Job, index::Index};
use crate::staged::JoinPolicy;

/// Jobs by a time of theirs, and by where they are in the list.
pub(super) type Times = BTreeSet<(Timestamp, usize)>;

/// Those of `times` that are not after `now`.
pub(super) fn due(times: &Times, now: Timestamp) -> impl Iterator<Item = usize> {
    times.range((Bound::Unbounded, Bound::Included((now, usize::MAX)))).map(|(_, place)| *place)
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Tally {
    policies: HashMap<String, JoinPolicy>,
    stages: HashMap<String, OfStage>,
    groups: HashMap<JobKey, Children>,
    chains: Chains,
    services: BTreeMap<ServiceKey, Use>,
    deferred: BTreeMap<Kind, Waiting>,
    /// All that have not ended.
    open: BTreeSet<usize>,
    leased: BTreeSet<usize>,
    /// Groups that wait for children no longer: all have ended, or their policy gives up the rest.
    settled: BTreeSet<usize>,
    /// Groups that wait for children, by when they must have ended.
    late: Times,
    /// Those that are claimed at a time.
    retries: Times,
    /// Those that are suspended, by the end of their wait.
    suspended: Times,
    /// Those that wait for something outside of the run.
    waiting: usize,
    /// Those that have come back to a service and are not claimed yet.
    back: usize,
    /// Those that ask for their turn with a key.
    turns: usize,
    /// Of each priority those that are claimed, now or at a time.
    ready: BTreeMap<Priority, usize>,
}

/// What is counted of the jobs of a stage. Its own jobs are those that are of no group.
#[derive(Debug, Default, PartialEq)]
pub(super) struct OfStage {
    /// Its own.
    pub(super) count: Count,
    /// Those that a claim finds, its own and those of groups.
    pub(super) own: Ready,
    pub(super) below: Ready,
    /// All that have not ended.
    pub(super) open: BTreeSet<usize>,
    /// Groups that could be expanded, in the order in which they come.
    pub(super) groups_own: BTreeSet<(Reverse<Priority>, usize)>,
    pub(super) groups_below: BTreeSet<(Reverse<Priority>, usize)>,
    /// Those that wait for other jobs, and need not any more.
    pub(super) ripe: BTreeSet<usize>,
    /// Those that wait for one that is not there.
    pub(super) lacking: BTreeSet<usize>,
    /// What of its groups that go on has ended, in millionths of a group.
    pub(super) of_groups: u64,
}

impl Tally {
    pub(super) fn new(policies: HashMap<String, JoinPolicy>) -> Self {
        Self { policies, ..Self::default() }
    }

    #[cfg(test)]
    pub(super) fn policies(&self) -> &HashMap<String, JoinPolicy> {
        &self.policies
    }

    /// The job at that place is counted as it is.
    pub(super) fn enter(&mut self, place: usize, list: &[Job], index: &Index) {
        let job = &list[place];
        self.below(job, list, index, |children| children.put(job.state, job.given.required));
        self.count(place, job, true);
        if job.parent.is_none() && job.state == JobState::Blocked {
            let met = |key: &JobKey| {
                index.by_key(key).map_or(Met::Absent, |place| Met::of(list[place].state))
            };
            let unmet = self.chains.enter(place, job, met);
            self.set_ripe(place, &job.stage, Some(unmet));
        }
        self.settle(place, job, true);
    }

    /// The job at that place is not counted any more.
    pub(super) fn leave(&mut self, place: usize, list: &[Job], index: &Index) {
        let job = &list[place];
        self.settle(place, job, false);
        if job.parent.is_none() && job.state == JobState::Blocked {
            self.chains.leave(place, job);
            self.set_ripe(place, &job.stage, None);
        }
        self.count(place, job, false);
        self.below(job, list, index, |children| children.take(job.state, job.given.required));
    }

    /// A job is to those that come after it what it was not before.
    pub(super) fn moved(&mut self, key: &JobKey, (from, to): (Met, Met), list: &[Job]) {
        for (place, unmet) in self.chains.moved(key, from, to) {
            self.set_ripe(place, &list[place].stage, Some(unmet));
        }
    }

    fn set_ripe(&mut self, place: usize, stage: &str, unmet: Option<Unmet>) {
        let of = self.stage_mut(stage);
        set(&mut of.ripe, place, unmet.is_some_and(Unmet::is_ripe));
        set(&mut of.lacking, place, unmet.is_some_and(Unmet::is_lacking));
    }

    /// What is counted of the children of a job's group changes, and what follows for the group.
    fn below(
        &mut self,
        job: &Job,
        list: &[Job],
        index: &Index,
        change: impl FnOnce(&mut Children),
    ) {
        let Some(key) = &job.parent else { return };
        let group = index.by_key(key).and_then(|place| Some((place, list.get(place)?)));
        if let Some((place, group)) = group {
            self.settle(place, group, false);
        }
        let children = self.groups.entry(key.clone()).or_default();
        change(children);
        if *children == Children::default() {
            self.groups.remove(key);
        }
        if let Some((place, group)) = group {
            self.settle(place, group, true);
        }
    }

    /// What follows for a group from its children, while it waits for them.
    fn settle(&mut self, place: usize, group: &Job, counts: bool) {
        if group.state != JobState::Joining {
            return;
        }
        let children = self.children(&group.key);
        let is_settled = children.is_settled(self.policy(&group.given.work));
        set(&mut self.settled, place, counts && is_settled);
        if group.parent.is_none() {
            let of = self.stage_mut(&group.stage);
            if counts {
                of.of_groups += children.share();
            } else {
                of.of_groups -= children.share();
            }
        }
    }

    fn count(&mut self, place: usize, job: &Job, counts: bool) {
        let is_open = !job.state.is_terminal();
        set(&mut self.open, place, counts && is_open);
        set(&mut self.leased, place, counts && job.state == JobState::Leased);
        step(&mut self.waiting, job.state.is_waiting(), counts);
        let is_ready = job.state == JobState::Ready;
        let is_back = is_ready && job.deferred_since.is_some() && !job.uses.is_empty();
        step(&mut self.back, is_back, counts);
        step(&mut self.turns, job.asks_turn(), counts);
        let of = self.stage_mut(&job.stage);
        set(&mut of.open, place, counts && is_open);
        if job.parent.is_none() {
            of.count.with(job.state, job.skipped, counts);
            step(&mut of.count.blocked, job.state == JobState::Blocked, counts);
        }
        if is_ready && job.kind == JobKind::Group {
            let is_own = job.parent.is_none();
            let groups = if is_own { &mut of.groups_own } else { &mut of.groups_below };
            set(groups, (Reverse(job.priority), place), counts);
        } else if is_ready {
            let ready = if job.parent.is_none() { &mut of.own } else { &mut of.below };
            ready.with(place, job.run_after, counts);
            let of = self.ready.entry(job.priority).or_default();
            step(of, true, counts);
            if *of == 0 {
                self.ready.remove(&job.priority);
            }
        }
        if let Some(at) = job.run_after.filter(|_| is_ready) {
            set(&mut self.retries, (at, place), counts);
        }
        if let Some(at) = job.policy.deadline().filter(|_| job.state == JobState::Joining) {
            set(&mut self.late, (at, place), counts);
        }
        let wait = job.wait.as_ref().filter(|_| job.state == JobState::Suspended);
        if let Some(waited) = wait {
            set(&mut self.suspended, (waited.wait.until, place), counts);
        }
        self.count_using(place, job, counts);
    }

    fn count_using(&mut self, place: usize, job: &Job, counts: bool) {
        for key in &job.uses {
            let of = self.services.entry(key.clone()).or_default();
            of.with(place, job, counts);
            if *of == Use::default() {
                self.services.remove(key);
            }
        }
        let deferral = job.deferral.as_ref().filter(|_| job.state == JobState::Deferred);
        if let Some(deferral) = deferral {
            let kind = Kind::of(&job.uses, &deferral.cause);
            if counts {
                self.deferred.entry(kind).or_default().add(place, deferral);
            } else if let Some(of) = self.deferred.get_mut(&kind) {
                of.remove(place, deferral);
                if of.places.is_empty() {
                    self.deferred.remove(&kind);
                }
            }
        }
    }

    fn stage_mut(&mut self, stage: &str) -> &mut OfStage {
        if !self.stages.contains_key(stage) {
            self.stages.insert(stage.to_owned(), OfStage::default());
        }
        // It is there by now.
        self.stages.entry(stage.to_owned()).or_default()
    }
}

impl Tally {
    pub(super) fn policy(&self, group: &str) -> JoinPolicy {
        self.policies.get(group).copied().unwrap_or_default()
    }

    pub(super) fn stage(&self, stage: &str) -> Option<&OfStage> {
        self.stages.get(stage)
    }

    pub(super) fn stages(&self) -> impl Iterator<Item = &OfStage> {
        self.stages.values()
    }

    pub(super) fn children(&self, group: &JobKey) -> Children {
        self.groups.get(group).copied().unwrap_or_default()
    }

    pub(super) fn chains(&self) -> &Chains {
        &self.chains
    }

    pub(super) fn open(&self) -> &BTreeSet<usize> {
        &self.open
    }

    pub(super) fn leased(&self) -> &BTreeSet<usize> {
        &self.leased
    }

    pub(super) fn settled(&self) -> &BTreeSet<usize> {
        &self.settled
    }

    pub(super) fn late(&self) -> &Times {
        &self.late
    }

    pub(super) fn retries(&self) -> &Times {
        &self.retries
    }

    pub(super) fn suspended(&self) -> &Times {
        &self.suspended
    }

    pub(super) fn deferred(&self) -> &BTreeMap<Kind, Waiting> {
        &self.deferred
    }

    pub(super) fn services(&self) -> &BTreeMap<ServiceKey, Use> {
        &self.services
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn back(&self) -> usize {
        self.back
    }

    pub(super) fn turns(&self) -> usize {
        self.turns
    }

    pub(super) fn ready(&self) -> &BTreeMap<Priority, usize> {
        &self.ready
    }
}

fn set<T: Ord>(set: &mut BTreeSet<T>, one: T, is_in: bool) {
    if is_in {
        set.insert(one);
    } else {
        set.remove(&one);
    }
}

fn step(count: &mut usize, is_one: bool, counts: bool) {
    if counts {
        *count += usize::from(is_one);
    } else {
        *count -= usize::from(is_one);
    }
}
