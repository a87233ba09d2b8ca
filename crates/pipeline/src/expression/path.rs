//! Ways into values: fields, indices, and JSONPath (YT-10, YX-5).

use std::borrow::Cow;

use serde_json::Value;
use serde_json_path::JsonPath;

use super::{Segment, SyntaxError, parser::parse_path};
use crate::{diagnostic::Code, source::Extent};

/// A path in a text of its own, such as `extract` has.
#[derive(Clone, Debug)]
pub(crate) enum TextPath {
    /// Fields and indices: leads to one value.
    Definite(Vec<Segment>),
    /// Wildcards, filters, descendants: leads to a list.
    Query(Box<JsonPath>),
}

impl TextPath {
    /// Reads `text`: dotted, or a JSONPath when it begins with `$`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where.
    pub(crate) fn parse(text: &str) -> Result<Self, SyntaxError> {
        let whole = Extent::new(0, text.len());
        let trimmed = text.trim();
        let parsed = parse_path(text);
        if trimmed.starts_with('$') {
            if let Ok(segments) = &parsed
                && segments.iter().all(Segment::is_definite)
            {
                return Ok(Self::Definite(segments.clone()));
            }
            return JsonPath::parse(trimmed).map(|path| Self::Query(Box::new(path))).map_err(
                |error| {
                    let at = whole.start + error.position();
                    let at = at + text.len() - text.trim_start().len();
                    let end = text[at.min(text.len())..].chars().next().map_or(0, char::len_utf8);
                    let extent = Extent::new(at.min(text.len()), at.min(text.len()) + end);
                    let text = format!("not a JSONPath: {}", error.message());
                    SyntaxError::coded(Code(410), text, extent)
                },
            );
        }
        let segments = parsed?;
        if segments.iter().all(Segment::is_definite) {
            return Ok(Self::Definite(segments));
        }
        // Dotted paths with wildcards are JSONPaths without their root.
        let dotted = if trimmed.starts_with('[') { "$" } else { "$." };
        JsonPath::parse(&format!("{dotted}{trimmed}"))
            .map(|path| Self::Query(Box::new(path)))
            .map_err(|error| {
                let text = format!("not a path: {}", error.message());
                SyntaxError::new(text, whole).hint("write it as a JSONPath, `$.a[*].b`")
            })
    }
}

/// All that `query` finds in `value`.
pub(crate) fn query(query: &JsonPath, value: &Value) -> Value {
    query.query(value).all().into_iter().cloned().collect()
}

/// Follows `segments`, which are definite, into `value`.
///
/// # Errors
///
/// The fields of the value at which the way ends.
pub(crate) fn walk<'v>(
    mut value: Cow<'v, Value>,
    segments: &[Segment],
) -> Result<Cow<'v, Value>, Option<Vec<String>>> {
    for segment in segments {
        value = step(value, segment)?;
    }
    Ok(value)
}

/// One step into `value`.
///
/// # Errors
///
/// Its fields.
pub(super) fn step<'v>(
    value: Cow<'v, Value>,
    segment: &Segment,
) -> Result<Cow<'v, Value>, Option<Vec<String>>> {
    let next = match &value {
        Cow::Borrowed(value) => enter(value, segment).map(Cow::Borrowed),
        Cow::Owned(value) => enter(value, segment).cloned().map(Cow::Owned),
    };
    match next {
        Some(next) => Ok(next),
        None => match (length(&value), segment.field()) {
            (Some(length), Some(("length", _))) => Ok(Cow::Owned(Value::from(length))),
            _ => Err(fields(&value)),
        },
    }
}

fn enter<'v>(value: &'v Value, segment: &Segment) -> Option<&'v Value> {
    let place = match segment {
        Segment::Field { name, .. } => match value {
            Value::Object(map) => return map.get(name),
            Value::Array(_) => name.parse().ok()?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
        },
        Segment::Index { place, .. } => *place,
        Segment::All | Segment::Filter(_) | Segment::Computed(_) => return None,
    };
    let items = value.as_array()?;
    let index = if place < 0 { i64::try_from(items.len()).ok()? + place } else { place };
    items.get(usize::try_from(index).ok()?)
}

/// Characters, elements or keys.
pub(super) fn length(value: &Value) -> Option<usize> {
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
