//! JSON Schemas in a document: `input_schema`, `schemas` and `output_schema` (1.4, 1.7).

use super::{Check, Section, section::pointer_step};
use crate::{
    definition::{Ordered, REPAIRS, ValueSchema},
    diagnostic::{Code, Finding},
    schemas::{NAMES, PathStep, faults, ready_made},
    source::Node,
    spelling,
};

impl Check<'_> {
    /// `input_schema`.
    pub(super) fn input_schema(&mut self, workflow: &Section<'_>) -> Option<Ordered> {
        let node = workflow.map("input_schema").and(workflow.node("input_schema"))?;
        let schema = Ordered(node.to_value());
        self.schema_faults(node, &workflow.pointer_of("input_schema"), "`input_schema`", &schema);
        Some(schema)
    }

    /// `schemas`: what steps can name.
    pub(super) fn named_schemas(&mut self, workflow: &Section<'_>) {
        let Some(section) = workflow.map("schemas") else { return };
        for entry in section.entries() {
            if entry.value.as_map().is_none() {
                continue;
            }
            let schema = Ordered(entry.value.to_value());
            let what = format!("the schema `{}`", entry.key);
            self.schema_faults(&entry.value, &section.pointer_of(&entry.key), &what, &schema);
            self.known.schemas.insert(entry.key.clone(), schema);
        }
    }

    /// `output_schema` and `max_repairs` of a step, which calls a model or does not.
    pub(super) fn value_schema(
        &mut self,
        section: &Section<'_>,
        calls: bool,
    ) -> Option<ValueSchema> {
        let found = self.output_schema(section);
        if section.get("max_repairs").is_some() {
            let why = if section.get("output_schema").is_none() {
                Some("the step has no `output_schema`")
            } else {
                (!calls).then_some("the step calls no model")
            };
            if let Some(why) = why {
                let note = format!("`max_repairs` has no effect: {why}");
                let at = section.node("max_repairs").map_or(section.extent, |node| node.extent);
                let pointer = section.pointer_of("max_repairs");
                self.findings.push(Finding::note(Code(220), note).at(at).pointer(pointer));
            }
        }
        let (name, schema) = found?;
        let max_repairs = section.count("max_repairs").filter(|_| calls).unwrap_or(REPAIRS);
        Some(ValueSchema { name, schema, max_repairs })
    }

    /// The schema, and its name when it has one.
    fn output_schema(&mut self, section: &Section<'_>) -> Option<(Option<String>, Ordered)> {
        let node = section.node("output_schema")?;
        let pointer = section.pointer_of("output_schema");
        if node.as_map().is_some() {
            let schema = Ordered(node.to_value());
            let what = format!("the `output_schema` of {}", section.whole);
            self.schema_faults(node, &pointer, &what, &schema);
            return Some((None, schema));
        }
        let name = node.as_text()?;
        let schema = self.known.schemas.get(name).cloned();
        if let Some(schema) = schema.or_else(|| ready_made(name).map(Ordered)) {
            return Some((Some(name.to_owned()), schema));
        }
        let text = format!("unknown schema `{name}`");
        let hint = if name.contains("{{") {
            Some("the name of a schema is never a template".to_owned())
        } else {
            let own = self.known.schemas.keys().map(String::as_str);
            spelling::did_you_mean(name, own.clone().chain(NAMES)).or_else(|| {
                let all = own.chain(NAMES).collect::<Vec<_>>().join(", ");
                Some(format!("`schemas` of the workflow names none so; there are: {all}"))
            })
        };
        self.findings.push(section.fault(313, "output_schema", text).maybe_hint(hint));
        None
    }

    /// Everything that is wrong with the schema `node`.
    fn schema_faults(&mut self, node: &Node, pointer: &str, what: &str, schema: &Ordered) {
        for fault in faults(&schema.0) {
            let (at, inside) = reached(node, &fault.path);
            let text = format!("{what} is no valid JSON Schema: {}", fault.shown());
            let finding = Finding::error(Code(fault.code), text).at(at.extent);
            self.findings.push(finding.pointer(format!("{pointer}{inside}")));
        }
    }
}

/// The value of `node` that `path` leads to, or the last one on its way, with the pointer to it.
fn reached<'n>(node: &'n Node, path: &[PathStep]) -> (&'n Node, String) {
    let (mut here, mut pointer) = (node, String::new());
    for step in path {
        let (next, token) = match step {
            PathStep::Item(index) => {
                (here.as_list().and_then(|items| items.get(*index)), index.to_string())
            }
            PathStep::Field(name) => (here.under(name), pointer_step(name)),
        };
        let Some(next) = next else { break };
        here = next;
        pointer = format!("{pointer}/{token}");
    }
    (here, pointer)
}
