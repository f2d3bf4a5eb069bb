//! EndpointSlices: a case for each rule.

use serde_json::{Value, json};

use super::cluster::{Cluster, Fate, pod, service};

fn counts(cluster: &Cluster) -> Vec<usize> {
    let mut counts: Vec<usize> = cluster
        .slices_of("s")
        .iter()
        .map(|slice| slice["endpoints"].as_array().map_or(0, Vec::len))
        .collect();
    counts.sort_unstable();
    counts
}

fn with_pods(count: u32) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.put_service(service("s", |_| {}));
    for ip in 0..count {
        cluster.put_pod(pod(&format!("p{ip}"), ip, |_| {}));
    }
    cluster.settle();
    cluster
}

fn ready(pod: &mut Value, ready: bool, at: &str) {
    let status = if ready { "True" } else { "False" };
    pod["status"]["conditions"] = json!([{"type": "Ready", "status": status, "lastTransitionTime": at}]);
}

#[test]
fn a_service_without_pods_has_an_empty_slice() {
    let mut cluster = with_pods(0);
    let slice = cluster.slices_of("s")[0].clone();
    assert_eq!((&slice["ports"], &slice["endpoints"]), (&json!([]), &json!([])));
    let labels = json!({
        "team": "blue", "kubernetes.io/service-name": "s",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    });
    assert_eq!(slice["metadata"]["labels"], labels);
    cluster.put_pod(pod("p", 1, |_| {}));
    cluster.settle();
    assert_eq!(counts(&cluster), [1]);
    assert_eq!(
        cluster.slices_of("s")[0]["metadata"]["name"],
        slice["metadata"]["name"],
        "it is used"
    );
    cluster.delete_pod("p");
    cluster.settle();
    assert_eq!((counts(&cluster), cluster.writes), (vec![0], 3));
}

#[test]
fn an_endpoint_tells_of_pod_node_and_zone() {
    let cluster = with_pods(1);
    let slice = cluster.slices_of("s")[0];
    let uid = &cluster.pods["p0"]["metadata"]["uid"];
    assert_eq!(
        slice["endpoints"],
        json!([{
            "addresses": ["10.1.0.0"], "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": "n", "zone": "zone-1",
            "targetRef": {"kind": "Pod", "namespace": "d", "name": "p0", "uid": uid},
        }])
    );
    assert_eq!(
        slice["ports"],
        json!([{"name": "web", "protocol": "TCP", "port": 8080}])
    );
    assert_eq!(
        slice["metadata"]["ownerReferences"],
        json!([{"apiVersion": "v1", "kind": "Service", "name": "s", "uid": cluster.services["s"]["metadata"]["uid"],
            "controller": true, "blockOwnerDeletion": true}])
    );
}

#[test]
fn slices_hold_a_hundred_and_gaps_are_filled_first() {
    let mut cluster = with_pods(250);
    assert_eq!(counts(&cluster), [50, 100, 100]);
    let before = cluster.writes;
    cluster.put_pod(pod("new", 999, |_| {}));
    cluster.settle();
    assert_eq!(
        (counts(&cluster), cluster.writes - before),
        (vec![51, 100, 100], 1)
    );
}

#[test]
fn one_pods_change_is_one_write() {
    let mut cluster = with_pods(250);
    let before = cluster.writes;
    cluster.change_pod("p7", |pod| ready(pod, false, "2026-01-01T02:00:00Z"));
    cluster.settle();
    assert_eq!(cluster.writes - before, 1);
    let changed = cluster
        .slices_of("s")
        .into_iter()
        .filter(|slice| {
            slice["metadata"]["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"]
                == "2026-01-01T02:00:00Z"
        })
        .count();
    assert_eq!(changed, 1);
    cluster.change_pod("p7", |pod| pod["metadata"]["annotations"] = json!({"a": "b"}));
    cluster.settle();
    assert_eq!(
        cluster.writes - before,
        1,
        "what endpoints do not tell is no change"
    );
}

#[test]
fn what_happens_while_a_write_is_under_way_is_written_together() {
    let mut cluster = with_pods(20);
    let before = cluster.writes;
    for ip in 0..20 {
        cluster.change_pod(&format!("p{ip}"), |pod| ready(pod, false, "2026-01-01T02:00:00Z"));
        if ip == 0 {
            cluster.work(Fate::Done);
        } else {
            assert!(
                !cluster.work(Fate::Done),
                "the watch has yet to tell of the first"
            );
        }
    }
    cluster.settle();
    assert_eq!(cluster.writes - before, 2);
}

#[test]
fn a_pod_that_ends_stays_as_terminating_until_it_is_gone() {
    let mut cluster = with_pods(1);
    cluster.change_pod("p0", |pod| {
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T02:00:00Z".into()
    });
    cluster.settle();
    let conditions = &cluster.endpoints_of("s")[0]["conditions"];
    assert_eq!(
        *conditions,
        json!({"ready": false, "serving": true, "terminating": true})
    );
    cluster.change_pod("p0", |pod| pod["status"]["phase"] = "Succeeded".into());
    cluster.settle();
    assert!(cluster.endpoints_of("s").is_empty());
}

#[test]
fn a_service_that_publishes_everything_calls_everything_ready() {
    let mut cluster = with_pods(1);
    cluster.change_pod("p0", |pod| {
        ready(pod, false, "2026-01-01T02:00:00Z");
        pod["spec"]["nodeName"] = "unknown".into();
    });
    cluster.settle();
    assert!(cluster.endpoints_of("s").is_empty(), "nobody knows its node");
    cluster.put_service(service("s", |s| {
        s["spec"]["publishNotReadyAddresses"] = true.into()
    }));
    cluster.settle();
    let conditions = &cluster.endpoints_of("s")[0]["conditions"];
    assert_eq!(
        *conditions,
        json!({"ready": true, "serving": false, "terminating": false})
    );
}

#[test]
fn a_pod_joins_when_its_node_is_known_and_follows_its_zone() {
    let mut cluster = with_pods(0);
    cluster.put_pod(pod("p", 1, |pod| pod["spec"]["nodeName"] = "m".into()));
    cluster.settle();
    assert!(cluster.endpoints_of("s").is_empty());
    cluster.put_node("m", "zone-2");
    cluster.settle();
    assert_eq!(cluster.endpoints_of("s")[0]["zone"], "zone-2");
    cluster.put_node("m", "zone-3");
    cluster.settle();
    assert_eq!(cluster.endpoints_of("s")[0]["zone"], "zone-3");
    cluster.delete_node("m");
    cluster.settle();
    assert!(cluster.endpoints_of("s").is_empty());
}

#[test]
fn pods_with_other_ports_are_in_slices_of_their_own() {
    let mut cluster = with_pods(2);
    cluster.put_pod(pod("other", 9, |pod| {
        pod["spec"]["containers"][0]["ports"][0]["containerPort"] = 9090.into();
    }));
    cluster.settle();
    let mut ports: Vec<(i64, usize)> = cluster
        .slices_of("s")
        .iter()
        .map(|slice| {
            let endpoints = slice["endpoints"].as_array().map_or(0, Vec::len);
            (slice["ports"][0]["port"].as_i64().unwrap_or_default(), endpoints)
        })
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [(8080, 2), (9090, 1)]);
}

#[test]
fn traffic_that_prefers_the_node_has_hints_for_node_and_zone() {
    let mut cluster = with_pods(1);
    cluster.put_service(service("s", |s| {
        s["spec"]["trafficDistribution"] = "PreferSameNode".into()
    }));
    cluster.settle();
    let hints = json!({"forZones": [{"name": "zone-1"}], "forNodes": [{"name": "n"}]});
    assert_eq!(cluster.endpoints_of("s")[0]["hints"], hints);
    cluster.put_service(service("s", |s| {
        s["spec"]["trafficDistribution"] = "PreferClose".into()
    }));
    cluster.settle();
    assert_eq!(
        cluster.endpoints_of("s")[0]["hints"],
        json!({"forZones": [{"name": "zone-1"}]})
    );
    cluster.put_service(service("s", |_| {}));
    cluster.settle();
    assert_eq!(cluster.endpoints_of("s")[0].get("hints"), None);
}

#[test]
fn a_hostname_counts_below_the_service_that_is_its_subdomain() {
    let mut cluster = with_pods(0);
    for (name, subdomain, ip) in [("a", "s", 1), ("b", "other", 2)] {
        cluster.put_pod(pod(name, ip, |pod| {
            pod["spec"]["hostname"] = "host".into();
            pod["spec"]["subdomain"] = subdomain.into();
        }));
    }
    cluster.settle();
    let hosts: Vec<&Value> = cluster.endpoints_of("s").iter().map(|e| &e["hostname"]).collect();
    assert_eq!(hosts, [&json!("host"), &Value::Null]);
}

#[test]
fn a_service_of_two_families_has_slices_of_both() {
    let mut cluster = Cluster::new();
    cluster.put_service(service("s", |s| {
        s["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"])
    }));
    cluster.put_pod(pod("p", 1, |pod| {
        pod["status"]["podIPs"] = json!([{"ip": "10.1.0.1"}, {"ip": "fd00:0::1"}]);
    }));
    cluster.settle();
    let mut found: Vec<(&Value, &Value)> = cluster
        .slices_of("s")
        .iter()
        .map(|slice| (&slice["addressType"], &slice["endpoints"][0]["addresses"]))
        .collect();
    found.sort_by_key(|(family, _)| family.to_string());
    assert_eq!(
        found,
        [
            (&json!("IPv4"), &json!(["10.1.0.1"])),
            (&json!("IPv6"), &json!(["fd00::1"]))
        ]
    );
    cluster.put_service(service("s", |_| {}));
    cluster.settle();
    assert_eq!(cluster.slices_of("s").len(), 1);
}

#[test]
fn who_has_no_selector_or_is_only_a_name_is_left_alone() {
    let mut cluster = Cluster::new();
    cluster.put_pod(pod("p", 1, |_| {}));
    cluster.put_service(service("s", |s| s["spec"]["selector"] = json!({})));
    cluster.put_service(service("t", |s| s["spec"]["type"] = "ExternalName".into()));
    cluster.settle();
    assert_eq!(cluster.writes, 0);
}

#[test]
fn slices_of_unseen_deleted_service_are_replaced() {
    let mut cluster = with_pods(2);
    let slices = cluster.slices.clone();
    let mut later = Cluster::new();
    later.slices = slices.clone();
    for name in slices.keys() {
        // All objects again, as after a restart.
        later.meddle(name, |_| {});
    }
    later.put_service(service("s", |_| {}));
    later.settle();
    assert_eq!(later.slices_of("s").len(), 1);
    assert!(!slices.contains_key(later.slices.keys().next().expect("one")));
    cluster.settle();
}

#[test]
fn foreign_changes_are_reverted_and_foreign_slices_kept() {
    let mut cluster = with_pods(2);
    let name = cluster.slices.keys().next().cloned().expect("one");
    cluster.meddle(&name, |slice| {
        slice["endpoints"] = json!([]);
        slice["metadata"]["labels"]["team"] = "red".into();
    });
    cluster.settle();
    assert_eq!(counts(&cluster), [2]);
    assert_eq!(cluster.slices[&name]["metadata"]["labels"]["team"], "blue");
    cluster.meddle(&name, |slice| {
        slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = "me".into();
    });
    cluster.settle();
    assert_eq!(counts(&cluster), [2, 2], "one that was given away, and a new one");
}
