//! Expressions as trees, every node with its place in the text it was read from.

use std::fmt;

use serde_json::Value;

use super::Template;
use crate::{diagnostic::Code, source::Extent};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    Literal(Value),
    /// A quoted text with holes, in conditions.
    Text(Template),
    Path(Path),
    /// `path?`: null instead of a missing value.
    Optional(Box<Expression>),
    /// `a ?? b`, `a | default(b)`: the first that is not missing. Chains are flat, so that no
    /// expression is deeper than its brackets.
    Coalesce(Vec<Expression>),
    /// `left == right`, or `!=`.
    Equal {
        negated: bool,
        left: Box<Expression>,
        right: Box<Expression>,
    },
    Exists {
        negated: bool,
        of: Box<Expression>,
    },
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
}

/// A root or name, and what follows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Path {
    pub(crate) root: String,
    pub(crate) root_extent: Extent,
    pub(crate) segments: Vec<Segment>,
    pub(crate) extent: Extent,
}

/// One step into a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Segment {
    Field { name: String, extent: Extent },
    Index { place: i64, extent: Extent },
}

impl Segment {
    /// The name of a field.
    pub(crate) fn field(&self) -> Option<(&str, Extent)> {
        match self {
            Self::Field { name, extent } => Some((name, *extent)),
            Self::Index { .. } => None,
        }
    }
}

/// A fault in an expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SyntaxError {
    pub(crate) code: Option<Code>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) extent: Extent,
}

impl SyntaxError {
    /// A fault whose code depends on what surrounds the expression.
    pub(crate) fn new(message: impl Into<String>, extent: Extent) -> Self {
        Self { code: None, message: message.into(), hint: None, extent }
    }

    pub(crate) fn coded(code: Code, message: impl Into<String>, extent: Extent) -> Self {
        Self { code: Some(code), ..Self::new(message, extent) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn moved(mut self, by: usize) -> Self {
        self.extent.start += by;
        self.extent.end += by;
        self
    }
}

impl Expression {
    /// Calls `see` with every path; `guarded` paths may be missing without harm.
    pub(crate) fn paths<'e>(&'e self, guarded: bool, see: &mut dyn FnMut(&'e Path, bool)) {
        match self {
            Self::Literal(_) => (),
            Self::Text(template) => template.paths(guarded, see),
            Self::Path(path) => see(path, guarded),
            Self::Optional(inner) | Self::Exists { of: inner, .. } => inner.paths(true, see),
            Self::Coalesce(parts) => {
                for (place, part) in parts.iter().enumerate() {
                    part.paths(guarded || place + 1 < parts.len(), see);
                }
            }
            Self::Equal { left, right, .. } => {
                left.paths(guarded, see);
                right.paths(guarded, see);
            }
            Self::And(parts) | Self::Or(parts) => {
                parts.iter().for_each(|part| part.paths(guarded, see));
            }
            Self::Not(inner) => inner.paths(guarded, see),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.root)?;
        self.segments.iter().try_for_each(|segment| segment.fmt(f))
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_alphanumeric() || "_-".contains(c);
        match self {
            Self::Field { name, .. } if name.chars().all(plain) => write!(f, ".{name}"),
            Self::Field { name, .. } => write!(f, "[{name:?}]"),
            Self::Index { place, .. } => write!(f, "[{place}]"),
        }
    }
}
