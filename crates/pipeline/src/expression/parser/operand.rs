//! What stands between operators: literals, paths, lists, objects, brackets.

use serde_json::{Number, Value};

use super::{
    super::{Expression, Path, Segment, SyntaxError, Template, Variable, token::Token},
    Ground, Origin, Parser,
};
use crate::source::Extent;

impl Parser<'_> {
    pub(super) fn postfix(&mut self) -> Result<Expression, SyntaxError> {
        let mut operand = self.primary()?;
        loop {
            let segment = if self.at(".") {
                self.advance()?;
                self.field()?
            } else if self.at("[") && self.extent.start == self.behind {
                self.advance()?;
                self.index()?
            } else {
                break;
            };
            #[expect(clippy::wildcard_enum_match_arm, reason = "all others begin a new way")]
            let longer = match operand {
                Expression::Path(mut path) => {
                    path.segments.push(segment);
                    path.extent.end = self.end().max(path.extent.end);
                    Expression::Path(path)
                }
                Expression::Inside { of, mut segments } => {
                    segments.push(segment);
                    Expression::Inside { of, segments }
                }
                operand => Expression::Inside { of: Box::new(operand), segments: vec![segment] },
            };
            operand = longer;
        }
        if self.at("?") && self.extent.start == self.behind {
            self.advance()?;
            return Ok(Expression::Optional(Box::new(operand)));
        }
        Ok(operand)
    }

    /// Where the token before ends, as it is shown.
    fn end(&self) -> usize {
        self.ground.origin.place(Extent::new(self.behind, self.behind)).end
    }

    fn field(&mut self) -> Result<Segment, SyntaxError> {
        let (token, extent) = self.advance()?;
        let name = match token {
            Token::Name(name) => name,
            Token::Number(number) => number.to_string(),
            Token::Text { .. } | Token::Symbol(_) | Token::End => {
                return Err(self.fault("a field name is missing behind `.`", extent));
            }
        };
        Ok(Segment::Field { name, extent: self.ground.origin.place(extent) })
    }

    /// What stands between `[` and `]`.
    fn index(&mut self) -> Result<Segment, SyntaxError> {
        let start = self.extent;
        if self.take("*")? {
            self.expect("]")?;
            return Ok(Segment::All);
        }
        if self.take("?")? {
            self.expect("(")?;
            self.ground.elements += 1;
            let condition = self.expression()?;
            self.ground.elements -= 1;
            self.expect(")")?;
            self.expect("]")?;
            return Ok(Segment::Filter(Box::new(condition)));
        }
        if matches!(self.token, Token::Symbol("]") | Token::End) {
            return Err(self.fault("an index or a quoted field name is missing", start));
        }
        let inner = self.expression()?;
        let extent = self.ground.origin.place(Extent::new(start.start, self.behind));
        #[expect(clippy::wildcard_enum_match_arm, reason = "only literals are known at load")]
        let segment = match inner {
            Expression::Literal(Value::String(name)) => Segment::Field { name, extent },
            Expression::Literal(value) => match value.as_i64() {
                Some(place) => Segment::Index { place, extent },
                None => return Err(SyntaxError::new("an index is a whole number", extent)),
            },
            inner => Segment::Computed(Box::new(inner)),
        };
        self.expect("]")?;
        Ok(segment)
    }

    fn primary(&mut self) -> Result<Expression, SyntaxError> {
        let (token, extent) = self.advance()?;
        Ok(match token {
            Token::Name(name) => return self.name(name, extent),
            Token::Number(number) => Expression::Literal(Value::Number(number)),
            Token::Text { value, plain } => self.quoted(value, plain, extent)?,
            Token::Symbol("(") => {
                let inner = self.piped()?;
                self.expect(")")?;
                inner
            }
            Token::Symbol("{{") => {
                let inner = self.hole()?;
                self.expect("}}")?;
                inner
            }
            Token::Symbol("[") => Expression::List(self.items("]", Self::expression)?),
            Token::Symbol("{") => Expression::Object(self.items("}", Self::pair)?),
            Token::Symbol("$") if self.lexer.word(extent.start).is_some() => {
                let word = self.lexer.word(extent.start).ok_or_else(|| self.unexpected())?;
                self.resume_at(word.extent.end)?;
                let place = self.ground.origin.place(word.extent);
                Expression::Variable(Box::new(Variable::of(word, place)))
            }
            Token::Symbol(sign @ ("@" | "$")) => {
                if self.ground.elements == 0 {
                    let text =
                        format!("`{sign}` has no meaning outside of an expression about elements");
                    let hint =
                        "elements are named in `list[?(@.field > 1)]` and `any(list, '@ > 1')`";
                    return Err(self.fault(text, extent).hint(hint));
                }
                self.path(sign.to_owned(), extent)
            }
            Token::Symbol("=") => {
                let error = self.coded(405, "unknown operator `=`", extent);
                return Err(error.hint("did you mean `==`?"));
            }
            Token::Symbol(sign) => {
                return Err(self.fault(format!("a value is missing before `{sign}`"), extent));
            }
            Token::End => return Err(self.fault("a value is missing", extent)),
        })
    }

    fn items<T>(
        &mut self,
        close: &'static str,
        item: fn(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<Vec<T>, SyntaxError> {
        let mut items = Vec::new();
        let empty = self.at(close) || (close == "}" && self.at("}}"));
        if !empty {
            items.push(item(self)?);
            while self.take(",")? {
                items.push(item(self)?);
            }
        }
        self.expect(close)?;
        Ok(items)
    }

    fn pair(&mut self) -> Result<(String, Expression), SyntaxError> {
        let key = match self.advance()? {
            (Token::Name(name), _) => name,
            (Token::Text { value, .. }, _) => value,
            (Token::Number(_) | Token::Symbol(_) | Token::End, extent) => {
                return Err(self.fault("a key of an object is a name or a quoted text", extent));
            }
        };
        self.expect(":")?;
        Ok((key, self.expression()?))
    }

    fn path(&self, root: String, extent: Extent) -> Expression {
        let extent = self.ground.origin.place(extent);
        Expression::Path(Path { root, root_extent: extent, segments: Vec::new(), extent })
    }

    fn name(&mut self, name: String, extent: Extent) -> Result<Expression, SyntaxError> {
        let literal = match name.as_str() {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            "null" | "nil" => Some(Value::Null),
            _ => None,
        };
        if let Some(value) = literal {
            return Ok(Expression::Literal(value));
        }
        if self.at("(") && self.extent.start == extent.end {
            return self.called(&name, extent).map(Expression::Call);
        }
        if name == "previous_response" && self.at(":") && self.extent.start == extent.end {
            return self.legacy_reference(extent);
        }
        Ok(self.path(name, extent))
    }

    /// `previous_response:step:path`, which is `steps.step.path`.
    fn legacy_reference(&mut self, root: Extent) -> Result<Expression, SyntaxError> {
        let root = self.ground.origin.place(root);
        let mut segments = Vec::new();
        while self.at(":") || (self.at(".") && !segments.is_empty()) {
            self.advance()?;
            segments.push(self.field()?);
        }
        let extent = Extent::new(root.start, self.end().max(root.end));
        Ok(Expression::Path(Path { root: "steps".to_owned(), root_extent: root, segments, extent }))
    }

    /// Where the inside of the present quoted text stands.
    pub(super) fn inside(&self, plain: Option<Extent>, extent: Extent) -> Origin {
        match (plain, self.ground.origin) {
            (Some(inside), Origin::Behind(by)) => Origin::Behind(inside.start + by),
            (Some(_) | None, _) => Origin::Within(self.ground.origin.place(extent)),
        }
    }

    fn quoted(
        &self,
        value: String,
        plain: Option<Extent>,
        extent: Extent,
    ) -> Result<Expression, SyntaxError> {
        let has_holes = self.ground.condition && value.contains("{{");
        if !has_holes && !value.contains("${") {
            return Ok(Expression::Literal(Value::String(value)));
        }
        let origin = self.inside(plain, extent);
        let ground = Ground { condition: false, origin, ..self.ground };
        if !has_holes {
            return Ok(Expression::Text(Template::without_holes(&value, origin)));
        }
        let parsed = Template::parse_on(&value, ground);
        parsed.map(Expression::Text).map_err(|mut errors| errors.swap_remove(0))
    }
}

pub(super) fn negative(number: &Number) -> Value {
    match number.as_i64().and_then(i64::checked_neg) {
        Some(whole) => Value::from(whole),
        None => Value::from(-number.as_f64().unwrap_or(0.0)),
    }
}
