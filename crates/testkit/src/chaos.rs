//! Hits the nodes of a running tree, one at a time.

use std::time::Duration;

use perennial::{
    TreeSnapshot,
    supervision::{NodeKind, NodeState, Tree, testing::NothingThere},
};

use crate::{Deadline, TooLate};

/// Crashes and kills what runs in a tree, and waits until it is back.
///
/// The next hit should come when the previous victim answers again: a tree tolerates as many
/// restarts as it declares, not an arbitrary hail.
#[derive(Clone, Debug)]
pub struct Chaos {
    tree: Tree,
    within: Duration,
}

/// How a victim is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// Its own code panics.
    Crash,
    /// It is killed, without a chance to clean up.
    Kill,
}

/// Why a hit did not go as planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChaosError {
    /// Nothing ran there.
    #[error(transparent)]
    NothingThere(#[from] NothingThere),
    /// It did not come back in time.
    #[error(transparent)]
    TooLate(#[from] TooLate),
}

impl Chaos {
    /// Chaos in `tree`; each victim must be back within `within`.
    pub fn new(tree: &Tree, within: Duration) -> Self {
        Self { tree: tree.clone(), within }
    }

    /// Hits what runs at `path` and waits until its next incarnation runs. Answers `false` when it
    /// is gone for good instead: its work was done meanwhile.
    ///
    /// # Errors
    ///
    /// See [`ChaosError`].
    pub async fn hit(&self, path: &str, blow: Blow) -> Result<bool, ChaosError> {
        let victim = match blow {
            Blow::Crash => self.tree.crash(path)?,
            Blow::Kill => self.tree.kill(path)?,
        };
        let deadline = Deadline::after(self.within);
        if tokio::time::timeout(self.within, victim.exit()).await.is_err() {
            return Err(deadline.missed(path, "still alive").into());
        }
        while !self.tree.is_succeeded(path, &victim) {
            if self.is_gone(path) {
                return Ok(false);
            }
            if deadline.left().is_zero() {
                return Err(deadline.missed(path, "not running again").into());
            }
            tokio::task::yield_now().await;
        }
        Ok(true)
    }

    /// Whether the supervisor runs without this child. A child whose supervisor is being restarted
    /// is only away: the same incarnation must be seen without it twice.
    fn is_gone(&self, path: &str) -> bool {
        let without = self.parent_without(path);
        without.is_some() && without == self.parent_without(path)
    }

    /// The incarnation of the supervisor that runs and has no child at `path`.
    fn parent_without(&self, path: &str) -> Option<u64> {
        let parent = path.rsplit_once('/')?.0;
        let nodes = self.tree.nodes();
        let supervisor = nodes.iter().find(|node| node.path == parent)?;
        let runs = supervisor.state == NodeState::Running;
        (runs && nodes.iter().all(|node| node.path != path)).then_some(supervisor.incarnation)
    }
}

/// Paths of the workers of a tree: everything that supervises nothing and is no task of the moment.
pub fn workers(tree: &TreeSnapshot) -> Vec<String> {
    let is_parent = |path: &str| tree.nodes.iter().any(|node| node.parent.as_deref() == Some(path));
    let is_task_of_the_moment = |parent: Option<&str>| {
        let kind = tree.nodes.iter().find(|node| Some(node.path.as_str()) == parent);
        kind.is_some_and(|node| node.kind == NodeKind::TaskSupervisor)
    };
    tree.nodes
        .iter()
        .filter(|node| node.strategy.is_none() && !is_parent(&node.path))
        .filter(|node| !is_task_of_the_moment(node.parent.as_deref()))
        .map(|node| node.path.clone())
        .collect()
}

/// Paths of the supervisors of a tree, whatever their kind, but for its root.
pub fn supervisors(tree: &TreeSnapshot) -> Vec<String> {
    let supervises = tree.nodes.iter().filter(|node| node.strategy.is_some());
    supervises.filter(|node| node.parent.is_some()).map(|node| node.path.clone()).collect()
}
