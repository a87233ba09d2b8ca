//! The records of the platform's predecessor: each of its pipelines becomes a run, with what had come of it.
//!
//! | room | what it is |
//! |---|---|
//! | `record` | a record as it is written: its forms, and what is wrong with it |
//! | `meaning` | what a record means here: which study, which jobs, and where it contradicts itself |

mod meaning;
mod record;

use std::fmt;

use perennial::RunState;
use perennial::engine::{ImportedRun, RunError, Runs, StartRun, staged::PlanProblems};

use self::{meaning::Meaning, record::Record};
use super::platform::Platform;

/// A pipeline that was imported.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) run: ImportedRun,
    /// Where the record contradicts itself, or what became of it: what it tells of its jobs has been believed.
    pub(crate) differences: Vec<String>,
}

/// Why a record was not imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// It is no JSON.
    #[error("it is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It cannot be understood: everything that is wrong with it.
    #[error("{}", Lines(.0))]
    Record(Vec<String>),
    /// It is not a study that can be planned.
    #[error(transparent)]
    Plan(#[from] PlanProblems),
    /// It was not recorded.
    #[error(transparent)]
    Run(#[from] RunError),
}

struct Lines<'a>(&'a [String]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Imports one record. What had not ended arrives paused, so that nothing begins unasked; what had ended closes here, by
/// its jobs. A second import changes nothing.
pub(crate) async fn import(
    platform: &Platform,
    runs: &Runs,
    text: &str,
) -> Result<Import, ImportError> {
    let record = Record::read(&serde_json::from_str(text)?).map_err(ImportError::Record)?;
    let Meaning { run, study, history, mut differences } = Meaning::of(&record);
    let start = StartRun { run: Some(run), ..platform.staged.start(&study)? };
    let run = runs.import(start, &history).await?;
    let ends_as = match record.status.as_str() {
        "completed" => Some(RunState::Succeeded),
        "partial_success" => Some(RunState::PartiallySucceeded),
        "failed" => Some(RunState::Failed),
        "cancelled" => Some(RunState::Cancelled),
        _ => None,
    };
    let mut state = run.run.view().await?.run.state;
    match ends_as {
        Some(RunState::Cancelled) if !state.is_terminal() => {
            run.run.cancel().await?;
            state = run.run.outcome().await?.state;
        }
        Some(_) if state != RunState::Paused => state = run.run.outcome().await?.state,
        Some(_) | None => (),
    }
    if let Some(told) = ends_as.filter(|told| *told != state) {
        let status = &record.status;
        differences.push(format!("it was {status} ({told}); by its jobs it is {state}"));
    }
    Ok(Import { run, differences })
}
