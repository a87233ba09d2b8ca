//! What is executed: the generation of an app, and the tools that analyse it. Models and tools are fakes.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use perennial::engine::staged::{
    Activity, ActivityError, Child, ChildOutcome, Ended, Group, Joined,
};
use perennial::engine::workflow::{RetryPolicy, SequenceName, SkipReason};
use perennial::engine::{AfterWait, AttemptCx, Definition, Unavailable};
use perennial::records::{Failure, FailureClass};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) model: String,
    pub(crate) template: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct App {
    pub(crate) model: String,
    pub(crate) template: String,
    /// Of its model.
    pub(crate) number: u64,
    pub(crate) code: Vec<String>,
    #[serde(default)]
    pub(crate) tools: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) count: u64,
}

/// A language model that counts its calls, refuses one order for good, and is overloaded once.
#[derive(Default)]
pub(crate) struct FakeModel {
    pub(crate) calls: AtomicU32,
    overloads: AtomicU32,
}

pub(crate) struct Generate(pub(crate) Arc<FakeModel>);

impl Activity for Generate {
    const NAME: &'static str = "generate";
    type In = Order;
    type Out = App;

    async fn run(&self, cx: &AttemptCx, order: Order) -> Result<Ended<App>, ActivityError> {
        // The job keeps its number, over all of its attempts.
        let apps = SequenceName::new("app").map_err(|error| broken(&error))?;
        let number = cx.allocate(&apps, &order.model).await?;
        let mut code = Vec::new();
        for part in ["backend", "frontend"] {
            // A reply that an earlier attempt has recorded is not paid for twice.
            let request = Definition::new(format!("{part} of {order:?}").into_bytes());
            let reply = cx.call(request.digest, async |_| self.0.complete(&order, part)).await?;
            code.push(reply.value.as_str().unwrap_or_default().to_owned());
        }
        let Order { model, template } = order;
        Ok(Ended::Done(App { model, template, number, code, tools: Vec::new() }))
    }
}

fn broken(error: &impl std::fmt::Display) -> Failure {
    Failure::new(FailureClass::Internal, "APP9", error.to_string())
}

impl FakeModel {
    fn complete(&self, order: &Order, part: &str) -> Result<serde_json::Value, Failure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let Order { model, template } = order;
        match (model.as_str(), template.as_str(), part) {
            ("swift", "shop", _) => Err(Failure::new(
                FailureClass::Permanent,
                "APP1",
                "the model refuses to write a shop",
            )),
            ("large", "chat", "frontend") if self.overloads.fetch_add(1, Ordering::SeqCst) == 0 => {
                Err(Failure::new(FailureClass::Overloaded, "APP2", "the model is overloaded"))
            }
            _ => Ok(json!(format!("{part} of a {template} by {model}"))),
        }
    }
}

/// One child for each tool; one that nobody knows is a child as well, and skipped.
pub(crate) struct AnalyzeApp;

impl Group for AnalyzeApp {
    const NAME: &'static str = "analyze-app";
    type In = App;
    type Out = Findings;

    fn expand(&self, app: &App) -> Vec<Child> {
        let child = |tool: &String| match tool.as_str() {
            "static" | "dynamic" => {
                Child::activity::<RunTool>(tool, &(tool, app)).retry(RetryPolicy::ONCE)
            }
            _ => Child::skipped(tool, SkipReason::UnknownTool),
        };
        app.tools.iter().map(child).collect()
    }

    fn join(&self, _: &App, children: &[ChildOutcome]) -> Joined<Findings> {
        let found = children.iter().filter_map(ChildOutcome::output::<Findings>);
        Joined::by_ends(children, Findings { count: found.map(|found| found.count).sum() })
    }
}

/// Runs a tool on an app. The dynamic one needs the app itself to run, and one of them does not build.
pub(crate) struct RunTool;

impl Activity for RunTool {
    const NAME: &'static str = "run-tool";
    type In = (String, App);
    type Out = Findings;

    async fn run(
        &self,
        _: &AttemptCx,
        (tool, app): (String, App),
    ) -> Result<Ended<Findings>, ActivityError> {
        if tool == "dynamic" && (app.model.as_str(), app.template.as_str()) == ("large", "blog") {
            // Nothing is waited for: what does not build now does not build later.
            let missing = Unavailable::new("the app").at_most(std::time::Duration::ZERO);
            return Err(missing.then(AfterWait::Skip).into());
        }
        let count = app.code.iter().map(|code| code.len() as u64 % 4).sum();
        Ok(Ended::Done(Findings { count }))
    }
}
