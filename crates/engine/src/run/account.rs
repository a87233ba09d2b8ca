//! What a run holds in memory: its settings and the results of its steps, as compact JSON. That is what
//! grows with a run; what an attempt takes while it works is not accounted to it.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use perennial_core::run::JobKey;
use serde_json::Value;

use crate::workflow::DoneJob;

/// The bytes accounted to one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// All of them.
    pub(crate) bytes: u64,
    /// Of each result.
    pub(crate) results: Arc<HashMap<JobKey, u64>>,
}

/// Measures each result once.
#[derive(Debug, Default)]
pub(super) struct Accounting(Mutex<Measured>);

#[derive(Debug, Default)]
struct Measured {
    settings: Option<u64>,
    account: Account,
}

impl Accounting {
    pub(super) fn measure(&self, settings: &Value, done: &[DoneJob]) -> Account {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_settings = *measured.settings.get_or_insert_with(|| json_bytes(settings));
        let account = &mut measured.account;
        for job in done {
            if !account.results.contains_key(&job.key) {
                let bytes = json_bytes(&job.result);
                Arc::make_mut(&mut account.results).insert(job.key.clone(), bytes);
            }
        }
        account.bytes = of_settings + account.results.values().sum::<u64>();
        account.clone()
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
        let accounting = Accounting::default();
        let settings = json!({"a": 1});
        let mut jobs = vec![done("a", json!("1234"))];
        assert_eq!(accounting.measure(&settings, &jobs).bytes, 7 + 6);
        jobs.push(done("b", json!([1, 2])));
        let account = accounting.measure(&settings, &jobs);
        assert_eq!((account.bytes, account.results[&JobKey::new("b")]), (7 + 6 + 5, 5));
    }
}
