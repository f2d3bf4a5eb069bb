//! Accessors of JSON values, and checks of single fields.

use serde_json::Value;

use crate::field_error::{FieldError, Path};

/// Returns the text of a field; empty when it is missing.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Returns the items of a list field; empty when it is missing.
pub(crate) fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Returns whether a boolean field is true.
pub(crate) fn flag(value: &Value, field: &str) -> bool {
    value[field].as_bool().unwrap_or_default()
}

/// Returns whether a field is present and not null.
pub(crate) fn present(value: &Value, field: &str) -> bool {
    !value[field].is_null()
}

/// Returns the strings in a list field.
pub(crate) fn texts<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    list(value, field)
        .iter()
        .map(|item| item.as_str().unwrap_or_default())
}

/// A rule that adds a sentence for each fault of a text.
pub(crate) type NameRule = fn(&str, &mut Vec<&'static str>);

/// Checks a text with a rule.
pub(crate) fn check_name(text: &str, rule: NameRule, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut messages = Vec::new();
    rule(text, &mut messages);
    for message in messages {
        errors.push(FieldError::invalid(path, text, message));
    }
}

/// Checks a text that is required, with a rule.
pub(crate) fn check_required_name(
    value: &Value,
    field: &str,
    rule: NameRule,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    match text(value, field) {
        "" => errors.push(FieldError::required(&path.child(field), "")),
        name => check_name(name, rule, &path.child(field), errors),
    }
}

/// Checks a number that may be missing but not negative.
pub(crate) fn check_non_negative(value: &Value, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(number) = value[field].as_i64()
        && number < 0
    {
        errors.push(FieldError::invalid(
            &path.child(field),
            number,
            "must be greater than or equal to 0",
        ));
    }
}

/// Checks a number that may be missing, else must be between `low` and `high`, both included.
pub(crate) fn check_range(
    value: &Value,
    field: &str,
    (low, high): (i64, i64),
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    if let Some(number) = value[field].as_i64() {
        check_number(number, (low, high), &path.child(field), errors);
    }
}

/// Checks a number that must be between `low` and `high`, both included.
pub(crate) fn check_number(
    number: i64,
    (low, high): (i64, i64),
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    if !(low..=high).contains(&number) {
        errors.push(FieldError::invalid(
            path,
            number,
            format!("must be between {low} and {high}, inclusive"),
        ));
    }
}

/// The range of port numbers.
pub(crate) const PORTS: (i64, i64) = (1, 65535);

/// Checks a text that must be one of `supported`; empty counts as missing.
pub(crate) fn check_one_of(
    value: &Value,
    field: &str,
    supported: &[&str],
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    match text(value, field) {
        "" => errors.push(FieldError::required(&path.child(field), "")),
        found if supported.contains(&found) => {}
        found => errors.push(FieldError::not_supported(&path.child(field), found, supported)),
    }
}

/// Checks a text that may be missing, else must be one of `supported`.
pub(crate) fn check_optional_one_of(
    value: &Value,
    field: &str,
    supported: &[&str],
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    if present(value, field) {
        let found = text(value, field);
        if !supported.contains(&found) {
            errors.push(FieldError::not_supported(&path.child(field), found, supported));
        }
    }
}

/// Checks a port number or port name.
pub(crate) fn check_port(value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::String(name) => check_name(name, super::name::port_name, path, errors),
        other => check_number(other.as_i64().unwrap_or_default(), PORTS, path, errors),
    }
}

/// Checks a field that must not change.
pub(crate) fn check_immutable(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if new != old {
        errors.push(FieldError::invalid(path, new.clone(), IMMUTABLE));
    }
}

/// The message for a change of an immutable field.
pub(crate) const IMMUTABLE: &str = "field is immutable";
