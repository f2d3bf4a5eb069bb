//! Validation of pod updates. Most fields are immutable.

use serde_json::{Map, Value};

use super::{KIND, diff, spec_rules};
use crate::field_error::{FieldError, Path};
use crate::validate::field::{check_number, list, text};
use crate::validate::meta::entries;
use crate::validate::pod_annotations;

/// The mutable fields, as Kubernetes lists them.
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// Validates a changed pod.
pub(super) fn rules(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let metadata = Path::Root("metadata");
    pod_annotations::update_rules(new, old, &metadata.child("annotations"), errors);
    let path = &Path::Root("spec");
    let (after, before) = (&new["spec"], &old["spec"]);
    if after == before {
        return;
    }
    spec_rules(after, path, errors);
    for field in ["containers", "initContainers"] {
        if list(after, field).len() != list(before, field).len() {
            let detail = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(&path.child(field), detail));
            return;
        }
    }
    if !deadline_shrinks(after, before, path, errors) {
        return;
    }
    only_added_tolerations(after, before, &path.child("tolerations"), errors);
    only_removed_gates(after, before, &path.child("schedulingGates"), errors);
    if is_gated(before) {
        only_added_labels(after, before, &path.child("nodeSelector"), errors);
        let affinity = path.child("affinity");
        only_narrowed_affinity(after, before, &affinity.child("nodeAffinity"), errors);
    }
    let rest = without_allowed_changes(after, before);
    if rest != *before {
        let ty = KIND.ty().field("spec").map(|field| field.ty);
        let diff = diff::of_objects("core.PodSpec", ty, before, &rest);
        let detail = format!("pod updates may not change fields other than {UPDATABLE}\n{diff}");
        errors.push(FieldError::forbidden(path, detail));
    }
}

/// Returns whether the pod has scheduling gates. Then its node selection may still be narrowed.
fn is_gated(spec: &Value) -> bool {
    !list(spec, "schedulingGates").is_empty()
}

/// Validates that `activeDeadlineSeconds` is only set or shortened. Returns false when further
/// checks are useless.
fn deadline_shrinks(after: &Value, before: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) -> bool {
    let path = path.child("activeDeadlineSeconds");
    let deadline = |spec: &Value| spec["activeDeadlineSeconds"].as_i64();
    let count = errors.len();
    match (deadline(after), deadline(before)) {
        (Some(new), old) => {
            check_number(new, (0, i64::from(i32::MAX)), &path, errors);
            if old.is_some_and(|old| old < new) {
                errors.push(FieldError::invalid(
                    &path,
                    new,
                    "must be less than or equal to previous value",
                ));
            }
            errors.len() == count
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(&path, Value::Null, detail));
            true
        }
        (None, None) => true,
    }
}

fn only_added_tolerations(after: &Value, before: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let same = |one: &Value, other: &Value| {
        ["key", "operator", "value", "effect"]
            .iter()
            .all(|field| text(one, field) == text(other, field))
    };
    let kept = |old: &Value| list(after, "tolerations").iter().any(|new| same(new, old));
    if !list(before, "tolerations").iter().all(kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(path, detail));
    }
}

fn only_removed_gates(after: &Value, before: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (index, gate) in list(after, "schedulingGates").iter().enumerate() {
        let found = text(gate, "name");
        if !list(before, "schedulingGates")
            .iter()
            .any(|old| text(old, "name") == found)
        {
            let path = path.index(index);
            let detail = format!("only deletion is allowed, but found new scheduling gate '{found}'");
            errors.push(FieldError::forbidden(&path.child("name"), detail));
        }
    }
}

fn only_added_labels(after: &Value, before: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let now = &after["nodeSelector"];
    if !entries(&before["nodeSelector"]).all(|(key, value)| now.get(key) == Some(value)) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        let bad = if now.is_null() {
            Map::new().into()
        } else {
            now.clone()
        };
        errors.push(FieldError::invalid(path, bad, detail));
    }
}

/// Validates that the terms of the required node affinity stay, and only get more requirements.
fn only_narrowed_affinity(after: &Value, before: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let terms =
        |spec: &Value| list(&spec["affinity"]["nodeAffinity"][REQUIRED], "nodeSelectorTerms").to_vec();
    let (now, then) = (terms(after), terms(before));
    let path = path.child(REQUIRED);
    let path = path.child("nodeSelectorTerms");
    if !then.is_empty() && then.len() != now.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(&path, now, detail));
        return;
    }
    for (index, (new, old)) in now.into_iter().zip(&then).enumerate() {
        if !asks_for_more(&new, old) {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(&path.index(index), new, detail));
        }
    }
}

/// Returns whether a term starts with all requirements of the old one. An empty term matches
/// nothing, so it must stay empty.
fn asks_for_more(new: &Value, old: &Value) -> bool {
    const FIELDS: [&str; 2] = ["matchExpressions", "matchFields"];
    let is_empty = |term| FIELDS.iter().all(|field| list(term, field).is_empty());
    is_empty(old) == is_empty(new)
        && FIELDS
            .iter()
            .all(|field| list(new, field).starts_with(list(old, field)))
}

/// Returns the new spec, with all fields that may change or that were checked before reset to the
/// old values.
fn without_allowed_changes(after: &Value, before: &Value) -> Value {
    let mut spec = after.clone();
    for field in ["containers", "initContainers"] {
        let Some(containers) = spec.get_mut(field).and_then(Value::as_array_mut) else {
            continue;
        };
        for (container, old) in containers.iter_mut().zip(list(before, field)) {
            restore(container, old, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        restore(&mut spec, before, field);
    }
    let grace = "terminationGracePeriodSeconds";
    if before[grace].as_i64().is_some_and(|seconds| seconds < 0) && after[grace] == 1 {
        restore(&mut spec, before, grace);
    }
    if is_gated(before) {
        restore(&mut spec, before, "nodeSelector");
        let is_node_affinity_alone =
            |affinity: &Value| entries(affinity).all(|(field, _)| field == "nodeAffinity");
        if is_node_affinity_alone(&spec["affinity"]) && is_node_affinity_alone(&before["affinity"]) {
            restore(&mut spec, before, "affinity");
        } else if spec["affinity"].is_object() {
            restore(&mut spec["affinity"], &before["affinity"], "nodeAffinity");
        }
    }
    spec
}

/// Sets a field to its value in `old`.
fn restore(new: &mut Value, old: &Value, field: &str) {
    let Some(fields) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(value) => fields.insert(field.to_owned(), value.clone()),
        None => fields.remove(field),
    };
}
