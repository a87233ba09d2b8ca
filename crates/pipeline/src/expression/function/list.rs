//! Lists.

use serde_json::Value;

use super::{
    super::value::{Num, equal, number, too_large},
    Function, Outcome, Over,
    Takes::{Any, Element, List, Number, Text},
    Work,
    text::place,
    unfit,
};

/// Most elements of a list that `range` makes.
const RANGE_MAX: i64 = 1_000_000;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("first", &[List], Work::Values(|v| end(v[0], "first", <[Value]>::first))),
    Function::new("last", &[List], Work::Values(|v| end(v[0], "last", <[Value]>::last))),
    Function::new("append", &[List, Any], Work::Values(append)),
    Function::new("concat", &[List], Work::Values(concat)).many(),
    Function::new("flatten", &[List, Number], Work::Values(flatten)).required(1),
    Function::new("unique", &[List], Work::Values(unique)),
    Function::new("reverse", &[Any], Work::Values(reverse)),
    Function::new("slice", &[List, Number, Number], Work::Values(slice)).required(2),
    Function::new("range", &[Number, Number], Work::Values(range)),
    Function::new("zip", &[List, List], Work::Values(zip)),
    Function::new("any", &[Any, Element], Work::Elements(Over::Any)),
    Function::new("all", &[Any, Element], Work::Elements(Over::All)),
    Function::new("count", &[Any, Element], Work::Elements(Over::Count)).required(1),
    Function::new("filter", &[List, Element], Work::Elements(Over::Filter)),
    Function::new("map", &[List, Element], Work::Elements(Over::Map)),
    Function::new("sort_by", &[List, Element, Text], Work::Elements(Over::SortBy)).required(2),
    Function::new("group_by", &[List, Element], Work::Elements(Over::GroupBy)),
];

fn items<'v>(value: &'v Value, name: &str) -> Result<&'v [Value], super::Trouble> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| unfit(name, value))
}

fn end(value: &Value, name: &str, which: fn(&[Value]) -> Option<&Value>) -> Outcome {
    Ok(which(items(value, name)?).cloned().unwrap_or(Value::Null))
}

fn append(values: &[&Value]) -> Outcome {
    let list = items(values[0], "append")?;
    Ok(list.iter().chain([values[1]]).cloned().collect())
}

fn concat(values: &[&Value]) -> Outcome {
    let mut all = Vec::new();
    for value in values {
        all.extend_from_slice(items(value, "concat")?);
    }
    Ok(Value::Array(all))
}

fn flatten(values: &[&Value]) -> Outcome {
    let depth = values.get(1).and_then(|depth| number(depth)).map_or(1, Num::truncated);
    let mut flat = Vec::new();
    spread(items(values[0], "flatten")?, depth, &mut flat);
    Ok(Value::Array(flat))
}

fn spread(list: &[Value], depth: i64, flat: &mut Vec<Value>) {
    for item in list {
        match item.as_array() {
            Some(inner) if depth > 0 => spread(inner, depth - 1, flat),
            Some(_) | None => flat.push(item.clone()),
        }
    }
}

/// First occurrences, in order. Equal values have equal canonical texts, numbers apart.
fn unique(values: &[&Value]) -> Outcome {
    let mut buckets: std::collections::HashMap<String, Vec<usize>> = Default::default();
    let list = items(values[0], "unique")?;
    let mut kept: Vec<Value> = Vec::new();
    for item in list {
        let bucket = buckets.entry(key(item)).or_default();
        if !bucket.iter().any(|place| equal(&kept[*place], item)) {
            bucket.push(kept.len());
            kept.push(item.clone());
        }
    }
    Ok(Value::Array(kept))
}

/// A text that equal values share.
fn key(value: &Value) -> String {
    match value {
        Value::Number(number) => format!("{:e}", Num::of_number(number).real() + 0.0),
        Value::Array(items) => format!("[{}", items.iter().map(key).collect::<Vec<_>>().join(",")),
        Value::Object(map) => format!("{{{}", map.len()),
        Value::Null | Value::Bool(_) | Value::String(_) => value.to_string(),
    }
}

fn reverse(values: &[&Value]) -> Outcome {
    match values[0].as_str() {
        Some(text) => Ok(text.chars().rev().collect::<String>().into()),
        None => Ok(items(values[0], "reverse")?.iter().rev().cloned().collect()),
    }
}

/// From a place to before another; negative ones count from the end.
fn slice(values: &[&Value]) -> Outcome {
    let list = items(values[0], "slice")?;
    let bound = |value: &Value| number(value).map(Num::truncated);
    let from = place(bound(values[1]).unwrap_or(0), list.len());
    let to = match values.get(2).and_then(|to| bound(to)) {
        Some(to) => place(to, list.len()),
        None => list.len(),
    };
    Ok(list.get(from..to).unwrap_or_default().to_vec().into())
}

/// Whole numbers from a to before b.
fn range(values: &[&Value]) -> Outcome {
    let bound =
        |value: &Value| number(value).map(Num::truncated).ok_or_else(|| unfit("range", value));
    let (from, to) = (bound(values[0])?, bound(values[1])?);
    if to.saturating_sub(from) > RANGE_MAX {
        return Err(too_large("a list of more than 1,000,000 elements"));
    }
    Ok((from..to).collect())
}

/// Pairs, as many as the shorter list has elements.
fn zip(values: &[&Value]) -> Outcome {
    let (left, right) = (items(values[0], "zip")?, items(values[1], "zip")?);
    Ok(left.iter().zip(right).map(|(l, r)| Value::Array(vec![l.clone(), r.clone()])).collect())
}
