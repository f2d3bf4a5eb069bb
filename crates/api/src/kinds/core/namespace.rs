//! `v1` Namespace. Its deletion has two steps: it is marked, and then deleted when it is empty and
//! has no finalizers.

use serde_json::{Value, json};

use crate::default;
use crate::field_error::{FieldError, Path};
use crate::kinds::{AGE, Kind, NAME, StatusField, Strategy, column, keep_field, row, status_of, subresource};
use crate::meta;
use crate::print;
use crate::validate::field::{check_name, text, texts};
use crate::validate::name;

/// The finalizer that keeps a namespace until its content is deleted.
pub const FINALIZER: &str = "kubernetes";
/// The label with the name of the namespace, which every namespace has.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The row of the registry.
pub static KIND: Kind = Kind {
    short_names: &["ns"],
    namespaced: false,
    // There is no `deletecollection`, because deleting a namespace also deletes its content.
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
    subresources: &[
        subresource("finalize", ("", "v1", "Namespace"), &["update"]),
        status_of(("", "v1", "Namespace")),
    ],
    selectable: &["status.phase"],
    columns: &[NAME, column("Status", "The status of the namespace"), AGE],
    strategy: Strategy {
        status: StatusField::Separate,
        default,
        create,
        update: |new, old| keep_field(new, old, "spec"),
        name: name::dns_label,
        status_rules,
        row: |object, now| {
            let phase = text(&object["status"], "phase");
            vec![meta::name(object).into(), phase.into(), print::age(object, now)]
        },
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row("", "v1", "Namespace", "namespaces", "namespace");

fn default(object: &mut Value) {
    let name = meta::name(object).to_owned();
    if name.is_empty() {
        return;
    }
    if let Some(labels) = default::object_or_new(meta::metadata_mut(object), "labels") {
        labels.insert(NAME_LABEL.to_owned(), name.into());
    }
}

fn create(object: &mut Value) {
    // The label contains the name, which may have been generated after the first call.
    default(object);
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    fields.insert("status".to_owned(), json!({"phase": "Active"}));
    let Some(spec) = default::object_or_new(fields, "spec") else {
        return;
    };
    default::set_missing(spec, "finalizers", || json!([]));
    if let Some(finalizers) = spec.get_mut("finalizers").and_then(Value::as_array_mut)
        && !finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    {
        finalizers.push(FINALIZER.into());
    }
}

fn status_rules(new: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::Root("status");
    let phase = text(&new["status"], "phase");
    let (wanted, when) = match meta::deletion_timestamp(new) {
        None => ("Active", "empty"),
        Some(_) => ("Terminating", "not empty"),
    };
    if phase != wanted {
        let detail = format!("may only be '{wanted}' if `deletionTimestamp` is {when}");
        errors.push(FieldError::invalid(&path.child("Phase"), phase, detail));
    }
}

/// Prepares the `finalize` subresource, which changes the finalizers of the spec and keeps the
/// status.
pub fn prepare_finalize(new: &mut Value, old: &Value) {
    meta::carry_over(new, old);
    keep_field(new, old, "status");
}

/// Validates the `finalize` subresource.
pub fn validate_finalize(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = KIND.validate_update(new, old);
    let spec = Path::Root("spec");
    let path = spec.child("finalizers");
    for (index, finalizer) in texts(&new["spec"], "finalizers").enumerate() {
        check_name(finalizer, name::qualified, &path.index(index), &mut errors);
    }
    errors
}

/// Sets the phase of a namespace that is being deleted. The caller also calls
/// `meta::stamp_deletion`.
pub fn set_terminating(object: &mut Value) {
    if let Some(fields) = object.as_object_mut()
        && let Some(status) = default::object_or_new(fields, "status")
    {
        status.insert("phase".to_owned(), "Terminating".into());
    }
}
