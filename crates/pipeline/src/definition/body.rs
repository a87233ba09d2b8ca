//! Steps inside of a step that see what stands around it: a handler (4.4).

use serde::{Deserialize, Serialize};

use super::Step;

/// A list of steps that belongs to a step. Its names are a scope of their own; beside them its steps see
/// everything that is visible at the step itself. A child, which sees nothing of its parent, is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Body {
    /// In the order they run in; at least one.
    pub(crate) steps: Vec<Step>,
}

impl Step {
    /// The lists of steps that stand in this one, beside those of a child.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &Body> {
        self.handler.iter()
    }
}
