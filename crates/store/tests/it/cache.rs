use std::time::Duration;

use perennial_core::{Digest, run::AttemptEnd};
use perennial_store::{CallStart, NodeTerms, Store, StoreError};
use serde_json::{Value, json};

use crate::{fixture::*, stores, stores::on_every_store};

on_every_store!(
    a_kept_result_is_taken_by_another_run_and_is_in_its_journal,
    a_job_goes_on_with_the_result_it_took,
    a_job_that_has_called_takes_nothing,
    an_expired_result_is_not_taken,
    what_was_not_used_for_longest_makes_room,
    a_result_that_is_too_large_is_not_kept,
    a_lost_lease_neither_takes_nor_keeps,
);

const HOUR: Duration = Duration::from_secs(3600);

fn key(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

async fn taken(store: &dyn Store, by: &Started, text: &str) -> Option<Value> {
    store.reuse(&by.lease, &format!("cache/{text}"), key(text)).await.unwrap()
}

async fn a_kept_result_is_taken_by_another_run_and_is_in_its_journal(store: &dyn Store) {
    let first = start(store, "first").await;
    let second = start_on(store, "second", &first.node).await;
    assert_eq!(taken(store, &first, "k").await, None);
    assert!(store.keep(&first.lease, key("k"), json!({"n": 1}), HOUR).await.unwrap());
    assert!(store.keep(&first.lease, key("k"), json!({"n": 2}), HOUR).await.unwrap());
    assert_eq!(taken(store, &second, "other").await, None);
    assert_eq!(taken(store, &second, "k").await, Some(json!({"n": 2})));
    let view = store.run(&second.run).await.unwrap();
    assert_eq!((view.calls.len(), view.calls[0].name.as_str()), (1, "cache/k"));
    assert_eq!(view.calls[0].reply, Some(json!({"n": 2})));
    assert_eq!(history(store, "second").await.last().unwrap(), "cache_hit");
    assert_eq!(history(store, "first").await.last().unwrap(), "cache_kept");
    // What is recorded leaves no doubt about the attempt.
    assert!(!store.release(&second.lease, "lost").await.unwrap().uncertain);
}

async fn a_job_goes_on_with_the_result_it_took(store: &dyn Store) {
    let started = start(store, "r").await;
    store.keep(&started.lease, key("k"), json!(1), HOUR).await.unwrap();
    assert_eq!(taken(store, &started, "k").await, Some(json!(1)));
    store.keep(&started.lease, key("k"), json!(2), HOUR).await.unwrap();
    store.release(&started.lease, "lost").await.unwrap();
    let lease = store.claim(&started.run, &started.node, 1).await.unwrap().remove(0).lease;
    assert_eq!(store.reuse(&lease, "cache/k", key("k")).await, Ok(Some(json!(1))));
    let hits = history(store, "r").await.into_iter().filter(|kind| kind == "cache_hit").count();
    assert_eq!(hits, 1, "it was taken once");
}

async fn a_job_that_has_called_takes_nothing(store: &dyn Store) {
    let started = start(store, "r").await;
    store.keep(&started.lease, key("k"), json!(1), HOUR).await.unwrap();
    let call = CallStart { name: "1/x".to_owned(), idempotency_key: "key".to_owned() };
    store.begin_call(&started.lease, call).await.unwrap();
    assert_eq!(taken(store, &started, "k").await, None);
    store.record_call(&started.lease, "1/x", json!("paid")).await.unwrap();
    assert_eq!(taken(store, &started, "k").await, None);
}

async fn an_expired_result_is_not_taken(store: &dyn Store) {
    let started = start(store, "r").await;
    store.keep(&started.lease, key("k"), json!(1), Duration::ZERO).await.unwrap();
    assert_eq!(taken(store, &started, "k").await, None);
    store.keep(&started.lease, key("k"), json!(2), HOUR).await.unwrap();
    assert_eq!(taken(store, &started, "k").await, Some(json!(2)));
}

/// Proves INV-ST-32.
async fn what_was_not_used_for_longest_makes_room(store: &dyn Store) {
    // A hundred megabytes may take longer than a lease does otherwise.
    let terms = NodeTerms { ttl: HOUR, ..EXCLUSIVE };
    let node = store.register_node_on("n", terms).await.unwrap().node;
    let first = start_on(store, "first", &node).await;
    let large = Value::String("x".repeat(9_900_000));
    for number in 0..10 {
        let key = key(&number.to_string());
        assert!(store.keep(&first.lease, key, large.clone(), HOUR).await.unwrap());
    }
    // The oldest is used once more, so that the next one goes in its place.
    assert_eq!(taken(store, &first, "0").await, Some(large.clone()));
    assert!(store.keep(&first.lease, key("10"), large.clone(), HOUR).await.unwrap());
    let kept = store.events("first", 1, ALL).await.unwrap().pop().unwrap();
    assert_eq!((kept.kind.as_str(), &kept.data["evicted"]), ("cache_kept", &json!(1)));
    for (number, is_there) in [(0, true), (1, false), (2, true), (10, true)] {
        let other = start_on(store, &format!("r{number}"), &first.node).await;
        let found = taken(store, &other, &number.to_string()).await.is_some();
        assert_eq!(found, is_there, "{number}");
    }
}

async fn a_result_that_is_too_large_is_not_kept(store: &dyn Store) {
    let started = start(store, "r").await;
    let large = Value::String("x".repeat(10_000_000));
    assert_eq!(store.keep(&started.lease, key("k"), large, HOUR).await, Ok(false));
    assert_eq!(taken(store, &started, "k").await, None);
}

async fn a_lost_lease_neither_takes_nor_keeps(store: &dyn Store) {
    let started = start(store, "r").await;
    store.keep(&started.lease, key("k"), json!(1), HOUR).await.unwrap();
    store.release(&started.lease, "lost").await.unwrap();
    let keep = store.keep(&started.lease, key("k"), json!(2), HOUR).await;
    assert!(matches!(keep, Err(StoreError::StaleAttempt { .. })), "{keep:?}");
    let reuse = store.reuse(&started.lease, "cache/k", key("k")).await;
    assert!(matches!(reuse, Err(StoreError::StaleAttempt { .. })), "{reuse:?}");
}

#[test]
fn a_kept_result_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = stores::open(&path);
    stores::served(&store, || {
        stores::block_on(async {
            let started = start(&store, "r").await;
            store.keep(&started.lease, key("k"), json!("kept"), HOUR).await.unwrap();
            store
                .commit(reporting(
                    &started,
                    AttemptEnd::Error,
                    perennial_core::run::JobState::Ready,
                ))
                .await
                .unwrap();
        });
    });
    drop(store);
    let store = stores::open(&path);
    stores::served(&store, || {
        stores::block_on(async {
            let other = start(&store, "other").await;
            assert_eq!(taken(&store, &other, "k").await, Some(json!("kept")));
        });
    });
}
