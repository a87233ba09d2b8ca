//! What sequences must hold: each number below the next one is there once, for one key, as the events tell.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Findings, Rule};
use crate::{AllocationRecord, EventRecord};

/// Sequence, scope and key, and whether it is a further version.
type Owner = (String, String, String, bool);

/// What the events of a run tell of numbers and versions that it was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct NumbersTold(BTreeMap<Owner, (u64, u64)>);

impl NumbersTold {
    /// Takes an event that gives a number, or a version of one; whether it was such an event.
    pub(crate) fn take(&mut self, event: &EventRecord, findings: &mut Findings) -> bool {
        if !["number_allocated", "version_allocated"].contains(&event.kind.as_str()) {
            return false;
        }
        let text = |name: &str| event.data[name].as_str().unwrap_or_default().to_owned();
        let further = event.kind == "version_allocated";
        let owner = (text("sequence"), text("scope"), text("key"), further);
        let count = |name: &str| event.data.get(name).and_then(Value::as_u64);
        let given = (count("number").unwrap_or(0), count("version").unwrap_or(1));
        let before = self.0.insert(owner, given);
        if before.is_some() {
            let what = "a key was given a number that had one".to_owned();
            findings.at(Rule::Allocations, event.seq, what);
        }
        true
    }

    /// Compares with the rows that name the run.
    pub(crate) fn compare(&self, rows: &[AllocationRecord], findings: &mut Findings) {
        let mut told = self.0.clone();
        for row in rows {
            let AllocationRecord { sequence, scope, key, number, version, .. } = row;
            let is = (*number, u64::from(*version));
            let further = row.parent.is_some();
            match told.remove(&(sequence.clone(), scope.clone(), key.clone(), further)) {
                Some(given) if given == is => (),
                told => {
                    let what = format!(
                        "{key} has number {number}, version {version}, of {sequence} in {scope}, and its events \
                         say {told:?}"
                    );
                    findings.add(Rule::Allocations, what);
                }
            }
        }
        for ((sequence, scope, key, _), (number, version)) in told {
            let what = format!(
                "number {number}, version {version}, of {sequence} in {scope} was given to {key} and is not there"
            );
            findings.add(Rule::Allocations, what);
        }
    }
}

/// A number as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct NumberRow {
    pub(crate) number: u64,
    /// Its newest version.
    pub(crate) version: u64,
    /// How many versions there are besides the first.
    pub(crate) versions: u64,
    /// Whether another number has the same key.
    pub(crate) shared: bool,
}

/// The numbers of one scope that follow `last`, in their order; `next` is what the scope is to give next, and `ends`
/// whether none follows.
pub(crate) fn dense(
    whose: &str,
    last: u64,
    rows: &[NumberRow],
    next: Option<u64>,
    ends: bool,
    findings: &mut Findings,
) {
    let mut last = last;
    for row in rows {
        let NumberRow { number, version, versions, shared } = *row;
        if number <= last {
            findings.add(Rule::Allocations, format!("number {number} of {whose} is there twice"));
        } else if number != last + 1 {
            let what = format!("number {} of {whose} is missing", last + 1);
            findings.add(Rule::Allocations, what);
        }
        if shared {
            let what = format!("number {number} of {whose} has the key of another one");
            findings.add(Rule::Allocations, what);
        }
        if version != versions + 1 {
            let what = format!(
                "number {number} of {whose} is at version {version}, and {versions} follow the first"
            );
            findings.add(Rule::Allocations, what);
        }
        last = last.max(number);
    }
    if ends && next != Some(last + 1) {
        let what = format!("{whose} goes on with {next:?} behind {last}");
        findings.add(Rule::Allocations, what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u64) -> NumberRow {
        NumberRow { number, version: 1, versions: 0, shared: false }
    }

    /// Proves CHK-12.
    #[test]
    fn numbers_of_a_scope_are_dense_and_have_one_key_each() {
        let check = |last, rows: &[NumberRow], next, ends| {
            let mut findings = Findings::default();
            dense("s in x", last, rows, next, ends, &mut findings);
            findings.take("").into_iter().map(|found| found.what).collect::<Vec<_>>()
        };
        assert_eq!(check(0, &[row(1), row(2)], Some(3), true), [""; 0]);
        assert_eq!(check(2, &[row(3)], Some(9), false), [""; 0], "others follow");
        assert_eq!(check(0, &[], Some(1), true), [""; 0]);
        assert_eq!(check(0, &[row(2)], Some(3), true), ["number 1 of s in x is missing"]);
        assert_eq!(
            check(0, &[row(1), row(1)], Some(2), true),
            ["number 1 of s in x is there twice"]
        );
        assert_eq!(check(1, &[], Some(3), true), ["s in x goes on with Some(3) behind 1"]);
        assert_eq!(check(1, &[], None, true), ["s in x goes on with None behind 1"]);
        let shared = NumberRow { shared: true, ..row(1) };
        assert_eq!(
            check(0, &[shared], Some(2), true),
            ["number 1 of s in x has the key of another one"]
        );
        let lost = NumberRow { version: 3, versions: 1, ..row(1) };
        assert_eq!(
            check(0, &[lost], Some(2), true),
            ["number 1 of s in x is at version 3, and 1 follow the first"]
        );
    }
}
