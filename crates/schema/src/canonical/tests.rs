use proptest::prelude::*;
use serde_json::{Value, json};

use super::{canonicalize, prune_unknown};
use crate::lookup;

fn canonical(kind: (&str, &str, &str), mut value: Value) -> Value {
    canonicalize(lookup(kind.0, kind.1, kind.2).expect("a served kind"), &mut value);
    value
}

const POD: (&str, &str, &str) = ("", "v1", "Pod");

#[test]
fn zero_values_are_omitted_except_behind_pointers() {
    let pod = canonical(
        POD,
        json!({"spec": {
            "hostNetwork": false, "hostPID": false, "nodeName": "", "nodeSelector": {}, "tolerations": [],
            "priority": 0, "enableServiceLinks": false, "securityContext": {"runAsNonRoot": false, "runAsUser": 0},
            "containers": [{"name": "a"}],
        }}),
    );
    assert_eq!(
        pod,
        json!({
            "metadata": {},
            "spec": {
                "priority": 0, "enableServiceLinks": false, "securityContext": {"runAsNonRoot": false, "runAsUser": 0},
                "containers": [{"name": "a", "resources": {}}],
            },
            "status": {},
        })
    );
}

#[test]
fn counters_of_a_daemon_set_are_always_written() {
    let ds = canonical(("apps", "v1", "DaemonSet"), json!({}));
    assert_eq!(
        ds,
        json!({
            "metadata": {},
            "spec": {"selector": null, "template": {"metadata": {}, "spec": {"containers": null}}, "updateStrategy": {}},
            "status": {"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0},
        })
    );
}

#[test]
fn resource_lists_are_rounded_up_to_thousandths() {
    let pod = canonical(
        POD,
        json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "1n", "memory": 1024, "x": "0.0005"}}}]}}),
    );
    assert_eq!(
        pod["spec"]["containers"][0]["resources"]["limits"],
        json!({"cpu": "1m", "memory": "1024", "x": "1m"})
    );
}

#[test]
fn unknown_fields_are_pruned_with_their_paths() {
    let mut value = json!({"spec": {"a": 1, "containers": [{"name": "a"}, {"nam": "b", "env": [{"value": "", "vaule": 1}]}]}, "metadata": {"labels": {"any": "thing"}, "x": 1}, "z": null});
    let unknown = prune_unknown(lookup("", "v1", "Pod").expect("served"), &mut value);
    assert_eq!(
        unknown,
        [
            "metadata.x",
            "spec.a",
            "spec.containers[1].env[0].vaule",
            "spec.containers[1].nam",
            "z"
        ]
    );
    assert_eq!(
        value,
        json!({"spec": {"containers": [{"name": "a"}, {"env": [{"value": ""}]}]}, "metadata": {"labels": {"any": "thing"}}})
    );
}

#[test]
fn raw_values_stay_unchanged() {
    let data = json!({"spec": {"hostNetwork": false, "x": null, "q": "1000m"}});
    let revision = canonical(("apps", "v1", "ControllerRevision"), json!({"data": data}));
    assert_eq!(revision, json!({"data": data, "metadata": {}, "revision": 0}));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        "[0-9]{0,4}[.]?[0-9]{0,3}(m|Ki|Mi|e3|)".prop_map(Value::from),
        Just(json!("2026-01-02T03:04:05+01:00")),
        Just(json!("")),
    ];
    let key = prop::sample::select(vec![
        "metadata",
        "spec",
        "status",
        "containers",
        "resources",
        "limits",
        "requests",
        "cpu",
        "name",
        "creationTimestamp",
        "labels",
        "hostNetwork",
        "securityContext",
        "runAsUser",
        "conditions",
        "lastProbeTime",
        "type",
        "volumes",
        "projected",
        "sources",
        "emptyDir",
        "sizeLimit",
        "tolerations",
        "template",
        "selector",
    ]);
    leaf.prop_recursive(7, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(|map| map
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn canonical_form_of_anything_stays(value in any_value()) {
        for kind in [POD, ("apps", "v1", "DaemonSet"), ("", "v1", "Node")] {
            let once = canonical(kind, value.clone());
            prop_assert_eq!(canonical(kind, once.clone()), once);
        }
    }
}
