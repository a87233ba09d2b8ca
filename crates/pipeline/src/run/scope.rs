//! Names at run time, folded from what is done (3.3, 3.8).

use std::{
    borrow::Cow,
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
};

use perennial_core::{
    Digest,
    run::{IdempotencyKey, JobKey, JobState, RunId},
};
use perennial_engine::{AttemptCx, DoneJob};
use serde_json::{Map, Value};

use super::PipelineRun;
use crate::{
    definition::{Assign, MissingHole, Pipeline, StepKind, VariableScope, Write},
    expression::{Missing, Names, Path, Place, ROOTS, Segment, Undecided, fields, type_of, walk},
};

/// Warnings that one attempt keeps; the others say no more.
const WARNINGS_MAX: usize = 20;

/// What names mean in one attempt of one step.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pipeline: &'a Pipeline,
    inputs: &'a Value,
    done: HashMap<&'a JobKey, &'a DoneJob>,
    run: &'a RunId,
    job: &'a JobKey,
    attempt: u32,
    key: &'a IdempotencyKey,
    told: Mutex<Told>,
    timestamp: String,
    date: String,
    local: Map<String, Value>,
    global: Map<String, Value>,
}

/// What the expressions of an attempt told and took so far.
#[derive(Debug, Default)]
struct Told {
    warnings: Vec<String>,
    ids: u32,
}

/// What a record is made of decides how fields and `result` are found in it (YT-11, YT-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A bare value, a skipped or a failed record.
    Plain,
    /// The record of a call.
    Reply,
    /// The record of an assignment.
    Assigned,
}

impl<'a> Scope<'a> {
    pub(super) fn new(run: &'a PipelineRun, cx: &'a AttemptCx) -> Self {
        let mut scope = Self {
            pipeline: &run.pipeline,
            inputs: &run.settings.inputs,
            done: cx.done.iter().map(|job| (&job.key, job)).collect(),
            run: &cx.run,
            job: &cx.job,
            attempt: cx.attempt,
            key: &cx.idempotency_key,
            told: Mutex::default(),
            timestamp: cx.run_started_at.to_compact(),
            date: cx.run_started_at.to_date(),
            local: Map::new(),
            global: Map::new(),
        };
        for job in cx.done.iter() {
            let assigned = run.pipeline.step(&job.key).map(|(_, step)| &step.kind);
            let (Some(StepKind::SetVariable(assign)), JobState::Succeeded) = (assigned, job.state)
            else {
                continue;
            };
            if let Some(values) = job.result["values"].as_object() {
                scope.apply(assign, values);
            }
        }
        scope
    }

    /// Repeats the writes of a step that is done.
    fn apply(&mut self, assign: &Assign, values: &Map<String, Value>) {
        let Some(target) = assign.write.target() else {
            for (name, value) in values {
                self.set(assign.scope, name, value.clone());
            }
            return;
        };
        let mut whole = self.own(assign.scope, target).cloned().unwrap_or(match assign.write {
            Write::Set | Write::AppendTo(_) => Value::Array(Vec::new()),
            Write::MergeInto(_) => Value::Object(Map::new()),
        });
        match &mut whole {
            Value::Array(items) => items.extend(values.values().cloned()),
            Value::Object(map) => {
                map.extend(values.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
        }
        self.set(assign.scope, target, whole);
    }

    /// The variable of this scope, or its initial value.
    fn own(&self, scope: VariableScope, name: &str) -> Option<&Value> {
        let variables = match scope {
            VariableScope::Local => &self.local,
            VariableScope::Global => &self.global,
        };
        variables.get(name).or_else(|| self.initial().get(name))
    }

    /// The target of `assign`, the type it should have and the one it has.
    pub(super) fn misfit<'s>(
        &self,
        assign: &'s Assign,
    ) -> Option<(&'s str, &'static str, &'static str)> {
        let target = assign.write.target()?;
        let found = self.own(assign.scope, target)?;
        let wanted = match assign.write {
            Write::Set | Write::AppendTo(_) => "list",
            Write::MergeInto(_) => "map",
        };
        (type_of(found) != wanted).then(|| (target, wanted, type_of(found)))
    }

    /// What expressions warned of so far.
    pub(super) fn warnings(&self) -> Vec<String> {
        mem::take(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner).warnings)
    }

    pub(super) fn set(&mut self, scope: VariableScope, name: &str, value: Value) {
        let variables = match scope {
            VariableScope::Local => &mut self.local,
            VariableScope::Global => &mut self.global,
        };
        variables.insert(name.to_owned(), value);
    }

    /// The result of the step `name`, when it has run.
    pub(super) fn result(&self, name: &str) -> Option<&'a DoneJob> {
        self.done.get(&JobKey::new(name)).copied()
    }

    /// What a consumer that asks for the whole step gets (YT-12).
    pub(super) fn value_view(&self, name: &str) -> Option<&'a Value> {
        let job = self.result(name)?;
        Some(match self.shape(job) {
            Shape::Reply => reply(&job.result),
            Shape::Plain | Shape::Assigned => &job.result,
        })
    }

    /// Follows `segments` into the result of the step `name`.
    ///
    /// # Errors
    ///
    /// The fields that are there instead.
    pub(super) fn step_field(
        &self,
        name: &str,
        segments: &[Segment],
    ) -> Result<Cow<'a, Value>, Option<Vec<String>>> {
        let Some(job) = self.result(name) else { return Err(Some(Vec::new())) };
        let record = &job.result;
        let own = match walk(Cow::Borrowed(record), segments) {
            Ok(value) => return Ok(value),
            Err(available) => available,
        };
        if job.state == JobState::Skipped {
            return Err(own);
        }
        let shape = self.shape(job);
        let Some((first, _)) = segments.first().and_then(Segment::field) else { return Err(own) };
        let has_own = record.get(first).is_some();
        if first == "result" && !has_own {
            let whole = match shape {
                Shape::Reply => reply(record),
                Shape::Plain | Shape::Assigned => record,
            };
            let rest = &segments[1..];
            return walk(Cow::Borrowed(whole), rest)
                .or_else(|available| walk(Cow::Borrowed(record), rest).map_err(|_| available));
        }
        if has_own {
            return Err(own);
        }
        let inner = match shape {
            Shape::Plain => return Err(own),
            Shape::Reply => &record["data"],
            Shape::Assigned => &record["values"],
        };
        walk(Cow::Borrowed(inner), segments).map_err(|_| {
            let mut available = fields(record).unwrap_or_default();
            available.extend(fields(inner).unwrap_or_default());
            Some(available)
        })
    }

    fn shape(&self, job: &DoneJob) -> Shape {
        if job.state != JobState::Succeeded {
            return Shape::Plain;
        }
        match self.pipeline.step(&job.key).map(|(_, step)| &step.kind) {
            Some(StepKind::Chat(_)) => Shape::Reply,
            Some(StepKind::SetVariable(_)) => Shape::Assigned,
            Some(StepKind::Echo(_)) | None => Shape::Plain,
        }
    }

    /// A variable of any scope, nearest first.
    fn variable(&self, name: &str) -> Option<&Value> {
        self.local.get(name).or_else(|| self.global.get(name)).or_else(|| self.initial().get(name))
    }

    fn initial(&self) -> &Value {
        &self.pipeline.model.facts.0["variables"]
    }

    /// Initial values under `upper`.
    fn merged(&self, uppers: &[&Map<String, Value>]) -> Value {
        let mut merged = self.initial().as_object().cloned().unwrap_or_default();
        for upper in uppers {
            merged.extend(upper.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        Value::Object(merged)
    }

    fn rooted(&self, path: &Path) -> Result<Cow<'_, Value>, Option<Vec<String>>> {
        let inside = |value: Value| walk(Cow::Owned(value), &path.segments);
        let facts = &self.pipeline.model.facts.0;
        match path.root.as_str() {
            "steps" => match path.segments.split_first() {
                Some((first, rest)) => {
                    let (name, _) = first.field().ok_or(None)?;
                    self.step_field(name, rest)
                }
                None => Err(None),
            },
            "state" => match path.segments.first().and_then(Segment::field) {
                Some((name, _)) => match self.variable(name) {
                    Some(value) => walk(Cow::Borrowed(value), &path.segments[1..]),
                    None => Err(fields(&self.merged(&[&self.global, &self.local]))),
                },
                None => inside(self.merged(&[&self.global, &self.local])),
            },
            "variables" => inside(self.merged(&[&self.global])),
            "inputs" => walk(Cow::Borrowed(self.inputs), &path.segments),
            "global_vars" => {
                let constants = &facts["global_vars"];
                walk(Cow::Borrowed(constants), &path.segments).or_else(|available| {
                    let (name, _) = path.segments.first().and_then(Segment::field).ok_or(None)?;
                    match self.inputs.get(format!("global_vars.{name}")) {
                        Some(given) => walk(Cow::Borrowed(given), &path.segments[1..]),
                        None => Err(available.or(Some(Vec::new()))),
                    }
                })
            }
            "workflow" => walk(Cow::Borrowed(facts), &path.segments),
            "step" => match path.segments.first().and_then(Segment::field) {
                Some(("name", _)) => {
                    walk(Cow::Owned(Value::from(self.job.as_str())), &path.segments[1..])
                }
                Some(("attempt", _)) => {
                    walk(Cow::Owned(Value::from(self.attempt)), &path.segments[1..])
                }
                _ => Err(Some(vec!["name".to_owned(), "attempt".to_owned()])),
            },
            "timestamp" => inside(Value::from(self.timestamp.as_str())),
            "date" => inside(Value::from(self.date.as_str())),
            _ => inside(Value::from(self.run.as_str())),
        }
    }

    /// Names that a bare word could have meant.
    fn plain_names(&self) -> Vec<String> {
        let mut names = fields(&self.merged(&[&self.global, &self.local])).unwrap_or_default();
        names.extend(fields(self.inputs).unwrap_or_default());
        names
    }
}

/// `data` when the reply was structured, else its text.
fn reply(record: &Value) -> &Value {
    let data = &record["data"];
    if data.is_object() || data.is_array() { data } else { &record["text"] }
}

impl Names for Scope<'_> {
    fn find(&self, path: &Path, place: Place) -> Result<Cow<'_, Value>, Missing> {
        let root = path.root.as_str();
        let is_step = self.pipeline.step(&JobKey::new(root)).is_some();
        let found = if place == Place::Condition && is_step {
            self.step_field(root, &path.segments)
        } else if ROOTS.contains(&root) {
            self.rooted(path)
        } else if let Some(value) = self.variable(root).or_else(|| self.inputs.get(root)) {
            walk(Cow::Borrowed(value), &path.segments)
        } else if is_step {
            self.step_field(root, &path.segments)
        } else {
            Err(Some(self.plain_names()))
        };
        found.map_err(|available| Missing { path: path.to_string(), available })
    }

    /// Made from the key of the job, which is in the journal: the same on every attempt.
    fn uuid(&self) -> String {
        let ordinal = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.ids += 1;
            told.ids
        };
        let key = self.key.call(&format!("uuid/{ordinal}"));
        let digest = Digest::of(key.as_str().as_bytes()).to_string();
        let digits: String = digest.chars().filter(char::is_ascii_hexdigit).collect();
        // Version 8 of RFC 9562: the digits are ours to choose, but for version and variant.
        format!(
            "{}-{}-8{}-a{}-{}",
            &digits[0..8],
            &digits[8..12],
            &digits[13..16],
            &digits[17..20],
            &digits[20..32]
        )
    }

    fn warn(&self, text: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.warnings.len() < WARNINGS_MAX && !told.warnings.contains(&text) {
            told.warnings.push(text);
        }
    }

    fn missing_hole(&self) -> MissingHole {
        self.pipeline.model.lenient.missing_hole()
    }

    fn undecided(&self) -> Undecided {
        self.pipeline.model.undecided
    }
}
