//! Durations as people say them: two units at most.

/// How long something took or has lasted, rounded down: `850ms`, `4.2s`, `38s`, `4m10s`, `12m`, `4h12m`.
pub(crate) fn elapsed(ms: u64) -> String {
    let seconds = ms / 1_000;
    let two_units = |whole: u64, unit: char, rest: u64, smaller: char| match rest {
        0 => format!("{whole}{unit}"),
        rest => format!("{whole}{unit}{rest:02}{smaller}"),
    };
    match seconds {
        0 => format!("{ms}ms"),
        1..10 => format!("{seconds}.{}s", ms % 1_000 / 100),
        10..60 => format!("{seconds}s"),
        60..3_600 => two_units(seconds / 60, 'm', seconds % 60, 's'),
        3_600..86_400 => two_units(seconds / 3_600, 'h', seconds / 60 % 60, 'm'),
        86_400.. => two_units(seconds / 86_400, 'd', seconds / 3_600 % 24, 'h'),
    }
}

/// What an operation cost: `850us`, `3.1ms`, then as [`elapsed`].
pub(super) fn cost(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}us"),
        1_000..100_000 => format!("{}.{}ms", us / 1_000, us % 1_000 / 100),
        100_000.. => elapsed(us / 1_000),
    }
}

/// A declared duration, exact, in its greatest whole unit: `500ms`, `5s`, `90s`, `2m`, `1h`.
pub(crate) fn declared(ms: u64) -> String {
    match ms {
        0 => "0s".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elapsed_time_has_two_units_at_most() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1.0s"),
            (9_999, "9.9s"),
            (59_999, "59s"),
            (250_000, "4m10s"),
            (720_000, "12m"),
            (15_120_000, "4h12m"),
            (273_600_000, "3d04h"),
        ] {
            assert_eq!(elapsed(ms), text);
        }
        assert!(elapsed(u64::MAX).ends_with('h'));
    }

    #[test]
    fn a_cost_starts_with_microseconds() {
        for (us, text) in [(0, "0us"), (850, "850us"), (3_140, "3.1ms"), (250_000, "250ms")] {
            assert_eq!(cost(us), text);
        }
    }

    #[test]
    fn a_declared_duration_is_exact() {
        for (ms, text) in [
            (0, "0s"),
            (5_000, "5s"),
            (90_000, "90s"),
            (120_000, "2m"),
            (3_600_000, "1h"),
            (1_500, "1500ms"),
        ] {
            assert_eq!(declared(ms), text);
        }
    }
}
