//! Lists of steps inside of a step: their names, which are a scope of their own, and their steps (1.7, 4.4).
//!
//! Steps are numbered in the order in which they come first: a step before those of its bodies, and those before
//! the next step. Whether a name is bound early enough is then a comparison of numbers in every scope.

use std::collections::HashMap;

use super::{Check, Known, Section, defaults::Defaults, policy::OnError};
use crate::{
    definition::Body,
    diagnostic::{Code, Finding, Severity},
    expression::{ERROR_ROOT, Path},
    source::{Extent, Node},
    spelling,
};

/// Keys that may hold a handler.
const HANDLERS: [&str; 2] = ["on_error", "error_handler"];

/// What the root `error` has.
const ERROR_FIELDS: [&str; 11] = [
    "code",
    "class",
    "type",
    "message",
    "step",
    "path",
    "attempt",
    "at",
    "retryable",
    "cause",
    "location",
];

/// The names of a body that is checked.
#[derive(Debug)]
pub(super) struct Names {
    steps: HashMap<String, usize>,
    /// The number of the step that has the body.
    pub(super) place: usize,
}

/// Where a step stands that is not visible from outside.
#[derive(Clone, Debug)]
pub(super) enum Inside {
    /// In a child; this is where it is found.
    Child(String),
    /// In the handler of this step.
    Handler(String),
}

impl Inside {
    /// Why `name` is not visible, and what to write instead.
    pub(super) fn finding(&self, name: &str) -> Finding {
        match self {
            Self::Child(path) => {
                let text = format!("step `{name}` is a step of a child and not visible here");
                Finding::error(Code(307), text).hint(format!("write `{path}`"))
            }
            Self::Handler(holder) => {
                let text = format!(
                    "step `{name}` is a step of the handler of `{holder}` and not visible here"
                );
                Finding::error(Code(307), text).hint(format!(
                    "write `steps.{holder}.handled`: the value of the last step of the handler"
                ))
            }
        }
    }
}

/// The steps of the handler of a step, and the key they stand under.
pub(super) fn handler_of<'n>(step: &Section<'n>) -> Option<(&'static str, &'n [Node])> {
    HANDLERS.into_iter().find_map(|key| Some((key, step.node(key)?.as_list()?)))
}

/// How many numbers the step `node` takes: its own, and those of the steps inside of it.
pub(super) fn weight(node: &Node) -> usize {
    let handler = Section::of(node, "", "", "").and_then(|step| handler_of(&step));
    1 + handler.map_or(0, |(_, nodes)| nodes.iter().map(weight).sum())
}

/// The steps `nodes`, each with its number; the first has the number `first`.
pub(super) fn numbered(nodes: &[Node], first: usize) -> impl Iterator<Item = (usize, &Node)> {
    nodes.iter().scan(first, |next, node| {
        let place = *next;
        *next += weight(node);
        Some((place, node))
    })
}

impl Known {
    /// The number of the step `name` that is visible: the innermost of that name.
    pub(super) fn place_of(&self, name: &str) -> Option<usize> {
        let inner = self.bodies.iter().rev().find_map(|body| body.steps.get(name));
        inner.or_else(|| self.steps.get(name)).copied()
    }

    /// The number of the step `name` of the innermost scope.
    pub(super) fn place_here(&self, name: &str) -> Option<usize> {
        self.bodies.last().map_or(&self.steps, |body| &body.steps).get(name).copied()
    }

    /// Whether a scope around the innermost one has a step `name`.
    pub(super) fn is_shadowed(&self, name: &str) -> bool {
        let Some((_, outer)) = self.bodies.split_last() else { return false };
        self.steps.contains_key(name) || outer.iter().any(|body| body.steps.contains_key(name))
    }

    /// The names of all steps that are visible.
    pub(super) fn visible(&self) -> Vec<&str> {
        let inner = self.bodies.iter().flat_map(|body| body.steps.keys());
        let mut names: Vec<&str> = self.steps.keys().chain(inner).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Check<'_> {
    /// The handler of the step number `place`; `Some(None)` without one.
    pub(super) fn handler(
        &mut self,
        section: &Section<'_>,
        place: usize,
        policy: OnError,
        defaults: &Defaults,
    ) -> Option<Option<Body>> {
        if policy != OnError::Handle {
            return Some(None);
        }
        let (key, nodes) = handler_of(section)?;
        if nodes.is_empty() {
            let text = format!("`{key}` must contain at least one step");
            self.findings.push(section.fault(206, key, text));
            return None;
        }
        let mut steps = HashMap::new();
        for (place, node) in numbered(nodes, place + 1) {
            let name = Section::of(node, "", "", "").and_then(|step| step.node("name")?.as_text());
            if let Some(name) = name {
                steps.entry(name.to_owned()).or_insert(place);
            }
        }
        self.known.bodies.push(Names { steps, place });
        let pointer = section.pointer_of(key);
        let mut checked = Vec::with_capacity(nodes.len());
        for (index, (place, node)) in numbered(nodes, place + 1).enumerate() {
            checked.push(self.step(node, &format!("{pointer}/{index}"), place, defaults));
        }
        self.known.bodies.pop();
        Some(Some(Body { steps: checked.into_iter().collect::<Option<_>>()? }))
    }

    /// A body step that has the name of a step around it.
    pub(super) fn no_shadow(&mut self, name: &str, section: &Section<'_>) {
        if self.known.is_shadowed(name) {
            let text = "the step has the name of a step around it, and hides it";
            let at = section.node("name").map_or(section.extent, |node| node.extent);
            let finding = Finding::new(Code(304), Severity::Warning, text).at(at);
            self.findings.push(finding.pointer(section.pointer_of("name")));
        }
    }

    /// What is wrong with a path that begins with `error` in a handler.
    pub(super) fn error_path(&self, path: &Path, may_miss: bool) -> Vec<(Extent, Finding)> {
        let Some((name, extent)) = path.segments.first().and_then(|segment| segment.field()) else {
            return Vec::new();
        };
        if may_miss || ERROR_FIELDS.contains(&name) {
            return Vec::new();
        }
        let text = format!("`{ERROR_ROOT}` never has `{name}`");
        let has = format!("it has {}", ERROR_FIELDS.join(", "));
        let hint = match spelling::did_you_mean(name, ERROR_FIELDS) {
            Some(hint) => format!("{hint} {has}"),
            None => has,
        };
        vec![(extent, Finding::error(Code(310), text).hint(hint))]
    }

    /// What is wrong with `error` outside of handlers.
    pub(super) fn no_error(&self, path: &Path, whole: &str) -> (Extent, Finding) {
        let text = format!("`{ERROR_ROOT}` is not available in {whole}: only handlers have it");
        let hint = if self.around.iter().any(|around| !around.known.bodies.is_empty()) {
            "give it to the child: `inputs: {failure: \"{{ error }}\"}`"
        } else {
            "a failure that was tolerated is `steps.<name>.error`"
        };
        (path.extent, Finding::error(Code(307), text).hint(hint))
    }
}
