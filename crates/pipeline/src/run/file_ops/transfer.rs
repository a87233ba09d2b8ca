//! Copy, move and delete.

use std::{collections::HashSet, path::PathBuf};

use perennial_core::{Digest, failure::Failure};
use perennial_tools::files::{Base, FileError, Kind, Pattern};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Work,
    arguments::{Wanted, path},
    because, io,
};
use crate::definition::Operation;

/// Above so many bytes a copy is called streaming (2.15). All copies go in chunks.
const STREAMING_FROM: u64 = 10_000_000;

/// One thing, and where it goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pair {
    from: String,
    to: String,
    /// Of a file that is moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    directory: bool,
    #[serde(skip)]
    modified_ns: i64,
    #[serde(skip)]
    size: u64,
    /// Where a directory lies.
    #[serde(skip)]
    lies_at: Option<PathBuf>,
}

impl Work<'_> {
    pub(super) fn transfer(&self) -> Result<Value, Failure> {
        let wanted = self.arguments.wanted()?;
        let pairs = match &self.plan {
            Some(plan) => Vec::deserialize(&plan.seen).map_err(|error| io(error.to_string()))?,
            None => self.transfers()?,
        };
        let options = &self.arguments.options;
        let mut record = self.record(json!({
            "source": self.arguments.source,
            "destination": self.arguments.destination,
            "status": "completed",
        }));
        if options.dry_run {
            record.insert("dry_run".to_owned(), true.into());
            let would: Vec<Value> =
                pairs.iter().map(|pair| json!({ "from": pair.from, "to": pair.to })).collect();
            record.insert("count".to_owned(), would.len().into());
            record.insert("would".to_owned(), would.into());
            return Ok(Value::Object(record));
        }
        for (place, pair) in pairs.iter().enumerate() {
            let moves = self.operation == Operation::Move;
            let done = if moves { self.move_one(pair) } else { self.copy_one(pair) };
            done.map_err(|error| self.midway(&error, &pairs, place))?;
        }
        if self.operation == Operation::StreamCopy {
            let size = pairs.iter().map(|pair| pair.size).max().unwrap_or(0);
            let method = if size > STREAMING_FROM { "streaming" } else { "copy" };
            record.insert("method".to_owned(), method.into());
        }
        if !wanted.single || wanted.names.iter().any(|name| name.contains(Pattern::SIGNS)) {
            record.insert("count".to_owned(), pairs.len().into());
            record.insert("files".to_owned(), pairs.into_iter().map(|pair| pair.to).collect());
        }
        Ok(Value::Object(record))
    }

    /// What stopped it, what was done before, and what was not (YS-90).
    fn midway(&self, error: &FileError, pairs: &[Pair], place: usize) -> Failure {
        let mut failure = because(self.failed(), error);
        if pairs.len() > 1 {
            let names =
                |pairs: &[Pair]| pairs.iter().map(|pair| pair.from.clone()).collect::<Vec<_>>();
            let (done, undone) = (names(&pairs[..place]), names(&pairs[place..]));
            failure.message = format!(
                "{}; done: {}; not done: {}",
                failure.message,
                done.join(", "),
                undone.join(", ")
            );
            failure.detail = json!({ "done": done, "undone": undone });
        }
        failure
    }

    fn failed(&self) -> &'static str {
        if self.operation == Operation::Move { "Move failed" } else { "Copy failed" }
    }

    /// What goes where; refused as a whole when a part of it cannot.
    pub(super) fn transfers(&self) -> Result<Vec<Pair>, Failure> {
        let wanted = self.arguments.wanted()?;
        let destination = path(&self.arguments.destination, "destination")?;
        let sources = self.sources(&wanted)?;
        let refused = |error: FileError| because(self.failed(), &error);
        let found = self.access.look(&Base::Workspace, &destination).map_err(refused)?;
        let is_glob = wanted.names.iter().any(|name| name.contains(Pattern::SIGNS));
        let into = !wanted.single
            || is_glob
            || destination.ends_with('/')
            || found.is_some_and(|found| {
                found.kind == Kind::Directory && sources.iter().all(|source| !source.directory)
            });
        let options = &self.arguments.options;
        let mut pairs = Vec::new();
        let mut targets = HashSet::new();
        for mut source in sources {
            let name = if options.preserve_structure {
                source.to.as_str()
            } else {
                source.to.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
            };
            source.to = if into {
                format!("{}/{name}", destination.trim_end_matches('/'))
            } else {
                destination.clone()
            };
            let target = self.access.target(&Base::Workspace, &source.to).map_err(refused)?;
            // It would never be done: what is copied grows while it is copied.
            let inside = |from: &PathBuf| target != *from && target.starts_with(from);
            if source.lies_at.as_ref().is_some_and(inside) {
                if self.operation == Operation::Move {
                    // A directory of the run is not moved anywhere.
                    self.access.target(&Base::Reads, &source.from).map_err(refused)?;
                }
                let (from, to) = (&source.from, &source.to);
                return Err(io(format!("{}: {to} lies inside of {from}", self.failed())));
            }
            if !targets.insert(target) {
                let text = format!("{}: two sources would become {}", self.failed(), source.to);
                return Err(io(text));
            }
            let old = self.access.look(&Base::Workspace, &source.to).map_err(refused)?;
            if !options.overwrite && old.is_some() {
                return Err(io(format!("{}: {} exists", self.failed(), source.to)));
            }
            let parent = source.to.rsplit_once('/').map_or(".", |(parent, _)| parent);
            if !options.create_destination
                && self.access.look(&Base::Workspace, parent).map_err(refused)?.is_none()
            {
                return Err(io(format!("{}: {parent} does not exist", self.failed())));
            }
            if self.operation == Operation::Move && !source.directory {
                let found = self.access.digest(&Base::Reads, &source.from).map_err(refused)?;
                source.digest = Some(found);
            }
            pairs.push(source);
        }
        Ok(pairs)
    }

    /// What the sources are; their targets are the names below the fixed part of their globs.
    fn sources(&self, wanted: &Wanted) -> Result<Vec<Pair>, Failure> {
        let refused = |error: FileError| because(self.failed(), &error);
        let exclude: Result<Vec<Pattern>, _> =
            wanted.exclude.iter().map(|pattern| Pattern::new(pattern)).collect();
        let exclude = exclude.map_err(|error| refused(error.into()))?;
        let mut sources = Vec::new();
        for name in &wanted.names {
            if let Some(found) = self.access.look(&Base::Reads, name).map_err(refused)? {
                if found.kind == Kind::Special {
                    return Err(refused(FileError::Special { path: found.path }));
                }
                sources.push(Pair {
                    from: name.clone(),
                    to: name.clone(),
                    digest: None,
                    directory: found.kind == Kind::Directory,
                    modified_ns: found.modified_ns,
                    size: found.size,
                    lies_at: (found.kind == Kind::Directory).then_some(found.path),
                });
                continue;
            }
            let fixed = name.find(Pattern::SIGNS).and_then(|sign| name[..sign].rfind('/'));
            let fixed = fixed.map_or("", |end| &name[..=end]);
            let mut found = self.access.glob(&Base::Reads, name).map_err(refused)?;
            found.retain(|found| matches!(found.kind, Kind::File | Kind::Link));
            if found.is_empty() && !self.arguments.source.is_object() {
                return Err(io(format!("Source file does not exist: {name}")));
            }
            sources.extend(found.into_iter().map(|found| {
                Pair {
                    to: found
                        .path
                        .strip_prefix(fixed.trim_start_matches("./"))
                        .unwrap_or(&found.path)
                        .to_owned(),
                    from: found.path,
                    digest: None,
                    directory: false,
                    modified_ns: found.modified_ns,
                    size: found.size,
                    lies_at: None,
                }
            }));
        }
        let is_out = |source: &Pair| {
            let name = source.from.rsplit('/').next().unwrap_or_default();
            exclude.iter().any(|pattern| pattern.matches(&source.from) || pattern.matches(name))
        };
        let is_young = |source: &Pair| {
            wanted.older_than_ms.is_some_and(|millis| {
                let age = self.started_ms.saturating_sub(source.modified_ns / 1_000_000);
                age < i64::try_from(millis).unwrap_or(i64::MAX)
            })
        };
        sources.retain(|source| !is_out(source) && !is_young(source));
        Ok(sources)
    }

    fn copy_one(&self, pair: &Pair) -> Result<(), FileError> {
        if !pair.directory {
            return self.copy_file(&pair.from, &pair.to, pair.modified_ns);
        }
        let from = pair.from.trim_end_matches('/');
        let tree = self.access.list(&Base::Reads, from, true, true)?;
        self.access.make_dir(&Base::Workspace, &pair.to)?;
        for found in tree {
            let within = found.path.strip_prefix(from).unwrap_or(&found.path);
            let to =
                format!("{}/{}", pair.to.trim_end_matches('/'), within.trim_start_matches('/'));
            if found.kind == Kind::Directory {
                self.access.make_dir(&Base::Workspace, &to)?;
            } else {
                self.copy_file(&found.path, &to, found.modified_ns)?;
            }
        }
        Ok(())
    }

    fn copy_file(&self, from: &str, to: &str, modified_ns: i64) -> Result<(), FileError> {
        let modified = self.arguments.options.preserve_timestamps.then_some(modified_ns);
        let copied = self.access.write_with(&Base::Workspace, to, modified, |sink| {
            self.access.read_chunks(&Base::Reads, from, sink).map(drop)
        });
        copied.map(drop)
    }

    fn move_one(&self, pair: &Pair) -> Result<(), FileError> {
        let (from, to) = ((&Base::Reads, pair.from.as_str()), (&Base::Workspace, pair.to.as_str()));
        let replayed = self.plan.as_ref().is_some_and(|plan| plan.replayed);
        if replayed && self.access.look(from.0, from.1)?.is_none() {
            // An attempt before this one has moved it, if what is there is what it saw.
            let there = match pair.digest {
                Some(digest) => self.access.digest(to.0, to.1)? == digest,
                None => self.access.look(to.0, to.1)?.is_some(),
            };
            if there {
                return Ok(());
            }
        }
        match self.access.rename(from, to) {
            Err(FileError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::CrossesDevices =>
            {
                self.copy_one(pair)?;
                self.access.remove(from.0, from.1, true).map(drop)
            }
            renamed => renamed,
        }
    }

    pub(super) fn delete(&self) -> Result<Value, Failure> {
        let paths = match &self.plan {
            Some(plan) => Vec::deserialize(&plan.seen).map_err(|error| io(error.to_string()))?,
            None => self.deletions()?,
        };
        let mut record = self.record(json!({
            "path": if self.arguments.path.is_null() { json!(paths) } else { self.arguments.path.clone() },
            "status": "completed",
        }));
        if self.arguments.options.dry_run {
            record.insert("dry_run".to_owned(), true.into());
            record.insert("count".to_owned(), paths.len().into());
            record.insert("would".to_owned(), json!(paths));
            return Ok(Value::Object(record));
        }
        let replayed = self.plan.as_ref().is_some_and(|plan| plan.replayed);
        let mut count = 0;
        for (place, path) in paths.iter().enumerate() {
            match self.access.remove(&Base::Workspace, path, self.arguments.recursive()) {
                Ok(gone) => count += gone,
                Err(error) if replayed && error.is_not_found() => count += 1,
                Err(error) => {
                    let mut failure = because("Delete failed", &error);
                    let (done, undone) = (&paths[..place], &paths[place..]);
                    failure.detail = json!({ "done": done, "undone": undone });
                    return Err(failure);
                }
            }
        }
        record.insert("count".to_owned(), count.into());
        Ok(Value::Object(record))
    }

    /// The paths to remove; all of them are there.
    pub(super) fn deletions(&self) -> Result<Vec<String>, Failure> {
        let files = &self.arguments.files;
        let named: Vec<String> = if let Some(items) = files.as_array() {
            items.iter().map(|item| path(item, "files")).collect::<Result<_, _>>()?
        } else if files.is_null() {
            vec![path(&self.arguments.path, "path")?]
        } else {
            vec![path(files, "files")?]
        };
        let refused = |error: FileError| because("Delete failed", &error);
        let mut paths = Vec::new();
        for name in named {
            if self.access.look(&Base::Workspace, &name).map_err(refused)?.is_some() {
                paths.push(name);
                continue;
            }
            let found = self.access.glob(&Base::Workspace, &name).map_err(refused)?;
            let before = paths.len();
            paths.extend(
                found
                    .into_iter()
                    .filter(|found| found.kind != Kind::Directory)
                    .map(|found| found.path),
            );
            if paths.len() == before {
                return Err(io(format!("Path does not exist: {name}")));
            }
        }
        Ok(paths)
    }
}
