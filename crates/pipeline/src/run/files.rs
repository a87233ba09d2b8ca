//! The files of a run, and the value that a step leaves in one (YR-63).

use std::{collections::BTreeMap, path::PathBuf};

use perennial_core::{FailureClass, failure::Failure};
use perennial_tools::files::{Base, Directories, FileError, Files, RootsSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PipelineRun, failure::stopped, scope::Scope};
use crate::{
    definition::{OutputFile, Step, StepKind},
    expression::{Expression, Place, Standing, Template, evaluate, pretty, to_text},
};

/// Where a run works and what it may touch; recorded with it, so that a resume works there as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDirectories {
    /// Its directories.
    #[serde(flatten)]
    pub directories: Directories,
    /// Directories of its documents, absolute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<PathBuf>,
    /// Further places to read and write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<PathBuf>,
    /// Places that are never written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_only: Vec<PathBuf>,
    /// Where its directories led when the run began. What was put in their place since is not followed (YR-71).
    /// Older versions have not recorded it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub led: BTreeMap<PathBuf, PathBuf>,
}

impl RunDirectories {
    /// The roots of a run with these directories.
    pub fn roots(&self, read_anywhere: bool) -> RootsSpec {
        let mut spec = RootsSpec::new(self.directories.clone());
        spec.documents.clone_from(&self.documents);
        spec.allowed.clone_from(&self.allowed);
        spec.read_only.clone_from(&self.read_only);
        spec.read_anywhere = read_anywhere;
        spec.led.clone_from(&self.led);
        spec
    }

    /// Notes where directories lead that were not noted before.
    ///
    /// # Errors
    ///
    /// When a link cannot be read, or what it leads to cannot be recorded.
    pub fn note_leads(&mut self) -> Result<(), FileError> {
        for (path, leads) in self.roots(false).leads()? {
            self.led.entry(path).or_insert(leads);
        }
        self.check_names()
    }

    /// Forgets the directories of its documents, and where they led: those of a corrected document take their place.
    pub fn forget_documents(&mut self) {
        let documents = std::mem::take(&mut self.documents);
        let Directories { project_root, workspace, outputs, checkpoints, nested_workspaces: _ } =
            &self.directories;
        let own = [project_root, workspace, outputs, checkpoints];
        let stays = |path: &PathBuf| own.contains(&path) || self.allowed.contains(path);
        self.led.retain(|path, _| stays(path) || !documents.contains(path));
    }

    /// # Errors
    ///
    /// The first directory whose name cannot be recorded.
    pub fn check_names(&self) -> Result<(), FileError> {
        let Directories { project_root, workspace, outputs, checkpoints, nested_workspaces } =
            &self.directories;
        let own = [project_root, workspace, outputs, checkpoints];
        let own = own.into_iter().chain(nested_workspaces);
        let lists = self.documents.iter().chain(&self.allowed).chain(&self.read_only);
        let all = own.chain(lists).chain(self.led.keys()).chain(self.led.values());
        match all.into_iter().find(|path| path.to_str().is_none()) {
            Some(path) => Err(FileError::Name { path: path.clone() }),
            None => Ok(()),
        }
    }

    /// Whether a run of these works in the same places as one of `other`.
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.directories == other.directories && self.allowed == other.allowed
    }
}

impl PipelineRun {
    /// The files of the run. Its directories are made and opened by whoever asks first in this process.
    ///
    /// # Errors
    ///
    /// When the run has no directories, or they cannot be made.
    pub(super) async fn files(&self) -> Result<&Files, Failure> {
        self.files.get_or_try_init(|| self.open_files(None)).await
    }

    /// The files that a step of this scope sees: those of the run, with the workspace of the scope.
    ///
    /// # Errors
    ///
    /// As [`files`](Self::files).
    pub(super) async fn files_of(&self, scope: &Scope<'_>) -> Result<Files, Failure> {
        match scope.workspace() {
            None => self.files().await.cloned(),
            workspace => self.open_files(workspace).await,
        }
    }

    async fn open_files(&self, workspace: Option<&str>) -> Result<Files, Failure> {
        let mut spec = self.directories()?.roots(self.pipeline.model.files.read_outside_roots);
        if let Some(workspace) = workspace {
            spec.directories.workspace = workspace.into();
            // It was recorded without links.
            if !spec.led.is_empty() {
                spec.led.insert(workspace.into(), workspace.into());
            }
        }
        Files::make(spec).await.map_err(|error| error.failure())
    }

    /// Where the run works.
    ///
    /// # Errors
    ///
    /// When nobody said so.
    pub(super) fn directories(&self) -> Result<&RunDirectories, Failure> {
        self.settings.directories.as_ref().ok_or_else(|| {
            let text = "the run was started without directories, and this step works on files";
            Failure::new(FailureClass::Io, "PL610", text)
        })
    }

    /// Leaves the value of `step` in its file, and says in its record which one. What is written follows from the
    /// record and the definition alone: an attempt that is repeated writes the same, or finds it there.
    ///
    /// # Errors
    ///
    /// When the name has no value or is not allowed, or the file cannot be written.
    pub(super) async fn leave(
        &self,
        step: &Step,
        file: &OutputFile,
        mut record: Value,
        scope: &Scope<'_>,
    ) -> Result<Value, Failure> {
        let mut path = file.path(scope)?;
        if self.pipeline.model.files.by_step && !std::path::Path::new(&path).is_absolute() {
            path = format!("{}/{path}", directory_name(&step.name));
        }
        let is_json = std::path::Path::new(&path)
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let text = match (&step.kind, &record["text"]) {
            (StepKind::Chat(_), Value::String(text)) if !is_json => text.clone(),
            _ => pretty(&record),
        };
        let files = self.files_of(scope).await?;
        let written = files.write_atomic(Base::Outputs, &path, text.into_bytes()).await;
        written.map_err(|error| error.failure())?;
        // A bare value has no place for it.
        if let (
            Value::Object(map),
            StepKind::Chat(_) | StepKind::SetVariable(_) | StepKind::FileOps(_),
        ) = (&mut record, &step.kind)
        {
            map.insert("output_file".to_owned(), path.into());
        }
        Ok(record)
    }
}

/// The name of the directory of the output files of a step.
fn directory_name(step: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' };
    step.chars().map(plain).collect()
}

/// Functions that make any text fit for a name.
const HARMLESS: [&str; 2] = ["slug", "path"];

impl OutputFile {
    fn path(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        guarded_path(&self.0, scope)
    }
}

/// The path `template`, with values in its holes. A value that a model, or a step, may have made up
/// must not choose directories (YT-34).
pub(super) fn guarded_path(template: &Template, scope: &Scope<'_>) -> Result<String, Failure> {
    for hole in template.holes() {
        let value = evaluate(hole, scope, Place::Template).map_err(|stop| stopped(&stop))?;
        let text = to_text(&value);
        let splits = text.contains(['/', '\\']) || matches!(text.trim(), "." | "..");
        if splits && !is_harmless(hole) && !is_trusted(hole, scope) {
            let text = format!(
                "the value {text:?} in the file name `{}` has a path separator: pass it through \
                     `| slug` or `| path`",
                template.written()
            );
            return Err(Failure::new(FailureClass::Path, "PL609", text));
        }
    }
    let path = template.text(scope).map_err(|stop| stopped(&stop))?;
    discreet(&path, scope)?;
    Ok(path)
}

/// Refuses a name that shows a secret: names of files are seen by everybody who lists them (YF-42).
pub(super) fn discreet(path: &str, scope: &Scope<'_>) -> Result<(), Failure> {
    if scope.finds_secret(path) {
        let text = "the name of a file must not hold a secret, or what is made of one";
        return Err(Failure::new(FailureClass::Path, "PL609", text));
    }
    Ok(())
}

/// Whether the last thing done to the value makes it harmless.
fn is_harmless(hole: &Expression) -> bool {
    let last = if let Expression::Piped { calls, .. } = hole {
        calls.last()
    } else if let Expression::Call(call) = hole {
        Some(call)
    } else {
        None
    };
    last.is_some_and(|call| HARMLESS.contains(&call.function.name))
}

/// Whether all it is made of comes from who started the run or wrote the document.
fn is_trusted(hole: &Expression, scope: &Scope<'_>) -> bool {
    let mut trusted = true;
    hole.paths(Standing::default(), &mut |path, _| trusted &= scope.is_given(path));
    trusted
}
