//! What a run is told from a shell, whichever node works on it: the store knows, and the node finds it there.

use perennial::{
    Config, RunId, RunState, Runtime, StoreError,
    engine::Priority,
    records::{RunError, RunRecord},
};
use serde_json::json;

use super::{
    ended::{TooLate, too_late},
    engine,
    hint::{self, Hint},
    host,
    named::named,
};
use crate::{
    args::{PriorityArgs, RunIdArgs, UnpauseArgs},
    exit::{self, failed_with},
    output,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Cancel,
    Pause,
    Priority(Priority),
}

pub(super) async fn cancel(args: RunIdArgs) -> anyhow::Result<i32> {
    wished(args, Wish::Cancel).await
}

pub(super) async fn pause(args: RunIdArgs) -> anyhow::Result<i32> {
    wished(args, Wish::Pause).await
}

pub(super) async fn prioritise(args: PriorityArgs) -> anyhow::Result<i32> {
    wished(args.of, Wish::Priority(args.priority)).await
}

async fn wished(args: RunIdArgs, wish: Wish) -> anyhow::Result<i32> {
    let run = named(&args.store.store, &args.run).await?;
    let hint = Hint::new(&args.store.store, None);
    let store = args.store.store.clone().must_exist();
    let runtime = engine::start_recording(&store, Config::default()).await?;
    let told = tell(&runtime, &run, wish).await;
    let asked = match wish {
        Wish::Cancel => TooLate::Cancel,
        Wish::Pause => TooLate::Pause,
        Wish::Priority(_) => TooLate::Priority,
    };
    let ended = match &told {
        Err(RunError::Ended { state, .. }) => Some(*state),
        Ok((false, record)) if !args.output.json => {
            Some(record.state).filter(|state| state.is_terminal())
        }
        Ok(_) | Err(_) => None,
    };
    let late = match ended {
        Some(state) => Some(too_late(&runtime, &run, state, asked, &hint).await),
        None => None,
    };
    let is_of_a_host = late.is_none() && told.is_ok() && host::has(&runtime, &run).await;
    runtime.shutdown().await;
    if let Some(late) = late {
        return Err(late);
    }
    let (changed, record) = told.map_err(|error| refused(&run, &error, &hint))?;
    let state = record.state;
    let node = record.owner.filter(|_| record.owner_alive).map(|owner| owner.node);
    if let Wish::Priority(priority) = wish
        && record.priority != priority
    {
        let text = format!("run {run} is {state}: nothing of it waits");
        return Err(failed_with(exit::USAGE, text, hint.show(run.as_str())));
    }
    if args.output.json {
        let kind = match wish {
            Wish::Cancel => "cancel",
            Wish::Pause => "pause",
            Wish::Priority(_) => "priority",
        };
        let mut told = json!({
            "type": kind, "run": run, "changed": changed, "state": state, "node": node,
        });
        if let Wish::Priority(priority) = wish {
            told["priority"] = json!(priority);
        }
        output::json(&told)?;
        return Ok(exit::COMPLETED);
    }
    if let Wish::Priority(priority) = wish {
        let had = if changed { "has now" } else { "has already" };
        output::talk(&format!("run {run} {had} the priority {priority}"));
        return Ok(exit::COMPLETED);
    }
    output::talk(&match state {
        RunState::Cancelling => {
            let then = match node {
                Some(node) => format!("node {node} stops what it does of it"),
                None if is_of_a_host => format!(
                    "nobody works on it now: it undoes what it has to, and ends, when the program that has its workflow \
                     `{}` is started on this store",
                    record.workflow
                ),
                None => "nobody works on it now: whoever takes it next ends it".to_owned(),
            };
            format!("run {run} is being cancelled; {then}")
        }
        RunState::Paused => {
            format!("run {run} is paused; let it go on with: {}", hint.unpause(run.as_str()))
        }
        RunState::Compensating => {
            let left = match node {
                None if is_of_a_host => {
                    format!("; nobody works on it now: {}", host::goes_on(&record.workflow))
                }
                Some(_) | None => String::new(),
            };
            format!("run {run} undoes what it has done, and ends then{left}")
        }
        RunState::Pending
        | RunState::Running
        | RunState::Succeeded
        | RunState::PartiallySucceeded
        | RunState::Failed
        | RunState::TimedOut
        | RunState::Cancelled
        | RunState::CompensationFailed => format!("run {run}: {state}"),
    });
    Ok(exit::COMPLETED)
}

/// Why a run is not told it.
fn refused(run: &RunId, error: &RunError, hint: &Hint) -> anyhow::Error {
    match undoing(run, error, hint) {
        Some(refused) => refused,
        None => hint::refused(error, hint),
    }
}

/// The refusal of whatever is asked of a run that undoes what it has done, if that is why `error` refuses it.
pub(super) fn undoing(run: &RunId, error: &RunError, hint: &Hint) -> Option<anyhow::Error> {
    let RunError::Store(StoreError::InvalidState(refused)) = error else { return None };
    if refused.what != "run" || refused.from != RunState::Compensating.name() {
        return None;
    }
    let text = format!(
        "run {run} undoes what it has done, and takes nothing but signals until it has ended ({})",
        refused.from
    );
    Some(failed_with(exit::USAGE, text, hint.show(run.as_str())))
}

/// Lets a paused run go on that another node has, which then works on it, or a host program, which finds that when it takes it;
/// nothing when this process is the one to go on with it.
pub(super) async fn unpaused_elsewhere(args: &UnpauseArgs) -> anyhow::Result<Option<i32>> {
    let store = args.store.store.clone().must_exist();
    let run = named(&store, &args.run).await?;
    let hint = Hint::new(&store, None);
    let runtime = engine::start_recording(&store, Config::default()).await?;
    let told = async {
        let handle = runtime.runs().get(&run).await?;
        let record = handle.view().await?.run;
        let state = record.state;
        let node = record.owner.as_ref().filter(|_| record.owner_alive && store.is_shared());
        let node = node.map(|owner| owner.node.clone());
        let is_of_a_host = host::has(&runtime, &run).await;
        if state.is_terminal() || (node.is_none() && !is_of_a_host) {
            return Ok(None);
        }
        let changed = state == RunState::Paused && handle.unpause().await?;
        Ok(Some((changed, record, node)))
    };
    let told: Result<_, RunError> = told.await;
    runtime.shutdown().await;
    let told = told.map_err(|error| hint::refused(&error, &hint))?;
    let Some((changed, RunRecord { state, workflow, .. }, node)) = told else { return Ok(None) };
    if state != RunState::Paused {
        let who = match &node {
            Some(node) => format!("node {node} works on it"),
            None => host::goes_on(&workflow),
        };
        let text = format!("run {run} is not paused: it is {state}, and {who}");
        return Err(failed_with(exit::USAGE, text, hint.show(run.as_str())));
    }
    if args.output.json {
        output::json(&json!({ "type": "unpause", "run": run, "changed": changed, "node": node }))?;
        return Ok(Some(exit::COMPLETED));
    }
    output::talk(&match node {
        Some(node) => format!("run {run} goes on at node {node}"),
        None => format!("run {run} is not paused any more: {}", host::goes_on(&workflow)),
    });
    Ok(Some(exit::COMPLETED))
}

async fn tell(runtime: &Runtime, run: &RunId, wish: Wish) -> Result<(bool, RunRecord), RunError> {
    let handle = runtime.runs().get(run).await?;
    let changed = match wish {
        Wish::Cancel => handle.cancel().await?,
        Wish::Pause => handle.pause().await?,
        Wish::Priority(priority) => handle.set_priority(priority).await?,
    };
    Ok((changed, handle.view().await?.run))
}
