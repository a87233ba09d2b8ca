//! `pipeline_ref`: a child by its name, of the document's own `pipelines` or of the host's (2.16).

use super::{
    Check, Section,
    child::{Named, Scope},
};
use crate::{
    definition::Child,
    diagnostic::{Code, Finding},
    source::{Content, FILES_MAX, FileId, NotRegistered, Wanted},
    spelling,
};

/// Most names that a text lists.
const SHOWN_MAX: usize = 20;

impl Check<'_> {
    /// A child that the document, or one around it, names among its `pipelines`; else one of the host's.
    pub(super) fn registered_child(&mut self, scope: &Scope<'_, '_>) -> Option<Child> {
        let section = scope.section;
        let wanted = section.text("pipeline_ref")?;
        let version = self.wanted_version(section)?;
        let scopes = self.around.iter().map(|around| &around.known).chain([&self.known]);
        let found = scopes.rev().find_map(|known| known.pipelines.get(wanted)).cloned();
        if let Some((node, pointer)) = found {
            let named = Named { node: &node, pointer };
            let path = node.as_text()?;
            let file = self.open_child(path, &named)?;
            self.has_version(section, wanted, file, version.as_ref())?;
            return self.opened_child(scope, path, file, &named);
        }
        let registry = self.loader.registry();
        let found = registry.map(|registry| registry.find(wanted, version.as_ref()));
        match found {
            Some(Ok(registered)) => {
                if !self.sources.has_room_for(&registered.file) {
                    let text = format!("the definition has more than {FILES_MAX} files");
                    self.findings.push(section.fault(107, "pipeline_ref", text));
                    return None;
                }
                let file = self.sources.add(&registered.file, &mut self.findings);
                let pointer = section.pointer_of("pipeline_ref");
                let named = Named { node: section.node("pipeline_ref")?, pointer };
                self.opened_child(scope, wanted, file, &named)
            }
            Some(Err(NotRegistered::Version(versions))) => {
                let there = match versions.as_slice() {
                    [] => "without a version".to_owned(),
                    versions => format!("in {}", listed(versions)),
                };
                let asked = version.map(|version| version.to_string()).unwrap_or_default();
                let text = format!("`{wanted}` is registered {there}, and not in {asked}");
                self.findings.push(section.fault(506, "version", text));
                None
            }
            Some(Err(NotRegistered::Name)) | None => {
                self.not_registered(section, wanted);
                None
            }
        }
    }

    fn not_registered(&mut self, section: &Section<'_>, wanted: &str) {
        let scopes = self.around.iter().map(|around| &around.known).chain([&self.known]);
        let own = scopes.flat_map(|known| known.pipelines.keys()).map(String::as_str);
        let host = self.loader.registry().into_iter().flat_map(|registry| registry.names());
        let mut names: Vec<&str> = own.chain(host).collect();
        names.sort_unstable();
        names.dedup();
        let of_host = if self.loader.registry().is_some() { " or of the host" } else { "" };
        let mut text = format!("`{wanted}` is not among the `pipelines` of the document{of_host}");
        if !names.is_empty() {
            text = format!("{text}, which are: {}", listed(&names));
        }
        let hint = spelling::did_you_mean(wanted, names);
        self.findings.push(section.fault(506, "pipeline_ref", text).maybe_hint(hint));
    }

    /// `Some(None)` when any will do.
    fn wanted_version(&mut self, section: &Section<'_>) -> Option<Option<Wanted>> {
        let Some(node) = section.node("version") else { return Some(None) };
        let Some(text) = node.as_text() else {
            let finding = section.wrong_type("version", "a string");
            self.findings.push(finding.hint("put it in quotes: `\"1.0\"`"));
            return None;
        };
        let wanted = Wanted::parse(text);
        if wanted.is_none() {
            let text = format!("version must be a version or a ^-range, got: {text}");
            self.findings
                .push(section.fault(204, "version", text).hint("such as `1.2.0` or `^1.2`"));
        }
        wanted.map(Some)
    }

    /// The file that `pipelines` names for `name` is of the version that is asked for.
    fn has_version(
        &mut self,
        section: &Section<'_>,
        name: &str,
        file: FileId,
        wanted: Option<&Wanted>,
    ) -> Option<()> {
        let Some(wanted) = wanted else { return Some(()) };
        // What is wrong with a file that is no YAML is told already.
        let tree = self.sources.tree(file)?;
        let node = tree.under("workflow").and_then(|workflow| workflow.under("version"));
        let version = node.and_then(|node| match &node.content {
            Content::Text { value, .. } => Some(value.clone()),
            Content::Number(number) => Some(number.to_string()),
            Content::Null | Content::Bool(_) | Content::List(_) | Content::Map(_) => None,
        });
        if version.as_deref().is_some_and(|version| wanted.accepts(version)) {
            return Some(());
        }
        let is =
            version.map_or_else(|| "without a version".to_owned(), |it| format!("version {it}"));
        let text = format!("`{name}` is {} {is}, and not {wanted}", self.sources.name(file));
        let finding = Finding::error(Code(506), text);
        let at = section.node("version").map_or(section.extent, |node| node.extent);
        self.findings.push(finding.at(at).pointer(section.pointer_of("version")));
        None
    }
}

/// Names, not more than a text can hold.
fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<String> =
        names.iter().take(SHOWN_MAX).map(|name| format!("`{}`", name.as_ref())).collect();
    let more = if names.len() > SHOWN_MAX { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
