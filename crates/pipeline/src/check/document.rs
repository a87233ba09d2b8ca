//! The root of the document and the keys of `workflow` (1.1, 1.4).

use std::collections::HashMap;

use serde_json::{Map, Value};

use std::mem;

use super::{Check, Section, bodies::numbered, keys, workflow_lenience};
use crate::{
    definition::{BOUND_FACTS, Input, LANGUAGE, Lenience, Model, Ordered, UNDECIDED},
    deployment::Deployed,
    diagnostic::{Code, Finding},
    expression::Undecided,
    source::{Entry, Extent, Node},
};

/// What `workflow.…` reads in an expression.
const FACTS: [&str; 8] =
    ["name", "description", "version", "author", "tags", "metadata", "variables", "global_vars"];

impl Check<'_> {
    /// The model of a document; with errors, as much of it as can be understood.
    pub(super) fn document(&mut self, root: &Node) -> Option<Model> {
        let Some(section) = Section::of(root, "", "", "the document") else {
            self.no_workflow(root.extent, "the document must be a map");
            return None;
        };
        let Some(entry) = section.get("workflow") else {
            let first = section.start();
            let keys: Vec<&str> = section.keys().collect();
            if keys.contains(&"steps") && !keys.contains(&"pipeline") {
                self.no_workflow(first, "indent everything under `workflow:`");
                let whole = Section::of(root, "", "", "`workflow`")?;
                return self.workflow(whole);
            }
            let hint = if keys.contains(&"pipeline") {
                "rename `pipeline` to `workflow` and move `steps` under it".to_owned()
            } else {
                format!("this is not a workflow; its root keys are: {}", shortened(&keys))
            };
            self.no_workflow(first, &hint);
            return None;
        };
        let section = section.read_by(&[&keys::ROOT]);
        self.shape(&section);
        let Some(workflow) = Section::of(&entry.value, "/workflow", "", "`workflow`") else {
            let extent = if entry.value.is_null() { entry.key_extent } else { entry.value.extent };
            let text = "`workflow` must be a map";
            self.findings.push(Finding::error(Code(108), text).at(extent).pointer("/workflow"));
            return None;
        };
        self.workflow(workflow)
    }

    /// Checks the root keys of a document under this one.
    pub(crate) fn root_keys(&mut self, root: &Node) {
        if let Some(section) = Section::of(root, "", "", "the document") {
            self.shape(&section.read_by(&[&keys::ROOT]));
        }
    }

    fn no_workflow(&mut self, extent: Extent, hint: &str) {
        let text = "missing required 'workflow' section";
        self.findings.push(Finding::error(Code(105), text).at(extent).hint(hint));
    }

    /// A workflow, the document's own or a child's.
    pub(super) fn workflow(&mut self, workflow: Section<'_>) -> Option<Model> {
        let workflow = workflow.read_by(&[&keys::WORKFLOW]);
        let lenient = workflow_lenience(workflow.node("lenient"), self.outside, &self.lenient);
        let around = mem::replace(&mut self.lenient, lenient);
        let model = self.workflow_model(&workflow);
        self.lenient = around;
        model
    }

    fn workflow_model(&mut self, workflow: &Section<'_>) -> Option<Model> {
        self.shape(workflow);
        if !self.around.is_empty() {
            self.only_of_a_run(workflow);
        }
        self.known.facts = FACTS.to_vec();
        let language = self.language(workflow);
        let undecided = self.undecided(workflow);
        self.known.undecided = undecided;
        let name = self.workflow_name(workflow);
        self.known.pipelines = registered(workflow);
        let facts = self.facts(workflow);
        let input_schema = self.input_schema(workflow);
        self.named_schemas(workflow);
        let mut inputs = self.declared_inputs(workflow);
        let nodes = self.step_nodes(workflow);
        let nodes = nodes.unwrap_or(&[]);
        self.collect_names(nodes);
        let defaults = self.defaults(workflow);
        let files = self.document_files(workflow, &defaults);
        let mut steps = Vec::new();
        for (index, (place, node)) in numbered(nodes, 0).enumerate() {
            let pointer = format!("{}/steps/{index}", workflow.pointer);
            steps.extend(self.step(node, &pointer, place, &defaults));
        }
        inputs.extend(self.known.implied.iter().map(Input::implied));
        let lenient = self.lenient.clone();
        let file = self.file.to_string();
        let facts = Ordered(facts);
        // Those of children are read for the whole run.
        let is_root = self.around.is_empty();
        let deployed = if is_root { self.deployed.clone() } else { Deployed::default() };
        let within_ms = self.within_ms.filter(|_| is_root);
        let names = || self.bindings.environment.iter().cloned().collect();
        let environment = if is_root { names() } else { Vec::new() };
        let empty_when_missing = is_root && self.bindings.empty_when_missing;
        Some(Model {
            language,
            name: name?,
            file,
            facts,
            undecided,
            lenient,
            environment,
            empty_when_missing,
            files,
            deployed,
            within_ms,
            input_schema,
            inputs,
            steps,
        })
    }

    /// Keys of a workflow that speak of the run, when it is a child's.
    fn only_of_a_run(&mut self, workflow: &Section<'_>) {
        for key in ["max_execution_time", "resource_limits", "safety_config", "safety"] {
            if workflow.get(key).is_some() {
                self.later(workflow, key, &format!("`{key}` of a child"));
            }
        }
    }

    fn language(&mut self, workflow: &Section<'_>) -> u32 {
        let Some(language) = workflow.count("language") else { return LANGUAGE };
        if language > LANGUAGE {
            let text =
                format!("language {language} is newer than this build, which knows {LANGUAGE}");
            self.findings.push(workflow.fault(109, "language", text));
        }
        language
    }

    /// How undecided conditions are read: documents that name their language are strict (1.9).
    fn undecided(&self, workflow: &Section<'_>) -> Undecided {
        let lenient = workflow.map("lenient");
        let written = || lenient.as_ref().and_then(|lenient| lenient.text(UNDECIDED));
        match Lenience::undecided(self.outside).or_else(written) {
            Some("legacy") => Undecided::Legacy,
            Some(_) => Undecided::Error,
            None if workflow.get("language").is_some() => Undecided::Error,
            // A child that stands in its parent's text is read as it is.
            None => match self.around.last() {
                Some(around) if around.file.is_none() => around.known.undecided,
                Some(_) | None => Undecided::Legacy,
            },
        }
    }

    fn workflow_name(&mut self, workflow: &Section<'_>) -> Option<String> {
        let Some(entry) = workflow.get("name") else {
            if self.bindings.incomplete {
                return None;
            }
            let text = "missing required 'name' field";
            self.findings.push(
                Finding::error(Code(201), text)
                    .at(workflow.start())
                    .pointer(workflow.pointer.as_str()),
            );
            return None;
        };
        self.valid_name(entry, &workflow.pointer_of("name"), "workflow")
    }

    /// A name is a text of 1 to 128 characters without control characters and holes (PL302).
    pub(super) fn valid_name(&mut self, entry: &Entry, pointer: &str, of: &str) -> Option<String> {
        let fault = match entry.value.as_text() {
            None => "it must be a string",
            Some("") => "it is empty",
            Some(name) if name.chars().count() > 128 => "it is longer than 128 characters",
            Some(name) if name.chars().any(char::is_control) => "it has control characters",
            Some(name) if name.contains("{{") => "a name is never a template",
            Some(name) => return Some(name.to_owned()),
        };
        let at = if entry.value.is_null() { entry.key_extent } else { entry.value.extent };
        let text = format!("invalid name of a {of}: {fault}");
        self.findings.push(Finding::error(Code(302), text).at(at).pointer(pointer));
        None
    }

    fn facts(&mut self, workflow: &Section<'_>) -> Value {
        if let Some(variables) = workflow.map("variables") {
            self.known.variables.extend(variables.keys().map(str::to_owned));
        }
        if let Some(globals) = workflow.map("global_vars") {
            self.known.globals.extend(globals.keys().map(str::to_owned));
        }
        let mut facts = Map::new();
        for key in FACTS {
            let Some(node) = workflow.node(key) else { continue };
            let value = if BOUND_FACTS.contains(&key) {
                self.all_bound_later(node);
                node.to_source()
            } else {
                node.to_value()
            };
            facts.insert(key.to_owned(), value);
        }
        Value::Object(facts)
    }

    fn step_nodes<'n>(&mut self, workflow: &Section<'n>) -> Option<&'n [Node]> {
        let Some(entry) = workflow.get("steps") else {
            if self.bindings.incomplete {
                return None;
            }
            let text = "missing required 'steps' array";
            let finding = Finding::error(Code(201), text).at(workflow.start());
            self.findings.push(finding.pointer(workflow.pointer.as_str()));
            return None;
        };
        let Some(steps) = workflow.list("steps") else {
            self.findings.push(workflow.wrong_type("steps", "a list"));
            return None;
        };
        if steps.is_empty() {
            let text = "`steps` must contain at least one step";
            let pointer = workflow.pointer_of("steps");
            let finding = Finding::error(Code(206), text).at(entry.value.extent);
            self.findings.push(finding.pointer(pointer));
        }
        Some(steps)
    }
}

/// The files that `pipelines` names, each with its place.
fn registered(workflow: &Section<'_>) -> HashMap<String, (Node, String)> {
    let Some(section) = workflow.map("pipelines") else { return HashMap::new() };
    let place = |entry: &Entry| {
        let pointer = section.pointer_of(&entry.key);
        (entry.key.clone(), (entry.value.clone(), pointer))
    };
    section.entries().map(place).collect()
}

fn shortened(keys: &[&str]) -> String {
    let mut shown = keys.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    if keys.len() > 8 {
        shown.push_str(", …");
    }
    shown
}
