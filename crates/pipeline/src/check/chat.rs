//! Options of calls to language models (2.0–2.2).

use super::{Check, Section, keys, references::Standpoint, section::LATER};
use crate::{
    definition::ChatOptions,
    diagnostic::{Code, Finding, Severity},
};

const UNIT: (f64, f64) = (0.0, 1.0);
const TEMPERATURE: (f64, f64) = (0.0, 2.0);

impl Check<'_> {
    /// `claude_options` under `key`; null is the same as absent (YS-8).
    pub(super) fn claude_options(
        &mut self,
        holder: &Section<'_>,
        key: &str,
        from: Standpoint<'_>,
    ) -> ChatOptions {
        if holder.node(key).is_none_or(|node| node.is_null()) {
            return ChatOptions::default();
        }
        let Some(section) = self.map(holder, key) else { return ChatOptions::default() };
        self.unknown_keys(&section, &[&keys::CLAUDE_OPTIONS]);
        // One call without tools is one turn: every allowed number of turns is kept.
        self.count(&section, "max_turns", 1, false);
        self.output_format(&section, "output_format");
        self.texts(&section, "disallowed_tools");
        self.no_tools(&section, "allowed_tools");
        if self.flag(&section, "async_streaming") == Some(true) {
            self.later(&section, "async_streaming", "streaming");
        }
        for removed in ["print", "pass_through_streaming"] {
            if let Some(entry) = section.get(removed) {
                let text = format!("`{removed}` has no effect any more");
                self.findings.push(
                    Finding::new(Code(222), Severity::Warning, text)
                        .at(entry.key_extent)
                        .pointer(section.pointer_of(removed)),
                );
            }
        }
        ChatOptions {
            model: self.text(&section, "model").map(str::to_owned),
            max_output: self.count(&section, "max_tokens", 1, false),
            temperature: self.number(&section, "temperature", TEMPERATURE, false),
            top_p: self.number(&section, "top_p", UNIT, false),
            top_k: self.count(&section, "top_k", 1, false),
            system: self.system_text(&section, "system_prompt", from),
            call_within_ms: self.duration(&section, "timeout_ms", 1.0),
            idle_ms: self.duration(&section, "idle_timeout_ms", 1.0),
        }
    }

    /// `token_budget` under `key`; numeric texts are numbers here.
    pub(super) fn token_budget(&mut self, holder: &Section<'_>, key: &str) -> ChatOptions {
        let Some(section) = self.map(holder, key) else { return ChatOptions::default() };
        self.unknown_keys(&section, &[&keys::TOKEN_BUDGET]);
        ChatOptions {
            max_output: self.count(&section, "max_output_tokens", 1, true),
            temperature: self.number(&section, "temperature", TEMPERATURE, true),
            top_p: self.number(&section, "top_p", UNIT, true),
            top_k: self.count(&section, "top_k", 1, true),
            ..ChatOptions::default()
        }
    }

    /// The wire format never changes a record, so any of the three is honoured.
    pub(super) fn output_format(&mut self, section: &Section<'_>, key: &str) {
        self.one_of(section, key, &["text", "json", "stream_json", "stream-json"], &[]);
    }

    pub(super) fn system_text(
        &mut self,
        section: &Section<'_>,
        key: &str,
        from: Standpoint<'_>,
    ) -> Option<crate::expression::Template> {
        self.text(section, key)?;
        self.template(section.node(key)?, &section.pointer_of(key), from)
    }

    /// A list of tools that has to be empty: this version offers none to a model.
    pub(super) fn no_tools(&mut self, section: &Section<'_>, key: &str) {
        if let Some([_, ..]) = self.list(section, key) {
            let text = format!("`{}` names tools", section.path_of(key));
            self.findings.push(section.fault(202, key, text).hint(LATER));
        }
    }
}
