//! Prompts: parts, and what becomes of their texts (3.1).

use serde::{Deserialize, Serialize};

use crate::{
    expression::{Condition, Filters, Template, TemplateTree},
    extraction::Extraction,
};

/// One part of a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) condition: Option<Condition>,
    pub(crate) yields: PromptPart,
    #[serde(default, skip_serializing_if = "Shaping::is_plain")]
    pub(crate) shaping: Shaping,
    /// Where its text goes.
    #[serde(default, skip_serializing_if = "PartTarget::is_user")]
    pub(crate) target: PartTarget,
}

/// Where the text of a part goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PartTarget {
    /// Into the prompt.
    #[default]
    User,
    /// Into the system text.
    System,
    /// Into the placeholders of this name in the files of the prompt, and nowhere else.
    Placeholder(String),
}

impl PartTarget {
    fn is_user(&self) -> bool {
        *self == Self::User
    }
}

/// What is done with the text of a part, in this order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Shaping {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transform: Option<Filters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<Summary>,
    /// Most characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_length: Option<u32>,
}

impl Shaping {
    fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// An extract of a text (YP-3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Summary {
    /// As a list instead of a paragraph.
    pub(crate) bullets: bool,
    /// What sentences are preferred for being about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) focus: Option<Template>,
    /// Most characters.
    pub(crate) max_length: u32,
}

/// Where a part's text comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PromptPart {
    Static(Template),
    /// Text in which nothing is evaluated.
    Raw(String),
    /// Any value as text; the elements of a list one a line.
    Dynamic(TemplateTree),
    PreviousResponse(PreviousResponse),
    File(FilePart),
}

impl PromptPart {
    /// The name of its type in documents.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Static(_) | Self::Raw(_) => "static",
            Self::Dynamic(_) => "dynamic",
            Self::PreviousResponse(_) => "previous_response",
            Self::File(_) => "file",
        }
    }
}

/// The text of a file, or of many (YP-5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilePart {
    /// A file, a directory or a glob.
    pub(crate) path: Template,
    #[serde(default, skip_serializing_if = "Encoding::is_utf8")]
    pub(crate) encoding: Encoding,
    /// The key of a YAML file that is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) component: Option<Template>,
    /// Globs of files that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) exclude: Vec<String>,
    pub(crate) max_files: u32,
    /// Values of placeholders; without them, and without injected parts, a text stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variables: Option<Vec<(String, TemplateTree)>>,
    /// Whether holes are evaluated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) templates: bool,
}

/// How the bytes of a file are text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoding {
    #[default]
    Utf8,
    Utf16,
    Latin1,
}

impl Encoding {
    fn is_utf8(&self) -> bool {
        *self == Self::Utf8
    }
}

/// The value of an earlier step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PreviousResponse {
    pub(crate) step: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) extract: Option<String>,
    pub(crate) strict: bool,
    /// What the content extractor does with its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) extraction: Option<Extraction>,
}
