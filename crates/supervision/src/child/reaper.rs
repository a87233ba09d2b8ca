//! Everything below a supervisor that is alive, for the case that the supervisor itself is not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::join_all;

use crate::{
    context::Context,
    life::{Life, Pid},
    node::Node,
    stopping,
};

type Lives = HashMap<Pid, (Life, Arc<Node>)>;

/// The lives that one life of a supervisor started. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Reaper(Arc<Mutex<Lives>>);

impl Reaper {
    pub(super) fn add(&self, life: Life, node: Arc<Node>) {
        self.lives().insert(life.pid, (life, node));
    }

    /// It ended, or nobody waits for its end any more.
    pub(crate) fn remove(&self, pid: Pid) {
        let removed = self.lives().remove(&pid);
        // Outside the lock: with it may go what the host's code captured.
        drop(removed);
    }

    /// Kills what is left, all at once, and awaits it; what does not end is given up (trap 7).
    pub(crate) async fn reap(&self, context: &Context) {
        let left: Vec<(Life, Arc<Node>)> = self.lives().drain().map(|(_, left)| left).collect();
        let kills = left.iter().map(|(life, node)| stopping::kill(context, node, self, life));
        join_all(kills).await;
    }

    fn lives(&self) -> MutexGuard<'_, Lives> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
