//! A disk and the memory in front of it: what is on the disk after the power fails.
//!
//! Every file has what is durable, what the process sees, and the changes between the two in their order; so have the
//! names of the directory. A sync makes durable what was changed before it began. A cut keeps, of the rest, what one of
//! the [`Model`]s says.

use std::collections::BTreeMap;

use perennial_testkit::Seed;

use super::{files::Content, log::Record};

/// Content of files by name.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

/// What a cut leaves of what was not synced. Names are kept or lost by the same rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Model {
    /// Nothing.
    DropAll,
    /// Everything, as when only the process dies.
    KeepAll,
    /// Of each file, the changes up to some moment; the last one may be cut inside.
    Prefix,
    /// Each page of 4 KiB was written back, or not, after each change of it.
    Pages,
    /// The same with sectors of 512 bytes.
    Sectors,
}

impl Model {
    const ALL: [Self; 5] = [Self::DropAll, Self::KeepAll, Self::Prefix, Self::Pages, Self::Sectors];

    pub(crate) fn of(seed: &mut Seed) -> Self {
        // The first two leave nothing to chance: the others are tried more often.
        *seed.pick(&[Self::ALL.as_slice(), &Self::ALL[2..], &Self::ALL[2..]].concat())
    }
}

/// What a cut did to changes that were not synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Harm {
    /// Changes of content of which nothing is left.
    pub(crate) dropped: u64,
    /// Those of which a part is left.
    pub(crate) torn: u64,
    /// Those that are left although an earlier one of the same file is not.
    pub(crate) reordered: u64,
    /// Names created, changed or removed in vain.
    pub(crate) names: u64,
}

impl Harm {
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            dropped: self.dropped + other.dropped,
            torn: self.torn + other.torn,
            reordered: self.reordered + other.reordered,
            names: self.names + other.names,
        }
    }
}

/// One change of the directory.
#[derive(Clone, Debug)]
enum Naming {
    Create(String, usize),
    Rename { from: String, to: String, file: usize },
    Unlink(String),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
        }
    }
}

/// The disk under one process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    /// Every file that there ever was.
    files: Vec<Content>,
    inodes: BTreeMap<u64, usize>,
    durable: BTreeMap<String, usize>,
    seen: BTreeMap<String, usize>,
    pending: Vec<(usize, Naming)>,
    /// Number of the next record.
    next: usize,
}

impl Disk {
    /// A disk that has `image`, all of it durable.
    pub(crate) fn of(image: &Image) -> Self {
        let mut disk = Self::default();
        for (name, bytes) in image {
            disk.durable.insert(name.clone(), disk.files.len());
            disk.files.push(Content::durable(bytes.clone()));
        }
        disk.seen = disk.durable.clone();
        disk
    }

    /// Applies the next record of the log. What a failed sync loses for ever is drawn from `seed`.
    pub(crate) fn apply(&mut self, record: &Record, seed: &mut Seed) {
        let number = self.next;
        self.next += 1;
        match record {
            Record::Create { inode, name } => {
                let file = self.files.len();
                self.files.push(Content::default());
                self.inodes.insert(*inode, file);
                self.rename(number, Naming::Create(name.clone(), file));
            }
            // Which file of the image it is; of others it is known.
            Record::Open { inode, name } => {
                self.inodes.insert(*inode, self.seen[name]);
            }
            Record::Write { inode, offset, bytes, at_once } => {
                self.file(*inode).write(number, *offset, bytes.clone(), *at_once);
            }
            Record::Truncate { inode, size } => self.file(*inode).truncate(number, *size),
            Record::Rename { from, to } => {
                let (from, to, file) = (from.clone(), to.clone(), self.seen[from]);
                self.rename(number, Naming::Rename { from, to, file });
            }
            Record::Unlink { name } => self.rename(number, Naming::Unlink(name.clone())),
            Record::Sync { inode, begun } => self.file(*inode).sync(*begun),
            Record::SyncFailed { inode, begun } => self.file(*inode).forget(*begun, seed),
            Record::SyncDirectory { begun } => {
                while self.pending.first().is_some_and(|(number, _)| number < begun) {
                    let (_, naming) = self.pending.remove(0);
                    naming.apply(&mut self.durable);
                }
            }
            Record::SyncDirectoryFailed { .. }
            | Record::Mark(_)
            | Record::Fault
            | Record::Counts(_) => (),
        }
    }

    fn file(&mut self, inode: u64) -> &mut Content {
        &mut self.files[self.inodes[&inode]]
    }

    fn rename(&mut self, number: usize, naming: Naming) {
        naming.apply(&mut self.seen);
        self.pending.push((number, naming));
    }

    /// What is on the disk when the power fails now.
    pub(crate) fn cut(&self, model: Model, seed: &mut Seed) -> (Image, Harm) {
        let mut harm = Harm::default();
        let mut names = self.durable.clone();
        let until = seed.below(self.pending.len() as u64 + 1) as usize;
        for (place, (_, naming)) in self.pending.iter().enumerate() {
            let is_kept = match model {
                Model::DropAll => false,
                Model::KeepAll => true,
                Model::Prefix => place < until,
                Model::Pages | Model::Sectors => seed.chance(1, 2),
            };
            if is_kept {
                naming.apply(&mut names);
            } else {
                harm.names += 1;
            }
        }
        let image = names
            .into_iter()
            .map(|(name, file)| (name, self.files[file].cut(model, seed, &mut harm)))
            .collect();
        (image, harm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(inode: u64, offset: usize, byte: u8, length: usize) -> Record {
        Record::Write { inode, offset, bytes: vec![byte; length], at_once: false }
    }

    fn create(inode: u64, name: &str) -> Record {
        Record::Create { inode, name: name.to_owned() }
    }

    fn disk_after(records: &[Record]) -> Disk {
        let mut disk = Disk::default();
        let mut seed = Seed::new(1);
        records.iter().for_each(|record| disk.apply(record, &mut seed));
        disk
    }

    /// All images that some seeds of a model leave.
    fn images(disk: &Disk, model: Model) -> Vec<Image> {
        let mut all: Vec<Image> =
            (0..400).map(|seed| disk.cut(model, &mut Seed::new(seed)).0).collect();
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn what_was_synced_stays_and_what_came_after_the_sync_began_may_go() {
        let disk = disk_after(&[
            create(7, "a"),
            write(7, 0, 1, 600),
            write(7, 600, 2, 10),
            Record::SyncDirectory { begun: 1 },
            Record::Sync { inode: 7, begun: 2 },
        ]);
        let kept = vec![1; 600];
        assert_eq!(images(&disk, Model::DropAll), [Image::from([("a".to_owned(), kept.clone())])]);
        let all = [kept.clone(), vec![2; 10]].concat();
        assert_eq!(images(&disk, Model::KeepAll), [Image::from([("a".to_owned(), all)])]);
        for model in Model::ALL {
            for image in images(&disk, model) {
                assert_eq!(image["a"][..600], kept, "{model:?}");
            }
        }
    }

    #[test]
    fn a_file_is_not_found_until_its_directory_was_synced() {
        let records = [create(7, "a"), write(7, 0, 1, 9), Record::Sync { inode: 7, begun: 2 }];
        let mut disk = disk_after(&records);
        assert_eq!(images(&disk, Model::Sectors).len(), 2, "with it and without it");
        disk.apply(&Record::SyncDirectory { begun: 3 }, &mut Seed::new(1));
        assert_eq!(images(&disk, Model::Sectors), [Image::from([("a".to_owned(), vec![1; 9])])]);
        for record in [
            create(8, "b"),
            Record::Rename { from: "b".to_owned(), to: "a".to_owned() },
            Record::Unlink { name: "a".to_owned() },
        ] {
            disk.apply(&record, &mut Seed::new(1));
        }
        let names = |image: Image| image.into_keys().collect::<Vec<_>>().join(" ");
        let prefixes: Vec<String> = images(&disk, Model::Prefix).into_iter().map(names).collect();
        assert_eq!(prefixes, ["", "a", "a", "a b"]);
    }

    #[test]
    fn sectors_are_lost_one_by_one() {
        let synced = [
            create(7, "a"),
            write(7, 0, 1, 2048),
            Record::Sync { inode: 7, begun: 2 },
            Record::SyncDirectory { begun: 2 },
        ];
        let mut disk = disk_after(&synced);
        disk.apply(&write(7, 100, 2, 1000), &mut Seed::new(1));
        let found = images(&disk, Model::Sectors);
        assert_eq!(found.len(), 8, "three sectors, each as it was or as it became");
        for image in &found {
            assert!(image["a"][..100].iter().all(|byte| *byte == 1));
            assert_eq!(image["a"].len(), 2048);
        }
        assert_eq!(images(&disk, Model::Pages).len(), 2);
        let (_, harm) = disk.cut(Model::DropAll, &mut Seed::new(1));
        assert_eq!((harm.dropped, harm.torn, harm.reordered), (1, 0, 0));
    }

    #[test]
    fn what_a_failed_sync_lost_no_later_one_brings_back() {
        let mut disk = disk_after(&[create(7, "a"), Record::SyncDirectory { begun: 1 }]);
        for record in [write(7, 0, 1, 512 * 64), Record::SyncFailed { inode: 7, begun: 3 }] {
            disk.apply(&record, &mut Seed::new(1));
        }
        disk.apply(&Record::Sync { inode: 7, begun: 4 }, &mut Seed::new(1));
        let (image, _) = disk.cut(Model::KeepAll, &mut Seed::new(1));
        let lost = image["a"].iter().filter(|byte| **byte == 0).count();
        assert!(lost > 0 && lost < 512 * 64, "{lost}");
    }

    #[test]
    fn what_is_written_at_once_is_durable_at_once() {
        let at_once = Record::Write { inode: 7, offset: 0, bytes: vec![3; 5], at_once: true };
        let disk = disk_after(&[create(7, "a"), Record::SyncDirectory { begun: 1 }, at_once]);
        assert_eq!(images(&disk, Model::DropAll)[0]["a"], vec![3; 5]);
    }
}
