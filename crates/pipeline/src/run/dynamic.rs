//! Steps whose type is known when they run (1.7): the choice, and how a record tells of it.

use perennial_core::{FailureClass, failure::Failure};
use serde_json::Value;

use super::{failure::stopped, scope::Scope};
use crate::definition::{CandidateKeys, Dynamic, STEP_TYPE, Step, StepKind};

/// `step` as what its type says that it is.
///
/// # Errors
///
/// When its type has no value, is none of those it may have, or its keys are not those of a step of
/// that type (PL611).
pub(super) fn chosen(step: &Step, dynamic: &Dynamic, scope: &Scope<'_>) -> Result<Step, Failure> {
    let text = dynamic.named_by.text(scope).map_err(|stop| stopped(&stop))?;
    let type_name = text.trim();
    let refused = |text: String| Err(Failure::new(FailureClass::Expression, "PL611", text));
    let kind = match dynamic.keys(type_name) {
        Some(CandidateKeys::Fit(kind)) => (**kind).clone(),
        Some(CandidateKeys::Faulty(faults)) => {
            let faults = faults.join("; ");
            return refused(format!(
                "the keys of the step are not those of `{type_name}`: {faults}"
            ));
        }
        None => {
            let may = dynamic.type_names().join(", ");
            return refused(format!("the type {type_name:?} is none of its dynamic_types: {may}"));
        }
    };
    Ok(Step { kind, type_name: type_name.to_owned(), ..step.clone() })
}

/// `record` of `written`, which turned out to be `step`, so that later steps know what it was.
///
/// # Errors
///
/// When a bare value has the field that says so, and so claims to be the record of another type.
pub(super) fn told(written: &Step, step: &Step, mut record: Value) -> Result<Value, Failure> {
    if !matches!(written.kind, StepKind::Dynamic(_)) {
        return Ok(record);
    }
    let is_echo = matches!(step.kind, StepKind::Echo(_));
    if let Value::Object(fields) = &mut record {
        if is_echo && fields.contains_key(STEP_TYPE) {
            let text = format!(
                "the value has a field `{STEP_TYPE}`, which is what tells the type of a step with \
                 dynamic_types: give the field another name"
            );
            return Err(Failure::new(FailureClass::Expression, "PL611", text));
        }
        if !is_echo {
            fields.insert(STEP_TYPE.to_owned(), step.type_name.as_str().into());
        }
    }
    Ok(record)
}
