//! `v1` ConfigMap: data that is not secret.

use serde_json::Value;

use super::DATA_SIZE;
use crate::field_error::{FieldError, Path};
use crate::kinds::{AGE, Kind, NAME, Strategy, integer, row};
use crate::meta;
use crate::print;
use crate::validate::field::check_name;
use crate::validate::meta::entries;
use crate::validate::name;

/// The row of the registry.
pub static KIND: Kind = Kind {
    short_names: &["cm"],
    columns: &[NAME, integer("Data", "The number of keys in the data."), AGE],
    strategy: Strategy {
        rules,
        update_rules: |new, old, errors| {
            check_immutable_data(new, old, &["data", "binaryData"], errors);
            rules(new, errors);
        },
        row: |object, now| {
            let keys = entries(&object["data"]).count() + entries(&object["binaryData"]).count();
            vec![meta::name(object).into(), keys.into(), print::age(object, now)]
        },
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row("", "v1", "ConfigMap", "configmaps", "configmap");

fn rules(object: &Value, errors: &mut Vec<FieldError>) {
    let (data, binary) = (Path::Root("data"), Path::Root("binaryData"));
    let mut size = 0;
    for (key, value) in entries(&object["data"]) {
        check_name(key, name::config_key, &data.key(key), errors);
        if object["binaryData"].get(key).is_some() {
            let detail = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(&data.key(key), key.as_str(), detail));
        }
        size += value.as_str().map_or(0, str::len);
    }
    for (key, value) in entries(&object["binaryData"]) {
        check_name(key, name::config_key, &binary.key(key), errors);
        size += decoded_length(value);
    }
    if size > DATA_SIZE {
        errors.push(FieldError::too_long(&Path::Root(""), DATA_SIZE));
    }
}

/// Returns the decoded length of a base64 text, in bytes.
pub(super) fn decoded_length(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.trim_end_matches('=').len() * 3 / 4
}

/// Validates that `immutable` stays set once it is, and that the guarded fields then do not change.
pub(super) fn check_immutable_data(new: &Value, old: &Value, guarded: &[&str], errors: &mut Vec<FieldError>) {
    if old["immutable"] != true {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if new["immutable"] != true {
        errors.push(FieldError::forbidden(&Path::Root("immutable"), detail));
    }
    for field in guarded {
        if new[*field] != old[*field] {
            errors.push(FieldError::forbidden(&Path::Root(field), detail));
        }
    }
}
