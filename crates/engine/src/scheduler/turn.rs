//! One round in which places are given out, to whoever comes first: by priority, which grows while a run waits (DUR-12), and of the
//! same in the order in which the runs were created.

use std::{cmp::Reverse, collections::HashSet, time::Duration};

use perennial_core::{Timestamp, run::RunId};
use perennial_store::OpenRun;
use perennial_supervision::ChildInfo;

use super::SchedulerSpec;
use crate::Services;

/// What there is when the round begins, and what it has come to.
pub(super) struct Turn {
    /// The runs that have an actor, and the monitors, as they were when the round began.
    pub(super) runs: HashSet<String>,
    pub(super) monitors: HashSet<String>,
    /// One has found no place, or waits from before: whoever comes later gets none in this round.
    pub(super) passed: bool,
}

/// Puts runs into the order in which they come; they are in that in which they were created.
pub(super) fn in_order(runs: &mut [OpenRun], now: Timestamp, aging: Duration) {
    runs.sort_by_cached_key(|run| Reverse(run.priority.aged(now.since(run.created_at), aging)));
}

impl Turn {
    /// Under a supervisor that is away there is nothing; starting it there tells more.
    pub(super) fn new(spec: &SchedulerSpec) -> Self {
        let names = |children: Result<Vec<ChildInfo>, _>| {
            let children: Vec<ChildInfo> = children.unwrap_or_default();
            children.iter().map(|child| child.name().to_owned()).collect()
        };
        Self {
            runs: names(spec.runs.which_children()),
            monitors: names(spec.monitors.which_children()),
            passed: false,
        }
    }

    /// Takes a place, or answers what the run waits for.
    pub(super) fn take(
        &mut self,
        services: &Services,
        run: &RunId,
        most: usize,
    ) -> Result<(), String> {
        if services.places.holds(run) {
            return Ok(());
        }
        let taken = match self.passed {
            true => Err(services.places.count()),
            false => services.places.take(run, most),
        };
        taken.map_err(|held| {
            self.passed = true;
            if held < most {
                "its turn, behind the runs that come before it".to_owned()
            } else {
                format!("a free place: {held} of {most} runs are active")
            }
        })
    }
}
