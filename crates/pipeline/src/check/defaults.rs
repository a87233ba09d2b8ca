//! `defaults`: applied once, at load (YF-30).

use super::{Check, Section, keys, references::Standpoint};
use crate::definition::ChatOptions;

/// What the workflow says for steps that are silent.
#[derive(Clone, Debug, Default)]
pub(super) struct Defaults {
    pub(super) claude: ChatOptions,
    pub(super) gemini: ChatOptions,
    pub(super) within_ms: Option<u64>,
    pub(super) continue_on_error: bool,
}

/// The Gemini model when nobody names one.
const GEMINI_MODEL: &str = "gemini-2.5-flash-lite-preview-06-17";

impl Check<'_> {
    pub(super) fn defaults(&mut self, workflow: &Section<'_>) -> Defaults {
        let mut defaults = Defaults {
            continue_on_error: self.flag(workflow, "continue_on_error").unwrap_or(false),
            ..Defaults::default()
        };
        defaults.gemini.model = Some(GEMINI_MODEL.to_owned());
        let Some(section) = self.map(workflow, "defaults") else { return defaults };
        self.unknown_keys(&section, &[&keys::DEFAULTS]);
        // No step has run where these stand.
        let from = Standpoint { step: 0, whole: "`defaults`" };
        defaults.claude = self.claude_options(&section, "claude_options", from);
        let model = self.text(&section, "claude_model").map(str::to_owned);
        defaults.claude.model = defaults.claude.model.take().or(model);
        self.output_format(&section, "claude_output_format");
        let budget = self.token_budget(&section, "gemini_token_budget");
        let model = self.text(&section, "gemini_model").map(str::to_owned);
        defaults.gemini = ChatOptions { model, ..budget }.over(defaults.gemini);
        defaults.within_ms = self.duration(&section, "timeout_seconds", 1_000.0);
        if let Some(value) = self.flag(&section, "continue_on_error") {
            defaults.continue_on_error = value;
        }
        defaults
    }
}
