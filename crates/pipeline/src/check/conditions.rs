//! Conditions, parsed at load (YC-1, YC-5).

use super::{
    Check,
    references::{Standpoint, Use},
};
use crate::{
    diagnostic::{Code, Finding, Severity},
    expression::{Condition, ConditionForm, ConditionText, Expression, Place, Standing},
    source::{Content, Entry, Node},
};

impl Check<'_> {
    /// The condition `node`; null is none.
    pub(crate) fn condition(
        &mut self,
        node: &Node,
        pointer: &str,
        from: Standpoint<'_>,
    ) -> Option<Condition> {
        if node.is_null() {
            return None;
        }
        let form = self.condition_form(node, pointer, from)?;
        Some(Condition { shown: Condition::shown(&node.to_source()), form })
    }

    fn condition_form(
        &mut self,
        node: &Node,
        pointer: &str,
        from: Standpoint<'_>,
    ) -> Option<ConditionForm> {
        let odd = |text: &str| {
            Finding::new(Code(411), Severity::Warning, text).at(node.extent).pointer(pointer)
        };
        self.bound_later(node);
        match node.source() {
            Content::Null => {
                let text = "a condition must be a boolean, a string, a list or a map";
                self.findings
                    .push(Finding::error(Code(203), text).at(node.extent).pointer(pointer));
                None
            }
            Content::Bool(value) => Some(ConditionForm::Constant(*value)),
            Content::Number(_) => {
                self.findings.push(odd("the condition is a number, which is always true"));
                Some(ConditionForm::Constant(true))
            }
            Content::Text { value, .. } if value.trim().is_empty() => {
                self.findings.push(odd("the condition is an empty string, which is always false"));
                Some(ConditionForm::Constant(false))
            }
            Content::Text { value, .. } => match ConditionText::parse(value) {
                Ok(parsed) => {
                    let mut uses: Vec<Use<'_>> = Vec::new();
                    parsed.expression.paths(Standing::default(), &mut |path, standing| {
                        uses.push(Use { path, standing });
                    });
                    self.references(node, pointer, &uses, Place::Condition, from);
                    let plain = matches!(
                        parsed.expression,
                        Expression::Literal(serde_json::Value::Bool(_))
                    );
                    if !plain && parsed.expression.is_constant() {
                        let text = "the condition is constant: it depends on nothing";
                        let warning = Finding::new(Code(408), Severity::Warning, text);
                        self.findings.push(warning.at(node.extent).pointer(pointer));
                    }
                    Some(ConditionForm::Expression(parsed))
                }
                Err(error) => {
                    self.syntax_errors(node, pointer, 402, vec![error]);
                    None
                }
            },
            Content::List(items) => self.conditions(items, pointer, from).map(ConditionForm::All),
            Content::Map(entries) => self.combined(node, entries, pointer, from),
        }
    }

    fn combined(
        &mut self,
        node: &Node,
        entries: &[Entry],
        pointer: &str,
        from: Standpoint<'_>,
    ) -> Option<ConditionForm> {
        let [Entry { key, value, .. }] = entries else {
            return self.refuse_map(node, pointer);
        };
        let inner = format!("{pointer}/{key}");
        match (key.as_str(), value.as_list()) {
            ("and", Some(items)) => self.conditions(items, &inner, from).map(ConditionForm::All),
            ("or", Some(items)) => self.conditions(items, &inner, from).map(ConditionForm::Any),
            ("not", _) => {
                let form = self.condition_form(value, &inner, from)?;
                Some(ConditionForm::Not(Box::new(form)))
            }
            ("and" | "or", None) => {
                let text = format!("`{key}` must be a list");
                self.findings.push(Finding::error(Code(203), text).at(value.extent).pointer(inner));
                None
            }
            _ => self.refuse_map(node, pointer),
        }
    }

    fn refuse_map(&mut self, node: &Node, pointer: &str) -> Option<ConditionForm> {
        let text = "a condition map has exactly one of `and`, `or` and `not`";
        self.findings.push(Finding::error(Code(407), text).at(node.extent).pointer(pointer));
        None
    }

    fn conditions(
        &mut self,
        items: &[Node],
        pointer: &str,
        from: Standpoint<'_>,
    ) -> Option<Vec<ConditionForm>> {
        let forms: Vec<Option<ConditionForm>> = items
            .iter()
            .enumerate()
            .map(|(place, item)| self.condition_form(item, &format!("{pointer}/{place}"), from))
            .collect();
        forms.into_iter().collect()
    }
}
