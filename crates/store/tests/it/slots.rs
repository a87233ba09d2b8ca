//! Numbers of pools: one holder each, for as long as its attempt lasts (DUR-103).

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use futures_util::future::join_all;
use perennial_core::{
    Timestamp,
    run::{AttemptEnd, JobState, RunState, SlotPool},
};
use perennial_store::{
    Again, JobStep, Lease, MemoryStore, Reopening, SLOT_FENCE, SlotGiven, SlotTaken, Store,
    StoreError,
};

use crate::{
    fixture::*,
    numbers::draws,
    stores::{block_on, checked, on_every_store},
};

on_every_store!(
    a_number_has_one_holder_at_a_time,
    whatever_ends_an_attempt_gives_its_numbers_back,
    the_death_of_its_process_gives_its_numbers_back,
    a_number_is_given_back_before_the_end,
    a_number_with_a_conflict_outside_is_fenced,
    pools_of_one_name_and_other_ranges_share_no_number,
    what_many_take_at_once_is_distinct,
);

/// Three of them.
pub(crate) fn ports() -> SlotPool {
    SlotPool::new("ports", 20_000..=20_002).unwrap()
}

async fn take(store: &dyn Store, lease: &Lease, name: &str) -> Option<u32> {
    match store.slot_take(lease, &ports(), name).await.unwrap() {
        SlotTaken::Number(number) => Some(number),
        SlotTaken::Full => None,
    }
}

async fn held(store: &dyn Store) -> Vec<(u32, String)> {
    let slots = store.slots("ports").await.unwrap().into_iter();
    slots.filter_map(|slot| Some((slot.number, slot.holder?.run.to_string()))).collect()
}

async fn a_number_has_one_holder_at_a_time(store: &dyn Store) {
    let one = start(store, "one").await;
    let other = start_on(store, "other", &one.node).await;
    assert_eq!(take(store, &one.lease, "1").await, Some(20_000));
    assert_eq!(take(store, &other.lease, "1").await, Some(20_001));
    assert_eq!(take(store, &one.lease, "1").await, Some(20_000), "it holds it");
    assert_eq!(take(store, &one.lease, "2").await, Some(20_002));
    assert_eq!(take(store, &other.lease, "2").await, None);
    assert_eq!(take(store, &one.lease, "2").await, Some(20_002), "also when all are held");
    let of = |number, run: &str| (number, run.to_owned());
    let expected = [of(20_000, "one"), of(20_001, "other"), of(20_002, "one")];
    assert_eq!(held(store).await, expected);
    assert!(store.slots("gates").await.unwrap().is_empty());
    let taken = history(store, "one").await.into_iter().filter(|kind| kind == "slot_taken");
    assert_eq!(taken.count(), 2);
    checked(store).await;
}

/// Ends of an attempt that a report tells of, with what becomes of its job.
const ENDS: [(AttemptEnd, JobState); 11] = [
    (AttemptEnd::Succeeded, JobState::Succeeded),
    (AttemptEnd::Partial, JobState::Partial),
    (AttemptEnd::Skipped, JobState::Skipped),
    (AttemptEnd::Error, JobState::Failed),
    (AttemptEnd::Error, JobState::Ready),
    (AttemptEnd::TimedOut, JobState::Ready),
    (AttemptEnd::Unavailable, JobState::Deferred),
    (AttemptEnd::Suspended, JobState::Suspended),
    (AttemptEnd::Cancelled, JobState::Cancelled),
    (AttemptEnd::Expired, JobState::Ready),
    (AttemptEnd::Released, JobState::Ready),
];

/// Proves K36.
async fn whatever_ends_an_attempt_gives_its_numbers_back(store: &dyn Store) {
    let keeper = start(store, "keeper").await;
    assert_eq!(take(store, &keeper.lease, "1").await, Some(20_000));
    let freed = async |what: &str| {
        assert_eq!(held(store).await, [(20_000, "keeper".to_owned())], "{what}");
    };
    for (place, (end, to)) in ENDS.into_iter().enumerate() {
        let started = start_on(store, &format!("r{place}"), &keeper.node).await;
        assert_eq!(take(store, &started.lease, "1").await, Some(20_001), "{end}");
        assert_eq!(take(store, &started.lease, "2").await, Some(20_002), "{end}");
        store.commit(reporting(&started, end, to)).await.unwrap();
        freed(end.name()).await;
    }
    let started = start_on(store, "released", &keeper.node).await;
    take(store, &started.lease, "1").await;
    store.release(&started.lease, "enough").await.unwrap();
    freed("released").await;

    // The decision of somebody else, with the end of the run.
    let started = start_on(store, "cancelled", &keeper.node).await;
    take(store, &started.lease, "1").await;
    let step = entering(&started.run, started.revision, RunState::Running, RunState::Cancelling);
    let (revision, ..) = committed(store.commit(step).await.unwrap());
    let mut step = entering(&started.run, revision, RunState::Cancelling, RunState::Cancelled);
    step.jobs = vec![JobStep::new(started.lease.job, JobState::Leased, JobState::Cancelled)];
    store.commit(step).await.unwrap();
    freed("cancelled").await;
    checked(store).await;
}

/// Proves K36.
async fn the_death_of_its_process_gives_its_numbers_back(store: &dyn Store) {
    let started = start(store, "r").await;
    let mut lease = started.lease;
    for death in 1..=3 {
        assert_eq!(take(store, &lease, "1").await, Some(20_000));
        let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
        let rescued = store.rescue(None, ALL).await.unwrap();
        // What becomes of a job that died too often is a decision, and its attempt ends with that.
        let exhausted = death == 3;
        assert_eq!(rescued[0].exhausted, exhausted);
        assert_eq!(held(store).await.len(), usize::from(exhausted), "death {death}");
        if !exhausted {
            lease = store.claim(&started.run, &node, 1).await.unwrap().remove(0).lease;
        }
    }
    // So it is with a further round of the run.
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let view = store.run(&started.run).await.unwrap();
    let run = &view.run;
    let reopening = Reopening {
        run: started.run.clone(),
        expected_revision: run.revision,
        owner: node,
        definition: run.definition,
        definition_bytes: b"definition".to_vec(),
        input_digest: run.input_digest,
        settings: run.settings.clone(),
        deadline: None,
        again: vec![Again::asked_for(lease.job)],
        stages: Vec::new(),
    };
    store.reopen_run(reopening).await.unwrap();
    assert_eq!(held(store).await, []);
    checked(store).await;
}

async fn a_number_is_given_back_before_the_end(store: &dyn Store) {
    let one = start(store, "one").await;
    let other = start_on(store, "other", &one.node).await;
    assert_eq!(take(store, &one.lease, "1").await, Some(20_000));
    assert_eq!(take(store, &one.lease, "2").await, Some(20_001));
    let give = async |lease: &Lease, number| {
        store.slot_give(lease, "ports", number, SlotGiven::Unused).await.unwrap()
    };
    assert!(!give(&other.lease, 20_000).await, "it is not its own");
    assert!(!give(&one.lease, 20_002).await, "nobody holds it");
    assert!(give(&one.lease, 20_000).await);
    assert!(!give(&one.lease, 20_000).await, "it was given back");
    assert_eq!(take(store, &other.lease, "1").await, Some(20_000));
    assert!(!give(&one.lease, 20_000).await, "it is somebody else's");
    assert_eq!(take(store, &one.lease, "1").await, Some(20_002), "the name is free as well");
    assert_eq!(held(store).await.len(), 3);
    let given = history(store, "one").await.into_iter().filter(|kind| kind == "slot_given");
    assert_eq!(given.count(), 1);
}

async fn a_number_with_a_conflict_outside_is_fenced(store: &dyn Store) {
    let one = start(store, "one").await;
    assert_eq!(take(store, &one.lease, "1").await, Some(20_000));
    let (lease, conflict) = (&one.lease, SlotGiven::Conflict);
    assert_eq!(store.slot_give(lease, "ports", 20_001, conflict).await, Ok(false));
    let before = store.now();
    assert_eq!(store.slot_give(lease, "ports", 20_000, conflict).await, Ok(true));
    let slots = store.slots("ports").await.unwrap();
    let until = slots[0].fenced_until.unwrap();
    assert!(until >= before.after(SLOT_FENCE) && until <= store.now().after(SLOT_FENCE));
    assert!(slots.len() == 1 && slots[0].holder.is_none());
    assert_eq!(take(store, lease, "1").await, Some(20_001));
    assert_eq!(take(store, lease, "2").await, Some(20_002));
    assert_eq!(take(store, lease, "3").await, None, "it is fenced");
    // A fence is nobody's: the end of who made it changes nothing.
    store.commit(reporting(&one, AttemptEnd::Error, JobState::Failed)).await.unwrap();
    assert_eq!(store.slots("ports").await.unwrap(), slots);
    checked(store).await;
}

#[test]
fn a_fence_is_over_when_its_time_is() {
    let hand = Arc::new(AtomicI64::new(1_800_000_000_000_000));
    let shown = hand.clone();
    let clock = Arc::new(move || Timestamp::from_micros(shown.load(Ordering::Relaxed)));
    let store = MemoryStore::with_clock(clock).unwrap();
    block_on(async {
        let one = start(&store, "one").await;
        for name in ["1", "2"] {
            take(&store, &one.lease, name).await;
            store.slot_give(&one.lease, "ports", 20_000, SlotGiven::Conflict).await.unwrap();
        }
        let fence = i64::try_from(SLOT_FENCE.as_micros()).unwrap();
        hand.fetch_add(fence - 1, Ordering::Relaxed);
        assert_eq!(take(&store, &one.lease, "3").await, Some(20_002));
        assert_eq!(take(&store, &one.lease, "4").await, None);
        hand.fetch_add(1, Ordering::Relaxed);
        assert_eq!(take(&store, &one.lease, "4").await, Some(20_000));
        assert_eq!(held(&store).await.len(), 3);
        store.slot_give(&one.lease, "ports", 20_001, SlotGiven::Conflict).await.unwrap();
        hand.fetch_add(fence, Ordering::Relaxed);
        assert_eq!(store.slots("ports").await.unwrap().len(), 2, "what is over is not shown");
        let policy = perennial_store::Retention::never();
        store.retain(policy, ALL).await.unwrap();
        assert_eq!(take(&store, &one.lease, "5").await, Some(20_001));
        checked(&store).await;
    });
}

async fn pools_of_one_name_and_other_ranges_share_no_number(store: &dyn Store) {
    let one = start(store, "one").await;
    assert_eq!(take(store, &one.lease, "1").await, Some(20_000));
    let pool = |name: &str, first, last| SlotPool::new(name, first..=last).unwrap();
    let next =
        async |pool: SlotPool, name: &str| store.slot_take(&one.lease, &pool, name).await.unwrap();
    let (more, less) = (pool("ports", 19_999, 20_001), pool("ports", 20_000, 20_000));
    assert_eq!(next(more.clone(), "2").await, SlotTaken::Number(19_999));
    assert_eq!(next(more, "3").await, SlotTaken::Number(20_001));
    assert_eq!(next(less.clone(), "4").await, SlotTaken::Full);
    assert_eq!(next(pool("gates", 20_000, 20_000), "4").await, SlotTaken::Number(20_000));
    assert_eq!(next(less, "1").await, SlotTaken::Number(20_000), "it has it");
    let last = pool("ports", u32::MAX, u32::MAX);
    assert_eq!(next(last.clone(), "5").await, SlotTaken::Number(u32::MAX));
    assert_eq!(next(last, "6").await, SlotTaken::Full);
    let named = store.slot_take(&one.lease, &ports(), &"n".repeat(257)).await;
    assert!(matches!(named, Err(StoreError::TooLarge { max: 256, .. })), "{named:?}");
}

async fn what_many_take_at_once_is_distinct(store: &dyn Store) {
    let (callers, _) = draws();
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let mut runs = Vec::new();
    for run in 0..callers {
        runs.push(start_on(store, &format!("r{run}"), &node).await.lease);
    }
    let numbers = u32::try_from(callers).unwrap() * 2 - 1;
    let pool = SlotPool::new("ports", 1..=numbers).unwrap();
    for _ in 0..2 {
        let taken = join_all(runs.iter().map(async |lease| {
            let both = ["1", "2"].map(|name| store.slot_take(lease, &pool, name));
            join_all(both).await.into_iter().map(Result::unwrap).collect::<Vec<_>>()
        }));
        let all = taken.await.concat();
        let distinct: BTreeSet<u32> = all
            .iter()
            .filter_map(|taken| match taken {
                SlotTaken::Number(number) => Some(*number),
                SlotTaken::Full => None,
            })
            .collect();
        assert!(distinct.into_iter().eq(1..=numbers), "one is too many: {all:?}");
        checked(store).await;
        let back = runs.iter().map(async |lease| {
            for number in 1..=numbers {
                store.slot_give(lease, "ports", number, SlotGiven::Unused).await.unwrap();
            }
        });
        join_all(back).await;
        assert!(store.slots("ports").await.unwrap().is_empty());
    }
}
