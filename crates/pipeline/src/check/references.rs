//! Names: whether what a path begins with exists, and exists early enough (YT-13, YT-14, YT-16).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Check,
    bodies::{Inside, Names},
    section::LATER,
    shapes::Shape,
    variables::Lifetimes,
};
use crate::{
    definition::{Cleared, Ordered},
    diagnostic::{Code, Finding},
    expression::{ERROR_ROOT, LATER_ROOTS, Path, Place, ROOTS, Segment, Standing, Undecided},
    source::{Alignment, Extent, FileId, Node},
    spelling,
};

/// What the document binds, collected before any expression is looked at.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Steps of the pipeline itself by name, with their numbers; the first one of a name counts.
    pub(super) steps: HashMap<String, usize>,
    /// The bodies around the step under check, the outermost first.
    pub(super) bodies: Vec<Names>,
    /// Variables of the workflow, and those that a step sets.
    pub(super) variables: HashSet<String>,
    pub(super) inputs: HashSet<String>,
    pub(super) globals: HashSet<String>,
    /// Names that the step under check has for itself.
    pub(super) own: Vec<String>,
    pub(super) lifetimes: Lifetimes,
    pub(super) facts: Vec<&'static str>,
    /// Inputs used and bound nowhere, in the order of their first use.
    pub(super) implied: Vec<String>,
    implied_set: HashSet<String>,
    /// Names that the parent gives.
    pub(super) given: HashSet<String>,
    /// Steps of children and of handlers, and what is found of them from here.
    pub(super) inside: HashMap<String, Inside>,
    pub(super) undecided: Undecided,
    /// Files by name, each with its place.
    pub(super) pipelines: HashMap<String, (Node, String)>,
    /// Schemas that steps can name.
    pub(super) schemas: BTreeMap<String, Ordered>,
    /// What is known of the records of steps that were checked, by their numbers.
    pub(super) shapes: HashMap<usize, Shape>,
}

/// A scope around the one that is checked, with the step of it that holds the inner one.
#[derive(Debug)]
pub(crate) struct Around {
    pub(super) known: Known,
    pub(super) step: String,
    /// How deep children may stand, when that is told.
    pub(super) max_depth: Option<u64>,
    /// The file of the scope inside it, when it has one of its own, and where it is named.
    pub(super) file: Option<(FileId, Extent)>,
}

impl Known {
    /// What a child sees of its parent when it is told to.
    pub(super) fn inherit(&mut self, parent: &Self, place: usize) {
        self.variables.extend(parent.variables.iter().cloned());
        self.globals.extend(parent.globals.iter().cloned());
        self.globals.extend(parent.lifetimes.globals_before(place));
        self.inputs.extend(parent.inputs.iter().cloned());
    }
}

/// Where an expression stands: in the step number `step`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standpoint<'a> {
    pub(crate) step: usize,
    pub(crate) whole: &'a str,
}

/// A path in an expression, and how it stands there.
#[derive(Debug)]
pub(super) struct Use<'e> {
    pub(super) path: &'e Path,
    pub(super) standing: Standing,
}

/// Roots whose paths are checked also where bare names are fields of an element first.
const FIXED_ROOTS: [&str; 5] = ["steps", "inputs", "global_vars", "workflow", "env"];

impl Check<'_> {
    /// Checks all paths of the text `node`.
    pub(super) fn references(
        &mut self,
        node: &Node,
        pointer: &str,
        uses: &[Use<'_>],
        place: Place,
        from: Standpoint<'_>,
    ) {
        if uses.is_empty() {
            return;
        }
        let mut alignment = None;
        for used in uses {
            for (extent, finding) in self.reference(used, place, from) {
                let aligned = alignment.get_or_insert_with(|| Alignment::of(node, self.sources));
                let at = aligned.place(extent);
                self.findings.push(finding.at(at).pointer(pointer));
            }
        }
    }

    fn reference(
        &mut self,
        used: &Use<'_>,
        place: Place,
        from: Standpoint<'_>,
    ) -> Vec<(Extent, Finding)> {
        let Use { path, standing } = used;
        let guarded = standing.guarded;
        let root = path.root.as_str();
        if self.bindings.at_load && root != "env" {
            return Self::unseen_at_load(path, *standing);
        }
        if standing.element {
            let fixed = FIXED_ROOTS.contains(&root);
            return if fixed { self.rooted(path, guarded, place, from) } else { Vec::new() };
        }
        let is_step = self.known.place_of(root).is_some();
        if place == Place::Condition && is_step {
            let found = self.earlier(root, path.root_extent, from);
            return self.or_ruled_out(found, root, &path.segments, guarded, place);
        }
        if ROOTS.contains(&root) {
            return self.rooted(path, guarded, place, from);
        }
        if root == ERROR_ROOT && !self.known.bodies.is_empty() {
            return self.error_path(path, self.may_miss(guarded, place));
        }
        if self.known.own.iter().any(|name| name == root) {
            return Vec::new();
        }
        if self.known.variables.contains(root) {
            let gone = self.gone(&Cleared::State(root.to_owned()), path.root_extent, from);
            return gone.filter(|_| !self.known.inputs.contains(root)).into_iter().collect();
        }
        if self.known.inputs.contains(root) {
            return Vec::new();
        }
        if is_step {
            let found = self.earlier(root, path.root_extent, from);
            let mut found = self.or_ruled_out(found, root, &path.segments, guarded, place);
            let note = Finding::note(Code(210), format!("a step is named as `steps.{root}`"))
                .hint(format!("write `steps.{root}`"));
            found.push((path.root_extent, note));
            return found;
        }
        if root == ERROR_ROOT {
            return vec![self.no_error(path, from.whole)];
        }
        if LATER_ROOTS.contains(&root) {
            let code = if matches!(root, "config" | "meta") { 314 } else { 307 };
            let text = format!("`{root}` is not available in {}", from.whole);
            return vec![(path.extent, Finding::error(Code(code), text).hint(LATER))];
        }
        if guarded {
            return Vec::new();
        }
        self.imply(root, path.root_extent)
    }

    /// What was `found` of a step, else what its record rules out.
    fn or_ruled_out(
        &self,
        found: Vec<(Extent, Finding)>,
        name: &str,
        segments: &[Segment],
        guarded: bool,
        place: Place,
    ) -> Vec<(Extent, Finding)> {
        if !found.is_empty() {
            return found;
        }
        self.ruled_out(name, segments, guarded, place).into_iter().collect()
    }

    fn rooted(
        &mut self,
        path: &Path,
        guarded: bool,
        place: Place,
        from: Standpoint<'_>,
    ) -> Vec<(Extent, Finding)> {
        let field = path.segments.first().and_then(|segment| segment.field());
        let root = path.root.as_str();
        match (root, field) {
            ("steps", Some((name, extent))) => {
                let found = self.earlier(name, extent, from);
                self.or_ruled_out(found, name, &path.segments[1..], guarded, place)
            }
            ("steps", None) if path.segments.iter().any(|segment| !segment.is_definite()) => {
                Vec::new()
            }
            ("step", Some(("name" | "attempt", _))) => Vec::new(),
            ("step", Some(("variables", _))) => self.own_variable(path),
            ("step", _) => {
                let text = "`step` has `name`, `attempt` and `variables`";
                vec![(path.extent, Finding::error(Code(307), text))]
            }
            ("state" | "variables", Some((name, extent))) => {
                if root == "state" && self.known.own.iter().any(|own| own == name) {
                    return Vec::new();
                }
                self.gone(&Cleared::State(name.to_owned()), extent, from).into_iter().collect()
            }
            ("steps", None) => {
                let text = "`steps` needs the name of a step";
                vec![(path.extent, Finding::error(Code(401), text))]
            }
            ("inputs", Some((name, extent))) => {
                if guarded || self.known.inputs.contains(name) {
                    return Vec::new();
                }
                self.imply(name, extent)
            }
            ("global_vars", Some((name, extent))) => {
                let gone = self.gone(&Cleared::GlobalVars(name.to_owned()), extent, from);
                if gone.is_some() || guarded || self.known.globals.contains(name) {
                    return gone.into_iter().collect();
                }
                match self.known.lifetimes.global_before(name, from.step) {
                    Some(true) => return Vec::new(),
                    Some(false) => {
                        let text = format!("`global_vars.{name}` is used before it has been set");
                        return vec![(extent, Finding::error(Code(306), text))];
                    }
                    None => (),
                }
                self.imply(&format!("global_vars.{name}"), extent)
            }
            ("env", Some((name, extent))) => {
                if !self.bindings.at_load {
                    self.bindings.environment.insert(name.to_owned());
                }
                let fine = guarded
                    || self.bindings.unset.contains(name)
                    || self.bindings.empty_when_missing
                    || self.loader.variable(name).is_some();
                if fine { Vec::new() } else { vec![(extent, self.unset(name))] }
            }
            ("env", None) => {
                let text = "`env` needs the name of a variable";
                vec![(path.extent, Finding::error(Code(314), text))]
            }
            ("environment", _) if !guarded => {
                self.unknown_in_environment(path).into_iter().collect()
            }
            ("workflow", Some((name, extent))) => {
                if self.known.facts.contains(&name) {
                    return Vec::new();
                }
                let hint = spelling::did_you_mean(name, self.known.facts.iter().copied());
                let text = format!("unknown path `workflow.{name}`");
                vec![(extent, Finding::error(Code(314), text).maybe_hint(hint))]
            }
            _ => Vec::new(),
        }
    }

    /// The step `name` has to stand before the one that names it.
    pub(super) fn earlier(
        &self,
        name: &str,
        extent: Extent,
        from: Standpoint<'_>,
    ) -> Vec<(Extent, Finding)> {
        let finding = match self.known.place_of(name) {
            Some(step) if step < from.step => {
                if self.known.bodies.iter().all(|body| body.place != step) {
                    let gone = self.gone(&Cleared::Steps(name.to_owned()), extent, from);
                    return gone.into_iter().collect();
                }
                let text = format!("step `{name}` has no result in its own handler");
                Finding::error(Code(306), text).hint("what is known of its failure is `error`")
            }
            Some(step) if step == from.step => {
                let text = format!("step `{name}` refers to itself: used before it has run");
                Finding::error(Code(306), text)
            }
            Some(_) => {
                let text = format!("step `{name}` is used before it has run");
                Finding::error(Code(306), text).hint("only earlier steps have results")
            }
            None if self.known.inside.contains_key(name) => self.known.inside[name].finding(name),
            None if self.around.iter().any(|around| around.known.place_of(name).is_some()) => {
                let holder = self.around.last().map_or("", |around| around.step.as_str());
                let text =
                    format!("step `{name}` stands outside the child and is not visible in it");
                Finding::error(Code(307), text).hint(format!(
                    "give it to the child: `inputs: {{{name}: \"{{{{ steps.{name} }}}}\"}}` of step \
                     `{holder}`"
                ))
            }
            None => {
                let text = format!("{} references non-existent steps: {name}", from.whole);
                let finding = Finding::error(Code(305), text);
                if self.findings.wants_hints() {
                    finding.maybe_hint(spelling::did_you_mean(name, self.known.visible()))
                } else {
                    finding
                }
            }
        };
        vec![(extent, finding)]
    }

    /// `step.variables`, or one of them.
    fn own_variable(&self, path: &Path) -> Vec<(Extent, Finding)> {
        let Some((name, extent)) = path.segments.get(1).and_then(|segment| segment.field()) else {
            return Vec::new();
        };
        if self.known.own.iter().any(|own| own == name) {
            return Vec::new();
        }
        let hint = spelling::did_you_mean(name, self.known.own.iter().map(String::as_str));
        let text = format!("the step has no variable `{name}` of its own");
        vec![(extent, Finding::error(Code(307), text).maybe_hint(hint))]
    }

    pub(super) fn imply(&mut self, name: &str, extent: Extent) -> Vec<(Extent, Finding)> {
        if !self.known.implied_set.insert(name.to_owned()) {
            return Vec::new();
        }
        self.known.implied.push(name.to_owned());
        if self.known.given.contains(name) {
            return Vec::new();
        }
        let text = format!("`{name}` is bound nowhere and becomes a required input");
        vec![(extent, Finding::note(Code(311), text))]
    }
}
