//! Keys of the parts of a prompt (3.1).

use super::{Key, Keys, Kind, Variant, key, later};

const TYPE: Key = key("type", Kind::Text, "where the text comes from").required();
const CONDITION: Key =
    key("condition", Kind::Condition, "the part is left out unless it holds").nullable();

pub(super) const STATIC: Keys = Keys {
    home: "a `static` prompt part",
    keys: &[
        TYPE,
        key("content", Kind::Template, "the text").required().nullable(),
        key("raw", Kind::Bool, "nothing in it is evaluated").default("false"),
        CONDITION,
        later("summary", SUMMARY),
        later("summary_style", SUMMARY),
        later("summary_focus", SUMMARY),
        later("summary_with", SUMMARY),
        later("max_summary_length", SUMMARY),
        later("max_length", "where it is cut"),
        later("transform", "an expression over it"),
        later("role", "who says it"),
    ],
    others: None,
};

pub(super) const PREVIOUS: Keys = Keys {
    home: "a `previous_response` prompt part",
    keys: &[
        TYPE,
        key("step", Kind::Text, "the earlier step").required().nullable(),
        key("extract", Kind::Text, "a path into its value").nullable(),
        key("strict", Kind::Bool, "whether the path has to lead somewhere").default("true"),
        CONDITION,
        later("summary", SUMMARY),
        later("summary_style", SUMMARY),
        later("summary_focus", SUMMARY),
        later("summary_with", SUMMARY),
        later("max_summary_length", SUMMARY),
        later("max_length", "where it is cut"),
        later("transform", "an expression over it"),
        later("role", "who says it"),
        later("extract_with", "what extracts"),
        later("format", "form of what is extracted"),
        later("post_processing", "operations on what is extracted"),
        later("inject_as", "name of what is extracted"),
    ],
    others: None,
};

const SUMMARY: &str = "shortened by a model";

/// The prompt parts of the language.
pub(in crate::check) const PARTS: &[Variant] = &[
    Variant { name: "static", tables: &[&STATIC], doc: "text of the document", later: false },
    Variant {
        name: "previous_response",
        tables: &[&PREVIOUS],
        doc: "the value of an earlier step",
        later: false,
    },
    beyond("file"),
    beyond("session_context"),
    beyond("claude_continue"),
    beyond("dynamic"),
];

const fn beyond(name: &'static str) -> Variant {
    Variant { name, tables: &[], doc: "not in this version", later: true }
}
