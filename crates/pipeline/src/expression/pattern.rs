//! Regular expressions: Rust's syntax plus look-around and back-references, with a bound (YC-7).

use std::sync::Arc;

use fancy_regex::{Expr, Regex, RegexBuilder};

/// Steps of the backtracking engine in one search.
const STEPS_MAX: usize = 1_000_000;
/// Bytes of a compiled automaton.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A compiled regular expression.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    source: String,
    regex: Arc<Regex>,
}

/// Whether `source` calls groups of itself. The bound on steps does not hold for those: what they keep in
/// memory has none.
pub(crate) fn calls_groups(source: &str) -> bool {
    Expr::parse_tree(source).is_ok_and(|tree| tree.contains_subroutines)
}

/// The search took more than a million steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManySteps;

impl Pattern {
    /// Compiles `source`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        if calls_groups(source) {
            return Err(
                "calls of groups, such as `\\g<1>`, are not a part of this syntax".to_owned()
            );
        }
        let regex = RegexBuilder::new(source)
            .backtrack_limit(STEPS_MAX)
            .delegate_size_limit(COMPILED_BYTES_MAX)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { source: source.to_owned(), regex: Arc::new(regex) })
    }

    /// `text` with `replacement` for all that is found; `$1` is a group.
    ///
    /// # Errors
    ///
    /// When the bound is reached first.
    pub(crate) fn replace<'t>(
        &self,
        text: &'t str,
        replacement: &str,
    ) -> Result<std::borrow::Cow<'t, str>, TooManySteps> {
        self.regex.try_replacen(text, 0, replacement).map_err(|_| TooManySteps)
    }

    /// Whether it is found anywhere in `text`.
    ///
    /// # Errors
    ///
    /// When the bound is reached first.
    pub(crate) fn is_in(&self, text: &str) -> Result<bool, TooManySteps> {
        self.regex.is_match(text).map_err(|_| TooManySteps)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}
