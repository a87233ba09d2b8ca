//! What the calls of a run used and cost: together, and by step.

use std::collections::HashMap;

use perennial_core::{
    llm::{Spending, Spent},
    run::JobKey,
};
use perennial_store::{CallRecord, RunView};

use crate::workflow::CACHE_PREFIX;

/// What calls to models used and cost.
#[derive(Debug, Default)]
pub(super) struct Bill {
    /// All of them.
    pub(super) total: Spending,
    /// By step; those of steps inside a step are also its own.
    steps: HashMap<String, Spending>,
}

impl Bill {
    pub(super) fn of(view: &RunView) -> Self {
        let keys: HashMap<i64, &JobKey> = view.jobs.iter().map(|job| (job.id, &job.key)).collect();
        let mut bill = Self::default();
        for call in view.calls.iter().filter(|call| !is_kept(call)) {
            let spent = match read(call) {
                Reply::Model(spent) => Some(spent),
                Reply::None => None,
                Reply::Other => continue,
            };
            bill.total.add(spent.as_ref());
            let Some(key) = keys.get(&call.job) else { continue };
            let mut next = Some(step_of(key.as_str()));
            while let Some(step) = next {
                bill.steps.entry(step.to_owned()).or_default().add(spent.as_ref());
                next = around(step);
            }
        }
        bill
    }

    /// What the calls of a step used and cost.
    pub(super) fn step(&self, key: &JobKey) -> Spending {
        self.steps.get(key.as_str()).copied().unwrap_or_default()
    }
}

/// Whether it is a kept result that was taken: recorded like the reply of a call, and none.
pub(super) fn is_kept(call: &&CallRecord) -> bool {
    call.name.starts_with(CACHE_PREFIX)
}

enum Reply {
    Model(Spent),
    /// Not recorded: nobody knows what it used.
    None,
    /// Something else was called, for example an operation on files.
    Other,
}

fn read(call: &CallRecord) -> Reply {
    match &call.reply {
        Some(reply) => Spent::of_reply(reply).map_or(Reply::Other, Reply::Model),
        None => Reply::None,
    }
}

/// The step a job works for: of what opens a scope in some round, the step of the scope.
pub(super) fn step_of(key: &str) -> &str {
    key.strip_prefix('#').map_or(key, without_round)
}

/// The step that a step stands in.
pub(super) fn around(step: &str) -> Option<&str> {
    let (around, _) = step.rsplit_once('/')?;
    Some(without_round(around))
}

/// The key without the round, or the kind of scope, of its last step.
fn without_round(key: &str) -> &str {
    let last = key.rfind('/').map_or(0, |slash| slash + 1);
    key[last..].find(['#', '[']).map_or(key, |round| &key[..last + round])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_for_its_step_and_for_all_around_it() {
        let all = |key: &str| {
            let mut steps = vec![step_of(key).to_owned()];
            while let Some(next) = around(&steps[steps.len() - 1]) {
                steps.push(next.to_owned());
            }
            steps
        };
        for (key, steps) in [
            ("a", &["a"][..]),
            ("#a", &["a"]),
            ("#a#2", &["a"]),
            ("a#2/b", &["a#2/b", "a"]),
            ("#a#2/b#3", &["a#2/b", "a"]),
            ("a#2/b#3/c", &["a#2/b#3/c", "a#2/b", "a"]),
            ("a[error]/b", &["a[error]/b", "a"]),
            ("#a[error]", &["a"]),
        ] {
            assert_eq!(all(key), steps, "{key}");
        }
    }
}
