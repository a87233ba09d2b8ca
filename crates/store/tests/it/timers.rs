use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use perennial_core::{
    Timestamp,
    run::{AttemptEnd, JobState},
};
use perennial_store::{Decision, MemoryStore, NewTimer, Store};

use crate::{
    fixture::*,
    stores::{block_on, on_every_store},
};

on_every_store!(a_due_timer_is_taken_once, a_timer_is_replaced_by_its_name);

fn timer(name: &str, at: Timestamp) -> NewTimer {
    NewTimer { owner: "run:r".to_owned(), name: name.to_owned(), at }
}

/// Proves INV-ST-25.
async fn a_due_timer_is_taken_once(store: &dyn Store) {
    assert_eq!(store.next_due().await, Ok(None));
    let Started { run, revision, .. } = start(store, "r").await;
    let (past, later) = (store.now(), store.now().after(Duration::from_secs(3600)));
    let timers = vec![timer("later", later), timer("past", past)];
    store.commit(Decision { timers, ..decision(&run, revision) }).await.unwrap();
    assert_eq!(store.next_due().await, Ok(Some(past)));
    let due = store.take_due_timers(ALL).await.unwrap();
    assert_eq!((due.len(), due[0].name.as_str(), due[0].at), (1, "past", past));
    assert_eq!(due[0].owner, "run:r");
    assert!(store.take_due_timers(ALL).await.unwrap().is_empty());
    assert_eq!(store.next_due().await, Ok(Some(later)));
}

async fn a_timer_is_replaced_by_its_name(store: &dyn Store) {
    let Started { run, revision, .. } = start(store, "r").await;
    let later = store.now().after(Duration::from_secs(3600));
    let timers = vec![timer("t", store.now()), timer("t", later)];
    store.commit(Decision { timers, ..decision(&run, revision) }).await.unwrap();
    assert!(store.take_due_timers(ALL).await.unwrap().is_empty());
    assert_eq!(store.next_due().await, Ok(Some(later)));
}

/// Proves INV-ST-25.
#[test]
fn time_is_what_the_clock_says() {
    let micros = Arc::new(AtomicI64::new(1_000));
    let hand = Arc::clone(&micros);
    let clock = Arc::new(move || Timestamp::from_micros(hand.load(Ordering::Relaxed)));
    let store = MemoryStore::with_clock(clock).unwrap();
    block_on(async {
        let started = start(&store, "r").await;
        let mut retry = reporting(&started, AttemptEnd::Error, JobState::Ready);
        retry.report.as_mut().unwrap().run_after = Some(Timestamp::from_micros(2_000));
        retry.timers = vec![timer("t", Timestamp::from_micros(3_000))];
        store.commit(retry).await.unwrap();
        assert_eq!(store.next_due().await, Ok(Some(Timestamp::from_micros(2_000))));
        assert!(store.claim(&started.run, &started.node, ALL).await.unwrap().is_empty());
        micros.store(2_000, Ordering::Relaxed);
        assert_eq!(store.next_due().await, Ok(Some(Timestamp::from_micros(3_000))));
        assert_eq!(store.claim(&started.run, &started.node, ALL).await.unwrap().len(), 1);
        micros.store(3_000, Ordering::Relaxed);
        assert_eq!(store.take_due_timers(ALL).await.unwrap().len(), 1);
        assert_eq!(store.next_due().await, Ok(None));
    });
}

#[test]
fn a_paused_runtime_pauses_the_store_in_memory() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let store = MemoryStore::open().unwrap();
        let before = store.now();
        assert_eq!(store.now(), before);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(store.now(), before.after(Duration::from_secs(60)));
    });
}
