use perennial_core::run::{AttemptEnd, JobState};
use perennial_store::{CallStart, Store, StoreError};
use serde_json::{Value, json};

use crate::{fixture::*, stores::on_every_store};

on_every_store!(
    a_recorded_reply_is_replayed_to_later_attempts,
    an_open_call_makes_a_release_uncertain,
    an_open_call_makes_a_rescue_uncertain,
    a_settled_call_leaves_no_doubt,
    a_recorded_call_forgives_crashes,
    a_reply_is_recorded_once,
    an_open_call_of_an_attempt_that_failed_is_uncertain,
);

fn call(name: &str) -> CallStart {
    CallStart { name: name.to_owned(), idempotency_key: format!("key/{name}") }
}

async fn a_recorded_reply_is_replayed_to_later_attempts(store: &dyn Store) {
    let Started { run, node, lease, revision } = start(store, "r").await;
    assert_eq!(store.begin_call(&lease, call("1/x")).await, Ok(None));
    store.record_call(&lease, "1/x", json!({"text": "hello"})).await.unwrap();
    store.release(&lease, "shutting down").await.unwrap();
    let claimed = store.claim(&run, &node, 1).await.unwrap().remove(0);
    assert_eq!(claimed.calls.len(), 1);
    assert_eq!(claimed.calls[0].reply, Some(json!({"text": "hello"})));
    assert_eq!(claimed.calls[0].idempotency_key, "key/1/x");
    let replayed = store.begin_call(&claimed.lease, call("1/x")).await;
    assert_eq!(replayed, Ok(Some(json!({"text": "hello"}))));
    assert_eq!(store.begin_call(&claimed.lease, call("2/y")).await, Ok(None));
    let view = store.run(&run).await.unwrap();
    assert_eq!((view.calls.len(), view.run.revision), (2, revision));
    assert_eq!((view.calls[0].attempt, view.calls[1].attempt), (1, 2));
    assert!(!view.attempts[0].uncertain);
    let events = history(store, "r").await;
    assert_eq!(events.iter().filter(|kind| *kind == "call_started").count(), 2);
    assert_eq!(events.iter().filter(|kind| *kind == "checkpoint_written").count(), 1);
}

async fn an_open_call_makes_a_release_uncertain(store: &dyn Store) {
    let Started { run, node, lease, .. } = start(store, "r").await;
    store.begin_call(&lease, call("1/x")).await.unwrap();
    assert!(store.release(&lease, "lost").await.unwrap().uncertain);
    let events = history(store, "r").await;
    assert_eq!(events[events.len() - 2..], ["attempt_released", "attempt_uncertain"]);
    let claimed = store.claim(&run, &node, 1).await.unwrap().remove(0);
    assert!(claimed.calls.is_empty(), "an open call has nothing to replay");
    assert_eq!(store.begin_call(&claimed.lease, call("1/x")).await, Ok(None));
    let calls = store.run(&run).await.unwrap().calls;
    assert_eq!((calls.len(), calls[0].attempt), (1, 2));
}

async fn an_open_call_makes_a_rescue_uncertain(store: &dyn Store) {
    let Started { run, lease, .. } = start(store, "r").await;
    store.begin_call(&lease, call("1/x")).await.unwrap();
    store.register_node_on("n", EXCLUSIVE).await.unwrap();
    assert!(store.rescue(None, ALL).await.unwrap()[0].uncertain);
    assert!(store.run(&run).await.unwrap().attempts[0].uncertain);
    assert_eq!(history(store, "r").await.last().unwrap(), "attempt_uncertain");
}

async fn a_settled_call_leaves_no_doubt(store: &dyn Store) {
    let Started { run, lease, .. } = start(store, "r").await;
    store.begin_call(&lease, call("1/x")).await.unwrap();
    store.settle_call(&lease, "1/x").await.unwrap();
    store.settle_call(&lease, "1/x").await.unwrap();
    assert!(!store.release(&lease, "shutting down").await.unwrap().uncertain);
    assert!(store.run(&run).await.unwrap().calls.is_empty());
}

async fn a_recorded_call_forgives_crashes(store: &dyn Store) {
    let Started { run, .. } = start(store, "r").await;
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    store.rescue(None, ALL).await.unwrap();
    let lease = store.claim(&run, &node, 1).await.unwrap().remove(0).lease;
    assert_eq!(only_job(store, &run).await.crashes, 1);
    store.begin_call(&lease, call("1/x")).await.unwrap();
    store.record_call(&lease, "1/x", Value::Null).await.unwrap();
    assert_eq!(only_job(store, &run).await.crashes, 0);
}

async fn a_reply_is_recorded_once(store: &dyn Store) {
    let Started { lease, .. } = start(store, "r").await;
    let missing = store.record_call(&lease, "1/x", json!(1)).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
    store.begin_call(&lease, call("1/x")).await.unwrap();
    store.record_call(&lease, "1/x", json!(1)).await.unwrap();
    assert_eq!(store.record_call(&lease, "1/x", json!(1)).await, Ok(()));
    let other = store.record_call(&lease, "1/x", json!(2)).await;
    assert!(matches!(other, Err(StoreError::Conflict { .. })), "{other:?}");
    assert_eq!(store.begin_call(&lease, call("1/x")).await, Ok(Some(json!(1))));
}

async fn an_open_call_of_an_attempt_that_failed_is_uncertain(store: &dyn Store) {
    let started = start(store, "r").await;
    store.begin_call(&started.lease, call("1/x")).await.unwrap();
    let end = reporting(&started, AttemptEnd::TimedOut, JobState::Ready);
    let (_, _, events) = committed(store.commit(end).await.unwrap());
    assert_eq!(events, ["attempt_timed_out", "attempt_uncertain"]);
}
