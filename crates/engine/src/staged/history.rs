//! What had come of a run before it was recorded here: jobs that had ended elsewhere, their children, their numbers.

use std::collections::BTreeMap;

use perennial_core::{
    Timestamp,
    failure::Failure,
    run::{IdempotencyKey, JobKey, JobState, RunId, SequenceName, SkipReason},
};
use perennial_store::{NewEvent, NewJob, Past, PastJob, PastNumber, PastVersion};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Child, JobSpec, PlanProblem, PlanProblems, PlannedJob, Staging, Work, child_key, is_name,
    job_key,
};
use crate::{
    EngineSettings,
    external::Offered,
    run::{Guard, child_job, planned_job},
    workflow::number_key,
};

/// What is told of a run that began elsewhere; [`Runs::import`](crate::Runs::import) records it with the run. Whatever it does
/// not tell is as in any new run.
#[derive(Clone, Debug, Default)]
pub struct History {
    paused: bool,
    jobs: Vec<JobHistory>,
    notes: Vec<Value>,
}

/// A job of a run that began elsewhere.
///
/// ```
/// use perennial::engine::staged::{JobEnd, JobHistory, JobSpec};
///
/// let page = JobSpec::new("start", &"/index.html");
/// let of_page = JobHistory::new("pages", page).ended(JobEnd::succeeded(&200));
/// assert_eq!(of_page.key(), "start");
/// ```
#[derive(Clone, Debug)]
pub struct JobHistory {
    stage: String,
    spec: JobSpec,
    end: Option<JobEnd>,
    children: Vec<(String, JobEnd)>,
    numbers: Vec<Given>,
}

#[derive(Clone, Debug)]
struct Given {
    sequence: SequenceName,
    scope: String,
    number: u64,
    parents: Vec<u32>,
}

/// How a job had ended elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEnd {
    state: JobState,
    skipped: Option<SkipReason>,
    /// Or why it cannot be kept.
    record: Result<Option<Value>, String>,
}

impl JobEnd {
    /// It succeeded, and gave that.
    pub fn succeeded(output: &impl Serialize) -> Self {
        Self::with(JobState::Succeeded, output)
    }

    /// It succeeded in part, and gave that.
    pub fn partial(output: &impl Serialize) -> Self {
        Self::with(JobState::Partial, output)
    }

    /// It failed.
    pub fn failed(failure: &Failure) -> Self {
        let Failure { class, code, message, .. } = failure;
        let record = json!({ "class": class, "code": code, "message": message });
        Self::with(JobState::Failed, &record)
    }

    /// It was not done, for that reason; more of it is told by `why`.
    pub fn skipped(reason: SkipReason, why: &str) -> Self {
        Self { skipped: Some(reason), ..Self::with(JobState::Skipped, &why) }
    }

    /// It was cancelled.
    pub fn cancelled() -> Self {
        Self { state: JobState::Cancelled, skipped: None, record: Ok(None) }
    }

    fn with(state: JobState, record: &impl Serialize) -> Self {
        let record = serde_json::to_value(record).map(Some).map_err(|error| error.to_string());
        Self { state, skipped: None, record }
    }
}

impl JobHistory {
    /// The job of that stage with that key and input. One that the plan begins with keeps the plan's input.
    pub fn new(stage: impl Into<String>, spec: JobSpec) -> Self {
        let (children, numbers) = (Vec::new(), Vec::new());
        Self { stage: stage.into(), spec, end: None, children, numbers }
    }

    /// Its key in its stage.
    pub fn key(&self) -> &str {
        &self.spec.key
    }

    /// It had ended so; else it is still to be done.
    #[must_use]
    pub fn ended(mut self, end: JobEnd) -> Self {
        self.end = Some(end);
        self
    }

    /// That child of it had ended so. Children that had not are made once the group is expanded.
    #[must_use]
    pub fn child(mut self, key: impl Into<String>, end: JobEnd) -> Self {
        self.children.push((key.into(), end));
        self
    }

    /// It has had that number: should it be made again, it gets the same one
    /// ([`AttemptCx::allocate`](crate::AttemptCx::allocate)), and nobody else ever does. `parents`: the version that each
    /// further version of it was made from, from the second on.
    #[must_use]
    pub fn number(
        mut self,
        sequence: &SequenceName,
        scope: impl Into<String>,
        number: u64,
        parents: impl IntoIterator<Item = u32>,
    ) -> Self {
        let (sequence, parents) = (sequence.clone(), parents.into_iter().collect());
        self.numbers.push(Given { sequence, scope: scope.into(), number, parents });
        self
    }
}

impl History {
    /// Of a run that goes on by itself from where it was.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing of it begins before somebody resumes it.
    #[must_use]
    pub fn paused(mut self) -> Self {
        self.paused = true;
        self
    }

    /// With that job.
    #[must_use]
    pub fn job(mut self, job: JobHistory) -> Self {
        self.jobs.push(job);
        self
    }

    /// With an event `imported` that tells that: at most 64 KiB.
    #[must_use]
    pub fn note(mut self, told: Value) -> Self {
        self.notes.push(told);
        self
    }
}

/// Of which run a history is told.
pub(crate) struct Recalled<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) workflow: &'a str,
    pub(crate) offered: &'a Offered,
    pub(crate) settings: &'a EngineSettings,
    pub(crate) now: Timestamp,
}

impl Staging {
    /// What is recorded of `history`. Jobs that the plan does not begin with are added to `jobs`.
    pub(crate) fn recall(
        &self,
        history: &History,
        of: &Recalled<'_>,
        jobs: &mut Vec<NewJob>,
    ) -> Result<Past, PlanProblems> {
        let mut problems = Vec::new();
        let mut past = Past { paused: history.paused, ..Past::default() };
        // What the plan begins with, and then what was told already.
        let mut known: BTreeMap<(String, JobKey), bool> = BTreeMap::new();
        known.extend(jobs.iter().map(|job| ((job.stage.clone(), job.key.clone()), false)));
        for job in &history.jobs {
            if let Err(problem) = self.recall_job(job, of, jobs, &mut known, &mut past) {
                problems.extend(problem);
            }
        }
        past.events = history.notes.iter().map(|data| told(data.clone())).collect();
        if problems.is_empty() { Ok(past) } else { Err(PlanProblems(problems)) }
    }

    fn recall_job(
        &self,
        told: &JobHistory,
        of: &Recalled<'_>,
        jobs: &mut Vec<NewJob>,
        known: &mut BTreeMap<(String, JobKey), bool>,
        past: &mut Past,
    ) -> Result<(), Vec<PlanProblem>> {
        let JobHistory { stage, spec, end, children, numbers } = told;
        let what = format!("job `{}` of stage `{stage}`", spec.key);
        let refuse = |why: String| PlanProblem::History { what: what.clone(), why };
        let Some(planned) = self.stage(stage) else {
            return Err(vec![refuse("the plan has no such stage".to_owned())]);
        };
        let mut problems = Vec::new();
        if !is_name(&spec.key) {
            problems.push(PlanProblem::InvalidName(spec.key.clone()));
        }
        if planned.begins_closed() {
            problems.push(refuse("the stage is closed from the beginning".to_owned()));
        }
        let input = spec.input.clone().unwrap_or_else(|why| {
            problems.push(PlanProblem::Input { what: what.clone(), why });
            Value::Null
        });
        let key = job_key(stage, &spec.key);
        match known.insert((stage.clone(), key.clone()), true) {
            Some(true) => {
                let (stage, key) = (stage.clone(), spec.key.clone());
                problems.push(PlanProblem::DuplicateKey { stage, key });
            }
            Some(false) => (),
            None => {
                let mut uses = Vec::new();
                if end.is_none() {
                    uses = of.offered.of_job(planned.uses.iter().chain(&spec.uses), of.run);
                }
                let (own, after) = (spec.key.clone(), spec.after.clone());
                let (input, priority) = (input.clone(), spec.priority);
                let made = PlannedJob { key: own, input, after, uses: Vec::new(), priority };
                let (key, given) = (key.clone(), made.given(0));
                let planned = planned_job(planned, key, given, uses, of.settings, of.now);
                let mut job = made.placed(planned);
                if end.is_some() {
                    // It is over: nobody waits for it, and it waits for nobody.
                    (job.part.limit, job.part.failed) = (None, None);
                }
                jobs.push(job);
            }
        }
        past.jobs.extend(end.as_ref().and_then(|end| {
            let end = end.past(stage, &key);
            end.map_err(|why| problems.push(refuse(why))).ok()
        }));
        if !children.is_empty() {
            problems.extend(self.recall_children(told, &key, &input, of, jobs, past).err());
        }
        let first = IdempotencyKey::new(of.workflow, of.run, stage, &JobKey::new(&spec.key));
        let mut asked: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for Given { sequence, scope, number, parents } in numbers {
            let ordinal = asked.entry((sequence.as_str(), scope)).or_default();
            *ordinal += 1;
            let version = |(ordinal, parent): (u32, &u32)| PastVersion {
                parent: *parent,
                key: number_key(&first, &format!("{number}.{ordinal}")),
            };
            past.numbers.push(PastNumber {
                sequence: sequence.clone(),
                scope: scope.clone(),
                number: *number,
                key: number_key(&first, &ordinal.to_string()),
                job: key.clone(),
                versions: (1_u32..).zip(parents).map(version).collect(),
            });
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Children that had ended: as their group makes them now, or, where it makes none of that key any more, as what is over.
    fn recall_children(
        &self,
        told: &JobHistory,
        group: &JobKey,
        input: &Value,
        of: &Recalled<'_>,
        jobs: &mut Vec<NewJob>,
        past: &mut Past,
    ) -> Result<(), PlanProblem> {
        let JobHistory { stage, spec, children, .. } = told;
        let what = format!("job `{}` of stage `{stage}`", spec.key);
        let refuse = |why: String| PlanProblem::History { what: what.clone(), why };
        let planned = self.stage(stage);
        let Some(Work::Group(name)) = planned.map(|planned| &planned.work) else {
            return Err(refuse("it is no group, and has no children".to_owned()));
        };
        // Whoever begins with it has the plan's input.
        let begun = jobs.iter().find(|job| job.stage == *stage && job.key == *group);
        let input = begun.and_then(|job| job.input.get("input")).unwrap_or(input);
        let made = match self.group(name) {
            Some(of) => Guard::expand(&**of, input).map_err(|failure| refuse(failure.message))?,
            None => return Err(refuse(format!("no group `{name}` is registered"))),
        };
        let mut made: BTreeMap<String, _> =
            made.into_iter().map(|child| (child.key.clone(), child)).collect();
        let mut keys = std::collections::BTreeSet::new();
        for (own, end) in children {
            if own.is_empty() || own.contains('/') || !keys.insert(own) {
                return Err(refuse(format!(
                    "`{own}` cannot name a child: one sign at least, no `/`, and each once"
                )));
            }
            let key = child_key(group, own);
            past.jobs.push(end.past(stage, &key).map_err(&refuse)?);
            let child = made
                .remove(own)
                .unwrap_or_else(|| Child::skipped(own, SkipReason::NotApplicable).0);
            // It is over: it uses nothing any more.
            let mut job = child_job(stage, group, child, 0, None, of.settings, of.now);
            (job.part.skipped, job.part.limit) = (None, None);
            jobs.push(job);
        }
        Ok(())
    }
}

impl JobEnd {
    fn past(&self, stage: &str, key: &JobKey) -> Result<PastJob, String> {
        let record =
            self.record.clone().map_err(|why| format!("what it gave cannot be kept: {why}"))?;
        let (stage, key) = (stage.to_owned(), key.clone());
        Ok(PastJob { stage, key, state: self.state, skipped: self.skipped, result: record })
    }
}

fn told(data: Value) -> NewEvent {
    NewEvent { kind: "imported".to_owned(), job: None, attempt: None, data }
}
