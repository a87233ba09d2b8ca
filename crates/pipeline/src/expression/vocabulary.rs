//! The words of the language: roots of paths and operators.

/// Roots a path of this version may begin with.
pub(crate) const ROOTS: &[&str] = &[
    "steps",
    "state",
    "variables",
    "inputs",
    "global_vars",
    "workflow",
    "step",
    "run_id",
    "execution_id",
    "timestamp",
    "date",
    "env",
    "environment",
];

/// The root that handlers have: the failure they are for.
pub(crate) const ERROR_ROOT: &str = "error";

/// Roots of the language that a later version offers.
pub(crate) const LATER_ROOTS: &[&str] = &["loop", "config", "meta", "task", "codebase", "system"];

/// Operators that are words.
pub(super) const OPERATORS: &[&str] = &[
    "and",
    "or",
    "not",
    "contains",
    "matches",
    "starts_with",
    "ends_with",
    "in",
    "not_in",
    "between",
    "exists",
    "empty",
];
