//! The JSON Schema of the dump, generated from its Rust type and published with each release as
//! `schema/perennial.tree.1.json`.

use perennial_core::tree::{SCHEMA, TreeSnapshot};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// The schema of `perennial.tree/1`, draft 2020-12.
///
/// It describes what is read: a field that may be missing is not required, and unknown fields are
/// allowed, because later versions of the same major add some.
///
/// ```
/// use perennial_inspect::schema;
///
/// let schema = schema();
/// assert_eq!(schema["title"], "perennial.tree/1");
/// ```
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut generated = generator.into_root_schema_for::<TreeSnapshot>().to_value();
    without_examples(&mut generated);
    generated["title"] = SCHEMA.into();
    generated["properties"]["schema"]["const"] = SCHEMA.into();

    // What a reader looks for first comes first; indexing a key that is missing adds it in its place.
    let mut schema = json!({});
    for key in ["$schema", "title", "description", "type", "required", "properties", "$defs"] {
        schema[key] = generated[key].take();
    }
    schema
}

/// Examples in Rust say nothing to who reads a schema.
fn without_examples(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description")
                && let Some(end) = text.find("\n\n```")
            {
                text.truncate(end);
            }
            fields.values_mut().for_each(without_examples);
        }
        Value::Array(values) => values.iter_mut().for_each(without_examples),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}
