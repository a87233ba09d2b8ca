//! The tree of steps while it runs: which scopes are open, and what is due in the innermost.
//!
//! Everything is read from what is done: the same jobs give the same tree in every process.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, OnceLock},
};

use perennial_core::{
    FailureClass, Timestamp,
    run::{HANDLER, JobKey, JobState, StepPath},
};
use perennial_engine::DoneJob;
use serde_json::Value;

use super::{
    children::Children,
    handler::{self, Closing, Handled, Standing},
    record::limit_of,
};
use crate::definition::{Body, Child, Loaded, Model, Nested, OnTimeout, Step, Workspace};

/// What is done, by its key. It is put in order when somebody looks: most steps look at nothing.
#[derive(Debug)]
pub(super) struct Done<'a> {
    jobs: &'a [DoneJob],
    hasher: RandomState,
    /// Hashes of keys with their places, in order: without borrowing, so that it stays covariant.
    places: OnceLock<Vec<(u64, usize)>>,
}

impl<'a> Done<'a> {
    pub(super) fn get(&self, key: &JobKey) -> Option<&'a DoneJob> {
        let places = self.places.get_or_init(|| {
            let hashes = self.jobs.iter().map(|job| self.hasher.hash_one(&job.key));
            let mut places: Vec<_> = hashes.zip(0..).collect();
            places.sort_unstable();
            places
        });
        let hash = self.hasher.hash_one(key);
        let first = places.partition_point(|(other, _)| *other < hash);
        let same = places[first..].iter().take_while(|(other, _)| *other == hash);
        same.map(|(_, place)| &self.jobs[*place]).find(|job| job.key == *key)
    }

    /// All of it, in the order in which it was done.
    pub(super) fn jobs(&self) -> &'a [DoneJob] {
        self.jobs
    }
}

/// What is done, so that it can be looked up.
pub(super) fn index(jobs: &[DoneJob]) -> Done<'_> {
    Done { jobs, hasher: RandomState::new(), places: OnceLock::new() }
}

/// A scope of steps that is gone through: the run itself, a child in it, or the body of a step.
#[derive(Clone, Debug)]
pub(super) struct Frame<'a> {
    /// The pipeline whose rules hold.
    pub(super) model: &'a Model,
    /// The steps of the scope.
    pub(super) steps: &'a [Step],
    /// What the definition of that pipeline stands in: a recursion names one of them.
    outer: Option<Arc<Outer<'a>>>,
    pub(super) children: &'a Children,
    /// Where the jobs of its steps are, those of this round first: what earlier rounds completed
    /// is not done again.
    places: Vec<StepPath>,
    /// How a child was opened; nothing for the run itself and for a body.
    pub(super) opened: Option<Opened<'a>>,
    /// What a body sees around it; nothing for a pipeline, which sees nothing.
    pub(super) around: Option<Arc<Around<'a>>>,
}

/// A pipeline in whose definition another one stands.
#[derive(Debug)]
pub(super) struct Outer<'a> {
    model: &'a Model,
    outer: Option<Arc<Self>>,
}

/// What stands around a body.
#[derive(Clone, Debug)]
pub(super) struct Around<'a> {
    /// The scope of the step that has the body.
    pub(super) frame: Frame<'a>,
    /// What that step left when it failed.
    pub(super) failed: &'a DoneJob,
    /// When the body was opened.
    pub(super) at: Timestamp,
}

/// How the scope of a step was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened<'a> {
    pub(super) nested: &'a Nested,
    /// What its first opening recorded.
    pub(super) record: &'a Value,
    /// When this round was opened.
    pub(super) at: Timestamp,
}

/// A job that is due, or under way.
#[derive(Debug)]
pub(super) struct Due<'a> {
    /// The open scopes, the run first; the step stands in the last.
    pub(super) frames: Vec<Frame<'a>>,
    pub(super) step: &'a Step,
    pub(super) role: Role<'a>,
}

/// What a job does for its step.
#[derive(Debug)]
pub(super) enum Role<'a> {
    /// All of it.
    Whole,
    /// Opens its scope for this round.
    Open(u32),
    /// Closes its scope.
    Close(Ended<'a>),
    /// Opens its handler.
    OpenHandler,
    /// Closes its handler.
    CloseHandler(Closing<'a>),
}

/// How a scope came to its end.
#[derive(Debug)]
pub(super) enum Ended<'a> {
    /// It was never opened: its condition is not met, or its opening failed.
    Unopened(&'a DoneJob),
    /// What was recorded of it when it was opened cannot be read.
    Unreadable(String),
    /// All its steps are done.
    Through(Frame<'a>),
    /// This job of it failed for good.
    Failed(Frame<'a>, &'a DoneJob),
}

/// Where a walk through a scope ends.
enum Way<'a> {
    Due(&'a Step, Role<'a>),
    Through,
    Failed(&'a DoneJob),
}

impl<'a> Frame<'a> {
    /// The run itself.
    pub(super) fn root(model: &'a Model, children: &'a Children) -> Self {
        let places = vec![StepPath::root()];
        let steps = &model.steps;
        Self { model, steps, outer: None, children, places, opened: None, around: None }
    }

    /// The pipeline that is the child of `nested`, a step of this one, and what its definition stands in.
    ///
    /// # Errors
    ///
    /// Why what the opening has recorded is none.
    fn child(
        &self,
        nested: &'a Nested,
        opening: &Value,
    ) -> Result<(&'a Model, Option<Arc<Outer<'a>>>), String> {
        let here = || Outer { model: self.model, outer: self.outer.clone() };
        match &nested.child {
            Child::Known(model) => Ok((model, Some(Arc::new(here())))),
            Child::Later(_) => match self.children.recorded(opening) {
                Ok(Some(model)) => Ok((model, None)),
                Ok(None) => Err("the child is not in the record of its opening".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            Child::Again(again) => self.again(again.again).ok_or_else(|| {
                format!("no {} pipelines stand around the recursion", again.again + 1)
            }),
        }
    }

    /// The pipeline that stands that many levels outside of this one, and what that stands in.
    pub(super) fn again(&self, levels: usize) -> Option<(&'a Model, Option<Arc<Outer<'a>>>)> {
        let mut found = (self.model, self.outer.clone());
        for _ in 0..levels {
            let outer = found.1?;
            found = (outer.model, outer.outer.clone());
        }
        Some(found)
    }

    /// The scope of `step` of this one, in its round number `round`.
    fn enter(
        &self,
        step: &Step,
        round: u32,
        opened: Opened<'a>,
        (model, outer): (&'a Model, Option<Arc<Outer<'a>>>),
        done: &Done<'a>,
    ) -> Self {
        // What was done in another pipeline is nothing that was done in this one.
        let own = Loaded::key(opened.record);
        let is_same = |place: &StepPath| {
            let opening = done.get(&place.step(&step.name).opening());
            own.is_none() || opening.is_some_and(|job| Loaded::key(&job.result) == own)
        };
        let rounds = |place: &StepPath, last: u32| {
            let inner = place.step(&step.name);
            (1..=last).rev().map(move |round| inner.round(round)).collect::<Vec<_>>()
        };
        let mut places = Vec::new();
        for (age, place) in self.places.iter().enumerate() {
            // What earlier steps wrote into a scratch directory went with it.
            if age > 0 && matches!(opened.nested.workspace, Some(Workspace::Scratch { .. })) {
                break;
            }
            if age > 0 && !is_same(place) {
                continue;
            }
            let last = if age == 0 { round } else { step.retry.max_attempts };
            places.extend(rounds(place, last));
        }
        let (steps, children) = (&model.steps, self.children);
        Self { model, steps, outer, children, places, opened: Some(opened), around: None }
    }

    /// The step of the run, of which this is the scope, whose job has the key `path`, which is whole; none of a job
    /// that closes a handler.
    pub(super) fn step_of(&self, path: &str, done: &Done<'a>) -> Option<&'a Step> {
        let mut here = self.clone();
        let mut way = String::from("#");
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let (plain, is_handler) = match part.strip_suffix(HANDLER) {
                Some(plain) => (plain, true),
                None => (part, false),
            };
            let name = plain.split('#').next().unwrap_or_default();
            let is_it = |step: &&Step| StepPath::root().step(&step.name).as_str() == name;
            let step = here.steps.iter().find(is_it)?;
            if parts.peek().is_none() {
                return (!is_handler).then_some(step);
            }
            if is_handler {
                here.steps = &step.handler.as_ref()?.steps;
            } else {
                let opening = done.get(&JobKey::new(format!("{way}{name}")));
                let record = opening.map_or(&Value::Null, |job| &job.result);
                (here.model, here.outer) = here.child(step.nested()?, record).ok()?;
                here.steps = &here.model.steps;
            }
            way.push_str(part);
            way.push('/');
        }
        None
    }

    /// The scope of the handler of the step at `path`, which has left `failed`. What an earlier round did in it was
    /// for another failure, and is done again.
    pub(super) fn handling(
        &self,
        path: &StepPath,
        handler: &'a Body,
        failed: &'a DoneJob,
        opening: &DoneJob,
    ) -> Self {
        let around = Around { frame: self.clone(), failed, at: opened_at(opening) };
        Self {
            model: self.model,
            steps: &handler.steps,
            outer: self.outer.clone(),
            children: self.children,
            places: vec![path.handler()],
            opened: None,
            around: Some(Arc::new(around)),
        }
    }

    /// The pipeline that it is, or that its body is a part of.
    pub(super) fn pipeline(&self) -> &Self {
        self.around.as_ref().map_or(self, |around| around.frame.pipeline())
    }

    /// The workspace of its steps, when it is not that of the run.
    pub(super) fn workspace(&self) -> Option<&'a str> {
        self.pipeline().opened?.record["workspace"].as_str()
    }

    /// Where its jobs are.
    pub(super) fn place(&self) -> StepPath {
        self.places.first().cloned().unwrap_or_default()
    }

    /// What became of `step` of this scope, in this round or an earlier one; nothing while its handler
    /// has still to run.
    pub(super) fn find(&self, step: &Step, done: &Done<'a>) -> Option<&'a DoneJob> {
        self.found(step, done).map(|(_, job)| job)
    }

    /// The same, and where its jobs are.
    fn found(&self, step: &Step, done: &Done<'a>) -> Option<(StepPath, &'a DoneJob)> {
        self.places.iter().enumerate().find_map(|(age, place)| {
            let path = place.step(&step.name);
            let Standing::Over(job) = handler::standing(step, &path, done) else { return None };
            let kept = completed(job) || (forgiven(step, job) && limit_of(&job.result).is_none());
            (age == 0 || kept).then_some((path, job))
        })
    }

    /// What `step` of this scope left when it failed in this round, and has its handler still to run.
    pub(super) fn failed(&self, step: &Step, done: &Done<'a>) -> Option<&'a DoneJob> {
        match handler::standing(step, &self.place().step(&step.name), done) {
            Standing::Failed(job) => Some(job),
            Standing::Due | Standing::Over(_) => None,
        }
    }

    /// The scope of the handler of `step`, when that has come to its end.
    pub(super) fn handler(&self, step: &'a Step, done: &Done<'a>) -> Option<Self> {
        let body = step.handler.as_ref()?;
        let (path, _) = self.found(step, done)?;
        let failed = done.get(&path.key())?;
        let opening = done.get(&path.handler().opening())?;
        Some(self.handling(&path, body, failed, opening))
    }

    /// What the step `name` left.
    pub(super) fn find_named(&self, name: &str, done: &Done<'a>) -> Option<&'a DoneJob> {
        let (frame, step) = self.look_up(name)?;
        frame.find(step, done)
    }

    /// The step `name` that is visible here.
    pub(super) fn step(&self, name: &str) -> Option<&'a Step> {
        self.look_up(name).map(|(_, step)| step)
    }

    /// The step `name` that is visible here, and the scope it stands in: the innermost.
    fn look_up(&self, name: &str) -> Option<(&Self, &'a Step)> {
        match self.steps.iter().find(|step| step.name == name) {
            Some(step) => Some((self, step)),
            None => self.around.as_ref()?.frame.look_up(name),
        }
    }
}

/// What is due next; nothing when all is done.
pub(super) fn due<'a>(
    model: &'a Model,
    children: &'a Children,
    done: &Done<'a>,
) -> Option<Due<'a>> {
    let mut frames = vec![Frame::root(model, children)];
    match walk(&mut frames, done) {
        Way::Due(step, role) => Some(Due { frames, step, role }),
        Way::Through | Way::Failed(_) => None,
    }
}

/// Walks through the innermost of `frames`, and leaves those that are open where it ends.
fn walk<'a>(frames: &mut Vec<Frame<'a>>, done: &Done<'a>) -> Way<'a> {
    let Some(here) = frames.last().cloned() else { return Way::Through };
    let is_inside = frames.len() > 1;
    for step in here.steps {
        if let Some(job) = here.find(step, done) {
            if is_inside && is_fatal(frames, step, job) {
                return Way::Failed(job);
            }
        } else if let (Some(body), Some(failed)) = (&step.handler, here.failed(step, done)) {
            return walk_handler(frames, &here, step, body, failed, done);
        } else if let Some(nested) = step.nested() {
            return walk_nested(frames, &here, step, nested, done);
        } else {
            return Way::Due(step, Role::Whole);
        }
    }
    Way::Through
}

/// Walks through the handler of `step`. A limit of a scope around it ends that scope, and is nothing that
/// became of the step.
fn walk_handler<'a>(
    frames: &mut Vec<Frame<'a>>,
    here: &Frame<'a>,
    step: &'a Step,
    body: &'a Body,
    failed: &'a DoneJob,
    done: &Done<'a>,
) -> Way<'a> {
    let path = here.place().step(&step.name);
    let Some(opening) = done.get(&path.handler().opening()) else {
        return Way::Due(step, Role::OpenHandler);
    };
    let close = |how| Way::Due(step, Role::CloseHandler(Closing { failed, how }));
    if opening.state != JobState::Succeeded {
        return close(Handled::Failed(opening));
    }
    frames.push(here.handling(&path, body, failed, opening));
    let way = walk(frames, done);
    if let Way::Due(..) = way {
        return way;
    }
    let Some(handler) = frames.pop() else { return way };
    match way {
        Way::Failed(job) if is_stopped(frames, &job.result) => Way::Failed(job),
        Way::Failed(job) => close(Handled::Failed(job)),
        Way::Through | Way::Due(..) => close(Handled::Through(handler.last_value(done))),
    }
}

fn walk_nested<'a>(
    frames: &mut Vec<Frame<'a>>,
    here: &Frame<'a>,
    step: &'a Step,
    nested: &'a Nested,
    done: &Done<'a>,
) -> Way<'a> {
    let path = here.place().step(&step.name);
    let mut first = None;
    let mut round = 1;
    loop {
        let Some(opening) = done.get(&path.round(round).opening()) else {
            return Way::Due(step, Role::Open(round));
        };
        if opening.state != JobState::Succeeded {
            return Way::Due(step, Role::Close(Ended::Unopened(opening)));
        }
        let record = *first.get_or_insert(&opening.result);
        let at = opened_at(opening);
        let child = match here.child(nested, record) {
            Ok(child) => child,
            Err(why) => return Way::Due(step, Role::Close(Ended::Unreadable(why))),
        };
        frames.push(here.enter(step, round, Opened { nested, record, at }, child, done));
        let way = walk(frames, done);
        if let Way::Due(..) = way {
            return way;
        }
        let Some(child) = frames.pop() else { return way };
        match way {
            Way::Failed(job) if is_repeated(frames, &child, step, round, job) => round += 1,
            Way::Failed(job) => return Way::Due(step, Role::Close(Ended::Failed(child, job))),
            Way::Through | Way::Due(..) => {
                return Way::Due(step, Role::Close(Ended::Through(child)));
            }
        }
    }
}

/// When a scope was opened.
fn opened_at(opening: &DoneJob) -> Timestamp {
    Timestamp::from_micros(opening.result["opened_at"].as_i64().unwrap_or_default())
}

fn completed(job: &DoneJob) -> bool {
    matches!(job.state, JobState::Succeeded | JobState::Skipped)
}

/// Whether what is around `step` goes on although it ended with `job`.
fn forgiven(step: &Step, job: &DoneJob) -> bool {
    step.forgives() || handler::is_handled(step, job)
}

/// Whether the innermost scope cannot go on after `job`: what it is told to forgive, it forgives,
/// but for a limit of its own or of a scope around it.
fn is_fatal(frames: &[Frame<'_>], step: &Step, job: &DoneJob) -> bool {
    !completed(job) && (!forgiven(step, job) || is_stopped(frames, &job.result))
}

/// Whether `record` tells of a limit of one of these scopes, or of the run, which is the first of them.
pub(super) fn is_stopped(frames: &[Frame<'_>], record: &Value) -> bool {
    limit_of(record).is_some_and(|owner| frames.iter().any(|frame| frame.place().as_str() == owner))
}

/// Whether the child is gone through once more after `job` of it failed.
fn is_repeated(
    around: &[Frame<'_>],
    child: &Frame<'_>,
    step: &Step,
    round: u32,
    job: &DoneJob,
) -> bool {
    if round >= step.retry.max_attempts || is_stopped(around, &job.result) {
        return false;
    }
    let error = &job.result["error"];
    let out_of_time =
        error["code"] == "PL807" && is_stopped(std::slice::from_ref(child), &job.result);
    let waits = child.opened.is_some_and(|opened| opened.nested.on_timeout == OnTimeout::Retry);
    let class = error["class"].as_str().and_then(FailureClass::from_name);
    let is_tried = match step.retry.only {
        Some(only) => class.is_some_and(|class| only.contains(class)),
        None => error["retryable"] == true,
    };
    is_tried || (out_of_time && waits)
}

/// Whether a later round through one of the scopes around the job at `path` was opened.
pub(super) fn was_repeated(path: &str, done: &Done<'_>) -> bool {
    let path = path.strip_prefix('#').unwrap_or(path);
    path.match_indices('/').any(|(end, _)| {
        let scope = &path[..end];
        let last = scope.rfind('/').map_or(0, |slash| slash + 1);
        let (base, round) = match scope[last..].split_once('#') {
            Some((name, round)) => (last + name.len(), round.parse().unwrap_or(1)),
            None => (end, 1_u32),
        };
        let next = JobKey::new(format!("#{}#{}", &path[..base], round.saturating_add(1)));
        done.get(&next).is_some()
    })
}
