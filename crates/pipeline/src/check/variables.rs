//! Names that a step has for itself, gives to others, or takes away (1.7).

use std::collections::HashMap;

use super::{Check, Section, references::Standpoint};
use crate::{
    definition::Cleared,
    diagnostic::{Code, Finding},
    expression::{TemplateTree, TextPath},
    source::{Extent, Node},
};

/// When values come and go, by the places of the steps that make them do so.
#[derive(Debug, Default)]
pub(super) struct Lifetimes {
    /// Steps that set a variable.
    variables: HashMap<String, Vec<usize>>,
    /// Steps that set a constant.
    globals: HashMap<String, Vec<usize>>,
    /// Steps that clear a value, and their names.
    cleared: HashMap<Cleared, Vec<(usize, String)>>,
}

impl Lifetimes {
    pub(super) fn sets(&mut self, variable: &str, place: usize) {
        self.variables.entry(variable.to_owned()).or_default().push(place);
    }

    /// Collects what the step number `place` gives and takes away.
    pub(super) fn collect(&mut self, step: &Section<'_>, name: &str, place: usize) {
        if let Some(name) = step.node("output_to_global").and_then(Node::as_text) {
            self.globals.entry(name.to_owned()).or_default().push(place);
        }
        for item in step.node("clear_vars").and_then(Node::as_list).unwrap_or(&[]) {
            if let Some(cleared) = item.as_text().and_then(cleared) {
                self.cleared.entry(cleared).or_default().push((place, name.to_owned()));
            }
        }
    }

    /// Whether a step sets the constant `name` before step number `place`, or only from it on.
    pub(super) fn global_before(&self, name: &str, place: usize) -> Option<bool> {
        self.globals.get(name).map(|places| places.iter().any(|setter| *setter < place))
    }

    /// Constants that steps before step number `place` set.
    pub(super) fn globals_before(&self, place: usize) -> impl Iterator<Item = String> {
        let set = move |places: &Vec<usize>| places.iter().any(|setter| *setter < place);
        self.globals.iter().filter(move |(_, places)| set(places)).map(|(name, _)| name.clone())
    }

    /// The name of the step that has cleared the value when step number `place` wants it, unless another one
    /// has set it again meanwhile.
    pub(super) fn cleared_by(&self, what: &Cleared, place: usize) -> Option<&str> {
        let clearers = self.cleared.get(what)?;
        let (last, name) =
            clearers.iter().filter(|(at, _)| *at < place).max_by_key(|(at, _)| *at)?;
        let setters = match what {
            Cleared::State(name) => self.variables.get(name),
            Cleared::GlobalVars(name) => self.globals.get(name),
            Cleared::Steps(_) => None,
        };
        let again = setters.is_some_and(|all| all.iter().any(|at| (last + 1..place).contains(at)));
        (!again).then_some(name.as_str())
    }
}

/// What an element of `clear_vars` names.
fn cleared(text: &str) -> Option<Cleared> {
    let Ok(TextPath::Definite(segments)) = TextPath::parse(text) else { return None };
    let [root, name] = segments.as_slice() else { return None };
    let (name, _) = name.field()?;
    let of: fn(String) -> Cleared = match root.field()?.0 {
        "state" => Cleared::State,
        "global_vars" => Cleared::GlobalVars,
        "steps" => Cleared::Steps,
        _ => return None,
    };
    Some(of(name.to_owned()))
}

impl Check<'_> {
    /// The names of one step, each seeing those before it; they are known until the next step.
    pub(super) fn own_variables(
        &mut self,
        section: &Section<'_>,
        from: Standpoint<'_>,
    ) -> Option<Vec<(String, TemplateTree)>> {
        let Some(entry) = section.get("variables") else { return Some(Vec::new()) };
        let map = entry.value.as_map()?;
        let pointer = section.pointer_of("variables");
        let mut variables = Vec::with_capacity(map.len());
        for entry in map {
            let inner = format!("{pointer}/{}", entry.key);
            let value = self.template_tree(&entry.value, &inner, from);
            self.known.own.push(entry.key.clone());
            variables.push(value.map(|value| (entry.key.clone(), value)));
        }
        variables.into_iter().collect()
    }

    pub(super) fn output_to_global(&mut self, section: &Section<'_>) -> Option<String> {
        let entry = section.get("output_to_global")?;
        self.valid_name(entry, &section.pointer_of("output_to_global"), "constant")
    }

    pub(super) fn clear_vars(
        &mut self,
        section: &Section<'_>,
        from: Standpoint<'_>,
    ) -> Vec<Cleared> {
        let pointer = section.pointer_of("clear_vars");
        let mut found = Vec::new();
        for (place, item) in section.list("clear_vars").unwrap_or(&[]).iter().enumerate() {
            let pointer = format!("{pointer}/{place}");
            let Some(what) = item.as_text().and_then(cleared) else {
                let shown = item.shown();
                let text = format!(
                    "clear_vars names values as `state.x`, `global_vars.x` or `steps.x`, got: {shown}"
                );
                self.findings
                    .push(Finding::error(Code(204), text).at(item.extent).pointer(pointer));
                continue;
            };
            match &what {
                // A step may clear its own result: its `output_to_global` has a use for it.
                Cleared::Steps(name) if self.known.place_of(name) == Some(from.step) => (),
                Cleared::Steps(name) => {
                    for (_, finding) in self.earlier(name, item.extent, from) {
                        self.findings.push(finding.at(item.extent).pointer(pointer.as_str()));
                    }
                }
                Cleared::State(name) if !self.known.variables.contains(name) => {
                    let text = format!("`state.{name}` is set nowhere: there is nothing to clear");
                    let note = Finding::note(Code(220), text).at(item.extent);
                    self.findings.push(note.pointer(pointer));
                }
                Cleared::State(_) | Cleared::GlobalVars(_) => (),
            }
            found.push(what);
        }
        found
    }

    /// The fault of a use of what an earlier step has cleared.
    pub(super) fn gone(
        &self,
        what: &Cleared,
        extent: Extent,
        from: Standpoint<'_>,
    ) -> Option<(Extent, Finding)> {
        let clearer = self.known.lifetimes.cleared_by(what, from.step)?;
        let shown = match what {
            Cleared::State(name) => format!("state.{name}"),
            Cleared::GlobalVars(name) => format!("global_vars.{name}"),
            Cleared::Steps(name) => format!("steps.{name}"),
        };
        let text = format!("`{shown}` was cleared by step `{clearer}`");
        Some((extent, Finding::error(Code(306), text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleared_values_are_named_by_root_and_name() {
        for (text, expected) in [
            ("state.x", Some(Cleared::State("x".into()))),
            ("global_vars.a-b", Some(Cleared::GlobalVars("a-b".into()))),
            ("steps[\"odd name\"]", Some(Cleared::Steps("odd name".into()))),
            ("x", None),
            ("state", None),
            ("state.x.y", None),
            ("inputs.x", None),
            ("state[0]", None),
            ("state.", None),
            ("", None),
        ] {
            assert_eq!(cleared(text), expected, "{text:?}");
        }
    }
}
