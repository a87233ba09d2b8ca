//! What a step is made of, and which earlier steps it depends on.

use std::collections::{BTreeMap, BTreeSet};

use perennial_core::Digest;
use serde_json::{Value, json};

use crate::{
    definition::{Cleared, Effects, Model, Step, StepKind, VariableScope},
    uses::{self, At, Used},
};

/// Digest of what a step says itself, and of what its texts read of the document and the inputs:
/// without its child, and without the steps it depends on.
pub(super) fn own_digest(model: &Model, place: usize, inputs: &Value) -> Digest {
    let step = &model.steps[place];
    let mut said = serde_json::to_value(step).unwrap_or_default();
    if step.child().is_some()
        && let Some(child) = said.pointer_mut("/kind/pipeline/child")
    {
        *child = Value::Null;
    }
    let mut read: BTreeMap<String, Value> = BTreeMap::new();
    for used in used(model, place) {
        let facts = outside(model, inputs, &used.path);
        read.insert(used.path, facts);
    }
    let inherited = step.nested().filter(|nested| nested.inherit_context).map(|_| {
        let facts = &model.facts.0;
        json!([inputs, facts.get("variables"), facts.get("global_vars")])
    });
    Digest::of_json(&json!({ "step": said, "reads": read, "inherits": inherited }))
}

/// What the step at `place` reads, and what the steps of its handler do.
fn used(model: &Model, place: usize) -> Vec<Used> {
    let mut found = Vec::new();
    collect_used(&[At { steps: &model.steps, place }], &mut found);
    found
}

fn collect_used(scopes: &[At<'_>], found: &mut Vec<Used>) {
    found.extend(uses::of(scopes));
    let Some(step) = scopes.last().and_then(|at| at.steps.get(at.place)) else { return };
    for body in step.bodies() {
        for place in 0..body.steps.len() {
            let inside = [scopes, &[At { steps: &body.steps, place }]].concat();
            collect_used(&inside, found);
        }
    }
}

/// The rules by which texts of a document are read.
pub(super) fn same_rules(before: &Model, after: &Model) -> bool {
    before.undecided == after.undecided
        && before.lenient == after.lenient
        && before.empty_when_missing == after.empty_when_missing
}

/// What `path` may read that no step gives.
fn outside(model: &Model, inputs: &Value, path: &str) -> Value {
    let mut parts = path.split(['.', '[', '?', ']']).filter(|part| !part.is_empty());
    let (root, field) = (parts.next().unwrap_or_default(), parts.next());
    let of = |value: Option<&Value>| match (value, field) {
        (Some(value), Some(field)) if path[root.len()..].starts_with('.') => {
            value.get(field).cloned()
        }
        (value, _) => value.cloned(),
    };
    let facts = &model.facts.0;
    let found = match root {
        "inputs" => of(Some(inputs)),
        "workflow" => of(Some(facts)),
        "state" | "variables" => of(facts.get("variables")),
        "global_vars" => of(facts.get("global_vars")),
        "steps" => None,
        bare => {
            let named = |value: Option<&Value>| value.and_then(|map| map.get(bare)).cloned();
            return json!([
                named(facts.get("variables")),
                named(facts.get("global_vars")),
                named(Some(inputs)),
            ]);
        }
    };
    found.unwrap_or_default()
}

/// Places of the earlier steps that the step at `place` depends on, in order.
pub(super) fn of(model: &Model, place: usize) -> BTreeSet<usize> {
    let step = &model.steps[place];
    let mut found = BTreeSet::new();
    let earlier = || model.steps[..place].iter().enumerate();
    let mut variables: BTreeSet<&str> = BTreeSet::new();
    let used = used(model, place);
    for used in &used {
        let path = used.path.as_str();
        let root = path.split(['.', '[', '?']).next().unwrap_or_default();
        let rest = &path[root.len()..];
        let field = rest.strip_prefix('.').and_then(|rest| rest.split(['.', '[', '?']).next());
        match (root, field) {
            ("inputs" | "workflow", _) => (),
            ("steps", Some(name)) => {
                found.extend(earlier().filter(|(_, one)| one.name == name).map(|(at, _)| at));
            }
            ("state" | "variables" | "global_vars", Some(name)) => {
                variables.insert(name);
            }
            // All of them, or one that is known only later.
            ("steps" | "state" | "variables" | "global_vars", None) => {
                found.extend(earlier().map(|(at, _)| at));
            }
            (bare, _) => {
                variables.insert(bare);
                found.extend(earlier().filter(|(_, one)| one.name == bare).map(|(at, _)| at));
            }
        }
    }
    for one in std::iter::once(step).chain(of_handlers(step)) {
        if let StepKind::SetVariable(assign) = &one.kind {
            variables.extend(assign.write.target());
        }
    }
    let inherits = step.nested().is_some_and(|nested| nested.inherit_context);
    for (at, one) in earlier() {
        let sets = variables.iter().any(|name| sets(one, name));
        let clears = one.clear_vars.iter().any(|cleared| match cleared {
            Cleared::State(name) | Cleared::GlobalVars(name) => variables.contains(name.as_str()),
            Cleared::Steps(name) => used.iter().any(|used| {
                let rest = used.path.strip_prefix("steps.").unwrap_or(&used.path);
                rest.split(['.', '[', '?']).next() == Some(name)
            }),
        });
        let passes_on = step.nested().is_some() && (sets_globals(one) || inherits && sets_any(one));
        let files = reads_files(step) && writes_files(one);
        if sets || clears || passes_on || files {
            found.insert(at);
        }
    }
    found
}

/// Whether a step, or one inside of it, sets what others see as the variable or constant `name`.
fn sets(step: &Step, name: &str) -> bool {
    let mut inner = inner(step).into_iter();
    uses::sets(step, name) || inner.any(|one| is_global(one) && uses::sets(one, name))
}

fn sets_globals(step: &Step) -> bool {
    is_global(step) || inner(step).into_iter().any(is_global)
}

fn sets_any(step: &Step) -> bool {
    let assigns = |step: &Step| matches!(step.kind, StepKind::SetVariable(_));
    assigns(step) || of_handlers(step).into_iter().any(assigns) || sets_globals(step)
}

fn is_global(step: &Step) -> bool {
    let global = match &step.kind {
        StepKind::SetVariable(assign) => assign.scope == VariableScope::Global,
        // It may become one.
        StepKind::Dynamic(_) => true,
        StepKind::Echo(_) | StepKind::Chat(_) | StepKind::FileOps(_) | StepKind::Pipeline(_) => {
            false
        }
    };
    global || step.output_to_global.is_some()
}

/// The steps that stand in a step: those of a child, and those of handlers.
fn inner(step: &Step) -> Vec<&Step> {
    let own = of_handlers(step);
    let holders = std::iter::once(step).chain(own.iter().copied());
    let of_children = holders.filter_map(Step::child).flat_map(Model::all_steps);
    let of_children: Vec<&Step> = of_children.collect();
    own.into_iter().chain(of_children).collect()
}

/// The steps of its handler, and of the handlers of those.
pub(super) fn of_handlers(step: &Step) -> Vec<&Step> {
    let own = step.bodies().flat_map(|body| &body.steps);
    own.flat_map(|one| std::iter::once(one).chain(of_handlers(one))).collect()
}

/// Whether a step, or one inside of it, may see a file that another step wrote.
fn reads_files(step: &Step) -> bool {
    let own = |step: &Step| step.needs_directories() || step.effects.is_some_and(touches);
    own(step) || inner(step).into_iter().any(own)
}

fn touches(effects: Effects) -> bool {
    match effects {
        Effects::None => false,
        Effects::Read | Effects::Write => true,
    }
}

fn writes_files(step: &Step) -> bool {
    let own = |step: &Step| step.effects == Some(Effects::Write) || step.output_to_file.is_some();
    own(step) || inner(step).into_iter().any(own)
}
