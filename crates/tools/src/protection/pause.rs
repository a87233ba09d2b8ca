//! A pause that one caller was told and all keep, apart from any limiter.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use perennial_core::{Uptime, protection::limiter::BackoffWindow};
use perennial_supervision::Clock;

/// Nobody calls until an instant that somebody was told. Cheap to clone; clones are the same pause.
///
/// ```
/// use perennial_supervision::Clock;
/// use perennial_tools::protection::Pause;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = Clock::start();
/// let pause = Pause::new(clock);
/// let end = clock.now() + Duration::from_secs(5);
/// assert!(pause.extend(end));
/// assert_eq!(pause.until(), Some(end));
/// pause.wait(clock.now() + Duration::from_secs(9)).await?;
/// assert_eq!(pause.until(), None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pause {
    clock: Clock,
    window: Arc<Mutex<BackoffWindow>>,
}

/// The pause ends after the deadline. Nobody has waited for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pause ends after the deadline: call again at {:?}", until.elapsed())]
pub struct EndsTooLate {
    /// When it ends.
    pub until: Uptime,
}

impl Pause {
    /// There is none.
    pub fn new(clock: Clock) -> Self {
        Self { clock, window: Arc::default() }
    }

    /// Nobody calls before `until`. Never shortens what was said before; whether it is later than that.
    pub fn extend(&self, until: Uptime) -> bool {
        self.window().extend(until)
    }

    /// When it ends; `None` when there is none now.
    pub fn until(&self) -> Option<Uptime> {
        let now = self.clock.now();
        self.window().closed_until(now)
    }

    /// When the latest one ends, or has ended.
    pub fn latest(&self) -> Option<Uptime> {
        self.window().latest()
    }

    /// Waits until there is none. Who sleeps while it is extended sleeps on.
    ///
    /// # Errors
    ///
    /// When it ends after `deadline`: at once, and after it was extended that far.
    ///
    /// # Cancel safety
    ///
    /// Nothing is taken.
    pub async fn wait(&self, deadline: Uptime) -> Result<(), EndsTooLate> {
        while let Some(until) = self.until() {
            if until > deadline {
                return Err(EndsTooLate { until });
            }
            tokio::time::sleep(until.since(self.clock.now())).await;
        }
        Ok(())
    }

    fn window(&self) -> MutexGuard<'_, BackoffWindow> {
        // Nothing in it is half done when somebody panics elsewhere.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pause").field("until", &self.until()).finish_non_exhaustive()
    }
}

/// One pause for each key. Cheap to clone; clones are the same pauses.
///
/// ```
/// use perennial_supervision::Clock;
/// use perennial_tools::protection::Pauses;
/// use std::time::Duration;
///
/// let clock = Clock::start();
/// let pauses = Pauses::new(10_000, clock);
/// pauses.of("model")?.extend(clock.now() + Duration::from_secs(5));
/// assert!(pauses.of("model")?.until().is_some());
/// assert!(pauses.of("other")?.until().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pauses {
    clock: Clock,
    keys_max: usize,
    keys: Arc<Mutex<HashMap<String, Pause>>>,
}

/// There are so many keys, and each has a pause or somebody who holds it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {keys_max} keys of pauses are in use: ask again later, or configure more keys")]
pub struct TooManyPauses {
    /// How many keys there may be.
    pub keys_max: usize,
}

impl Pauses {
    /// At most `keys_max` at a time.
    pub fn new(keys_max: usize, clock: Clock) -> Self {
        Self { clock, keys_max, keys: Arc::default() }
    }

    /// The pause of `key`.
    ///
    /// # Errors
    ///
    /// When there is no place for another key.
    pub fn of(&self, key: &str) -> Result<Pause, TooManyPauses> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = keys.get(key) {
            return Ok(known.clone());
        }
        if keys.len() >= self.keys_max {
            keys.retain(|_, pause| Arc::strong_count(&pause.window) > 1 || pause.until().is_some());
        }
        if keys.len() >= self.keys_max {
            return Err(TooManyPauses { keys_max: self.keys_max });
        }
        let pause = Pause::new(self.clock);
        keys.insert(key.to_owned(), pause.clone());
        Ok(pause)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(secs: u64) -> Uptime {
        Uptime::new(Duration::from_secs(secs))
    }

    /// Proves C6.14, C6.15, C6.16, C6.17, C6.18.
    #[tokio::test(start_paused = true)]
    async fn all_of_a_key_keep_one_pause_which_is_only_extended() {
        let clock = Clock::start();
        let pauses = Pauses::new(9, clock);
        let (one, other) = (pauses.of("k").unwrap(), pauses.of("k").unwrap());
        assert!(one.extend(at(5)));
        assert_eq!((other.until(), pauses.of("x").unwrap().until()), (Some(at(5)), None));
        assert!(!other.extend(at(3)));
        let sleeps = one.wait(at(60));
        let extends = async {
            // On a paused clock, while the other sleeps.
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert!(other.extend(at(8)));
        };
        let (slept, ()) = tokio::join!(sleeps, extends);
        slept.unwrap();
        assert_eq!((clock.now(), one.until(), one.latest()), (at(8), None, Some(at(8))));
        one.extend(at(100));
        assert_eq!(one.wait(at(99)).await, Err(EndsTooLate { until: at(100) }));
        assert_eq!(clock.now(), at(8));
    }

    #[test]
    fn keys_without_a_pause_make_room() {
        let clock = Clock::start();
        let pauses = Pauses::new(2, clock);
        pauses.of("a").unwrap().extend(clock.now() + Duration::from_secs(600));
        let held = pauses.of("b").unwrap();
        assert_eq!(pauses.of("c").unwrap_err().keys_max, 2);
        drop(held);
        assert!(pauses.of("c").is_ok());
        assert!(pauses.of("a").unwrap().until().is_some());
    }
}
