//! Where the jobs of a run are in its list: kept with it, so that no decision looks through all of them.

use std::collections::HashMap;

use perennial_core::run::JobKey;

use super::Job;

#[derive(Debug, Default)]
pub(super) struct Index {
    ids: HashMap<i64, usize>,
    /// Of several with one key the last.
    keys: HashMap<JobKey, usize>,
    /// The jobs of each group, in the order of the list.
    children: HashMap<JobKey, Vec<usize>>,
}

impl Index {
    /// One more job, at the end of the list.
    pub(super) fn add(&mut self, place: usize, job: &Job) {
        self.ids.insert(job.id, place);
        self.keys.insert(job.key.clone(), place);
        if let Some(parent) = &job.parent {
            self.children.entry(parent.clone()).or_default().push(place);
        }
    }

    pub(super) fn by_id(&self, id: i64) -> Option<usize> {
        self.ids.get(&id).copied()
    }

    pub(super) fn by_key(&self, key: &JobKey) -> Option<usize> {
        self.keys.get(key).copied()
    }

    pub(super) fn children(&self, group: &JobKey) -> &[usize] {
        self.children.get(group).map_or(&[], Vec::as_slice)
    }
}
