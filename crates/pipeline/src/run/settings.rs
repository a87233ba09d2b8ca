//! What is recorded with a run beside its definition, and where its providers come from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use perennial_core::{
    failure::Failure,
    run::{JobKey, RunId},
};
use perennial_tools::provider::Provider;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{RunDirectories, prompt::PartText};
use crate::{
    definition::{Pipeline, ProviderKind},
    environment::RunEnvironment,
};

/// Gives each kind of call its provider. The mode of the run is decided behind it.
pub trait Providers: Send + Sync + fmt::Debug + 'static {
    /// The provider for calls of this kind.
    ///
    /// # Errors
    ///
    /// When there is none; the step fails with it.
    fn provider(&self, kind: ProviderKind) -> Result<Arc<dyn Provider>, Failure>;

    /// Whether calls of a pipeline can be answered that was not known when the run began.
    ///
    /// # Errors
    ///
    /// Why not; its step fails with it.
    fn admit(&self, child: &Pipeline) -> Result<(), Failure> {
        let _ = child;
        Ok(())
    }

    /// Is told of every prompt before its call is made, or its reply taken from the journal.
    fn prompted(&self, prompt: &BuiltPrompt<'_>) {
        let _ = prompt;
    }
}

/// A prompt that was built, part by part (YP-12).
///
/// ```
/// use perennial_pipeline::BuiltPrompt;
///
/// /// What a host may write down of a prompt: see `Builder::on_prompt` of the facade.
/// fn line(prompt: &BuiltPrompt<'_>) -> String {
///     let bytes: usize = prompt.parts.iter().map(|part| part.text.len()).sum();
///     format!("{} {} asks {}: {bytes} bytes", prompt.run, prompt.job, prompt.model)
/// }
/// # let _ = line;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BuiltPrompt<'a> {
    /// The run.
    pub run: &'a RunId,
    /// The job of the step.
    pub job: &'a JobKey,
    /// Number of the attempt.
    pub attempt: u32,
    /// The model that is asked.
    pub model: &'a str,
    /// The texts, in their order.
    pub parts: &'a [PartText],
}

/// What a call uses when its step is silent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The model.
    pub model: String,
    /// Most tokens of a reply.
    pub max_output: u32,
}

/// The defaults of all calls of a run. They are part of each request, so they are recorded with
/// the run and never looked up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallDefaults {
    /// Calls of the Claude types.
    pub claude: Resolved,
    /// Calls of the Gemini types.
    pub gemini: Resolved,
    /// Short names of models, such as `sonnet`, and the names providers know.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
}

impl CallDefaults {
    /// The defaults of one kind of call.
    pub fn of(&self, kind: ProviderKind) -> &Resolved {
        match kind {
            ProviderKind::Claude => &self.claude,
            ProviderKind::Gemini => &self.gemini,
        }
    }

    /// The name that a provider knows for `model`.
    pub(crate) fn resolve<'a>(&'a self, model: &'a str) -> &'a str {
        self.aliases.get(model).map_or(model, String::as_str)
    }
}

/// What a run is given and keeps: as JSON it is the settings value of the engine.
///
/// ```
/// use perennial_pipeline::{CallDefaults, Resolved, RunSettings};
///
/// let of = |model: &str| Resolved { model: model.to_owned(), max_output: 1_000 };
/// let calls = CallDefaults { claude: of("claude-x"), gemini: of("gemini-x"), aliases: Default::default() };
/// let settings = RunSettings {
///     inputs: serde_json::json!({"who": "Ada"}),
///     calls,
///     directories: None,
///     environment: Default::default(),
///     anew: Default::default(),
/// };
/// let recorded = settings.to_value();
/// assert_eq!(RunSettings::from_value(&recorded)?.inputs, settings.inputs);
/// # Ok::<(), perennial_pipeline::InvalidSettings>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    /// Bound inputs, an object.
    pub inputs: Value,
    /// Defaults of calls.
    pub calls: CallDefaults,
    /// Where it works; a run without cannot work on files.
    #[serde(default)]
    pub directories: Option<RunDirectories>,
    /// Variables of the environment.
    #[serde(default, skip_serializing_if = "RunEnvironment::is_empty")]
    pub environment: RunEnvironment,
    /// Outermost steps that somebody wants asked anew: no kept result is taken for them, nor inside of them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub anew: BTreeSet<String>,
}

/// A value that is no settings of a run.
#[derive(Debug, thiserror::Error)]
#[error("not the settings of a run: {0}")]
pub struct InvalidSettings(#[from] serde_json::Error);

impl RunSettings {
    /// The value to record.
    pub fn to_value(&self) -> Value {
        let mut value = json!({ "inputs": self.inputs, "calls": self.calls });
        if let Some(directories) = &self.directories {
            value["directories"] = json!(directories);
        }
        if !self.environment.is_empty() {
            value["environment"] = json!(self.environment);
        }
        if !self.anew.is_empty() {
            value["anew"] = json!(self.anew);
        }
        value
    }

    /// Reads a recorded value; keys it does not know belong to others.
    ///
    /// # Errors
    ///
    /// When a part is missing or malformed.
    pub fn from_value(value: &Value) -> Result<Self, InvalidSettings> {
        Ok(Self::deserialize(value)?)
    }
}
