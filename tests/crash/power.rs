//! The power fails, and calls on files fail (ACC-5.3, CT-5, CT-7; THR-3, THR-4).
//!
//! A process writes to a store, and a library that is loaded before the C library (`power/shim.c`) notes every call
//! that changes a file, in order, with the marks by which the process says what was acknowledged. A moment of that log is
//! a power cut: what a disk could then hold is made up from it (`power/disk.rs`), put into a directory, and opened as a
//! store. So one process is cut at many moments, and `kill -9` plays no part: it loses nothing that was written, and
//! would never notice a commit that is not synced.
//!
//! What a cut leaves:
//!
//! * what was synced stays; a sync covers what was written before it began;
//! * of what was written since, each file keeps nothing, everything, a prefix with a torn end, or any pages of 4 KiB or
//!   sectors of 512 bytes, each as it was after any of its changes. So writes are lost, torn, and overtake each other;
//! * sizes of files follow at their own pace; a gap is zero, or what the disk had there before;
//! * a name that was created, changed or removed stays so once its directory was synced. Before, it may or may not; a
//!   sync of the file alone does not help it. A rename happens or does not;
//! * a sync that failed has written some sectors; the system counts the others as written all the same, and no later
//!   sync makes up for them;
//! * the index in shared memory is lost.
//!
//! The image of a cut is what the next process starts with, under the shim again: recovery is cut as well.
//!
//! Then the store opens, is whole by the engine's own check and by what decisions have to have written together, has all
//! that was acknowledged before the cut, has nothing whose cause is missing, and goes on.
//!
//! What is not simulated: sectors that are torn inside or change without being written, a disk that acknowledges what it has
//! not kept, an order of names that a rename and a write of the renamed file might have between them in some file
//! systems, quotas, writes to memory mappings of files (the store uses none; the shim would notice), and descriptors after
//! `dup`. Only Linux is shown anything. A log is not made again by its seed: threads run as they like. What a failed
//! test needs it keeps in the target folder, and says where.
//!
//! Two controls: with `synchronous = NORMAL` acknowledged commits must be found lost, and every kind of harm must have
//! been done to something.
//!
//! An EIO while reading is told as damage by the engine itself, once a store is open; it is so told to callers, and
//! nothing is concluded from it.

#![expect(clippy::print_stdout, reason = "the figures of a harness are for people to read")]

mod check;
mod cuts;
mod disk;
mod faults;
mod files;
mod log;
pub(crate) mod shim;
mod workload;

use perennial_testkit::Seed;

use self::{
    check::Ledger,
    cuts::{Tally, cut_one, heard, moments},
    disk::{Harm, Image},
    log::Record,
    workload::Order,
};

/// Without `PERENNIAL_POWER_CUTS`.
const CUTS_CI: usize = 200;
/// Cuts of one process.
const CUTS_EACH: usize = 40;
/// Cuts of each of the first moments of a store.
const CUTS_OF_FIRST_MOMENTS: usize = 6;
/// What the process says in these moments.
const FIRST_MARKS: usize = 3;
/// Processes that follow each other on what cuts left.
const CHAIN: u64 = 5;

fn size(variable: &str, ci: usize) -> usize {
    std::env::var(variable).ok().map_or(ci, |text| text.parse().unwrap())
}

/// Proves INV-ST-1.
#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_power_fails() {
    let Some(tally) = cut_often("power", size("PERENNIAL_POWER_CUTS", CUTS_CI), false) else {
        return;
    };
    assert!(tally.lost.is_empty() && tally.broken.is_empty(), "{:?}", (tally.lost, tally.broken));
    let Harm { dropped, torn, reordered, .. } = tally.harm;
    let harmed = [dropped, torn, reordered].iter().all(|done| *done > 0);
    assert!(harmed || tally.cuts < CUTS_CI, "{:?}", tally.harm);
}

/// Every moment from the first call on, until a client has its first acknowledgements: seldom met by chance, and once in
/// the life of every store.
#[test]
fn a_store_whose_power_fails_while_it_is_made_is_there_or_is_made_again() {
    let Some(shim) = shim::shim() else { return };
    let mut seed = Seed::of_test("power, first moments");
    let order = Order { clients: 1, turns: 1, ..order(0, &mut seed) };
    let start = (Image::new(), Ledger::default());
    let recording = shim::record(shim, &start.0, &order, None);
    assert!(heard(&recording, &start.1).ended, "{:?}", recording.output);
    let marks =
        recording.log.iter().enumerate().filter(|(_, call)| matches!(call, Record::Mark(_)));
    let first = marks.map(|(place, _)| place).nth(FIRST_MARKS).unwrap();
    let moments = (1..=first).flat_map(|moment| [moment; CUTS_OF_FIRST_MOMENTS]);
    let mut tally = Tally::default();
    cut_one(&recording, &start, &moments.collect::<Vec<_>>(), 0, &mut seed, &mut tally);
    tally.print("power, first moments");
    assert!(tally.lost.is_empty() && tally.broken.is_empty(), "{:?}", (tally.lost, tally.broken));
    assert!(tally.harm.names > 0, "{:?}", tally.harm);
}

/// The control: a harness that does not notice this notices nothing.
#[test]
fn with_less_than_full_synchronisation_it_is_lost() {
    let Some(tally) = cut_often("power, NORMAL", CUTS_EACH, true) else { return };
    assert!(!tally.lost.is_empty(), "nothing was lost by {} cuts", tally.cuts);
    assert!(tally.broken.is_empty(), "{:?}", tally.broken);
}

/// Records processes and cuts their power, as often as told. None without a compiler.
fn cut_often(name: &str, cuts: usize, normal: bool) -> Option<Tally> {
    let shim = shim::shim()?;
    let mut seed = Seed::of_test(name);
    let mut tally = Tally::default();
    let mut start = (Image::new(), Ledger::default());
    for round in 0..cuts.div_ceil(CUTS_EACH) as u64 {
        if round.is_multiple_of(CHAIN) {
            start = (Image::new(), Ledger::default());
        }
        let order = Order { normal, ..order(round, &mut seed) };
        let recording = shim::record(shim, &start.0, &order, None);
        let ledger = heard(&recording, &start.1);
        assert!(ledger.ended && ledger.errors == 0, "{:?}", recording.output);
        let each = CUTS_EACH.min(cuts - tally.cuts);
        let moments = moments(&recording.log, each, &mut seed);
        start = cut_one(&recording, &start, &moments, round, &mut seed, &mut tally);
    }
    tally.print(name);
    Some(tally)
}

fn order(round: u64, seed: &mut Seed) -> Order {
    Order {
        round,
        seed: seed.next_u64() >> 32,
        clients: seed.between(2..7),
        turns: seed.between(6..13),
        blob_max: *seed.pick(&[2_000, 40_000, 200_000]),
        normal: false,
        patience: 1,
        alone: false,
    }
}
