//! Instants: RFC 3339 texts and what can be counted with them (YT-8).

use perennial_core::Timestamp;

/// Microseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instant(i64);

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

impl Instant {
    /// Reads `2026-11-21`, `2026-11-21T00:33:57Z`, `2026-11-21T01:33:57.25+01:00`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' || !text.is_ascii() {
            return None;
        }
        let (year, month, day) =
            (digits(&text[0..4])?, digits(&text[5..7])?, digits(&text[8..10])?);
        if !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) {
            return None;
        }
        let midnight = days_since_epoch(year, month, day) * DAY;
        if text.len() == 10 {
            return Some(Self(midnight));
        }
        if bytes.len() < 20 || !matches!(bytes[10], b'T' | b't' | b' ') {
            return None;
        }
        if bytes[13] != b':' || bytes[16] != b':' {
            return None;
        }
        let (hour, minute, second) =
            (digits(&text[11..13])?, digits(&text[14..16])?, digits(&text[17..19])?);
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let rest = &text[19..];
        let (fraction, zone) = match rest.strip_prefix('.') {
            None => (0, rest),
            Some(behind) => {
                let count = behind.bytes().take_while(u8::is_ascii_digit).count();
                let micros: String =
                    behind[..count].chars().chain("000000".chars()).take(6).collect();
                (if count > 0 { digits(&micros)? } else { return None }, &behind[count..])
            }
        };
        let offset = match zone {
            "Z" | "z" => 0,
            _ => {
                let bytes = zone.as_bytes();
                if zone.len() != 6 || bytes[3] != b':' {
                    return None;
                }
                let (hours, minutes) = (digits(&zone[1..3])?, digits(&zone[4..6])?);
                let seconds = (hours * 60 + minutes) * 60;
                match bytes[0] {
                    _ if hours > 23 || minutes > 59 => return None,
                    b'+' => seconds,
                    b'-' => -seconds,
                    _ => return None,
                }
            }
        };
        let seconds = (hour * 60 + minute) * 60 + second - offset;
        Some(Self(midnight + seconds * SECOND + fraction))
    }

    /// This instant moved by `seconds`; none outside the years 0 to 9999.
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and is checked")]
    #[expect(clippy::cast_precision_loss, reason = "a constant that f64 holds exactly")]
    pub(super) fn shifted(self, seconds: f64) -> Option<Self> {
        let micros = (seconds * SECOND as f64).round() as i64;
        let moved = self.0.checked_add(micros)?;
        let years = days_since_epoch(0, 1, 1) * DAY..days_since_epoch(10_000, 1, 1) * DAY;
        years.contains(&moved).then_some(Self(moved))
    }

    #[expect(clippy::cast_precision_loss, reason = "exact below 285 years, and close enough above")]
    pub(super) fn seconds_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0) as f64 / SECOND as f64
    }

    /// RFC 3339 in UTC; fractions only when there are some.
    pub(super) fn to_text(self) -> String {
        let day = Timestamp::from_micros(self.0).to_date();
        let of_day = self.0.rem_euclid(DAY);
        let seconds = of_day / SECOND;
        let mut text =
            format!("{day}T{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let micros = of_day % SECOND;
        if micros > 0 {
            text.push_str(format!(".{micros:06}").trim_end_matches('0'));
        }
        text.push('Z');
        text
    }

    /// In the form of `pattern`: `%Y %m %d %H %M %S %f %j %F %T %s %z %%`.
    ///
    /// # Errors
    ///
    /// The sign that is none of these.
    pub(super) fn format(self, pattern: &str) -> Result<String, String> {
        let text = self.to_text();
        let mut out = String::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some('Y') => out.push_str(&text[0..4]),
                Some('m') => out.push_str(&text[5..7]),
                Some('d') => out.push_str(&text[8..10]),
                Some('H') => out.push_str(&text[11..13]),
                Some('M') => out.push_str(&text[14..16]),
                Some('S') => out.push_str(&text[17..19]),
                Some('F') => out.push_str(&text[0..10]),
                Some('T') => out.push_str(&text[11..19]),
                Some('f') => out.push_str(&format!("{:06}", self.0.rem_euclid(SECOND))),
                Some('s') => out.push_str(&self.0.div_euclid(SECOND).to_string()),
                Some('j') => {
                    let year = digits(&text[0..4]).unwrap_or(0);
                    let day = self.0.div_euclid(DAY) - days_since_epoch(year, 1, 1) + 1;
                    out.push_str(&format!("{day:03}"));
                }
                Some('z') => out.push_str("+0000"),
                Some('%') => out.push('%'),
                Some(other) => return Err(format!("%{other}")),
                None => return Err("%".to_owned()),
            }
        }
        Ok(out)
    }
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from the epoch to a day of the Gregorian calendar, negative before it.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leaps = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    // 719,162 days lie between the first day of the year 1 and the epoch.
    before * 365 + leaps + months + day - 1 - 719_162
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_and_written() {
        for (text, written) in [
            ("1970-01-01", "1970-01-01T00:00:00Z"),
            ("2000-02-29T12:00:00Z", "2000-02-29T12:00:00Z"),
            ("2026-11-21T01:33:57.250+01:00", "2026-11-21T00:33:57.25Z"),
            ("2026-11-21 00:00:00z", "2026-11-21T00:00:00Z"),
            ("1969-12-31T23:59:59.999999-00:30", "1970-01-01T00:29:59.999999Z"),
            ("0000-01-01", "0000-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Instant::parse(text).unwrap().to_text(), written, "{text}");
        }
        for text in [
            "",
            "2026-1-1",
            "2025-02-29",
            "2026-13-01",
            "2026-11-21T",
            "2026-11-21T00:00:00",
            "2026-11-21T24:00:00Z",
            "2026-11-21T00:00:00.Z",
            "2026-11-21T00:00:00+0100",
            "hello wörld",
            "2026-11-21T00:00:00+24:00",
        ] {
            assert_eq!(Instant::parse(text), None, "{text}");
        }
    }

    #[test]
    fn instants_move_within_the_years_that_can_be_written() {
        let day = Instant::parse("2026-12-31").unwrap();
        assert_eq!(day.shifted(86_400.0).unwrap().to_text(), "2027-01-01T00:00:00Z");
        assert_eq!(day.shifted(-0.5).unwrap().to_text(), "2026-12-30T23:59:59.5Z");
        assert_eq!(day.shifted(1e12), None);
        assert_eq!(day.shifted(-1e300), None);
        assert_eq!(day.format("%d.%m.%Y %j %%"), Ok("31.12.2026 365 %".to_owned()));
        assert_eq!(day.format("%q"), Err("%q".to_owned()));
    }
}
