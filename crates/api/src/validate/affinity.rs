//! Validation of node affinity, pod affinity and topology spread constraints.

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::validate::field::{check_name, check_one_of, list, present, text, texts};
use crate::validate::label_selector::{label_selector, requirement};
use crate::validate::name;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// The operators of node selectors.
const NODE_OPERATORS: [&str; 6] = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];

/// Validates `spec.affinity` of a pod.
pub(crate) fn affinity(affinity: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if present(affinity, "nodeAffinity") {
        node_affinity(&affinity["nodeAffinity"], &path.child("nodeAffinity"), errors);
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        if present(affinity, field) {
            pod_affinity(&affinity[field], &path.child(field), errors);
        }
    }
}

fn node_affinity(affinity: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if present(affinity, REQUIRED) {
        node_selector(&affinity[REQUIRED], &path.child(REQUIRED), errors);
    }
    let preferred = path.child(PREFERRED);
    for (index, term) in list(affinity, PREFERRED).iter().enumerate() {
        let path = preferred.index(index);
        weight(term, &path, errors);
        node_selector_term(&term["preference"], &path.child("preference"), errors);
    }
}

fn weight(term: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let weight = term["weight"].as_i64().unwrap_or_default();
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(
            &path.child("weight"),
            weight,
            "must be in the range 1-100",
        ));
    }
}

/// Validates a `NodeSelector`, which must have at least one term.
fn node_selector(selector: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let terms_path = path.child("nodeSelectorTerms");
    let terms = list(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(FieldError::required(
            &terms_path,
            "must have at least one node selector term",
        ));
    }
    for (index, term) in terms.iter().enumerate() {
        node_selector_term(term, &terms_path.index(index), errors);
        let term_path = terms_path.index(index);
        let expressions_path = term_path.child("matchExpressions");
        for (index, expression) in list(term, "matchExpressions").iter().enumerate() {
            let expression_path = expressions_path.index(index);
            let values_path = expression_path.child("values");
            for (index, value) in texts(expression, "values").enumerate() {
                check_name(value, name::label_value, &values_path.index(index), errors);
            }
        }
    }
}

fn node_selector_term(term: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let expressions = path.child("matchExpressions");
    for (index, expression) in list(term, "matchExpressions").iter().enumerate() {
        requirement(expression, &NODE_OPERATORS, &expressions.index(index), errors);
    }
    let fields = path.child("matchFields");
    for (index, field) in list(term, "matchFields").iter().enumerate() {
        node_field(field, &fields.index(index), errors);
    }
}

fn node_field(field: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match text(field, "operator") {
        "In" | "NotIn" => {
            if list(field, "values").len() != 1 {
                errors.push(FieldError::required(
                    &path.child("values"),
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
                ));
            }
        }
        other => {
            errors.push(FieldError::invalid(
                &path.child("operator"),
                other,
                "not a valid selector operator",
            ));
        }
    }
    match text(field, "key") {
        "metadata.name" => {
            let values_path = path.child("values");
            for (index, value) in texts(field, "values").enumerate() {
                check_name(value, name::dns_subdomain, &values_path.index(index), errors);
            }
        }
        other => errors.push(FieldError::invalid(
            &path.child("key"),
            other,
            "not a valid field selector key",
        )),
    }
}

fn pod_affinity(affinity: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let required = path.child(REQUIRED);
    for (index, term) in list(affinity, REQUIRED).iter().enumerate() {
        pod_affinity_term(term, &required.index(index), errors);
    }
    let preferred = path.child(PREFERRED);
    for (index, term) in list(affinity, PREFERRED).iter().enumerate() {
        let path = preferred.index(index);
        weight(term, &path, errors);
        pod_affinity_term(&term["podAffinityTerm"], &path.child("podAffinityTerm"), errors);
    }
}

fn pod_affinity_term(term: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    label_selector(&term["labelSelector"], &path.child("labelSelector"), errors);
    label_selector(
        &term["namespaceSelector"],
        &path.child("namespaceSelector"),
        errors,
    );
    for namespace in texts(term, "namespaces") {
        check_name(namespace, name::dns_label, &path.child("namespace"), errors);
    }
    topology_key(term, path, errors);
}

fn topology_key(term: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let key = text(term, "topologyKey");
    let path = path.child("topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(&path, "can not be empty"));
    }
    check_name(key, name::qualified, &path, errors);
}

/// Validates `spec.topologySpreadConstraints` of a pod.
pub(crate) fn topology_spread(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let constraints = list(spec, "topologySpreadConstraints");
    for (index, constraint) in constraints.iter().enumerate() {
        let path = &path.index(index);
        let skew = constraint["maxSkew"].as_i64().unwrap_or_default();
        if skew <= 0 {
            errors.push(FieldError::invalid(
                &path.child("maxSkew"),
                skew,
                "must be greater than zero",
            ));
        }
        match text(constraint, "topologyKey") {
            "" => errors.push(FieldError::required(
                &path.child("topologyKey"),
                "can not be empty",
            )),
            key => check_name(key, name::qualified, &path.child("topologyKey"), errors),
        }
        check_one_of(
            constraint,
            "whenUnsatisfiable",
            &["DoNotSchedule", "ScheduleAnyway"],
            path,
            errors,
        );
        label_selector(&constraint["labelSelector"], &path.child("labelSelector"), errors);
        let pair = (
            text(constraint, "topologyKey"),
            text(constraint, "whenUnsatisfiable"),
        );
        if constraints[..index]
            .iter()
            .any(|before| (text(before, "topologyKey"), text(before, "whenUnsatisfiable")) == pair)
        {
            let bad = format!("{{{}, {}}}", pair.0, pair.1);
            errors.push(FieldError::duplicate(
                &path.child("{topologyKey, whenUnsatisfiable}"),
                bad,
            ));
        }
    }
}
