//! Numbers that many callers of two stores on one database draw and take at the same moment, with and without locks.

use std::collections::BTreeSet;

use perennial_core::run::SlotPool;
use perennial_store::{SlotGiven, SlotTaken};

use super::{
    concurrency::{CALLERS, at_once, on_two_stores, patiently},
    *,
};
use crate::{
    fixture::*,
    numbers::{draws, number},
};

/// No lock of rows that are counted, and no maximum plus one.
/// Proves INV-25, PGL-6, RF1, D11.
#[test]
fn what_two_processes_draw_is_distinct_and_dense() {
    let (_, each) = draws();
    on_two_stores("numbers", |stores| {
        let node = block_on(stores[0].register_node_on("n", EXCLUSIVE)).unwrap().node;
        let mut leases = Vec::new();
        for caller in 0..CALLERS {
            // Two callers for each run: they also meet at the end of its stream.
            let run = format!("r{}", caller / 2);
            if caller % 2 == 0 {
                leases.push(block_on(start_on(&stores[0], &run, &node)).lease);
            }
        }
        let drawn = at_once(stores, async |store, caller| {
            let lease = &leases[caller / 2];
            let mut given = Vec::new();
            for draw in 0..each {
                let key = format!("{}/{draw}", caller / 2);
                let new = number("x", &key);
                let draw = async || store.allocate(lease, new.clone()).await;
                given.push((key, patiently(draw).await.unwrap()));
            }
            given
        });
        // Both callers of a run ask for the same keys, and are told the same numbers.
        let distinct: BTreeSet<(String, u64)> = drawn.into_iter().flatten().collect();
        let numbers: BTreeSet<u64> = distinct.iter().map(|(_, number)| *number).collect();
        let all = (CALLERS / 2 * each) as u64;
        assert_eq!(distinct.len() as u64, all);
        assert!(numbers.into_iter().eq(1..=all), "{distinct:?}");
        assert_eq!(block_on(perennial_store::verify(&stores[1])), Ok(Vec::new()));
    });
}

/// Each takes one of as many as there are takers, again and again.
#[test]
fn what_two_processes_take_of_a_pool_has_one_holder() {
    let pool = SlotPool::new("ports", 1..=u32::try_from(CALLERS).unwrap()).unwrap();
    on_two_stores("slots", |stores| {
        let node = block_on(stores[0].register_node_on("n", EXCLUSIVE)).unwrap().node;
        let mut leases = Vec::new();
        for caller in 0..CALLERS {
            leases.push(block_on(start_on(&stores[0], &format!("r{caller}"), &node)).lease);
        }
        for _ in 0..3 {
            let taken = at_once(stores, async |store, caller| {
                let take = async || store.slot_take(&leases[caller], &pool, "1").await;
                match patiently(take).await.unwrap() {
                    SlotTaken::Number(number) => number,
                    SlotTaken::Full => panic!("there is one for each"),
                }
            });
            let distinct: BTreeSet<u32> = taken.iter().copied().collect();
            assert_eq!(distinct.len(), CALLERS, "{taken:?}");
            assert_eq!(block_on(stores[1].slots("ports")).unwrap().len(), CALLERS);
            let given = at_once(stores, async |store, caller| {
                let (lease, number, unused) = (&leases[caller], taken[caller], SlotGiven::Unused);
                let give = async || store.slot_give(lease, "ports", number, unused).await;
                patiently(give).await.unwrap()
            });
            assert_eq!(given, [true; CALLERS]);
        }
        assert_eq!(block_on(perennial_store::verify(&stores[1])), Ok(Vec::new()));
    });
}
