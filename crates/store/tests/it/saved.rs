//! What attempts save, and what they say of how far they are.

use perennial_core::run::{AttemptEnd, JobState};
use perennial_store::{CallStart, Lease, NewCheckpoint, Store, StoreError};
use serde_json::{Value, json};

use crate::{
    fixture::*,
    stores::{on_every_store, on_memory},
};

on_every_store!(
    a_later_attempt_has_what_an_earlier_one_saved,
    a_large_value_is_a_blob,
    who_lost_its_job_saves_nothing,
    what_was_saved_goes_with_success_unless_it_is_kept,
    what_was_saved_outlives_a_failure,
    a_checkpoint_forgives_crashes,
    names_of_calls_and_checkpoints_are_apart,
    progress_is_kept_and_told_now_and_then,
);

fn new(name: &str, value: Value) -> NewCheckpoint {
    NewCheckpoint { name: name.to_owned(), value, keep: false }
}

async fn names(store: &dyn Store, lease: &Lease) -> Vec<(String, u32)> {
    let saved = store.run(&lease.run).await.unwrap().saved;
    saved.into_iter().map(|of| (of.name, of.attempt)).collect()
}

async fn next_attempt(store: &dyn Store, started: &Started) -> Lease {
    store.release(&started.lease, "enough").await.unwrap();
    store.claim(&started.run, &started.node, 1).await.unwrap().remove(0).lease
}

/// DUR-141.
async fn a_later_attempt_has_what_an_earlier_one_saved(store: &dyn Store) {
    let started = start(store, "r").await;
    let first = &started.lease;
    store.save(first, new("a", json!([1]))).await.unwrap();
    store.save(first, new("b", Value::Null)).await.unwrap();
    let second = next_attempt(store, &started).await;
    assert_eq!(store.saved(second.job, "a").await, Ok(Some(json!([1]))));
    assert_eq!(store.saved(second.job, "b").await, Ok(Some(Value::Null)), "null is a value");
    assert_eq!(store.saved(second.job, "c").await, Ok(None));
    store.save(&second, new("a", json!([2]))).await.unwrap();
    store.save(&second, new("a", json!([2]))).await.unwrap();
    assert_eq!(store.saved(second.job, "a").await, Ok(Some(json!([2]))));
    assert_eq!(names(store, &second).await, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    let events = history(store, "r").await;
    assert_eq!(events.iter().filter(|kind| *kind == "checkpoint_saved").count(), 4);
}

async fn a_large_value_is_a_blob(store: &dyn Store) {
    let started = start(store, "r").await;
    let large = json!("x".repeat(300 * 1024));
    store.save(&started.lease, new("a", large.clone())).await.unwrap();
    assert_eq!(store.saved(started.lease.job, "a").await, Ok(Some(large.clone())));
    let saved = store.run(&started.run).await.unwrap().saved;
    assert_eq!(saved[0].bytes, large.to_string().len() as u64);
    let digest = perennial_core::Digest::of(large.to_string().as_bytes());
    assert!(store.blob(digest).await.is_ok());
    store.save(&started.lease, new("a", json!(1))).await.unwrap();
    assert_eq!(store.saved(started.lease.job, "a").await, Ok(Some(json!(1))));
}

/// INV-4, of what attempts save and say.
async fn who_lost_its_job_saves_nothing(store: &dyn Store) {
    let started = start(store, "r").await;
    let first = started.lease.clone();
    let second = next_attempt(store, &started).await;
    let later = Lease { attempt: 3, ..second.clone() };
    let before = store.run(&started.run).await.unwrap();
    for stale in [&first, &later] {
        let saved = store.save(stale, new("a", json!(1))).await;
        assert!(matches!(saved, Err(StoreError::StaleAttempt { .. })), "{saved:?}");
        let beat = store.beat(stale, json!(1)).await;
        assert!(matches!(beat, Err(StoreError::StaleAttempt { .. })), "{beat:?}");
    }
    assert_eq!(store.run(&started.run).await.unwrap(), before);
    store.save(&second, new("a", json!(1))).await.unwrap();
}

async fn what_was_saved_goes_with_success_unless_it_is_kept(store: &dyn Store) {
    let started = start(store, "r").await;
    store.save(&started.lease, new("a", json!(1))).await.unwrap();
    store.save(&started.lease, NewCheckpoint { keep: true, ..new("b", json!(2)) }).await.unwrap();
    let end = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
    store.commit(end).await.unwrap();
    assert_eq!(names(store, &started.lease).await, [("b".to_owned(), 1)]);
}

async fn what_was_saved_outlives_a_failure(store: &dyn Store) {
    let started = start(store, "r").await;
    store.save(&started.lease, new("a", json!(1))).await.unwrap();
    let end = reporting(&started, AttemptEnd::Error, JobState::Ready);
    store.commit(end).await.unwrap();
    assert_eq!(names(store, &started.lease).await, [("a".to_owned(), 1)]);
}

async fn a_checkpoint_forgives_crashes(store: &dyn Store) {
    let Started { run, .. } = start(store, "r").await;
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    store.rescue(None, ALL).await.unwrap();
    let lease = store.claim(&run, &node, 1).await.unwrap().remove(0).lease;
    assert_eq!(only_job(store, &run).await.crashes, 1);
    store.beat(&lease, Value::Null).await.unwrap();
    assert_eq!(only_job(store, &run).await.crashes, 1, "that it lives proves nothing");
    store.save(&lease, new("a", Value::Null)).await.unwrap();
    assert_eq!(only_job(store, &run).await.crashes, 0);
}

async fn names_of_calls_and_checkpoints_are_apart(store: &dyn Store) {
    let started = start(store, "r").await;
    store.save(&started.lease, new("1", json!("saved"))).await.unwrap();
    let call = CallStart { name: "1".to_owned(), idempotency_key: "k".to_owned() };
    assert_eq!(store.begin_call(&started.lease, call).await, Ok(None));
    store.record_call(&started.lease, "1", json!("reply")).await.unwrap();
    assert_eq!(store.saved(started.lease.job, "1").await, Ok(Some(json!("saved"))));
    assert_eq!(store.run(&started.run).await.unwrap().calls.len(), 1);
}

async fn progress_is_kept_and_told_now_and_then(store: &dyn Store) {
    let started = start(store, "r").await;
    for done in 1..=3 {
        store.beat(&started.lease, json!({ "done": done })).await.unwrap();
    }
    let beats = store.run(&started.run).await.unwrap().beats;
    assert_eq!((beats.len(), &beats[0].progress), (1, &json!({"done": 3})));
    assert!(beats[0].first_at <= beats[0].at);
    let events = history(store, "r").await;
    assert_eq!(events.iter().filter(|kind| *kind == "attempt_progress").count(), 1);
    let second = next_attempt(store, &started).await;
    store.beat(&second, json!({ "done": 4 })).await.unwrap();
    let beats = store.run(&started.run).await.unwrap().beats;
    assert_eq!(beats.iter().map(|beat| beat.attempt).collect::<Vec<_>>(), [1, 2]);
}

async fn bounds_are_kept(store: &dyn Store) {
    let started = start(store, "r").await;
    let named = store.save(&started.lease, new(&"n".repeat(257), json!(1))).await;
    assert!(matches!(named, Err(StoreError::TooLarge { max: 256, .. })), "{named:?}");
    let said = store.beat(&started.lease, json!("p".repeat(5_000))).await;
    assert!(matches!(said, Err(StoreError::TooLarge { max: 4_096, .. })), "{said:?}");
    for number in 0..1_000 {
        store.save(&started.lease, new(&number.to_string(), json!(1))).await.unwrap();
    }
    let more = store.save(&started.lease, new("more", json!(1))).await;
    assert!(matches!(more, Err(StoreError::Conflict { .. })), "{more:?}");
    store.save(&started.lease, new("7", json!(2))).await.unwrap();
}

#[test]
fn as_much_is_saved_as_there_is_room_for() {
    on_memory(bounds_are_kept);
}
