//! `pipeline`: a whole pipeline as one step (2.16).

use serde::{Deserialize, Serialize};

use super::{Effects, Model, Ordered, Step, strongest};
use crate::expression::{Template, TemplateTree};

/// A pipeline inside a step, and what passes between it and the pipeline around it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nested {
    /// The child, whole: a definition needs nothing beside its bytes.
    pub(crate) child: Box<Model>,
    /// What the child is given, in the terms of the parent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) inputs: Vec<(String, TemplateTree)>,
    /// What the parent gets; nothing named is everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) outputs: Vec<Output>,
    #[serde(default, skip_serializing_if = "Prune::is_nothing")]
    pub(crate) prune: Prune,
    /// Replies to calls of its steps, by their names; in a run that is mocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mocks: Option<Ordered>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) inherit_context: bool,
    /// Deadline of one round through the child.
    pub(crate) within_ms: u64,
    /// How deep the child may stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_depth: Option<TemplateTree>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_total_steps: Option<u32>,
    pub(crate) memory_limit_mb: u32,
    /// From where on a limit is warned of; four fifths of it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warn_at_depth: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory_warning_mb: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_warning_ms: Option<u64>,
    /// The result when the child fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fallback: Option<Ordered>,
    /// Whether a tolerated failure leaves its whole error.
    pub(crate) capture_errors: bool,
    #[serde(default, skip_serializing_if = "OnTimeout::is_graceful")]
    pub(crate) on_timeout: OnTimeout,
    /// Where the child works; where its parent does when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) workspace: Option<Workspace>,
}

/// A workspace of a child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Workspace {
    /// A directory that stays.
    At(Template),
    /// A fresh directory, and when it is removed.
    Scratch { after_success: bool, after_error: bool },
}

impl Nested {
    /// What its steps touch together (YR-12): the strongest of it.
    pub(crate) fn effects(&self) -> Option<Effects> {
        fn collect(steps: &[Step], all: &mut Vec<Effects>) {
            for step in steps {
                all.extend(step.effects);
                step.bodies().for_each(|body| collect(&body.steps, all));
            }
        }
        let mut all = Vec::new();
        collect(&self.child.steps, &mut all);
        strongest(all.into_iter())
    }
}

/// Which of the outputs the parent gets after all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prune {
    /// The only ones; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) remove: Vec<String>,
}

impl Prune {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the output `name` is kept. What is both to be kept and to be left out is left out.
    pub(crate) fn keeps(&self, name: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|other| other == name);
        self.keep.as_deref().is_none_or(named) && !named(&self.remove)
    }
}

/// One output of a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Output {
    /// The value of a step under its name.
    Step(String),
    /// What a path leads to, under another name.
    Path { path: String, name: String },
}

/// What becomes of a child whose time is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnTimeout {
    /// It fails, and what it has so far is kept with the failure.
    #[default]
    Graceful,
    /// It fails.
    Immediate,
    /// It is gone through again, as often as its retries allow.
    Retry,
}

impl OnTimeout {
    fn is_graceful(&self) -> bool {
        *self == Self::Graceful
    }
}

impl Output {
    /// Its name in the outputs.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Step(name) | Self::Path { name, .. } => name,
        }
    }
}
