//! How many attempts may be under way on this node at a time, and who waits for room.
//!
//! Rooms are given in the order in which runs asked, one at a time; a run that could have more asks again.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use perennial_core::run::RunId;

/// Tells a run that it has been given a room; false when it is not here.
type Wake = dyn Fn(&RunId) -> bool + Send + Sync;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rooms(Arc<Inner>);

struct Inner {
    max: usize,
    table: Mutex<Table>,
    wake: Box<Wake>,
}

#[derive(Debug, Default)]
struct Table {
    /// Those of attempts, and those that are given and not yet taken.
    used: usize,
    /// Each once, in the order in which they asked.
    queue: VecDeque<RunId>,
    given: HashMap<RunId, usize>,
}

/// Room for one attempt; given back when it is dropped.
pub(crate) struct Room(Rooms);

impl Rooms {
    pub(crate) fn new(max: usize, wake: impl Fn(&RunId) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { max, table: Mutex::default(), wake: Box::new(wake) }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At most `wanted`; when that is fewer, the run is woken as soon as there is one more.
    pub(crate) fn take(&self, run: &RunId, wanted: usize) -> Vec<Room> {
        let mut table = self.table();
        let given = table.given.remove(run).unwrap_or(0);
        let mut got = given;
        let is_first = table.queue.iter().all(|other| other == run);
        while is_first && got < wanted && table.used < self.0.max {
            table.used += 1;
            got += 1;
        }
        if got >= wanted {
            table.queue.retain(|other| other != run);
        } else if !table.queue.contains(run) {
            table.queue.push_back(run.clone());
        }
        drop(table);
        let mut rooms: Vec<Room> = (0..got).map(|_| Room(self.clone())).collect();
        // What was given and is not wanted any more goes to the next one.
        rooms.truncate(wanted);
        rooms
    }

    /// At most `wanted`, if nobody waits: for what would otherwise wait its turn.
    pub(crate) fn take_free(&self, wanted: usize) -> Vec<Room> {
        let mut table = self.table();
        let free = if table.queue.is_empty() { self.0.max.saturating_sub(table.used) } else { 0 };
        let got = wanted.min(free);
        table.used += got;
        drop(table);
        (0..got).map(|_| Room(self.clone())).collect()
    }

    /// For an attempt that is under way already.
    pub(crate) fn take_over(&self) -> Room {
        self.table().used += 1;
        Room(self.clone())
    }

    /// The run wants none any more.
    pub(crate) fn leave(&self, run: &RunId) {
        let mut table = self.table();
        table.queue.retain(|other| other != run);
        let given = table.given.remove(run).unwrap_or(0);
        drop(table);
        drop((0..given).map(|_| Room(self.clone())).collect::<Vec<_>>());
    }

    /// Whether the run waits for one.
    pub(crate) fn awaits(&self, run: &RunId) -> bool {
        self.table().queue.contains(run)
    }

    pub(crate) fn has_queue(&self) -> bool {
        !self.table().queue.is_empty()
    }

    /// How many are used, at most how many there are, and how many runs wait.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let table = self.table();
        (table.used, self.0.max, table.queue.len())
    }

    /// One has become free: it is given to whoever waits for longest and is here.
    fn give_back(&self) {
        let mut table = self.table();
        table.used = table.used.saturating_sub(1);
        while table.used < self.0.max
            && let Some(run) = table.queue.pop_front()
        {
            table.used += 1;
            *table.given.entry(run.clone()).or_default() += 1;
            drop(table);
            if (self.0.wake)(&run) {
                return;
            }
            table = self.table();
            let given = table.given.remove(&run).unwrap_or(0);
            table.used = table.used.saturating_sub(given);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rooms").field(&self.counts()).finish()
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str) -> RunId {
        RunId::parse(name).unwrap()
    }

    fn rooms(max: usize) -> (Rooms, Arc<Mutex<Vec<String>>>) {
        let woken = Arc::new(Mutex::new(Vec::new()));
        let told = woken.clone();
        let wake = move |run: &RunId| {
            told.lock().unwrap().push(run.to_string());
            run.as_str() != "away"
        };
        (Rooms::new(max, wake), woken)
    }

    #[test]
    fn rooms_are_given_in_the_order_in_which_runs_asked() {
        let (rooms, woken) = rooms(2);
        let mut held = rooms.take(&run("a"), 3);
        assert_eq!((held.len(), rooms.counts()), (2, (2, 2, 1)));
        for name in ["away", "b", "c", "b"] {
            assert!(rooms.take(&run(name), 1).is_empty());
            assert!(rooms.awaits(&run(name)));
        }
        assert!(rooms.take_free(1).is_empty());
        drop(held.pop());
        assert_eq!(*woken.lock().unwrap(), ["a"], "it wanted a third");
        assert!(rooms.take(&run("c"), 1).is_empty(), "what is given is not free");
        drop(held.pop());
        assert_eq!(
            *woken.lock().unwrap(),
            ["a", "away", "b"],
            "one that is not here is passed over"
        );
        let (a, b) = (rooms.take(&run("a"), 1), rooms.take(&run("b"), 1));
        assert_eq!((a.len(), b.len(), rooms.counts()), (1, 1, (2, 2, 1)));
        rooms.leave(&run("c"));
        drop((a, b));
        assert_eq!(rooms.counts(), (0, 2, 0));
        assert_eq!(rooms.take_free(9).len(), 2);
        assert_eq!(rooms.counts(), (0, 2, 0), "and dropped");
    }

    #[test]
    fn what_is_given_and_not_wanted_goes_to_the_next_one() {
        let (rooms, woken) = rooms(1);
        let held = rooms.take(&run("a"), 1);
        assert!(rooms.take(&run("b"), 1).is_empty() && rooms.take(&run("c"), 1).is_empty());
        drop(held);
        rooms.leave(&run("b"));
        assert_eq!(*woken.lock().unwrap(), ["b", "c"]);
        assert_eq!(rooms.take(&run("c"), 0).len(), 0);
        assert_eq!(rooms.counts(), (0, 1, 0));
        let over = rooms.take_over();
        let more = rooms.take_over();
        assert_eq!(rooms.counts().0, 2, "what is under way is counted, whatever the limit");
        drop((over, more));
    }
}
