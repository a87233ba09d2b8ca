//! How much work a schema makes of a value, before the value is held against it.
//!
//! References let a schema of thirty lines ask the same question a thousand million times, or lead
//! through more of them than a stack has room for. Nothing could interrupt the validator then, neither a
//! deadline nor a signal (YR-18); so the work is counted first.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::faults::target;

/// Most pairs of a schema and a value that are held against each other.
const PAIRS_MAX: u64 = 20_000_000;
/// Most of them inside of each other.
const DEPTH_MAX: usize = 1_000;

/// Keywords with a schema of the same value.
const SAME: [&str; 4] = ["not", "if", "then", "else"];
/// Keywords with several of them.
const SAME_LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Keywords with a schema of each part of a value that no other of its keywords is about.
const OTHERS: [&str; 3] = ["additionalProperties", "propertyNames", "unevaluatedProperties"];
const UNEVALUATED: [&str; 2] = ["unevaluatedProperties", "unevaluatedItems"];

/// Why a value is not held against its schema.
pub(super) const TOO_MUCH: &str = "Checking this against its schema takes too much: more than 20,000,000 comparisons, or more than \
     1,000 inside of each other";

/// Whether holding `value` against `schema` takes more than is done for one value.
pub(super) fn is_too_much(schema: &Value, value: &Value) -> bool {
    let mut effort =
        Effort { root: schema, names: HashMap::new(), known: HashMap::new(), left: PAIRS_MAX };
    effort.learn(schema);
    effort.of(schema, value, 0).is_none_or(|work| work.pairs > PAIRS_MAX)
}

/// What a schema makes of a value.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    pairs: u64,
    /// How many of them are inside of each other.
    height: usize,
}

impl Work {
    fn add(&mut self, inner: Self) {
        self.pairs = self.pairs.saturating_add(inner.pairs);
        self.height = self.height.max(inner.height + 1);
    }
}

/// A count that goes on.
struct Effort<'s> {
    root: &'s Value,
    /// Schemas that have a name of their own.
    names: HashMap<&'s str, &'s Value>,
    /// What schemas that are referred to make of values; nothing while that is being found out, as
    /// a circle is gone through once.
    known: HashMap<(*const Value, *const Value), Work>,
    /// Pairs that may still be looked at.
    left: u64,
}

impl<'s> Effort<'s> {
    fn learn(&mut self, schema: &'s Value) {
        match schema {
            Value::Object(fields) => {
                for name in ["$id", "$anchor", "$dynamicAnchor"] {
                    if let Some(text) = fields.get(name).and_then(Value::as_str) {
                        self.names.entry(text).or_insert(schema);
                    }
                }
                fields.values().for_each(|inner| self.learn(inner));
            }
            Value::Array(items) => items.iter().for_each(|inner| self.learn(inner)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
        }
    }

    /// What `schema`, inside of `depth` others, makes of `value`; nothing when it is too much.
    fn of(&mut self, schema: &'s Value, value: &'s Value, depth: usize) -> Option<Work> {
        self.left = self.left.checked_sub(1)?;
        let mut work = Work { pairs: 1, height: 0 };
        let Some(keywords) = schema.as_object() else { return Some(work) };
        if depth > DEPTH_MAX {
            return None;
        }
        let listed = keywords.get("enum").and_then(Value::as_array).map_or(0, Vec::len);
        work.pairs = work.pairs.saturating_add(listed as u64);
        for name in ["$ref", "$dynamicRef"] {
            if let Some(Value::String(reference)) = keywords.get(name) {
                work.add(self.referred(reference, value, depth + 1)?);
            }
        }
        let lists = SAME_LISTS.iter().filter_map(|name| keywords.get(*name)?.as_array()).flatten();
        let dependent = keywords.get("dependentSchemas").and_then(Value::as_object);
        let dependent = dependent.into_iter().flat_map(Map::values);
        let single = SAME.iter().filter_map(|name| keywords.get(*name));
        for inner in single.chain(lists).chain(dependent) {
            work.add(self.of(inner, value, depth + 1)?);
        }
        if UNEVALUATED.iter().any(|name| keywords.contains_key(*name)) {
            // What the others are about is found by asking them once more.
            work.pairs = work.pairs.saturating_mul(2);
        }
        for (inner, part) in parts(keywords, value) {
            work.add(self.of(inner, part, depth + 1)?);
        }
        Some(work)
    }

    fn referred(&mut self, reference: &str, value: &'s Value, depth: usize) -> Option<Work> {
        let name = reference.strip_prefix('#').unwrap_or(reference);
        let named = self.names.get(name).or_else(|| self.names.get(reference)).copied();
        let Some(schema) = named.or_else(|| target(self.root, reference)) else {
            return Some(Work::default());
        };
        let pair = (std::ptr::from_ref(schema), std::ptr::from_ref(value));
        if let Some(known) = self.known.get(&pair) {
            return (depth + known.height <= DEPTH_MAX).then_some(*known);
        }
        self.known.insert(pair, Work::default());
        let work = self.of(schema, value, depth)?;
        self.known.insert(pair, work);
        Some(work)
    }
}

/// Parts of `value`, each with a schema that may be about it.
fn parts<'s>(
    keywords: &'s Map<String, Value>,
    value: &'s Value,
) -> Box<dyn Iterator<Item = (&'s Value, &'s Value)> + 's> {
    match value {
        Value::Object(fields) => {
            let properties = keywords.get("properties").and_then(Value::as_object);
            let patterns = keywords.get("patternProperties").and_then(Value::as_object);
            Box::new(fields.iter().flat_map(move |(name, part)| {
                let own = properties.and_then(|properties| properties.get(name));
                let matching = patterns.into_iter().flat_map(Map::values);
                let others = OTHERS.iter().filter(move |_| own.is_none());
                let others = others.filter_map(|name| keywords.get(*name));
                own.into_iter().chain(matching).chain(others).map(move |schema| (schema, part))
            }))
        }
        Value::Array(items) => {
            let first = keywords.get("prefixItems").and_then(Value::as_array);
            Box::new(items.iter().enumerate().flat_map(move |(place, part)| {
                let own =
                    first.and_then(|first| first.get(place)).or_else(|| keywords.get("items"));
                let others = ["contains", "unevaluatedItems"].into_iter();
                let others = others.filter_map(|name| keywords.get(name));
                own.into_iter().chain(others).map(move |schema| (schema, part))
            }))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            Box::new(std::iter::empty())
        }
    }
}
