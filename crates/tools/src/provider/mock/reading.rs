//! Reads scripted replies and lists everything that is wrong with them.

use std::{fmt, time::Duration};

use perennial_core::{FailureClass, failure::Failure};
use serde_json::{Map, Value};

use super::{
    Answer, failure,
    rules::{Rule, When},
};

/// Everything that is wrong with a set of rules.
///
/// ```
/// use perennial_tools::MockRules;
///
/// let refused = MockRules::parse(r#"{"reply": {}}"#).unwrap_err();
/// println!("{}: {refused}", refused.problems[0].path);
/// assert_eq!(refused.problems.len(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MockRulesError {
    /// The problems, in the order of the text; at least one.
    pub problems: Vec<MockProblem>,
}

/// One problem and its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {kind}")]
pub struct MockProblem {
    /// Where, for example `rules[2].reply.error.class`.
    pub path: String,
    /// What is wrong.
    pub kind: MockProblemKind,
}

/// What can be wrong with rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MockProblemKind {
    /// The text is not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// Another kind of value is needed.
    #[error("{0} is needed")]
    Needed(&'static str),
    /// A key that has no meaning here.
    #[error("unknown key; known are {0}")]
    UnknownKey(&'static str),
    /// Two keys that exclude each other.
    #[error("only one of {0} may be given")]
    OnlyOneOf(&'static str),
    /// A class of failure that does not exist.
    #[error("`{0}` is no class of failure; classes are {classes}", classes = class_names())]
    UnknownClass(String),
}

fn class_names() -> String {
    FailureClass::ALL.map(FailureClass::name).join(", ")
}

impl fmt::Display for MockRulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            let separator = if place > 0 { "; " } else { "" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for MockRulesError {}

/// Reads rules and collects what is wrong.
pub(super) struct Reader {
    problems: Vec<MockProblem>,
}

impl Reader {
    /// The rules in `value`, or everything that is wrong with it.
    pub(super) fn read(value: &Value) -> Result<Vec<Rule>, MockRulesError> {
        let mut reader = Self { problems: Vec::new() };
        let rules = reader.document(value);
        let problems = reader.problems;
        if problems.is_empty() { Ok(rules) } else { Err(MockRulesError { problems }) }
    }

    fn problem(&mut self, path: &str, kind: MockProblemKind) {
        self.problems.push(MockProblem { path: path.to_owned(), kind });
    }

    fn document(&mut self, value: &Value) -> Vec<Rule> {
        let Some(map) = value.as_object() else {
            self.problem("$", MockProblemKind::Needed("a map with `rules` or `replies`"));
            return Vec::new();
        };
        self.unknown_keys("", map, &["rules", "replies"], "`rules`, `replies`");
        let mut rules = Vec::new();
        match map.get("rules") {
            Some(Value::Array(items)) => {
                for (place, item) in items.iter().enumerate() {
                    rules.extend(self.rule(&format!("rules[{place}]"), item));
                }
            }
            None => (),
            Some(_) => self.problem("rules", MockProblemKind::Needed("a list")),
        }
        match map.get("replies") {
            Some(Value::Object(entries)) => {
                for (key, reply) in entries {
                    let replies = self.replies(&format!("replies.{key:?}"), reply);
                    rules.push(Rule::new(When::Named(key.clone()), None, replies));
                }
            }
            None => (),
            Some(_) => self.problem("replies", MockProblemKind::Needed("a map")),
        }
        rules
    }

    fn rule(&mut self, path: &str, value: &Value) -> Option<Rule> {
        let Some(map) = value.as_object() else {
            self.problem(path, MockProblemKind::Needed("a map"));
            return None;
        };
        const KEYS: &str = "`path`, `step`, `contains`, `provider`, `reply`";
        self.unknown_keys(path, map, &["path", "step", "contains", "provider", "reply"], KEYS);
        let path_given = self.text(path, map, "path").map(When::Path);
        let step_given = self.text(path, map, "step").map(When::Step);
        let words_given = self.text(path, map, "contains").map(When::Contains);
        let mut conditions: Vec<When> =
            [path_given, step_given, words_given].into_iter().flatten().collect();
        if conditions.len() > 1 {
            self.problem(path, MockProblemKind::OnlyOneOf("`path`, `step`, `contains`"));
        }
        let provider = self.text(path, map, "provider");
        let replies = match map.get("reply") {
            Some(reply) => self.replies(&format!("{path}.reply"), reply),
            None => {
                self.problem(path, MockProblemKind::Needed("`reply`"));
                Vec::new()
            }
        };
        let when = conditions.pop().unwrap_or_else(|| When::Contains(String::new()));
        Some(Rule::new(when, provider, replies))
    }

    /// One reply, or a list of at least one.
    fn replies(&mut self, path: &str, value: &Value) -> Vec<Answer> {
        let Some(items) = value.as_array() else {
            return self.reply(path, value).into_iter().collect();
        };
        if items.is_empty() {
            self.problem(path, MockProblemKind::Needed("at least one reply"));
        }
        let numbered = items.iter().enumerate();
        numbered.filter_map(|(place, item)| self.reply(&format!("{path}[{place}]"), item)).collect()
    }

    fn reply(&mut self, path: &str, value: &Value) -> Option<Answer> {
        let map = match value {
            Value::String(text) => return Some(Answer::text(text.clone())),
            Value::Object(map) => map,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                self.problem(path, MockProblemKind::Needed("a text or a map"));
                return None;
            }
        };
        const KEYS: &str = "`text`, `json`, `error`, `delay_ms`, `cost_usd`";
        self.unknown_keys(path, map, &["text", "json", "error", "delay_ms", "cost_usd"], KEYS);
        let given = ["text", "json", "error"].iter().filter(|key| map.contains_key(**key)).count();
        if given > 1 {
            self.problem(path, MockProblemKind::OnlyOneOf("`text`, `json`, `error`"));
        }
        let outcome = if let Some(json) = map.get("json") {
            Some(Ok(json.to_string()))
        } else if let Some(error) = map.get("error") {
            self.error(&format!("{path}.error"), error).map(Err)
        } else if given == 0 {
            self.problem(path, MockProblemKind::Needed("one of `text`, `json`, `error`"));
            None
        } else {
            self.text(path, map, "text").map(Ok)
        };
        let delay = map.get("delay_ms").map(Value::as_u64);
        if delay == Some(None) {
            self.problem(&format!("{path}.delay_ms"), MockProblemKind::Needed("a whole number"));
        }
        let cost = map.get("cost_usd").map(nano_usd);
        if cost == Some(None) {
            self.problem(&format!("{path}.cost_usd"), MockProblemKind::Needed("a price"));
        }
        Some(Answer {
            outcome: outcome?,
            cost_nano_usd: cost.flatten(),
            delay: Duration::from_millis(delay.flatten().unwrap_or(0)),
        })
    }

    fn error(&mut self, path: &str, value: &Value) -> Option<Failure> {
        let Some(map) = value.as_object() else {
            self.problem(path, MockProblemKind::Needed("a map with `message`"));
            return None;
        };
        self.unknown_keys(path, map, &["class", "message"], "`class`, `message`");
        let name = self.text(path, map, "class");
        let class = match name.as_deref() {
            None => FailureClass::Permanent,
            Some(name) => FailureClass::from_name(name).unwrap_or_else(|| {
                let kind = MockProblemKind::UnknownClass(name.to_owned());
                self.problem(&format!("{path}.class"), kind);
                FailureClass::Permanent
            }),
        };
        if !map.contains_key("message") {
            self.problem(path, MockProblemKind::Needed("`message`"));
        }
        Some(failure(class, self.text(path, map, "message")?))
    }

    /// The text at `key`, when it is there and is one.
    fn text(&mut self, path: &str, map: &Map<String, Value>, key: &str) -> Option<String> {
        let text = map.get(key)?.as_str().map(str::to_owned);
        if text.is_none() {
            self.problem(&format!("{path}.{key}"), MockProblemKind::Needed("a text"));
        }
        text
    }

    fn unknown_keys(
        &mut self,
        path: &str,
        map: &Map<String, Value>,
        known: &[&str],
        names: &'static str,
    ) {
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            let place = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            self.problem(&place, MockProblemKind::UnknownKey(names));
        }
    }
}

/// A price in nano-dollars; negative or absurd ones are none.
fn nano_usd(dollars: &Value) -> Option<u64> {
    let nano = (dollars.as_f64()? * 1e9).round();
    if !(0.0..=9e15).contains(&nano) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number in the range above"
    )]
    let whole = nano as u64;
    Some(whole)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::provider::mock::MockRules;

    #[test]
    fn all_problems_are_told_at_once_with_their_places() {
        let rules = json!({
            "rule": [],
            "rules": [
                {"path": "a", "step": "b", "reply": {"text": 1}},
                {"contains": 3, "reply": [], "regex": "x"},
                {"reply": {"error": {"class": "sad"}}},
                {"reply": {"text": "a", "json": 1, "delay_ms": -1, "cost_usd": "x"}},
                7,
            ],
            "replies": {"a b": null, "c": [{}, ["nested"]]},
        });
        let problems = MockRules::from_value(&rules).unwrap_err().problems;
        let places: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(
            places,
            [
                "rule",
                "rules[0]",
                "rules[0].reply.text",
                "rules[1].regex",
                "rules[1].contains",
                "rules[1].reply",
                "rules[2].reply.error.class",
                "rules[2].reply.error",
                "rules[3].reply",
                "rules[3].reply.delay_ms",
                "rules[3].reply.cost_usd",
                "rules[4]",
                "replies.\"a b\"",
                "replies.\"c\"[0]",
                "replies.\"c\"[1]",
            ]
        );
        assert_eq!(MockRules::parse("{").unwrap_err().problems[0].path, "$");
    }

    #[test]
    fn prices_are_whole_nano_dollars() {
        assert_eq!(nano_usd(&json!(0.001)), Some(1_000_000));
        assert_eq!(nano_usd(&json!(0)), Some(0));
        assert_eq!(nano_usd(&json!(-1)), None);
    }
}
