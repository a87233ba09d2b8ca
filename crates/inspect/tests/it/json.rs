//! The document, there and back.

use perennial_core::tree::SCHEMA;
use perennial_inspect::{DumpError, from_json, stable, to_json, to_ndjson};
use serde_json::{Value, json};

use crate::sample::{declared, running};

/// FMT-4.
#[test]
fn a_dump_that_was_written_is_read_as_it_was() {
    let mut odd = running();
    odd.nodes[0].detail =
        json!({"share": 0.1, "tiny": 5e-324, "text": "\u{1b}\n天", "max": u64::MAX});
    for tree in [running(), declared(), stable(&running()), odd] {
        assert_eq!(from_json(&to_json(&tree)).unwrap(), tree);
    }
}

#[test]
fn unknown_fields_of_a_later_version_are_ignored() {
    let mut document: Value = serde_json::from_str(&to_json(&running())).unwrap();
    document["rollup"] = json!({"nodes": 21});
    document["nodes"][0]["busy"] = json!(0.2);
    assert_eq!(from_json(&document.to_string()).unwrap(), running());
}

/// FMT-4.
#[test]
fn an_early_dump_with_required_fields_alone_is_read() {
    let document = json!({
        "schema": SCHEMA,
        "runtime": {"name": "a", "version": "0.1.0", "node": "n", "instance": "i"},
        "nodes": [],
    });
    let tree = from_json(&document.to_string()).unwrap();
    assert!(!tree.declared && tree.findings.is_empty() && tree.uptime_ms.is_none());
}

#[test]
fn what_is_no_dump_is_refused_with_the_reason() {
    let mut document: Value = serde_json::from_str(&to_json(&running())).unwrap();
    document["schema"] = json!("perennial.tree/2\u{1b}");
    let refused = from_json(&document.to_string()).unwrap_err();
    assert!(matches!(refused, DumpError::OtherSchema { .. }));
    assert_eq!(
        refused.to_string(),
        "the dump is of schema `perennial.tree/2\\u{1b}`; this version reads `perennial.tree/1`"
    );
    for text in ["", "[]", "{}", "{\"schema\": \"perennial.tree/1\"}"] {
        assert!(matches!(from_json(text), Err(DumpError::Malformed(_))), "{text}");
    }
}

/// Section 6: the envelope first, the findings last, and between them one node a line.
#[test]
fn lines_of_json_are_the_dump_in_parts() {
    let tree = running();
    let text = to_ndjson(&tree);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (envelope, rest) = lines.split_first().unwrap();
    let (findings, nodes) = rest.split_last().unwrap();
    let mut whole = envelope.clone();
    assert_eq!((&whole["nodes"], &whole["findings"]), (&json!([]), &json!([])));
    whole["nodes"] = nodes.to_vec().into();
    whole["findings"] = findings["findings"].clone();
    assert_eq!(from_json(&whole.to_string()).unwrap(), tree);
}
