//! Fields of Events of the old and the new API. Their time may be in several fields.

use serde_json::Value;

/// Returns when an event was last seen; empty if it has no time.
pub(crate) fn last_seen(event: &Value) -> &str {
    let field = |name: &str| event[name].as_str().filter(|time| !time.is_empty());
    let series = event["series"]["lastObservedTime"].as_str();
    series
        .or_else(|| field("lastTimestamp"))
        .or_else(|| field("eventTime"))
        .or_else(|| event["metadata"]["creationTimestamp"].as_str())
        .unwrap_or_default()
}

/// Returns how often the event occurred.
pub(crate) fn count(event: &Value) -> i64 {
    let series = event["series"]["count"].as_i64();
    series.or_else(|| event["count"].as_i64()).unwrap_or(1).max(1)
}

/// Returns when it was first seen; empty if it has no time.
pub(crate) fn first_seen(event: &Value) -> &str {
    let field = |name: &str| event[name].as_str().filter(|time| !time.is_empty());
    field("eventTime")
        .or_else(|| field("firstTimestamp"))
        .unwrap_or_default()
}
