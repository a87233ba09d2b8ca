//! What is wrong with a schema itself, everything at once, with places.

use serde_json::{Map, Value, json};

use super::{
    effort, options, validator,
    violation::{PathStep, ViolationKind, place},
    words,
};

/// Keywords whose value is a schema.
const ONE: [&str; 11] = [
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value is a list of schemas.
const LISTS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords whose value is a map of schemas.
const MAPS: [&str; 5] =
    ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];

/// One fault of a schema.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SchemaFault {
    /// Where in the schema.
    pub(crate) path: Vec<PathStep>,
    /// What is wrong there.
    pub(crate) message: String,
    /// The code of a document that holds it.
    pub(crate) code: u16,
}

impl SchemaFault {
    /// Its path and its text.
    pub(crate) fn shown(&self) -> String {
        format!("{}: {}", place(&self.path), self.message)
    }
}

/// Everything that is wrong with `schema`; nothing when values can be held against it.
pub(crate) fn faults(schema: &Value) -> Vec<SchemaFault> {
    let meta = jsonschema::draft202012::meta::validator();
    let told = words::violations(meta.iter_errors(schema), schema);
    let mut found: Vec<SchemaFault> = told
        .into_iter()
        .map(|violation| SchemaFault {
            path: violation.path,
            message: violation.message,
            code: match violation.kind {
                ViolationKind::Type => 203,
                ViolationKind::Range => 205,
                ViolationKind::Other => 204,
            },
        })
        .collect();
    let mut walk = Walk { root: schema, path: Vec::new(), found: Vec::new() };
    walk.schema(schema);
    found.append(&mut walk.found);
    // What it makes of a value without parts it makes of every value.
    if found.is_empty() && effort::is_too_much(schema, &Value::Null) {
        let message = effort::TOO_MUCH.to_owned();
        found.push(SchemaFault { path: Vec::new(), message, code: 205 });
    }
    if found.is_empty()
        && let Err(error) = validator(schema)
    {
        let path = words::path_in(schema, error.instance_path().as_str());
        found.push(SchemaFault { path, message: error.to_string(), code: 204 });
    }
    found.sort();
    found.dedup();
    found
}

/// A walk through all schemas in a schema.
struct Walk<'s> {
    root: &'s Value,
    path: Vec<PathStep>,
    found: Vec<SchemaFault>,
}

impl Walk<'_> {
    fn schema(&mut self, schema: &Value) {
        let Some(keywords) = schema.as_object() else { return };
        self.patterns(keywords);
        if let Some(Value::String(reference)) = keywords.get("$ref")
            && target(self.root, reference).is_none()
        {
            let text = format!("`$ref` leads nowhere in this schema: {reference}");
            self.at("$ref", |walk| walk.add(313, text));
        }
        for name in ONE {
            if let Some(inner) = keywords.get(name) {
                self.at(name, |walk| walk.schema(inner));
            }
        }
        for name in LISTS {
            for (place, inner) in
                keywords.get(name).and_then(Value::as_array).into_iter().flatten().enumerate()
            {
                self.at(name, |walk| {
                    walk.path.push(PathStep::Item(place));
                    walk.schema(inner);
                    walk.path.pop();
                });
            }
        }
        for name in MAPS {
            for (key, inner) in keywords.get(name).and_then(Value::as_object).into_iter().flatten()
            {
                self.at(name, |walk| walk.at(key, |walk| walk.schema(inner)));
            }
        }
    }

    fn patterns(&mut self, keywords: &Map<String, Value>) {
        let invalid = |pattern: &str| format!("Invalid regex pattern: {pattern}");
        if let Some(Value::String(pattern)) = keywords.get("pattern")
            && !is_pattern(pattern)
        {
            self.at("pattern", |walk| walk.add(406, invalid(pattern)));
        }
        let named = keywords.get("patternProperties").and_then(Value::as_object);
        for pattern in named.into_iter().flatten().map(|(pattern, _)| pattern) {
            if !is_pattern(pattern) {
                self.at("patternProperties", |walk| {
                    walk.at(pattern, |walk| walk.add(406, invalid(pattern)));
                });
            }
        }
    }

    fn at(&mut self, name: &str, look: impl FnOnce(&mut Self)) {
        self.path.push(PathStep::Field(name.to_owned()));
        look(self);
        self.path.pop();
    }

    fn add(&mut self, code: u16, message: String) {
        self.found.push(SchemaFault { path: self.path.clone(), message, code });
    }
}

fn is_pattern(pattern: &str) -> bool {
    !crate::expression::calls_groups(pattern)
        && options().build(&json!({ "pattern": pattern })).is_ok()
}

/// What `reference` leads to inside of `root`; references by name or address are left to the validator.
pub(super) fn target<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    match reference.strip_prefix('#') {
        Some(pointer) if pointer.is_empty() || pointer.starts_with('/') => root.pointer(pointer),
        Some(_) | None => Some(root),
    }
}
