//! Failures in the words of the language (4.9).

use std::{fmt, time::Duration};

use perennial_core::{
    FailureClass,
    failure::Failure,
    run::{JobKey, RunId},
};

use crate::{definition::Pipeline, expression::Stop};

/// Why a template has no value.
pub(super) fn stopped(stop: &Stop) -> Failure {
    match stop {
        Stop::Missing(found) | Stop::Undecided(found) => {
            let text =
                format!("Missing value `{}`. Available fields: {}", found.path, found.fields());
            Failure::new(FailureClass::Reference, "PL605", text)
        }
        Stop::Fault(fault) => {
            Failure::new(FailureClass::Expression, fault.code, fault.message.clone())
        }
    }
}

/// Why the condition `shown` is neither true nor false.
pub(super) fn undecided(stop: &Stop, shown: &str) -> Failure {
    match stop {
        Stop::Missing(found) | Stop::Undecided(found) => {
            let text = format!(
                "Condition undecided: {shown}: missing value `{}`. Available fields: {}. \
                 Guard it with `??` or `exists`, or set lenient.undecided_conditions to legacy",
                found.path,
                found.fields()
            );
            Failure::new(FailureClass::Expression, "PL607", text)
        }
        Stop::Fault(_) => stopped(stop),
    }
}

/// The text of a step's final failure: a reason, then one fact a line.
#[derive(Clone, Debug)]
pub struct FailureText<'a> {
    step: JobKey,
    reason: &'a str,
    panicked: bool,
    type_name: Option<&'a str>,
    elapsed: Option<Duration>,
    location: Option<String>,
    place: Option<(usize, usize)>,
    run: Option<&'a RunId>,
}

impl Pipeline {
    /// The text of the final failure of `job`.
    pub fn failure_text<'a>(&'a self, job: &'a JobKey, failure: &'a Failure) -> FailureText<'a> {
        // What closes a handler tells of the failure of its step.
        let step = job.without_handler();
        let found = self.step(&step);
        FailureText {
            reason: &failure.message,
            panicked: failure.class == FailureClass::Panic,
            type_name: found.map(|(_, step)| step.type_name.as_str()),
            elapsed: None,
            location: found.and_then(|(_, step)| step.location.as_ref()).map(ToString::to_string),
            place: found.map(|(place, _)| (place + 1, self.model.steps.len())),
            run: None,
            step,
        }
    }
}

impl<'a> FailureText<'a> {
    /// Adds how long the step took.
    #[must_use]
    pub fn elapsed(self, elapsed: Duration) -> Self {
        Self { elapsed: Some(elapsed), ..self }
    }

    /// Adds the run.
    #[must_use]
    pub fn run(self, run: &'a RunId) -> Self {
        Self { run: Some(run), ..self }
    }
}

impl fmt::Display for FailureText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.panicked { "panicked" } else { "failed" };
        write!(f, "Step '{}' {verb}: {}", self.step, self.reason)?;
        if let Some(name) = self.type_name {
            write!(f, "\nType: {name}")?;
        }
        if let Some(elapsed) = self.elapsed {
            write!(f, "\nElapsed: {} ms", elapsed.as_millis())?;
        }
        if let Some(location) = &self.location {
            write!(f, "\nAt: {location}")?;
        }
        if let Some((place, all)) = self.place {
            write!(f, "\nStep: {place}/{all}")?;
        }
        if let Some(run) = self.run {
            write!(f, "\nRun: {run}")?;
        }
        Ok(())
    }
}
