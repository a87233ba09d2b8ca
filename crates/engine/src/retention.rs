//! What goes by itself: runs that ended long ago, and blobs that nothing uses.
//!
//! # Why a task
//!
//! It waits most of the time, and nobody asks it anything.
//!
//! # Supervision
//!
//! Below `store`, permanent. A store that is away ends a pass, not the task; the next pass begins where it was.
//!
//! # What a restart forgets
//!
//! When the last pass was and what it removed. The runs that were removed are noted in the store.
//!
//! # Guarantees
//!
//! Only what has ended goes, by the policy for how it ended. Each transaction removes at most `ROWS_MAX` rows, and
//! foreground work comes between any two.

use std::{sync::Arc, time::Duration};

use perennial_store::{Retained, Retention, Store, StoreError};
use perennial_supervision::{ChildSpec, Restart};
use serde_json::{Value, json};

use crate::published::Published;

/// Behind the start of a process: short-lived ones leave it to others.
const FIRST_AFTER: Duration = Duration::from_secs(60);
/// Between two passes.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// Rows of one transaction.
pub(crate) const ROWS_MAX: u32 = 1_000;
/// Between two transactions; and as long as others wait for the store.
const PAUSE: Duration = Duration::from_millis(20);

/// The child that removes what `policy` lets go of `store`.
pub fn child_spec(store: Arc<dyn Store>, policy: Retention) -> ChildSpec {
    let published = Arc::new(Published::default());
    let shown = published.clone();
    let child = ChildSpec::task("retention", move || {
        let (store, published) = (store.clone(), published.clone());
        async move { keep(&*store, policy, &published).await }
    });
    child.restart(Restart::Permanent).detail(move || shown.read())
}

async fn keep(
    store: &dyn Store,
    policy: Retention,
    published: &Published,
) -> Result<(), StoreError> {
    let (mut passes, mut last, mut within) = (0_u64, Value::Null, FIRST_AFTER);
    loop {
        let next = store.now().after(within).to_rfc3339();
        published.publish(json!({
            "policy": told(policy),
            "passes": passes,
            "last": last,
            "next": policy.removes().then_some(next),
        }));
        if !policy.removes() {
            // Switched off: nothing is removed, however old.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(within).await;
        let began = store.now();
        let (done, outcome) = pass(store, policy).await;
        if let Err(error) = &outcome {
            tracing::warn!(target: "perennial::retention", %error, "pass not finished");
        }
        tracing::info!(
            target: "perennial::retention",
            runs = done.runs, rows = done.rows, blobs = done.blobs,
            "pass ended"
        );
        last = json!({
            "at": began.to_rfc3339(),
            "runs": done.runs,
            "rows": done.rows,
            "blobs": done.blobs,
            "error": outcome.err().map(|error| error.to_string()),
        });
        (passes, within) = (passes + 1, EVERY);
    }
}

/// Removes piece by piece until nothing is left to remove. What was done counts, also when the rest failed.
async fn pass(store: &dyn Store, policy: Retention) -> (Retained, Result<(), StoreError>) {
    let mut done = Retained::default();
    loop {
        match store.retain(policy, ROWS_MAX).await {
            Ok(step) => {
                add(&mut done, step);
                if !step.more {
                    return (done, Ok(()));
                }
            }
            Err(error) => return (done, Err(error)),
        }
        tokio::time::sleep(PAUSE).await;
        // Not for ever: a store that is always busy would never be tidied.
        for _ in 0..50 {
            if store.status().queued == 0 {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Counts what a further step removed.
pub(crate) fn add(done: &mut Retained, step: Retained) {
    done.runs += step.runs;
    done.rows += step.rows;
    done.blobs += step.blobs;
}

fn told(policy: Retention) -> Value {
    let days = |within: Option<Duration>| within.map(|within| within.as_secs() / 86_400);
    json!({
        "completed_days": days(policy.completed),
        "failed_days": days(policy.failed),
        "cancelled_days": days(policy.cancelled),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use perennial_core::{
        Digest, Timestamp,
        run::{RunId, RunState},
    };
    use perennial_store::{Decision, MemoryStore, NewRun, RunStep};

    use super::*;

    async fn ended(store: &dyn Store, id: &str) -> RunId {
        let owner = store.register_node("n").await.unwrap().node;
        let run = RunId::parse(id).unwrap();
        let new = NewRun {
            run: run.clone(),
            workflow: "w".to_owned(),
            definition: Digest::of(b""),
            definition_bytes: Vec::new(),
            input_digest: Digest::of(b""),
            settings: Value::Null,
            owner: Some(owner),
            deadline: None,
            stages: Vec::new(),
            jobs: Vec::new(),
            timers: Vec::new(),
            priority: Default::default(),
        };
        store.create_run(new).await.unwrap();
        let (from, to) = (RunState::Running, RunState::Succeeded);
        let step = Decision {
            run: run.clone(),
            expected_revision: 1,
            report: None,
            jobs: Vec::new(),
            new_jobs: Vec::new(),
            stages: Vec::new(),
            run_step: Some(RunStep { from, to, failure: None }),
            events: Vec::new(),
            timers: Vec::new(),
            progress: None,
            limits: Vec::new(),
            priority: None,
        };
        store.commit(step).await.unwrap();
        run
    }

    /// Proves B49.
    /// STO-60, on a paused clock: both the timer's and the store's are moved by the test.
    #[tokio::test(start_paused = true)]
    async fn passes_come_by_themselves_and_remove_only_what_is_old_enough() {
        let now = Arc::new(AtomicI64::new(1_000_000_000_000_000));
        let read = now.clone();
        let clock = move || Timestamp::from_micros(read.load(Ordering::Relaxed));
        let store = MemoryStore::with_clock(Arc::new(clock)).unwrap();
        let old = ended(&store, "old").await;
        let (day, published) = (Duration::from_secs(86_400), Published::default());
        let policy = Retention::after(day * 30);
        let mut keeping = std::pin::pin!(keep(&store, policy, &published));
        let mut until = async |within: Duration| {
            let passed = tokio::time::timeout(within, &mut keeping).await;
            assert!(passed.is_err(), "it never ends");
        };
        until(FIRST_AFTER - Duration::from_secs(1)).await;
        assert_eq!(published.read()["passes"], 0, "not at once");
        assert_eq!(published.read()["policy"]["failed_days"], 30);
        until(Duration::from_secs(2)).await;
        assert_eq!(
            (&published.read()["passes"], &published.read()["last"]["runs"]),
            (&json!(1), &json!(0))
        );
        assert!(published.read()["next"].is_string());
        let micros = i64::try_from((day * 30).as_micros()).unwrap();
        now.fetch_add(micros, Ordering::Relaxed);
        let young = ended(&store, "young").await;
        until(EVERY + Duration::from_secs(1)).await;
        assert_eq!(published.read()["last"]["runs"], 1);
        assert!(store.run(&old).await.is_err());
        store.run(&young).await.unwrap();
    }

    /// Proves B49.
    #[tokio::test(start_paused = true)]
    async fn switched_off_it_removes_nothing() {
        let store = MemoryStore::open().unwrap();
        let run = ended(&store, "r").await;
        let published = Published::default();
        let policy = Retention::never();
        let keeping = keep(&store, policy, &published);
        let year = Duration::from_secs(365 * 86_400);
        assert!(tokio::time::timeout(year, keeping).await.is_err());
        store.run(&run).await.unwrap();
        assert_eq!(published.read()["next"], Value::Null);
    }
}
