//! What must hold for every input.

use perennial_pipeline::{Formula, NoValue, Pipeline, Severity, render, report_json};
use serde_json::{Value, json};

/// No document makes the loader panic, and errors alone prevent a pipeline, which can be built
/// again from its definition.
pub(crate) fn document(bytes: &[u8]) {
    let checked = Pipeline::check("f.yaml", bytes);
    let errors = checked.diagnostics.iter().any(|found| found.severity == Severity::Error);
    assert_eq!(checked.pipeline.is_none(), errors, "errors and nothing else prevent a pipeline");
    for shown in &checked.diagnostics {
        render(shown, true);
    }
    report_json("f.yaml", &checked.diagnostics, &checked.inputs);
    if let Some(pipeline) = checked.pipeline {
        let again = Pipeline::revive(&pipeline.definition().bytes);
        assert_eq!(again.expect("a definition can be read again"), pipeline);
    }
}

/// No text makes a template panic, whether it is one or not.
pub(crate) fn template(text: &str) {
    check(text, Formula::template(text));
}

/// No text makes a condition panic, whether it is one or not.
pub(crate) fn condition(text: &str) {
    check(text, Formula::condition(text));
}

fn check(text: &str, read: Result<Formula, perennial_pipeline::InvalidFormula>) {
    match read {
        Ok(formula) => {
            let names = names();
            let once = formula.value(&names);
            if let Err(NoValue::Fault { code, .. }) = &once {
                assert!(code.starts_with("PL"), "{code}");
            }
            assert_eq!(once, formula.value(&names), "the same names give the same value");
        }
        Err(invalid) => {
            assert!(!invalid.faults.is_empty(), "a refusal says why");
            for fault in &invalid.faults {
                assert!(
                    text.get(fault.at.clone()).is_some(),
                    "{:?} is no part of the text: {}",
                    fault.at,
                    fault.message
                );
            }
        }
    }
}

/// Values of every type, under the names that the corpus uses.
fn names() -> Value {
    json!({
        "a": { "x": 1, "y": -2.5, "s": "in-progress", "l": [1, 2, 3], "n": null, "t": true },
        "rows": [
            { "v": "z", "k": 3, "at": "2026-01-31T10:00:00Z" },
            { "v": "h", "k": 1, "in": { "deep": [[1], [2, [3]]] } },
        ],
        "text": "Grüße, a {{ world }} of text\nand 2 lines",
        "day": "2024-02-29",
        "big": i64::MAX,
        "nothing": null,
        "empty": { "list": [], "map": {}, "text": "" },
    })
}
