//! What is outside of the platform, without an outside: a model, a network, and the folder with the apps.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use perennial::records::{Failure, FailureClass};
use serde_json::{Value, json};

use super::generation::{App, Order, PARTS};

/// What an app contains that does not build.
const MISSING: &str = "import nothing_that_there_is";

/// The template of apps whose analyzers stop in the middle of their answer.
const RIDDLE: &str = "riddle";

/// A language model that refuses one order for good, writes one app that does not build, and is overloaded at
/// first.
pub(super) struct FakeModel {
    pub(super) pace: Duration,
}

impl FakeModel {
    pub(super) async fn complete(
        &self,
        order: &Order,
        part: &str,
        attempt: u32,
    ) -> Result<String, Failure> {
        tokio::time::sleep(self.pace).await; // real time: it thinks
        let Order { model, template, .. } = order;
        match (model.as_str(), template.as_str(), part) {
            ("swift", "shop", _) => Err(Failure::new(
                FailureClass::Permanent,
                "APP1",
                "the model refuses to write a shop",
            )),
            ("large", "chat", "frontend") if attempt == 1 => {
                Err(Failure::new(FailureClass::Overloaded, "APP3", "the model is overloaded"))
            }
            ("large", "blog", "backend") => Ok(MISSING.to_owned()),
            _ => Ok(format!("{part} of a {template} by {model}")),
        }
    }
}

/// Who is reached at which address. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pace: Duration,
    there: Arc<Mutex<BTreeSet<String>>>,
}

impl Network {
    pub(super) fn new(pace: Duration) -> Self {
        Self { pace, there: Arc::default() }
    }

    pub(super) fn comes(&self, address: &str) {
        self.there.lock().unwrap_or_else(PoisonError::into_inner).insert(address.to_owned());
    }

    pub(super) fn goes(&self, address: &str) {
        self.there.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }

    /// Asks an analyzer to look at what is at `target`: it fails when one of the two goes meanwhile.
    pub(super) async fn ask(
        &self,
        analyzer: &str,
        target: &str,
        code: &str,
        tools: &[String],
    ) -> Result<String, Failure> {
        tokio::time::sleep(self.pace).await; // real time: it works
        let there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        // A process of its own is kept by its driver.
        let is_fake = |address: &&str| address.starts_with("fake:");
        let gone = [analyzer, target].into_iter().filter(is_fake).find(|it| !there.contains(*it));
        match gone {
            Some(gone) => {
                let what = format!("{gone} has closed the connection");
                Err(Failure::new(FailureClass::Transient, "APP4", what))
            }
            None => Ok(answer(code, tools)),
        }
    }
}

/// What an analyzer answers about `code`: a report for each tool, in a form of its own.
fn answer(code: &str, tools: &[String]) -> String {
    let reports = tools.iter().map(|tool| (tool.clone(), report(code, tool))).collect();
    let mut answer = Value::Object(reports).to_string();
    if code.contains(RIDDLE) {
        answer.truncate(answer.len() / 2);
    }
    answer
}

/// Deterministic, as everything here.
fn report(code: &str, tool: &str) -> Value {
    let many = (code.len() + tool.len()) % 4;
    let severity = ["info", "low", "medium", "high"][many];
    let risk = ["Informational", "Low", "Medium", "High"][many];
    let level = ["note", "warning", "warning", "error"][many];
    match tool {
        "semgrep" | "detect-secrets" => {
            json!({ "runs": [{ "results": vec![json!({ "level": level }); many] }] })
        }
        "zap" | "nmap" => json!({ "alerts": [{ "risk": risk, "count": many.to_string() }] }),
        "safety" | "npm-audit" => json!({ "by_severity": { severity: many } }),
        "locust" | "ab" | "aiohttp" | "artillery" => json!({ "total_issues": many }),
        _ => json!({ "issues": vec![json!({ "severity": severity }); many] }),
    }
}

/// The folder with the apps. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Scaffold(PathBuf);

impl Scaffold {
    pub(super) fn below(folder: &Path) -> Self {
        Self(folder.join("apps"))
    }

    pub(super) fn root(&self) -> &Path {
        &self.0
    }

    fn folder(&self, model: &str, number: &str) -> PathBuf {
        self.0.join(model).join(number)
    }

    /// All of an app or nothing: it is written under the name of the attempt, and then gets its own.
    pub(super) fn write(
        &self,
        app: &App,
        code: &[(&str, String)],
        attempt: &str,
    ) -> io::Result<()> {
        let whole = self.folder(&app.model, &app.number.to_string());
        if whole.exists() {
            // By an earlier attempt, of the same replies.
            return Ok(());
        }
        let draft = self.0.join("drafts").join(attempt.replace(['/', ':', '#'], "-"));
        fs::create_dir_all(&draft)?;
        for (part, text) in code {
            fs::write(draft.join(part), text)?;
        }
        fs::create_dir_all(self.0.join(&app.model))?;
        fs::rename(draft, whole)
    }

    pub(super) fn read(&self, app: &App) -> io::Result<String> {
        let folder = self.folder(&app.model, &app.number.to_string());
        PARTS.iter().map(|part| fs::read_to_string(folder.join(part))).collect()
    }

    /// Builds the app `model:number`; why it cannot be built.
    pub(super) fn build(&self, app: &str) -> Result<(), String> {
        let (model, number) = app.rsplit_once(':').unwrap_or((app, ""));
        let backend = fs::read_to_string(self.folder(model, number).join("backend"));
        match backend {
            Ok(code) if code.contains(MISSING) => Err(format!("{app} does not build: {code}")),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("there is no app {app}: {error}")),
        }
    }
}
