//! A step whose type is known when it runs (1.7).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StepKind;
use crate::expression::Template;

/// The field of a record that says which type a step with `dynamic_types` had.
pub(crate) const STEP_TYPE: &str = "step_type";

/// What names the type of a step, and what the step is for each type it may have. All of them are
/// checked at load, so that a run only chooses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dynamic {
    /// What names the type.
    pub(crate) named_by: Template,
    /// In the order of the document; at least one, none twice.
    pub(crate) candidates: Vec<Candidate>,
}

/// One type that the step may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Candidate {
    pub(crate) type_name: String,
    pub(crate) keys: CandidateKeys,
}

/// What the keys of the step are for one type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CandidateKeys {
    /// They make this step.
    Fit(Box<StepKind>),
    /// They make none, because of this.
    Faulty(Vec<String>),
}

impl Dynamic {
    /// What the keys of the step are for `type_name`, when it is one of its types.
    pub(crate) fn keys(&self, type_name: &str) -> Option<&CandidateKeys> {
        let found = self.candidates.iter().find(|candidate| candidate.type_name == type_name);
        found.map(|candidate| &candidate.keys)
    }

    /// Names of its types.
    pub(crate) fn type_names(&self) -> Vec<&str> {
        self.candidates.iter().map(|candidate| candidate.type_name.as_str()).collect()
    }
}

impl StepKind {
    /// What it may turn out to be: itself, unless its type is known only when it runs.
    pub(crate) fn possible(&self) -> Vec<&Self> {
        match self {
            Self::Dynamic(dynamic) => {
                let fit = dynamic.candidates.iter().filter_map(|candidate| match &candidate.keys {
                    CandidateKeys::Fit(kind) => Some(&**kind),
                    CandidateKeys::Faulty(_) => None,
                });
                fit.collect()
            }
            Self::Echo(_)
            | Self::SetVariable(_)
            | Self::Chat(_)
            | Self::FileOps(_)
            | Self::Pipeline(_) => vec![self],
        }
    }

    /// What it was when it left `record`. Bare values are left by `echo` steps.
    pub(crate) fn ran_as(&self, record: &Value) -> Option<&Self> {
        let Self::Dynamic(dynamic) = self else { return Some(self) };
        let named = record.get(STEP_TYPE).and_then(Value::as_str);
        match dynamic.keys(named?)? {
            CandidateKeys::Fit(kind) => Some(&**kind),
            CandidateKeys::Faulty(_) => None,
        }
    }
}
