//! The key tables: what this version honours, and what the language has beyond it.

/// The keys of one kind of map.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Where they stand, for hints.
    pub(super) home: &'static str,
    pub(super) here: &'static [&'static str],
    pub(super) later: &'static [&'static str],
}

pub(crate) const ROOT: Keys =
    Keys { home: "the document", here: &["workflow", "$schema"], later: &[] };

pub(super) const WORKFLOW: Keys = Keys {
    home: "`workflow`",
    here: &[
        "name",
        "steps",
        "language",
        "description",
        "version",
        "author",
        "tags",
        "metadata",
        "concurrency",
        "defaults",
        "variables",
        "global_vars",
        "input",
        "inputs",
        "continue_on_error",
        "lenient",
    ],
    later: &[
        "workspace_dir",
        "output_dir",
        "checkpoint_dir",
        "checkpoint_enabled",
        "checkpoint_interval",
        "checkpoint_config",
        "input_schema",
        "gemini_functions",
        "functions",
        "schemas",
        "pipelines",
        "hooks",
        "mcp_servers",
        "agents",
        "enable_skills",
        "setting_sources",
        "memory_config",
        "enable_context_management",
        "resource_limits",
        "safety_config",
        "safety",
        "retry_on_failure",
        "retry_attempts",
        "max_execution_time",
        "claude_auth",
        "gemini_auth",
        "providers",
        "models",
        "token_management",
        "performance",
        "telemetry",
        "monitoring",
        "directories",
        "cache_config",
        "workspace_config",
        "output_config",
        "environment",
    ],
};

pub(super) const DEFAULTS: Keys = Keys {
    home: "`defaults`",
    here: &[
        "claude_options",
        "claude_model",
        "claude_output_format",
        "gemini_model",
        "gemini_token_budget",
        "timeout_seconds",
        "continue_on_error",
    ],
    later: &[
        "output_dir",
        "claude_preset",
        "claude_fallback_model",
        "retry_on_error",
        "cache_results",
        "cache_ttl",
    ],
};

pub(super) const INPUT: Keys = Keys {
    home: "a declaration of `inputs`",
    here: &["type", "description", "required", "default", "enum", "secret"],
    later: &[],
};

pub(super) const LENIENT: Keys = Keys {
    home: "`lenient`",
    here: &["undecided_conditions", "missing_env"],
    later: &[
        "unknown_keys",
        "duplicate_keys",
        "duplicate_names",
        "string_prompts",
        "missing_templates",
        "unknown_functions",
        "missing_files",
        "read_outside_roots",
        "post_processing",
    ],
};

/// Keys of every step.
pub(super) const STEP: Keys = Keys {
    home: "every step",
    here: &[
        "name",
        "type",
        "description",
        "metadata",
        "role",
        "condition",
        "depends_on",
        "timeout_seconds",
        "timeout_ms",
        "retry",
        "on_error",
        "continue_on_error",
    ],
    later: &[
        "dynamic_types",
        "variables",
        "max_retries",
        "max_attempts",
        "retry_on",
        "error_output",
        "error_handler",
        "output_to_file",
        "output_file",
        "output_to_global",
        "output_schema",
        "max_repairs",
        "streaming",
        "cache",
        "codebase_context",
        "clear_vars",
        "effects",
    ],
};

pub(super) const ECHO: Keys = Keys {
    home: "an `echo` step",
    here: &["value", "fail", "error_message", "delay_ms"],
    later: &[],
};

pub(super) const SET_VARIABLE: Keys = Keys {
    home: "a `set_variable` step",
    here: &["variables", "scope", "variable", "value", "append_to", "merge_into"],
    later: &[],
};

pub(super) const CLAUDE: Keys = Keys {
    home: "a `claude` step",
    here: &["prompt", "claude_options", "options"],
    later: &["allow_empty_prompt"],
};

pub(super) const GEMINI: Keys = Keys {
    home: "a `gemini` step",
    here: &["prompt", "model", "token_budget", "functions", "tools", "system_instruction"],
    later: &[
        "allow_empty_prompt",
        "response_mime_type",
        "stop_sequences",
        "candidate_count",
        "presence_penalty",
        "frequency_penalty",
        "max_function_rounds",
    ],
};

pub(super) const CLAUDE_OPTIONS: Keys = Keys {
    home: "`claude_options`",
    here: &[
        "model",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "system_prompt",
        "timeout_ms",
        "idle_timeout_ms",
        "max_turns",
        "output_format",
        "allowed_tools",
        "disallowed_tools",
        "async_streaming",
        "print",
        "pass_through_streaming",
    ],
    later: &[
        "fallback_model",
        "append_system_prompt",
        "cwd",
        "add_dir",
        "verbose",
        "debug_mode",
        "telemetry_enabled",
        "cost_tracking",
        "timeout_seconds",
        "retry_config",
        "session_id",
        "resume_session",
        "fork_session",
        "permission_mode",
        "permission_prompt_tool",
        "agent",
        "strict_mcp_config",
        "mcp_config",
        "hooks",
        "mcp_servers",
        "agents",
        "enable_skills",
        "setting_sources",
        "memory_config",
        "enable_context_management",
        "stream_handler",
        "stream_buffer_size",
        "stream_handler_opts",
        "stream_console_config",
        "stream_buffer_config",
        "stream_callback_config",
        "stream_file_path",
        "stream_file_rotation",
    ],
};

pub(super) const TOKEN_BUDGET: Keys = Keys {
    home: "`token_budget`",
    here: &["temperature", "max_output_tokens", "top_p", "top_k"],
    later: &["max_input_tokens"],
};

pub(super) const RETRY: Keys = Keys {
    home: "`retry`",
    here: &["max_retries", "base_delay_ms", "max_delay_ms", "backoff"],
    later: &["jitter", "retry_on"],
};

pub(super) const STATIC_PART: Keys = Keys {
    home: "a `static` prompt part",
    here: &["type", "content", "raw", "condition"],
    later: &PART_LATER,
};

pub(super) const PREVIOUS_PART: Keys = Keys {
    home: "a `previous_response` prompt part",
    here: &["type", "step", "extract", "strict", "condition"],
    later: &[
        "summary",
        "summary_style",
        "summary_focus",
        "summary_with",
        "max_summary_length",
        "max_length",
        "transform",
        "role",
        "extract_with",
        "format",
        "post_processing",
        "inject_as",
    ],
};

const PART_LATER: [&str; 8] = [
    "summary",
    "summary_style",
    "summary_focus",
    "summary_with",
    "max_summary_length",
    "max_length",
    "transform",
    "role",
];

/// All tables, in the order in which a hint looks for another place of a key.
pub(super) const ALL: &[&Keys] = &[
    &STEP,
    &WORKFLOW,
    &CLAUDE_OPTIONS,
    &CLAUDE,
    &GEMINI,
    &DEFAULTS,
    &TOKEN_BUDGET,
    &RETRY,
    &ECHO,
    &SET_VARIABLE,
    &STATIC_PART,
    &PREVIOUS_PART,
    &INPUT,
    &LENIENT,
];

/// Step types of this version.
pub(super) const TYPES: &[&str] = &["claude", "echo", "gemini", "set_variable", "test_echo"];

/// Step types of the language that a later version runs.
pub(super) const LATER_TYPES: &[&str] = &[
    "gemini_instructor",
    "claude_smart",
    "claude_session",
    "claude_extract",
    "claude_batch",
    "claude_robust",
    "parallel_claude",
    "for_loop",
    "while_loop",
    "switch",
    "data_transform",
    "file_ops",
    "pipeline",
    "checkpoint",
    "codebase_query",
    "llm",
    "parallel",
    "map",
    "tool",
    "wait",
    "approval",
    "emit",
];

/// Prompt parts of this version.
pub(super) const PARTS: &[&str] = &["static", "previous_response"];

/// Prompt parts of the language that a later version builds.
pub(super) const LATER_PARTS: &[&str] = &["file", "session_context", "claude_continue", "dynamic"];
