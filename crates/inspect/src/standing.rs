//! How a node stands, in one word: what colours and filters go by. Health is not published yet; state,
//! last exit and findings stand in for it.

use std::collections::HashMap;

use perennial_core::tree::{NodeState, Severity, TreeNode, TreeSnapshot};

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It runs.
    Good,
    /// Not started, or ended in order.
    Idle,
    /// On its way up or down.
    Moving,
    /// Not well: waiting for a restart, ended abnormally, or named by a warning.
    Troubled,
    /// Broken: will not come back by itself, does not die, or is named by an error.
    Broken,
}

impl Standing {
    /// Whether somebody should look at it.
    pub(crate) fn is_problem(self) -> bool {
        match self {
            Self::Good | Self::Idle | Self::Moving => false,
            Self::Troubled | Self::Broken => true,
        }
    }
}

/// How each node of a snapshot stands, by its place in the list.
pub(crate) fn standings(tree: &TreeSnapshot) -> Vec<Standing> {
    let mut worst: HashMap<&str, Severity> = HashMap::new();
    for finding in &tree.findings {
        let known = worst.entry(&finding.path).or_insert(finding.severity);
        *known = finding.severity.max(*known);
    }
    tree.nodes
        .iter()
        .map(|node| match worst.get(node.path.as_str()) {
            Some(Severity::Error) => Standing::Broken,
            Some(Severity::Warn) => match alone(node) {
                Standing::Broken => Standing::Broken,
                Standing::Good | Standing::Idle | Standing::Moving | Standing::Troubled => {
                    Standing::Troubled
                }
            },
            Some(Severity::Info) | None => alone(node),
        })
        .collect()
}

/// What the node itself says.
fn alone(node: &TreeNode) -> Standing {
    match node.state {
        NodeState::Declared => Standing::Idle,
        NodeState::Starting | NodeState::Stopping => Standing::Moving,
        NodeState::Running => Standing::Good,
        NodeState::BackingOff => Standing::Troubled,
        NodeState::Stopped => match &node.last_exit {
            Some(exit) if is_abnormal(&exit.reason) => Standing::Troubled,
            Some(_) | None => Standing::Idle,
        },
        NodeState::Unkillable | NodeState::GaveUp => Standing::Broken,
    }
}

/// Whether a life that ended so did not end in order.
pub(crate) fn is_abnormal(reason: &str) -> bool {
    !matches!(reason, "normal" | "shutdown" | "shutdown_with")
}
