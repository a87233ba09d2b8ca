//! What is in directories, and which of it a pattern means.

use std::path::Path;

use cap_fs_ext::DirExt;
use cap_std::fs::{Dir, Metadata};
use globset::{GlobBuilder, GlobMatcher};

use super::{
    Access, Base, FileError,
    access::modified_ns,
    roots::{Intent, Place},
};

/// Entries of one listing.
const ENTRIES_MAX: usize = 100_000;
/// Directories below each other.
const DEPTH_MAX: usize = 64;

/// What something in a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A pipe, a socket or a device; never opened.
    Special,
}

impl Kind {
    pub(super) fn of(found: &Metadata) -> Self {
        if found.is_symlink() {
            Self::Link
        } else if found.is_dir() {
            Self::Directory
        } else if found.is_file() {
            Self::File
        } else {
            Self::Special
        }
    }

    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Link => "symlink",
            Self::Special => "special",
        }
    }
}

/// Something that was found in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The path to ask for it with: what was asked for, and the way from there.
    pub path: String,
    /// Its last segment.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its bytes.
    pub size: u64,
    /// When it was changed last, in nanoseconds of Unix time.
    pub modified_ns: i64,
}

/// A glob: `*` and `?` stay within a segment, `**` is any number of segments, `[a-z]`, `{a,b}`.
///
/// ```
/// use perennial_tools::files::Pattern;
///
/// let pattern = Pattern::new("notes/**/*.txt")?;
/// assert!(pattern.matches("notes/2026/a.txt") && !pattern.matches("a.txt"));
/// # Ok::<(), perennial_tools::files::PatternError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pattern(GlobMatcher);

/// A text that is no glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a pattern of file names: {0}")]
pub struct PatternError(String);

impl Pattern {
    /// Characters that make a text a glob.
    pub const SIGNS: [char; 4] = ['*', '?', '[', '{'];

    /// The pattern `text`.
    ///
    /// # Errors
    ///
    /// When it is malformed.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        glob.map(|glob| Self(glob.compile_matcher()))
            .map_err(|error| PatternError(error.to_string()))
    }

    /// Whether it matches the whole of `path`.
    ///
    /// ```
    /// use perennial_tools::files::Pattern;
    ///
    /// let pattern = Pattern::new("*.{txt,md}")?;
    /// assert!(pattern.matches("a.md") && !pattern.matches("notes/a.md")); // `*` stays within a segment
    /// # Ok::<(), perennial_tools::files::PatternError>(())
    /// ```
    pub fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

impl Access<'_> {
    /// What is in a directory, with `recursive` also below it; in the order of paths. Links are not followed.
    ///
    /// # Errors
    ///
    /// When the path is not allowed, is no directory, or has too much in it.
    pub fn list(
        &self,
        base: &Base,
        path: &str,
        recursive: bool,
        hidden: bool,
    ) -> Result<Vec<Found>, FileError> {
        let place = self.roots.place(base, path, Intent::Read)?;
        let dir = place.dir(false)?;
        let prefix = match path.trim_end_matches('/') {
            "" if path.starts_with('/') => "/".to_owned(),
            "." | "./" => String::new(),
            path => format!("{path}/"),
        };
        let mut walk = Walk { access: self, place: &place, hidden, recursive, found: Vec::new() };
        walk.down(&dir, &prefix, 0)?;
        let mut found = walk.found;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// What the glob `pattern` matches, in the order of paths; of `Reads`, what is in the workspace, or when that
    /// is nothing, in the project root.
    ///
    /// # Errors
    ///
    /// When the pattern is malformed, or its fixed part is not allowed.
    pub fn glob(&self, base: &Base, pattern: &str) -> Result<Vec<Found>, FileError> {
        if *base == Base::Reads && !Path::new(pattern).is_absolute() {
            let near = self.glob(&Base::Workspace, pattern)?;
            return if near.is_empty() { self.glob(&Base::Project, pattern) } else { Ok(near) };
        }
        let pattern = pattern.trim_start_matches("./");
        let matcher = Pattern::new(pattern)?;
        let fixed = pattern.find(Pattern::SIGNS).unwrap_or(pattern.len());
        let fixed = pattern[..fixed].rfind('/').map_or(".", |end| &pattern[..end.max(1)]);
        let hidden = pattern.split('/').any(|segment| segment.starts_with('.'));
        let recursive = pattern.contains("**") || {
            let rest = pattern.strip_prefix(fixed).unwrap_or(pattern);
            rest.trim_start_matches('/').contains('/')
        };
        match self.list(base, fixed, recursive, hidden) {
            Ok(mut found) => {
                found.retain(|found| matcher.matches(&found.path));
                Ok(found)
            }
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// One way through a directory.
struct Walk<'a, 'r> {
    access: &'a Access<'r>,
    place: &'a Place<'r>,
    hidden: bool,
    recursive: bool,
    found: Vec<Found>,
}

impl Walk<'_, '_> {
    fn down(&mut self, dir: &Dir, prefix: &str, depth: usize) -> Result<(), FileError> {
        let failed = |error| FileError::io("list", &self.place.path, error);
        let too_many = |max| FileError::TooMany { path: self.place.path.clone(), max };
        if depth > DEPTH_MAX {
            return Err(too_many(DEPTH_MAX));
        }
        for entry in dir.entries().map_err(failed)? {
            self.access.go_on()?;
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let shown = name.to_string_lossy().into_owned();
            if shown.starts_with('.') && !self.hidden {
                continue;
            }
            // Gone since it was listed: it is not there.
            let Ok(found) = dir.symlink_metadata(&name) else { continue };
            if self.found.len() >= ENTRIES_MAX {
                return Err(too_many(ENTRIES_MAX));
            }
            let path = format!("{prefix}{shown}");
            let kind = Kind::of(&found);
            self.found.push(Found {
                path: path.clone(),
                name: shown,
                kind,
                size: found.len(),
                modified_ns: modified_ns(&found),
            });
            if kind == Kind::Directory && self.recursive {
                let inner = dir.open_dir_nofollow(&name).map_err(failed)?;
                self.down(&inner, &format!("{path}/"), depth + 1)?;
            }
        }
        Ok(())
    }
}
