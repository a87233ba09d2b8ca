//! A clock that was set, back or forward, in the middle of what it times (INV-31, ACC-5.6). A server's clock may be; those of
//! other stores never run back, because they are moved by monotonic time and reopen behind what they gave out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use perennial_core::{
    Timestamp,
    run::{AttemptEnd, JobState, RunState},
};
use perennial_store::{CallStart, Decision, MemoryStore, Retention, Store};
use serde_json::json;

use crate::{
    fixture::*,
    stores::{block_on, checked, on_every_store},
};

on_every_store!(a_node_that_drains_says_so_until_it_has_ended);

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The hand of a clock, in microseconds.
#[derive(Clone)]
struct Hand(Arc<AtomicI64>);

impl Hand {
    fn moved(&self, by: Duration, back: bool) {
        let by = i64::try_from(by.as_micros()).unwrap();
        self.0.fetch_add(if back { -by } else { by }, Ordering::Relaxed);
    }
}

fn store_with_a_hand() -> (MemoryStore, Hand) {
    let hand = Hand(Arc::new(AtomicI64::new(1_800_000_000_000_000)));
    let shown = hand.clone();
    let clock = Arc::new(move || Timestamp::from_micros(shown.0.fetch_add(7, Ordering::Relaxed)));
    (MemoryStore::with_clock(clock).unwrap(), hand)
}

/// Proves INV-31.
/// ACC-5.6: whatever is recorded next, with the clock an hour back or an hour ahead: the history never runs back, all of it is
/// in order, and what is tried again is due at once.
#[test]
fn a_history_never_runs_back_whatever_its_clock_does() {
    for back in [true, false] {
        for moment in 0..8 {
            let (store, hand) = store_with_a_hand();
            let jump = |now: usize| {
                if now == moment {
                    hand.moved(HOUR, back);
                }
            };
            block_on(async {
                let started = start(&store, "r").await;
                let Started { run, node, lease, .. } = &started;
                jump(0);
                store.beat(lease, json!({"at": 1})).await.unwrap();
                jump(1);
                store.beat(lease, json!({"at": 2})).await.unwrap();
                let call = CallStart { name: "c".into(), idempotency_key: "k".into() };
                store.begin_call(lease, call).await.unwrap();
                jump(2);
                store.record_call(lease, "c", json!("reply")).await.unwrap();
                jump(3);
                let mut again = reporting(&started, AttemptEnd::Error, JobState::Ready);
                again.report.as_mut().unwrap().run_after = Some(store.now());
                let (revision, ..) = committed(store.commit(again).await.unwrap());
                if (moment, back) == (4, true) {
                    // What was to wait until then waits as long as before, and is not lost.
                    hand.moved(HOUR, true);
                    assert!(store.claim(run, node, ALL).await.unwrap().is_empty());
                    hand.moved(HOUR, false);
                }
                let lease = store.claim(run, node, ALL).await.unwrap().remove(0).lease;
                jump(5);
                let end = report(&lease, AttemptEnd::Succeeded, JobState::Succeeded);
                let end = Decision { report: Some(end), ..decision(run, revision) };
                let (revision, ..) = committed(store.commit(end).await.unwrap());
                jump(6);
                let end = entering(run, revision, RunState::Running, RunState::Cancelling);
                let (revision, ..) = committed(store.commit(end).await.unwrap());
                jump(7);
                let end = entering(run, revision, RunState::Cancelling, RunState::Cancelled);
                committed(store.commit(end).await.unwrap());

                let events = store.events("r", 1, ALL).await.unwrap();
                assert!(events.is_sorted_by_key(|event| event.at), "{moment} {back}: {events:#?}");
                let view = store.run(run).await.unwrap();
                for attempt in &view.attempts {
                    assert!(attempt.claimed_at <= attempt.ended_at.unwrap(), "{attempt:?}");
                }
                checked(&store).await;
            });
        }
    }
}

/// DUR-120, the first durable step of a drain.
async fn a_node_that_drains_says_so_until_it_has_ended(store: &dyn Store) {
    let node = store.register_node("n").await.unwrap().node;
    let told = async || {
        let record = store.nodes(ALL).await.unwrap().remove(0);
        (record.alive, record.draining, record.handed_over)
    };
    assert_eq!(told().await, (true, false, false));
    for _ in 0..2 {
        store.drain_node(&node).await.unwrap();
        assert_eq!(told().await, (true, true, false));
    }
    store.end_node(&node, json!({"took_ms": 1})).await.unwrap();
    store.drain_node(&node).await.unwrap();
    assert_eq!(told().await, (false, false, true));
    // One that died amid it handed nothing over.
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    store.drain_node(&node).await.unwrap();
    store.register_node_on("n", EXCLUSIVE).await.unwrap();
    let nodes = store.nodes(ALL).await.unwrap();
    let died = nodes.iter().find(|record| record.node == node).unwrap();
    assert_eq!((died.alive, died.draining, died.handed_over), (false, false, false));
    let unknown = perennial_store::NodeRef { incarnation: 99, ..node };
    assert!(store.drain_node(&unknown).await.is_err());
}

/// DUR-26: the table of nodes does not grow with every start; and what must be rescued is never out of sight.
#[test]
fn nodes_that_ended_long_ago_are_forgotten_once_nothing_refers_to_them() {
    let (store, hand) = store_with_a_hand();
    block_on(async {
        let Started { run, .. } = start(&store, "r").await;
        for _ in 0..9 {
            store.register_node_on("n", EXCLUSIVE).await.unwrap();
        }
        let numbers = async || {
            let nodes = store.nodes(ALL).await.unwrap();
            let mut numbers: Vec<u64> = nodes.iter().map(|node| node.node.incarnation).collect();
            numbers.sort_unstable();
            numbers
        };
        let retain = async || while store.retain(Retention::default(), ALL).await.unwrap().more {};
        hand.moved(DAY * 29, false);
        retain().await;
        assert_eq!(numbers().await, (1..=10).collect::<Vec<_>>(), "they may be of interest");
        hand.moved(DAY * 2, false);
        retain().await;
        assert_eq!(numbers().await, [1, 10], "a job is leased to the first, the last one lives");
        assert_eq!(store.rescue(None, ALL).await.unwrap().len(), 1, "and is found");
        retain().await;
        assert_eq!(numbers().await, [1, 10], "an attempt was its");
        let next = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
        assert_eq!(next.incarnation, 11, "no number is given out twice");
        assert_eq!(store.run(&run).await.unwrap().attempts.len(), 1);
    });
}
