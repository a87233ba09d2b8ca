//! `file` parts: what can be known of them before they are read.

use perennial_tools::files::Pattern;

use super::{
    super::{Check, Section, files::climbs, references::Standpoint},
    shaping::is_placeholder,
};
use crate::{
    definition::{Encoding, FilePart, PromptPart},
    diagnostic::{Code, Finding, Severity},
    expression::TemplateTree,
    source::Node,
};

/// Files of one part, when it does not say (3.1).
const FILES_MAX: u32 = 500;

impl Check<'_> {
    /// A path is looked for below the project root and beside the document (YR-70); one that climbs
    /// above both leaves every root that is known here (YR-72).
    fn warn_of_climbing(&mut self, path: &str, section: &Section<'_>) {
        let beside = self.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let is_known = !self.file.starts_with('/');
        let climbs = is_known
            && climbs(path) > 0
            && climbs(format!("{beside}/{path}").trim_start_matches('/')) > 0;
        let is_open = self.lenient.is("read_outside_roots", "true");
        let leaves = climbs || (!is_open && self.is_outside(path));
        if !leaves {
            return;
        }
        let text = format!("the path `{path}` leaves the allowed roots");
        let hint = "allow its place with --allow-path, or set lenient.read_outside_roots";
        self.findings.push(
            Finding::new(Code(521), Severity::Warning, text)
                .at(section.node("path").map_or(section.extent, |node| node.extent))
                .pointer(section.pointer_of("path"))
                .hint(hint),
        );
    }

    pub(super) fn file_part(
        &mut self,
        section: &Section<'_>,
        from: Standpoint<'_>,
    ) -> Option<PromptPart> {
        let variables = self.file_variables(section, from);
        let exclude = self.exclude(section);
        let component = self.template_of(section, "component", from);
        if section.node("path").is_none_or(Node::is_null) {
            self.missing(section, "file prompt part without path");
            return None;
        }
        let path = section.text("path")?;
        if path.trim().is_empty() || path.contains('\0') {
            self.findings.push(section.fault(203, "path", "path must be a path"));
            return None;
        }
        self.warn_of_climbing(path, section);
        let path = self.template_of(section, "path", from);
        Some(PromptPart::File(FilePart {
            path: path?,
            encoding: match section.text("encoding") {
                Some("utf-16") => Encoding::Utf16,
                Some("latin-1") => Encoding::Latin1,
                Some(_) | None => Encoding::Utf8,
            },
            component,
            exclude: exclude?,
            max_files: section.count("max_files").unwrap_or(FILES_MAX),
            variables: variables?,
            templates: section.flag("templates").unwrap_or(false),
        }))
    }

    /// `Some(None)` when there are none.
    #[expect(clippy::option_option, reason = "faulty, absent and there are three things")]
    fn file_variables(
        &mut self,
        section: &Section<'_>,
        from: Standpoint<'_>,
    ) -> Option<Option<Vec<(String, TemplateTree)>>> {
        let Some(entry) = section.get("variables") else { return Some(None) };
        let pointer = section.pointer_of("variables");
        let mut variables = Vec::new();
        for entry in entry.value.as_map()? {
            let inner = format!("{pointer}/{}", entry.key);
            if !is_placeholder(&entry.key) {
                let text = format!("`{}` is no name of a placeholder", entry.key);
                let finding = Finding::error(Code(302), text).at(entry.key_extent);
                self.findings.push(
                    finding
                        .pointer(inner.as_str())
                        .hint("a letter or `_`, then letters, digits and `_`"),
                );
            }
            let value = self.template_tree(&entry.value, &inner, from);
            variables.push(value.map(|value| (entry.key.clone(), value)));
        }
        variables.into_iter().collect::<Option<Vec<_>>>().map(Some)
    }

    fn exclude(&mut self, section: &Section<'_>) -> Option<Vec<String>> {
        let globs: Vec<&str> = match (section.text("exclude"), section.list("exclude")) {
            (Some(glob), _) => vec![glob],
            (None, Some(items)) => items.iter().filter_map(Node::as_text).collect(),
            (None, None) => Vec::new(),
        };
        let mut right = true;
        for glob in &globs {
            if let Err(error) = Pattern::new(glob) {
                self.findings.push(section.fault(406, "exclude", error.to_string()));
                right = false;
            }
        }
        right.then(|| globs.into_iter().map(str::to_owned).collect())
    }
}
