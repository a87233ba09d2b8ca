//! One attempt of one step, in the order of 4.3: condition, keys, work, record.

use std::{borrow::Cow, time::Duration};

use perennial_core::{FailureClass, failure::Failure, run::SkipReason};
use perennial_engine::{AttemptCx, Outcome};
use serde_json::{Map, Value};

use super::{
    PipelineRun, dynamic,
    failure::{stopped, undecided},
    handler,
    limits::Limits,
    record,
    scope::Scope,
    secrets::Secrets,
    tree::{self, Done, Due, Role},
    workflow::unknown_job,
};
use crate::{
    definition::{Assign, Echo, Step, StepKind, Write},
    expression::Condition,
};

impl PipelineRun {
    /// Makes the attempt of `cx`.
    ///
    /// # Errors
    ///
    /// The failure of the step.
    pub(super) async fn attempt(&self, cx: &AttemptCx) -> Result<Outcome, Failure> {
        let made = self.attempted(cx).await;
        let Some(secrets) = &self.secrets else { return made };
        match made {
            Ok(Outcome::Succeeded(value)) => Ok(Outcome::Succeeded(secrets.redacted(value))),
            Ok(Outcome::Partial(value)) => Ok(Outcome::Partial(secrets.redacted(value))),
            Ok(Outcome::Skipped { reason, record }) => {
                Ok(Outcome::Skipped { reason, record: secrets.redacted(record) })
            }
            Ok(Outcome::Failed(failure)) => Ok(Outcome::Failed(harmless(failure, secrets))),
            // No step of the language waits, so that nothing in it comes from the run.
            Ok(waits @ (Outcome::Unavailable(_) | Outcome::Suspend(_))) => Ok(waits),
            Err(failure) => Err(harmless(failure, secrets)),
        }
    }

    async fn attempted(&self, cx: &AttemptCx) -> Result<Outcome, Failure> {
        let done = tree::index(&cx.done);
        let due = self.due(&cx.job, &done).ok_or_else(|| unknown_job(&cx.job))?;
        match &due.role {
            Role::Open(round) => {
                let open = self.open(cx, &due, &done, *round);
                Limits::new(&due.frames, &done, cx).within(open).await
            }
            Role::Close(ended) => self.close(cx, &due, &done, ended).await,
            Role::OpenHandler => Ok(handler::opened(cx)),
            Role::CloseHandler(closing) => Err(closing.failure()),
            Role::Whole => {
                let mut limits = Limits::new(&due.frames, &done, cx);
                if !self.pipeline.has_scopes() {
                    limits = limits.with_results(self.measured.bytes(&cx.done));
                }
                limits.admit_step(due.step)?;
                limits.within(Box::pin(self.work(cx, &due, &done))).await
            }
        }
    }

    /// Does what a step without steps of its own does.
    ///
    /// # Errors
    ///
    /// The failure of the step.
    async fn work(
        &self,
        cx: &AttemptCx,
        due: &Due<'_>,
        done: &Done<'_>,
    ) -> Result<Outcome, Failure> {
        let mut scope = Scope::new(self, cx, due, done);
        if let Some(skipped) = begin(due.step, &mut scope)? {
            return Ok(skipped);
        }
        let step = if let StepKind::Dynamic(choice) = &due.step.kind {
            Cow::Owned(dynamic::chosen(due.step, choice, &scope)?)
        } else {
            Cow::Borrowed(due.step)
        };
        if matches!((&step, &step.kind), (Cow::Owned(_), StepKind::SetVariable(_))) {
            // To this type its `variables` are what it sets, and no names of its own.
            scope = Scope::new(self, cx, due, done);
        }
        if let Cow::Owned(step) = &step {
            Limits::new(&due.frames, done, cx).admit_step(step)?;
        }
        let step = &*step;
        let record = match &step.kind {
            // Its record is its value, in which nothing else has a place.
            StepKind::Echo(echoing) => {
                let value = echo(echoing, &scope).await?;
                step.accept(&value)?;
                let value = dynamic::told(due.step, step, value)?;
                return self.left(step, value, &scope).await.map(Outcome::Succeeded);
            }
            StepKind::SetVariable(variables) => assign(variables, &mut scope)?,
            StepKind::FileOps(ops) => self.operate(ops, cx, &scope).await?,
            StepKind::Chat(chat) => self.call(step, chat, cx, &scope).await?,
            // The one has jobs of its own, the other became a step of another kind.
            StepKind::Pipeline(_) | StepKind::Dynamic(_) => return Err(unknown_job(&cx.job)),
        };
        if step.kind.provider().is_none() {
            step.accept(&record)?;
        }
        let record = dynamic::told(due.step, step, record)?;
        let record = self.left(step, record, &scope).await?;
        Ok(Outcome::Succeeded(record::warned(record, scope.warnings())))
    }

    /// The record, once its value is in the file that the step names, if it names one.
    pub(super) async fn left(
        &self,
        step: &Step,
        record: Value,
        scope: &Scope<'_>,
    ) -> Result<Value, Failure> {
        let record = match &self.secrets {
            Some(secrets) => secrets.redacted(record),
            None => record,
        };
        match &step.output_to_file {
            Some(file) => self.leave(step, file, record, scope).await,
            None => Ok(record),
        }
    }
}

/// The condition of a step and its own variables; how it is skipped, when it is.
///
/// # Errors
///
/// What cannot be evaluated.
pub(super) fn begin(step: &Step, scope: &mut Scope<'_>) -> Result<Option<Outcome>, Failure> {
    // What a condition does not name is not evaluated for a step that is skipped (YF-3).
    let early = step.condition.as_ref().is_some_and(|condition| names_own(condition, step));
    if early {
        own_variables(step, scope)?;
    }
    if let Some(condition) = &step.condition
        && !condition.is_met(scope).map_err(|stop| undecided(&stop, &condition.shown))?
    {
        scope.warn_of_missing(&condition.missing(scope));
        return Ok(Some(Outcome::Skipped {
            reason: SkipReason::NotApplicable,
            record: record::warned(record::skipped(&condition.shown), scope.warnings()),
        }));
    }
    if !early {
        own_variables(step, scope)?;
    }
    Ok(None)
}

/// Whether `condition` uses a name that the step has for itself.
fn names_own(condition: &Condition, step: &Step) -> bool {
    let mut named = false;
    condition.paths(&mut |path| {
        named |= match path.root.as_str() {
            "step" | "state" => true,
            root => step.variables.iter().any(|(name, _)| name == root),
        };
    });
    named && !step.variables.is_empty()
}

pub(super) fn own_variables(step: &Step, scope: &mut Scope<'_>) -> Result<(), Failure> {
    for (name, tree) in &step.variables {
        let value = tree.value(scope).map_err(|stop| stopped(&stop))?;
        scope.set_own(name, value);
    }
    Ok(())
}

fn harmless(failure: Failure, secrets: &Secrets) -> Failure {
    Failure {
        message: secrets.redact(&failure.message),
        detail: secrets.redacted(failure.detail),
        ..failure
    }
}

/// The value an `echo` step shows for failing on demand.
const FAIL: &str = "__FAIL__";

async fn echo(step: &Echo, scope: &Scope<'_>) -> Result<Value, Failure> {
    let value = step.value.value(scope).map_err(|stop| stopped(&stop))?;
    if step.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(step.delay_ms)).await;
    }
    if !step.fail && value != FAIL {
        return Ok(value);
    }
    let message = match &step.error_message {
        Some(template) => template.text(scope).map_err(|stop| stopped(&stop))?,
        None => "Test step intentionally failed".to_owned(),
    };
    Err(Failure::new(FailureClass::Permanent, "PL617", message))
}

/// Values are evaluated in order, each seeing those before it (YS-65).
fn assign(step: &Assign, scope: &mut Scope<'_>) -> Result<Value, Failure> {
    let mut values = Map::new();
    for (name, tree) in &step.variables {
        let value = tree.value(scope).map_err(|stop| stopped(&stop))?;
        if step.write == Write::Set {
            scope.set(step.scope, name, value.clone());
        }
        values.insert(name.clone(), value);
    }
    if let Some((target, wanted, found)) = scope.misfit(step) {
        let text = format!("`{target}` has to be a {wanted}, and is a {found}");
        return Err(Failure::new(FailureClass::Expression, "PL619", text));
    }
    Ok(record::assigned(step, values))
}
