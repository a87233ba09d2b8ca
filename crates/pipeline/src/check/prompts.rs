//! Prompts: lists of parts (3.1).

mod extraction;
mod file;
mod shaping;

use super::{Check, Section, keys, references::Standpoint, section::LATER};
use crate::{
    definition::{Part, PartTarget, PreviousResponse, PromptPart, Shaping},
    diagnostic::{Code, Finding},
    expression::TextPath,
    source::{Content, Node},
    spelling,
};

impl Check<'_> {
    /// The required `prompt` of a step.
    pub(super) fn prompt(
        &mut self,
        step: &Section<'_>,
        name: &str,
        from: Standpoint<'_>,
    ) -> Option<Vec<Part>> {
        let Some(entry) = step.get("prompt") else {
            let at = step.node("name").map_or(step.extent, |node| node.extent);
            let text = format!("Step '{name}' missing required 'prompt' field");
            self.findings
                .push(Finding::error(Code(212), text).at(at).pointer(step.pointer.as_str()));
            return None;
        };
        let pointer = step.pointer_of("prompt");
        match entry.value.source() {
            Content::Text { .. } => {
                let found = if self.lenient.is("string_prompts", "error") {
                    Finding::error(Code(211), "prompt must be an array of prompt parts")
                } else {
                    Finding::note(Code(211), "the prompt is a string, taken as one static part")
                };
                self.findings.push(found.at(entry.value.extent).pointer(pointer.as_str()));
                let template = self.template(&entry.value, &pointer, from)?;
                Some(vec![Part {
                    condition: None,
                    yields: PromptPart::Static(template),
                    shaping: Shaping::default(),
                    target: PartTarget::User,
                }])
            }
            Content::List(items) => {
                let parts: Vec<Option<Part>> = items
                    .iter()
                    .enumerate()
                    .map(|(place, item)| self.part(item, &format!("{pointer}/{place}"), name, from))
                    .collect();
                self.placeholders(items, &parts, &pointer);
                parts.into_iter().collect()
            }
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Map(_) => {
                self.findings.push(step.wrong_type("prompt", "a list"));
                None
            }
        }
    }

    fn part(
        &mut self,
        node: &Node,
        pointer: &str,
        name: &str,
        from: Standpoint<'_>,
    ) -> Option<Part> {
        let whole = format!("a prompt part of {}", from.whole);
        let Some(section) = Section::of(node, pointer, "prompt part ", &whole) else {
            let text = "a prompt part must be a map";
            self.findings.push(Finding::error(Code(203), text).at(node.extent).pointer(pointer));
            return None;
        };
        if section.get("type").is_none() {
            let text = format!("Step '{name}' has prompt part without type");
            self.findings
                .push(Finding::error(Code(213), text).at(section.start()).pointer(pointer));
            return None;
        }
        let kind = section.text("type");
        let variant = keys::PARTS.iter().find(|variant| Some(variant.name) == kind);
        let section = section.read_by(variant.map_or(&[], |variant| variant.tables));
        match variant {
            Some(variant) if !variant.later => self.shape(&section),
            Some(_) | None => (),
        }
        let Some(kind) = kind else {
            self.findings.push(section.wrong_type("type", "a string"));
            return None;
        };
        let condition = section.node("condition");
        let condition =
            condition.map(|node| self.condition(node, &section.pointer_of("condition"), from));
        let faulty = matches!(condition, Some(None))
            && section.node("condition").is_some_and(|node| !node.is_null());
        let shaping = self.shaping(&section, from);
        let target = self.part_target(&section);
        let yields = match kind {
            "static" => self.static_part(&section, from),
            "dynamic" => self.dynamic_part(&section, from),
            "previous_response" => self.previous_part(&section, from),
            "file" => self.file_part(&section, from),
            unknown => {
                let hint = match variant {
                    Some(_) => Some(LATER.to_owned()),
                    None => {
                        let known = keys::PARTS.iter().map(|variant| variant.name);
                        spelling::did_you_mean(unknown, known)
                    }
                };
                let text = format!("Step '{name}' has prompt part with invalid type: {unknown}");
                self.findings.push(section.fault(214, "type", text).maybe_hint(hint));
                None
            }
        }?;
        (!faulty).then_some(Part {
            condition: condition.flatten(),
            yields,
            shaping: shaping?,
            target: target?,
        })
    }

    fn static_part(&mut self, section: &Section<'_>, from: Standpoint<'_>) -> Option<PromptPart> {
        let raw = section.flag("raw").unwrap_or(false);
        let Some(node) = section.node("content").filter(|node| !node.is_null()) else {
            self.missing(section, "static prompt part without content");
            return None;
        };
        let text = section.text("content")?;
        if raw {
            self.bound_later(node);
            let source = node.to_source();
            return Some(PromptPart::Raw(source.as_str().unwrap_or(text).to_owned()));
        }
        self.template(node, &section.pointer_of("content"), from).map(PromptPart::Static)
    }

    fn dynamic_part(&mut self, section: &Section<'_>, from: Standpoint<'_>) -> Option<PromptPart> {
        let Some(node) = section.node("content") else {
            self.missing(section, "dynamic prompt part without content");
            return None;
        };
        self.template_tree(node, &section.pointer_of("content"), from).map(PromptPart::Dynamic)
    }

    fn previous_part(&mut self, section: &Section<'_>, from: Standpoint<'_>) -> Option<PromptPart> {
        let strict = section.flag("strict").unwrap_or(true);
        let extract = self.extract(section);
        let extraction = self.extraction(section);
        let Some(node) = section.node("step").filter(|node| !node.is_null()) else {
            self.missing(section, "previous_response prompt part missing 'step' field");
            return None;
        };
        let step = section.text("step")?;
        for (_, finding) in self.earlier(step, node.extent, from) {
            self.findings.push(finding.at(node.extent).pointer(section.pointer_of("step")));
        }
        let extract = extract?;
        Some(PromptPart::PreviousResponse(PreviousResponse {
            step: step.to_owned(),
            extract,
            strict,
            extraction,
        }))
    }

    /// `Some(None)` when nothing is extracted.
    fn extract(&mut self, section: &Section<'_>) -> Option<Option<String>> {
        let Some(node) = section.node("extract").filter(|node| !node.is_null()) else {
            return Some(None);
        };
        let path = section.text("extract")?;
        match TextPath::parse(path) {
            Ok(_) => Some(Some(path.to_owned())),
            Err(error) => {
                let code = if path.trim_start().starts_with('$') { 410 } else { 401 };
                self.syntax_errors(node, &section.pointer_of("extract"), code, vec![error]);
                None
            }
        }
    }

    fn missing(&mut self, section: &Section<'_>, text: &str) {
        let at = section.node("type").map_or(section.extent, |node| node.extent);
        let pointer = section.pointer.as_str();
        self.findings.push(Finding::error(Code(215), text).at(at).pointer(pointer));
    }
}
