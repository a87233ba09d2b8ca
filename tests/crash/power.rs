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
//! What is not simulated: sectors that change without being written, a disk that acknowledges what it has not kept, torn
//! sectors, writes to memory mappings of files (the store uses none; the shim would notice), limits of the file system
//! like quotas, and other systems than Linux. The state of descriptors after `dup` is not followed.
//!
//! Two controls: with `synchronous = NORMAL` acknowledged commits must be found lost, and every kind of harm must have
//! been done to something.

mod check;
mod disk;
mod files;
mod log;
mod shim;
mod workload;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, mpsc},
    thread,
};

use perennial_testkit::Seed;

use self::{
    check::{Fault, Ledger, examine},
    disk::{Disk, Harm, Image, Model},
    log::Record,
    shim::Recording,
    workload::Order,
};

/// Without `PERENNIAL_POWER_CUTS`.
const CUTS_CI: usize = 200;
/// Without `PERENNIAL_POWER_FAULTS`.
const FAULTS_CI: usize = 60;
/// Cuts of one process.
const CUTS_EACH: usize = 40;
/// Cuts of each of the first moments of a store.
const CUTS_OF_FIRST_MOMENTS: usize = 8;
/// What the process says in these moments.
const FIRST_MARKS: usize = 3;
/// Processes that follow each other on what cuts left.
const CHAIN: u64 = 5;
/// Images that are examined at a time.
const AT_ONCE: usize = 2;

fn size(variable: &str, ci: usize) -> usize {
    std::env::var(variable).ok().map_or(ci, |text| text.parse().unwrap())
}

/// One power cut.
struct Cut {
    /// Which cut of which process, and how to have it again from the same log.
    at: String,
    image: Image,
    ledger: Ledger,
}

/// What came of some cuts.
#[derive(Debug, Default)]
struct Tally {
    cuts: usize,
    /// Acknowledgements before the cuts.
    acknowledged: u64,
    harm: Harm,
    models: BTreeMap<Model, usize>,
    lost: Vec<String>,
    broken: Vec<String>,
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_power_fails() {
    let Some(tally) = cut_often("power", size("PERENNIAL_POWER_CUTS", CUTS_CI), false) else {
        return;
    };
    assert!(tally.lost.is_empty() && tally.broken.is_empty(), "{:?}", (tally.lost, tally.broken));
    let Harm { dropped, torn, reordered, names } = tally.harm;
    assert!([dropped, torn, reordered, names].iter().all(|done| *done > 0), "{:?}", tally.harm);
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

impl Tally {
    fn print(&self, name: &str) {
        let Self { cuts, acknowledged, harm, models, lost, broken } = self;
        let Harm { dropped, torn, reordered, names } = harm;
        println!(
            "{name}: cuts {cuts} {models:?}, acknowledged before them {acknowledged}, with losses {}, broken {}; \
             unsynced writes dropped {dropped}, torn {torn}, out of order {reordered}, names {names}",
            lost.len(),
            broken.len()
        );
    }
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
    }
}

/// Everything that a process was acknowledged, besides what was before it.
fn heard(recording: &Recording, before: &Ledger) -> Ledger {
    let mut ledger = before.of_next();
    for record in &recording.log {
        if let Record::Mark(mark) = record {
            ledger.hear(mark);
        }
    }
    ledger
}

/// Cuts the power of one process at these moments; one of the images, for the process that comes next.
fn cut_one(
    recording: &Recording,
    start: &(Image, Ledger),
    moments: &[usize],
    round: u64,
    seed: &mut Seed,
    tally: &mut Tally,
) -> (Image, Ledger) {
    let successor = seed.below(moments.len() as u64) as usize;
    let mut next = None;
    let (send, receive) = mpsc::sync_channel::<Cut>(AT_ONCE);
    let receive = Mutex::new(receive);
    let faults = Mutex::new(Vec::new());
    thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                loop {
                    let cut = receive.lock().unwrap().recv();
                    let Ok(cut) = cut else { return };
                    if let Err(fault) = try_out(&cut) {
                        faults.lock().unwrap().push((cut.at, fault));
                    }
                }
            });
        }
        let (mut disk, mut ledger) = (Disk::of(&start.0), start.1.of_next());
        let mut done = 0;
        for (place, moment) in moments.iter().enumerate() {
            for record in &recording.log[done..*moment] {
                disk.apply(record, seed);
                if let Record::Mark(mark) = record {
                    ledger.hear(mark);
                }
            }
            done = *moment;
            let model = Model::of(seed);
            let (image, harm) = disk.cut(model, seed);
            tally.cuts += 1;
            tally.acknowledged += ledger.acknowledged;
            *tally.models.entry(model).or_default() += 1;
            tally.harm = tally.harm.and(harm);
            let at = format!(
                "process {round} cut after {moment} of {} calls, {model:?}",
                recording.log.len()
            );
            if place == successor {
                next = Some((image.clone(), ledger.clone()));
            }
            send.send(Cut { at, image, ledger: ledger.clone() }).unwrap();
        }
        drop(send);
    });
    for (at, fault) in faults.into_inner().unwrap() {
        match fault {
            Fault::Lost(what) => tally.lost.push(format!("{at}: {what}")),
            Fault::Broken(what) => tally.broken.push(format!("{at}: {what}")),
        }
    }
    next.unwrap()
}

/// Moments of a log: a third anywhere, a third right after something was acknowledged, a third right after a
/// change of names or a sync.
fn moments(log: &[Record], cuts: usize, seed: &mut Seed) -> Vec<usize> {
    let after = |wanted: fn(&Record) -> bool| -> Vec<usize> {
        let found = log.iter().enumerate().filter(|(_, record)| wanted(record));
        found.map(|(place, _)| place + 1).collect()
    };
    let marks = after(|record| matches!(record, Record::Mark(_)));
    let turns = after(|record| {
        !matches!(record, Record::Mark(_) | Record::Write { .. } | Record::Open { .. })
    });
    let mut moments: Vec<usize> = (0..cuts)
        .map(|_| match seed.below(3) {
            0 => seed.between(1..log.len() as u64 + 1) as usize,
            1 => *seed.pick(&marks),
            _ => *seed.pick(&turns),
        })
        .collect();
    moments.sort_unstable();
    moments
}

/// Opens what a cut left.
fn try_out(cut: &Cut) -> Result<(), Fault> {
    let room = shim::room();
    shim::write(&cut.image, room.path());
    let found = examine(room.path(), &cut.ledger);
    if let Err(Fault::Broken(_)) = &found {
        keep(&cut.image, &cut.at);
    }
    found
}

/// Keeps an image for whoever looks into it.
fn keep(image: &Image, at: &str) {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power {at}"));
    std::fs::create_dir_all(&kept).unwrap();
    shim::write(image, &kept);
    println!("kept as {}", kept.display());
}
