//! What only looks: list and validate.

use perennial_core::{FailureClass, Timestamp, failure::Failure};
use perennial_tools::files::{Base, FileError, Found, Kind, Pattern as Glob};
use serde_json::{Map, Value, json};

use super::{Work, arguments::path, because, io};
use crate::{check::is_glob, expression::Pattern};

impl Work<'_> {
    pub(super) fn list(&self) -> Result<Value, Failure> {
        let path = path(&self.arguments.path, "path")?;
        let refused = |error: FileError| because("List failed", &error);
        match self.access.look(&Base::Reads, &path).map_err(refused)? {
            None => return Err(io(format!("Path does not exist: {path}"))),
            Some(found) if found.kind != Kind::Directory => {
                return Err(io(format!("Path is not a directory: {path}")));
            }
            Some(_) => (),
        }
        let hidden = self.arguments.include_hidden;
        let mut found = self
            .access
            .list(&Base::Reads, &path, self.arguments.recursive(), hidden)
            .map_err(refused)?;
        if let Some(pattern) = &self.arguments.pattern {
            found = self.matching(found, pattern, &path)?;
        }
        match self.arguments.sort_by.as_deref() {
            Some("modified") => found.sort_by_key(|found| found.modified_ns),
            Some("size") => found.sort_by_key(|found| found.size),
            _ => (),
        }
        let files: Vec<&str> = found
            .iter()
            .filter(|found| found.kind != Kind::Directory)
            .map(|found| found.path.as_str())
            .take(self.arguments.limit.unwrap_or(usize::MAX))
            .collect();
        let entries: Vec<Value> = found
            .iter()
            .take(self.arguments.limit.unwrap_or(usize::MAX))
            .map(|found| {
                json!({
                    "name": found.name,
                    "path": found.path,
                    "size": found.size,
                    "modified": Timestamp::from_micros(found.modified_ns / 1_000).to_rfc3339(),
                    "type": found.kind.name(),
                })
            })
            .collect();
        let mut record = self.record(json!({
            "path": path,
            "pattern": self.arguments.pattern,
            "files": files,
            "entries": entries,
            "count": files.len(),
            "status": "completed",
        }));
        if let Some(field) = &self.arguments.output_field {
            record.insert(field.clone(), json!(files));
        }
        Ok(Value::Object(record))
    }

    fn matching(
        &self,
        found: Vec<Found>,
        pattern: &str,
        path: &str,
    ) -> Result<Vec<Found>, Failure> {
        let malformed = |text: String| Failure::new(FailureClass::Expression, "PL406", text);
        let kind = self.arguments.pattern_type.as_deref();
        let mut kept = Vec::new();
        if kind.map_or_else(|| is_glob(pattern), |kind| kind == "glob") {
            let glob = Glob::new(pattern).map_err(|error| malformed(error.to_string()))?;
            let within = |found: &Found| {
                let rest = found.path.strip_prefix(path.trim_end_matches('/'));
                rest.unwrap_or(&found.path).trim_start_matches('/').to_owned()
            };
            kept.extend(found.into_iter().filter(|found| {
                glob.matches(
                    if pattern.contains('/') { within(found) } else { found.name.clone() }.as_str(),
                )
            }));
            return Ok(kept);
        }
        let regex = Pattern::new(pattern).map_err(malformed)?;
        for found in found {
            let limit =
                |_| Failure::new(FailureClass::Expression, "PL606", "the pattern took too long");
            if regex.is_in(&found.name).map_err(limit)? {
                kept.push(found);
            }
        }
        Ok(kept)
    }

    /// All files are checked, then it is judged.
    pub(super) fn validate(&self) -> Result<Value, Failure> {
        let one = [self.arguments.files.clone()];
        let files = self.arguments.files.as_array().map_or(&one[..], Vec::as_slice);
        let (mut results, mut faults, mut faulty) = (Vec::new(), Vec::new(), 0);
        for file in files {
            let criteria = file.as_object().cloned().unwrap_or_default();
            let named = match file.as_object() {
                Some(map) => map.get("path").or(map.get("pattern")).unwrap_or(&Value::Null),
                None => file,
            };
            let named = path(named, "files")?;
            let found = self.faults(&named, &criteria)?;
            faulty += usize::from(!found.is_empty());
            results.push(json!({ "path": named, "status": "valid", "criteria": criteria }));
            faults.extend(found.into_iter().map(|fault| format!("{named}: {fault}")));
        }
        if faulty > 0 {
            let text = format!("Validation failed for {faulty} file(s): {}", faults.join("; "));
            let failure = Failure::new(FailureClass::Io, "PL618", text);
            return Err(Failure { detail: json!({ "faults": faults }), ..failure });
        }
        let facts = json!({ "results": results, "status": "all_valid", "count": results.len() });
        Ok(Value::Object(self.record(facts)))
    }

    /// Everything that is wrong with one file, or with all that a glob means.
    fn faults(&self, named: &str, criteria: &Map<String, Value>) -> Result<Vec<String>, Failure> {
        let refused = |error: FileError| because("Validation failed", &error);
        let flag = |key: &str| criteria.get(key).and_then(Value::as_bool);
        let must_exist = flag("must_exist").unwrap_or(true);
        let mut names = vec![named.to_owned()];
        if named.contains(Glob::SIGNS)
            && self.access.look(&Base::Reads, named).map_err(refused)?.is_none()
        {
            let found = self.access.glob(&Base::Reads, named).map_err(refused)?;
            names = found.into_iter().map(|found| found.path).collect();
            if names.is_empty() && must_exist {
                return Ok(vec!["nothing matches".to_owned()]);
            }
        }
        let mut faults = Vec::new();
        for name in names {
            let found = self.access.look(&Base::Reads, &name).map_err(refused)?;
            let found = match (found, must_exist) {
                (None, true) => {
                    faults.push("does not exist".to_owned());
                    continue;
                }
                (None, false) => continue,
                (Some(_), false) => {
                    faults.push("exists".to_owned());
                    continue;
                }
                (Some(found), true) => found,
            };
            let mut need = |right: bool, text: String| {
                if !right {
                    faults.push(text);
                }
            };
            if flag("must_be_file") == Some(true) {
                need(found.kind == Kind::File, "is not a file".to_owned());
            }
            if flag("must_be_dir") == Some(true) {
                need(found.kind == Kind::Directory, "is not a directory".to_owned());
            }
            let size = |key: &str| criteria.get(key).and_then(Value::as_u64);
            if let Some(least) = size("min_size") {
                need(found.size >= least, format!("has {} bytes, fewer than {least}", found.size));
            }
            if let Some(most) = size("max_size") {
                need(found.size <= most, format!("has {} bytes, more than {most}", found.size));
            }
            if flag("must_be_writable") == Some(true) {
                let target = self.access.target(&Base::Workspace, &name);
                need(target.is_ok() && !found.readonly, "cannot be written".to_owned());
            }
            if flag("must_be_readable") == Some(true) && found.kind == Kind::File {
                let read = self.access.read_chunks(&Base::Reads, &name, &mut |_| Ok(()));
                need(read.is_ok(), "cannot be read".to_owned());
            }
            if flag("validate_json") == Some(true) {
                let fault = match self.access.read(&Base::Reads, &name) {
                    Ok(read) => serde_json::from_slice::<serde::de::IgnoredAny>(&read.bytes)
                        .err()
                        .map(|error| format!("is not JSON: {error}")),
                    Err(error) => Some(error.to_string()),
                };
                faults.extend(fault);
            }
            for inner in
                criteria.get("must_contain").and_then(Value::as_array).into_iter().flatten()
            {
                let Some(inner) = inner.as_str() else { continue };
                let within = format!("{}/{inner}", name.trim_end_matches('/'));
                if self.access.look(&Base::Reads, &within).map_err(refused)?.is_none() {
                    faults.push(format!("does not contain {inner}"));
                }
            }
        }
        Ok(faults)
    }
}
