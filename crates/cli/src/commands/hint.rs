//! What helps next: commands that work as they are typed (CLI-4).

use std::path::{Path, PathBuf};

use perennial::{Store, StoreError, engine::Priority, records::RunError};

use crate::{
    args::{STORE_DEFAULT, is_of_environment},
    exit::{self, failed, failed_with},
};

/// The flags that a next command needs to meet the same store and the same providers.
#[derive(Clone, Debug)]
pub(super) struct Hint {
    /// None where it need not be said.
    store: Option<String>,
    config: Option<PathBuf>,
}

impl Hint {
    pub(super) fn new(store: &Store, config: Option<&Path>) -> Self {
        // However it is to be opened.
        let usual = Store::sqlite(STORE_DEFAULT).to_string();
        let is_usual = store.to_string() == usual || is_of_environment(store);
        let store = (!is_usual).then(|| store.to_string());
        Self { store, config: config.map(Path::to_owned) }
    }

    /// The command that continues `what`: a run, or `--all`.
    pub(super) fn resume(&self, what: &str) -> String {
        self.working(&format!("resume {what}"))
    }

    /// The command that lets a paused run go on.
    pub(super) fn unpause(&self, run: &str) -> String {
        self.working(&format!("unpause {run}"))
    }

    /// The command that sends what a step waits for.
    pub(super) fn send(&self, verb: &str, run: &str, name: &str) -> String {
        self.reading(&format!("{verb} {run} {} JSON", quoted(name)))
    }

    /// The command that says how soon a run comes.
    pub(super) fn priority(&self, run: &str, priority: Priority) -> String {
        self.reading(&format!("priority {run} {priority}"))
    }

    fn working(&self, verb: &str) -> String {
        let mut command = self.reading(verb);
        if let Some(config) = &self.config {
            command.push_str(" --config ");
            command.push_str(&quoted(&config.display().to_string()));
        }
        command
    }

    /// The command that shows a run.
    pub(super) fn show(&self, run: &str) -> String {
        self.reading(&format!("show {run}"))
    }

    /// The command of a node that works on what nobody works on.
    pub(super) fn worker(&self) -> String {
        self.working("worker")
    }

    /// The command that lists runs.
    pub(super) fn runs(&self) -> String {
        self.reading("runs")
    }

    fn reading(&self, verb: &str) -> String {
        match &self.store {
            None => format!("perennial {verb}"),
            Some(store) => format!("perennial {verb} --store {}", quoted(store)),
        }
    }
}

/// A refusal of the engine, with the command that helps.
pub(super) fn refused(error: &RunError, hint: &Hint) -> anyhow::Error {
    let code = exit::of_run_error(error);
    match error {
        RunError::Ended { run, .. } | RunError::Store(StoreError::KeyReused(run)) => {
            failed_with(code, error, hint.show(run.as_str()))
        }
        RunError::OwnedElsewhere { run, .. } | RunError::Undone { run, .. } => {
            failed_with(code, error, hint.show(run.as_str()))
        }
        RunError::NotRunnable(refused) => failed_with(code, error, hint.show(refused.run.as_str())),
        RunError::Store(StoreError::NotFound { what: "run", .. }) => {
            failed_with(code, error, hint.runs())
        }
        RunError::Store(_)
        | RunError::InvalidRunId(_)
        | RunError::Engine(_)
        | RunError::ShuttingDown
        | RunError::ShutDown { .. }
        | _ => failed(code, error),
    }
}

/// A refusal of the store, with the command that helps where the run is not there.
pub(super) fn named_or_helped(error: &StoreError, hint: &Hint) -> anyhow::Error {
    let code = exit::of_store(error);
    if let StoreError::NotFound { what: "stream", id } = error {
        return failed_with(code, format!("run `{id}` is not in the store"), hint.runs());
    }
    failed(code, error)
}

/// `word` as a shell reads it as one word.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_what_the_next_command_needs_and_no_more() {
        let usual = Hint::new(&Store::sqlite("perennial.db"), None);
        assert_eq!(usual.resume("a"), "perennial resume a");
        let other = Hint::new(&Store::sqlite("my runs.db"), Some(Path::new("p.toml")));
        let store = "--store 'sqlite:my runs.db'";
        assert_eq!(
            other.resume("--all"),
            format!("perennial resume --all {store} --config p.toml")
        );
        assert_eq!(other.show("a"), format!("perennial show a {store}"));
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
