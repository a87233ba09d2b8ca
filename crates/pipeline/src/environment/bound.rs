//! The environment of one run: read at its start, the same on every attempt (YF-42).

use std::{collections::BTreeMap, fmt};

use perennial_core::Digest;
use perennial_tools::{ApiKey, Redactor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::is_secret;

/// Variables of a run. Recorded with its settings: values in clear, of secrets a keyed hash only.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunEnvironment {
    /// Values; none when the variable was not set.
    values: BTreeMap<String, Option<String>>,
    /// Hashes of secrets; none when the variable was not set.
    hashes: BTreeMap<String, Option<Digest>>,
    /// Goes into every hash, so that hashes of two runs say nothing about each other.
    key: String,
    #[serde(skip)]
    secrets: BTreeMap<String, String>,
}

/// Values of secrets are never shown.
impl fmt::Debug for RunEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunEnvironment")
            .field("values", &self.values)
            .field("hashes", &self.hashes)
            .finish_non_exhaustive()
    }
}

impl RunEnvironment {
    /// The variables `names` as they are now; `key` is different for every run.
    pub(crate) fn read(
        names: &[String],
        key: String,
        empty_when_missing: bool,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let mut environment = Self { key, ..Self::default() };
        for name in names {
            let missing = || empty_when_missing.then(String::new);
            let value = variable(name).or_else(missing);
            if !is_secret(name) {
                environment.values.insert(name.clone(), value);
                continue;
            }
            let hash = value.as_deref().map(|value| environment.hash(name, value));
            environment.hashes.insert(name.clone(), hash);
            environment.secrets.extend(value.map(|value| (name.clone(), value)));
        }
        environment
    }

    /// Reads variables that the run did not read so far, too; what it has stays as it is.
    pub(crate) fn extend(
        &mut self,
        names: &[String],
        key: &str,
        empty_when_missing: bool,
        variable: &dyn Fn(&str) -> Option<String>,
    ) {
        if self.key.is_empty() {
            key.clone_into(&mut self.key);
        }
        let is_new =
            |name: &&String| !self.values.contains_key(*name) && !self.hashes.contains_key(*name);
        let new: Vec<String> = names.iter().filter(is_new).cloned().collect();
        let read = Self::read(&new, self.key.clone(), empty_when_missing, variable);
        self.values.extend(read.values);
        self.hashes.extend(read.hashes);
        self.secrets.extend(read.secrets);
    }

    /// Whether the run reads no variable.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.hashes.is_empty()
    }

    /// Reads the secrets again, which are not recorded. Answers the names of those that are not
    /// what they were when the run began.
    pub fn read_secrets(&mut self, variable: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
        let mut changed = Vec::new();
        for (name, recorded) in &self.hashes {
            let empty = Some(self.hash(name, ""));
            let value = match variable(name) {
                // It was read as empty, and is still not set.
                None if *recorded == empty => Some(String::new()),
                value => value,
            };
            if value.as_deref().map(|value| self.hash(name, value)) != *recorded {
                changed.push(name.clone());
            }
            match value {
                Some(value) => self.secrets.insert(name.clone(), value),
                None => self.secrets.remove(name),
            };
        }
        changed
    }

    /// The text of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        match self.secrets.get(name) {
            Some(secret) => Some(secret),
            None => self.values.get(name)?.as_deref(),
        }
    }

    /// What takes secrets out of everything that is recorded; none when there are none.
    pub(crate) fn redactor(&self) -> Option<Redactor> {
        let each = |redactor: Redactor, value: &String| redactor.with(&ApiKey::new(value.as_str()));
        (!self.secrets.is_empty()).then(|| self.secrets.values().fold(Redactor::new(), each))
    }

    fn hash(&self, name: &str, value: &str) -> Digest {
        let text = format!("{}\n{name}\n{value}", self.key);
        Digest::of(text.as_bytes())
    }
}

/// Whether a text or a key in `value` holds a secret.
pub(crate) fn holds_secret(value: &Value, redactor: &Redactor) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => redactor.finds(text),
        Value::Array(items) => items.iter().any(|item| holds_secret(item, redactor)),
        Value::Object(map) => {
            map.iter().any(|(key, value)| redactor.finds(key) || holds_secret(value, redactor))
        }
    }
}

/// `value` without secrets, in its texts and in its keys.
pub(crate) fn redacted(value: Value, redactor: &Redactor) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
        Value::String(text) if redactor.finds(&text) => Value::String(redactor.redact(&text)),
        Value::String(_) => value,
        Value::Array(items) => items.into_iter().map(|item| redacted(item, redactor)).collect(),
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| (redactor.redact(&key), redacted(value, redactor)))
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "correct-horse-battery";

    fn read(value: &'static str) -> RunEnvironment {
        let names = ["REGION".to_owned(), "API_KEY".to_owned(), "NO_TOKEN".to_owned()];
        let variable = move |name: &str| match name {
            "REGION" => Some("eu".to_owned()),
            "API_KEY" => Some(value.to_owned()),
            _ => None,
        };
        RunEnvironment::read(&names, "key".to_owned(), false, &variable)
    }

    #[test]
    fn a_secret_is_recorded_as_a_hash_and_read_again() {
        let environment = read(SECRET);
        let recorded = serde_json::to_string(&environment).unwrap();
        assert!(!recorded.contains(SECRET) && recorded.contains("\"eu\""), "{recorded}");
        assert!(!format!("{environment:?}").contains(SECRET));
        let mut revived: RunEnvironment = serde_json::from_str(&recorded).unwrap();
        assert_eq!(revived.get("API_KEY"), None);
        let same = |name: &str| (name == "API_KEY").then(|| SECRET.to_owned());
        assert!(revived.read_secrets(&same).is_empty());
        assert_eq!(revived, environment);
        let other = |_: &str| Some("another".to_owned());
        assert_eq!(revived.read_secrets(&other), ["API_KEY", "NO_TOKEN"]);
        assert_eq!(revived.get("REGION"), Some("eu"), "only secrets are read again");
    }

    #[test]
    fn a_secret_is_taken_out_of_every_part_of_a_value() {
        let redactor = read(SECRET).redactor().unwrap();
        let value = serde_json::json!({"a": [format!("x {SECRET}")], SECRET: 1});
        let shown = redacted(value, &redactor).to_string();
        assert!(!shown.contains(SECRET) && shown.contains("[redacted]"), "{shown}");
        assert_eq!(RunEnvironment::default().redactor().map(|_| ()), None);
    }
}
