//! Times in Kubernetes' formats: RFC 3339 in UTC with whole seconds (`Time`) or microseconds
//! (`MicroTime`).

use jiff::{Timestamp, tz::Offset};

/// The precision of a formatted time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// `2006-01-02T15:04:05Z`
    Seconds,
    /// `2006-01-02T15:04:05.000000Z`
    Micros,
}

/// Formats a time; smaller fractions are cut off.
pub(crate) fn format(instant: Timestamp, precision: Precision) -> String {
    let time = Offset::UTC.to_datetime(instant);
    let (year, month, day) = (time.year(), time.month(), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    match precision {
        Precision::Seconds => format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"),
        Precision::Micros => {
            let micros = time.subsec_nanosecond() / 1000;
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
        }
    }
}

/// Parses RFC 3339. The error has Go's words.
pub(crate) fn parse(text: &str, precision: Precision) -> Result<Timestamp, String> {
    let layout = match precision {
        Precision::Seconds => "2006-01-02T15:04:05Z07:00",
        Precision::Micros => "2006-01-02T15:04:05.000000Z07:00",
    };
    if is_shaped(text, precision)
        && let Ok(instant) = text.parse::<Timestamp>()
    {
        return Ok(instant);
    }
    // The text that Go cannot parse, from the first part that differs from the layout.
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (bad, missing) = if has_date_and_time(text) && !is_shaped(text, precision) {
        (&text[DATE_AND_TIME..], &layout[DATE_AND_TIME..])
    } else if text.get(..4).is_some_and(digits) {
        (&text[4..], "-")
    } else {
        (text, "2006")
    };
    let missing = match precision {
        Precision::Micros => missing.trim_end_matches("Z07:00"),
        Precision::Seconds => missing,
    };
    Err(format!(
        "parsing time {text:?} as {layout:?}: cannot parse {bad:?} as {missing:?}"
    ))
}

/// Returns whether the text already has the form of [`format`].
pub(crate) fn is_canonical(text: &str, precision: Precision) -> bool {
    text.ends_with('Z')
        && is_shaped(text, precision)
        && text.len()
            == match precision {
                Precision::Seconds => 20,
                Precision::Micros => 27,
            }
}

/// Length of `2006-01-02T15:04:05` in bytes.
const DATE_AND_TIME: usize = 19;

fn has_date_and_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        bytes
            .get(range)
            .is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    [0..4, 5..7, 8..10, 11..13, 14..16, 17..19]
        .into_iter()
        .all(digits)
        && marks.iter().all(|(at, mark)| bytes.get(*at) == Some(mark))
}

/// Returns whether the text is RFC 3339, which allows less than ISO 8601: no date without a time,
/// no `t` or space, no offset without a colon, no zone name.
fn is_shaped(text: &str, precision: Precision) -> bool {
    if !has_date_and_time(text) {
        return false;
    }
    let rest = &text[DATE_AND_TIME..];
    let fraction = rest
        .strip_prefix('.')
        .map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    let zone = if rest.starts_with('.') {
        &rest[1 + fraction..]
    } else {
        rest
    };
    let zone = zone.as_bytes();
    let offset = zone.len() == 6 && matches!(zone[0], b'+' | b'-') && zone[3] == b':';
    let plain_fraction = match precision {
        Precision::Seconds => !rest.starts_with('.') || fraction > 0,
        Precision::Micros => fraction == 6,
    };
    (zone == b"Z" || offset) && plain_fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_in_utc() {
        let instant = parse("2026-01-02T03:04:05.9+02:00", Precision::Seconds).expect("RFC 3339");
        assert_eq!(format(instant, Precision::Seconds), "2026-01-02T01:04:05Z");
        assert_eq!(format(instant, Precision::Micros), "2026-01-02T01:04:05.900000Z");
        assert!(is_canonical("2026-01-02T01:04:05Z", Precision::Seconds));
        assert!(!is_canonical("2026-01-02T01:04:05+00:00", Precision::Seconds));
    }

    #[test]
    fn other_formats_are_rejected_in_the_words_of_go() {
        assert_eq!(
            parse("yesterday", Precision::Seconds),
            Err(r#"parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#.to_owned())
        );
        for bad in [
            "",
            "2026",
            "2026-01-02",
            "2026-01-02 03:04:05Z",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05Z[UTC]",
            "2026-13-02T03:04:05Z",
            "ä026-01-02T03:04:05Z",
        ] {
            assert!(parse(bad, Precision::Seconds).is_err(), "{bad}");
        }
        let refused = |text, precision| parse(text, precision).unwrap_err();
        assert!(
            refused("2026-01-02T03:04:05Z", Precision::Micros).ends_with(r#"cannot parse "Z" as ".000000""#)
        );
        assert!(
            refused("2026-01-02T03:04:05", Precision::Seconds).ends_with(r#"cannot parse "" as "Z07:00""#)
        );
    }
}
