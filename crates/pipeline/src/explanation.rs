//! What a step would do, in words and as a record, without running it.

use crate::{
    Pipeline,
    definition::{Step, StepKind, VariableScope},
    uses::{self, At, Origin},
};

/// What a step would do.
///
/// ```
/// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
/// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
/// let told = pipeline.explain("b").expect("there is such a step");
/// assert_eq!((told.type_name.as_str(), told.place, told.of), ("echo", 2, 2));
/// assert_eq!(told.reads[0].from_step.as_deref(), Some("a"));
/// ```
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct StepExplanation {
    /// Its name.
    pub step: String,
    /// Its type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Where it stands, as `file:line`, when that is known.
    pub location: Option<String>,
    /// Its place among the steps, from 1.
    pub place: usize,
    /// How many steps there are.
    pub of: usize,
    /// The condition under which it runs.
    pub condition: Option<String>,
    /// What it reads.
    pub reads: Vec<Reads>,
    /// What it does with files: the operation, and its arguments as the document writes them.
    pub files: Option<FilesExplanation>,
    /// The call that it makes.
    pub call: Option<CallExplanation>,
    /// What its value has to satisfy.
    pub value: Option<ValueExplanation>,
    /// Attempts allowed.
    pub attempts_max: u32,
    /// How long one attempt may take; of a step with a child, to begin it and to end it.
    pub attempt_within_ms: u64,
    /// How long its child may take, when it has one.
    pub child_within_ms: Option<u64>,
    /// What its child is, when the steps of that are not known before the run is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child_later: Option<String>,
    /// Whether the run goes on when it fails.
    pub continue_on_error: bool,
    /// Paths of the steps of its handler, which run when it has failed for good; the run then goes on.
    pub on_error: Vec<String>,
    /// Where its result is found afterwards.
    pub gives: Vec<String>,
}

/// A value that a step reads.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Reads {
    /// As the document writes it.
    pub path: String,
    /// The step that gives it, where one does.
    pub from_step: Option<String>,
}

/// Work on files.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct FilesExplanation {
    /// What is done.
    pub operation: &'static str,
    /// With what, for example `source` and `destination`.
    pub arguments: serde_json::Value,
}

/// What a value has to satisfy.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ValueExplanation {
    /// The name of the schema, when it has one.
    pub name: Option<String>,
    /// The JSON Schema.
    pub schema: serde_json::Value,
    /// How often a model may correct its reply; nothing for steps that call none.
    pub repairs_max: Option<u32>,
}

/// A call to a language model.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct CallExplanation {
    /// The kind of provider.
    pub provider: &'static str,
    /// The model; without one, that of the configuration.
    pub model: Option<String>,
    /// Types of the parts of its prompt, in order.
    pub parts: Vec<&'static str>,
    /// Whether it is made when the prompt is empty.
    pub allows_empty: bool,
    /// Most tokens of its request, as they are estimated.
    pub max_input: Option<u32>,
    /// Most tokens of its reply.
    pub max_output: Option<u32>,
    /// Texts before the first of which its reply ends.
    pub stops: Vec<String>,
    /// Its temperature.
    pub temperature: Option<f64>,
    /// How long the call may take.
    pub within_ms: u64,
}

impl Pipeline {
    /// What the step of this name would do; a step of a nested pipeline is named by its path,
    /// `nested/step`, one of a handler as `failed[error]/step`. Nothing when there is none.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.explain("a").unwrap().type_name, "echo");
    /// assert!(pipeline.explain("unknown").is_none());
    /// ```
    pub fn explain(&self, step: &str) -> Option<StepExplanation> {
        explained(&[], &self.model.steps, step, step)
    }

    /// The paths of all its steps, each before the steps of its child and those of its handler.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.step_paths(), ["a", "b"]);
    /// ```
    pub fn step_paths(&self) -> Vec<String> {
        fn collect(steps: &[Step], around: &str, paths: &mut Vec<String>) {
            for step in steps {
                let path = format!("{around}{}", step.name);
                paths.push(path.clone());
                if let Some(child) = step.child() {
                    collect(&child.steps, &format!("{path}/"), paths);
                }
                if let Some(handler) = &step.handler {
                    collect(&handler.steps, &format!("{path}{HANDLER}"), paths);
                }
            }
        }
        let mut paths = Vec::new();
        collect(&self.model.steps, "", &mut paths);
        paths
    }
}

/// What stands between the path of a step and that of a step in its handler.
const HANDLER: &str = "[error]/";

/// The step among `steps` at `rest` of the path `whole`; `around` are the scopes that it sees beside them.
fn explained(
    around: &[At<'_>],
    steps: &[Step],
    rest: &str,
    whole: &str,
) -> Option<StepExplanation> {
    let at = |place| [around, &[At { steps, place }]].concat();
    if let Some(place) = steps.iter().position(|one| one.name == rest) {
        return Some(explanation(&at(place), &steps[place], whole));
    }
    steps.iter().enumerate().find_map(|(place, one)| {
        let inner = rest.strip_prefix(one.name.as_str())?;
        match (inner.strip_prefix('/'), inner.strip_prefix(HANDLER)) {
            (Some(inner), _) => explained(&[], &one.child()?.steps, inner, whole),
            (None, Some(inner)) => {
                explained(&at(place), &one.handler.as_ref()?.steps, inner, whole)
            }
            (None, None) => None,
        }
    })
}

fn explanation(scopes: &[At<'_>], step: &Step, whole: &str) -> StepExplanation {
    let reads = uses::of(scopes).into_iter().map(|used| Reads {
        path: used.path,
        from_step: match used.origin {
            Origin::Step(of) | Origin::Variable(of) => {
                Some(scopes[of.scope].steps[of.place].name.clone())
            }
            Origin::Outside => None,
        },
    });
    let (place, of) = scopes.last().map_or((0, 0), |at| (at.place + 1, at.steps.len()));
    let handler = step.handler.iter().flat_map(|handler| &handler.steps);
    StepExplanation {
        step: whole.to_owned(),
        type_name: step.type_name.clone(),
        location: step.location.as_ref().map(ToString::to_string),
        place,
        of,
        condition: step.condition.as_ref().map(|condition| condition.shown.clone()),
        reads: reads.collect(),
        files: files(step),
        call: call(step),
        value: value(step),
        attempts_max: step.retry.max_attempts,
        attempt_within_ms: millis(step.attempt_within()),
        child_within_ms: step.nested().map(|nested| nested.within_ms),
        child_later: step.nested().and_then(|nested| nested.child.unknown()),
        continue_on_error: step.continue_on_error,
        on_error: handler.map(|inner| format!("{whole}{HANDLER}{}", inner.name)).collect(),
        gives: gives(step),
    }
}

fn files(step: &Step) -> Option<FilesExplanation> {
    match &step.kind {
        StepKind::FileOps(ops) => Some(FilesExplanation {
            operation: ops.operation.name(),
            arguments: ops.arguments.written(),
        }),
        StepKind::Echo(_)
        | StepKind::SetVariable(_)
        | StepKind::Chat(_)
        | StepKind::Pipeline(_)
        | StepKind::Dynamic(_) => None,
    }
}

fn call(step: &Step) -> Option<CallExplanation> {
    let chat = step.kind.chat()?;
    let stops = chat.options.stop_sequences.iter().flatten();
    Some(CallExplanation {
        provider: chat.provider.name(),
        model: chat.options.model.clone(),
        parts: chat.prompt.iter().map(|part| part.yields.type_name()).collect(),
        allows_empty: chat.allow_empty,
        max_input: chat.options.max_input,
        max_output: chat.options.max_output,
        stops: stops.map(|stop| stop.shown().to_owned()).collect(),
        temperature: chat.options.temperature,
        within_ms: millis(chat.options.call_within()),
    })
}

fn value(step: &Step) -> Option<ValueExplanation> {
    let wanted = step.value_schema.as_ref()?;
    Some(ValueExplanation {
        name: wanted.name.clone(),
        schema: wanted.schema.0.clone(),
        repairs_max: step.kind.provider().map(|_| wanted.max_repairs),
    })
}

fn gives(step: &Step) -> Vec<String> {
    let mut gives = vec![format!("steps.{}", step.name)];
    if let StepKind::SetVariable(assign) = &step.kind {
        let names = assign.variables.iter().map(|(name, _)| name.as_str());
        let written: Vec<&str> = match assign.write.target() {
            Some(target) => vec![target],
            None => names.collect(),
        };
        gives.extend(written.into_iter().map(|name| match assign.scope {
            VariableScope::Local => format!("state.{name}"),
            VariableScope::Global => format!("state.{name} (of the whole run)"),
        }));
    }
    if let StepKind::Pipeline(nested) = &step.kind {
        let outputs = nested.outputs.iter().map(|output| output.name());
        gives.extend(outputs.map(|output| format!("steps.{}.{output}", step.name)));
    }
    gives.extend(step.handler.iter().map(|_| format!("steps.{}.handled", step.name)));
    gives.extend(step.output_to_file.iter().map(|file| format!("file {}", file.0.shown())));
    gives.extend(step.output_to_global.iter().map(|name| format!("global_vars.{name}")));
    gives
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
