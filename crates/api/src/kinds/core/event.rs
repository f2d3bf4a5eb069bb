//! `v1` Event: a report about an object, for people. `events.k8s.io/v1` serves the same objects.

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::kinds::{Column, Kind, NAME, Strategy, column, row, wide};
use crate::meta;
use crate::time;
use crate::validate::field::text;

/// The row of the registry.
pub static KIND: Kind = Kind {
    short_names: &["ev"],
    columns: COLUMNS,
    create_on_update: true,
    selectable: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    strategy: Strategy {
        rules: |object, errors| rules_of(&object["involvedObject"], "involvedObject", object, errors),
        update_rules: |new, _, errors| rules_of(&new["involvedObject"], "involvedObject", new, errors),
        field: |object, path| match path {
            "source" => Some(component(object).to_owned()),
            _ => None,
        },
        row: table_row,
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row("", "v1", "Event", "events", "event");

pub(in crate::kinds) const COLUMNS: &[Column] = &[
    column("Last Seen", "Time when this event was last observed"),
    column(
        "Type",
        "Type of this event (Normal, Warning), new types could be added in the future",
    ),
    column(
        "Reason",
        "A short, machine understandable string that gives the reason for the transition",
    ),
    column("Object", "The object that this event is about."),
    wide("Subobject", "The part of the object that this event is about."),
    wide("Source", "The component reporting this event."),
    column(
        "Message",
        "A human-readable description of the status of this operation.",
    ),
    wide("First Seen", "The time at which the event was first recorded."),
    wide("Count", "The number of times this event has occurred."),
    Column { priority: 1, ..NAME },
];

/// Returns the reporter of the event, from the old field or the new one.
fn component(object: &Value) -> &str {
    match text(&object["source"], "component") {
        "" => text(object, "reportingComponent"),
        component => component,
    }
}

pub(in crate::kinds) fn table_row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let about = &object["involvedObject"];
    let since = |value: &Value| value.as_str().map(|then| time::age(Some(then), now));
    let unknown = || "<unknown>".to_owned();
    let first = since(&object["firstTimestamp"])
        .or_else(|| since(&object["eventTime"]))
        .unwrap_or_else(unknown);
    let series = &object["series"];
    let (last, count) = if series.is_object() {
        (
            since(&series["lastObservedTime"]).unwrap_or_else(unknown),
            series["count"].as_i64().unwrap_or_default(),
        )
    } else {
        let last = since(&object["lastTimestamp"]).unwrap_or_else(|| first.clone());
        (last, object["count"].as_i64().unwrap_or_default().max(1))
    };
    let kind = text(about, "kind").to_lowercase();
    let target = match text(about, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let host = match text(&object["source"], "component") {
        "" => text(object, "reportingInstance"),
        _ => text(&object["source"], "host"),
    };
    let source = match host {
        "" => component(object).to_owned(),
        host => format!("{}, {host}", component(object)),
    };
    vec![
        last.into(),
        text(object, "type").into(),
        text(object, "reason").into(),
        target.into(),
        text(about, "fieldPath").into(),
        source.into(),
        text(object, "message").trim().into(),
        first.into(),
        count.to_string().into(),
        meta::name(object).into(),
    ]
}

/// Validates the namespace of an event about the object `about`, which is in `field`. Both API
/// groups use it.
pub(in crate::kinds) fn rules_of(about: &Value, field: &str, object: &Value, errors: &mut Vec<FieldError>) {
    let root = Path::Root(field);
    let namespace = meta::namespace(object);
    let named = text(about, "namespace");
    // Events about cluster-scoped objects are in the default namespace.
    let fits = if named.is_empty() {
        matches!(namespace, "" | "default" | "kube-system")
    } else {
        named == namespace
    };
    if !fits {
        errors.push(FieldError::invalid(
            &root.child("namespace"),
            named,
            "does not match event.namespace",
        ));
    }
}
