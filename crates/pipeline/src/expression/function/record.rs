//! Objects, tests of any value, and what to take instead of a missing one.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{
    super::{
        path::{TextPath, length, query, walk},
        text::to_text,
        value::{Trouble, is_empty},
    },
    Function, Outcome,
    Takes::{Any, Object},
    Work, text, unfit,
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("length", &[Any], Work::Bearing(measure)),
    Function::new("keys", &[Object], Work::Values(keys)),
    Function::new("values", &[Object], Work::Values(values_of)),
    Function::new("entries", &[Object], Work::Values(entries)),
    Function::new("merge", &[Object, Object], Work::Values(merge)).many(),
    Function::new("get", &[Any, Any, Any], Work::Bearing(get)).required(2),
    Function::new("has", &[Any, Any], Work::Bearing(has)),
    Function::new("is_empty", &[Any], Work::Bearing(|v| Ok(v[0].is_none_or(is_empty).into()))),
    Function::new("type_of", &[Any], Work::Values(|v| Ok(text::type_name(v[0])))),
    Function::new("default", &[Any, Any], Work::FirstPresent),
    Function::new("coalesce", &[Any], Work::FirstPresent).many(),
];

/// Missing and null have length 0 (YC-12).
fn measure(values: &[Option<&Value>]) -> Outcome {
    match values[0] {
        None | Some(Value::Null) => Ok(0.into()),
        Some(value) => match length(value) {
            Some(length) => Ok(length.into()),
            None => Err(unfit("length", value)),
        },
    }
}

fn object<'v>(value: &'v Value, name: &str) -> Result<&'v Map<String, Value>, Trouble> {
    value.as_object().ok_or_else(|| unfit(name, value))
}

fn keys(values: &[&Value]) -> Outcome {
    Ok(object(values[0], "keys")?.keys().cloned().collect())
}

fn values_of(values: &[&Value]) -> Outcome {
    Ok(object(values[0], "values")?.values().cloned().collect())
}

fn entries(values: &[&Value]) -> Outcome {
    let entry = |(key, value): (&String, &Value)| {
        let mut entry = Map::new();
        entry.insert("key".to_owned(), key.as_str().into());
        entry.insert("value".to_owned(), value.clone());
        Value::Object(entry)
    };
    Ok(object(values[0], "entries")?.iter().map(entry).collect())
}

/// Later objects win; nested ones are replaced, not merged.
fn merge(values: &[&Value]) -> Outcome {
    let mut merged = Map::new();
    for value in values {
        let object = object(value, "merge")?;
        merged.extend(object.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    Ok(Value::Object(merged))
}

/// What `path` leads to; a key or index when it is no path.
fn found(value: &Value, path: &Value) -> Result<Option<Value>, Trouble> {
    let text = to_text(path);
    if let Some(own) = value.as_object().and_then(|map| map.get(&text)) {
        return Ok(Some(own.clone()));
    }
    match TextPath::parse(&text) {
        Ok(TextPath::Definite(segments)) => {
            Ok(walk(Cow::Borrowed(value), &segments).ok().map(Cow::into_owned))
        }
        Ok(TextPath::Query(path)) => Ok(Some(query(&path, value))),
        // Why it is none would show a part of it, which may be a part of a secret.
        Err(_) => Err(Trouble::Null(format!("`{text}` is no path"))),
    }
}

fn get(values: &[Option<&Value>]) -> Outcome {
    let (value, path) = (values[0], values[1].unwrap_or(&Value::Null));
    let found = value.map_or(Ok(None), |value| found(value, path))?;
    match (found, values.get(2)) {
        (Some(found), _) => Ok(found),
        (None, Some(Some(otherwise))) => Ok((*otherwise).clone()),
        (None, Some(None) | None) => Err(Trouble::Missing(to_text(path))),
    }
}

fn has(values: &[Option<&Value>]) -> Outcome {
    let path = values[1].unwrap_or(&Value::Null);
    let found = values[0].map_or(Ok(None), |value| found(value, path));
    Ok(matches!(found, Ok(Some(_))).into())
}
