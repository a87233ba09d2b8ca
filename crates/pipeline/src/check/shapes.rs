//! Records whose fields are known at load, and paths that contradict them (YT-16).

use std::collections::BTreeSet;

use super::Check;
use crate::{
    definition::{FileOps, MissingHole, Nested, Operation, Output, Step, StepKind},
    diagnostic::{Code, Finding},
    expression::{Place, Segment},
    schemas::{Closed, Spot},
    source::Extent,
    spelling,
};

/// Fields that the record of any step may have: those of a step that was skipped or failed, and what is added to
/// records.
const ANY: [&str; 13] = [
    "success",
    "skipped",
    "status",
    "reason",
    "error",
    "error_message",
    "partial",
    "handled",
    "degraded",
    "warnings",
    "output_file",
    "result",
    "length",
];

/// Fields of the record of a call to a model (YV-1), and those that its options add.
const OF_REPLY: [&str; 23] = [
    "cached",
    "text",
    "content",
    "data",
    "cost",
    "cost_known",
    "usage",
    "tokens",
    "model",
    "provider",
    "stop_reason",
    "turns",
    "session_id",
    "function_calls",
    "tool_calls",
    "call_id",
    "request_hash",
    "mock",
    "repairs",
    "replayed",
    "debug_info",
    "telemetry",
    "cost_tracking",
];

/// The fields of the record of a step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    fields: BTreeSet<String>,
    /// Fields of `values`.
    values: Option<BTreeSet<String>>,
    /// What an author has set for a failure.
    error_output: Option<String>,
    /// What `data` satisfies, whose fields are also those of the record.
    data: Option<Closed>,
}

impl Shape {
    /// Of the record of `step`, when it is known: replies without a schema, values and children without declared
    /// outputs have any.
    pub(super) fn of(step: &Step) -> Option<Self> {
        let mut values = None;
        let mut data = None;
        let fields: BTreeSet<String> = match &step.kind {
            StepKind::Echo(_) | StepKind::Dynamic(_) => return None,
            StepKind::Chat(_) => {
                data = Some(Closed::of(&step.value_schema.as_ref()?.schema.0));
                OF_REPLY.map(str::to_owned).into()
            }
            StepKind::SetVariable(assign) => {
                let names: BTreeSet<String> =
                    assign.variables.iter().map(|(name, _)| name.clone()).collect();
                let own = ["variables_set", "scope", "variable_count", "values"];
                let all = own.into_iter().map(str::to_owned).chain(names.iter().cloned()).collect();
                // A variable of this name hides them all.
                values = (!names.contains("values")).then_some(names);
                all
            }
            StepKind::FileOps(FileOps { operation, .. }) => {
                let own = ["operation", "dry_run", "would"].into_iter();
                own.chain(of_operation(*operation).iter().copied()).map(str::to_owned).collect()
            }
            StepKind::Pipeline(Nested { outputs, fallback, prune, .. }) => {
                if outputs.is_empty() || fallback.is_some() {
                    return None;
                }
                let names = outputs.iter().map(Output::name);
                names.filter(|name| prune.keeps(name)).map(str::to_owned).collect()
            }
        };
        // `result` then has fields of its own.
        let known = !fields.contains("result");
        known.then(|| Self { fields, values, error_output: step.error_output.clone(), data })
    }

    /// The field of `segments` that no record of the step has, and those that there are instead.
    fn missing<'s>(&self, segments: &'s [Segment]) -> Option<(&'s str, Extent, Vec<&str>)> {
        let (first, rest) = segments.split_first()?;
        let (name, extent) = first.field()?;
        // It stands for the whole record, once.
        if name == "result" {
            let next = rest.first().and_then(Segment::field);
            return if next.is_some_and(|(next, _)| next == "result") {
                None
            } else {
                self.missing(rest)
            };
        }
        if name == "values"
            && let Some(values) = &self.values
            && let Some((name, extent)) = rest.first().and_then(Segment::field)
        {
            let known = values.contains(name) || name == "length";
            return (!known).then(|| (name, extent, values.iter().map(String::as_str).collect()));
        }
        let known = self.fields.contains(name)
            || ANY.contains(&name)
            || self.error_output.as_deref() == Some(name);
        if let Some(data) = &self.data {
            return match name {
                "data" => outside(data.spot(), rest),
                _ if known => None,
                _ => outside(data.spot(), segments),
            };
        }
        (!known).then(|| {
            let all = self.fields.iter().map(String::as_str).chain(["success", "status"]);
            (name, extent, all.collect())
        })
    }
}

/// The field of `segments` that the schema at `spot` rules out, and those that there are instead.
fn outside<'s, 'd>(
    spot: Spot<'d>,
    segments: &'s [Segment],
) -> Option<(&'s str, Extent, Vec<&'d str>)> {
    let (first, rest) = segments.split_first()?;
    let Some((name, extent)) = first.field() else {
        let is_item = matches!(first, Segment::Index { .. });
        return if is_item { outside(spot.items()?, rest) } else { None };
    };
    match spot.property(name) {
        Some(inner) => outside(inner, rest),
        None => {
            let only = spot.only()?;
            (name != "length").then_some((name, extent, only))
        }
    }
}

/// Fields of the record of an operation (2.15).
fn of_operation(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::Copy | Operation::Move | Operation::StreamCopy => {
            &["source", "destination", "method", "files", "count"]
        }
        Operation::Delete => &["path", "count"],
        Operation::Validate => &["results", "count"],
        Operation::List => &["path", "pattern", "files", "entries", "count"],
        Operation::Convert => &["source", "destination", "format", "bytes"],
        Operation::StreamProcess => &["source", "processed_path", "processor", "method"],
        Operation::Write => &["path", "bytes"],
        Operation::Read => &["path", "bytes", "content"],
    }
}

impl Check<'_> {
    /// Whether a path that leads nowhere is no error: it says itself what stands for a missing value, or its document
    /// says so of all holes.
    pub(super) fn may_miss(&self, guarded: bool, place: Place) -> bool {
        guarded || (place == Place::Template && self.lenient.missing_hole() != MissingHole::Error)
    }

    /// Whether the record of the earlier step `name` can have what `segments` lead to.
    pub(super) fn ruled_out(
        &self,
        name: &str,
        segments: &[Segment],
        guarded: bool,
        place: Place,
    ) -> Option<(Extent, Finding)> {
        if self.may_miss(guarded, place) {
            return None;
        }
        let step = self.known.place_of(name)?;
        let (field, extent, fields) = self.known.shapes.get(&step)?.missing(segments)?;
        let text = format!("the record of step `{name}` never has `{field}`");
        let has = format!("it has {}", fields.join(", "));
        let hint = match spelling::did_you_mean(field, fields.iter().copied()) {
            Some(hint) => format!("{hint} {has}"),
            None => has,
        };
        Some((extent, Finding::error(Code(310), text).hint(hint)))
    }
}
