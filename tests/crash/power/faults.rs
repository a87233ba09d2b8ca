//! Calls on the files of a store fail: what was acknowledged stays, what fails is told by its kind, and work goes on
//! once calls succeed again (INV-ST-4, STO-9, STO-11, STO-33).
//!
//! Each process has one fault: the n-th call of a class and maybe some that follow fail, with an error of the disk, for
//! want of space, or, of writes, halfway. It says what it was told, goes on, and comes to its end. Then what it left is
//! examined, and so is what power cuts after the fault leave: a sync that failed must not be believed later.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use perennial_testkit::Seed;

use super::{
    check::{Ledger, examine},
    cuts::{Tally, cut_one, heard, moments},
    disk::{Disk, Image, Model},
    log::{CLASSES, Record},
    shim::{self, Fault},
    size,
    workload::Order,
};

/// Without `PERENNIAL_POWER_FAULTS`.
const FAULTS_CI: usize = 48;
/// Power cuts of each process, after its fault.
const CUTS_EACH: usize = 3;
/// Processes at work at a time.
const AT_ONCE: usize = 2;
/// Until the process has had enough of it.
const FOR_GOOD: u64 = 1_000_000;
/// Errors of the system by their numbers, and 0 for a write that is cut short.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// What a file system elsewhere may say.
const ESTALE: i32 = 116;
const SHORT: i32 = 0;

/// What a process begins with, and how many calls of each class it makes when none fails.
struct Start {
    image: Image,
    ledger: Ledger,
    calls: Vec<u64>,
}

/// What came of the faults.
#[derive(Debug, Default)]
struct Toll {
    /// Processes by the class of their fault: all, and those in which calls failed, and those that were told.
    classes: BTreeMap<&'static str, [usize; 3]>,
    errors: u64,
    /// Of those, for want of space.
    full: u64,
    wrong: Vec<String>,
    cuts: Tally,
}

#[test]
fn calls_that_fail_are_told_by_their_kind_and_lose_nothing() {
    let Some(shim) = shim::shim() else { return };
    let mut seed = Seed::of_test("faults");
    let starts = starts(shim, &mut seed);
    let seeds: Vec<Seed> =
        (0..size("PERENNIAL_POWER_FAULTS", FAULTS_CI)).map(|_| seed.fork()).collect();
    let (next, toll) = (AtomicUsize::new(0), Mutex::new(Toll::default()));
    thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst)) {
                    suffer(shim, &starts, &mut seed.clone(), &toll);
                }
            });
        }
    });
    let toll = toll.into_inner().unwrap();
    println!(
        "faults: {:?} by class (all, met, told); errors told {}, of them full {}",
        toll.classes, toll.errors, toll.full
    );
    toll.cuts.print("faults, then power");
    let Tally { lost, broken, .. } = &toll.cuts;
    let wrong: Vec<&str> =
        [&toll.wrong, lost, broken].into_iter().flatten().map(String::as_str).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(toll.full > 0 && toll.errors > toll.full, "both kinds were told: {toll:?}");
}

/// Nothing, a store in good order, and one whose process was killed.
fn starts(shim: &std::path::Path, seed: &mut Seed) -> [Start; 3] {
    let undisturbed = |round, image: Image, ledger: &Ledger, seed: &mut Seed| {
        let order = Order { alone: false, ..order(round, seed) };
        let recording = shim::record(shim, &image, &order, None);
        let after = heard(&recording, ledger);
        assert!(after.ended && after.errors == 0, "{:?}", recording.output);
        let calls = recording.log.iter().find_map(|record| match record {
            Record::Counts(calls) => Some(calls.clone()),
            _ => None,
        });
        let start = Start { image, ledger: ledger.clone(), calls: calls.unwrap() };
        (start, recording, after)
    };
    let (nothing, recording, after) = undisturbed(0, Image::new(), &Ledger::default(), seed);
    let mut disk = Disk::default();
    recording.log.iter().for_each(|record| disk.apply(record, seed));
    let (image, _) = disk.cut(Model::KeepAll, seed);
    let (in_order, _, _) = undisturbed(1, image, &after, seed);
    let (mut disk, mut ledger) = (Disk::default(), Ledger::default());
    for record in &recording.log[..recording.log.len() * 2 / 3] {
        disk.apply(record, seed);
        if let Record::Mark(mark) = record {
            ledger.hear(mark);
        }
    }
    let (image, _) = disk.cut(Model::KeepAll, seed);
    let (killed, _, _) = undisturbed(1, image, &ledger, seed);
    [nothing, in_order, killed]
}

fn order(round: u64, seed: &mut Seed) -> Order {
    Order {
        round,
        seed: seed.next_u64() >> 32,
        clients: 3,
        turns: 4,
        blob_max: 60_000,
        normal: false,
        patience: seed.between(1..5),
        alone: seed.chance(1, 3),
    }
}

/// Some call that a process makes.
fn fault(calls: &[u64], seed: &mut Seed) -> Fault {
    // There are more writes and syncs than all others that matter.
    let place = *seed.pick(&[0, 1, 1, 2, 2, 2, 2, 3, 4, 4, 4, 4, 5]);
    let class = CLASSES[place];
    let errors: &[i32] = match class {
        "read" => &[EIO, ESTALE],
        "write" => &[EIO, ENOSPC, SHORT],
        _ => &[EIO, ENOSPC],
    };
    Fault {
        class,
        nth: seed.between(1..calls[place].max(1) + 1),
        count: *seed.pick(&[1, 1, 2, 3, FOR_GOOD]),
        error: *seed.pick(errors),
    }
}

/// One process with one fault.
fn suffer(shim: &std::path::Path, starts: &[Start], seed: &mut Seed, toll: &Mutex<Toll>) {
    let start = seed.pick(starts);
    let (fault, order) = (fault(&start.calls, seed), order(2, seed));
    let recording = shim::record(shim, &start.image, &order, Some(&fault));
    let ledger = heard(&recording, &start.ledger);
    let at = format!("{fault:?}, {order:?}");
    let mut wrong = Vec::new();
    if !ledger.ended || !recording.output.status.success() {
        wrong.push(format!("{at}: {:?} {:?}", ledger.bad, recording.output));
    }
    if let Err(found) = examine(recording.left.path(), &ledger) {
        wrong.push(format!("{at}: left behind: {found:?}"));
    }
    let first = recording.log.iter().position(|record| *record == Record::Fault);
    if first.is_none() && ledger.errors > 0 {
        wrong.push(format!("{at}: errors without a fault"));
    }
    // The engine itself calls it damage when the disk says EIO to a reading.
    if !ledger.damage.is_empty() && (fault.class, fault.error) != ("read", EIO) {
        wrong.push(format!("{at}: {:?}", ledger.damage));
    }
    let mut cuts = Tally::default();
    if let Some(first) = first {
        let after = moments(&recording.log[first..], CUTS_EACH, seed);
        let after: Vec<usize> = after.into_iter().map(|moment| first + moment).collect();
        let before = (start.image.clone(), start.ledger.clone());
        cut_one(&recording, &before, &after, 2, seed, &mut cuts);
        for fault in cuts.lost.iter_mut().chain(&mut cuts.broken) {
            *fault = format!("{at}: {fault}");
        }
    }
    let mut toll = toll.lock().unwrap();
    let class = toll.classes.entry(fault.class).or_default();
    class[0] += 1;
    class[1] += usize::from(first.is_some());
    class[2] += usize::from(ledger.errors > 0);
    toll.errors += ledger.errors;
    toll.full += ledger.full;
    toll.wrong.extend(wrong);
    toll.cuts.add(cuts);
}
