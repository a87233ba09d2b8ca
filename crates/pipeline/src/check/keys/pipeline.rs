//! Keys of `pipeline` steps (2.16).

use super::{
    COUNT, FREE_MAP, Key, Keys, Kind, POSITIVE, ROOT, SECONDS, WORKFLOW, advisory, key, later,
    step::CLASSES,
};

pub(super) const PIPELINE: Keys = Keys {
    home: "a `pipeline` step",
    keys: &[
        key("pipeline", Kind::Own(&INLINE), "the child, with or without `workflow` around it"),
        key("inputs", Kind::Map(&[&INPUTS]), "what the child is given").default("{}"),
        key("outputs", Kind::Own(&OUTPUTS), "steps of the child, or paths into them; all of them"),
        key("config", Kind::Map(&[&CONFIG]), "what the child sees, its limits and its failure"),
        key(
            "pipeline_file",
            Kind::Text,
            "the file of the child; with holes it is read when the step is opened",
        ),
        key(
            "pipeline_ref",
            Kind::Text,
            "the name of the child among the `pipelines`, or the host's",
        ),
        key("version", Kind::Own(&Kind::Text), "the version of it: one, or a range such as `^1.2`"),
    ],
    others: None,
};

const INLINE: Kind = Kind::Either(&[Kind::Map(&[&WORKFLOW]), Kind::Map(&[&ROOT])]);
const INPUTS: Keys =
    Keys { home: "`inputs` of a `pipeline` step", keys: &[], others: Some(&Kind::Tree) };
const OUTPUTS: Kind = Kind::List(&Kind::Either(&[Kind::Text, Kind::Map(&[&OUTPUT])]));

pub(in crate::check) const OUTPUT: Keys = Keys {
    home: "an output of a `pipeline` step",
    keys: &[
        key("path", Kind::Text, "from the results of the child").required(),
        key("as", Kind::Name, "its name; the last one of the path"),
    ],
    others: None,
};

/// A number, or a template that gives one.
const MAX_DEPTH: Kind = Kind::Own(&Kind::Either(&[POSITIVE, Kind::Template]));
const ON_TIMEOUT: Kind = Kind::OneOf { names: &["graceful", "immediate", "retry"], later: &[] };

pub(super) const CONFIG: Keys = Keys {
    home: "`config` of a `pipeline` step",
    keys: &[
        key(
            "inherit_context",
            Kind::Bool,
            "the child sees variables, constants and inputs of \
             its parent",
        )
        .default("false"),
        key("inherit_providers", Kind::Bool, "the child uses the providers of its parent")
            .default("true"),
        key("inherit_functions", Kind::Bool, "the child sees the functions of its parent")
            .default("false"),
        key("timeout_seconds", SECONDS, "deadline of the whole child").default("300"),
        key("max_depth", MAX_DEPTH, "how deep the child may stand").default("10"),
        key("max_total_steps", POSITIVE, "steps of all children together").default("1000"),
        key("memory_limit_mb", POSITIVE, "what its results may need").default("1024"),
        key("warn_at_depth", POSITIVE, "a warning from this depth on; four fifths of the limit"),
        key("memory_warning_mb", POSITIVE, "a warning above this; four fifths of the limit"),
        key("timeout_warning_seconds", SECONDS, "a warning after this; four fifths of the limit"),
        key("max_retries", COUNT, "times the child is gone through again").default("0"),
        key(
            "retry_on",
            CLASSES,
            "the only classes of failures after which it is gone through again",
        ),
        key("prune_results", Kind::Map(&[&PRUNE]), "outputs that are kept or left out"),
        key("mock_mode", Kind::Bool, "calls of the child are mocked, in a run whose calls are"),
        key("mock_responses", FREE_MAP, "replies by the names of its steps"),
        key("checkpoint_enabled", Kind::Bool, "no effect: a child is exported with its run"),
        key("checkpoint_frequency", POSITIVE, "no effect: a child is exported with its run"),
        key("checkpoint_dir", Kind::Text, "no effect: a child is exported with its run"),
        key("continue_on_error", Kind::Bool, "the parent goes on when the child fails")
            .default("false"),
        key("capture_errors", Kind::Bool, "a tolerated failure leaves its whole error")
            .default("true"),
        key("fallback_value", Kind::Any, "the result when the child fails"),
        key("on_timeout", ON_TIMEOUT, "what follows when its time is up").default("\"graceful\""),
        key("workspace_dir", Kind::Template, "where the child works; where its parent does"),
        key("workspace_enabled", Kind::Bool, "the child works in a fresh directory of its own")
            .default("false"),
        key("cleanup_on_success", Kind::Bool, "that directory is removed after success")
            .default("true"),
        key("cleanup_on_error", Kind::Bool, "that directory is removed after a failure")
            .default("true"),
        key("workspace", Kind::Map(&[&WORKSPACE]), "the long form of the keys of that directory"),
        noted("cache_enabled", Kind::Bool),
        noted("cache_pipeline", Kind::Bool),
        noted("lazy_load", Kind::Bool),
        noted("stream_results", Kind::Bool),
        noted("chunk_size_mb", POSITIVE),
        noted("gc_after_steps", POSITIVE),
        noted("gc_threshold_mb", POSITIVE),
        noted("memory_check_enabled", Kind::Bool),
        noted("collect_metrics", Kind::Bool),
        noted("trace_level", Kind::Text),
        noted("trace_config", FREE_MAP),
        noted("debug", Kind::Bool),
        noted("preserve_error_context", Kind::Bool),
        noted("error_context_fields", Kind::Texts),
        noted("reuse_workspace", Kind::Bool),
        noted("pool_size", POSITIVE),
        later("enable_tracing", "attributes of spans"),
        later("trace_metadata", "attributes of spans"),
        later("graceful_timeout", "when to end in order"),
        later("immediate_timeout", "when to end at once"),
        key(
            "allow_recursion",
            Kind::Bool,
            "the child may be a pipeline around it, named by `pipeline_ref` or a `pipeline_file` \
             with holes; needs `max_depth`",
        )
        .default("false"),
    ],
    others: None,
};

const PRUNE: Keys = Keys {
    home: "`config.prune_results` of a `pipeline` step",
    keys: &[
        key("keep_fields", Kind::Texts, "the only outputs that are kept"),
        key("remove_fields", Kind::Texts, "outputs that are left out"),
    ],
    others: None,
};

const WORKSPACE: Keys = Keys {
    home: "`config.workspace` of a `pipeline` step",
    keys: &[
        key("create_on_start", Kind::Bool, "as `workspace_enabled`").default("false"),
        key("cleanup_on_success", Kind::Bool, "as the same key of `config`").default("true"),
        key("cleanup_on_error", Kind::Bool, "as the same key of `config`").default("true"),
        later("preserve_outputs", "keeps a part of the directory"),
        later("max_size_mb", "the size of the directory"),
    ],
    others: None,
};

const fn noted(name: &'static str, kind: Kind) -> Key {
    advisory(name, kind, "for others")
}
