use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::selector::LabelSelector;

fn read<V: View>(object: &Value) -> V {
    let from_text: V = serde_json::from_str(&object.to_string()).unwrap();
    let from_value: V = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(from_text, from_value);
    from_text
}

fn daemon_pod(name: &str, node: &str) -> Value {
    json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name, "namespace": "kube-system", "uid": format!("uid-{name}"), "resourceVersion": "42",
            "labels": {"app": "daemon"}, "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "daemon", "uid": "ds",
                "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {
            "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}}},
            "containers": [
                {"resources": {"requests": {"cpu": "100m", "memory": "200Mi"}}, "ports": [{"hostPort": 80}]},
                {"resources": {"requests": {"cpu": 1, "example.com/gpu": "2"}}},
            ],
            "initContainers": [{"resources": {"requests": {"memory": "1Gi"}}}],
            "overhead": {"cpu": "50m"},
            "volumes": [{"name": "ignored"}],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"},
                {"type": "PodScheduled", "status": "True"},
            ],
        },
    })
}

#[test]
fn pod_view_has_the_fields_that_decisions_need() {
    let pod: PodView = read(&daemon_pod("a", "node-1"));
    assert_eq!(
        (&*pod.meta.name, &*pod.meta.namespace, pod.meta.resource_version),
        ("a", "kube-system", 42)
    );
    assert_eq!(pod.meta.controller().map(|owner| &*owner.uid), Some("ds"));
    assert_eq!(pod.meta.labels.get("app"), Some("daemon"));
    assert_eq!(pod.target_node().map(|node| &**node), Some("node-1"));
    assert_eq!(
        (pod.node_name.clone(), pod.phase, pod.ready.status),
        (None, PhaseView::Running, true)
    );
    assert_eq!(pod.ready.since, "2026-01-01T00:00:05Z".parse().ok());
    assert_eq!(pod.pod_ips[..], ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(pod.unscheduled, None);
    let requests = &pod.spec.requests;
    assert_eq!(
        (
            requests.cpu_milli,
            requests.memory,
            requests.get("example.com/gpu")
        ),
        (1150, 1 << 30, 2)
    );
    assert_eq!(
        &*pod.spec.host_ports,
        [HostPortView {
            ip: "0.0.0.0".into(),
            protocol: "TCP".into(),
            port: 80
        }]
    );
}

#[test]
fn pods_of_a_set_share_equal_values() {
    let (a, b): (PodView, PodView) = (read(&daemon_pod("a", "node-1")), read(&daemon_pod("b", "node-2")));
    assert!(
        Arc::ptr_eq(&a.spec, &b.spec),
        "the node's name is not part of what is shared"
    );
    assert!(Arc::ptr_eq(
        a.meta.owners.as_ref().unwrap(),
        b.meta.owners.as_ref().unwrap()
    ));
    assert!(a.spec.node_affinity.is_none());
}

#[test]
fn affinity_with_more_than_a_node_name_stays() {
    let mut pod = daemon_pod("a", "node-1");
    pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        [0]["matchExpressions"] = json!([{"key": "zone", "operator": "Exists"}]);
    let pod: PodView = read(&pod);
    assert_eq!(pod.pinned_node.as_deref(), Some("node-1"));
    assert!(
        pod.spec
            .node_affinity
            .as_ref()
            .is_some_and(|affinity| affinity.required.is_some())
    );
}

#[test]
fn sidecars_add_to_containers_and_later_init_containers() {
    let container = |memory: i64, restart: Value| json!({"restartPolicy": restart, "resources": {"requests": {"memory": memory}}});
    let pod: PodView = read(&json!({"spec": {
        "initContainers": [container(10, json!("Always")), container(25, Value::Null)],
        "containers": [container(20, Value::Null)],
    }}));
    assert_eq!(
        pod.spec.requests.memory, 35,
        "10 of the sidecar and 25 of the init container beside it"
    );
}

#[test]
fn absent_null_and_invalid_fields_have_defaults() {
    let empty: PodView = read(&json!({}));
    assert_eq!(empty, PodView::default());
    let nulls: PodView = read(&json!({
        "metadata": {"name": null, "labels": null, "ownerReferences": null, "creationTimestamp": null, "finalizers": null},
        "spec": {"nodeName": null, "tolerations": null, "affinity": null, "containers": null, "nodeSelector": null},
        "status": {"conditions": null, "phase": null, "podIP": null},
    }));
    assert_eq!(nulls, PodView::default());
    let odd: NodeView = read(&json!({
        "metadata": {"resourceVersion": "abc", "creationTimestamp": "yesterday"},
        "status": {"allocatable": {"cpu": "many", "memory": null, "pods": "110"}},
    }));
    assert_eq!(
        (odd.meta.resource_version, odd.meta.creation_timestamp),
        (0, None)
    );
    assert_eq!(
        (
            odd.allocatable.cpu_milli,
            odd.allocatable.memory,
            odd.allocatable.pods
        ),
        (0, 0, 110)
    );
    read::<DaemonSetView>(&json!({"spec": null, "status": null}));
    read::<LeaseView>(&json!({"spec": null}));
    read::<NamespaceView>(&json!({}));
    read::<ControllerRevisionView>(&json!({}));
}

#[test]
fn bookmark_is_a_view_with_only_a_revision() {
    let bookmark = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}});
    assert_eq!(read::<PodView>(&bookmark).meta.resource_version, 7);
    assert_eq!(read::<DaemonSetView>(&bookmark).meta.resource_version, 7);
}

#[test]
fn node_view_has_taints_conditions_and_allocatable() {
    let node: NodeView = read(&json!({
        "metadata": {"name": "n", "labels": {"b": "2", "a": "1"}},
        "spec": {"unschedulable": true, "taints": [{"key": "k", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}]},
        "status": {
            "allocatable": {"cpu": "3500m", "memory": "8Gi"},
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:09Z"}],
        },
    }));
    assert!(node.unschedulable && node.is_ready());
    assert_eq!(node.taints[0].to_string(), "k:NoExecute");
    assert_eq!(node.allocatable.cpu_milli, 3500);
    assert_eq!(
        node.meta.labels.iter().collect::<Vec<_>>(),
        [("a", "1"), ("b", "2")]
    );
}

#[test]
fn daemon_set_keeps_its_template_and_has_defaults() {
    let template =
        json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "odd": [1, 2]}]}});
    let set: DaemonSetView = read(&json!({
        "metadata": {"name": "d", "annotations": {"deprecated.daemonset.template.generation": "3"}},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template},
    }));
    assert_eq!(*set.template, template);
    assert_eq!(set.template_generation(), Some(3));
    assert_eq!(set.revision_history_limit, 10);
    assert!(!set.allows_surge());
    let conditions: DaemonSetView = read(&json!({"status": {"numberReady": 2, "conditions": [
        {"type": "Mine", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "message": null}]}}));
    assert_eq!(conditions.status.number_ready, 2);
    assert_eq!(
        (
            &*conditions.conditions[0].kind,
            &*conditions.conditions[0].message
        ),
        ("Mine", "")
    );
    let without: DaemonSetView = read(&json!({"spec": {}}));
    assert!(
        !without.selector.is_everything(),
        "no selector selects nothing, not everything"
    );
    let surging: DaemonSetView =
        read(&json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": "1%"}}}}));
    assert!(surging.allows_surge());
}

#[test]
fn ports_conflict_by_number_protocol_and_overlapping_address() {
    let port = |ip: &str, protocol: &str, port| HostPortView {
        ip: ip.into(),
        protocol: protocol.into(),
        port,
    };
    let all = port("0.0.0.0", "TCP", 80);
    assert!(all.conflicts(&port("127.0.0.1", "TCP", 80)));
    assert!(!all.conflicts(&port("0.0.0.0", "UDP", 80)));
    assert!(!all.conflicts(&port("0.0.0.0", "TCP", 81)));
    assert!(!port("10.0.0.1", "TCP", 80).conflicts(&port("127.0.0.1", "TCP", 80)));
}

#[test]
fn labels_are_small_and_leave_out_nul() {
    let labels = Labels::new([("b", "2"), ("a", "1"), ("bad\0", "x")]);
    assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
    assert_eq!(labels, Labels::new([("a", "1"), ("b", "2")]));
    assert!(Labels::default().is_empty());
    assert_eq!(Labels::new([("a", "")]).get("a"), Some(""));
}

#[test]
fn collections_have_the_paths_of_the_api() {
    assert_eq!(PodView::collection_path(), "/api/v1/pods");
    assert_eq!(DaemonSetView::collection_path(), "/apis/apps/v1/daemonsets");
}

#[test]
fn topology_terms_include_the_labels_of_the_pod() {
    let mut pod = daemon_pod("a", "node-1");
    assert_eq!(read::<PodView>(&pod).spec.topology, None);
    pod["spec"]["affinity"]["podAntiAffinity"] = json!({
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]},
             "matchLabelKeys": ["app", "absent"], "namespaceSelector": {}}],
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 7, "podAffinityTerm": {"topologyKey": "zone", "mismatchLabelKeys": ["app"], "labelSelector": {}}}],
    });
    pod["spec"]["topologySpreadConstraints"] = json!([
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"a": "b"}}}]);
    let pod: PodView = read(&pod);
    let topology = pod.spec.topology.as_ref().expect("it asks");
    let labels = |pairs: &[(&'static str, &'static str)]| Labels::new(pairs.iter().copied());
    let term = &topology.anti_affinity[0];
    let both = labels(&[("tier", "x"), ("app", "daemon")]);
    assert!(term.selector.matches_labels(&both) && !term.selector.matches_labels(&labels(&[("tier", "x")])));
    assert!(
        term.namespace_selector
            .as_ref()
            .is_some_and(LabelSelector::is_everything)
    );
    let preferred = &topology.preferred[0];
    assert_eq!(preferred.weight, -7);
    assert!(!preferred.term.selector.matches_labels(&both));
    let spread = &topology.spread[0];
    assert_eq!(
        (spread.max_skew, spread.min_domains, spread.required),
        (1, 1, true)
    );
    assert!(spread.honors_affinity && !spread.honors_taints);
}

#[test]
fn budget_view_has_its_allowed_disruptions() {
    let budget: PodDisruptionBudgetView = read(&json!({
        "metadata": {"name": "b", "namespace": "default", "generation": 2},
        "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "a"}}},
        "status": {"disruptionsAllowed": 1, "disruptedPods": {"p": "2026-01-01T00:00:00Z"}, "observedGeneration": 2},
    }));
    assert_eq!(
        budget.min_available,
        Some(schema::int_or_percent::IntOrPercent::Percent(50))
    );
    assert_eq!(
        (budget.max_unavailable, budget.always_evicts_unhealthy),
        (None, false)
    );
    assert_eq!(
        (
            budget.status.disruptions_allowed,
            budget.status.observed_generation
        ),
        (1, 2)
    );
    assert!(budget.status.disrupted_pods.contains_key("p"));
    assert!(budget.selector.matches_labels(&Labels::new([("app", "a")])));
    let without: PodDisruptionBudgetView = read(&json!({"spec": {}}));
    assert!(!without.selector.matches_labels(&Labels::default()));
}

#[test]
fn service_view_has_ports_families_and_policies() {
    let service: ServiceView = read(&json!({
        "metadata": {"name": "s", "namespace": "n"},
        "spec": {
            "type": "NodePort", "selector": {"app": "a"}, "clusterIP": "10.96.1.2", "clusterIPs": ["10.96.1.2", "fd00::1"],
            "ipFamilies": ["IPv4", "IPv6"], "internalTrafficPolicy": "Local", "trafficDistribution": "PreferClose",
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 7}},
            "ports": [{"name": "web", "port": 80, "targetPort": "http", "nodePort": 30001, "protocol": "TCP"},
                {"name": "dns", "port": 53, "protocol": "UDP"}],
        },
    }));
    assert!(service.selects() && !service.headless && service.internal_local && !service.external_local);
    assert_eq!(service.cluster_ips.len(), 2);
    assert_eq!(*service.families, [IpFamily::V4, IpFamily::V6]);
    assert_eq!(service.affinity_seconds, Some(7));
    assert_eq!(service.traffic_distribution, TrafficDistribution::SameZone);
    assert_eq!(service.ports[0].target, TargetPortView::Name("http".into()));
    assert_eq!(
        (service.ports[0].node_port, &*service.ports[1].protocol),
        (30001, "UDP")
    );
    assert_eq!(service.ports[1].target, TargetPortView::Number(53));
    let headless: ServiceView = read(&json!({"spec": {"clusterIP": "None", "selector": {}}}));
    assert!(headless.headless && headless.cluster_ips.is_empty() && !headless.selects());
}

#[test]
fn absent_endpoint_conditions_have_defaults() {
    let slice: EndpointSliceView = read(&json!({
        "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv6",
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["fd00::1"], "conditions": {}},
            {"addresses": ["fd00::2"], "conditions": {"ready": false, "serving": true, "terminating": true},
             "nodeName": "n", "zone": "z", "targetRef": {"kind": "Pod", "namespace": "d", "name": "p", "uid": "u"},
             "hints": {"forZones": [{"name": "z"}], "forNodes": [{"name": "n"}]}},
        ],
    }));
    assert_eq!(
        (slice.service_name(), slice.address_type),
        (Some("s"), AddressType::V6)
    );
    let [plain, full] = &*slice.endpoints else {
        panic!("two")
    };
    assert_eq!(
        (plain.ready, plain.serving, plain.terminating),
        (true, true, false)
    );
    assert_eq!((full.ready, full.serving, full.terminating), (false, true, true));
    assert_eq!(
        (full.node.as_deref(), &*full.for_nodes),
        (Some("n"), &["n".into()][..])
    );
}

#[test]
fn node_network_view_has_addresses_and_pod_ranges() {
    let node: NodeNetworkView = read(&json!({
        "metadata": {"name": "n1"},
        "spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24", "fd00:10:244:3::/64"]},
        "status": {"addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "192.0.2.3"},
            {"type": "ExternalIP", "address": "198.51.100.3"}, {"type": "InternalIP", "address": "fd00::3"}]},
    }));
    assert_eq!(&*node.pod_cidrs[1], "fd00:10:244:3::/64");
    assert_eq!(node.internal_ips.len(), 2);
    assert_eq!(node.external_ips[0].to_string(), "198.51.100.3");
}
