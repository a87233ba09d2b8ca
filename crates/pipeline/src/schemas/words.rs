//! From the errors of the validator to violations in the words of the language (YR-68).

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use serde_json::Value;

use super::{
    keyword::TYPE,
    violation::{PathStep, Violation, ViolationKind},
};
use crate::definition::type_of;

/// The violations that `errors` of `value` tell of, in the order of their paths, each once.
pub(super) fn violations<'e>(
    errors: impl IntoIterator<Item = ValidationError<'e>>,
    value: &Value,
) -> Vec<Violation> {
    let mut found = Vec::new();
    for error in errors {
        tell(&error, value, &mut found);
    }
    found.sort();
    found.dedup();
    found
}

/// What `error` says about `value`.
fn tell(error: &ValidationError<'_>, value: &Value, found: &mut Vec<Violation>) {
    let path = path_in(value, error.instance_path().as_str());
    let mut add = |kind: ViolationKind, message: String| {
        found.push(Violation { path: path.clone(), message, kind });
    };
    use ViolationKind::{Other, Range, Type};
    match error.kind() {
        Kind::Required { property } => {
            add(Other, format!("Required property '{}' is missing", bare(property)));
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            for name in unexpected {
                add(Other, format!("Additional property '{name}' is not allowed"));
            }
        }
        Kind::Custom { keyword, message } => {
            add(if keyword == TYPE { Type } else { Other }, message.clone());
        }
        Kind::Type { kind } => {
            let wanted = match kind {
                TypeKind::Single(one) => one.as_str().to_owned(),
                TypeKind::Multiple(several) => {
                    several.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(" or ")
                }
            };
            add(Type, format!("Expected {wanted}, got {}", type_of(error.instance())));
        }
        Kind::MinItems { limit } => add(Range, format!("Array must have at least {limit} items")),
        Kind::MaxItems { limit } => add(Range, format!("Array must have at most {limit} items")),
        Kind::AdditionalItems { limit } => {
            add(Range, format!("Array must have at most {limit} items"));
        }
        Kind::MinLength { limit } => {
            add(Range, format!("String must be at least {limit} characters long"));
        }
        Kind::MaxLength { limit } => {
            add(Range, format!("String must be at most {limit} characters long"));
        }
        Kind::Pattern { pattern } => {
            add(Other, format!("String does not match pattern: {pattern}"))
        }
        Kind::Enum { options } => {
            let all: Vec<String> = match options.as_ref() {
                Value::Array(options) => options.iter().map(bare).collect(),
                one @ (Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Object(_)) => vec![bare(one)],
            };
            add(Other, format!("Value must be one of: {}", all.join(", ")));
        }
        Kind::Constant { expected_value } => {
            add(Other, format!("Value must be one of: {}", bare(expected_value)));
        }
        Kind::Minimum { limit } => add(Range, format!("Value must be >= {limit}")),
        Kind::Maximum { limit } => add(Range, format!("Value must be <= {limit}")),
        Kind::ExclusiveMinimum { limit } => add(Range, format!("Value must be > {limit}")),
        Kind::ExclusiveMaximum { limit } => add(Range, format!("Value must be < {limit}")),
        Kind::MultipleOf { multiple_of } => {
            add(Range, format!("Value must be a multiple of {multiple_of}"));
        }
        Kind::MinProperties { limit } => {
            add(Range, format!("Object must have at least {limit} properties"));
        }
        Kind::MaxProperties { limit } => {
            add(Range, format!("Object must have at most {limit} properties"));
        }
        Kind::UniqueItems => add(Other, "Array must have no item twice".to_owned()),
        Kind::Contains => {
            add(Other, "Array has too few or too many items as in `contains`".to_owned())
        }
        Kind::UnevaluatedItems { .. } => {
            add(Other, "Array has items that are not allowed".to_owned());
        }
        Kind::Format { format } => add(Other, format!("String is no valid {format}")),
        Kind::FalseSchema => add(Other, "Value is not allowed".to_owned()),
        Kind::Not { .. } => add(Other, "Value must not be as in `not`".to_owned()),
        Kind::PropertyNames { error: inner } => {
            let mut inside = Vec::new();
            let name = inner.instance().as_str().unwrap_or_default().to_owned();
            tell(inner, inner.instance(), &mut inside);
            for violation in inside {
                add(Other, format!("Property name '{name}' is not allowed: {}", violation.message));
            }
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            match meant(context, error.instance_path().as_str()) {
                Some(branch) => branch.iter().for_each(|error| tell(error, value, found)),
                None => add(Other, "Value is none of what is allowed".to_owned()),
            }
        }
        Kind::OneOfMultipleValid { .. } => {
            add(Other, "Value is more than one of what `oneOf` allows".to_owned());
        }
        Kind::ContentEncoding { .. }
        | Kind::ContentMediaType { .. }
        | Kind::FromUtf8 { .. }
        | Kind::BacktrackLimitExceeded { .. }
        | Kind::RegexEngineFailure { .. }
        | Kind::Referencing(_) => add(Other, error.to_string()),
    }
}

/// The one branch of a choice that fits the value at `here` but for what is inside of it, else the one that allows
/// for its type: what is wrong there is what its author wants to know.
fn meant<'c>(
    branches: &'c [Vec<ValidationError<'static>>],
    here: &str,
) -> Option<&'c [ValidationError<'static>]> {
    let is_here = |error: &ValidationError<'_>| error.instance_path().as_str() == here;
    let of_other_type = |error: &ValidationError<'_>| {
        let is_type = matches!(error.kind(), Kind::Type { .. })
            || matches!(error.kind(), Kind::Custom { keyword, .. } if keyword == TYPE);
        is_type && is_here(error)
    };
    only(branches, |branch| !branch.iter().any(is_here))
        .or_else(|| only(branches, |branch| !branch.iter().any(of_other_type)))
}

/// The one branch that is as `fits` says, when it is one.
fn only<'c>(
    branches: &'c [Vec<ValidationError<'static>>],
    fits: impl Fn(&[ValidationError<'static>]) -> bool,
) -> Option<&'c [ValidationError<'static>]> {
    let mut fitting = branches.iter().filter(|branch| fits(branch));
    let first = fitting.next()?;
    fitting.next().is_none().then_some(first.as_slice())
}

/// A text without quotes, anything else as JSON.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The steps of the JSON pointer `pointer` into `value`.
pub(super) fn path_in(value: &Value, pointer: &str) -> Vec<PathStep> {
    let mut here = Some(value);
    let mut path = Vec::new();
    for token in pointer.split('/').skip(1) {
        let name = token.replace("~1", "/").replace("~0", "~");
        let index = here.filter(|value| value.is_array()).and_then(|_| name.parse().ok());
        path.push(match index {
            Some(index) => {
                here = here.and_then(|list| list.get(index));
                PathStep::Item(index)
            }
            None => {
                here = here.and_then(|map| map.get(&name));
                PathStep::Field(name)
            }
        });
    }
    path
}
