//! The text of a prompt, part by part (3.1).

mod component;
mod file;
mod summary;

use perennial_core::{FailureClass, failure::Failure, run::JobState};
use serde_json::{Map, Value};

use super::{
    PipelineRun,
    failure::{stopped, undecided},
    scope::Scope,
};
use crate::{
    definition::{Chat, Part, PartTarget, PreviousResponse, PromptPart, Shaping},
    expression::{Missing, Template, TextPath, cut_at_word, pretty, query, to_text},
};

/// Most bytes of a prompt and its system text: far above what any model reads.
const PROMPT_BYTES_MAX: usize = 16 << 20;

/// A prompt, part by part.
#[derive(Debug, Default)]
pub(super) struct Prompt {
    pub(super) parts: Vec<PartText>,
}

/// What one part of a prompt has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartText {
    /// The type of the part; `system` for a text of the options, `repair` for what a reply is told.
    pub kind: &'static str,
    /// Whether it belongs to the system text.
    pub system: bool,
    /// Its text.
    pub text: String,
}

impl Prompt {
    /// Texts of the prompt, or of the system text, joined by one newline; a part whose condition
    /// is not met yields nothing (YP-1).
    pub(super) fn text(&self, system: bool) -> String {
        let parts = self.parts.iter().filter(|part| part.system == system);
        parts.map(|part| part.text.as_str()).collect::<Vec<_>>().join("\n")
    }
}

impl PipelineRun {
    /// The prompt of a call; `system` are the texts that its options give.
    ///
    /// # Errors
    ///
    /// What is missing, that nothing is left to ask (YS-6), or that it is too long.
    pub(super) async fn prompt(
        &self,
        Chat { prompt: parts, allow_empty, .. }: &Chat,
        system: &[&Template],
        scope: &Scope<'_>,
    ) -> Result<Prompt, Failure> {
        let mut prompt = Prompt::default();
        let mut bytes = 0_usize;
        let mut take = |text: &str| {
            bytes = bytes.saturating_add(text.len());
            if bytes <= PROMPT_BYTES_MAX {
                return Ok(());
            }
            let text = format!("the prompt has more than {} MiB", PROMPT_BYTES_MAX >> 20);
            Err(Failure::new(FailureClass::Semantic, "PL805", text))
        };
        for template in system {
            let text = template.text(scope).map_err(|stop| stopped(&stop))?;
            take(&text)?;
            prompt.parts.push(PartText { kind: "system", system: true, text });
        }
        // Files want what is injected into them, wherever it stands.
        let mut injected = Map::new();
        for part in parts {
            if let PartTarget::Placeholder(name) = &part.target {
                // A part whose condition is not met yields nothing.
                let text = self.part_text(part, &Map::new(), scope).await?.unwrap_or_default();
                take(&text)?;
                injected.insert(name.clone(), text.into());
            }
        }
        for part in parts {
            let system = match part.target {
                PartTarget::Placeholder(_) => continue,
                PartTarget::System => true,
                PartTarget::User => false,
            };
            let Some(text) = self.part_text(part, &injected, scope).await? else { continue };
            take(&text)?;
            prompt.parts.push(PartText { kind: part.yields.type_name(), system, text });
        }
        if !allow_empty && prompt.text(false).trim().is_empty() {
            return Err(Failure::new(FailureClass::Reference, "PL612", "the prompt is empty"));
        }
        Ok(prompt)
    }

    /// The text of one part; nothing when its condition is not met.
    async fn part_text(
        &self,
        part: &Part,
        injected: &Map<String, Value>,
        scope: &Scope<'_>,
    ) -> Result<Option<String>, Failure> {
        if let Some(condition) = &part.condition
            && !condition.is_met(scope).map_err(|stop| undecided(&stop, &condition.shown))?
        {
            return Ok(None);
        }
        let value = match &part.yields {
            PromptPart::Static(template) => {
                Value::from(template.text(scope).map_err(|stop| stopped(&stop))?)
            }
            PromptPart::Raw(text) => {
                Value::from(Template::plain(text).text(scope).map_err(|stop| stopped(&stop))?)
            }
            PromptPart::Dynamic(tree) => {
                dynamic(&tree.value(scope).map_err(|stop| stopped(&stop))?)
            }
            PromptPart::PreviousResponse(previous) => {
                let value = previous_value(previous, scope)?;
                match &previous.extraction {
                    Some(extraction) => extraction.of(&pretty(&value), &scope.started_at()).into(),
                    None => value,
                }
            }
            PromptPart::File(file) => self.file_text(file, injected, scope).await?.into(),
        };
        part.shaping.shape(value, scope).map(Some)
    }
}

/// Lists joined by newlines; anything else as a template gives it.
fn dynamic(value: &Value) -> Value {
    match value.as_array() {
        Some(items) => items.iter().map(to_text).collect::<Vec<_>>().join("\n").into(),
        None => to_text(value).into(),
    }
}

impl Shaping {
    /// The text that `value` becomes: transformed, summed up, cut.
    fn shape(&self, value: Value, scope: &Scope<'_>) -> Result<String, Failure> {
        let value = match &self.transform {
            Some(filters) => filters.apply(value, scope).map_err(|stop| stopped(&stop))?,
            None => value,
        };
        let mut text = pretty(&value);
        if let Some(asked) = &self.summary {
            let focus = match &asked.focus {
                Some(template) => template.text(scope).map_err(|stop| stopped(&stop))?,
                None => String::new(),
            };
            text = summary::summary(&text, &focus, asked.bullets, asked.max_length);
        }
        Ok(match self.max_length {
            Some(most) => cut_at_word(&text, most),
            None => text,
        })
    }
}

/// The value that a `previous_response` part is about.
fn previous_value(previous: &PreviousResponse, scope: &Scope<'_>) -> Result<Value, Failure> {
    let refuse = |code: &str, text: String| {
        if previous.strict {
            Err(Failure::new(FailureClass::Reference, code, text))
        } else {
            Ok(Value::from("nil"))
        }
    };
    let step = &previous.step;
    let Some(job) = scope.result(step) else {
        return refuse("PL602", format!("Step result not found: {step}"));
    };
    if job.state == JobState::Skipped && previous.extract.is_none() {
        return match refuse("PL602", format!("step `{step}` was skipped and has no response")) {
            Ok(_) => Ok(Value::from("")),
            Err(failure) => Err(failure),
        };
    }
    let Some(path) = &previous.extract else {
        return Ok(scope.value_view(step).cloned().unwrap_or(Value::from("")));
    };
    let segments = match TextPath::parse(path) {
        Ok(TextPath::Definite(segments)) => segments,
        Ok(TextPath::Query(path)) => {
            // A path that finds nothing in the value is tried on the record (YT-12).
            let found = scope.value_view(step).map_or(Value::Null, |value| query(&path, value));
            let nothing = found.as_array().is_none_or(Vec::is_empty);
            return Ok(if nothing { query(&path, &job.result) } else { found });
        }
        Err(error) => return Err(Failure::new(FailureClass::Expression, "PL603", error.message)),
    };
    match scope.step_field(step, &segments) {
        Ok(value) if value.is_null() => Ok(Value::from("nil")),
        Ok(value) => Ok(value.into_owned()),
        Err(available) => {
            let fields = Missing { path: path.clone(), available }.fields();
            refuse(
                "PL603",
                format!(
                    "Field '{path}' not found in previous response. Available fields: {fields}"
                ),
            )
        }
    }
}
