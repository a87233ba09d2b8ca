//! The plan: apps are generated, model by model and template by template; each app is analysed as soon as it is there.

use perennial::engine::staged::{
    Edge, Feed, JobSpec, Plan, PlanProblems, RunReport, Stage, StagedWorkflow, Upstream,
};
use perennial::engine::workflow::{RetryPolicy, SkipReason};
use perennial::service::ServiceKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    analysis::{Analysis, AnalyzeApp},
    generation::{App, Generate, Order},
    report::StudyReport,
};

/// What is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Study {
    pub(crate) models: Vec<String>,
    pub(crate) templates: Vec<String>,
    /// Apps that are there already: with them nothing is generated.
    pub(crate) existing: Vec<App>,
    /// None is every tool that there is.
    pub(crate) tools: Vec<String>,
    /// Each app is analysed as soon as it is there; else all of them once the last one is.
    pub(crate) streaming: bool,
    /// Else they are generated, and nothing more.
    pub(crate) analyse: bool,
}

impl Study {
    /// Two models, three templates, all tools.
    pub(crate) fn usual() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            models: texts(&["large", "swift"]),
            templates: texts(&["blog", "chat", "shop"]),
            existing: Vec::new(),
            tools: Vec::new(),
            streaming: true,
            analyse: true,
        }
    }

    /// The jobs of the first stage, each with its model and template.
    pub(crate) fn orders(&self) -> impl Iterator<Item = (JobSpec, String, String)> {
        let of = |model| self.templates.iter().map(move |template| (model, template));
        // The place keeps two equal pairs apart.
        self.models.iter().flat_map(of).enumerate().map(|(place, (model, template))| {
            let key = format!("{place}:{model}:{template}");
            let (model, template) = (model.clone(), template.clone());
            let order =
                Order { pair: key.clone(), model: model.clone(), template: template.clone() };
            (JobSpec::new(&key, &order), model, template)
        })
    }
}

/// With how often what fails for a moment is tried.
pub(crate) struct StagedJobs(pub(super) RetryPolicy);

impl StagedWorkflow for StagedJobs {
    const NAME: &'static str = "staged-jobs";
    const VERSION: u32 = 1;
    type Input = Study;
    type Output = StudyReport;

    fn plan(&self, study: &Study) -> Result<Plan, PlanProblems> {
        let generation = Stage::activity::<Generate>("generation")
            .concurrency(2)
            .retry(self.0)
            .uses(ServiceKey::shared("llm"));
        let analysis = Stage::group::<AnalyzeApp>("analysis")
            .concurrency(2)
            // One analysis of an app at a time, across runs.
            .concurrency_key(app_of, 1);
        let (generation, feed) = if study.existing.is_empty() {
            let edge = Edge::from("generation", analyses);
            let feed = if study.streaming { Feed::per_item(edge) } else { Feed::barrier(edge) };
            let orders = study.orders().map(|(order, ..)| order);
            (generation.feed(Feed::jobs(orders)), feed)
        } else {
            let of = |app: &App| analysis_of(app.clone(), &study.tools);
            let jobs: Vec<JobSpec> = study.existing.iter().map(of).collect();
            (generation.skip(SkipReason::NotApplicable), Feed::jobs(jobs))
        };
        let analysis = analysis.feed(feed);
        let analysis =
            if study.analyse { analysis } else { analysis.skip(SkipReason::NotApplicable) };
        Ok(Plan::new().stage(generation).stage(analysis))
    }

    fn summarize(&self, _: &Study, report: &RunReport) -> StudyReport {
        StudyReport::of(report)
    }
}

/// Of one that cannot be read the analysis fails; it needs no turn for that.
fn app_of(input: &Value) -> String {
    let analysis: Option<Analysis> = serde_json::from_value(input.clone()).ok();
    analysis.map_or_else(|| "no app".to_owned(), |analysis| format!("app/{}", analysis.app.name()))
}

/// One analysis of each app; of one that was not made there is one as well, skipped by the engine.
fn analyses(study: &Value, generated: &Upstream) -> Vec<JobSpec> {
    let tools: Vec<String> = serde_json::from_value(study["tools"].clone()).unwrap_or_default();
    generated.succeeded().filter_map(|item| Some(analysis_of(item.output()?, &tools))).collect()
}

fn analysis_of(app: App, tools: &[String]) -> JobSpec {
    JobSpec::new(app.pair.clone(), &Analysis { app, tools: tools.to_vec() })
}
