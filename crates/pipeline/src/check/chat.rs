//! Options of calls to language models (2.0–2.2).

use super::{Check, Section, references::Standpoint};
use crate::{
    definition::ChatOptions,
    diagnostic::{Code, Finding},
};

impl Check<'_> {
    /// `claude_options` under `key`; null is the same as absent (YS-8).
    pub(super) fn claude_options(
        &mut self,
        holder: &Section<'_>,
        key: &str,
        from: Standpoint<'_>,
    ) -> ChatOptions {
        let Some(section) = holder.map(key) else { return ChatOptions::default() };
        let text = |key: &str| section.text(key).map(str::to_owned);
        let texts = |key: &str| {
            let items = section.list(key)?.iter();
            items.map(|item| item.as_text().map(str::to_owned)).collect::<Option<Vec<_>>>()
        };
        let debug = [section.flag("verbose"), section.flag("debug_mode")];
        ChatOptions {
            model: text("model"),
            fallback_model: text("fallback_model"),
            append_system: self.template_of(&section, "append_system_prompt", from),
            allowed_tools: texts("allowed_tools"),
            disallowed_tools: texts("disallowed_tools"),
            debug_info: debug.into_iter().flatten().reduce(|one, other| one || other),
            telemetry: section.flag("telemetry_enabled"),
            cost_tracking: section.flag("cost_tracking"),
            max_output: section.count("max_tokens"),
            temperature: section.number("temperature"),
            top_p: section.number("top_p"),
            top_k: section.count("top_k"),
            system: self.template_of(&section, "system_prompt", from),
            call_within_ms: self.call_within(&section),
            idle_ms: section.millis("idle_timeout_ms"),
        }
    }

    /// `timeout_ms`, or its accepted spelling in seconds.
    fn call_within(&mut self, section: &Section<'_>) -> Option<u64> {
        let millis = section.millis("timeout_ms");
        let Some(entry) = section.get("timeout_seconds") else { return millis };
        let note = Finding::note(Code(210), "accepted spelling of `timeout_ms`, in seconds");
        self.findings
            .push(note.at(entry.key_extent).pointer(section.pointer_of("timeout_seconds")));
        let seconds = section.millis("timeout_seconds");
        if millis.is_some() && seconds.is_some() && millis != seconds {
            let text = "timeout_seconds and timeout_ms say different things";
            self.findings.push(section.fault(207, "timeout_seconds", text));
        }
        millis.or(seconds)
    }

    /// `token_budget` under `key`; numeric texts are numbers here.
    pub(super) fn token_budget(holder: &Section<'_>, key: &str) -> ChatOptions {
        let Some(section) = holder.map(key) else { return ChatOptions::default() };
        ChatOptions {
            max_output: section.count("max_output_tokens"),
            temperature: section.number("temperature"),
            top_p: section.number("top_p"),
            top_k: section.count("top_k"),
            ..ChatOptions::default()
        }
    }

    /// The text of `key`, with its holes.
    pub(super) fn template_of(
        &mut self,
        section: &Section<'_>,
        key: &str,
        from: Standpoint<'_>,
    ) -> Option<crate::expression::Template> {
        section.text(key)?;
        self.template(section.node(key)?, &section.pointer_of(key), from)
    }
}
