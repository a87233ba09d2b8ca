//! What a step reads: the paths in its condition, its texts and its prompt, and whose value each is.

use std::collections::BTreeMap;

use crate::{
    definition::{Child, Part, PromptPart, Step, StepKind},
    expression::{ERROR_ROOT, Path, Standing, Template},
};

/// Where a value comes from that a step reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// The result of this step, or its failure.
    Step(Whose),
    /// A variable or constant, last set by this step or in its handler.
    Variable(Whose),
    /// Nothing that a step gives: an input, a fact of the run.
    Outside,
}

/// A step that is visible from another: which of the scopes around that one, the outermost first, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Whose {
    pub(crate) scope: usize,
    pub(crate) place: usize,
}

/// A list of steps, and the place in it of the one that is looked at or that stands around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'m> {
    pub(crate) steps: &'m [Step],
    pub(crate) place: usize,
}

/// A path that a step reads, as written, and where its value comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Used {
    pub(crate) path: String,
    pub(crate) origin: Origin,
}

/// What a step reads, each path once, in the order of their texts. It stands in the last of `scopes`, whose first is
/// that of its pipeline.
pub(crate) fn of(scopes: &[At<'_>]) -> Vec<Used> {
    let mut found: BTreeMap<String, Origin> = BTreeMap::new();
    let Some(step) = scopes.last().map(|at| &at.steps[at.place]) else { return Vec::new() };
    let is_own = |name: &str| step.variables.iter().any(|(own, _)| own == name);
    let mut see = |path: &Path| {
        if !is_own(&path.root) {
            let origin = origin(scopes, path);
            found.insert(path.to_string(), origin);
        }
    };
    if let Some(condition) = &step.condition {
        condition.paths(&mut see);
    }
    step.variables.iter().for_each(|(_, value)| value.paths(&mut see));
    step.kind.possible().into_iter().for_each(|kind| of_kind(kind, &mut see));
    if let StepKind::Dynamic(dynamic) = &step.kind {
        text(&dynamic.named_by, &mut see);
    }
    if let Some(key) = step.cache.as_ref().and_then(|cache| cache.key.as_ref()) {
        text(key, &mut see);
    }
    if let Some(file) = &step.output_to_file {
        text(&file.0, &mut see);
    }
    for given in responses(step) {
        if let Some(whose) = step_before(scopes, given) {
            found.insert(format!("steps.{given}"), Origin::Step(whose));
        }
    }
    found.into_iter().map(|(path, origin)| Used { path, origin }).collect()
}

/// What is read by a step of this kind, besides what any step reads.
fn of_kind<'e>(kind: &'e StepKind, see: &mut impl FnMut(&'e Path)) {
    match kind {
        StepKind::Echo(echo) => {
            echo.value.paths(see);
            if let Some(message) = &echo.error_message {
                text(message, see);
            }
        }
        StepKind::SetVariable(assign) => {
            assign.variables.iter().for_each(|(_, value)| value.paths(see));
        }
        StepKind::Chat(chat) => {
            chat.options.templates().for_each(|one| text(one, see));
            chat.prompt.iter().for_each(|one| part(one, see));
        }
        StepKind::FileOps(ops) => ops.arguments.paths(see),
        StepKind::Pipeline(nested) => {
            nested.inputs.iter().for_each(|(_, value)| value.paths(see));
            if let Some(depth) = &nested.max_depth {
                depth.paths(see);
            }
            if let Child::Later(later) = &nested.child {
                text(&later.file, see);
            }
        }
        // Its candidates are what is looked at.
        StepKind::Dynamic(_) => (),
    }
}

fn text<'e>(template: &'e Template, see: &mut impl FnMut(&'e Path)) {
    template.paths(Standing::default(), &mut |path, _| see(path));
}

fn part<'e>(part: &'e Part, see: &mut impl FnMut(&'e Path)) {
    if let Some(condition) = &part.condition {
        condition.paths(see);
    }
    if let Some(focus) = part.shaping.summary.as_ref().and_then(|summary| summary.focus.as_ref()) {
        text(focus, see);
    }
    if let Some(transform) = &part.shaping.transform {
        transform.paths(&mut |path, _| see(path));
    }
    match &part.yields {
        PromptPart::Static(template) => text(template, see),
        PromptPart::Dynamic(tree) => tree.paths(see),
        PromptPart::File(file) => {
            text(&file.path, see);
            file.component.iter().for_each(|key| text(key, see));
            file.variables.iter().flatten().for_each(|(_, tree)| tree.paths(see));
        }
        PromptPart::Raw(_) | PromptPart::PreviousResponse(_) => (),
    }
}

/// The steps whose values are parts of its prompt.
fn responses(step: &Step) -> impl Iterator<Item = &String> {
    let chats = step.kind.possible().into_iter().filter_map(StepKind::chat);
    chats.flat_map(|chat| &chat.prompt).filter_map(|part| match &part.yields {
        PromptPart::PreviousResponse(previous) => Some(&previous.step),
        PromptPart::Static(_)
        | PromptPart::Raw(_)
        | PromptPart::Dynamic(_)
        | PromptPart::File(_) => None,
    })
}

/// The innermost step of this name that comes before.
fn step_before(scopes: &[At<'_>], name: &str) -> Option<Whose> {
    scopes.iter().enumerate().rev().find_map(|(scope, at)| {
        let place = at.steps[..at.place].iter().position(|step| step.name == name)?;
        Some(Whose { scope, place })
    })
}

/// The last step before that sets the variable or constant `name`, itself or in its handler.
fn setter_before(scopes: &[At<'_>], name: &str) -> Option<Whose> {
    scopes.iter().enumerate().rev().find_map(|(scope, at)| {
        let place = at.steps[..at.place].iter().rposition(|step| sets(step, name))?;
        Some(Whose { scope, place })
    })
}

fn origin(scopes: &[At<'_>], path: &Path) -> Origin {
    let field = path.segments.first().and_then(|segment| segment.field()).map(|(name, _)| name);
    let by_step = |name| step_before(scopes, name).map_or(Origin::Outside, Origin::Step);
    let by_setter = |name| setter_before(scopes, name).map_or(Origin::Outside, Origin::Variable);
    match (path.root.as_str(), field) {
        ("steps", Some(name)) => by_step(name),
        ("state" | "variables" | "global_vars", Some(name)) => by_setter(name),
        ("steps" | "state" | "variables" | "global_vars" | "inputs" | "workflow" | "step", _) => {
            Origin::Outside
        }
        (ERROR_ROOT, _) if scopes.len() > 1 => {
            let scope = scopes.len() - 2;
            Origin::Step(Whose { scope, place: scopes[scope].place })
        }
        (bare, _) => match setter_before(scopes, bare) {
            Some(whose) => Origin::Variable(whose),
            None => by_step(bare),
        },
    }
}

/// Whether a step sets the variable or constant `name`, itself or in its handler.
pub(crate) fn sets(step: &Step, name: &str) -> bool {
    let mut inner = step.bodies().flat_map(|body| &body.steps);
    if step.output_to_global.as_deref() == Some(name) || inner.any(|step| sets(step, name)) {
        return true;
    }
    step.kind.possible().into_iter().any(|kind| match kind {
        StepKind::SetVariable(assign) => match assign.write.target() {
            Some(target) => target == name,
            None => assign.variables.iter().any(|(variable, _)| variable == name),
        },
        StepKind::Echo(_)
        | StepKind::Chat(_)
        | StepKind::FileOps(_)
        | StepKind::Pipeline(_)
        | StepKind::Dynamic(_) => false,
    })
}
