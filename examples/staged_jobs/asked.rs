//! What is asked of the example, by the words behind its name: understood before anything is made of it.

use std::path::Path;

use super::program::Wish;

pub(crate) const USAGE: &str = "usage: staged_jobs [PATH], or study FOLDER [postgres://…], or retry FOLDER [postgres://…], or import \
    RECORD PATH, a RECORD as examples/staged_jobs/record.json; a file that is called like one of these is written ./study";

#[derive(Debug, PartialEq)]
pub(crate) enum Asked<'a> {
    /// What may be asked.
    Help,
    /// The usual study in three ways, in that file, or in one that is gone afterwards.
    Usual(Option<&'a Path>),
    /// One study, whose apps are in the folder, and its runs as well, unless a server has them.
    Study { folder: &'a Path, server: Option<&'a str>, wish: Wish },
    /// A record of the predecessor, into that file.
    Import { record: &'a Path, path: &'a str },
}

impl<'a> Asked<'a> {
    pub(crate) fn of(words: &[&'a str]) -> Result<Self, String> {
        if let ["-h" | "--help" | "help"] = words {
            return Ok(Self::Help);
        }
        if let Some(odd) = words.iter().find(|word| word.is_empty() || word.starts_with('-')) {
            return Err(format!("`{odd}` means nothing here\n{USAGE}"));
        }
        let study = |folder, server, wish| Self::Study { folder: Path::new(folder), server, wish };
        Ok(match *words {
            [] => Self::Usual(None),
            ["study", folder] => study(folder, None, Wish::GoOn),
            ["study", folder, server] => study(folder, Some(server), Wish::GoOn),
            ["retry", folder] => study(folder, None, Wish::Retry),
            ["retry", folder, server] => study(folder, Some(server), Wish::Retry),
            ["import", record, path] => Self::Import { record: Path::new(record), path },
            ["study" | "retry"] => return Err(format!("its FOLDER is missing\n{USAGE}")),
            ["import", ..] => return Err(format!("it takes a RECORD and a PATH\n{USAGE}")),
            [path] => Self::Usual(Some(Path::new(path))),
            [_, ref more @ ..] => {
                return Err(format!("`{}` is too much, or not meant\n{USAGE}", more.join(" ")));
            }
        })
    }
}
