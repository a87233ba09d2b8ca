//! What an answer of HTTP says about trying again: its status, its headers, and the method that was asked with.

use std::time::{Duration, SystemTime};

use super::Jitter;
use crate::Timestamp;

/// How long to wait when nothing readable says so.
pub const PAUSE: Duration = Duration::from_secs(1);
/// What of a pause is left to chance: never longer than told, and at least three quarters of it.
pub const JITTER: Jitter = Jitter::Range(75, 100);

/// The headers that bear on trying again, as they came.
///
/// ```
/// use perennial_core::retry::http::RetryHeaders;
/// use std::time::Duration;
///
/// let headers = RetryHeaders {
///     retry_after: Some("Sun, 06 Nov 1994 08:50:37 GMT"),
///     date: Some("Sunday, 06-Nov-94 08:49:37 GMT"),
///     ..RetryHeaders::default()
/// };
/// assert_eq!(headers.told_wait(None), Some(Duration::from_secs(60)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryHeaders<'a> {
    /// `x-should-retry`.
    pub should_retry: Option<&'a str>,
    /// `retry-after-ms`.
    pub retry_after_ms: Option<&'a str>,
    /// `retry-after`.
    pub retry_after: Option<&'a str>,
    /// `date`.
    pub date: Option<&'a str>,
}

impl RetryHeaders<'_> {
    /// What the other side decided itself, if it did.
    pub fn should_retry(&self) -> Option<bool> {
        match self.should_retry?.trim() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The pause that was told: milliseconds, else seconds, else a date in any of its three forms. What is zero,
    /// negative, not finite or unreadable is as good as absent.
    ///
    /// A date is measured against the answer's own `date`, so that clocks that differ cancel, and without that
    /// against `now`. With neither it says nothing.
    pub fn told_wait(&self, now: Option<Timestamp>) -> Option<Duration> {
        let after = self.retry_after;
        let millis = self.retry_after_ms.and_then(|text| positive(text, 1e3));
        millis.or_else(|| after.and_then(|text| positive(text, 1.0))).or_else(|| {
            let until = http_date(after?)?;
            let now = self.date.and_then(http_date).or_else(|| {
                let micros = u64::try_from(now?.as_micros()).ok()?;
                SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros))
            });
            until.duration_since(now?).ok().filter(|wait| !wait.is_zero())
        })
    }

    /// How long to wait before the next try. `chance` is a random number in `0.0..=1.0`.
    ///
    /// ```
    /// use perennial_core::retry::http::RetryHeaders;
    /// use std::time::Duration;
    ///
    /// let told = RetryHeaders { retry_after: Some("4"), ..RetryHeaders::default() };
    /// assert_eq!(told.pause(None, 1.0), Duration::from_secs(4));
    /// assert_eq!(told.pause(None, 0.0), Duration::from_secs(3));
    /// assert_eq!(RetryHeaders::default().pause(None, 1.0), Duration::from_secs(1));
    /// ```
    pub fn pause(&self, now: Option<Timestamp>, chance: f64) -> Duration {
        JITTER.of(self.told_wait(now).unwrap_or(PAUSE), chance)
    }
}

/// Whether a request may be made again after an answer of `status`.
///
/// The other side's `x-should-retry` wins. Else 408, 409, 429 and 5xx are tried again, if doing the request twice is
/// doing it once: its `method` says so (`GET`, `HEAD`, `OPTIONS`, `TRACE`, `PUT`, `DELETE`), or it `has_key`, an
/// idempotency key. Without either only a 429 is: it was refused, and nothing was done (INV-RT-6).
///
/// ```
/// use perennial_core::retry::http::{RetryHeaders, may_retry};
///
/// let none = RetryHeaders::default();
/// assert!(may_retry(503, "GET", false, &none));
/// assert!(!may_retry(503, "POST", false, &none) && may_retry(503, "POST", true, &none));
/// let no = RetryHeaders { should_retry: Some("false"), ..none };
/// assert!(!may_retry(503, "GET", false, &no));
/// ```
pub fn may_retry(status: u16, method: &str, has_key: bool, headers: &RetryHeaders<'_>) -> bool {
    const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
    if let Some(told) = headers.should_retry() {
        return told;
    }
    let repeats = has_key || IDEMPOTENT.iter().any(|known| method.eq_ignore_ascii_case(known));
    match status {
        429 => true,
        408 | 409 | 500..=599 => repeats,
        _ => false,
    }
}

fn positive(text: &str, per_second: f64) -> Option<Duration> {
    let number: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(number / per_second).ok().filter(|wait| !wait.is_zero())
}

fn http_date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(millis: Option<&str>, after: Option<&str>, date: Option<&str>) -> Option<u128> {
        let (retry_after_ms, retry_after) = (millis, after);
        let headers = RetryHeaders { retry_after_ms, retry_after, date, ..RetryHeaders::default() };
        headers.told_wait(None).map(|wait| wait.as_millis())
    }

    /// Proves C9.20.
    #[test]
    fn the_three_forms_of_a_date_are_one_instant() {
        let since_1970 = |text| {
            let instant = http_date(text)?;
            Some(instant.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
        };
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(since_1970(text), Some(784_111_777), "{text}");
            let date = Some("Sun, 06 Nov 1994 08:49:07 GMT");
            assert_eq!(told(None, Some(text), date), Some(30_000), "{text}");
        }
        assert_eq!(since_1970("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(since_1970("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
        for text in ["", "soon", "Sun, 06 Nov 1994 08:49 GMT", "Sun, 32 Nov 1994 08:49:37 GMT"] {
            assert_eq!(since_1970(text), None, "{text}");
        }
    }

    /// Proves C9.20.
    #[test]
    fn milliseconds_win_over_seconds_and_seconds_over_dates() {
        assert_eq!(told(Some("250"), Some("9"), None), Some(250));
        assert_eq!(told(None, Some("1.5"), None), Some(1_500));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(told(None, Some("Sun, 06 Nov 1994 08:50:37 GMT"), Some(date)), Some(60_000));
        // Without the answer's own date, against the clock.
        let now = Timestamp::from_micros(784_111_747_000_000);
        let headers = RetryHeaders { retry_after: Some(date), ..RetryHeaders::default() };
        assert_eq!(headers.told_wait(Some(now)), Some(Duration::from_secs(30)));
    }

    /// Proves C9.21.
    #[test]
    fn what_says_nothing_falls_through_to_the_next_and_at_last_to_a_second() {
        for nothing in ["0", "-3", "NaN", "inf", "1e400", "soon", ""] {
            assert_eq!(told(Some(nothing), Some("2"), None), Some(2_000), "{nothing}");
            assert_eq!(told(Some(nothing), Some(nothing), None), None, "{nothing}");
            let headers = RetryHeaders { retry_after: Some(nothing), ..RetryHeaders::default() };
            assert_eq!(headers.pause(None, 1.0), Duration::from_millis(1_000));
        }
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(told(None, date, date), None, "a wait of nothing");
        assert_eq!(told(None, date, None), None, "no clock to measure against");
    }

    /// Proves C9.22.
    #[test]
    fn pauses_are_between_three_quarters_and_all_of_what_was_told() {
        for (text, base) in [("1", 1_000), ("8", 8_000), ("soon", 1_000)] {
            let headers = RetryHeaders { retry_after: Some(text), ..RetryHeaders::default() };
            let pause = |chance| headers.pause(None, chance).as_millis();
            assert_eq!((pause(0.0), pause(1.0)), (base * 3 / 4, base));
            assert!((0..=100).all(|chance| {
                (base * 3 / 4..=base).contains(&pause(f64::from(chance) / 100.0))
            }));
        }
    }

    /// Every status, with each method, key and header.
    ///
    /// Proves C9.17, C9.18, C9.19, INV-RT-6.
    #[test]
    fn every_status_is_tried_again_by_its_method_and_its_key_unless_it_says_otherwise() {
        for status in 0..=999 {
            let retryable = matches!(status, 408 | 409 | 429 | 500..=599);
            for (method, idempotent) in [
                ("GET", true),
                ("head", true),
                ("PUT", true),
                ("DELETE", true),
                ("POST", false),
                ("PATCH", false),
                ("CONNECT", false),
            ] {
                for has_key in [false, true] {
                    let told = |should_retry| {
                        let headers = RetryHeaders { should_retry, ..RetryHeaders::default() };
                        may_retry(status, method, has_key, &headers)
                    };
                    let may = retryable && (idempotent || has_key || status == 429);
                    assert_eq!(told(None), may, "{status} {method} {has_key}");
                    assert_eq!(told(Some("perhaps")), may);
                    assert!(told(Some("true")) && !told(Some(" false ")));
                }
            }
        }
    }
}
