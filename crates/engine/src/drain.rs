//! The orderly hand-over at a shutdown.
//!
//! # Why an actor
//!
//! A shutdown is an event with a beginning, a deadline and a result, and it must come before
//! anything else is stopped. As the last child of the tree it is the first to be asked to stop.
//!
//! # Supervision
//!
//! A permanent child whose shutdown is longer than the drain itself.
//!
//! # What a restart forgets
//!
//! Nothing: it holds no state. A drain that was interrupted has nothing to undo.
//!
//! # Guarantees
//!
//! From its first moment nothing is claimed. What reports in time is recorded; what does not is
//! given back to the store, Ready, with its budget unchanged (DUR-120).

use std::{sync::Arc, time::Duration};

use perennial_core::Shutdown;
use perennial_supervision::{
    ChildSpec,
    actor::{Actor, ActorError, ActorRef},
};
use serde_json::json;

use crate::{Services, patience::patiently, published::Published, run::Message};

/// How long a drain may take.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Of that, the time for giving back what did not end.
pub const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// What a drain came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DrainReport {
    /// Attempts that ended by themselves and were recorded.
    pub finished: usize,
    /// Attempts that were cut and whose jobs were given back.
    pub released: usize,
    /// Attempts that were cut and whose jobs are given back by the next process.
    pub cut: usize,
    /// How long it took.
    pub took_ms: u64,
}

/// How to supervise the drain: as the last child.
pub fn child_spec(services: Services, within: Duration) -> ChildSpec {
    let published = Arc::new(Published::default());
    let shown = published.clone();
    let (spec, _address) = ChildSpec::actor("drain", move || {
        (Drain { services: services.clone(), within, published: published.clone() }, ())
    });
    spec.shutdown(Shutdown::Timeout(within + Duration::from_secs(1))).detail(move || shown.read())
}

fn within_ms(within: Duration) -> u64 {
    u64::try_from(within.as_millis()).unwrap_or(u64::MAX)
}

struct Drain {
    services: Services,
    within: Duration,
    published: Arc<Published>,
}

impl Actor for Drain {
    /// Nobody tells it anything: being stopped is its message.
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorError> {
        self.published.publish(json!({ "draining": false, "within_ms": within_ms(self.within) }));
        Ok(())
    }

    /// Runs after a stop and after a crash alike; only a shutdown that was announced is a drain.
    async fn post_stop(&self, _: ActorRef<()>, (): &mut ()) -> Result<(), ActorError> {
        if self.services.shutdown_announced() {
            let report = self.drain().await;
            tracing::info!(?report, "drained");
            self.hand_over(&report).await;
            self.services.drained.send_replace(Some(report));
        }
        Ok(())
    }
}

impl Drain {
    async fn drain(&self) -> DrainReport {
        let services = &self.services;
        let begun = services.clock.now();
        services.start_draining();
        self.published.publish(json!({ "draining": true, "within_ms": within_ms(self.within) }));
        self.fence().await;
        let live = services.live_attempts();
        let patience = self.within.saturating_sub(DRAIN_GRACE);
        let settled = tokio::time::timeout(patience, self.all_settled()).await.is_ok();
        let cut = if settled { Vec::new() } else { services.live_attempts() };
        for task in &cut {
            // One that has just ended is not found, and has reported.
            drop(services.tasks.terminate_child(task).await);
        }
        drop(tokio::time::timeout(DRAIN_GRACE, self.all_settled()).await);
        let left = services.live_attempts().len();
        DrainReport {
            finished: live.len().saturating_sub(cut.len()),
            released: cut.len().saturating_sub(left),
            cut: left,
            took_ms: u64::try_from(services.clock.now().since(begun).as_millis())
                .unwrap_or(u64::MAX),
        }
    }

    /// Waits until every run's actor has seen that nothing is claimed any more: an attempt that one
    /// of them was just starting is in the table then.
    async fn fence(&self) {
        let deadline = self.services.clock.now() + DRAIN_GRACE;
        for address in self.services.run_addresses() {
            let left = deadline.since(self.services.clock.now());
            // One that does not answer in time is busy; its attempts are looked for again below.
            drop(address.call(|reply| Message::Fence { reply }, left).await);
        }
    }

    /// Ends this incarnation on the store: the next one need not take it for dead.
    async fn hand_over(&self, report: &DrainReport) {
        let Some(node) = self.services.registered_node() else { return };
        let report = json!(report);
        let end = || self.services.store.end_node(&node, report.clone());
        if let Err(error) = patiently(DRAIN_GRACE, end).await {
            // The next incarnation finds it not ended and rescues what it held (DUR-124).
            tracing::warn!(%error, "node not ended on the store");
        }
    }

    /// Waits until no attempt is under way whose end is not in the store.
    async fn all_settled(&self) {
        loop {
            let mut left = std::pin::pin!(self.services.attempt_left.notified());
            left.as_mut().enable();
            if self.services.attempts.is_empty() {
                return;
            }
            left.await;
        }
    }
}
