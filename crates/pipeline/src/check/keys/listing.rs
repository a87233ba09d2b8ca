//! The step types and their keys for people, read from the key table.

use super::{Key, STEP_TYPES, Status, Variant};

/// A step type of the language.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StepTypeEntry {
    /// Its name.
    #[serde(rename = "type")]
    pub name: &'static str,
    /// One line about it.
    pub does: &'static str,
    /// Whether this version runs it.
    pub here: bool,
    /// The keys that this version honours, its own before those of all steps.
    pub keys: Vec<KeyEntry>,
}

/// A key of a step.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KeyEntry {
    /// Its name.
    pub key: &'static str,
    /// One line about it.
    pub does: &'static str,
    /// What holds without it, as JSON.
    pub default: Option<&'static str>,
    /// Whether a step without it is faulty.
    pub required: bool,
}

/// The step types, those that this version runs first.
pub fn step_types() -> Vec<StepTypeEntry> {
    let (here, later): (Vec<_>, Vec<_>) = STEP_TYPES.iter().partition(|variant| !variant.later);
    here.into_iter().chain(later).map(entry).collect()
}

fn entry(variant: &Variant) -> StepTypeEntry {
    let keys = variant.tables.iter().flat_map(|table| table.keys);
    let honoured = |key: &&Key| matches!(key.status, Status::Here | Status::Advisory);
    let key = |key: &Key| KeyEntry {
        key: key.name,
        does: key.doc,
        default: key.default,
        required: key.required,
    };
    StepTypeEntry {
        name: variant.name,
        does: variant.doc,
        here: !variant.later,
        keys: keys.filter(honoured).map(key).collect(),
    }
}
