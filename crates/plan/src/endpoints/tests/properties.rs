//! Properties of random clusters with late watches and lost answers.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::cluster::{Cluster, Fate, pod, service};
use crate::endpoints::SLICE_ENDPOINTS;

#[derive(Clone, Debug)]
enum Happening {
    AddPod(u32),
    DeletePod(u32),
    Ready(u32, bool),
    Terminate(u32),
    Finish(u32),
    Relabel(u32, bool),
    Move(u32, u8),
    Port(u32, u16),
    Many(u32, u32),
    Node(u8, bool),
    Service(u8),
    DeleteService,
    Meddle(u8),
    Tell(usize),
    Work(u8),
    Wait,
}

fn happening() -> impl Strategy<Value = Happening> {
    let pod = 0..40_u32;
    prop_oneof![
        6 => pod.clone().prop_map(Happening::AddPod),
        3 => pod.clone().prop_map(Happening::DeletePod),
        3 => (pod.clone(), any::<bool>()).prop_map(|(pod, ready)| Happening::Ready(pod, ready)),
        1 => pod.clone().prop_map(Happening::Terminate),
        1 => pod.clone().prop_map(Happening::Finish),
        1 => (pod.clone(), any::<bool>()).prop_map(|(pod, of)| Happening::Relabel(pod, of)),
        1 => (pod.clone(), 0..3_u8).prop_map(|(pod, node)| Happening::Move(pod, node)),
        1 => (pod, 0..3_u16).prop_map(|(pod, port)| Happening::Port(pod, port)),
        1 => (0..200_u32, 100..300_u32).prop_map(|(from, count)| Happening::Many(from, count)),
        1 => (0..3_u8, any::<bool>()).prop_map(|(node, there)| Happening::Node(node, there)),
        2 => (0..6_u8).prop_map(Happening::Service),
        1 => Just(Happening::DeleteService),
        1 => (0..4_u8).prop_map(Happening::Meddle),
        5 => (0..5_usize).prop_map(Happening::Tell),
        8 => (0..8_u8).prop_map(Happening::Work),
        2 => Just(Happening::Wait),
    ]
}

fn shape(service: &mut Value, shape: u8) {
    let spec = &mut service["spec"];
    match shape {
        1 => spec["publishNotReadyAddresses"] = true.into(),
        2 => spec["ports"][0]["targetPort"] = 81.into(),
        3 => spec["selector"] = json!({"app": "b"}),
        4 => spec["ipFamilies"] = json!(["IPv4", "IPv6"]),
        5 => spec["trafficDistribution"] = "PreferSameNode".into(),
        _ => {}
    }
}

fn happen(cluster: &mut Cluster, happening: &Happening) {
    let name = |pod: &u32| format!("p{pod}");
    match happening {
        Happening::AddPod(id) => cluster.put_pod(pod(&name(id), *id, |_| {})),
        Happening::DeletePod(id) => cluster.delete_pod(&name(id)),
        Happening::Ready(id, ready) => cluster.change_pod(&name(id), |pod| {
            let status = if *ready { "True" } else { "False" };
            pod["status"]["conditions"] = json!([{"type": "Ready", "status": status}]);
        }),
        Happening::Terminate(id) => cluster.change_pod(&name(id), |pod| {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T02:00:00Z".into();
        }),
        Happening::Finish(id) => {
            cluster.change_pod(&name(id), |pod| pod["status"]["phase"] = "Failed".into())
        }
        Happening::Relabel(id, of_a) => cluster.change_pod(&name(id), |pod| {
            pod["metadata"]["labels"]["app"] = if *of_a { "a" } else { "b" }.into();
        }),
        Happening::Move(id, node) => cluster.change_pod(&name(id), |pod| {
            pod["spec"]["nodeName"] = format!("n{node}").into();
        }),
        Happening::Port(id, port) => cluster.change_pod(&name(id), |pod| {
            pod["spec"]["containers"][0]["ports"][0]["containerPort"] = (8080 + port).into();
        }),
        Happening::Many(from, count) => {
            for id in *from..from + count {
                cluster.put_pod(pod(&name(&id), id, |_| {}));
            }
        }
        Happening::Node(node, true) => cluster.put_node(&format!("n{node}"), "z"),
        Happening::Node(node, false) => cluster.delete_node(&format!("n{node}")),
        Happening::Service(of) => cluster.put_service(service("s", |s| shape(s, *of))),
        Happening::DeleteService => cluster.delete_service("s"),
        Happening::Meddle(how) => {
            let Some(slice) = cluster.slices.keys().nth(usize::from(*how)).cloned() else {
                return;
            };
            match how {
                0 => cluster.remove_slice(&slice),
                1 => cluster.meddle(&slice, |slice| slice["endpoints"] = json!([])),
                2 => cluster.meddle(&slice, |slice| slice["ports"] = json!([])),
                _ => cluster.meddle(&slice, |slice| {
                    let first = slice["endpoints"][0].clone();
                    if let Some(endpoints) = slice["endpoints"].as_array_mut() {
                        endpoints.insert(0, first);
                    }
                }),
            }
        }
        Happening::Tell(count) => cluster.tell(*count),
        Happening::Work(fate) => {
            cluster.work(match fate {
                0 => Fate::Refused,
                1 => Fate::Lost,
                _ => Fate::Done,
            });
        }
        Happening::Wait => cluster.now += jiff::SignedDuration::from_secs(1),
    }
}

/// Kubernetes' rules, restated over the whole cluster: pod, address, ports, conditions.
fn expected(cluster: &Cluster) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let Some(service) = cluster.services.get("s") else {
        return all;
    };
    let spec = &service["spec"];
    let publishes = spec["publishNotReadyAddresses"] == true;
    for pod in cluster.pods.values() {
        if pod["metadata"]["labels"]["app"] != spec["selector"]["app"] || pod["status"]["phase"] == "Failed" {
            continue;
        }
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if !cluster.nodes.contains_key(node) && !publishes {
            continue;
        }
        let port = match &spec["ports"][0]["targetPort"] {
            Value::String(_) => pod["spec"]["containers"][0]["ports"][0]["containerPort"].clone(),
            number => number.clone(),
        };
        let serving = pod["status"]["conditions"][0]["status"] == "True";
        let terminating = !pod["metadata"]["deletionTimestamp"].is_null();
        let ready = publishes || (serving && !terminating);
        let hinted = ready && spec["trafficDistribution"] == "PreferSameNode";
        all.insert(format!(
            "{} {} {port} {ready} {serving} {terminating} {node} {hinted}",
            pod["metadata"]["uid"], pod["status"]["podIP"]
        ));
    }
    all
}

fn found(cluster: &Cluster) -> Vec<String> {
    let mut all = Vec::new();
    for slice in cluster.slices_of("s") {
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let conditions = &endpoint["conditions"];
            all.push(format!(
                "{} {} {} {} {} {} {} {}",
                endpoint["targetRef"]["uid"],
                endpoint["addresses"][0],
                slice["ports"][0]["port"],
                conditions["ready"],
                conditions["serving"],
                conditions["terminating"],
                endpoint["nodeName"].as_str().unwrap_or_default(),
                endpoint["hints"]["forNodes"].is_array(),
            ));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn slices_end_as_what_a_recount_gives(happenings in prop::collection::vec(happening(), 1..60)) {
        let mut cluster = Cluster::new();
        cluster.put_service(service("s", |_| {}));
        for step in &happenings {
            happen(&mut cluster, step);
        }
        cluster.settle();
        let slices = found(&cluster);
        let unique: BTreeSet<String> = slices.iter().cloned().collect();
        prop_assert_eq!(slices.len(), unique.len(), "no endpoint is in two slices");
        prop_assert_eq!(unique, expected(&cluster));
        if cluster.services.contains_key("s") {
            prop_assert!(!cluster.slices_of("s").is_empty());
        } else {
            prop_assert!(cluster.slices.is_empty());
        }
        let full = cluster.slices_of("s").iter().all(|slice| {
            slice["endpoints"].as_array().map_or(0, Vec::len) <= SLICE_ENDPOINTS
        });
        prop_assert!(full);
        // At rest, nothing more is written, not even by a new controller.
        let before = cluster.writes;
        cluster.settle();
        cluster.restart();
        cluster.settle();
        prop_assert_eq!(cluster.writes, before);
    }
}
