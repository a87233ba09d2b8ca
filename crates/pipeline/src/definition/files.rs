//! What a definition says about files.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::expression::Template;

/// Directories and exports, as the document names them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DocumentFiles {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workspace_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint_dir: Option<String>,
    /// Present when exports are on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exports: Option<Exports>,
    /// `lenient.missing_files: at_use`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) missing_at_use: bool,
    /// `lenient.read_outside_roots`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) read_outside_roots: bool,
    /// `safety.allowed_paths`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) allowed_paths: Vec<String>,
    /// `safety.read_only_paths`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) read_only_paths: Vec<String>,
    /// `safety.restrict_file_access: false`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unrestricted: bool,
    /// `workspace_config.create_if_missing: false`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) workspace_exists: bool,
    /// `output_config.organize_by_step`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) by_step: bool,
}

/// When checkpoints are exported, and which are kept (1.4).
/// Whoever exports also has its unfinished runs resumed (YR-56), unless it says otherwise.
///
/// ```
/// # let text = b"workflow: {name: w, checkpoint_enabled: true, checkpoint_interval: 5, steps: [{name: a, type: echo, value: 1}]}";
/// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
/// let exports = pipeline.exports().expect("it exports");
/// assert_eq!((exports.interval, exports.keep_last), (5, Some(5))); // the default keeps five
/// # use std::time::Duration;
/// assert_eq!(exports.resumes_within(), Some(Duration::from_secs(24 * 60 * 60)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exports {
    /// After every so many ended steps.
    pub interval: u32,
    /// How many files with a time stamp are kept; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// Whether starting the document leaves its unfinished runs alone (`resume: explicit`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resume_explicitly: bool,
    /// How old a run may be that is resumed by starting the document, in milliseconds; 24 hours
    /// when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_resume_age_ms: Option<u64>,
}

/// How old a run may be that is resumed by starting its document, unless the document says so.
const RESUME_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl Exports {
    /// How old a run may be that is resumed by starting the document; none when none is.
    pub fn resumes_within(&self) -> Option<Duration> {
        let age = self.max_resume_age_ms.map_or(RESUME_AGE_MAX, Duration::from_millis);
        (!self.resume_explicitly).then_some(age)
    }
}

impl DocumentFiles {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `output_to_file`: a path below the outputs, with holes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct OutputFile(pub(crate) Template);

/// What a step touches (YR-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Effects {
    None,
    Read,
    Write,
}

/// The strongest of these, when any touches anything.
pub(crate) fn strongest(all: impl Iterator<Item = Effects>) -> Option<Effects> {
    let rank = |effects: &Effects| match effects {
        Effects::None => 0,
        Effects::Read => 1,
        Effects::Write => 2,
    };
    all.filter(|effects| *effects != Effects::None).max_by_key(rank)
}
