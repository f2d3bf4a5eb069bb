//! `events.k8s.io/v1` Event: the newer form of Events, which are stored in the form of the core
//! group.

use serde_json::{Map, Value};

use crate::field_error::{FieldError, Path};
use crate::kinds::core::event;
use crate::kinds::{Conversion, Kind, Strategy, row};
use crate::validate::field::{check_name, text};
use crate::validate::name;

/// The row of the registry.
pub static KIND: Kind = Kind {
    short_names: &["ev"],
    columns: event::COLUMNS,
    create_on_update: true,
    // In the order of the stored kind, because its attributes are used.
    selectable: &[
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reason",
        "reportingController",
        "deprecatedSource.component",
        "type",
    ],
    conversion: Some(Conversion {
        stored: &event::KIND,
        to_stored,
        from_stored,
    }),
    strategy: Strategy {
        rules: |object, errors| {
            event::rules_of(&object["regarding"], "regarding", object, errors);
            new_rules(object, errors);
        },
        update_rules: |new, _, errors| event::rules_of(&new["regarding"], "regarding", new, errors),
        row: |object, now| {
            let mut stored = object.clone();
            to_stored(&mut stored);
            KIND_ROW(&stored, now)
        },
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row("events.k8s.io", "v1", "Event", "events", "event");
const KIND_ROW: fn(&Value, jiff::Timestamp) -> Vec<Value> = event::table_row;

/// Fields with different names here and in the core group.
const FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

/// Most bytes of `action`, `reason` and `reportingInstance`.
const WORD_LENGTH: usize = 128;
/// Most bytes of `note`.
const NOTE_LENGTH: usize = 1024;

/// Validates a new event: required fields, and deprecated fields that must be empty.
fn new_rules(object: &Value, errors: &mut Vec<FieldError>) {
    if object["eventTime"].is_null() {
        errors.push(FieldError::required(&Path::Root("eventTime"), ""));
    }
    match text(object, "reportingController") {
        "" => errors.push(FieldError::required(&Path::Root("reportingController"), "")),
        found => check_name(found, name::qualified, &Path::Root("reportingController"), errors),
    }
    for field in ["reportingInstance", "action", "reason"] {
        match text(object, field) {
            "" => errors.push(FieldError::required(&Path::Root(field), "")),
            found => check_length(field, found, WORD_LENGTH, errors),
        }
    }
    check_length("note", text(object, "note"), NOTE_LENGTH, errors);
    let kind = text(object, "type");
    if !matches!(kind, "Normal" | "Warning") {
        let detail = format!("has invalid value: {kind}");
        errors.push(FieldError::invalid(&Path::Root("type"), "", detail));
    }
    let older = [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
    ];
    for (field, shown) in older {
        if !object[field].is_null() {
            errors.push(FieldError::invalid(&Path::Root(shown), "", "needs to be unset"));
        }
    }
    if object["deprecatedCount"].as_i64().unwrap_or_default() != 0 {
        errors.push(FieldError::invalid(&Path::Root("count"), "", "needs to be unset"));
    }
    let source = &object["deprecatedSource"];
    if !text(source, "component").is_empty() || !text(source, "host").is_empty() {
        errors.push(FieldError::invalid(
            &Path::Root("source"),
            "",
            "needs to be unset",
        ));
    }
}

fn check_length(field: &str, found: &str, max: usize, errors: &mut Vec<FieldError>) {
    if found.len() > max {
        let detail = format!("can have at most {max} characters");
        errors.push(FieldError::invalid(&Path::Root(field), "", detail));
    }
}

/// Converts an Event of `events.k8s.io/v1` to the core group.
pub fn to_stored(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        for (here, core) in FIELDS {
            rename(fields, here, core);
        }
        fields.insert("apiVersion".to_owned(), "v1".into());
    }
    // The two types write different empty fields.
    schema::canonicalize(event::KIND.ty(), object);
}

/// Converts an Event of the core group to `events.k8s.io/v1`.
pub fn from_stored(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        for (here, core) in FIELDS {
            rename(fields, core, here);
        }
        fields.insert("apiVersion".to_owned(), "events.k8s.io/v1".into());
    }
    schema::canonicalize(KIND.ty(), object);
}

fn rename(fields: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = fields.remove(from) {
        fields.insert(to.to_owned(), value);
    }
}
