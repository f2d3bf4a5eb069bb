//! A DaemonSet runs one pod on every node.

use std::collections::BTreeSet;

use controllers::Options;
use plan::daemonset::Aim;

use crate::support::{Cluster, SETS, daemon_set, name, set_path};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_gets_one_pod_and_a_node_that_joins_later_too() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.ready("a", 3).await;
    cluster.play(2, "late");
    cluster.ready("a", 5).await;
    let pods = cluster.pods().await;
    let nodes: BTreeSet<_> = pods
        .iter()
        .map(|p| p["spec"]["nodeName"].as_str().expect("bound").to_owned())
        .collect();
    assert_eq!((pods.len(), nodes.len()), (5, 5));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pod_comes_back_and_a_failed_one_is_replaced() {
    let cluster = Cluster::start(2).await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.ready("a", 2).await;
    let pods = cluster.pods().await;
    let (first, second) = (name(&pods[0]), name(&pods[1]));
    let path = |name: &str| format!("/api/v1/namespaces/default/pods/{name}");
    let uid = |pod: &serde_json::Value| pod["metadata"]["uid"].clone();
    let gone = [uid(&pods[0]), uid(&pods[1])];
    cluster.delete(&path(&first), None).await;
    cluster
        .strategic(
            &format!("{}/status", path(&second)),
            serde_json::json!({"status": {"phase": "Failed"}}),
        )
        .await;
    cluster
        .until("both are replaced by running pods", || async {
            let pods = cluster.pods().await;
            let fresh = pods
                .iter()
                .all(|p| !gone.contains(&uid(p)) && p["status"]["phase"] == "Running");
            (pods.len() == 2 && fresh).then_some(())
        })
        .await;
    cluster.ready("a", 2).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_selector_chooses_and_a_label_change_acts_at_once() {
    let cluster = Cluster::start(3).await;
    cluster
        .create(
            SETS,
            daemon_set("a", |s| {
                s["spec"]["template"]["spec"]["nodeSelector"] = serde_json::json!({"disk": "ssd"})
            }),
        )
        .await;
    cluster
        .until("its controller has looked at it", || async {
            cluster.get(&set_path("a")).await?["status"]["observedGeneration"].as_u64()
        })
        .await;
    let label = |value: &str| serde_json::json!({"metadata": {"labels": {"disk": value}}});
    cluster
        .until("the node", || cluster.get("/api/v1/nodes/node-1"))
        .await;
    cluster.merge("/api/v1/nodes/node-1", label("ssd")).await;
    cluster.ready("a", 1).await;
    assert_eq!(cluster.pods().await[0]["spec"]["nodeName"], "node-1");
    cluster.merge("/api/v1/nodes/node-1", label("none")).await;
    cluster
        .until("the pod is gone", || async {
            cluster.pods().await.is_empty().then_some(())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_tell_what_was_done() {
    let cluster = Cluster::start(1).await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.ready("a", 1).await;
    let pod = name(&cluster.pods().await[0]);
    let expected = [
        ("SuccessfulCreate", format!("Created pod: {pod}")),
        (
            "Scheduled",
            format!("Successfully assigned default/{pod} to node-0"),
        ),
    ];
    cluster
        .until("both events", || async {
            let events = cluster.items("/api/v1/namespaces/default/events").await;
            let told = |(reason, message): &(&str, String)| {
                events
                    .iter()
                    .any(|e| e["reason"] == *reason && e["message"] == *message)
            };
            expected.iter().all(told).then_some(())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_scheduler_the_controller_binds_its_pods_itself() {
    let options = Options {
        scheduler: false,
        fleet: plan::fleet::Options {
            aim: Aim::NodeName,
            ..plan::fleet::Options::default()
        },
        ..Options::default()
    };
    let cluster = Cluster::start_with(2, options).await;
    cluster
        .until("the node", || cluster.get("/api/v1/nodes/node-1"))
        .await;
    let cordon = serde_json::json!({"spec": {"unschedulable": true}});
    cluster.merge("/api/v1/nodes/node-1", cordon).await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.ready("a", 2).await;
    for pod in cluster.pods().await {
        assert!(
            pod["spec"]["affinity"].is_null(),
            "what is bound needs not be aimed: {}",
            pod["spec"]
        );
    }
    cluster.stop().await;
}
