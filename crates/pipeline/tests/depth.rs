//! Expressions nested as deep as they may be, on a small stack.

#![expect(clippy::unwrap_used, reason = "a broken fixture shall fail its test")]

use perennial_pipeline::{Diagnostic, Pipeline};

/// Half of what a thread has where nobody says how much.
const STACK: usize = 1024 * 1024;
/// Ways to stand inside of something, each with one level of nesting.
const WAYS: [(&str, &str); 11] = [
    ("(", ")"),
    ("[", "]"),
    ("{a: ", "}"),
    ("x[", "]"),
    ("x[?(", ")]"),
    ("length(", ")"),
    ("any(l, v => ", ")"),
    ("map(l, v => ", ")"),
    ("1 + (", ")"),
    ("true ? 1 : ", ""),
    ("not x and (", ")"),
];

fn nested(way: (&str, &str), levels: usize) -> String {
    format!("{}1{}", way.0.repeat(levels), way.1.repeat(levels))
}

fn check(document: &str) -> Vec<Diagnostic> {
    let checked = Pipeline::check("flow.yaml", document.as_bytes());
    if let Some(pipeline) = checked.pipeline {
        Pipeline::revive(&pipeline.definition().bytes).unwrap();
    }
    checked.diagnostics
}

/// YT-21.
#[test]
#[expect(clippy::disallowed_methods, reason = "its stack is the subject, and it is joined at once")]
fn the_deepest_expressions_need_little_stack() {
    let work = || {
        for (way, levels) in WAYS.into_iter().flat_map(|way| [(way, 63), (way, 64), (way, 400)]) {
            let text = nested(way, levels);
            for step in [format!("value: '{{{{ {text} }}}}'"), format!("condition: '{text}'")] {
                let document = format!(
                    "workflow:\n  name: w\n  inputs: {{x: {{}}, l: {{}}}}\n  steps:\n  \
                     - {{name: a, type: echo, {step}}}\n"
                );
                let found = check(&document);
                let refused = found.iter().any(|one| one.message.starts_with("nested deeper than"));
                assert_eq!(refused, levels > 63, "{way:?} {levels}: {found:?}");
            }
        }
    };
    std::thread::Builder::new().stack_size(STACK).spawn(work).unwrap().join().unwrap();
}
