//! The published schema.

use perennial_inspect::{schema, stable, to_json};
use serde_json::{Value, json};

use crate::{
    golden::assert_is_file,
    sample::{declared, running},
};

fn published() -> Value {
    serde_json::from_str(include_str!("../../schema/perennial.tree.1.json")).unwrap()
}

/// Run again after an update: the other tests of this file read the file as it was compiled in.
#[test]
fn the_published_schema_is_the_generated_one() {
    let generated = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    assert_is_file("schema/perennial.tree.1.json", &generated, "UPDATE_SCHEMA");
}

#[test]
fn the_schema_is_a_schema() {
    assert_eq!(published()["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(published()["title"], "perennial.tree/1");
    jsonschema::meta::validate(&published()).unwrap();
    let keys: Vec<String> = published().as_object().unwrap().keys().cloned().collect();
    assert!(published().as_object().unwrap().values().all(|value| !value.is_null()), "{keys:?}");
}

#[test]
fn dumps_are_valid() {
    let validator = jsonschema::validator_for(&published()).unwrap();
    for tree in [running(), declared(), stable(&running())] {
        let document: Value = serde_json::from_str(&to_json(&tree)).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&document)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

#[test]
fn a_wrong_document_is_not_valid() {
    let validator = jsonschema::validator_for(&published()).unwrap();
    let sample: Value = serde_json::from_str(&to_json(&running())).unwrap();
    for (pointer, wrong) in [
        ("/schema", json!("perennial.tree/2")),
        ("/nodes/0/state", json!("sleeping")),
        ("/nodes/0/restarts", json!(3)),
        ("/nodes/0/incarnation", json!(-1)),
        ("/runtime/name", json!(null)),
        ("/findings", json!({})),
    ] {
        let mut document = sample.clone();
        *document.pointer_mut(pointer).unwrap() = wrong;
        assert!(!validator.is_valid(&document), "{pointer}");
    }
}
