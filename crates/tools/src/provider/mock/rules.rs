//! Scripted replies: how they are written, and which one is given (YV-20).
//!
//! ```json
//! {
//!   "rules": [
//!     {"path": "review/loop[3]/body", "reply": "only this step of this round"},
//!     {"step": "summary", "provider": "gemini", "reply": {"json": {"score": 1}}},
//!     {"contains": "translate", "reply": {"text": "übersetzt", "delay_ms": 50, "cost_usd": 0.002}},
//!     {"reply": [{"error": {"class": "overloaded", "message": "busy"}}, "then this"]}
//!   ],
//!   "replies": {"summary": "by step path, step name or words of the prompt", "": "all the rest"}
//! }
//! ```
//!
//! The most specific rule answers: the exact step path, the step's name, the longest words found
//! in the prompt, then rules for all. Among equals one that names the provider comes first, then
//! the one written first.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use perennial_core::Digest;
use serde_json::{Value, json};

use super::{
    Answer,
    instance::smallest_instance,
    reading::{MockProblem, MockProblemKind, MockRulesError, Reader},
};

/// Scripted replies. Clones share the counters of lists.
///
/// ```
/// use perennial_tools::MockRules;
/// use serde_json::json;
///
/// let rules = MockRules::from_value(&json!({"replies": {"draft": "Dear Ada", "": "ok"}}))?;
/// assert_ne!(rules.digest(), MockRules::default().digest());
/// # Ok::<(), perennial_tools::MockRulesError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MockRules {
    rules: Arc<[Rule]>,
    digest: Digest,
}

#[derive(Debug)]
pub(super) struct Rule {
    when: When,
    provider: Option<String>,
    /// At least one.
    replies: Vec<Answer>,
    calls: AtomicUsize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum When {
    Path(String),
    Step(String),
    /// Empty text is in every prompt.
    Contains(String),
    /// A key of the short form: any of the three above.
    Named(String),
}

/// How well a rule fits; more is more specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Words(usize),
    Step,
    Path,
}

impl Default for MockRules {
    /// No rules: built-in answers only.
    fn default() -> Self {
        Self { rules: Arc::new([]), digest: Digest::of_json(&json!({})) }
    }
}

impl MockRules {
    /// The rules in `text`, which is JSON.
    ///
    /// ```
    /// use perennial_tools::MockRules;
    ///
    /// assert!(MockRules::parse(r#"{"replies": {"draft": "Dear Ada"}}"#).is_ok());
    /// assert!(MockRules::parse("no JSON").is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// When the text is not JSON, or with all problems of the rules at once.
    pub fn parse(text: &str) -> Result<Self, MockRulesError> {
        let value = serde_json::from_str(text).map_err(|error| {
            let kind = MockProblemKind::NotJson(error.to_string());
            MockRulesError { problems: vec![MockProblem { path: "$".to_owned(), kind }] }
        })?;
        Self::from_value(&value)
    }

    /// The rules in `value`, wherever it was read from.
    ///
    /// ```
    /// use perennial_tools::MockRules;
    /// use serde_json::json;
    ///
    /// let refused = MockRules::from_value(&json!({"reply": {}})).unwrap_err(); // misspelt
    /// assert_eq!(refused.problems.len(), 1);
    /// ```
    ///
    /// # Errors
    ///
    /// With all problems at once.
    pub fn from_value(value: &Value) -> Result<Self, MockRulesError> {
        let rules = Reader::read(value)?;
        Ok(Self { rules: rules.into(), digest: Digest::of_json(value) })
    }

    /// The digest of what was read, the same for the same content.
    ///
    /// ```
    /// use perennial_tools::MockRules;
    /// use serde_json::json;
    ///
    /// let rules = |text| MockRules::from_value(&json!({"replies": {"draft": text}}));
    /// assert_eq!(rules("Dear Ada")?.digest(), rules("Dear Ada")?.digest());
    /// # Ok::<(), perennial_tools::MockRulesError>(())
    /// ```
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What the best rule answers, if any fits.
    pub(super) fn answer(&self, provider: &str, step_path: &str, prompt: &str) -> Option<Answer> {
        let candidates = self.rules.iter().enumerate().filter_map(|(place, rule)| {
            let named = rule.provider.as_deref();
            if named.is_some_and(|named| named != provider) {
                return None;
            }
            let fit = rule.when.fit(step_path, prompt)?;
            Some(((fit, named.is_some(), std::cmp::Reverse(place)), rule))
        });
        let (_, rule) = candidates.max_by_key(|(rank, _)| *rank)?;
        let call = rule.calls.fetch_add(1, Ordering::Relaxed);
        rule.replies.get(call.min(rule.replies.len() - 1)).cloned()
    }
}

impl When {
    fn fit(&self, step_path: &str, prompt: &str) -> Option<Fit> {
        let path = |path: &str| (path == step_path).then_some(Fit::Path);
        let step = |name: &str| (name == step_name(step_path)).then_some(Fit::Step);
        let words = |words: &str| prompt.contains(words).then_some(Fit::Words(words.len()));
        match self {
            Self::Path(text) => path(text),
            Self::Step(text) => step(text),
            Self::Contains(text) => words(text),
            Self::Named(text) => path(text).or_else(|| step(text)).or_else(|| words(text)),
        }
    }
}

/// The last part of a path, without the number of its round.
fn step_name(path: &str) -> &str {
    let last = path.rsplit('/').next().unwrap_or(path);
    match last.split_once('[') {
        Some((name, round)) if round.ends_with(']') => name,
        Some(_) | None => last,
    }
}

impl Rule {
    pub(super) fn new(when: When, provider: Option<String>, replies: Vec<Answer>) -> Self {
        Self { when, provider, replies, calls: AtomicUsize::new(0) }
    }
}

impl Answer {
    pub(super) fn text(text: String) -> Self {
        Self { outcome: Ok(text), cost_nano_usd: None, delay: Duration::ZERO }
    }

    /// The same, whose text is the smallest instance of `schema` (YV-22).
    pub(super) fn shaped(self, schema: &Value) -> Self {
        let outcome = self.outcome.map(|_| smallest_instance(schema).to_string());
        Self { outcome, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(rules: &Value, provider: &str, path: &str, prompt: &str) -> Option<String> {
        let rules = MockRules::from_value(rules).unwrap();
        rules.answer(provider, path, prompt).map(|answer| answer.outcome.unwrap())
    }

    #[test]
    fn the_most_specific_rule_answers() {
        let rules = json!({"rules": [
            {"reply": "all"},
            {"provider": "gemini", "reply": "all of gemini"},
            {"contains": "trans", "reply": "short"},
            {"contains": "translate", "reply": "long"},
            {"contains": "translate", "provider": "gemini", "reply": "long of gemini"},
            {"step": "body", "reply": "step"},
            {"path": "loop[1]/body[0]", "reply": "path"},
        ]});
        for (provider, path, prompt, text) in [
            ("claude", "x", "y", "all"),
            ("gemini", "x", "y", "all of gemini"),
            ("claude", "x", "transport", "short"),
            ("claude", "x", "translate", "long"),
            ("gemini", "x", "translate", "long of gemini"),
            ("claude", "loop[0]/body[7]", "translate", "step"),
            ("claude", "loop[1]/body[0]", "translate", "path"),
        ] {
            assert_eq!(
                given(&rules, provider, path, prompt).as_deref(),
                Some(text),
                "{path} {prompt}"
            );
        }
    }

    #[test]
    fn a_key_of_the_short_form_is_a_path_a_step_or_words() {
        let rules = json!({"replies": {"a/b": "path", "b": "step", "hello": "words", "": "all"}});
        for (path, prompt, text) in [
            ("a/b", "hello", "path"),
            ("c/b", "hello", "step"),
            ("c", "oh hello", "words"),
            ("c", "", "all"),
        ] {
            assert_eq!(given(&rules, "claude", path, prompt).as_deref(), Some(text));
        }
        assert_eq!(given(&json!({"replies": {"z": "no"}}), "claude", "c", "d"), None);
    }

    #[test]
    fn the_digest_is_that_of_the_content() {
        let digest = |text: &str| MockRules::parse(text).unwrap().digest();
        let one = digest(r#"{"replies": {"a": "1", "b": "2"}}"#);
        assert_eq!(one, digest(r#"{ "replies": {"b": "2", "a": "1"} }"#));
        assert_ne!(one, digest(r#"{"replies": {"a": "1", "b": "3"}}"#));
        assert_eq!(MockRules::default().digest(), digest("{}"));
    }
}
