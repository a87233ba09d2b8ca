//! Declarations of inputs (1.4).

use std::collections::HashMap;

use super::{Check, Section};
use crate::{
    definition::{Input, InputType, Ordered},
    source::Content,
};

impl Check<'_> {
    /// The declared inputs, with the values of `input` as their defaults.
    pub(super) fn declared_inputs(&mut self, workflow: &Section<'_>) -> Vec<Input> {
        let mut inputs = Vec::new();
        if let Some(section) = workflow.map("inputs") {
            for entry in section.entries() {
                self.known.inputs.insert(entry.key.clone());
                inputs.extend(self.declared(&section, &entry.key));
            }
        }
        let Some(values) = workflow.map("input") else { return inputs };
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
            Content::Text { .. } => Some(Input { kind: input_type(section, name)?, ..bare }),
            Content::Map(_) => {
                let inner = section.map(name)?;
                let kind = match inner.get("type") {
                    Some(_) => input_type(&inner, "type"),
                    None => Some(InputType::Any),
                };
                let description = inner.text("description").map(str::to_owned);
                let allowed = inner.node("enum").filter(|node| node.as_list().is_some());
                let allowed = allowed.map(|node| Ordered(node.to_value()));
                let default = inner.node("default").map(|node| Ordered(node.to_value()));
                let required = inner.flag("required").unwrap_or(default.is_none());
                let input = Input { kind: kind?, description, required, default, allowed, ..bare };
                if let Some(fault) = input.default_value().and_then(|value| input.fault(value)) {
                    let text = format!("default of input `{name}`: {fault}");
                    self.findings.push(inner.fault(510, "default", text));
                }
                Some(input)
            }
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::List(_) => None,
        }
    }
}

fn input_type(section: &Section<'_>, key: &str) -> Option<InputType> {
    let found = section.text(key)?;
    InputType::ALL.into_iter().find(|kind| kind.name() == found)
}
