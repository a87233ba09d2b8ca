//! A `pipeline` step: what opens its child, and what closes it (2.16).

use std::time::Duration;

use perennial_core::{
    FailureClass,
    failure::Failure,
    retry::{AfterFailure, RetryPolicy},
    run::{JobState, SkipReason},
};
use perennial_engine::{AttemptCx, Outcome};
use serde_json::{Map, Value, json};

use super::{
    PipelineRun,
    attempt::{begin, own_variables},
    failure::stopped,
    limits::{DEPTH_MAX, Limits, WARNED, pipelines, violation},
    loading::Passed,
    record::{Inside, limit_of},
    scope::Scope,
    tree::{Done, Due, Ended, Frame, is_stopped},
};
use crate::{
    definition::{Child, Model, Nested, OnTimeout, Output, Step},
    deployment::Limit,
    expression::{TextPath, query},
};

impl PipelineRun {
    /// Opens the child for this round: its condition, its inputs, its limits.
    ///
    /// # Errors
    ///
    /// The failure of the step.
    pub(super) async fn open(
        &self,
        cx: &AttemptCx,
        due: &Due<'_>,
        done: &Done<'_>,
        round: u32,
    ) -> Result<Outcome, Failure> {
        let step = due.step;
        let Some(nested) = step.nested() else {
            return Err(super::workflow::unknown_job(&cx.job));
        };
        if round > 1 {
            // What the child is given stays as it was, or what it completed could not be kept.
            let pause = pause(step, round);
            tokio::time::sleep(pause).await;
            let at = cx.now.after(pause);
            return Ok(Outcome::Succeeded(json!({ "opened_at": at, "round": round })));
        }
        let mut scope = Scope::new(self, cx, due, done);
        if let Some(skipped) = begin(step, &mut scope)? {
            return Ok(skipped);
        }
        let mut given = Map::new();
        for (name, tree) in &nested.inputs {
            given.insert(name.clone(), tree.value(&scope).map_err(|stop| stopped(&stop))?);
        }
        let context = nested.inherit_context.then(|| scope.context());
        if let Some(inherited) = context.as_ref().and_then(|context| context.inputs.as_object()) {
            for (name, value) in inherited {
                given.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        let mut opening = json!({ "opened_at": cx.now });
        let passed = Passed { given: &given, context: context.as_ref() };
        let child = self.child(cx, due, nested, &scope, passed, &mut opening).await?;
        // What it is called tells which file only when no hole is in it.
        let told = |failure: Failure| match &nested.child {
            Child::Known(_) | Child::Again(_) => failure,
            Child::Later(_) => {
                Failure { message: format!("{}: {}", child.file, failure.message), ..failure }
            }
        };
        let inputs = child.bind_inputs(&given).map_err(|errors| {
            let lines: Vec<String> = errors.lines().into_iter().map(|(_, text)| text).collect();
            let code = if errors.missing.is_empty() { "PL510" } else { "PL509" };
            told(Failure::new(FailureClass::Reference, code, lines.join("; ")))
        })?;
        opening["inputs"] = inputs;
        if let Some(context) = context {
            opening["variables"] = context.variables;
            opening["global_vars"] = context.global_vars;
        }
        self.limit(cx, due, done, (nested, child), &scope, &mut opening).map_err(told)?;
        if let Some(workspace) = self.make_workspace(cx, due, nested, &scope).await? {
            opening["workspace"] = workspace.into();
        }
        Ok(Outcome::Succeeded(opening))
    }

    /// Refuses a child that stands too deep or has too many steps, and records what binds those
    /// inside it.
    fn limit(
        &self,
        cx: &AttemptCx,
        due: &Due<'_>,
        done: &Done<'_>,
        (nested, child): (&Nested, &Model),
        scope: &Scope<'_>,
        opening: &mut Value,
    ) -> Result<(), Failure> {
        let around = |key: &str| {
            let record = due.frames.last()?.pipeline().opened.as_ref()?.record;
            record[key].as_u64()
        };
        let own_depth = match &nested.max_depth {
            Some(tree) => Some(depth(&tree.value(scope).map_err(|stop| stopped(&stop))?)?),
            None => None,
        };
        // What is told inside can only narrow what is told outside.
        let narrow = |own: Option<u64>, outer: Option<u64>| match (own, outer) {
            (Some(own), Some(outer)) => Some(own.min(outer)),
            (own, outer) => own.or(outer),
        };
        let deployed = &self.pipeline.model.deployed;
        let of_run = |limit| deployed.named(limit);
        let max_depth = narrow(own_depth, around("max_depth"));
        let max_depth = narrow(max_depth, of_run(Limit::MaxNestingDepth));
        let max_steps = narrow(nested.max_total_steps.map(u64::from), around("max_total_steps"));
        let max_steps = narrow(max_steps, of_run(Limit::MaxTotalSteps));
        let usual = |limit| deployed.limit(limit).unwrap_or(u64::MAX);
        let mut names = pipelines(&due.frames);
        let depth = names.len() as u64;
        names.push(&child.name);
        let total = Limits::new(&due.frames, done, cx).total_steps() + child.steps.len() as u64;
        let refuse = |code: &str, error: &str, advice: &str| {
            Err(violation(code, (error, Some(advice)), &names, total, Duration::ZERO))
        };
        let most = max_depth.unwrap_or_else(|| usual(Limit::MaxNestingDepth)).min(DEPTH_MAX);
        if depth > most {
            let error =
                format!("Maximum nesting depth ({most}) exceeded: current depth is {depth}");
            let advice = if most == DEPTH_MAX {
                format!("the hard limit of {DEPTH_MAX}, which nothing raises")
            } else {
                let step = &due.step.name;
                let whose = Whose {
                    run: of_run(Limit::MaxNestingDepth) == Some(most),
                    own: own_depth == Some(most),
                    outer: around("max_depth") == Some(most),
                };
                let advice = whose.advice("max_depth", "max_nesting_depth", step);
                format!("{advice}, to {DEPTH_MAX} at most")
            };
            return refuse("PL801", &error, &advice);
        }
        let warned = nested.warn_at_depth.map_or(most_f64(most) * WARNED, f64::from);
        if most_f64(depth) >= warned {
            let name = &child.name;
            cx.warnings
                .push(&format!("nested pipeline '{name}': it stands at depth {depth} of {most}"));
        }
        let most = max_steps.unwrap_or_else(|| usual(Limit::MaxTotalSteps));
        if total > most {
            let error = format!("Maximum total steps ({most}) exceeded: current total is {total}");
            let whose = Whose {
                run: of_run(Limit::MaxTotalSteps) == Some(most),
                own: nested.max_total_steps.map(u64::from) == Some(most),
                outer: around("max_total_steps") == Some(most),
            };
            let advice = whose.advice("max_total_steps", "max_total_steps", &due.step.name);
            return refuse("PL802", &error, &advice);
        }
        opening["total_steps"] = Value::from(total);
        for (key, value) in [("max_depth", max_depth), ("max_total_steps", max_steps)] {
            if let Some(value) = value {
                opening[key] = Value::from(value);
            }
        }
        Ok(())
    }

    /// Closes the child: its outputs are the result of the step, and what was made for it alone is
    /// removed.
    ///
    /// # Errors
    ///
    /// The failure of the child, or outputs that are not there.
    pub(super) async fn close(
        &self,
        cx: &AttemptCx,
        due: &Due<'_>,
        done: &Done<'_>,
        ended: &Ended<'_>,
    ) -> Result<Outcome, Failure> {
        let closed = self.result(cx, due, done, ended).await;
        if let Some(nested) = due.step.nested() {
            self.remove_workspace(cx, due, nested, closed.is_ok()).await;
        }
        closed
    }

    async fn result(
        &self,
        cx: &AttemptCx,
        due: &Due<'_>,
        done: &Done<'_>,
        ended: &Ended<'_>,
    ) -> Result<Outcome, Failure> {
        let Some(nested) = due.step.nested() else {
            return Err(super::workflow::unknown_job(&cx.job));
        };
        let (child, job) = match ended {
            Ended::Unopened(job) if job.state == JobState::Skipped => {
                let record = shaped(nested, job.result.clone());
                return Ok(Outcome::Skipped { reason: SkipReason::NotApplicable, record });
            }
            Ended::Through(child) => {
                let scope = Scope::of_frame(self, cx, child, due.step, done);
                let outputs = outputs(nested, child, &scope).map_err(|missing| {
                    failed(&child.model.name, "PL603", FailureClass::Reference, &missing)
                })?;
                let record = shaped(nested, pruned(nested, outputs));
                due.step.accept(&record)?;
                let record = if due.step.output_to_file.is_some() {
                    let mut scope = Scope::new(self, cx, due, done);
                    own_variables(due.step, &mut scope)?;
                    self.left(due.step, record, &scope).await?
                } else {
                    record
                };
                Limits::new(&due.frames, done, cx).admit(Some(&record))?;
                return Ok(Outcome::Succeeded(record));
            }
            Ended::Unreadable(why) => {
                let text = format!("what was recorded when it was opened cannot be read: {why}");
                let class = FailureClass::Internal;
                return Err(failed(nested.child.called(), "PL699", class, &text));
            }
            Ended::Unopened(job) => (None, *job),
            Ended::Failed(child, job) => (Some(child), *job),
        };
        let error = &job.result["error"];
        let message = error["message"].as_str().unwrap_or("it ended without saying why");
        let class = error["class"].as_str().and_then(FailureClass::from_name);
        let name = child.map_or_else(|| nested.child.called(), |child| &child.model.name);
        let mut failure = failed(name, "PL614", class.unwrap_or(FailureClass::Internal), message);
        let keeps = nested.on_timeout != OnTimeout::Immediate || error["code"] != "PL807";
        let partial = child.filter(|_| keeps).map(|child| {
            let scope = Scope::of_frame(self, cx, child, due.step, done);
            let mut partial = all_outputs(child, &scope);
            told_once(&mut partial, error);
            partial
        });
        let outer = is_stopped(&due.frames, &job.result);
        let limit_of = limit_of(&job.result).filter(|_| outer).map(str::to_owned);
        failure.detail = Inside { cause: Some(error.clone()), partial, limit_of }.detail();
        Err(failure)
    }
}

/// Who set the limit that holds. All who set it must raise it, as each only narrows.
struct Whose {
    run: bool,
    own: bool,
    outer: bool,
}

impl Whose {
    /// Which limit it is and where it is raised; `key` in `config` of a step and `limit` of the run.
    fn advice(&self, key: &str, limit: &str, step: &str) -> String {
        let mut set = Vec::new();
        if self.own {
            set.push(format!("`config.{key}` of step `{step}`"));
        }
        // What is recorded around it has been narrowed by the run's.
        if self.outer && !self.own && !self.run {
            set.push(format!("`config.{key}` of a step around step `{step}`"));
        }
        if self.run {
            set.push(format!(
                "`{limit}` of the run (`--limit {limit}=N`, `resource_limits` of the document, or the configuration)"
            ));
        }
        if set.is_empty() {
            return format!(
                "the default of `{limit}`; raise it with `config.{key}` of step `{step}`, or `--limit {limit}=N`"
            );
        }
        format!("{}; raise it there", set.join(" and "))
    }
}

/// YS-99.
fn failed(child: &str, code: &str, class: FailureClass, message: &str) -> Failure {
    let text = format!("Nested pipeline '{child}' failed: {message}");
    Failure::new(class, code, text)
}

/// The pause before this round.
pub(super) fn pause(step: &Step, round: u32) -> Duration {
    // Whether it is gone through again is decided already.
    let retry = RetryPolicy { only: None, ..step.retry };
    match retry.after(FailureClass::Transient, round.saturating_sub(1), None, 1.0) {
        AfterFailure::RetryIn(pause) => pause,
        AfterFailure::Fail { .. } => Duration::ZERO,
    }
}

fn most_f64(depth: u64) -> f64 {
    u32::try_from(depth).map_or(f64::MAX, f64::from)
}

/// The evaluated `max_depth`.
fn depth(value: &Value) -> Result<u64, Failure> {
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    number.filter(|depth| *depth > 0).ok_or_else(|| {
        let text = format!("config.max_depth must be a positive integer, got: {value}");
        Failure::new(FailureClass::Expression, "PL205", text)
    })
}

/// With inputs the outputs stand under `result` (YS-98).
fn shaped(nested: &Nested, outputs: Value) -> Value {
    if nested.inputs.is_empty() { outputs } else { json!({ "result": outputs }) }
}

/// `outputs` without those that are not to be kept.
fn pruned(nested: &Nested, mut outputs: Value) -> Value {
    if let Some(map) = outputs.as_object_mut() {
        map.retain(|name, _| nested.prune.keeps(name));
    }
    outputs
}

/// What the parent gets (YS-97).
///
/// # Errors
///
/// Everything that is missing.
fn outputs(nested: &Nested, child: &Frame<'_>, scope: &Scope<'_>) -> Result<Value, String> {
    if nested.outputs.is_empty() {
        return Ok(all_outputs(child, scope));
    }
    let mut found = Map::new();
    let mut missing = Vec::new();
    for output in &nested.outputs {
        let value = match output {
            Output::Step(name) => scope.value_view(name).cloned(),
            Output::Path { path, .. } => at_path(path, child, scope),
        };
        match (value.filter(|value| !value.is_null()), output) {
            (Some(value), _) => {
                found.insert(output.name().to_owned(), value);
            }
            (None, Output::Step(name)) => {
                missing.push(format!("Output '{name}' not found in results"));
            }
            (None, Output::Path { path, .. }) => {
                missing.push(format!("Path '{path}' not found in results"));
            }
        }
    }
    if missing.is_empty() { Ok(Value::Object(found)) } else { Err(missing.join("; ")) }
}

/// What every step of the child left so far.
fn all_outputs(child: &Frame<'_>, scope: &Scope<'_>) -> Value {
    let steps = child.model.steps.iter();
    let values = steps.filter_map(|step| {
        let value = scope.value_view(&step.name)?;
        Some((step.name.clone(), value.clone()))
    });
    Value::Object(values.collect())
}

/// Leaves the causes of `error` out of what its step left: they are told beside it, by the cause. Else each level would
/// tell all levels below it twice.
fn told_once(partial: &mut Value, error: &Value) {
    let step = error["step"].as_str();
    let record = step.and_then(|step| partial.get_mut(step)?.get_mut("error"));
    if let Some(inner) = record.filter(|inner| *inner == error) {
        inner["cause"] = Value::Null;
    }
}

/// What `path` leads to, from the results of the child.
fn at_path(path: &str, child: &Frame<'_>, scope: &Scope<'_>) -> Option<Value> {
    match TextPath::parse(path).ok()? {
        TextPath::Definite(segments) => {
            let (first, rest) = segments.split_first()?;
            let (name, _) = first.field()?;
            scope.step_field(name, rest).ok().map(|value| value.into_owned())
        }
        TextPath::Query(path) => {
            let found = query(&path, &all_outputs(child, scope));
            found.as_array().is_some_and(|found| !found.is_empty()).then_some(found)
        }
    }
}
