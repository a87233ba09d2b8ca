//! Runs that somebody here is just starting: they are recorded, and their workflow is on its way.

use std::sync::Arc;

use dashmap::DashMap;
use perennial_core::run::RunId;

/// Runs that are being started by this process; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beginning(Arc<DashMap<RunId, usize>>);

/// Somebody starts a run, until this is dropped.
#[derive(Debug)]
pub(crate) struct Starts {
    of: Beginning,
    run: RunId,
}

impl Beginning {
    pub(crate) fn starts(&self, run: &RunId) -> Starts {
        *self.0.entry(run.clone()).or_default() += 1;
        Starts { of: self.clone(), run: run.clone() }
    }

    /// Whether whoever looks after runs shall leave it to those who start it.
    pub(crate) fn has(&self, run: &RunId) -> bool {
        self.0.contains_key(run)
    }
}

impl Drop for Starts {
    fn drop(&mut self) {
        self.of.0.remove_if_mut(&self.run, |_, count| {
            *count -= 1;
            *count == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_begins_until_the_last_who_starts_it_is_done() {
        let (beginning, run) = (Beginning::default(), RunId::parse("r").unwrap());
        let first = beginning.starts(&run);
        let second = beginning.starts(&run);
        assert!(beginning.has(&run));
        drop(first);
        assert!(beginning.has(&run));
        drop(second);
        assert!(!beginning.has(&run));
    }
}
