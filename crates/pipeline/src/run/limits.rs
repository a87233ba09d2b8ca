//! Limits of nested pipelines: checked before an attempt, while it runs, and for what it leaves
//! (6.6). A scope is bound by its own limits and by those of every scope around it.

use std::{future::Future, io, time::Duration};

use perennial_core::{FailureClass, Timestamp, failure::Failure};
use perennial_engine::Outcome;
use serde_json::Value;

use super::{
    record::Inside,
    tree::{Done, Frame},
};

/// Bytes of one MB.
const MB: f64 = 1_048_576.0;

/// The limits of the open scopes, at one attempt.
#[derive(Debug)]
pub(super) struct Limits<'f, 'a> {
    frames: &'f [Frame<'a>],
    done: &'f Done<'a>,
    now: Timestamp,
}

/// A scope whose time is up at an instant.
struct Deadline {
    /// The number of the scope.
    scope: usize,
    within: Duration,
    elapsed: Duration,
}

impl Deadline {
    fn left(&self) -> Duration {
        self.within.saturating_sub(self.elapsed)
    }
}

impl<'f, 'a> Limits<'f, 'a> {
    pub(super) fn new(frames: &'f [Frame<'a>], done: &'f Done<'a>, now: Timestamp) -> Self {
        Self { frames, done, now }
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
        self.admit(None)?;
        let outcome = match deadline {
            None => attempt.await?,
            Some(deadline) => match tokio::time::timeout(deadline.left(), attempt).await {
                Ok(outcome) => outcome?,
                Err(_) => return Err(self.out_of_time(&deadline, deadline.within)),
            },
        };
        let (Outcome::Succeeded(record) | Outcome::Skipped { record, .. }) = &outcome else {
            return Ok(outcome);
        };
        self.admit(Some(record))?;
        Ok(outcome)
    }

    /// The deadline that comes first.
    fn deadline(&self) -> Option<Deadline> {
        let deadlines = self.frames.iter().enumerate().filter_map(|(scope, frame)| {
            let opened = frame.opened.as_ref()?;
            let within = Duration::from_millis(opened.nested.within_ms);
            Some(Deadline { scope, within, elapsed: self.now.since(opened.at) })
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
        let mut bytes = record.map_or(0, size);
        for (scope, frame) in self.frames.iter().enumerate().rev() {
            // Variables are set by steps, so their values stand in the results.
            let results = frame.model.steps.iter().filter_map(|step| frame.find(step, self.done));
            bytes += results.map(|job| size(&job.result)).sum::<u64>();
            let Some(opened) = &frame.opened else { continue };
            bytes += size(opened.record);
            #[expect(clippy::cast_precision_loss, reason = "it is shown with one decimal")]
            let used = bytes as f64 / MB;
            let most = f64::from(opened.nested.memory_limit_mb);
            if used > most {
                let error = format!("Memory limit exceeded: {used:.1} MB > {most:.1} MB");
                return Err(self.stop("PL806", &error, scope, self.now.since(opened.at)));
            }
        }
        Ok(())
    }

    fn stop(&self, code: &str, error: &str, scope: usize, elapsed: Duration) -> Failure {
        let frames = &self.frames[..=scope];
        let names: Vec<&str> = frames.iter().map(|frame| frame.model.name.as_str()).collect();
        let total = self.total_steps();
        let mut failure = violation(code, error, &names, total, elapsed);
        let owner = frames.last().map(|frame| frame.place().as_str().to_owned());
        failure.detail = Inside { limit_of: owner, ..Inside::default() }.detail();
        failure
    }

    /// Steps of all nested pipelines that were opened so far.
    pub(super) fn total_steps(&self) -> u64 {
        let openings = self.done.values().filter(|job| job.key.is_opening());
        openings.filter_map(|job| job.result["total_steps"].as_u64()).max().unwrap_or(0)
    }
}

/// What a passed limit reads like (YM-21); `names` from the run to the child.
pub(super) fn violation(
    code: &str,
    error: &str,
    names: &[&str],
    total_steps: u64,
    elapsed: Duration,
) -> Failure {
    let chain: Vec<&str> = names.iter().rev().copied().collect();
    let text = format!(
        "Safety violation in nested pipeline execution:\nPipeline: {}\nError: {error}\n\
         Execution Chain: {}\nNesting Depth: {}\nTotal Steps: {total_steps}\n\
         Elapsed Time: {:.1}s",
        chain.first().unwrap_or(&""),
        chain.join(" → "),
        names.len().saturating_sub(1),
        elapsed.as_secs_f64()
    );
    Failure::new(FailureClass::Limit, code, text)
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
