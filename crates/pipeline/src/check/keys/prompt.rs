//! Keys of the parts of a prompt (3.1).

use super::{Key, Keys, Kind, POSITIVE, Tables, Variant, key, later};

/// Keys of every part.
pub(super) const PART: Keys = Keys {
    home: "every prompt part",
    keys: &[
        key("type", Kind::Text, "where the text comes from").required(),
        key("condition", Kind::Condition, "the part is left out unless it holds").nullable(),
        key("transform", Kind::Template, "filters that its text goes through"),
        key("summary", Kind::Bool, "only its leading sentences and items").default("false"),
        key("summary_style", STYLE, "the form of the summary").default("\"paragraph\""),
        key("summary_focus", Kind::Template, "what the summary prefers to be about"),
        key("max_summary_length", POSITIVE, "characters of the summary").default("500"),
        later("summary_with", "the model that sums up"),
        key("max_length", POSITIVE, "characters after which it is cut"),
        key("role", ROLE, "whether it is a part of the system text").default("\"user\""),
    ],
    others: None,
};

const STYLE: Kind = Kind::OneOf { names: &["paragraph", "bullet_points"], later: &[] };
const ROLE: Kind = Kind::OneOf { names: &["user", "system"], later: &[] };

/// Where the text goes instead: only parts with a text of their own making have it.
const INJECT_AS: Key = key("inject_as", Kind::Text, "its placeholder in files of the prompt");

pub(super) const STATIC: Keys = Keys {
    home: "a `static` prompt part",
    keys: &[
        key("content", Kind::Template, "the text").required().nullable(),
        key("raw", Kind::Bool, "nothing in it is evaluated").default("false"),
    ],
    others: None,
};

pub(super) const DYNAMIC: Keys = Keys {
    home: "a `dynamic` prompt part",
    keys: &[key("content", Kind::Tree, "any value; lists are joined by newlines").required()],
    others: None,
};

pub(super) const PREVIOUS: Keys = Keys {
    home: "a `previous_response` prompt part",
    keys: &[
        key("step", Kind::Text, "the earlier step").required().nullable(),
        key("extract", Kind::Text, "a path into its value").nullable(),
        key("strict", Kind::Bool, "whether the path has to lead somewhere").default("true"),
        INJECT_AS,
        key("extract_with", EXTRACTORS, "finds what `format` is about in the text"),
        key("format", FORMAT, "form of what is extracted").default("\"text\""),
        key("post_processing", Kind::Texts, POST).default("[]"),
    ],
    others: None,
};

const EXTRACTORS: Kind = Kind::OneOf { names: &["content_extractor"], later: &[] };
const FORMAT: Kind =
    Kind::OneOf { names: &["text", "json", "structured", "summary", "markdown"], later: &[] };
const POST: &str = "operations that append what they find: extract_code_blocks, extract_recommendations, extract_links, \
    extract_key_points, extract_errors, extract_metrics, extract_dependencies, extract_entities, format_markdown, \
    generate_summary";

pub(super) const FILE: Keys = Keys {
    home: "a `file` prompt part",
    keys: &[
        key("path", Kind::Template, "a file, a directory or a glob").required().nullable(),
        key("encoding", ENCODING, "how its bytes are text").default("\"utf-8\""),
        key("component", Kind::Template, "the key of a YAML file that is taken"),
        key("exclude", Kind::Either(&[Kind::Text, Kind::Texts]), "globs of files left out"),
        key("max_files", POSITIVE, "more files are a failure").default("500"),
        key("variables", Kind::Map(&[&VARIABLES]), "values of `{NAME}` in the text"),
        key("templates", Kind::Bool, "whether `{{ … }}` in the text is evaluated").default("false"),
        INJECT_AS,
    ],
    others: None,
};

const ENCODING: Kind = Kind::OneOf { names: &["utf-8", "utf-16", "latin-1"], later: &[] };
const VARIABLES: Keys = Keys { home: "`variables`", keys: &[], others: Some(&Kind::Tree) };

/// The prompt parts of the language.
pub(in crate::check) const PARTS: &[Variant] = &[
    here("static", &[&STATIC, &PART], "text of the document"),
    here("previous_response", &[&PREVIOUS, &PART], "the value of an earlier step"),
    here("dynamic", &[&DYNAMIC, &PART], "any value as text"),
    here("file", &[&FILE, &PART], "the text of files"),
    beyond("session_context"),
    beyond("claude_continue"),
];

const fn here(name: &'static str, tables: Tables, doc: &'static str) -> Variant {
    Variant { name, tables, doc, later: false }
}

const fn beyond(name: &'static str) -> Variant {
    Variant { name, tables: &[], doc: "not in this version", later: true }
}
