//! Calls on the files of a store fail: what was acknowledged stays, what fails is told by its kind, and work goes on
//! once calls succeed again (INV-ST-4, STO-9, STO-11, STO-33).
//!
//! Each process has one fault: the n-th call of a class and maybe some that follow fail, with an error of the disk, for
//! want of space, or, of writes, halfway. It says what it was told, goes on, and comes to its end. Then what it left is
//! examined, and so is what power cuts after the fault leave: a sync that failed must not be believed later.

use std::{collections::BTreeMap, path::Path, sync::Mutex, thread};

use perennial_testkit::Seed;

use super::{
    check::{Ledger, examine},
    cuts::{Tally, cut_one, heard, moments},
    disk::{Disk, Image, Model},
    log::{CLASSES, Record},
    shim::{self, Fault, Recording},
    size,
    workload::Order,
};

/// Without `PERENNIAL_POWER_FAULTS`.
const FAULTS_CI: usize = 48;
/// Power cuts of each process, after its fault.
const CUTS_EACH: usize = 3;
const CUTS_AFTER_SYNC: usize = 6;
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

/// Proves INV-ST-1.
#[test]
fn calls_that_fail_are_told_by_their_kind_and_lose_nothing() {
    let Some(shim) = shim::shim() else { return };
    let mut seed = Seed::of_test("faults");
    let starts = starts(shim, &mut seed);
    let faults = size("PERENNIAL_POWER_FAULTS", FAULTS_CI);
    let cases = (0..faults)
        .map(|_| {
            let start = seed.pick(&starts);
            let fault = fault(&start.calls, &mut seed);
            Case { start, fault, order: order(2, &mut seed), cuts: CUTS_EACH, seed: seed.fork() }
        })
        .collect();
    let toll = suffer_all(shim, "faults", cases);
    let is_full_size = faults >= FAULTS_CI;
    let both = toll.full > 0 && toll.errors > toll.full;
    assert!(both || !is_full_size, "both kinds were told: {toll:?}");
}

/// Chance meets few of the syncs, and what they promise is all there is.
/// Proves INV-ST-4.
#[test]
fn each_sync_may_fail() {
    let Some(shim) = shim::shim() else { return };
    let mut seed = Seed::of_test("syncs");
    let order = |seed: &mut Seed| Order {
        clients: 2,
        turns: 2,
        alone: true,
        blob_max: 20_000,
        ..order(0, seed)
    };
    let (nothing, _, _) = undisturbed(shim, Image::new(), &Ledger::default(), &order(&mut seed));
    let syncs = nothing.calls[CLASSES.iter().position(|class| *class == "sync").unwrap()];
    let cases = (1..=syncs)
        .flat_map(|nth| [(nth, 1), (nth, 2)])
        .map(|(nth, count)| Case {
            start: &nothing,
            fault: Fault { class: "sync", nth, count, error: EIO },
            order: order(&mut seed),
            cuts: CUTS_AFTER_SYNC,
            seed: seed.fork(),
        })
        .collect();
    let toll = suffer_all(shim, "syncs", cases);
    assert!(toll.errors > syncs, "{toll:?}");
}

/// No file that cannot be opened for a while costs what is in it: each opening fails, and those that follow it.
/// Proves INV-ST-1.
#[test]
fn each_opening_may_fail() {
    let Some(shim) = shim::shim() else { return };
    let mut seed = Seed::of_test("openings");
    let [_, _, killed] = starts(shim, &mut seed);
    let openings = killed.calls[CLASSES.iter().position(|class| *class == "open").unwrap()];
    let cases = (1..=openings)
        .flat_map(|nth| (1..=4).map(move |count| (nth, count)))
        .map(|(nth, count)| Case {
            start: &killed,
            fault: Fault { class: "open", nth, count, error: EIO },
            order: order(2, &mut seed),
            cuts: 1,
            seed: seed.fork(),
        })
        .collect();
    let toll = suffer_all(shim, "openings", cases);
    assert!(toll.errors > openings, "{toll:?}");
}

/// A reading that fails is no damage, whichever it is: the engine's own check of a store tells of some as if it were.
/// Proves INV-ST-4.
#[test]
fn each_reading_may_fail() {
    let Some(shim) = shim::shim() else { return };
    let mut seed = Seed::of_test("readings");
    let [_, in_order, _] = starts(shim, &mut seed);
    let readings = in_order.calls[CLASSES.iter().position(|class| *class == "read").unwrap()];
    let order = |seed: &mut Seed| Order { clients: 1, turns: 1, blob_max: 2_000, ..order(2, seed) };
    let cases = (1..=readings)
        .map(|nth| Case {
            start: &in_order,
            fault: Fault { class: "read", nth, count: 1, error: ESTALE },
            order: order(&mut seed),
            cuts: 0,
            seed: seed.fork(),
        })
        .collect();
    let toll = suffer_all(shim, "readings", cases);
    let met = toll.classes["read"][1];
    assert!(met > 20, "a store of some pages is read: {toll:?}");
}

/// A process with one fault.
struct Case<'a> {
    start: &'a Start,
    fault: Fault,
    order: Order,
    /// Power cuts after the fault.
    cuts: usize,
    seed: Seed,
}

fn suffer_all(shim: &Path, name: &str, cases: Vec<Case<'_>>) -> Toll {
    let (left, toll) = (Mutex::new(cases.into_iter()), Mutex::new(Toll::default()));
    thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                loop {
                    let next = left.lock().unwrap().next();
                    let Some(case) = next else { return };
                    suffer(shim, case, &toll);
                }
            });
        }
    });
    let toll = toll.into_inner().unwrap();
    println!(
        "{name}: {:?} by class (all, met, told); errors told {}, of them full {}",
        toll.classes, toll.errors, toll.full
    );
    toll.cuts.print(&format!("{name}, then power"));
    let Tally { lost, broken, .. } = &toll.cuts;
    let wrong: Vec<&str> =
        [&toll.wrong, lost, broken].into_iter().flatten().map(String::as_str).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    toll
}

/// A process without a fault, and what it was acknowledged in the end.
fn undisturbed(
    shim: &Path,
    image: Image,
    before: &Ledger,
    order: &Order,
) -> (Start, Recording, Ledger) {
    let recording = shim::record(shim, &image, order, None);
    let after = heard(&recording, before);
    assert!(after.ended && after.errors == 0, "{:?}", recording.output);
    let counts = recording.log.iter().find_map(|record| {
        if let Record::Counts(calls) = record { Some(calls.clone()) } else { None }
    });
    let start = Start { image, ledger: before.clone(), calls: counts.unwrap() };
    (start, recording, after)
}

/// Nothing, a store in good order, and one whose process was killed.
fn starts(shim: &Path, seed: &mut Seed) -> [Start; 3] {
    let usual = |round, seed: &mut Seed| Order { alone: false, ..order(round, seed) };
    let (nothing, recording, after) =
        undisturbed(shim, Image::new(), &Ledger::default(), &usual(0, seed));
    let mut disk = Disk::default();
    recording.log.iter().for_each(|record| disk.apply(record, seed));
    let (image, _) = disk.cut(Model::KeepAll, seed);
    let (in_order, _, _) = undisturbed(shim, image, &after, &usual(1, seed));
    let (mut disk, mut ledger) = (Disk::default(), Ledger::default());
    for record in &recording.log[..recording.log.len() * 2 / 3] {
        disk.apply(record, seed);
        if let Record::Mark(mark) = record {
            ledger.hear(mark);
        }
    }
    let (image, _) = disk.cut(Model::KeepAll, seed);
    let (killed, _, _) = undisturbed(shim, image, &ledger, &usual(1, seed));
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
fn suffer(shim: &Path, case: Case<'_>, toll: &Mutex<Toll>) {
    let Case { start, fault, order, cuts: cuts_after, mut seed } = case;
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
    if let Some(first) = first.filter(|_| cuts_after > 0) {
        let after = moments(&recording.log[first..], cuts_after, &mut seed);
        let after: Vec<usize> = after.into_iter().map(|moment| first + moment).collect();
        let before = (start.image.clone(), start.ledger.clone());
        cut_one(&recording, &before, &after, order.round, &mut seed, &mut cuts);
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
