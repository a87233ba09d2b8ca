//! The keys of every part: what becomes of its text, and where it goes.

use std::collections::HashMap;

use super::super::{
    Check, Section,
    references::{Standpoint, Use},
};
use crate::{
    definition::{Part, PartTarget, Shaping, Summary},
    diagnostic::{Code, Finding},
    expression::{Filters, Place},
    source::Node,
};

/// Most characters of a summary that names no limit (YP-3).
const SUMMARY_CHARS: u32 = 500;

impl Check<'_> {
    pub(super) fn shaping(
        &mut self,
        section: &Section<'_>,
        from: Standpoint<'_>,
    ) -> Option<Shaping> {
        let transform = match section.node("transform").filter(|node| node.as_text().is_some()) {
            Some(node) => Some(self.transform(section, node, from)?),
            None => None,
        };
        let summary = self.summary(section, from);
        Some(Shaping { transform, summary, max_length: section.count("max_length") })
    }

    fn transform(
        &mut self,
        section: &Section<'_>,
        node: &Node,
        from: Standpoint<'_>,
    ) -> Option<Filters> {
        let text = section.text("transform")?;
        let pointer = section.pointer_of("transform");
        match Filters::parse(text) {
            Ok(filters) => {
                let mut uses: Vec<Use<'_>> = Vec::new();
                filters.paths(&mut |path, standing| uses.push(Use { path, standing }));
                self.references(node, &pointer, &uses, Place::Template, from);
                Some(filters)
            }
            Err(error) => {
                self.syntax_errors(node, &pointer, 401, vec![error]);
                None
            }
        }
    }

    fn summary(&mut self, section: &Section<'_>, from: Standpoint<'_>) -> Option<Summary> {
        let focus = self.template_of(section, "summary_focus", from);
        if section.flag("summary") == Some(true) {
            return Some(Summary {
                bullets: section.text("summary_style") == Some("bullet_points"),
                focus,
                max_length: section.count("max_summary_length").unwrap_or(SUMMARY_CHARS),
            });
        }
        let sums_up =
            section.get("extract_with").is_some() && section.text("format") == Some("summary");
        for key in ["summary_style", "summary_focus", "max_summary_length"] {
            if !(sums_up && key == "max_summary_length") {
                self.idle(section, key, "summary: true");
            }
        }
        None
    }

    pub(super) fn part_target(&mut self, section: &Section<'_>) -> Option<PartTarget> {
        let role = section.text("role");
        let Some(entry) = section.get("inject_as") else {
            return Some(if role == Some("system") {
                PartTarget::System
            } else {
                PartTarget::User
            });
        };
        let name = section.text("inject_as")?;
        if !is_placeholder(name) {
            let text = format!("`{name}` is no name of a placeholder");
            let hint = "a letter or `_`, then letters, digits and `_`";
            self.findings.push(section.fault(302, "inject_as", text).hint(hint));
            return None;
        }
        if role.is_some() {
            let text = "role and inject_as exclude each other: the text goes to one place";
            let finding = Finding::error(Code(207), text).at(entry.key_extent);
            self.findings.push(finding.pointer(section.pointer_of("inject_as")));
        }
        Some(PartTarget::Placeholder(name.to_owned()))
    }

    /// Injected parts need a file with placeholders, and names of their own.
    pub(super) fn placeholders(&mut self, items: &[Node], parts: &[Option<Part>], pointer: &str) {
        let is_file = |node: &Node| {
            let kind = node.as_map().and_then(|map| map.iter().find(|entry| entry.key == "type"));
            kind.is_some_and(|entry| entry.value.as_text() == Some("file"))
        };
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (place, part) in parts.iter().enumerate() {
            let Some(PartTarget::Placeholder(name)) = part.as_ref().map(|part| &part.target) else {
                continue;
            };
            let pointer = format!("{pointer}/{place}/inject_as");
            let at = items[place].extent;
            if seen.insert(name, place).is_some() {
                let text = format!("two parts have `inject_as: {name}`");
                self.findings.push(Finding::error(Code(301), text).at(at).pointer(pointer));
                continue;
            }
            let others = items.iter().enumerate().filter(|(other, _)| *other != place);
            if !others.map(|(_, node)| node).any(is_file) {
                let text = format!("`inject_as: {name}`: the prompt has no file for its text");
                let hint = "the text goes into `{…}` of the other `file` parts, and nowhere else";
                self.findings
                    .push(Finding::error(Code(207), text).at(at).pointer(pointer).hint(hint));
            }
        }
    }
}

/// Whether a file can have a placeholder of this name.
pub(in crate::check) fn is_placeholder(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
    first && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}
