//! Replies that the calls of a child get in tests (2.16).

use perennial_tools::MockRules;
use serde_json::{Map, Value, json};

use super::{Check, Section};
use crate::{
    definition::{Model, Ordered, StepKind},
    diagnostic::{Code, Finding},
    source::Content,
    spelling,
};

impl Check<'_> {
    /// The replies of `mock_responses` by the names of steps; none when the child is not mocked. Their texts are
    /// replies, and no templates.
    pub(super) fn child_mocks(
        &mut self,
        config: &Section<'_>,
        child: Option<&Model>,
    ) -> Option<Ordered> {
        let section = config.map("mock_responses");
        match (config.flag("mock_mode"), &section) {
            (Some(false), Some(section)) => {
                let text = "`mock_responses` has no effect with `mock_mode: false`";
                let note = Finding::note(Code(220), text).at(section.extent);
                self.findings.push(note.pointer(section.pointer.as_str()));
                return None;
            }
            (Some(false) | None, None) => return None,
            (Some(true) | None, Some(_)) | (Some(true), None) => (),
        }
        let mut replies = Map::new();
        for entry in section.iter().flat_map(Section::entries) {
            let (name, pointer) = (entry.key.as_str(), config.pointer_of("mock_responses"));
            let at = |finding: Finding| finding.at(entry.key_extent).pointer(pointer.as_str());
            if let Some(child) = child {
                let names = || child.steps.iter().map(|step| step.name.as_str());
                match child.steps.iter().find(|step| step.name == name) {
                    None => {
                        let text = format!("mock_responses references non-existent steps: {name}");
                        let hint = spelling::did_you_mean(name, names());
                        self.findings.push(at(Finding::error(Code(305), text)).maybe_hint(hint));
                    }
                    Some(step) if !matches!(step.kind, StepKind::Chat(_)) => {
                        let text = format!("`{name}` has no effect: the step calls no model");
                        self.findings.push(at(Finding::note(Code(220), text)));
                    }
                    Some(_) => (),
                }
            }
            let value = entry.value.to_value();
            let fault = match &entry.value.content {
                Content::List(_) => Some("a list is for the mocks of a run".to_owned()),
                Content::Null
                | Content::Bool(_)
                | Content::Number(_)
                | Content::Text { .. }
                | Content::Map(_) => {
                    let rules = MockRules::from_value(&json!({ "replies": { "": value } }));
                    rules.err().map(|error| error.to_string())
                }
            };
            if let Some(fault) = fault {
                let text = format!("mock_responses.{name} must be one reply: {fault}");
                let finding = Finding::error(Code(510), text).at(entry.value.extent);
                self.findings.push(finding.pointer(pointer));
            }
            replies.insert(entry.key.clone(), value);
        }
        Some(Ordered(Value::Object(replies)))
    }
}
