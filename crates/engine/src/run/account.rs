//! What a run holds in memory: its settings and the results of its steps, as compact JSON. That is what
//! grows with a run; what an attempt takes while it works is not accounted to it.

use std::{collections::HashMap, io};

use perennial_core::run::JobKey;
use serde_json::Value;

use crate::workflow::DoneJob;

/// The bytes accounted to one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// All of them.
    pub(crate) bytes: u64,
    /// Of each result.
    pub(crate) results: HashMap<JobKey, u64>,
}

impl Account {
    /// Of a run without results.
    pub(super) fn of(settings: &Value) -> Self {
        Self { bytes: json_bytes(settings), results: HashMap::new() }
    }

    /// Measures what is new. What is done only grows, or is another list.
    pub(super) fn add(&mut self, done: &[DoneJob]) {
        let known = self.results.len();
        if done.len() < known || known > 0 && !self.results.contains_key(&done[known - 1].key) {
            self.bytes -= self.results.drain().map(|(_, bytes)| bytes).sum::<u64>();
        }
        for job in &done[self.results.len()..] {
            let bytes = json_bytes(&job.result);
            let before = self.results.insert(job.key.clone(), bytes);
            self.bytes = self.bytes - before.unwrap_or(0) + bytes;
        }
    }
}

/// The length of `value` as compact JSON.
pub(crate) fn json_bytes(value: &Value) -> u64 {
    let mut counted = Counted(0);
    // A value has text keys only, and counting does not fail.
    let _ = serde_json::to_writer(&mut counted, value);
    counted.0
}

struct Counted(u64);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use perennial_core::run::JobState;
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_and_each_result_count_once() {
        let done = |key: &str, result: Value| DoneJob {
            key: JobKey::new(key),
            state: JobState::Succeeded,
            result,
        };
        let mut account = Account::of(&json!({"a": 1}));
        let mut jobs = vec![done("a", json!("1234"))];
        account.add(&jobs);
        assert_eq!(account.bytes, 7 + 6);
        jobs.push(done("b", json!([1, 2])));
        account.add(&jobs);
        account.add(&jobs);
        assert_eq!((account.bytes, account.results[&JobKey::new("b")]), (7 + 6 + 5, 5));
        // A later round begins with fewer of them.
        account.add(&jobs[1..]);
        assert_eq!(account, Account { bytes: 7 + 5, results: [(JobKey::new("b"), 5)].into() });
    }
}
