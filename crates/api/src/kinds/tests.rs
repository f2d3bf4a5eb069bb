//! Tests of the whole registry, and helpers for the tests of single kinds.

use jiff::Timestamp;
use schema::decode::{self, FieldValidation, Format};
use serde_json::{Value, json};

use super::*;

mod certificates;
mod daemon_set;
mod node;
mod others;
mod pod;
mod pod_confinement;
mod pod_spec;
mod print;
mod service;
mod service_families;
mod volumes;
mod warnings;

/// A time after all times in these tests.
pub(super) fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().expect("a time")
}

/// Parses YAML as a request body of this kind, and sets its defaults.
pub(super) fn read(kind: &Kind, yaml: &str) -> Value {
    let decoded = decode::object(
        yaml.as_bytes(),
        Format::Yaml,
        Some(kind.ty()),
        FieldValidation::Strict,
    );
    let mut object = decoded.unwrap_or_else(|error| panic!("{error}: {yaml}")).value;
    schema::canonicalize(kind.ty(), &mut object);
    kind.default(&mut object);
    object
}

/// Prepares and validates a new object from YAML. Returns the object and its errors.
pub(super) fn create(kind: &Kind, yaml: &str) -> (Value, Vec<String>) {
    let mut object = read(kind, yaml);
    kind.prepare_create(&mut object);
    meta::stamp_create(&mut object, "uid-1", Timestamp::UNIX_EPOCH);
    let errors = texts(&kind.validate(&object));
    (object, errors)
}

/// Prepares and validates an update. Returns the object and its errors.
pub(super) fn update(kind: &Kind, old: &Value, change: impl FnOnce(&mut Value)) -> (Value, Vec<String>) {
    let mut new = old.clone();
    change(&mut new);
    kind.default(&mut new);
    kind.prepare_update(&mut new, old);
    let errors = texts(&kind.validate_update(&new, old));
    (new, errors)
}

/// Prepares and validates an update of the status.
pub(super) fn update_status(
    kind: &Kind,
    old: &Value,
    change: impl FnOnce(&mut Value),
) -> (Value, Vec<String>) {
    let mut new = old.clone();
    change(&mut new);
    kind.prepare_status(&mut new, old);
    let errors = texts(&kind.validate_status(&new, old));
    (new, errors)
}

/// Returns the cells of an object's row, as text.
pub(super) fn cells(kind: &Kind, object: Value) -> Vec<String> {
    let text = |cell: Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    kind.row(&object, now()).into_iter().map(text).collect()
}

pub(super) fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn every_kind_and_its_list_are_in_the_schema_table() {
    for kind in KINDS {
        assert_eq!(kind.ty().kind(), kind.kind);
        if kind.stored {
            let list = format!("{}List", kind.kind);
            assert!(
                schema::lookup(kind.group, kind.version, &list).is_some(),
                "{list}"
            );
        }
        // Options of a connection are query parameters, so no body has their kind.
        for subresource in kind
            .subresources
            .iter()
            .filter(|subresource| !subresource.kind.ends_with("Options"))
        {
            let found = schema::lookup(subresource.group, subresource.version, subresource.kind);
            assert!(found.is_some(), "{kind:?} {}", subresource.name);
        }
    }
}

#[test]
fn every_selectable_field_is_in_the_schema() {
    for kind in KINDS {
        for path in kind.selectable {
            let mut ty = Some(kind.ty());
            for step in path.split('.') {
                let field = ty.and_then(|ty| ty.field(step));
                assert!(field.is_some(), "{kind:?} has no {path}");
                ty = field.and_then(|field| match field.ty {
                    schema::FieldType::Object(ty) => Some(ty),
                    _ => None,
                });
            }
        }
    }
}

#[test]
fn resources_and_kinds_are_found_by_their_names() {
    for kind in KINDS {
        assert_eq!(by_resource(kind.group, kind.version, kind.plural), Some(*kind));
        assert_eq!(by_kind(kind.group, kind.version, kind.kind), Some(*kind));
    }
    assert!(by_resource("extensions", "v1beta1", "daemonsets").is_none());
    assert!(by_kind("", "v1", "DaemonSet").is_none());
}

#[test]
fn defaulting_twice_changes_nothing() {
    for kind in KINDS {
        for mut object in [
            json!({}),
            json!({"metadata": {"name": "x"}, "spec": {"template": {}, "ports": [{"port": 1}]}}),
        ] {
            kind.default(&mut object);
            let once = object.clone();
            kind.default(&mut object);
            assert_eq!(object, once, "{kind:?}");
        }
    }
}

#[test]
fn no_invalid_object_makes_a_kind_panic() {
    let odd = [
        json!(null),
        json!([]),
        json!({"metadata": [], "spec": [], "status": 3, "data": 1}),
        json!({"metadata": {"labels": 1, "annotations": [], "name": {}, "ownerReferences": [1, {}], "finalizers": {}},
            "spec": {"containers": [1, null, {"ports": [3], "env": {}, "resources": {"limits": 3}}], "template": 3, "volumes": "x",
                "affinity": [], "tolerations": [3], "taints": {}, "ports": [[]], "updateStrategy": "x", "selector": []},
            "status": {"conditions": 1, "containerStatuses": [3], "initContainerStatuses": [null]}}),
        json!({"spec": {"template": {"spec": {"containers": {}}}, "selector": {"matchLabels": 3, "matchExpressions": [3]},
            "updateStrategy": {"rollingUpdate": 3}}}),
    ];
    for kind in KINDS {
        for object in &odd {
            let mut prepared = object.clone();
            kind.default(&mut prepared);
            kind.prepare_create(&mut prepared);
            kind.validate(&prepared);
            kind.validate(object);
            kind.warnings(object);
            kind.row_conditions(object);
            crate::attributes::of(kind, object);
            for old in &odd {
                let mut new = object.clone();
                kind.prepare_update(&mut new, old);
                kind.validate_update(&new, old);
                let mut new = object.clone();
                kind.prepare_status(&mut new, old);
                kind.validate_status(&new, old);
            }
        }
    }
}

#[test]
fn new_objects_are_canonical_after_preparation() {
    let bodies = [
        (
            by_kind("apps", "v1", "DaemonSet"),
            "spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a, livenessProbe: {httpGet: {port: 1}}}], volumes: [{name: v, hostPath: {path: /}}]}}}",
        ),
        (
            by_kind("", "v1", "Pod"),
            "spec: {hostNetwork: true, containers: [{name: a, image: a, ports: [{containerPort: 1}], resources: {limits: {cpu: 0.5}}}], volumes: [{name: v}, {name: w, configMap: {name: c}}]}",
        ),
        (
            by_kind("", "v1", "Service"),
            "spec: {clusterIP: None, ports: [{port: 80}]}",
        ),
        (by_kind("", "v1", "Namespace"), ""),
        (by_kind("", "v1", "Node"), ""),
        (by_kind("", "v1", "Secret"), "stringData: {a: b}"),
        (
            by_kind("policy", "v1", "PodDisruptionBudget"),
            "spec: {maxUnavailable: 1}",
        ),
        (by_kind("scheduling.k8s.io", "v1", "PriorityClass"), "value: 1"),
        (
            by_kind("coordination.k8s.io", "v1", "Lease"),
            "spec: {holderIdentity: a}",
        ),
    ];
    for (kind, fields) in bodies {
        let kind = kind.expect("a served kind");
        let comma = if fields.is_empty() { "" } else { ", " };
        let yaml = format!(
            "{{apiVersion: {}, kind: {}, metadata: {{name: x}}{comma}{fields}}}",
            kind.api_version(),
            kind.kind
        );
        let (object, _) = create(kind, &yaml);
        let mut canonical = object.clone();
        schema::canonicalize(kind.ty(), &mut canonical);
        assert_eq!(canonical, object, "{kind:?}");
    }
}
