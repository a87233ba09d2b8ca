//! The parser: one function per level of precedence, loosest first (YT-20).

use serde_json::{Number, Value};

use super::{
    Expression, Path, Segment, SyntaxError, Template,
    operator::{later, unexpected},
    token::{Lexer, Token},
    vocabulary::FUNCTIONS,
};
use crate::{diagnostic::Code, source::Extent, spelling};

/// Longest expression, in bytes (YT-21).
const BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting (YT-21).
const DEPTH_MAX: usize = 64;

/// Parses a condition: one expression, in which holes may stand.
pub(crate) fn parse_condition(text: &str) -> Result<Expression, SyntaxError> {
    let mut parser = Parser::new(text, 0, true)?;
    let expression = parser.disjunction_or_more()?;
    parser.expect_end()?;
    Ok(expression)
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
    let parsed = Parser::new(&whole, 0, false).and_then(|mut parser| {
        let path = parser.postfix()?;
        parser.expect_end()?;
        Ok(path)
    });
    match parsed {
        Ok(Expression::Path(path)) => Ok(path
            .segments
            .into_iter()
            .map(|segment| match segment {
                Segment::Field { name, extent } => Segment::Field { name, extent: back(extent) },
                Segment::Index { place, extent } => Segment::Index { place, extent: back(extent) },
            })
            .collect()),
        Ok(_) => Err(SyntaxError::new("a path is needed here", Extent::new(0, text.len()))),
        Err(error) => Err(SyntaxError { extent: back(error.extent), ..error }),
    }
}

/// Parses the inside of a hole that begins at `start` of `text`; answers the expression and the
/// offset behind its `}}`.
pub(super) fn parse_hole(text: &str, start: usize) -> Result<(Expression, usize), SyntaxError> {
    let mut parser = Parser::new(text, start, false)?;
    let expression = parser.hole()?;
    Ok((expression, parser.extent.end))
}

struct Parser<'t> {
    text: &'t str,
    lexer: Lexer<'t>,
    token: Token,
    extent: Extent,
    /// End of the token before.
    behind: usize,
    /// Whether holes may stand in it.
    condition: bool,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str, start: usize, condition: bool) -> Result<Self, SyntaxError> {
        if condition && text.len() > BYTES_MAX {
            let extent = Extent::new(0, text.len());
            return Err(SyntaxError::new("an expression is longer than 64 KiB", extent));
        }
        let mut lexer = Lexer::new(text, start);
        let (token, extent) = lexer.next()?;
        Ok(Self { text, lexer, token, extent, behind: start, condition, depth: 0 })
    }

    fn advance(&mut self) -> Result<(Token, Extent), SyntaxError> {
        let (token, extent) = self.lexer.next()?;
        self.behind = self.extent.end;
        let extent = std::mem::replace(&mut self.extent, extent);
        Ok((std::mem::replace(&mut self.token, token), extent))
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

    fn expect(&mut self, symbol: &str) -> Result<Extent, SyntaxError> {
        if self.at(symbol) {
            return Ok(self.advance()?.1);
        }
        Err(match self.token {
            Token::End => SyntaxError::new(format!("`{symbol}` is missing"), self.extent),
            Token::Name(_) | Token::Number(_) | Token::Text { .. } | Token::Symbol(_) => {
                unexpected(&self.token, self.extent)
            }
        })
    }

    fn expect_end(&self) -> Result<(), SyntaxError> {
        if self.token == Token::End { Ok(()) } else { Err(unexpected(&self.token, self.extent)) }
    }

    /// Stands on the `}}` when it succeeds.
    fn hole(&mut self) -> Result<Expression, SyntaxError> {
        let start = self.extent.start;
        let mut expression = self.disjunction_or_more()?;
        while self.take("|")? {
            let (name, extent) = self.advance()?;
            let Token::Name(name) = name else {
                return Err(SyntaxError::new("a filter needs a name", extent));
            };
            if name != "default" {
                return Err(function(&name, extent));
            }
            self.expect("(")?;
            if self.at(")") {
                let text = "`default` takes one argument";
                return Err(SyntaxError::coded(Code(404), text, extent));
            }
            let otherwise = self.disjunction_or_more()?;
            if self.at(",") {
                let text = "`default` takes one argument";
                return Err(SyntaxError::coded(Code(404), text, extent));
            }
            self.expect(")")?;
            if let Expression::Coalesce(parts) = &mut expression {
                parts.push(otherwise);
            } else {
                expression = Expression::Coalesce(vec![expression, otherwise]);
            }
        }
        if !self.at("}}") {
            return Err(match self.token {
                Token::End => {
                    SyntaxError::new("`{{` opens a hole that has no end", Extent::new(start, start))
                }
                Token::Name(_) | Token::Number(_) | Token::Text { .. } | Token::Symbol(_) => {
                    unexpected(&self.token, self.extent)
                }
            });
        }
        if self.extent.end - start > BYTES_MAX {
            let extent = Extent::new(start, self.extent.end);
            return Err(SyntaxError::new("an expression is longer than 64 KiB", extent));
        }
        Ok(expression)
    }

    /// A whole expression; the ternary, which is loosest, is not in this version.
    fn disjunction_or_more(&mut self) -> Result<Expression, SyntaxError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(SyntaxError::new("nested deeper than 64 levels", self.extent));
        }
        let mut parts = vec![self.disjunction()?];
        while self.take("??")? {
            parts.push(self.disjunction()?);
        }
        self.depth -= 1;
        Ok(single_or(parts, Expression::Coalesce))
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
    fn negates(&self) -> bool {
        let mut ahead = self.lexer.clone();
        match ahead.next() {
            Ok((Token::Name(_) | Token::Number(_) | Token::Text { .. }, _)) => true,
            Ok((Token::Symbol(symbol), _)) => matches!(symbol, "(" | "!" | "{{"),
            Ok((Token::End, _)) | Err(_) => false,
        }
    }

    fn comparison(&mut self) -> Result<Expression, SyntaxError> {
        let left = self.postfix()?;
        let mut ahead = self.lexer.clone();
        if self.at_word("not") {
            if let Ok((Token::Name(word), _)) = ahead.next() {
                let (_, not) = self.advance()?;
                let (_, extent) = self.advance()?;
                return match word.as_str() {
                    "exists" => Ok(Expression::Exists { negated: true, of: Box::new(left) }),
                    _ => Err(unexpected(&Token::Name(word), not.to(extent))),
                };
            }
            return Err(unexpected(&self.token, self.extent));
        }
        if self.at_word("exists") {
            self.advance()?;
            return Ok(Expression::Exists { negated: false, of: Box::new(left) });
        }
        let negated = self.at("!=");
        if !negated && !self.at("==") {
            return self.end_of_operand(left);
        }
        self.advance()?;
        let right = self.postfix()?;
        let compared = Expression::Equal { negated, left: Box::new(left), right: Box::new(right) };
        if self.at("==") || self.at("!=") {
            return Err(unexpected(&self.token, self.extent));
        }
        self.end_of_operand(compared)
    }

    /// Names an operator of the full grammar here, where it is still the next token.
    fn end_of_operand(&self, operand: Expression) -> Result<Expression, SyntaxError> {
        let ends = match &self.token {
            Token::End => true,
            Token::Symbol(symbol) => {
                matches!(*symbol, ")" | "}}" | "|" | "||" | "&&" | "??" | "," | "]" | "==" | "!=")
            }
            Token::Name(word) => matches!(word.as_str(), "and" | "or" | "not" | "exists"),
            Token::Number(_) | Token::Text { .. } => false,
        };
        if ends { Ok(operand) } else { Err(unexpected(&self.token, self.extent)) }
    }

    fn postfix(&mut self) -> Result<Expression, SyntaxError> {
        let mut path = match self.primary()? {
            Primary::Path(path) => path,
            Primary::Value(value) => return Ok(value),
        };
        loop {
            if self.at(".") {
                self.advance()?;
                let segment = match self.advance()? {
                    (Token::Name(name), extent) => Segment::Field { name, extent },
                    (Token::Number(number), extent) => {
                        Segment::Field { name: number.to_string(), extent }
                    }
                    (Token::Text { .. } | Token::Symbol(_) | Token::End, extent) => {
                        return Err(SyntaxError::new("a field name is missing behind `.`", extent));
                    }
                };
                path.segments.push(segment);
            } else if self.at("[") {
                self.advance()?;
                let segment = self.index()?;
                path.segments.push(segment);
            } else {
                break;
            }
            path.extent.end = self.behind;
        }
        let attached = self.at("?") && self.extent.start == self.behind;
        if attached {
            self.advance()?;
            return Ok(Expression::Optional(Box::new(Expression::Path(path))));
        }
        Ok(Expression::Path(path))
    }

    fn index(&mut self) -> Result<Segment, SyntaxError> {
        let start = self.extent;
        let negative = self.take("-")?;
        let (token, extent) = self.advance()?;
        let segment = match token {
            Token::Number(number) => match number.as_i64() {
                Some(place) => Segment::Index {
                    place: if negative { -place } else { place },
                    extent: start.to(extent),
                },
                None => return Err(SyntaxError::new("an index is a whole number", extent)),
            },
            Token::Text { value, .. } if !negative => Segment::Field { name: value, extent },
            Token::Symbol("*") => return Err(later("[*]", extent)),
            Token::Symbol("?") => return Err(later("[?()]", extent)),
            Token::Name(_) => return Err(later("[expression]", extent)),
            Token::Text { .. } | Token::Symbol(_) | Token::End => {
                return Err(SyntaxError::new("an index or a quoted field name is missing", extent));
            }
        };
        self.expect("]")?;
        Ok(segment)
    }

    fn primary(&mut self) -> Result<Primary, SyntaxError> {
        let (token, extent) = self.advance()?;
        Ok(Primary::Value(match token {
            Token::Name(name) => return self.name(name, extent),
            Token::Number(number) => Expression::Literal(Value::Number(number)),
            Token::Text { value, plain } => self.quoted(value, plain, extent)?,
            Token::Symbol("-") => match self.advance()? {
                (Token::Number(number), _) => Expression::Literal(negative(&number)),
                (Token::Name(_) | Token::Text { .. } | Token::Symbol(_) | Token::End, _) => {
                    return Err(later("-", extent));
                }
            },
            Token::Symbol("(") => {
                let inner = self.disjunction_or_more()?;
                self.expect(")")?;
                inner
            }
            Token::Symbol("{{") if self.condition => {
                let inner = self.hole()?;
                self.expect("}}")?;
                inner
            }
            Token::Symbol("[" | "{") => {
                return Err(SyntaxError::coded(
                    Code(405),
                    "list and object literals are not supported",
                    extent,
                )
                .hint("not in this version"));
            }
            Token::Symbol("=") => return Err(unexpected(&Token::Symbol("="), extent)),
            Token::Symbol(sign @ ("@" | "$")) => return Err(later(sign, extent)),
            Token::Symbol(sign) => {
                return Err(SyntaxError::new(
                    format!("a value is missing before `{sign}`"),
                    extent,
                ));
            }
            Token::End => return Err(SyntaxError::new("a value is missing", extent)),
        }))
    }

    fn name(&mut self, name: String, extent: Extent) -> Result<Primary, SyntaxError> {
        let literal = match name.as_str() {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            "null" | "nil" => Some(Value::Null),
            _ => None,
        };
        if let Some(value) = literal {
            return Ok(Primary::Value(Expression::Literal(value)));
        }
        if self.at("(") && self.extent.start == extent.end {
            return Err(function(&name, extent));
        }
        if name == "previous_response" && self.at(":") {
            return Err(later("previous_response:", extent));
        }
        Ok(Primary::Path(Path { root: name, root_extent: extent, segments: Vec::new(), extent }))
    }

    fn quoted(
        &self,
        value: String,
        plain: Option<Extent>,
        extent: Extent,
    ) -> Result<Expression, SyntaxError> {
        if !self.condition || !value.contains("{{") {
            return Ok(Expression::Literal(Value::String(value)));
        }
        let template = Template::parse(&value).map_err(|mut errors| {
            let error = errors.swap_remove(0);
            match plain {
                Some(inside) => error.moved(inside.start),
                None => SyntaxError { extent, ..error },
            }
        })?;
        debug_assert!(plain.is_none_or(|inside| self.text.len() >= inside.end));
        Ok(Expression::Text(match plain {
            Some(inside) => template.moved(inside.start),
            None => template,
        }))
    }
}

/// The only one of `parts`, or all of them joined.
fn single_or(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    if parts.len() == 1 { parts.swap_remove(0) } else { join(parts) }
}

enum Primary {
    Path(Path),
    Value(Expression),
}

fn negative(number: &Number) -> Value {
    match number.as_i64() {
        Some(whole) => Value::from(-whole),
        None => Value::from(-number.as_f64().unwrap_or(0.0)),
    }
}

/// The error for a call; `default`, as a filter, is the only function of this version.
fn function(name: &str, extent: Extent) -> SyntaxError {
    if FUNCTIONS.contains(&name) {
        let text = format!("the function `{name}` is not supported here");
        return SyntaxError::coded(Code(403), text, extent).hint("not in this version");
    }
    let error = SyntaxError::coded(Code(403), format!("Unknown function: {name}"), extent);
    match spelling::did_you_mean(name, FUNCTIONS.iter().copied()) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
