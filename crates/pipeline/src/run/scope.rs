//! Names at run time, folded from what is done (3.3, 3.8).

use std::{
    borrow::Cow,
    mem,
    sync::{Mutex, PoisonError},
};

use perennial_core::{
    Digest,
    run::{IdempotencyKey, JobState, RunId},
};
use perennial_engine::{AttemptCx, DoneJob};
use serde_json::{Map, Value};

use super::{
    PipelineRun,
    tree::{Done, Due, Frame},
};
use crate::{
    definition::{Assign, Step, StepKind, VariableScope, Write},
    expression::{Missing, Names, Path, Place, ROOTS, Segment, Undecided, fields, type_of, walk},
};

/// Warnings that one attempt keeps; the others say no more.
const WARNINGS_MAX: usize = 20;

/// What names mean in one attempt of one step.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    frame: Frame<'a>,
    done: &'a Done<'a>,
    inputs: &'a Value,
    run: &'a RunId,
    step: &'a str,
    attempt: u32,
    key: &'a IdempotencyKey,
    told: Mutex<Told>,
    timestamp: String,
    date: String,
    /// Variables that nobody in this scope wrote, the constants beside them.
    initial: Cow<'a, Value>,
    constants: Cow<'a, Value>,
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
    /// The outputs of a child, under `result` when it was given inputs.
    Nested,
}

/// What a child sees of its parent when it is told to.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) inputs: Value,
    pub(super) variables: Value,
    pub(super) global_vars: Value,
}

static NOTHING: Value = Value::Null;

impl<'a> Scope<'a> {
    /// The scope of the step that is due.
    pub(super) fn new(
        run: &'a PipelineRun,
        cx: &'a AttemptCx,
        due: &Due<'a>,
        done: &'a Done<'a>,
    ) -> Self {
        let root = || Frame::root(&run.pipeline.model);
        let frame = due.frames.last().cloned().unwrap_or_else(root);
        Self::of_frame(run, cx, &frame, due.step, done)
    }

    /// What names mean in the scope `frame`, for `step`.
    pub(super) fn of_frame(
        run: &'a PipelineRun,
        cx: &'a AttemptCx,
        frame: &Frame<'a>,
        step: &'a Step,
        done: &'a Done<'a>,
    ) -> Self {
        let facts = &frame.model.facts.0;
        let opened = frame.opened.as_ref().map(|opened| opened.record);
        let over = |key: &str| {
            let own = &facts[key];
            let inherited = opened.and_then(|opened| opened.get(key)?.as_object());
            let Some(inherited) = inherited else { return Cow::Borrowed(own) };
            let mut merged = inherited.clone();
            let own = own.as_object().into_iter().flatten();
            merged.extend(own.map(|(name, value)| (name.clone(), value.clone())));
            Cow::Owned(Value::Object(merged))
        };
        let mut scope = Self {
            frame: frame.clone(),
            done,
            inputs: opened
                .map_or(&run.settings.inputs, |opened| opened.get("inputs").unwrap_or(&NOTHING)),
            initial: over("variables"),
            constants: over("global_vars"),
            run: &cx.run,
            step: &step.name,
            attempt: cx.attempt,
            key: &cx.idempotency_key,
            told: Mutex::default(),
            timestamp: cx.run_started_at.to_compact(),
            date: cx.run_started_at.to_date(),
            local: Map::new(),
            global: Map::new(),
        };
        for step in &frame.model.steps {
            let StepKind::SetVariable(assign) = &step.kind else { continue };
            let Some(job) = frame.find(step, done) else { continue };
            if job.state != JobState::Succeeded {
                continue;
            }
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
        self.frame.find_named(name, self.done)
    }

    /// What a consumer that asks for the whole step gets (YT-12).
    pub(super) fn value_view(&self, name: &str) -> Option<&'a Value> {
        let job = self.result(name)?;
        Some(match self.shape(name, job) {
            Shape::Reply => reply(&job.result),
            Shape::Nested => job.result.get("result").unwrap_or(&job.result),
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
        let shape = self.shape(name, job);
        if job.state == JobState::Skipped && shape != Shape::Nested {
            return Err(own);
        }
        let Some((first, _)) = segments.first().and_then(Segment::field) else { return Err(own) };
        let has_own = record.get(first).is_some();
        if first == "result" && !has_own {
            let whole = match shape {
                Shape::Reply => reply(record),
                Shape::Plain | Shape::Assigned | Shape::Nested => record,
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
            Shape::Nested => &record["result"],
        };
        walk(Cow::Borrowed(inner), segments).map_err(|_| {
            let mut available = fields(record).unwrap_or_default();
            available.extend(fields(inner).unwrap_or_default());
            Some(available)
        })
    }

    fn shape(&self, name: &str, job: &DoneJob) -> Shape {
        match self.frame.step(name).map(|step| &step.kind) {
            Some(StepKind::Pipeline(_)) => Shape::Nested,
            _ if job.state != JobState::Succeeded => Shape::Plain,
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
        &self.initial
    }

    /// What a child sees of this scope when it is told to.
    pub(super) fn context(&self) -> Context {
        Context {
            inputs: self.inputs.clone(),
            variables: self.merged(&[&self.global]),
            global_vars: self.constants.clone().into_owned(),
        }
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
        let facts = &self.frame.model.facts.0;
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
                walk(Cow::Borrowed(&*self.constants), &path.segments).or_else(|available| {
                    let (name, _) = path.segments.first().and_then(Segment::field).ok_or(None)?;
                    match self.inputs.get(format!("global_vars.{name}")) {
                        Some(given) => walk(Cow::Borrowed(given), &path.segments[1..]),
                        None => Err(available.or(Some(Vec::new()))),
                    }
                })
            }
            "workflow" => walk(Cow::Borrowed(facts), &path.segments),
            "step" => match path.segments.first().and_then(Segment::field) {
                Some(("name", _)) => walk(Cow::Owned(Value::from(self.step)), &path.segments[1..]),
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
        let is_step = self.frame.step(root).is_some();
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

    fn undecided(&self) -> Undecided {
        self.frame.model.undecided
    }
}
