//! Keys of the deployment sections (1.6), where the language calls some of them advisory.

use super::{Keys, Kind, POSITIVE, advisory, later};

pub(super) const MODELS: Keys = Keys {
    home: "`models`",
    keys: &[
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
        later("default_max_tokens", "longest answer of steps that name none"),
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
        later("parallel_execution", "the same as `concurrency: auto`"),
        later("max_parallel_workers", "steps at a time"),
        later("queue_size", "steps that wait"),
        later("cache_enabled", "whether results are reused"),
        later("cache_size_mb", "size of the cache"),
        later("cache_ttl_seconds", "how long results are reused"),
        later("step_timeout_default", "deadline of steps that name none"),
        later("api_timeout", "deadline of calls that name none"),
        later("file_operation_timeout", "deadline of file operations"),
    ],
    others: None,
};
