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

mod report;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use perennial_core::{Shutdown, Timestamp, Uptime, run::RunId};
use perennial_store::{NodeRef, StoreError};
use perennial_supervision::{
    ChildSpec,
    actor::{Actor, ActorError, ActorRef},
};
use serde_json::json;

pub(crate) use self::report::UnderWay;
pub use self::report::{DRAINED_RUNS_MAX, DrainReport, DrainedAttempts, DrainedRun, RunFate};
use crate::{Services, patience::patiently, published::Published, run::Message};

/// How long a drain may take.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The least time for giving back what was cut, also when nothing under way is waited for.
const RELEASE_WITHIN: Duration = Duration::from_secs(1);
/// How long the store may take to say how the runs stand, and again to note it.
const STORE_WITHIN: Duration = Duration::from_millis(450);

/// How to supervise the drain: as the last child.
pub fn child_spec(services: Services, within: Duration) -> ChildSpec {
    let published = Arc::new(Published::default());
    let shown = published.clone();
    let (spec, _address) = ChildSpec::actor("drain", move || {
        (Drain { services: services.clone(), within, published: published.clone() }, ())
    });
    spec.shutdown(Shutdown::Timeout(
        within.max(RELEASE_WITHIN).saturating_add(Duration::from_secs(1)),
    ))
    .detail(move || shown.read())
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
        self.published.publish(json!({ "draining": false }));
        Ok(())
    }

    /// Runs after a stop and after a crash alike; only a shutdown that was announced is a drain.
    async fn post_stop(&self, _: ActorRef<()>, (): &mut ()) -> Result<(), ActorError> {
        if self.services.shutdown_announced() {
            let report = self.drain().await;
            let (finished, released, cut) = (report.finished, report.released, report.cut);
            let runs = report.runs.len() + report.runs_more;
            tracing::info!(runs, finished, released, cut, took_ms = report.took_ms, "drained");
            self.published.publish(json!({ "draining": true, "report": report }));
            // Before the store hears of it: it may be away, and whoever waits wants to know.
            self.services.drained.send_replace(Some(report.clone()));
            self.hand_over(&report).await;
        }
        Ok(())
    }
}

impl Drain {
    async fn drain(&self) -> DrainReport {
        let services = &self.services;
        let (begun, begun_at) = (services.clock.now(), services.store.now());
        let end = begun + self.within.max(RELEASE_WITHIN);
        let grace = services.settings.drain_grace;
        let patience = begun + self.within.saturating_sub(grace);
        services.start_draining();
        let runs: BTreeSet<RunId> = services.runs_here().into_iter().collect();
        self.publish(&services.under_way());
        tokio::join!(self.announce(), self.fence(end.min(begun + grace)));
        let before = services.under_way();
        let settled = self.within_time(patience, self.all_settled()).await;
        let cut = if settled { UnderWay::new() } else { services.under_way() };
        // One that has just ended is not found, and has reported.
        let tasks = cut.keys().filter_map(|id| services.attempt(*id));
        let stops = tasks.map(|task| async move {
            drop(services.tasks.terminate_child(&task).await);
        });
        self.within_time(end, join_all(stops)).await;
        self.within_time(end, self.all_settled()).await;
        // Whoever recorded the last end goes on to what follows from it.
        self.fence(end).await;
        let tally = report::tally(&before, &cut, &services.under_way());
        let runs = self.fates(runs, begun_at).await;
        let took = services.clock.now().since(begun).as_millis();
        DrainReport::of(&tally, runs, u64::try_from(took).unwrap_or(u64::MAX))
    }

    /// Says it in the node's row, for whoever looks from outside; without a store that answers it is not said.
    async fn announce(&self) {
        let Some(node) = self.services.registered_node() else { return };
        let marked =
            tokio::time::timeout(STORE_WITHIN, self.services.store.drain_node(&node)).await;
        if let Ok(Err(error)) = marked {
            tracing::warn!(%error, "the node's row does not say that it drains");
        }
    }

    /// Waits until every run's actor has seen that nothing is claimed any more: an attempt that one
    /// of them was just starting is in the table then.
    async fn fence(&self, until: Uptime) {
        let fences = self.services.run_addresses().into_iter().map(|address| async move {
            let left = until.since(self.services.clock.now());
            // One that does not answer in time is busy; its attempts are looked for again below.
            drop(address.call(|reply| Message::Fence { reply }, left).await);
        });
        join_all(fences).await;
    }

    /// What became of `runs`, and of what else this process owns, since `since`.
    async fn fates(&self, runs: BTreeSet<RunId>, since: Timestamp) -> Vec<DrainedRun> {
        let Some(node) = self.services.registered_node() else { return Vec::new() };
        let read = self.read_fates(&runs, &node, since);
        let error = match tokio::time::timeout(STORE_WITHIN, read).await {
            Ok(Ok(fates)) => return fates,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(error, "the store does not say how the runs stand");
        let unknown = |run| DrainedRun {
            run,
            workflow: None,
            fate: RunFate::Unknown,
            state: None,
            attempts: DrainedAttempts::default(),
        };
        runs.into_iter().map(unknown).collect()
    }

    async fn read_fates(
        &self,
        runs: &BTreeSet<RunId>,
        node: &NodeRef,
        since: Timestamp,
    ) -> Result<Vec<DrainedRun>, StoreError> {
        let store = &self.services.store;
        let mut unfinished = patiently(STORE_WITHIN, || store.unfinished_runs()).await?;
        let attempts = DrainedAttempts::default();
        let mut fates = Vec::new();
        let open: BTreeSet<RunId> = unfinished.iter().map(|summary| summary.run.clone()).collect();
        unfinished.retain(|summary| summary.owner.as_ref() == Some(node));
        for summary in unfinished {
            fates.push(DrainedRun {
                run: summary.run,
                workflow: Some(summary.workflow),
                fate: RunFate::Released,
                state: Some(summary.state),
                attempts,
            });
        }
        for run in runs.difference(&open) {
            let record = patiently(STORE_WITHIN, || store.run(run)).await?.run;
            // What had ended before is in the table until somebody looks.
            if record.finished_at.is_some_and(|at| at >= since) {
                fates.push(DrainedRun {
                    run: record.run,
                    workflow: Some(record.workflow),
                    fate: RunFate::Finished,
                    state: Some(record.state),
                    attempts,
                });
            }
        }
        Ok(fates)
    }

    /// Ends this incarnation on the store: the next one need not take it for dead.
    async fn hand_over(&self, report: &DrainReport) {
        let Some(node) = self.services.registered_node() else { return };
        let report = json!(report);
        let end = || self.services.store.end_node(&node, report.clone());
        if let Err(error) = patiently(STORE_WITHIN, end).await {
            // The next incarnation finds it not ended and rescues what it held (DUR-124).
            tracing::warn!(%error, "node not ended on the store");
        }
    }

    /// Waits until no attempt is under way whose end is not in the store.
    async fn all_settled(&self) {
        loop {
            let mut left = std::pin::pin!(self.services.attempt_left.notified());
            left.as_mut().enable();
            let under_way = self.services.under_way();
            self.publish(&under_way);
            if under_way.is_empty() {
                return;
            }
            left.await;
        }
    }

    /// Whether `work` was done before `until`.
    async fn within_time(&self, until: Uptime, work: impl Future) -> bool {
        let left = until.since(self.services.clock.now());
        tokio::time::timeout(left, work).await.is_ok()
    }

    fn publish(&self, under_way: &UnderWay) {
        let mut runs: std::collections::BTreeMap<&RunId, usize> = std::collections::BTreeMap::new();
        for run in under_way.values() {
            *runs.entry(run).or_default() += 1;
        }
        let more = runs.len().saturating_sub(DRAINED_RUNS_MAX);
        let runs: Vec<_> = runs
            .into_iter()
            .take(DRAINED_RUNS_MAX)
            .map(|(run, attempts)| json!({ "run": run, "attempts_under_way": attempts }))
            .collect();
        self.published.publish(json!({
            "draining": true,
            "attempts_under_way": under_way.len(),
            "runs": runs,
            "runs_more": more,
        }));
    }
}
