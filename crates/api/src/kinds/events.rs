//! `events.k8s.io/v1` Event: the newer face of the core group's Events, which own the stored objects.

use serde_json::{Map, Value};

use crate::kinds::core::event;
use crate::kinds::{Conversion, Kind, Strategy, row};

/// The row of the registry.
pub static KIND: Kind = Kind {
    short_names: &["ev"],
    columns: event::COLUMNS,
    create_on_update: true,
    // In the order of the stored kind, whose attributes hold the values.
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
        rules: |object, errors| event::rules_of(&object["regarding"], "regarding", object, errors),
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

/// Names of the same field: here, and in the core group.
const FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

/// Makes an Event of `events.k8s.io/v1` one of the core group.
pub fn to_stored(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        for (here, core) in FIELDS {
            rename(fields, here, core);
        }
        fields.insert("apiVersion".to_owned(), "v1".into());
    }
    // The two types differ in which empty fields they write.
    schema::canonicalize(event::KIND.ty(), object);
}

/// Makes an Event of the core group one of `events.k8s.io/v1`.
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
