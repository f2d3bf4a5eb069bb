//! Validation of taints and tolerations.

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::validate::field::{check_name, list, present, text};
use crate::validate::name;

/// The effects of a taint, in Kubernetes' order.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Validates the tolerations in the list field `field` of `owner`.
pub(crate) fn tolerations(owner: &Value, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (index, toleration) in list(owner, field).iter().enumerate() {
        check_toleration(toleration, &path.index(index), errors);
    }
}

fn check_toleration(toleration: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
    let (value, effect) = (text(toleration, "value"), text(toleration, "effect"));
    if !key.is_empty() {
        check_name(key, name::qualified, &path.child("key"), errors);
    } else if operator != "Exists" {
        errors.push(FieldError::invalid(
            &path.child("operator"),
            operator,
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ));
    }
    if present(toleration, "tolerationSeconds") && effect != "NoExecute" {
        errors.push(FieldError::invalid(
            &path.child("effect"),
            effect,
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        ));
    }
    match operator {
        "" | "Equal" => {
            let mut messages = Vec::new();
            name::label_value(value, &mut messages);
            if !messages.is_empty() {
                errors.push(FieldError::invalid(
                    &path.child("operator"),
                    value,
                    messages.join(";"),
                ));
            }
        }
        "Exists" if !value.is_empty() => errors.push(FieldError::invalid(
            &path.child("operator"),
            value,
            "value must be empty when `operator` is 'Exists'",
        )),
        "Exists" => {}
        other => {
            let supported = ["Equal", "Exists"];
            errors.push(FieldError::not_supported(
                &path.child("operator"),
                other,
                &supported,
            ));
        }
    }
    if !effect.is_empty() {
        check_effect(effect, &path.child("effect"), errors);
    }
}

fn check_effect(effect: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if effect.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !EFFECTS.contains(&effect) {
        errors.push(FieldError::not_supported(path, effect, &EFFECTS));
    }
}

/// Validates the taints of a node. At most one for each key and effect.
pub(crate) fn taints(node_spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let taints = list(node_spec, "taints");
    for (index, taint) in taints.iter().enumerate() {
        let path = &path.index(index);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        check_name(key, name::qualified, &path.child("key"), errors);
        if !value.is_empty() {
            check_name(value, name::label_value, &path.child("value"), errors);
        }
        check_effect(effect, &path.child("effect"), errors);
        if taints[..index]
            .iter()
            .any(|before| text(before, "key") == key && text(before, "effect") == effect)
        {
            let mut error = FieldError::duplicate(path, taint.clone());
            error.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(error);
        }
    }
}
