//! What the spans of a run say together: by depth, what stands out, and a grade (YM-13).

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Span, SpanKind, Went};

/// A span that takes longer is slow.
const SLOW_MS: u64 = 5_000;
/// A share of steps that end well below this is a finding,
const SUCCESS_NOTED: f64 = 0.90;
/// and below this an issue of the whole run.
const SUCCESS_ISSUE: f64 = 0.95;
/// Steps that stand in more scopes are deep.
const DEEP: usize = 5;
/// A run that takes longer has an issue.
const LONG_MS: u64 = 60_000;
const MIB: f64 = 1_048_576.0;

/// The steps of one depth.
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
/// let depths = runtime.pipelines().trace(run.id()).await?.verdict.depths;
/// assert_eq!((depths[0].depth, depths[0].count, depths[0].failures), (0, 1, 0));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DepthSummary {
    /// In how many scopes they stand.
    pub depth: usize,
    /// Steps.
    pub count: usize,
    /// Of those, failed; tolerated failures count.
    pub failures: usize,
    /// Of those that began, together; those of inner scopes run inside those of outer ones.
    pub total_ms: u64,
    /// The mean; nothing when none began.
    pub avg_ms: Option<u64>,
    /// The shortest.
    pub min_ms: Option<u64>,
    /// The longest.
    pub max_ms: Option<u64>,
}

/// What stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A span took longer than 5 s. Where one in it did as well, only that one is told of.
    SlowSpan,
    /// Of the steps of a depth that ended well or badly, less than 90 % ended well.
    LowSuccess,
    /// A step stands in more than 5 scopes; told once, of the deepest.
    Deep,
}

/// One thing that stands out.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: w, steps: [{name: a, type: echo, fail: true, on_error: continue}]}";
/// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
/// # let run = runtime.pipelines().start(start).await?;
/// # run.outcome().await?;
/// use perennial::records::FindingKind;
///
/// let findings = runtime.pipelines().trace(run.id()).await?.verdict.findings; // its one step failed
/// assert_eq!(findings[0].kind, FindingKind::LowSuccess);
/// println!("{}", findings[0].message);
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    #[serde(rename = "type")]
    pub kind: FindingKind,
    /// Which span, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// In words.
    pub message: String,
}

/// A part of the grade: what it is of, and 1 to 4.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Component {
    /// What was graded: a share, milliseconds, scopes, or bytes.
    pub of: f64,
    /// Its grade; of a share four times it.
    pub grade: f64,
}

/// The grade in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// 3.5 and better.
    Excellent,
    /// 2.5 and better.
    Good,
    /// 1.5 and better.
    Fair,
    /// Below.
    Poor,
}

impl Word {
    /// Its text.
    ///
    /// ```
    /// use perennial::records::Word;
    ///
    /// assert_eq!(Word::Excellent.name(), "excellent");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Excellent => "excellent",
            Self::Good => "good",
            Self::Fair => "fair",
            Self::Poor => "poor",
        }
    }
}

/// The grade of a run: the mean of what is known of its parts.
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
/// use perennial::records::Word;
///
/// let grade = runtime.pipelines().trace(run.id()).await?.verdict.grade;
/// assert_eq!(grade.word, Word::Excellent);
/// assert_eq!(grade.success.map(|part| (part.of, part.grade)), Some((1.0, 4.0)));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Grade {
    /// The mean.
    pub mean: f64,
    /// In a word.
    pub word: Word,
    /// Share of steps that ended well; nothing before one ended well or badly.
    pub success: Option<Component>,
    /// Milliseconds.
    pub duration: Component,
    /// Scopes.
    pub depth: Component,
    /// Bytes.
    pub memory: Component,
}

/// What the spans say.
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
/// let verdict = runtime.pipelines().trace(run.id()).await?.verdict;
/// assert!(verdict.issues.is_empty() && verdict.bottlenecks.is_empty());
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// By depth, the outermost first.
    pub depths: Vec<DepthSummary>,
    /// What stands out, in order of the spans.
    pub findings: Vec<Finding>,
    /// The grade.
    pub grade: Grade,
    /// Steps that ended well per second and 100 MB; nothing when no time passed or nothing is held.
    pub efficiency: Option<f64>,
    /// What is wrong with the run as a whole.
    pub issues: Vec<String>,
    /// What holds it up.
    pub bottlenecks: Vec<String>,
}

impl Verdict {
    /// Of `spans`, the run first, which hold `memory_bytes`.
    #[expect(clippy::cast_precision_loss, reason = "for people; exact below 2^53")]
    pub(super) fn of(spans: &[Span], memory_bytes: u64) -> Self {
        let steps = || spans.iter().filter(|span| span.kind == SpanKind::Step);
        let depths = by_depth(steps());
        let took = spans.first().and_then(|run| run.duration_ms).unwrap_or_default();
        let deepest = steps().map(|step| step.depth).max().unwrap_or_default();
        let well = steps().filter(|step| step.went == Went::Well).count();
        let success = share(steps());
        let grade = grade(success, took, deepest, memory_bytes);
        let used = took as f64 / 1_000.0 * (memory_bytes as f64 / MIB / 100.0);
        let (mut issues, mut bottlenecks) = (Vec::new(), Vec::new());
        if let Some(share) = success.filter(|share| *share < SUCCESS_ISSUE) {
            issues.push(format!("{} of the steps ended well, less than 95 %", percent(share)));
        }
        if took > LONG_MS {
            issues.push(format!("the run takes {took} ms, more than {LONG_MS}"));
        }
        if deepest > DEEP {
            bottlenecks.push(format!("steps stand in {deepest} scopes, more than {DEEP}"));
        }
        let mib = memory_bytes as f64 / MIB;
        if mib > 1_000.0 {
            bottlenecks.push(format!("the run holds {mib:.1} MB, more than 1000"));
        }
        Self {
            findings: findings(spans, &depths, deepest),
            depths,
            grade,
            efficiency: (used > 0.0).then(|| well as f64 / used),
            issues,
            bottlenecks,
        }
    }
}

fn by_depth<'a>(steps: impl Iterator<Item = &'a Span>) -> Vec<DepthSummary> {
    let mut depths: BTreeMap<usize, Vec<&Span>> = BTreeMap::new();
    for step in steps {
        depths.entry(step.depth).or_default().push(step);
    }
    let summary = |(depth, steps): (usize, Vec<&Span>)| {
        let times: Vec<u64> = steps.iter().filter_map(|step| step.duration_ms).collect();
        let total_ms = times.iter().fold(0, |sum: u64, time| sum.saturating_add(*time));
        DepthSummary {
            depth,
            count: steps.len(),
            failures: steps.iter().filter(|step| step.went == Went::Badly).count(),
            total_ms,
            avg_ms: total_ms.checked_div(times.len() as u64),
            min_ms: times.iter().min().copied(),
            max_ms: times.iter().max().copied(),
        }
    };
    depths.into_iter().map(summary).collect()
}

/// Of the steps that ended well or badly, how many ended well.
#[expect(clippy::cast_precision_loss, reason = "steps are not that many")]
fn share<'a>(steps: impl Iterator<Item = &'a Span>) -> Option<f64> {
    let (mut well, mut badly) = (0_usize, 0_usize);
    for step in steps {
        match step.went {
            Went::Well => well += 1,
            Went::Badly => badly += 1,
            Went::Open | Went::Aside => (),
        }
    }
    (well + badly > 0).then(|| well as f64 / (well + badly) as f64)
}

fn findings(spans: &[Span], depths: &[DepthSummary], deepest: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    let slow = |span: &Span| span.duration_ms.is_some_and(|took| took > SLOW_MS);
    for (place, span) in spans.iter().enumerate().filter(|(_, span)| slow(span)) {
        let inside = spans[place + 1..].iter().take_while(|other| other.level > span.level);
        if !inside.clone().any(slow) {
            let took = span.duration_ms.unwrap_or_default();
            let of = match (&span.step_path, span.kind) {
                (Some(path), SpanKind::Attempt | SpanKind::LlmCall | SpanKind::Call) => {
                    format!("{path}, {}", span.name)
                }
                (Some(path), SpanKind::Run | SpanKind::Step) => path.clone(),
                (None, _) => "the run".to_owned(),
            };
            findings.push(Finding {
                kind: FindingKind::SlowSpan,
                span_id: Some(span.span_id.clone()),
                message: format!("{of} takes {took} ms, more than {SLOW_MS}"),
            });
        }
    }
    for DepthSummary { depth, .. } in depths {
        let steps = spans.iter().filter(|it| it.kind == SpanKind::Step && it.depth == *depth);
        if let Some(share) = share(steps).filter(|share| *share < SUCCESS_NOTED) {
            let said = percent(share);
            let message =
                format!("{said} of the steps at depth {depth} ended well, less than 90 %");
            findings.push(Finding { kind: FindingKind::LowSuccess, span_id: None, message });
        }
    }
    let deep = spans.iter().find(|span| span.kind == SpanKind::Step && span.depth == deepest);
    if let Some(span) = deep.filter(|span| span.depth > DEEP) {
        let path = span.step_path.as_deref().unwrap_or_default();
        findings.push(Finding {
            kind: FindingKind::Deep,
            span_id: Some(span.span_id.clone()),
            message: format!("{path} stands in {deepest} scopes, more than {DEEP}"),
        });
    }
    findings
}

/// Memory has no steps in the specification: 100, 500 and 1000 MB are those of its efficiency, its
/// threshold and its bottleneck.
#[expect(clippy::cast_precision_loss, reason = "for people; exact below 2^53")]
fn grade(success: Option<f64>, took_ms: u64, deepest: usize, memory_bytes: u64) -> Grade {
    let duration = match took_ms {
        0..1_000 => 4.0,
        1_000..5_000 => 3.0,
        5_000..30_000 => 2.0,
        30_000.. => 1.0,
    };
    let depth = match deepest {
        0..=2 => 4.0,
        3..=5 => 3.0,
        6..=8 => 2.0,
        9.. => 1.0,
    };
    let mib = memory_bytes as f64 / MIB;
    let memory = if mib < 100.0 {
        4.0
    } else if mib < 500.0 {
        3.0
    } else if mib < 1_000.0 {
        2.0
    } else {
        1.0
    };
    let success = success.map(|share| Component { of: share, grade: share * 4.0 });
    let parts = success.map(|part| part.grade).into_iter().chain([duration, depth, memory]);
    let (count, sum) = parts.fold((0.0, 0.0), |(count, sum), part| (count + 1.0, sum + part));
    let mean = sum / count;
    let word = if mean >= 3.5 {
        Word::Excellent
    } else if mean >= 2.5 {
        Word::Good
    } else if mean >= 1.5 {
        Word::Fair
    } else {
        Word::Poor
    };
    Grade {
        mean,
        word,
        success,
        duration: Component { of: took_ms as f64, grade: duration },
        depth: Component { of: deepest as f64, grade: depth },
        memory: Component { of: memory_bytes as f64, grade: memory },
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_the_grade_has_its_steps() {
        let parts = |took, depth, bytes| {
            let grade = grade(None, took, depth, bytes);
            assert_eq!(grade.success, None);
            [grade.duration.grade, grade.depth.grade, grade.memory.grade]
        };
        for (took, grade) in [
            (0, 4.0),
            (999, 4.0),
            (1_000, 3.0),
            (4_999, 3.0),
            (5_000, 2.0),
            (29_999, 2.0),
            (30_000, 1.0),
            (u64::MAX, 1.0),
        ] {
            assert_eq!(parts(took, 0, 0), [grade, 4.0, 4.0], "{took}");
        }
        for (depth, grade) in
            [(0, 4.0), (2, 4.0), (3, 3.0), (5, 3.0), (6, 2.0), (8, 2.0), (9, 1.0), (99, 1.0)]
        {
            assert_eq!(parts(0, depth, 0), [4.0, grade, 4.0], "{depth}");
        }
        let mib = 1_048_576;
        for (bytes, grade) in [
            (0, 4.0),
            (100 * mib - 1, 4.0),
            (100 * mib, 3.0),
            (500 * mib - 1, 3.0),
            (500 * mib, 2.0),
            (1_000 * mib - 1, 2.0),
            (1_000 * mib, 1.0),
        ] {
            assert_eq!(parts(0, 0, bytes), [4.0, 4.0, grade], "{bytes}");
        }
    }

    #[test]
    fn the_word_is_that_of_the_mean() {
        // Duration, depth and memory, and the share that makes the mean.
        for (share, took, depth, bytes, mean, word) in [
            (1.0, 0, 0, 0, 4.0, Word::Excellent),
            (0.5, 0, 0, 0, 3.5, Word::Excellent),
            (0.49, 0, 0, 0, 3.49, Word::Good),
            (0.0, 5_000, 0, 0, 2.5, Word::Good),
            (0.0, 30_000, 0, 0, 2.25, Word::Fair),
            (0.0, 30_000, 9, 0, 1.5, Word::Fair),
            (0.0, 30_000, 9, u64::MAX, 0.75, Word::Poor),
        ] {
            let grade = grade(Some(share), took, depth, bytes);
            assert!((grade.mean - mean).abs() < 1e-9, "{grade:?}");
            assert_eq!(grade.word, word, "{grade:?}");
        }
        // What is unknown is no nought: the mean is of the rest.
        assert_eq!(grade(None, 0, 0, 0).mean, 4.0);
    }
}
