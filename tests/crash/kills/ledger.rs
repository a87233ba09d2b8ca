//! A victim as its parent sees it, and what all victims of a run have told.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tempfile::TempDir;

use super::victim::{MARK, Orders};

/// INV-ST-29: nothing to tell for so long is a run that does not go on.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// Lines that are shown of a silent one.
const LAST: usize = 20;

/// A process under way. Dropping it kills it.
pub(super) struct Victim {
    child: Child,
    /// It ends itself when this closes.
    _orders: ChildStdin,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    errors: TempDir,
    /// What it has told last.
    last: RefCell<VecDeque<String>>,
}

impl Victim {
    #[expect(clippy::disallowed_methods, reason = "reads what another process tells")]
    pub(super) fn start(orders: &Orders) -> Self {
        let errors = tempfile::tempdir().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PERENNIAL_") {
                command.env_remove(&name);
            }
        }
        let stderr = fs::File::create(errors.path().join("stderr")).unwrap();
        let mut child = command
            .args(["--exact", "kills::victim::the_victim", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{}", orders.to_json()).unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                // The harness ends no line before the first of ours.
                if let Some((_, line)) = line.split_once(MARK)
                    && tell.send(line.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self {
            child,
            _orders: stdin,
            lines,
            reader: Some(reader),
            errors,
            last: RefCell::default(),
        }
    }

    /// The next line; none when it has ended.
    pub(super) fn next(&self) -> Option<String> {
        match self.lines.recv_timeout(SILENCE) {
            Ok(line) => {
                let mut last = self.last.borrow_mut();
                last.push_back(line.clone());
                if last.len() > LAST {
                    last.pop_front();
                }
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("silence for {SILENCE:?} after {:?}: {}", self.last, self.errors())
            }
        }
    }

    /// The next line, if it comes within so long.
    pub(super) fn next_within(&self, within: Duration) -> Option<String> {
        self.lines.recv_timeout(within).ok()
    }

    /// Kills it now, and hands out what it had told.
    pub(super) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.ended()
    }

    /// What it told before it ended by itself.
    pub(super) fn ended(&mut self) -> Vec<String> {
        self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        self.lines.try_iter().collect()
    }

    pub(super) fn errors(&self) -> String {
        fs::read_to_string(self.errors.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Ended already, or beyond our power.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// All that victims of a run have told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) created: bool,
    pub(super) claimed: BTreeSet<(String, u32)>,
    /// The key that each attempt was given.
    pub(super) begun: BTreeMap<(String, u32), String>,
    /// The attempts that made a call, in their order.
    pub(super) effects: BTreeMap<(String, u64), Vec<u32>>,
    /// By the key that the outside world has seen.
    keys: BTreeMap<(String, u64), String>,
    pub(super) recorded: BTreeSet<(String, String)>,
    /// Those by number.
    settled: BTreeSet<(String, u64)>,
    pub(super) committed: BTreeMap<(String, u32), String>,
    pub(super) returned: BTreeSet<String>,
    pub(super) events: BTreeMap<u64, (String, String, u32)>,
    pub(super) ended: BTreeSet<String>,
    /// Those whose last report was acknowledged.
    finals: BTreeSet<String>,
    pub(super) closed: Option<String>,
    pub(super) violations: Vec<String>,
    /// Lines in all.
    pub(super) lines: u64,
    /// Things that were acknowledged.
    pub(super) acknowledged: u64,
    pub(super) samples: u64,
}

impl Told {
    /// Takes in one line; what contradicts earlier ones panics.
    pub(super) fn take(&mut self, line: &str) {
        self.lines += 1;
        let words: Vec<&str> = line.split(' ').collect();
        let job = || words[1].to_owned();
        let count = |place: usize| words[place].parse::<u32>().unwrap();
        match words[0] {
            "created" => self.created = true,
            "claimed" => {
                let claim = (job(), count(2));
                assert!(self.claimed.insert(claim.clone()), "{claim:?} was handed out twice");
            }
            "begin" => {
                let key = words[3].to_owned();
                let same = |((other, _), seen): (&(String, u32), &String)| {
                    *other != words[1] || *seen == key
                };
                assert!(self.begun.iter().all(same), "another key: {line}");
                let last = self.begun.insert((job(), count(2)), key);
                assert_eq!(last, None, "an attempt began twice: {line}");
            }
            "effect" => {
                let call = (job(), u64::from(count(3)));
                assert!(!self.settled.contains(&call), "a recorded call made again: {line}");
                let key = self.keys.entry(call.clone()).or_insert_with(|| words[4].to_owned());
                assert_eq!(key, words[4], "another key: {line}");
                self.effects.entry(call).or_default().push(count(2));
            }
            "recorded" => {
                let (ordinal, _) = words[3].split_once('/').unwrap();
                self.settled.insert((job(), ordinal.parse().unwrap()));
                let is_new = self.recorded.insert((job(), words[3].to_owned()));
                assert!(is_new, "recorded twice: {line}");
            }
            "return" => {
                if words[3] == "true" {
                    self.returned.insert(job());
                }
            }
            "committed" => {
                let last = self.committed.insert((job(), count(2)), words[3].to_owned());
                assert_eq!(last, None, "two ends: {line}");
                // Its event may have been told before.
                if words[3] != "ready" {
                    assert!(self.finals.insert(job()), "ended twice: {line}");
                    self.ended.insert(job());
                }
            }
            "event" => {
                let event = (words[2].to_owned(), words[3].to_owned(), count(4));
                if event.0 == "job_succeeded" {
                    self.ended.insert(event.1.clone());
                }
                let seq = words[1].parse().unwrap();
                let last = self.events.insert(seq, event.clone());
                assert!(last.is_none_or(|last| last == event), "two events: {line}");
            }
            "closed" => self.closed = Some(words[1].to_owned()),
            "violation" => self.violations.push(line.to_owned()),
            "sampled" => self.samples += 1,
            "up" | "acted" | "number" | "expands" | "dies" | "down" => (),
            other => panic!("{other} is no word of a ledger"),
        }
        let kinds = ["created", "claimed", "recorded", "committed", "event", "closed", "acted"];
        self.acknowledged += u64::from(kinds.contains(&words[0]));
    }

    /// A further round: what had ended may end once more.
    pub(super) fn reopened(&mut self) {
        self.closed = None;
        (self.finals, self.ended) = (BTreeSet::new(), BTreeSet::new());
        self.committed.values_mut().for_each(|end| "ready".clone_into(end));
    }

    /// What the run has come to: calls that are recorded, and jobs that ended.
    pub(super) fn progress(&self) -> u64 {
        (self.recorded.len() + self.ended.len()) as u64
    }
}
