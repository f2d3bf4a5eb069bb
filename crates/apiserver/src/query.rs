//! Query parameters of a request.

use std::borrow::Cow;
use std::time::Duration;

use api::status::Status;

/// Query parameters in the order of the request.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses a query string, without the `?`.
    pub(crate) fn parse(query: Option<&str>) -> Query {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Query(
            pairs
                .map(|(key, value)| (Cow::into_owned(key), Cow::into_owned(value)))
                .collect(),
        )
    }

    /// Returns the first value of `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the first value of `key`. An empty value counts as absent, as in Kubernetes.
    pub(crate) fn non_empty(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// Returns all values of `key`.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// Returns a boolean as Kubernetes parses it: false if absent, `false` or `0`; otherwise true,
    /// also without a value.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// Returns the timeout that the client requests (`timeout`, a Go duration), or 400. `None` if
    /// it is absent, 0 or negative.
    pub(crate) fn timeout(&self) -> Result<Option<Duration>, Status> {
        let Some(text) = self.non_empty("timeout") else {
            return Ok(None);
        };
        go_duration(text).ok_or_else(|| {
            Status::bad_request(format!(
                "invalid timeout specified in the request URL - time: invalid duration {}",
                api::field_error::quote(text)
            ))
        })
    }

    /// Returns an integer, or 400.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, Status> {
        let Some(value) = self.non_empty(key) else {
            return Ok(None);
        };
        let parsed = value.parse().map_err(|_| {
            Status::bad_request(format!(
                "unable to decode query parameter {key:?}: {value:?} is not a whole number"
            ))
        })?;
        Ok(Some(parsed))
    }
}

/// Parses a duration as Go's `time.ParseDuration` does: numbers with units, such as `1h2m3.5s`. The
/// inner `None` is a duration of 0 or less; the outer `None` is an invalid duration.
#[expect(
    clippy::option_option,
    reason = "not a duration, or a duration that sets no limit"
)]
fn go_duration(text: &str) -> Option<Option<Duration>> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("\u{b5}s", 1e-6),
        ("\u{3bc}s", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    /// The longest duration in Go, in seconds.
    const SECONDS_MAX: f64 = 9_223_372_036.0;
    let is_negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Some(None);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, after) = rest.split_at(number);
        let unit = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        // Digits on one side of the point are enough; a lone point is not a number.
        seconds += value.parse::<f64>().ok()? * scale;
        rest = next;
    }
    if seconds > SECONDS_MAX {
        return None;
    }
    let duration = Duration::try_from_secs_f64(seconds).ok()?;
    Some((!is_negative && !duration.is_zero()).then_some(duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_go_reads_them() {
        let timeout = |text: &str| Query(vec![("timeout".to_owned(), text.to_owned())]).timeout();
        let seconds = |seconds| Ok(Some(Duration::from_secs_f64(seconds)));
        for (text, expected) in [
            ("32s", 32.0),
            ("1m30s", 90.0),
            ("1.5h", 5400.0),
            (".5s", 0.5),
            ("300ms", 0.3),
        ] {
            assert_eq!(timeout(text).map_err(|_| ()), seconds(expected), "{text}");
        }
        for text in ["", "0", "0s", "-5s", "-0"] {
            assert_eq!(timeout(text).map_err(|_| ()), Ok(None), "{text}");
        }
        for text in ["invalid", "5", "s", ".s", "5 s", "1d", "-", "1e3s", "9999999999h"] {
            assert_eq!(timeout(text).unwrap_err().code, 400, "{text}");
        }
        let message = timeout("invalid").unwrap_err().message;
        assert_eq!(
            message,
            "invalid timeout specified in the request URL - time: invalid duration \"invalid\""
        );
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        let query = Query::parse(Some("a&b=&c=true&d=1&e=false&f=0"));
        for name in ["a", "b", "c", "d"] {
            assert!(query.flag(name), "{name}");
        }
        for name in ["e", "f", "missing"] {
            assert!(!query.flag(name), "{name}");
        }
    }

    #[test]
    fn values_are_decoded() {
        let query = Query::parse(Some("labelSelector=a%3Db%2Cc&fieldSelector=x+y"));
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert_eq!(query.get("fieldSelector"), Some("x y"));
    }
}
