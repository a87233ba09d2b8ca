//! What one evaluation may take (YT-21).

use std::cell::Cell;

use serde_json::Value;

use super::{
    super::value::{Fault, weight},
    BUILT_BYTES_MAX, Stop,
};

/// Steps of an evaluation that visits no element.
const STEPS_MAX: u64 = 10_000;
/// More steps for every element that is visited.
const STEPS_PER_ELEMENT: u64 = 100;

/// Counts steps and what is built.
#[derive(Debug, Default)]
pub(super) struct Meter {
    steps: Cell<u64>,
    elements: Cell<u64>,
    built: Cell<usize>,
}

impl Meter {
    /// Counts one step.
    ///
    /// # Errors
    ///
    /// When it is one too many.
    pub(super) fn step(&self) -> Result<(), Stop> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() <= STEPS_MAX + STEPS_PER_ELEMENT * self.elements.get() {
            return Ok(());
        }
        Err(limit(format!(
            "the expression takes more than {STEPS_MAX} steps and {STEPS_PER_ELEMENT} per element"
        )))
    }

    /// Counts an element, which gives more steps.
    pub(super) fn visit(&self) {
        self.elements.set(self.elements.get() + 1);
    }

    /// Counts a value that was made.
    ///
    /// # Errors
    ///
    /// When all of them are too much.
    pub(super) fn build(&self, value: &Value) -> Result<(), Stop> {
        self.built.set(self.built.get().saturating_add(weight(value)));
        if self.built.get() <= BUILT_BYTES_MAX {
            return Ok(());
        }
        Err(limit("the expression builds more than 64 MiB".to_owned()))
    }
}

pub(super) fn limit(message: String) -> Stop {
    Stop::Fault(Fault { code: "PL606", message })
}
