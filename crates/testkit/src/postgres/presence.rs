//! Where PostgreSQL's programs are, and what it means that they are nowhere.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::error::PostgresError;
use crate::binary::RunningBinary;

/// They have to lie together: a `psql` apart may be a wrapper with a mind of its own.
const PROGRAMS: [&str; 3] = ["initdb", "postgres", "psql"];
/// Where distributions keep one folder per version: the parent, how the folder's name begins.
const VERSION_FOLDERS: [(&str, &str); 3] =
    [("/usr/lib/postgresql", ""), ("/usr", "pgsql-"), ("/opt/homebrew/opt", "postgresql@")];
/// `pg_config` prints one line.
const PG_CONFIG_WITHIN: Duration = Duration::from_secs(10);

/// What a test makes of a machine without PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// The test fails.
    Fails,
    /// The test says so and does nothing.
    Skips,
}

/// A suite that could not run must not look as if it had passed where it was meant to run.
pub(super) fn absence(variable: impl Fn(&str) -> Option<OsString>) -> Absence {
    let asked = ["CI", "PERENNIAL_REQUIRE_PG"].into_iter().filter_map(variable);
    let is_yes = |value: OsString| !["", "0", "false"].iter().any(|no| value == *no);
    if asked.into_iter().any(is_yes) { Absence::Fails } else { Absence::Skips }
}

/// A folder with all of the programs.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// In the order of the module's documentation; the variable has the only word when it is set.
    pub(super) fn find(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, PostgresError> {
        if let Some(folder) = variable("PERENNIAL_PG_BIN").filter(|value| !value.is_empty()) {
            let folder = PathBuf::from(folder);
            return match missing(&folder) {
                None => Ok(Self { folder }),
                Some(missing) => Err(PostgresError::Misdirected { folder, missing }),
            };
        }
        let mut looked = Vec::new();
        let path = variable("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path)
            .flat_map(|folder| {
                // What is linked into the path lies with its siblings where the link leads.
                let real = folder.join(PROGRAMS[0]).canonicalize().ok();
                [real.and_then(|real| real.parent().map(Path::to_owned)), Some(folder)]
            })
            .flatten();
        let told = std::iter::once_with(pg_config_says).flatten();
        for folder in on_path.chain(told).chain(version_folders()) {
            if missing(&folder).is_none() {
                return Ok(Self { folder });
            }
            if !looked.contains(&folder) {
                looked.push(folder);
            }
        }
        looked
            .extend(VERSION_FOLDERS.map(|(parent, start)| {
                PathBuf::from(parent).join(format!("{start}*")).join("bin")
            }));
        Err(PostgresError::Absent { looked })
    }

    /// One of the programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The first program that is not in `folder`.
fn missing(folder: &Path) -> Option<&'static str> {
    PROGRAMS.into_iter().find(|program| !folder.join(program).is_file())
}

/// Without the program, or with one that fails, there is just nothing said.
fn pg_config_says() -> Option<PathBuf> {
    let mut command = Command::new("pg_config");
    command.arg("--bindir");
    let output = RunningBinary::of(command).ok()?.wait(PG_CONFIG_WITHIN).ok()?;
    output.status.success().then(|| PathBuf::from(output.stdout.trim_end()))
}

fn version_folders() -> impl Iterator<Item = PathBuf> {
    VERSION_FOLDERS.into_iter().flat_map(|(parent, start)| {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let newest = newest_first(start, names).into_iter();
        newest.map(move |name| Path::new(parent).join(name).join("bin"))
    })
}

/// Those names that are `start` and a version, the highest version first.
fn newest_first(start: &str, names: Vec<String>) -> Vec<String> {
    let mut versions: Vec<(Vec<u32>, String)> = names
        .into_iter()
        .filter_map(|name| {
            let numbers: Result<_, _> =
                name.strip_prefix(start)?.split('.').map(str::parse).collect();
            Some((numbers.ok()?, name))
        })
        .collect();
    versions.sort();
    versions.into_iter().rev().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves INV-34.
    #[test]
    fn absence_fails_where_it_was_said_that_the_server_is_there_and_skips_elsewhere() {
        let cases = [
            (&[][..], Absence::Skips),
            (&[("CI", "true")], Absence::Fails),
            (&[("CI", "1")], Absence::Fails),
            (&[("CI", "false")], Absence::Skips),
            (&[("CI", "")], Absence::Skips),
            (&[("PERENNIAL_REQUIRE_PG", "1")], Absence::Fails),
            (&[("PERENNIAL_REQUIRE_PG", "0")], Absence::Skips),
            // Neither takes back what the other says.
            (&[("CI", "true"), ("PERENNIAL_REQUIRE_PG", "0")], Absence::Fails),
            (&[("CI", "false"), ("PERENNIAL_REQUIRE_PG", "1")], Absence::Fails),
            (&[("PERENNIAL_PG_BIN", "/x")], Absence::Skips),
        ];
        for (set, expected) in cases {
            let found = absence(|name| {
                set.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into())
            });
            assert_eq!(found, expected, "{set:?}");
        }
    }

    /// A folder with empty files in place of the programs.
    fn folder_with(programs: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for program in programs {
            fs::write(folder.path().join(program), "").unwrap();
        }
        folder
    }

    #[test]
    fn the_variable_comes_first_and_a_wrong_one_is_no_absence() {
        let (named, on_path) = (folder_with(&PROGRAMS), folder_with(&PROGRAMS));
        let find = |named: &Path| {
            Binaries::find(|name| match name {
                "PERENNIAL_PG_BIN" => Some(named.into()),
                "PATH" => Some(on_path.path().into()),
                _ => None,
            })
        };
        assert_eq!(find(named.path()).unwrap().folder, named.path());
        assert_eq!(find(Path::new("")).unwrap().folder, on_path.path());
        let half = folder_with(&["initdb", "postgres"]);
        let error = find(half.path()).unwrap_err();
        assert!(
            matches!(&error, PostgresError::Misdirected { missing: "psql", folder } if folder == half.path()),
            "{error}"
        );
    }

    #[test]
    fn programs_linked_into_the_path_are_found_where_they_lie_together() {
        let (real, linked) = (folder_with(&PROGRAMS), folder_with(&[]));
        let link = linked.path().join("initdb");
        std::os::unix::fs::symlink(real.path().join("initdb"), link).unwrap();
        let half = folder_with(&["initdb", "psql"]);
        let path = std::env::join_paths([half.path(), linked.path()]).unwrap();
        let found = Binaries::find(|name| (name == "PATH").then(|| path.clone())).unwrap();
        assert_eq!(found.folder, real.path().canonicalize().unwrap());
    }

    #[test]
    fn the_newest_version_is_tried_first() {
        let names = ["9.6", "15", "lib", "16", "10", ""].map(str::to_owned).to_vec();
        assert_eq!(newest_first("", names), ["16", "15", "10", "9.6"]);
        let names = ["pgsql-9.6", "share", "pgsql-17", "17"].map(str::to_owned).to_vec();
        assert_eq!(newest_first("pgsql-", names), ["pgsql-17", "pgsql-9.6"]);
    }
}
