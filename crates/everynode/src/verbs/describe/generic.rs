//! `describe` of a kind without its own page: prints the fields.

use serde_json::Value;

use super::{annotations, or_none, pairs};
use crate::client::resources::Resource;
use crate::client::sheet::Sheet;

pub(super) fn describe(sheet: &mut Sheet, resource: &Resource, object: &Value) {
    let metadata = &object["metadata"];
    sheet.field(0, "Name", or_none(&metadata["name"]));
    if resource.namespaced {
        sheet.field(0, "Namespace", or_none(&metadata["namespace"]));
    }
    sheet.field(0, "Labels", pairs(&metadata["labels"], "="));
    sheet.field(0, "Annotations", annotations(object));
    sheet.field(0, "API Version", resource.api_version());
    sheet.field(0, "Kind", &resource.kind);
    sheet.field(0, "Created", or_none(&metadata["creationTimestamp"]));
    let secret = resource.kind == "Secret";
    for (field, value) in object.as_object().into_iter().flatten() {
        if matches!(field.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if secret && field == "data" {
            sizes(sheet, value);
        } else {
            tree(sheet, 0, field, &title(field), value);
        }
    }
}

/// Prints the sizes of a Secret's values, not the values.
fn sizes(sheet: &mut Sheet, data: &Value) {
    sheet.line(0, "Data:");
    for (key, value) in data.as_object().into_iter().flatten() {
        // Four characters of base64 are three bytes; the padding is none.
        let text = value.as_str().unwrap_or_default();
        let bytes = text.len() / 4 * 3
            - text
                .bytes()
                .rev()
                .take_while(|byte| *byte == b'=')
                .count()
                .min(text.len() / 4 * 3);
        sheet.field(1, key, format_args!("{bytes} bytes"));
    }
}

/// Fields whose keys users choose. They are printed unchanged.
const MAPS: &[&str] = &[
    "data",
    "binaryData",
    "selector",
    "matchLabels",
    "nodeSelector",
    "labels",
    "annotations",
    "capacity",
    "allocatable",
    "limits",
    "requests",
    "hard",
    "used",
];

/// Prints `value` under `name`; `field` is the name in the API.
fn tree(sheet: &mut Sheet, depth: usize, field: &str, name: &str, value: &Value) {
    let named = |child: &str| {
        if MAPS.contains(&field) {
            child.to_owned()
        } else {
            title(child)
        }
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            sheet.line(depth, format_args!("{name}:"));
            for (child, value) in fields {
                tree(sheet, depth + 1, child, &named(child), value);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            sheet.line(depth, format_args!("{name}:"));
            for item in items {
                for (child, value) in item.as_object().into_iter().flatten() {
                    tree(sheet, depth + 1, child, &title(child), value);
                }
            }
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(or_none).collect();
            sheet.field(depth, name, items.join("\n"));
        }
        other => sheet.field(depth, name, or_none(other)),
    }
}

/// Returns `Cluster IP` for `clusterIP`.
fn title(field: &str) -> String {
    let mut title = String::new();
    let mut before_lower = false;
    for (index, letter) in field.char_indices() {
        if letter.is_ascii_uppercase() && before_lower {
            title.push(' ');
        }
        before_lower = letter.is_ascii_lowercase();
        title.push(if index == 0 {
            letter.to_ascii_uppercase()
        } else {
            letter
        });
    }
    title
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_field_name_becomes_words() {
        assert_eq!(super::title("clusterIP"), "Cluster IP");
        assert_eq!(super::title("podManagementPolicy"), "Pod Management Policy");
    }
}
