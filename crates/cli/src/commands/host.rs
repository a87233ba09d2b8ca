//! Runs of a workflow that is a host program's own: only what has that workflow goes on with them, no command does.

use perennial::{DefinitionError, InvalidDefinition};

/// Whether that is why a run has no definition that can be read here.
pub(super) fn is_of_a_host(error: &DefinitionError) -> bool {
    matches!(error, DefinitionError::Invalid(InvalidDefinition::Json(_)))
}

/// What is said instead of a command.
pub(super) fn goes_on(workflow: &str) -> String {
    format!("it goes on in the program that has its workflow `{workflow}`; no command can do that")
}
