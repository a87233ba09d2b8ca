//! What a plain scalar means in the core schema of YAML 1.2.

use serde_json::Number;

use super::node::Content;

/// A plain scalar, resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Plain {
    /// A value.
    Is(Content),
    /// An integer outside 64 bits, as the nearest float that is not equal to it.
    Inexact(Number),
    /// Not a number, or infinite.
    NotFinite,
}

/// Resolves the plain scalar `text`; `yes`, `no`, `on` and `off` are strings.
pub(crate) fn resolve(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Is(Content::Null),
        "true" | "True" | "TRUE" => return Plain::Is(Content::Bool(true)),
        "false" | "False" | "FALSE" => return Plain::Is(Content::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Plain::NotFinite,
        _ => (),
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Plain::NotFinite;
    }
    let radix = |digits: &str, base| {
        u64::from_str_radix(digits, base).ok().filter(|_| !digits.starts_with(['+', '-']))
    };
    for (prefix, base) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return match radix(digits, base) {
                Some(value) => Plain::Is(whole(value)),
                None => string(text),
            };
        }
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return integer(text);
    }
    if is_float(unsigned) {
        return match text.parse::<f64>().ok().and_then(Number::from_f64) {
            Some(number) => Plain::Is(Content::Number(number)),
            None => Plain::NotFinite,
        };
    }
    string(text)
}

/// Whether `text`, written without quotes, is surely read as this text.
pub(crate) fn is_plain_text(text: &str) -> bool {
    let safe = |c: char| c.is_alphanumeric() || " _-./@+,()".contains(c);
    let begins = text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_' || c == '/');
    let is_text = matches!(resolve(text), Plain::Is(Content::Text { .. }));
    begins && is_text && text.chars().all(safe) && !text.ends_with(' ')
}

fn string(text: &str) -> Plain {
    Plain::Is(Content::Text { value: text.to_owned(), block: false, escapes: false })
}

fn whole(value: u64) -> Content {
    match i64::try_from(value) {
        Ok(value) => Content::Number(value.into()),
        Err(_) => Content::Text { value: value.to_string(), block: false, escapes: false },
    }
}

fn integer(text: &str) -> Plain {
    if let Ok(value) = text.parse::<i64>() {
        return Plain::Is(Content::Number(value.into()));
    }
    let Some(number) = text.parse::<f64>().ok().and_then(Number::from_f64) else {
        return Plain::NotFinite;
    };
    let digits = text.trim_start_matches('+');
    let exact = number.as_f64().is_some_and(|value| format!("{value:.0}") == digits);
    if exact { Plain::Is(Content::Number(number)) } else { Plain::Inexact(number) }
}

fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some((left, right)) => {
            digits(left) && digits(right) && !(left.is_empty() && right.is_empty())
        }
        None => !mantissa.is_empty() && digits(mantissa),
    };
    let exponent_fits = exponent.is_none_or(|text| {
        let text = text.strip_prefix(['-', '+']).unwrap_or(text);
        !text.is_empty() && digits(text)
    });
    mantissa_fits && exponent_fits
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::source::{Extent, Node};

    fn value(text: &str) -> Value {
        match resolve(text) {
            Plain::Is(content) => Node::of(Extent::default(), content).to_value(),
            Plain::Inexact(number) => json!({ "inexact": number }),
            Plain::NotFinite => json!("not finite"),
        }
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (text, expected) in [
            ("yes", json!("yes")),
            ("no", json!("no")),
            ("on", json!("on")),
            ("True", json!(true)),
            ("~", Value::Null),
            ("", Value::Null),
            ("12", json!(12)),
            ("-012", json!(-12)),
            ("+7", json!(7)),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("0x", json!("0x")),
            ("0x-1", json!("0x-1")),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("1.", json!(1.0)),
            ("1e3", json!(1000.0)),
            ("1e", json!("1e")),
            (".", json!(".")),
            ("-", json!("-")),
            ("1_000", json!("1_000")),
            ("12:30", json!("12:30")),
            ("9223372036854775807", json!(9_223_372_036_854_775_807_i64)),
            ("9223372036854775808", json!(9_223_372_036_854_775_808.0)),
            ("9223372036854775809", json!({"inexact": 9_223_372_036_854_775_808.0})),
            (".inf", json!("not finite")),
            ("-.inf", json!("not finite")),
            (".nan", json!("not finite")),
            ("1e999", json!("not finite")),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }
}
