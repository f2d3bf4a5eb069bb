//! Durations in kubectl's format: `90s`, `5m0s`, `1h30m`.

use std::time::Duration;

/// Parses a duration; `0` needs no unit.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let signed: Result<jiff::SignedDuration, _> = text.parse();
    signed
        .ok()
        .and_then(|signed| Duration::try_from(signed).ok())
        .ok_or_else(|| format!("invalid duration {text:?}: write it as 90s, 10m or 2h"))
}

/// Formats whole seconds like Go: `45s`, `5m0s`, `1h30m0s`.
pub(crate) fn display(duration: Duration) -> String {
    let (hours, minutes, seconds) = (
        duration.as_secs() / 3600,
        duration.as_secs() / 60 % 60,
        duration.as_secs() % 60,
    );
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Runs `work` with a timeout; zero means no timeout. Returns `None` after the timeout.
pub(crate) async fn bounded<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Duration::ZERO => Some(work.await),
        limit => tokio::time::timeout(limit, work).await.ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, shown) in [
            ("0", "0s"),
            ("0s", "0s"),
            ("90s", "1m30s"),
            ("5m", "5m0s"),
            ("1h30m", "1h30m0s"),
        ] {
            assert_eq!(display(parse(text).unwrap()), shown, "{text}");
        }
        for text in ["x", "-5s", "", "5"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
