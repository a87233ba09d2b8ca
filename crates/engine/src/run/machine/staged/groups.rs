//! Groups: from one job to its children, and from their ends to its own.

use std::{cmp::Reverse, collections::BTreeSet};

use perennial_core::{
    FailureClass, Timestamp,
    failure::Failure,
    run::{JobKey, JobKind, JobState, SkipReason},
};
use perennial_store::{JobPart, JobStep, NewJob, NewTimer};
use serde_json::{Value, json};

use super::{
    super::{Circumstances, Job, Machine, draft::Draft, jobs::is_thorough, owner, tally::due},
    Board, new_job, policy_of,
};
use crate::{
    EngineSettings,
    run::guard::Guard,
    staged::{
        ChildEnd, ChildOutcome, ChildPlan, GroupEnd, Staging, Work, child_key, concurrency_key,
        failure_of, own_key,
    },
    workflow::Given,
};

/// Children that one decision makes, at most, beyond those of its first group (DUR-3).
const CHILDREN_AT_ONCE: usize = 1_000;

impl Draft {
    /// Ends groups whose children have ended, and children that their group does not need any more: the innermost
    /// groups first.
    pub(super) fn join_groups(
        &mut self,
        board: &mut Board<'_>,
        machine: &Machine,
        staging: &Staging,
        at: &Circumstances,
    ) {
        let late = due(machine.jobs.tally().late(), at.now);
        let mut groups = Groups::of(board, machine, late);
        while let Some(place) = groups.next(board, machine) {
            let group = &machine.jobs[place];
            let of = staging.group(&group.given.work);
            let is_late = group.policy.deadline().is_some_and(|deadline| deadline <= at.now);
            let policy = machine.jobs.tally().policy(&group.given.work);
            if is_late || board.children(&group.key).gives_up(policy) {
                self.cancel_below(board, machine, group);
            }
            if board.children(&group.key).open > 0 {
                continue;
            }
            let children = machine.jobs.index().children(&group.key);
            let outcomes: Vec<ChildOutcome> =
                children.iter().map(|child| outcome(board, machine, group, *child)).collect();
            let end = match of {
                _ if is_late => {
                    let text = "the group took longer than it may".to_owned();
                    GroupEnd::Failed(Failure::new(FailureClass::Timeout, "PL701", text))
                }
                Some(of) => Guard::join(&**of, &group.given.input, &outcomes),
                None => GroupEnd::Failed(unknown(&group.given.work)),
            };
            self.end_group(board, machine, place, end);
        }
    }

    fn end_group(&mut self, board: &mut Board<'_>, machine: &Machine, place: usize, end: GroupEnd) {
        let (to, skipped, record, about) = match end {
            GroupEnd::Done(value) => (JobState::Succeeded, None, value, Value::Null),
            GroupEnd::Partial(value, missing) => {
                (JobState::Partial, None, value, json!({ "missing": missing }))
            }
            GroupEnd::Skipped(why) => {
                let reason = SkipReason::NotApplicable;
                let about = json!({ "reason": reason.name(), "why": why });
                (JobState::Skipped, Some(reason), Value::String(why), about)
            }
            GroupEnd::Failed(failure) => {
                let Failure { class, code, message, .. } = &failure;
                let record = json!({ "class": class, "code": code, "message": message });
                (JobState::Failed, None, record.clone(), record)
            }
        };
        self.step_job(board, machine, place, to, |step| JobStep {
            skipped,
            result: Some(record),
            about,
            ..step
        });
    }

    /// Whatever goes on below the group ends.
    pub(super) fn cancel_below(&mut self, board: &mut Board<'_>, machine: &Machine, group: &Job) {
        for child in machine.jobs.index().children(&group.key).iter().copied() {
            let job = &machine.jobs[child];
            if job.kind == JobKind::Group && !board.state(child).is_terminal() {
                self.cancel_below(board, machine, job);
                if board.children(&job.key).open > 0 {
                    continue;
                }
            }
            self.step_job(board, machine, child, JobState::Cancelled, |step| step);
        }
    }

    /// In a run that is ending a group ends with the last of its children.
    pub(super) fn cancel_settled_groups(&mut self, board: &mut Board<'_>, machine: &Machine) {
        let mut groups = Groups::of(board, machine, []);
        while let Some(place) = groups.next(board, machine) {
            if board.children(&machine.jobs[place].key).open == 0 {
                self.step_job(board, machine, place, JobState::Cancelled, |step| step);
            }
        }
    }

    /// Groups that have a place get their children: the most urgent first, and of the same in the order they were made; those within groups need none.
    pub(super) fn expand_groups(
        &mut self,
        board: &mut Board<'_>,
        machine: &Machine,
        staging: &Staging,
        at: &Circumstances,
    ) {
        // While it is paused nothing begins.
        if self.state != perennial_core::run::RunState::Running {
            return;
        }
        // Of each stage those that need a place, and those that need none, each in the order of the list.
        let mut waiting = Vec::new();
        for (stage, state) in machine.stages.iter().zip(&board.stages) {
            let of = machine.jobs.tally().stage(&stage.name).filter(|_| state.0.is_claimable());
            let Some(of) = of else { continue };
            let most = stage.concurrency.map_or(usize::MAX, |most| most as usize);
            waiting.push((of.groups_own.iter().copied().peekable(), Some((&stage.name, most))));
            waiting.push((of.groups_below.iter().copied().peekable(), None));
        }
        let mut made = 0;
        loop {
            // Within one decision no place becomes free.
            waiting.retain(|(_, places)| {
                places.is_none_or(|(stage, most)| board.count(stage).held < most)
            });
            let heads = waiting.iter_mut().enumerate();
            let heads = heads.filter_map(|(line, (places, _))| Some((*places.peek()?, line)));
            let Some(((_, place), line)) = heads.min() else { return };
            waiting[line].0.next();
            if board.has_changed(place) || !machine.jobs[place].may_expand() {
                continue;
            }
            if made >= CHILDREN_AT_ONCE {
                return;
            }
            made += self.expand(board, machine, staging, place, at);
        }
    }

    /// One decision has all children of a group and its own step (SM-40). How many it makes.
    fn expand(
        &mut self,
        board: &mut Board<'_>,
        machine: &Machine,
        staging: &Staging,
        place: usize,
        at: &Circumstances,
    ) -> usize {
        let group = &machine.jobs[place];
        let children = match staging.group(&group.given.work) {
            Some(of) => Guard::expand(&**of, &group.given.input),
            None => Err(unknown(&group.given.work)),
        };
        let children = children.and_then(|it| checked(it, machine, group, staging, at.settings));
        match children {
            Ok(children) => {
                let count = children.len();
                if let Some(at) = group.policy.deadline() {
                    // So that it is looked at in time, whatever its children wait for.
                    let name = format!("group/{}", group.id);
                    self.timers.push(NewTimer { owner: owner(&machine.run), name, at });
                }
                for child in children {
                    self.add_child(board, machine, group, child, at);
                }
                // Those that it does not have any more.
                for left in board.left_below(machine, group) {
                    self.cancel_below(board, machine, &machine.jobs[left]);
                    self.step_job(board, machine, left, JobState::Skipped, |step| JobStep {
                        skipped: Some(SkipReason::NotApplicable),
                        ..step
                    });
                }
                self.step_job(board, machine, place, JobState::Joining, |step| JobStep {
                    about: json!({ "children": count }),
                    ..step
                });
                count
            }
            Err(failure) => {
                self.cancel_below(board, machine, group);
                self.end_group(board, machine, place, GroupEnd::Failed(failure));
                0
            }
        }
    }

    fn add_child(
        &mut self,
        board: &mut Board<'_>,
        machine: &Machine,
        group: &Job,
        child: ChildPlan,
        at: &Circumstances,
    ) {
        let skipped = child.skipped;
        let uses = at.services.offered.of_job(&child.uses, &machine.run);
        let key = child_key(&group.key, &child.key);
        let mut again = 0;
        if let Some(place) = board.comes_again(machine, &key) {
            let job = &machine.jobs[place];
            again = job.given.again;
            if skipped.is_some() {
                self.cancel_below(board, machine, job);
            }
            let state = if skipped.is_some() { JobState::Skipped } else { JobState::Ready };
            board.change(place, state, skipped, None);
        } else if !board.add_key(&key) {
            // It has ended in an earlier round, and stays as it is.
            return;
        }
        let no_later = group.policy.deadline();
        let (settings, now) = (&at.settings, at.now);
        let mut job = child_job(&group.stage, &group.key, child, again, no_later, settings, now);
        job.part.uses = uses;
        job.part.priority = group.priority;
        if job.part.kind == JobKind::Activity
            && skipped.is_none()
            && job.part.uses.is_empty()
            && job.part.limit.is_none()
        {
            job.claim_for = at.claim_for.clone();
        }
        self.new_jobs.push(job);
    }
}

/// A child of a group as the store keeps it, without what it uses.
pub(crate) fn child_job(
    stage: &str,
    group: &JobKey,
    child: ChildPlan,
    again: u32,
    no_later: Option<Timestamp>,
    settings: &EngineSettings,
    now: Timestamp,
) -> NewJob {
    let ChildPlan { key, work, input, retry, timeouts, required, skipped, keyed, uses: _ } = child;
    let (kind, name) = match work {
        Work::Activity(name) => (JobKind::Activity, name),
        Work::Group(name) => (JobKind::Group, name),
    };
    let input = input.unwrap_or(Value::Null);
    let given = Given { work: name.to_owned(), input, required, again, ..Given::default() };
    // What is none is refused before.
    let limit = keyed.filter(|_| skipped.is_none());
    let limit = limit.and_then(|(key, most)| concurrency_key(key, most).ok());
    let parent = Some(group.clone());
    let part = JobPart { kind, parent, skipped, limit, ..JobPart::default() };
    let key = child_key(group, &key);
    let policy = policy_of(retry, timeouts, no_later, settings, now);
    new_job(stage.to_owned(), key, given, part, policy)
}

/// How deep a group lies within groups.
fn depth(machine: &Machine, group: &Job) -> usize {
    let (mut depth, mut inner) = (0, group.parent.as_ref());
    while let Some(outer) = inner.and_then(|key| machine.find(key)) {
        depth += 1;
        inner = outer.parent.as_ref();
    }
    depth
}

/// The concurrency keys whose turns a group and those around it keep until its children have ended.
fn keys_above<'a>(machine: &'a Machine, group: &'a Job) -> impl Iterator<Item = &'a String> {
    let outer = |inner: &&'a Job| machine.find(inner.parent.as_ref()?);
    let groups = std::iter::successors(Some(group), outer);
    groups.filter_map(|of| Some(&of.keyed.as_ref()?.by.key))
}

/// What makes the children of a group a mistake of its code.
fn checked(
    children: Vec<ChildPlan>,
    machine: &Machine,
    group: &Job,
    staging: &Staging,
    EngineSettings { children_max, group_depth_max, .. }: EngineSettings,
) -> Result<Vec<ChildPlan>, Failure> {
    let refuse = |text: String| {
        Err(Failure::new(FailureClass::Permanent, "PL699", format!("group {}: {text}", group.key)))
    };
    if children.len() > children_max {
        return refuse(format!("{} children; at most {children_max} are made", children.len()));
    }
    if depth(machine, group) + 1 >= group_depth_max
        && children.iter().any(|child| matches!(child.work, Work::Group(_)))
    {
        return refuse(format!("groups lie in groups at most {group_depth_max} deep"));
    }
    let mut keys = std::collections::BTreeSet::new();
    for ChildPlan { key, work, input, skipped, keyed, .. } in &children {
        let limit = keyed.clone().map(|(key, most)| concurrency_key(key, most));
        match limit {
            Some(Err(failure)) => return refuse(format!("child `{key}`: {}", failure.message)),
            Some(Ok(limit)) if keys_above(machine, group).any(|above| *above == limit.key) => {
                let of = &limit.key;
                return refuse(format!(
                    "child `{key}` has the concurrency key `{of}` of a group that waits for it: neither could end"
                ));
            }
            Some(Ok(_)) | None => (),
        }
        if key.is_empty() || key.contains('/') {
            return refuse(format!("`{key}` cannot name a child: one sign at least, and no `/`"));
        }
        if !keys.insert(key) {
            return refuse(format!("two children are called `{key}`"));
        }
        if let Err(why) = input {
            return refuse(format!("the input of its child `{key}` cannot be kept: {why}"));
        }
        let is_known = match work {
            Work::Activity(name) => staging.activities.contains_key(name),
            Work::Group(name) => staging.groups.contains_key(name),
        };
        if !is_known && skipped.is_none() {
            return refuse(format!("what its child `{key}` executes is not registered"));
        }
    }
    Ok(children)
}

fn unknown(name: &str) -> Failure {
    Failure::new(FailureClass::Permanent, "PL699", format!("no group `{name}` is registered"))
}

/// Groups whose children may not be waited for any longer: the innermost first, then in the order of the list, each
/// once. Those that get there by what is decided meanwhile come in their turn.
struct Groups {
    waiting: BTreeSet<(Reverse<usize>, usize)>,
    seen: BTreeSet<usize>,
}

impl Groups {
    fn of(
        board: &mut Board<'_>,
        machine: &Machine,
        others: impl IntoIterator<Item = usize>,
    ) -> Self {
        let mut groups = Self { waiting: BTreeSet::new(), seen: BTreeSet::new() };
        groups.add(machine, machine.jobs.tally().settled().iter().copied());
        groups.add(machine, others);
        groups.add(machine, board.take_stirred());
        if is_thorough() {
            groups.add(machine, 0..machine.jobs.len());
        }
        groups
    }

    fn add(&mut self, machine: &Machine, places: impl IntoIterator<Item = usize>) {
        for place in places {
            if !self.seen.contains(&place) {
                self.waiting.insert((Reverse(depth(machine, &machine.jobs[place])), place));
            }
        }
    }

    fn next(&mut self, board: &mut Board<'_>, machine: &Machine) -> Option<usize> {
        self.add(machine, board.take_stirred());
        while let Some((_, place)) = self.waiting.pop_first() {
            self.seen.insert(place);
            if board.state(place) == JobState::Joining {
                return Some(place);
            }
        }
        None
    }
}

fn outcome(board: &Board<'_>, machine: &Machine, group: &Job, child: usize) -> ChildOutcome {
    let (job, state) = (&machine.jobs[child], board.state(child));
    let value = || board.result(child).cloned().unwrap_or(Value::Null);
    let end = match state {
        JobState::Succeeded => ChildEnd::Done(value()),
        JobState::Partial => ChildEnd::Partial(value()),
        JobState::Skipped => {
            ChildEnd::Skipped(board.skipped(child).unwrap_or(SkipReason::Upstream))
        }
        JobState::Failed => {
            let failure = failure_of(board.result(child));
            if failure.class == FailureClass::Timeout {
                ChildEnd::TimedOut(failure)
            } else if failure.class == FailureClass::Lost {
                ChildEnd::Lost(failure)
            } else {
                ChildEnd::Failed(failure)
            }
        }
        JobState::Blocked
        | JobState::Ready
        | JobState::Leased
        | JobState::Deferred
        | JobState::Suspended
        | JobState::Joining
        | JobState::Cancelled => ChildEnd::Cancelled,
    };
    let (key, required) = (own_key(&group.key, &job.key), job.given.required);
    // The one that this decision ends is not counted yet.
    let attempts = job.attempts_used + u32::from(board.uses_attempt_of(job));
    ChildOutcome { key, end, required, attempts }
}
