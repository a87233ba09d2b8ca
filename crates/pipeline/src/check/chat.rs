//! Options of calls to language models (2.0–2.2).

use perennial_core::{
    FailureClass,
    llm::ReplyForm,
    retry::{Classes, Growth},
};

use super::{Check, Section, references::Standpoint, section::LATER};
use crate::{
    definition::{ChatOptions, RetryConfig},
    diagnostic::{Code, Finding},
    spelling,
};

/// Names of conditions, and the classes of failures that each stands for (2.8).
const CONDITIONS: [(&str, &[FailureClass]); 7] = {
    use FailureClass::{Interrupted, Limit, Overloaded, RateLimited, Timeout, Transient};
    [
        ("timeout", &[Timeout]),
        ("rate_limit", &[RateLimited]),
        ("temporary_error", &[Transient, Overloaded, Interrupted]),
        ("api_error", &[Transient, Overloaded, RateLimited, Interrupted]),
        ("network", &[Transient]),
        ("stream_interrupted", &[Interrupted]),
        ("resource_limit", &[Limit]),
    ]
};
/// Names of conditions that are reasons inside of a class.
const REASONS: [&str; 3] = ["max_turns", "parsing_error", "schema_error"];

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
            retry: self.retry_config(&section),
            ..ChatOptions::default()
        }
    }

    /// The options of a `gemini` step.
    pub(super) fn gemini_options(
        &mut self,
        section: &Section<'_>,
        from: Standpoint<'_>,
    ) -> ChatOptions {
        ChatOptions {
            model: section.text("model").map(str::to_owned),
            system: self.template_of(section, "system_instruction", from),
            stop_sequences: self.stop_sequences(section, from),
            presence_penalty: section.number("presence_penalty"),
            frequency_penalty: section.number("frequency_penalty"),
            form: section.text("response_mime_type").map(|name| match name {
                "application/json" => ReplyForm::Json,
                _ => ReplyForm::Text,
            }),
            ..Self::token_budget(section, "token_budget")
        }
    }

    fn stop_sequences(
        &mut self,
        section: &Section<'_>,
        from: Standpoint<'_>,
    ) -> Option<Vec<crate::expression::Template>> {
        let items = section.list("stop_sequences")?;
        let pointer = section.pointer_of("stop_sequences");
        let mut all = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            let pointer = format!("{pointer}/{place}");
            if item.as_text().is_some_and(str::is_empty) {
                let text =
                    format!("stop_sequences[{place}] is empty: every answer would end at once");
                self.findings
                    .push(Finding::error(Code(203), text).at(item.extent).pointer(pointer));
                continue;
            }
            all.push(item.as_text().and_then(|_| self.template(item, &pointer, from)));
        }
        all.into_iter().collect()
    }

    /// `retry_config` of `claude_options`.
    fn retry_config(&mut self, options: &Section<'_>) -> Option<RetryConfig> {
        let section = options.map("retry_config")?;
        Some(RetryConfig {
            max_retries: section.count("max_retries"),
            growth: section.text("backoff_strategy").map(|name| match name {
                "linear" => Growth::Linear,
                "fixed" => Growth::Fixed,
                _ => Growth::Exponential,
            }),
            base_delay_ms: section.count("base_delay_ms"),
            only: self.retry_conditions(&section, "retry_on"),
        })
    }

    /// Classes of failures, and names of conditions that stand for some (2.8).
    fn retry_conditions(&mut self, section: &Section<'_>, key: &str) -> Option<Classes> {
        let items = section.list(key)?;
        let mut classes: Vec<FailureClass> = Vec::new();
        for (place, item) in items.iter().enumerate() {
            let Some(name) = item.as_text() else { continue };
            let by_name = || FailureClass::ALL.into_iter().find(|class| class.name() == name);
            if let Some((_, of)) = CONDITIONS.iter().find(|(condition, _)| *condition == name) {
                classes.extend(*of);
            } else if let Some(class) = by_name() {
                classes.push(class);
            } else {
                let known = CONDITIONS.iter().map(|(condition, _)| *condition);
                let known = known.chain(FailureClass::ALL.into_iter().map(FailureClass::name));
                let hint = if REASONS.contains(&name) {
                    LATER.to_owned()
                } else {
                    spelling::did_you_mean(name, known.clone()).unwrap_or_else(|| {
                        let mut known: Vec<&str> = known.collect();
                        known.sort_unstable();
                        known.dedup();
                        format!("the conditions are: {}", known.join(", "))
                    })
                };
                let text = format!("`{name}` is no condition of failures; texts are not compared");
                let pointer = format!("{}/{place}", section.pointer_of(key));
                let finding = Finding::error(Code(204), text).at(item.extent);
                self.findings.push(finding.pointer(pointer).hint(hint));
            }
        }
        Some(classes.into_iter().collect())
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
            max_input: section.count("max_input_tokens"),
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
