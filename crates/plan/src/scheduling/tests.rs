//! One case for each rule, with the messages for users. Then a property: a sequence of events ends
//! like a new scheduler with the same cluster.

mod filters;
mod neighbours;
mod preempting;
mod property;
mod scores;
mod waking;

use serde_json::{Value, json};

use super::*;

fn node_of(name: &str, change: impl FnOnce(&mut Value)) -> Arc<NodeView> {
    let mut node = json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110"}},
    });
    change(&mut node);
    Arc::new(serde_json::from_value(node).expect("a node"))
}

fn node(name: &str) -> Arc<NodeView> {
    node_of(name, |_| {})
}

fn pod_of(name: &str, change: impl FnOnce(&mut Value)) -> Arc<PodView> {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {"schedulerName": DEFAULT_SCHEDULER, "containers": [{"name": "c"}]},
        "status": {"phase": "Pending"},
    });
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn pinned(name: &str, node: &str, change: impl FnOnce(&mut Value)) -> Arc<PodView> {
    pod_of(name, |pod| {
        pod["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}}});
        change(pod);
    })
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).expect("a time")
}

fn with(nodes: &[Arc<NodeView>]) -> Scheduler {
    let mut scheduler = Scheduler::new();
    nodes.iter().for_each(|n| scheduler.put_node(n));
    scheduler
}

fn verdict(scheduler: &mut Scheduler, pod: &Arc<PodView>) -> Verdict {
    scheduler.put_pod(pod);
    scheduler.next(at(0)).expect("a turn").0.verdict
}

fn refusal(scheduler: &mut Scheduler, pod: &Arc<PodView>) -> String {
    match verdict(scheduler, pod) {
        Verdict::Unschedulable { message, .. } => message,
        Verdict::Bind { node } => panic!("bound to {node}"),
    }
}

fn bind(node: &str) -> Verdict {
    Verdict::Bind { node: node.into() }
}

/// A pod that runs on a node.
fn running(name: &str, node: &str, change: impl FnOnce(&mut Value)) -> Arc<PodView> {
    pod_of(name, |pod| {
        pod["spec"]["nodeName"] = node.into();
        change(pod);
    })
}

fn requests(pod: &mut Value, resource: &str, amount: &str) {
    pod["spec"]["containers"][0]["resources"]["requests"][resource] = amount.into();
}

fn labelled(node: &str, label: &str, value: &str) -> Arc<NodeView> {
    node_of(node, |n| n["metadata"]["labels"][label] = value.into())
}

/// How many pods count on a node.
fn on(scheduler: &Scheduler, node: &str) -> usize {
    scheduler
        .cluster
        .all_placed()
        .filter(|(_, placed)| &*placed.node == node)
        .count()
}
