//! The pause the other side asked for (ERC-5).
//!
//! Pure: a date is measured against the answer's own `date` header, so that skewed clocks cancel.
//! Without that header a date says nothing and the caller's own backoff decides.

use std::time::Duration;

use super::error_table::AnswerHeaders;

/// The pause told by `headers`: milliseconds, else seconds, else a date. What is zero, negative,
/// not finite or unreadable is as good as absent.
pub(super) fn told_wait(headers: &AnswerHeaders) -> Option<Duration> {
    let millis = headers.retry_after_ms.as_deref();
    let after = headers.retry_after.as_deref();
    millis
        .and_then(|text| positive(text, 1e3))
        .or_else(|| after.and_then(|text| positive(text, 1.0)))
        .or_else(|| {
            let until = http_date(after?)?;
            let now = http_date(headers.date.as_deref()?)?;
            let seconds = u64::try_from(until.checked_sub(now)?).ok()?;
            (seconds > 0).then(|| Duration::from_secs(seconds))
        })
}

fn positive(text: &str, per_second: f64) -> Option<Duration> {
    let number: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(number / per_second).ok().filter(|wait| !wait.is_zero())
}

/// Seconds since 1970 of an HTTP date: IMF-fixdate, RFC 850 (years 1970 to 2069) or asctime.
fn http_date(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.split([' ', ',', '-']).filter(|part| !part.is_empty()).collect();
    let (day, month, year, clock) = match parts[..] {
        [_, day, month, year, clock, "GMT"] => (day, month, year, clock),
        [_, month, day, clock, year] => (day, month, year, clock),
        _ => return None,
    };
    let (day, month) = (digits(day, 31)?, month_number(month)?);
    let year = match (year.len(), digits(year, 9999)?) {
        (2, short) if short < 70 => 2000 + short,
        (2, short) => 1900 + short,
        (_, full) => full,
    };
    let clock: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = clock[..] else { return None };
    // A leap second is the sixtieth.
    let (hour, minute, second) = (digits(hour, 23)?, digits(minute, 59)?, digits(second, 60)?);
    Some(days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn digits(text: &str, most: i64) -> Option<i64> {
    let plain = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = if plain { text.parse().ok()? } else { return None };
    (value <= most).then_some(value)
}

fn month_number(name: &str) -> Option<i64> {
    const NAMES: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let place = NAMES.iter().position(|known| *known == name)?;
    i64::try_from(place + 1).ok()
}

/// Days since 1970-01-01 of a civil date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(millis: Option<&str>, after: Option<&str>, date: Option<&str>) -> Option<u128> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let headers = AnswerHeaders {
            retry_after_ms: own(millis),
            retry_after: own(after),
            date: own(date),
            ..AnswerHeaders::default()
        };
        told_wait(&headers).map(|wait| wait.as_millis())
    }

    #[test]
    fn the_three_forms_of_a_date_are_one_instant() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(http_date(text), Some(784_111_777), "{text}");
        }
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
        for text in ["", "soon", "Sun, 06 Nov 1994 08:49 GMT", "Sun, 32 Nov 1994 08:49:37 GMT"] {
            assert_eq!(http_date(text), None, "{text}");
        }
    }

    #[test]
    fn milliseconds_win_over_seconds_and_seconds_over_dates() {
        assert_eq!(told(Some("250"), Some("9"), None), Some(250));
        assert_eq!(told(None, Some("1.5"), None), Some(1_500));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(told(None, Some("Sun, 06 Nov 1994 08:50:37 GMT"), Some(date)), Some(60_000));
    }

    #[test]
    fn what_says_nothing_falls_through_to_the_next() {
        for nothing in ["0", "-3", "NaN", "inf", "1e400", "soon", ""] {
            assert_eq!(told(Some(nothing), Some("2"), None), Some(2_000), "{nothing}");
            assert_eq!(told(Some(nothing), Some(nothing), None), None, "{nothing}");
        }
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(told(None, date, date), None, "a wait of nothing");
        assert_eq!(told(None, date, None), None, "no clock to measure against");
    }
}
