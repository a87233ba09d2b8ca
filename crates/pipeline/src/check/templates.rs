//! Texts with holes: parsed at load, faults shown at their place inside the text.

use super::{
    Check,
    references::{Standpoint, Use},
};
use crate::{
    definition::MissingHole,
    diagnostic::{Code, Finding, Severity},
    environment::word_at,
    expression::{Place, Standing, SyntaxError, Template, TemplateTree},
    source::{Alignment, Content, Extent, Node},
};

impl Check<'_> {
    /// The template of the text `node`; a number or a truth value is its own text.
    pub(super) fn template(
        &mut self,
        node: &Node,
        pointer: &str,
        from: Standpoint<'_>,
    ) -> Option<Template> {
        let Content::Text { value: text, .. } = node.source() else { return None };
        self.bound_later(node);
        let missing = self.lenient.missing_hole();
        let prose = matches!(missing, MissingHole::Literal | MissingHole::Legacy);
        let calls = self.lenient.is("unknown_functions", "literal");
        // What is no hole, or calls what is no function, may be text (YT-33).
        let stays = |error: &SyntaxError| match error.code {
            None | Some(Code(401 | 405)) => prose,
            Some(Code(403)) => calls,
            Some(_) => false,
        };
        match Template::parse_leniently(text, stays) {
            Ok(template) => {
                if !prose {
                    self.left_as_text(node, text, pointer);
                }
                let mut uses: Vec<Use<'_>> = Vec::new();
                template.paths(Standing::default(), &mut |path, standing| {
                    uses.push(Use { path, standing });
                });
                if missing == MissingHole::Error {
                    self.references(node, pointer, &uses, Place::Template, from);
                }
                Some(template)
            }
            Err(errors) => {
                self.syntax_errors(node, pointer, 401, errors);
                None
            }
        }
    }

    /// A value with templates in all its texts.
    pub(super) fn template_tree(
        &mut self,
        node: &Node,
        pointer: &str,
        from: Standpoint<'_>,
    ) -> Option<TemplateTree> {
        Some(match node.source() {
            Content::Null => TemplateTree::Null,
            Content::Bool(value) => TemplateTree::Bool(*value),
            Content::Number(number) => TemplateTree::Number(number.clone()),
            Content::Text { .. } => TemplateTree::Text(self.template(node, pointer, from)?),
            Content::List(items) => {
                let parts: Vec<Option<TemplateTree>> = items
                    .iter()
                    .enumerate()
                    .map(|(place, item)| {
                        self.template_tree(item, &format!("{pointer}/{place}"), from)
                    })
                    .collect();
                TemplateTree::List(parts.into_iter().collect::<Option<_>>()?)
            }
            Content::Map(entries) => {
                let parts: Vec<Option<(String, TemplateTree)>> = entries
                    .iter()
                    .map(|entry| {
                        let inner = format!("{pointer}/{}", entry.key);
                        let value = self.template_tree(&entry.value, &inner, from)?;
                        Some((entry.key.clone(), value))
                    })
                    .collect();
                TemplateTree::Map(parts.into_iter().collect::<Option<_>>()?)
            }
        })
    }

    /// Warns of what other languages take as a template, and this one as text.
    fn left_as_text(&mut self, node: &Node, text: &str, pointer: &str) {
        let mut warn = |extent: Extent, what: String, hint: &str| {
            let place = Alignment::of(node, self.sources).place(extent);
            let warning = Finding::new(Code(401), Severity::Warning, what).at(place);
            self.findings.push(warning.pointer(pointer).hint(hint));
        };
        if let Some(open) = text.find("{%")
            && let Some(length) = text[open..].find("%}")
        {
            let written = &text[open..open + length + 2];
            warn(
                Extent::new(open, open + length + 2),
                format!("`{written}` is no template here: it stays as it is"),
                "a choice is `{{ condition ? \"one\" : \"other\" }}`, or a prompt part with a `condition`",
            );
        }
        for (open, _) in text.match_indices("${") {
            let name: &str = &text[open + 2..];
            let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            let end = name.find(|c| !is_name(c)).unwrap_or(name.len());
            let (name, rest) = name.split_at(end);
            let begins = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
            let whole = !begins || text[..open].ends_with('$') || word_at(text, open).is_some();
            // Other letters behind it: the name of something else.
            if whole || rest.starts_with(|c: char| c.is_alphanumeric()) {
                continue;
            }
            warn(
                Extent::new(open, open + 2 + end),
                format!("`${{{name}` is no variable: it stays as it is"),
                "a variable of the environment is `${NAME}` or `${NAME:-text}`; `$${` is a literal `${`",
            );
        }
    }

    /// Reports faults of an expression in the text `node`.
    pub(super) fn syntax_errors(
        &mut self,
        node: &Node,
        pointer: &str,
        code: u16,
        errors: Vec<SyntaxError>,
    ) {
        let alignment = Alignment::of(node, self.sources);
        for error in errors {
            self.findings.push(
                Finding::error(error.code.unwrap_or(Code(code)), error.message)
                    .at(alignment.place(error.extent))
                    .pointer(pointer)
                    .maybe_hint(error.hint),
            );
        }
    }
}
