//! Everything below a supervisor that is alive, for the case that the supervisor itself is not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use perennial_core::{ExitReason, Shutdown};

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

    /// Ends what is left, all at once, and awaits it. Those that clean up are told `reason` and get
    /// their own time for it, but no more than the kill deadline (SUP-148); what does not end then is
    /// killed, and what does not end when killed is given up (trap 7).
    pub(crate) async fn reap(&self, context: &Context, reason: &ExitReason) {
        let left: Vec<(Life, Arc<Node>)> = self.lives().drain().map(|(_, left)| left).collect();
        let ends = left.iter().map(|(life, node)| async move {
            let most = context.kill_deadline();
            let grace = match node.spec().shutdown {
                Shutdown::BrutalKill => Duration::ZERO,
                Shutdown::Timeout(within) => within.min(most),
                Shutdown::Infinity => most,
            };
            if !grace.is_zero() {
                life.control.stop(reason);
                if tokio::time::timeout(grace, life.ended.wait()).await.is_ok() {
                    return;
                }
            }
            stopping::kill(context, node, self, life).await;
        });
        join_all(ends).await;
    }

    fn lives(&self) -> MutexGuard<'_, Lives> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
