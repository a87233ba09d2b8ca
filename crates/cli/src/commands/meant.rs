//! Which step of a run is meant by what was typed: its key, or the end of it, as `show` prints it.

use perennial::{
    engine::workflow::JobKey,
    records::{JobRecord, RunView},
};

use super::hint::{Hint, quoted};
use crate::{
    exit::{self, failed_with},
    output,
};

/// Steps that are named when the one that was typed is not there.
const NAMED_MAX: usize = 8;

/// The step that `typed` means.
///
/// # Errors
///
/// When there is none, or several end with it.
pub(super) fn meant<'a>(
    view: &'a RunView,
    typed: &str,
    hint: &Hint,
) -> anyhow::Result<&'a JobRecord> {
    among(view.jobs.iter().collect(), typed).map_err(|problem| {
        let (run, step) = (view.run.run.as_str(), quoted(&output::typed(typed)));
        let (code, text) = match problem {
            NotMeant::Nothing => {
                (exit::NOT_FOUND, format!("run {run} has no step yet, {step} neither"))
            }
            NotMeant::None(there) => {
                let there = listed(&there);
                let none = none(view, typed);
                (exit::NOT_FOUND, format!("run {run} has no step {step}{none}; it has: {there}"))
            }
            NotMeant::Several(these) => {
                let (many, these) = (these.len(), listed(&these));
                let text =
                    format!("{many} steps of run {run} end with {step}: {these}; type more of it");
                (exit::USAGE, text)
            }
        };
        failed_with(code, text, hint.show(run))
    })
}

/// Whether it may come: by its stage, where that is named, else as long as the run has not ended.
fn none(view: &RunView, typed: &str) -> String {
    let named = typed.split_once('/').map_or("", |(stage, _)| stage);
    let stage = view.stages.iter().find(|stage| stage.stage == named);
    let state = stage.map(|stage| stage.state.name());
    match state {
        _ if view.run.state.is_terminal() => String::new(),
        Some("waiting" | "open") => format!(" yet: stage {named} gets more as others end"),
        Some(_) => format!(", and its stage {named} gets no more"),
        None => " yet".to_owned(),
    }
}

/// Why no step is meant.
#[derive(Debug, PartialEq, Eq)]
enum NotMeant<'a> {
    /// There is none at all.
    Nothing,
    /// None of these, those that look like it first.
    None(Vec<&'a JobKey>),
    /// Each of these.
    Several(Vec<&'a JobKey>),
}

fn among<'a>(jobs: Vec<&'a JobRecord>, typed: &str) -> Result<&'a JobRecord, NotMeant<'a>> {
    let exact = JobKey::new(typed);
    if let Some(job) = jobs.iter().find(|job| job.key == exact) {
        return Ok(job);
    }
    let ends = |job: &&&JobRecord| {
        let rest = job.key.as_str().strip_suffix(typed);
        !typed.is_empty() && rest.is_some_and(|rest| rest.ends_with('/'))
    };
    let ending: Vec<&JobRecord> = jobs.iter().filter(ends).copied().collect();
    match ending.as_slice() {
        [job] => Ok(job),
        [] if jobs.is_empty() => Err(NotMeant::Nothing),
        [] => {
            let mut there: Vec<&JobKey> = jobs.iter().map(|job| &job.key).collect();
            there.sort_by_key(|key| !key.as_str().contains(typed));
            Err(NotMeant::None(there))
        }
        several => Err(NotMeant::Several(several.iter().map(|job| &job.key).collect())),
    }
}

fn listed(keys: &[&JobKey]) -> String {
    let shown: Vec<&str> = keys.iter().take(NAMED_MAX).map(|key| key.as_str()).collect();
    let more = keys.len() - shown.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", shown.join(", "))
}
