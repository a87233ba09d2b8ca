//! Conditions in all their forms (YC-1), kept with what was written.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use super::{
    Expression, Names, Path, Place, Segment, Standing, Stop, SyntaxError, holds,
    parser::parse_condition,
};

/// A condition and the text that tells about it when it is not met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Condition {
    /// The text as written; lists and maps as compact JSON.
    pub(crate) shown: String,
    pub(crate) form: ConditionForm,
}

/// The forms of a condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ConditionForm {
    Constant(bool),
    Expression(ConditionText),
    All(Vec<ConditionForm>),
    Any(Vec<ConditionForm>),
    Not(Box<ConditionForm>),
}

/// An expression with the text it was read from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConditionText {
    source: String,
    pub(crate) expression: Expression,
}

impl ConditionText {
    /// Parses `source`.
    ///
    /// # Errors
    ///
    /// The first fault.
    pub(crate) fn parse(source: &str) -> Result<Self, SyntaxError> {
        Ok(Self { source: source.to_owned(), expression: parse_condition(source)? })
    }
}

impl Serialize for ConditionText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for ConditionText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = String::deserialize(deserializer)?;
        Self::parse(&source).map_err(|error| D::Error::custom(error.message))
    }
}

impl Condition {
    /// Whether it is met.
    ///
    /// # Errors
    ///
    /// When it stays undecided, or fails.
    pub(crate) fn is_met(&self, names: &dyn Names) -> Result<bool, Stop> {
        self.form.is_met(names)
    }

    /// The paths in it that lead nowhere, and say nothing themselves of what stands for that.
    pub(crate) fn missing(&self, names: &dyn Names) -> Vec<String> {
        let mut found = Vec::new();
        self.form.standing_paths(&mut |path, standing| {
            let asks = standing.guarded || standing.element;
            if !asks
                && path.segments.iter().all(Segment::is_definite)
                && let Err(missing) = names.find(path, Place::Condition)
                && !found.contains(&missing.path)
            {
                found.push(missing.path);
            }
        });
        found
    }

    /// Calls `see` with every path in it.
    pub(crate) fn paths<'e>(&'e self, see: &mut dyn FnMut(&'e Path)) {
        self.form.paths(see);
    }

    /// The text of a written condition (YC-6).
    pub(crate) fn shown(written: &Value) -> String {
        written.as_str().map_or_else(|| written.to_string(), str::to_owned)
    }
}

impl ConditionForm {
    fn paths<'e>(&'e self, see: &mut dyn FnMut(&'e Path)) {
        self.standing_paths(&mut |path, _| see(path));
    }

    fn standing_paths<'e>(&'e self, see: &mut dyn FnMut(&'e Path, Standing)) {
        match self {
            Self::Constant(_) => (),
            Self::Expression(text) => text.expression.paths(Standing::default(), see),
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.standing_paths(see));
            }
            Self::Not(part) => part.standing_paths(see),
        }
    }

    fn is_met(&self, names: &dyn Names) -> Result<bool, Stop> {
        match self {
            Self::Constant(value) => Ok(*value),
            Self::Expression(text) => holds(&text.expression, names),
            Self::All(parts) => joined(parts, names, true),
            Self::Any(parts) => joined(parts, names, false),
            Self::Not(part) => part.is_met(names).map(|met| !met),
        }
    }
}

/// All of `parts`, or any of them, by Kleene's logic.
fn joined(parts: &[ConditionForm], names: &dyn Names, all: bool) -> Result<bool, Stop> {
    let mut open = None;
    for part in parts {
        match part.is_met(names) {
            Ok(met) if met != all => return Ok(met),
            Ok(_) => (),
            Err(stop @ (Stop::Missing(_) | Stop::Undecided(_))) => open = open.or(Some(stop)),
            Err(fault) => return Err(fault),
        }
    }
    match open {
        Some(stop) => Err(stop),
        None => Ok(all),
    }
}
