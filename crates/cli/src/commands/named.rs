//! Which run is meant by what was typed: its id, or the beginning of it.

use perennial::{RunId, Store, records::RunSummary};

use super::{
    engine,
    hint::{self, Hint, quoted},
};
use crate::exit::{self, failed, failed_with};

/// Characters that a beginning has at least: fewer are easily those of another run.
const BEGINNING_MIN: usize = 4;
/// Characters of an id that was given out: nothing begins with it but itself.
const WHOLE: usize = 26;
/// Runs that are named when several are meant.
const NAMED_MAX: usize = 5;

/// The run of `store` that `typed` means. What means none is passed on as it is: whoever reads it says so.
///
/// # Errors
///
/// When it can name no run, several begin with it, or the store cannot be read.
pub(super) async fn named(store: &Store, typed: &str) -> anyhow::Result<RunId> {
    let exact = RunId::parse(typed).map_err(|error| failed(exit::USAGE, error))?;
    if !(BEGINNING_MIN..WHOLE).contains(&typed.len()) {
        return Ok(exact);
    }
    let runtime = engine::start_reading(store).await?;
    let runs = runtime.runs().list(u32::MAX).await;
    runtime.shutdown().await;
    let hint = Hint::new(store, None);
    let runs = runs.map_err(|error| hint::refused(&error, &hint))?;
    match meant(&runs, typed).as_slice() {
        [] => Ok(exact),
        [run] => Ok((*run).clone()),
        several => {
            let shown: Vec<&str> = several.iter().take(NAMED_MAX).map(|run| run.as_str()).collect();
            let more = several.len() - shown.len();
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let count = several.len();
            let text = format!(
                "{count} runs begin with {}: {}{more}; type more of it",
                quoted(typed),
                shown.join(", ")
            );
            Err(failed_with(exit::USAGE, text, hint.runs()))
        }
    }
}

/// The run with this id, else those that begin with it.
fn meant<'a>(runs: &'a [RunSummary], typed: &str) -> Vec<&'a RunId> {
    let ids = runs.iter().map(|summary| &summary.run);
    match ids.clone().find(|run| run.as_str() == typed) {
        Some(run) => vec![run],
        None => ids.filter(|run| run.as_str().starts_with(typed)).collect(),
    }
}
