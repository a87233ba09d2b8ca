//! What a step would do, in words and as a record, without running it.

use crate::{
    Pipeline,
    definition::{Step, StepKind, VariableScope},
    uses::{self, Origin},
};

/// What a step would do.
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
    /// The call that it makes.
    pub call: Option<CallExplanation>,
    /// Attempts allowed.
    pub attempts_max: u32,
    /// How long one attempt may take.
    pub attempt_within_ms: u64,
    /// Whether the run goes on when it fails.
    pub continue_on_error: bool,
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

/// A call to a language model.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct CallExplanation {
    /// The kind of provider.
    pub provider: &'static str,
    /// The model; without one, that of the configuration.
    pub model: Option<String>,
    /// Types of the parts of its prompt, in order.
    pub parts: Vec<&'static str>,
    /// Most tokens of its reply.
    pub max_output: Option<u32>,
    /// Its temperature.
    pub temperature: Option<f64>,
    /// How long the call may take.
    pub within_ms: u64,
}

impl Pipeline {
    /// What the step of this name would do; nothing when there is none.
    pub fn explain(&self, step: &str) -> Option<StepExplanation> {
        let place = self.model.steps.iter().position(|one| one.name == step)?;
        let step = &self.model.steps[place];
        let reads = uses::of(&self.model, place).into_iter().map(|used| Reads {
            path: used.path,
            from_step: match used.origin {
                Origin::Step(of) | Origin::Variable(of) => Some(self.model.steps[of].name.clone()),
                Origin::Outside => None,
            },
        });
        Some(StepExplanation {
            step: step.name.clone(),
            type_name: step.type_name.clone(),
            location: step.location.as_ref().map(ToString::to_string),
            place: place + 1,
            of: self.model.steps.len(),
            condition: step.condition.as_ref().map(|condition| condition.shown.clone()),
            reads: reads.collect(),
            call: call(step),
            attempts_max: step.retry.max_attempts,
            attempt_within_ms: millis(step.attempt_within()),
            continue_on_error: step.continue_on_error,
            gives: gives(step),
        })
    }
}

fn call(step: &Step) -> Option<CallExplanation> {
    let chat = match &step.kind {
        StepKind::Chat(chat) => chat,
        StepKind::Echo(_)
        | StepKind::SetVariable(_)
        | StepKind::FileOps(_)
        | StepKind::Pipeline(_) => return None,
    };
    Some(CallExplanation {
        provider: chat.provider.name(),
        model: chat.options.model.clone(),
        parts: chat.prompt.iter().map(|part| part.yields.type_name()).collect(),
        max_output: chat.options.max_output,
        temperature: chat.options.temperature,
        within_ms: millis(chat.options.call_within()),
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
    gives.extend(step.output_to_file.iter().map(|file| format!("file {}", file.0.shown())));
    gives.extend(step.output_to_global.iter().map(|name| format!("global_vars.{name}")));
    gives
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
