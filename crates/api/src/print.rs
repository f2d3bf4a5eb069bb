//! Cells of printed tables, as several kinds use them.

use jiff::Timestamp;
use serde_json::Value;

use crate::meta;
use crate::time;

/// The text of an empty cell.
pub(crate) const NONE: &str = "<none>";

/// Returns the time since the object was created.
pub(crate) fn age(object: &Value, now: Timestamp) -> Value {
    time::age(meta::creation_timestamp(object), now).into()
}

/// Returns the text, or `<none>` when it is empty.
pub(crate) fn or_none(text: &str) -> Value {
    if text.is_empty() { NONE.into() } else { text.into() }
}

/// Returns the texts joined by commas, or `<none>`.
pub(crate) fn joined<'a>(texts: impl IntoIterator<Item = &'a str>) -> Value {
    let texts: Vec<&str> = texts.into_iter().collect();
    or_none(&texts.join(","))
}

/// Returns a map of labels as `a=b,c=d`, or `<none>`.
pub(crate) fn label_map(map: &Value) -> Value {
    let pairs: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    or_none(&pairs.join(","))
}

/// Returns a label selector as `a=b,c in (d,e),!f`, or `<none>` when it selects everything.
pub(crate) fn label_selector(selector: &Value) -> Value {
    let mut parts: Vec<String> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        parts.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    parts.sort_unstable();
    or_none(&parts.join(","))
}

/// Returns the names and the images of a pod spec's containers, joined by commas.
pub(crate) fn containers_and_images(pod_spec: &Value) -> [Value; 2] {
    let containers = pod_spec["containers"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    ["name", "image"].map(|field| {
        let texts: Vec<&str> = containers
            .iter()
            .filter_map(|container| container[field].as_str())
            .collect();
        texts.join(",").into()
    })
}

/// Returns an integer cell; 0 when the field is missing.
pub(crate) fn count(object: &Value, field: &str) -> Value {
    object[field].as_i64().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_print_sorted_and_empty_ones_as_none() {
        assert_eq!(label_selector(&json!({})), "<none>");
        let selector = json!({"matchLabels": {"b": "c"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "z", "operator": "DoesNotExist"}]});
        assert_eq!(label_selector(&selector), "!z,a in (x,y),b=c");
        assert_eq!(label_map(&json!({"a": "b", "c": "d"})), "a=b,c=d");
        assert_eq!(label_map(&Value::Null), "<none>");
    }
}
