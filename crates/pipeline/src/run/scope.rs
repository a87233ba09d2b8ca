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
    Timestamp,
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
    definition::{Assign, Cleared, Location, MissingHole, Step, StepKind, VariableScope, Write},
    deployment::Deployed,
    environment::{RunEnvironment, typed},
    expression::{
        ERROR_ROOT, Fault, Missing, Names, Path, Place, ROOTS, Segment, Undecided, fields, type_of,
        walk,
    },
};

mod names;

pub(super) use self::names::value_of;

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
    started: Timestamp,
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

    /// The outermost of the steps around the one under way, or that step itself.
    pub(super) fn outermost(&self) -> String {
        self.frame.place().step(self.step).outermost()
    }

    /// The scope of the step that is due.
    pub(super) fn new(
        run: &'a PipelineRun,
        cx: &'a AttemptCx,
        due: &Due<'a>,
        done: &'a Done<'a>,
    ) -> Self {
        let frame = due.frames.last().cloned().unwrap_or_else(|| run.root());
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
            started: cx.run_started_at,
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
        for step in frame.steps.iter().filter(|step| step.changes_names()) {
            let Some(job) = frame.find(step, self.done) else { continue };
            if let Some(handler) = frame.handler(step, self.done) {
                self.fold_steps(&handler);
            }
            self.fold(step, job);
        }
    }

    /// Where the step under way stands.
    pub(super) fn location(&self) -> Option<&'a Location> {
        self.frame.step(self.step)?.location.as_ref()
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

    /// Warns of paths of a condition that was not met, of which nothing was said so far.
    pub(super) fn warn_of_missing(&self, paths: &[String]) {
        let told = self.warnings.all();
        for path in paths {
            let named = format!("`{path}`");
            if !told.iter().any(|warning| warning.contains(&named)) {
                self.warn(format!("{named} is missing: the condition takes it as null"));
            }
        }
    }

    /// When the run began: the same for every attempt of it.
    pub(super) fn started_at(&self) -> String {
        self.started.to_rfc3339()
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
    let scope = Scope::of_frame(run, &cx, &run.root(), step, &done);
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
