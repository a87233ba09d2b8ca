//! The plan: apps are generated, model by model and template by template; each app is analysed as soon as it is there.

use perennial::engine::staged::{
    Edge, Feed, JobSpec, Plan, PlanProblems, RunReport, Stage, StagedWorkflow, Upstream,
};
use perennial::engine::workflow::{JobState, RetryPolicy};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::activities::{AnalyzeApp, App, Findings, Generate, Order};

/// What is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Study {
    pub(crate) models: Vec<String>,
    pub(crate) templates: Vec<String>,
    pub(crate) tools: Vec<String>,
    /// Each app as soon as it is there; else all of them once the last one is.
    pub(crate) streaming: bool,
}

pub(crate) struct StagedJobs;

impl StagedWorkflow for StagedJobs {
    const NAME: &'static str = "staged-jobs";
    const VERSION: u32 = 1;
    type Input = Study;
    type Output = String;

    fn plan(&self, study: &Study) -> Result<Plan, PlanProblems> {
        let pairs =
            study.models.iter().flat_map(|model| study.templates.iter().map(move |it| (model, it)));
        // The place keeps two equal pairs apart.
        let jobs = pairs.enumerate().map(|(place, (model, template))| {
            let order = Order { model: model.clone(), template: template.clone() };
            JobSpec::new(format!("{place}:{model}:{template}"), &order)
        });
        let retry = RetryPolicy { base_ms: 20, ..RetryPolicy::PROVIDER };
        let generation = Stage::activity::<Generate>("generation").feed(Feed::jobs(jobs));
        let edge = Edge::from("generation", analyses);
        let feed = if study.streaming { Feed::per_item(edge) } else { Feed::barrier(edge) };
        let analysis = Stage::group::<AnalyzeApp>("analysis").feed(feed);
        Ok(Plan::new().stage(generation.concurrency(2).retry(retry)).stage(analysis.concurrency(2)))
    }

    fn summarize(&self, _: &Study, report: &RunReport) -> String {
        let mut lines = Vec::new();
        for stage in &report.stages {
            // The order in which they were made is that of the feed.
            let mut items: Vec<_> = stage.items.iter().collect();
            items.sort_by_key(|item| &item.key);
            for item in items {
                let app = item.output::<App>().map(|app| format!("{} {}", app.model, app.number));
                let found =
                    item.output::<Findings>().map(|found| format!("{} findings", found.count));
                let skipped = item.skipped.map(|why| format!("because of {why}"));
                let failed =
                    item.result.as_ref().and_then(|it| it["message"].as_str()).map(str::to_owned);
                let more =
                    app.or(found).or(skipped).or(failed.filter(|_| item.state == JobState::Failed));
                let (key, state) = (&item.key, item.state.name());
                lines.push(format!(
                    "  {:<11} {key:<16} {state:<10} {}",
                    stage.stage,
                    more.unwrap_or_default()
                ));
            }
        }
        lines.join("\n")
    }
}

/// One analysis of each app.
fn analyses(study: &Value, generated: &Upstream) -> Vec<JobSpec> {
    let tools: Vec<String> = serde_json::from_value(study["tools"].clone()).unwrap_or_default();
    let app = |key: &String, app: App| JobSpec::new(key, &App { tools: tools.clone(), ..app });
    generated.succeeded().filter_map(|item| Some(app(&item.key, item.output()?))).collect()
}
