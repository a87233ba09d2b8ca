//! Arithmetic.

use std::cmp::Ordering;

use serde_json::Value;

use super::{
    super::{
        syntax::Arithmetic,
        value::{Num, Trouble, calculate, number, overflow},
    },
    Function, Outcome,
    Takes::{Any, Number},
    Work, unfit,
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("add", &[Any, Any], Work::Values(|v| calculate(v[0], Arithmetic::Add, v[1]))),
    Function::new(
        "subtract",
        &[Any, Any],
        Work::Values(|v| calculate(v[0], Arithmetic::Subtract, v[1])),
    ),
    Function::new(
        "multiply",
        &[Number, Number],
        Work::Values(|v| calculate(v[0], Arithmetic::Multiply, v[1])),
    ),
    Function::new(
        "divide",
        &[Number, Number],
        Work::Values(|v| calculate(v[0], Arithmetic::Divide, v[1])),
    ),
    Function::new("min", &[Any], Work::Values(|v| Ok(extreme(v, Ordering::Less))))
        .required(0)
        .many(),
    Function::new("max", &[Any], Work::Values(|v| Ok(extreme(v, Ordering::Greater))))
        .required(0)
        .many(),
    Function::new("sum", &[Any], Work::Values(|v| sum(&numbers(v)))).required(0).many(),
    Function::new("average", &[Any], Work::Values(average)).required(0).many(),
    Function::new("abs", &[Number], Work::Values(|v| each(v[0], "abs", abs))),
    Function::new("round", &[Number, Number], Work::Values(round)).required(1),
    Function::new(
        "floor",
        &[Number],
        Work::Values(|v| each(v[0], "floor", |n| real(n, f64::floor))),
    ),
    Function::new("ceil", &[Number], Work::Values(|v| each(v[0], "ceil", |n| real(n, f64::ceil)))),
    Function::new("sqrt", &[Number], Work::Values(sqrt)),
    Function::new("pow", &[Number, Number], Work::Values(pow)),
    Function::new("between", &[Any, Any, Any], Work::Between),
];

/// The number in `value`: null gives null, anything else that is no number a warning.
fn each(value: &Value, name: &str, apply: impl Fn(Num) -> Num) -> Outcome {
    if value.is_null() {
        return Ok(Value::Null);
    }
    apply(number(value).ok_or_else(|| unfit(name, value))?).value()
}

/// All numbers among `values`, or in the list that is the only one of them.
fn numbers(values: &[&Value]) -> Vec<Num> {
    match values {
        [Value::Array(items)] => items.iter().filter_map(number).collect(),
        _ => values.iter().filter_map(|value| number(value)).collect(),
    }
}

fn extreme(values: &[&Value], wanted: Ordering) -> Value {
    let found = numbers(values)
        .into_iter()
        .reduce(|best, next| if next.order(best) == wanted { next } else { best });
    found.and_then(|found| found.value().ok()).unwrap_or(Value::Null)
}

fn sum(numbers: &[Num]) -> Outcome {
    numbers
        .iter()
        .try_fold(Value::from(0), |sum, next| calculate(&sum, Arithmetic::Add, &next.value()?))
}

fn average(values: &[&Value]) -> Outcome {
    let numbers = numbers(values);
    if numbers.is_empty() {
        return Ok(Value::from(0));
    }
    calculate(&sum(&numbers)?, Arithmetic::Divide, &Value::from(numbers.len()))
}

fn abs(number: Num) -> Num {
    match number {
        Num::Whole(whole) => whole.checked_abs().map_or(Num::Real(number.real().abs()), Num::Whole),
        Num::Real(real) => Num::Real(real.abs()),
    }
}

fn real(number: Num, apply: fn(f64) -> f64) -> Num {
    match number {
        Num::Whole(_) => number,
        Num::Real(real) => Num::settled(apply(real)),
    }
}

/// Half away from zero; to so many digits behind the point.
fn round(values: &[&Value]) -> Outcome {
    let digits = values.get(1).and_then(|digits| number(digits)).map_or(0, Num::truncated);
    let digits = i32::try_from(digits.clamp(-300, 300)).unwrap_or(0);
    each(values[0], "round", |number| match number {
        Num::Whole(_) if digits >= 0 => number,
        Num::Whole(_) | Num::Real(_) if digits == 0 => Num::settled(number.real().round()),
        Num::Whole(_) | Num::Real(_) => {
            let factor = 10_f64.powi(digits);
            let rounded = (number.real() * factor).round() / factor;
            let kept = if rounded.is_finite() { rounded } else { number.real() };
            if digits < 0 { Num::settled(kept) } else { Num::Real(kept) }
        }
    })
}

fn sqrt(values: &[&Value]) -> Outcome {
    match number(values[0]) {
        Some(number) if number.real() < 0.0 => {
            Err(Trouble::Null("`sqrt` of a negative number: the result is null".to_owned()))
        }
        _ => each(values[0], "sqrt", |number| Num::settled(number.real().sqrt())),
    }
}

fn pow(values: &[&Value]) -> Outcome {
    if values.iter().any(|value| value.is_null()) {
        return Ok(Value::Null);
    }
    let base = number(values[0]).ok_or_else(|| unfit("pow", values[0]))?;
    let exponent = number(values[1]).ok_or_else(|| unfit("pow", values[1]))?;
    if let (Num::Whole(base), Num::Whole(exponent)) = (base, exponent)
        && let Some(whole) = u32::try_from(exponent).ok().and_then(|e| base.checked_pow(e))
    {
        return Ok(whole.into());
    }
    let power = base.real().powf(exponent.real());
    if power.is_nan() {
        return Err(Trouble::Null("`pow` has no result here: it is null".to_owned()));
    }
    if power.is_infinite() {
        return Err(overflow());
    }
    Num::Real(power).value()
}
