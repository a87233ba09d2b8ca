//! What a run of a pipeline will do, as far as that is known before it begins (YR-1).

use perennial_core::run::StepPath;
use serde_json::{Value, json};

use super::{Pipeline, Step};

/// The jobs of a run, in their order.
///
/// ```
/// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
/// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
/// let plan = pipeline.plan();
/// assert_eq!(plan.jobs.len(), 2);
/// assert_eq!(plan.required_inputs, ["who"]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// One for every step.
    pub jobs: Vec<PlannedJob>,
    /// Names of the variables of the environment that the run reads.
    pub environment: Vec<String>,
    /// Names of the inputs without which it cannot start.
    pub required_inputs: Vec<String>,
}

/// One job.
///
/// ```
/// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
/// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
/// let job = &pipeline.plan().jobs[1];
/// assert_eq!((job.key.as_str(), job.type_name.as_str()), ("b", "echo"));
/// assert_eq!(job.after, ["a"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedJob {
    /// Its key: the path of its step.
    pub key: String,
    /// The type of the step.
    pub type_name: String,
    /// Keys of the jobs it waits for; the first step of a child waits for that of its parent too.
    pub after: Vec<String>,
    /// The condition on which it runs.
    pub condition: Option<String>,
    /// Most attempts.
    pub attempts: u32,
    /// Deadline of one attempt, in milliseconds; of a step with a child, to begin it and to end it.
    pub within_ms: u64,
    /// How long its child may take, in milliseconds, when it has one.
    pub child_within_ms: Option<u64>,
    /// What its child is, when the steps of that are not known before the run is there.
    pub child_later: Option<String>,
    /// Whether the run goes on without it.
    pub continue_on_error: bool,
    /// Keys of the jobs of its handler, which are made when it has failed for good.
    pub on_error: Vec<String>,
    /// The key of the job whose failure it handles.
    pub handles: Option<String>,
}

impl Pipeline {
    /// What its runs will do.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// let keys: Vec<_> = pipeline.plan().jobs.into_iter().map(|job| job.key).collect();
    /// assert_eq!(keys, ["a", "b"]);
    /// ```
    pub fn plan(&self) -> Plan {
        let mut jobs = Vec::new();
        planned(&self.model.steps, &StepPath::root(), None, &mut jobs);
        Plan {
            jobs,
            environment: self.environment().to_vec(),
            required_inputs: self.required_inputs().into_iter().map(str::to_owned).collect(),
        }
    }

    /// The resolved definition as a value to look at: what is hashed and run, after files were put
    /// together and defaults applied. Values that it keeps as texts, because their order counts,
    /// are shown as the values they are.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.resolved()["definition"]["name"], "w");
    /// ```
    pub fn resolved(&self) -> Value {
        let value = serde_json::to_value(&self.model).unwrap_or_default();
        json!({
            "digest": self.definition().digest,
            "places": self.places(),
            "limits": self.model.deployed.shown_limits(self.model.within_ms),
            "definition": shown(value, ""),
        })
    }
}

/// The jobs of `steps`, which stand at `path` and belong to the handler of `handles`: each step before those of its
/// child, and those of its handler.
fn planned(steps: &[Step], path: &StepPath, handles: Option<&str>, jobs: &mut Vec<PlannedJob>) {
    let mut before: Option<String> = None;
    for step in steps {
        let path = path.step(&step.name);
        let key = path.key().to_string();
        let within = step.attempt_within().as_millis();
        let inner = step.handler.iter().flat_map(|handler| &handler.steps);
        let inner = inner.map(|inner| path.handler().step(&inner.name).key().to_string());
        jobs.push(PlannedJob {
            key: key.clone(),
            type_name: step.type_name.clone(),
            // Steps run strictly in the order of the file (YR-10).
            after: before.replace(key.clone()).into_iter().collect(),
            condition: step.condition.as_ref().map(|condition| condition.shown.clone()),
            attempts: step.retry.max_attempts,
            within_ms: u64::try_from(within).unwrap_or(u64::MAX),
            child_within_ms: step.nested().map(|nested| nested.within_ms),
            child_later: step.nested().and_then(|nested| nested.child.unknown()),
            continue_on_error: step.continue_on_error,
            on_error: inner.collect(),
            handles: handles.map(str::to_owned),
        });
        if let Some(child) = step.child() {
            planned(&child.steps, &path, None, jobs);
        }
        if let Some(handler) = &step.handler {
            planned(&handler.steps, &path.handler(), Some(&key), jobs);
        }
    }
}

/// Keys whose texts hold a value.
const KEPT_AS_TEXT: [&str; 8] =
    ["facts", "default", "allowed", "value", "variables", "section", "input_schema", "schema"];

fn shown(value: Value, key: &str) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
        Value::String(text) if KEPT_AS_TEXT.contains(&key) => {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
        Value::String(_) => value,
        // Pairs of a name and a value.
        Value::Array(items) if key == "variables" => {
            let pair = |mut item: Value| {
                if let Some(value) = item.get_mut(1) {
                    *value = shown(value.take(), key);
                }
                item
            };
            items.into_iter().map(pair).collect()
        }
        Value::Array(items) => items.into_iter().map(|item| shown(item, "")).collect(),
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| {
                    let value = shown(value, &key);
                    (key, value)
                })
                .collect(),
        ),
    }
}
