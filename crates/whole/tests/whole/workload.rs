//! Random actions of users, determined by the seed.

use serde_json::{Value, json};

use crate::history::STRANGER;
use crate::picture::Picture;
use crate::rng::Rng;

/// A request of a user.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: Value,
}

/// The next action.
#[derive(Debug)]
pub(crate) enum Deed {
    Ask(Request),
    /// A machine joins or comes back.
    Join(u32),
    /// A machine is turned off and its Node deleted.
    Leave(u32),
}

/// Features that the users of a cluster use. Each seed has only some, so that common cases are
/// frequent enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Customs {
    /// DaemonSets use host ports and may conflict.
    ports: bool,
    /// Some DaemonSets have a higher priority.
    priorities: bool,
    /// Disruption budgets protect DaemonSets, and users evict pods.
    budgets: bool,
    /// The controllers bind the pods themselves, without the scheduler.
    pub(crate) direct: bool,
}

impl Customs {
    pub(crate) fn draw(rng: &mut Rng) -> Customs {
        Customs {
            ports: rng.per_mille(300),
            priorities: rng.per_mille(300),
            budgets: rng.per_mille(300),
            direct: rng.per_mille(200),
        }
    }
}

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const SETS: &str = "/apis/apps/v1/namespaces/default/daemonsets";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Names of DaemonSets. There are few, so that they are reused.
const NAMES: [&str; 2] = ["alpha", "beta"];

/// Returns the next action of a user who sees the current cluster. `default_uid` is the UID of the
/// namespace `default`.
pub(crate) fn next(
    rng: &mut Rng,
    customs: Customs,
    picture: &Picture,
    machines: u32,
    default_uid: &str,
) -> Deed {
    for _ in 0..20 {
        if let Some(deed) = try_next(rng, customs, picture, machines, default_uid) {
            return deed;
        }
    }
    Deed::Join(0)
}

fn try_next(
    rng: &mut Rng,
    customs: Customs,
    picture: &Picture,
    machines: u32,
    default_uid: &str,
) -> Option<Deed> {
    let name = *rng.pick(&NAMES);
    let set = picture
        .sets
        .get(&("default".to_owned(), name.to_owned()))
        .and_then(|past| past.now());
    let set = set.filter(|set| !set["metadata"]["deletionTimestamp"].is_string());
    let ask = |method, path, body| Some(Deed::Ask(Request { method, path, body }));
    match rng.below(110) {
        0..35 => match set {
            None => ask("POST", SETS.to_owned(), new_set(rng, customs, name)),
            Some(_) => ask("PATCH", format!("{SETS}/{name}"), change_of_set(rng, customs)),
        },
        35..43 => {
            set?;
            let policy = *rng.pick(&["Background", "Background", "Foreground", "Orphan"]);
            ask(
                "DELETE",
                format!("{SETS}/{name}"),
                json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy}),
            )
        }
        43..58 => {
            let pods: Vec<_> = picture.pods.values().filter(|pod| pod.is_live()).collect();
            if pods.is_empty() {
                return None;
            }
            let pod = *rng.pick(&pods);
            let path = format!("{PODS}/{}", pod.key.1);
            match rng.below(3) {
                0 => ask("DELETE", path, json!({})),
                1 => ask("DELETE", path, json!({"gracePeriodSeconds": 0})),
                _ if pod.labels.contains_key(STRANGER) => None,
                _ => ask(
                    "PATCH",
                    format!("{path}/status"),
                    json!({"status": {"phase": "Failed", "conditions": [
                        {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    ]}}),
                ),
            }
        }
        58..64 => {
            let number = rng.below(1000);
            let node = format!("node-{}", rng.below(u64::from(machines)));
            ask("POST", PODS.to_owned(), stranger(rng, number, &node, default_uid))
        }
        64..90 => {
            let nodes: Vec<&String> = picture.present_nodes().map(|(name, _)| name).collect();
            if nodes.is_empty() {
                return None;
            }
            let node = *rng.pick(&nodes);
            let patch = change_of_node(rng, picture, node);
            ask("PATCH", format!("/api/v1/nodes/{node}"), patch)
        }
        100.. if !customs.budgets => None,
        100..103 => ask("POST", BUDGETS.to_owned(), budget(rng, name)),
        103 => ask("DELETE", format!("{BUDGETS}/{name}"), json!({})),
        104.. => {
            let pods: Vec<_> = picture.pods.values().filter(|pod| pod.is_live()).collect();
            if pods.is_empty() {
                return None;
            }
            let pod = &rng.pick(&pods).key.1;
            let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
            ask("POST", format!("{PODS}/{pod}/eviction"), eviction)
        }
        90..95 => Some(Deed::Leave(u32::try_from(rng.below(machines.into())).ok()?)),
        _ => Some(Deed::Join(u32::try_from(rng.below(machines.into())).ok()?)),
    }
}

fn image(rng: &mut Rng) -> String {
    format!("registry.example/daemon:{}", rng.below(4))
}

fn container(rng: &mut Rng, customs: Customs) -> Value {
    let mut container = json!({"name": "c", "image": image(rng)});
    if customs.ports && rng.per_mille(600) {
        let port = 80 + rng.below(2);
        container["ports"] = json!([{"containerPort": port, "hostPort": port}]);
    }
    container
}

fn priority(rng: &mut Rng, customs: Customs) -> Value {
    match customs.priorities {
        false => Value::Null,
        true => (*rng.pick(&[
            None,
            Some("system-cluster-critical"),
            Some("system-node-critical"),
        ]))
        .into(),
    }
}

/// Returns a disruption budget for the pods with a DaemonSet's name, for any controller.
fn budget(rng: &mut Rng, name: &str) -> Value {
    let amount: Value = match rng.below(3) {
        0 => "50%".into(),
        number => number.into(),
    };
    let mut spec = json!({"selector": {
        "matchLabels": {"app": name},
        "matchExpressions": [{"key": STRANGER, "operator": "DoesNotExist"}],
    }});
    let field = *rng.pick(&["minAvailable", "minAvailable", "maxUnavailable"]);
    spec[field] = amount;
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec})
}

fn new_set(rng: &mut Rng, customs: Customs, name: &str) -> Value {
    let mut spec = json!({
        "selector": {"matchLabels": {"app": name}},
        "updateStrategy": strategy(rng),
        "minReadySeconds": minimum_ready(rng),
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {
                "containers": [container(rng, customs)],
                "priorityClassName": priority(rng, customs),
                "terminationGracePeriodSeconds": rng.between(0, 5),
            },
        },
    });
    if rng.per_mille(300) {
        spec["revisionHistoryLimit"] = rng.below(3).into();
    }
    for (field, value) in placing(rng).as_object().into_iter().flatten() {
        spec["template"]["spec"][field] = value.clone();
    }
    json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name}, "spec": spec})
}

fn minimum_ready(rng: &mut Rng) -> u64 {
    *rng.pick(&[0, 0, 3, 20])
}

fn strategy(rng: &mut Rng) -> Value {
    let amount = *rng.pick(&["1", "2", "30%", "100%"]);
    let amount: Value = match amount.parse::<u64>() {
        Ok(number) => number.into(),
        Err(_) => amount.into(),
    };
    match rng.below(10) {
        0..5 => json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": amount, "maxSurge": 0}}),
        5..9 => json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": amount}}),
        _ => json!({"type": "OnDelete", "rollingUpdate": null}),
    }
}

/// Returns the node selector and affinity of a DaemonSet's pods.
fn placing(rng: &mut Rng) -> Value {
    let selector = match rng.below(6) {
        0 => json!({"disk": "fast"}),
        _ => Value::Null,
    };
    let tolerations = match rng.below(4) {
        0 => json!([{"operator": "Exists"}]),
        1 => json!([{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}]),
        _ => Value::Null,
    };
    let affinity = match rng.below(8) {
        0 => node_affinity(
            &json!({"matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["slow"]}]}),
        ),
        1 => node_affinity(
            &json!({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["node-1"]}]}),
        ),
        _ => Value::Null,
    };
    json!({"nodeSelector": selector, "tolerations": tolerations, "affinity": affinity})
}

fn node_affinity(term: &Value) -> Value {
    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}})
}

/// Returns a merge patch of a DaemonSet. An earlier image makes it a rollback.
fn change_of_set(rng: &mut Rng, customs: Customs) -> Value {
    match rng.below(10) {
        0 if customs.priorities => {
            json!({"spec": {"template": {"spec": {"priorityClassName": priority(rng, customs)}}}})
        }
        0..5 => {
            json!({"spec": {"template": {"spec": {"containers": [container(rng, customs)]}}}})
        }
        5 | 6 => json!({"spec": {"template": {"spec": placing(rng)}}}),
        7 => json!({"spec": {"minReadySeconds": minimum_ready(rng)}}),
        _ => json!({"spec": {"updateStrategy": strategy(rng)}}),
    }
}

/// Returns a merge patch of a node: a label, a taint, or whether it is schedulable.
fn change_of_node(rng: &mut Rng, picture: &Picture, node: &str) -> Value {
    match rng.below(4) {
        0 => {
            let value = *rng.pick(&[Some("fast"), Some("slow"), None]);
            json!({"metadata": {"labels": {"disk": value}}})
        }
        1 => json!({"spec": {"unschedulable": rng.per_mille(500)}}),
        _ => {
            let node = picture.nodes.get(node).and_then(|past| past.now());
            let taints = node.and_then(|node| node["spec"]["taints"].as_array());
            let (key, effect) = *rng.pick(&[
                ("dedicated", "NoSchedule"),
                ("dedicated", "NoExecute"),
                ("broken", "NoExecute"),
                ("broken", "NoSchedule"),
            ]);
            let mut taints: Vec<Value> = taints.cloned().unwrap_or_default();
            let before = taints.len();
            taints.retain(|taint| taint["key"] != key);
            if before == taints.len() {
                taints.push(json!({"key": key, "effect": effect}));
            }
            // With the resource version, like kubectl, so that taints of other clients are not
            // lost.
            let version = node.map_or(Value::Null, |node| node["metadata"]["resourceVersion"].clone());
            json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}})
        }
    }
}

/// Returns a pod that looks like a DaemonSet's pod but is not one.
fn stranger(rng: &mut Rng, number: u64, node: &str, default_uid: &str) -> Value {
    let mut labels = json!({});
    labels[STRANGER] = "true".into();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("stranger-{number}"), "labels": labels},
        "spec": {
            "nodeName": node, "tolerations": [{"operator": "Exists"}], "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "registry.example/other:1"}],
        },
    });
    // A pod with a DaemonSet's labels and another controller must not be adopted.
    if rng.per_mille(500) {
        pod["metadata"]["labels"]["app"] = (*rng.pick(&NAMES)).into();
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "Namespace", "name": "default", "uid": default_uid, "controller": true,
        }]);
    }
    pod
}
