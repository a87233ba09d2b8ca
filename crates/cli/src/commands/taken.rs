//! Files of children that a run has read while it was under way: which were taken, and whether they are still what
//! they were.

use std::{collections::BTreeMap, fs, path::Path};

use perennial::{
    engine::workflow::JobKey,
    records::{FILE_BYTES_MAX, ReadFile, ResumePlan, RunView, StepFate},
};
use serde_json::Value;

use super::hint::{Hint, quoted};

/// A file that was taken for the child of a step.
#[derive(Debug)]
pub(super) struct Taken(ReadFile);

impl Taken {
    pub(super) fn file(&self) -> &str {
        self.0.file()
    }

    /// Its path, below the project root of the run where it lies there.
    pub(super) fn brief<'f>(&'f self, settings: &Value) -> &'f str {
        let root = settings["directories"]["project_root"].as_str();
        let below = root.and_then(|root| Path::new(self.file()).strip_prefix(root).ok()?.to_str());
        below.unwrap_or_else(|| self.file())
    }

    /// Whether it is another one now; nothing where that cannot be told.
    pub(super) fn has_changed(&self) -> Option<bool> {
        let path = Path::new(self.file());
        let found = fs::metadata(path).ok()?;
        if !found.is_file() {
            return None;
        }
        if found.len() > FILE_BYTES_MAX as u64 {
            // None so large was read.
            return Some(true);
        }
        self.0.differs(&fs::read(path).ok()?)
    }
}

/// Those of a run, by the paths of their steps.
pub(super) fn taken(view: &RunView) -> BTreeMap<&str, Taken> {
    let openings = view.jobs.iter().filter_map(|job| {
        let path = job.key.as_str().strip_prefix('#')?;
        Some((path, Taken(ReadFile::recorded(job.result.as_ref()?)?)))
    });
    openings.collect()
}

/// The command that reads the file of the child of the step at `path` anew.
pub(super) fn anew(hint: &Hint, run: &str, path: &str) -> String {
    let outermost = path.split(['/', '#']).next().unwrap_or(path);
    let outermost = outermost.trim_end_matches("[error]");
    format!("{} --from {}", hint.resume(run), quoted(outermost))
}

/// Those of the run in `before` whose recorded texts count when it goes on, by `plan` when it has ended.
pub(super) fn kept<'v>(before: &'v RunView, plan: Option<&ResumePlan>) -> Vec<(&'v str, Taken)> {
    let counts = |path: &str| match plan {
        Some(plan) => {
            let is_read_anew = plan.again.get(&JobKey::new(format!("#{path}"))) == Some(&true);
            let step = path.split('/').map(|name| name.split('#').next().unwrap_or_default());
            let step = plan.step(&step.collect::<Vec<_>>().join("/"));
            let runs = step.is_some_and(|step| matches!(step.fate, StepFate::Rerun(_)));
            runs && !is_read_anew
        }
        None => {
            let job = before.jobs.iter().find(|job| job.key.as_str() == path);
            job.is_none_or(|job| !job.state.is_terminal())
        }
    };
    taken(before).into_iter().filter(|(path, _)| counts(path)).collect()
}
