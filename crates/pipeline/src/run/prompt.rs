//! The text of a prompt, part by part (3.1).

use perennial_core::{FailureClass, failure::Failure, run::JobState};
use serde_json::Value;

use super::{
    failure::{stopped, undecided},
    scope::Scope,
};
use crate::{
    definition::{Part, PreviousResponse, PromptPart},
    expression::{Missing, Template, TextPath, pretty, query},
};

/// Texts of the parts, joined by one newline; a part whose condition is not met yields nothing.
///
/// # Errors
///
/// What is missing, or that nothing is left to ask (YS-6).
pub(super) fn prompt(parts: &[Part], scope: &Scope<'_>) -> Result<String, Failure> {
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        if let Some(condition) = &part.condition
            && !condition.is_met(scope).map_err(|stop| undecided(&stop, &condition.shown))?
        {
            continue;
        }
        texts.push(match &part.yields {
            PromptPart::Static(template) => template.text(scope).map_err(|stop| stopped(&stop))?,
            PromptPart::Raw(text) => {
                Template::plain(text).text(scope).map_err(|stop| stopped(&stop))?
            }
            PromptPart::PreviousResponse(previous) => previous_text(previous, scope)?,
        });
    }
    let prompt = texts.join("\n");
    if prompt.trim().is_empty() {
        return Err(Failure::new(FailureClass::Reference, "PL612", "the prompt is empty"));
    }
    Ok(prompt)
}

fn previous_text(previous: &PreviousResponse, scope: &Scope<'_>) -> Result<String, Failure> {
    let refuse = |code: &str, text: String| {
        if previous.strict {
            Err(Failure::new(FailureClass::Reference, code, text))
        } else {
            Ok("nil".to_owned())
        }
    };
    let step = &previous.step;
    let Some(job) = scope.result(step) else {
        return refuse("PL602", format!("Step result not found: {step}"));
    };
    if job.state == JobState::Skipped && previous.extract.is_none() {
        return match refuse("PL602", format!("step `{step}` was skipped and has no response")) {
            Ok(_) => Ok(String::new()),
            Err(failure) => Err(failure),
        };
    }
    let Some(path) = &previous.extract else {
        return Ok(scope.value_view(step).map(pretty).unwrap_or_default());
    };
    let segments = match TextPath::parse(path) {
        Ok(TextPath::Definite(segments)) => segments,
        Ok(TextPath::Query(path)) => {
            // A path that finds nothing in the value is tried on the record (YT-12).
            let found = scope.value_view(step).map_or(Value::Null, |value| query(&path, value));
            let nothing = found.as_array().is_none_or(Vec::is_empty);
            return Ok(pretty(&if nothing { query(&path, &job.result) } else { found }));
        }
        Err(error) => return Err(Failure::new(FailureClass::Expression, "PL603", error.message)),
    };
    match scope.step_field(step, &segments) {
        Ok(value) if *value == Value::Null => Ok("nil".to_owned()),
        Ok(value) => Ok(pretty(&value)),
        Err(available) => {
            let fields = Missing { path: path.clone(), available }.fields();
            refuse(
                "PL603",
                format!(
                    "Field '{path}' not found in previous response. Available fields: {fields}"
                ),
            )
        }
    }
}
