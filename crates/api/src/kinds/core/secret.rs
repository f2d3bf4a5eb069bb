//! `v1` Secret: data with restricted access.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::DATA_SIZE;
use super::config_map::{check_immutable_data, decoded_length};
use crate::default;
use crate::field_error::{FieldError, Path};
use crate::kinds::{AGE, Kind, NAME, Strategy, column, integer, row};
use crate::meta;
use crate::print;
use crate::validate::field::{check_immutable, check_name, text};
use crate::validate::meta::entries;
use crate::validate::name;

/// The annotation with the name of the ServiceAccount of a token.
const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

/// The row of the registry.
pub static KIND: Kind = Kind {
    selectable: &["type"],
    columns: &[
        NAME,
        column("Type", "Used to facilitate programmatic handling of secret data."),
        integer("Data", "The number of keys in the data."),
        AGE,
    ],
    strategy: Strategy {
        default,
        rules,
        update_rules: |new, old, errors| {
            check_immutable(&new["type"], &old["type"], &Path::Root("type"), errors);
            check_immutable_data(new, old, &["data"], errors);
            rules(new, errors);
        },
        update: |new, old| {
            if let Some(fields) = new.as_object_mut() {
                default::set_text(fields, "type", text(old, "type"));
            }
        },
        row: |object, now| {
            vec![
                meta::name(object).into(),
                text(object, "type").into(),
                entries(&object["data"]).count().into(),
                print::age(object, now),
            ]
        },
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row("", "v1", "Secret", "secrets", "secret");

/// Sets the default type, and moves `stringData` into `data`.
fn default(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    default::set_text(fields, "type", "Opaque");
    let Some(Value::Object(texts)) = fields.remove("stringData") else {
        return;
    };
    if texts.is_empty() {
        return;
    }
    if let Some(data) = default::object_or_new(fields, "data") {
        for (key, value) in texts {
            data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
        }
    }
}

fn rules(object: &Value, errors: &mut Vec<FieldError>) {
    let data = Path::Root("data");
    let mut size = 0;
    for (key, value) in entries(&object["data"]) {
        check_name(key, name::config_key, &data.key(key), errors);
        size += decoded_length(value);
    }
    if size > DATA_SIZE {
        errors.push(FieldError::too_long(&data, DATA_SIZE));
    }
    match text(object, "type") {
        "kubernetes.io/service-account-token" => check_account(object, errors),
        "kubernetes.io/dockercfg" => check_json(object, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => check_json(object, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" => check_login(object, errors),
        "kubernetes.io/ssh-auth" => check_key(object, "ssh-privatekey", errors),
        "kubernetes.io/tls" => {
            check_key(object, "tls.crt", errors);
            check_key(object, "tls.key", errors);
        }
        _ => {}
    }
}

fn check_account(object: &Value, errors: &mut Vec<FieldError>) {
    if meta::annotation(object, SERVICE_ACCOUNT_NAME).is_none_or(str::is_empty) {
        let metadata = Path::Root("metadata");
        let annotations = metadata.child("annotations");
        errors.push(FieldError::required(&annotations.key(SERVICE_ACCOUNT_NAME), ""));
    }
}

/// Validates that basic authentication has a user name or a password.
fn check_login(object: &Value, errors: &mut Vec<FieldError>) {
    let data = Path::Root("data");
    if ["username", "password"]
        .iter()
        .all(|key| object["data"].get(key).is_none())
    {
        errors.push(FieldError::required(&data.key("username"), ""));
        errors.push(FieldError::required(&data.key("password"), ""));
    }
}

fn check_key(object: &Value, key: &str, errors: &mut Vec<FieldError>) {
    if object["data"].get(key).is_none() {
        errors.push(FieldError::required(&Path::Root("data").key(key), ""));
    }
}

fn check_json(object: &Value, key: &str, errors: &mut Vec<FieldError>) {
    let data = Path::Root("data");
    let Some(encoded) = object["data"][key].as_str() else {
        errors.push(FieldError::required(&data.key(key), ""));
        return;
    };
    let is_json = STANDARD
        .decode(encoded)
        .is_ok_and(|bytes| serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes).is_ok());
    if !is_json {
        // The message does not contain the value, because it is secret.
        errors.push(FieldError::invalid(
            &data.key(key),
            "<secret contents redacted>",
            "not a JSON object",
        ));
    }
}
