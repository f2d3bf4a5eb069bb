//! One case a rule.

use serde_json::json;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).expect("a time")
}

fn node_of(ready: Option<&str>, change: impl FnOnce(&mut Value)) -> Arc<NodeView> {
    let mut node = json!({
        "metadata": {"name": "n", "uid": "uid-n", "resourceVersion": "7", "creationTimestamp": at(0).to_string()},
        "spec": {}, "status": {"conditions": []},
    });
    if let Some(status) = ready {
        let kinds = [
            ("Ready", status),
            ("MemoryPressure", "False"),
            ("DiskPressure", "False"),
            ("PIDPressure", "False"),
        ];
        node["status"]["conditions"] = kinds
            .iter()
            .map(|(kind, status)| json!({"type": kind, "status": status}))
            .collect();
    }
    change(&mut node);
    Arc::new(serde_json::from_value(node).expect("a node"))
}

fn pod_of(change: impl FnOnce(&mut Value)) -> Arc<PodView> {
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "default", "uid": "uid-p"},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn lease(renewed: i64) -> LeaseView {
    serde_json::from_value(json!({
        "metadata": {"name": "n", "namespace": LEASE_NAMESPACE}, "spec": {"renewTime": at(renewed).to_string()},
    }))
    .expect("a lease")
}

/// Nodes that have been listened to since second 0, with a ready node and a pod on it.
fn settled() -> Nodes {
    let mut nodes = Nodes::new(Limits {
        deaf_after: Duration::from_secs(3600),
        ..Limits::default()
    });
    nodes.plan(at(-60), 100);
    nodes.put_node(&node_of(Some("True"), |_| {}), at(0));
    nodes.put_pod(&pod_of(|_| {}), at(0));
    assert_eq!(nodes.plan(at(0), 100), vec![]);
    nodes
}

fn key() -> PodKey {
    PodKey {
        namespace: "default".into(),
        name: "p".into(),
    }
}

fn taints(actions: &[Action]) -> Option<Vec<String>> {
    actions.iter().find_map(|a| match a {
        Action::SetTaints { taints, .. } => Some(taints.iter().map(|t| t.to_string()).collect()),
        _ => None,
    })
}

#[test]
fn a_node_silent_for_the_grace_period_becomes_unknown() {
    let mut nodes = settled();
    assert_eq!(nodes.next_look(), Some(at(50)));
    assert_eq!(nodes.plan(at(49), 100), vec![]);
    let actions = nodes.plan(at(50), 100);
    let [Action::SetConditions { conditions, .. }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    let said: Vec<_> = conditions
        .iter()
        .map(|c| (c["type"].as_str(), c["status"].as_str(), c["reason"].as_str()))
        .collect();
    let unknown = |kind| (Some(kind), Some("Unknown"), Some("NodeStatusUnknown"));
    assert_eq!(
        said,
        [
            unknown("Ready"),
            unknown("MemoryPressure"),
            unknown("DiskPressure"),
            unknown("PIDPressure")
        ]
    );
    assert_eq!(conditions[0]["message"], "Kubelet stopped posting node status.");
}

#[test]
fn a_renewed_lease_keeps_a_node_alive_and_the_node_s_own_clock_does_not_matter() {
    let mut nodes = settled();
    nodes.put_lease(&lease(-9999), at(40));
    assert_eq!(nodes.plan(at(50), 100), vec![]);
    assert_eq!(nodes.plan(at(89), 100), vec![]);
    nodes.put_lease(&lease(-9999), at(89));
    assert!(
        !nodes.plan(at(90), 100).is_empty(),
        "the same renewal seen again is no renewal"
    );
}

#[test]
fn a_node_that_never_spoke_has_sixty_seconds() {
    let mut nodes = Nodes::new(Limits {
        deaf_after: Duration::from_secs(3600),
        ..Limits::default()
    });
    nodes.plan(at(-60), 100);
    nodes.put_node(&node_of(None, |_| {}), at(0));
    assert_eq!(nodes.plan(at(59), 100), vec![]);
    let actions = nodes.plan(at(60), 100);
    let [Action::SetConditions { conditions, .. }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(conditions[0]["message"], "Kubelet never posted node status.");
}

#[test]
fn after_a_gap_in_listening_nodes_get_time_to_speak() {
    let mut nodes = settled();
    nodes.limits.deaf_after = Duration::from_secs(20);
    assert_eq!(nodes.plan(at(1000), 100), vec![]);
    for second in (1000..1050).step_by(5) {
        assert_eq!(nodes.plan(at(second), 100), vec![], "at {second}");
    }
    assert!(!nodes.plan(at(1050), 100).is_empty());
}

#[test]
fn conditions_become_taints() {
    let cases = [
        (
            "False",
            vec![
                "node.kubernetes.io/not-ready:NoSchedule",
                "node.kubernetes.io/not-ready:NoExecute",
            ],
        ),
        (
            "Unknown",
            vec![
                "node.kubernetes.io/unreachable:NoSchedule",
                "node.kubernetes.io/unreachable:NoExecute",
            ],
        ),
    ];
    for (status, expected) in cases {
        let mut nodes = settled();
        nodes.put_node(&node_of(Some(status), |_| {}), at(1));
        assert_eq!(
            taints(&nodes.plan(at(1), 100)),
            Some(expected.into_iter().map(String::from).collect())
        );
    }
}

#[test]
fn taints_flip_with_the_condition_and_users_taints_stay() {
    let mut nodes = settled();
    nodes.put_node(
        &node_of(Some("Unknown"), |n| {
            n["spec"]["taints"] = json!([
                {"key": NOT_READY, "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoExecute"},
                {"key": "gpu", "value": "true", "effect": "NoExecute"}]);
        }),
        at(1),
    );
    let expected = [
        "gpu=true:NoExecute",
        "node.kubernetes.io/unreachable:NoSchedule",
        "node.kubernetes.io/unreachable:NoExecute",
    ];
    assert_eq!(
        taints(&nodes.plan(at(1), 100)),
        Some(expected.map(String::from).to_vec())
    );
}

#[test]
fn a_ready_node_loses_the_taints_of_its_past() {
    let mut nodes = settled();
    let tainted = node_of(Some("True"), |n| {
        n["spec"]["taints"] = json!([{"key": NOT_READY, "effect": "NoSchedule"}])
    });
    nodes.put_node(&tainted, at(1));
    assert_eq!(taints(&nodes.plan(at(1), 100)), Some(vec![]));
}

#[test]
fn a_node_that_has_not_spoken_keeps_what_it_was_admitted_with() {
    let mut nodes = settled();
    let new = node_of(None, |n| {
        n["spec"]["taints"] = json!([{"key": NOT_READY, "effect": "NoSchedule"}])
    });
    nodes.put_node(&new, at(1));
    assert_eq!(taints(&nodes.plan(at(1), 100)), None);
}

#[test]
fn pressure_and_cordon_are_taints_too() {
    let mut nodes = settled();
    let node = node_of(Some("True"), |n| {
        n["spec"]["unschedulable"] = true.into();
        n["status"]["conditions"][2]["status"] = "True".into();
    });
    nodes.put_node(&node, at(1));
    let expected = [
        "node.kubernetes.io/disk-pressure:NoSchedule",
        "node.kubernetes.io/unschedulable:NoSchedule",
    ];
    assert_eq!(
        taints(&nodes.plan(at(1), 100)),
        Some(expected.map(String::from).to_vec())
    );
}

#[test]
fn pods_of_a_node_that_turned_not_ready_are_not_ready() {
    let mut nodes = settled();
    nodes.put_node(&node_of(Some("Unknown"), |_| {}), at(1));
    let actions = nodes.plan(at(1), 100);
    assert!(actions.contains(&Action::NodeNotReady {
        node: "n".into(),
        uid: "uid-n".into()
    }));
    assert!(actions.contains(&Action::PodNotReady {
        pod: key(),
        uid: "uid-p".into()
    }));
    nodes.put_pod(
        &pod_of(|p| p["status"]["conditions"][0]["status"] = "False".into()),
        at(2),
    );
    assert_eq!(nodes.plan(at(2), 100), vec![]);
}

/// A pod with these tolerations on a node with a NoExecute taint that was added at second 0; when does it leave?
fn leaves(tolerations: Value) -> Option<i64> {
    let mut nodes = settled();
    nodes.put_pod(&pod_of(|p| p["spec"]["tolerations"] = tolerations), at(0));
    let tainted = node_of(Some("True"), |n| {
        n["spec"]["taints"] =
            json!([{"key": "k", "value": "v", "effect": "NoExecute", "timeAdded": at(0).to_string()}]);
    });
    nodes.put_node(&tainted, at(0));
    (0..400).find(|second| {
        // The node goes on speaking.
        nodes.put_lease(&lease(*second), at(*second));
        nodes.plan(at(*second), 100).contains(&Action::Evict {
            pod: key(),
            uid: "uid-p".into(),
        })
    })
}

#[test]
fn no_execute_drives_out_at_once_or_when_patience_ends() {
    let tolerates = |seconds: Value| json!([{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
    assert_eq!(leaves(json!([])), Some(0));
    assert_eq!(leaves(tolerates(300.into())), Some(300));
    assert_eq!(leaves(tolerates(0.into())), Some(0));
    assert_eq!(leaves(tolerates((-5).into())), Some(0));
    assert_eq!(leaves(tolerates(Value::Null)), None, "forever");
    assert_eq!(leaves(json!([{"key": "other", "operator": "Exists"}])), Some(0));
}

#[test]
fn the_shortest_patience_among_the_taints_decides() {
    let taints = [
        Taint::new("a", "", Effect::NoExecute),
        Taint::new("b", "", Effect::NoExecute),
    ];
    let tolerates = |key: &str, seconds| api::taint::Toleration {
        toleration_seconds: seconds,
        ..api::taint::Toleration::exists(key, Effect::NoExecute)
    };
    let both = [tolerates("a", Some(60)), tolerates("b", Some(30))];
    assert_eq!(eviction::when(&taints, &both, at(0)), Some(at(30)));
    let one_forever = [tolerates("a", None), tolerates("b", Some(30))];
    assert_eq!(eviction::when(&taints, &one_forever, at(0)), Some(at(30)));
    assert_eq!(eviction::when(&taints, &both[..1], at(0)), Some(at(0)));
}

#[test]
fn an_eviction_is_cancelled_when_the_taint_goes() {
    let mut nodes = settled();
    let patient =
        pod_of(|p| p["spec"]["tolerations"] = json!([{"operator": "Exists", "tolerationSeconds": 30}]));
    nodes.put_pod(&patient, at(0));
    nodes.put_node(
        &node_of(Some("True"), |n| {
            n["spec"]["taints"] = json!([{"key": "k", "effect": "NoExecute"}])
        }),
        at(0),
    );
    assert_eq!(nodes.plan(at(0), 100), vec![]);
    nodes.put_node(&node_of(Some("True"), |_| {}), at(10));
    assert_eq!(
        nodes.plan(at(10), 100),
        vec![Action::CancelEviction {
            pod: key(),
            uid: "uid-p".into()
        }]
    );
    assert_eq!(nodes.plan(at(40), 100), vec![]);
}

#[test]
fn a_heartbeat_decides_nothing() {
    let mut nodes = settled();
    let beat = node_of(Some("True"), |n| {
        n["status"]["conditions"][0]["lastHeartbeatTime"] = at(9).to_string().into()
    });
    nodes.put_node(&beat, at(9));
    assert!(!nodes.has_work());
}
