//! Steps of type `file_ops`: the operation and its keys (2.15).

use super::{Check, Section, files::climbs, keys, references::Standpoint, section::LATER};
use crate::{
    definition::{FileOps, Operation},
    diagnostic::{Code, Finding, Severity},
    expression::{Pattern, TemplateTree},
    source::{Content, Node},
    spelling,
};

/// Conversions of `convert`.
pub(crate) const CONVERSIONS: [&str; 6] =
    ["csv_to_json", "json_to_csv", "yaml_to_json", "json_to_yaml", "xml_to_json", "json_to_xml"];
/// What `read` makes of a file.
const READINGS: [&str; 4] = ["text", "json", "yaml", "csv"];
/// What `stream_process` does to lines.
const PROCESSORS: [&str; 5] = ["identity", "uppercase", "lowercase", "trim", "replace"];

impl Check<'_> {
    pub(super) fn file_ops(
        &mut self,
        section: &Section<'_>,
        from: Standpoint<'_>,
    ) -> Option<FileOps> {
        let mut arguments = Vec::new();
        let mut right = true;
        for key in keys::FILE_OPS.keys.iter().filter(|key| key.accepted()) {
            let Some(node) = section.node(key.name).filter(|_| key.name != "operation") else {
                continue;
            };
            let pointer = section.pointer_of(key.name);
            match self.template_tree(node, &pointer, from) {
                Some(tree) => arguments.push((key.name.to_owned(), tree)),
                None => right = false,
            }
        }
        let operation = self.operation(section)?;
        self.keys_of(section, operation);
        for key in ["source", "destination", "path", "files"] {
            if let Some(node) = section.node(key) {
                let writes = key == "destination"
                    || matches!(operation, Operation::Write | Operation::Delete);
                self.paths_of(section, key, node, writes);
            }
        }
        self.words(section, operation);
        right.then(|| FileOps { operation, arguments: TemplateTree::Map(arguments) })
    }

    fn operation(&mut self, section: &Section<'_>) -> Option<Operation> {
        let Some(node) = section.node("operation") else {
            let text = "missing required 'operation' field";
            let finding = Finding::error(Code(201), text).at(section.start());
            self.findings.push(finding.pointer(section.pointer.as_str()));
            return None;
        };
        let name = node.as_text().unwrap_or_default();
        let operation = Operation::from_name(name);
        if operation.is_none() {
            let text = format!(
                "Unsupported operation: {}",
                node.as_text().map_or_else(|| node.shown(), str::to_owned)
            );
            let names = Operation::ALL.iter().map(|operation| operation.name());
            let hint = match name {
                "wait" => Some(LATER.to_owned()),
                name => spelling::did_you_mean(name, names.clone()).or_else(|| {
                    let names: Vec<&str> = names.collect();
                    Some(format!("the operations are: {}", names.join(", ")))
                }),
            };
            self.findings.push(section.fault(204, "operation", text).maybe_hint(hint));
        }
        operation
    }

    /// Keys that are missing, and keys of other operations.
    fn keys_of(&mut self, section: &Section<'_>, operation: Operation) {
        let (needed, possible) = operation.keys();
        for key in needed.iter().filter(|key| section.get(key).is_none()) {
            let text = match (operation, *key) {
                (Operation::Convert, "format") => {
                    "Format conversion type must be specified".to_owned()
                }
                _ => format!("missing required '{key}' field"),
            };
            let finding = Finding::error(Code(201), text).at(section.start());
            self.findings.push(finding.pointer(section.pointer.as_str()));
        }
        let either = ["path", "files"].map(|key| section.get(key).is_some());
        if operation == Operation::Delete && either[0] == either[1] {
            let text = "a `delete` needs one of `path` and `files`";
            let code = if either[0] { 207 } else { 201 };
            let finding = Finding::error(Code(code), text).at(section.start());
            self.findings.push(finding.pointer(section.pointer.as_str()));
        }
        for key in keys::FILE_OPS.keys {
            let own = needed.contains(&key.name) || possible.contains(&key.name);
            let Some(entry) = section.get(key.name).filter(|_| !own && key.name != "operation")
            else {
                continue;
            };
            let text =
                format!("`{}` has no effect on the operation `{}`", key.name, operation.name());
            let note = Finding::note(Code(220), text).at(entry.key_extent);
            self.findings.push(note.pointer(section.pointer_of(key.name)));
        }
    }

    /// No path is null or empty (YS-91), and one that leaves every root is warned of (PL521).
    fn paths_of(&mut self, section: &Section<'_>, key: &str, node: &Node, writes: bool) {
        match &node.content {
            Content::List(items) => {
                items.iter().for_each(|item| self.paths_of(section, key, item, writes));
            }
            Content::Map(entries) => {
                for entry in
                    entries.iter().filter(|entry| matches!(entry.key.as_str(), "path" | "pattern"))
                {
                    self.paths_of(section, key, &entry.value, writes);
                }
            }
            // Of the others the key table says what they are.
            Content::Null | Content::Bool(_) | Content::Number(_)
                if !matches!(key, "source" | "files") => {}
            Content::Null | Content::Bool(_) | Content::Number(_) => {
                self.no_path(section, key, node)
            }
            Content::Text { value, .. } if value.is_empty() || value.contains('\0') => {
                self.no_path(section, key, node);
            }
            // What is read may also lie in the project, above the workspace.
            Content::Text { value, .. }
                if climbs(value) > i32::from(!writes) || self.is_outside(value) =>
            {
                let text = format!("the path `{value}` leaves the directories of the run");
                self.findings.push(
                    Finding::new(Code(521), Severity::Warning, text)
                        .at(node.extent)
                        .pointer(section.pointer_of(key))
                        .hint("it is refused when it is used, unless it leads to an allowed place"),
                );
            }
            Content::Text { .. } => (),
        }
    }

    fn no_path(&mut self, section: &Section<'_>, key: &str, node: &Node) {
        let finding = Finding::error(Code(203), format!("{key} must be a path"));
        self.findings.push(finding.at(node.extent).pointer(section.pointer_of(key)));
    }

    /// Words that only some operations know.
    fn words(&mut self, section: &Section<'_>, operation: Operation) {
        let literal = |key: &str| {
            section.node(key).and_then(Node::as_text).filter(|text| !text.contains("{{"))
        };
        match (operation, literal("format")) {
            (Operation::Convert, Some(format)) if !CONVERSIONS.contains(&format) => {
                let text = format!("Unsupported format conversion: {format}");
                let hint = spelling::did_you_mean(format, CONVERSIONS);
                self.findings.push(section.fault(204, "format", text).maybe_hint(hint));
            }
            (Operation::Read, Some(format)) if !READINGS.contains(&format) => {
                let text =
                    format!("format must be one of: {}, got: \"{format}\"", READINGS.join(", "));
                self.findings.push(section.fault(204, "format", text));
            }
            _ => (),
        }
        if let Some(pattern) = literal("pattern") {
            let kind = literal("pattern_type");
            let is_glob = kind.map_or_else(|| is_glob(pattern), |kind| kind == "glob");
            let fault = if is_glob {
                perennial_tools::files::Pattern::new(pattern).err().map(|error| error.to_string())
            } else {
                Pattern::new(pattern).err()
            };
            if let Some(text) = fault {
                self.findings.push(section.fault(406, "pattern", text));
            }
        }
        if operation == Operation::StreamProcess {
            self.processor(section);
        }
    }

    fn processor(&mut self, section: &Section<'_>) {
        let Some(entry) = section.get("processor") else { return };
        let name = match &entry.value.content {
            Content::Map(entries) => {
                let name =
                    entries.iter().find(|entry| entry.key == "type").map(|entry| &entry.value);
                if name.is_some() {
                    let note = Finding::note(Code(210), "accepted spelling of `processor: <type>`");
                    self.findings
                        .push(note.at(entry.key_extent).pointer(section.pointer_of("processor")));
                }
                let only = entries.first().filter(|_| entries.len() == 1);
                name.and_then(Node::as_text).or_else(|| only.map(|entry| entry.key.as_str()))
            }
            Content::Text { value, .. } => Some(&**value),
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::List(_) => None,
        };
        let known = name.is_some_and(|name| PROCESSORS.contains(&name) || name.contains("{{"));
        if !known {
            let text = format!(
                "processor must be one of: {}, got: {}",
                PROCESSORS.join(", "),
                name.map_or_else(|| entry.value.shown(), |name| format!("\"{name}\""))
            );
            self.findings.push(section.fault(204, "processor", text));
        }
    }
}

/// Whether a pattern on names is a glob: it has a sign of one, and none that only regular expressions have.
pub(crate) fn is_glob(pattern: &str) -> bool {
    let signs = pattern.contains(perennial_tools::files::Pattern::SIGNS);
    let regex = ['\\', '^', '$', '(', '|', '+'].iter().any(|sign| pattern.contains(*sign));
    signs && !regex
}
