//! Reading Events, old and new: their time is in one of several fields.

use serde_json::Value;

/// When an event was last seen; empty when it does not say.
pub(crate) fn last_seen(event: &Value) -> &str {
    let field = |name: &str| event[name].as_str().filter(|time| !time.is_empty());
    let series = event["series"]["lastObservedTime"].as_str();
    series
        .or_else(|| field("lastTimestamp"))
        .or_else(|| field("eventTime"))
        .or_else(|| event["metadata"]["creationTimestamp"].as_str())
        .unwrap_or_default()
}

/// How often it was seen.
pub(crate) fn count(event: &Value) -> i64 {
    let series = event["series"]["count"].as_i64();
    series.or_else(|| event["count"].as_i64()).unwrap_or(1).max(1)
}

/// When it was first seen; empty when it does not say.
pub(crate) fn first_seen(event: &Value) -> &str {
    let field = |name: &str| event[name].as_str().filter(|time| !time.is_empty());
    field("eventTime")
        .or_else(|| field("firstTimestamp"))
        .unwrap_or_default()
}
