//! Workspaces of children: made when the child is opened, removed when it is closed (2.16).

use std::time::Duration;

use perennial_core::{Digest, failure::Failure, run::RunId};
use perennial_engine::AttemptCx;
use perennial_tools::files::{Base, Files, Scratch};

use super::{
    PipelineRun, RunDirectories,
    files::guarded_path,
    scope::Scope,
    tree::{Due, Frame},
};
use crate::definition::{Nested, Workspace};

/// Characters of a step path that are shown in the name of its scratch directory.
const SHOWN_MAX: usize = 40;
/// How long the removal of a directory may hold up the run.
const REMOVAL: Duration = Duration::from_secs(30);

impl PipelineRun {
    /// The workspace of the child of `due`, made; none when it is that of the run.
    ///
    /// # Errors
    ///
    /// When it is not allowed or cannot be made.
    pub(super) async fn make_workspace(
        &self,
        cx: &AttemptCx,
        due: &Due<'_>,
        nested: &Nested,
        scope: &Scope<'_>,
    ) -> Result<Option<String>, Failure> {
        match &nested.workspace {
            None => Ok(scope.workspace().map(str::to_owned)),
            Some(Workspace::At(template)) => {
                let path = guarded_path(template, scope)?;
                let make = move |access: &perennial_tools::files::Access<'_>| {
                    access.make_dir(&Base::Project, &path)?;
                    access.look(&Base::Project, &path)
                };
                let made = self.files_of(scope).await?.perform(make).await;
                let made = made.map_err(|error| error.failure())?;
                Ok(made.map(|made| made.path.to_string_lossy().into_owned()))
            }
            Some(Workspace::Scratch { .. }) => {
                let directories = self.directories()?;
                let scratch = scratch(directories, &cx.run, due)?;
                let unmoved = Files::check_unmoved(directories.roots(false)).await;
                unmoved.map_err(|error| error.failure())?;
                let made = Files::make_scratch(scratch).await.map_err(|error| error.failure())?;
                Ok(Some(made.to_string_lossy().into_owned()))
            }
        }
    }

    /// Removes the scratch directory of the child of `due`, if it has one that does not stay. One that is gone is
    /// fine; one that cannot be removed is warned of, as the child is through.
    pub(super) async fn remove_workspace(
        &self,
        cx: &AttemptCx,
        due: &Due<'_>,
        nested: &Nested,
        succeeded: bool,
    ) {
        let Some(Workspace::Scratch { after_success, after_error }) = &nested.workspace else {
            return;
        };
        let goes = if succeeded { *after_success } else { *after_error };
        let Ok(directories) = self.directories() else { return };
        let Ok(scratch) = scratch(directories, &cx.run, due) else { return };
        if !goes {
            return;
        }
        let path = scratch.path();
        let why = match tokio::time::timeout(REMOVAL, Files::remove_scratch(scratch)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it takes too long".to_owned(),
        };
        let name = nested.child.called();
        let text = format!(
            "nested pipeline '{name}': its workspace {} was not removed: {why}",
            path.display()
        );
        cx.warnings.push(&text);
    }
}

/// The scratch directory of the child of `due`. Its name follows from the run and the step path alone, so that a
/// resume finds it, and no other run has it.
fn scratch(directories: &RunDirectories, run: &RunId, due: &Due<'_>) -> Result<Scratch, Failure> {
    let scope = due.frames.last().map(Frame::place).unwrap_or_default();
    let path = scope.step(&due.step.name);
    let digest = Digest::of(path.as_str().as_bytes()).to_string();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let shown: String = path.as_str().chars().take(SHOWN_MAX).map(plain).collect();
    let name = format!("{run}-{shown}-{}", &digest[..12]);
    let root = directories.directories.nested_workspaces();
    Scratch::new(root, name).map_err(|error| error.failure())
}
