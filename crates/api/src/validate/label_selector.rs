//! Validation of `metav1.LabelSelector`.

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::validate::field::{check_name, list, text, texts};
use crate::validate::meta::labels;
use crate::validate::name;

/// The operators of label selectors.
const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// Validates the labels and the expressions of a label selector.
pub(crate) fn label_selector(selector: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    labels(&selector["matchLabels"], &path.child("matchLabels"), errors);
    let expressions = path.child("matchExpressions");
    for (index, expression) in list(selector, "matchExpressions").iter().enumerate() {
        let path = expressions.index(index);
        requirement(expression, &OPERATORS, &path, errors);
        let values = path.child("values");
        for (index, value) in texts(expression, "values").enumerate() {
            check_name(value, name::label_value, &values.index(index), errors);
        }
    }
}

/// Validates the key, the operator and the number of values of a requirement on a label. The caller
/// checks the form of the values.
pub(crate) fn requirement(
    expression: &Value,
    operators: &[&str],
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let values = list(expression, "values");
    match text(expression, "operator") {
        other if !operators.contains(&other) => errors.push(FieldError::invalid(
            &path.child("operator"),
            other,
            "not a valid selector operator",
        )),
        "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
            &path.child("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
            &path.child("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        "Gt" | "Lt" if values.len() != 1 => errors.push(FieldError::required(
            &path.child("values"),
            "must be specified single value when `operator` is 'Lt' or 'Gt'",
        )),
        _ => {}
    }
    check_name(
        text(expression, "key"),
        name::qualified,
        &path.child("key"),
        errors,
    );
}

/// Returns whether the selector is empty, so that it selects everything.
pub(crate) fn is_empty(selector: &Value) -> bool {
    list(selector, "matchExpressions").is_empty()
        && selector["matchLabels"]
            .as_object()
            .is_none_or(serde_json::Map::is_empty)
}

/// Returns whether a selector matches a map of labels. A missing (null) selector matches nothing,
/// an empty one everything.
pub(crate) fn matches(selector: &Value, labels: &Value) -> bool {
    if !selector.is_object() {
        return false;
    }
    let wanted = selector["matchLabels"].as_object().into_iter().flatten();
    wanted.into_iter().all(|(key, value)| labels[key] == *value)
        && list(selector, "matchExpressions")
            .iter()
            .all(|expression| expression_matches(expression, labels))
}

fn expression_matches(expression: &Value, labels: &Value) -> bool {
    let value = labels[text(expression, "key")].as_str();
    let named = value.is_some_and(|value| texts(expression, "values").any(|wanted| wanted == value));
    match text(expression, "operator") {
        "In" => named,
        "NotIn" => !named,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}
