//! Options of calls to language models (2.0–2.2).

use super::{Check, Section, references::Standpoint};
use crate::definition::ChatOptions;

impl Check<'_> {
    /// `claude_options` under `key`; null is the same as absent (YS-8).
    pub(super) fn claude_options(
        &mut self,
        holder: &Section<'_>,
        key: &str,
        from: Standpoint<'_>,
    ) -> ChatOptions {
        let Some(section) = holder.map(key) else { return ChatOptions::default() };
        ChatOptions {
            model: section.text("model").map(str::to_owned),
            max_output: section.count("max_tokens"),
            temperature: section.number("temperature"),
            top_p: section.number("top_p"),
            top_k: section.count("top_k"),
            system: self.template_of(&section, "system_prompt", from),
            call_within_ms: section.millis("timeout_ms"),
            idle_ms: section.millis("idle_timeout_ms"),
        }
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
