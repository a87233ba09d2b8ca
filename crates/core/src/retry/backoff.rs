//! How long the pauses between attempts are: the one back-off there is.

use std::time::Duration;

use super::Growth;
use crate::protection::InvalidConfig;

/// Pauses that grow up to a cap, a part of which is left to chance.
///
/// ```
/// use perennial_core::retry::{Backoff, Jitter};
/// use std::time::Duration;
///
/// let millis = Duration::from_millis;
/// let backoff = Backoff::EXPONENTIAL.jitter(Jitter::None);
/// assert_eq!([1, 2, 3, 9].map(|nth| backoff.pause(nth, 0.0)), [500, 1_000, 2_000, 30_000].map(millis));
/// // 0.5 is what chance said.
/// assert_eq!(Backoff::EXPONENTIAL.pause(1, 0.5), millis(250));
/// assert_eq!(backoff.jitter(Jitter::Range(75, 100)).pause(1, 0.5), Duration::from_micros(437_500));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// How pauses grow.
    pub growth: Growth,
    /// The first pause; of linear growth also what each further one is longer.
    pub base: Duration,
    /// Of exponential growth: how long a pause is, in percent of the one before. At least 100.
    pub factor_percent: u32,
    /// No pause is longer, chance included.
    pub cap: Duration,
    /// What is left to chance.
    pub jitter: Jitter,
}

/// What of a pause is left to chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jitter {
    /// All of it: between nothing and the pause. So those who failed together do not come back together.
    #[default]
    Full,
    /// Nothing.
    None,
    /// So many percent of it: 25 is between three quarters of the pause and all of it. More than 100 is 100.
    Factor(u32),
    /// Up to so much more; the cap still holds.
    Additive(Duration),
    /// Between these percentages of the pause; the cap still holds. The larger one may come first.
    Range(u32, u32),
}

impl Jitter {
    /// What becomes of `pause`, when `chance`, a random number in `0.0..=1.0`, picks the place inside of what is left
    /// to it.
    ///
    /// ```
    /// use perennial_core::retry::Jitter;
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// assert_eq!(Jitter::Range(80, 120).of(minute, 1.0), Duration::from_secs(72));
    /// ```
    pub fn of(self, pause: Duration, chance: f64) -> Duration {
        let chance = if chance.is_nan() { 1.0 } else { chance.clamp(0.0, 1.0) };
        let between = |least: u32, most: u32| {
            let (least, most) = (f64::from(least) / 100.0, f64::from(most) / 100.0);
            share(pause, least + (most - least) * chance)
        };
        match self {
            Self::Full => between(0, 100),
            Self::None => pause,
            Self::Factor(percent) => between(100 - percent.min(100), 100),
            Self::Additive(more) => pause.saturating_add(share(more, chance)),
            Self::Range(one, other) => between(one.min(other), one.max(other)),
        }
    }
}

impl Backoff {
    /// 500 ms doubling, at most 30 s, full jitter.
    pub const EXPONENTIAL: Self = Self {
        growth: Growth::Exponential,
        base: Duration::from_millis(500),
        factor_percent: 200,
        cap: Duration::from_secs(30),
        jitter: Jitter::Full,
    };
    /// 500 ms more each time, at most 5 s, full jitter.
    pub const LINEAR: Self =
        Self { growth: Growth::Linear, cap: Duration::from_secs(5), ..Self::EXPONENTIAL };
    /// A second, full jitter.
    pub const FIXED: Self = Self {
        growth: Growth::Fixed,
        base: Duration::from_secs(1),
        cap: Duration::from_secs(1),
        ..Self::EXPONENTIAL
    };
    /// A millisecond, full jitter.
    pub const IMMEDIATE: Self =
        Self { base: Duration::from_millis(1), cap: Duration::from_millis(1), ..Self::FIXED };

    /// The back-off of this name: `exponential`, `linear`, `fixed` or `immediate`, also `exponential_backoff`,
    /// `linear_backoff` and `fixed_delay`.
    ///
    /// ```
    /// use perennial_core::retry::Backoff;
    ///
    /// assert_eq!(Backoff::named("linear_backoff"), Some(Backoff::LINEAR));
    /// assert_eq!(Backoff::named("sometimes"), None);
    /// ```
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "exponential" | "exponential_backoff" => Some(Self::EXPONENTIAL),
            "linear" | "linear_backoff" => Some(Self::LINEAR),
            "fixed" | "fixed_delay" => Some(Self::FIXED),
            "immediate" => Some(Self::IMMEDIATE),
            _ => None,
        }
    }

    /// Doubles from `base` up to `cap`, full jitter.
    pub const fn doubling(base: Duration, cap: Duration) -> Self {
        Self { base, cap, ..Self::EXPONENTIAL }
    }

    /// The same with another part left to chance.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Whether it can be used.
    ///
    /// # Errors
    ///
    /// The first setting that cannot.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let wrong = |field, is, must| Err(InvalidConfig { of: "back-off", field, is, must });
        if self.factor_percent < 100 {
            return wrong("factor_percent", self.factor_percent.to_string(), "at least 100");
        }
        if self.base.is_zero() {
            return wrong("base", "0".to_owned(), "longer than 0");
        }
        if self.cap < self.base {
            return wrong("cap", format!("{:?}", self.cap), "at least the base");
        }
        Ok(())
    }

    /// The pause after attempt number `used`, from 1, before anything is left to chance: never shorter than the one
    /// before, never longer than the cap.
    pub fn longest(&self, used: u32) -> Duration {
        let used = used.max(1);
        let grown = match self.growth {
            Growth::Exponential => self.grown(used - 1),
            Growth::Linear => self.base.saturating_mul(used),
            Growth::Fixed => self.base,
        };
        grown.min(self.cap)
    }

    fn grown(&self, times: u32) -> Duration {
        let (base, cap) = (self.base.as_nanos(), self.cap.as_nanos());
        let factor = u128::from(self.factor_percent.max(100));
        let mut pause = base;
        for _ in 0..times {
            let next = pause.saturating_mul(factor) / 100;
            // At the cap, or too short to grow: so this ends long before attempt number a million.
            if pause >= cap || next == pause {
                break;
            }
            pause = next;
        }
        from_nanos(pause.min(cap))
    }

    /// The pause after attempt number `used`, from 1. `chance` is a random number in `0.0..=1.0` that picks the place
    /// inside of what is left to it.
    pub fn pause(&self, used: u32, chance: f64) -> Duration {
        self.jitter.of(self.longest(used), chance).min(self.cap)
    }
}

/// `pause` times `share`, or the longest time there is.
fn share(pause: Duration, share: f64) -> Duration {
    Duration::try_from_secs_f64(pause.as_secs_f64() * share).unwrap_or(Duration::MAX)
}

fn from_nanos(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    let (secs, rest) = (nanos / SECOND, nanos % SECOND);
    match (u64::try_from(secs), u32::try_from(rest)) {
        (Ok(secs), Ok(rest)) => Duration::new(secs, rest),
        (Err(_), _) | (_, Err(_)) => Duration::MAX,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Proves C9.6.
    #[test]
    fn presets_grow_as_they_are_named_and_their_aliases_are_the_same() {
        let pauses = |name| {
            let backoff = Backoff::named(name).unwrap().jitter(Jitter::None);
            [1, 2, 3, 7, 11].map(|used| backoff.pause(used, 0.3))
        };
        assert_eq!(pauses("exponential"), [500, 1_000, 2_000, 30_000, 30_000].map(millis));
        assert_eq!(pauses("linear"), [500, 1_000, 1_500, 3_500, 5_000].map(millis));
        assert_eq!(pauses("fixed"), [1_000; 5].map(millis));
        assert_eq!(pauses("immediate"), [1; 5].map(millis));
        for (alias, name) in [
            ("exponential_backoff", "exponential"),
            ("linear_backoff", "linear"),
            ("fixed_delay", "fixed"),
        ] {
            assert_eq!(Backoff::named(alias), Backoff::named(name));
            assert_eq!(Backoff::named(name).unwrap().jitter, Jitter::Full);
        }
    }

    /// Proves INV-RT-5, C9.7.
    #[test]
    fn chance_stays_inside_of_what_is_left_to_it() {
        let of = |jitter| {
            let backoff = Backoff::EXPONENTIAL.jitter(jitter);
            [0.0, 0.5, 1.0].map(|chance| backoff.pause(2, chance))
        };
        assert_eq!(of(Jitter::Full), [0, 500, 1_000].map(millis));
        assert_eq!(of(Jitter::None), [1_000; 3].map(millis));
        assert_eq!(of(Jitter::Factor(0)), [1_000; 3].map(millis));
        assert_eq!(of(Jitter::Factor(25)), [750, 875, 1_000].map(millis));
        assert_eq!(of(Jitter::Factor(900)), of(Jitter::Full));
        assert_eq!(of(Jitter::Additive(millis(80))), [1_000, 1_040, 1_080].map(millis));
        assert_eq!(of(Jitter::Range(75, 100)), [750, 875, 1_000].map(millis));
        assert_eq!(of(Jitter::Range(150, 50)), [500, 1_000, 1_500].map(millis));
        for wrong in [f64::NAN, f64::INFINITY, 7.0] {
            assert_eq!(Backoff::EXPONENTIAL.pause(2, wrong), millis(1_000));
        }
        assert_eq!(Backoff::EXPONENTIAL.pause(2, -7.0), Duration::ZERO);
    }

    proptest! {
        /// Proves INV-RT-5.
        #[test]
        fn pauses_are_monotone_up_to_the_cap_and_nothing_overflows(
            growth in prop::sample::select(vec![Growth::Exponential, Growth::Linear, Growth::Fixed]),
            base in 1_u64..=u64::MAX,
            factor_percent in prop_oneof![100_u32..400, any::<u32>()],
            more in any::<u64>(),
            jitter in prop_oneof![
                Just(Jitter::Full),
                Just(Jitter::None),
                any::<u32>().prop_map(Jitter::Factor),
                any::<u64>().prop_map(|nanos| Jitter::Additive(Duration::from_nanos(nanos))),
                (any::<u32>(), any::<u32>()).prop_map(|(one, other)| Jitter::Range(one, other)),
            ],
            chance in 0.0_f64..=1.0,
            used in prop::collection::vec(prop_oneof![0_u32..100, any::<u32>()], 0..20),
        ) {
            let base = Duration::from_nanos(base);
            let cap = base + Duration::from_nanos(more);
            let backoff = Backoff { growth, base, factor_percent, cap, jitter };
            prop_assert_eq!(backoff.check().is_ok(), factor_percent >= 100);
            let mut used: Vec<u32> = used.into_iter().chain([1, 1_000_000, u32::MAX]).collect();
            used.sort_unstable();
            let mut before = Duration::ZERO;
            for used in used {
                let longest = backoff.longest(used);
                prop_assert!(before <= longest && longest <= cap);
                prop_assert!(backoff.pause(used, chance) <= cap);
                before = longest;
            }
        }
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let field = |backoff: Backoff| backoff.check().unwrap_err().field;
        assert_eq!(field(Backoff { factor_percent: 99, ..Backoff::LINEAR }), "factor_percent");
        assert_eq!(field(Backoff { base: Duration::ZERO, ..Backoff::LINEAR }), "base");
        assert_eq!(field(Backoff { cap: millis(499), ..Backoff::LINEAR }), "cap");
        assert_eq!(Backoff::EXPONENTIAL.check(), Ok(()));
    }
}
