//! Steps whose type is a template (1.7): each type they may have is checked at load, so that a run
//! only has to choose (PL209, PL611).

use std::collections::HashSet;

use super::{
    Check, Section,
    defaults::Defaults,
    keys::{DYNAMIC_STEP, STEP_TYPES},
    references::Standpoint,
};
use crate::{
    definition::{Candidate, CandidateKeys, Dynamic},
    diagnostic::{Code, Finding},
    source::Node,
};

/// Whether a type is known only when its step runs.
pub(super) fn is_templated(type_name: &str) -> bool {
    type_name.contains("{{")
}

impl Check<'_> {
    /// The step `section` for each of its types. That its keys fit only some of them is nothing to
    /// refuse; that they fit none is.
    pub(super) fn dynamic(
        &mut self,
        section: &Section<'_>,
        shown: &str,
        from: Standpoint<'_>,
        within_ms: Option<u64>,
        defaults: &Defaults,
    ) -> Option<Dynamic> {
        let pointer = section.pointer_of("type");
        let named_by = self.template(section.node("type")?, &pointer, from);
        let names = self.dynamic_types(section)?;
        let mut candidates = Vec::with_capacity(names.len());
        let (mut refused, mut fits) = (Vec::new(), false);
        for name in names {
            let mark = self.findings.len();
            let keys = self.candidate(section, name, shown, from, within_ms, defaults);
            let found = self.findings.split_off(mark);
            let (faults, told): (Vec<Finding>, Vec<Finding>) =
                found.into_iter().partition(|finding| finding.refuses(&self.bindings.later));
            let keys = match keys {
                Some(kind) if faults.is_empty() => {
                    fits = true;
                    told.into_iter().for_each(|finding| self.findings.push(finding));
                    CandidateKeys::Fit(Box::new(kind))
                }
                Some(_) | None => {
                    let texts = faults.iter().map(|finding| finding.message().to_owned());
                    let keys = CandidateKeys::Faulty(texts.collect());
                    refused.extend(faults);
                    keys
                }
            };
            candidates.push(Candidate { type_name: name.to_owned(), keys });
        }
        if !fits {
            refused.into_iter().for_each(|finding| self.findings.push(finding));
            return None;
        }
        Some(Dynamic { named_by: named_by?, candidates })
    }

    /// What the keys of the step are when it is of the type `name`.
    fn candidate(
        &mut self,
        section: &Section<'_>,
        name: &str,
        shown: &str,
        from: Standpoint<'_>,
        within_ms: Option<u64>,
        defaults: &Defaults,
    ) -> Option<crate::definition::StepKind> {
        let variant = STEP_TYPES.iter().find(|variant| variant.name == name)?;
        let whole = format!("step `{shown}` (type `{name}`)");
        let section = section.clone().called(&whole).read_by(variant.tables);
        self.shape(&section);
        let from = Standpoint { whole: &whole, ..from };
        self.step_kind(&section, name, shown, from, within_ms, defaults)
    }

    /// The types that a templated type may become, each once.
    fn dynamic_types<'n>(&mut self, section: &Section<'n>) -> Option<Vec<&'n str>> {
        let items = section.list("dynamic_types")?;
        if items.is_empty() {
            let text = "dynamic_types must name at least one type";
            self.findings.push(section.fault(209, "dynamic_types", text));
            return None;
        }
        let names: Option<Vec<&str>> = items.iter().map(Node::as_text).collect();
        let mut seen = HashSet::new();
        let known = |name: &&str| STEP_TYPES.iter().any(|variant| variant.name == *name);
        Some(names?.into_iter().filter(known).filter(|name| seen.insert(*name)).collect())
    }

    /// Says that `dynamic_types` does nothing beside a type that is written down.
    pub(super) fn idle_dynamic_types(&mut self, section: &Section<'_>) {
        let Some(entry) = section.get("dynamic_types") else { return };
        let text = "`dynamic_types` has no effect: the type is no template";
        let note = Finding::note(Code(220), text).at(entry.key_extent);
        self.findings.push(note.pointer(section.pointer_of("dynamic_types")));
    }
}

impl Section<'_> {
    /// A step whose type is known only when it runs, as far as any step is the same.
    pub(super) fn of_any_type(self) -> Self {
        self.read_by(DYNAMIC_STEP)
    }
}
