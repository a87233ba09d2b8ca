//! Expressions as trees, every node with its place in the text it was read from.
//!
//! Chains of operators are flat: no tree is deeper than the brackets of its text.

use std::fmt;

use serde_json::Value;

use super::{
    Template, Variable,
    function::{Function, Work},
    pattern::Pattern,
};
use crate::{diagnostic::Code, source::Extent};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    Literal(Value),
    /// A quoted text with holes, in conditions.
    Text(Template),
    Path(Path),
    /// `${NAME}`.
    Variable(Box<Variable>),
    /// What follows a value that is no name: `(a ?? b).c`, `first(l)[0]`.
    Inside {
        of: Box<Expression>,
        segments: Vec<Segment>,
    },
    /// `path?`: null instead of a missing value.
    Optional(Box<Expression>),
    /// `a ?? b`: the first that is not missing.
    Coalesce(Vec<Expression>),
    /// `condition ? then : otherwise`.
    Choice(Box<[Expression; 3]>),
    Compare(Box<Comparison>),
    Between {
        negated: bool,
        parts: Box<[Expression; 3]>,
    },
    Exists {
        negated: bool,
        of: Box<Expression>,
    },
    Empty {
        negated: bool,
        of: Box<Expression>,
    },
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    /// `a + b - c`, `a * b / c`: from the left.
    Sum {
        first: Box<Expression>,
        rest: Vec<(Arithmetic, Expression)>,
    },
    Negative(Box<Expression>),
    Call(Call),
    /// `a | f | g(x)`.
    Piped {
        first: Box<Expression>,
        calls: Vec<Call>,
    },
    List(Vec<Expression>),
    Object(Vec<(String, Expression)>),
}

/// Two sides and what is asked of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) test: Test,
    pub(crate) negated: bool,
    pub(crate) left: Expression,
    pub(crate) right: Expression,
    /// The right side of `matches`, when it is literal.
    pub(crate) pattern: Option<Pattern>,
}

/// What a comparison asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
    In,
    Matches,
    StartsWith,
    EndsWith,
}

/// An operator on numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// A call of a function, or its use as a filter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) function: &'static Function,
    pub(crate) arguments: Vec<Argument>,
    /// A literal regular expression among the arguments.
    pub(crate) pattern: Option<Pattern>,
}

/// What stands between the brackets of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Argument {
    Value(Expression),
    Element(Element),
}

/// An expression about the elements of a list (YC-9).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Element {
    /// Names of the element and of its index.
    pub(crate) parameters: Vec<String>,
    pub(crate) body: Expression,
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
    Field {
        name: String,
        extent: Extent,
    },
    Index {
        place: i64,
        extent: Extent,
    },
    /// `[*]`.
    All,
    /// `[?(condition)]`.
    Filter(Box<Expression>),
    /// `[expression]`.
    Computed(Box<Expression>),
}

/// How a path is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// It may be missing without harm.
    pub(crate) guarded: bool,
    /// It stands in an expression about elements, where bare names are fields first.
    pub(crate) element: bool,
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
}

/// What a walk through an expression meets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'e> {
    Path(&'e Path),
    Call(&'e Call),
}

/// A visitor of paths as one of all parts.
pub(super) fn only_paths<'s, 'e>(
    see: &'s mut dyn FnMut(&'e Path, Standing),
) -> impl FnMut(Part<'e>, Standing) + 's {
    move |part, standing| {
        if let Part::Path(path) = part {
            see(path, standing);
        }
    }
}

impl Segment {
    /// The name of a field.
    pub(crate) fn field(&self) -> Option<(&str, Extent)> {
        match self {
            Self::Field { name, extent } => Some((name, *extent)),
            Self::Index { .. } | Self::All | Self::Filter(_) | Self::Computed(_) => None,
        }
    }

    /// Whether it leads to one place that is known without evaluating anything.
    pub(crate) fn is_definite(&self) -> bool {
        matches!(self, Self::Field { .. } | Self::Index { .. })
    }

    fn parts<'e>(&'e self, standing: Standing, see: &mut dyn FnMut(Part<'e>, Standing)) {
        match self {
            Self::Field { .. } | Self::Index { .. } | Self::All => (),
            Self::Filter(condition) => {
                condition.parts(Standing { element: true, ..standing }, see);
            }
            Self::Computed(inner) => inner.parts(standing, see),
        }
    }
}

impl Expression {
    /// Calls `see` with every path.
    pub(crate) fn paths<'e>(&'e self, standing: Standing, see: &mut dyn FnMut(&'e Path, Standing)) {
        self.parts(standing, &mut only_paths(see));
    }

    /// Calls `see` with every path and every call.
    pub(super) fn parts<'e>(&'e self, standing: Standing, see: &mut dyn FnMut(Part<'e>, Standing)) {
        let guarded = Standing { guarded: true, ..standing };
        match self {
            Self::Literal(_) => (),
            Self::Text(template) => template.parts(standing, see),
            Self::Path(path) => {
                see(Part::Path(path), standing);
                path.segments.iter().for_each(|segment| segment.parts(standing, see));
            }
            Self::Variable(variable) => variable.parts(standing, see),
            Self::Inside { of, segments } => {
                of.parts(standing, see);
                segments.iter().for_each(|segment| segment.parts(standing, see));
            }
            Self::Optional(inner)
            | Self::Exists { of: inner, .. }
            | Self::Empty { of: inner, .. } => {
                inner.parts(guarded, see);
            }
            Self::Coalesce(parts) => each_but_last_guarded(parts.iter(), standing, see),
            Self::Choice(parts) | Self::Between { parts, .. } => {
                parts.iter().for_each(|part| part.parts(standing, see));
            }
            Self::Compare(compared) => {
                compared.left.parts(standing, see);
                compared.right.parts(standing, see);
            }
            Self::And(parts) | Self::Or(parts) | Self::List(parts) => {
                parts.iter().for_each(|part| part.parts(standing, see));
            }
            Self::Not(inner) | Self::Negative(inner) => inner.parts(standing, see),
            Self::Sum { first, rest } => {
                first.parts(standing, see);
                rest.iter().for_each(|(_, part)| part.parts(standing, see));
            }
            Self::Call(call) => call.parts(true, standing, see),
            Self::Piped { first, calls } => {
                let catches = calls.iter().any(|call| call.function.bears_missing());
                first.parts(if catches { guarded } else { standing }, see);
                calls.iter().for_each(|call| call.parts(false, standing, see));
            }
            Self::Object(pairs) => pairs.iter().for_each(|(_, part)| part.parts(standing, see)),
        }
    }

    /// Whether it is the same whatever names mean, and whenever it is evaluated.
    pub(crate) fn is_constant(&self) -> bool {
        let mut constant = true;
        self.parts(Standing::default(), &mut |part, standing| {
            constant &= match part {
                Part::Path(_) => standing.element,
                Part::Call(call) => !matches!(call.function.work, Work::Now | Work::Uuid),
            };
        });
        constant
    }
}

fn each_but_last_guarded<'e>(
    parts: impl ExactSizeIterator<Item = &'e Expression>,
    standing: Standing,
    see: &mut dyn FnMut(Part<'e>, Standing),
) {
    let last = parts.len().saturating_sub(1);
    for (place, part) in parts.enumerate() {
        part.parts(Standing { guarded: standing.guarded || place < last, ..standing }, see);
    }
}

impl Variable {
    pub(super) fn parts<'e>(&'e self, standing: Standing, see: &mut dyn FnMut(Part<'e>, Standing)) {
        let guarded = standing.guarded || self.has_default();
        see(Part::Path(&self.path), Standing { guarded, ..standing });
    }
}

impl Call {
    /// `first`: whether the first argument stands between the brackets, and not before a `|`.
    pub(super) fn parts<'e>(
        &'e self,
        first: bool,
        standing: Standing,
        see: &mut dyn FnMut(Part<'e>, Standing),
    ) {
        see(Part::Call(self), standing);
        let catches = self.function.bears_missing();
        let last = self.arguments.len().saturating_sub(1);
        for (place, argument) in self.arguments.iter().enumerate() {
            match argument {
                Argument::Value(value) => {
                    let caught = catches && first && (place == 0 || place < last);
                    let guarded = standing.guarded || caught;
                    value.parts(Standing { guarded, ..standing }, see);
                }
                Argument::Element(element) => {
                    element.body.parts(Standing { element: true, ..standing }, see);
                }
            }
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
            Self::All => f.write_str("[*]"),
            Self::Filter(_) => f.write_str("[?(…)]"),
            Self::Computed(_) => f.write_str("[…]"),
        }
    }
}
