//! What a run takes with it into a further round: its directories, its secrets, and what is still to be asked anew.

use std::collections::BTreeSet;

use perennial_core::run::{JobState, StepPath};
use perennial_pipeline::{Pipeline, RunDirectories, RunEnvironment, RunSettings};
use perennial_store::RunView;
use perennial_tools::files::FileError;

use super::super::{
    Preflight, RegisteredPipelines, ResumePipelineError, StartPipeline, request::Source,
};

/// A run whose secrets are not set here is left as it is: starting it would only fail it. With the
/// definition that it goes on with, only those count that it reads.
pub(super) fn require_secrets(
    environment: &RunEnvironment,
    pipeline: Option<&Pipeline>,
) -> Result<(), ResumePipelineError> {
    let is_read = |name: &&str| {
        pipeline.is_none_or(|pipeline| pipeline.environment().iter().any(|read| read == name))
    };
    let missing = environment.missing_secrets().into_iter().filter(is_read);
    let refusals: Vec<Preflight> =
        missing.map(|name| Preflight::Secret { name: name.to_owned() }).collect();
    if refusals.is_empty() { Ok(()) } else { Err(ResumePipelineError::Preflight(refusals)) }
}

/// The directories stay; documents of the run may lie elsewhere now.
pub(super) fn directories(
    recorded: Option<RunDirectories>,
    after: &Pipeline,
    source: &Source,
    registered: &RegisteredPipelines,
) -> Result<Option<RunDirectories>, FileError> {
    let found = StartPipeline::of(source.clone()).directories(after, registered)?;
    let Some(mut recorded) = recorded else { return Ok(found) };
    if let Some(found) = found {
        recorded.forget_documents();
        recorded.documents = found.documents;
    }
    if !recorded.led.is_empty() {
        recorded.note_leads()?;
    }
    Ok(Some(recorded))
}

/// The outermost steps of `after` that are asked anew: from `from` on, and those for which it was asked before and
/// that have not come to a good end since.
pub(super) fn anew(from: Option<&str>, after: &Pipeline, view: &RunView) -> BTreeSet<String> {
    let behind = after.steps().skip_while(|step| from.is_none_or(|from| *step != from));
    let before = RunSettings::from_value(&view.run.settings).map(|settings| settings.anew);
    let is_left = |step: &String| {
        let key = StepPath::root().step(step).key();
        let done =
            |state| matches!(state, JobState::Succeeded | JobState::Partial | JobState::Skipped);
        !view.jobs.iter().any(|job| job.key == key && done(job.state))
    };
    let left = before.unwrap_or_default().into_iter().filter(is_left);
    behind.map(str::to_owned).chain(left).collect()
}
