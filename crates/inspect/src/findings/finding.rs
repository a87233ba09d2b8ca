//! How a finding is put together.

use perennial_core::tree::{Finding, Severity, TreeNode};
use serde_json::{Map, Value};

/// A finding of the list in the specification.
pub(super) fn finding(
    (id, name): (&str, &str),
    severity: Severity,
    path: &str,
    message: impl Into<String>,
) -> Finding {
    Finding {
        id: id.to_owned(),
        name: name.to_owned(),
        severity,
        path: path.to_owned(),
        message: message.into(),
        evidence: Map::new(),
        help: None,
        command: None,
    }
}

/// What is chained on a finding.
pub(super) trait Told: Sized {
    fn evidence(self, name: &str, value: impl Into<Value>) -> Self;
    fn help(self, help: &str) -> Self;
    fn command(self, command: String) -> Self;
    /// The part of the tree it is about: in a dump, as a process shows nobody but itself its tree. FILE stands for
    /// where the dump is kept.
    fn look_at(self, node: &TreeNode) -> Self;
}

impl Told for Finding {
    fn evidence(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.evidence.insert(name.to_owned(), value.into());
        self
    }

    fn help(self, help: &str) -> Self {
        Self { help: Some(help.to_owned()), ..self }
    }

    fn command(self, command: String) -> Self {
        Self { command: Some(command), ..self }
    }

    fn look_at(self, node: &TreeNode) -> Self {
        let pattern = glob::Pattern::escape(&node.path);
        self.command(format!("tree --dump FILE --match {}", shell_word(&pattern)))
    }
}

/// Names the store where the command asks one; a `tree` asks a dump.
pub(super) fn in_store(finding: &mut Finding, store: &str) {
    if let Some(command) = finding.command.as_mut().filter(|command| !command.starts_with("tree "))
    {
        command.push_str(" --store ");
        command.push_str(&shell_word(store));
    }
}

/// `text` as a shell reads it back.
pub(super) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@%+=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
