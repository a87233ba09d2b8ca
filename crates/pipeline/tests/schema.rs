//! The published schema: current, valid, and of one mind with the validator.

#![expect(clippy::unwrap_used, reason = "the schema has the shape that is proven here")]

use std::{fs, path::Path};

use perennial_pipeline::{
    EnvironmentMode, InputType, MemorySources, Pipeline, Severity, SourceFile, functions,
    read_yaml, schema, step_types,
};

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

/// What stands before the tables of keys in the reference of the language.
const GENERATED: &str = "<!-- Generated from the key table; see tests/schema.rs. -->\n";

/// The reference of the language names every word, its tables are those of the key table, and what it shows is valid.
#[test]
fn the_reference_of_the_language_is_whole() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/language.md");
    let text = fs::read_to_string(&path).unwrap();
    let (written, tables) = text.split_once(GENERATED).unwrap_or((&text, ""));
    let generated = key_tables(&schema());
    if std::env::var_os("UPDATE_SCHEMA").is_some_and(|value| value == "1") {
        fs::write(&path, format!("{written}{GENERATED}{generated}")).unwrap();
    } else {
        assert!(tables == generated, "set UPDATE_SCHEMA=1 and read the difference");
    }
    let types = step_types();
    let types = types.iter().filter(|one| one.here).map(|one| one.name);
    let classes = perennial_core::FailureClass::ALL.map(|class| class.name());
    let inputs = InputType::ALL.map(|kind| kind.name());
    let modes = EnvironmentMode::ALL.map(|mode| mode.name());
    for word in types.chain(classes).chain(inputs).chain(modes) {
        assert!(written.contains(&format!("`{word}`")), "`{word}` is not in {}", path.display());
    }
    let shape = schema();
    let named = |def: &str, key: &str| {
        let found = &shape["$defs"][def]["properties"][key];
        let names = found.get("enum").or_else(|| found.pointer("/anyOf/0/enum"));
        names.and_then(|names| names.as_array()).cloned().unwrap_or_default()
    };
    let mut words = named("prompt_part", "type");
    words.extend(named("step.file_ops", "operation"));
    assert!(words.len() >= 14, "{words:?}");
    for word in words.iter().filter_map(|word| word.as_str()) {
        assert!(written.contains(&format!("`{word}`")), "`{word}` is not in {}", path.display());
    }
    let examples: Vec<&str> = written.split("```yaml\n").skip(1).collect();
    assert!(!examples.is_empty());
    for example in examples {
        let example = example.split("```").next().unwrap();
        // One of them is its own child.
        let sources = MemorySources::new().file("countdown.yaml", example);
        let document = SourceFile::new("countdown.yaml", example.as_bytes());
        let checked = Pipeline::load(&document, &sources);
        assert!(checked.diagnostics.is_empty(), "{:?}", checked.diagnostics);
    }
}

/// Every key of the published schema and every function, as tables.
fn key_tables(schema: &serde_json::Value) -> String {
    let rows =
        |def: &str| schema["$defs"][def]["properties"].as_object().cloned().unwrap_or_default();
    let common = |kind: &str| -> Vec<String> {
        let all: Vec<_> = schema["$defs"].as_object().unwrap().keys().cloned().collect();
        let mut all = all.iter().filter(|def| def.starts_with(kind)).map(|def| rows(def));
        let first = all.next().unwrap_or_default();
        let others: Vec<_> = all.collect();
        let shared = first.keys().filter(|key| others.iter().all(|other| other.contains_key(*key)));
        shared.cloned().collect()
    };
    let mut out = String::from("## Every key\n");
    let mut table = |title: &str, rows: Vec<(&String, &serde_json::Value)>| {
        if rows.is_empty() {
            return;
        }
        out.push_str(&format!(
            "\n### {title}\n\n| key | what it is | without it |\n|---|---|---|\n"
        ));
        for (key, shape) in rows {
            let mut told = shape["description"].as_str().unwrap_or_default().to_owned();
            let names = shape.get("enum").or_else(|| shape.pointer("/anyOf/0/enum"));
            if let Some(names) = names.and_then(|names| names.as_array()) {
                let names: Vec<&str> = names.iter().filter_map(|name| name.as_str()).collect();
                told.push_str(&format!(": {}", names.join(", ")));
            }
            let default =
                shape.get("default").map(|value| format!("`{value}`")).unwrap_or_default();
            out.push_str(&format!("| `{key}` | {} | {default} |\n", told.replace('|', "\\|")));
        }
    };
    for (kind, every) in [("step.", "Every step"), ("prompt_part.", "Every part of a prompt")] {
        let shared = common(kind);
        let first = schema["$defs"].as_object().unwrap().keys().find(|def| def.starts_with(kind));
        let of = rows(first.unwrap());
        table(every, of.iter().filter(|(key, _)| shared.contains(key)).collect());
        for def in schema["$defs"].as_object().unwrap().keys().filter(|def| def.starts_with(kind)) {
            let of = rows(def);
            let own = of.iter().filter(|(key, _)| !shared.contains(key)).collect();
            let noun = if kind == "step." { "Steps of type" } else { "Prompt parts of type" };
            table(&format!("{noun} `{}`", &def[kind.len()..]), own);
        }
    }
    for def in schema["$defs"].as_object().unwrap().keys() {
        let of = rows(def);
        let is_kind = ["step", "prompt_part", "condition"].iter().any(|kind| def.starts_with(kind));
        if !is_kind {
            table(&format!("`{def}`"), of.iter().collect());
        }
    }
    out.push_str("\n## Every function\n\n| function | gives |\n|---|---|\n");
    for function in functions() {
        let does = function.does.replace('|', "\\|");
        out.push_str(&format!("| `{}({})` | {does} |\n", function.name, function.arguments));
    }
    out
}
