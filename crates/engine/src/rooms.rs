//! How many attempts may be under way on this node at a time, and who waits for room.
//!
//! Rooms are given one at a time, to whoever comes first: by priority, which grows while a run waits (DUR-12), and of the same in the
//! order in which runs asked. A run that could have more asks again.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use perennial_core::{
    Timestamp,
    run::{Priority, RunId},
};

/// Tells a run that it has been given a room; false when it is not here.
type Wake = dyn Fn(&RunId) -> bool + Send + Sync;
type Now = dyn Fn() -> Timestamp + Send + Sync;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rooms(Arc<Inner>);

struct Inner {
    max: usize,
    aging: Duration,
    table: Mutex<Table>,
    now: Box<Now>,
    wake: Box<Wake>,
}

#[derive(Debug, Default)]
struct Table {
    /// Those of attempts, and those that are given and not yet taken.
    used: usize,
    /// Each once, in the order in which they asked.
    queue: Vec<Waits>,
    given: HashMap<RunId, usize>,
}

/// A run that waits.
#[derive(Debug)]
struct Waits {
    run: RunId,
    priority: Priority,
    since: Timestamp,
}

/// Room for one attempt; given back when it is dropped.
pub(crate) struct Room(Rooms);

impl Rooms {
    /// `aging`: how long a run waits until it comes before what has one more of priority.
    pub(crate) fn new(
        max: usize,
        aging: Duration,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
        wake: impl Fn(&RunId) -> bool + Send + Sync + 'static,
    ) -> Self {
        let (now, wake) = (Box::new(now), Box::new(wake));
        Self(Arc::new(Inner { max, aging, table: Mutex::default(), now, wake }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At most `wanted`; when that is fewer, the run is woken as soon as there is one more.
    pub(crate) fn take(&self, run: &RunId, wanted: usize, priority: Priority) -> Vec<Room> {
        let now = (self.0.now)();
        let mut table = self.table();
        let given = table.given.remove(run).unwrap_or(0);
        let mut got = given;
        let is_first = table.queue.iter().all(|other| other.run == *run);
        while is_first && got < wanted && table.used < self.0.max {
            table.used += 1;
            got += 1;
        }
        if got >= wanted {
            table.queue.retain(|other| other.run != *run);
        } else if let Some(waits) = table.queue.iter_mut().find(|other| other.run == *run) {
            waits.priority = priority;
        } else {
            table.queue.push(Waits { run: run.clone(), priority, since: now });
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
        table.queue.retain(|other| other.run != *run);
        let given = table.given.remove(run).unwrap_or(0);
        drop(table);
        drop((0..given).map(|_| Room(self.clone())).collect::<Vec<_>>());
    }

    /// Whether the run waits for one.
    pub(crate) fn awaits(&self, run: &RunId) -> bool {
        self.table().queue.iter().any(|other| other.run == *run)
    }

    pub(crate) fn has_queue(&self) -> bool {
        !self.table().queue.is_empty()
    }

    /// How many are used, at most how many there are, and how many runs wait.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let table = self.table();
        (table.used, self.0.max, table.queue.len())
    }

    /// One has become free: it is given to whoever comes first and is here.
    fn give_back(&self) {
        let now = (self.0.now)();
        let mut table = self.table();
        table.used = table.used.saturating_sub(1);
        while table.used < self.0.max
            && let Some(run) = table.next(now, self.0.aging)
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

impl Table {
    /// Takes whoever comes first out of the queue.
    fn next(&mut self, now: Timestamp, aging: Duration) -> Option<RunId> {
        let urgency = |waits: &Waits| waits.priority.aged(now.since(waits.since), aging);
        // Of several the first is the last one here.
        let waiting = self.queue.iter().enumerate().rev();
        let (place, _) = waiting.max_by_key(|(_, waits)| urgency(waits))?;
        Some(self.queue.remove(place).run)
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
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const STEP: Duration = Duration::from_secs(30);

    fn run(name: &str) -> RunId {
        RunId::parse(name).unwrap()
    }

    struct Told {
        woken: Arc<Mutex<Vec<String>>>,
        now: Arc<AtomicI64>,
    }

    impl Told {
        fn woken(&self) -> Vec<String> {
            std::mem::take(&mut self.woken.lock().unwrap())
        }

        fn passes(&self, time: Duration) {
            self.now.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::Relaxed);
        }
    }

    fn rooms(max: usize) -> (Rooms, Told) {
        let told = Told { woken: Arc::default(), now: Arc::default() };
        let (woken, clock) = (told.woken.clone(), told.now.clone());
        let wake = move |run: &RunId| {
            woken.lock().unwrap().push(run.to_string());
            run.as_str() != "away"
        };
        let now = move || Timestamp::from_micros(clock.load(Ordering::Relaxed));
        (Rooms::new(max, STEP, now, wake), told)
    }

    fn take(rooms: &Rooms, name: &str, wanted: usize) -> Vec<Room> {
        rooms.take(&run(name), wanted, Priority::NORMAL)
    }

    #[test]
    fn rooms_are_given_in_the_order_in_which_runs_asked() {
        let (rooms, told) = rooms(2);
        let mut held = take(&rooms, "a", 3);
        assert_eq!((held.len(), rooms.counts()), (2, (2, 2, 1)));
        for name in ["away", "b", "c", "b"] {
            assert!(take(&rooms, name, 1).is_empty());
            assert!(rooms.awaits(&run(name)));
        }
        assert!(rooms.take_free(1).is_empty());
        drop(held.pop());
        assert_eq!(told.woken(), ["a"], "it wanted a third");
        assert!(take(&rooms, "c", 1).is_empty(), "what is given is not free");
        drop(held.pop());
        assert_eq!(told.woken(), ["away", "b"], "one that is not here is passed over");
        let (a, b) = (take(&rooms, "a", 1), take(&rooms, "b", 1));
        assert_eq!((a.len(), b.len(), rooms.counts()), (1, 1, (2, 2, 1)));
        rooms.leave(&run("c"));
        drop((a, b));
        assert_eq!(rooms.counts(), (0, 2, 0));
        assert_eq!(rooms.take_free(9).len(), 2);
        assert_eq!(rooms.counts(), (0, 2, 0), "and dropped");
    }

    #[test]
    fn what_is_given_and_not_wanted_goes_to_the_next_one() {
        let (rooms, told) = rooms(1);
        let held = take(&rooms, "a", 1);
        assert!(take(&rooms, "b", 1).is_empty() && take(&rooms, "c", 1).is_empty());
        drop(held);
        rooms.leave(&run("b"));
        assert_eq!(told.woken(), ["b", "c"]);
        assert_eq!(take(&rooms, "c", 0).len(), 0);
        assert_eq!(rooms.counts(), (0, 1, 0));
        let over = rooms.take_over();
        let more = rooms.take_over();
        assert_eq!(rooms.counts().0, 2, "what is under way is counted, whatever the limit");
        drop((over, more));
    }

    /// Proves INV-ST-21.
    #[test]
    fn what_is_more_urgent_comes_first_unless_others_have_waited_for_long() {
        let (rooms, told) = rooms(1);
        let mut held = take(&rooms, "first", 1);
        let asks = |name: &str, priority| assert!(rooms.take(&run(name), 1, priority).is_empty());
        let next = |held: &mut Vec<Room>| {
            held.clear();
            let [name] = <[String; 1]>::try_from(told.woken()).unwrap();
            held.extend(take(&rooms, &name, 1));
            assert_eq!(held.len(), 1);
            name
        };
        asks("low", Priority::LOW);
        asks("one", Priority::NORMAL);
        asks("two", Priority::NORMAL);
        asks("urgent", Priority::URGENT);
        asks("late", Priority::LOW);
        // Whoever asks again keeps the time that it has waited.
        asks("late", Priority::HIGH);
        let came: Vec<String> = (0..4).map(|_| next(&mut held)).collect();
        assert_eq!(came, ["urgent", "late", "one", "two"]);
        told.passes(STEP * 49);
        asks("new", Priority::NORMAL);
        assert_eq!(next(&mut held), "new", "one step more is missing");
        told.passes(STEP);
        asks("new", Priority::NORMAL);
        assert_eq!(next(&mut held), "low", "it has come to be as urgent, and asked first");
        drop(held);
        assert_eq!(told.woken(), ["new"]);
    }

    /// Proves INV-ST-21.
    /// However many come that are more urgent, the least urgent waits for 100 minutes and not longer.
    #[test]
    fn nobody_waits_for_ever() {
        let (rooms, told) = rooms(1);
        let least = Priority::new(-100).unwrap();
        let mut held = take(&rooms, "first", 1);
        assert!(rooms.take(&run("least"), 1, least).is_empty());
        let most = Priority::new(100).unwrap();
        for round in 0.. {
            assert!(rooms.take(&run(&format!("urgent-{round}")), 1, most).is_empty());
            held.clear();
            let [name] = <[String; 1]>::try_from(told.woken()).unwrap();
            if name == "least" {
                assert_eq!(round, 200);
                break;
            }
            assert_eq!(name, format!("urgent-{round}"));
            held.extend(take(&rooms, &name, 1));
            told.passes(STEP);
        }
        rooms.leave(&run("least"));
    }
}
