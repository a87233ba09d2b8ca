//! Comparisons: what is asked of two or three values (YC-7).

use std::{borrow::Cow, cmp::Ordering};

use serde_json::Value;

use super::{
    super::{
        Expression,
        pattern::Pattern,
        syntax::{Comparison, Test},
        value::{equal, order},
    },
    Evaluator, Stop,
    elements::Frame,
    meter, undecided,
};

impl Evaluator<'_> {
    pub(super) fn compared<'v>(
        &'v self,
        compared: &'v Comparison,
        at: Option<&'v Frame<'v>>,
    ) -> Result<bool, Stop> {
        let side = |expression| match self.value(expression, at) {
            // Missing equals null and nothing else (YC-3).
            Err(Stop::Missing(_)) if compared.test == Test::Equal => Ok(Cow::Owned(Value::Null)),
            found => found.map_err(undecided),
        };
        let (left, right) = (side(&compared.left)?, side(&compared.right)?);
        let held = self.test(compared.test, &left, &right, compared.pattern.as_ref())?;
        Ok(held != compared.negated)
    }

    pub(super) fn test(
        &self,
        test: Test,
        left: &Value,
        right: &Value,
        pattern: Option<&Pattern>,
    ) -> Result<bool, Stop> {
        let ordered = |wanted: fn(Ordering) -> bool| order(left, right).is_some_and(wanted);
        let texts = |asked: fn(&str, &str) -> bool| match (left, right) {
            (Value::String(left), Value::String(right)) => asked(left, right),
            _ => false,
        };
        Ok(match test {
            Test::Equal => equal(left, right),
            Test::Less => ordered(Ordering::is_lt),
            Test::LessOrEqual => ordered(Ordering::is_le),
            Test::Greater => ordered(Ordering::is_gt),
            Test::GreaterOrEqual => ordered(Ordering::is_ge),
            Test::Contains => contains(left, right),
            Test::In => contains(right, left),
            Test::StartsWith => texts(|left, right| left.starts_with(right)),
            Test::EndsWith => texts(|left, right| left.ends_with(right)),
            Test::Matches => return self.matches(left, right, pattern),
        })
    }

    fn matches(
        &self,
        text: &Value,
        source: &Value,
        pattern: Option<&Pattern>,
    ) -> Result<bool, Stop> {
        let (Value::String(text), Value::String(source)) = (text, source) else { return Ok(false) };
        let computed;
        let pattern = match pattern {
            Some(pattern) => pattern,
            None => match Pattern::new(source) {
                Ok(pattern) => {
                    computed = pattern;
                    &computed
                }
                Err(fault) => {
                    let text = format!("the computed regular expression is invalid: {fault}");
                    self.names.warn(text);
                    return Ok(false);
                }
            },
        };
        pattern.is_in(text).map_err(|_| {
            meter::limit("a regular expression takes more than 1,000,000 steps".to_owned())
        })
    }

    pub(super) fn between<'v>(
        &'v self,
        value: &'v Expression,
        low: &'v Expression,
        high: &'v Expression,
        at: Option<&'v Frame<'v>>,
    ) -> Result<bool, Stop> {
        let value = self.operand(value, at)?;
        let (low, high) = (self.operand(low, at)?, self.operand(high, at)?);
        Ok(is_between(&value, &low, &high))
    }
}

pub(super) fn is_between(value: &Value, low: &Value, high: &Value) -> bool {
    order(low, value).is_some_and(Ordering::is_le)
        && order(value, high).is_some_and(Ordering::is_le)
}

/// A part of a text, an element of a list, or a key of an object (YC-7).
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::String(whole), Value::String(part)) => whole.contains(part.as_str()),
        (Value::Array(items), part) => items.iter().any(|item| equal(item, part)),
        (Value::Object(map), Value::String(key)) => map.contains_key(key),
        _ => false,
    }
}
