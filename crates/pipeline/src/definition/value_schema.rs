//! What the value of a step has to satisfy (1.7).

use serde::{Deserialize, Serialize};

use super::Ordered;

/// `output_schema` and `max_repairs` of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ValueSchema {
    /// The name by which the document calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The schema itself.
    pub(crate) schema: Ordered,
    /// How often a model may correct its reply.
    #[serde(default = "usual_repairs", skip_serializing_if = "is_usual")]
    pub(crate) max_repairs: u32,
}

/// Repairs of a step that names no number (SO-1).
pub(crate) const REPAIRS: u32 = 2;

fn usual_repairs() -> u32 {
    REPAIRS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_usual(repairs: &u32) -> bool {
    *repairs == REPAIRS
}
