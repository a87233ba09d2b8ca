mod engine;
mod error;
mod reading;
mod services;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use perennial_core::nearest;
use perennial_engine::{
    EngineSettings, SettingError, external::ServiceDefaults, monitor::Monitoring,
    performance::Thresholds, scheduler::LeaseTerms,
};
use perennial_pipeline::{Deployment, EnvironmentMode, InvalidDeployment};
use perennial_store::Retention;
use serde::Deserialize;

pub use self::error::ConfigError;
use self::{
    engine::{EngineSection, Span},
    reading::{Places, Unknown},
    services::{CallsSection, ServiceSection},
};
use super::{InvalidStoreUrl, Limits, Store, StoreSettings, prices::Prices};

/// What comes from a configuration file (`perennial.toml`): providers, prices, limits, monitoring. Keys themselves
/// never do: the file names the environment variable that holds one.
///
/// ```
/// use perennial::Config;
///
/// let config = Config::parse("perennial.toml", b"[providers.anthropic]\nmodel = \"claude-x\"\n")?;
/// assert_eq!(config, Config::default().anthropic_model("claude-x"));
/// # Ok::<(), perennial::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub(crate) providers: ProvidersConfig,
    pub(crate) limits: LimitsSection,
    pub(crate) engine: EngineSection,
    pub(crate) pipeline: PipelineSection,
    pub(crate) monitor: MonitorSection,
    pub(crate) retention: RetentionSection,
    pub(crate) prices: Prices,
    pub(crate) store: StoreSection,
    pub(crate) service: Box<ServiceSection>,
    pub(crate) breaker: CallsSection,
    /// What `pipeline` and `limits` say of runs.
    #[serde(skip)]
    deployment: Deployment,
}

/// `[store]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StoreSection {
    url: Option<StoreUrl>,
    expect_id: Option<String>,
    queue_max: Option<usize>,
    readers: Option<usize>,
    connections: Option<usize>,
    commits_together: Option<usize>,
    patience: Option<Span>,
}

impl StoreSection {
    fn settings(&self) -> StoreSettings {
        StoreSettings {
            expect_id: self.expect_id.clone(),
            queue_max: self.queue_max,
            readers: self.readers,
            connections: self.connections,
            commits_together: self.commits_together,
            patience: self.patience.map(|Span(time)| time),
        }
    }
}

/// A store by its text, which may hold a password: what is wrong with it is said without the line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct StoreUrl(Result<Store, InvalidStoreUrl>);

impl<'de> Deserialize<'de> for StoreUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(deserializer)?.parse()))
    }
}

/// `[pipeline]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PipelineSection {
    /// The mode where neither a start, nor a document, nor the environment names one.
    environment: Option<EnvironmentMode>,
}

/// `[limits]`: those of the runtime, and those of each run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsSection {
    runs: usize,
    attempts: usize,
    tasks: usize,
    monitors: usize,
    max_nesting_depth: Option<u64>,
    max_total_steps: Option<u64>,
    max_step_executions: Option<u64>,
    memory_limit_mb: Option<u64>,
    max_execution_time_s: Option<u64>,
    max_file_operations: Option<u64>,
    /// Names of limits of runs that nobody can pass.
    enforced: Vec<String>,
}

impl Default for LimitsSection {
    fn default() -> Self {
        let Limits { runs, attempts, tasks, monitors } = Limits::default();
        Self {
            runs,
            attempts,
            tasks,
            monitors,
            max_nesting_depth: None,
            max_total_steps: None,
            max_step_executions: None,
            memory_limit_mb: None,
            max_execution_time_s: None,
            max_file_operations: None,
            enforced: Vec::new(),
        }
    }
}

impl LimitsSection {
    pub(super) fn of_runtime(&self) -> Limits {
        let Self { runs, attempts, tasks, monitors, .. } = *self;
        Limits { runs, attempts, tasks, monitors }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProvidersConfig {
    pub(crate) anthropic: AnthropicSection,
}

/// `[monitor]`: what is not set has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MonitorSection {
    enable_monitoring: Option<bool>,
    /// Bytes.
    memory_threshold: Option<u64>,
    /// Milliseconds, as the next one.
    execution_threshold: Option<u64>,
    step_threshold: Option<u64>,
    /// Bytes.
    result_threshold: Option<u64>,
}

impl MonitorSection {
    fn thresholds(&self) -> Thresholds {
        let usual = Thresholds::default();
        Thresholds {
            execution: self.execution_threshold.map_or(usual.execution, Duration::from_millis),
            step: self.step_threshold.map_or(usual.step, Duration::from_millis),
            result_bytes: self.result_threshold.unwrap_or(usual.result_bytes),
            memory_bytes: self.memory_threshold.unwrap_or(usual.memory_bytes),
        }
    }

    pub(super) fn monitoring(&self) -> Monitoring {
        Monitoring {
            enabled: self.enable_monitoring.unwrap_or(true),
            thresholds: self.thresholds(),
            ..Monitoring::default()
        }
    }
}

/// `[retention]`: what is not set has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetentionSection {
    enabled: Option<bool>,
    /// Of all runs; the next ones are stronger.
    runs_days: Option<u32>,
    completed_days: Option<u32>,
    failed_days: Option<u32>,
    cancelled_days: Option<u32>,
}

impl RetentionSection {
    fn policy(&self) -> Retention {
        if self.enabled == Some(false) {
            return Retention::never();
        }
        let days = |days: u32| Duration::from_secs(u64::from(days) * 24 * 60 * 60);
        let all = self.runs_days.map_or_else(Retention::default, |all| Retention::after(days(all)));
        Retention {
            completed: self.completed_days.map(days).or(all.completed),
            failed: self.failed_days.map(days).or(all.failed),
            cancelled: self.cancelled_days.map(days).or(all.cancelled),
            ..all
        }
    }
}

/// A threshold of the monitor, as a configuration has it.
///
/// ```
/// # use perennial::Config;
/// let config = Config::parse("perennial.toml", b"[monitor]\nstep_threshold = 5000\n")?;
/// let step = config.threshold_settings().into_iter().find(|it| it.name == "step_threshold").unwrap();
/// assert_eq!((step.value, step.unit, step.is_set), (5_000, "ms", true));
/// # Ok::<(), perennial::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThresholdSetting {
    /// Its key in `[monitor]`.
    pub name: &'static str,
    /// Above it, a warning is due.
    pub value: u64,
    /// `ms` or `bytes`.
    pub unit: &'static str,
    /// Whether the configuration sets it; otherwise it is the default.
    pub is_set: bool,
}

/// `[providers.anthropic]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AnthropicSection {
    pub(crate) base_url: String,
    /// What a step uses that names no model.
    pub(crate) model: Option<String>,
    /// Name of the environment variable with the key.
    pub(crate) api_key_env: String,
    /// Most tokens of a reply, where a step is silent.
    pub(crate) max_output: u32,
}

impl Default for AnthropicSection {
    fn default() -> Self {
        Self {
            base_url: "https://api.anthropic.com".to_owned(),
            model: None,
            api_key_env: "ANTHROPIC_API_KEY".to_owned(),
            max_output: 4096,
        }
    }
}

impl Config {
    /// The store that `[store] url` names.
    ///
    /// ```
    /// # use perennial::{Config, Store};
    /// let config = Config::parse("perennial.toml", b"[store]\nurl = \"sqlite:letters.db\"\n")?;
    /// assert_eq!(config.store(), Some(&Store::sqlite("letters.db")));
    /// # Ok::<(), perennial::ConfigError>(())
    /// ```
    pub fn store(&self) -> Option<&Store> {
        self.store.url.as_ref().and_then(|url| url.0.as_ref().ok())
    }

    /// How the store is opened: what else `[store]` says. Commands give it to the store that they were told, a
    /// [`Builder`](crate::Builder) to the one that it has, where that has not set it itself.
    ///
    /// ```
    /// # use perennial::Config;
    /// let config = Config::parse("perennial.toml", b"[store]\nreaders = 4\n")?;
    /// assert_eq!(config.store_settings().readers, Some(4));
    /// # Ok::<(), perennial::ConfigError>(())
    /// ```
    pub fn store_settings(&self) -> StoreSettings {
        self.store.settings()
    }

    /// Reads a configuration from `bytes`, which are those of the file `path`; the file itself is not opened. What
    /// is absent has its default, and a key that this version does not know is an error.
    ///
    /// ```
    /// # use perennial::Config;
    /// let text = b"[limits]\nruns = 20\nmax_total_steps = 500\nenforced = [\"max_total_steps\"]\n";
    /// let config = Config::parse("perennial.toml", text)?;
    /// assert_ne!(config, Config::default());
    /// assert!(Config::parse("perennial.toml", b"[limit]\nruns = 20\n").is_err()); // misspelt
    /// # Ok::<(), perennial::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`ConfigError`].
    pub fn parse(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Self, ConfigError> {
        let path = path.into();
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(ConfigError::NotText { path });
        };
        let (config, problems, places) = reading::read::<Self>(text);
        let malformed = |source: toml::de::Error| {
            if let Some(Unknown { line, table, key, known }) = places.unknown(&source) {
                let near = nearest(&key, known.iter().map(String::as_str)).map(str::to_owned);
                let path = path.clone();
                return ConfigError::UnknownKey { path, line, table, key, near, known };
            }
            // What it would show of an address may be a password.
            let source = match source.to_string().contains("://") {
                true => error::without_address(&source, places.line_of(&source)),
                false => source,
            };
            ConfigError::Malformed { path: path.clone(), source: Box::new(source) }
        };
        let mut problems: Vec<ConfigError> = problems.into_iter().map(malformed).collect();
        let Some(mut config) = config else { return Err(ConfigError::told(problems)) };
        problems.extend(config.meaningless(&path, &places));
        match deployment(&config.pipeline, &config.limits) {
            Ok(deployment) => config.deployment = deployment,
            Err(source) => {
                let line = places.line("limits", error::limit(&source));
                problems.push(ConfigError::Limits { path, line, source });
            }
        }
        if problems.is_empty() { Ok(config) } else { Err(ConfigError::told(problems)) }
    }

    /// What of it can be read, and cannot be meant.
    fn meaningless(&self, path: &Path, places: &Places<'_>) -> Vec<ConfigError> {
        let path = || path.to_owned();
        // As it is written, and where.
        let setting = |table, source: SettingError| {
            let (line, key) = (places.line(table, source.setting), source.setting);
            let value = places.written(table, key).unwrap_or_else(|| source.value.clone());
            (line, SettingError { value, ..source })
        };
        let mut problems = Vec::new();
        if let Some(StoreUrl(Err(source))) = &self.store.url {
            let (line, source) = (places.line("store", "url"), source.clone());
            problems.push(ConfigError::Store { path: path(), line, source });
        }
        let of_store = self.store.settings().check().err();
        problems.extend(of_store.into_iter().flat_map(|all| all.0).map(|source| {
            let (line, source) = setting("store", source);
            ConfigError::StoreSettings { path: path(), line, source }
        }));
        let of_engine = self.engine.check().err();
        problems.extend(of_engine.into_iter().flat_map(|all| all.0).map(|source| {
            let (line, source) = setting("engine", source);
            ConfigError::Engine { path: path(), line, source }
        }));
        let defaults = self.service_defaults();
        let of_services = defaults.check().err();
        problems.extend(of_services.into_iter().flat_map(|all| all.faults).map(|source| {
            let keys = error::service_keys(&source, &defaults);
            let line = keys.into_iter().find_map(|(table, key)| places.line(table, key));
            ConfigError::Services { path: path(), line, source }
        }));
        if let Err(source) = self.limits.of_runtime().checked() {
            let line = places.line("limits", source.name());
            problems.push(ConfigError::Limit { path: path(), line, source });
        }
        problems
    }

    /// How long attempts get at a shutdown, and what did not end is given back: `[engine] drain_timeout`.
    ///
    /// ```
    /// # use perennial::Config;
    /// # use std::time::Duration;
    /// let config = Config::parse("perennial.toml", b"[engine]\ndrain_timeout = \"40s\"\n")?;
    /// assert_eq!(config.drain_within(), Duration::from_secs(40));
    /// # Ok::<(), perennial::ConfigError>(())
    /// ```
    pub fn drain_within(&self) -> Duration {
        self.engine.drain_within()
    }

    /// The lease of a node on a store that several share: `[engine] lease_ttl`, and the other times in proportion.
    ///
    /// ```
    /// # use perennial::Config;
    /// # use std::time::Duration;
    /// let config = Config::parse("perennial.toml", b"[engine]\nlease_ttl = \"30s\"\n")?;
    /// assert_eq!(config.lease().ttl, Duration::from_secs(30));
    /// # Ok::<(), perennial::ConfigError>(())
    /// ```
    pub fn lease(&self) -> LeaseTerms {
        self.engine.lease()
    }

    /// What holds for every service that does not say otherwise: `[service]` and `[breaker]`.
    ///
    /// ```
    /// # use perennial::Config;
    /// # use std::time::Duration;
    /// let config = Config::parse("perennial.toml", b"[service]\nidle_stop = \"1m\"\n")?;
    /// assert_eq!(config.service_defaults().terms.idle_stop, Duration::from_secs(60));
    /// # Ok::<(), perennial::ConfigError>(())
    /// ```
    pub fn service_defaults(&self) -> ServiceDefaults {
        self.service.defaults(&self.breaker)
    }

    /// How the engine works: `[engine]`.
    ///
    /// ```
    /// # use perennial::Config;
    /// # use std::time::Duration;
    /// let config = Config::parse("perennial.toml", b"[engine]\npoll_interval = \"250ms\"\n")?;
    /// assert_eq!(config.engine().poll_interval, Duration::from_millis(250));
    /// # Ok::<(), perennial::ConfigError>(())
    /// ```
    pub fn engine(&self) -> EngineSettings {
        self.engine.settings()
    }

    /// Mode and limits that hold where nobody else names them, and those that nobody can pass: for
    /// [`Pipelines::check_deployed`](crate::Pipelines::check_deployed).
    ///
    /// ```
    /// # use perennial::{Config, Deployment, EnvironmentMode};
    /// let config = Config::parse("perennial.toml", b"[pipeline]\nenvironment = \"production\"\n")?;
    /// let same = Deployment::default().configured_environment(EnvironmentMode::Production);
    /// assert_eq!(*config.deployment(), same);
    /// # Ok::<(), perennial::ConfigError>(())
    /// ```
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// How long runs are kept after their end: `[retention]` with `runs_days`, for each end `completed_days`,
    /// `failed_days`, `cancelled_days`, and `enabled`.
    ///
    /// ```
    /// # use perennial::{Config, Retention};
    /// # use std::time::Duration;
    /// let text = b"[retention]\nruns_days = 7\nfailed_days = 90\n";
    /// let policy = Config::parse("perennial.toml", text)?.retention();
    /// let day = Duration::from_secs(24 * 60 * 60);
    /// assert_eq!((policy.completed, policy.failed), (Some(day * 7), Some(day * 90)));
    /// let off = Config::parse("perennial.toml", b"[retention]\nenabled = false\n")?;
    /// assert!(!off.retention().removes());
    /// assert_eq!(Config::default().retention(), Retention::default());
    /// # Ok::<(), perennial::ConfigError>(())
    /// ```
    pub fn retention(&self) -> Retention {
        self.retention.policy()
    }

    /// From where on something is worth a warning.
    ///
    /// ```
    /// # use perennial::Config;
    /// # use std::time::Duration;
    /// let config = Config::parse("perennial.toml", b"[monitor]\nstep_threshold = 5000\n")?;
    /// assert_eq!(config.thresholds().step, Duration::from_secs(5));
    /// assert_eq!(config.thresholds().execution, Duration::from_secs(30)); // the default
    /// # Ok::<(), perennial::ConfigError>(())
    /// ```
    pub fn thresholds(&self) -> Thresholds {
        self.monitor.thresholds()
    }

    /// The same thresholds one by one, each with whether this configuration sets it.
    ///
    /// ```
    /// # use perennial::Config;
    /// let names = Config::default().threshold_settings().map(|setting| setting.name);
    /// assert_eq!(
    ///     names,
    ///     ["execution_threshold", "step_threshold", "memory_threshold", "result_threshold"]
    /// );
    /// ```
    pub fn threshold_settings(&self) -> [ThresholdSetting; 4] {
        let Thresholds { execution, step, result_bytes, memory_bytes } = self.thresholds();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let set = &self.monitor;
        let setting = |name, value, unit, is_set| ThresholdSetting { name, value, unit, is_set };
        let (execution, step) = (millis(execution), millis(step));
        [
            setting("execution_threshold", execution, "ms", set.execution_threshold.is_some()),
            setting("step_threshold", step, "ms", set.step_threshold.is_some()),
            setting("memory_threshold", memory_bytes, "bytes", set.memory_threshold.is_some()),
            setting("result_threshold", result_bytes, "bytes", set.result_threshold.is_some()),
        ]
    }

    /// Sets where the Anthropic API is; the default is `https://api.anthropic.com`.
    ///
    /// ```
    /// # use perennial::Config;
    /// let config = Config::default().anthropic_base_url("https://proxy.example");
    /// let text = b"[providers.anthropic]\nbase_url = \"https://proxy.example\"\n";
    /// assert_eq!(config, Config::parse("perennial.toml", text)?);
    /// # Ok::<(), perennial::ConfigError>(())
    /// ```
    #[must_use]
    pub fn anthropic_base_url(mut self, url: impl Into<String>) -> Self {
        self.providers.anthropic.base_url = url.into();
        self
    }

    /// Sets the model for steps that name none. Without it a live run with such a step is refused.
    ///
    /// ```
    /// # use perennial::Config;
    /// let config = Config::default().anthropic_model("claude-x");
    /// assert_ne!(config, Config::default());
    /// ```
    #[must_use]
    pub fn anthropic_model(mut self, model: impl Into<String>) -> Self {
        self.providers.anthropic.model = Some(model.into());
        self
    }

    /// Sets the name of the environment variable that holds the key; the default is `ANTHROPIC_API_KEY`. The key is
    /// read when the runtime starts, and never recorded.
    ///
    /// ```
    /// # use perennial::Config;
    /// let config = Config::default().anthropic_api_key_env("TEAM_KEY");
    /// assert_ne!(config, Config::default());
    /// ```
    #[must_use]
    pub fn anthropic_api_key_env(mut self, name: impl Into<String>) -> Self {
        self.providers.anthropic.api_key_env = name.into();
        self
    }
}

/// What a configuration says of runs.
fn deployment(
    pipeline: &PipelineSection,
    limits: &LimitsSection,
) -> Result<Deployment, InvalidDeployment> {
    let named = [
        ("max_nesting_depth", limits.max_nesting_depth),
        ("max_total_steps", limits.max_total_steps),
        ("max_step_executions", limits.max_step_executions),
        ("memory_limit_mb", limits.memory_limit_mb),
        ("max_execution_time_s", limits.max_execution_time_s),
        ("max_file_operations", limits.max_file_operations),
    ];
    let mut deployment = Deployment::default();
    if let Some(mode) = pipeline.environment {
        deployment = deployment.configured_environment(mode);
    }
    for (name, value) in named {
        if let Some(value) = value {
            deployment = deployment.configured_limit(name, value)?;
        }
    }
    limits.enforced.iter().try_fold(deployment, |deployment, name| deployment.enforced(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_has_its_default_and_what_is_unknown_is_refused_with_its_place() {
        let text = b"[providers.anthropic]\nmodel = \"m\"\n";
        let config = Config::parse("p.toml", text).unwrap();
        assert_eq!(config.providers.anthropic.model.as_deref(), Some("m"));
        assert_eq!(config.providers.anthropic.max_output, 4096);
        let text =
            b"[monitor]\nenable_monitoring = false\nmemory_threshold = 9\n[limits]\nruns = 3\n";
        let config = Config::parse("p.toml", text).unwrap();
        let monitoring = config.monitor.monitoring();
        assert_eq!((monitoring.enabled, monitoring.thresholds.memory_bytes), (false, 9));
        assert_eq!(monitoring.thresholds.step, Duration::from_secs(60));
        let limits = config.limits.of_runtime();
        assert_eq!((limits.runs, limits.tasks), (3, 1_000));
        let told = config.threshold_settings();
        let told = told.map(|one| (one.name, one.value, one.unit, one.is_set));
        assert_eq!(
            told,
            [
                ("execution_threshold", 30_000, "ms", false),
                ("step_threshold", 60_000, "ms", false),
                ("memory_threshold", 9, "bytes", true),
                ("result_threshold", 10_000_000, "bytes", false),
            ]
        );
        let error = Config::parse("p.toml", b"[providers.openai]\nkey = 1\n").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("p.toml") && text.contains("line 1"), "{text}");
        assert!(text.contains("openai"), "{text}");
    }

    /// Each key with a value that is not its default, and what it has to be beside it.
    const KEYS: [(&str, &str, &str); 88] = [
        ("providers.anthropic.base_url", "\"https://x\"", ""),
        ("providers.anthropic.model", "\"m\"", ""),
        ("providers.anthropic.api_key_env", "\"PATH\"", ""),
        ("providers.anthropic.max_output", "7", ""),
        ("limits.runs", "7", ""),
        ("limits.attempts", "7", ""),
        ("limits.tasks", "7", ""),
        ("limits.monitors", "7", ""),
        ("limits.max_nesting_depth", "7", ""),
        ("limits.max_total_steps", "7", ""),
        ("limits.max_step_executions", "7", ""),
        ("limits.memory_limit_mb", "7", ""),
        ("limits.max_execution_time_s", "7", ""),
        ("limits.max_file_operations", "7", ""),
        ("limits.enforced", "[\"max_total_steps\"]", "limits.max_total_steps = 7"),
        ("pipeline.environment", "\"production\"", ""),
        ("monitor.enable_monitoring", "false", ""),
        ("monitor.memory_threshold", "7", ""),
        ("monitor.execution_threshold", "7", ""),
        ("monitor.step_threshold", "7", ""),
        ("monitor.result_threshold", "7", ""),
        ("retention.enabled", "false", ""),
        ("retention.runs_days", "7", ""),
        ("retention.completed_days", "7", ""),
        ("retention.failed_days", "7", ""),
        ("retention.cancelled_days", "7", ""),
        ("prices.m.input", "7", "prices.m.output = 1"),
        ("prices.m.output", "7", "prices.m.input = 1"),
        ("prices.m.cache_read", "7", "prices.m.input = 1\nprices.m.output = 1"),
        ("prices.m.cache_write", "7", "prices.m.input = 1\nprices.m.output = 1"),
        ("store.url", "\"sqlite:x.db\"", ""),
        ("store.expect_id", "\"7\"", ""),
        ("store.queue_max", "7", ""),
        ("store.readers", "7", ""),
        ("store.connections", "7", ""),
        ("store.commits_together", "7", ""),
        ("store.patience", "\"7s\"", ""),
        ("engine.poll_interval", "\"7ms\"", ""),
        ("engine.claim_batch", "7", ""),
        ("engine.decide_rounds", "7", ""),
        ("engine.stalled_after", "\"7s\"", ""),
        ("engine.run_timeout", "\"7s\"", ""),
        ("engine.keep_progress_every", "\"7s\"", ""),
        ("engine.rescue_batch", "7", ""),
        ("engine.takeovers_max", "7", ""),
        ("engine.children_max", "7", ""),
        ("engine.group_depth_max", "7", ""),
        ("engine.wake_spread", "\"7s\"", ""),
        ("engine.aging", "\"9s\"", ""),
        ("engine.authority_within", "\"7s\"", ""),
        ("engine.lease_ttl", "\"7s\"", ""),
        ("service.ready_within", "\"7s\"", ""),
        ("service.settle_delay", "\"7s\"", ""),
        ("service.start_probe_every", "\"7s\"", ""),
        ("service.probe_every", "\"7s\"", ""),
        ("service.probe_timeout", "\"7s\"", ""),
        ("service.down_after", "7", ""),
        ("service.up_after", "7", ""),
        ("service.health_ttl", "\"70s\"", ""),
        ("service.idle_stop", "\"7s\"", ""),
        ("service.stop_within", "\"7s\"", ""),
        ("service.start_backoff", "\"7s\"", ""),
        ("service.backoff_max", "\"7s\"", ""),
        ("service.restarts_max", "7", ""),
        ("service.restarts_within", "\"7s\"", ""),
        ("service.holds_max", "7", ""),
        ("service.instances_max", "7", ""),
        ("service.max_wait", "\"7s\"", ""),
        ("service.on_unavailable", "\"fail\"", ""),
        ("breaker.failures_max", "7", ""),
        ("breaker.open_for", "\"7s\"", ""),
        ("breaker.open_max", "\"70s\"", ""),
        ("breaker.jitter_percent", "7", ""),
        ("breaker.probes", "7", ""),
        ("breaker.successes", "7", ""),
        ("engine.drain_timeout", "\"7s\"", ""),
        ("engine.stage_concurrency", "7", ""),
        ("engine.start_to_close", "\"7s\"", ""),
        ("engine.retry_attempts", "7", ""),
        ("engine.retry_crashes", "7", ""),
        ("engine.retry_base", "\"7s\"", ""),
        ("engine.retry_cap", "\"7s\"", ""),
        ("engine.plan_jobs_max", "7", ""),
        ("engine.run_jobs_max", "7", ""),
        ("engine.defer_max_wait", "\"7s\"", ""),
        ("engine.wait_max", "\"7s\"", ""),
        ("engine.compensation", "\"7s\"", ""),
        ("engine.drain_grace", "\"7s\"", ""),
    ];

    /// What a runtime is made with.
    fn made(text: &str) -> String {
        let config = Config::parse("p.toml", text.as_bytes()).unwrap_or_else(|no| panic!("{no}"));
        let table = super::super::providers::ProviderTable::new(&config, Vec::new(), None);
        let (limits, monitoring) = (config.limits.of_runtime(), config.monitor.monitoring());
        let of_runs = (config.deployment(), config.retention(), config.store());
        let store = config.store_settings();
        let of_store = (
            store.expect_id.clone(),
            store.queue_max.unwrap_or(4_096),
            store.readers(),
            store.connections.unwrap_or(8),
            store.commits_together.unwrap_or(16),
            store.patience.unwrap_or(Duration::from_secs(30)),
        );
        let of_engine = (config.engine(), config.engine.lease(), config.engine.drain_within());
        let of_engine = (of_engine, config.service_defaults());
        format!(
            "{table:?} {:?} {limits:?} {monitoring:?} {of_runs:?} {of_engine:?} {of_store:?}",
            config.prices.table()
        )
    }

    /// The keys that a table takes, by what it says of one that it does not.
    fn taken(table: &str) -> Vec<String> {
        let text = format!("[{table}]\nno_such_key = 1\n");
        let text = if table.is_empty() { "no_such_key = 1\n" } else { &text };
        let refused = Config::parse("p.toml", text.as_bytes()).unwrap_err();
        known(&refused).map(<[String]>::to_vec).unwrap_or_default()
    }

    fn known(problem: &ConfigError) -> Option<&[String]> {
        if let ConfigError::Several(problems) = problem {
            return problems.iter().find_map(known);
        }
        if let ConfigError::UnknownKey { known, .. } = problem { Some(known) } else { None }
    }

    /// Proves INV-33.
    /// The README names each key with its default, those of the engine without the name of their section: to set it to
    /// that changes nothing.
    #[test]
    fn the_documented_default_of_each_setting_is_its_default() {
        let readme = include_str!("../../../../README.md");
        let mut told = Vec::new();
        for line in readme.lines() {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, keys, default, _, _] = cells[..] else { continue };
            // The first of a row names the section of the others.
            let mut section = "engine";
            for key in keys.split('`').skip(1).step_by(2) {
                let (in_section, key) = key.rsplit_once('.').unwrap_or((section, key));
                section = in_section;
                let key = format!("{}.{key}", section.replace("MODEL", "m"));
                if KEYS.iter().any(|(known, ..)| *known == key) {
                    told.push((key, default));
                }
            }
        }
        for (key, default) in &told {
            // The place of the runs is the command's default; others have that of another key, or none.
            if let Some(value) = default.strip_prefix('`').filter(|_| key != "store.url") {
                let value = value.trim_end_matches('`');
                assert_eq!(made(&format!("{key} = {value}\n")), made(""), "{key}");
            }
        }
        let elsewhere = |key: &str| {
            let of_runtime = ["runs", "attempts", "tasks", "monitors"];
            key.starts_with("providers.")
                || key.starts_with("pipeline.")
                || key.strip_prefix("limits.").is_some_and(|key| !of_runtime.contains(&key))
        };
        let mut known: Vec<&str> =
            KEYS.iter().map(|(key, ..)| *key).filter(|key| !elsewhere(key)).collect();
        let mut told: Vec<&str> = told.iter().map(|(key, _)| key.as_str()).collect();
        known.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, known, "each key once");
    }

    /// Whatever is wrong is told, each with its line, and nothing twice.
    #[test]
    fn all_problems_of_a_configuration_are_told_at_once() {
        let text = "[engine]\npoll_interval = \"soon\"\nclaim_bach = 3\n[limits]\nruns = \"many\"\n\
                    [prices.m]\ninput = \"a\"\noutput = 2\n[nowhere]\nx = 1\n[retention]\nruns_days = 7\n";
        let refused = Config::parse("p.toml", text.as_bytes()).unwrap_err();
        let ConfigError::Several(problems) = &refused else { panic!("{refused}") };
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let met = |line: u32, what: &str| {
            let places = [format!("at line {line},"), format!("p.toml, line {line}: ")];
            let is_there = |text: &&String| places.iter().any(|place| text.contains(place));
            told.iter().filter(is_there).any(|text| text.contains(what))
        };
        assert!(met(2, "`soon` is no time"), "{told:#?}");
        assert!(met(3, "[engine] has no key `claim_bach`: did you mean"), "{told:#?}");
        assert!(met(5, "invalid type: string"), "{told:#?}");
        assert!(met(7, "invalid type: string"), "{told:#?}");
        assert!(met(9, "there is no section `nowhere`"), "{told:#?}");
        assert_eq!(told.len(), 5, "{told:#?}");

        let text = "[engine]\nclaim_batch = 0\nchildren_max = 0\n[limits]\nmax_nesting_depth = 0\n\
                    [store]\nurl = \"nothing://x\"\nreaders = 0\npatience = \"1ms\"\n";
        let refused = Config::parse("p.toml", text.as_bytes()).unwrap_err().to_string();
        for told in [
            "p.toml, line 2: [engine] `claim_batch` is 0; 1 to 1000 are possible\n",
            "p.toml, line 3: [engine] `children_max` is 0;",
            "p.toml, line 5: [limits] the limit `max_nesting_depth`",
            "p.toml, line 7: [store] ",
            "`nothing://x`",
            "p.toml, line 8: [store] `readers` is 0; 1 to 64 are possible\n",
            "p.toml, line 9: [store] `patience` is 1ms; 1s to ",
        ] {
            assert!(refused.contains(told), "{told}: {refused}");
        }
        // What is no TOML at all is told as far as it can be read.
        let text = b"[engine]\nclaim_batch = \"8\"\npoll_interval = \"0s\"\nlease_ttl = \"1ms\"\ndrain_timeout = \"2s\"\n";
        let refused = Config::parse("p.toml", text).unwrap_err().to_string();
        for told in [
            "at line 2,",
            "line 3: [engine] `poll_interval` is 0s; 1ms to 60s are possible",
            "line 4: [engine] `lease_ttl` is 1ms; 1s to 600s are possible",
            "line 5: [engine] `drain_timeout` is 2s; 3s to 86400s are possible",
        ] {
            assert!(refused.contains(told), "{told}: {refused}");
        }
        let refused = Config::parse("p.toml", b"[engine\nx = \n").unwrap_err().to_string();
        assert!(refused.contains("at line 1"), "{refused}");
    }

    /// Proves INV-33, D45.
    /// Of each key that is taken, another value makes another runtime; every table names what it takes instead of a
    /// key that it does not know.
    #[test]
    fn each_key_changes_what_it_is_for_and_all_others_are_refused() {
        for (key, value, beside) in KEYS {
            let set = made(&format!("{beside}\n{key} = {value}\n"));
            // A price is one only with both of its halves.
            let (price, other) = (key.starts_with("prices."), key.replace("prices.m.", ""));
            let unset = match (price, other.as_str()) {
                (true, "input" | "output") => made(&format!("{beside}\n{key} = 1\n")),
                (true, _) | (false, _) => made(beside),
            };
            assert_ne!(set, unset, "{key} changes nothing");
        }
        let mut found = Vec::new();
        for section in taken("") {
            let inner = taken(&section);
            let tables = match section.as_str() {
                "prices" => vec!["prices.m".to_owned()],
                "providers" => inner.iter().map(|name| format!("{section}.{name}")).collect(),
                _ => vec![section],
            };
            for table in tables {
                found.extend(taken(&table).into_iter().map(|key| format!("{table}.{key}")));
            }
        }
        let mut known = KEYS.map(|(key, ..)| key.to_owned()).to_vec();
        known.sort();
        found.sort();
        assert_eq!(found, known, "each key is in the table of this test");
    }
}
