//! What is shown of a valid file beside its diagnostics. Secrets are only ever names here.

use std::time::Duration;

use perennial::records::{Input, Pipeline, Plan, PlannedJob, yaml_text};
use serde_json::{Value, json};

use crate::{args::CheckView, output};

/// The view that was asked for, and its name in JSON; none when nothing was.
pub(super) fn chosen(view: &CheckView, pipeline: &Pipeline) -> Option<(&'static str, Value)> {
    if view.resolved {
        return Some(("resolved", pipeline.resolved()));
    }
    if view.inputs {
        return Some(("given", given(pipeline)));
    }
    view.plan.then(|| ("plan", planned(&pipeline.plan())))
}

/// Prints the view that was asked for.
pub(super) fn print(view: &CheckView, pipeline: &Pipeline) -> anyhow::Result<()> {
    if view.resolved {
        output::text(&format!("{}\n", yaml_text(&pipeline.resolved())))?;
    }
    if view.inputs {
        let inputs = pipeline.inputs().iter().map(input_row);
        let environment = pipeline.environment().iter();
        let environment =
            environment.map(|name| [name.clone(), "environment".to_owned(), String::new()]);
        for line in output::columns(inputs.chain(environment)) {
            output::line(&line)?;
        }
    }
    if view.plan {
        let plan = pipeline.plan();
        let width = plan.jobs.iter().map(|job| job.key.chars().count()).max().unwrap_or(0).min(40);
        for (place, job) in plan.jobs.iter().enumerate() {
            output::line(&job_line(place, job, width))?;
        }
    }
    Ok(())
}

fn given(pipeline: &Pipeline) -> Value {
    let input = |input: &Input| {
        json!({
            "name": input.name,
            "type": input.kind.name(),
            "required": input.required && input.default_value().is_none(),
            "declared": input.declared,
            "default": input.default_value(),
            "description": input.description,
        })
    };
    json!({
        "inputs": pipeline.inputs().iter().map(input).collect::<Vec<_>>(),
        "environment": pipeline.environment(),
    })
}

fn planned(plan: &Plan) -> Value {
    let job = |job: &PlannedJob| {
        json!({
            "key": job.key,
            "type": job.type_name,
            "after": job.after,
            "condition": job.condition,
            "attempts": job.attempts,
            "within_ms": job.within_ms,
            "child_within_ms": job.child_within_ms,
            "child_later": job.child_later,
            "continue_on_error": job.continue_on_error,
            "on_error": job.on_error,
            "handles": job.handles,
        })
    };
    json!({
        "jobs": plan.jobs.iter().map(job).collect::<Vec<_>>(),
        "environment": plan.environment,
        "required_inputs": plan.required_inputs,
    })
}

fn input_row(input: &Input) -> [String; 3] {
    let mut more = match input.default_value() {
        Some(default) => format!("default {default}"),
        None if input.required => "required".to_owned(),
        None => "optional".to_owned(),
    };
    if let Some(description) = &input.description {
        more.push_str(&format!("  {description}"));
    }
    [input.name.clone(), input.kind.name().to_owned(), more]
}

/// How often a step is tried, and how long each time, in words.
pub(in crate::commands) fn tries(attempts: u32, within_ms: u64, child_ms: Option<u64>) -> String {
    let took = |ms| output::took(Duration::from_millis(ms));
    let each = match child_ms {
        Some(child) => {
            format!(
                "its child at most {}, beginning and ending it {}",
                took(child),
                took(within_ms)
            )
        }
        None => format!("at most {}", took(within_ms)),
    };
    match attempts {
        1 => format!("1 attempt: {each}"),
        _ => format!("up to {attempts} attempts, after failures that may pass; each {each}"),
    }
}

fn job_line(place: usize, job: &PlannedJob, width: usize) -> String {
    let mut line = format!(
        "{:>3}  {:width$}  {}  {}",
        place + 1,
        job.key,
        job.type_name,
        tries(job.attempts, job.within_ms, job.child_within_ms),
    );
    if let Some(child) = &job.child_later {
        line.push_str(&format!("  ({child})"));
    }
    if let Some(condition) = &job.condition {
        line.push_str(&format!("  if {condition}"));
    }
    if job.continue_on_error {
        line.push_str("  may fail");
    }
    if !job.on_error.is_empty() {
        line.push_str("  has a handler");
    }
    if let Some(step) = &job.handles {
        line.push_str(&format!("  if {step} fails"));
    }
    line
}
