//! Findings: what is wrong with a tree, concluded from its dump and from earlier ones of the same
//! process. Ids, names and default thresholds are those of the inspection specification; a rule exists
//! here as soon as the dump shows what it needs.
//!
//! | id | name | from |
//! |---|---|---|
//! | PF-02 | `restart_storm` | a supervisor's restarts in its window |
//! | PF-03 | `mailbox_growing` | depth against capacity; age of the first message; rising over five dumps |
//! | PF-04 | `handler_blocked` | a callback or a start that goes on; a stop that does over several dumps |
//! | PF-07 | `run_waiting_without_owner` | a run's monitor without the run, in two dumps |
//! | PF-12 | `unresponsive` | a detail that was not told in three dumps |
//! | PF-13, PF-39 | `gave_up`, `child_gave_up` | state |
//! | PF-14 | `unkillable` | state |
//! | PF-16 | `scheduler_stalled` | what the scheduler published: it has looked after no run for 30 s |
//! | PF-17 | `store_degraded` | what the store published; failed commits between two dumps |
//! | PF-18 | `lease_at_risk` | what the keeper of a node's lease published |
//! | PF-20 | `approval_due` | what a run's actor published: a question, and when a tenth of its time is left |
//! | PF-23 | `attempt_uncertain` | what a run's monitor published |
//! | PF-31 | `quarantined` | the runs that the scheduler's owner has parked |
//! | PF-32 | `service_failed` | what an instance of a service publishes: it is not started any more |
//! | PF-40 | `always_working` | an actor that is never without work; not in the specification |
//! | PF-41 | `runs_waiting` | runs that wait for a free place; not in the specification |
//! | PF-42 | `messages_lost` | messages refused, dropped or undelivered since the dump before; not in the specification |
//! | PF-43 | `deadlock` | processes that wait for each other; not in the specification |

mod deadlock;
mod finding;
mod history;
mod processes;
mod runs;

use std::collections::HashSet;

use perennial_core::tree::{Finding, TreeSnapshot};

use self::history::History;

/// Open findings of one dump: beyond, the worst are kept.
const FINDINGS_MAX: usize = 1_000;

/// From where on something is a problem. The default is the specification's.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::{diagnosed, Thresholds};
///
/// let patient = Thresholds { blocked_ms: 60_000, ..Thresholds::default() };
/// assert!(diagnosed(tree("running", 1), &[], &patient).findings.is_empty());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// PF-02: used share of a restart allowance, in percent. The last allowed restart is an error.
    pub storm_percent: u64,
    /// PF-03: messages that fit into a mailbox, where the dump does not say it.
    pub mailbox_capacity: u64,
    /// PF-03: used share of it, in percent. A full one is an error.
    pub mailbox_percent: u64,
    /// PF-03: dumps over which a depth must have risen.
    pub mailbox_samples: usize,
    /// PF-03: and how long that must have taken.
    pub mailbox_rising_ms: u64,
    /// PF-03: how long the first message may wait, whatever the depth.
    pub mailbox_oldest_ms: u64,
    /// PF-04: how long a callback may take.
    pub blocked_ms: u64,
    /// PF-04: from where on it is an error.
    pub blocked_error_ms: u64,
    /// PF-12: dumps in a row in which a detail may be missing.
    pub unresponsive_samples: usize,
    /// PF-40: how long an actor may work without a pause.
    pub working_ms: u64,
    /// PF-43: how long processes may wait for each other: longer than a dump takes, in which nodes are
    /// read one after the other.
    pub deadlock_ms: u64,
    /// PF-17: requests that may wait for the writer.
    pub store_queue_max: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            storm_percent: 70,
            mailbox_capacity: 10_000,
            mailbox_percent: 80,
            mailbox_samples: 5,
            mailbox_rising_ms: 5_000,
            mailbox_oldest_ms: 10_000,
            blocked_ms: 10_000,
            blocked_error_ms: 60_000,
            unresponsive_samples: 3,
            working_ms: 10_000,
            deadlock_ms: 1_000,
            store_queue_max: 1_000,
        }
    }
}

/// `tree` with what is found in it. `earlier` are dumps of the same process, oldest first; those of another
/// start are not looked at. What the dump brought along stays, unless it is found again.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::{diagnosed, Thresholds};
///
/// let tree = diagnosed(tree("gave_up", 4), &[], &Thresholds::default());
/// let finding = &tree.findings[0];
/// assert_eq!(finding.path, "/perennial/inbox");
/// println!("{}: {}", finding.id, finding.message);
/// ```
pub fn diagnosed(
    mut tree: TreeSnapshot,
    earlier: &[TreeSnapshot],
    thresholds: &Thresholds,
) -> TreeSnapshot {
    let mut found = findings(&tree, earlier, thresholds);
    if let Some(store) = &tree.runtime.store {
        found.iter_mut().for_each(|finding| finding::in_store(finding, store));
    }
    let known: HashSet<(String, String)> =
        found.iter().map(|finding| (finding.id.clone(), finding.path.clone())).collect();
    let brought = std::mem::take(&mut tree.findings);
    found.extend(
        brought
            .into_iter()
            .filter(|finding| !known.contains(&(finding.id.clone(), finding.path.clone()))),
    );
    sort(&mut found);
    tree.findings = found;
    tree
}

/// What is wrong with `tree`, the worst first, at most a thousand.
fn findings(
    tree: &TreeSnapshot,
    earlier: &[TreeSnapshot],
    thresholds: &Thresholds,
) -> Vec<Finding> {
    if tree.declared {
        return Vec::new();
    }
    let history = History::of(tree, earlier);
    let mut found = Vec::new();
    processes::judge(&history, thresholds, &mut found);
    runs::judge(&history, thresholds, &mut found);
    deadlock::judge(&history, thresholds, &mut found);
    sort(&mut found);
    found
}

fn sort(found: &mut Vec<Finding>) {
    found.sort_by(|a, b| {
        b.severity.cmp(&a.severity).then_with(|| (&a.id, &a.path).cmp(&(&b.id, &b.path)))
    });
    found.truncate(FINDINGS_MAX);
}
