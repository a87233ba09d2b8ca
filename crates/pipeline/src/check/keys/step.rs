//! Keys of steps (1.7, 2).

use super::{
    COUNT, DAY_MS, FREE_MAP, Keys, Kind, MILLIS, POSITIVE, SECONDS, Tables, Unit, Variant,
    advisory,
    chat::{CLAUDE, GEMINI},
    files::FILE_OPS,
    key, later,
    pipeline::PIPELINE,
    spelling,
};

/// The steps of a workflow.
pub(super) const STEP_LIST: Kind = Kind::Steps { least: 1 };

/// Keys of every step.
pub(in crate::check) const STEP: Keys = Keys {
    home: "every step",
    keys: &[
        key("name", Kind::Name, "unique in its scope").required(),
        key("type", Kind::Text, "what the step does").required(),
        key("description", Kind::Text, "decoration"),
        key("metadata", FREE_MAP, "decoration"),
        key("role", Kind::OneOf { names: &["brain", "muscle"], later: &[] }, "decoration"),
        key("condition", Kind::Condition, "the step is skipped unless it holds").nullable(),
        key("depends_on", Kind::Own(&Kind::Texts), "names of earlier steps"),
        key("timeout_seconds", SECONDS, "deadline of one attempt"),
        key("timeout_ms", MILLIS, "deadline of one attempt"),
        key("retry", Kind::Map(&[&RETRY]), "how often and when it is tried again"),
        key("max_retries", COUNT, "the same as `retry.max_retries`"),
        key("max_attempts", POSITIVE, "accepted spelling: one more than `max_retries`"),
        key("retry_on", CLASSES, "the same as `retry.retry_on`"),
        key("error_output", Kind::Name, "a further field of a failed record, with the message"),
        key("on_error", ON_ERROR, "what its failure means for the run").default("\"fail\""),
        key("continue_on_error", Kind::Bool, "the same as `on_error: continue`").default("false"),
        key("output_to_global", Kind::Name, "a constant that its value becomes"),
        key("clear_vars", CLEARED, "values that nothing sees after the step"),
        key("dynamic_types", Kind::List(&DYNAMIC_TYPE), "types that a templated `type` may become"),
        key("error_handler", STEP_LIST, "steps after a final failure, as a list in `on_error`"),
        key("output_to_file", Kind::Template, "a file below the outputs for its value"),
        spelling("output_file", "output_to_file", Kind::Template),
        key("output_schema", OUTPUT_SCHEMA, "a JSON Schema, or its name, that its value satisfies"),
        key("max_repairs", REPAIRS, "how often a model may correct its reply").default("2"),
        advisory("streaming", Kind::Map(&[&STREAMING]), "every reader sees the whole value anyway"),
        key("cache", CACHED, "reuses the result of a call to a model").default("false"),
        later("codebase_context", "binds the root `codebase`"),
        key("effects", EFFECTS, "what it touches, where that is not what its type does"),
    ],
    others: None,
};

pub(super) const STREAMING: Keys = Keys {
    home: "`streaming`",
    keys: &[key("enabled", Kind::Bool, "keeps the value out of memory").default("false")],
    others: None,
};

/// Whether a result is kept, or how.
const CACHED: Kind = Kind::Either(&[Kind::Bool, Kind::Map(&[&CACHE])]);

pub(super) const CACHE: Keys = Keys {
    home: "`cache`",
    keys: &[
        key("key", Kind::Template, "stands for the whole request, in which nothing may differ"),
        key("ttl", TTL, "how long the result is reused").default("3600"),
    ],
    others: None,
};

/// A year, which is longer than anybody remembers.
pub(super) const TTL: Kind = Kind::Duration { unit: Unit::Seconds, most_ms: 365.0 * DAY_MS };

/// What a type that is a template may become. A step with steps of its own has jobs for them, which
/// have to be known before it runs.
const DYNAMIC_TYPE: Kind = Kind::OneOf {
    names: &["claude", "echo", "file_ops", "gemini", "set_variable", "test_echo"],
    later: &[
        "approval",
        "checkpoint",
        "claude_batch",
        "claude_extract",
        "claude_robust",
        "claude_session",
        "claude_smart",
        "codebase_query",
        "data_transform",
        "emit",
        "for_loop",
        "gemini_instructor",
        "llm",
        "map",
        "parallel",
        "parallel_claude",
        "pipeline",
        "switch",
        "tool",
        "wait",
        "while_loop",
    ],
};

/// A name of every step but `set_variable`, where it means what is set.
pub(super) const OWN: Keys = Keys {
    home: "every step",
    keys: &[key("variables", TREES, "names that only this step has")],
    others: None,
};

/// The reader says which of them name no value.
const CLEARED: Kind = Kind::List(&Kind::Any);

/// The reader checks its steps, as it knows where they stand.
const ON_ERROR: Kind = Kind::Own(&Kind::Either(&[POLICY, STEP_LIST]));
/// What a text of `on_error` is.
pub(in crate::check) const POLICY: Kind =
    Kind::OneOf { names: &["fail", "continue", "skip"], later: &[] };

const OUTPUT_SCHEMA: Kind = Kind::Either(&[Kind::Text, Kind::Schema]);
const REPAIRS: Kind = Kind::Count { least: 0, most: 5, texts: false };

const EFFECTS: Kind = Kind::OneOf { names: &["none", "read", "write"], later: &[] };

pub(super) const RETRY: Keys = Keys {
    home: "`retry`",
    keys: &[
        key("max_retries", COUNT, "attempts after the first"),
        key("base_delay_ms", COUNT, "pause before the first retry").default("1000"),
        key("max_delay_ms", COUNT, "longest pause").default("60000"),
        key("backoff", BACKOFF, "how pauses grow").default("\"exponential\""),
        key("jitter", SHARE, "which share of a pause is left to chance").default("0"),
        key("retry_on", CLASSES, "the only classes of failures that are tried again"),
    ],
    others: None,
};

const BACKOFF: Kind = Kind::OneOf { names: &["exponential", "linear", "fixed"], later: &[] };
const SHARE: Kind = Kind::Number { least: 0.0, most: 1.0, texts: false };
/// Names of classes (4.9); the reader refuses other texts.
pub(super) const CLASSES: Kind = Kind::Texts;

pub(super) const ECHO: Keys = Keys {
    home: "an `echo` step",
    keys: &[
        key("value", Kind::Tree, "its result").default("\"default_echo\""),
        key("fail", Kind::Bool, "fails instead").default("false"),
        key("error_message", Kind::Template, "the text of that failure"),
        key("delay_ms", COUNT, "comes so much later").default("0"),
    ],
    others: None,
};

pub(super) const SET_VARIABLE: Keys = Keys {
    home: "a `set_variable` step",
    keys: &[
        key("variables", Kind::Own(&TREES), "values by name").required(),
        key("scope", Kind::Own(&SCOPE), "how long they live").default("\"global\""),
        spelling("variable", "variables", Kind::Text),
        key("value", Kind::Tree, "value of `variable`"),
        key("append_to", Kind::Name, "a list that the values are appended to"),
        key("merge_into", Kind::Name, "a map that the values are merged into"),
    ],
    others: None,
};

const TREES: Kind =
    Kind::Map(&[&Keys { home: "`variables`", keys: &[], others: Some(&Kind::Tree) }]);
const SCOPE: Kind = Kind::OneOf { names: &["global", "local"], later: &["session", "loop"] };

/// What is checked of a step of unknown type.
pub(in crate::check) const STEP_ONLY: Tables = &[&STEP];

/// What is checked of a step whose type is a template, whatever it becomes.
pub(in crate::check) const DYNAMIC_STEP: Tables = &[&OWN, &STEP];

/// The step types of the language.
pub(in crate::check) const STEP_TYPES: &[Variant] = &[
    here("claude", &[&CLAUDE, &OWN, &STEP], "one call to Claude"),
    here("echo", &[&ECHO, &OWN, &STEP], "gives its value back"),
    here("file_ops", &[&FILE_OPS, &OWN, &STEP], "works on files of the workspace"),
    here("gemini", &[&GEMINI, &OWN, &STEP], "one call to Gemini"),
    here("pipeline", &[&PIPELINE, &OWN, &STEP], "runs a whole pipeline as one step"),
    here("set_variable", &[&SET_VARIABLE, &STEP], "sets variables"),
    here("test_echo", &[&ECHO, &OWN, &STEP], "gives its value back"),
    beyond("gemini_instructor"),
    beyond("claude_smart"),
    beyond("claude_session"),
    beyond("claude_extract"),
    beyond("claude_batch"),
    beyond("claude_robust"),
    beyond("parallel_claude"),
    beyond("for_loop"),
    beyond("while_loop"),
    beyond("switch"),
    beyond("data_transform"),
    beyond("checkpoint"),
    beyond("codebase_query"),
    beyond("llm"),
    beyond("parallel"),
    beyond("map"),
    beyond("tool"),
    beyond("wait"),
    beyond("approval"),
    beyond("emit"),
];

const fn here(name: &'static str, tables: Tables, doc: &'static str) -> Variant {
    Variant { name, tables, doc, later: false }
}

const fn beyond(name: &'static str) -> Variant {
    Variant { name, tables: STEP_ONLY, doc: "not in this version", later: true }
}
