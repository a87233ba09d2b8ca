//! The jobs of a run: their list, where each of them is in it, and what is counted of them. Nothing changes a job but
//! what is here, so that the counts are always those of the list.

use std::{collections::HashMap, ops::Deref};

use super::{
    Job,
    index::Index,
    tally::{Met, Tally},
};
use crate::staged::JoinPolicy;

#[derive(Debug)]
pub(super) struct Jobs {
    list: Vec<Job>,
    index: Index,
    tally: Tally,
}

impl Deref for Jobs {
    type Target = [Job];

    fn deref(&self) -> &[Job] {
        &self.list
    }
}

impl Jobs {
    /// `policies`: when the groups of each name give up the rest of their children.
    pub(super) fn of(list: Vec<Job>, policies: HashMap<String, JoinPolicy>) -> Self {
        let (index, tally) = (Index::default(), Tally::new(policies));
        let mut jobs = Self { list: Vec::with_capacity(list.len()), index, tally };
        for job in list {
            jobs.push(job);
        }
        jobs
    }

    /// One more, at the end of the list.
    pub(super) fn push(&mut self, job: Job) {
        let place = self.list.len();
        self.index.add(place, &job);
        self.list.push(job);
        self.tally.enter(place, &self.list, &self.index);
        let now = Met::of(self.list[place].state);
        self.tally.moved(&self.list[place].key, (Met::Absent, now), &self.list);
    }

    /// What `with` makes of the job of that row.
    pub(super) fn change<T>(&mut self, id: i64, with: impl FnOnce(&mut Job) -> T) -> Option<T> {
        let place = self.index.by_id(id)?;
        let before = Met::of(self.list[place].state);
        self.tally.leave(place, &self.list, &self.index);
        let made = with(&mut self.list[place]);
        self.tally.enter(place, &self.list, &self.index);
        let now = Met::of(self.list[place].state);
        if before != now {
            self.tally.moved(&self.list[place].key, (before, now), &self.list);
        }
        Some(made)
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The counts as they are made of the list alone.
    #[cfg(test)]
    pub(super) fn recount(&self) -> Tally {
        Self::of(self.list.clone(), self.tally.policies().clone()).tally
    }
}

/// Whether decisions look through all jobs instead of those that the counts name: for tests, in which both must come to
/// the same.
pub(super) fn is_thorough() -> bool {
    #[cfg(test)]
    return THOROUGH.get();
    #[cfg(not(test))]
    false
}

#[cfg(test)]
thread_local! {
    pub(super) static THOROUGH: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}
