//! The content of one file: on the disk, in memory, and in between.

use std::ops::Range;

use perennial_testkit::Seed;

use super::disk::{Harm, Model};

const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// One change of a file.
#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => put(content, *offset, bytes),
            Self::Truncate(size) => content.resize(*size, 0),
        }
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

/// Of one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    durable: Vec<u8>,
    /// What was changed since, with the numbers of the records.
    pending: Vec<(usize, Change)>,
}

impl Content {
    pub(crate) fn durable(durable: Vec<u8>) -> Self {
        Self { durable, pending: Vec::new() }
    }

    pub(crate) fn write(&mut self, number: usize, offset: usize, bytes: Vec<u8>, at_once: bool) {
        if at_once {
            put(&mut self.durable, offset, &bytes);
        }
        self.pending.push((number, Change::Write { offset, bytes }));
    }

    pub(crate) fn truncate(&mut self, number: usize, size: usize) {
        self.pending.push((number, Change::Truncate(size)));
    }

    /// Makes durable what was changed before record `begun`.
    pub(crate) fn sync(&mut self, begun: usize) {
        let covered = self.pending.partition_point(|(number, _)| *number < begun);
        for (_, change) in self.pending.drain(..covered) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync failed: of what it should have covered, some sectors are on the disk, and the others never will be,
    /// because the system counts all of them as written. Sizes are on the disk.
    pub(crate) fn forget(&mut self, begun: usize, seed: &mut Seed) {
        let covered = self.pending.partition_point(|(number, _)| *number < begun);
        for (_, change) in self.pending.drain(..covered) {
            match change {
                Change::Write { offset, bytes } => {
                    let end = offset + bytes.len();
                    if self.durable.len() < end {
                        self.durable.resize(end, 0);
                    }
                    for unit in units(offset, end, SECTOR) {
                        let part = unit.start.max(offset)..unit.end.min(end);
                        if seed.chance(1, 2) {
                            put(
                                &mut self.durable,
                                part.start,
                                &bytes[part.start - offset..part.end - offset],
                            );
                        }
                    }
                }
                Change::Truncate(size) => self.durable.resize(size, 0),
            }
        }
    }

    /// What is left when the power fails.
    pub(crate) fn cut(&self, model: Model, seed: &mut Seed, harm: &mut Harm) -> Vec<u8> {
        match model {
            Model::DropAll => {
                harm.dropped += self.pending.len() as u64;
                self.durable.clone()
            }
            Model::KeepAll => {
                let mut content = self.durable.clone();
                self.pending.iter().for_each(|(_, change)| change.apply(&mut content));
                content
            }
            Model::Prefix => self.prefix(seed, harm),
            Model::Pages => self.written_back(PAGE, seed, harm),
            Model::Sectors => self.written_back(SECTOR, seed, harm),
        }
    }

    fn prefix(&self, seed: &mut Seed, harm: &mut Harm) -> Vec<u8> {
        let mut content = self.durable.clone();
        let until = seed.below(self.pending.len() as u64 + 1) as usize;
        for (_, change) in &self.pending[..until] {
            change.apply(&mut content);
        }
        harm.dropped += (self.pending.len() - until) as u64;
        if let Some((_, Change::Write { offset, bytes })) = self.pending.get(until) {
            let sectors: Vec<Range<usize>> = units(*offset, offset + bytes.len(), SECTOR).collect();
            let kept = seed.below(sectors.len() as u64) as usize;
            if kept > 0 {
                let end = sectors[kept - 1].end;
                put(&mut content, *offset, &bytes[..end - offset]);
                harm.torn += 1;
                harm.dropped -= 1;
            }
        }
        content
    }

    /// Units of the file go to the disk in any order, each as it is at that moment. The size is that after some of the
    /// changes; what was never written there is zero, or what the disk had there before.
    fn written_back(&self, unit_bytes: usize, seed: &mut Seed, harm: &mut Harm) -> Vec<u8> {
        let (mut memory, mut disk) = (self.durable.clone(), self.durable.clone());
        let sized = seed.below(self.pending.len() as u64 + 1) as usize;
        let mut size = self.durable.len();
        let mut some_is_lost = false;
        for (place, (_, change)) in self.pending.iter().enumerate() {
            change.apply(&mut memory);
            if place < sized {
                size = memory.len();
            }
            let Change::Write { offset, bytes } = change else { continue };
            let (mut kept, mut all) = (0, 0);
            for unit in units(*offset, offset + bytes.len(), unit_bytes) {
                let unit = unit.start..unit.end.min(memory.len());
                all += 1;
                if seed.chance(1, 2) {
                    put(&mut disk, unit.start, &memory[unit]);
                    kept += 1;
                }
            }
            harm.dropped += u64::from(kept == 0);
            harm.torn += u64::from(kept > 0 && kept < all);
            harm.reordered += u64::from(kept > 0 && some_is_lost);
            some_is_lost |= kept < all;
        }
        if disk.len() < size && seed.chance(1, 4) {
            disk.resize_with(size, || seed.next_u64() as u8);
        }
        disk.resize(size, 0);
        disk
    }
}

/// The aligned units that `start..end` is in.
fn units(start: usize, end: usize, bytes: usize) -> impl Iterator<Item = Range<usize>> {
    (start / bytes..end.div_ceil(bytes)).map(move |unit| unit * bytes..(unit + 1) * bytes)
}
