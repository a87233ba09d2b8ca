//! Two clocks that are never mixed: monotonic time since a runtime started, and wall time.

use std::{fmt, time::Duration};

/// Monotonic time since the runtime started.
///
/// ```
/// use perennial_core::Uptime;
/// use std::time::Duration;
///
/// let begun = Uptime::new(Duration::from_secs(2));
/// let ended = begun + Duration::from_secs(3);
/// assert_eq!(ended.since(begun), Duration::from_secs(3));
/// assert_eq!(begun.since(ended), Duration::ZERO); // never negative
/// assert_eq!(ended.since(Uptime::ZERO), ended.elapsed());
/// ```
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Uptime(Duration);

impl Uptime {
    /// The moment the runtime started.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// An uptime of `elapsed`.
    pub const fn new(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// Time elapsed since `earlier`, or zero when `earlier` is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Time elapsed since the start.
    pub fn elapsed(self) -> Duration {
        self.0
    }
}

impl std::ops::Add<Duration> for Uptime {
    type Output = Self;
    fn add(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }
}

/// An instant of the wall clock: microseconds since 1970-01-01 UTC.
///
/// Durations are never computed from two timestamps of different machines; see [`Uptime`].
///
/// ```
/// use perennial_core::Timestamp;
/// use std::time::Duration;
///
/// let accepted = Timestamp::from_micros(0);
/// let ended = accepted.after(Duration::from_millis(1_500));
/// assert_eq!(ended.to_rfc3339(), "1970-01-01T00:00:01.500Z");
/// assert_eq!(ended.since(accepted), Duration::from_millis(1_500));
/// ```
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `micros` microseconds after the epoch.
    ///
    /// ```
    /// use perennial_core::Timestamp;
    ///
    /// assert_eq!(Timestamp::from_micros(951_782_400_000_000).to_date(), "2000-02-29");
    /// ```
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    ///
    /// ```
    /// use perennial_core::Timestamp;
    ///
    /// assert_eq!(Timestamp::from_micros(7).as_micros(), 7);
    /// ```
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// This instant moved by `delay`, saturating at the end of time.
    ///
    /// ```
    /// use perennial_core::Timestamp;
    /// use std::time::Duration;
    ///
    /// assert_eq!(Timestamp::from_micros(1).after(Duration::from_micros(2)), Timestamp::from_micros(3));
    /// ```
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(delay.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to this instant, or zero when `earlier` is later.
    ///
    /// ```
    /// use perennial_core::Timestamp;
    /// use std::time::Duration;
    ///
    /// let (earlier, later) = (Timestamp::from_micros(1), Timestamp::from_micros(3));
    /// assert_eq!(later.since(earlier), Duration::from_micros(2));
    /// assert_eq!(earlier.since(later), Duration::ZERO);
    /// ```
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with milliseconds, for example `2026-11-21T00:33:57.120Z`.
    ///
    /// ```
    /// use perennial_core::Timestamp;
    ///
    /// assert_eq!(Timestamp::from_micros(0).to_rfc3339(), "1970-01-01T00:00:00.000Z");
    /// ```
    pub fn to_rfc3339(self) -> String {
        let (year, month, day, rest) = self.civil();
        let millis = rest / 1_000;
        let (hour, minute, second) =
            (millis / 3_600_000, millis / 60_000 % 60, millis / 1_000 % 60);
        format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
            millis % 1_000
        )
    }

    /// Compact form that is safe in file names, for example `20261121T003357Z`.
    ///
    /// ```
    /// use perennial_core::Timestamp;
    ///
    /// assert_eq!(Timestamp::from_micros(0).to_compact(), "19700101T000000Z");
    /// ```
    pub fn to_compact(self) -> String {
        let (year, month, day, rest) = self.civil();
        let seconds = rest / 1_000_000;
        format!(
            "{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z",
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60
        )
    }

    /// The day, for example `2026-11-21`.
    ///
    /// ```
    /// use perennial_core::Timestamp;
    ///
    /// assert_eq!(Timestamp::from_micros(0).to_date(), "1970-01-01");
    /// ```
    pub fn to_date(self) -> String {
        let (year, month, day, _) = self.civil();
        format!("{year:04}-{month:02}-{day:02}")
    }

    /// Year, month, day and microseconds of the day (days-to-civil of Howard Hinnant).
    fn civil(self) -> (i64, i64, i64, i64) {
        const DAY: i64 = 86_400_000_000;
        let days = self.0.div_euclid(DAY) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year, month, day, self.0.rem_euclid(DAY))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_rfc_3339_in_utc() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1_000, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
            (1_795_221_237_120_000, "2026-11-21T00:33:57.120Z"),
        ] {
            assert_eq!(Timestamp::from_micros(micros).to_rfc3339(), text);
        }
        assert_eq!(Timestamp::from_micros(1_795_221_237_120_000).to_compact(), "20261121T003357Z");
        assert_eq!(Timestamp::from_micros(1_795_221_237_120_000).to_date(), "2026-11-21");
    }

    #[test]
    fn time_never_overflows_and_never_runs_back() {
        let end = Timestamp::from_micros(i64::MAX);
        assert_eq!(end.after(Duration::MAX), end);
        assert_eq!(Timestamp::from_micros(1).since(Timestamp::from_micros(5)), Duration::ZERO);
    }
}
