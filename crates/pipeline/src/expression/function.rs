//! The functions of the language, and what they take (3.7).

mod format;
mod list;
mod listing;
mod number;
mod record;
mod text;
mod time;

pub use listing::{FunctionEntry, functions};
use serde_json::Value;

use super::{
    Expression,
    syntax::Test,
    value::{Trouble, numeric, type_of},
};
use crate::spelling;
pub use format::yaml_text;

/// A function.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    takes: &'static [Takes],
    required: usize,
    /// Whether the last argument may come any number of times.
    many: bool,
    pub(super) work: Work,
}

/// What an argument has to be, as far as it is seen at load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Any,
    Number,
    Text,
    Pattern,
    List,
    Object,
    /// An expression about the elements of a list.
    Element,
}

type Outcome = Result<Value, Trouble>;

/// How a function is applied.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// To values; without one of them it is undecided.
    Values(fn(&[&Value]) -> Outcome),
    /// To values, any of which may be missing.
    Bearing(fn(&[Option<&Value>]) -> Outcome),
    Elements(Over),
    Test(Test),
    Between,
    /// The first value that is not missing.
    FirstPresent,
    Uuid,
    /// The instant of the attempt.
    Now,
}

/// What is done with the elements of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Any,
    All,
    Count,
    Filter,
    Map,
    SortBy,
    GroupBy,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Function {
    const fn new(name: &'static str, takes: &'static [Takes], work: Work) -> Self {
        Self { name, takes, required: takes.len(), many: false, work }
    }

    const fn required(mut self, required: usize) -> Self {
        self.required = required;
        self
    }

    const fn many(mut self) -> Self {
        self.many = true;
        self
    }

    /// What the argument number `place` has to be.
    pub(super) fn takes(&self, place: usize) -> Takes {
        self.takes.get(place).or(self.takes.last()).copied().unwrap_or(Takes::Any)
    }

    /// What is wrong with `count` arguments.
    pub(super) fn miscounts(&self, count: usize) -> Option<String> {
        let most = self.takes.len();
        if count >= self.required && (self.many || count <= most) {
            return None;
        }
        let wanted = match (self.required, most) {
            (least, _) if self.many => format!("{least} or more arguments"),
            (0, 0) => "no argument".to_owned(),
            (least, most) if least == most => plural(most),
            (least, most) => format!("{least} to {most} arguments"),
        };
        Some(format!("`{}` takes {wanted}, got {count}", self.name))
    }

    /// Whether it answers for what is missing.
    pub(super) fn bears_missing(&self) -> bool {
        matches!(self.work, Work::FirstPresent)
    }
}

fn plural(count: usize) -> String {
    if count == 1 { "1 argument".to_owned() } else { format!("{count} arguments") }
}

impl Takes {
    /// What `value` visibly is, when that is impossible.
    pub(super) fn refuses(self, value: &Expression) -> Option<&'static str> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "what is no literal is not seen at load"
        )]
        let found = match value {
            Expression::Literal(Value::Null) => return None,
            Expression::Literal(value) => value,
            Expression::List(_) => &Value::Array(Vec::new()),
            Expression::Object(_) => &Value::Object(serde_json::Map::new()),
            _ => return None,
        };
        let fits = match self {
            Self::Any | Self::Element => true,
            Self::Number => match found {
                Value::Number(_) => true,
                Value::String(text) => numeric(text).is_some(),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
            },
            Self::Text | Self::Pattern => !found.is_array() && !found.is_object(),
            Self::List => found.is_array(),
            Self::Object => found.is_object(),
        };
        (!fits).then(|| match type_of(found) {
            "boolean" => "a boolean",
            "number" => "a number",
            "string" => "a string",
            "list" => "a list",
            _ => "a map",
        })
    }

    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Any => "any value",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Pattern => "a regular expression",
            Self::List => "a list",
            Self::Object => "a map",
            Self::Element => "an expression about elements",
        }
    }
}

/// The function `name`.
///
/// # Errors
///
/// The text and hint of its absence.
pub(super) fn find(name: &str) -> Result<&'static Function, (String, Option<String>)> {
    let canonical = match name {
        "startsWith" => "starts_with",
        "endsWith" => "ends_with",
        "toLowerCase" => "lower",
        "toUpperCase" => "upper",
        "isEmpty" => "is_empty",
        name => name,
    };
    if let Some(function) = all().find(|function| function.name == canonical) {
        return Ok(function);
    }
    let hint = spelling::did_you_mean(name, all().map(|function| function.name));
    Err((format!("Unknown function: {name}"), hint))
}

/// The named transform of a prompt part, which is no function of expressions.
pub(super) fn transform(name: &str) -> Option<&'static Function> {
    format::TRANSFORMS.iter().find(|transform| transform.name == name)
}

/// All functions.
pub(super) fn all() -> impl Iterator<Item = &'static Function> {
    [number::FUNCTIONS, text::FUNCTIONS, list::FUNCTIONS, record::FUNCTIONS, time::FUNCTIONS]
        .into_iter()
        .flatten()
}

/// An argument of a type for which there is no result.
fn unfit(function: &str, value: &Value) -> Trouble {
    Trouble::Null(format!("`{function}` of a {}: the result is null", type_of(value)))
}
