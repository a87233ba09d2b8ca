//! Workflow files of the wild: what `check` says of each, and how it runs with made-up answers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::world::{World, json_lines, repository};

/// The folder of the samples, which is no part of the project.
#[expect(clippy::print_stderr, reason = "a skip is told")]
fn samples() -> Option<PathBuf> {
    let folder = std::env::var_os("PERENNIAL_SAMPLES").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: PERENNIAL_SAMPLES names no folder of workflow files");
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn texts<'a>(row: &'a Value, key: &str) -> Vec<&'a str> {
    row[key].as_array().map_or_else(Vec::new, |all| all.iter().filter_map(Value::as_str).collect())
}

/// One sample in a folder of its own, with everything beside it.
struct Sample<'a> {
    world: World,
    row: &'a Value,
    wrong: Vec<String>,
}

impl Sample<'_> {
    fn file(&self) -> &str {
        self.row["file"].as_str().unwrap()
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let what = format!("{}: {}", self.file(), what());
            self.wrong.push(what);
        }
    }

    /// Its diagnostics are those of its row, no more and no less.
    fn checks(&mut self) {
        let output = self.world.output(&["check", "--json", self.file()]);
        let report: Value = serde_json::from_str(&output.stdout).unwrap();
        let place = |found: &Value| {
            let start = &found["span"]["start"];
            format!("{} {}:{}", found["code"].as_str().unwrap(), start["line"], start["column"])
        };
        let found: Vec<String> =
            report["diagnostics"].as_array().unwrap().iter().map(place).collect();
        let wanted = texts(self.row, "check");
        self.expect(found == wanted, || format!("check says {found:?}, not {wanted:?}"));
    }

    /// It is refused with a code and these words, and leaves nothing behind.
    fn is_refused(&mut self, wanted: &Value, more: &[&str]) {
        let mut args = vec!["run", self.file(), "--provider-mode", "mock"];
        args.extend(more);
        let output = self.world.output(&args);
        let code = wanted["code"].as_i64().unwrap();
        self.expect(output.status.code().map(i64::from) == Some(code), || {
            format!("{more:?} ends with {:?}, not {code}: {}", output.status, output.stderr)
        });
        for word in texts(wanted, "says") {
            let said = output.stderr.contains(word);
            self.expect(said, || format!("{more:?} does not say `{word}`: {}", output.stderr));
        }
        let kept = self.world.path("perennial.db").exists();
        self.expect(!kept, || "a store was made for what was refused".to_owned());
    }

    /// It completes: one successful result for each step, and what else its row names.
    fn completes(&mut self) {
        let mut args = vec!["run", self.file(), "--provider-mode", "mock", "--json"];
        args.extend(texts(self.row, "inputs"));
        let output = self.world.output(&args);
        self.expect(output.status.success(), || {
            format!("ends with {:?}: {}", output.status, output.stderr)
        });
        let lines = json_lines(&output.stdout);
        let Some(outcome) = lines.iter().find(|line| line["type"] == "outcome") else {
            return self.expect(false, || "tells no outcome".to_owned());
        };
        let results = outcome["results"].as_object().unwrap();
        self.expect(!results.is_empty(), || "has no results".to_owned());
        for (step, result) in results {
            // An echo gives its bare value.
            let succeeded = result.get("success").is_none_or(|success| *success == true);
            self.expect(succeeded, || format!("`{step}` gave {result}"));
        }
        for (pointer, value) in self.row["results"].as_object().into_iter().flatten() {
            let found = outcome["results"].pointer(pointer);
            self.expect(found == Some(value), || format!("{pointer} is {found:?}, not {value}"));
        }
        let entries = self.world.entries();
        for name in texts(self.row, "files") {
            let (head, tail) = name.split_once('*').unwrap_or((name, ""));
            let left = entries.iter().any(|path| {
                let name = path.rsplit('/').next().unwrap_or(path);
                name.starts_with(head) && name.ends_with(tail)
            });
            self.expect(left, || format!("left no file {name}: {entries:?}"));
        }
    }
}

#[test]
fn each_sample_is_checked_and_runs_as_its_row_says() {
    let Some(folder) = samples() else { return };
    let rows = fs::read_to_string(repository().join("tests/data/samples.json")).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&rows).unwrap();
    assert_eq!(rows.len(), 15, "samples that need these step types only");
    let mut wrong = Vec::new();
    for row in &rows {
        let world = World::new();
        copy(&folder, &world.path(""));
        let mut sample = Sample { world, row, wrong: Vec::new() };
        sample.checks();
        if row["refused"].is_object() {
            sample.is_refused(&row["refused"], &[]);
        }
        if row["lenient"].is_object() {
            sample.is_refused(&row["lenient"], &texts(&row["lenient"], "args"));
        }
        if row["refused"].is_null() || !row["inputs"].is_null() {
            sample.completes();
        }
        wrong.append(&mut sample.wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
