//! Calls of functions, filters, and expressions about elements.

use super::{
    super::{
        SyntaxError,
        function::{self, Function, Takes},
        pattern::Pattern,
        syntax::{Argument, Call, Element, Expression, Standing},
        token::{Lexer, Token},
    },
    Ground, Parser,
};
use crate::source::Extent;

/// Roots that keep their meaning in an expression about elements, so that their paths can be
/// checked at load.
const FIXED_ROOTS: [&str; 4] = ["steps", "inputs", "global_vars", "workflow"];

impl Parser<'_> {
    /// What stands behind a `|`.
    pub(super) fn filter(&mut self) -> Result<Call, SyntaxError> {
        let (token, extent) = self.advance()?;
        let Token::Name(name) = token else {
            return Err(self.fault("a filter needs a name", extent));
        };
        let transform = function::transform(&name).filter(|_| self.ground.transforms);
        let function = match transform {
            Some(transform) => transform,
            None => self.function(&name, extent)?,
        };
        if self.at("(") && self.extent.start == extent.end {
            return self.arguments(function, extent, 1);
        }
        self.checked(function, extent, 1, Vec::new(), None)
    }

    /// The call of `name`, which was read.
    pub(super) fn called(&mut self, name: &str, extent: Extent) -> Result<Call, SyntaxError> {
        let function = self.function(name, extent)?;
        self.arguments(function, extent, 0)
    }

    fn function(&self, name: &str, extent: Extent) -> Result<&'static Function, SyntaxError> {
        function::find(name).map_err(|(message, hint)| {
            let error = self.coded(403, message, extent);
            match hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })
    }

    /// The arguments of `function`, of which `given` stand before a `|`.
    fn arguments(
        &mut self,
        function: &'static Function,
        name: Extent,
        given: usize,
    ) -> Result<Call, SyntaxError> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        let mut pattern = None;
        while !self.at(")") {
            if !arguments.is_empty() {
                self.expect(",")?;
            }
            let takes = function.takes(given + arguments.len());
            if takes == Takes::Element {
                arguments.push(Argument::Element(self.element()?));
                continue;
            }
            let start = self.extent.start;
            let value = self.expression()?;
            let extent = Extent::new(start, self.behind);
            if let Some(found) = takes.refuses(&value) {
                let text = format!("`{}` cannot take {found} here", function.name);
                let error = self.coded(404, text, extent);
                return Err(error.hint(format!("it takes {}", takes.wanted())));
            }
            if takes == Takes::Pattern {
                pattern = self.pattern(&value, extent)?;
            }
            arguments.push(Argument::Value(value));
        }
        self.expect(")")?;
        self.checked(function, name, given, arguments, pattern)
    }

    fn checked(
        &self,
        function: &'static Function,
        name: Extent,
        given: usize,
        arguments: Vec<Argument>,
        pattern: Option<Pattern>,
    ) -> Result<Call, SyntaxError> {
        if let Some(fault) = function.miscounts(given + arguments.len()) {
            return Err(self.coded(404, fault, name));
        }
        Ok(Call { function, arguments, pattern })
    }

    /// A quoted condition, a lambda, or an expression that names `@` or `item` (YC-9).
    fn element(&mut self) -> Result<Element, SyntaxError> {
        let ahead = self.ahead();
        if let Token::Text { value, plain } = &self.token
            && matches!(ahead, Token::Symbol("," | ")"))
        {
            let ground = Ground {
                condition: false,
                transforms: false,
                depth: self.ground.depth + 1,
                elements: self.ground.elements + 1,
                origin: self.inside(*plain, self.extent),
            };
            let value = value.clone();
            let mut inner = Parser::new(&value, 0, ground)?;
            let body = inner.whole();
            self.tokens += inner.tokens;
            let body = body?;
            self.advance()?;
            return Ok(Element { parameters: Vec::new(), body });
        }
        let start = self.extent.start;
        let parameters = self.parameters(&ahead)?;
        self.ground.elements += 1;
        let body = self.expression()?;
        self.ground.elements -= 1;
        if parameters.is_empty() && !names_the_element(&body) {
            let text = "an expression about the elements of a list is needed here";
            let error = self.coded(404, text, Extent::new(start, self.behind));
            return Err(error.hint(
                "quote it, as in `any(list, 'score > 5')`, or write `any(list, x => x.score > 5)`",
            ));
        }
        Ok(Element { parameters, body })
    }

    /// The names before `=>`, which is taken too; none when there is no lambda.
    fn parameters(&mut self, ahead: &Token) -> Result<Vec<String>, SyntaxError> {
        let bracketed = self.at("(") && matches!(ahead, Token::Name(_)) && self.opens_lambda();
        if !bracketed && !matches!(ahead, Token::Symbol("=>")) {
            return Ok(Vec::new());
        }
        if bracketed {
            self.advance()?;
        }
        let mut names = Vec::new();
        loop {
            let (token, extent) = self.advance()?;
            let Token::Name(name) = token else {
                return Err(self.fault("a parameter is a name", extent));
            };
            if FIXED_ROOTS.contains(&name.as_str()) {
                let text = format!("a parameter cannot be called `{name}`: it is a root");
                return Err(self.fault(text, extent));
            }
            if names.len() == 2 {
                let text = "a lambda has at most two parameters: the element and its index";
                return Err(self.coded(404, text, extent));
            }
            names.push(name);
            if !bracketed || !self.take(",")? {
                break;
            }
        }
        if bracketed {
            self.expect(")")?;
        }
        self.expect("=>")?;
        Ok(names)
    }

    /// Whether names in brackets and `=>` follow.
    fn opens_lambda(&mut self) -> bool {
        let mut lexer: Lexer<'_> = self.lexer.clone();
        let mut wants_name = true;
        loop {
            self.tokens += 1;
            match lexer.next() {
                Ok((Token::Name(_), _)) if wants_name => wants_name = false,
                Ok((Token::Symbol(","), _)) if !wants_name => wants_name = true,
                Ok((Token::Symbol(")"), _)) if !wants_name => {
                    return matches!(lexer.next(), Ok((Token::Symbol("=>"), _)));
                }
                Ok(_) | Err(_) => return false,
            }
        }
    }
}

fn names_the_element(body: &Expression) -> bool {
    let mut found = false;
    body.paths(Standing::default(), &mut |path, standing| {
        found |= !standing.element && matches!(path.root.as_str(), "@" | "item");
    });
    found
}
