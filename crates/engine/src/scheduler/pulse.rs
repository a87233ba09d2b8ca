//! When the scheduler last got somewhere: one that does not is a failure that is shown, not a line of a log
//! (DUR-18, INV-32).

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use perennial_core::Uptime;
use perennial_supervision::Clock;
use serde_json::{Value, json};

/// Shared by who looks and who shows it; it is judged when it is read, so that one that hangs is seen as well.
#[derive(Debug)]
pub(super) struct Pulse {
    clock: Clock,
    /// How long it may get nowhere.
    stalled_after: Duration,
    beats: Mutex<Beats>,
}

impl Pulse {
    /// From now on it is expected to get somewhere.
    pub(super) fn start(clock: Clock, stalled_after: Duration) -> Self {
        Self {
            clock,
            stalled_after,
            beats: Mutex::new(Beats { last: clock.now(), hindrance: None }),
        }
    }

    /// A look got somewhere, or there was nothing to do.
    pub(super) fn beat(&self) {
        self.beats().beat(self.clock.now());
    }

    /// A look was kept from what it is for; answers whether that is news.
    pub(super) fn hindered(&self, why: &str) -> bool {
        let mut beats = self.beats();
        let is_news = beats.hindrance.as_deref() != Some(why);
        beats.hindrance = Some(why.to_owned());
        is_news
    }

    /// What a dump shows.
    pub(super) fn shown(&self) -> Value {
        let health = self.beats().health(self.clock.now(), self.stalled_after);
        match health {
            Health::Well => json!({ "healthy": true }),
            Health::Stalled { since, why } => json!({
                "healthy": false,
                "stalled_ms": u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
                "why": why,
            }),
        }
    }

    fn beats(&self) -> MutexGuard<'_, Beats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Beats {
    last: Uptime,
    /// What the last look met that got nowhere.
    hindrance: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Health {
    Well,
    /// It got nowhere for that long.
    Stalled {
        since: Duration,
        why: String,
    },
}

impl Beats {
    fn beat(&mut self, now: Uptime) {
        (self.last, self.hindrance) = (now, None);
    }

    fn health(&self, now: Uptime, stalled_after: Duration) -> Health {
        let since = now.since(self.last);
        if since < stalled_after {
            return Health::Well;
        }
        let why = self.hindrance.clone();
        let why = why.unwrap_or_else(|| "a look has begun and does not end".to_owned());
        Health::Stalled { since, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Uptime {
        Uptime::new(Duration::from_secs(seconds))
    }

    fn stalled(seconds: u64, why: &str) -> Health {
        Health::Stalled { since: Duration::from_secs(seconds), why: why.to_owned() }
    }

    /// Proves INV-32.
    #[test]
    fn a_scheduler_that_gets_nowhere_for_half_a_minute_is_ill_until_it_gets_somewhere() {
        let half_minute = Duration::from_secs(30);
        let mut beats = Beats { last: at(0), hindrance: None };
        assert_eq!(beats.health(at(29), half_minute), Health::Well);
        assert_eq!(
            beats.health(at(30), half_minute),
            stalled(30, "a look has begun and does not end")
        );
        beats.hindrance = Some("no answer".to_owned());
        assert_eq!(beats.health(at(29), half_minute), Health::Well, "one look in vain is none yet");
        assert_eq!(beats.health(at(31), half_minute), stalled(31, "no answer"));
        beats.beat(at(40));
        assert_eq!(beats.health(at(69), half_minute), Health::Well);
        assert_eq!(
            beats.health(at(70), half_minute),
            stalled(30, "a look has begun and does not end")
        );
        assert_eq!(beats.health(at(70), Duration::from_secs(31)), Health::Well, "as it is set");
    }
}
