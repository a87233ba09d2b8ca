//! Which provider answers a kind of call, in each mode. Nothing falls back to mocks by itself.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use perennial_core::{FailureClass, failure::Failure};
use perennial_pipeline::{BuiltPrompt, CallDefaults, Pipeline, ProviderKind, Providers, Resolved};
use perennial_tools::{
    Anthropic, AnthropicConfig, AnthropicConfigError, ApiKey, MockProvider, MockRules, Provider,
};

use super::config::{AnthropicSection, Config};
use crate::pipelines::Preflight;

/// What a Gemini step uses that names no model.
const GEMINI_MODEL: &str = "gemini-2.5-flash-lite-preview-06-17";
/// What a Claude step is recorded with when mocks answer and no model is configured.
const MOCK_CLAUDE_MODEL: &str = "mock-claude";

/// Who answers the calls of a run; recorded with it.
///
/// ```
/// # use perennial::ProviderMode;
/// assert_eq!("mock".parse(), Ok(ProviderMode::Mock));
/// assert_eq!(ProviderMode::Live.to_string(), "live");
/// assert!("automatic".parse::<ProviderMode>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderMode {
    /// Scripted and built-in answers; nothing leaves the machine.
    Mock,
    /// The real providers.
    Live,
}

/// A text that names no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no provider mode; modes of this version: mock, live")]
pub struct UnknownMode(String);

impl FromStr for ProviderMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "mock" => Ok(Self::Mock),
            "live" => Ok(Self::Live),
            _ => Err(UnknownMode(text.to_owned())),
        }
    }
}

impl fmt::Display for ProviderMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mock => "mock",
            Self::Live => "live",
        })
    }
}

/// Why live calls of a kind are not possible here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The environment variable with the key is not set.
    #[error("no key for `anthropic`: the environment variable {0} is not set")]
    MissingKey(String),
    /// The provider cannot be set up.
    #[error("provider `anthropic` cannot be used: {0}")]
    Misconfigured(String),
    /// This version has no live provider of this kind.
    #[error("`gemini` runs with mocks only in this version")]
    NotInThisVersion,
}

/// Who is told of every prompt.
#[derive(Clone)]
pub(crate) struct PromptWatch(pub(crate) Arc<dyn Fn(&BuiltPrompt<'_>) + Send + Sync>);

impl fmt::Debug for PromptWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PromptWatch")
    }
}

/// The live providers of a runtime, and what calls use by default.
#[derive(Debug)]
pub(crate) struct ProviderTable {
    live: BTreeMap<ProviderKind, Result<Arc<dyn Provider>, Unavailable>>,
    anthropic: AnthropicSection,
    watch: Option<PromptWatch>,
}

impl ProviderTable {
    /// Providers the host brought win over configured ones.
    pub(super) fn new(
        config: &Config,
        brought: Vec<(ProviderKind, Arc<dyn Provider>)>,
        watch: Option<PromptWatch>,
    ) -> Self {
        let anthropic = config.providers.anthropic.clone();
        let mut live = BTreeMap::new();
        live.insert(ProviderKind::Claude, configured(&anthropic));
        live.insert(ProviderKind::Gemini, Err(Unavailable::NotInThisVersion));
        live.extend(brought.into_iter().map(|(kind, provider)| (kind, Ok(provider))));
        let prices = config.prices.table();
        let priced = |provider: Result<_, _>| provider.map(|it| prices.on(it));
        let live = live.into_iter().map(|(kind, provider)| (kind, priced(provider))).collect();
        Self { live, anthropic, watch }
    }

    /// Why live calls of `kind` are not possible, if they are not.
    pub(crate) fn unavailable(&self, kind: ProviderKind) -> Option<Unavailable> {
        match self.live.get(&kind) {
            Some(Ok(_)) => None,
            Some(Err(why)) => Some(why.clone()),
            None => Some(Unavailable::NotInThisVersion),
        }
    }

    /// Whether a model is configured for live calls of `kind`.
    pub(crate) fn has_model(&self, kind: ProviderKind) -> bool {
        match kind {
            ProviderKind::Claude => self.anthropic.model.is_some(),
            ProviderKind::Gemini => true,
        }
    }

    /// Why live calls of `pipeline` are not possible, if they are not.
    pub(crate) fn refusals(&self, pipeline: &Pipeline) -> Vec<Preflight> {
        let mut refusals = Vec::new();
        for kind in pipeline.providers() {
            if let Some(why) = self.unavailable(kind) {
                refusals.push(Preflight::Provider { kind, why });
            }
            if !self.has_model(kind)
                && let Some(step) = pipeline.step_without_model(kind)
            {
                refusals.push(Preflight::MissingModel { step: step.to_owned() });
            }
        }
        for step in pipeline.steps_with_mocks() {
            refusals.push(Preflight::Mocks { step: step.to_owned() });
        }
        for (step, tools) in pipeline.steps_with_tools() {
            refusals.push(Preflight::Tools { step: step.to_owned(), tools: tools.to_vec() });
        }
        refusals
    }

    /// What calls use by default; recorded with each run.
    pub(crate) fn defaults(&self) -> CallDefaults {
        let model = self.anthropic.model.clone();
        CallDefaults {
            claude: Resolved {
                model: model.unwrap_or_else(|| MOCK_CLAUDE_MODEL.to_owned()),
                max_output: self.anthropic.max_output,
            },
            gemini: Resolved { model: GEMINI_MODEL.to_owned(), max_output: 4096 },
            aliases: std::collections::BTreeMap::new(),
        }
    }

    /// The providers of one run.
    pub(crate) fn of_mode(
        self: &Arc<Self>,
        mode: ProviderMode,
        mocks: MockRules,
    ) -> Arc<dyn Providers> {
        let providers: Arc<dyn Providers> = match mode {
            ProviderMode::Mock => Arc::new(Mocks {
                claude: Arc::new(MockProvider::claude(mocks.clone())),
                gemini: Arc::new(MockProvider::gemini(mocks)),
            }),
            ProviderMode::Live => Arc::new(Live(self.clone())),
        };
        match &self.watch {
            Some(watch) => Arc::new(Watched { providers, watch: watch.clone() }),
            None => providers,
        }
    }
}

/// Providers whose prompts are watched.
#[derive(Debug)]
struct Watched {
    providers: Arc<dyn Providers>,
    watch: PromptWatch,
}

impl Providers for Watched {
    fn provider(&self, kind: ProviderKind) -> Result<Arc<dyn Provider>, Failure> {
        self.providers.provider(kind)
    }

    fn admit(&self, child: &Pipeline) -> Result<(), Failure> {
        self.providers.admit(child)
    }

    fn prompted(&self, prompt: &BuiltPrompt<'_>) {
        (self.watch.0)(prompt);
    }
}

fn configured(section: &AnthropicSection) -> Result<Arc<dyn Provider>, Unavailable> {
    let key = std::env::var(&section.api_key_env).ok().filter(|key| !key.trim().is_empty());
    let key = key.ok_or_else(|| Unavailable::MissingKey(section.api_key_env.clone()))?;
    let config = AnthropicConfig::new(ApiKey::new(key)).at(&section.base_url);
    match Anthropic::new(config) {
        Ok(provider) => Ok(Arc::new(provider)),
        Err(error) => Err(misconfigured(&error)),
    }
}

fn misconfigured(error: &AnthropicConfigError) -> Unavailable {
    Unavailable::Misconfigured(error.to_string())
}

#[derive(Debug)]
struct Mocks {
    claude: Arc<dyn Provider>,
    gemini: Arc<dyn Provider>,
}

impl Providers for Mocks {
    fn provider(&self, kind: ProviderKind) -> Result<Arc<dyn Provider>, Failure> {
        Ok(match kind {
            ProviderKind::Claude => self.claude.clone(),
            ProviderKind::Gemini => self.gemini.clone(),
        })
    }
}

#[derive(Debug)]
struct Live(Arc<ProviderTable>);

impl Providers for Live {
    fn provider(&self, kind: ProviderKind) -> Result<Arc<dyn Provider>, Failure> {
        match self.0.live.get(&kind) {
            Some(Ok(provider)) => Ok(provider.clone()),
            Some(Err(why)) => Err(failure(why)),
            None => Err(failure(&Unavailable::NotInThisVersion)),
        }
    }

    /// What a start refuses before anything runs is refused of a child before its first step.
    fn admit(&self, child: &Pipeline) -> Result<(), Failure> {
        let refusals = self.0.refusals(child);
        if refusals.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        Err(Failure::new(FailureClass::Permanent, "PL709", lines.join("\n")))
    }
}

fn failure(why: &Unavailable) -> Failure {
    Failure::new(FailureClass::Permanent, "PL709", why.to_string())
}
