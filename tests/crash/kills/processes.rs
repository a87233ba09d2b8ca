//! The processes that a victim has started for its services: who is told of its folder, and whoever is in a group with them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use perennial_testkit::Deadline;

pub(super) struct Processes {
    /// What each of them is told.
    mark: PathBuf,
    /// Their groups, as far as they were seen: the guard of one is told nothing.
    groups: BTreeSet<i64>,
}

/// One line of the table of processes.
struct Process {
    id: i64,
    group: i64,
    told: String,
}

impl Processes {
    pub(super) fn with(mark: &Path) -> Self {
        Self { mark: mark.to_owned(), groups: BTreeSet::new() }
    }

    /// Remembers the groups that there are now.
    pub(super) fn look(&mut self) {
        let groups = self.now().into_iter().map(|process| process.group);
        self.groups.extend(groups);
    }

    /// Whether some are there, with those that have gone since they were seen.
    pub(super) fn are_there(&self) -> bool {
        self.now().len() > 1
    }

    /// Waits until none is left.
    #[expect(clippy::disallowed_methods, reason = "other processes are waited for, no task")]
    pub(super) fn are_gone(&mut self, within: Duration) {
        let deadline = Deadline::after(within);
        loop {
            let left = self.now();
            if left.is_empty() {
                return self.groups.clear();
            }
            let told: Vec<_> = left.iter().map(|it| (it.id, it.group, &it.told)).collect();
            assert!(!deadline.left().is_zero(), "left behind after {within:?}: {told:?}");
            thread::sleep(Duration::from_millis(2)); // real time: other processes
        }
    }

    /// Those that live.
    fn now(&self) -> Vec<Process> {
        let mark = self.mark.display().to_string();
        let is_one = |it: &Process| it.told.contains(&mark) || self.groups.contains(&it.group);
        all().into_iter().filter(is_one).collect()
    }
}

/// All that live, where the system shows them; a dead one whose parent has not heard of it is none.
fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let process = |entry: fs::DirEntry| {
        let id: i64 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name in parentheses may contain anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, group) = (fields.next()?, fields.nth(1)?);
        let told = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let told = String::from_utf8_lossy(&told).replace('\0', " ");
        let lives = !["Z", "X"].contains(&state);
        lives.then_some(Process { id, group: group.parse().ok()?, told })
    };
    entries.flatten().filter_map(process).collect()
}
