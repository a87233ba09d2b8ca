//! Keys of the document and of `workflow` (1.1, 1.4, 1.5, 1.9).

use super::{
    DAY_MS, FREE_MAP, Keys, Kind, POSITIVE, SECONDS, Unit, chat, deployment, key, later, spelling,
    step::{STEP_LIST, TTL},
};
use crate::definition::LEEWAYS;

pub(in crate::check) const ROOT: Keys = Keys {
    home: "the document",
    keys: &[
        key("workflow", Kind::Own(&Kind::Map(&[&WORKFLOW])), "the definition").required(),
        key("$schema", Kind::Any, "for editors, otherwise ignored"),
    ],
    others: None,
};

pub(in crate::check) const WORKFLOW: Keys = Keys {
    home: "`workflow`",
    keys: &[
        key("name", Kind::Name, "identity in logs and lists").required(),
        key("steps", STEP_LIST, "what is run, in order").required(),
        key("language", POSITIVE, "version of the language; without it the legacy dialect"),
        key("description", Kind::Text, "decoration"),
        key("version", Kind::Either(&[Kind::Text, NUMBER]), "decoration"),
        key("author", Kind::Text, "decoration"),
        key("tags", Kind::Texts, "labels of its runs"),
        key("metadata", FREE_MAP, "decoration, readable as `workflow.metadata.x`").default("{}"),
        key("concurrency", CONCURRENCY, "how steps follow each other").default("\"sequential\""),
        key("defaults", Kind::Map(&[&DEFAULTS]), "what holds for steps that are silent")
            .default("{}"),
        key("variables", FREE_MAP, "initial values of variables").default("{}"),
        key("global_vars", FREE_MAP, "constants, readable as `global_vars.x`").default("{}"),
        key("input", FREE_MAP, "default values of inputs by name").default("{}"),
        key("inputs", Kind::Map(&[&INPUTS]), "declarations of inputs by name"),
        key("continue_on_error", Kind::Bool, "default policy of steps").default("false"),
        key("input_schema", Kind::Schema, "a JSON Schema that the inputs have to satisfy"),
        key("retry_on_failure", Kind::Bool, "whether steps are repeated by default")
            .default("false"),
        key("retry_attempts", POSITIVE, "how often, after the first attempt").default("3"),
        key("max_execution_time", RUN_WITHIN, "deadline of the run").default("86400"),
        key("gemini_functions", FREE_MAP, "callable functions").default("{}").unless_empty(),
        key("functions", FREE_MAP, "callable functions").default("{}").unless_empty(),
        key("schemas", Kind::Map(&[&SCHEMAS]), "JSON Schemas by name, for `output_schema`")
            .default("{}"),
        key("hooks", Kind::Any, "what runs around tools").unless_empty(),
        key("mcp_servers", Kind::Any, "servers of tools").unless_empty(),
        key("agents", Kind::Any, "helpers of the model").unless_empty(),
        key("lenient", Kind::Map(&[&LENIENT]), "named departures from the strict reading"),
        key("workspace_dir", Kind::Text, "where steps work on files").default("\"./workspace\""),
        key("output_dir", Kind::Text, "base of `output_to_file`").default("\"./outputs\""),
        key("checkpoint_dir", Kind::Text, "where exports go").default("\"./checkpoints\""),
        key(
            "checkpoint_enabled",
            Kind::Bool,
            "exports checkpoints, and has `run` go on with unfinished runs; on in production",
        )
        .default("false"),
        key("checkpoint_interval", POSITIVE, "steps between two exports").default("1"),
        key("checkpoint_config", Kind::Map(&[&CHECKPOINT_CONFIG]), "which exports are kept"),
        key("pipelines", Kind::Map(&[&PIPELINES]), "files by name, for `pipeline_ref`"),
        later("enable_skills", "default of `claude_options`"),
        later("setting_sources", "default of `claude_options`"),
        later("memory_config", "default of `claude_options`"),
        later("enable_context_management", "default of `claude_options`"),
        key("resource_limits", LIMITS, "limits of the run and its children"),
        spelling("safety_config", "resource_limits", LIMITS),
        key("safety", Kind::Map(&[&deployment::SAFETY]), "sandbox, commands, network, paths"),
        key("extends", Kind::Text, "the document below this one"),
        key("include", Kind::Texts, "documents between that one and this one"),
        key("$if", Kind::Condition, "a choice at load, in any map but steps"),
        key("$then", FREE_MAP, "keys when it holds"),
        key("$else", FREE_MAP, "keys when it does not"),
        later("claude_auth", "credentials of Claude"),
        later("gemini_auth", "credentials of Gemini"),
        later("providers", "routing between providers"),
        key("models", Kind::Map(&[&deployment::MODELS]), "choice of models"),
        key("token_management", Kind::Map(&[&deployment::TOKENS]), "token budgets"),
        key("performance", Kind::Map(&[&deployment::PERFORMANCE]), "deadlines, caches, workers"),
        later("telemetry", "exporters"),
        later("monitoring", "alerts"),
        key("directories", Kind::Map(&[&deployment::DIRECTORIES]), "layout of directories"),
        later("cache_config", "caching of results"),
        key("workspace_config", Kind::Map(&[&deployment::WORKSPACE]), "handling of the workspace"),
        key("output_config", Kind::Map(&[&deployment::OUTPUT]), "handling of outputs"),
        key("environment", Kind::Map(&[&deployment::ENVIRONMENT]), "mode, limits and logging"),
    ],
    others: None,
};

const LIMITS: Kind = Kind::Map(&[&deployment::RESOURCE_LIMITS]);
const NUMBER: Kind = Kind::Number { least: f64::MIN, most: f64::MAX, texts: false };

/// A run takes thirty days at most.
const RESUME_AGE: Kind = Kind::Duration { unit: Unit::Seconds, most_ms: 365.0 * DAY_MS };
const RUN_WITHIN: Kind = Kind::Duration { unit: Unit::Seconds, most_ms: 30.0 * DAY_MS };

const CONCURRENCY: Kind = Kind::OneOf { names: &["sequential"], later: &["auto"] };

pub(super) const DEFAULTS: Keys = Keys {
    home: "`defaults`",
    keys: &[
        chat::CLAUDE_OPTIONS_KEY,
        key("claude_model", Kind::Text, "model of Claude steps that name none"),
        key("claude_fallback_model", Kind::Text, "`fallback_model` of Claude steps"),
        key("claude_output_format", chat::OUTPUT_FORMAT, "`output_format` of Claude steps")
            .default("\"json\""),
        key("gemini_model", Kind::Text, "model of Gemini steps that name none"),
        key("gemini_token_budget", Kind::Map(&[&chat::TOKEN_BUDGET]), "merged below their own"),
        key("timeout_seconds", SECONDS, "deadline of an attempt of every step"),
        key("continue_on_error", Kind::Bool, "default policy of steps").default("false"),
        key("retry_on_error", Kind::Bool, "the same as `retry_on_failure`").default("false"),
        key("output_dir", Kind::Text, "same as `output_dir` of the workflow"),
        later("claude_preset", "preset of Claude steps that name none"),
        key("cache_results", Kind::Bool, "whether results of calls are reused").default("false"),
        key("cache_ttl", TTL, "how long they are").default("3600"),
    ],
    others: None,
};

/// Declarations by the name of the input.
const INPUTS: Keys = Keys { home: "`inputs`", keys: &[], others: Some(&DECLARATION) };

const DECLARATION: Kind = Kind::Either(&[INPUT_TYPE, Kind::Map(&[&INPUT])]);
const INPUT_TYPES: &[&str] = &["string", "number", "integer", "boolean", "object", "array", "any"];
const INPUT_TYPE: Kind = Kind::OneOf { names: INPUT_TYPES, later: &[] };

pub(super) const INPUT: Keys = Keys {
    home: "a declaration of `inputs`",
    keys: &[
        key("type", INPUT_TYPE, "type of its values").default("\"any\""),
        key("description", Kind::Text, "what it is for"),
        key("required", Kind::Bool, "whether a run starts without it"),
        key("default", Kind::Any, "its value when none is given"),
        key("enum", Kind::List(&Kind::Any), "the only values it may have"),
        key("secret", Kind::Bool, "redacted everywhere").default("false").unless_empty(),
    ],
    others: None,
};

const fn leeway(option: usize) -> Kind {
    Kind::OneOf { names: LEEWAYS[option].values, later: &[] }
}

pub(super) const CHECKPOINT_CONFIG: Keys = Keys {
    home: "`checkpoint_config`",
    keys: &[
        key("rotation_policy", Kind::Text, "keep_all, or keep_last_<n>").default("\"keep_last_5\""),
        key("compress", Kind::Bool, "packs exports").default("false").unless_empty(),
        key("include_workspace", Kind::Bool, "with the files of the workspace")
            .default("false")
            .unless_empty(),
        key(
            "resume",
            Kind::OneOf { names: &["auto", "explicit"], later: &[] },
            "whether `run` goes on with an unfinished run",
        )
        .default("\"auto\""),
        key("max_resume_age", RESUME_AGE, "how old a run may be that `run` goes on with")
            .default("\"24h\""),
    ],
    others: None,
};

const MISSING_ENV: Kind = Kind::OneOf { names: &["error", "empty"], later: &[] };

pub(super) const LENIENT: Keys = Keys {
    home: "`lenient`",
    keys: &[
        key("unknown_keys", leeway(0), "keys the language does not have").default("\"error\""),
        key("duplicate_keys", leeway(1), "keys that occur twice").default("\"error\""),
        key("string_prompts", leeway(2), "prompts that are no list").default("\"accept\""),
        key("missing_templates", leeway(3), "holes without a value").default("\"error\""),
        key("unknown_functions", leeway(4), "calls of what is no function").default("\"error\""),
        key("undecided_conditions", leeway(5), "how a comparison of unlike values is read"),
        key("missing_files", leeway(6), "when a file has to be there").default("\"preflight\""),
        key("read_outside_roots", Kind::Bool, "whether files beside the project may be read")
            .default("false"),
        later("duplicate_names", "error, last_wins"),
        key("missing_env", MISSING_ENV, "what `${NAME}` is when it is not set")
            .default("\"error\""),
        key("post_processing", leeway(9), "operations that the extractor does not have")
            .default("\"warn\""),
    ],
    others: None,
};

const SCHEMAS: Keys = Keys { home: "`schemas`", keys: &[], others: Some(&Kind::Schema) };
const PIPELINES: Keys = Keys { home: "`pipelines`", keys: &[], others: Some(&Kind::Text) };
