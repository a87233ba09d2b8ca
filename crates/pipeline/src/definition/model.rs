//! The parts of a resolved definition. What is written here is hashed: a new field is optional
//! and absent by default, or every hash changes.

use std::{fmt, time::Duration};

use perennial_core::{
    llm::ReplyForm,
    retry::RetryPolicy,
    run::{JobKey, StepPath},
};
use serde::{Deserialize, Serialize};

use super::{
    Body, Cache, Child, DocumentFiles, Dynamic, Effects, FileOps, Input, Lenience, Nested, Ordered,
    OutputFile, Part, PromptPart, RetryConfig, ValueSchema, strongest,
};
use crate::{
    deployment::Deployed,
    expression::{Condition, Template, TemplateTree, Undecided},
};

/// A workflow with all defaults applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    pub(crate) language: u32,
    pub(crate) name: String,
    /// As it was named; no part of what is hashed, nor are the places of steps.
    #[serde(default, skip_serializing)]
    pub(crate) file: String,
    /// What `workflow.…` reads: name, version, metadata, variables and the like.
    pub(crate) facts: Ordered,
    #[serde(default, skip_serializing_if = "Undecided::is_legacy")]
    pub(crate) undecided: Undecided,
    #[serde(default, skip_serializing_if = "Lenience::is_strict")]
    pub(crate) lenient: Lenience,
    /// Deadline of a run, when the document names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) within_ms: Option<u64>,
    /// What the inputs have to satisfy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) input_schema: Option<Ordered>,
    /// Names of the variables of the environment that a run reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) environment: Vec<String>,
    /// Whether those that are not set are empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) empty_when_missing: bool,
    #[serde(default, skip_serializing_if = "DocumentFiles::is_default")]
    pub(crate) files: DocumentFiles,
    /// Mode and limits; those of the run, so a child has none.
    #[serde(default, skip_serializing_if = "Deployed::is_default")]
    pub(crate) deployed: Deployed,
    pub(crate) inputs: Vec<Input>,
    pub(crate) steps: Vec<Step>,
}

impl Model {
    /// Its steps, those of its children and those of handlers, each before those that stand in it: first
    /// its child's, then its handler's.
    pub(crate) fn all_steps(&self) -> Vec<&Step> {
        fn collect<'m>(steps: &'m [Step], all: &mut Vec<&'m Step>) {
            for step in steps {
                all.push(step);
                if let Some(child) = step.child() {
                    collect(&child.steps, all);
                }
                step.bodies().for_each(|body| collect(&body.steps, all));
            }
        }
        let mut all = Vec::with_capacity(self.steps.len());
        collect(&self.steps, &mut all);
        all
    }

    /// Puts its steps where `places` says, in the order of [`Self::all_steps`].
    pub(crate) fn place(&mut self, places: &mut dyn Iterator<Item = Option<Location>>) {
        place(&mut self.steps, places);
    }
}

fn place(steps: &mut [Step], places: &mut dyn Iterator<Item = Option<Location>>) {
    for step in steps {
        if let Some(place) = places.next() {
            step.location = place;
        }
        if let StepKind::Pipeline(Nested { child: Child::Known(child), .. }) = &mut step.kind {
            child.place(places);
        }
        if let Some(handler) = &mut step.handler {
            place(&mut handler.steps, places);
        }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) type_name: String,
    #[serde(default, skip_serializing)]
    pub(crate) location: Option<Location>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) condition: Option<Condition>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) continue_on_error: bool,
    /// Whether the record of a final failure is that of a skipped step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) skip_on_error: bool,
    /// What runs when it has failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) handler: Option<Body>,
    /// A further field of the record of a final failure, with its message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error_output: Option<String>,
    /// Deadline of one attempt, when the document names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) within_ms: Option<u64>,
    pub(crate) retry: RetryPolicy,
    /// Names that only this step sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) variables: Vec<(String, TemplateTree)>,
    /// The constant that its value view becomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output_to_global: Option<String>,
    /// What nobody sees any more once it has run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) clear_vars: Vec<Cleared>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output_to_file: Option<OutputFile>,
    /// How its result is kept for later runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cache: Option<Cache>,
    /// What it touches, where that is not what its type does (YR-12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) effects: Option<Effects>,
    /// What its value has to satisfy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) value_schema: Option<ValueSchema>,
    pub(crate) kind: StepKind,
}

/// A value that is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cleared {
    /// The variable of this name, in all scopes.
    State(String),
    /// The constant of this name.
    GlobalVars(String),
    /// The result of the step of this name.
    Steps(String),
}

/// Where a step stands, for error texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Location {
    pub(crate) file: String,
    pub(crate) line: usize,
}

impl Location {
    /// Reads what it is shown as.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (file, line) = text.rsplit_once(':')?;
        Some(Self { file: file.to_owned(), line: line.parse().ok()? })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StepKind {
    Echo(Echo),
    SetVariable(Assign),
    Chat(Chat),
    FileOps(FileOps),
    Pipeline(Nested),
    /// One of several, of which a run chooses one.
    Dynamic(Dynamic),
}

/// `echo`: its value, later, or a failure on demand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Echo {
    pub(crate) value: TemplateTree,
    pub(crate) fail: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error_message: Option<Template>,
    pub(crate) delay_ms: u64,
}

/// `set_variable`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Assign {
    pub(crate) variables: Vec<(String, TemplateTree)>,
    pub(crate) scope: VariableScope,
    #[serde(default, skip_serializing_if = "Write::is_set")]
    pub(crate) write: Write,
}

/// What becomes of the values of a `set_variable` step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Write {
    /// Each is the variable of its name.
    #[default]
    Set,
    /// They become the last elements of this list.
    AppendTo(String),
    /// They become fields of this object.
    MergeInto(String),
}

impl Write {
    fn is_set(&self) -> bool {
        *self == Self::Set
    }

    /// The one variable that is written.
    pub(crate) fn target(&self) -> Option<&str> {
        match self {
            Self::Set => None,
            Self::AppendTo(name) | Self::MergeInto(name) => Some(name),
        }
    }
}

/// How long a variable lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VariableScope {
    /// The pipeline.
    Local,
    /// The run.
    Global,
}

impl VariableScope {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Global => "global",
        }
    }
}

/// One call to a language model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chat {
    pub(crate) provider: ProviderKind,
    pub(crate) prompt: Vec<Part>,
    /// Whether it is sent when there is nothing in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) allow_empty: bool,
    pub(crate) options: ChatOptions,
}

/// Which provider a step type calls.
///
/// ```
/// use perennial_pipeline::ProviderKind;
///
/// assert_eq!(ProviderKind::Claude.name(), "claude");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// The Claude types.
    Claude,
    /// The Gemini types.
    Gemini,
}

impl ProviderKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Gemini => "gemini",
        }
    }
}

/// Options of a call; what is absent is left to the run's defaults or to the provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ChatOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_output: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<Template>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) call_within_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle_ms: Option<u64>,
    /// Tried once when the model is not available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fallback_model: Option<String>,
    /// What follows the system text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) append_system: Option<Template>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allowed_tools: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disallowed_tools: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) debug_info: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) telemetry: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost_tracking: Option<bool>,
    /// Most tokens that the request may have, as they are estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_input: Option<u32>,
    /// Texts that end the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_sequences: Option<Vec<Template>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) form: Option<ReplyForm>,
    /// What it says about retries; the policy of the step was made from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<RetryConfig>,
}

impl ChatOptions {
    /// These options, and where they are silent, `weaker`.
    pub(crate) fn over(self, weaker: Self) -> Self {
        Self {
            model: self.model.or(weaker.model),
            max_output: self.max_output.or(weaker.max_output),
            temperature: self.temperature.or(weaker.temperature),
            top_p: self.top_p.or(weaker.top_p),
            top_k: self.top_k.or(weaker.top_k),
            system: self.system.or(weaker.system),
            call_within_ms: self.call_within_ms.or(weaker.call_within_ms),
            idle_ms: self.idle_ms.or(weaker.idle_ms),
            fallback_model: self.fallback_model.or(weaker.fallback_model),
            append_system: self.append_system.or(weaker.append_system),
            allowed_tools: self.allowed_tools.or(weaker.allowed_tools),
            disallowed_tools: self.disallowed_tools.or(weaker.disallowed_tools),
            debug_info: self.debug_info.or(weaker.debug_info),
            telemetry: self.telemetry.or(weaker.telemetry),
            cost_tracking: self.cost_tracking.or(weaker.cost_tracking),
            max_input: self.max_input.or(weaker.max_input),
            stop_sequences: self.stop_sequences.or(weaker.stop_sequences),
            presence_penalty: self.presence_penalty.or(weaker.presence_penalty),
            frequency_penalty: self.frequency_penalty.or(weaker.frequency_penalty),
            form: self.form.or(weaker.form),
            retry: match (self.retry, weaker.retry) {
                (Some(own), Some(weaker)) => Some(own.over(weaker)),
                (own, weaker) => own.or(weaker),
            },
        }
    }

    /// The keys of `claude_options` that are set.
    pub(crate) fn applied(&self) -> Vec<&'static str> {
        let set = [
            ("allowed_tools", self.allowed_tools.is_some()),
            ("append_system_prompt", self.append_system.is_some()),
            ("cost_tracking", self.cost_tracking.is_some()),
            ("debug_mode", self.debug_info.is_some()),
            ("disallowed_tools", self.disallowed_tools.is_some()),
            ("fallback_model", self.fallback_model.is_some()),
            ("idle_timeout_ms", self.idle_ms.is_some()),
            ("max_tokens", self.max_output.is_some()),
            ("model", self.model.is_some()),
            ("retry_config", self.retry.is_some()),
            ("system_prompt", self.system.is_some()),
            ("telemetry_enabled", self.telemetry.is_some()),
            ("temperature", self.temperature.is_some()),
            ("timeout_ms", self.call_within_ms.is_some()),
            ("top_k", self.top_k.is_some()),
            ("top_p", self.top_p.is_some()),
        ];
        set.into_iter().filter(|(_, set)| *set).map(|(key, _)| key).collect()
    }

    /// Its texts with holes.
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template> {
        let system = [&self.system, &self.append_system].into_iter().flatten();
        system.chain(self.stop_sequences.iter().flatten())
    }

    /// Deadline of one call: five minutes unless the document says otherwise.
    pub(crate) fn call_within(&self) -> Duration {
        Duration::from_millis(self.call_within_ms.unwrap_or(300_000))
    }

    /// How long a call may be silent: a minute unless the document says otherwise.
    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms.unwrap_or(60_000))
    }
}

impl StepKind {
    /// The call that it is.
    pub(crate) fn chat(&self) -> Option<&Chat> {
        match self {
            Self::Chat(chat) => Some(chat),
            Self::Echo(_)
            | Self::SetVariable(_)
            | Self::FileOps(_)
            | Self::Pipeline(_)
            | Self::Dynamic(_) => None,
        }
    }

    /// The provider it calls.
    pub(crate) fn provider(&self) -> Option<ProviderKind> {
        self.chat().map(|chat| chat.provider)
    }

    /// What a step of this kind touches, where that is anything.
    pub(crate) fn effects(&self) -> Option<Effects> {
        match self {
            Self::FileOps(ops) => Some(ops.operation.effects()),
            Self::Pipeline(nested) => nested.effects(),
            Self::Dynamic(_) => strongest(self.possible().into_iter().filter_map(Self::effects)),
            Self::Echo(_) | Self::SetVariable(_) | Self::Chat(_) => None,
        }
    }

    /// Whether it works on files.
    fn needs_directories(&self) -> bool {
        match self {
            Self::Chat(chat) => {
                chat.prompt.iter().any(|part| matches!(part.yields, PromptPart::File(_)))
            }
            Self::FileOps(_) => true,
            Self::Pipeline(nested) => {
                nested.workspace.is_some() || matches!(nested.child, Child::Later(_))
            }
            Self::Dynamic(_) => self.possible().into_iter().any(Self::needs_directories),
            Self::Echo(_) | Self::SetVariable(_) => false,
        }
    }
}

impl Step {
    /// Whether it works on files, but for the one that it leaves its value in.
    pub(crate) fn needs_directories(&self) -> bool {
        self.kind.needs_directories()
    }

    /// The key of its job when it stands in no other step.
    pub(crate) fn key(&self) -> JobKey {
        StepPath::root().step(&self.name).key()
    }

    /// The child of a `pipeline` step.
    pub(crate) fn nested(&self) -> Option<&Nested> {
        match &self.kind {
            StepKind::Pipeline(nested) => Some(nested),
            StepKind::Echo(_)
            | StepKind::SetVariable(_)
            | StepKind::FileOps(_)
            | StepKind::Chat(_)
            | StepKind::Dynamic(_) => None,
        }
    }

    /// The pipeline in it, when that is known before it is opened.
    pub(crate) fn child(&self) -> Option<&Model> {
        self.nested()?.child.known()
    }

    /// Whether what is around it goes on when it fails for good.
    pub(crate) fn forgives(&self) -> bool {
        self.continue_on_error || self.nested().is_some_and(|nested| nested.fallback.is_some())
    }

    /// Whether what it leaves changes names for the steps after it, beside its own.
    pub(crate) fn changes_names(&self) -> bool {
        let sets = matches!(self.kind, StepKind::SetVariable(_) | StepKind::Dynamic(_));
        let clears = !self.clear_vars.is_empty();
        sets || clears || self.output_to_global.is_some() || self.handler.is_some()
    }

    /// How long one attempt may take.
    pub(crate) fn attempt_within(&self) -> Duration {
        if let Some(within) = self.within_ms {
            return Duration::from_millis(within);
        }
        let each = self.kind.possible().into_iter().map(|kind| self.usual_within(kind));
        each.max().unwrap_or(Duration::from_secs(60))
    }

    /// How long one attempt of a step of this kind may take when nobody says so.
    fn usual_within(&self, kind: &StepKind) -> Duration {
        match kind {
            StepKind::Echo(echo) => {
                Duration::from_millis(echo.delay_ms).saturating_add(Duration::from_secs(60))
            }
            // Of a pipeline, only its opening and its closing: its steps have their own.
            StepKind::SetVariable(_) | StepKind::Pipeline(_) | StepKind::Dynamic(_) => {
                Duration::from_secs(60)
            }
            StepKind::FileOps(_) => Duration::from_secs(300),
            StepKind::Chat(chat) => {
                let call = chat.options.call_within();
                let pauses = Duration::from_millis(self.retry.cap_ms);
                let all = call.saturating_add(pauses).saturating_mul(self.retry.max_attempts);
                all.min(call.max(Duration::from_secs(30 * 60)))
            }
        }
    }
}
