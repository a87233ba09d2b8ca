//! The content extractor: what is found in a text, in which form, and what is added to it (2.6, YP-10).
//!
//! Three stages, each a pure function of a text: [`found`] takes out what the format is about, [`format`] gives it
//! its form, [`operations`] append what they find in that. No model is asked.

mod fences;
mod format;
mod found;
mod operations;

use serde::{Deserialize, Serialize};

/// What is done with a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Extraction {
    pub(crate) format: Format,
    /// In this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) operations: Vec<Operation>,
    /// Most characters of a summary.
    pub(crate) max_summary: u32,
}

/// The form of what is extracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// As it is.
    #[default]
    Text,
    /// The JSON in it.
    Json,
    /// Summary, key points and all of it, under headings.
    Structured,
    /// Its first paragraph.
    Summary,
    /// With headings in one notation.
    Markdown,
}

impl Format {
    /// The one of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "text" => Self::Text,
            "json" => Self::Json,
            "structured" => Self::Structured,
            "summary" => Self::Summary,
            "markdown" => Self::Markdown,
            _ => return None,
        })
    }
}

/// What is looked for in an extracted text, or done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    ExtractCodeBlocks,
    ExtractRecommendations,
    ExtractLinks,
    ExtractKeyPoints,
    ExtractErrors,
    ExtractMetrics,
    ExtractDependencies,
    ExtractEntities,
    FormatMarkdown,
    GenerateSummary,
}

impl Operation {
    /// All, by the names that documents have for them.
    pub(crate) const ALL: [(&'static str, Self); 10] = [
        ("extract_code_blocks", Self::ExtractCodeBlocks),
        ("extract_recommendations", Self::ExtractRecommendations),
        ("extract_links", Self::ExtractLinks),
        ("extract_key_points", Self::ExtractKeyPoints),
        ("extract_errors", Self::ExtractErrors),
        ("extract_metrics", Self::ExtractMetrics),
        ("extract_dependencies", Self::ExtractDependencies),
        ("extract_entities", Self::ExtractEntities),
        ("format_markdown", Self::FormatMarkdown),
        ("generate_summary", Self::GenerateSummary),
    ];
}

impl Extraction {
    /// What becomes of `text`; `at` is the instant that an extract of no JSON is dated with. Of nothing, nothing is
    /// extracted.
    pub(crate) fn of(&self, text: &str, at: &str) -> String {
        if text.trim().is_empty() {
            return String::new();
        }
        let found = found::found(text, self.format, at);
        let formatted = format::formatted(&found, self.format, self.max_summary);
        operations::applied(&formatted, &self.operations)
    }
}
