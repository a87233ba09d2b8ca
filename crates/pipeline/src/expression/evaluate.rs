//! The value of an expression; missing is a value of its own, apart from null.

use serde_json::Value;

use super::{Expression, Path, Segment};

/// Where an expression stands: names are looked up in another order (YT-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Template,
    Condition,
}

/// What names mean.
pub(crate) trait Names {
    fn find(&self, path: &Path, place: Place) -> Evaluated;
}

/// A value, or that there is none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Evaluated {
    Present(Value),
    Missing(Missing),
}

/// A path that leads nowhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Missing {
    /// The path as far as it is known.
    pub(crate) path: String,
    /// Fields of the value at which it ended; none when that is no object.
    pub(crate) available: Option<Vec<String>>,
}

impl Evaluated {
    fn present(self) -> Option<Value> {
        match self {
            Self::Present(value) => Some(value),
            Self::Missing(_) => None,
        }
    }
}

impl Missing {
    /// What could have been named instead.
    pub(crate) fn fields(&self) -> String {
        match &self.available {
            None => "none (response is not a map/object)".to_owned(),
            Some(fields) if fields.is_empty() => "none".to_owned(),
            Some(fields) => fields.join(", "),
        }
    }
}

/// The value of `expression`.
pub(crate) fn evaluate(expression: &Expression, names: &dyn Names, place: Place) -> Evaluated {
    let truth = |value: bool| Evaluated::Present(Value::Bool(value));
    match expression {
        Expression::Literal(value) => Evaluated::Present(value.clone()),
        Expression::Text(template) => match template.text(names) {
            Ok(text) => Evaluated::Present(Value::String(text)),
            Err(missing) => Evaluated::Missing(missing),
        },
        Expression::Path(path) => names.find(path, place),
        Expression::Optional(inner) => match evaluate(inner, names, place) {
            Evaluated::Missing(_) => Evaluated::Present(Value::Null),
            Evaluated::Present(value) => Evaluated::Present(value),
        },
        Expression::Coalesce(parts) => {
            let mut last = Evaluated::Missing(Missing::default());
            for part in parts {
                last = evaluate(part, names, place);
                if matches!(last, Evaluated::Present(_)) {
                    break;
                }
            }
            last
        }
        Expression::Equal { negated, left, right } => {
            // Missing equals null and nothing else (YC-3).
            let left = evaluate(left, names, place).present().unwrap_or(Value::Null);
            let right = evaluate(right, names, place).present().unwrap_or(Value::Null);
            truth(equal(&left, &right) != *negated)
        }
        Expression::Exists { negated, of } => {
            truth(evaluate(of, names, place).present().is_some() != *negated)
        }
        Expression::Not(inner) => truth(!holds(inner, names, place)),
        Expression::And(parts) => truth(parts.iter().all(|part| holds(part, names, place))),
        Expression::Or(parts) => truth(parts.iter().any(|part| holds(part, names, place))),
    }
}

/// Whether `expression` is true; what is missing is false.
pub(crate) fn holds(expression: &Expression, names: &dyn Names, place: Place) -> bool {
    evaluate(expression, names, place).present().is_some_and(|value| is_true(&value))
}

/// Truthiness (YT-7): 0 is true.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Structural equality; 1 equals 1.0 (YT-6).
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || left.as_f64() == right.as_f64()
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, value)| right.get(key).is_some_and(|other| equal(value, other)))
        }
        _ => left == right,
    }
}

/// Follows `segments` into `value`.
///
/// # Errors
///
/// The fields of the value at which the way ends.
pub(crate) fn walk<'v>(
    mut value: std::borrow::Cow<'v, Value>,
    segments: &[Segment],
) -> Result<std::borrow::Cow<'v, Value>, Option<Vec<String>>> {
    use std::borrow::Cow;
    for segment in segments {
        let next = match &value {
            Cow::Borrowed(value) => enter(value, segment).map(Cow::Borrowed),
            Cow::Owned(value) => enter(value, segment).cloned().map(Cow::Owned),
        };
        value = match next {
            Some(next) => next,
            None => match (length(&value), segment.field()) {
                (Some(length), Some(("length", _))) => Cow::Owned(Value::from(length)),
                _ => return Err(fields(&value)),
            },
        };
    }
    Ok(value)
}

fn enter<'v>(value: &'v Value, segment: &Segment) -> Option<&'v Value> {
    let place = match segment {
        Segment::Field { name, .. } => match value {
            Value::Object(map) => return map.get(name),
            Value::Array(_) => name.parse().ok()?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
        },
        Segment::Index { place, .. } => *place,
    };
    let items = value.as_array()?;
    let index = if place < 0 { i64::try_from(items.len()).ok()? + place } else { place };
    items.get(usize::try_from(index).ok()?)
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => Some(text.chars().count()),
        Value::Array(items) => Some(items.len()),
        Value::Object(map) => Some(map.len()),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// The keys of an object, in its order.
pub(crate) fn fields(value: &Value) -> Option<Vec<String>> {
    value.as_object().map(|map| map.keys().cloned().collect())
}
