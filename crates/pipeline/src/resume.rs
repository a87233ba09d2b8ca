//! What becomes of each step when a run goes on in a further round, maybe by a corrected document
//! (YR-53, YR-58). Pure: two definitions and what is recorded go in, a plan comes out.
//!
//! A completed step is reused when it is written as before, and so is everything that it reads:
//! the steps, variables and inputs that its texts name, and the files that earlier steps wrote. A
//! dependency that cannot be excluded is one.

mod depends;
mod walk;

use std::{collections::BTreeMap, fmt};

use perennial_core::run::{JobKey, JobState};
use serde_json::Value;

use crate::definition::Pipeline;

/// A job as the store has it.
#[derive(Clone, Copy, Debug)]
pub struct RecordedJob<'a> {
    /// Its key.
    pub key: &'a JobKey,
    /// Where it is.
    pub state: JobState,
    /// Its record.
    pub result: Option<&'a Value>,
}

/// A run by one of its definitions.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    /// The definition.
    pub pipeline: &'a Pipeline,
    /// The inputs, bound by that definition.
    pub inputs: &'a Value,
}

/// What a further round of a run will do.
///
/// ```
/// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
/// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
/// use perennial_pipeline::{RecordedJob, ResumePlan, Version};
/// # use perennial_core::run::{JobKey, JobState};
///
/// let (inputs, a) = (serde_json::json!({"who": "Ada"}), JobKey::new("a"));
/// let done = [RecordedJob { key: &a, state: JobState::Succeeded, result: None }];
/// let version = Version { pipeline: &pipeline, inputs: &inputs };
/// let plan = ResumePlan::of(version, version, &done, None);
/// assert_eq!(plan.step("a").unwrap().fate.to_string(), "reused");
/// assert_eq!(plan.step("b").unwrap().fate.to_string(), "runs (not reached before)");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResumePlan {
    /// Every step, in the order of the new document; those that are gone stand last.
    pub steps: Vec<ResumedStep>,
    /// Jobs that are made again, and whether their recorded calls are forgotten.
    pub again: BTreeMap<JobKey, bool>,
    /// Steps that had completed, changed something outside, and would do so again (PL903).
    pub rewrites: Vec<String>,
}

/// One step of a plan.
///
/// ```
/// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
/// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
/// # use perennial_pipeline::{ResumePlan, Version};
/// # let inputs = serde_json::json!({"who": "Ada"});
/// # let version = Version { pipeline: &pipeline, inputs: &inputs };
/// let plan = ResumePlan::of(version, version, &[], None); // nothing is recorded yet
/// for step in &plan.steps {
///     assert_eq!(step.fate.name(), "due", "{}", step.path);
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumedStep {
    /// Its path, without rounds.
    pub path: String,
    /// What becomes of it.
    pub fate: StepFate,
}

/// What becomes of a step.
///
/// ```
/// use perennial_pipeline::{RerunWhy, StepFate};
///
/// let fate = StepFate::Rerun(RerunWhy::Needs("a".to_owned()));
/// assert_eq!((fate.name(), fate.to_string().as_str()), ("rerun", "rerun (it needs a)"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepFate {
    /// Its result stays.
    Reused,
    /// It had begun, and runs again.
    Rerun(RerunWhy),
    /// It had not been reached; it runs when it is its turn.
    Due,
    /// The document did not have it before.
    New,
    /// The document has it no more; its result is dropped.
    Gone,
}

/// Why a step runs again.
///
/// ```
/// use perennial_pipeline::RerunWhy;
///
/// assert_eq!(RerunWhy::Changed.to_string(), "it changed");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RerunWhy {
    /// It had failed.
    Failed,
    /// It had not come to its end.
    Unfinished,
    /// It is written otherwise, or what it reads of the document or the inputs is.
    Changed,
    /// It reads what another step gives, sets or writes, and that step runs (again).
    Needs(String),
    /// A step inside of it runs (again).
    Inside(String),
    /// The step around it begins anew.
    Around(String),
    /// Texts are read by other rules: the leniency of the document is another one.
    Rules,
    /// It was asked for.
    Asked,
}

impl fmt::Display for StepFate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reused => f.write_str("reused"),
            Self::Rerun(why) => write!(f, "rerun ({why})"),
            Self::Due => f.write_str("runs (not reached before)"),
            Self::New => f.write_str("new"),
            Self::Gone => f.write_str("gone"),
        }
    }
}

impl StepFate {
    /// One word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reused => "reused",
            Self::Rerun(_) => "rerun",
            Self::Due => "due",
            Self::New => "new",
            Self::Gone => "gone",
        }
    }

    /// Why it runs again, when it does.
    pub fn why(&self) -> Option<&RerunWhy> {
        match self {
            Self::Rerun(why) => Some(why),
            Self::Reused | Self::Due | Self::New | Self::Gone => None,
        }
    }
}

impl fmt::Display for RerunWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed => f.write_str("it failed"),
            Self::Unfinished => f.write_str("it had not ended"),
            Self::Changed => f.write_str("it changed"),
            Self::Needs(step) => write!(f, "it needs {step}"),
            Self::Inside(step) => write!(f, "{step} in it runs"),
            Self::Around(step) => write!(f, "{step} begins anew"),
            Self::Rules => f.write_str("texts are read by other rules"),
            Self::Asked => f.write_str("asked for"),
        }
    }
}

impl ResumePlan {
    /// What a run by `before` becomes that goes on by `after`. `from` names an outermost step: it
    /// and what stands behind it runs again, with its calls.
    pub fn of(
        before: Version<'_>,
        after: Version<'_>,
        recorded: &[RecordedJob<'_>],
        from: Option<&str>,
    ) -> Self {
        walk::plan(before, after, recorded, from)
    }

    /// The step at `path`.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// # use perennial_pipeline::{ResumePlan, Version};
    /// # let inputs = serde_json::json!({"who": "Ada"});
    /// # let version = Version { pipeline: &pipeline, inputs: &inputs };
    /// let plan = ResumePlan::of(version, version, &[], None);
    /// assert!(plan.step("a").is_some() && plan.step("unknown").is_none());
    /// ```
    pub fn step(&self, path: &str) -> Option<&ResumedStep> {
        self.steps.iter().find(|step| step.path == path)
    }

    /// Whether nothing that had completed runs again.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// # use perennial_pipeline::{RecordedJob, ResumePlan, Version};
    /// # use perennial_core::run::{JobKey, JobState};
    /// # let inputs = serde_json::json!({"who": "Ada"});
    /// # let version = Version { pipeline: &pipeline, inputs: &inputs };
    /// let keys = ["a", "b"].map(JobKey::new);
    /// let done = keys.each_ref().map(|key| RecordedJob { key, state: JobState::Succeeded, result: None });
    /// assert!(ResumePlan::of(version, version, &done, None).keeps_all());
    /// ```
    pub fn keeps_all(&self) -> bool {
        self.steps.iter().all(|step| match &step.fate {
            StepFate::Reused | StepFate::Due => true,
            StepFate::Rerun(why) => matches!(why, RerunWhy::Failed | RerunWhy::Unfinished),
            StepFate::New | StepFate::Gone => false,
        })
    }
}

#[cfg(test)]
mod tests;
