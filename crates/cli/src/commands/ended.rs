//! What is said of a run that has ended to whoever wants what is too late, and of a tree that has given up; and what can still be
//! done then.

use futures_util::FutureExt as _;
use perennial::{
    RunId, RunState, Runtime,
    supervision::{LifecycleEvent, LifecycleStream},
};

use super::{hint::Hint, host, show::stages};
use crate::exit::{self, failed_with};

/// What was asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooLate {
    Cancel,
    Pause,
    Priority,
    Send,
}

impl TooLate {
    fn text(self) -> &'static str {
        match self {
            Self::Cancel => "there is nothing to cancel",
            Self::Pause => "there is nothing to pause",
            Self::Priority => "nothing of it waits",
            Self::Send => "it takes nothing that is sent to it",
        }
    }
}

/// The refusal (YR-55): how it has ended, and the command that goes on with it, if one does.
pub(super) async fn too_late(
    runtime: &Runtime,
    run: &RunId,
    state: RunState,
    asked: TooLate,
    hint: &Hint,
) -> anyhow::Error {
    let view = async { runtime.runs().get(run).await?.view().await };
    let view = view.await.ok();
    // Nobody but its program goes on with a run in stages, or of a workflow of its own.
    let is_staged = view.as_ref().is_some_and(stages::is_staged);
    let goes_on = state.may_reopen() && !is_staged && !host::has(runtime, run).await;
    let more = match &view {
        _ if goes_on => "; `resume` and `retry` go on with it",
        Some(view) if host::was_undone(&view.run) => {
            "; what it had done was undone: start a new run instead"
        }
        Some(_) | None => "",
    };
    let text = format!("run {run} has ended ({state}): {}{more} [PL904]", asked.text());
    let id = run.as_str();
    // Whoever wants it cancelled does not want it to go on.
    let help = if goes_on && asked != TooLate::Cancel { hint.resume(id) } else { hint.show(id) };
    failed_with(exit::USAGE, text, help)
}

/// The refusal of a command whose tree has given up meanwhile: of what its children died, by all that `lifecycle` has told since.
pub(super) fn given_up(mut lifecycle: LifecycleStream, help: String) -> anyhow::Error {
    let mut why = None;
    while let Some(Some(told)) = lifecycle.next().now_or_never() {
        // One that ends because those around it end tells nothing.
        if let LifecycleEvent::ChildTerminated { reason, .. } = told.event
            && reason.is_abnormal()
        {
            why = Some(reason.to_string());
        }
    }
    let why = why.map(|why| format!(": {}", why.strip_prefix("error: ").unwrap_or(&why)));
    let why = why.unwrap_or_default();
    failed_with(exit::STORE, format!("too much has failed, and this node has given up{why}"), help)
}
