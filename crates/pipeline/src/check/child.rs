//! Where the child of a `pipeline` step comes from, and its own scope (2.16).

use std::{mem, sync::Arc};

use super::{
    Check, Known, Section,
    deployment::OF_THE_RUN,
    keys,
    nested::{Depth, Given},
    references::{Around, Standpoint},
};
use crate::{
    compose::Reference,
    definition::{Again, Child, Later, Model},
    deployment::Limit,
    diagnostic::{Code, Finding},
    run::DEPTH_MAX,
    source::{Extent, FileId, Node},
};

/// Where a child may come from.
const SOURCES: [&str; 3] = ["pipeline", "pipeline_file", "pipeline_ref"];

/// Most children of a definition, each counted as often as it stands in it.
const CHILDREN_MAX: usize = 1_000;

/// A file that a step or the registry names.
pub(super) struct Named<'n> {
    pub(super) node: &'n Node,
    pub(super) pointer: String,
}

impl Check<'_> {
    /// The child, from its one source.
    pub(super) fn child(
        &mut self,
        section: &Section<'_>,
        name: &str,
        depth: Depth,
        given: &Given<'_>,
        from: Standpoint<'_>,
    ) -> Option<Child> {
        let sources: Vec<&str> =
            SOURCES.into_iter().filter(|key| section.get(key).is_some()).collect();
        let source = match sources.as_slice() {
            [] => {
                let text = "No pipeline source specified";
                let finding = Finding::error(Code(501), text).at(section.start());
                let hint = "give `pipeline`, `pipeline_file` or `pipeline_ref`";
                self.findings.push(finding.pointer(section.pointer.as_str()).hint(hint));
                return None;
            }
            [source] => *source,
            [_, second, ..] => {
                let text = format!("{} exclude each other", sources.join(" and "));
                self.findings.push(section.fault(207, second, text));
                return None;
            }
        };
        self.no_version(section, source);
        let max_depth = self.depth_fits(section, depth)?;
        self.children += 1;
        if self.children > CHILDREN_MAX {
            if self.children == CHILDREN_MAX + 1 {
                let text = format!("the definition has more than {CHILDREN_MAX} children");
                self.findings.push(section.fault(107, source, text));
            }
            return None;
        }
        let scope = Scope { section, name, max_depth, given, from };
        let known = |model| Child::Known(Box::new(model));
        match source {
            "pipeline" => self.inline_child(&scope).map(known),
            "pipeline_file" => {
                let named =
                    Named { node: section.node(source)?, pointer: section.pointer_of(source) };
                self.file_child(&scope, &named)
            }
            _ => self.registered_child(&scope),
        }
    }

    /// `version` is for children that are registered.
    fn no_version(&mut self, section: &Section<'_>, source: &str) {
        let Some(entry) = section.get("version") else { return };
        if source != "pipeline_ref" {
            let text = "`version` has no effect: the child is not named by `pipeline_ref`";
            let note = Finding::note(Code(220), text).at(entry.key_extent);
            self.findings.push(note.pointer(section.pointer_of("version")));
        }
    }

    /// The child stands no deeper than the limits say, as far as they are known; the limit for
    /// those inside it.
    fn depth_fits(&mut self, section: &Section<'_>, depth: Depth) -> Option<Option<u64>> {
        let stands = u64::try_from(self.around.len()).unwrap_or(u64::MAX).saturating_add(1);
        let outer = self
            .around
            .last()
            .map_or_else(|| self.deployed.named(Limit::MaxNestingDepth), |around| around.max_depth);
        let usual = self.deployed.limit(Limit::MaxNestingDepth).unwrap_or(u64::MAX);
        let told = match (depth, outer) {
            (Depth::Fixed(Some(own)), Some(outer)) => Some(own.min(outer)),
            (Depth::Fixed(own), outer) => own.or(outer),
            (Depth::Later, outer) => outer,
        };
        let most = match (depth, told) {
            (Depth::Later, None) => u64::MAX,
            (_, told) => told.unwrap_or(usual),
        };
        let most = most.min(DEPTH_MAX);
        if stands <= most {
            return Some(told);
        }
        let text = format!("Maximum nesting depth ({most}) exceeded: current depth is {stands}");
        let at = section.node("name").map_or(section.start(), |node| node.extent);
        let finding = Finding::error(Code(505), text).at(at);
        self.findings.push(finding.pointer(section.pointer.as_str()));
        None
    }

    fn inline_child(&mut self, scope: &Scope<'_, '_>) -> Option<Model> {
        let section = scope.section;
        let node = section.node("pipeline")?;
        let pointer = section.pointer_of("pipeline");
        let whole = format!("the child of step `{}`", scope.name);
        let Some(mut workflow) = Section::of(node, &pointer, "", &whole) else {
            let finding = section.fault(503, "pipeline", "Invalid inline pipeline format");
            self.findings.push(finding.hint("a map with `name` and `steps`"));
            return None;
        };
        if let Some(wrapped) = workflow.node("workflow") {
            self.shape(&workflow.clone().read_by(&[&keys::ROOT]));
            let inner = workflow.pointer_of("workflow");
            let Some(section) = Section::of(wrapped, &inner, "", &whole) else {
                let text = "Invalid inline pipeline format: `workflow` must be a map";
                self.findings.push(workflow.fault(503, "workflow", text));
                return None;
            };
            workflow = section;
        }
        self.inside(scope, None, |check| {
            let model = check.workflow(workflow.clone());
            if let Some(model) = &model {
                check.no_own_files(&workflow, model);
            }
            model
        })
    }

    fn file_child(&mut self, scope: &Scope<'_, '_>, named: &Named<'_>) -> Option<Child> {
        let path = named.node.as_text()?;
        if path.contains("{{") {
            let file = self.template(named.node, &named.pointer, scope.from)?;
            return Some(Child::Later(Later { file }));
        }
        let file = self.open_child(path, named)?;
        self.opened_child(scope, path, file, named)
    }

    /// Reads the file that `named` calls `path`.
    pub(super) fn open_child(&mut self, path: &str, named: &Named<'_>) -> Option<FileId> {
        let extent = named.node.extent;
        let reference = Reference { path, extent, pointer: &named.pointer, code: Code(502) };
        self.open_saying(&reference, &|fault| load_failed(path, &fault.to_string()))
    }

    /// The child in `file`, which `named` calls `path`.
    pub(super) fn opened_child(
        &mut self,
        scope: &Scope<'_, '_>,
        path: &str,
        file: FileId,
        named: &Named<'_>,
    ) -> Option<Child> {
        let extent = named.node.extent;
        if scope.given.recursion {
            let is_it = |around: &Around| around.file.is_some_and(|(id, _)| id == file);
            if let Some(place) = self.around.iter().rposition(is_it) {
                let tree = self.sources.tree(file)?;
                let name = tree.under("workflow").and_then(|workflow| workflow.under("name"));
                let name = name.and_then(Node::as_text).unwrap_or(path).to_owned();
                return Some(Child::Again(Again { again: self.around.len() - 1 - place, name }));
            }
        } else {
            self.no_cycle(scope, file, named)?;
        }
        let Some(tree) = self.sources.tree(file) else {
            let text = load_failed(path, "it is no YAML document");
            let finding = Finding::error(Code(502), text).at(extent);
            self.findings.push(finding.pointer(named.pointer.as_str()));
            return None;
        };
        let model = self.inside(scope, Some((file, extent)), |check| {
            let outer = mem::replace(&mut check.file, check.sources.name(file));
            let incomplete = mem::take(&mut check.bindings.incomplete);
            let root = check.composed(file, &tree);
            let root = check.with_environment(&root);
            let model = check.child_document(&root);
            check.file = outer;
            check.bindings.incomplete = incomplete;
            model
        });
        model.map(|model| Child::Known(Box::new(model)))
    }

    /// The model of the document of a child.
    pub(super) fn child_document(&mut self, root: &Arc<Node>) -> Option<Model> {
        let model = self.document(root);
        if let Some(model) = &model
            && let Some(workflow) = workflow_of(root)
        {
            self.no_own_files(&workflow, model);
        }
        model
    }

    /// A file is not its own child, however many lie between.
    fn no_cycle(&mut self, scope: &Scope<'_, '_>, file: FileId, named: &Named<'_>) -> Option<()> {
        let mut way: Vec<(FileId, Option<Extent>)> = vec![(FileId::ROOT, None)];
        way.extend(
            self.around.iter().filter_map(|around| around.file.map(|(id, at)| (id, Some(at)))),
        );
        let Some(first) = way.iter().position(|(seen, _)| *seen == file) else { return Some(()) };
        let names = way[first..].iter().map(|(file, _)| *file).chain([file]);
        let names: Vec<String> = names.map(|file| self.sources.name(file).to_string()).collect();
        let text = format!("Circular dependency detected: {}", names.join(" → "));
        let finding = Finding::error(Code(504), text).at(named.node.extent);
        let finding = finding.pointer(named.pointer.as_str());
        let is_ref = scope.section.get("pipeline_ref").is_some();
        let hint = "`allow_recursion: true` and a `max_depth` in `config` permit it";
        let finding = if is_ref { finding.hint(hint) } else { finding };
        let finding = way[first..].iter().skip(1).fold(finding, |finding, (file, at)| match at {
            Some(at) => {
                let text = format!("`{}` is named here", self.sources.name(*file));
                finding.related(text, *at)
            }
            None => finding,
        });
        self.findings.push(finding);
        None
    }

    /// Checks the child in a scope of its own, and what passes into it.
    fn inside(
        &mut self,
        scope: &Scope<'_, '_>,
        file: Option<(FileId, Extent)>,
        check: impl FnOnce(&mut Self) -> Option<Model>,
    ) -> Option<Model> {
        let mut known = Known::default();
        if scope.given.inherits {
            known.inherit(&self.known, scope.from.step);
        }
        if let Some(inputs) = &scope.given.section {
            known.given.extend(inputs.keys().map(str::to_owned));
        }
        let around = mem::replace(&mut self.known, known);
        let (step, max_depth) = (scope.name.to_owned(), scope.max_depth);
        self.around.push(Around { known: around, step, max_depth, file });
        let model = check(self);
        let known = match self.around.pop() {
            Some(around) => mem::replace(&mut self.known, around.known),
            None => return None,
        };
        self.inputs_fit(scope.section, scope.name, model.as_ref(), &known, scope.given);
        model
    }

    /// A child works in the directories of its run (YR-75): what it names itself is told to have no
    /// effect.
    fn no_own_files(&mut self, workflow: &Section<'_>, model: &Model) {
        let mut keys: Vec<&str> = OF_THE_RUN.to_vec();
        if !model.files.is_default() {
            keys.extend(FILE_KEYS);
        }
        for key in keys {
            let Some(entry) = workflow.get(key) else { continue };
            let text = format!("`{key}` has no effect in a child: it works where its run does");
            let note = Finding::note(Code(220), text).at(entry.key_extent);
            self.findings.push(note.pointer(workflow.pointer_of(key)));
        }
    }
}

/// Keys of a workflow that say where a run works and what it exports.
const FILE_KEYS: [&str; 6] = [
    "workspace_dir",
    "output_dir",
    "checkpoint_dir",
    "checkpoint_enabled",
    "checkpoint_interval",
    "checkpoint_config",
];

/// The step whose child is checked.
pub(super) struct Scope<'s, 'n> {
    pub(super) section: &'s Section<'n>,
    name: &'s str,
    max_depth: Option<u64>,
    given: &'s Given<'s>,
    from: Standpoint<'s>,
}

fn workflow_of(root: &Arc<Node>) -> Option<Section<'_>> {
    let root = Section::of(root, "", "", "the document")?;
    Section::of(root.node("workflow")?, "/workflow", "", "`workflow`")
}

fn load_failed(path: &str, reason: &str) -> String {
    format!("Failed to load pipeline file '{path}': {reason}")
}
