//! The published schema: current, valid, and of one mind with the validator.

use std::{fs, path::Path};

use perennial_pipeline::{Pipeline, Severity, read_yaml, schema};

#[path = "documents/corpus.rs"]
mod corpus;

/// Codes that a schema can tell: the shape of a document.
const STRUCTURAL: &[u16] =
    &[105, 108, 201, 202, 203, 204, 205, 206, 208, 209, 212, 213, 214, 215, 302, 407];

#[test]
fn the_published_schema_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/perennial.pipeline.1.json");
    let generated = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some_and(|value| value == "1") {
        fs::write(&path, &generated).unwrap();
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    assert!(published == generated, "set UPDATE_SCHEMA=1 and read the difference");
}

#[test]
fn the_schema_is_a_schema_in_which_every_key_is_explained() {
    let schema = schema();
    assert_eq!(schema["$id"], "urn:perennial:pipeline:1");
    jsonschema::meta::validate(&schema).unwrap();
    for (name, def) in schema["$defs"].as_object().unwrap() {
        assert!(!def.is_null(), "{name} was never written");
        for (key, shape) in def["properties"].as_object().into_iter().flatten() {
            let told = shape.get("description").is_some() || shape.get("enum").is_some();
            assert!(told || shape.get("$ref").is_some() || name == "condition", "{name}.{key}");
        }
    }
}

#[test]
fn yf_51_the_schema_refuses_what_has_a_structural_error_and_nothing_else() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let mut wrong = Vec::new();
    let (mut passed, mut refused) = (0, 0);
    for (name, document) in corpus::documents() {
        let checked = Pipeline::check("flow.yaml", document.as_bytes());
        // What is no YAML has no shape.
        let Ok(value) = read_yaml("flow.yaml", document.as_bytes()) else { continue };
        // The schema tells the strict reading.
        if ["warn", "ignore"].iter().any(|v| document.contains(&format!("unknown_keys: {v}"))) {
            continue;
        }
        let errors = checked.diagnostics.iter().filter(|d| d.severity == Severity::Error);
        let codes: Vec<u16> = errors.map(|found| found.code.0).collect();
        let structural = codes.iter().any(|code| STRUCTURAL.contains(code));
        let told: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        if structural {
            refused += 1
        } else {
            passed += 1
        };
        if structural == told.is_empty() {
            wrong.push(format!("{name}: {codes:?}, but the schema says {told:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(passed >= 12 && refused >= 30, "{passed} passed, {refused} refused");
}
