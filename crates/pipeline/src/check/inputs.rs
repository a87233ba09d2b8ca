//! Declarations of inputs (1.4).

use std::collections::HashMap;

use super::{Check, Section, keys, section::LATER};
use crate::{
    definition::{Input, InputType, Ordered},
    diagnostic::{Code, Finding},
    source::Content,
};

impl Check<'_> {
    /// The declared inputs, with the values of `input` as their defaults.
    pub(super) fn declared_inputs(&mut self, workflow: &Section<'_>) -> Vec<Input> {
        let mut inputs = Vec::new();
        if let Some(section) = self.map(workflow, "inputs") {
            for entry in section.entries() {
                self.known.inputs.insert(entry.key.clone());
                inputs.extend(self.declared(&section, &entry.key));
            }
        }
        let Some(values) = self.map(workflow, "input") else { return inputs };
        let mut places: HashMap<String, usize> =
            inputs.iter().enumerate().map(|(place, input)| (input.name.clone(), place)).collect();
        for entry in values.entries() {
            self.known.inputs.insert(entry.key.clone());
            let default = Some(Ordered(entry.value.to_value()));
            let place = *places.entry(entry.key.clone()).or_insert_with(|| {
                let implied = Input::implied(entry.key.as_str());
                inputs.push(Input { declared: true, required: false, ..implied });
                inputs.len() - 1
            });
            inputs[place].default = default;
            let fault = inputs[place].fault(&entry.value.to_value());
            if let Some(fault) = fault {
                let text = format!("input `{}`: {fault}", entry.key);
                self.findings.push(values.fault(510, &entry.key, text));
            }
        }
        inputs
    }

    fn declared(&mut self, section: &Section<'_>, name: &str) -> Option<Input> {
        let bare = Input { declared: true, ..Input::implied(name) };
        let node = section.node(name)?;
        match &node.content {
            Content::Text { .. } => {
                let kind = self.input_type(section, name)?;
                Some(Input { kind, ..bare })
            }
            Content::Map(_) => {
                let inner = self.map(section, name)?;
                self.unknown_keys(&inner, &[&keys::INPUT]);
                let kind = match inner.get("type") {
                    Some(_) => self.input_type(&inner, "type"),
                    None => Some(InputType::Any),
                };
                let required = self.flag(&inner, "required");
                let description = self.text(&inner, "description").map(str::to_owned);
                if self.flag(&inner, "secret") == Some(true) {
                    let text = format!("input `{name}` is secret, and nothing is redacted yet");
                    self.findings.push(inner.fault(202, "secret", text).hint(LATER));
                }
                let allowed = self.list(&inner, "enum").and_then(|_| inner.node("enum"));
                let allowed = allowed.map(|node| Ordered(node.to_value()));
                let default = inner.node("default").map(|node| Ordered(node.to_value()));
                let required = required.unwrap_or(default.is_none());
                let input = Input { kind: kind?, description, required, default, allowed, ..bare };
                if let Some(fault) = input.default_value().and_then(|value| input.fault(value)) {
                    let text = format!("default of input `{name}`: {fault}");
                    self.findings.push(inner.fault(510, "default", text));
                }
                Some(input)
            }
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::List(_) => {
                let text = format!("inputs.{name} must be a type name or a map");
                let pointer = section.pointer_of(name);
                self.findings
                    .push(Finding::error(Code(203), text).at(node.extent).pointer(pointer));
                None
            }
        }
    }

    fn input_type(&mut self, section: &Section<'_>, key: &str) -> Option<InputType> {
        let names = InputType::ALL.map(InputType::name);
        let found = self.one_of(section, key, &names, &[])?;
        InputType::ALL.into_iter().find(|kind| kind.name() == found)
    }
}
