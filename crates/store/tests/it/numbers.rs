//! Numbers of sequences: one for each key, none twice, and none left out (DUR-100, DUR-101, DUR-104).

use std::time::Duration;

use futures_util::future::join_all;
use perennial_core::run::{AttemptEnd, JobState, RunState, SequenceName};
use perennial_store::{Lease, NewNumber, NewVersion, Retention, SlotGiven, Store, StoreError};

use crate::{
    fixture::*,
    stores::{checked, on_every_store},
};

on_every_store!(
    a_key_has_one_number_and_no_two_keys_share_one,
    two_runs_of_one_scope_share_no_number,
    the_next_attempt_has_the_number_of_one_that_died_before_it_used_it,
    a_number_stays_with_a_job_that_fails,
    who_lost_its_job_gets_no_number,
    numbers_outlive_their_run,
    a_version_keeps_the_number_and_knows_its_parent,
    what_many_ask_for_at_once_is_distinct_and_dense,
    names_that_cannot_be_kept_are_refused,
);

/// Who draws at once, and how often: `PERENNIAL_DRAWS=64x200` is the full size.
pub(crate) fn draws() -> (usize, usize) {
    let text = std::env::var("PERENNIAL_DRAWS").unwrap_or_else(|_| "16x20".to_owned());
    let (callers, each) = text.split_once('x').unwrap();
    (callers.parse().unwrap(), each.parse().unwrap())
}

pub(crate) fn number(scope: &str, key: &str) -> NewNumber {
    let sequence = SequenceName::new("invoice").unwrap();
    NewNumber { sequence, scope: scope.to_owned(), key: key.to_owned() }
}

fn version(of: u64, parent: u32, key: &str) -> NewVersion {
    let NewNumber { sequence, scope, key } = number("x", key);
    NewVersion { sequence, scope, number: of, parent, key }
}

async fn drawn(store: &dyn Store, lease: &Lease, scope: &str, key: &str) -> u64 {
    store.allocate(lease, number(scope, key)).await.unwrap()
}

async fn told(store: &dyn Store, run: &str, kind: &str) -> usize {
    history(store, run).await.iter().filter(|told| *told == kind).count()
}

/// Proves INV-25.
async fn a_key_has_one_number_and_no_two_keys_share_one(store: &dyn Store) {
    let started = start(store, "r").await;
    let lease = &started.lease;
    assert_eq!(drawn(store, lease, "x", "a").await, 1);
    assert_eq!(drawn(store, lease, "x", "b").await, 2);
    assert_eq!(drawn(store, lease, "x", "a").await, 1, "it has one");
    assert_eq!(drawn(store, lease, "y", "a").await, 1, "each scope counts for itself");
    let other = NewNumber { sequence: SequenceName::new("order").unwrap(), ..number("x", "b") };
    assert_eq!(store.allocate(lease, other).await, Ok(1), "so does each sequence");
    assert_eq!(drawn(store, lease, "x", "c").await, 3);
    assert_eq!(told(store, "r", "number_allocated").await, 5, "what was given before is no news");
    let all = store.allocations(&started.run).await.unwrap();
    let shown: Vec<_> =
        all.iter().map(|of| (&*of.sequence, &*of.scope, of.number, &*of.key)).collect();
    let expected = [
        ("invoice", "x", 1, "a"),
        ("invoice", "x", 2, "b"),
        ("invoice", "x", 3, "c"),
        ("invoice", "y", 1, "a"),
        ("order", "x", 1, "b"),
    ];
    assert_eq!(shown, expected);
    assert!(all.iter().all(|of| (of.attempt, of.version, of.parent) == (1, 1, None)));
    checked(store).await;
}

/// Proves D12.
/// What one run was given is nobody else's.
async fn two_runs_of_one_scope_share_no_number(store: &dyn Store) {
    let one = start(store, "one").await;
    let other = start_on(store, "other", &one.node).await;
    assert_eq!(drawn(store, &one.lease, "x", "one/1").await, 1);
    assert_eq!(drawn(store, &other.lease, "x", "other/1").await, 2);
    assert_eq!(drawn(store, &one.lease, "x", "one/2").await, 3);
    assert_eq!(drawn(store, &other.lease, "x", "other/1").await, 2);
    for (run, given) in [(&one.run, vec![1, 3]), (&other.run, vec![2])] {
        let all = store.allocations(run).await.unwrap();
        assert_eq!(all.iter().map(|of| of.number).collect::<Vec<_>>(), given);
    }
    checked(store).await;
}

/// Proves INV-25, K10.
async fn the_next_attempt_has_the_number_of_one_that_died_before_it_used_it(store: &dyn Store) {
    let started = start(store, "r").await;
    assert_eq!(drawn(store, &started.lease, "x", "a").await, 1);
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    assert_eq!(store.rescue(None, ALL).await.unwrap().len(), 1);
    let other = start_on(store, "other", &node).await;
    assert_eq!(drawn(store, &other.lease, "x", "b").await, 2);
    let lease = store.claim(&started.run, &node, 1).await.unwrap().remove(0).lease;
    assert_eq!(lease.attempt, 2);
    assert_eq!(drawn(store, &lease, "x", "a").await, 1, "the number of the first attempt");
    let all = store.allocations(&started.run).await.unwrap();
    assert_eq!((all.len(), all[0].attempt), (1, 1));
    checked(store).await;
}

/// DUR-101.
async fn a_number_stays_with_a_job_that_fails(store: &dyn Store) {
    let started = start(store, "r").await;
    assert_eq!(drawn(store, &started.lease, "x", "a").await, 1);
    store.commit(reporting(&started, AttemptEnd::Error, JobState::Failed)).await.unwrap();
    let other = start_on(store, "other", &started.node).await;
    assert_eq!(drawn(store, &other.lease, "x", "b").await, 2);
    assert_eq!(store.allocations(&started.run).await.unwrap()[0].number, 1);
}

/// INV-4, of numbers.
async fn who_lost_its_job_gets_no_number(store: &dyn Store) {
    let started = start(store, "r").await;
    let first = started.lease.clone();
    assert_eq!(drawn(store, &first, "x", "a").await, 1);
    store.release(&first, "enough").await.unwrap();
    let second = store.claim(&started.run, &started.node, 1).await.unwrap().remove(0).lease;
    let later = Lease { attempt: 3, ..second.clone() };
    let before = store.run(&started.run).await.unwrap();
    let ports = crate::slots::ports();
    for stale in [&first, &later] {
        let refused = [
            store.allocate(stale, number("x", "a")).await.err(),
            store.allocate(stale, number("x", "b")).await.err(),
            store.allocate_version(stale, version(1, 1, "b")).await.err(),
            store.slot_take(stale, &ports, "1").await.err(),
            store.slot_give(stale, "ports", 1, SlotGiven::Conflict).await.err(),
        ];
        for refused in refused {
            assert!(matches!(refused, Some(StoreError::StaleAttempt { .. })), "{refused:?}");
        }
    }
    assert_eq!(store.run(&started.run).await.unwrap(), before);
    assert_eq!(drawn(store, &second, "x", "b").await, 2, "none was used up");
}

/// DUR-101: numbers are never given again, whatever becomes of who had them.
async fn numbers_outlive_their_run(store: &dyn Store) {
    let started = start(store, "r").await;
    assert_eq!(drawn(store, &started.lease, "x", "a").await, 1);
    store.allocate_version(&started.lease, version(1, 1, "b")).await.unwrap();
    let mut end = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
    end.run_step = entering(&started.run, 0, RunState::Running, RunState::Succeeded).run_step;
    store.commit(end).await.unwrap();
    let policy = Retention { ids: Duration::ZERO, ..Retention::after(Duration::ZERO) };
    assert_eq!(store.retain(policy, ALL).await.unwrap().runs, 1);
    store.retain(policy, ALL).await.unwrap();
    assert!(store.run(&started.run).await.is_err());
    assert_eq!(store.allocations(&started.run).await.unwrap().len(), 2);
    checked(store).await;
    // Also when its id is given to another run, which draws under another key.
    let again = start_on(store, "r", &started.node).await;
    assert_eq!(drawn(store, &again.lease, "x", "c").await, 2);
    checked(store).await;
}

/// Proves B21, B22.
async fn a_version_keeps_the_number_and_knows_its_parent(store: &dyn Store) {
    let started = start(store, "r").await;
    let lease = &started.lease;
    for key in ["a", "b"] {
        drawn(store, lease, "x", key).await;
    }
    let give =
        async |of, parent, key| store.allocate_version(lease, version(of, parent, key)).await;
    assert_eq!(give(2, 1, "c").await, Ok(2));
    assert_eq!(give(2, 1, "d").await, Ok(3), "two may be made from the same");
    assert_eq!(give(2, 2, "e").await, Ok(4));
    assert_eq!(give(2, 1, "c").await, Ok(2), "it has one");
    assert_eq!(give(1, 1, "f").await, Ok(2), "each number counts for itself");
    assert_eq!(give(1, 2, "a").await, Ok(3), "the key of a number may have a version, too");
    for (of, parent) in [(3, 1), (2, 5), (2, 0), (0, 1)] {
        let refused = give(of, parent, "g").await;
        assert!(
            matches!(refused, Err(StoreError::NotFound { what: "version", .. })),
            "{refused:?}"
        );
    }
    let other = give(1, 1, "c").await;
    assert!(matches!(other, Err(StoreError::Conflict { .. })), "{other:?}");
    let all = store.allocations(&started.run).await.unwrap();
    let shown: Vec<_> = all.iter().map(|of| (of.number, of.version, of.parent)).collect();
    let (one, two) = ([(1, 1, None), (1, 2, Some(1)), (1, 3, Some(2))], [(2, 1, None)]);
    let versions = [(2, 2, Some(1)), (2, 3, Some(1)), (2, 4, Some(2))];
    assert_eq!(shown, [&one[..], &two[..], &versions[..]].concat());
    assert_eq!(drawn(store, lease, "x", "g").await, 3, "a version takes no number");
    assert_eq!(told(store, "r", "version_allocated").await, 5);
    checked(store).await;
}

/// Proves INV-25, B22.
async fn what_many_ask_for_at_once_is_distinct_and_dense(store: &dyn Store) {
    let (callers, each) = draws();
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let mut runs = Vec::new();
    for run in 0..callers {
        runs.push(start_on(store, &format!("r{run}"), &node).await.lease);
    }
    let all = join_all(runs.iter().enumerate().map(async |(caller, lease)| {
        let mut given = Vec::new();
        for draw in 0..each {
            // Every key is asked for twice.
            let (scope, key) = ("x", format!("{caller}/{draw}"));
            let twice = [drawn(store, lease, scope, &key), drawn(store, lease, scope, &key)];
            let twice = join_all(twice).await;
            assert_eq!(twice[0], twice[1]);
            given.push(twice[0]);
        }
        assert!(given.is_sorted(), "what is asked for later is a later number: {given:?}");
        given
    }));
    let mut all = all.await.concat();
    all.sort_unstable();
    assert!(all.iter().copied().eq(1..=(callers * each) as u64), "{all:?}");
    checked(store).await;
}

async fn names_that_cannot_be_kept_are_refused(store: &dyn Store) {
    let started = start(store, "r").await;
    let give =
        async |scope: &str, key: &str| store.allocate(&started.lease, number(scope, key)).await;
    let long = give(&"x".repeat(257), "a").await;
    assert!(matches!(long, Err(StoreError::TooLarge { max: 256, .. })), "{long:?}");
    let long = give("x", &"a".repeat(1025)).await;
    assert!(matches!(long, Err(StoreError::TooLarge { max: 1024, .. })), "{long:?}");
    for (scope, key) in [("", "a"), ("x", ""), ("a\0b", "a"), ("x", "a\n")] {
        let refused = give(scope, key).await;
        assert!(matches!(refused, Err(StoreError::InvalidName { .. })), "{refused:?}");
    }
    assert_eq!(give(&"ä".repeat(128), &"a".repeat(1024)).await, Ok(1));
}
