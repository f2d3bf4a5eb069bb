//! Validation of `ObjectMeta`, for new objects and for updates.

use serde_json::{Map, Value};

use crate::field_error::{FieldError, Path};
use crate::meta;
use crate::validate::field::{
    self, IMMUTABLE, NameRule, check_immutable, check_name, check_non_negative, text,
};
use crate::validate::name;

/// Most bytes of the keys and values of all annotations.
const ANNOTATIONS_SIZE: usize = 256 * 1024;
/// The same for labels, for which Kubernetes has no limit. Selectors read all labels of an object,
/// and watches keep them in memory.
const LABELS_SIZE: usize = 256 * 1024;
/// Finalizers that are valid without a domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", meta::ORPHAN_FINALIZER, meta::FOREGROUND_FINALIZER];
const METADATA: Path<'static> = Path::Root("metadata");

/// Validates the metadata of a new object. Its name is already generated.
pub(crate) fn object_meta(object: &Value, namespaced: bool, rule: NameRule, errors: &mut Vec<FieldError>) {
    let path = &METADATA;
    let base = meta::generate_name_base(object);
    if !base.is_empty() {
        // The base is a prefix of the name, so it may end with a dash.
        let front = base.trim_end_matches('-');
        let stands_for = if front.len() == base.len() {
            base.to_owned()
        } else {
            format!("{front}-a")
        };
        check_name_as(&stands_for, base, rule, &path.child("generateName"), errors);
    }
    match meta::name(object) {
        "" => errors.push(FieldError::required(
            &path.child("name"),
            "name or generateName is required",
        )),
        found => check_name(found, rule, &path.child("name"), errors),
    }
    match (namespaced, meta::namespace(object)) {
        (true, "") => errors.push(FieldError::required(&path.child("namespace"), "")),
        (true, found) => check_name(found, name::dns_label, &path.child("namespace"), errors),
        (false, "") => {}
        (false, _) => errors.push(FieldError::forbidden(
            &path.child("namespace"),
            "not allowed on this type",
        )),
    }
    common(&object["metadata"], errors);
}

fn check_name_as(
    stands_for: &str,
    shown: &str,
    rule: NameRule,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let mut messages = Vec::new();
    rule(stands_for, &mut messages);
    for message in messages {
        errors.push(FieldError::invalid(path, shown, message));
    }
}

/// Validates the metadata of a changed object.
pub(crate) fn object_meta_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let path = &METADATA;
    if meta::deletion_timestamp(old).is_some() {
        no_new_finalizers(new, old, errors);
    }
    for field in ["name", "namespace", "uid"] {
        let (given, stored) = (text(&new["metadata"], field), text(&old["metadata"], field));
        if given != stored {
            errors.push(FieldError::invalid(&path.child(field), given, IMMUTABLE));
        }
    }
    for field in [
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        check_immutable(
            &new["metadata"][field],
            &old["metadata"][field],
            &path.child(field),
            errors,
        );
    }
    common(&new["metadata"], errors);
}

fn no_new_finalizers(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let mut added: Vec<&str> = meta::finalizers(new)
        .filter(|name| !meta::finalizers(old).any(|before| before == *name))
        .collect();
    if added.is_empty() {
        return;
    }
    added.sort_unstable();
    let quoted: Vec<String> = added.iter().map(|name| format!("{name:?}")).collect();
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        quoted.join(", ")
    );
    errors.push(FieldError::forbidden(&METADATA.child("finalizers"), detail));
}

fn common(metadata: &Value, errors: &mut Vec<FieldError>) {
    let path = &METADATA;
    check_non_negative(metadata, "generation", path, errors);
    labels(&metadata["labels"], &path.child("labels"), errors);
    annotations(&metadata["annotations"], &path.child("annotations"), errors);
    owner_references(metadata, &path.child("ownerReferences"), errors);
    finalizers(metadata, &path.child("finalizers"), errors);
}

/// Validates labels: keys are qualified names, values are label values, and the total size is
/// limited.
pub(crate) fn labels(labels: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let size: usize = entries(labels)
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > LABELS_SIZE {
        errors.push(FieldError::too_long(path, LABELS_SIZE));
        return;
    }
    for (key, value) in entries(labels) {
        check_name(key, name::qualified, path, errors);
        check_name(
            value.as_str().unwrap_or_default(),
            name::label_value,
            path,
            errors,
        );
    }
}

/// Validates annotations: keys are qualified names in any case, and the total size is limited.
pub(crate) fn annotations(annotations: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in entries(annotations) {
        size += key.len() + value.as_str().map_or(0, str::len);
        if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
            check_name_as(&key.to_ascii_lowercase(), key, name::qualified, path, errors);
        } else {
            check_name(key, name::qualified, path, errors);
        }
    }
    if size > ANNOTATIONS_SIZE {
        errors.push(FieldError::too_long(path, ANNOTATIONS_SIZE));
    }
}

/// Returns the entries of an object; none for other values.
pub(crate) fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn owner_references(metadata: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let owners = field::list(metadata, "ownerReferences");
    let mut controller: Option<String> = None;
    for owner in owners {
        owner_reference(owner, path, errors);
        if !field::flag(owner, "controller") {
            continue;
        }
        let this = format!("{}/{}", field::text(owner, "kind"), field::text(owner, "name"));
        match &controller {
            None => controller = Some(this),
            Some(first) => {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                errors.push(FieldError::invalid(
                    path,
                    metadata["ownerReferences"].clone(),
                    detail,
                ));
            }
        }
    }
}

fn owner_reference(owner: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (_, version) = schema::split_api_version(field::text(owner, "apiVersion"));
    if version.is_empty() {
        let bad = field::text(owner, "apiVersion");
        errors.push(FieldError::invalid(
            &path.child("apiVersion"),
            bad,
            "version must not be empty",
        ));
    }
    for key in ["kind", "name", "uid"] {
        if field::text(owner, key).is_empty() {
            errors.push(FieldError::invalid(&path.child(key), "", "must not be empty"));
        }
    }
    if field::text(owner, "apiVersion") == "v1" && field::text(owner, "kind") == "Event" {
        let detail = "/v1, Kind=Event is disallowed from being an owner";
        errors.push(FieldError::invalid(path, owner.clone(), detail));
    }
}

fn finalizers(metadata: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (mut foreground, mut orphan) = (false, false);
    for (index, finalizer) in field::texts(metadata, "finalizers").enumerate() {
        check_name(finalizer, name::qualified, path, errors);
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path.index(index), finalizer, detail));
        }
        foreground |= finalizer == meta::FOREGROUND_FINALIZER;
        orphan |= finalizer == meta::ORPHAN_FINALIZER;
    }
    if foreground && orphan {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(path, metadata["finalizers"].clone(), detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(metadata: Value) -> Vec<String> {
        let mut errors = Vec::new();
        object_meta(
            &json!({"metadata": metadata}),
            true,
            name::dns_subdomain,
            &mut errors,
        );
        errors.iter().map(ToString::to_string).collect()
    }

    fn check_update(old: Value, new: Value) -> Vec<String> {
        let mut errors = Vec::new();
        object_meta_update(&json!({"metadata": new}), &json!({"metadata": old}), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn name_and_namespace_are_required() {
        assert_eq!(
            check(json!({})),
            [
                "metadata.name: Required value: name or generateName is required",
                "metadata.namespace: Required value"
            ]
        );
        assert!(check(json!({"name": "x", "namespace": "d"})).is_empty());
        let mut errors = Vec::new();
        let namespaced = json!({"metadata": {"name": "x", "namespace": "d"}});
        object_meta(&namespaced, false, name::dns_subdomain, &mut errors);
        assert_eq!(
            errors[0].to_string(),
            "metadata.namespace: Forbidden: not allowed on this type"
        );
    }

    #[test]
    fn generate_name_may_end_with_a_dash() {
        assert!(check(json!({"generateName": "web-", "name": "web-abcde", "namespace": "d"})).is_empty());
        let errors = check(json!({"generateName": "Web-", "name": "web-abcde", "namespace": "d"}));
        assert_eq!(errors.len(), 1);
        assert!(
            errors[0].starts_with(
                "metadata.generateName: Invalid value: \"Web-\": a lowercase RFC 1123 subdomain"
            )
        );
    }

    #[test]
    fn labels_and_annotations_must_be_well_formed() {
        let errors = check(json!({"name": "x", "namespace": "d", "labels": {"a b": "c", "ok": "c d"}}));
        assert!(
            errors[0].starts_with("metadata.labels: Invalid value: \"a b\": name part must consist"),
            "{errors:?}"
        );
        assert!(
            errors[1].starts_with("metadata.labels: Invalid value: \"c d\": a valid label must"),
            "{errors:?}"
        );
        assert!(
            check(json!({"name": "x", "namespace": "d", "annotations": {"Example.COM/X": "any thing"}}))
                .is_empty()
        );
        let large =
            check(json!({"name": "x", "namespace": "d", "annotations": {"a": "x".repeat(256 * 1024)}}));
        assert_eq!(
            large,
            ["metadata.annotations: Too long: may not be more than 262144 bytes"]
        );
    }

    #[test]
    fn total_size_of_labels_is_limited() {
        let labels: Map<String, Value> = (0..100_000).map(|n| (format!("a{n}"), json!(""))).collect();
        assert_eq!(
            check(json!({"name": "x", "namespace": "d", "labels": labels})),
            ["metadata.labels: Too long: may not be more than 262144 bytes"]
        );
        let labels: Map<String, Value> = (0..10_000).map(|n| (format!("a{n}"), json!(""))).collect();
        assert!(check(json!({"name": "x", "namespace": "d", "labels": labels})).is_empty());
    }

    #[test]
    fn owner_references_are_complete_with_one_controller() {
        let owner = |name| json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": name, "uid": "1", "controller": true});
        assert!(check(json!({"name": "x", "namespace": "d", "ownerReferences": [owner("a")]})).is_empty());
        let errors =
            check(json!({"name": "x", "namespace": "d", "ownerReferences": [owner("a"), owner("b")]}));
        assert!(errors[0].ends_with(
            "Only one reference can have Controller set to true. Found \"true\" in references for DaemonSet/a and DaemonSet/b"
        ));
        let errors = check(json!({"name": "x", "namespace": "d", "ownerReferences": [{}]}));
        assert_eq!(
            errors,
            [
                "metadata.ownerReferences.apiVersion: Invalid value: \"\": version must not be empty",
                "metadata.ownerReferences.kind: Invalid value: \"\": must not be empty",
                "metadata.ownerReferences.name: Invalid value: \"\": must not be empty",
                "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
            ]
        );
    }

    #[test]
    fn two_garbage_collection_finalizers_exclude_each_other() {
        let errors =
            check(json!({"name": "x", "namespace": "d", "finalizers": ["orphan", "foregroundDeletion"]}));
        assert_eq!(
            errors,
            [
                "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and foregroundDeletion cannot be both set"
            ]
        );
    }

    #[test]
    fn finalizer_is_a_standard_one_or_has_a_domain() {
        let finalizers = |names: &[&str]| check(json!({"name": "x", "namespace": "d", "finalizers": names}));
        assert!(finalizers(&["orphan", "example.com/wait"]).is_empty());
        assert_eq!(
            finalizers(&["example.com/wait", "wait"]),
            [
                "metadata.finalizers[1]: Invalid value: \"wait\": name is neither a standard finalizer name nor is it fully qualified"
            ]
        );
    }

    #[test]
    fn name_namespace_uid_and_times_are_immutable() {
        let old =
            json!({"name": "x", "namespace": "d", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z"});
        let new =
            json!({"name": "y", "namespace": "d", "uid": "2", "creationTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(
            check_update(old.clone(), new),
            [
                "metadata.name: Invalid value: \"y\": field is immutable",
                "metadata.uid: Invalid value: \"2\": field is immutable"
            ]
        );
        assert!(check_update(old.clone(), old).is_empty());
    }

    #[test]
    fn object_being_deleted_accepts_no_new_finalizer() {
        let old = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]});
        let new = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b", "a/c"]});
        assert_eq!(
            check_update(old, new),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"a/c\"}"
            ]
        );
    }
}
