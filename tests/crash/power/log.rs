//! What the shim noted: calls on the files of a store, in the order in which they took effect.

use std::{fs, path::Path};

/// How every record begins; `struct record` of the shim.
const HEAD_BYTES: usize = 32;

/// What the shim calls the calls that can fail.
pub(crate) const CLASSES: [&str; 6] = ["open", "read", "write", "truncate", "sync", "name"];

/// One call that had an effect. Files are named by their inodes, which say nothing once a file is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Create {
        inode: u64,
        name: String,
    },
    Open {
        inode: u64,
        name: String,
    },
    Write {
        inode: u64,
        offset: usize,
        bytes: Vec<u8>,
        at_once: bool,
    },
    Truncate {
        inode: u64,
        size: usize,
    },
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        name: String,
    },
    Sync {
        inode: u64,
        begun: usize,
    },
    SyncDirectory {
        begun: usize,
    },
    SyncFailed {
        inode: u64,
        begun: usize,
    },
    SyncDirectoryFailed {
        begun: usize,
    },
    /// What the process said, for example that it was acknowledged something.
    Mark(String),
    /// A call that failed, or was cut short, because it should.
    Fault,
    /// How many calls of each of the [`CLASSES`] there were.
    Counts(Vec<u64>),
}

/// Reads the log at `path`; a record's place in it is its number.
///
/// # Panics
///
/// When it is cut, or a call was not understood by the shim.
pub(crate) fn read(path: &Path) -> Vec<Record> {
    let log = fs::read(path).unwrap();
    let mut left = &log[..];
    let mut records = Vec::new();
    while !left.is_empty() {
        let (record, rest) = next(left);
        records.push(record);
        left = rest;
    }
    assert!(!records.is_empty(), "nothing was noted: the shim is not at work");
    records
}

fn next(log: &[u8]) -> (Record, &[u8]) {
    let (head, rest) = log.split_at(HEAD_BYTES);
    let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
    let place = |at: usize| usize::try_from(word(at)).unwrap();
    let (kind, flags) = (word(0) as u32, (word(0) >> 32) as u32);
    let (inode, offset) = (word(8), place(16));
    let (bytes, rest) = rest.split_at(place(24));
    let text = || String::from_utf8(bytes.to_owned()).unwrap();
    let record = match kind {
        1 => Record::Create { inode, name: text() },
        2 => Record::Open { inode, name: text() },
        3 => Record::Write { inode, offset, bytes: bytes.to_owned(), at_once: flags != 0 },
        4 => Record::Truncate { inode, size: offset },
        5 => {
            let both = text();
            let (from, to) = both.split_once('\0').unwrap();
            Record::Rename { from: from.to_owned(), to: to.to_owned() }
        }
        6 => Record::Unlink { name: text() },
        7 => Record::Sync { inode, begun: offset },
        8 => Record::SyncDirectory { begun: offset },
        9 => Record::SyncFailed { inode, begun: offset },
        10 => Record::SyncDirectoryFailed { begun: offset },
        11 => Record::Mark(text()),
        12 => Record::Fault,
        13 => panic!("the shim does not understand {}", text()),
        14 => Record::Counts(
            bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect(),
        ),
        _ => panic!("record of kind {kind}"),
    };
    (record, rest)
}
