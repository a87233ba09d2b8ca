//! The writer: groups, restarts, failures.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use perennial_store::{LEASE_TTL, NewRun, SqliteOptions, SqliteStore, Store, StoreError};

use crate::{
    fixture::*,
    stores::{block_on, open, served},
};

/// Polls the operations once, so that they are waiting, then lets `serve` happen, then awaits them.
fn queued<T>(
    store: &SqliteStore,
    operations: Vec<perennial_store::Operation<'_, T>>,
) -> Vec<Result<T, StoreError>> {
    block_on(async {
        let mut waiting = Vec::new();
        for mut operation in operations {
            let polled = std::future::poll_fn(|cx| {
                std::task::Poll::Ready(operation.as_mut().poll(cx).is_pending())
            });
            assert!(polled.await, "nobody serves yet");
            waiting.push(operation);
        }
        assert_eq!(store.status().queued, waiting.len() as u64);
        let writer = store.writer();
        let stopper = writer.stopper();
        stopper.stop();
        // Stopped before it runs: it serves what is waiting and returns.
        thread::scope(|threads| threads.spawn(|| writer.run().unwrap()).join().unwrap());
        let mut outcomes = Vec::new();
        for operation in waiting {
            outcomes.push(operation.await);
        }
        outcomes
    })
}

#[test]
fn many_requests_share_a_commit_and_fail_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    let names: Vec<String> = (0..600).map(|n| format!("s{}", n % 500)).collect();
    let operations =
        names.iter().map(|name| store.create_stream(name, "session", vec![event("opened")]));
    let outcomes = queued(&store, operations.collect());
    let refused = |outcome: &Result<_, _>| matches!(outcome, Err(StoreError::Conflict { .. }));
    assert!(outcomes[..500].iter().all(Result::is_ok));
    assert!(outcomes[500..].iter().all(refused));
    let status = store.status();
    assert_eq!((status.requests, status.commits, status.failed_commits), (600, 3, 0));
    served(&store, || {
        assert_eq!(block_on(store.streams("session")).unwrap().len(), 500);
    });
}

#[test]
fn large_requests_end_a_group() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    let operations = (0..8_u8).map(|n| store.put_blob(vec![n; 600 * 1024]));
    assert!(queued(&store, operations.collect()).iter().all(Result::is_ok));
    assert_eq!(store.status().commits, 4);
}

#[test]
fn a_writer_that_ended_is_followed_by_another() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    for n in 1..=3 {
        let outcomes = queued(&store, vec![store.register_node_on("n", EXCLUSIVE)]);
        assert_eq!(outcomes[0].as_ref().unwrap().node.incarnation, n);
    }
}

/// Proves INV-ST-6.
#[test]
fn two_writers_never_run_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    served(&store, || {
        block_on(store.register_node_on("n", EXCLUSIVE)).unwrap();
        let second = store.writer().run();
        assert!(matches!(second, Err(StoreError::Unavailable(_))), "{second:?}");
        block_on(store.register_node_on("n", EXCLUSIVE)).unwrap();
    });
}

/// Proves INV-ST-32.
#[test]
fn a_full_queue_is_busy() {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions { queue_max: 2, ..SqliteOptions::default() };
    let store = SqliteStore::open(directory.path().join("store.db"), options).unwrap();
    block_on(async {
        let stream = |name| store.create_stream(name, "session", Vec::new());
        let mut waiting: Vec<_> = ["a", "b"].map(stream).into();
        for operation in &mut waiting {
            assert!(futures_util::poll!(operation).is_pending());
        }
        assert_eq!(stream("c").await, Err(StoreError::Busy));
        // What a node's lease depends on finds room all the same.
        let mut registering = store.register_node_on("n", EXCLUSIVE);
        assert!(futures_util::poll!(&mut registering).is_pending());
    });
}

#[test]
fn concurrent_callers_are_all_served() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    served(&store, || {
        let node = block_on(store.register_node_on("n", EXCLUSIVE)).unwrap().node;
        thread::scope(|threads| {
            for caller in 0..8 {
                let (store, node) = (&store, &node);
                threads.spawn(move || {
                    block_on(async {
                        for n in 0..25 {
                            start_on(store, &format!("r{caller}-{n}"), node).await;
                        }
                    });
                });
            }
        });
        assert_eq!(block_on(store.runs(ALL)).unwrap().len(), 200);
    });
    let status = store.status();
    assert_eq!(status.requests, 201);
    assert!(status.commits < status.requests, "{status:?}");
}

#[expect(clippy::disallowed_methods, reason = "the real clock is the subject")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Proves TRAP-3.
/// STO-32: by two that insert 500 at a time without a pause; a lease is renewed beside them all the time.
#[test]
fn a_lease_is_renewed_in_time_while_ten_thousand_rows_are_inserted() {
    const ROWS: usize = 500;
    let directory = tempfile::tempdir().unwrap();
    let store = &open(&directory.path().join("store.db"));
    served(store, || {
        let node = &block_on(store.register_node_on("n", EXCLUSIVE)).unwrap().node;
        let busy = &AtomicUsize::new(2);
        let insert = |who: usize| {
            for number in 0..10 {
                let jobs = (0..ROWS).map(|row| new_job(&row.to_string(), None)).collect();
                let new = NewRun { jobs, ..new_run(&format!("r{who}-{number}"), node) };
                block_on(store.create_run(new)).unwrap();
            }
            busy.fetch_sub(1, Ordering::SeqCst);
        };
        thread::scope(|threads| {
            threads.spawn(|| insert(0));
            threads.spawn(|| insert(1));
            let mut waits = Vec::new();
            while busy.load(Ordering::SeqCst) > 0 {
                let asked = now();
                block_on(store.renew(node, LEASE_TTL)).unwrap();
                waits.push(asked.elapsed());
            }
            let longest = waits.iter().max().unwrap();
            assert!(waits.len() >= 10, "it was renewed beside them: {waits:?}");
            // It is sent every third of the lease, and nothing begins from 0.6 of it on.
            assert!(*longest < LEASE_TTL / 5, "{waits:?}");
        });
        let rows: u64 = block_on(store.runs(ALL)).unwrap().iter().map(|run| run.jobs).sum();
        assert_eq!(rows, 10_000);
    });
}
