//! Policies of steps: what a failure means, how long an attempt may take, when it is repeated
//! (1.7, 4.4).

use perennial_core::{
    FailureClass,
    retry::{Classes, Growth, RetryPolicy},
};

use super::{Check, Section, bodies::handler_of, defaults::Defaults, keys};
use crate::{
    diagnostic::{Code, Finding},
    source::Content,
    spelling,
};

/// What a step's final failure means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum OnError {
    /// The run fails.
    #[default]
    Fail,
    /// Its record says so, and the run goes on.
    Continue,
    /// Its record is that of a step that was skipped, and the run goes on.
    Skip,
    /// Its handler says.
    Handle,
}

/// Whether steps without a `retry` of their own are repeated.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RetryDefault {
    /// Attempts of each, when they are.
    pub(super) attempts: Option<u32>,
}

/// The pauses of a step that names none (1.7).
pub(super) const OWN: RetryPolicy =
    RetryPolicy { base_ms: 1_000, cap_ms: 60_000, jitter_percent: 0, ..RetryPolicy::ONCE };

/// Keys of a failed record, which `error_output` cannot be.
const TAKEN: [&str; 5] = ["success", "status", "error", "error_message", "handled"];

impl RetryDefault {
    /// This default over what is usual for a type of step.
    pub(super) fn over(self, usual: RetryPolicy) -> RetryPolicy {
        match self.attempts {
            None => usual,
            Some(max_attempts) if usual.max_attempts > 1 => RetryPolicy { max_attempts, ..usual },
            Some(max_attempts) => RetryPolicy { max_attempts, ..OWN },
        }
    }
}

impl Check<'_> {
    /// What becomes of the run when the step has failed (4.4).
    pub(super) fn on_error(&mut self, section: &Section<'_>, defaults: &Defaults) -> OnError {
        let flag = section.flag("continue_on_error");
        let policy = match section.node("on_error").map(|node| &node.content) {
            None => None,
            Some(Content::List(_)) => None,
            Some(Content::Map(_)) => {
                self.findings.push(section.wrong_type("on_error", "a string or a list of steps"));
                None
            }
            Some(Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text { .. }) => {
                self.fits(section, "on_error", &keys::POLICY)
                    .then(|| section.text("on_error"))
                    .flatten()
            }
        };
        let policy = policy.map(|policy| match policy {
            "continue" => OnError::Continue,
            "skip" => OnError::Skip,
            _ => OnError::Fail,
        });
        if let Some(entry) = section.get("error_handler") {
            if entry.value.as_list().is_none() {
                self.findings.push(section.wrong_type("error_handler", "a list"));
            }
            if section.get("on_error").is_some() {
                let text = "on_error and error_handler exclude each other";
                self.findings.push(section.fault(207, "error_handler", text));
            }
        }
        if let Some((key, _)) = handler_of(section) {
            if flag == Some(true) {
                let text = format!("{key} and continue_on_error exclude each other");
                self.findings.push(section.fault(207, "continue_on_error", text));
            }
            return OnError::Handle;
        }
        let named = |goes_on| if goes_on { OnError::Continue } else { OnError::Fail };
        if let (Some(flag), Some(policy)) = (flag, policy)
            && named(flag) != policy
        {
            let text = "on_error and continue_on_error say different things";
            self.findings.push(section.fault(207, "on_error", text));
        }
        policy.or(flag.map(named)).unwrap_or_else(|| named(defaults.continue_on_error))
    }

    /// What `config` says of the failure of the step has no place beside a handler.
    pub(super) fn handled_alone(&mut self, section: &Section<'_>) {
        let (Some((handler, _)), Some(config)) = (handler_of(section), section.map("config"))
        else {
            return;
        };
        let goes_on = config.flag("continue_on_error") == Some(true);
        let others = [("continue_on_error", goes_on), ("fallback_value", true)];
        for (key, excludes) in others {
            if excludes && config.get(key).is_some() {
                let text = format!("config.{key} and {handler} exclude each other");
                self.findings.push(config.fault(207, key, text));
            }
        }
    }

    /// The further key of a failed record; `Some(None)` without one.
    pub(super) fn error_output(&mut self, section: &Section<'_>) -> Option<Option<String>> {
        let Some(entry) = section.get("error_output") else { return Some(None) };
        let name = self.valid_name(entry, &section.pointer_of("error_output"), "field")?;
        if TAKEN.contains(&name.as_str()) {
            let text = format!("`{name}` is a field of every failed record");
            self.findings.push(section.fault(303, "error_output", text));
            return None;
        }
        Some(Some(name))
    }

    pub(super) fn deadline(&mut self, section: &Section<'_>) -> Option<u64> {
        let seconds = section.millis("timeout_seconds");
        let millis = section.millis("timeout_ms");
        if let (Some(seconds), Some(millis)) = (seconds, millis)
            && seconds != millis
        {
            let text = "timeout_seconds and timeout_ms say different things";
            self.findings.push(section.fault(207, "timeout_ms", text));
        }
        seconds.or(millis)
    }

    /// The retries that a step names itself.
    pub(super) fn retry(&mut self, section: &Section<'_>) -> Option<RetryPolicy> {
        let direct = self.direct_retries(section);
        let retry = section.map("retry");
        let named = retry.as_ref().and_then(|retry| retry.count("max_retries"));
        if let (Some(direct), Some(named)) = (direct, named)
            && direct != named
        {
            let text = "max_retries and retry.max_retries say different things";
            let key =
                if section.get("max_retries").is_some() { "max_retries" } else { "max_attempts" };
            self.findings.push(section.fault(207, key, text));
        }
        let only = self.retry_on(section, retry.as_ref());
        let count = |key: &str| retry.as_ref().and_then(|retry| retry.count(key));
        let text = retry.as_ref().and_then(|retry| retry.text("backoff"));
        let jitter = retry.as_ref().and_then(|retry| retry.number("jitter")).unwrap_or(0.0);
        let Some(max_retries) = named.or(direct) else {
            let told = ["max_retries", "max_attempts"].iter().any(|key| section.get(key).is_some())
                || retry.as_ref().is_some_and(|retry| retry.get("max_retries").is_some());
            let vain =
                [("retry", retry.is_some()), ("retry_on", section.list("retry_on").is_some())];
            for (key, _) in vain.into_iter().filter(|(_, there)| *there && !told) {
                if let Some(entry) = section.get(key) {
                    let text = format!("`{key}` has no effect without `max_retries`");
                    let note = Finding::note(Code(220), text).at(entry.key_extent);
                    self.findings.push(note.pointer(section.pointer_of(key)));
                }
            }
            return None;
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the table bounds it by one"
        )]
        let jitter_percent = (jitter.clamp(0.0, 1.0) * 100.0).round() as u8;
        Some(RetryPolicy {
            max_attempts: max_retries.saturating_add(1),
            base_ms: count("base_delay_ms").map_or(OWN.base_ms, u64::from),
            cap_ms: count("max_delay_ms").map_or(OWN.cap_ms, u64::from),
            growth: match text {
                Some("linear") => Growth::Linear,
                Some("fixed") => Growth::Fixed,
                Some(_) | None => Growth::Exponential,
            },
            jitter_percent,
            only,
            ..OWN
        })
    }

    /// `max_retries` of the step itself, or one less than its `max_attempts`.
    fn direct_retries(&mut self, section: &Section<'_>) -> Option<u32> {
        let retries = section.count("max_retries");
        let Some(entry) = section.get("max_attempts") else { return retries };
        let note =
            Finding::note(Code(210), "accepted spelling of `max_retries`, which is one less");
        self.findings.push(note.at(entry.key_extent).pointer(section.pointer_of("max_attempts")));
        let attempts = section.count("max_attempts")?.checked_sub(1)?;
        if retries.is_some_and(|retries| retries != attempts) {
            let text = "max_attempts and max_retries say different things";
            self.findings.push(section.fault(207, "max_attempts", text));
        }
        Some(retries.unwrap_or(attempts))
    }

    /// The classes of `retry_on`, here or in `retry`.
    pub(super) fn retry_on(
        &mut self,
        section: &Section<'_>,
        retry: Option<&Section<'_>>,
    ) -> Option<Classes> {
        let holders = [Some(section), retry];
        let mut found: Option<Classes> = None;
        for holder in holders.into_iter().flatten() {
            let Some(items) = holder.list("retry_on") else { continue };
            let mut classes = Vec::new();
            for (place, item) in items.iter().enumerate() {
                let Some(text) = item.as_text() else { continue };
                let class = FailureClass::ALL.into_iter().find(|class| class.name() == text);
                classes.extend(class);
                if class.is_none() {
                    let text = format!("`{text}` is no class of failures; texts are not compared");
                    let pointer = format!("{}/{place}", holder.pointer_of("retry_on"));
                    let finding = Finding::error(Code(204), text).at(item.extent);
                    let names = || FailureClass::ALL.iter().map(|class| class.name());
                    let hint = spelling::did_you_mean(item.as_text().unwrap_or_default(), names())
                        .unwrap_or_else(|| {
                            format!("the classes are: {}", names().collect::<Vec<_>>().join(", "))
                        });
                    self.findings.push(finding.pointer(pointer).hint(hint));
                }
            }
            let classes: Classes = classes.into_iter().collect();
            if found.is_some_and(|other| other != classes) {
                let text = "retry_on and retry.retry_on say different things";
                self.findings.push(holder.fault(207, "retry_on", text));
            }
            found = Some(classes);
        }
        found
    }
}
