//! `pipeline`: a whole pipeline as one step (2.16).

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use super::{Effects, Model, Ordered, Step, strongest};
use crate::expression::{Template, TemplateTree};

/// A pipeline inside a step, and what passes between it and the pipeline around it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nested {
    pub(crate) child: Child,
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
    /// Whether the child may be one of the pipelines around it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) allow_recursion: bool,
}

/// The pipeline in a step, as far as the definition of a run tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Child {
    /// Whole: such a definition needs nothing beside its bytes.
    Known(Box<Model>),
    /// One of the pipelines around the step, once more.
    Again(Again),
    /// In a file that is named when the step is opened.
    Later(Later),
}

/// A pipeline that stands around the step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Again {
    /// Which of them, from the innermost, which is 0: as the definition is written, and not as it runs.
    pub(crate) again: usize,
    /// Its name.
    pub(crate) name: String,
}

/// A file whose name has holes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Later {
    pub(crate) file: Template,
}

/// By the one key that only one of them has, so that what is wrong is told of the right one.
impl<'de> Deserialize<'de> for Child {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = if value.get("again").is_some() {
            serde_json::from_value(value).map(Self::Again)
        } else if value.get("steps").is_none() {
            serde_json::from_value(value).map(Self::Later)
        } else {
            serde_json::from_value(value).map(Self::Known)
        };
        read.map_err(de::Error::custom)
    }
}

impl Child {
    /// The pipeline, when it stands here.
    pub(crate) fn known(&self) -> Option<&Model> {
        match self {
            Self::Known(model) => Some(model),
            Self::Again(_) | Self::Later(_) => None,
        }
    }

    /// What it is called before it is opened.
    pub(crate) fn called(&self) -> &str {
        match self {
            Self::Known(model) => &model.name,
            Self::Again(again) => &again.name,
            Self::Later(later) => later.file.written(),
        }
    }

    /// What is said of a child whose steps do not stand here.
    pub(crate) fn unknown(&self) -> Option<String> {
        match self {
            Self::Known(_) => None,
            Self::Again(again) => Some(format!("`{}` once more", again.name)),
            Self::Later(later) => {
                Some(format!("file {}, known when the step is opened", later.file.written()))
            }
        }
    }
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
    /// What its steps touch together (YR-12): the strongest of it. What is not known may write.
    pub(crate) fn effects(&self) -> Option<Effects> {
        let Some(child) = self.child.known() else { return Some(Effects::Write) };
        fn collect(steps: &[Step], all: &mut Vec<Effects>) {
            for step in steps {
                all.extend(step.effects);
                step.bodies().for_each(|body| collect(&body.steps, all));
            }
        }
        let mut all = Vec::new();
        collect(&child.steps, &mut all);
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
