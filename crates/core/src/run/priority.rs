//! What comes first (DUR-12).

use std::{fmt, str::FromStr, time::Duration};

/// What comes first of what waits: more before less. What a job declares is added to what its run has.
///
/// ```
/// use perennial_core::run::Priority;
///
/// assert_eq!(Priority::default(), Priority::NORMAL);
/// assert_eq!("high".parse(), Ok(Priority::HIGH));
/// assert_eq!(Priority::new(60), Ok("60".parse()?));
/// assert!(Priority::URGENT > Priority::HIGH && Priority::NORMAL > Priority::LOW);
/// # Ok::<(), perennial_core::run::InvalidPriority>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Priority(i16);

/// What is no priority.
///
/// ```
/// use perennial_core::run::Priority;
///
/// let refused = Priority::new(101).unwrap_err();
/// assert!(refused.to_string().contains("-100 to 100"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no priority: urgent, high, normal, low or a whole number from -100 to 100 is needed"
)]
pub struct InvalidPriority(String);

impl Priority {
    /// Before all others: 75.
    pub const URGENT: Self = Self(75);
    /// 50.
    pub const HIGH: Self = Self(50);
    /// What is said nothing of: 0.
    pub const NORMAL: Self = Self(0);
    /// −50.
    pub const LOW: Self = Self(-50);

    const MOST: i16 = 100;
    const NAMED: [(&'static str, Self); 4] = [
        ("urgent", Self::URGENT),
        ("high", Self::HIGH),
        ("normal", Self::NORMAL),
        ("low", Self::LOW),
    ];

    /// That number, of −100 to 100.
    ///
    /// # Errors
    ///
    /// When it is another.
    pub fn new(number: i64) -> Result<Self, InvalidPriority> {
        let fits = |number: &i16| (-Self::MOST..=Self::MOST).contains(number);
        let found = i16::try_from(number).ok().filter(fits);
        found.map(Self).ok_or_else(|| InvalidPriority(number.to_string()))
    }

    /// Its number, −100 to 100.
    pub fn number(self) -> i64 {
        i64::from(self.0)
    }

    /// Both together; no more than 100, no less than −100.
    ///
    /// ```
    /// use perennial_core::run::Priority;
    ///
    /// assert_eq!(Priority::HIGH.plus(Priority::LOW), Priority::NORMAL);
    /// assert_eq!(Priority::URGENT.plus(Priority::HIGH).number(), 100);
    /// ```
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self((self.0 + other.0).clamp(-Self::MOST, Self::MOST))
    }

    /// What it is after waiting for that long: 1 more with each `step`, up to 100, so that nobody waits for ever behind those who
    /// come later (INV-ST-21). A step of no time ages nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use perennial_core::run::Priority;
    ///
    /// let (minute, step) = (Duration::from_secs(60), Duration::from_secs(30));
    /// assert_eq!(Priority::NORMAL.aged(minute, step).number(), 2);
    /// assert!(Priority::LOW.aged(minute * 26, step) > Priority::NORMAL);
    /// ```
    #[must_use]
    pub fn aged(self, waited: Duration, step: Duration) -> Self {
        let steps = waited.as_micros().checked_div(step.as_micros()).unwrap_or(0);
        let steps = i16::try_from(steps.min(2 * Self::MOST.unsigned_abs() as u128));
        self.plus(Self(steps.unwrap_or(Self::MOST)))
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.iter().find(|(_, named)| named == self) {
            Some((name, _)) => f.pad(name),
            None => self.0.fmt(f),
        }
    }
}

impl FromStr for Priority {
    type Err = InvalidPriority;

    fn from_str(text: &str) -> Result<Self, InvalidPriority> {
        let named = Self::NAMED.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        let refused = || InvalidPriority(text.to_owned());
        match named {
            Some((_, priority)) => Ok(*priority),
            None => Self::new(text.parse().map_err(|_| refused())?).map_err(|_| refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_told_and_read_again() {
        for number in -101..=101_i64 {
            let made = Priority::new(number);
            assert_eq!(made.is_ok(), number.abs() <= 100, "{number}");
            let Ok(made) = made else { continue };
            assert_eq!((made.number(), made.to_string().parse()), (number, Ok(made)));
        }
        for odd in ["", "Highest", "101", "-101", "99999", "1.5", "middling"] {
            assert!(odd.parse::<Priority>().unwrap_err().to_string().contains(odd), "{odd}");
        }
        for name in ["high", "HIGH", "High"] {
            assert_eq!(name.parse(), Ok(Priority::HIGH), "{name}");
        }
        assert_eq!(format!("{:>8}|{:<7}|", Priority::LOW, Priority::HIGH), "     low|high   |");
    }

    #[test]
    fn both_together_stay_within_the_range() {
        for one in -100..=100 {
            for other in -100..=100 {
                let both = Priority(one).plus(Priority(other));
                assert_eq!(both.0, (one + other).clamp(-100, 100));
                assert_eq!(both, Priority(other).plus(Priority(one)));
            }
        }
    }

    /// Proves INV-ST-21.
    #[test]
    fn whoever_waits_comes_before_all_that_come_later() {
        let step = Duration::from_secs(30);
        for number in -100..=100 {
            let mut before = Priority(number);
            for steps in 0..=400 {
                let just_before =
                    Priority(number).aged(step * (steps + 1) - Duration::from_micros(1), step);
                let aged = Priority(number).aged(step * steps, step);
                assert_eq!((aged, aged >= before), (just_before, true), "{number} {steps}");
                assert_eq!(i64::from(aged.0), (i64::from(number) + i64::from(steps)).min(100));
                before = aged;
            }
            // Whatever comes now is not more.
            assert_eq!(before.0, 100);
        }
        assert_eq!(Priority::LOW.aged(Duration::MAX, step).0, 100);
        assert_eq!(Priority::LOW.aged(Duration::MAX, Duration::ZERO), Priority::LOW);
    }
}
