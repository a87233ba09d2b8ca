//! Texts with holes: parsed at load, faults shown at their place inside the text.

use super::{
    Check,
    references::{Standpoint, Use},
};
use crate::{
    definition::MissingHole,
    diagnostic::{Code, Finding},
    expression::{Place, Standing, SyntaxError, Template, TemplateTree},
    source::{Alignment, Content, Node},
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
