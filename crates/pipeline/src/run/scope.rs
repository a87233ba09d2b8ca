//! Names at run time, folded from what is done (3.3, 3.8).

use std::{
    borrow::Cow,
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use perennial_core::{
    Digest, Timestamp,
    failure::Failure,
    run::{IdempotencyKey, JobState, RunId},
};
use perennial_engine::{AttemptCx, CallJournal, DoneJob, Warnings, workflow::BoxFuture};
use serde_json::{Map, Value};

use super::{
    PipelineRun,
    secrets::Secrets,
    tree::{Done, Due, Frame},
};
use crate::{
    definition::{Assign, Cleared, MissingHole, Step, StepKind, VariableScope, Write},
    deployment::Deployed,
    environment::{RunEnvironment, typed},
    expression::{
        ERROR_ROOT, Fault, Missing, Names, Path, Place, ROOTS, Segment, Undecided, fields, type_of,
        walk,
    },
};

/// What names mean in one attempt of one step.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    frame: Frame<'a>,
    done: &'a Done<'a>,
    inputs: &'a Value,
    /// What `workflow.…` reads.
    facts: Cow<'a, Value>,
    deployed: &'a Deployed,
    environment: &'a RunEnvironment,
    secrets: Option<&'a Secrets>,
    /// Variables and constants that the document gives, and those of a parent below them.
    initial: Cow<'a, Value>,
    given: Cow<'a, Value>,
    run: &'a RunId,
    step: &'a str,
    attempt: u32,
    key: &'a IdempotencyKey,
    warnings: &'a Warnings,
    /// Unique ids given out so far.
    ids: AtomicU32,
    timestamp: String,
    date: String,
    now: String,
    local: Map<String, Value>,
    global: Map<String, Value>,
    /// Variables of the step under way, which are local ones too.
    own: Map<String, Value>,
    /// Constants that steps have set.
    constants: Map<String, Value>,
    /// What steps have cleared and none has set again.
    cleared: HashSet<&'a Cleared>,
    /// The failure that the innermost handler around the step is for.
    error: Option<Value>,
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
    /// The replies that calls of this scope get, when its step has some.
    pub(super) fn mocks(&self) -> Option<&'a Value> {
        self.frame.opened.as_ref()?.nested.mocks.as_ref().map(|mocks| &mocks.0)
    }

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
        let opened = frame.pipeline().opened.as_ref().map(|opened| opened.record);
        let over = |key: &str| {
            let own = run.bound(&facts[key]);
            let inherited = opened.and_then(|opened| opened.get(key)?.as_object());
            let Some(inherited) = inherited else { return own };
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
            given: over("global_vars"),
            facts: run.bound(&frame.model.facts.0),
            deployed: &run.pipeline.model.deployed,
            environment: &run.settings.environment,
            secrets: run.secrets.as_ref(),
            run: &cx.run,
            step: &step.name,
            attempt: cx.attempt,
            key: &cx.idempotency_key,
            warnings: &cx.warnings,
            ids: AtomicU32::new(0),
            timestamp: cx.run_started_at.to_compact(),
            date: cx.run_started_at.to_date(),
            now: cx.now.to_rfc3339(),
            local: Map::new(),
            global: Map::new(),
            own: Map::new(),
            constants: Map::new(),
            cleared: HashSet::new(),
            error: frame
                .around
                .as_ref()
                .map(|around| super::handler::error(around.failed, &around.at.to_rfc3339())),
        };
        scope.fold_all(frame);
        scope
    }

    /// Whether `text` holds a secret, or what was made of one.
    pub(super) fn finds_secret(&self, text: &str) -> bool {
        self.secrets.is_some_and(|secrets| secrets.finds(text))
    }

    /// Repeats what the steps that are done did to names, those of the scopes around `frame` first.
    fn fold_all(&mut self, frame: &Frame<'a>) {
        if let Some(around) = &frame.around {
            self.fold_all(&around.frame);
        }
        self.fold_steps(frame);
    }

    /// The same of the steps of `frame` alone; what the handler of one did comes before what that one
    /// clears.
    fn fold_steps(&mut self, frame: &Frame<'a>) {
        for step in frame.steps {
            let Some(job) = frame.find(step, self.done) else { continue };
            if let Some(handler) = frame.handler(step, self.done) {
                self.fold_steps(&handler);
            }
            self.fold(step, job);
        }
    }

    /// Where its files are, when not where those of the run are.
    pub(super) fn workspace(&self) -> Option<&'a str> {
        self.frame.workspace()
    }

    /// Repeats what a step that is done did to names.
    fn fold(&mut self, step: &'a Step, job: &'a DoneJob) {
        if job.state == JobState::Succeeded {
            if let (Some(StepKind::SetVariable(assign)), Some(values)) =
                (step.kind.ran_as(&job.result), job.result["values"].as_object())
            {
                self.apply(assign, values);
            }
            if let Some(name) = &step.output_to_global {
                self.constants.insert(name.clone(), value_of(step, job).clone());
                self.cleared.retain(|what| **what != Cleared::GlobalVars(name.clone()));
            }
        }
        if job.state == JobState::Skipped {
            return;
        }
        for what in &step.clear_vars {
            match what {
                Cleared::State(name) => {
                    self.local.shift_remove(name);
                    self.global.shift_remove(name);
                }
                Cleared::GlobalVars(name) => {
                    self.constants.shift_remove(name);
                }
                Cleared::Steps(_) => (),
            }
            self.cleared.insert(what);
        }
    }

    /// Gives the step under way a name of its own.
    pub(super) fn set_own(&mut self, name: &str, value: Value) {
        self.local.insert(name.to_owned(), value.clone());
        self.own.insert(name.to_owned(), value);
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
        variables.get(name).or_else(|| self.initial(name))
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

    /// What the attempt warned of so far.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.all()
    }

    pub(super) fn set(&mut self, scope: VariableScope, name: &str, value: Value) {
        self.cleared.retain(|what| !matches!(what, Cleared::State(cleared) if cleared == name));
        let variables = match scope {
            VariableScope::Local => &mut self.local,
            VariableScope::Global => &mut self.global,
        };
        variables.insert(name.to_owned(), value);
    }

    /// The result of the step `name`, when it has run.
    pub(super) fn result(&self, name: &str) -> Option<&'a DoneJob> {
        let cleared = self.is_cleared(&Cleared::Steps(name.to_owned()));
        self.frame.find_named(name, self.done).filter(|_| !cleared)
    }

    /// What a consumer that asks for the whole step gets (YT-12).
    pub(super) fn value_view(&self, name: &str) -> Option<&'a Value> {
        Some(value_of(self.frame.step(name)?, self.result(name)?))
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
        self.frame.step(name).map_or(Shape::Plain, |step| shape_of(step, job))
    }

    /// Whether what `path` names is chosen by the document or by who started the run, not by a step.
    pub(super) fn is_given(&self, path: &Path) -> bool {
        // What a child is given, a step of its parent may have made up.
        let outermost = self.frame.pipeline().opened.is_none();
        let root = path.root.as_str();
        match root {
            "workflow" | "run_id" | "execution_id" | "timestamp" | "date" | "env"
            | "environment" => true,
            "inputs" => outermost,
            // A step may have written any of them.
            "global_vars" => outermost && self.constants.is_empty(),
            "steps" | "state" | "variables" => false,
            ERROR_ROOT if self.error.is_some() => false,
            _ => {
                let is_variable = self.own.contains_key(root) || self.variable(root).is_some();
                outermost && !is_variable && self.inputs.get(root).is_some()
            }
        }
    }

    /// A variable of any scope, nearest first.
    fn variable(&self, name: &str) -> Option<&Value> {
        self.local.get(name).or_else(|| self.global.get(name)).or_else(|| self.initial(name))
    }

    /// What a child sees of this scope when it is told to.
    pub(super) fn context(&self) -> Context {
        Context {
            inputs: self.inputs.clone(),
            variables: self.merged(&[&self.global]),
            global_vars: self.constants(),
        }
    }

    /// The initial value of a variable, unless it was cleared.
    fn initial(&self, name: &str) -> Option<&Value> {
        let value = self.initial.get(name)?;
        (!self.is_cleared(&Cleared::State(name.to_owned()))).then_some(value)
    }

    fn is_cleared(&self, what: &Cleared) -> bool {
        !self.cleared.is_empty() && self.cleared.contains(what)
    }

    /// Initial values under `upper`.
    fn merged(&self, uppers: &[&Map<String, Value>]) -> Value {
        let initial = self.initial.as_object();
        let mut merged = initial.cloned().unwrap_or_default();
        merged.retain(|name, _| !self.is_cleared(&Cleared::State(name.clone())));
        for upper in uppers {
            merged.extend(upper.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        Value::Object(merged)
    }

    fn rooted(&self, path: &Path) -> Result<Cow<'_, Value>, Option<Vec<String>>> {
        let inside = |value: Value| walk(Cow::Owned(value), &path.segments);
        let facts = &*self.facts;
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
            "global_vars" => match path.segments.first().and_then(Segment::field) {
                Some((name, _)) => match self.constant(name) {
                    Some(value) => walk(value, &path.segments[1..]),
                    None => Err(fields(&self.constants())),
                },
                None => inside(self.constants()),
            },
            "workflow" => walk(Cow::Borrowed(facts), &path.segments),
            "environment" => inside(self.deployed.facts()),
            "step" => match path.segments.first().and_then(Segment::field) {
                Some(("name", _)) => walk(Cow::Owned(Value::from(self.step)), &path.segments[1..]),
                Some(("attempt", _)) => {
                    walk(Cow::Owned(Value::from(self.attempt)), &path.segments[1..])
                }
                Some(("variables", _)) => {
                    let own = Value::Object(self.own.clone());
                    walk(Cow::Owned(own), &path.segments[1..])
                }
                _ => Err(Some(["name", "attempt", "variables"].map(str::to_owned).to_vec())),
            },
            "env" => {
                let name = path.segments.first().and_then(Segment::field).map(|(name, _)| name);
                match name.and_then(|name| self.environment.get(name)) {
                    Some(text) => walk(Cow::Owned(typed(text)), &path.segments[1..]),
                    None => Err(Some(Vec::new())),
                }
            }
            "timestamp" => inside(Value::from(self.timestamp.as_str())),
            "date" => inside(Value::from(self.date.as_str())),
            _ => inside(Value::from(self.run.as_str())),
        }
    }

    /// A constant: set by a step, by the document, or given to the run.
    fn constant(&self, name: &str) -> Option<Cow<'_, Value>> {
        if self.is_cleared(&Cleared::GlobalVars(name.to_owned())) {
            return None;
        }
        let given = || self.inputs.get(format!("global_vars.{name}"));
        let found = self.constants.get(name).or_else(|| self.given.get(name)).or_else(given);
        found.map(Cow::Borrowed)
    }

    fn constants(&self) -> Value {
        let mut all = Map::new();
        for (name, value) in self.inputs.as_object().into_iter().flatten() {
            if let Some(name) = name.strip_prefix("global_vars.") {
                all.insert(name.to_owned(), value.clone());
            }
        }
        for (name, value) in self.given.as_object().into_iter().flatten().chain(&self.constants) {
            all.insert(name.clone(), value.clone());
        }
        all.retain(|name, _| !self.is_cleared(&Cleared::GlobalVars(name.clone())));
        Value::Object(all)
    }

    /// Names that a bare word could have meant.
    fn plain_names(&self) -> Vec<String> {
        let mut names = fields(&self.merged(&[&self.global, &self.local])).unwrap_or_default();
        names.extend(fields(self.inputs).unwrap_or_default());
        names
    }
}

/// What a consumer that asks for the whole `step` gets, which ended with `job` (YT-12).
pub(super) fn value_of<'a>(step: &Step, job: &'a DoneJob) -> &'a Value {
    match shape_of(step, job) {
        Shape::Reply => reply(&job.result),
        Shape::Nested => job.result.get("result").unwrap_or(&job.result),
        Shape::Plain | Shape::Assigned => &job.result,
    }
}

fn shape_of(step: &Step, job: &DoneJob) -> Shape {
    match step.kind.ran_as(&job.result) {
        Some(StepKind::Pipeline(_)) => Shape::Nested,
        _ if job.state != JobState::Succeeded => Shape::Plain,
        Some(StepKind::Chat(_)) => Shape::Reply,
        Some(StepKind::SetVariable(_)) => Shape::Assigned,
        Some(StepKind::Echo(_) | StepKind::FileOps(_) | StepKind::Dynamic(_)) | None => {
            Shape::Plain
        }
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
        } else if let Some(error) = self.error.as_ref().filter(|_| root == ERROR_ROOT) {
            walk(Cow::Borrowed(error), &path.segments)
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
        let ordinal = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
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

    fn now(&self) -> String {
        self.now.clone()
    }

    fn warn(&self, text: String) {
        match self.secrets {
            Some(secrets) => self.warnings.push(&secrets.redact(&text)),
            None => self.warnings.push(&text),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).map(str::to_owned)
    }

    fn missing_hole(&self) -> MissingHole {
        self.frame.model.lenient.missing_hole()
    }

    fn undecided(&self) -> Undecided {
        self.frame.model.undecided
    }

    fn has_secrets(&self) -> bool {
        self.secrets.is_some()
    }

    fn is_secret(&self, value: &Value) -> bool {
        self.secrets.is_some_and(|secrets| secrets.are_in(value))
    }

    fn derived(&self, value: Value) -> Result<Value, Fault> {
        match self.secrets {
            Some(secrets) => secrets.derived(value),
            None => Ok(value),
        }
    }
}

/// The variables of a run when these jobs are done, for those who show them.
pub(super) fn variables(
    run: &PipelineRun,
    id: &RunId,
    started_at: Timestamp,
    done: &[DoneJob],
) -> Value {
    let Some(step) = run.pipeline.model.steps.first() else { return Value::Null };
    let job = step.key();
    let cx = AttemptCx::new(
        id.clone(),
        started_at,
        started_at,
        job.clone(),
        1,
        Arc::new(Value::Null),
        Arc::new(Vec::new()),
        IdempotencyKey::new(run.pipeline.name(), id, "steps", &job),
        Arc::new(NoCalls),
    );
    let done = super::tree::index(done);
    let scope = Scope::of_frame(run, &cx, &Frame::root(&run.pipeline.model), step, &done);
    scope.merged(&[&scope.global])
}

/// Nothing is called here.
#[derive(Debug)]
struct NoCalls;

impl CallJournal for NoCalls {
    fn begin<'a>(
        &'a self,
        _: &'a str,
        _: &'a IdempotencyKey,
    ) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn record<'a>(&'a self, _: &'a str, _: Value) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn settle<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
