//! A folder with a workflow, a configuration and a store, and a fake provider to count its calls.

use std::{collections::BTreeMap, fmt::Write, fs, path::PathBuf, time::Duration};

use perennial_testkit::{BinaryOutput, FakeAnthropic, PerennialBinary, RunningBinary};
use serde_json::Value;
use tempfile::TempDir;

/// Far more than anything here takes; a test that needs it has failed.
pub(crate) const SOON: Duration = Duration::from_secs(60);
pub(crate) const STEPS: usize = 10;
/// The key that must be found nowhere.
pub(crate) const CANARY: &str = "sk-ant-canary-0d9f81c2b7";

pub(crate) struct World {
    pub(crate) fake: FakeAnthropic,
    folder: TempDir,
    pub(crate) run: String,
}

impl World {
    /// A ten-step chain, each step asking with the answer of the one before.
    pub(crate) fn new(run: &str, reply_after: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fake = FakeAnthropic::start();
        fake.delay(reply_after);
        let mut text = String::from("workflow:\n  name: chain\n  steps:\n");
        for step in 1..=STEPS {
            write!(
                text,
                "  - name: s{step}\n    type: claude\n    prompt:\n    - type: static\n      \
                 content: \"question {step}\"\n"
            )
            .unwrap();
            if step > 1 {
                writeln!(text, "    - type: previous_response\n      step: s{}", step - 1).unwrap();
            }
        }
        fs::write(folder.path().join("chain.yaml"), text).unwrap();
        let config = format!(
            "[providers.anthropic]\nbase_url = \"{}\"\nmodel = \"fake-model\"\n\
             api_key_env = \"CRASH_TEST_KEY\"\n",
            fake.base_url()
        );
        fs::write(folder.path().join("perennial.toml"), config).unwrap();
        Self { fake, folder, run: run.to_owned() }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("perennial.db")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> PerennialBinary {
        PerennialBinary::new(env!("CARGO_BIN_EXE_perennial"))
            .args(args)
            .env("CRASH_TEST_KEY", CANARY)
            .current_dir(self.folder.path())
    }

    pub(crate) fn start(&self) -> RunningBinary {
        let args = ["run", "chain.yaml", "--config", "perennial.toml", "--run-id", &self.run];
        self.command(&args).spawn().unwrap()
    }

    pub(crate) fn resume(&self) -> BinaryOutput {
        let args = ["resume", &self.run, "--config", "perennial.toml", "--json", "--tree"];
        self.command(&args).run(SOON).unwrap()
    }

    pub(crate) fn output(&self, args: &[&str]) -> BinaryOutput {
        self.command(args).run(SOON).unwrap()
    }

    /// What `show --json` says of the run.
    pub(crate) fn shown(&self) -> Value {
        let output = self.output(&["show", &self.run, "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_str(&output.stdout).unwrap()
    }
}

/// Whatever was killed: what is recorded is whole (CHK).
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() || !self.store().exists() {
            return;
        }
        let output = self.output(&["journal", "verify"]);
        assert_eq!(output.status.code(), Some(0), "{output:#?}");
    }
}

/// The results of a shown run, by step, without what names the run itself and without the numbers of attempts: the
/// one that a kill met counts, also where it would have failed anyway.
pub(crate) fn results(shown: &Value) -> BTreeMap<String, Value> {
    let steps = shown["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|step| (step["step"].as_str().unwrap().to_owned(), unnumbered(&step["result"])))
        .collect()
}

fn unnumbered(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(unnumbered).collect(),
        Value::Object(map) => {
            let kept = map.iter().filter(|(name, _)| *name != "attempt");
            kept.map(|(name, value)| (name.clone(), unnumbered(value))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
