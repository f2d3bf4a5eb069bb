//! Nodes that leave, and nodes that fall silent.

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_is_tainted_its_daemon_stays_and_is_not_ready() {
    let limits = Limits {
        grace: Duration::from_secs(2),
        ..Limits::default()
    };
    let mut cluster = Cluster::start_with(
        0,
        Options {
            node_lifecycle: limits,
            ..Options::default()
        },
    )
    .await;
    let silence = cluster.play(1, "lost");
    // As node daemons do; without it an unreachable node is one that should not run the daemon, and is counted as such.
    let everywhere =
        |s: &mut Value| s["spec"]["template"]["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    cluster.create(SETS, daemon_set("a", everywhere)).await;
    cluster.ready("a", 1).await;
    let pod = cluster.pods().await.remove(0);
    silence.cancel();
    cluster
        .until("the node is unreachable", || async {
            let node = cluster.get("/api/v1/nodes/lost-0").await?;
            let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
            let unreachable = |effect: &str| {
                taints
                    .iter()
                    .any(|t| t["key"] == "node.kubernetes.io/unreachable" && t["effect"] == effect)
            };
            (unreachable("NoSchedule") && unreachable("NoExecute")).then_some(())
        })
        .await;
    cluster
        .until("its daemon is not ready", || async {
            let status = &cluster.get(&crate::support::set_path("a")).await?["status"];
            (status["numberReady"] == 0 && status["desiredNumberScheduled"] == 1).then_some(())
        })
        .await;
    let still = cluster.pods().await.remove(0);
    assert_eq!(
        pod["metadata"]["uid"], still["metadata"]["uid"],
        "the daemon stays"
    );
    assert_eq!(still["metadata"]["deletionTimestamp"], Value::Null);
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
