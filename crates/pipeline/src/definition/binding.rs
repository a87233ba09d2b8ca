//! The inputs of one run: defaults filled in, everything checked before the start.

use std::fmt;

use serde_json::{Map, Value};

use super::{Model, Pipeline};
use crate::{diagnostic::Code, schemas::violations};

/// Why a start is refused: all of it at once.
///
/// ```
/// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
/// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
/// let errors = pipeline.bind_inputs(&serde_json::Map::new()).unwrap_err();
/// assert_eq!(errors.missing, ["who"]);
/// assert_eq!(errors.lines()[0].0.to_string(), "PL509");
/// ```
#[derive(Clone, Debug, Default, PartialEq, thiserror::Error)]
pub struct InputErrors {
    /// Required inputs that are not given (PL509).
    pub missing: Vec<String>,
    /// Inputs that do not satisfy their declaration (PL510).
    pub invalid: Vec<InvalidInput>,
}

/// An input that does not satisfy its declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidInput {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub message: String,
}

impl InputErrors {
    /// Each fault with its code and text.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// let errors = pipeline.bind_inputs(&serde_json::Map::new()).unwrap_err();
    /// for (code, text) in errors.lines() {
    ///     println!("error[{code}]: {text}");
    /// }
    /// ```
    pub fn lines(&self) -> Vec<(Code, String)> {
        let mut lines = Vec::new();
        if !self.missing.is_empty() {
            lines
                .push((Code(509), format!("required inputs missing: {}", self.missing.join(", "))));
        }
        for input in &self.invalid {
            lines.push((Code(510), format!("input `{}`: {}", input.name, input.message)));
        }
        lines
    }
}

impl fmt::Display for InputErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (code, line)) in self.lines().into_iter().enumerate() {
            let between = if place > 0 { "\n" } else { "" };
            write!(f, "{between}error[{code}]: {line}")?;
        }
        Ok(())
    }
}

impl Pipeline {
    /// The inputs of a run that is given `given`: names match exactly, then lower-cased; defaults
    /// are filled in; what the document does not know is kept.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// let given = serde_json::json!({"who": "Ada", "note": "kept"});
    /// let bound = pipeline.bind_inputs(given.as_object().unwrap())?;
    /// assert_eq!(bound, given);
    /// # Ok::<(), perennial_pipeline::InputErrors>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When a required input is missing, or one does not satisfy its declaration.
    pub fn bind_inputs(&self, given: &Map<String, Value>) -> Result<Value, InputErrors> {
        self.model.bind_inputs(given)
    }
}

impl Model {
    /// As [`Pipeline::bind_inputs`].
    pub(crate) fn bind_inputs(&self, given: &Map<String, Value>) -> Result<Value, InputErrors> {
        let known = |name: &str| self.inputs.iter().any(|input| input.name == name);
        let mut bound = Map::new();
        for (name, value) in given {
            let lower = name.to_lowercase();
            let takes = if !known(name) && known(&lower) && !given.contains_key(&lower) {
                lower
            } else {
                name.clone()
            };
            bound.insert(takes, value.clone());
        }
        let mut errors = InputErrors::default();
        for input in &self.inputs {
            match (bound.get(&input.name), input.default_value()) {
                (Some(value), _) => errors.invalid.extend(
                    input
                        .fault(value)
                        .map(|message| InvalidInput { name: input.name.clone(), message }),
                ),
                (None, Some(default)) => {
                    bound.insert(input.name.clone(), default.clone());
                }
                (None, None) if input.required => errors.missing.push(input.name.clone()),
                (None, None) => (),
            }
        }
        let bound = Value::Object(bound);
        if let Some(schema) = &self.input_schema {
            match violations(&schema.0, &bound) {
                Ok(found) => errors.invalid.extend(found.into_iter().map(|violation| {
                    InvalidInput { name: violation.place(), message: violation.message }
                })),
                // Its faults were reported when it was read.
                Err(message) => {
                    errors.invalid.push(InvalidInput { name: "(root)".to_owned(), message });
                }
            }
        }
        if errors == InputErrors::default() { Ok(bound) } else { Err(errors) }
    }
}
