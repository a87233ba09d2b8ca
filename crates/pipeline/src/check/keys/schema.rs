//! The published JSON Schema, written from the table (YF-50, YF-51).
//!
//! It tells the shape of a document: keys, types, ranges. What needs more than one value to be
//! told, such as names and references, stands in descriptions. Keys that this version does not
//! have are not in it: a document that holds one is refused.

use serde_json::{Map, Value, json};

use super::{
    DYNAMIC_STEP, Key, Keys, Kind, PARTS, ROOT, STEP_TYPES, Status, Tables, Unit, Variant,
};

/// The name of the format.
const ID: &str = "urn:perennial:pipeline:1";
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// A duration as a text, which is more than nothing.
const DURATION: &str = r"^\s*(?=[^a-z]*[1-9])\+?([0-9]+\.?[0-9]*|\.[0-9]+)\s*(ms|s|m|h|d)\s*$";
/// A value of the environment, where no text is asked for.
const VARIABLE: &str = r"^\$\{[A-Z_][A-Z0-9_]*(:-[^}]*)?\}$";
/// A choice between keys at load, in every map outside of steps.
const CHOICE: &str = r"^\$(if|then|else)$";
const INTEGER: &str = r"^\s*\+?[0-9]+\s*$";
const DECIMAL: &str = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$";

/// The whole format as a JSON Schema of draft 2020-12.
pub(in crate::check) fn schema() -> Value {
    let mut defs = Defs::default();
    let root = defs.map(&[&ROOT]);
    defs.condition();
    let mut schema = json!({
        "$schema": DRAFT,
        "$id": ID,
        "title": "A Perennial workflow document",
        "description": "Keys beginning with `x-` are free in every map. References between steps, \
            templates and conditions are checked by `perennial check`, not by this schema.",
    });
    if let (Some(all), Value::Object(root)) = (schema.as_object_mut(), root) {
        all.extend(root);
        defs.0.sort_keys();
        all.insert("$defs".to_owned(), Value::Object(defs.0));
    }
    schema
}

/// The named parts of the schema.
#[derive(Default)]
struct Defs(Map<String, Value>);

impl Defs {
    /// A reference to the definition `name`, which `write` writes the first time.
    fn named(&mut self, name: &str, write: impl FnOnce(&mut Self) -> Value) -> Value {
        if !self.0.contains_key(name) {
            // A definition may contain itself: the place is taken before it is written.
            self.0.insert(name.to_owned(), Value::Null);
            let written = write(self);
            self.0.insert(name.to_owned(), written);
        }
        json!({ "$ref": format!("#/$defs/{name}") })
    }

    /// The map that `tables` describe.
    fn map(&mut self, tables: Tables) -> Value {
        let mut properties = Map::new();
        let (mut required, mut rules) = (Vec::new(), Vec::new());
        for key in tables.iter().flat_map(|table| table.keys).filter(|key| key.accepted()) {
            if properties.contains_key(key.name) {
                continue;
            }
            properties.insert(key.name.to_owned(), self.key(key));
            if key.required {
                match spelling_of(tables, key.name) {
                    None => required.push(json!(key.name)),
                    Some(other) => rules.push(json!({
                        "anyOf": [{ "required": [key.name] }, { "required": [other] }],
                    })),
                }
            }
        }
        let mut map = json!({ "type": "object", "properties": properties });
        map["patternProperties"] = json!({ "^x-": true, CHOICE: true });
        map["additionalProperties"] = match tables.iter().find_map(|table| table.others) {
            Some(kind) => self.kind(kind),
            None => json!(false),
        };
        let bases: Vec<&str> = ["extends", "include", "$if"]
            .into_iter()
            .filter(|key| map["properties"].get(key).is_some())
            .collect();
        if !bases.is_empty() {
            // What is missing here may stand in another document, or in a branch.
            let elsewhere = bases.iter().map(|key| json!({ "required": [key] }));
            let all = [json!({ "required": required })].into_iter().chain(elsewhere);
            rules.push(json!({ "anyOf": all.collect::<Vec<_>>() }));
        } else if !required.is_empty() {
            map["required"] = Value::Array(required);
        }
        if !rules.is_empty() {
            map["allOf"] = Value::Array(rules);
        }
        for (key, with) in TOGETHER {
            if map["properties"].get(key).is_some() {
                map["dependentRequired"] = json!({ *key: [with] });
            }
        }
        map
    }

    fn key(&mut self, key: &Key) -> Value {
        let mut shape = self.kind(&key.kind);
        if key.status == Status::LaterUnlessEmpty {
            let only =
                match (&key.kind, key.default.and_then(|text| serde_json::from_str(text).ok())) {
                    (Kind::Count { .. }, Some(default @ Value::Number(_))) => {
                        json!({ "const": default })
                    }
                    (kind, _) => empty(kind),
                };
            shape = json!({ "allOf": [shape, only] });
        }
        if key.nullable && !key.required {
            shape = json!({ "anyOf": [shape, { "type": "null" }] });
        }
        if shape.get("$ref").is_some() {
            shape = json!({ "allOf": [shape] });
        }
        if let Value::Bool(true) = shape {
            shape = json!({});
        }
        shape["title"] = json!(key.name);
        shape["description"] = json!(match key.status {
            Status::Spelling(of) => format!("accepted spelling of `{of}`"),
            Status::Advisory => format!("{}; advisory: changes no result", key.doc),
            Status::LaterUnlessEmpty if matches!(key.kind, Kind::Count { .. }) => {
                format!("{}; only the default in this version", key.doc)
            }
            Status::LaterUnlessEmpty => format!("{}; only empty in this version", key.doc),
            Status::Here | Status::Later | Status::Removed => key.doc.to_owned(),
        });
        if let Some(default) = key.default.and_then(|text| serde_json::from_str(text).ok()) {
            shape["default"] = default;
        }
        if key.status != Status::LaterUnlessEmpty
            && let Some(example) = key.kind.example()
        {
            shape["examples"] = json!([example]);
        }
        if key.status == Status::Removed {
            shape["deprecated"] = json!(true);
        }
        shape
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Any | Kind::Tree => json!(true),
            Kind::Text | Kind::Template => json!({ "type": "string" }),
            Kind::Bool => or_variable(json!({ "type": "boolean" })),
            Kind::Count { least, most, texts } => {
                let number = json!({ "type": "integer", "minimum": least, "maximum": most });
                or_variable(or_text(number, *texts, INTEGER))
            }
            Kind::Number { least, most, texts } => {
                let mut number = json!({ "type": "number" });
                if *least > f64::MIN && *most < f64::MAX {
                    number["minimum"] = json!(least);
                    number["maximum"] = json!(most);
                }
                or_variable(or_text(number, *texts, DECIMAL))
            }
            Kind::Duration { unit, most_ms } => {
                let most = most_ms / unit.millis();
                let unit = match unit {
                    Unit::Millis => "milliseconds",
                    Unit::Seconds => "seconds",
                };
                json!({ "anyOf": [
                    { "type": "number", "exclusiveMinimum": 0, "maximum": most, "description": unit },
                    { "type": "string", "pattern": DURATION },
                    { "type": "string", "pattern": VARIABLE },
                ] })
            }
            Kind::OneOf { names, .. } => or_variable(json!({ "type": "string", "enum": names })),
            Kind::List(each) => json!({ "type": "array", "items": self.kind(each) }),
            Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Kind::Map(tables) => match tables {
                [table] if table.others.is_none() => {
                    self.named(&slug(table), |defs| defs.map(tables))
                }
                _ => self.map(tables),
            },
            Kind::Either(kinds) => {
                json!({ "anyOf": kinds.iter().map(|kind| self.kind(kind)).collect::<Vec<_>>() })
            }
            Kind::Name => json!({
                "type": "string", "minLength": 1, "maxLength": 128,
                "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
                "not": { "pattern": r"\{\{" },
            }),
            Kind::Condition => self.condition(),
            Kind::Prompt => {
                let part = self.named("prompt_part", |defs| defs.variants("prompt_part", PARTS));
                json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": part }] })
            }
            Kind::Schema => json!({ "type": "object", "allOf": [{ "$ref": DRAFT }] }),
            Kind::Steps { least } => {
                let step = self.named("step", Self::steps);
                json!({ "type": "array", "items": step, "minItems": least })
            }
            Kind::Own(kind) => self.kind(kind),
        }
    }

    /// Steps: those of the types, and those whose type is a template.
    fn steps(&mut self) -> Value {
        let mut step = self.variants("step", STEP_TYPES);
        let templated = json!({ "type": "string", "pattern": r"\{\{" });
        let mut any = self.map(DYNAMIC_STEP);
        any["required"] = json!(["dynamic_types"]);
        any["description"] = json!("a step whose type is known when it runs");
        if let Some(any) = any.as_object_mut() {
            // The keys of any of its types.
            any.remove("additionalProperties");
        }
        let names = step["properties"]["type"].take();
        step["properties"]["type"] = json!({
            "description": "what the step does, or a template of one of its `dynamic_types`",
            "anyOf": [names, templated],
        });
        if let Some(rules) = step["allOf"].as_array_mut() {
            let is_it = json!({ "properties": { "type": templated } });
            rules.push(json!({ "if": is_it, "then": any }));
        }
        step
    }

    /// Maps that their `type` tells apart.
    fn variants(&mut self, what: &str, variants: &'static [Variant]) -> Value {
        let mut names = Vec::new();
        let mut rules = Vec::new();
        for variant in variants.iter().filter(|variant| !variant.later) {
            names.push(variant.name);
            let name = format!("{what}.{}", variant.name);
            let shape = self.named(&name, |defs| {
                let mut map = defs.map(variant.tables);
                map["patternProperties"] = json!({ "^x-": true });
                map["description"] = json!(variant.doc);
                map
            });
            let is_it = json!({ "properties": { "type": { "const": variant.name } } });
            rules.push(json!({ "if": is_it, "then": shape }));
        }
        json!({
            "type": "object",
            "required": ["type"],
            "properties": { "type": { "type": "string", "enum": names } },
            "allOf": rules,
        })
    }

    fn condition(&mut self) -> Value {
        let own = json!({ "$ref": "#/$defs/condition" });
        let list = json!({ "type": "array", "items": own });
        let only = |key: &str, shape: &Value| {
            json!({
                "type": "object", "properties": { key: shape }, "required": [key],
                "patternProperties": { "^x-": true }, "additionalProperties": false,
            })
        };
        self.named("condition", |_| {
            json!({
                "description": "an expression, or all of a list, or a map of `and`, `or`, `not`",
                "anyOf": [
                    { "type": ["boolean", "number", "string"] }, list,
                    only("and", &list), only("or", &list), only("not", &own),
                ],
            })
        })
    }
}

/// A key of a map that needs another one.
const TOGETHER: &[(&str, &str)] = &[("variable", "value")];

fn spelling_of(tables: Tables, name: &str) -> Option<&'static str> {
    let is_it = |key: &&'static Key| matches!(key.status, Status::Spelling(of) if of == name);
    tables.iter().flat_map(|table| table.keys).find(is_it).map(|key| key.name)
}

/// `shape`, or a variable of the environment that has it.
fn or_variable(shape: Value) -> Value {
    let variable = json!({ "type": "string", "pattern": VARIABLE });
    let mut shapes = match shape.get("anyOf") {
        Some(Value::Array(shapes)) => shapes.clone(),
        Some(_) | None => vec![shape],
    };
    shapes.push(variable);
    json!({ "anyOf": shapes })
}

fn or_text(number: Value, texts: bool, pattern: &str) -> Value {
    if texts {
        json!({ "anyOf": [number, { "type": "string", "pattern": pattern }] })
    } else {
        number
    }
}

/// The values of a kind that ask for nothing.
fn empty(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({ "const": false }),
        Kind::List(_) | Kind::Texts | Kind::Steps { .. } => json!({ "maxItems": 0 }),
        Kind::Map(_) | Kind::Schema => json!({ "maxProperties": 0 }),
        Kind::Own(kind) => empty(kind),
        Kind::Any
        | Kind::Text
        | Kind::Count { .. }
        | Kind::Number { .. }
        | Kind::Duration { .. }
        | Kind::OneOf { .. }
        | Kind::Either(_)
        | Kind::Template
        | Kind::Tree
        | Kind::Name
        | Kind::Condition
        | Kind::Prompt => json!({ "enum": [null, false, "", [], {}] }),
    }
}

/// The name of a table's definition, from where it stands.
fn slug(table: &Keys) -> String {
    let name: String = match table.home.split('`').nth(1) {
        Some(quoted) => quoted.to_owned(),
        None => table.home.to_owned(),
    };
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

impl Kind {
    /// A value of this kind.
    fn example(&self) -> Option<Value> {
        let example = match self {
            Self::Any | Self::Tree | Self::Text | Self::Map(_) | Self::List(_) => return None,
            Self::Steps { .. } | Self::Schema => return None,
            Self::Bool => json!(true),
            Self::Count { least, .. } => json!(least.max(&1)),
            Self::Number { least, most, .. } if *least > f64::MIN => json!(most.min(1.0)),
            Self::Number { .. } => json!(1),
            Self::Duration { .. } => json!("90s"),
            Self::OneOf { names, .. } => json!(names.first()?),
            Self::Texts => json!(["one", "two"]),
            Self::Template => json!("{{ inputs.topic }}"),
            Self::Name => json!("review"),
            Self::Condition => json!("steps.review.score > 7"),
            Self::Prompt => json!([{ "type": "static", "content": "Explain {{ inputs.topic }}" }]),
            Self::Own(kind) => return kind.example(),
            Self::Either(kinds) => return kinds.iter().find_map(Self::example),
        };
        Some(example)
    }
}
