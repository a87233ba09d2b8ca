//! A folder to work in, and the command.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use perennial_testkit::{BinaryOutput, FakeAnthropic, PerennialBinary, RunningBinary};
use serde_json::Value;
use tempfile::TempDir;

/// Far more than anything here takes; a test that needs it has failed.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// The variable that the configuration of a live world names.
pub(crate) const KEY_ENV: &str = "COMMAND_TEST_KEY";
/// The key that must be found nowhere.
pub(crate) const CANARY: &str = "sk-ant-canary-77d1e0c94ba2";
/// The flow of the README.
pub(crate) const HELLO: &str = "examples/flows/hello.yaml";

pub(crate) struct World {
    folder: TempDir,
}

impl World {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A folder with the flow of the README at its usual place.
    pub(crate) fn with_hello() -> Self {
        let world = Self::new();
        let text = fs::read_to_string(repository().join(HELLO)).unwrap();
        world.write(HELLO, text);
        world
    }

    /// A folder with `perennial.toml`, which leads to `fake`, and `flow.yaml`, whose steps are
    /// `steps`.
    pub(crate) fn live(fake: &FakeAnthropic, steps: &str) -> Self {
        let world = Self::new();
        let config = format!(
            "[providers.anthropic]\nbase_url = \"{}\"\nmodel = \"fake-model\"\n\
             api_key_env = \"{KEY_ENV}\"\n",
            fake.base_url()
        );
        world.write("perennial.toml", config);
        world.flow("flow.yaml", steps);
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Writes a workflow with `steps`, one flow mapping a line.
    pub(crate) fn flow(&self, name: &str, steps: &str) {
        let steps: String = steps.lines().map(|line| format!("  - {}\n", line.trim())).collect();
        self.write(name, format!("workflow:\n  name: flow\n  language: 1\n  steps:\n{steps}"));
    }

    /// Everything in the folder, by its path from here.
    pub(crate) fn entries(&self) -> BTreeSet<String> {
        fn collect(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.path().is_dir() {
                    collect(&entry.path(), root, found);
                } else {
                    let path = entry.path();
                    found.insert(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let mut found = BTreeSet::new();
        collect(self.folder.path(), self.folder.path(), &mut found);
        found
    }

    /// The command, here, with the canary as its key.
    pub(crate) fn command(&self, args: &[&str]) -> PerennialBinary {
        PerennialBinary::new(binary())
            .args(args)
            .env(KEY_ENV, CANARY)
            .env("RUST_BACKTRACE", "1")
            .current_dir(self.folder.path())
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> RunningBinary {
        self.command(args).spawn().unwrap()
    }

    pub(crate) fn output(&self, args: &[&str]) -> BinaryOutput {
        self.command(args).run(SOON).unwrap()
    }

    /// Runs the command and expects this exit code.
    pub(crate) fn expect(&self, code: i32, args: &[&str]) -> BinaryOutput {
        let output = self.output(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:#?}");
        output
    }

    /// What `show --json` says of a run.
    pub(crate) fn shown(&self, run: &str) -> Value {
        serde_json::from_str(&self.expect(0, &["show", run, "--json"]).stdout).unwrap()
    }
}

/// What every command leaves behind is whole (CHK), unless a test damaged it and said so.
impl Drop for World {
    fn drop(&mut self) {
        let says_so = self.path("damaged").exists();
        if std::thread::panicking() || says_so || !self.path("perennial.db").exists() {
            return;
        }
        let output = self.output(&["journal", "verify"]);
        assert_ne!(output.status.code(), Some(11), "{output:#?}");
    }
}

pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_perennial")
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Each line of `text` as JSON.
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(parse).collect()
}

/// Compares with the file `name` in `tests/data`; `UPDATE_GOLDEN=1` writes it.
pub(crate) fn golden(name: &str, text: &str) {
    let path = repository().join("tests/data").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs; if that is meant: UPDATE_GOLDEN=1");
}

/// The step `name` of a shown run.
pub(crate) fn step<'a>(shown: &'a Value, name: &str) -> &'a Value {
    let steps = shown["steps"].as_array().unwrap();
    steps.iter().find(|step| step["step"] == name).unwrap()
}
