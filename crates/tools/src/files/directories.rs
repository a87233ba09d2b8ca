//! Where a run works (YR-74): chosen by the strongest that speaks, made absolute, created at the start.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FileError;

/// The directories of a run, absolute. They are recorded with it: a resume works in the same ones.
///
/// ```
/// use perennial_tools::files::ChosenDirectories;
/// use std::path::Path;
///
/// let directories = ChosenDirectories::default().resolve(Path::new("/srv/letters"));
/// assert_eq!(directories.outputs, Path::new("/srv/letters/outputs"));
/// assert_eq!(directories.checkpoints, Path::new("/srv/letters/checkpoints"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directories {
    /// Where relative paths start.
    pub project_root: PathBuf,
    /// Files that steps work on.
    pub workspace: PathBuf,
    /// What steps leave behind by `output_to_file`.
    pub outputs: PathBuf,
    /// Exports.
    pub checkpoints: PathBuf,
    /// Where fresh workspaces of children are made; `nested_workspaces` below the project root in what older versions
    /// have recorded. It is made when the first of them is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nested_workspaces: Option<PathBuf>,
}

/// What one source says about directories; the sources are laid over each other.
///
/// ```
/// use perennial_tools::files::ChosenDirectories;
/// use std::path::Path;
///
/// let chosen = ChosenDirectories { outputs: Some("results".into()), ..Default::default() };
/// let directories = chosen.resolve(Path::new("/srv/letters"));
/// assert_eq!(directories.outputs, Path::new("/srv/letters/results"));
/// assert_eq!(directories.workspace, Path::new("/srv/letters/workspace")); // the default
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChosenDirectories {
    /// Where relative paths start.
    pub project_root: Option<PathBuf>,
    /// Files that steps work on.
    pub workspace: Option<PathBuf>,
    /// What steps leave behind.
    pub outputs: Option<PathBuf>,
    /// Exports.
    pub checkpoints: Option<PathBuf>,
    /// Where fresh workspaces of children are made.
    pub nested_workspaces: Option<PathBuf>,
}

/// The names of environment variables, strongest first.
#[derive(Debug)]
pub struct DirectoryNames;

impl DirectoryNames {
    /// Of the workspace.
    pub const WORKSPACE: [&str; 2] = ["PERENNIAL_WORKSPACE_DIR", "PIPELINE_WORKSPACE_DIR"];
    /// Of the outputs.
    pub const OUTPUTS: [&str; 2] = ["PERENNIAL_OUTPUT_DIR", "PIPELINE_OUTPUT_DIR"];
    /// Of the checkpoints.
    pub const CHECKPOINTS: [&str; 2] = ["PERENNIAL_CHECKPOINT_DIR", "PIPELINE_CHECKPOINT_DIR"];
    /// Of the fresh workspaces of children.
    pub const NESTED_WORKSPACES: [&str; 2] =
        ["PERENNIAL_NESTED_WORKSPACE_ROOT", "PIPELINE_NESTED_WORKSPACE_ROOT"];
    /// Of the project root.
    pub const PROJECT_ROOT: [&str; 1] = ["PERENNIAL_PROJECT_ROOT"];
}

impl ChosenDirectories {
    /// What an environment says; an empty value is none.
    ///
    /// ```
    /// use perennial_tools::files::ChosenDirectories;
    /// use std::path::Path;
    ///
    /// let set = |name: &str| (name == "PERENNIAL_OUTPUT_DIR").then(|| "results".to_owned());
    /// let chosen = ChosenDirectories::from_environment(set);
    /// assert_eq!(chosen.outputs.as_deref(), Some(Path::new("results")));
    /// assert_eq!(chosen.workspace, None);
    /// ```
    pub fn from_environment(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| {
            let given = names.iter().filter_map(|name| lookup(name));
            given.filter(|value| !value.is_empty()).map(PathBuf::from).next()
        };
        Self {
            project_root: first(&DirectoryNames::PROJECT_ROOT),
            workspace: first(&DirectoryNames::WORKSPACE),
            outputs: first(&DirectoryNames::OUTPUTS),
            checkpoints: first(&DirectoryNames::CHECKPOINTS),
            nested_workspaces: first(&DirectoryNames::NESTED_WORKSPACES),
        }
    }

    /// This, and where it is silent, `weaker`.
    ///
    /// ```
    /// use perennial_tools::files::ChosenDirectories;
    ///
    /// let outputs = |name: &str| ChosenDirectories { outputs: Some(name.into()), ..Default::default() };
    /// assert_eq!(outputs("strong").over(outputs("weak")), outputs("strong"));
    /// assert_eq!(ChosenDirectories::default().over(outputs("weak")), outputs("weak"));
    /// ```
    #[must_use]
    pub fn over(self, weaker: Self) -> Self {
        Self {
            project_root: self.project_root.or(weaker.project_root),
            workspace: self.workspace.or(weaker.workspace),
            outputs: self.outputs.or(weaker.outputs),
            checkpoints: self.checkpoints.or(weaker.checkpoints),
            nested_workspaces: self.nested_workspaces.or(weaker.nested_workspaces),
        }
    }

    /// The directories of a run: relative ones lie below the project root, and that below `cwd`.
    ///
    /// ```
    /// use perennial_tools::files::ChosenDirectories;
    /// use std::path::Path;
    ///
    /// let chosen = ChosenDirectories { project_root: Some("letters".into()), ..Default::default() };
    /// let directories = chosen.resolve(Path::new("/srv"));
    /// assert_eq!(directories.workspace, Path::new("/srv/letters/workspace"));
    /// ```
    pub fn resolve(self, cwd: &Path) -> Directories {
        let project_root = absolute(cwd, &self.project_root.unwrap_or_default());
        let below = |chosen: Option<PathBuf>, usual: &str| {
            absolute(&project_root, &chosen.unwrap_or_else(|| usual.into()))
        };
        Directories {
            workspace: below(self.workspace, "workspace"),
            outputs: below(self.outputs, "outputs"),
            checkpoints: below(self.checkpoints, "checkpoints"),
            nested_workspaces: self.nested_workspaces.map(|root| absolute(&project_root, &root)),
            project_root,
        }
    }
}

impl Directories {
    /// Where fresh workspaces of children are made.
    pub fn nested_workspaces(&self) -> PathBuf {
        let usual = || self.project_root.join("nested_workspaces");
        self.nested_workspaces.clone().unwrap_or_else(usual)
    }

    /// Makes those that are not there, with their parents. Blocks for as long as the file system takes.
    ///
    /// # Errors
    ///
    /// The first that cannot be made.
    pub fn make(&self) -> Result<(), FileError> {
        for path in [&self.workspace, &self.outputs, &self.checkpoints] {
            std::fs::create_dir_all(path)
                .map_err(|source| FileError::Directory { path: path.clone(), source })?;
        }
        Ok(())
    }
}

/// `path` below `base`, without `.`; `..` stays, as what it means depends on links.
pub(super) fn absolute(base: &Path, path: &Path) -> PathBuf {
    base.join(path).components().filter(|part| *part != Component::CurDir).collect()
}
