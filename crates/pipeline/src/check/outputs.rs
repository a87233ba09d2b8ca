//! What the parent gets of a child: `outputs`, and which of them are kept (2.16).

use super::{Check, Section, keys};
use crate::{
    definition::{Model, Output, Prune},
    diagnostic::{Code, Finding},
    expression::TextPath,
    source::{Extent, Node},
    spelling,
};

impl Check<'_> {
    /// `outputs`: names of the child's steps, or paths into them.
    pub(super) fn outputs(
        &mut self,
        section: &Section<'_>,
        child: Option<&Model>,
    ) -> Option<Vec<Output>> {
        if section.get("outputs").is_none() {
            return Some(Vec::new());
        }
        let Some(items) = section.list("outputs") else {
            self.findings.push(section.wrong_type("outputs", "a list"));
            return None;
        };
        let pointer = section.pointer_of("outputs");
        let mut outputs: Vec<Output> = Vec::new();
        let mut whole = true;
        for (place, node) in items.iter().enumerate() {
            let pointer = format!("{pointer}/{place}");
            let Some((output, at)) = self.output(node, &pointer, section, child) else {
                whole = false;
                continue;
            };
            if outputs.iter().any(|other| other.name() == output.name()) {
                let text = format!("duplicate output `{}`", output.name());
                self.findings.push(Finding::error(Code(301), text).at(at).pointer(pointer));
            }
            outputs.push(output);
        }
        whole.then_some(outputs)
    }

    /// `prune_results`: names of outputs.
    pub(super) fn prune(
        &mut self,
        section: &Section<'_>,
        outputs: Option<&[Output]>,
        child: Option<&Model>,
    ) -> Prune {
        let known: Option<Vec<&str>> = match (outputs, child) {
            (Some([]), Some(child)) => {
                Some(child.steps.iter().map(|step| step.name.as_str()).collect())
            }
            (Some([]), None) | (None, _) => None,
            (Some(outputs), _) => Some(outputs.iter().map(Output::name).collect()),
        };
        let mut names = |key: &str| {
            let items = section.list(key)?;
            let pointer = section.pointer_of(key);
            let mut names = Vec::new();
            for (place, node) in items.iter().enumerate() {
                let Some(name) = node.as_text() else { continue };
                names.push(name.to_owned());
                let Some(known) = known.as_ref().filter(|known| !known.contains(&name)) else {
                    continue;
                };
                let text = format!("`{name}` is not among the outputs of the child");
                let finding = Finding::error(Code(511), text).at(node.extent);
                let hint = spelling::did_you_mean(name, known.iter().copied());
                self.findings.push(finding.pointer(format!("{pointer}/{place}")).maybe_hint(hint));
            }
            Some(names)
        };
        Prune { keep: names("keep_fields"), remove: names("remove_fields").unwrap_or_default() }
    }

    /// The jobs of a child are exported with its run: keys that say otherwise are told to have no effect.
    pub(super) fn no_own_exports(&mut self, config: &Section<'_>) {
        for key in ["checkpoint_enabled", "checkpoint_frequency", "checkpoint_dir"] {
            let Some(entry) = config.get(key) else { continue };
            let text = format!("`{key}` has no effect: a child is exported with its run");
            let note = Finding::note(Code(220), text).at(entry.key_extent);
            self.findings.push(note.pointer(config.pointer_of(key)));
        }
    }

    fn output(
        &mut self,
        node: &Node,
        pointer: &str,
        section: &Section<'_>,
        child: Option<&Model>,
    ) -> Option<(Output, Extent)> {
        if let Some(name) = node.as_text() {
            let text = || format!("Output '{name}' not found in results");
            self.output_step(name, node.extent, pointer, child, text);
            return Some((Output::Step(name.to_owned()), node.extent));
        }
        let whole = format!("an output of {}", section.whole);
        let Some(inner) = Section::of(node, pointer, "output ", &whole) else {
            let text = "an output must be the name of a step or a map with `path` and `as`";
            self.findings.push(Finding::error(Code(203), text).at(node.extent).pointer(pointer));
            return None;
        };
        let inner = inner.read_by(&[&keys::OUTPUT]);
        self.shape(&inner);
        let Some(path_node) = inner.node("path") else {
            let text = "output missing required 'path' field";
            self.findings.push(Finding::error(Code(201), text).at(node.extent).pointer(pointer));
            return None;
        };
        let path = inner.text("path")?;
        let name = match inner.get("as") {
            Some(entry) => self.valid_name(entry, &inner.pointer_of("as"), "output")?,
            None => last_name(path).to_owned(),
        };
        match TextPath::parse(path) {
            Err(error) => {
                let code = if path.trim_start().starts_with('$') { 410 } else { 401 };
                self.syntax_errors(path_node, &inner.pointer_of("path"), code, vec![error]);
                return None;
            }
            Ok(TextPath::Definite(segments)) => {
                if let Some((first, _)) = segments.first().and_then(|segment| segment.field()) {
                    let text = || format!("Path '{path}' not found in results");
                    let pointer = inner.pointer_of("path");
                    self.output_step(first, path_node.extent, &pointer, child, text);
                }
            }
            Ok(TextPath::Query(_)) => (),
        }
        Some((Output::Path { path: path.to_owned(), name }, path_node.extent))
    }

    /// The step that an output begins with has to be one of the child's.
    fn output_step(
        &mut self,
        name: &str,
        at: Extent,
        pointer: &str,
        child: Option<&Model>,
        text: impl Fn() -> String,
    ) {
        let Some(child) = child else { return };
        if child.steps.iter().any(|step| step.name == name) {
            return;
        }
        let text = format!("{}: the child `{}` has no step `{name}`", text(), child.name);
        let names = child.steps.iter().map(|step| step.name.as_str());
        let finding = Finding::error(Code(511), text).at(at).pointer(pointer);
        self.findings.push(finding.maybe_hint(spelling::did_you_mean(name, names)));
    }
}

/// The last name in a path.
fn last_name(path: &str) -> &str {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let mut parts = path.split(|c: char| !is_part(c));
    parts.rfind(|part| part.contains(|c: char| !c.is_ascii_digit())).unwrap_or(path)
}
