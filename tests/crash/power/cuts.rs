//! Power cuts of a process whose calls were noted.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, mpsc},
    thread,
};

use perennial_testkit::Seed;

use super::{
    check::{Fault, Ledger, examine},
    disk::{Disk, Harm, Image, Model},
    log::Record,
    shim::{self, Recording},
};

/// Images that are examined at a time.
const AT_ONCE: usize = 2;

/// One power cut.
struct Cut {
    /// Which cut of which process, and how to have it again from the same log.
    at: String,
    image: Image,
    ledger: Ledger,
}

/// What came of some cuts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) cuts: usize,
    /// Acknowledgements before the cuts.
    pub(super) acknowledged: u64,
    pub(super) harm: Harm,
    pub(super) models: BTreeMap<Model, usize>,
    pub(super) lost: Vec<String>,
    pub(super) broken: Vec<String>,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.acknowledged += other.acknowledged;
        self.harm = self.harm.and(other.harm);
        for (model, cuts) in other.models {
            *self.models.entry(model).or_default() += cuts;
        }
        self.lost.extend(other.lost);
        self.broken.extend(other.broken);
    }

    pub(super) fn print(&self, name: &str) {
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

/// Everything that a process was acknowledged, besides what was before it.
pub(super) fn heard(recording: &Recording, before: &Ledger) -> Ledger {
    let mut ledger = before.of_next();
    for record in &recording.log {
        if let Record::Mark(mark) = record {
            ledger.hear(mark);
        }
    }
    ledger
}

/// Cuts the power of one process at these moments; one of the images, for the process that comes next.
pub(super) fn cut_one(
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
pub(super) fn moments(log: &[Record], cuts: usize, seed: &mut Seed) -> Vec<usize> {
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
pub(super) fn keep(image: &Image, at: &str) {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power {at}"));
    std::fs::create_dir_all(&kept).unwrap();
    shim::write(image, &kept);
    println!("kept as {}", kept.display());
}
