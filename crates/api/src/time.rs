//! Times in Kubernetes' formats: `metav1.Time` (RFC 3339, whole seconds), `metav1.MicroTime`, and
//! the short ages of printed tables.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Formats a `metav1.Time`: `2026-01-02T03:04:05Z`. Fractions of a second are cut off.
pub fn rfc3339(time: Timestamp) -> String {
    format(time, "%Y-%m-%dT%H:%M:%SZ")
}

/// Formats a `metav1.MicroTime`: `2026-01-02T03:04:05.000006Z`.
pub fn rfc3339_micro(time: Timestamp) -> String {
    format(time, "%Y-%m-%dT%H:%M:%S.%6fZ")
}

fn format(time: Timestamp, pattern: &str) -> String {
    time.to_zoned(TimeZone::UTC).strftime(pattern).to_string()
}

/// Parses either format, or any other RFC 3339 time. `None` when the text is not a time.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Formats the age of something created at `then`, as tables print it: `<unknown>` without a time,
/// else [`human_duration`].
pub fn age(then: Option<&str>, now: Timestamp) -> String {
    match then.and_then(parse) {
        Some(then) => human_duration(now.as_second() - then.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// Formats seconds as Kubernetes' `HumanDuration`: two units while the second one is significant.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;

    // Clocks of machines differ a little: one second in the future still counts as now.
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let two = |large: i64, large_unit: char, small: i64, small_unit: char| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match seconds {
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, 'm', s % MINUTE, 's'),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, 'h', s % HOUR / MINUTE, 'm'),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, 'd', s % DAY / HOUR, 'h'),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, 'y', s % YEAR / DAY, 'd'),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_print_as_kubectl_shows_them() {
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * 3600 - 1, "179m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (8 * 3600, "8h"),
            (47 * 3600, "47h"),
            (48 * 3600, "2d"),
            (49 * 3600, "2d1h"),
            (8 * 86400, "8d"),
            (729 * 86400, "729d"),
            (730 * 86400, "2y"),
            (731 * 86400, "2y1d"),
            (9 * 365 * 86400, "9y"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(human_duration(seconds), expected, "{seconds} seconds");
        }
    }

    #[test]
    fn times_are_written_in_both_forms_and_read_back() {
        let time = Timestamp::new(1_767_323_045, 6_000).expect("a time in range");
        assert_eq!(rfc3339(time), "2026-01-02T03:04:05Z");
        assert_eq!(rfc3339_micro(time), "2026-01-02T03:04:05.000006Z");
        assert_eq!(parse(&rfc3339_micro(time)), Some(time));
        assert_eq!(parse("yesterday"), None);
        assert_eq!(age(None, time), "<unknown>");
        assert_eq!(age(Some("2026-01-02T03:03:59Z"), time), "6s");
    }
}
