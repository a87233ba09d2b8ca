//! Exports of a run: JSON files for people and other tools (4.6). Resume never reads them.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use perennial_core::{
    Digest, Timestamp,
    failure::Failure,
    run::{JobKey, JobState},
};
use perennial_engine::{
    DoneJob,
    observer::{News, Observer},
    workflow::BoxFuture,
};
use perennial_tools::files::{Base, FileError};
use serde_json::{Map, Value, json};

use super::{PipelineRun, tree::index};
use crate::definition::{Exports, Step};

/// Version of the format.
const VERSION: &str = "1.1";

/// What was seen of a run so far.
#[derive(Debug)]
pub(super) struct Exporter {
    run: Arc<PipelineRun>,
    exports: Exports,
    started: HashMap<JobKey, Timestamp>,
    done: Vec<DoneJob>,
    /// Newest first.
    log: VecDeque<Value>,
    /// The steps of the document that have ended.
    ended: u32,
    /// An export that is due and not written yet: its number and its moment.
    due: Option<(u64, Timestamp, &'static str)>,
}

impl Exporter {
    pub(super) fn new(run: Arc<PipelineRun>, exports: Exports) -> Self {
        Self {
            run,
            exports,
            started: HashMap::new(),
            done: Vec::new(),
            log: VecDeque::new(),
            ended: 0,
            due: None,
        }
    }

    /// Takes in one event; pure.
    fn take(&mut self, news: &News) {
        if let (Some(job), "attempt_started") = (&news.job, news.kind.as_str()) {
            self.started.entry(job.clone()).or_insert(news.at);
        }
        // What is made again in a further round has no result until then.
        if let Some(job) = news.job.as_ref().filter(|_| news.kind == "job_reopened") {
            self.done.retain(|done| done.key != *job);
        }
        if let (Some(job), Some((state, result))) = (&news.job, &news.ended) {
            self.done.push(DoneJob { key: job.clone(), state: *state, result: result.clone() });
            // A failure that is handled has ended with its handler.
            let own = job.without_handler();
            let is_step = own == *job || job.closes_handler();
            let found = self.run.pipeline.step(&own).filter(|_| is_step);
            let handled = |step: &Step| own == *job && is_to_be_handled(step, *state);
            if let Some((_, step)) = found.filter(|(_, step)| !handled(step)) {
                let took =
                    self.started.get(&own).map_or(0, |start| news.at.since(*start).as_millis());
                let mut entry = json!({
                    "step": step.name,
                    "type": step.type_name,
                    "status": status_of(*state),
                    "duration_ms": u64::try_from(took).unwrap_or(u64::MAX),
                    "timestamp": news.at.to_rfc3339(),
                });
                if let Some(error) = result.get("error").filter(|_| *state != JobState::Succeeded) {
                    entry["error"] = error.clone();
                }
                self.log.push_front(entry);
                self.ended += 1;
                if self.ended.is_multiple_of(self.exports.interval) {
                    self.due = Some((news.seq, news.at, "running"));
                }
            }
        }
        if let Some(state) = news.closed {
            self.due = Some((news.seq, news.at, state.status()));
        }
    }

    /// The export of what was seen so far.
    fn content(&self, news: &News, at: Timestamp, status: &str) -> Value {
        let steps = &self.run.pipeline.model.steps;
        let (root, done) = (self.run.root(), index(&self.done));
        let found = |step: &Step| root.find(step, &done);
        let place = steps.iter().position(|step| found(step).is_none());
        let place = place.unwrap_or(steps.len());
        let results: Map<String, Value> = steps
            .iter()
            .filter_map(|step| Some((step.name.clone(), found(step)?.result.clone())))
            .collect();
        let content = json!({
            "workflow_name": self.run.pipeline.name(),
            "run_id": news.run,
            "definition_hash": self.run.pipeline.definition().digest,
            "status": status,
            "step_index": place,
            "results": results,
            "execution_log": self.log,
            "timestamp": at.to_rfc3339(),
            "variable_state": {
                "global": self.run.variables(news, &self.done),
                "session": {},
                "loop": {},
                "current_step": steps.get(place).map(|step| &step.name),
                "step_index": place,
            },
            "version": VERSION,
        });
        // Records are harmless already; the variables that the document gives may not be.
        match &self.run.secrets {
            Some(secrets) => secrets.redacted(content),
            None => content,
        }
    }

    async fn export(&mut self, news: &News) -> Result<(), Failure> {
        // What is behind the next event is only one of many: the newest of them is enough.
        let Some((seq, at, status)) = self.due.filter(|_| !news.more) else { return Ok(()) };
        self.due = None;
        let mut text =
            serde_json::to_vec_pretty(&self.content(news, at, status)).map_err(|error| {
                FileError::Io { action: "write", path: "export".into(), source: error.into() }
                    .failure()
            })?;
        text.push(b'\n');
        let workflow = file_name(self.run.pipeline.name());
        let stamp: String = at.to_compact().chars().filter(char::is_ascii_digit).collect();
        let keep = self.exports.keep_last;
        let files = self.run.files().await?;
        let written = files.perform(move |access| {
            let base = Base::Checkpoints;
            access.write_atomic(&base, &format!("{workflow}_{stamp}_{seq}.json"), &text)?;
            access.write_atomic(&base, &format!("{workflow}_latest.json"), &text)?;
            let Some(keep) = keep else { return Ok(()) };
            let found = access.list(&base, ".", false, false)?;
            let mut old: Vec<(Age, String)> = found
                .into_iter()
                .filter_map(|found| Some((age(&found.name, &workflow)?, found.name)))
                .collect();
            old.sort();
            let many = old.len().saturating_sub(keep as usize);
            for (_, name) in old.drain(..many) {
                match access.remove(&base, &name, false) {
                    Ok(_) => (),
                    // Another run of the workflow was quicker.
                    Err(error) if error.is_not_found() => (),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        written.await.map_err(|error| error.failure())
    }
}

impl Observer for Exporter {
    fn see<'a>(&'a mut self, news: &'a News) -> BoxFuture<'a, Result<(), Failure>> {
        self.take(news);
        Box::pin(self.export(news))
    }
}

/// Whether the handler of `step` follows on this end of its own job.
fn is_to_be_handled(step: &Step, state: JobState) -> bool {
    step.handler.is_some() && state == JobState::Partial
}

fn status_of(state: JobState) -> &'static str {
    match state {
        JobState::Succeeded => "completed",
        JobState::Skipped => "skipped",
        JobState::Partial | JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
        JobState::Blocked
        | JobState::Ready
        | JobState::Leased
        | JobState::Deferred
        | JobState::Suspended
        | JobState::Joining => "running",
    }
}

/// When an export was made, and which of that second it is.
type Age = (String, u64);

/// The age of a file that is an export of `workflow` with a time stamp.
fn age(name: &str, workflow: &str) -> Option<Age> {
    let rest = name.strip_prefix(workflow)?.strip_prefix('_')?.strip_suffix(".json")?;
    let (stamp, seq) = rest.split_once('_')?;
    let digits = stamp.len() == 14 && stamp.bytes().all(|byte| byte.is_ascii_digit());
    digits.then_some(())?;
    Some((stamp.to_owned(), seq.parse().ok()?))
}

/// A name as a part of a file's; one with other characters is told apart by its digest.
fn file_name(name: &str) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.chars().all(|c| fits(&c)) {
        return name.to_owned();
    }
    let plain: String = name.chars().map(|c| if fits(&c) { c } else { '_' }).collect();
    format!("{plain}_{}", &Digest::of(name.as_bytes()).short()[..8])
}

impl PipelineRun {
    /// The global variables when these jobs are done.
    fn variables(&self, news: &News, done: &[DoneJob]) -> Value {
        super::scope::variables(self, &news.run, news.run_started_at, done)
    }
}

/// What was seen of a run, without an engine.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yr_60_names_of_files_and_their_age() {
        assert_eq!(file_name("review-2.x_y"), "review-2.x_y");
        let odd = file_name("a b/ü");
        assert!(odd.starts_with("a_b___") && odd.len() == "a_b___".len() + 8, "{odd}");
        assert_ne!(odd, file_name("a b/ö"));
        for (name, expected) in [
            ("w_20261121093000_7.json", Some(7)),
            ("w_latest.json", None),
            ("w_x_20261121093000_7.json", None),
            ("w_20261121_7.json", None),
            ("w_20261121093000_7.json.tmp", None),
        ] {
            assert_eq!(age(name, "w").map(|(_, seq)| seq), expected, "{name}");
        }
        let order = |name| age(name, "w").unwrap();
        assert!(order("w_20261121093000_9.json") < order("w_20261121093000_10.json"));
    }
}
