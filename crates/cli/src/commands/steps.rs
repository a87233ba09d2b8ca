//! The jobs of a run as people think of them: steps, those of a child under the step that runs it, and those of a
//! handler under the step that failed.

use std::collections::HashMap;

use perennial::{
    engine::workflow::JobKey,
    records::{JobRecord, JobState, RunView},
};
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

/// How many digits of the end of a key that was cut are shown.
const DIGITS: usize = 8;

/// A key for people: of one that was cut, as much as tells it from others.
pub(super) fn shown(key: &JobKey) -> String {
    match key.as_str().rsplit_once('#') {
        Some((path, digest)) if key.is_cut() => {
            format!("{path}…{}", digest.get(..DIGITS).unwrap_or(digest))
        }
        Some(_) | None => key.to_string(),
    }
}

/// The path in a key, without what tells a cut one from others.
fn path_in(key: &JobKey) -> &str {
    let path = key.as_str().trim_start_matches('#');
    if key.is_cut() { path.rsplit_once('#').map_or(path, |(path, _)| path) } else { path }
}

/// Whether the step of `job` stands around that of `inner`, as far as keys that were cut tell.
pub(super) fn is_around(job: &JobKey, inner: &JobKey) -> bool {
    if job.is_cut() {
        return inner.is_cut() && path_in(job) == path_in(inner);
    }
    let (around, inside) = (job.names(), inner.names());
    inside.len() > around.len() && inside.starts_with(&around)
}

impl<'a> Row<'a> {
    /// The step's name, further in the deeper it stands.
    pub(super) fn label(&self) -> String {
        let key = &self.job.key;
        let again = path_in(key).contains('#');
        let rest = if key.is_cut() { "…" } else { "" };
        let again = if again { " (again)" } else { "" };
        let around = key.as_str().rsplit_once('/').map_or("", |(around, _)| around);
        let handles = if around.ends_with("[error]") { " (on error)" } else { "" };
        format!("{:indent$}{}{rest}{again}{handles}", "", key.step_name(), indent = 2 * key.depth())
    }

    /// The step's path, as the other commands take it.
    pub(super) fn path(&self) -> String {
        let key = self.job.key.as_str().trim_start_matches('#');
        if self.job.key.is_cut() {
            return key.to_owned();
        }
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
    fn of_a_key_that_was_cut_the_beginning_is_shown() {
        let plain = JobKey::new("a#2/b");
        assert_eq!((shown(&plain).as_str(), path_in(&plain)), ("a#2/b", "a#2/b"));
        let [one, two] = ["1", "2"].map(|end| JobKey::new("x".repeat(256) + end));
        assert_ne!(shown(&one), shown(&two));
        assert!(shown(&one).starts_with("xxx") && shown(&one).chars().count() < 201);
        assert!(path_in(&one).bytes().all(|byte| byte == b'x'));
    }

    #[test]
    fn the_round_is_that_of_the_last_step() {
        for (key, first) in [("n", "n"), ("n#2", "n"), ("n#2/m", "n#2/m"), ("n#2/m#3", "n#2/m")] {
            assert_eq!(first_round(key), first);
        }
    }
}
