//! What a run is told from a shell, whichever node works on it: the store knows, and the node finds it there.

use perennial::{
    Config, RunId, RunState, Runtime,
    engine::Priority,
    records::{RunError, RunRecord},
};
use serde_json::json;

use super::{
    ended::{TooLate, too_late},
    engine,
    hint::{self, Hint},
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
    runtime.shutdown().await;
    if let Some(late) = late {
        return Err(late);
    }
    let (changed, record) = told.map_err(|error| hint::refused(&error, &hint))?;
    let state = record.state;
    let node = record.owner.filter(|_| record.owner_alive).map(|owner| owner.node);
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
    let stops = node.map(|node| format!("; node {node} stops what it does of it"));
    output::talk(&match state {
        RunState::Cancelling => {
            format!("run {run} is being cancelled{}", stops.unwrap_or_default())
        }
        RunState::Paused => {
            format!("run {run} is paused; let it go on with: {}", hint.unpause(run.as_str()))
        }
        RunState::Compensating => {
            format!("run {run} undoes what it has done, and ends then")
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

/// Lets a paused run go on that another node has, which then works on it; nothing when no node has it.
pub(super) async fn unpaused_elsewhere(args: &UnpauseArgs) -> anyhow::Result<Option<i32>> {
    let store = args.store.store.clone().must_exist();
    let run = named(&store, &args.run).await?;
    let hint = Hint::new(&store, None);
    let runtime = engine::start_recording(&store, Config::default()).await?;
    let told = async {
        let handle = runtime.runs().get(&run).await?;
        let record = handle.view().await?.run;
        let state = record.state;
        let Some(node) = record.owner.filter(|_| record.owner_alive) else { return Ok(None) };
        let changed = match state {
            RunState::Paused => handle.unpause().await?,
            RunState::Pending
            | RunState::Running
            | RunState::Cancelling
            | RunState::Compensating
            | RunState::Succeeded
            | RunState::PartiallySucceeded
            | RunState::Failed
            | RunState::TimedOut
            | RunState::Cancelled
            | RunState::CompensationFailed => false,
        };
        Ok(Some((changed, state, node.node)))
    };
    let told = told.await;
    runtime.shutdown().await;
    let told = told.map_err(|error| hint::refused(&error, &hint))?;
    let Some((changed, state, node)) = told else { return Ok(None) };
    if state != RunState::Paused {
        let text = format!("run {run} is not paused: it is {state}, and node {node} works on it");
        return Err(failed_with(exit::USAGE, text, hint.show(run.as_str())));
    }
    if args.output.json {
        output::json(&json!({ "type": "unpause", "run": run, "changed": changed, "node": node }))?;
    } else {
        output::talk(&format!("run {run} goes on at node {node}"));
    }
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
