//! What is known wrong at load.

use perennial_pipeline::{Pipeline, Severity};

use crate::world::flow;

/// Errors and warnings as `code line: message`, with the hint behind a bar.
fn faults(document: &str) -> Vec<String> {
    let checked = Pipeline::check("flow.yaml", document.as_bytes());
    let told = checked.diagnostics.iter().filter(|found| found.severity != Severity::Note);
    told.map(|found| {
        let hint = found.hint.as_ref().map(|hint| format!(" | {hint}")).unwrap_or_default();
        format!(
            "{} {}: {}{hint}",
            found.code,
            found.span.map_or(0, |span| span.start.line),
            found.message
        )
    })
    .collect()
}

#[test]
fn rows() {
    let rows = include_str!("../data/nested_faults.txt");
    let mut seen = 0;
    for row in rows.split("\n====\n") {
        let (title, rest) = row.trim_start().split_once('\n').unwrap();
        let (document, expected) = rest.split_once("\n----\n").unwrap();
        let found = faults(&flow(document));
        let expected: Vec<&str> = expected.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(found, expected, "{title}");
        seen += 1;
    }
    assert!(seen > 15, "only {seen} rows were found");
}
