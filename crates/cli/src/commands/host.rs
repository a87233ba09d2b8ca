//! Runs of a workflow that is a host program's own: only what has that workflow goes on with them, no command does.

use perennial::{
    DefinitionError, InvalidDefinition, RunId, RunState, Runtime,
    records::{RunRecord, RunView},
};

use super::{hint::Hint, show::stages};
use crate::exit::{self, failed_with};

/// Whether that is why a run has no definition that can be read here.
pub(super) fn is_of_a_host(error: &DefinitionError) -> bool {
    matches!(error, DefinitionError::Invalid(InvalidDefinition::Json(_)))
}

/// Whether `run` is one of those.
pub(super) async fn has(runtime: &Runtime, run: &RunId) -> bool {
    runtime.pipelines().definition(run).await.is_err_and(|error| is_of_a_host(&error))
}

/// What is said instead of a command.
pub(super) fn goes_on(workflow: &str) -> String {
    format!("it goes on in the program that has its workflow `{workflow}`; no command can do that")
}

/// Whether what a run had done was undone before it ended, or is to be.
pub(super) fn was_undone(run: &RunRecord) -> bool {
    run.failure.as_ref().is_some_and(|failure| failure.get("compensation").is_some())
}

/// The refusal of a command that would go on with it, or open a further round of it.
pub(super) fn refused(view: &RunView, hint: &Hint) -> anyhow::Error {
    let RunRecord { run, workflow, state, .. } = &view.run;
    let text = if *state == RunState::Succeeded {
        format!("run {run} has ended ({state}): nothing of it is left to be made")
    } else if state.is_terminal() && was_undone(&view.run) {
        format!(
            "what run {run} had done was undone before it ended ({state}): nothing of it can be made again; start a \
             new run in the program that has its workflow `{workflow}`"
        )
    } else if state.is_terminal() {
        let how = match stages::is_staged(view) {
            true => "it is in stages: a further round of it is opened",
            false => "a further round of it is opened",
        };
        let with = if stages::is_staged(view) { "RunHandle::retry" } else { "Runs::reopen" };
        format!(
            "run {run} has ended ({state}); {how} by the program that has its workflow `{workflow}`, with `{with}`; \
             no command can do that"
        )
    } else {
        format!(
            "run {run} is {state}, and of a host program: it goes on when the program that has its workflow \
             `{workflow}`, registered with `Builder::staged` or `Builder::workflow`, is started on this store; no \
             command can do that"
        )
    };
    failed_with(exit::USAGE, text, hint.show(run.as_str()))
}
