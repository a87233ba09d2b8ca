//! The pure core of sampling: the last samples, and which thresholds were passed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use perennial_core::run::JobKey;
use serde_json::{Value, json};

use super::known_or_unknown;
use crate::{
    performance::{Thresholds, Warning, WarningKind},
    run::Account,
};

/// Samples that are kept: the last hundred seconds.
const SAMPLES_KEPT: usize = 100;
/// Warnings that are shown.
const WARNINGS_SHOWN: usize = 10;

/// What was measured at one moment. What cannot be measured is absent, never 0 (YM-24).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// Since the run's first attempt began.
    pub(super) worked: Option<Duration>,
    /// What is accounted to the run.
    pub(super) account: Option<Account>,
    /// Of the process, in percent of one processor.
    pub(super) cpu_percent: Option<f64>,
    /// Steps under way, and for how long.
    pub(super) under_way: Vec<(JobKey, Duration)>,
}

/// What a monitor has seen. Outlives its restarts: a crossing is told once.
#[derive(Debug, Default)]
pub(super) struct Watch {
    samples: VecDeque<(Option<u64>, Option<f64>)>,
    memory_peak: Option<u64>,
    cpu_peak: Option<f64>,
    /// What is above its threshold now.
    above: BTreeSet<(WarningKind, Option<JobKey>)>,
    warned: u64,
    warned_by_type: BTreeMap<WarningKind, u64>,
    warnings: VecDeque<Warning>,
}

impl Watch {
    /// Takes in a sample, and answers the warnings of thresholds that were crossed since the last one.
    pub(super) fn take(&mut self, sample: &Sample, thresholds: &Thresholds) -> Vec<Warning> {
        let memory = sample.account.as_ref().map(|account| account.bytes);
        if self.samples.len() == SAMPLES_KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back((memory, sample.cpu_percent));
        self.memory_peak = self.memory_peak.max(memory);
        if let Some(cpu) = sample.cpu_percent {
            self.cpu_peak = Some(self.cpu_peak.map_or(cpu, |peak| peak.max(cpu)));
        }
        let passed = thresholds.passed(sample.worked, memory, &sample.under_way, results(sample));
        let above: BTreeSet<_> =
            passed.iter().map(|warning| (warning.kind, warning.step.clone())).collect();
        let new: Vec<Warning> = passed
            .into_iter()
            .filter(|warning| !self.above.contains(&(warning.kind, warning.step.clone())))
            .collect();
        self.above = above;
        for warning in &new {
            if self.warnings.len() == WARNINGS_SHOWN {
                self.warnings.pop_front();
            }
            self.warned += 1;
            *self.warned_by_type.entry(warning.kind).or_default() += 1;
            self.warnings.push_back(warning.clone());
        }
        new
    }

    /// Adds to what the tree dump shows.
    pub(super) fn show(&self, thresholds: &Thresholds, shown: &mut Value) {
        let Some((memory, cpu)) = self.samples.back().copied() else { return };
        let known = self.samples.iter().filter_map(|(memory, _)| *memory);
        let (count, sum) = known.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
        let round = |percent: f64| (percent * 10.0).round() / 10.0;
        shown["memory_usage_bytes"] = known_or_unknown(memory);
        shown["peak_memory_bytes"] = known_or_unknown(self.memory_peak);
        shown["average_memory_bytes"] = known_or_unknown(u64::checked_div(sum, count));
        shown["cpu_usage_percent"] = known_or_unknown(cpu.map(round));
        shown["peak_cpu_percent"] = known_or_unknown(self.cpu_peak.map(round));
        shown["samples"] = json!(self.samples.len());
        shown["thresholds"] = json!({
            "memory_bytes": thresholds.memory_bytes,
            "execution_ms": millis(thresholds.execution),
            "step_ms": millis(thresholds.step),
            "result_bytes": thresholds.result_bytes,
        });
        shown["total_warnings"] = json!(self.warned);
        shown["warnings_by_type"] = json!(self.warned_by_type);
        let warnings = self.warnings.iter().map(|warning| &warning.message);
        shown["warnings"] = warnings.map(|message| json!(message)).collect();
    }
}

fn results(sample: &Sample) -> impl Iterator<Item = (&JobKey, u64)> {
    let all = sample.account.iter().flat_map(|account| account.results.iter());
    all.map(|(step, bytes)| (step, *bytes))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn sample(seconds: u64, bytes: Option<u64>) -> Sample {
        let account = bytes
            .map(|bytes| Account { bytes, results: HashMap::from([(JobKey::new("a"), bytes)]) });
        Sample { worked: Some(Duration::from_secs(seconds)), account, ..Sample::default() }
    }

    fn kinds(warnings: &[Warning]) -> Vec<WarningKind> {
        warnings.iter().map(|warning| warning.kind).collect()
    }

    #[test]
    fn a_threshold_warns_once_per_crossing() {
        use WarningKind::{ExecutionThreshold, LargeResult, MemoryThreshold, SlowStep};
        let (mut watch, thresholds) = (Watch::default(), Thresholds::default());
        let mut take = |sample: Sample| kinds(&watch.take(&sample, &thresholds));
        assert_eq!(take(sample(30, Some(500_000_000))), [LargeResult]);
        assert_eq!(take(sample(31, Some(500_000_001))), [ExecutionThreshold, MemoryThreshold]);
        assert_eq!(take(sample(32, Some(500_000_002))), []);
        assert_eq!(take(sample(33, Some(10))), []);
        assert_eq!(take(sample(34, Some(500_000_001))), [MemoryThreshold, LargeResult]);
        let slow = |seconds| vec![(JobKey::new("b"), Duration::from_secs(seconds))];
        let with = |seconds| Sample { under_way: slow(seconds), ..sample(40, None) };
        assert_eq!(take(with(60)), []);
        assert_eq!(take(with(61)), [SlowStep]);
        assert_eq!(take(with(62)), []);
    }

    #[test]
    fn what_cannot_be_measured_is_unknown_and_never_nothing() {
        let (mut watch, thresholds) = (Watch::default(), Thresholds::default());
        watch.take(&sample(1, None), &thresholds);
        let mut shown = json!({});
        watch.show(&thresholds, &mut shown);
        for name in ["memory_usage_bytes", "peak_memory_bytes", "average_memory_bytes"] {
            assert_eq!(shown[name], "unknown", "{name}");
        }
        assert_eq!(
            (&shown["cpu_usage_percent"], &shown["samples"]),
            (&json!("unknown"), &json!(1))
        );
        watch.take(&sample(2, Some(30)), &thresholds);
        watch.take(&Sample { cpu_percent: Some(12.34), ..sample(3, Some(10)) }, &thresholds);
        watch.show(&thresholds, &mut shown);
        assert_eq!(
            (&shown["memory_usage_bytes"], &shown["peak_memory_bytes"]),
            (&json!(10), &json!(30))
        );
        assert_eq!(
            (&shown["average_memory_bytes"], &shown["cpu_usage_percent"]),
            (&json!(20), &json!(12.3))
        );
    }

    #[test]
    fn no_more_than_the_last_hundred_samples_are_kept() {
        let (mut watch, thresholds) = (Watch::default(), Thresholds::default());
        for seconds in 0..250 {
            watch.take(&sample(seconds, Some(1)), &thresholds);
        }
        assert_eq!(watch.samples.len(), SAMPLES_KEPT);
    }
}
