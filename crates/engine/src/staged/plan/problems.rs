//! What is wrong with a plan: all of it at once.

use std::collections::{BTreeMap, BTreeSet};

use super::{FeedFrom, JobSpec, Plan, Stage, Timeouts, Work};
use crate::{external::Scope, staged::compensation::COMPENSATION};

/// Longest name of a stage, and longest key of a job in it, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// Everything that is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plan cannot be followed: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct PlanProblems(pub Vec<PlanProblem>);

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanProblem {
    /// Nothing would be done: success without work would be dishonest.
    #[error("it has no job and nothing that could give it one")]
    Empty,
    /// Two stages of one name.
    #[error("it has two stages `{0}`")]
    DuplicateStage(String),
    /// Two jobs of one key.
    #[error("stage `{stage}` has two jobs `{key}`")]
    DuplicateKey {
        /// The stage.
        stage: String,
        /// The key.
        key: String,
    },
    /// It is empty, too long, or has a sign that means something else in the key of a job.
    #[error("`{0}` cannot name a stage or a job: 1 to 100 bytes, and no `/` in a stage's name")]
    InvalidName(String),
    /// A stage has the name of the one in which completed jobs are undone.
    #[error(
        "a plan that declares compensations has no stage `{0}` of its own: they are jobs of one of that name"
    )]
    ReservedStage(String),
    /// A stage is fed by one that is not there, or comes after it.
    #[error("stage `{stage}` is fed by `{upstream}`, and no stage before it has that name")]
    UnknownStage {
        /// The stage.
        stage: String,
        /// What feeds it.
        upstream: String,
    },
    /// Nobody has registered what is to be executed.
    #[error("stage `{stage}` needs the {kind} `{name}`, which is not registered")]
    UnknownWork {
        /// The stage.
        stage: String,
        /// `activity` or `group`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// An inner limit is longer than the outer one.
    #[error("stage `{stage}`: {inner} may take longer than {outer}")]
    InvertedTimeouts {
        /// The stage.
        stage: String,
        /// The outer limit.
        outer: &'static str,
        /// The inner limit.
        inner: &'static str,
    },
    /// A failure policy that makes no sense.
    #[error("stage `{stage}`: {what}")]
    Policy {
        /// The stage.
        stage: String,
        /// What is wrong.
        what: String,
    },
    /// It begins with too many jobs.
    #[error("it begins with {have} jobs; at most {max} are allowed")]
    TooManyJobs {
        /// How many it has.
        have: usize,
        /// How many it may have.
        max: usize,
    },
    /// A job comes after one that is not there.
    #[error("job `{key}` of stage `{stage}` comes after `{after}`, which is none of its jobs")]
    UnknownJob {
        /// The stage.
        stage: String,
        /// The job.
        key: String,
        /// What it names.
        after: String,
    },
    /// Jobs come after each other in a circle.
    #[error("jobs of stage `{stage}` wait for each other: {}", .path.join(" after "))]
    Cycle {
        /// The stage.
        stage: String,
        /// The way, from a job back to it.
        path: Vec<String>,
    },
    /// Jobs are asked for in a stage that does not take any from there.
    #[error("the plan has no driven stage `{0}`")]
    NotDriven(String),
    /// A job is asked for in a stage whose jobs are all there.
    #[error("stage `{stage}` is sealed, and takes no job `{key}`")]
    Sealed {
        /// The stage.
        stage: String,
        /// The job.
        key: String,
    },
    /// A run would have too many jobs.
    #[error("the run would have {have} jobs; at most {max} are allowed")]
    RunTooLarge {
        /// How many it would have.
        have: usize,
        /// How many it may have.
        max: usize,
    },
    /// An input that cannot be kept.
    #[error("the input of {what} cannot be kept: {why}")]
    Input {
        /// Of what.
        what: String,
        /// Why.
        why: String,
    },
    /// The host has no such service.
    #[error("{what} uses the service `{service}`, which is not declared{}", .nearest.as_ref().map(|near| format!(": did you mean `{near}`?")).unwrap_or_default())]
    UnknownService {
        /// The stage, or the job.
        what: String,
        /// The name.
        service: String,
        /// The declared one that is nearest to it.
        nearest: Option<String>,
    },
    /// A shared service is named with a key, or a keyed one without.
    #[error("{what} uses `{service}`, and the service is declared as {scope:?}")]
    ServiceScope {
        /// The stage, or the job.
        what: String,
        /// What is used.
        service: String,
        /// How it is declared.
        scope: Scope,
    },
    /// What is told of a run that began elsewhere does not fit its plan.
    #[error("what is told of {what} does not fit: {why}")]
    History {
        /// The job.
        what: String,
        /// Why.
        why: String,
    },
    /// The host's own.
    #[error("{0}")]
    Host(String),
}

impl Plan {
    /// Everything that is wrong with it, apart from what is not registered, and from how many jobs it may begin with
    /// where it is started ([`EngineSettings::plan_jobs_max`](crate::EngineSettings::plan_jobs_max)).
    pub fn problems(&self) -> Vec<PlanProblem> {
        let mut problems = Vec::new();
        let (mut names, mut jobs, mut is_driven) = (BTreeSet::new(), 0, false);
        for stage in &self.stages {
            let name = &stage.name;
            if !is_name(name) || name.contains('/') {
                problems.push(PlanProblem::InvalidName(name.clone()));
            }
            if let Some(upstream) = stage.upstream().filter(|upstream| !names.contains(*upstream)) {
                let (stage, upstream) = (name.clone(), upstream.to_owned());
                problems.push(PlanProblem::UnknownStage { stage, upstream });
            }
            if !names.insert(name.as_str()) {
                problems.push(PlanProblem::DuplicateStage(name.clone()));
            }
            if let Some(what) = stage.on_failure.problem() {
                problems.push(PlanProblem::Policy { stage: name.clone(), what });
            }
            if stage.concurrency == Some(0) {
                let what = "a concurrency of 0 lets none of its jobs begin".to_owned();
                problems.push(PlanProblem::Policy { stage: name.clone(), what });
            }
            if matches!(stage.work, Work::Group(_)) && !stage.uses.is_empty() {
                let what = "a group uses no service: its children do".to_owned();
                problems.push(PlanProblem::Policy { stage: name.clone(), what });
            }
            if stage.undoing.activity.is_none() && stage.undoing.retry.is_some() {
                let what =
                    "it says how often a compensation is tried, and declares none".to_owned();
                problems.push(PlanProblem::Policy { stage: name.clone(), what });
            }
            keys(stage, &mut problems);
            inverted(stage, &mut problems);
            match &stage.feed.0 {
                FeedFrom::Jobs(specs) => {
                    jobs += specs.len();
                    check_jobs(name, specs, |_| false, &mut problems);
                }
                FeedFrom::Driven => is_driven |= stage.skip.is_none(),
                FeedFrom::PerItem(_) | FeedFrom::Barrier(_) => (),
            }
        }
        if jobs == 0 && !is_driven {
            problems.push(PlanProblem::Empty);
        }
        let undoes = self.stages.iter().any(|stage| stage.undoing.activity.is_some());
        if undoes && names.contains(COMPENSATION) {
            problems.push(PlanProblem::ReservedStage(COMPENSATION.to_owned()));
        }
        problems
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
}

/// `is_there`: whether the stage has a job of that key besides these.
pub(super) fn check_jobs(
    stage: &str,
    specs: &[JobSpec],
    is_there: impl Fn(&str) -> bool,
    problems: &mut Vec<PlanProblem>,
) {
    let known: BTreeSet<&str> = specs.iter().map(|job| job.key.as_str()).collect();
    let mut keys = BTreeSet::new();
    cycle(stage, specs, problems);
    for JobSpec { key, input, after, .. } in specs {
        let is_unknown = |other: &&String| !known.contains(other.as_str()) && !is_there(other);
        for other in after.iter().filter(is_unknown) {
            let (stage, key, after) = (stage.to_owned(), key.clone(), other.clone());
            problems.push(PlanProblem::UnknownJob { stage, key, after });
        }
        if !is_name(key) {
            problems.push(PlanProblem::InvalidName(key.clone()));
        }
        if !keys.insert(key) {
            let (stage, key) = (stage.to_owned(), key.clone());
            problems.push(PlanProblem::DuplicateKey { stage, key });
        }
        if let Err(why) = input {
            let what = format!("job `{key}` of stage `{stage}`");
            problems.push(PlanProblem::Input { what, why: why.clone() });
        }
    }
}

/// Jobs whose limit across runs is none.
fn keys(stage: &Stage, problems: &mut Vec<PlanProblem>) {
    let Some(keyed) = &stage.keyed else { return };
    if keyed.most == 0 {
        let what =
            "a concurrency key of which 0 may be under way lets none of its jobs begin".to_owned();
        problems.push(PlanProblem::Policy { stage: stage.name.clone(), what });
        return;
    }
    let FeedFrom::Jobs(specs) = &stage.feed.0 else { return };
    for spec in specs {
        let failed = spec.input.as_ref().ok().and_then(|input| keyed.of(input).err());
        if let Some(failure) = failed {
            let what = format!("job `{}`: {}", spec.key, failure.message);
            problems.push(PlanProblem::Policy { stage: stage.name.clone(), what });
        }
    }
}

/// A way from a job back to itself, along what each comes after.
fn cycle(stage: &str, specs: &[JobSpec], problems: &mut Vec<PlanProblem>) {
    let after: BTreeMap<&str, &[String]> =
        specs.iter().map(|spec| (spec.key.as_str(), spec.after.as_slice())).collect();
    let mut settled: BTreeSet<&str> = BTreeSet::new();
    for spec in specs.iter().filter(|spec| !spec.after.is_empty()) {
        // Jobs on the way, each with how many of its own it has tried.
        let mut path: Vec<(&str, usize)> = vec![(spec.key.as_str(), 0)];
        while let Some((key, tried)) = path.last_mut() {
            let next = after.get(key).and_then(|others| others.get(*tried));
            *tried += 1;
            match next {
                None => {
                    settled.insert(key);
                    path.pop();
                }
                Some(next) if settled.contains(next.as_str()) => (),
                Some(next) => {
                    if let Some(from) = path.iter().position(|(key, _)| key == next) {
                        let way = path[from..].iter().map(|(key, _)| (*key).to_owned());
                        let path = way.chain([next.clone()]).collect();
                        problems.push(PlanProblem::Cycle { stage: stage.to_owned(), path });
                        return;
                    }
                    path.push((next.as_str(), 0));
                }
            }
        }
    }
}

fn inverted(stage: &Stage, problems: &mut Vec<PlanProblem>) {
    let Timeouts { attempt, heartbeat, job } = stage.timeouts;
    let mut add = |outer, inner| {
        let stage = stage.name.clone();
        problems.push(PlanProblem::InvertedTimeouts { stage, outer, inner });
    };
    // Of one that says nothing the setting of whoever makes the job counts.
    let Some(attempt) = attempt else { return };
    if heartbeat.is_some_and(|beat| beat >= attempt) {
        add("an attempt", "its heartbeat");
    }
    // Of a group it is its children whose attempts count.
    if matches!(stage.work, Work::Activity(_)) && job.is_some_and(|job| attempt > job) {
        add("its job", "an attempt");
    }
}
