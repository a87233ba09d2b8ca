//! The jobs of a run as people think of them: steps, those of a child under the step that runs it.

use std::collections::HashMap;

use perennial::records::{JobRecord, JobState, RunView};

/// One step of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) job: &'a JobRecord,
    /// Whether it runs a child.
    pub(super) has_child: bool,
    /// Whether its child is still gone through: the job is then the one that began it.
    pub(super) is_open: bool,
}

/// The steps of a run, each before the steps of its child.
pub(super) fn rows(view: &RunView) -> Vec<Row<'_>> {
    let jobs = &view.jobs;
    let places = jobs.iter().enumerate().map(|(place, job)| (job.key.as_str(), place));
    let places: HashMap<&str, usize> = places.collect();
    let mut rows: Vec<(usize, Row<'_>)> = Vec::with_capacity(jobs.len());
    for (place, job) in jobs.iter().enumerate() {
        if let Some(key) = job.key.as_str().strip_prefix('#') {
            if first_round(key) == key && !places.contains_key(key) {
                rows.push((place, Row { job, has_child: true, is_open: true }));
            }
            continue;
        }
        let begun = places.get(format!("#{}", job.key).as_str()).copied();
        let row = Row { job, has_child: begun.is_some(), is_open: false };
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

impl Row<'_> {
    /// The step's name, further in the deeper it stands.
    pub(super) fn label(&self) -> String {
        let key = &self.job.key;
        let again = key.as_str().trim_start_matches('#').contains('#');
        let again = if again { " (again)" } else { "" };
        format!("{:indent$}{}{again}", "", key.step_name(), indent = 2 * key.depth())
    }

    /// The step's path, as the other commands take it.
    pub(super) fn path(&self) -> String {
        let key = self.job.key.as_str().trim_start_matches('#');
        let path = if self.is_open { first_round(key) } else { key };
        if path.contains('#') { format!("{path} (again)") } else { path.to_owned() }
    }

    /// Where the step is.
    pub(super) fn state(&self) -> String {
        let state = if self.is_open { JobState::Leased } else { self.job.state };
        state.to_string()
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
