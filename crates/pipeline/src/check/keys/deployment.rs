//! Keys of the deployment sections (1.6), where the language calls some of them advisory, and of limits (6.5, 6.6).

use super::{
    DAY_MS, Key, Keys, Kind, POSITIVE, SECONDS, Unit, advisory, key, later, spelling, step::TTL,
};

const MODES: Kind = Kind::OneOf { names: &["development", "production", "test"], later: &[] };
const DEBUG_LEVEL: Key = key(
    "debug_level",
    Kind::OneOf { names: &["basic"], later: &["detailed", "performance"] },
    "how much is logged",
)
.default("\"basic\"");
const DEBUG_CONFIG: Key = key("debug_config", Kind::Map(&[&DEBUG]), "what is logged");

pub(super) const ENVIRONMENT: Keys = Keys {
    home: "`environment`",
    keys: &[
        key("mode", MODES, "which limits hold").default("\"development\""),
        DEBUG_LEVEL,
        DEBUG_CONFIG,
        later("cost_alerts", "events about costs"),
        later("cost_tracking", "a breakdown of costs"),
        later("cost_limits", "budgets of money"),
        key("development", Kind::Map(&[&OF_MODE]), "holds in this mode, over the keys beside it"),
        key("production", Kind::Map(&[&OF_MODE]), "holds in this mode, over the keys beside it"),
        key("test", Kind::Map(&[&OF_MODE]), "holds in this mode, over the keys beside it"),
    ],
    others: None,
};

pub(super) const OF_MODE: Keys = Keys {
    home: "a mode of the environment",
    keys: &[
        DEBUG_LEVEL,
        DEBUG_CONFIG,
        later("cost_alerts", "events about costs"),
        later("cost_tracking", "a breakdown of costs"),
        later("cost_limits", "budgets of money"),
        key(
            "allow_mock_providers",
            Kind::Bool,
            "mocks may answer; in production only if it says so",
        ),
        key("force_mock_providers", Kind::Bool, "nobody but mocks may answer").default("false"),
        asked_for("relaxed_limits", "wider limits"),
        asked_for("strict_limits", "budgets where none are named"),
        asked_for("structured_logging", "logs as JSON"),
        asked_for("verbose_logging", "more logs"),
        asked_for("fast_mode", "less work"),
        asked_for("deterministic", "the same every time"),
    ],
    others: None,
};

const DEBUG: Keys = Keys {
    home: "`environment.debug_config`",
    keys: &[
        asked_for("log_all_steps", "each step is logged"),
        asked_for("log_prompts", "prompts are logged"),
        asked_for("log_responses", "replies are logged"),
        asked_for("log_execution_time", "times are logged"),
        asked_for("track_memory_usage", "memory is logged"),
        asked_for("track_token_usage", "tokens are logged"),
        asked_for("profile_slow_steps", "slow steps are logged"),
        later("slow_step_threshold_ms", "from when on a step is slow"),
        asked_for("save_debug_artifacts", "files for debugging"),
        later("debug_output_dir", "where those files are"),
        asked_for("include_traces", "traces among them"),
    ],
    others: None,
};

/// A flag that may be there as long as it is off.
const fn asked_for(name: &'static str, doc: &'static str) -> Key {
    key(name, Kind::Bool, doc).default("false").unless_empty()
}

/// At most thirty days.
const RUN_WITHIN: Kind = Kind::Duration { unit: Unit::Seconds, most_ms: 30.0 * DAY_MS };

pub(super) const RESOURCE_LIMITS: Keys = Keys {
    home: "`resource_limits`",
    keys: &[
        key("max_nesting_depth", POSITIVE, "how deep children may stand").default("10"),
        spelling("max_depth", "max_nesting_depth", POSITIVE),
        key("max_total_steps", POSITIVE, "steps of all children together").default("1000"),
        key("max_step_executions", POSITIVE, "jobs of the run, children included")
            .default("100000"),
        key("memory_limit_mb", POSITIVE, "what the results of the run may need").default("1024"),
        spelling("max_memory_mb", "memory_limit_mb", POSITIVE),
        key("max_execution_time_s", RUN_WITHIN, "deadline of the run").default("86400"),
        spelling("timeout_seconds", "max_execution_time_s", RUN_WITHIN),
        key("max_file_operations", POSITIVE, "`file_ops` steps of the run; 1000 in a sandbox"),
        later("max_loop_items", "elements of a loop"),
        later("max_loop_iterations", "rounds of a loop"),
        later("max_loop_parallel", "rounds of a loop at a time"),
        later("max_turns", "turns of a session"),
        later("max_api_calls", "calls of the run"),
        later("max_tokens_total", "tokens of the run"),
        later("max_cost_usd", "cost of the run"),
        later("max_cost_per_run", "cost of the run"),
        later("max_cost_per_step", "cost of a step"),
        later("max_parallel_steps", "steps at a time"),
        later("max_workspace_size_mb", "size of the workspace"),
        later("max_output_size_mb", "size of the outputs"),
        later("max_shell_commands", "commands of the run"),
        later("max_network_requests", "requests of tools"),
    ],
    others: None,
};

pub(super) const SAFETY: Keys = Keys {
    home: "`safety`",
    keys: &[
        key("sandbox_mode", Kind::Bool, "file operations are bounded; on in production"),
        key("restrict_file_access", Kind::Bool, "files outside of the allowed places are refused")
            .default("true"),
        key("allowed_paths", Kind::Texts, "further places to read and write"),
        key("read_only_paths", Kind::Texts, "places that are never written"),
        key("max_nesting_depth", POSITIVE, "as in `resource_limits`"),
        key("max_file_operations", POSITIVE, "as in `resource_limits`"),
        key("detect_circular_deps", Kind::Bool, "children do not contain themselves")
            .default("true"),
        later("allowed_commands", "commands that tools may run"),
        later("blocked_commands", "commands that they may not"),
        later("allow_network", "whether tools may use the network"),
        later("allowed_domains", "where they may go"),
        later("block_local_network", "whether that is elsewhere only"),
        later("denied_tools", "tools nobody may use"),
        later("max_recursion_time", "how long children may take together"),
    ],
    others: None,
};

pub(super) const DIRECTORIES: Keys = Keys {
    home: "`directories`",
    keys: &[
        key("structure", Kind::Map(&[&STRUCTURE]), "where everything is"),
        later("organize", "directories by date, workflow and run"),
        later("cleanup", "what is removed, and when"),
    ],
    others: None,
};

const STRUCTURE: Keys = Keys {
    home: "`directories.structure`",
    keys: &[
        key("workspace", Kind::Text, "the same as `workspace_dir`"),
        key("outputs", Kind::Text, "the same as `output_dir`"),
        key("checkpoints", Kind::Text, "the same as `checkpoint_dir`"),
        later("logs", "where logs go"),
        later("cache", "where results are kept"),
        later("temp", "where files are for a while"),
    ],
    others: None,
};

pub(super) const WORKSPACE: Keys = Keys {
    home: "`workspace_config`",
    keys: &[
        key("create_if_missing", Kind::Bool, "the workspace is made at the start").default("true"),
        asked_for("cleanup_on_success", "the workspace goes after success"),
        asked_for("cleanup_on_error", "the workspace goes after a failure"),
        key("preserve_structure", Kind::Bool, "directories stay as they are").default("true"),
        later("max_size_mb", "size of the workspace"),
    ],
    others: None,
};

pub(super) const OUTPUT: Keys = Keys {
    home: "`output_config`",
    keys: &[
        key("create_subdirs", Kind::Bool, "directories of output files are made").default("true"),
        key(
            "organize_by_step",
            Kind::Bool,
            "output files lie in a directory named after their step",
        )
        .default("false"),
        asked_for("compress_large_files", "large files are packed"),
        later("compression_threshold_mb", "from when on a file is large"),
    ],
    others: None,
};

/// Models of one provider.
const OF_PROVIDER: Keys = Keys {
    home: "the models of a provider",
    keys: &[
        key("default", Kind::Text, "model of steps that name none"),
        key("by_task", Kind::Map(&[&BY_TASK]), "model of steps that name none, by their names"),
    ],
    others: None,
};
const BY_TASK: Keys = Keys { home: "`by_task`", keys: &[], others: Some(&Kind::Text) };

pub(super) const MODELS: Keys = Keys {
    home: "`models`",
    keys: &[
        key("claude", Kind::Map(&[&OF_PROVIDER]), "models of the Claude types"),
        key("gemini", Kind::Map(&[&OF_PROVIDER]), "models of the Gemini types"),
        advisory("prefer_fast", Kind::Bool, "fast models rather than smart ones"),
        advisory("prefer_smart", Kind::Bool, "smart models rather than fast ones"),
        later("selection_rules", "models by condition"),
    ],
    others: None,
};

pub(super) const TOKENS: Keys = Keys {
    home: "`token_management`",
    keys: &[
        advisory("dynamic_allocation", Kind::Bool, "tokens where they are needed"),
        advisory("allocation_strategy", Kind::Text, "how they are shared out"),
        advisory("optimize_prompts", Kind::Bool, "shorter prompts"),
        advisory("compression_level", Kind::Any, "how much shorter"),
        advisory("remove_redundancy", Kind::Bool, "nothing twice"),
        later("total_token_budget", "tokens of a run"),
        later("reserve_tokens", "tokens kept back"),
        key("default_max_tokens", POSITIVE, "longest answer of steps that name none"),
    ],
    others: None,
};

pub(super) const PERFORMANCE: Keys = Keys {
    home: "`performance`",
    keys: &[
        advisory("cache_strategy", Kind::Text, "what is kept"),
        advisory("lazy_loading", Kind::Bool, "values when they are needed"),
        advisory("stream_large_files", Kind::Bool, "files piece by piece"),
        advisory("batch_small_operations", Kind::Bool, "small operations together"),
        advisory("batch_size", POSITIVE, "how many of them"),
        asked_for("parallel_execution", "the same as `concurrency: auto`"),
        later("max_parallel_workers", "steps at a time"),
        later("queue_size", "steps that wait"),
        key("cache_enabled", Kind::Bool, "whether results of calls are reused").default("false"),
        later("cache_size_mb", "size of the cache"),
        key("cache_ttl_seconds", TTL, "how long they are").default("3600"),
        key("step_timeout_default", SECONDS, "deadline of an attempt of steps that name none"),
        key("api_timeout", SECONDS, "deadline of calls that name none"),
        key("file_operation_timeout", SECONDS, "deadline of `file_ops` steps that name none"),
    ],
    others: None,
};
