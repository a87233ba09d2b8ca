//! Values: truth, equality, order and arithmetic (YT-4 to YT-8).

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::{instant::Instant, syntax::Arithmetic, text::to_text};

/// A number as the language counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Num {
    Whole(i64),
    Real(f64),
}

/// Why an operation has no value of its own.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Trouble {
    /// The result is null, with this warning.
    Null(String),
    /// The result is another value, with this warning.
    Instead(Value, String),
    /// The path that leads nowhere.
    Missing(String),
    /// The evaluation ends.
    Fault(Fault),
}

/// An evaluation that ended: its code and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

pub(super) fn overflow() -> Trouble {
    let message = "the result of the arithmetic is too large for a number".to_owned();
    Trouble::Fault(Fault { code: "PL604", message })
}

pub(super) fn too_large(what: &str) -> Trouble {
    Trouble::Fault(Fault { code: "PL606", message: format!("the expression builds {what}") })
}

impl Num {
    pub(super) fn of_number(number: &Number) -> Self {
        match number.as_i64() {
            Some(whole) => Self::Whole(whole),
            None => Self::Real(number.as_f64().unwrap_or(0.0)),
        }
    }

    pub(super) fn real(self) -> f64 {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "the language counts on in f64")]
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }

    /// # Errors
    ///
    /// When it is not finite.
    pub(super) fn value(self) -> Result<Value, Trouble> {
        match self {
            Self::Whole(whole) => Ok(whole.into()),
            Self::Real(real) => Number::from_f64(real).map(Value::Number).ok_or_else(overflow),
        }
    }

    /// Towards zero; beyond the range of integers, the nearest of them.
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, as promised")]
    pub(super) fn truncated(self) -> i64 {
        match self {
            Self::Whole(whole) => whole,
            Self::Real(real) => real.trunc() as i64,
        }
    }

    /// An integer, when `real` is one that fits.
    pub(super) fn settled(real: f64) -> Self {
        let fits = real.fract() == 0.0 && real.abs() < 9.007_199_254_740_992e15;
        if fits { Self::Whole(Self::Real(real).truncated()) } else { Self::Real(real) }
    }

    pub(super) fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) => left.cmp(&right),
            (Self::Whole(left), Self::Real(right)) => whole_to_real(left, right),
            (Self::Real(left), Self::Whole(right)) => whole_to_real(right, left).reverse(),
            (Self::Real(left), Self::Real(right)) => {
                left.partial_cmp(&right).unwrap_or(Ordering::Equal)
            }
        }
    }

    fn calculate(self, operator: Arithmetic, other: Self) -> Result<Value, Trouble> {
        let zero = |sign: &str| {
            let text = format!("`{sign}` by zero: the result is 0");
            Err(Trouble::Instead(Value::from(0), text))
        };
        if let (Self::Whole(left), Self::Whole(right)) = (self, other) {
            let exact = match operator {
                Arithmetic::Add => left.checked_add(right),
                Arithmetic::Subtract => left.checked_sub(right),
                Arithmetic::Multiply => left.checked_mul(right),
                Arithmetic::Divide if right == 0 => return zero("/"),
                Arithmetic::Divide if left.checked_rem(right) == Some(0) => left.checked_div(right),
                Arithmetic::Divide => None,
                Arithmetic::Remainder if right == 0 => return zero("%"),
                Arithmetic::Remainder => Some(left.wrapping_rem(right)),
            };
            if let Some(whole) = exact {
                return Ok(whole.into());
            }
        }
        let (left, right) = (self.real(), other.real());
        match operator {
            Arithmetic::Add => Self::Real(left + right).value(),
            Arithmetic::Subtract => Self::Real(left - right).value(),
            Arithmetic::Multiply => Self::Real(left * right).value(),
            Arithmetic::Divide if right == 0.0 => zero("/"),
            Arithmetic::Divide => Self::settled(left / right).value(),
            Arithmetic::Remainder => match other.truncated() {
                0 => zero("%"),
                by => Ok(self.truncated().wrapping_rem(by).into()),
            },
        }
    }
}

const TWO_TO_63: f64 = (1_u64 << 63) as f64;

fn whole_to_real(whole: i64, real: f64) -> Ordering {
    if real >= TWO_TO_63 {
        return Ordering::Less;
    }
    if real < -TWO_TO_63 {
        return Ordering::Greater;
    }
    let floor = real.floor();
    match whole.cmp(&Num::Real(floor).truncated()) {
        Ordering::Equal if real > floor => Ordering::Less,
        order @ (Ordering::Less | Ordering::Equal | Ordering::Greater) => order,
    }
}

/// Truthiness (YT-7): 0 is true.
pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Null, or without content (YC-7).
pub(super) fn is_empty(value: &Value) -> bool {
    !matches!(value, Value::Bool(_)) && !is_true(value)
}

/// Structural equality; 1 equals 1.0 (YT-6).
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right
                || (!(left.is_u64() && right.is_u64())
                    && Num::of_number(left).order(Num::of_number(right)) == Ordering::Equal)
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

/// The order of two numbers, two texts or two instants; none of any other pair (YT-6).
pub(super) fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            Some(Num::of_number(left).order(Num::of_number(right)))
        }
        (Value::String(left), Value::String(right)) => {
            match (Instant::parse(left), Instant::parse(right)) {
                (Some(left), Some(right)) => Some(left.cmp(&right)),
                _ => Some(left.cmp(right)),
            }
        }
        _ => None,
    }
}

/// The order of any two values, for sorting: first of types, then within the type.
pub(super) fn sort_order(left: &Value, right: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::Bool(_) => 1,
        Value::Null => 2,
        Value::Object(_) => 3,
        Value::Array(_) => 4,
        Value::String(_) => 5,
    };
    match (left, right) {
        (Value::Number(_), Value::Number(_)) => order(left, right).unwrap_or(Ordering::Equal),
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Array(left), Value::Array(right)) => left
            .iter()
            .zip(right)
            .map(|(left, right)| sort_order(left, right))
            .find(|order| *order != Ordering::Equal)
            .unwrap_or_else(|| left.len().cmp(&right.len())),
        _ => rank(left).cmp(&rank(right)),
    }
}

/// A number, or a text that is one (YT-5).
pub(super) fn number(value: &Value) -> Option<Num> {
    match value {
        Value::Number(number) => Some(Num::of_number(number)),
        Value::String(text) => numeric(text),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

pub(super) fn numeric(text: &str) -> Option<Num> {
    let text = text.trim();
    let plain = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    if !text.chars().all(plain) || !text.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    match text.parse::<i64>() {
        Ok(whole) => Some(Num::Whole(whole)),
        Err(_) => text.parse::<f64>().ok().filter(|real| real.is_finite()).map(Num::Real),
    }
}

/// `left operator right`.
pub(super) fn calculate(
    left: &Value,
    operator: Arithmetic,
    right: &Value,
) -> Result<Value, Trouble> {
    if left.is_null() || right.is_null() {
        return Ok(Value::Null);
    }
    if (left.is_number() || right.is_number())
        && let (Some(left), Some(right)) = (number(left), number(right))
    {
        return left.calculate(operator, right);
    }
    if let Some(moved) = instants(left, operator, right) {
        return moved;
    }
    if operator == Arithmetic::Add {
        if let (Value::Array(left), Value::Array(right)) = (left, right) {
            return Ok(Value::Array(left.iter().chain(right).cloned().collect()));
        }
        if left.is_string() || right.is_string() {
            return Ok(Value::String(to_text(left) + &to_text(right)));
        }
    }
    let sign = match operator {
        Arithmetic::Add => "+",
        Arithmetic::Subtract => "-",
        Arithmetic::Multiply => "*",
        Arithmetic::Divide => "/",
        Arithmetic::Remainder => "%",
    };
    let (left, right) = (type_of(left), type_of(right));
    Err(Trouble::Null(format!("`{sign}` of a {left} and a {right}: the result is null")))
}

/// `instant ± seconds`, `instant − instant` (YT-8).
fn instants(left: &Value, operator: Arithmetic, right: &Value) -> Option<Result<Value, Trouble>> {
    let forward = match operator {
        Arithmetic::Add => 1.0,
        Arithmetic::Subtract => -1.0,
        Arithmetic::Multiply | Arithmetic::Divide | Arithmetic::Remainder => return None,
    };
    let instant = |value: &Value| value.as_str().and_then(Instant::parse);
    match (instant(left), right) {
        (Some(from), Value::Number(by)) => {
            let by = Num::of_number(by).real() * forward;
            let moved = from.shifted(by).ok_or_else(overflow);
            Some(moved.map(|instant| Value::String(instant.to_text())))
        }
        (Some(later), Value::String(_)) if operator == Arithmetic::Subtract => {
            let earlier = instant(right)?;
            Some(Num::settled(later.seconds_since(earlier)).value())
        }
        _ => None,
    }
}

/// The type of a value, in the words of the language.
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

/// How much of an evaluation's volume a value takes: its bytes, roughly.
pub(super) fn weight(value: &Value) -> usize {
    const NODE: usize = 32;
    NODE + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + weight(value)).sum(),
    }
}
