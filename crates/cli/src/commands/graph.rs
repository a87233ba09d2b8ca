use std::{collections::BTreeMap, path::Path};

use perennial::{
    DefinitionError, Leniency, Pipelines, Store,
    records::{Graph, JobState, RunView, StepState, render},
};

use super::{
    engine,
    hint::{self, Hint},
    host::is_of_a_host,
    named::named,
    steps,
    taken::taken,
};
use crate::{
    args::{GraphArgs, Picture},
    exit::{self, failed, failed_with},
    output,
};

pub(super) async fn graph(args: GraphArgs) -> anyhow::Result<i32> {
    let graph = match (&args.file, args.run) {
        (Some(file), _) => checked(file)?.graph(),
        (None, Some(run)) => of_run(&args.store.store, run).await?,
        (None, None) => return Err(failed(exit::USAGE, "a file or --run ID is needed")),
    };
    output::text(&match args.format {
        Picture::Mermaid => graph.to_mermaid(),
        Picture::Dot => graph.to_dot(),
    })?;
    Ok(exit::COMPLETED)
}

/// The workflow of a file without errors.
pub(super) fn checked(file: &Path) -> anyhow::Result<perennial::records::Pipeline> {
    let checked = Pipelines::check_with(file, &Leniency::as_written().environment_later())
        .map_err(|error| failed(exit::INVALID, format!("error[PL101]: {error}")))?;
    checked.pipeline.ok_or_else(|| {
        for diagnostic in &checked.diagnostics {
            output::talk_text(&render(diagnostic, false));
        }
        failed(exit::INVALID, format!("{} is not valid", file.display()))
    })
}

async fn of_run(store: &Store, run: String) -> anyhow::Result<Graph> {
    let run = named(store, &run).await?;
    let runtime = engine::start_reading(store).await?;
    let read = async {
        let view = runtime.runs().get(&run).await?.view().await?;
        Ok((view, runtime.pipelines().definition(&run).await?))
    };
    let read: Result<_, DefinitionError> = read.await;
    runtime.shutdown().await;
    let hint = Hint::new(store, None);
    let (view, pipeline) = read.map_err(|error| match error {
        DefinitionError::Run(error) => hint::refused(&error, &hint),
        error @ (DefinitionError::Invalid(_) | _) if is_of_a_host(&error) => {
            let text = format!(
                "run {run} was not made of a workflow file: a host program knows what its steps are, so there is no \
                 graph of them"
            );
            failed_with(exit::USAGE, text, hint.show(run.as_str()))
        }
        error @ (DefinitionError::Invalid(_) | _) => failed(exit::RUN_FAILED, error),
    })?;
    Ok(pipeline.graph().with_states(&states(&view)))
}

/// The state of each step by its path; of a child that was gone through again, that of its last
/// round.
fn states(view: &RunView) -> BTreeMap<String, StepState> {
    let (mut states, taken) = (BTreeMap::new(), taken(view));
    for row in steps::rows(view) {
        let job = row.job;
        let state = row.state();
        let mut text = match state {
            // The words of people, not of leases.
            JobState::Leased if row.is_open || row.is_handled_now || job.lease_alive => {
                "running".to_owned()
            }
            JobState::Leased => "interrupted".to_owned(),
            JobState::Ready if job.run_after.is_some() => "waits for a retry".to_owned(),
            state @ (JobState::Blocked
            | JobState::Ready
            | JobState::Deferred
            | JobState::Suspended
            | JobState::Joining
            | JobState::Succeeded
            | JobState::Partial
            | JobState::Failed
            | JobState::Skipped
            | JobState::Cancelled) => state.to_string(),
        };
        if job.attempt > 1 {
            text.push_str(&format!(", attempt {}", job.attempt));
        }
        let key = job.key.as_str().trim_start_matches('#');
        if let Some(taken) = taken.get(key) {
            text.push_str(&format!(", read from {}", taken.brief(&view.run.settings)));
        }
        let names = key.split('/').map(|step| step.split('#').next().unwrap_or_default());
        let path: Vec<&str> = names.collect();
        states.insert(path.join("/"), StepState { state: Some(state), text });
    }
    states
}
