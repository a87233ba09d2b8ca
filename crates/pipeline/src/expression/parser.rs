//! The parser: one function per level of precedence, loosest first (YT-20).
//!
//! It looks at most a few tokens ahead and never goes back, so that the work is linear in the
//! length of the text.

mod call;
mod comparison;
mod operand;

use super::{
    Expression, Segment, SyntaxError,
    operator::unexpected,
    syntax::{Arithmetic, Call},
    token::{Lexer, Token},
};
use crate::{diagnostic::Code, source::Extent};
use serde_json::Value;

/// Longest expression, in bytes (YT-21).
const BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting (YT-21).
const DEPTH_MAX: usize = 64;
/// Stack that one level of nesting needs at most; a debug build takes a third of it.
const STACK_LEFT: usize = 128 * 1024;
/// Stack that is added where that is not left.
const STACK_MORE: usize = 1024 * 1024;

/// Parses a condition: one expression, in which holes may stand in quoted texts.
pub(crate) fn parse_condition(text: &str) -> Result<Expression, SyntaxError> {
    let mut parser = Parser::new(text, 0, Ground { condition: true, ..Ground::default() })?;
    parser.whole()
}

/// Parses a path without a root, as `extract` has it: `a.b[0]`, `$.a[0]`.
pub(crate) fn parse_path(text: &str) -> Result<Vec<Segment>, SyntaxError> {
    let trimmed = text.trim_start();
    let mut skipped = text.len() - trimmed.len();
    let mut whole = format!("_.{trimmed}");
    if let Some(rest) = trimmed.strip_prefix('$') {
        whole = format!("_{rest}");
        skipped += 1;
    } else if trimmed.starts_with('[') {
        whole = format!("_{trimmed}");
    }
    let added = whole.len() - (text.len() - skipped);
    let back = |extent: Extent| {
        Extent::new(
            (extent.start + skipped).saturating_sub(added),
            (extent.end + skipped).saturating_sub(added),
        )
    };
    match Parser::new(&whole, 0, Ground::default()).and_then(|mut parser| parser.whole()) {
        Ok(Expression::Path(path)) => Ok(path
            .segments
            .into_iter()
            .map(|segment| match segment {
                Segment::Field { name, extent } => Segment::Field { name, extent: back(extent) },
                Segment::Index { place, extent } => Segment::Index { place, extent: back(extent) },
                Segment::All | Segment::Filter(_) | Segment::Computed(_) => segment,
            })
            .collect()),
        Ok(_) => Err(SyntaxError::new("a path is needed here", Extent::new(0, text.len()))),
        Err(error) => Err(SyntaxError { extent: back(error.extent), ..error }),
    }
}

/// Parses filters without what stands before them: `trim | truncate(80)`.
pub(super) fn parse_filters(text: &str) -> Result<Vec<Call>, SyntaxError> {
    let mut parser = Parser::new(text, 0, Ground { transforms: true, ..Ground::default() })?;
    let mut calls = vec![parser.filter()?];
    while parser.take("|")? {
        calls.push(parser.filter()?);
    }
    if parser.token == Token::End { Ok(calls) } else { Err(parser.unexpected()) }
}

/// Parses the inside of a hole that begins at `start` of `text`; answers the expression and the
/// offset behind its `}}`.
pub(super) fn parse_hole(
    text: &str,
    start: usize,
    ground: Ground,
) -> Result<(Expression, usize), SyntaxError> {
    let mut parser = Parser::new(text, start, ground)?;
    let expression = parser.hole()?;
    Ok((expression, parser.extent.end))
}

/// Parses a condition that begins at `start` of `text` and ends with a `}` of its own; answers the
/// offset behind that.
pub(super) fn parse_braced(text: &str, start: usize) -> Result<(Expression, usize), SyntaxError> {
    let mut parser = Parser::new(text, start, Ground { condition: true, ..Ground::default() })?;
    let expression = parser.piped()?;
    if parser.at("}") || parser.at("}}") {
        return Ok((expression, parser.extent.start + 1));
    }
    Err(parser.unexpected())
}

/// How many tokens were read for `text`, whatever came of it.
#[cfg(test)]
pub(super) fn tokens_read(text: &str) -> usize {
    let Ok(mut parser) = Parser::new(text, 0, Ground { condition: true, ..Ground::default() })
    else {
        return 1;
    };
    drop(parser.whole());
    parser.tokens
}

/// What surrounds an expression.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ground {
    /// Whether quoted texts may have holes.
    pub(super) condition: bool,
    /// Whether filters may be named transforms.
    pub(super) transforms: bool,
    /// Levels around it.
    pub(super) depth: usize,
    /// Expressions about elements around it.
    pub(super) elements: usize,
    /// Where its text stands.
    pub(super) origin: Origin,
}

/// Where the text of an expression stands in the text whose places are shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// So many bytes behind its beginning.
    Behind(usize),
    /// Somewhere in here: it was written with escapes.
    Within(Extent),
}

impl Default for Origin {
    fn default() -> Self {
        Self::Behind(0)
    }
}

impl Origin {
    pub(super) fn place(self, extent: Extent) -> Extent {
        match self {
            Self::Behind(by) => Extent::new(extent.start + by, extent.end + by),
            Self::Within(whole) => whole,
        }
    }
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    token: Token,
    extent: Extent,
    /// End of the token before.
    behind: usize,
    start: usize,
    ground: Ground,
    /// Tokens read, those that were only looked at included.
    tokens: usize,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str, start: usize, ground: Ground) -> Result<Self, SyntaxError> {
        let mut lexer = Lexer::new(text, start);
        let place =
            |error: SyntaxError| SyntaxError { extent: ground.origin.place(error.extent), ..error };
        let (token, extent) = lexer.next().map_err(place)?;
        if extent.end - start > BYTES_MAX && token != Token::End {
            let extent = ground.origin.place(extent);
            return Err(SyntaxError::new("an expression is longer than 64 KiB", extent));
        }
        Ok(Self { lexer, token, extent, behind: start, start, ground, tokens: 1 })
    }

    /// The only expression of its text.
    fn whole(&mut self) -> Result<Expression, SyntaxError> {
        let expression = self.piped()?;
        if self.token == Token::End { Ok(expression) } else { Err(self.unexpected()) }
    }

    fn fault(&self, message: impl Into<String>, extent: Extent) -> SyntaxError {
        SyntaxError::new(message, self.ground.origin.place(extent))
    }

    fn coded(&self, code: u16, message: impl Into<String>, extent: Extent) -> SyntaxError {
        SyntaxError::coded(Code(code), message, self.ground.origin.place(extent))
    }

    fn unexpected(&self) -> SyntaxError {
        unexpected(&self.token, self.ground.origin.place(self.extent))
    }

    fn advance(&mut self) -> Result<(Token, Extent), SyntaxError> {
        let next = self.lexer.next();
        let (token, extent) = next.map_err(|error| SyntaxError {
            extent: self.ground.origin.place(error.extent),
            ..error
        })?;
        self.tokens += 1;
        if extent.end - self.start > BYTES_MAX && token != Token::End {
            let extent = Extent::new(self.start, extent.end);
            return Err(self.fault("an expression is longer than 64 KiB", extent));
        }
        self.behind = self.extent.end;
        let extent = std::mem::replace(&mut self.extent, extent);
        Ok((std::mem::replace(&mut self.token, token), extent))
    }

    /// Goes on behind a word, whose end is at `end`.
    fn resume_at(&mut self, end: usize) -> Result<(), SyntaxError> {
        self.lexer.back_to(end);
        self.advance()?;
        self.behind = end;
        Ok(())
    }

    /// The token behind the present one.
    fn ahead(&mut self) -> Token {
        self.tokens += 1;
        self.lexer.clone().next().map_or(Token::End, |(token, _)| token)
    }

    fn at(&self, symbol: &str) -> bool {
        matches!(&self.token, Token::Symbol(found) if *found == symbol)
    }

    fn at_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Name(found) if found == word)
    }

    fn take(&mut self, symbol: &str) -> Result<bool, SyntaxError> {
        let found = self.at(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, symbol: &'static str) -> Result<Extent, SyntaxError> {
        if symbol == "}" && self.at("}}") {
            // The end of an object inside another one, or inside a hole.
            self.lexer.back_to(self.extent.start + 1);
            self.token = Token::Symbol("}");
            self.extent.end = self.extent.start + 1;
        }
        if self.at(symbol) {
            return Ok(self.advance()?.1);
        }
        Err(match self.token {
            Token::End => self.fault(format!("`{symbol}` is missing"), self.extent),
            Token::Name(_) | Token::Number(_) | Token::Text { .. } | Token::Symbol(_) => {
                self.unexpected()
            }
        })
    }

    /// Stands on the `}}` when it succeeds.
    fn hole(&mut self) -> Result<Expression, SyntaxError> {
        let start = self.extent.start;
        let expression = self.piped()?;
        if self.at("}}") {
            return Ok(expression);
        }
        Err(match self.token {
            Token::End => {
                self.fault("`{{` opens a hole that has no end", Extent::new(start, start))
            }
            Token::Name(_) | Token::Number(_) | Token::Text { .. } | Token::Symbol(_) => {
                self.unexpected()
            }
        })
    }

    /// An expression and its filters.
    fn piped(&mut self) -> Result<Expression, SyntaxError> {
        let first = self.expression()?;
        let mut calls = Vec::new();
        while self.take("|")? {
            calls.push(self.filter()?);
        }
        if calls.is_empty() {
            return Ok(first);
        }
        Ok(Expression::Piped { first: Box::new(first), calls })
    }

    /// A whole expression without filters.
    fn expression(&mut self) -> Result<Expression, SyntaxError> {
        stacker::maybe_grow(STACK_LEFT, STACK_MORE, || self.levels())
    }

    fn levels(&mut self) -> Result<Expression, SyntaxError> {
        self.ground.depth += 1;
        if self.ground.depth > DEPTH_MAX {
            return Err(self.fault("nested deeper than 64 levels", self.extent));
        }
        let mut parts = vec![self.disjunction()?];
        while self.take("??")? {
            parts.push(self.disjunction()?);
        }
        let condition = single_or(parts, Expression::Coalesce);
        let chosen = if self.at("?") {
            self.spaced("?")?;
            let then = self.expression()?;
            if !self.at(":") {
                return Err(match self.token {
                    Token::End => self.fault("`:` of `… ? … : …` is missing", self.extent),
                    Token::Name(_) | Token::Number(_) | Token::Text { .. } | Token::Symbol(_) => {
                        self.unexpected()
                    }
                });
            }
            self.spaced(":")?;
            let otherwise = self.expression()?;
            Expression::Choice(Box::new([condition, then, otherwise]))
        } else {
            condition
        };
        self.ground.depth -= 1;
        Ok(chosen)
    }

    /// Takes a sign that needs white space on both sides.
    fn spaced(&mut self, sign: &str) -> Result<(), SyntaxError> {
        let before = self.extent.start > self.behind;
        let (_, extent) = self.advance()?;
        if before && self.extent.start > extent.end {
            return Ok(());
        }
        let text = format!("`{sign}` needs white space on both sides here");
        Err(self.fault(text, extent).hint("write `condition ? then : otherwise`"))
    }

    fn disjunction(&mut self) -> Result<Expression, SyntaxError> {
        let mut parts = vec![self.conjunction()?];
        while self.at("||") || self.at_word("or") {
            self.advance()?;
            parts.push(self.conjunction()?);
        }
        Ok(single_or(parts, Expression::Or))
    }

    fn conjunction(&mut self) -> Result<Expression, SyntaxError> {
        let mut parts = vec![self.negation()?];
        while self.at("&&") || self.at_word("and") {
            self.advance()?;
            parts.push(self.negation()?);
        }
        Ok(single_or(parts, Expression::And))
    }

    fn negation(&mut self) -> Result<Expression, SyntaxError> {
        let mut negations = 0_usize;
        while self.at("!") || (self.at_word("not") && self.negates()) {
            self.advance()?;
            negations += 1;
        }
        let inner = self.comparison()?;
        // Two of them leave nothing but a truth value, which one pair gives.
        let kept = if negations < 2 { negations } else { 2 - negations % 2 };
        Ok((0..kept).fold(inner, |inner, _| Expression::Not(Box::new(inner))))
    }

    /// Words are reserved in operator position only: `not == 1` is about a name.
    fn negates(&mut self) -> bool {
        match self.ahead() {
            Token::Name(_) | Token::Number(_) | Token::Text { .. } => true,
            Token::Symbol(symbol) => matches!(symbol, "(" | "!" | "{{" | "[" | "{" | "@" | "$"),
            Token::End => false,
        }
    }

    fn sum(&mut self) -> Result<Expression, SyntaxError> {
        let first = self.product()?;
        let mut rest = Vec::new();
        loop {
            let operator = match self.token {
                Token::Symbol("+") => Arithmetic::Add,
                Token::Symbol("-") => Arithmetic::Subtract,
                Token::Name(_)
                | Token::Number(_)
                | Token::Text { .. }
                | Token::Symbol(_)
                | Token::End => break,
            };
            self.advance()?;
            rest.push((operator, self.product()?));
        }
        Ok(chained(first, rest))
    }

    fn product(&mut self) -> Result<Expression, SyntaxError> {
        let first = self.unary()?;
        let mut rest = Vec::new();
        loop {
            let operator = match self.token {
                Token::Symbol("*") => Arithmetic::Multiply,
                Token::Symbol("/") => Arithmetic::Divide,
                Token::Symbol("%") => Arithmetic::Remainder,
                Token::Name(_)
                | Token::Number(_)
                | Token::Text { .. }
                | Token::Symbol(_)
                | Token::End => break,
            };
            self.advance()?;
            rest.push((operator, self.unary()?));
        }
        Ok(chained(first, rest))
    }

    fn unary(&mut self) -> Result<Expression, SyntaxError> {
        let mut signs = 0_usize;
        while self.take("-")? {
            signs += 1;
        }
        let inner = self.postfix()?;
        if signs % 2 == 1
            && let Expression::Literal(Value::Number(number)) = &inner
        {
            return Ok(Expression::Literal(operand::negative(number)));
        }
        let kept = if signs < 2 { signs } else { 2 - signs % 2 };
        Ok((0..kept).fold(inner, |inner, _| Expression::Negative(Box::new(inner))))
    }
}

/// The only one of `parts`, or all of them joined.
fn single_or(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    if parts.len() == 1 { parts.swap_remove(0) } else { join(parts) }
}

fn chained(first: Expression, rest: Vec<(Arithmetic, Expression)>) -> Expression {
    if rest.is_empty() { first } else { Expression::Sum { first: Box::new(first), rest } }
}
