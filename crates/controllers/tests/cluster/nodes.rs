//! Nodes that are deleted, and nodes that stop reporting.

use std::time::Duration;

use controllers::Options;
use plan::node_lifecycle::Limits;
use serde_json::{Value, json};

use crate::support::{Cluster, SETS, daemon_set};

/// More than one burst of a DaemonSet.
const SOME_HUNDRED: u32 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_another_machine_run_daemons_over_https() {
    let mut cluster = Cluster::start(0).await;
    cluster.play_remotely(SOME_HUNDRED, "far").await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.ready("a", SOME_HUNDRED.into()).await;
    cluster.delete(&crate::support::set_path("a"), None).await;
    cluster
        .until("its pods are gone", || async {
            cluster.pods().await.is_empty().then_some(())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_and_lease_of_a_deleted_node_are_collected() {
    let cluster = Cluster::start(3).await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.ready("a", 3).await;
    cluster.delete("/api/v1/nodes/node-1", None).await;
    cluster
        .until("its pod and its lease are gone", || async {
            let pods = cluster.pods().await;
            let lease = cluster
                .get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1")
                .await;
            (pods.len() == 2 && pods.iter().all(|p| p["spec"]["nodeName"] != "node-1") && lease.is_none())
                .then_some(())
        })
        .await;
    cluster.ready("a", 2).await;
    cluster.stop().await;
}

/// Well below the grace period of the test cluster.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// A cluster with a grace period of a few seconds, and one node that always reports in time.
async fn impatient() -> Cluster {
    let limits = Limits {
        grace: Duration::from_secs(5),
        ..Limits::default()
    };
    let options = Options {
        node_lifecycle: limits,
        ..Options::default()
    };
    let mut cluster = Cluster::start_with(0, options).await;
    cluster.play_at(1, "lively", HEARTBEAT);
    cluster
}

async fn has_taints(cluster: &Cluster, node: &str, wanted: &[(&str, &str)]) -> Option<()> {
    let node = cluster.get(&format!("/api/v1/nodes/{node}")).await?;
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let has = |(key, effect): &(&str, &str)| {
        taints
            .iter()
            .any(|t| t["key"] == format!("node.kubernetes.io/{key}") && t["effect"] == *effect)
    };
    (taints.len() == wanted.len() && wanted.iter().all(has)).then_some(())
}

async fn is_ready(cluster: &Cluster, name: &str, ready: u64) -> Option<()> {
    let status = &cluster.get(&crate::support::set_path(name)).await?["status"];
    (status["numberReady"] == ready && status["desiredNumberScheduled"] == 2).then_some(())
}

async fn events_of(cluster: &Cluster, kind: &str, reason: &str) -> Vec<Value> {
    let path = format!("/api/v1/events?fieldSelector=involvedObject.kind={kind},reason={reason}");
    cluster.items(&path).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreachable_node_is_tainted_and_recovers_with_its_daemon() {
    let mut cluster = impatient().await;
    let silence = cluster.play_at(1, "lost", HEARTBEAT);
    // Like daemons of nodes. Without it, the node does not count as desired while it is
    // unreachable.
    let everywhere =
        |s: &mut Value| s["spec"]["template"]["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    cluster.create(SETS, daemon_set("a", everywhere)).await;
    cluster.ready("a", 2).await;
    let on_lost = || async {
        let mut pods = cluster.pods().await;
        pods.retain(|p| p["spec"]["nodeName"] == "lost-0");
        pods.remove(0)
    };
    let pod = on_lost().await;
    silence.cancel();
    let unreachable = [("unreachable", "NoSchedule"), ("unreachable", "NoExecute")];
    cluster
        .until("the node is unreachable", || {
            has_taints(&cluster, "lost-0", &unreachable)
        })
        .await;
    cluster
        .until("its daemon is not ready", || is_ready(&cluster, "a", 1))
        .await;
    cluster
        .until("one event for each", || async {
            let node = events_of(&cluster, "Node", "NodeNotReady").await;
            let pod = events_of(&cluster, "Pod", "NodeNotReady").await;
            (node.len() == 1 && pod.len() == 1).then(|| {
                assert_eq!((&node[0]["count"], &pod[0]["count"]), (&json!(1), &json!(1)));
                assert_eq!(
                    (&pod[0]["type"], &pod[0]["message"]),
                    (&json!("Warning"), &json!("Node is not ready"))
                );
            })
        })
        .await;
    let still = on_lost().await;
    assert_eq!(
        pod["metadata"]["uid"], still["metadata"]["uid"],
        "the daemon stays"
    );
    assert_eq!(still["metadata"]["deletionTimestamp"], Value::Null);
    let conditions = &cluster.get("/api/v1/nodes/lost-0").await.expect("a node")["status"]["conditions"];
    let ready = conditions
        .as_array()
        .and_then(|all| all.iter().find(|c| c["type"] == "Ready").cloned())
        .expect("a condition");
    assert_eq!(
        (&ready["status"], &ready["reason"], &ready["message"]),
        (
            &json!("Unknown"),
            &json!("NodeStatusUnknown"),
            &json!("Kubelet stopped posting node status.")
        )
    );
    cluster.play_at(1, "lost", HEARTBEAT);
    cluster
        .until("the node is well again", || has_taints(&cluster, "lost-0", &[]))
        .await;
    cluster
        .until("so is its daemon", || is_ready(&cluster, "a", 2))
        .await;
    let uids: Vec<_> = cluster
        .pods()
        .await
        .iter()
        .map(|p| p["metadata"]["uid"].clone())
        .collect();
    assert!(uids.contains(&pod["metadata"]["uid"]), "it is the same daemon");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminating_pods_of_a_node_out_of_service_are_removed() {
    let mut cluster = impatient().await;
    let silence = cluster.play_at(1, "shut", HEARTBEAT);
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.ready("a", 2).await;
    silence.cancel();
    cluster
        .until("the node is unreachable", || async {
            let node = cluster.get("/api/v1/nodes/shut-0").await?;
            let conditions = node["status"]["conditions"].as_array()?.clone();
            conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "Unknown")
                .then_some(())
        })
        .await;
    let on_shut = || async {
        let mut pods = cluster.pods().await;
        pods.retain(|p| p["spec"]["nodeName"] == "shut-0");
        pods
    };
    let pod = on_shut().await.remove(0);
    let path = format!("/api/v1/namespaces/default/pods/{}", crate::support::name(&pod));
    cluster.delete(&path, None).await;
    assert!(
        cluster.get(&path).await.is_some(),
        "its node may come back and end it"
    );
    let taint =
        json!({"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"});
    cluster
        .strategic("/api/v1/nodes/shut-0", json!({"spec": {"taints": [taint]}}))
        .await;
    cluster
        .until("its pod is gone", || async {
            cluster.get(&path).await.is_none().then_some(())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_get_events_and_deprecated_labels() {
    let cluster = Cluster::start(0).await;
    let labels = json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64", "beta.kubernetes.io/arch": "amd64"});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bare", "labels": labels}});
    cluster.create("/api/v1/nodes", node).await;
    cluster
        .until("its old labels are right", || async {
            let labels = cluster.get("/api/v1/nodes/bare").await?["metadata"]["labels"].clone();
            (labels["beta.kubernetes.io/os"] == "linux" && labels["beta.kubernetes.io/arch"] == "arm64")
                .then_some(())
        })
        .await;
    cluster.delete("/api/v1/nodes/bare", None).await;
    for (reason, message) in [
        (
            "RegisteredNode",
            "Node bare event: Registered Node bare in Controller",
        ),
        (
            "RemovingNode",
            "Node bare event: Removing Node bare from Controller",
        ),
    ] {
        cluster
            .until(reason, || async {
                let events = events_of(&cluster, "Node", reason).await;
                (events.first()?["message"] == message).then_some(())
            })
            .await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cordon_moves_no_daemon() {
    let cluster = Cluster::start(2).await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.ready("a", 2).await;
    let uids = || async {
        let pods = cluster.pods().await;
        let mut uids: Vec<_> = pods.iter().map(|p| p["metadata"]["uid"].to_string()).collect();
        uids.sort();
        uids
    };
    let before = uids().await;
    cluster
        .merge("/api/v1/nodes/node-0", json!({"spec": {"unschedulable": true}}))
        .await;
    cluster
        .until("the node is tainted", || {
            has_taints(&cluster, "node-0", &[("unschedulable", "NoSchedule")])
        })
        .await;
    // Earlier decisions are written by the time a change of the set is.
    let change = json!({"spec": {"minReadySeconds": 0, "revisionHistoryLimit": 5}});
    cluster.merge(&crate::support::set_path("a"), change).await;
    cluster.ready("a", 2).await;
    assert_eq!(uids().await, before);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_execute_drives_out_what_does_not_tolerate_it() {
    let cluster = Cluster::start(1).await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster
        .create(
            SETS,
            daemon_set("tough", |s| {
                s["spec"]["template"]["spec"]["tolerations"] = json!([{"key": "fire", "operator": "Exists"}]);
            }),
        )
        .await;
    cluster.ready("a", 1).await;
    cluster.ready("tough", 1).await;
    let taint = json!({"spec": {"taints": [{"key": "fire", "effect": "NoExecute"}]}});
    cluster.merge("/api/v1/nodes/node-0", taint).await;
    cluster
        .until("only the tough one stays", || async {
            let pods = cluster.pods().await;
            let tough = pods.iter().all(|p| p["metadata"]["labels"]["app"] == "tough");
            (pods.len() == 1 && tough).then_some(())
        })
        .await;
    cluster.stop().await;
}
