//! What is outside of the platform, without an outside: a model, a network, and the folder with the apps.

use std::{
    collections::BTreeSet,
    fs,
    future::ready,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::stream::iter;
use perennial::records::{Failure, FailureClass};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{
    analyzer::{Analyzer, Bounds, Tools},
    caller::{NoResult, ask},
    frames::{Code, FRAME_MAX, Order, Progress, WorkId},
    generation::{self, App, PARTS},
    works::{End, Reporter},
};

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
        order: &generation::Order,
        part: &str,
        attempt: u32,
    ) -> Result<String, Failure> {
        tokio::time::sleep(self.pace).await; // real time: it thinks
        let generation::Order { model, template, .. } = order;
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

/// Which apps are reached at which address. Cheap to clone.
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
        self.there().insert(address.to_owned());
    }

    pub(super) fn goes(&self, address: &str) {
        self.there().remove(address);
    }

    fn there(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tools of an analyzer: they look at what is at their target, and fail when that goes meanwhile.
    pub(super) fn tools(&self) -> Tools {
        let network = self.clone();
        Tools::new(move |order: Order, reporter: Reporter| {
            let network = network.clone();
            async move { network.looked(&order, &reporter).await }
        })
    }

    async fn looked(&self, order: &Order, reporter: &Reporter) -> End {
        reporter.tell(
            "started",
            0.0,
            &format!("{} tools look at {}", order.tools.len(), order.target),
        );
        tokio::time::sleep(self.pace).await; // real time: they work
        let target = &order.target;
        if target.starts_with("fake:") && !self.there().contains(target) {
            return Err((Code::Gone, format!("{target} has closed the connection")));
        }
        reporter.tell("finished", 1.0, "");
        Ok(Value::String(answer(&order.code, &order.tools)))
    }

    /// Asks the analyzer at `address`, and tells how far it is meanwhile.
    pub(super) async fn ask<H: Future<Output = ()>>(
        &self,
        address: &str,
        id: &WorkId,
        order: &Order,
        heard: impl FnMut(Progress) -> H,
    ) -> Result<Value, Failure> {
        let asked = match parts(address) {
            (at, _) if !at.is_empty() => {
                ask(|| TcpStream::connect(at), FRAME_MAX, id, order, heard).await
            }
            // A process that cannot speak is spoken for, for as long as it is asked.
            _ => {
                let analyzer = Analyzer::new(&order.to, self.tools(), Bounds::default());
                let (near, far) = tokio::io::duplex(64 << 10);
                let mut near = Some(near);
                let connect =
                    move || ready(near.take().ok_or_else(|| ErrorKind::ConnectionRefused.into()));
                tokio::select! {
                    asked = ask(connect, FRAME_MAX, id, order, heard) => asked,
                    () = analyzer.serve(iter([far])) => Err(NoResult::Lost("it ended".to_owned())),
                }
            }
        };
        asked.map_err(|none| {
            let (class, what) = match none {
                NoResult::Lost(why) => (FailureClass::Transient, format!("{address}: {why}")),
                NoResult::Told(code, why) => (class(code), why),
            };
            Failure::new(class, "APP4", what)
        })
    }
}

/// Where an analyzer listens, and what it is asked as there: an address may have been somebody's before. One that does not
/// listen is nowhere.
pub(super) fn parts(address: &str) -> (&str, &str) {
    address.strip_prefix("tcp://").and_then(|rest| rest.split_once('/')).unwrap_or(("", address))
}

/// Whether it may go better at another time.
fn class(code: Code) -> FailureClass {
    match code {
        Code::Gone | Code::Cancelled | Code::UnknownWork | Code::NotDone => FailureClass::Transient,
        Code::Deadline => FailureClass::Timeout,
        Code::Busy => FailureClass::Overloaded,
        Code::Malformed | Code::UnknownType | Code::TooLarge => FailureClass::Permanent,
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
