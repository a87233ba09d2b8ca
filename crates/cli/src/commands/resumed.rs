//! What becomes of the steps of a run that goes on, and why one does not.

use std::path::Path;

use perennial::{
    Deployment, Pipelines, ResumePipelineError, RunId, StartPipelineError,
    records::{Pipeline, ResumePlan, render},
};
use serde_json::{Value, json};

use super::{
    hint::{self, Hint, quoted},
    progress::Shown,
    taken::{self, Taken},
};
use crate::{
    args::{ReadingArgs, ResumeArgs},
    exit::{self, failed, failed_with},
    output,
};

/// Says to people what becomes of each step (YR-58). What programs are told is written by those who
/// follow the run: it goes on, also when that cannot be written.
pub(super) fn tell(plan: &ResumePlan, shown: Shown) {
    if !shown.json && !shown.quiet {
        for step in &plan.steps {
            output::talk(&format!("  {}: {}", step.path, step.fate));
        }
    }
}

/// Says of which children the texts count that the run has recorded, and of which the files are others now.
pub(super) fn tell_kept(run: &RunId, kept: &[(&str, Taken)], shown: Shown, hint: &Hint) {
    for (step, taken) in kept {
        let file = taken.file();
        let goes_on = format!("{step} goes on by the recorded text of {file}");
        let anew = taken::anew(hint, run.as_str(), step);
        if taken.has_changed() == Some(true) {
            let text = format!("run {run}: {goes_on}, which has changed since");
            output::warning(&format!("{text}; read it anew with: {anew}"));
        } else if !shown.json && !shown.quiet {
            output::talk(&format!("  {goes_on}; {anew} reads it anew"));
        }
    }
}

/// The plan as one JSON value, for programs.
pub(super) fn described(run: &str, plan: &ResumePlan) -> Value {
    json!({ "type": "resume", "run": run, "steps": steps(plan) })
}

/// The steps of a plan, in JSON.
pub(super) fn steps(plan: &ResumePlan) -> Value {
    let step = |step: &perennial::records::ResumedStep| {
        let mut told = json!({ "step": step.path, "fate": step.fate.name() });
        if let Some(why) = step.fate.why() {
            told["why"] = json!(why.to_string());
        }
        told
    };
    plan.steps.iter().map(step).collect()
}

/// The corrected document of a run, read once; nothing when it is not valid, which has then been
/// said.
pub(super) fn corrected(
    file: &Path,
    reading: &ReadingArgs,
    deployment: &Deployment,
) -> anyhow::Result<Option<Pipeline>> {
    let leniency = reading.leniency().map_err(|error| failed(exit::USAGE, error))?;
    let checked = Pipelines::check_deployed(file, &leniency, deployment)
        .map_err(|error| failed(exit::INVALID, format!("error[PL101]: {error}")))?;
    let denied = reading.deny_warnings && !checked.diagnostics.is_empty();
    let pipeline = checked.pipeline.filter(|_| !denied);
    if pipeline.is_none() {
        for diagnostic in &checked.diagnostics {
            output::talk_text(&render(diagnostic, false));
        }
        output::talk(&format!("error: {} is not valid; nothing was resumed", file.display()));
    }
    Ok(pipeline)
}

/// Why a run does not go on, with the command that helps.
pub(super) fn refused(
    run: &RunId,
    args: &ResumeArgs,
    error: ResumePipelineError,
    hint: &Hint,
) -> anyhow::Error {
    let mut help = hint.resume(run.as_str());
    if let Some(file) = &args.file {
        help.push_str(&format!(" --file {}", quoted(&file.display().to_string())));
    }
    let plain = help.clone();
    if let Some(step) = &args.from {
        help.push_str(&format!(" --from {}", quoted(step)));
    }
    explained(error, &plain, &help, hint)
}

/// Why the unfinished run of a document does not go on.
pub(super) fn refused_at_start(
    run: &RunId,
    file: &Path,
    error: ResumePipelineError,
    hint: &Hint,
) -> anyhow::Error {
    let file = quoted(&file.display().to_string());
    let help = format!("{} --file {file}", hint.resume(run.as_str()));
    let error = explained(error, &help, &help, hint);
    error
        .context(format!("run {run} is unfinished and cannot be resumed; --fresh starts a new one"))
}

fn explained(error: ResumePipelineError, plain: &str, resume: &str, hint: &Hint) -> anyhow::Error {
    let code = exit::of_resume(&error);
    if let ResumePipelineError::Run(error)
    | ResumePipelineError::Document(StartPipelineError::Run(error)) = &error
    {
        return hint::refused(error, hint);
    }
    if let ResumePipelineError::NoSuchStep { around: Some(around), .. } = &error {
        let help = format!("{} --from {}", plain, quoted(around));
        return failed_with(code, error, help);
    }
    if matches!(error, ResumePipelineError::Rewrites(_)) {
        return failed_with(code, error, format!("{resume} --rerun-writes"));
    }
    failed(code, error)
}
