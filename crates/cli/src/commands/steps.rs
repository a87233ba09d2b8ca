//! The jobs of a run as people think of them: steps, those of a child under the step that runs it, and those of a
//! handler under the step that failed.

use std::collections::HashMap;

use perennial::records::{JobRecord, JobState, RunView};
use serde_json::Value;

/// One step of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) job: &'a JobRecord,
    /// The job that closed its handler, which says what became of it.
    closing: Option<&'a JobRecord>,
    /// Whether it runs a child.
    pub(super) has_child: bool,
    /// Whether its child is still gone through: the job is then the one that began it.
    pub(super) is_open: bool,
    /// Whether its handler is still gone through.
    pub(super) is_handled_now: bool,
}

/// The steps of a run, each before the steps of its child.
pub(super) fn rows(view: &RunView) -> Vec<Row<'_>> {
    let jobs = &view.jobs;
    let places = jobs.iter().enumerate().map(|(place, job)| (job.key.as_str(), place));
    let places: HashMap<&str, usize> = places.collect();
    let mut rows: Vec<(usize, Row<'_>)> = Vec::with_capacity(jobs.len());
    let find = |key: &str| places.get(key).copied();
    for (place, job) in jobs.iter().enumerate() {
        if job.key != job.key.without_handler() {
            continue;
        }
        if let Some(key) = job.key.as_str().strip_prefix('#') {
            if first_round(key) == key && !places.contains_key(key) {
                let row = Row {
                    job,
                    closing: None,
                    has_child: true,
                    is_open: true,
                    is_handled_now: false,
                };
                rows.push((place, row));
            }
            continue;
        }
        let begun = find(&format!("#{}", job.key));
        let handler = job.key.handler();
        let closing = find(handler.as_str()).map(|place| &jobs[place]);
        let is_handled_now = closing.is_none_or(|job| !job.state.is_terminal())
            && find(&format!("#{handler}")).is_some();
        let has_child = begun.is_some();
        let row = Row { job, closing, has_child, is_open: false, is_handled_now };
        rows.push((begun.unwrap_or(place), row));
    }
    rows.sort_by_key(|(place, _)| *place);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// The key without the round of its last step.
fn first_round(key: &str) -> &str {
    let last = key.rfind('/').map_or(0, |slash| slash + 1);
    key[last..].find('#').map_or(key, |round| &key[..last + round])
}

impl<'a> Row<'a> {
    /// The step's name, further in the deeper it stands.
    pub(super) fn label(&self) -> String {
        let key = &self.job.key;
        let again = key.as_str().trim_start_matches('#').contains('#');
        let again = if again { " (again)" } else { "" };
        let around = key.as_str().rsplit_once('/').map_or("", |(around, _)| around);
        let handles = if around.ends_with("[error]") { " (on error)" } else { "" };
        format!("{:indent$}{}{again}{handles}", "", key.step_name(), indent = 2 * key.depth())
    }

    /// The step's path, as the other commands take it.
    pub(super) fn path(&self) -> String {
        let key = self.job.key.as_str().trim_start_matches('#');
        let path = if self.is_open { first_round(key) } else { key };
        if path.contains('#') { format!("{path} (again)") } else { path.to_owned() }
    }

    /// Where the step is.
    pub(super) fn state(&self) -> JobState {
        if self.is_open || self.is_handled_now {
            return JobState::Leased;
        }
        self.closing.unwrap_or(self.job).state
    }

    /// What became of it, when that is known.
    pub(super) fn result(&self) -> Option<&'a Value> {
        let ended = self.closing.unwrap_or(self.job);
        ended.result.as_ref().filter(|_| !self.is_open && !self.is_handled_now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_round_is_that_of_the_last_step() {
        for (key, first) in [("n", "n"), ("n#2", "n"), ("n#2/m", "n#2/m"), ("n#2/m#3", "n#2/m")] {
            assert_eq!(first_round(key), first);
        }
    }
}
