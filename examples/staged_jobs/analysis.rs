//! Tools look at apps: a group for each app, a child for each analyzer that has some of the tools. An app that does not
//! build has no result of those that need it running, and keeps the others.

use std::collections::BTreeMap;

use perennial::engine::staged::{
    Activity, ActivityError, Child, ChildOutcome, Ended, Group, Joined, Timeouts,
};
use perennial::engine::workflow::{RetryPolicy, SkipReason};
use perennial::engine::{AfterWait, AttemptCx, Unavailable};
use perennial::records::{Failure, FailureClass};
use perennial::service::ServiceKey;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Notes,
    answers::{Found, Severity, read},
    catalogue::{ANALYZERS, Asked, by_analyzer},
    fakes::{Network, Scaffold, parts},
    frames::{Order, WorkId},
    generation::App,
};

/// An app, and what is to look at it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Analysis {
    pub(crate) app: App,
    pub(crate) tools: Vec<String>,
}

/// What was found, by analyzer and tool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Findings(pub(super) BTreeMap<String, BTreeMap<String, Found>>);

impl Findings {
    pub(super) fn worst(&self) -> Option<Severity> {
        self.tools().filter_map(|found| found.worst).max()
    }

    pub(super) fn issues(&self) -> u64 {
        self.tools().fold(0, |sum, found| sum.saturating_add(found.issues))
    }

    fn tools(&self) -> impl Iterator<Item = &Found> {
        self.0.values().flat_map(BTreeMap::values)
    }
}

/// With how often what fails for a moment is tried.
pub(super) struct AnalyzeApp(pub(super) RetryPolicy);

impl Group for AnalyzeApp {
    const NAME: &'static str = "analyze-app";
    type In = Analysis;
    type Out = Findings;

    fn expand(&self, analysis: &Analysis) -> Vec<Child> {
        let child = |asked| match asked {
            Asked::Known(analyzer, tools) => {
                let of_app = ToolRun {
                    app: analysis.app.clone(),
                    analyzer: analyzer.name.to_owned(),
                    tools: tools.into_iter().map(str::to_owned).collect(),
                    needs_app: analyzer.needs_app,
                };
                let child = Child::activity::<RunTools>(analyzer.name, &of_app)
                    .retry(self.0)
                    .timeouts(Timeouts::start_to_close(analyzer.within))
                    .uses(ServiceKey::shared(analyzer.name));
                if analyzer.needs_app { child.uses(analysis.app.running()) } else { child }
            }
            // Nothing vanishes.
            Asked::Unknown(tool) => Child::skipped(tool, SkipReason::UnknownTool),
        };
        by_analyzer(&analysis.tools).into_iter().map(child).collect()
    }

    fn join(&self, _: &Analysis, children: &[ChildOutcome]) -> Joined<Findings> {
        let found = children.iter().filter_map(ChildOutcome::output::<Findings>);
        Joined::by_ends(children, Findings(found.flat_map(|found| found.0).collect()))
    }
}

/// The tools of one analyzer, and the app that they are to look at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ToolRun {
    app: App,
    analyzer: String,
    tools: Vec<String>,
    needs_app: bool,
}

pub(super) struct RunTools {
    pub(super) network: Network,
    pub(super) scaffold: Scaffold,
    pub(super) notes: Notes,
}

impl Activity for RunTools {
    const NAME: &'static str = "run-tools";
    type In = ToolRun;
    type Out = Findings;

    async fn run(&self, cx: &AttemptCx, run: ToolRun) -> Result<Ended<Findings>, ActivityError> {
        let ToolRun { app, analyzer, tools, needs_app } = run;
        // The job holds it already: here it tells where it is.
        let running = match needs_app {
            true => Some(cx.hold(&app.running()).await.map_err(skips)?),
            false => None,
        };
        let code = self.scaffold.read(&app).map_err(|error| {
            Failure::new(FailureClass::Permanent, "APP2", format!("no such app: {error}"))
        })?;
        let service = ServiceKey::shared(analyzer.clone());
        let permit = cx.permit(&service).await?;
        let address = permit.endpoint().unwrap_or_default().to_owned();
        (self.notes)(&format!("asked {analyzer} {address}"));
        let target = running.as_ref().and_then(|app| app.endpoint()).unwrap_or("its code");
        let id = WorkId { job: format!("{}/{}", cx.run, cx.job), attempt: cx.attempt };
        let within = ANALYZERS.iter().find(|it| it.name == analyzer).map(|it| it.within);
        let order = Order {
            to: parts(&address).1.to_owned(),
            target: target.to_owned(),
            code,
            tools: tools.clone(),
            deadline_ms: within.map_or(0, |it| it.as_millis().try_into().unwrap_or(u64::MAX)),
        };
        // How far it is can be seen, and is lost without a loss.
        let heard = async |progress| drop(cx.heartbeat(json!(progress)).await);
        let answer = self.network.ask(&address, &id, &order, heard).await;
        permit.settle(answer.as_ref().err());
        let answer = answer.map_err(|failure| {
            if ![FailureClass::Transient, FailureClass::Overloaded].contains(&failure.class) {
                return failure.into();
            }
            // It went away meanwhile. That uses no try: the job comes back when the service does.
            let gone = Unavailable::new(format!("service {service}: {}", failure.message));
            ActivityError::from(gone.retry_at(cx.now).then(AfterWait::Skip))
        })?;
        let (found, problems) = read(answer.as_str().unwrap_or_default(), &tools);
        let findings = Findings(BTreeMap::from([(analyzer, found)]));
        Ok(if problems.is_empty() {
            Ended::Done(findings)
        } else {
            Ended::Partial(findings, problems)
        })
    }
}

/// A child that cannot have what it needs is left out.
fn skips(missing: Unavailable) -> Unavailable {
    missing.then(AfterWait::Skip)
}
