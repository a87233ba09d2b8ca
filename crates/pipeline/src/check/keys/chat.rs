//! Keys of calls to language models (2.0–2.2).

use super::{COUNT, Key, Keys, Kind, MILLIS, POSITIVE, SECONDS, key, later, spelling};

const PROMPT: Key = key("prompt", Kind::Prompt, "what the model is asked").required();

pub(super) const CLAUDE: Keys = Keys {
    home: "a `claude` step",
    keys: &[
        PROMPT,
        CLAUDE_OPTIONS_KEY,
        spelling("options", "claude_options", Kind::Map(&[&CLAUDE_OPTIONS])).nullable(),
        ALLOW_EMPTY,
    ],
    others: None,
};

const ALLOW_EMPTY: Key =
    key("allow_empty_prompt", Kind::Bool, "an empty prompt is sent, and no failure")
        .default("false");

pub(super) const CLAUDE_OPTIONS_KEY: Key =
    key("claude_options", Kind::Map(&[&CLAUDE_OPTIONS]), "options of calls to Claude").nullable();

pub(super) const GEMINI: Keys = Keys {
    home: "a `gemini` step",
    keys: &[
        PROMPT,
        key("model", Kind::Text, "the model"),
        key("token_budget", Kind::Map(&[&TOKEN_BUDGET]), "limits of the answer").default("{}"),
        key("functions", Kind::List(&Kind::Text), "functions it may call").unless_empty(),
        key("tools", Kind::List(&Kind::Any), "tools it may call").default("[]").unless_empty(),
        key("system_instruction", Kind::Template, "what comes before the prompt"),
        ALLOW_EMPTY,
        key("response_mime_type", MIME_TYPE, "form of the answer").default("\"text/plain\""),
        key("stop_sequences", STOPS, "the answer ends before the first of these texts"),
        key("candidate_count", POSITIVE, "answers of one call").default("1").unless_empty(),
        key("presence_penalty", PENALTY, "against words that are there: -2 to 2"),
        key("frequency_penalty", PENALTY, "against words that are there often: -2 to 2"),
        later("max_function_rounds", "rounds of calls"),
    ],
    others: None,
};

/// The reader says which of them are empty.
const STOPS: Kind = Kind::List(&Kind::Template);
const PENALTY: Kind = Kind::Number { least: -2.0, most: 2.0, texts: false };
const MIME_TYPE: Kind = Kind::OneOf { names: &["text/plain", "application/json"], later: &[] };

pub(super) const OUTPUT_FORMAT: Kind =
    Kind::OneOf { names: &["text", "json", "stream_json", "stream-json"], later: &[] };

const UNIT: Kind = Kind::Number { least: 0.0, most: 1.0, texts: false };
const TEMPERATURE: Kind = Kind::Number { least: 0.0, most: 2.0, texts: false };

pub(in crate::check) const CLAUDE_OPTIONS: Keys = Keys {
    home: "`claude_options`",
    keys: &[
        key("model", Kind::Text, "the model, also by its short name"),
        key("max_tokens", POSITIVE, "longest answer"),
        key("temperature", TEMPERATURE, "0 to 2"),
        key("top_p", UNIT, "0 to 1"),
        key("top_k", POSITIVE, "at least 1"),
        key("system_prompt", Kind::Template, "what comes before the prompt"),
        key("timeout_ms", MILLIS, "deadline of one call").default("300000"),
        key("idle_timeout_ms", MILLIS, "longest silence of one call").default("60000"),
        key("max_turns", POSITIVE, "turns of one call").default("3"),
        key("output_format", OUTPUT_FORMAT, "form on the wire; the record stays the same")
            .default("\"json\""),
        key("fallback_model", Kind::Text, "tried once when the model is not available"),
        key("append_system_prompt", Kind::Template, "what follows the system prompt"),
        key("timeout_seconds", SECONDS, "accepted spelling of `timeout_ms`, in seconds"),
        key("verbose", Kind::Bool, "adds `debug_info` to the record").default("false"),
        key("debug_mode", Kind::Bool, "adds `debug_info` to the record").default("false"),
        key("telemetry_enabled", Kind::Bool, "adds `telemetry` to the record").default("false"),
        key("cost_tracking", Kind::Bool, "adds `cost_tracking` to the record").default("false"),
        key("allowed_tools", Kind::Texts, "tools it may use"),
        key("disallowed_tools", Kind::Texts, "tools it may not use"),
        key("async_streaming", Kind::Bool, "events while it answers")
            .default("false")
            .unless_empty(),
        key("print", Kind::Any, "has no effect any more").removed(),
        key("pass_through_streaming", Kind::Any, "has no effect any more").removed(),
        later("cwd", "working directory"),
        later("add_dir", "further directories"),
        key("retry_config", Kind::Map(&[&RETRY_CONFIG]), "retries of this step"),
        later("session_id", "the conversation that goes on"),
        later("resume_session", "whether it goes on"),
        later("fork_session", "whether it goes on elsewhere"),
        later("permission_mode", "what tools may do unasked"),
        later("permission_prompt_tool", "who is asked"),
        later("agent", "passed to the provider"),
        later("strict_mcp_config", "passed to the provider"),
        later("mcp_config", "passed to the provider"),
        later("hooks", "what runs around tools"),
        later("mcp_servers", "servers of tools"),
        later("agents", "helpers of the model"),
        later("enable_skills", "passed to the provider"),
        later("setting_sources", "passed to the provider"),
        later("memory_config", "passed to the provider"),
        later("enable_context_management", "passed to the provider"),
        later("stream_handler", "who gets the events"),
        later("stream_buffer_size", "events kept for a slow reader"),
        later("stream_handler_opts", "options of the handler"),
        later("stream_console_config", "options of the handler"),
        later("stream_buffer_config", "options of the handler"),
        later("stream_callback_config", "options of the handler"),
        later("stream_file_path", "file of the handler"),
        later("stream_file_rotation", "rotation of that file"),
    ],
    others: None,
};

pub(in crate::check) const RETRY_CONFIG: Keys = Keys {
    home: "`retry_config`",
    keys: &[
        key("max_retries", COUNT, "attempts after the first"),
        key("backoff_strategy", BACKOFF, "how pauses grow").default("\"exponential\""),
        key("base_delay_ms", COUNT, "pause before the first retry").default("500"),
        key(
            "retry_on",
            Kind::Texts,
            "the only failures that are tried again: classes, or names of conditions",
        ),
    ],
    others: None,
};

const BACKOFF: Kind = Kind::OneOf { names: &["exponential", "linear", "fixed"], later: &[] };

const BUDGET_COUNT: Kind = Kind::Count { least: 1, most: u32::MAX, texts: true };
const BUDGET_UNIT: Kind = Kind::Number { least: 0.0, most: 1.0, texts: true };
const BUDGET_TEMPERATURE: Kind = Kind::Number { least: 0.0, most: 2.0, texts: true };

/// Numeric texts are numbers here.
pub(in crate::check) const TOKEN_BUDGET: Keys = Keys {
    home: "`token_budget`",
    keys: &[
        key("temperature", BUDGET_TEMPERATURE, "0 to 2"),
        key("max_output_tokens", BUDGET_COUNT, "longest answer"),
        key("top_p", BUDGET_UNIT, "0 to 1"),
        key("top_k", BUDGET_COUNT, "at least 1"),
        key("max_input_tokens", BUDGET_COUNT, "longest prompt, as its tokens are estimated"),
    ],
    others: None,
};
