//! The JSON form of a report (YF-22).

use serde_json::{Value, json};

use super::{Diagnostic, Severity};
use crate::definition::Input;

/// One object: file, validity, diagnostics, inputs and counts.
///
/// ```
/// use perennial_pipeline::{Pipeline, report_json};
///
/// let checked = Pipeline::check("w.yaml", b"workflow: {name: w, steps: [{name: a, type: ecko}]}");
/// let report = report_json("w.yaml", &checked.diagnostics, &checked.inputs);
/// assert_eq!(report["valid"], false);
/// ```
pub fn report_json(file: &str, diagnostics: &[Diagnostic], inputs: &[Input]) -> Value {
    let count = |severity| diagnostics.iter().filter(|shown| shown.severity == severity).count();
    json!({
        "file": file,
        "valid": count(Severity::Error) == 0,
        "diagnostics": diagnostics.iter().map(diagnostic_json).collect::<Vec<_>>(),
        "inputs": inputs.iter().map(Input::to_json).collect::<Vec<_>>(),
        "summary": {
            "errors": count(Severity::Error),
            "warnings": count(Severity::Warning),
            "notes": count(Severity::Note),
        },
    })
}

fn diagnostic_json(shown: &Diagnostic) -> Value {
    json!({
        "code": shown.code.to_string(),
        "severity": shown.severity.name(),
        "message": shown.message,
        "hint": shown.hint,
        "file": &*shown.file,
        "pointer": shown.pointer,
        "span": shown.span,
        "excerpt": shown.excerpt.as_ref().map(|excerpt| &excerpt.text),
        "related": shown.related.iter().map(|related| json!({
            "message": related.message,
            "file": &*related.file,
            "span": related.span,
            "excerpt": related.excerpt.text,
        })).collect::<Vec<_>>(),
    })
}
