//! What is said while the server is away: by all connections together, at once and then ever more rarely.

use std::time::Duration;

use perennial_core::retry::Backoff;

/// From what is said first until it is said again.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// The longest pause; an outage after so long without any is news of its own.
const PAUSE_MAX: Duration = Duration::from_secs(60);
const PAUSES: Backoff = Backoff::doubling(PAUSE_FIRST, PAUSE_MAX);

/// Since when connections fail, and what was said of it. Instants are uptimes of the store's clock.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// The first failure since a connection was last made.
    since: Option<Duration>,
    /// The last failure of all.
    failed: Duration,
    /// When it was said last, and how often, one soon after the other.
    said: Option<(Duration, u32)>,
    /// Whether this outage was spoken of.
    known: bool,
}

impl Outage {
    /// A connection could not be made at `now`. Answers for how long none could be, where that is to be said.
    pub(super) fn failed(&mut self, now: Duration) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        let quiet = now.saturating_sub(self.failed) >= PAUSE_MAX;
        self.failed = self.failed.max(now);
        let times = match self.said {
            Some((said, times)) if now.saturating_sub(said) < PAUSES.longest(times) => return None,
            // A server that comes and goes is not spoken of at each turn.
            Some((_, times)) if !quiet => times.saturating_add(1),
            Some(_) | None => 1,
        };
        self.said = Some((now, times));
        self.known = true;
        Some(now.saturating_sub(since))
    }

    /// A connection was made at `now`. Answers for how long none could be, where that was said.
    pub(super) fn ended(&mut self, now: Duration) -> Option<Duration> {
        let since = self.since.take()?;
        std::mem::take(&mut self.known).then(|| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Tries of all connections at these milliseconds; answers when it was said, and how long it was away then.
    fn said(outage: &mut Outage, tries: impl Iterator<Item = u64>) -> Vec<(Duration, Duration)> {
        let tries = tries.map(Duration::from_millis);
        tries.filter_map(|now| outage.failed(now).map(|away| (now, away))).collect()
    }

    #[test]
    fn an_outage_is_told_at_once_and_then_with_pauses_that_grow_to_a_minute() {
        let mut outage = Outage::default();
        let begin = 7_000;
        // Eight connections, each twice a second or so, for ten minutes.
        let told = said(&mut outage, (0..600_000).step_by(70).map(|past| begin + past));
        let away: Vec<u64> = told.iter().map(|(_, away)| away.as_secs()).collect();
        assert_eq!(away, [0, 5, 15, 35, 75, 135, 195, 255, 315, 375, 435, 495, 555]);
        assert!(told.iter().all(|(now, away)| *now == secs(7) + *away));
        assert_eq!(outage.ended(secs(700)), Some(secs(693)), "it is back, once");
        assert_eq!(outage.ended(secs(701)), None);
    }

    /// Whenever a connection fails, and whenever it fails again or is back.
    #[test]
    fn no_more_is_told_than_the_pause_allows_whatever_comes_when() {
        for period in [1, 10, 70, 999, 5_000, 59_999, 60_000, 61_000] {
            for every in 1..8 {
                let mut outage = Outage::default();
                let (mut last, mut tells) = (None::<Duration>, 0);
                for turn in 0..2_000 {
                    let now = Duration::from_millis(turn * period);
                    if turn % 8 == every {
                        assert_eq!(outage.ended(now).is_some(), tells > 0, "{period} {every}");
                        tells = 0;
                        assert_eq!(outage.ended(now), None);
                    }
                    let Some(away) = outage.failed(now) else { continue };
                    assert!(away <= now);
                    tells += 1;
                    if let Some(last) = last {
                        assert!(now - last >= PAUSE_FIRST, "{period} {every}: {last:?} {now:?}");
                    }
                    last = Some(now);
                }
            }
        }
    }

    #[test]
    fn a_server_that_comes_and_goes_is_told_ever_more_rarely_and_a_later_outage_at_once() {
        let mut outage = Outage::default();
        let mut told = Vec::new();
        for second in 0..600 {
            told.extend(outage.failed(secs(second)).map(|away| (second, away)));
            let back = outage.ended(secs(second)).is_some();
            assert_eq!(back, told.last().is_some_and(|(last, _)| *last == second));
        }
        let when: Vec<u64> = told.iter().map(|(second, _)| *second).collect();
        assert_eq!(when, [0, 5, 15, 35, 75, 135, 195, 255, 315, 375, 435, 495, 555]);
        assert_eq!(outage.failed(secs(658)), Some(secs(0)), "nearly a minute later");
        assert_eq!(outage.ended(secs(659)), Some(secs(1)));
        assert_eq!(outage.failed(secs(718)), Some(secs(0)), "after a minute without one");
        assert_eq!(outage.failed(secs(722)), None);
        assert_eq!(outage.failed(secs(723)), Some(secs(5)), "with the pauses of a first one");
    }

    #[test]
    fn clocks_of_threads_that_overtake_each_other_do_no_harm() {
        let mut outage = Outage::default();
        assert_eq!(outage.failed(secs(10)), Some(secs(0)));
        assert_eq!(outage.failed(secs(9)), None);
        assert_eq!(outage.ended(secs(8)), Some(secs(0)));
    }
}
