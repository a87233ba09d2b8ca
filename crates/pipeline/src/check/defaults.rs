//! `defaults`: applied once, at load (YF-30).

use std::collections::BTreeMap;

use super::{Check, Section, cache::CacheDefault, policy::RetryDefault, references::Standpoint};
use crate::{
    definition::ChatOptions,
    deployment::Limit,
    diagnostic::{Code, Finding},
};

/// What the workflow says for steps that are silent.
#[derive(Clone, Debug, Default)]
pub(super) struct Defaults {
    pub(super) claude: ChatOptions,
    pub(super) gemini: ChatOptions,
    pub(super) within_ms: Option<u64>,
    /// The same of `file_ops` steps.
    pub(super) file_ops_within_ms: Option<u64>,
    /// Models by the names of steps.
    pub(super) claude_models: BTreeMap<String, String>,
    pub(super) gemini_models: BTreeMap<String, String>,
    pub(super) continue_on_error: bool,
    pub(super) retry: RetryDefault,
    pub(super) cache: CacheDefault,
    pub(super) output_dir: Option<String>,
}

/// The Gemini model when nobody names one.
const GEMINI_MODEL: &str = "gemini-2.5-flash-lite-preview-06-17";

impl Check<'_> {
    pub(super) fn defaults(&mut self, workflow: &Section<'_>) -> Defaults {
        let mut defaults = Defaults {
            continue_on_error: workflow.flag("continue_on_error").unwrap_or(false),
            ..Defaults::default()
        };
        defaults.gemini.model = Some(GEMINI_MODEL.to_owned());
        defaults.retry = self.retry_default(workflow);
        self.deployed_defaults(workflow, &mut defaults);
        let Some(section) = workflow.map("defaults") else { return defaults };
        // No step has run where these stand.
        let from = Standpoint { step: 0, whole: "`defaults`" };
        let mut claude = self.claude_options(&section, "claude_options", from);
        let model = section.text("claude_model").map(str::to_owned);
        claude.model = claude.model.take().or(model);
        let fallback = section.text("claude_fallback_model").map(str::to_owned);
        claude.fallback_model = claude.fallback_model.take().or(fallback);
        defaults.claude = claude.over(std::mem::take(&mut defaults.claude));
        let budget = Self::token_budget(&section, "gemini_token_budget");
        let model = section.text("gemini_model").map(str::to_owned);
        defaults.gemini = ChatOptions { model, ..budget }.over(defaults.gemini);
        defaults.cache = defaults.cache.below(&section, "cache_results", "cache_ttl");
        let own = section.millis("timeout_seconds");
        defaults.file_ops_within_ms = own.or(defaults.file_ops_within_ms);
        defaults.within_ms = own.or(defaults.within_ms);
        defaults.output_dir = self.directory(&section, "output_dir");
        if let Some(value) = section.flag("continue_on_error") {
            defaults.continue_on_error = value;
        }
        defaults
    }

    /// What mode, `performance`, `token_management` and `models` say for steps on which `defaults` is silent.
    fn deployed_defaults(&mut self, workflow: &Section<'_>, defaults: &mut Defaults) {
        if self.deployed.mode.is_some() {
            defaults.gemini.call_within_ms = self.deployed.usual(Limit::GeminiCallMs);
        }
        if let Some(performance) = workflow.map("performance") {
            defaults.within_ms = performance.millis("step_timeout_default");
            defaults.cache =
                defaults.cache.below(&performance, "cache_enabled", "cache_ttl_seconds");
            let own = performance.millis("file_operation_timeout");
            defaults.file_ops_within_ms = own.or(defaults.within_ms);
            if let Some(call) = performance.millis("api_timeout") {
                defaults.claude.call_within_ms = Some(call);
                defaults.gemini.call_within_ms = Some(call);
            }
        }
        let tokens = workflow.map("token_management");
        let tokens = tokens.and_then(|tokens| tokens.count("default_max_tokens"));
        defaults.claude.max_output = tokens;
        defaults.gemini.max_output = tokens;
        let Some(models) = workflow.map("models") else { return };
        let both = [
            ("claude", &mut defaults.claude, &mut defaults.claude_models),
            ("gemini", &mut defaults.gemini, &mut defaults.gemini_models),
        ];
        for (provider, options, by_task) in both {
            let Some(section) = models.map(provider) else { continue };
            if let Some(model) = section.text("default") {
                options.model = Some(model.to_owned());
            }
            let Some(tasks) = section.map("by_task") else { continue };
            for entry in tasks.entries() {
                let Some(model) = entry.value.as_text() else { continue };
                by_task.insert(entry.key.clone(), model.to_owned());
                if !self.known.steps.contains_key(&entry.key) {
                    let text = format!("no step is named `{}`: its model has no effect", entry.key);
                    let note = Finding::note(Code(220), text).at(entry.key_extent);
                    self.findings.push(note.pointer(tasks.pointer_of(&entry.key)));
                }
            }
        }
    }

    /// `retry_on_failure`, or `defaults.retry_on_error`, with `retry_attempts`.
    fn retry_default(&mut self, workflow: &Section<'_>) -> RetryDefault {
        let own = workflow.map("defaults").and_then(|section| section.flag("retry_on_error"));
        let on = own.or(workflow.flag("retry_on_failure")).unwrap_or(false);
        if !on {
            if let Some(entry) = workflow.get("retry_attempts") {
                let text = "`retry_attempts` has no effect without `retry_on_failure`";
                let note = Finding::note(Code(220), text).at(entry.key_extent);
                self.findings.push(note.pointer(workflow.pointer_of("retry_attempts")));
            }
            return RetryDefault::default();
        }
        let retries = workflow.count("retry_attempts").unwrap_or(3);
        RetryDefault { attempts: Some(retries.saturating_add(1)) }
    }
}
