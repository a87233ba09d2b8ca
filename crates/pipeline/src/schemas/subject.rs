//! Which part of a record its schema is about (YR-66).

use std::borrow::Cow;

use serde_json::Value;

/// Fields that hold the value itself, the first one that is there.
const VALUES: [&str; 4] = ["data", "content", "text", "response"];
/// Fields that tell of the step, not of its value.
const ABOUT: [&str; 6] = ["success", "status", "cost", "usage", "duration", "timestamp"];

/// The value of the record of a step that is no call to a model.
pub(crate) fn subject(record: &Value) -> Cow<'_, Value> {
    let Some(fields) = record.as_object() else { return Cow::Borrowed(record) };
    if let Some(value) = VALUES.iter().find_map(|name| fields.get(*name)) {
        return Cow::Borrowed(value);
    }
    if !ABOUT.iter().any(|name| fields.contains_key(*name)) {
        return Cow::Borrowed(record);
    }
    let mut rest = fields.clone();
    rest.retain(|name, _| !ABOUT.contains(&name.as_str()));
    Cow::Owned(Value::Object(rest))
}
