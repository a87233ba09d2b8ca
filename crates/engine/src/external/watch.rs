//! Sees to it that what runs, or is held, has an actor: when the process begins, when `services` was restarted, and when
//! jobs hold what did not run.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use perennial_core::{Restart, service::ServiceKey};
use perennial_store::StoreError;
use perennial_supervision::ChildSpec;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{Entry, External, Inner, ServiceError, uses::Nudges};
use crate::patience::once;

/// How soon it is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked for what has lost its actor for good, as one does that was restarted too often.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Rows that are read at a time.
const ROWS_MAX: u32 = 10_000;

/// Waits for a new life of the supervisor; a task, as it holds nothing between two of them.
pub(super) fn child_spec(
    external: Weak<Inner>,
    lives: watch::Receiver<u64>,
    nudges: Arc<Nudges>,
) -> ChildSpec {
    let child = ChildSpec::task("services_watch", move || {
        let (external, mut lives, nudges) = (external.clone(), lives.clone(), nudges.clone());
        async move {
            let mut is_done = false;
            let mut looks = interval(LOOK_EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut is_due = false;
            loop {
                let Some(inner) = external.upgrade() else { return Ok::<(), StoreError>(()) };
                let external = External(inner);
                if !is_done || std::mem::take(&mut is_due) && external.has_lost().await {
                    lives.mark_unchanged();
                    is_done = external.bring_back().await;
                }
                external.pass_on().await;
                drop(external);
                tokio::select! {
                    changed = lives.changed() => {
                        // An error means that the tree is going.
                        if changed.is_err() {
                            return Ok(());
                        }
                        is_done = false;
                    }
                    () = nudges.added.notified() => {}
                    () = tokio::time::sleep(AGAIN), if !is_done => {}
                    _ = looks.tick() => is_due = true,
                }
            }
        }
    });
    child.restart(Restart::Permanent)
}

impl External {
    /// What runs, or is held, and has no actor; and which actor was its last.
    async fn lost(&self) -> Vec<(ServiceKey, u64)> {
        let instances = self.0.instances.lock().await;
        let listed = self.listed();
        let is_lost = |key: &ServiceKey, entry: &Entry| {
            !entry.ledger.is_at_rest() && !listed.contains(&key.to_string())
        };
        let lost = instances.iter().filter(|(key, entry)| is_lost(key, entry));
        lost.map(|(key, entry)| (key.clone(), entry.number)).collect()
    }

    async fn has_lost(&self) -> bool {
        !self.lost().await.is_empty()
    }

    /// Starts what has no actor and needs one; whether that is all there is to do.
    async fn bring_back(&self) -> bool {
        let mut is_done = self.0.supervisor.is_up().await;
        let rows = match once(self.0.engine.store.instances(ROWS_MAX)).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(%error, "what is known of services could not be read");
                return false;
            }
        };
        let lost = self.lost().await;
        let lost = lost.into_iter().map(|(key, number)| (key, Some(number)));
        for (key, gone) in lost.chain(rows.into_iter().map(|row| (row.key, None))) {
            match self.entry(&key, gone, None).await {
                Ok(_) => {}
                // Of another version of the host, or another host.
                Err(ServiceError::Unknown { .. } | ServiceError::Scope { .. }) => {
                    tracing::warn!(service = %key, "an instance is known of a service that is not declared");
                }
                Err(error) => {
                    tracing::warn!(service = %key, %error, "the actor of a service was not brought back");
                    is_done = false;
                }
            }
        }
        let always_on = self.start_always_on().await;
        is_done && always_on.is_ok()
    }
}
