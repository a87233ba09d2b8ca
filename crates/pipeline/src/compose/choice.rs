//! `$if`, `$then`, `$else`: decided at load (YF-45).

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::merge::{merge, without};
use crate::{
    check::{Check, Standpoint},
    definition::Ordered,
    deployment::{Deployed, Deployment},
    diagnostic::{Code, Finding},
    environment::{substituted, typed},
    expression::{Missing, Names, Path, Place, Segment, Standing, Stop, Undecided, walk},
    source::{Content, Entry, Extent, Node, SourceLoader},
};

const CHOICE: [&str; 3] = ["$if", "$then", "$else"];

/// All that a condition sees at load.
#[derive(Debug)]
pub(super) struct View<'a> {
    loader: &'a dyn SourceLoader,
    empty_when_missing: bool,
    environment: Value,
    inputs: Value,
}

impl<'a> View<'a> {
    /// What there is to see of `workflow`, in which nothing was chosen yet.
    pub(super) fn of(
        workflow: &Node,
        loader: &'a dyn SourceLoader,
        empty_when_missing: bool,
        deployment: &Deployment,
    ) -> Self {
        let get = |node: &Node, key: &str| {
            node.as_map()?.iter().find(|entry| entry.key == key).map(|entry| entry.value.clone())
        };
        let section = |key: &str| get(workflow, key).map(|node| node.to_value());
        let mut inputs = Map::new();
        let declared = get(workflow, "inputs");
        for entry in declared.as_ref().and_then(Node::as_map).unwrap_or(&[]) {
            if let Some(default) = get(&entry.value, "default") {
                inputs.insert(entry.key.clone(), default.to_value());
            }
        }
        if let Some(Value::Object(values)) = section("input") {
            inputs.extend(values);
        }
        let variable = |name: &str| loader.variable(name);
        let environment = section("environment").map(|section| substituted(&section, &variable));
        let environment = environment.as_ref().and_then(Value::as_object);
        // What is no mode is reported once the document is put together.
        let document = environment.and_then(|section| section.get("mode")?.as_str()?.parse().ok());
        let named = variable("PERENNIAL_ENV").and_then(|text| text.parse().ok());
        let mode = deployment.mode(document, named);
        let section = environment.map(|section| Ordered(Deployed::in_mode(section, mode)));
        let environment = Deployed { mode, section, ..Deployed::default() }.facts();
        let inputs = substituted(&Value::Object(inputs), &variable);
        Self { loader, empty_when_missing, environment, inputs }
    }
}

impl Names for View<'_> {
    fn find(&self, path: &Path, _: Place) -> Result<Cow<'_, Value>, Missing> {
        let found = match path.root.as_str() {
            "environment" => walk(Cow::Borrowed(&self.environment), &path.segments),
            "inputs" => walk(Cow::Borrowed(&self.inputs), &path.segments),
            "env" => {
                let name = path.segments.first().and_then(Segment::field).map(|(name, _)| name);
                match name.and_then(|name| self.variable(name)) {
                    Some(value) => walk(Cow::Owned(typed(&value)), &path.segments[1..]),
                    None => Err(Some(Vec::new())),
                }
            }
            _ => Err(None),
        };
        found.map_err(|available| Missing { path: path.to_string(), available })
    }

    fn uuid(&self) -> String {
        String::new()
    }

    fn now(&self) -> String {
        String::new()
    }

    fn warn(&self, _: String) {}

    fn variable(&self, name: &str) -> Option<String> {
        let missing = || self.empty_when_missing.then(String::new);
        self.loader.variable(name).or_else(missing)
    }

    fn undecided(&self) -> Undecided {
        Undecided::Error
    }
}

impl Check<'_> {
    /// `node` with all its conditions decided. Steps are left as they are.
    pub(super) fn chosen(
        &mut self,
        node: &Node,
        pointer: &str,
        is_workflow: bool,
        view: &View<'_>,
    ) -> Node {
        let content = match &node.content {
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text { .. } => {
                return node.clone();
            }
            Content::List(items) => {
                let each = |(place, item): (usize, &Node)| {
                    self.chosen(item, &format!("{pointer}/{place}"), false, view)
                };
                Content::List(items.iter().enumerate().map(each).collect())
            }
            Content::Map(entries) => {
                let each = |entry: &Entry| {
                    let inner = format!("{pointer}/{}", entry.key);
                    let is_branch = matches!(entry.key.as_str(), "$then" | "$else");
                    let is_left = entry.key == "$if" || entry.key.starts_with("x-");
                    let value = if is_left || (is_workflow && entry.key == "steps") {
                        entry.value.clone()
                    } else {
                        self.chosen(&entry.value, &inner, is_workflow && is_branch, view)
                    };
                    Entry { value, ..entry.clone() }
                };
                Content::Map(entries.iter().map(each).collect())
            }
        };
        let node = Node::of(node.extent, content);
        let Some(entries) = node.as_map() else { return node };
        let get = |key: &str| entries.iter().find(|entry| entry.key == key);
        let branches = [get("$then"), get("$else")];
        let Some(condition) = get("$if") else {
            for branch in branches.into_iter().flatten() {
                let text = format!("`{}` needs an `$if` beside it", branch.key);
                let finding = Finding::error(Code(201), text).at(branch.key_extent);
                self.findings.push(finding.pointer(format!("{pointer}/{}", branch.key)));
            }
            return without(&node, &CHOICE);
        };
        for branch in branches.into_iter().flatten() {
            self.refuse_branch(branch, pointer, is_workflow);
        }
        let surrounding = without(&node, &CHOICE);
        let chosen = match self.decided(&condition.value, &format!("{pointer}/$if"), view) {
            Some(true) => branches[0],
            Some(false) => branches[1],
            None => None,
        };
        match chosen {
            Some(branch) if branch.value.as_map().is_some() => {
                Node { extent: surrounding.extent, ..merge(surrounding, branch.value.clone()) }
            }
            Some(_) | None => surrounding,
        }
    }

    /// A branch is a map, and does not name files.
    fn refuse_branch(&mut self, branch: &Entry, pointer: &str, is_workflow: bool) {
        let pointer = format!("{pointer}/{}", branch.key);
        let Some(entries) = branch.value.as_map() else {
            let text = format!("`{}` must be a map", branch.key);
            let finding = Finding::error(Code(203), text).at(branch.value.extent);
            return self.findings.push(finding.pointer(pointer));
        };
        let files = |entry: &&Entry| matches!(entry.key.as_str(), "extends" | "include");
        for entry in entries.iter().filter(files).filter(|_| is_workflow) {
            let text = format!("`{}` has no place in `{}`", entry.key, branch.key);
            let finding = Finding::error(Code(202), text).at(entry.key_extent);
            let hint = "which files there are does not depend on conditions";
            self.findings.push(finding.pointer(format!("{pointer}/{}", entry.key)).hint(hint));
        }
    }

    fn decided(&mut self, node: &Node, pointer: &str, view: &View<'_>) -> Option<bool> {
        let from = Standpoint { step: 0, whole: "`$if`" };
        self.bindings.at_load = true;
        let condition = self.condition(node, pointer, from);
        self.bindings.at_load = false;
        let Some(condition) = condition else {
            if node.is_null() {
                let text = "`$if` needs a condition";
                let finding = Finding::error(Code(203), text).at(node.extent);
                self.findings.push(finding.pointer(pointer));
            }
            return None;
        };
        match condition.is_met(view) {
            Ok(met) => Some(met),
            Err(stop) => {
                self.findings.push(undecided(&stop).at(node.extent).pointer(pointer));
                None
            }
        }
    }

    /// The fault of a path in `$if` that is not known at load.
    pub(crate) fn unseen_at_load(path: &Path, standing: Standing) -> Vec<(Extent, Finding)> {
        let roots = ["env", "environment", "inputs"];
        if standing.element || roots.contains(&path.root.as_str()) {
            return Vec::new();
        }
        let text = format!("`$if` does not see `{}`", path.root);
        let hint = "it sees `${NAME}`, `env`, `environment` and the defaults of `inputs`";
        vec![(path.root_extent, Finding::error(Code(307), text).hint(hint))]
    }
}

fn undecided(stop: &Stop) -> Finding {
    match stop {
        Stop::Missing(missing) | Stop::Undecided(missing) => {
            let text = format!("`{}` is not known when the document is loaded", missing.path);
            Finding::error(Code(314), text).hint(format!("there is: {}", missing.fields()))
        }
        Stop::Fault(fault) => Finding::error(Code(402), fault.message.clone()),
    }
}
