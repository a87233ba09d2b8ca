//! What runs of an older text of a document would keep, and which of them could take the new one.

use std::path::Path;

use perennial::{
    Deployment, Leniency, Pipelines, ResumePipeline, Store,
    records::{Pipeline, ResumePlan, RunSummary, StepFate},
};
use serde_json::{Value, json};

use super::super::{engine, resumed};
use crate::{
    exit::{self, failed},
    output,
};

/// Runs that are looked through, newest first.
const LOOKED_THROUGH: u32 = 1_000;

/// What was found.
#[derive(Debug)]
pub(super) struct Compat {
    old: String,
    plan: ResumePlan,
    /// Unfinished runs of the workflow, where a store was named.
    runs: Vec<Taking>,
}

/// A run, and what would become of its steps, or why it cannot take the new text.
#[derive(Debug)]
struct Taking {
    run: RunSummary,
    plan: Result<ResumePlan, String>,
}

/// The text in `old`, read as the new one is.
pub(super) fn older(
    old: &Path,
    leniency: &Leniency,
    deployment: &Deployment,
) -> anyhow::Result<Pipeline> {
    let checked = Pipelines::check_deployed(old, leniency, deployment)
        .map_err(|error| failed(exit::INVALID, format!("error[PL101]: {error}")))?;
    let invalid = || failed(exit::INVALID, format!("{} is not valid", old.display()));
    checked.pipeline.ok_or_else(invalid)
}

/// Compares `new` with `before`, the text in `old`, and asks the store.
pub(super) async fn compat(
    (old, before): (&Path, &Pipeline),
    new: &Pipeline,
    store: Option<&Store>,
) -> anyhow::Result<Compat> {
    let plan = Pipelines::compare(before, new);
    let runs = match store {
        Some(store) => taking(store, new).await?,
        None => Vec::new(),
    };
    Ok(Compat { old: old.display().to_string(), plan, runs })
}

async fn taking(store: &Store, new: &Pipeline) -> anyhow::Result<Vec<Taking>> {
    let runtime = engine::start_reading(store).await?;
    let listed = runtime.runs().list(LOOKED_THROUGH).await;
    let mut found = Vec::new();
    for run in listed.iter().flatten() {
        if run.workflow != new.name() || (run.state.is_terminal() && !run.state.may_reopen()) {
            continue;
        }
        let asked = ResumePipeline::run(run.run.clone()).checked(new.clone());
        let plan = runtime.pipelines().plan_resume(&asked).await;
        found.push(Taking { run: run.clone(), plan: plan.map_err(|error| error.to_string()) });
    }
    runtime.shutdown().await;
    match listed {
        Ok(_) => Ok(found),
        Err(error) => Err(failed(exit::of_run_error(&error), error)),
    }
}

impl Compat {
    pub(super) fn json(&self) -> Value {
        let run = |taking: &Taking| {
            let run = &taking.run;
            let mut told = json!({ "run": run.run, "state": run.state.name() });
            match &taking.plan {
                Ok(plan) => {
                    told["takes"] = json!(true);
                    told["steps"] = resumed::steps(plan);
                    told["rewrites"] = json!(plan.rewrites);
                }
                Err(why) => {
                    told["takes"] = json!(false);
                    told["why"] = json!(why);
                }
            }
            told
        };
        let runs: Vec<Value> = self.runs.iter().map(run).collect();
        json!({ "old": self.old, "steps": resumed::steps(&self.plan), "runs": runs })
    }

    pub(super) fn print(&self) -> anyhow::Result<()> {
        output::line(&format!("of a run of {} that had completed all steps:", self.old))?;
        for step in &self.plan.steps {
            output::line(&format!("  {}: {}", step.path, step.fate))?;
        }
        for Taking { run, plan } in &self.runs {
            let head = format!("run {} ({})", run.run, run.state.status());
            match plan {
                Ok(plan) => {
                    let kept = plan.steps.iter().filter(|step| step.fate == StepFate::Reused);
                    let (kept, all) = (kept.count(), plan.steps.len());
                    let mut line =
                        format!("{head} could take it: {kept} of {all} steps are reused");
                    if !plan.rewrites.is_empty() {
                        let steps = plan.rewrites.join(", ");
                        line.push_str(&format!("; --rerun-writes is needed for {steps}"));
                    }
                    output::line(&line)?;
                }
                Err(why) => output::line(&format!("{head} cannot take it: {why}"))?,
            }
        }
        Ok(())
    }
}
