//! Comparisons: two sums and what is asked of them.

use serde_json::Value;

use super::{
    super::{
        Expression, SyntaxError,
        pattern::Pattern,
        syntax::{Comparison, Test},
        token::Token,
    },
    Parser,
};
use crate::{diagnostic::Code, source::Extent};

impl Parser<'_> {
    pub(super) fn comparison(&mut self) -> Result<Expression, SyntaxError> {
        let left = self.sum()?;
        let start = self.extent;
        let negated = self.at_word("not");
        if negated {
            self.advance()?;
        }
        let (test, not) = match &self.token {
            Token::Name(word) => match word.as_str() {
                "contains" => (Test::Contains, false),
                "matches" => (Test::Matches, false),
                "starts_with" => (Test::StartsWith, false),
                "ends_with" => (Test::EndsWith, false),
                "in" => (Test::In, false),
                "not_in" if !negated => (Test::In, true),
                "between" => return self.between(left, negated),
                "exists" => {
                    self.advance()?;
                    return Ok(Expression::Exists { negated, of: Box::new(left) });
                }
                "empty" => {
                    self.advance()?;
                    return Ok(Expression::Empty { negated, of: Box::new(left) });
                }
                _ if negated => return Err(self.unknown_test(start)),
                _ => return Ok(left),
            },
            Token::Symbol(symbol) if !negated => match *symbol {
                "==" => (Test::Equal, false),
                "!=" => (Test::Equal, true),
                ">=" => (Test::GreaterOrEqual, false),
                "<=" => (Test::LessOrEqual, false),
                ">" => (Test::Greater, false),
                "<" => (Test::Less, false),
                _ => return Ok(left),
            },
            Token::Symbol(_) | Token::Number(_) | Token::Text { .. } | Token::End if negated => {
                return Err(self.unknown_test(start));
            }
            Token::Symbol(_) | Token::Number(_) | Token::Text { .. } | Token::End => {
                return Ok(left);
            }
        };
        self.advance()?;
        let at = self.extent;
        let right = self.sum()?;
        if matches!(self.token, Token::Symbol("==" | "!=" | ">=" | "<=" | ">" | "<")) {
            return Err(self.unexpected());
        }
        let pattern = if test == Test::Matches { self.pattern(&right, at)? } else { None };
        let negated = negated || not;
        Ok(Expression::Compare(Box::new(Comparison { test, negated, left, right, pattern })))
    }

    fn unknown_test(&self, start: Extent) -> SyntaxError {
        let at = self.ground.origin.place(start.to(self.extent));
        SyntaxError::coded(Code(405), "`not` stands before no operator here", at).hint(
            "`not` stands before a condition, or before contains, matches, starts_with, \
             ends_with, in, between, exists and empty",
        )
    }

    fn between(&mut self, left: Expression, negated: bool) -> Result<Expression, SyntaxError> {
        self.advance()?;
        let low = self.sum()?;
        if !self.at_word("and") {
            let text = "`between` needs `and` and a second bound";
            return Err(self.coded(405, text, self.extent).hint("write `x between 1 and 3`"));
        }
        self.advance()?;
        let high = self.sum()?;
        Ok(Expression::Between { negated, parts: Box::new([left, low, high]) })
    }

    /// The literal regular expression `right`, compiled.
    pub(super) fn pattern(
        &self,
        right: &Expression,
        at: Extent,
    ) -> Result<Option<Pattern>, SyntaxError> {
        let Expression::Literal(Value::String(text)) = right else { return Ok(None) };
        Pattern::new(text)
            .map(Some)
            .map_err(|fault| self.coded(406, format!("invalid regular expression: {fault}"), at))
    }
}
