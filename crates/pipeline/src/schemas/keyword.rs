//! `type`, as the language reads it: `integer` takes 1.0 only when the JSON text has no fraction (YR-68).

use jsonschema::{Keyword, ValidationError, paths::Location};
use serde_json::{Map, Value};

use crate::definition::type_of;

/// What the validator calls the errors of this keyword.
pub(super) const TYPE: &str = "type";

/// Names of types, at least one of which a value has to have.
struct Types(Vec<String>);

/// Reads the keyword; what it may hold is told by the meta-schema.
pub(super) fn types<'s>(
    _: &'s Map<String, Value>,
    value: &'s Value,
    _: Location,
) -> Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'s>> {
    let name = |value: &Value| value.as_str().map(str::to_owned);
    let names = match value {
        Value::Array(names) => names.iter().filter_map(name).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            name(value).into_iter().collect()
        }
    };
    Ok(Box::new(Types(names)))
}

impl<'i> Keyword<'i> for Types {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.0.iter().any(|name| is(instance, name)) {
            return Ok(());
        }
        let wanted = self.0.join(" or ");
        Err(ValidationError::custom(format!("Expected {wanted}, got {}", type_of(instance))))
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        self.0.iter().any(|name| is(instance, name))
    }
}

fn is(value: &Value, name: &str) -> bool {
    let found = type_of(value);
    found == name || (name == "number" && found == "integer")
}
