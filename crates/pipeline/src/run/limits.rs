//! Limits of a run and of nested pipelines: checked before an attempt, while it runs, and for what it
//! leaves (6.6). A scope is bound by its own limits and by those of every scope around it.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use perennial_core::{
    FailureClass, Timestamp,
    failure::Failure,
    run::{JobKey, JobState, StepPath},
};
use perennial_engine::{AttemptCx, DoneJob, Outcome, Warnings};
use serde_json::Value;

use super::{
    places::Places,
    record::Inside,
    tree::{Done, Frame},
};
use crate::{
    definition::{Step, StepKind},
    deployment::{Deployed, Limit},
};

/// Bytes of one MB.
const MB: f64 = 1_048_576.0;
/// How deep a pipeline may ever stand. Each level is up to two levels of JSON in the record of the one around it, and a
/// store reads at most 128 of them.
pub(crate) const DEPTH_MAX: u64 = 32;
/// The share of a limit from which on it is warned of.
pub(super) const WARNED: f64 = 0.8;

/// The limits of the open scopes, at one attempt.
#[derive(Debug)]
pub(super) struct Limits<'f, 'a> {
    frames: &'f [Frame<'a>],
    done: &'f Done<'a>,
    began: Timestamp,
    now: Timestamp,
    warnings: &'f Warnings,
    /// Bytes of the results of the run itself, when they are known.
    results: Option<u64>,
}

/// The bytes of what is done of a run without scopes. What is done only grows, so each result is measured once.
#[derive(Debug, Default)]
pub(super) struct Measured(Mutex<Results>);

#[derive(Debug, Default)]
struct Results {
    last: Option<JobKey>,
    count: usize,
    bytes: u64,
}

impl Measured {
    pub(super) fn bytes(&self, done: &[DoneJob]) -> u64 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = known.count.checked_sub(1).and_then(|last| done.get(last));
        if last.map(|job| &job.key) != known.last.as_ref() {
            *known = Results::default();
        }
        known.bytes += done[known.count..].iter().map(|job| size(&job.result)).sum::<u64>();
        known.count = done.len();
        known.last = done.last().map(|job| job.key.clone());
        known.bytes
    }
}

/// A scope whose time is up at an instant.
struct Deadline {
    /// The number of the scope.
    scope: usize,
    within: Duration,
    /// From when on it is warned of.
    warned: Duration,
    elapsed: Duration,
}

impl Deadline {
    fn left(&self) -> Duration {
        self.within.saturating_sub(self.elapsed)
    }

    /// Makes the attempt, and sees whether it goes on when it is time to warn.
    async fn watching<T>(&self, attempt: impl Future<Output = T>, crossed: &mut bool) -> T {
        let mut attempt = pin!(attempt);
        let left = self.warned.saturating_sub(self.elapsed);
        if left.is_zero() {
            return attempt.await;
        }
        match tokio::time::timeout(left, attempt.as_mut()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                *crossed = true;
                attempt.await
            }
        }
    }
}

impl<'f, 'a> Limits<'f, 'a> {
    pub(super) fn new(frames: &'f [Frame<'a>], done: &'f Done<'a>, cx: &'f AttemptCx) -> Self {
        let (began, now, warnings) = (cx.run_started_at, cx.now, &*cx.warnings);
        Self { frames, done, began, now, warnings, results: None }
    }

    /// The same, of a run whose results have so many bytes.
    pub(super) fn with_results(self, bytes: u64) -> Self {
        Self { results: Some(bytes), ..self }
    }

    /// Makes an attempt within the limits: it is dropped when the time of a scope is up.
    ///
    /// # Errors
    ///
    /// A limit, or what the attempt answers.
    pub(super) async fn within(
        &self,
        attempt: impl Future<Output = Result<Outcome, Failure>>,
    ) -> Result<Outcome, Failure> {
        let deadline = self.deadline();
        if let Some(deadline) = deadline.as_ref().filter(|deadline| deadline.left().is_zero()) {
            return Err(self.out_of_time(deadline, deadline.elapsed));
        }
        self.admit_job()?;
        self.admit(None)?;
        let outcome = match deadline {
            None => attempt.await?,
            Some(deadline) => {
                let mut crossed = false;
                let watched = deadline.watching(attempt, &mut crossed);
                let Ok(outcome) = tokio::time::timeout(deadline.left(), watched).await else {
                    return Err(self.out_of_time(&deadline, deadline.within));
                };
                // Told when the record is made, in which nothing of time has a place.
                if crossed {
                    self.warn(&format!(
                        "more than {:.1}s of {:.1}s are used",
                        deadline.warned.as_secs_f64(),
                        deadline.within.as_secs_f64()
                    ));
                }
                outcome?
            }
        };
        let (Outcome::Succeeded(record) | Outcome::Skipped { record, .. }) = &outcome else {
            return Ok(outcome);
        };
        self.admit(Some(record))?;
        Ok(outcome)
    }

    /// The limits of the run.
    fn of_run(&self) -> Option<&'a Deployed> {
        self.frames.first().map(|frame| &frame.model.deployed)
    }

    /// Whether the run may have one more job.
    fn admit_job(&self) -> Result<(), Failure> {
        let limit = self.of_run().and_then(|run| run.limit(Limit::MaxStepExecutions));
        let total = self.done.jobs().len() as u64 + 1;
        match limit.filter(|most| total > *most) {
            None => Ok(()),
            Some(most) => Err(self.stop_run(
                "PL803",
                &format!("Maximum step executions ({most}) exceeded: current total is {total}"),
            )),
        }
    }

    /// Whether the run may do what `step` does, when that is a file operation.
    ///
    /// # Errors
    ///
    /// The limit that is passed.
    pub(super) fn admit_step(&self, step: &Step) -> Result<(), Failure> {
        let StepKind::FileOps(_) = step.kind else { return Ok(()) };
        let limit = self.of_run().and_then(|run| run.limit(Limit::MaxFileOperations));
        let (Some(most), Some(root)) = (limit, self.frames.first()) else { return Ok(()) };
        let total = file_operations(root, self.done) + 1;
        if total <= most {
            return Ok(());
        }
        let error = format!("Maximum file operations ({most}) exceeded: current total is {total}");
        Err(self.stop_run("PL811", &error))
    }

    /// The deadline that comes first.
    fn deadline(&self) -> Option<Deadline> {
        let deadlines = self.frames.iter().enumerate().filter_map(|(scope, frame)| {
            let opened = frame.opened.as_ref()?;
            let within = Duration::from_millis(opened.nested.within_ms);
            let warned = opened.nested.timeout_warning_ms.map(Duration::from_millis);
            let warned = warned.unwrap_or_else(|| within.mul_f64(WARNED));
            Some(Deadline { scope, within, warned, elapsed: self.now.since(opened.at) })
        });
        deadlines.min_by_key(Deadline::left)
    }

    fn out_of_time(&self, deadline: &Deadline, elapsed: Duration) -> Failure {
        let error = format!(
            "Execution timeout exceeded: {:.1}s > {:.1}s",
            elapsed.as_secs_f64(),
            deadline.within.as_secs_f64()
        );
        self.stop("PL807", &error, deadline.scope, elapsed)
    }

    /// Whether the scopes have room for `record`.
    ///
    /// # Errors
    ///
    /// The limit that is passed.
    pub(super) fn admit(&self, record: Option<&Value>) -> Result<(), Failure> {
        let added = record.map_or(0, size);
        let mut bytes = added;
        for (scope, frame) in self.frames.iter().enumerate().rev() {
            // Variables are set by steps, so their values stand in the results.
            bytes += self.results.filter(|_| scope == 0).unwrap_or_else(|| {
                let results = frame.steps.iter().filter_map(|step| frame.find(step, self.done));
                results.map(|job| size(&job.result)).sum()
            });
            let (most, warned) = match &frame.opened {
                Some(opened) => {
                    bytes += size(opened.record);
                    let most = f64::from(opened.nested.memory_limit_mb);
                    (most, opened.nested.memory_warning_mb.map_or(most * WARNED, f64::from))
                }
                None => {
                    let limit = frame.model.deployed.limit(Limit::MemoryLimitMb);
                    let most = limit.and_then(|limit| u32::try_from(limit).ok());
                    let most = most.map_or(f64::MAX, f64::from);
                    (most, most * WARNED)
                }
            };
            let (used, before) = (megabytes(bytes), megabytes(bytes - added));
            if used > warned && before <= warned && used <= most {
                self.warn(&format!("{used:.1} MB of {most:.1} MB are used"));
            }
            if used > most {
                let error = format!("Memory limit exceeded: {used:.1} MB > {most:.1} MB");
                return Err(match &frame.opened {
                    Some(opened) => self.stop("PL806", &error, scope, self.now.since(opened.at)),
                    None => self.stop_run("PL806", &error),
                });
            }
        }
        Ok(())
    }

    /// A limit of the run: nothing in it goes on.
    fn stop_run(&self, code: &str, error: &str) -> Failure {
        let names = pipelines(self.frames);
        let mut failure = if names.len() > 1 {
            let took = self.now.since(self.began);
            violation(code, (error, None), &names, self.total_steps(), took)
        } else {
            Failure::new(FailureClass::Limit, code, error)
        };
        let owner = Some(StepPath::root().as_str().to_owned());
        failure.detail = Inside { limit_of: owner, ..Inside::default() }.detail();
        failure
    }

    /// Says that the run, or the child, comes near to a limit.
    fn warn(&self, text: &str) {
        if self.frames.len() < 2 {
            return self.warnings.push(text);
        }
        let name = self.frames.last().map_or("", |frame| frame.model.name.as_str());
        self.warnings.push(&format!("nested pipeline '{name}': {text}"));
    }

    fn stop(&self, code: &str, error: &str, scope: usize, elapsed: Duration) -> Failure {
        let frames = &self.frames[..=scope];
        let names = pipelines(frames);
        let total = self.total_steps();
        let mut failure = violation(code, (error, None), &names, total, elapsed);
        let owner = frames.last().map(|frame| frame.place().as_str().to_owned());
        failure.detail = Inside { limit_of: owner, ..Inside::default() }.detail();
        failure
    }

    /// Steps of all nested pipelines that were opened so far.
    pub(super) fn total_steps(&self) -> u64 {
        let openings = self.done.jobs().iter().filter(|job| job.key.is_opening());
        openings.filter_map(|job| job.result["total_steps"].as_u64()).max().unwrap_or(0)
    }
}

/// Names of the pipelines among the scopes, the run's first.
pub(super) fn pipelines<'a>(frames: &[Frame<'a>]) -> Vec<&'a str> {
    let pipelines = frames.iter().filter(|frame| frame.around.is_none());
    pipelines.map(|frame| frame.model.name.as_str()).collect()
}

/// What a passed limit reads like (YM-21), with `advice` which limit it is and what helps; `names` from the run to
/// the child. The run itself is told in the chain and is no level of the depth.
pub(super) fn violation(
    code: &str,
    (error, advice): (&str, Option<&str>),
    names: &[&str],
    total_steps: u64,
    elapsed: Duration,
) -> Failure {
    let chain: Vec<&str> = names.iter().rev().copied().collect();
    let mut text = format!(
        "Safety violation in nested pipeline execution:\nPipeline: {}\nError: {error}\n\
         Execution Chain: {} (the run)\nNesting Depth: {}\nTotal Steps: {total_steps}\n\
         Elapsed Time: {:.1}s",
        chain.first().unwrap_or(&""),
        chain.join(" → "),
        names.len().saturating_sub(1),
        elapsed.as_secs_f64()
    );
    if let Some(advice) = advice {
        text.push_str(&format!("\nLimit: {advice}"));
    }
    Failure::new(FailureClass::Limit, code, text)
}

/// How many `file_ops` steps of the run were executed, those of children and of handlers included. One that
/// could have become one, and failed without saying what it was, counts.
fn file_operations<'a>(root: &Frame<'a>, done: &Done<'a>) -> u64 {
    let recorded = done.jobs().iter().map(|job| (&job.key, Some(&job.result)));
    let places = Places::of(&[root.model], root.children, recorded);
    let counts =
        |state| matches!(state, JobState::Succeeded | JobState::Failed | JobState::Partial);
    let ended = done.jobs().iter().filter(|job| counts(job.state) && !job.key.is_opening());
    let operated = ended.filter(|job| {
        let step = root.step_of(places.whole(&job.key), done);
        let is = |kind: &StepKind| matches!(kind, StepKind::FileOps(_));
        step.filter(|step| step.kind.possible().into_iter().any(is)).is_some_and(|step| match step
            .kind
            .ran_as(&job.result)
        {
            Some(kind) => is(kind),
            None => job.state != JobState::Succeeded,
        })
    });
    operated.count() as u64
}

fn megabytes(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with one decimal")]
    let bytes = bytes as f64;
    bytes / MB
}

/// Bytes of the compact JSON of `value`.
fn size(value: &Value) -> u64 {
    struct Count(u64);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // A value is JSON, and the counter takes everything.
    drop(serde_json::to_writer(&mut count, value));
    count.0
}
