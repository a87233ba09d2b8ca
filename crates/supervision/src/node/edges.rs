//! Who waits for whom, as a dump tells it: processes are noted by their identities, and told by their
//! paths.

use std::{collections::HashMap, time::Duration};

use perennial_core::tree::{TreeNode, WaitsFor};

use crate::ProcessRef;

/// The waits of all nodes of a dump. A place is that of a node in it.
#[derive(Default)]
pub(super) struct Waits {
    /// Who runs where.
    lives: Vec<(usize, usize)>,
    /// Which place waits for whom, and for how long.
    waits: Vec<(usize, usize, Duration)>,
}

impl Waits {
    /// `process` runs at `place`.
    pub(super) fn saw(&mut self, place: usize, process: &ProcessRef) {
        self.lives.push((process.identity(), place));
        let waits = process.ended().waits_for();
        self.waits.extend(waits.into_iter().map(|(whom, time)| (place, whom, time)));
    }

    /// Tells each node whom it waits for. Who runs nowhere here has ended meanwhile, or is of another tree.
    pub(super) fn tell(self, nodes: &mut [TreeNode]) {
        if self.waits.is_empty() {
            return;
        }
        let places: HashMap<usize, usize> = self.lives.into_iter().collect();
        for (place, whom, time) in self.waits {
            let Some(callee) = places.get(&whom) else { continue };
            let path = nodes[*callee].path.clone();
            let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            nodes[place].waits_for.push(WaitsFor { path, ms });
        }
    }
}
