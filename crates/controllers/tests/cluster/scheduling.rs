//! Who is bound where, and what is said when not.

use controllers::Options;
use serde_json::{Value, json};

use crate::support::{Cluster, SETS, daemon_set};

fn scheduled(pod: &Value) -> Option<&Value> {
    pod["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|c| c["type"] == "PodScheduled")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_does_not_fit_says_why_and_runs_once_there_is_room() {
    let cluster = Cluster::start(2).await;
    let hungry = |s: &mut Value| {
        s["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "10Gi"}});
    };
    cluster.create(SETS, daemon_set("first", hungry)).await;
    cluster.ready("first", 2).await;
    cluster.create(SETS, daemon_set("second", hungry)).await;
    let expected = "0/2 nodes are available: 1 Insufficient memory, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. \
                    preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, \
                    1 Preemption is not helpful for scheduling.";
    cluster
        .until("both wait and say why", || async {
            let pods = cluster
                .items("/api/v1/namespaces/default/pods?labelSelector=app%3Dsecond")
                .await;
            let says = |p: &Value| {
                scheduled(p).is_some_and(|c| c["reason"] == "Unschedulable" && c["message"] == expected)
            };
            (pods.len() == 2 && pods.iter().all(says)).then_some(())
        })
        .await;
    cluster
        .delete(&crate::support::set_path("first"), Some("Background"))
        .await;
    cluster.ready("second", 2).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_without_a_daemon_set_are_spread() {
    let cluster = Cluster::start(2).await;
    cluster
        .until("the nodes are ready", || async {
            let nodes = cluster.items("/api/v1/nodes").await;
            (nodes.len() == 2 && nodes.iter().all(|n| n["spec"]["taints"].is_null())).then_some(())
        })
        .await;
    for i in 0..4 {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{i}")},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        });
        cluster.create("/api/v1/namespaces/default/pods", pod).await;
    }
    cluster
        .until("two run on each node", || async {
            let pods = cluster.pods().await;
            let on = |node: &str| {
                pods.iter()
                    .filter(|p| p["spec"]["nodeName"] == node && p["status"]["phase"] == "Running")
                    .count()
            };
            ((on("node-0"), on("node-1")) == (2, 2)).then_some(())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_scheduler_pods_wait_for_someone_else_to_bind_them() {
    let cluster = Cluster::start_with(
        1,
        Options {
            scheduler: false,
            ..Options::default()
        },
    )
    .await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    let pod = cluster
        .until("a pod", || async { cluster.pods().await.into_iter().next() })
        .await;
    assert!(scheduled(&pod).is_none() && pod["spec"]["nodeName"].is_null());
    let name = crate::support::name(&pod);
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "node-0"},
    });
    cluster
        .create(
            &format!("/api/v1/namespaces/default/pods/{name}/binding"),
            binding,
        )
        .await;
    cluster.ready("a", 1).await;
    cluster.stop().await;
}
