//! The nodes of a store.

use perennial::records::NodeRecord;
use serde_json::json;

use super::engine;
use crate::{
    args::NodesArgs,
    exit::{self, failed},
    output,
};

pub(super) async fn nodes(args: NodesArgs) -> anyhow::Result<i32> {
    let runtime = engine::start_reading(&args.store.store).await?;
    let nodes = runtime.runs().nodes(args.limit).await;
    runtime.shutdown().await;
    let nodes = nodes.map_err(|error| failed(exit::of_run_error(&error), error))?;
    if args.output.json {
        for node in &nodes {
            output::json(&json!({
                "node": node.node.node,
                "incarnation": node.node.incarnation,
                "alive": node.alive,
                "started_at": node.started_at.to_rfc3339(),
                "lease_until": node.lease_until.map(|at| at.to_rfc3339()),
                "ended_at": node.ended_at.map(|at| at.to_rfc3339()),
                "handed_over": node.handed_over,
                "draining": node.draining,
                "runs": node.runs,
                "attempts": node.jobs,
            }))?;
        }
        return Ok(exit::COMPLETED);
    }
    if nodes.is_empty() {
        output::talk("no node has worked on this store yet");
        return Ok(exit::COMPLETED);
    }
    let heading = ["NODE", "LIFE", "STATE", "RUNS", "ATTEMPTS", "SINCE"].map(str::to_owned);
    for line in output::columns(std::iter::once(heading).chain(nodes.iter().map(row))) {
        output::line(&line)?;
    }
    Ok(exit::COMPLETED)
}

fn row(node: &NodeRecord) -> [String; 6] {
    let state = match (node.alive, node.lease_until, node.ended_at) {
        (true, _, _) if node.draining => "draining".to_owned(),
        (true, Some(until), _) => format!("alive until {}", until.to_rfc3339()),
        (true, None, _) => "alive".to_owned(),
        (false, _, Some(at)) if node.handed_over => format!("stopped {}", at.to_rfc3339()),
        (false, _, _) => "dead".to_owned(),
    };
    [
        node.node.node.clone(),
        node.node.incarnation.to_string(),
        state,
        node.runs.to_string(),
        node.jobs.to_string(),
        node.started_at.to_rfc3339(),
    ]
}
