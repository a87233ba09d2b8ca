use std::{path::PathBuf, time::Duration};

use perennial_engine::{monitor::Monitoring, performance::Thresholds};
use serde::Deserialize;

use super::Limits;

/// What comes from a configuration file (`perennial.toml`). Keys themselves never do: the file
/// names the environment variable that holds one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub(crate) providers: ProvidersConfig,
    pub(crate) limits: Limits,
    pub(crate) monitor: MonitorSection,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProvidersConfig {
    pub(crate) anthropic: AnthropicSection,
}

/// `[monitor]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MonitorSection {
    enable_monitoring: bool,
    /// Bytes.
    memory_threshold: u64,
    /// Milliseconds, as the next one.
    execution_threshold: u64,
    step_threshold: u64,
    /// Bytes.
    result_threshold: u64,
}

impl Default for MonitorSection {
    fn default() -> Self {
        let Thresholds { execution, step, result_bytes, memory_bytes } = Thresholds::default();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            enable_monitoring: true,
            memory_threshold: memory_bytes,
            execution_threshold: millis(execution),
            step_threshold: millis(step),
            result_threshold: result_bytes,
        }
    }
}

impl MonitorSection {
    pub(super) fn monitoring(&self) -> Monitoring {
        Monitoring {
            enabled: self.enable_monitoring,
            thresholds: Thresholds {
                execution: Duration::from_millis(self.execution_threshold),
                step: Duration::from_millis(self.step_threshold),
                result_bytes: self.result_threshold,
                memory_bytes: self.memory_threshold,
            },
            ..Monitoring::default()
        }
    }
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

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is not TOML, or says something this version does not know.
    #[error("configuration {}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: Box<toml::de::Error>,
    },
    /// The file is not text.
    #[error("configuration {}: not UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
}

impl Config {
    /// Reads a configuration from `bytes`, which are those of the file `path`.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`].
    pub fn parse(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Self, ConfigError> {
        let path = path.into();
        match std::str::from_utf8(bytes) {
            Ok(text) => toml::from_str(text)
                .map_err(|source| ConfigError::Malformed { path, source: Box::new(source) }),
            Err(_) => Err(ConfigError::NotText { path }),
        }
    }

    /// Sets where the Anthropic API is.
    #[must_use]
    pub fn anthropic_base_url(mut self, url: impl Into<String>) -> Self {
        self.providers.anthropic.base_url = url.into();
        self
    }

    /// Sets the model for steps that name none.
    #[must_use]
    pub fn anthropic_model(mut self, model: impl Into<String>) -> Self {
        self.providers.anthropic.model = Some(model.into());
        self
    }

    /// Sets the name of the environment variable that holds the key.
    #[must_use]
    pub fn anthropic_api_key_env(mut self, name: impl Into<String>) -> Self {
        self.providers.anthropic.api_key_env = name.into();
        self
    }
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
        assert_eq!((config.limits.runs, config.limits.tasks), (3, 1_000));
        let error = Config::parse("p.toml", b"[providers.openai]\nkey = 1\n").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("p.toml") && text.contains("line 1"), "{text}");
        assert!(text.contains("openai"), "{text}");
    }
}
