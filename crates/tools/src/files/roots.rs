//! Which places are allowed, and the way from a path to one of them.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

use cap_fs_ext::{DirExt, MetadataExt};
use cap_std::{ambient_authority, fs::Dir};

use super::{Directories, FileError, directories::absolute};

/// Links on one way; the system's own limit.
const LINKS_MAX: usize = 40;

/// What relative paths are relative to (YR-70).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Base {
    /// Files that a document names: the project root, then the directory of that document.
    Document(PathBuf),
    /// The project root.
    Project,
    /// What steps read: the workspace, then the project root.
    Reads,
    /// What steps write.
    Workspace,
    /// What steps leave behind.
    Outputs,
    /// Exports.
    Checkpoints,
}

/// What an operation does to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    Read,
    Write,
}

/// What the roots of a run are made of.
///
/// ```
/// use perennial_tools::files::{ChosenDirectories, RootsSpec};
/// use std::path::Path;
///
/// let directories = ChosenDirectories::default().resolve(Path::new("/srv/letters"));
/// let spec = RootsSpec { allowed: vec!["/srv/shared".into()], ..RootsSpec::new(directories) };
/// assert!(!spec.read_anywhere);
/// ```
#[derive(Clone, Debug)]
pub struct RootsSpec {
    /// The directories of the run.
    pub directories: Directories,
    /// Directories of its documents; read only.
    pub documents: Vec<PathBuf>,
    /// Further places to read and write.
    pub allowed: Vec<PathBuf>,
    /// Places never to write, though they lie in a root.
    pub read_only: Vec<PathBuf>,
    /// Reads may leave the roots; writes never.
    pub read_anywhere: bool,
    /// Where directories led when the run began. One that leads elsewhere is not opened.
    pub led: BTreeMap<PathBuf, PathBuf>,
}

impl RootsSpec {
    /// The roots of a run that works in `directories`.
    pub fn new(directories: Directories) -> Self {
        Self {
            directories,
            documents: Vec::new(),
            allowed: Vec::new(),
            read_only: Vec::new(),
            read_anywhere: false,
            led: BTreeMap::new(),
        }
    }

    /// Where the directories of the run lead now, those included that are not there yet. What lies in the workspace
    /// of a child is asked about when it is made.
    ///
    /// # Errors
    ///
    /// When a link cannot be read.
    pub fn leads(&self) -> Result<BTreeMap<PathBuf, PathBuf>, FileError> {
        let Directories { project_root, workspace, outputs, checkpoints, nested_workspaces: _ } =
            &self.directories;
        let nested = self.directories.nested_workspaces();
        let own = [project_root, workspace, outputs, checkpoints, &nested].into_iter().cloned();
        let allowed = self.allowed.iter().map(|path| absolute(project_root, path));
        let each = own.chain(self.documents.iter().cloned()).chain(allowed);
        each.map(|path| Ok((path.clone(), resolve(&path)?))).collect()
    }

    /// # Errors
    ///
    /// The first directory that leads elsewhere than it did.
    pub(super) fn check_unmoved(&self) -> Result<(), FileError> {
        for (path, led) in &self.led {
            unmoved(path, led)?;
        }
        Ok(())
    }
}

/// # Errors
///
/// When `path` does not lead to `led`.
fn unmoved(path: &Path, led: &Path) -> Result<(), FileError> {
    let leads = resolve(path)?;
    if leads == led {
        return Ok(());
    }
    Err(FileError::Moved { path: path.to_owned(), led: led.to_owned(), leads })
}

/// The allowed places of a run, each held by a handle.
#[derive(Debug)]
pub struct Roots {
    directories: Directories,
    roots: Vec<Root>,
    read_only: Vec<PathBuf>,
}

/// One allowed place.
#[derive(Debug)]
struct Root {
    /// Without links.
    path: PathBuf,
    /// None when it was not there: nothing is below it then.
    dir: Option<Dir>,
    writable: bool,
    /// A directory the run itself works in.
    is_base: bool,
}

/// A path that was resolved and allowed.
#[derive(Debug)]
pub(super) struct Place<'r> {
    root: &'r Root,
    shown: String,
    /// Absolute, without links.
    pub(super) path: PathBuf,
    /// The other file that the path could have meant.
    pub(super) shadowed: Option<PathBuf>,
}

/// A name in a directory that is held.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) dir: Dir,
    pub(super) name: OsString,
}

impl Roots {
    /// Opens all roots.
    pub(super) fn open(spec: RootsSpec) -> Result<Self, FileError> {
        let RootsSpec { directories, documents, allowed, read_only, read_anywhere, led } = spec;
        let own = [&directories.workspace, &directories.outputs, &directories.checkpoints];
        let mut roots = vec![Root::open(&directories.project_root, false, true)?];
        for path in own {
            roots.push(Root::open(path, true, true)?);
        }
        for path in &documents {
            roots.push(Root::open(path, false, false)?);
        }
        for path in &allowed {
            roots.push(Root::open(&absolute(&directories.project_root, path), true, false)?);
        }
        if read_anywhere {
            let top = directories.project_root.ancestors().last().unwrap_or(Path::new("/"));
            roots.push(Root::open(top, false, false)?);
        }
        let read_only = read_only.iter().map(|path| absolute(&directories.project_root, path));
        let read_only = read_only.map(|path| resolve(&path)).collect::<Result<_, _>>()?;
        // Once more, now that they are held: what was exchanged in between is not used.
        for (path, led) in &led {
            unmoved(path, led)?;
        }
        Ok(Self { directories, roots, read_only })
    }

    pub(super) fn directories(&self) -> &Directories {
        &self.directories
    }

    /// The allowed place that `path` leads to.
    ///
    /// # Errors
    ///
    /// When it is no path, or leads out of the roots.
    pub(super) fn place(
        &self,
        base: &Base,
        path: &str,
        intent: Intent,
    ) -> Result<Place<'_>, FileError> {
        if path.is_empty() || path.contains('\0') {
            return Err(FileError::NoPath { shown: path.to_owned() });
        }
        let mut candidates = self.candidates(base, Path::new(path)).into_iter();
        let first = resolve(&candidates.next().unwrap_or_default())?;
        let mut chosen = first;
        let mut shadowed = None;
        if let Some(second) = candidates.next() {
            let second = resolve(&second)?;
            let exists = |path: &Path| fs::symlink_metadata(path).is_ok();
            match (exists(&chosen), exists(&second)) {
                (true, true) if second != chosen => shadowed = Some(second),
                (false, true) => chosen = second,
                (true, _) | (false, false) => (),
            }
        }
        let outside = || FileError::Outside { shown: path.to_owned(), resolved: chosen.clone() };
        let allows = |root: &&Root| {
            chosen.starts_with(&root.path) && (root.writable || intent == Intent::Read)
        };
        let nearest = |root: &&Root| root.path.components().count();
        let root = self.roots.iter().filter(allows).max_by_key(nearest).ok_or_else(outside)?;
        if intent == Intent::Write && self.read_only.iter().any(|path| chosen.starts_with(path)) {
            return Err(FileError::ReadOnly { shown: path.to_owned(), resolved: chosen });
        }
        Ok(Place { root, shown: path.to_owned(), path: chosen, shadowed })
    }

    /// Whether `path` is a directory the run works in, or has one below it.
    pub(super) fn holds_a_base(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| root.is_base && root.path.starts_with(path))
    }

    /// Whether something below `path` is never written.
    pub(super) fn holds_read_only(&self, path: &Path) -> bool {
        self.read_only.iter().any(|kept| kept.starts_with(path))
    }

    /// Where `path` may lie, the first choice first.
    fn candidates(&self, base: &Base, path: &Path) -> Vec<PathBuf> {
        let Directories { project_root, workspace, outputs, checkpoints, nested_workspaces: _ } =
            &self.directories;
        if path.is_absolute() {
            return vec![path.to_owned()];
        }
        let below = |directory: &Path| self.below(directory, path);
        match base {
            Base::Document(document) => vec![project_root.join(path), document.join(path)],
            Base::Project => vec![project_root.join(path)],
            Base::Reads => vec![below(workspace), project_root.join(path)],
            Base::Workspace => vec![below(workspace)],
            Base::Outputs => vec![below(outputs)],
            Base::Checkpoints => vec![below(checkpoints)],
        }
    }

    /// `path` below `directory`; a beginning that names the directory itself is not doubled.
    fn below(&self, directory: &Path, path: &Path) -> PathBuf {
        let plain: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        let named = directory.strip_prefix(&self.directories.project_root).ok();
        let last = directory.file_name().map(Path::new);
        let rest = [named, last].into_iter().flatten().find_map(|name| {
            (!name.as_os_str().is_empty()).then(|| plain.strip_prefix(name).ok()).flatten()
        });
        absolute(directory, rest.unwrap_or(&plain))
    }
}

impl Root {
    fn open(path: &Path, writable: bool, is_base: bool) -> Result<Self, FileError> {
        let path = resolve(path)?;
        let dir = match Dir::open_ambient_dir(&path, ambient_authority()) {
            Ok(dir) => Some(dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_base => None,
            Err(source) => return Err(FileError::Directory { path, source }),
        };
        Ok(Self { path, dir, writable, is_base })
    }

    /// The handle, when the directory is still at its place.
    fn dir(&self, shown: &str) -> Result<&Dir, FileError> {
        let missing =
            || FileError::io("open", &self.path, io::Error::from(io::ErrorKind::NotFound));
        let dir = self.dir.as_ref().ok_or_else(missing)?;
        let changed = || FileError::Changed { shown: shown.to_owned(), changed: self.path.clone() };
        let now = Dir::open_ambient_dir(&self.path, ambient_authority()).map_err(|_| changed())?;
        let identity = |dir: &Dir| {
            let found =
                dir.dir_metadata().map_err(|error| FileError::io("open", &self.path, error))?;
            Ok::<_, FileError>((found.dev(), found.ino()))
        };
        if identity(dir)? == identity(&now)? { Ok(dir) } else { Err(changed()) }
    }
}

impl Place<'_> {
    /// It is no longer what it was when it was resolved.
    pub(super) fn changed(&self) -> FileError {
        FileError::Changed { shown: self.shown.clone(), changed: self.path.clone() }
    }

    /// Whether it is the root itself.
    pub(super) fn is_root(&self) -> bool {
        self.path == self.root.path
    }

    /// The directory it lies in, held, and its name there. `makes` says whether missing directories are made.
    ///
    /// # Errors
    ///
    /// When it is a root itself, or a directory on the way is missing or no longer what it was.
    pub(super) fn spot(&self, makes: bool) -> Result<Spot, FileError> {
        let within = self.path.strip_prefix(&self.root.path).unwrap_or(&self.path);
        let (Some(parent), Some(name)) = (within.parent(), within.file_name()) else {
            return Err(FileError::Base { shown: self.shown.clone() });
        };
        Ok(Spot { dir: self.walk(parent, makes)?, name: name.to_owned() })
    }

    /// It as a directory, held.
    ///
    /// # Errors
    ///
    /// When it, or a directory on the way, is missing or no longer what it was.
    pub(super) fn dir(&self, makes: bool) -> Result<Dir, FileError> {
        let within = self.path.strip_prefix(&self.root.path).unwrap_or(&self.path);
        self.walk(within, makes)
    }

    /// Goes down from the root without following a link: the path has none, so one that is met was put there
    /// since.
    fn walk(&self, within: &Path, makes: bool) -> Result<Dir, FileError> {
        let mut at = self.root.path.clone();
        let io = |at: &Path, error| FileError::io("open", at, error);
        let mut dir = self.root.dir(&self.shown)?.try_clone().map_err(|error| io(&at, error))?;
        for part in within.components() {
            at.push(part);
            let part = Path::new(part.as_os_str());
            let mut opened = dir.open_dir_nofollow(part);
            if makes && opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            {
                match dir.create_dir(part) {
                    Ok(()) => (),
                    // Somebody else was quicker.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
                    Err(error) => return Err(FileError::io("make directory", &at, error)),
                }
                opened = dir.open_dir_nofollow(part);
            }
            dir = match opened {
                Ok(inner) => inner,
                Err(_) if dir.symlink_metadata(part).is_ok_and(|found| found.is_symlink()) => {
                    return Err(FileError::Changed { shown: self.shown.clone(), changed: at });
                }
                Err(error) => return Err(io(&at, error)),
            };
        }
        Ok(dir)
    }
}

/// Where an absolute path leads: links followed, `..` taken back, also where nothing is yet.
///
/// # Errors
///
/// When there are too many links, or one cannot be read.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, FileError> {
    let mut left: Vec<OsString> =
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
    let mut resolved = PathBuf::new();
    let mut links = 0;
    while let Some(part) = left.pop() {
        match Path::new(&part).components().next() {
            Some(Component::CurDir) | None => continue,
            Some(Component::ParentDir) => {
                resolved.pop();
                continue;
            }
            Some(Component::Prefix(_) | Component::RootDir) => {
                resolved.push(&part);
                continue;
            }
            Some(Component::Normal(_)) => resolved.push(&part),
        }
        if !fs::symlink_metadata(&resolved).is_ok_and(|found| found.is_symlink()) {
            continue;
        }
        links += 1;
        let read = if links > LINKS_MAX {
            Err(io::Error::other("too many symbolic links"))
        } else {
            fs::read_link(&resolved)
        };
        let target = read.map_err(|error| FileError::io("resolve", path, error))?;
        resolved.pop();
        if target.is_absolute() {
            resolved = PathBuf::new();
        }
        left.extend(target.components().rev().map(|part| part.as_os_str().to_owned()));
    }
    Ok(resolved)
}
