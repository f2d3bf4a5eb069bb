use super::*;
use crate::kinds::core::node::{KIND, is_name};

const GOOD: &str = "{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {capacity: {cpu: 2}}}";

#[test]
fn node_registers_itself_with_its_status() {
    let (object, errors) = create(&KIND, GOOD);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(object["status"]["capacity"]["cpu"], "2");
    let (new, _) = update(&KIND, &object, |o| o["status"] = json!({}));
    assert_eq!(new["status"]["capacity"]["cpu"], "2");
    let (new, _) = update_status(&KIND, &object, |o| o["spec"] = json!({"unschedulable": true}));
    assert_eq!(new["spec"], object["spec"]);
}

#[test]
fn node_has_no_namespace() {
    let (object, _) = create(
        &KIND,
        "{apiVersion: v1, kind: Node, metadata: {name: n1, namespace: d}}",
    );
    assert_eq!(meta::namespace(&object), "");
}

#[test]
fn taints_need_an_effect_and_are_unique_by_key_and_effect() {
    let check = |taints: &str| {
        create(
            &KIND,
            &format!("{{apiVersion: v1, kind: Node, metadata: {{name: n1}}, spec: {{taints: {taints}}}}}"),
        )
        .1
    };
    assert!(check("[{key: a, effect: NoSchedule}, {key: a, effect: NoExecute}]").is_empty());
    assert_eq!(
        check("[{key: a, effect: NoSchedule}, {key: a, value: b, effect: NoSchedule}]"),
        [
            "spec.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\",\"value\":\"b\"}: taints must be unique by key and effect pair"
        ]
    );
    assert_eq!(
        check("[{key: a, effect: ''}]"),
        ["spec.taints[0].effect: Required value"]
    );
    assert_eq!(
        check("[{key: a, effect: Odd}]"),
        [
            "spec.taints[0].effect: Unsupported value: \"Odd\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""
        ]
    );
}

#[test]
fn assigned_fields_of_a_node_are_immutable() {
    let (object, _) = create(
        &KIND,
        "{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 10.0.0.0/24, podCIDRs: [10.0.0.0/24]}}",
    );
    let (_, errors) = update(&KIND, &object, |o| {
        o["spec"] = json!({"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24"]})
    });
    assert_eq!(
        errors,
        [
            "spec.podCIDR: Forbidden: node updates may not change podCIDR except from \"\" to valid",
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
        ]
    );
    let (_, errors) = update(&KIND, &object, |o| o["spec"]["podCIDRs"] = json!(["10.0.0.0/40"]));
    assert!(
        errors[0].starts_with("spec.podCIDRs[0]: Invalid value: \"10.0.0.0/40\": must be a valid CIDR value")
    );
}

#[test]
fn node_prints_its_state_and_roles() {
    let condition = |status: &str| json!([{"type": "Ready", "status": status}]);
    let mut object = json!({"metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/edge": "", "kubernetes.io/role": "a", "x": "y"}},
        "status": {"conditions": condition("True"), "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1", "osImage": "Debian", "kernelVersion": "6.1", "architecture": "amd64"}}});
    assert_eq!(
        cells(&KIND, object.clone()),
        [
            "n1",
            "Ready",
            "a,edge",
            "<unknown>",
            "v1",
            "10.0.0.1",
            "<none>",
            "Debian",
            "6.1 (amd64)",
            "<unknown>"
        ]
    );
    object["status"]["conditions"] = condition("Unknown");
    object["spec"] = json!({"unschedulable": true});
    assert_eq!(cells(&KIND, object)[1], "NotReady,SchedulingDisabled");
    assert_eq!(cells(&KIND, json!({}))[1..3], ["Unknown", "<none>"]);
}

#[test]
fn node_names_are_subdomains() {
    assert!(is_name("edge-1.example.com"));
    assert!(!is_name("Edge"));
}
