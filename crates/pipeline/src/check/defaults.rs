//! `defaults`: applied once, at load (YF-30).

use super::{Check, Section, cache::CacheDefault, policy::RetryDefault, references::Standpoint};
use crate::{
    definition::ChatOptions,
    diagnostic::{Code, Finding},
};

/// What the workflow says for steps that are silent.
#[derive(Clone, Debug, Default)]
pub(super) struct Defaults {
    pub(super) claude: ChatOptions,
    pub(super) gemini: ChatOptions,
    pub(super) within_ms: Option<u64>,
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
        let Some(section) = workflow.map("defaults") else { return defaults };
        // No step has run where these stand.
        let from = Standpoint { step: 0, whole: "`defaults`" };
        defaults.claude = self.claude_options(&section, "claude_options", from);
        let model = section.text("claude_model").map(str::to_owned);
        defaults.claude.model = defaults.claude.model.take().or(model);
        let fallback = section.text("claude_fallback_model").map(str::to_owned);
        defaults.claude.fallback_model = defaults.claude.fallback_model.take().or(fallback);
        let budget = Self::token_budget(&section, "gemini_token_budget");
        let model = section.text("gemini_model").map(str::to_owned);
        defaults.gemini = ChatOptions { model, ..budget }.over(defaults.gemini);
        defaults.cache = CacheDefault::of(&section);
        defaults.within_ms = section.millis("timeout_seconds");
        defaults.output_dir = self.directory(&section, "output_dir");
        if let Some(value) = section.flag("continue_on_error") {
            defaults.continue_on_error = value;
        }
        defaults
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
