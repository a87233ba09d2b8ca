//! What a drain came to: pure values and how they follow from what was seen.

use std::collections::BTreeMap;

use perennial_core::run::{RunId, RunState};

use crate::services::AttemptId;

/// Runs that a report names; of further ones it says how many.
pub const DRAINED_RUNS_MAX: usize = 256;

/// What became of the runs and attempts that were under way when a runtime was shut down: see
/// `ShutdownSummary::drain` of the facade.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
/// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
/// # let run = runtime.pipelines().start(start).await?;
/// # run.outcome().await?;
/// let summary = runtime.shutdown().await;
/// let report = summary.drain.expect("the tree was running");
/// assert_eq!((report.released, report.cut, report.runs_more), (0, 0, 0)); // nothing was under way
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DrainReport {
    /// Attempts that ended by themselves and were recorded.
    pub finished: usize,
    /// Attempts that were cut and whose jobs were given back.
    pub released: usize,
    /// Attempts that were cut and whose jobs are given back by the next process.
    pub cut: usize,
    /// How long it took.
    pub took_ms: u64,
    /// What became of each run that was under way: first those that go on, then those that ended.
    /// At most [`DRAINED_RUNS_MAX`].
    pub runs: Vec<DrainedRun>,
    /// Further runs, which had no room in the list.
    pub runs_more: usize,
}

/// What became of one run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DrainedRun {
    /// The run.
    pub run: RunId,
    /// Name of its workflow, where the store told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// What became of it.
    pub fate: RunFate,
    /// Its state at the end of the drain, where the store told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<RunState>,
    /// What became of its attempts.
    pub attempts: DrainedAttempts,
}

/// What a drain makes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunFate {
    /// It has not ended, and goes on where it is resumed.
    Released,
    /// The store did not say. If it has not ended, it goes on where it is resumed (DUR-124).
    Unknown,
    /// It ended during the drain.
    Finished,
}

/// Attempts of one run that were under way when the drain began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DrainedAttempts {
    /// Ended by themselves, and recorded.
    pub finished: usize,
    /// Cut; their jobs were given back.
    pub released: usize,
    /// Cut; their jobs are given back by the next process.
    pub cut: usize,
}

/// The attempts that were under way at one moment, with their runs.
pub(crate) type UnderWay = BTreeMap<AttemptId, RunId>;

/// What became of the attempts of each run: those of `before` that are not in `cut` ended by
/// themselves, those of `cut` that are not in `left` were given back.
pub(super) fn tally(
    before: &UnderWay,
    cut: &UnderWay,
    left: &UnderWay,
) -> BTreeMap<RunId, DrainedAttempts> {
    let mut tally: BTreeMap<RunId, DrainedAttempts> = BTreeMap::new();
    for (_, run) in before.iter().filter(|(id, _)| !cut.contains_key(id)) {
        tally.entry(run.clone()).or_default().finished += 1;
    }
    for (id, run) in cut {
        let attempts = tally.entry(run.clone()).or_default();
        if left.contains_key(id) { attempts.cut += 1 } else { attempts.released += 1 }
    }
    tally
}

impl DrainReport {
    /// The report of a drain after which the attempts stood as in `tally`, and the runs as in `runs`.
    pub(super) fn of(
        tally: &BTreeMap<RunId, DrainedAttempts>,
        mut runs: Vec<DrainedRun>,
        took_ms: u64,
    ) -> Self {
        runs.sort_by(|a, b| (a.fate, &a.run).cmp(&(b.fate, &b.run)));
        for run in &mut runs {
            run.attempts = tally.get(&run.run).copied().unwrap_or_default();
        }
        let runs_more = runs.len().saturating_sub(DRAINED_RUNS_MAX);
        runs.truncate(DRAINED_RUNS_MAX);
        let sum = |of: fn(&DrainedAttempts) -> usize| tally.values().map(of).sum();
        Self {
            finished: sum(|attempts| attempts.finished),
            released: sum(|attempts| attempts.released),
            cut: sum(|attempts| attempts.cut),
            took_ms,
            runs,
            runs_more,
        }
    }

    /// The entry of a run, if it has one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, RunFate, Runtime, StartPipeline, Store};
    /// # use std::time::Duration;
    /// let runtime =
    ///     Runtime::builder().store(Store::memory()).drain_within(Duration::ZERO).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// let run = runtime.pipelines().start(start).await?; // its step takes a minute
    /// let report = runtime.shutdown().await.drain.expect("the tree was running");
    /// let entry = report.run(run.id()).expect("it was under way");
    /// assert_eq!(entry.fate, RunFate::Released); // it can be resumed
    /// # Ok(())
    /// # }
    /// ```
    pub fn run(&self, run: &RunId) -> Option<&DrainedRun> {
        self.runs.iter().find(|drained| drained.run == *run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str) -> RunId {
        RunId::parse(name).unwrap()
    }

    fn under_way(rows: &[(i64, &str)]) -> UnderWay {
        rows.iter().map(|(job, name)| (AttemptId { job: *job, attempt: 1 }, run(name))).collect()
    }

    fn drained(name: &str, fate: RunFate) -> DrainedRun {
        DrainedRun {
            run: run(name),
            workflow: None,
            fate,
            state: None,
            attempts: DrainedAttempts::default(),
        }
    }

    #[test]
    fn every_attempt_is_counted_once_with_its_run() {
        let before = under_way(&[(1, "a"), (2, "a"), (3, "b")]);
        // One that a busy run started while it was asked to hold is cut without having been seen.
        let cut = under_way(&[(2, "a"), (4, "c"), (5, "c")]);
        let left = under_way(&[(5, "c")]);
        let tally = tally(&before, &cut, &left);
        let runs = vec![drained("b", RunFate::Finished), drained("c", RunFate::Released)];
        let report = DrainReport::of(&tally, runs, 7);
        assert_eq!((report.finished, report.released, report.cut), (2, 2, 1));
        let c = report.run(&run("c")).unwrap();
        assert_eq!(c.attempts, DrainedAttempts { finished: 0, released: 1, cut: 1 });
        assert_eq!(report.runs[0].run, run("c"), "what goes on comes first");
        assert_eq!(report.runs[1].attempts.finished, 1);
    }

    #[test]
    fn a_long_list_keeps_what_goes_on_and_counts_the_rest() {
        let mut runs: Vec<_> =
            (0..DRAINED_RUNS_MAX).map(|n| drained(&format!("f{n}"), RunFate::Finished)).collect();
        runs.push(drained("z", RunFate::Released));
        runs.push(drained("y", RunFate::Unknown));
        let report = DrainReport::of(&BTreeMap::new(), runs, 0);
        assert_eq!((report.runs.len(), report.runs_more), (DRAINED_RUNS_MAX, 2));
        assert_eq!((&report.runs[0].run, &report.runs[1].run), (&run("z"), &run("y")));
    }
}
